//! Docker's networks and the cluster's: one `docker network create` makes a network for every host.
//!
//! Level-triggered: whatever happened, what Docker lists is held against what the store lists.
//!
//! | Docker | store | what follows |
//! |---|---|---|
//! | has it, unknown to us | no such name | it is recorded in the store |
//! | has it, unknown to us | same name, same subnet | they are one |
//! | has it, unknown to us | another subnet, or its subnet is taken | Docker's is removed, and made as the store has it |
//! | has it, known to us | removed | Docker's is removed |
//! | lacks it | has it | Docker is told to make it, unless Docker shares networks by itself |
//!
//! `docker network rm` is heard from Docker itself (`DeleteNetwork`), and is the only thing that
//! removes a network from the store by way of Docker: one that merely vanished while nobody
//! listened is made again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use ovl_ipam::{Ipv6Spec, Network, NetworkSpec};

use super::super::store::Continuation;
use super::super::view::listed;
use super::super::{
    Action, Core, DockerCall, DockerError, Refusal, RefusalKind, Request, RequestId, Response,
    StoreAnswer, StoreCall,
};
use super::parked::Parked;
use super::pools::overlap;
use super::pools_of;
use super::restarts::Returning;
use super::spec::{config, spec};
use crate::docker::DockerNetwork;

/// After this, what Docker or the store refused is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A network that Docker lists no more is taken for lost after this long: in the midst of its removal
/// Docker drops it from its list before it tells us, and goes on telling for 15 s.
const VANISHED: Duration = Duration::from_secs(20);

/// A network of which it is not known whether Docker made it is looked for in its lists for so long:
/// Docker may still be at work on it, for as long as it is waited for.
const DOUBTED: Duration = Duration::from_secs(60);

/// How long a note is shown by status, and how many are.
const NOTED: Duration = Duration::from_secs(600);
const NOTES_MAX: usize = 16;

/// Users of a network that an error names.
const NAMED_MAX: usize = 5;

/// What is known of this host's Docker.
#[derive(Debug, Default)]
pub(in crate::core) struct Docker {
    /// Its networks of our driver; none: it was not heard since it was connected.
    listed: Option<BTreeMap<String, DockerNetwork>>,
    /// Docker's id of a network → ours, and whether Docker has listed it.
    bound: BTreeMap<String, Bound>,
    /// Docker's ids of networks that it was making for us when it was lost or broke off: they may be
    /// there, and its lists say so.
    doubtful: BTreeMap<String, Doubtful>,
    /// Networks that Docker made and whose names were not heard yet.
    unnamed: BTreeMap<String, Unnamed>,
    /// Networks that Docker was told to make, by our id, and by when it is to be told again.
    making: BTreeMap<u64, Making>,
    /// Networks that Docker was told to remove, by its id.
    discarding: BTreeMap<String, Asked>,
    /// Those of them that go because this host leaves: if it stays, they do.
    for_leaving: BTreeSet<String>,
    /// Networks that Docker is dropping, by its id: it lists them a moment longer.
    dropped: BTreeSet<String>,
    /// Networks that the store is asked to record, by Docker's id.
    recording: BTreeMap<String, Asked>,
    /// Requests that wait.
    pub(super) parked: BTreeMap<RequestId, Parked>,
    /// Addresses that Docker gave back while their interfaces were still being removed.
    pub(in crate::core) leaving_addresses: BTreeSet<(u64, IpAddr)>,
    /// See `restarts`.
    pub(in crate::core) returning: Returning,
    /// Docker shares networks between hosts by itself.
    pub(in crate::core) global: bool,
    /// What happened to networks and nobody could be told, for status.
    notes: VecDeque<Note>,
}

/// What happened to a network, as long as it matters.
#[derive(Clone, Debug)]
struct Note {
    at: Instant,
    /// It is over when nobody is on this network any more.
    users_of: Option<u64>,
    text: String,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    network: u64,
    listed: bool,
    /// Docker does not list it any more.
    missing: Option<Instant>,
}

/// A network that Docker may have made.
#[derive(Clone, Copy, Debug)]
struct Doubtful {
    network: u64,
    /// After this it is not expected any more; none while Docker does not answer.
    until: Option<Instant>,
}

/// Docker has made a network of these pools.
#[derive(Clone, Debug)]
struct Unnamed {
    pools: BTreeSet<IpNet>,
    /// Those of them that we picked: others would do.
    automatic: BTreeSet<IpNet>,
}

/// A network that Docker is to make.
#[derive(Clone, Debug)]
struct Making {
    subnet: IpNet,
    asked: Asked,
}

/// Something that was asked, and did or did not come to be.
#[derive(Clone, Debug)]
enum Asked {
    Pending,
    Failed { again: Instant, why: String },
}

impl Docker {
    /// How many networks Docker was told to remove, and has not answered for.
    pub(in crate::core) fn being_discarded(&self) -> usize {
        self.discarding.values().filter(|asked| asked.is_pending()).count()
    }
}

impl Asked {
    /// Not to be asked at this moment.
    fn rests(&self, now: Instant) -> bool {
        match self {
            Asked::Pending => true,
            Asked::Failed { again, .. } => *again > now,
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self, Asked::Pending)
    }

    fn failed(now: Instant, why: impl Into<String>) -> Asked {
        Asked::Failed { again: now + RETRY, why: why.into() }
    }
}

impl Docker {
    /// With what the last run wrote down.
    pub(in crate::core) fn restored(networks: BTreeMap<String, u64>, global: bool) -> Docker {
        let bound = |(id, network)| (id, Bound { network, listed: true, missing: None });
        Docker { bound: networks.into_iter().map(bound).collect(), global, ..Docker::default() }
    }

    /// Docker's network id → ours.
    pub(in crate::core) fn networks(&self) -> BTreeMap<String, u64> {
        let bound = self.bound.iter().map(|(id, bound)| (id.clone(), bound.network));
        let doubtful = self.doubtful.iter().filter(|(_, doubtful)| !self.has(doubtful.network));
        doubtful.map(|(id, doubtful)| (id.clone(), doubtful.network)).chain(bound).collect()
    }

    /// Docker may or may not have made what it was making.
    fn doubt(&mut self, until: Option<Instant>, in_doubt: impl Fn(&Bound) -> bool) {
        let (doubtful, bound): (BTreeMap<_, _>, _) = std::mem::take(&mut self.bound)
            .into_iter()
            .partition(|(_, bound)| !bound.listed && in_doubt(bound));
        self.bound = bound;
        let doubtful = doubtful.into_iter();
        self.doubtful
            .extend(doubtful.map(|(id, Bound { network, .. })| (id, Doubtful { network, until })));
    }

    pub(super) fn network_of(&self, docker: &str) -> Option<u64> {
        self.bound.get(docker).map(|bound| bound.network)
    }

    /// The network that Docker was told to make with this subnet, by our id.
    pub(super) fn made_for(&self, subnet: IpNet) -> Option<u64> {
        self.making.iter().find(|(_, making)| making.subnet == subnet).map(|(id, _)| *id)
    }

    fn has(&self, network: u64) -> bool {
        self.bound.values().any(|bound| bound.network == network)
    }

    /// When something is to be tried again.
    pub(in crate::core) fn next_retry(&self) -> Option<Instant> {
        self.listed.as_ref()?;
        let making = self.making.values().map(|making| &making.asked);
        making
            .chain(self.discarding.values())
            .chain(self.recording.values())
            .filter_map(|asked| match asked {
                Asked::Pending => None,
                Asked::Failed { again, .. } => Some(*again),
            })
            .chain(self.bound.values().filter_map(|bound| Some(bound.missing? + VANISHED)))
            .chain(self.doubtful.values().filter_map(|doubtful| doubtful.until))
            .min()
    }

    fn note(&mut self, now: Instant, users_of: Option<u64>, text: String) {
        tracing::warn!("{text}");
        if self.notes.len() >= NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(Note { at: now, users_of, text });
    }

    /// What does not work at the moment, for status.
    fn failures(&self) -> impl Iterator<Item = String> {
        let making = self.making.values().map(|making| &making.asked);
        let asked = making.chain(self.discarding.values());
        asked.chain(self.recording.values()).filter_map(|asked| match asked {
            Asked::Pending => None,
            Asked::Failed { why, .. } => Some(why.clone()),
        })
    }
}

impl Core {
    pub(super) fn bind(&mut self, docker: &str, network: u64) {
        self.docker.unnamed.remove(docker);
        let listed = self.docker.listed.as_ref().is_some_and(|all| all.contains_key(docker));
        // While Docker does not answer, what it said last is the truth.
        let listed = listed || self.docker.listed.is_none();
        self.docker.bound.insert(docker.to_owned(), Bound { network, listed, missing: None });
        self.touch_state();
    }

    /// Docker said that it has it, by a list or otherwise.
    fn seen(&mut self, docker: &str) {
        if let Some(bound) = self.docker.bound.get_mut(docker) {
            bound.listed = true;
        }
    }

    pub(super) fn unnamed(&mut self, docker: &str, pools: BTreeSet<IpNet>) {
        let picked = |pool: &IpNet| self.proposals.get(pool).is_some_and(|p| p.automatic);
        let automatic = pools.iter().copied().filter(picked).collect();
        self.docker.unnamed.insert(docker.to_owned(), Unnamed { pools, automatic });
    }

    pub(super) fn is_unnamed(&self, pool: IpNet) -> bool {
        self.docker.unnamed.values().any(|u| u.pools.contains(&pool))
    }

    /// Why a network that Docker made is not in the cluster, if that is known.
    pub(super) fn unrecorded(&self, pool: IpNet) -> Option<String> {
        let of_pool = self.docker.unnamed.iter().filter(|(_, u)| u.pools.contains(&pool));
        of_pool.map(|(id, _)| self.docker.recording.get(id)).find_map(|asked| match asked {
            Some(Asked::Failed { why, .. }) => Some(why.clone()),
            Some(Asked::Pending) | None => None,
        })
    }

    pub(super) fn unnamed_pools(&self) -> impl Iterator<Item = IpNet> {
        self.docker.unnamed.values().flat_map(|u| u.pools.iter().copied())
    }

    /// The link to Docker was lost or is there again.
    pub(in crate::core) fn docker_health(&mut self, error: Option<String>) {
        if error.is_some() {
            self.running = None;
            self.docker.listed = None;
            self.docker.doubt(None, |_| true);
            self.docker.doubtful.values_mut().for_each(|doubtful| doubtful.until = None);
            self.docker.unnamed.clear();
            self.docker.dropped.clear();
            self.docker.making.clear();
            self.docker.discarding.clear();
            self.docker.recording.retain(|_, asked| asked.is_pending());
            self.docker_lost();
        } else {
            let until = Some(self.now + DOUBTED);
            self.docker.doubtful.values_mut().for_each(|doubtful| doubtful.until = until);
            self.docker_back();
        }
        self.health.docker = error;
    }

    /// What Docker has, whole.
    pub(in crate::core) fn docker_networks(&mut self, list: Vec<DockerNetwork>) {
        let listed: BTreeMap<_, _> = list.into_iter().map(|n| (n.id.clone(), n)).collect();
        self.resolve_doubts(&listed);
        for (id, bound) in &mut self.docker.bound {
            let there = listed.contains_key(id);
            // One that was not listed yet may be made at this moment.
            bound.missing = match bound.missing {
                _ if there || !bound.listed => None,
                None => Some(self.now),
                since => since,
            };
            bound.listed |= there;
        }
        self.docker.recording.retain(|id, asked| listed.contains_key(id) || asked.is_pending());
        self.docker.dropped.retain(|id| listed.contains_key(id));
        self.docker.listed = Some(listed);
        self.match_networks();
    }

    fn resolve_doubts(&mut self, listed: &BTreeMap<String, DockerNetwork>) {
        let (made, doubtful): (BTreeMap<_, _>, _) = std::mem::take(&mut self.docker.doubtful)
            .into_iter()
            .partition(|(id, _)| listed.contains_key(id));
        self.docker.doubtful = doubtful;
        for (id, Doubtful { network, .. }) in made {
            if self.docker.network_of(&id).is_none() {
                self.bind(&id, network);
            }
        }
    }

    /// Holds Docker's networks against the store's. Asks of each for what the other lacks.
    pub(in crate::core) fn match_networks(&mut self) {
        let (Some(listed), true) = (self.docker.listed.clone(), self.heard_store) else {
            return;
        };
        if self.leaving.is_some() {
            return self.unpark();
        }
        self.forget_vanished();
        self.forget_failures();
        for network in listed.values() {
            self.match_one(network);
        }
        self.remove_doubles(&listed);
        if !self.docker.global {
            self.make_missing(&listed);
        }
        self.unpark();
    }

    /// Networks that Docker lost without a word, and those that it has done removing.
    fn forget_vanished(&mut self) {
        let (now, discarding) = (self.now, &self.docker.discarding);
        let gone =
            |id: &String, since: Instant| since + VANISHED <= now || discarding.contains_key(id);
        let lost: Vec<_> = self
            .docker
            .bound
            .iter()
            .filter(|(id, bound)| bound.missing.is_some_and(|since| gone(id, since)))
            .map(|(id, bound)| (id.clone(), bound.network))
            .collect();
        for (docker, network) in lost {
            if self.is_being_removed(&docker) {
                if let Some(bound) = self.docker.bound.get_mut(&docker) {
                    bound.missing = Some(now);
                }
                continue;
            }
            self.unbind(&docker);
            let name = self.networks.get(&network).map(|n| n.name.clone());
            let told = self.docker.global || self.docker.discarding.contains_key(&docker);
            if let Some(name) = name.filter(|_| !told) {
                let note = format!(
                    "network {name} went from this host's Docker while nobody could be told, and was made again; if you removed it, remove it once more"
                );
                self.docker.note(now, None, note);
            }
        }
        if let Some(listed) = &self.docker.listed {
            self.docker.discarding.retain(|id, _| listed.contains_key(id));
        }
    }

    /// Docker's word that it removes the network is heard, and not yet answered.
    fn is_being_removed(&self, docker: &str) -> bool {
        let parked = |request: &Request| match request {
            Request::DeleteDockerNetwork(id) => id == docker,
            _ => false,
        };
        self.docker.parked.values().any(|waiting| parked(waiting.request()))
            || self.is_removing(docker)
    }

    /// What failed, or was doubted, and does not matter any more.
    fn forget_failures(&mut self) {
        let doubts = self.docker.doubtful.len();
        let now = self.now;
        self.docker.doubtful.retain(|_, doubtful| doubtful.until.is_none_or(|until| until > now));
        if self.docker.doubtful.len() < doubts {
            self.touch_state();
        }
        let (networks, docker) = (&self.networks, &mut self.docker);
        let bound: BTreeSet<u64> = docker.bound.values().map(|bound| bound.network).collect();
        let matters =
            |id: &u64| networks.get(id).is_some_and(|n| !n.removing && !bound.contains(id));
        docker.making.retain(|id, making| making.asked.is_pending() || matters(id));
        let known = &docker.bound;
        docker.recording.retain(|id, asked| asked.is_pending() || !known.contains_key(id));
    }

    fn match_one(&mut self, docker: &DockerNetwork) {
        let discarding = self.docker.discarding.get(&docker.id);
        if discarding.is_some_and(|asked| asked.rests(self.now))
            || self.docker.dropped.contains(&docker.id)
        {
            return;
        }
        if let Some(network) = self.docker.network_of(&docker.id) {
            if self.was_removed(network) {
                return self.discard(&docker.id);
            }
            let subnet = |n: &Network| IpNet::V4(n.subnet);
            let same = |n: &Network| docker.config.pools.iter().any(|p| p.subnet == subnet(n));
            if self.networks.get(&network).is_none_or(same) {
                return;
            }
            // A store that was made anew gives out the same ids again.
            self.docker.bound.remove(&docker.id);
            self.touch_state();
        }
        if self.docker.recording.get(&docker.id).is_some_and(|asked| asked.rests(self.now)) {
            return;
        }
        let spec = match spec(&docker.config) {
            Ok(spec) => spec,
            Err(why) => {
                let name = &docker.config.name;
                let why = unfit(name, &why);
                self.docker.recording.insert(docker.id.clone(), Asked::failed(self.now, why));
                return;
            }
        };
        self.adopt_network(docker, spec);
    }

    /// Docker has a network that is not known here.
    fn adopt_network(&mut self, docker: &DockerNetwork, spec: NetworkSpec) {
        let named = self.network_named(spec.name.as_ref()).cloned();
        if let Some(network) = named {
            if Some(network.subnet) == spec.subnet {
                tracing::info!(network = %network.name, "Docker's network is the cluster's");
                self.bind(&docker.id, network.id.0);
            } else {
                self.docker.note(
                    self.now,
                    None,
                    format!(
                        "network {} was made here with another subnet than in the cluster ({}): it is made anew",
                        network.name, network.subnet
                    ),
                );
                self.discard(&docker.id);
            }
            return;
        }
        let own = || docker.config.pools.iter().map(|pool| pool.subnet);
        let rival_of = |pool: IpNet| {
            self.networks.values().find(|n| pools_of(n).any(|p| overlap(&pool, &p))).cloned()
        };
        let Some(rival) = own().find_map(rival_of) else {
            self.record(&docker.id, spec);
            return;
        };
        let unnamed = self.docker.unnamed.get(&docker.id);
        let picked = unnamed.map(|u| u.automatic.clone()).unwrap_or_default();
        let stuck = own().any(|pool| rival_of(pool).is_some() && !picked.contains(&pool));
        let (name, other) = (spec.name.clone(), &rival.name);
        if !stuck {
            tracing::warn!(network = %name, rival = %other, "another host took the subnet at the same moment; the network gets another one");
            self.record(&docker.id, without(spec, &picked));
            self.discard(&docker.id);
        } else if self.docker.unnamed.contains_key(&docker.id) {
            self.docker.note(
                self.now,
                None,
                format!(
                    "network {name} was removed from this host's Docker: its subnet belongs to network {other} of this cluster; make it with another --subnet"
                ),
            );
            self.discard(&docker.id);
        } else {
            let why = format!(
                "network {name} of this host's Docker is not in the cluster, and its subnet belongs to network {other}; remove it: docker network rm '{name}'"
            );
            self.docker.recording.insert(docker.id.clone(), Asked::failed(self.now, why));
        }
    }

    fn record(&mut self, docker: &str, spec: NetworkSpec) {
        tracing::info!(network = %spec.name, "recording Docker's network in the cluster");
        self.docker.recording.insert(docker.to_owned(), Asked::Pending);
        let then = Continuation::Recorded { docker: docker.to_owned(), subnet: spec.subnet };
        self.call(StoreCall::EnsureNetwork(spec), then);
    }

    /// What the store said to a network of Docker's.
    pub(in crate::core) fn recorded(
        &mut self,
        docker: &str,
        subnet: Option<Ipv4Net>,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        self.docker.recording.remove(docker);
        match self.network_of(answer) {
            Ok(network) => {
                // Docker may have dropped it meanwhile; a removal that waits has to know of it. One
                // that was to get another subnet is made anew instead.
                if subnet == Some(network.subnet) && self.docker.network_of(docker).is_none() {
                    self.bind(docker, network.id.0);
                    self.seen(docker);
                }
                self.match_networks();
            }
            // Somebody else was quicker: what there is now decides.
            Err(refusal) if refusal.kind == RefusalKind::Conflict => {
                let why = Asked::failed(self.now, refusal.message);
                self.docker.recording.insert(docker.to_owned(), why);
                self.call(StoreCall::Networks, Continuation::Refreshed);
            }
            Err(refusal) => {
                let name = self.docker_name(docker);
                let why = match refusal.kind {
                    RefusalKind::Invalid => unfit(&name, &refusal.message),
                    RefusalKind::NotFound | RefusalKind::Conflict | RefusalKind::Unavailable => {
                        format!(
                            "network {name} of this host's Docker is not in the cluster yet: {}",
                            refusal.message
                        )
                    }
                };
                let why = Asked::failed(self.now, why);
                self.docker.recording.insert(docker.to_owned(), why);
            }
        }
    }

    /// A fresh list of networks, asked for because of a conflict.
    pub(in crate::core) fn refreshed(&mut self, answer: Result<StoreAnswer, Refusal>) {
        if let Ok(StoreAnswer::Networks(networks)) = answer
            && networks.revision >= self.revision
        {
            self.docker.recording.retain(|_, asked| asked.is_pending());
            self.learn_networks(networks);
        }
    }

    fn discard(&mut self, docker: &str) {
        // Known until Docker does not list it any more: else it would look like a new one.
        self.docker.unnamed.remove(docker);
        self.docker.discarding.insert(docker.to_owned(), Asked::Pending);
        self.actions.push_back(Action::Docker(DockerCall::Remove(docker.to_owned())));
    }

    /// This host leaves: none of them stays in its Docker.
    pub(in crate::core) fn discard_all(&mut self) {
        let listed: Vec<String> =
            self.docker.listed.iter().flat_map(BTreeMap::keys).cloned().collect();
        for id in listed {
            if !self.docker.discarding.contains_key(&id) {
                self.docker.for_leaving.insert(id.clone());
                self.discard(&id);
            }
        }
    }

    /// This host stays: what Docker did not remove is not to go any more. What it still may is made
    /// again, if it does.
    pub(in crate::core) fn discard_no_more(&mut self) {
        let Docker { discarding, for_leaving, .. } = &mut self.docker;
        for_leaving.retain(|id| {
            let pending = discarding.get(id).is_some_and(Asked::is_pending);
            if !pending {
                discarding.remove(id);
            }
            pending
        });
    }

    /// What could not be removed from this host's Docker.
    pub(in crate::core) fn docker_leftovers(&self) -> Vec<String> {
        let listed = self.docker.listed.iter().flat_map(BTreeMap::values);
        listed
            .map(|network| {
                let name = &network.config.name;
                format!(
                    "network {name} stays in this host's Docker, because containers use it: remove them, and start the agent once more to remove it"
                )
            })
            .collect()
    }

    /// Two networks of Docker's for one of the cluster make its name ambiguous: one goes.
    fn remove_doubles(&mut self, listed: &BTreeMap<String, DockerNetwork>) {
        let mut seen: BTreeMap<u64, String> = BTreeMap::new();
        for (id, docker) in listed {
            let Some(network) = self.docker.network_of(id) else {
                continue;
            };
            let name = &docker.config.name;
            let double = seen.insert(network, id.clone());
            let double =
                double.filter(|other| listed.get(other).is_some_and(|o| o.config.name == *name));
            if double.is_some() && !self.docker.discarding.contains_key(id) {
                tracing::warn!(network = name, "Docker has it twice; one is removed");
                self.discard(id);
            }
        }
    }

    fn make_missing(&mut self, listed: &BTreeMap<String, DockerNetwork>) {
        let missing = self.networks.values().filter(|n| {
            let called_so = |d: &DockerNetwork| d.config.name == n.name.as_str();
            !n.removing && !self.docker.has(n.id.0) && !listed.values().any(called_so)
        });
        for network in missing.cloned().collect::<Vec<_>>() {
            self.make(&network);
        }
    }

    fn make(&mut self, network: &Network) {
        let id = network.id.0;
        if self.docker.making.get(&id).is_some_and(|making| making.asked.rests(self.now)) {
            return;
        }
        tracing::info!(network = %network.name, "making the cluster's network in this host's Docker");
        let making = Making { subnet: IpNet::V4(network.subnet), asked: Asked::Pending };
        self.docker.making.insert(id, making);
        let call = DockerCall::Create { network: id, config: config(network) };
        self.actions.push_back(Action::Docker(call));
    }

    /// `ovlctl network create`, where Docker shares networks by itself: on this host, for all.
    pub(in crate::core) fn made_by_hand(&mut self, network: &Network) {
        if self.docker.global && self.docker.listed.is_some() {
            self.make(network);
        }
    }

    /// Docker did, or did not do, what it was asked for.
    pub(in crate::core) fn docker_answered(
        &mut self,
        call: DockerCall,
        answer: Result<String, DockerError>,
    ) {
        match (call, answer) {
            (DockerCall::Create { network, .. }, Ok(docker)) => {
                self.docker.making.remove(&network);
                if self.docker.network_of(&docker).is_none() {
                    self.bind(&docker, network);
                }
                self.seen(&docker);
            }
            (DockerCall::Create { network, config }, Err(error)) => {
                match &error {
                    DockerError::Failed(_) => {
                        let answers = self.health.docker.is_none();
                        let until = answers.then_some(self.now + DOUBTED);
                        self.docker.doubt(until, |bound| bound.network == network);
                    }
                    DockerError::NameTaken | DockerError::NotFound | DockerError::InUse => {
                        self.docker.bound.retain(|_, b| b.network != network || b.listed);
                    }
                }
                let name = config.name;
                let why = match error {
                    DockerError::NameTaken => format!(
                        "network {name} of the cluster cannot be made in this host's Docker: another network there has the name; remove or rename that one"
                    ),
                    DockerError::NotFound | DockerError::InUse => {
                        format!("network {name} of the cluster was not made in this host's Docker")
                    }
                    DockerError::Failed(why) => format!(
                        "network {name} of the cluster was not made in this host's Docker: {why}"
                    ),
                };
                if let Some(making) = self.docker.making.get_mut(&network) {
                    making.asked = Asked::failed(self.now, why);
                }
            }
            (DockerCall::Remove(docker), Ok(_) | Err(DockerError::NotFound)) => {
                self.docker.discarding.remove(&docker);
                self.docker.for_leaving.remove(&docker);
                self.unbind(&docker);
                if let Some(listed) = &mut self.docker.listed {
                    listed.remove(&docker);
                }
            }
            (DockerCall::Remove(docker), Err(_))
                if self.leaving.is_none() && self.docker.for_leaving.remove(&docker) =>
            {
                self.docker.discarding.remove(&docker);
            }
            (DockerCall::Remove(docker), Err(error)) => {
                let name = self.docker_name(&docker);
                let why = match error {
                    DockerError::InUse => format!(
                        "network {name} is not in the cluster any more, but containers of this host's Docker use it; disconnect them"
                    ),
                    DockerError::Failed(why) => format!(
                        "network {name} is not in the cluster any more, but stays in this host's Docker: {why}"
                    ),
                    DockerError::NameTaken | DockerError::NotFound => return,
                };
                if let Some(asked) = self.docker.discarding.get_mut(&docker) {
                    *asked = Asked::failed(self.now, why);
                }
            }
        }
        self.match_networks();
    }

    fn docker_name(&self, docker: &str) -> String {
        let listed = self.docker.listed.as_ref().and_then(|all| all.get(docker));
        listed.map_or_else(|| docker.chars().take(12).collect(), |n| n.config.name.clone())
    }

    /// `docker network rm`, or Docker takes back what it was just making. Docker forgets its
    /// network whatever is answered, and only writes an error into its log: so one that is in use
    /// is made again at once, and status says why.
    pub(in crate::core) fn delete_docker_network(
        &mut self,
        id: RequestId,
        docker: &str,
    ) -> Result<Option<Response>, Refusal> {
        if self.docker.discarding.contains_key(docker) {
            return Ok(Some(Response::Done));
        }
        if self.docker.recording.get(docker).is_some_and(Asked::is_pending) {
            let what = "the network is just being recorded in the store".to_owned();
            self.park(id, Request::DeleteDockerNetwork(docker.to_owned()), what);
            return Ok(None);
        }
        self.docker.unnamed.remove(docker);
        self.docker.dropped.insert(docker.to_owned());
        let Some(network) = self.docker.bound.get(docker).copied() else {
            return Ok(Some(Response::Done));
        };
        if self.leaving_on(network.network) {
            let what = "endpoints of the network are still being removed".to_owned();
            self.park(id, Request::DeleteDockerNetwork(docker.to_owned()), what);
            return Ok(None);
        }
        let same =
            |(id, bound): (&String, &Bound)| id != docker && bound.network == network.network;
        let others = self.docker.bound.iter().any(same);
        let ours = !network.listed && self.docker.making.contains_key(&network.network);
        let Some(known) = self.networks.get(&network.network).filter(|_| !others && !ours) else {
            self.unbind(docker);
            return Ok(Some(Response::Done));
        };
        let name = known.name.clone();
        if let Some(refusal) = self.refuse_used(network.network) {
            self.unbind(docker);
            self.not_removed(Some(network.network), &refusal);
            return Err(refusal);
        }
        // Known until the store has answered: Docker asks again if we do not live to see that.
        let docker = docker.to_owned();
        let then = Continuation::DockerRemoved { request: id, docker, network: network.network };
        self.call(StoreCall::RemoveNetwork(name), then);
        Ok(None)
    }

    pub(in crate::core) fn docker_removed(
        &mut self,
        request: RequestId,
        docker: &str,
        network: u64,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        self.unbind(docker);
        match answer {
            Ok(_) => {
                self.forget_network(network);
                self.reply(request, Ok(Response::Done));
            }
            Err(refusal) if refusal.kind == RefusalKind::NotFound => {
                self.reply(request, Ok(Response::Done));
            }
            Err(refusal) => {
                self.not_removed(Some(network), &refusal);
                self.reply(request, Err(refusal));
            }
        }
        self.match_networks();
    }

    /// What went wrong with Docker's networks, and of late, for status.
    pub(in crate::core) fn docker_problems(&self, now: Instant) -> Vec<String> {
        let used = |note: &&Note| note.users_of.is_none_or(|id| self.refuse_used(id).is_some());
        let fresh = self.docker.notes.iter().filter(|note| note.at + NOTED > now).filter(used);
        fresh.map(|note| note.text.clone()).chain(self.docker.failures()).collect()
    }

    fn unbind(&mut self, docker: &str) {
        self.docker.bound.remove(docker);
        self.touch_state();
    }

    pub(super) fn not_removed(&mut self, network: Option<u64>, refusal: &Refusal) {
        let name = network.and_then(|id| Some(self.networks.get(&id)?.name.to_string()));
        let note = format!(
            "network {} was not removed from the cluster, and is made again in this host's Docker: {}",
            name.as_deref().unwrap_or("of this host's Docker"),
            refusal.message
        );
        let users_of = network.filter(|id| self.refuse_used(*id).is_some());
        self.docker.note(self.now, users_of, note);
    }

    /// Why a network cannot be removed: who is on it, and where.
    pub(in crate::core) fn refuse_used(&self, network: u64) -> Option<Refusal> {
        let name = &self.networks.get(&network)?.name;
        let me = self.me.node.to_string();
        let local = self.local_endpoints().map(|e| (me.clone(), e));
        let remote = self.remotes.visible().map(|(node, e)| (node.to_string(), e.clone()));
        let users = local
            .chain(remote)
            .filter(|(_, e)| e.network == network)
            .map(|(node, e)| {
                let who = e.names.first().cloned().unwrap_or_else(|| e.ipv4.to_string());
                format!("{who} on {node}")
            })
            .collect();
        let list = listed(users, NAMED_MAX)?;
        Some(Refusal::conflict(format!(
            "network {name} is in use: {list}; remove or disconnect them first"
        )))
    }

    /// The store says that the network was there, and is not any more.
    fn was_removed(&self, network: u64) -> bool {
        !self.networks.contains_key(&network) && network < self.next_network
    }
}

/// What can never be recorded, for status.
fn unfit(name: &str, why: &str) -> String {
    format!(
        "network {name} of this host's Docker cannot be in the cluster: {why}; remove it: docker network rm '{name}'"
    )
}

/// The same network, with other subnets in the place of those that we had picked.
fn without(spec: NetworkSpec, picked: &BTreeSet<IpNet>) -> NetworkSpec {
    let v4 = spec.subnet.is_some_and(|subnet| picked.contains(&IpNet::V4(subnet)));
    let v6 = spec.ipv6.and_then(|ipv6| ipv6.subnet);
    let v6 = v6.is_some_and(|subnet| picked.contains(&IpNet::V6(subnet)));
    NetworkSpec {
        subnet: spec.subnet.filter(|_| !v4),
        gateway: spec.gateway.filter(|_| !v4),
        ipv6: if v6 { Some(Ipv6Spec::default()) } else { spec.ipv6 },
        ..spec
    }
}
