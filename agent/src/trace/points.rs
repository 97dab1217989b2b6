//! Where probes were seen, and what their loss says. Pure.
//!
//! A probe and its answer pass points in a fixed order. The first point that it was not seen at, after
//! one that it was, is the place of loss; the hops between the two are to blame.

use std::collections::BTreeMap;

use super::hops::At;
use crate::control::api::trace::{Direction, ProbeKind, Way};

/// A place where a packet can be seen, in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    FromOut,
    DeviceOut,
    UnderlayOut,
    FarUnderlayIn,
    FarDeviceIn,
    ToIn,
    ToOut,
    FarDeviceOut,
    FarUnderlayOut,
    UnderlayIn,
    DeviceIn,
    FromIn,
}

impl Spot {
    /// On a way between hosts.
    pub(crate) const BETWEEN_HOSTS: [Spot; 12] = [
        Spot::FromOut,
        Spot::DeviceOut,
        Spot::UnderlayOut,
        Spot::FarUnderlayIn,
        Spot::FarDeviceIn,
        Spot::ToIn,
        Spot::ToOut,
        Spot::FarDeviceOut,
        Spot::FarUnderlayOut,
        Spot::UnderlayIn,
        Spot::DeviceIn,
        Spot::FromIn,
    ];

    /// Between containers of one host, where the device hands frames over inside the kernel.
    pub(crate) const ON_ONE_HOST: [Spot; 4] =
        [Spot::FromOut, Spot::ToIn, Spot::ToOut, Spot::FromIn];

    /// Of ARP between hosts, which the device answers.
    pub(crate) const OF_PROXY: [Spot; 4] =
        [Spot::FromOut, Spot::DeviceOut, Spot::DeviceIn, Spot::FromIn];

    pub(crate) fn way(self) -> Way {
        if self <= Spot::ToIn { Way::There } else { Way::Back }
    }

    pub(crate) fn direction(self) -> Direction {
        match self {
            Spot::FromOut | Spot::DeviceOut | Spot::UnderlayOut => Direction::Out,
            Spot::FarUnderlayIn | Spot::FarDeviceIn | Spot::ToIn => Direction::In,
            Spot::ToOut | Spot::FarDeviceOut | Spot::FarUnderlayOut => Direction::Out,
            Spot::UnderlayIn | Spot::DeviceIn | Spot::FromIn => Direction::In,
        }
    }

    /// At the end that the way leads to.
    pub(crate) fn is_far(self) -> bool {
        (Spot::FarUnderlayIn..=Spot::FarUnderlayOut).contains(&self)
    }

    /// The hops that a packet passes to come here from the spot before; the last one is to blame when
    /// none of them is known to be broken.
    pub(super) fn hops_before(self) -> &'static [At] {
        match self {
            Spot::FromOut => &[At::FromInterface],
            Spot::DeviceOut => &[At::FromInterface, At::Device],
            Spot::UnderlayOut => &[At::Neighbour, At::Fdb, At::Underlay],
            Spot::FarUnderlayIn => &[At::Fdb, At::Underlay, At::Wire],
            Spot::FarDeviceIn => &[At::PeerDevice],
            // Between containers of one host there is no spot in between.
            Spot::ToIn => &[At::FromInterface, At::Device, At::Sibling, At::ToInterface],
            // TO may have to ask for FROM's MAC first, and asks in vain without the row of the device.
            Spot::ToOut => &[At::BackNeighbour, At::BackRoute, At::ToInterface, At::ToContainer],
            Spot::FarDeviceOut => &[At::ToInterface, At::PeerDevice, At::BackRoute],
            Spot::FarUnderlayOut => &[At::BackNeighbour, At::BackFdb, At::BackUnderlay],
            Spot::UnderlayIn => &[At::BackFdb, At::BackUnderlay, At::BackWire],
            Spot::DeviceIn => &[At::Device, At::BackDevice],
            Spot::FromIn => &[At::Sibling, At::Device, At::FromInterface, At::BackDevice],
        }
    }
}

/// What became of the probes of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) kind: ProbeKind,
    /// As sent, in bytes.
    pub(crate) bytes: usize,
    pub(crate) sent: u16,
    pub(crate) answered: u16,
    /// What the first answer was.
    pub(crate) answer: Option<String>,
    /// Why it could not be sent.
    pub(crate) refused: Option<String>,
    /// The first error that came in place of an answer.
    pub(crate) error: Option<String>,
    pub(crate) rtt_us: Option<u64>,
    /// The spots of its way, in order, with how many were seen; none: nobody watched there.
    pub(crate) seen: Vec<(Spot, Option<u16>)>,
}

/// Where a probe was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The last spot where it was seen.
    pub(crate) after: Option<Spot>,
    /// The first where it was not, although somebody watched; none: nobody watched the rest.
    pub(crate) before: Option<Spot>,
    /// Spots in between that nobody watched.
    pub(crate) blind: bool,
}

impl Outcome {
    /// It came to the other end, whether that answered or not.
    pub(crate) fn arrived(&self) -> bool {
        self.answered > 0 || self.was_seen(Spot::ToIn)
    }

    /// The other end's own kernel has answered.
    pub(super) fn answers_from_within(&self) -> bool {
        self.kind != ProbeKind::Arp && self.answered > 0
    }

    pub(crate) fn was_seen(&self, spot: Spot) -> bool {
        self.seen.iter().any(|(at, seen)| *at == spot && seen.is_some_and(|seen| seen > 0))
    }

    /// The spots behind the last that saw it, up to the first that should have. With nobody watching in
    /// between, it may have been lost before any of them.
    pub(super) fn behind(&self, loss: Loss) -> impl Iterator<Item = Spot> {
        let last = loss.before.unwrap_or(Spot::FromIn);
        let spots = self.seen.iter().map(|(spot, _)| *spot);
        spots.filter(move |spot| loss.after.is_none_or(|after| *spot > after) && *spot <= last)
    }

    /// None: it was answered, or not sent.
    pub(crate) fn loss(&self) -> Option<Loss> {
        if self.answered > 0 || self.sent == 0 {
            return None;
        }
        let seen = |entry: &&(Spot, Option<u16>)| entry.1.is_some_and(|seen| seen > 0);
        let after = self.seen.iter().rev().find(seen).map(|(spot, _)| *spot);
        let rest = self.seen.iter().filter(|(spot, _)| after.is_none_or(|after| *spot > after));
        let rest: Vec<_> = rest.collect();
        let before = rest.iter().find(|(_, seen)| *seen == Some(0)).map(|(spot, _)| *spot);
        let blind = rest
            .iter()
            .take_while(|(spot, _)| before.is_none_or(|before| *spot < before))
            .any(|(_, seen)| seen.is_none());
        Some(Loss { after, before, blind })
    }
}

/// Words for what is blamed.
pub(crate) struct Names<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) near: &'a str,
    pub(crate) far: &'a str,
    /// What spots are called: the interface.
    pub(crate) interfaces: &'a BTreeMap<Spot, String>,
    /// UDP port of VXLAN.
    pub(crate) port: u16,
    /// Of the network, in bytes.
    pub(crate) mtu: usize,
}

impl Names<'_> {
    /// `eth1 on bee-2`, `eth0 of db`.
    pub(crate) fn spot(&self, spot: Spot) -> String {
        let interface = self.interfaces.get(&spot).map_or("its interface", String::as_str);
        match spot {
            Spot::FromOut | Spot::FromIn => format!("{interface} of {}", self.from),
            Spot::ToIn | Spot::ToOut => format!("{interface} of {}", self.to),
            spot if spot.is_far() => format!("{interface} on {}", self.far),
            _ => format!("{interface} on {}", self.near),
        }
    }
}
