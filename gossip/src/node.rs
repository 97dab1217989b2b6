//! One node of the cluster, without IO or clock.
//!
//! Tasks: to be a member (foca), to keep the endpoint table equal everywhere, to find others, and to
//! say what changed. Everything comes in by `handle_*` and goes out by `poll_*`; `now` never goes
//! back. After any call in, the driver
//!
//! 1. sends every [`Transmit`] of [`poll_transmit`](Node::poll_transmit),
//! 2. begins every [`Dial`] of [`poll_dial`](Node::poll_dial),
//! 3. calls [`handle_timeout`](Node::handle_timeout) at [`poll_timeout`](Node::poll_timeout),
//! 4. takes [`poll_changes`](Node::poll_changes) when it likes: they are coalesced.
//!
//! A dial is one TCP exchange: the driver connects, writes the request, gives the answer to
//! [`handle_answer`](Node::handle_answer), writes what that returns, and reports the end with
//! [`handle_dial_end`](Node::handle_dial_end), always. The other side gives the request to
//! [`handle_request`](Node::handle_request), writes what that returns, and gives a closing frame, if
//! one comes, to [`handle_closing`](Node::handle_closing).

mod claims;
mod clock;
mod exchange;
mod incoming;
mod outgoing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::endpoints::{Change, MAX_ENDPOINTS_PER_NODE, Table};
use crate::identity::Identity;
use crate::members::Members;
use crate::pulls::Pulls;
use crate::rival::Rivals;
use crate::seeds::{Seeds, Target};
use crate::spread::Spread;
use crate::swim::Swim;
use crate::{Config, Endpoint, Member, NodeName, Oddity, OtherFormat, Stats};

/// Most datagrams that wait for the driver within one call. Further ones are dropped, as a full
/// socket would.
const MAX_OUT: usize = 8192;
/// Most exchanges that we have begun at a time. Further ones wait.
const MAX_CALLS: usize = 16;

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) to: SocketAddrV4,
    pub(crate) bytes: Vec<u8>,
}

/// A TCP exchange to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    /// Names the exchange towards the node.
    pub(crate) id: u64,
    pub(crate) target: Target,
    /// The first frame.
    pub(crate) request: Vec<u8>,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialEnd {
    /// An answer was handed in.
    Answered,
    /// The seed is ourselves.
    Ourselves,
    /// No answer within the time.
    Failed,
}

/// Why we called somebody.
#[derive(Debug)]
enum Call {
    /// A seed, by its text.
    Seed(String),
    /// A push-pull with a member, or with somebody known from before.
    PushPull,
    /// A state that we missed.
    Pull(NodeName),
}

/// A claim that a member is down, put to the member first.
#[derive(Debug)]
struct Doubt {
    identity: Identity,
    /// When the member is told (again) what is said of it.
    ask_at: Instant,
    /// It is down if it is the same then.
    until: Instant,
}

/// A suspicion that we heard of. Who raised it settles it; this is for the case that we miss that.
#[derive(Debug)]
struct Suspicion {
    identity: Identity,
    incarnation: u16,
    until: Instant,
}

/// What to do when, beside the timers of the parts.
#[derive(Debug)]
struct Schedule {
    /// Look at foca's members again.
    refresh: Option<Instant>,
    /// Next round of endpoint news.
    tick: Option<Instant>,
    /// Next push-pull with a random member; `None` before the first contact.
    push_pull: Option<Instant>,
    /// A push-pull with a certain member.
    targeted: Option<(Instant, SocketAddrV4)>,
    /// No targeted push-pull is asked for before.
    targeted_after: Instant,
    /// Next telling of our version.
    beat: Instant,
    /// Next look for what is to be forgotten.
    sweep: Instant,
    /// We do not jump above another version before.
    jump_after: Instant,
    /// We do not come back from the dead before.
    rejoin_after: Instant,
    /// How long that was put off when we did so last.
    rejoin_pause: Duration,
}

/// What changed since the last `poll_changes`. Sets of names, so bounded by the tables.
#[derive(Debug, Default)]
struct News {
    members: BTreeSet<NodeName>,
    nodes: BTreeSet<NodeName>,
    forgotten: BTreeSet<NodeName>,
    conflict: bool,
    other_format: Option<OtherFormat>,
    oddity: Option<Oddity>,
    synced: bool,
}

/// The core.
pub(crate) struct Node {
    own: NodeName,
    address: SocketAddrV4,
    swim: Swim,
    members: Members,
    table: Table,
    spread: Spread,
    pulls: Pulls,
    seeds: Seeds,
    rivals: Rivals,
    rng: StdRng,
    /// The first time that we were told, and our epoch then.
    begun: (Instant, u64),
    /// The latest time we were told.
    now: Instant,
    schedule: Schedule,
    doubts: BTreeMap<NodeName, Doubt>,
    suspicions: BTreeMap<NodeName, Suspicion>,
    /// Origins of states without a member, and how many sweeps that lasts.
    orphans: BTreeMap<NodeName, u32>,
    /// False until a first exchange showed that our name is free.
    introduced: bool,
    synced: bool,
    leaving: bool,
    /// Push-pulls soon after the first one that are still to come.
    early: u32,
    /// When a packet of another format was told of last.
    misfit: Option<Instant>,
    /// An epoch that was not believed, until it is known who claimed it.
    disbelieved: Option<(NodeName, u64)>,
    /// When one was told of last.
    disbelief: Option<Instant>,
    /// Marks our questions in `NameCheck`s.
    nonce: u64,
    out: VecDeque<Transmit>,
    dials: VecDeque<Dial>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    news: News,
    /// The list of members is another since it was last asked for.
    members_changed: bool,
    stats: Stats,
}

impl Node {
    /// A node that knows nobody yet. `seed` is the root of all chance in it: the same seed and the same
    /// calls give the same node.
    pub(crate) fn new(config: &Config, now: Instant, seed: u64) -> Self {
        let identity = Identity {
            name: config.name.clone(),
            address: config.advertise,
            epoch: config.epoch,
            bump: 0,
        };
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            own: config.name.clone(),
            address: config.advertise,
            swim: Swim::new(identity, rng.random()),
            members: Members::default(),
            table: Table::new(config.name.clone(), config.epoch, announceable(config)),
            spread: Spread::default(),
            pulls: Pulls::default(),
            seeds: Seeds::new(&config.seeds, &config.known, now),
            rivals: Rivals::default(),
            begun: (now, config.epoch),
            now,
            schedule: Schedule::new(now),
            doubts: BTreeMap::new(),
            suspicions: BTreeMap::new(),
            orphans: BTreeMap::new(),
            introduced: false,
            synced: false,
            leaving: false,
            early: 0,
            misfit: None,
            disbelieved: None,
            disbelief: None,
            nonce: rng.random(),
            out: VecDeque::new(),
            dials: VecDeque::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            news: News::default(),
            members_changed: false,
            stats: Stats::default(),
            rng,
        }
    }

    /// Adds or replaces one of our own endpoints. What no peer would take is left out, and logged.
    pub(crate) fn announce(&mut self, now: Instant, endpoint: Endpoint) {
        self.note(now);
        let Some(endpoint) = checked(endpoint) else {
            return;
        };
        if self.table.own_is_full(&endpoint.id) {
            tracing::error!(
                endpoint = endpoint.id,
                "endpoint not announced: this host announces {MAX_ENDPOINTS_PER_NODE} already, the most there may be"
            );
            return;
        }
        self.change(Change::Upsert(endpoint));
    }

    /// Removes one of our own endpoints.
    pub(crate) fn withdraw(&mut self, now: Instant, id: String) {
        self.note(now);
        self.change(Change::Remove(id));
    }

    /// Joins by others from now on.
    pub(crate) fn set_seeds(&mut self, now: Instant, seeds: &[String]) {
        self.note(now);
        self.seeds.replace(seeds, now);
    }

    /// All other members, ordered by name.
    pub(crate) fn members(&self) -> Vec<Member> {
        let names = self.members.iter().map(|(name, _)| name);
        names.filter_map(|name| self.member(name)).collect()
    }

    /// Counters and levels.
    pub(crate) fn stats(&self) -> Stats {
        let alive = self.members.active().len();
        Stats {
            members_alive: alive as u64,
            members_down: (self.members.len() - alive) as u64,
            endpoints: self.table.len() as u64,
            backlog: self.spread.len() as u64,
            backlog_dropped: self.spread.dropped(),
            swim_backlog: self.swim.backlog() as u64,
            ..self.stats.clone()
        }
    }

    /// A datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        if self.out.is_empty() {
            self.tell_fresh();
        }
        let transmit = self.out.pop_front();
        self.stats.datagrams_out += u64::from(transmit.is_some());
        transmit
    }

    /// An exchange to begin.
    pub(crate) fn poll_dial(&mut self) -> Option<Dial> {
        self.dials.pop_front()
    }

    fn send(&mut self, to: SocketAddrV4, bytes: Vec<u8>) {
        if self.out.len() < MAX_OUT && to != self.address {
            self.out.push_back(Transmit { to, bytes });
        }
    }

    /// Begins an exchange, unless too many are under way.
    fn call(&mut self, call: Call, target: Target, request: Vec<u8>) -> bool {
        if self.calls.len() >= MAX_CALLS {
            return false;
        }
        self.next_call += 1;
        self.calls.insert(self.next_call, call);
        self.dials.push_back(Dial { id: self.next_call, target, request });
        true
    }

    /// True while we look for a cluster.
    fn is_alone(&self) -> bool {
        !self.introduced || self.members.active().is_empty()
    }
}

fn announceable(config: &Config) -> Vec<Endpoint> {
    let endpoints = config.endpoints.iter().cloned();
    endpoints.filter_map(checked).collect()
}

/// An endpoint as peers will take it; `None`, which is logged, where they would not.
fn checked(endpoint: Endpoint) -> Option<Endpoint> {
    let (endpoint, left_out) = endpoint.trimmed();
    if left_out {
        tracing::warn!(
            endpoint = endpoint.id,
            "names left out: use at most 16 of 1 to 63 printable ASCII bytes"
        );
    }
    if !endpoint.is_valid() {
        tracing::error!(?endpoint, "endpoint not announced: its id, address or MAC is not valid");
        return None;
    }
    Some(endpoint)
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self {
            refresh: None,
            tick: None,
            push_pull: None,
            targeted: None,
            targeted_after: now,
            beat: now + Duration::from_secs(10),
            sweep: now + Duration::from_secs(60),
            jump_after: now,
            rejoin_after: now,
            rejoin_pause: Duration::ZERO,
        }
    }
}

#[cfg(test)]
#[path = "node/tests.rs"]
mod tests;
