//! What to inspect, when again, and what to tell: the part of following Docker that decides.
//!
//! SANS-IO. The order of calls: [`handle_lost`](Tracker::handle_lost) or a first listing by
//! [`handle_listing`](Tracker::handle_listing) starts an epoch; after every `handle_*` the shell
//! takes all of [`poll_inspect`](Tracker::poll_inspect), carries them out, and gives each result
//! back by [`handle_inspected`](Tracker::handle_inspected); [`poll_event`](Tracker::poll_event)
//! gives what is to be told, [`poll_timeout`](Tracker::poll_timeout) when to come again.
//!
//! An event never says what is true, only where to look: each one marks its container, and a mark
//! that comes during an inspect leads to one more inspect afterwards.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::said::{Happening, Inspected, Listed, Listing};
use super::{ContainerEndpoint, EngineEvent, names};

/// Containers that are looked at, or known to have endpoints. Further ones are left out, with a
/// warning, until others have gone; the listing finds them then. A host's kernel ends earlier.
pub const MAX_CONTAINERS: usize = 8192;

/// Networks of this driver. Further ones are left out, with a warning; their containers have no
/// names.
pub const MAX_NETWORKS: usize = 4096;

/// Inspects under way at the same time. Further ones wait for their turn; a container that starts
/// holds its inspect back until it runs.
pub const MAX_INSPECTS: usize = 32;

/// Pause before an inspect that failed is tried again, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// Longest pause before an inspect that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Tracker {
    networks: BTreeSet<String>,
    containers: BTreeMap<String, Tracked>,
    /// When to inspect which container; every container in it has [`Work::Due`] of that time.
    due: BTreeSet<(Instant, String)>,
    inspecting: usize,
    /// Containers whose first inspect since the first listing is not done yet; None: nothing was
    /// listed yet.
    awaited: Option<BTreeSet<String>>,
    /// The link to Docker was told to be lost, or is about to be.
    lost: bool,
    link: Option<EngineEvent>,
    snapshot_due: bool,
    changed: BTreeSet<String>,
    full: bool,
}

#[derive(Debug, Default)]
struct Tracked {
    work: Work,
    failures: u32,
    known: Vec<ContainerEndpoint>,
    /// The receiver was told of endpoints of it.
    told: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Work {
    #[default]
    Idle,
    Due(Instant),
    Inspecting {
        again: bool,
    },
}

impl Tracker {
    pub(super) fn new() -> Self {
        Self {
            networks: BTreeSet::new(),
            containers: BTreeMap::new(),
            due: BTreeSet::new(),
            inspecting: 0,
            awaited: None,
            lost: false,
            link: None,
            snapshot_due: false,
            changed: BTreeSet::new(),
            full: false,
        }
    }

    /// Docker does not answer. Inspects under way are taken for abandoned.
    pub(super) fn handle_lost(&mut self, why: String) {
        if !self.lost {
            self.link = Some(EngineEvent::Lost { why });
        }
        self.lost = true;
        self.awaited = None;
        self.snapshot_due = false;
        self.inspecting = 0;
        self.due.clear();
        self.changed.clear();
        self.networks.clear();
        self.containers.retain(|_, tracked| !tracked.known.is_empty());
        for tracked in self.containers.values_mut() {
            tracked.work = Work::Idle;
            tracked.failures = 0;
        }
    }

    /// A listing: the first one after a loss leads to a whole snapshot, a later one to a look at
    /// what is not as it is known.
    pub(super) fn handle_listing(&mut self, listing: Listing, now: Instant) {
        for network in listing.networks {
            self.add_network(network);
        }
        if self.awaited.is_none() {
            self.lost = false;
            self.link = Some(EngineEvent::Connected { version: listing.version });
            self.begin_snapshot(&listing.containers, now);
        } else {
            self.audit(&listing.containers, now);
        }
    }

    /// One of Docker's events.
    pub(super) fn handle_happening(&mut self, happening: Happening, now: Instant) {
        match happening {
            Happening::NetworkSeen { network } => self.add_network(network),
            Happening::NetworkGone { network } => {
                self.networks.remove(&network);
            }
            Happening::Connected { container, network } => {
                self.add_network(network);
                self.mark(&container, now);
            }
            Happening::Started { container } => self.mark(&container, now),
            // An unknown one gets no endpoint by any of these.
            Happening::Touched { container } if self.containers.contains_key(&container) => {
                self.mark(&container, now);
            }
            Happening::Touched { .. } => {}
        }
    }

    /// The result of an inspect that [`poll_inspect`](Self::poll_inspect) asked for.
    pub(super) fn handle_inspected(&mut self, id: &str, result: Inspected, now: Instant) {
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        let again = tracked.work == Work::Inspecting { again: true };
        tracked.work = Work::Idle;
        self.inspecting = self.inspecting.saturating_sub(1);
        match result {
            Inspected::Running(endpoints) => self.learn(id, endpoints),
            Inspected::Gone => self.learn(id, Vec::new()),
            Inspected::Failed(why) => {
                let pause = self.failed(id, &why);
                self.schedule(id, now + pause);
                self.no_longer_awaited(id);
                return;
            }
        }
        if again {
            self.schedule(id, now);
        } else {
            self.forget_if_idle(id);
            self.no_longer_awaited(id);
        }
    }

    /// The next container to inspect.
    pub(super) fn poll_inspect(&mut self, now: Instant) -> Option<String> {
        if self.poll_timeout()? > now {
            return None;
        }
        let (_, id) = self.due.pop_first()?;
        let tracked = self.containers.get_mut(&id)?;
        tracked.work = Work::Inspecting { again: false };
        self.inspecting += 1;
        Some(id)
    }

    /// When an inspect becomes due; None while as many as may be are under way, and before the
    /// first listing, as it is not known yet which networks count.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        let may = self.awaited.is_some() && self.inspecting < MAX_INSPECTS;
        may.then_some(*due)
    }

    /// Whether what [`poll_event`](Self::poll_event) gives next is of the link to Docker.
    pub(super) fn has_link(&self) -> bool {
        self.link.is_some()
    }

    /// Whether there was a listing since Docker was lost.
    pub(super) fn is_connected(&self) -> bool {
        self.awaited.is_some()
    }

    /// Whether [`poll_event`](Self::poll_event) has something.
    pub(super) fn has_event(&self) -> bool {
        self.link.is_some() || self.snapshot_due || (self.listed() && !self.changed.is_empty())
    }

    /// The next thing to tell, as it is now.
    pub(super) fn poll_event(&mut self) -> Option<EngineEvent> {
        if let Some(event) = self.link.take() {
            return Some(event);
        }
        if self.snapshot_due {
            return Some(self.snapshot());
        }
        if !self.listed() {
            return None;
        }
        let container = self.changed.pop_first()?;
        let endpoints = match self.containers.get_mut(&container) {
            Some(tracked) => {
                tracked.told = !tracked.known.is_empty();
                tracked.known.clone()
            }
            None => Vec::new(),
        };
        if !endpoints.is_empty() {
            return Some(EngineEvent::Changed(endpoints));
        }
        self.forget_if_idle(&container);
        Some(EngineEvent::Gone { container })
    }

    /// The first listing's snapshot was given out.
    fn listed(&self) -> bool {
        self.awaited.as_ref().is_some_and(BTreeSet::is_empty) && !self.snapshot_due
    }

    fn snapshot(&mut self) -> EngineEvent {
        self.snapshot_due = false;
        self.changed.clear();
        let mut all = Vec::new();
        for tracked in self.containers.values_mut() {
            tracked.told = !tracked.known.is_empty();
            all.extend(tracked.known.iter().cloned());
        }
        self.containers.retain(|_, tracked| tracked.told || tracked.work != Work::Idle);
        EngineEvent::Containers(all)
    }

    fn begin_snapshot(&mut self, listed: &[Listed], now: Instant) {
        // Who is known but not listed is looked at too: the listing may be a little behind.
        let known: Vec<String> = self.containers.keys().cloned().collect();
        for id in &known {
            self.mark(id, now);
        }
        for container in listed {
            let endpoints: Vec<_> =
                self.endpoints_of(container).map(from_listing(container)).collect();
            if endpoints.is_empty() {
                continue;
            }
            self.mark(&container.id, now);
            // Told if it cannot be inspected: it does run.
            if let Some(tracked) = self.containers.get_mut(&container.id)
                && tracked.known.is_empty()
            {
                tracked.known = endpoints;
            }
        }
        let awaited = self.containers.keys().cloned().collect();
        self.awaited = Some(awaited);
        self.complete_snapshot();
    }

    fn audit(&mut self, listed: &[Listed], now: Instant) {
        let mut unlisted: BTreeSet<String> = self.containers.keys().cloned().collect();
        for container in listed {
            unlisted.remove(&container.id);
            if !self.is_as_known(container) {
                self.mark(&container.id, now);
            }
        }
        for id in unlisted {
            self.mark(&id, now);
        }
    }

    fn is_as_known(&self, listed: &Listed) -> bool {
        let there: BTreeSet<&str> = self.endpoints_of(listed).map(|(_, id)| id.as_str()).collect();
        let known = self.containers.get(&listed.id);
        let known = known.map_or(&[][..], |tracked| &tracked.known);
        let ids: BTreeSet<&str> = known.iter().map(|e| e.endpoint_id.as_str()).collect();
        let name = names::dns_name(&listed.name);
        let named = |e: &ContainerEndpoint| name.is_none() || e.names.first() == name.as_ref();
        there == ids && known.iter().all(named)
    }

    fn endpoints_of<'a>(&self, listed: &'a Listed) -> impl Iterator<Item = &'a (String, String)> {
        let ours = |(network, _): &&(String, String)| self.networks.contains(network);
        listed.endpoints.iter().filter(ours)
    }

    /// Takes over what a container has.
    fn learn(&mut self, id: &str, mut endpoints: Vec<ContainerEndpoint>) {
        endpoints.retain(|endpoint| self.networks.contains(&endpoint.network_id));
        endpoints.sort_by(|a, b| a.endpoint_id.cmp(&b.endpoint_id));
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        tracked.failures = 0;
        if tracked.known != endpoints {
            tracked.known = endpoints;
            if tracked.told || !tracked.known.is_empty() {
                self.changed.insert(id.to_owned());
            } else {
                self.changed.remove(id);
            }
        }
    }

    fn failed(&mut self, id: &str, why: &str) -> Duration {
        let Some(tracked) = self.containers.get_mut(id) else {
            return RETRY_MAX;
        };
        // A start on a busy host may well take longer than one inspect waits.
        if tracked.failures == 1 {
            tracing::warn!(
                container = id,
                why,
                "cannot inspect a container: its names may be old; trying again"
            );
        }
        let pause = RETRY_MIN.saturating_mul(1 << tracked.failures.min(16));
        tracked.failures = tracked.failures.saturating_add(1);
        pause.min(RETRY_MAX)
    }

    fn no_longer_awaited(&mut self, id: &str) {
        if let Some(awaited) = &mut self.awaited
            && awaited.remove(id)
        {
            self.complete_snapshot();
        }
    }

    fn complete_snapshot(&mut self) {
        if self.awaited.as_ref().is_some_and(BTreeSet::is_empty) {
            self.snapshot_due = true;
        }
    }

    fn add_network(&mut self, network: String) {
        if self.networks.len() < MAX_NETWORKS {
            self.networks.insert(network);
        } else if !self.networks.contains(&network) {
            tracing::warn!(
                network,
                "more than {MAX_NETWORKS} networks: its containers have no names"
            );
        }
    }

    /// Has the container inspected soon, or once more if that is under way.
    fn mark(&mut self, id: &str, now: Instant) {
        if self.containers.len() >= MAX_CONTAINERS && !self.containers.contains_key(id) {
            if !self.full {
                tracing::warn!("more than {MAX_CONTAINERS} containers: further ones have no names");
            }
            self.full = true;
            return;
        }
        let tracked = self.containers.entry(id.to_owned()).or_default();
        if let Work::Inspecting { again } = &mut tracked.work {
            *again = true;
        } else {
            self.schedule(id, now);
        }
    }

    fn schedule(&mut self, id: &str, at: Instant) {
        let Some(tracked) = self.containers.get_mut(id) else {
            return;
        };
        if let Work::Due(before) = tracked.work {
            self.due.remove(&(before, id.to_owned()));
        }
        tracked.work = Work::Due(at);
        self.due.insert((at, id.to_owned()));
    }

    fn forget_if_idle(&mut self, id: &str) {
        let idle = |tracked: &Tracked| {
            tracked.work == Work::Idle && tracked.known.is_empty() && !tracked.told
        };
        if self.containers.get(id).is_some_and(idle) {
            self.containers.remove(id);
            self.full = false;
        }
    }
}

/// An endpoint of the listing, which knows neither aliases nor the sandbox.
fn from_listing(listed: &Listed) -> impl Fn(&(String, String)) -> ContainerEndpoint {
    let called = names::Called { id: &listed.id, name: &listed.name, ..names::Called::default() };
    let names = names::names(called);
    move |(network, endpoint)| ContainerEndpoint {
        container: listed.id.clone(),
        endpoint_id: endpoint.clone(),
        network_id: network.clone(),
        names: names.clone(),
        sandbox: PathBuf::new(),
    }
}

#[cfg(test)]
mod tests;
