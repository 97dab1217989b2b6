//! The endpoint table: who announces which endpoints. SANS-IO.
//!
//! Each node is the only writer of its own endpoints. Its whole set at [`Version`] (epoch, seq) is
//! one replica state, and a [`Delta`] leads from one version to the very next. So a merge is "take
//! the higher version": order-free, harmless when repeated, and without tombstones.
//!
//! - A delta applies only where its predecessor is held. Ahead of that it waits in a small buffer;
//!   the caller pulls the whole state if the gap stays. Behind, it is ignored.
//! - A whole state replaces a lower version, and nothing else does. When a node restarts (a new
//!   epoch), its old state stays in force until the whole new one is here.
//! - States of nodes that are down stay; they go when the caller forgets the node.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Endpoint, NodeName};

/// Most endpoints of one node. A state with more is refused, and a delta that would add one more;
/// our own announcements beyond it are refused too.
pub const MAX_ENDPOINTS_PER_NODE: usize = 2048;
/// Most endpoints of all other nodes. What would go beyond is refused and counted as rejected.
pub const MAX_ENDPOINTS: usize = 131_072;
/// Most nodes of which a state is held. States of further ones are refused.
pub(crate) const MAX_ORIGINS: usize = 4096;
/// Most deltas of one node that wait for their predecessor. At the bound the newest are dropped;
/// the pull that follows a gap brings them.
const MAX_AHEAD: usize = 64;
/// The same for all nodes together.
const MAX_AHEAD_TOTAL: usize = 4096;

/// Version of one node's endpoints. Totally ordered; only the node itself makes new ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The start of the node.
    pub(crate) epoch: u64,
    /// The number of changes since; 0 is what ran at the start.
    pub(crate) seq: u64,
}

/// One change of one node's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// The endpoint is new, or replaces the one with its id.
    Upsert(Endpoint),
    /// The endpoint with this id is gone.
    Remove(String),
    /// The node stops on purpose.
    Leaving,
}

/// A change, and the version it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delta {
    pub(crate) origin: NodeName,
    pub(crate) version: Version,
    pub(crate) change: Change,
}

/// All endpoints of a node at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) origin: NodeName,
    pub(crate) version: Version,
    pub(crate) leaving: bool,
    /// Ordered by id on the way out; any order is taken.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What became of a delta, a state or a heard version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The table changed.
    Applied,
    /// Known already, or older than what is known.
    Old,
    /// A version between is missing. `first` where this was news.
    Ahead { first: bool },
    /// It is about ourselves and newer than what we announced: our clock or state went back.
    AboutUs,
    /// Refused at a bound; nothing changed.
    Refused,
}

#[derive(Debug, Default)]
struct Replica {
    version: Version,
    leaving: bool,
    endpoints: BTreeMap<String, Endpoint>,
    ahead: BTreeMap<Version, Change>,
    /// False until a whole state arrived: then the version means nothing yet.
    held: bool,
}

/// Our own endpoints, and all that is known of others'.
#[derive(Debug)]
pub(crate) struct Table {
    own: NodeName,
    ours: Replica,
    others: BTreeMap<NodeName, Replica>,
    /// Endpoints in `others`.
    total: usize,
    /// Deltas in `others` that wait.
    waiting: usize,
}

impl Table {
    /// A table with our own first state. Endpoints beyond the bound are left out.
    pub(crate) fn new(own: NodeName, epoch: u64, endpoints: Vec<Endpoint>) -> Self {
        let mut ours =
            Replica { version: Version { epoch, seq: 0 }, held: true, ..Replica::default() };
        let endpoints = endpoints.into_iter().take(MAX_ENDPOINTS_PER_NODE);
        ours.endpoints.extend(endpoints.map(|endpoint| (endpoint.id.clone(), endpoint)));
        Self { own, ours, others: BTreeMap::new(), total: 0, waiting: 0 }
    }

    /// Our own version.
    pub(crate) fn own_version(&self) -> Version {
        self.ours.version
    }

    /// Our own state.
    pub(crate) fn own_state(&self) -> State {
        self.ours.state(&self.own)
    }

    /// True where our own endpoints leave no room for one with this id.
    pub(crate) fn own_is_full(&self, id: &str) -> bool {
        !self.ours.has_room_for(id)
    }

    /// Makes the next version of our own endpoints; `None` where nothing changes or a bound forbids.
    pub(crate) fn change(&mut self, change: Change) -> Option<Delta> {
        let ours = &mut self.ours;
        let changes = match &change {
            Change::Upsert(endpoint) => {
                endpoint.is_valid()
                    && ours.endpoints.get(&endpoint.id) != Some(endpoint)
                    && ours.has_room_for(&endpoint.id)
            }
            Change::Remove(id) => ours.endpoints.contains_key(id),
            Change::Leaving => true,
        };
        if !changes || ours.leaving {
            return None;
        }
        ours.version.seq += 1;
        ours.apply(change.clone());
        Some(Delta { origin: self.own.clone(), version: ours.version, change })
    }

    /// Puts our own state above `heard`, which the cluster holds as ours.
    pub(crate) fn jump_above(&mut self, heard: Version) {
        let epoch = heard.epoch.max(self.ours.version.epoch);
        self.ours.version = Version { epoch: epoch.saturating_add(1), seq: 0 };
    }

    /// Takes in a delta of another node. It must be valid (see [`crate::wire`]).
    pub(crate) fn apply_delta(&mut self, delta: Delta) -> Outcome {
        if delta.origin == self.own {
            return self.about_us(delta.version);
        }
        if !self.others.contains_key(&delta.origin) && self.others.len() >= MAX_ORIGINS {
            return Outcome::Refused;
        }
        let replica = self.others.entry(delta.origin).or_default();
        let before = (replica.endpoints.len(), replica.ahead.len());
        let outcome = replica.take(delta.version, delta.change, self.total, self.waiting);
        let after = (replica.endpoints.len(), replica.ahead.len());
        self.recount(before, after);
        outcome
    }

    /// Takes in a whole state of another node. It must be valid (see [`crate::wire`]).
    pub(crate) fn apply_state(&mut self, state: State) -> Outcome {
        if state.origin == self.own {
            return self.about_us(state.version);
        }
        if !self.others.contains_key(&state.origin) && self.others.len() >= MAX_ORIGINS {
            return Outcome::Refused;
        }
        let replica = self.others.entry(state.origin).or_default();
        if replica.held && replica.version >= state.version {
            return Outcome::Old;
        }
        let before = (replica.endpoints.len(), replica.ahead.len());
        let others = self.total - before.0;
        if state.endpoints.len() > MAX_ENDPOINTS_PER_NODE
            || others + state.endpoints.len() > MAX_ENDPOINTS
        {
            return Outcome::Refused;
        }
        replica.version = state.version;
        replica.leaving = state.leaving;
        replica.held = true;
        replica.endpoints =
            state.endpoints.into_iter().map(|endpoint| (endpoint.id.clone(), endpoint)).collect();
        replica.catch_up(others);
        let after = (replica.endpoints.len(), replica.ahead.len());
        self.recount(before, after);
        Outcome::Applied
    }

    /// Compares a version that somebody claims for `origin` with what is held.
    pub(crate) fn compare(&self, origin: &NodeName, claimed: Version) -> Outcome {
        if *origin == self.own {
            return self.about_us(claimed);
        }
        match self.version(origin) {
            Some(held) if held >= claimed => Outcome::Old,
            Some(_) | None => Outcome::Ahead { first: true },
        }
    }

    /// The version held of another node; `None` until a whole state of it was here.
    pub(crate) fn version(&self, origin: &NodeName) -> Option<Version> {
        let replica = self.others.get(origin)?;
        replica.held.then_some(replica.version)
    }

    /// True where the node said in this epoch that it stops.
    pub(crate) fn has_left(&self, origin: &NodeName, epoch: u64) -> bool {
        self.others
            .get(origin)
            .is_some_and(|replica| replica.leaving && replica.version.epoch == epoch)
    }

    /// The endpoints of another node, ordered by id; `None` until a whole state of it was here.
    pub(crate) fn endpoints(&self, origin: &NodeName) -> Option<Vec<Endpoint>> {
        let replica = self.others.get(origin)?;
        replica.held.then(|| replica.endpoints.values().cloned().collect())
    }

    /// The number of endpoints of other nodes.
    pub(crate) fn len(&self) -> usize {
        self.total
    }

    /// Every node and its version, our own too: what a push-pull compares.
    pub(crate) fn digest(&self) -> Vec<(NodeName, Version)> {
        let others = self.others.iter().filter(|(_, replica)| replica.held);
        others
            .map(|(name, replica)| (name.clone(), replica.version))
            .chain([(self.own.clone(), self.ours.version)])
            .collect()
    }

    /// The whole state of a node, our own too.
    pub(crate) fn state(&self, origin: &NodeName) -> Option<State> {
        if *origin == self.own {
            return Some(self.own_state());
        }
        let replica = self.others.get(origin)?;
        replica.held.then(|| replica.state(origin))
    }

    /// Drops all that is held of a node.
    pub(crate) fn forget(&mut self, origin: &NodeName) {
        if let Some(replica) = self.others.remove(origin) {
            self.total -= replica.endpoints.len();
            self.waiting -= replica.ahead.len();
        }
    }

    /// The nodes of which something is held, without our own.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &NodeName> {
        self.others.keys()
    }

    fn about_us(&self, version: Version) -> Outcome {
        if version > self.ours.version { Outcome::AboutUs } else { Outcome::Old }
    }

    fn recount(&mut self, before: (usize, usize), after: (usize, usize)) {
        self.total = self.total - before.0 + after.0;
        self.waiting = self.waiting - before.1 + after.1;
    }
}

impl Replica {
    fn state(&self, origin: &NodeName) -> State {
        State {
            origin: origin.clone(),
            version: self.version,
            leaving: self.leaving,
            endpoints: self.endpoints.values().cloned().collect(),
        }
    }

    fn has_room_for(&self, id: &str) -> bool {
        self.endpoints.len() < MAX_ENDPOINTS_PER_NODE || self.endpoints.contains_key(id)
    }

    fn is_next(&self, version: Version) -> bool {
        self.held
            && version.epoch == self.version.epoch
            && self.version.seq.checked_add(1) == Some(version.seq)
    }

    fn take(&mut self, version: Version, change: Change, total: usize, waiting: usize) -> Outcome {
        if self.held && version <= self.version {
            return Outcome::Old;
        }
        if self.is_next(version) {
            if let Change::Upsert(endpoint) = &change
                && !self.endpoints.contains_key(&endpoint.id)
                && (!self.has_room_for(&endpoint.id) || total >= MAX_ENDPOINTS)
            {
                return Outcome::Refused;
            }
            let others = total - self.endpoints.len();
            self.version = version;
            self.apply(change);
            self.catch_up(others);
            return Outcome::Applied;
        }
        if self.ahead.contains_key(&version) {
            return Outcome::Ahead { first: false };
        }
        self.ahead.insert(version, change);
        if self.ahead.len() > MAX_AHEAD || waiting >= MAX_AHEAD_TOTAL {
            self.ahead.pop_last();
        }
        // What was not kept is no news: told on, it would go round for ever.
        let first = self.ahead.contains_key(&version);
        Outcome::Ahead { first }
    }

    /// Applies what waited for this version, and drops what it made old.
    fn catch_up(&mut self, others: usize) {
        while let Some((version, change)) = self.ahead.pop_first() {
            match version.cmp(&self.version) {
                Ordering::Less | Ordering::Equal => {}
                Ordering::Greater => {
                    let full = others + self.endpoints.len() >= MAX_ENDPOINTS
                        || self.endpoints.len() >= MAX_ENDPOINTS_PER_NODE;
                    if !self.is_next(version) || full {
                        self.ahead.insert(version, change);
                        return;
                    }
                    self.version = version;
                    self.apply(change);
                }
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Upsert(endpoint) => {
                self.endpoints.insert(endpoint.id.clone(), endpoint);
            }
            Change::Remove(id) => {
                self.endpoints.remove(&id);
            }
            Change::Leaving => self.leaving = true,
        }
    }
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
