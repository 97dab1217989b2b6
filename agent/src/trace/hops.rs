//! The hops of a way, and what is said of each.

use crate::control::api::trace::{Hop, Verdict};

/// A place that a packet or its answer passes, in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    From,
    Name,
    FromResolver,
    FromInterface,
    FromRoute,
    Device,
    Sibling,
    Neighbour,
    Fdb,
    Underlay,
    Wire,
    Peer,
    PeerDevice,
    ToInterface,
    ToContainer,
    BackRoute,
    BackNeighbour,
    BackFdb,
    BackUnderlay,
    BackWire,
    BackDevice,
}

impl At {
    /// Its id in answers.
    pub(crate) fn id(self) -> &'static str {
        match self {
            At::From => "from",
            At::Name => "name",
            At::FromResolver => "from.resolver",
            At::FromInterface => "from.interface",
            At::FromRoute => "from.route",
            At::Device => "device",
            At::Sibling => "sibling",
            At::Neighbour => "neighbour",
            At::Fdb => "fdb",
            At::Underlay => "underlay",
            At::Wire => "wire",
            At::Peer => "peer",
            At::PeerDevice => "peer.device",
            At::ToInterface => "to.interface",
            At::ToContainer => "to.container",
            At::BackRoute => "back.route",
            At::BackNeighbour => "back.neighbour",
            At::BackFdb => "back.fdb",
            At::BackUnderlay => "back.underlay",
            At::BackWire => "back.wire",
            At::BackDevice => "back.device",
        }
    }
}

/// A hop under judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) at: At,
    pub(crate) hop: Hop,
}

impl Judged {
    fn new(at: At, host: &str, verdict: Verdict, says: String) -> Judged {
        let hop = Hop {
            hop: at.id().to_owned(),
            host: host.to_owned(),
            verdict,
            says,
            evidence: Vec::new(),
            fix: None,
        };
        Judged { at, hop }
    }

    pub(crate) fn ok(at: At, host: &str, says: impl Into<String>) -> Judged {
        Judged::new(at, host, Verdict::Ok, says.into())
    }

    pub(crate) fn unknown(at: At, host: &str, says: impl Into<String>) -> Judged {
        Judged::new(at, host, Verdict::Unknown, says.into())
    }

    pub(crate) fn broken(at: At, host: &str, says: impl Into<String>) -> Judged {
        Judged::new(at, host, Verdict::Broken, says.into())
    }

    #[must_use]
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Judged {
        self.hop.fix = Some(fix.into());
        self
    }

    #[must_use]
    pub(crate) fn saw(mut self, evidence: impl IntoIterator<Item = String>) -> Judged {
        self.hop.evidence.extend(evidence);
        self
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.hop.verdict == Verdict::Broken
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.hop.verdict == Verdict::Ok
    }

    /// Turns it into a broken one.
    pub(crate) fn breaks(&mut self, says: String, fix: Option<String>) {
        self.hop.verdict = Verdict::Broken;
        let before = std::mem::replace(&mut self.hop.says, says);
        self.hop.evidence.insert(0, before);
        self.hop.fix = fix;
    }
}

/// Something that may stop packets: whether it does, probes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) at: At,
    /// Only large packets.
    pub(crate) of_size: bool,
    pub(crate) says: String,
    pub(crate) fix: Option<String>,
}

/// All hops, and what only probes can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    pub(crate) hops: Vec<Judged>,
    pub(crate) doubts: Vec<Doubt>,
}

impl Verdicts {
    pub(crate) fn push(&mut self, hop: Judged) {
        self.hops.push(hop);
    }

    pub(crate) fn hop(&mut self, at: At) -> Option<&mut Judged> {
        self.hops.iter_mut().find(|judged| judged.at == at)
    }

    pub(crate) fn is_ok(&self, at: At) -> bool {
        self.hops.iter().any(|judged| judged.at == at && judged.is_ok())
    }

    pub(crate) fn first_broken(&self) -> Option<&Judged> {
        self.hops.iter().find(|judged| judged.is_broken())
    }
}
