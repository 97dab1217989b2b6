//! Telling what happened: [`Notice`]s, gathered while an event is handled.
//!
//! Thousands of endpoints may come in one batch of the gossip. Of one kind at most [`EACH_MAX`]
//! notices leave an event; of more there is one, with their number, and the rest is not even built.
//! What is a level (the store answers, or not) is told when it changes.

mod endpoints;
mod hosts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use self::endpoints::{Here, Recent};
use super::notice::{Kind, Notice};
use super::{Action, Core};

/// Notices of one kind that one event may bring; of more there is one that counts them.
pub(super) const EACH_MAX: usize = 16;

/// What was told, and what is to be.
#[derive(Debug, Default)]
pub(super) struct Telling {
    batch: Vec<Notice>,
    /// Of kinds of which there are more than [`EACH_MAX`]: how many things those are, in all.
    over: BTreeMap<Kind, usize>,
    levels: BTreeMap<Level, bool>,
    /// The store gave its list of networks before the event that is being handled.
    heard_networks: bool,
    /// Failures of the kernel that were told.
    failures: BTreeSet<String>,
    recent: VecDeque<Recent>,
    /// Endpoints of this host that were told of, by id.
    here: BTreeMap<String, Here>,
    /// Addresses that are held twice, with who holds them; `true`: told.
    conflicts: BTreeMap<(u64, IpAddr), (bool, String)>,
}

/// Something that is either well or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Store,
    Docker,
    Dns,
    State,
    Name,
    Metrics,
}

impl Level {
    /// If it is not well, if it is again; whether it is told that it is well at the start.
    fn words(self) -> ((Kind, &'static str), (Kind, &'static str), bool) {
        match self {
            Level::Store => (
                (Kind::StoreLost, "the store does not answer"),
                (Kind::StoreBack, "the store answers"),
                true,
            ),
            Level::Docker => (
                (Kind::DockerLost, "Docker's engine is not connected"),
                (Kind::DockerBack, "Docker's engine is connected"),
                true,
            ),
            Level::Dns => (
                (Kind::DnsLost, "DNS is in trouble"),
                (Kind::DnsBack, "DNS is served in every container"),
                false,
            ),
            Level::State => (
                (Kind::StateLost, "the agent's state cannot be written"),
                (Kind::StateBack, "the agent's state is written again"),
                false,
            ),
            Level::Metrics => (
                (Kind::MetricsLost, "metrics are not served"),
                (Kind::MetricsBack, "metrics are served"),
                false,
            ),
            Level::Name => (
                (Kind::NameConflict, "another host uses this host's name"),
                (Kind::NameConflictOver, "no other host uses this host's name any more"),
                false,
            ),
        }
    }
}

impl Core {
    /// Tells of one thing, or of so many by one notice, which is made only if it is not over the
    /// bound.
    pub(super) fn tell_of(&mut self, kind: Kind, things: usize, make: impl FnOnce() -> Notice) {
        let telling = &mut self.telling;
        let of_kind = telling.batch.iter().filter(|notice| notice.kind == kind);
        let (told, sum) =
            of_kind.fold((0, 0), |(n, sum), notice| (n + 1, sum + notice.count.unwrap_or(1)));
        if told < EACH_MAX {
            return telling.batch.push(make());
        }
        *telling.over.entry(kind).or_insert(sum) += things;
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        self.tell_of(notice.kind, notice.count.unwrap_or(1), || notice);
    }

    /// Hands over what was gathered.
    pub(super) fn hand_over_notices(&mut self) {
        let telling = &mut self.telling;
        telling.heard_networks = self.heard_store;
        if telling.batch.is_empty() {
            return;
        }
        let over = std::mem::take(&mut telling.over);
        let (many, few): (Vec<_>, Vec<_>) =
            telling.batch.drain(..).partition(|notice| over.contains_key(&notice.kind));
        let merged = over.iter().map(|(kind, count)| {
            let summary = format!("{count} {}", kind.several());
            let of_kind = many.iter().filter(|notice| notice.kind == *kind);
            let some = of_kind.take(super::notice::DETAILS_MAX).map(|n| n.summary.clone());
            Notice::new(*kind, summary).count(*count).details(some)
        });
        let notices: Vec<_> = few.into_iter().chain(merged).collect();
        self.actions.extend(notices.into_iter().map(Action::Tell));
    }

    /// Tells of a level if it changed. `error`: why it is not well.
    pub(super) fn level(&mut self, level: Level, error: Option<&str>) {
        let ((lost, lost_words), (back, back_words), from_start) = level.words();
        let known = self.telling.levels.insert(level, error.is_none());
        match error {
            None if known == Some(false) || (known.is_none() && from_start) => {
                self.tell(Notice::new(back, back_words));
            }
            Some(error) if known != Some(false) => {
                self.tell(Notice::new(lost, lost_words).because(error));
            }
            None | Some(_) => {}
        }
    }

    /// This agent's start, with what it took over.
    pub(super) fn tell_start(&mut self) {
        // What it knows from its last run is no news.
        self.telling.batch.clear();
        self.telling.over.clear();
        let summary = format!("the agent of {} started, version {}", self.me.node, crate::VERSION);
        let notice = Notice::new(Kind::AgentStarted, summary).host(&self.me.node);
        let taken = self.local.len();
        self.tell(match taken {
            0 => notice,
            _ => notice.because(format!("it took over {taken} endpoints of the last run")),
        });
        self.hand_over_notices();
    }

    /// A network is new here.
    pub(super) fn tell_network(&mut self, id: u64) {
        let Some(network) = self.networks.get(&id).cloned() else {
            return;
        };
        let first = self.telling.heard_networks;
        self.tell_of(Kind::NetworkCreated, 1, || {
            let (name, subnet, vni) = (&network.name, network.subnet, network.vni);
            let summary = format!("network {name} is there: {subnet}, VNI {vni}");
            let why = if first { "" } else { "it stood in the store when it was first asked" };
            Notice::new(Kind::NetworkCreated, summary).network(name).because(why)
        });
    }

    /// The configuration was read again.
    pub(super) fn tell_reload(&mut self, changes: Result<Vec<String>, String>) {
        let notice = match changes {
            Ok(changes) if changes.is_empty() => {
                Notice::new(Kind::Reloaded, "the configuration was read again; nothing differs")
            }
            Ok(changes) => {
                let summary =
                    format!("the configuration was read again; {} settings differ", changes.len());
                Notice::new(Kind::Reloaded, summary).details(changes)
            }
            Err(mistakes) => Notice::new(Kind::ReloadRefused, "the configuration was not taken")
                .because(mistakes),
        };
        self.tell(notice);
    }

    /// What the kernel does not take: each failure once, and the end of all.
    pub(super) fn tell_failures(&mut self) {
        let failures: BTreeSet<String> =
            self.health.dataplane.iter().map(|trouble| trouble.text.clone()).collect();
        let told = std::mem::replace(&mut self.telling.failures, failures.clone());
        if failures.is_empty() && !told.is_empty() {
            let summary = "the kernel holds all that it should";
            self.tell(Notice::new(Kind::KernelBack, summary));
        }
        for failure in failures.difference(&told) {
            let notice =
                Notice::new(Kind::KernelFailed, "the kernel did not take what it should hold");
            self.tell(notice.because(failure));
        }
    }
}
