//! Calls on the registry, and what becomes of their answers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use ovl_ipam::{Lease, Network, NetworkId, Networks, Wanted};

use super::docker::{HOLDER, pools_of};
use super::local::{Local, Origin, Phase};
use super::{
    Action, CallId, Core, Kind, NamesChange, Notice, RECONCILE_AFTER, RECONCILE_INTERVAL,
    RELEASE_RETRY, Refusal, RefusalKind, Request, RequestId, Response, StoreAnswer, StoreCall,
};

/// What to do when a call is answered.
#[derive(Debug)]
pub(super) enum Continuation {
    /// Try the request again with a fresh list of networks.
    Retry(RequestId, Box<Request>),
    /// Reply with the network that was made.
    Create(RequestId),
    /// Forget the network, reply.
    Remove(RequestId),
    /// An attach goes on; `doubted` addresses were passed over.
    Attach { id: String, address: Option<Ipv4Addr>, doubted: u32 },
    /// The same, with an IPv6 address.
    Attach6(String),
    /// A network of Docker's, by its id there, is the cluster's.
    Recorded { docker: String, subnet: Option<Ipv4Net> },
    /// Our Docker's user removed the network.
    DockerRemoved { request: RequestId, docker: String, network: u64 },
    /// The list of networks, after a conflict.
    Refreshed,
    /// A subnet for a pool that Docker asks for.
    Proposed(RequestId),
    /// An address for Docker; `preferred`: any other will do as well.
    DockerAddress {
        request: RequestId,
        network: u64,
        pool: IpNet,
        address: Option<IpAddr>,
        preferred: bool,
    },
    /// An endpoint of Docker's whose lease was not known here any more.
    DockerEndpoint { request: RequestId, endpoint: String },
    /// An address was given back.
    Released { network: u64, address: IpAddr, request: Option<RequestId> },
    /// Leases of that network that no endpoint of ours holds are given back, and those that ours
    /// lack are taken again.
    Reconcile(u64),
    /// An endpoint of ours has its lease again.
    Retaken(String),
    /// This host leaves the cluster by this request, and has given back what it had.
    NodeReleased(RequestId),
    /// Nobody waits.
    Ignore,
}

impl Continuation {
    /// The store is asked for an address.
    pub(super) fn awaits_address(&self) -> bool {
        match self {
            Continuation::Attach { .. }
            | Continuation::Attach6(_)
            | Continuation::DockerAddress { .. }
            | Continuation::DockerEndpoint { .. }
            | Continuation::Retaken(_) => true,
            Continuation::Retry(..)
            | Continuation::Create(_)
            | Continuation::Remove(_)
            | Continuation::Recorded { .. }
            | Continuation::DockerRemoved { .. }
            | Continuation::Refreshed
            | Continuation::Proposed(_)
            | Continuation::Released { .. }
            | Continuation::Reconcile(_)
            | Continuation::NodeReleased(_)
            | Continuation::Ignore => false,
        }
    }
}

impl Core {
    pub(super) fn call(&mut self, call: StoreCall, then: Continuation) {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(id, then);
        self.actions.push_back(Action::Store(id, call));
    }

    /// A network that we have not heard of may be a moment old.
    pub(super) fn refresh_then(&mut self, id: RequestId, request: Request) {
        self.call(StoreCall::Networks, Continuation::Retry(id, Box::new(request)));
    }

    pub(super) fn store_answered(
        &mut self,
        now: Instant,
        call: CallId,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        let Some(then) = self.calls.remove(&call) else {
            return;
        };
        match then {
            Continuation::Retry(id, request) => self.retry(now, id, *request, answer),
            Continuation::Create(id) => {
                let network = self.network_of(answer);
                if let Ok(network) = &network {
                    self.made_by_hand(network);
                }
                let answer = network.and_then(|network| self.network_detail(network.name.as_ref()));
                self.match_networks();
                self.reply(id, answer.map(Response::Network));
            }
            Continuation::Remove(id) => {
                if let Ok(StoreAnswer::Network(network)) = &answer {
                    self.forget_network(network.id.0);
                    self.match_networks();
                }
                self.reply(id, answer.map(|_| Response::Done));
            }
            Continuation::Attach { id, address, doubted } => {
                self.attach_leased(now, &id, (address, doubted), answer.and_then(lease_of));
            }
            Continuation::Attach6(id) => self.attach_leased6(&id, answer.and_then(lease_of)),
            Continuation::Recorded { docker, subnet } => self.recorded(&docker, subnet, answer),
            Continuation::DockerRemoved { request, docker, network } => {
                self.docker_removed(request, &docker, network, answer);
            }
            Continuation::Refreshed => self.refreshed(answer),
            Continuation::Proposed(id) => self.pool_proposed(id, answer),
            Continuation::DockerAddress { request, network, pool, preferred, address } => {
                let how = (preferred, address.is_some() && !preferred);
                self.docker_leased(request, network, pool, how, answer.and_then(lease_of));
            }
            Continuation::DockerEndpoint { request, endpoint } => {
                self.docker_endpoint_leased(request, &endpoint, answer.and_then(lease_of));
            }
            Continuation::Released { network, address, request } => {
                self.release_answered(now, network, address, answer);
                self.released(request);
            }
            Continuation::Reconcile(network) => self.reconcile_with(now, network, answer),
            Continuation::Retaken(id) => self.retaken(&id, answer.and_then(lease_of)),
            Continuation::NodeReleased(request) => self.node_released(request, answer),
            Continuation::Ignore => {}
        }
    }

    fn retry(
        &mut self,
        now: Instant,
        id: RequestId,
        request: Request,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        match answer {
            // The watch may have brought a newer list meanwhile.
            Ok(StoreAnswer::Networks(networks)) if networks.revision >= self.revision => {
                self.learn_networks(networks);
                self.request(now, id, request, true);
            }
            Ok(_) => self.request(now, id, request, true),
            Err(refusal) => self.reply(id, Err(refusal)),
        }
    }

    pub(super) fn network_of(
        &mut self,
        answer: Result<StoreAnswer, Refusal>,
    ) -> Result<Network, Refusal> {
        match answer? {
            StoreAnswer::Network(network) => {
                self.learn_network(network.clone());
                let learnt =
                    self.networks.get(&network.id.0).is_some_and(|n| n.name == network.name);
                match &self.health.foreign {
                    Some(why) if !learnt => Err(Refusal::conflict(why.clone())),
                    Some(_) | None => Ok(network),
                }
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) fn learn_networks(&mut self, networks: Networks) {
        self.revision = networks.revision;
        self.next_network = networks.next_id;
        self.heard_store = true;
        self.health.foreign = None;
        let gone: Vec<u64> = self
            .networks
            .keys()
            .copied()
            .filter(|id| !networks.list.iter().any(|n| n.id.0 == *id))
            .collect();
        for id in gone {
            self.forget_network(id);
        }
        for network in networks.list {
            self.learn_network(network);
        }
        self.match_networks();
    }

    pub(super) fn learn_network(&mut self, network: Network) {
        let id = network.id.0;
        if let Some(kept) = self.contradicted(&network).cloned() {
            self.orphan(&kept);
            return;
        }
        if self.orphaned.remove(&id) {
            // The store knows it again, and may have forgotten who holds which address.
            self.call(StoreCall::Leases(network.id), Continuation::Reconcile(id));
        }
        if self.networks.get(&id) == Some(&network) {
            return;
        }
        let subnet6 = network.ipv6.as_ref().map(|v6| v6.subnet);
        let change = NamesChange::Network(id, network.name.to_string(), network.subnet, subnet6);
        self.actions.push_back(Action::Names(change));
        let known = self.networks.insert(id, network).is_some();
        if !known {
            self.tell_network(id);
        }
        self.name_endpoints_of(id);
        self.touch_desired();
        self.touch_state();
    }

    /// The network in use here that cannot be beside this one, or cannot be the same.
    fn contradicted(&self, new: &Network) -> Option<&Network> {
        let in_use = |id: &u64| self.local.values().any(|l| l.network == *id);
        let is_same =
            |old: &Network| (&old.name, old.vni, old.subnet) == (&new.name, new.vni, new.subnet);
        let clashes = |old: &Network| match old.id == new.id {
            true => !is_same(old),
            false => old.vni == new.vni,
        };
        let kept = self.networks.iter().find(|(id, old)| clashes(old) && in_use(id));
        kept.map(|(_, old)| old)
    }

    /// Endpoints of ours use it, and the store does not know it: they run on, but nothing new may
    /// be put there, because what the store says of that id is of another network.
    fn orphan(&mut self, network: &Network) {
        let new = self.orphaned.insert(network.id.0);
        let why = format!(
            "the store does not know network {} ({}), which endpoints of this host use: it lost its memory; bring it back, or create the network again with the same name and subnet, or detach them",
            network.name, network.subnet
        );
        if new {
            let summary = format!("network {} is not in the store any more", network.name);
            let notice = Notice::new(Kind::NetworkOrphaned, summary).network(&network.name);
            self.tell(notice.because(&why));
        }
        self.health.foreign = Some(why);
    }

    /// Nothing new on a network that the store does not know.
    pub(super) fn refuse_orphaned(&self, network: u64) -> Result<(), Refusal> {
        match &self.health.foreign {
            Some(why) if self.orphaned.contains(&network) => Err(Refusal::conflict(why.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether an address that the store gave out can be used: a store that lost its memory gives
    /// out what is held.
    pub(super) fn doubt(&self, network: u64, address: IpAddr) -> Option<Refusal> {
        let known = self.networks.get(&network)?;
        if !pools_of(known).any(|pool| pool.contains(&address)) {
            let (name, subnet) = (&known.name, known.subnet);
            let why = format!(
                "the store gave {address} for network {name} ({subnet}): it lost its memory"
            );
            return Some(Refusal::conflict(why));
        }
        let host = self.remotes.alive_holder(network, address)?;
        let why = format!(
            "{address} is held by an endpoint on {host}, though the store does not know it"
        );
        Some(Refusal::conflict(why))
    }

    /// The names table dropped them with the network, if it ever had it.
    fn name_endpoints_of(&mut self, id: u64) {
        let node = self.me.node.to_string();
        let local = self.local_endpoints().map(|e| (node.clone(), e));
        let remote = self.remotes.visible().map(|(node, e)| (node.to_string(), e.clone()));
        let all: Vec<_> = local.chain(remote).filter(|(_, e)| e.network == id).collect();
        for (node, e) in all {
            self.actions.push_back(Action::Names(NamesChange::Set {
                network: id,
                key: (node, e.id),
                ipv4: e.ipv4,
                ipv6: e.ipv6,
                names: e.names,
            }));
        }
    }

    /// A network that endpoints of ours use is kept, whatever the store says: a store that lost
    /// its memory must not take running containers down.
    pub(super) fn forget_network(&mut self, id: u64) {
        if self.local.values().any(|l| l.network == id) {
            if let Some(network) = self.networks.get(&id).cloned() {
                self.orphan(&network);
            }
            return;
        }
        if let Some(network) = self.networks.remove(&id) {
            let summary = format!("network {} ({}) was removed", network.name, network.subnet);
            self.tell(Notice::new(Kind::NetworkRemoved, summary).network(&network.name));
            self.actions.push_back(Action::Names(NamesChange::NoNetwork(id)));
            self.touch_desired();
            self.touch_state();
        }
    }

    fn release_answered(
        &mut self,
        now: Instant,
        network: u64,
        address: IpAddr,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        match answer {
            Ok(_) => {
                self.releases.remove(&(network, address));
                self.touch_state();
            }
            Err(_) => self.release_at = Some(now + RELEASE_RETRY),
        }
        self.unpark();
    }

    pub(super) fn retry_releases(&mut self) {
        for (network, address) in self.releases.clone() {
            if self.holds(network, address) || self.is_asked_for(network, Some(address)) {
                self.releases.remove(&(network, address));
                self.touch_state();
            } else {
                let call = StoreCall::Release { network: NetworkId(network), address };
                self.call(call, Continuation::Released { network, address, request: None });
            }
        }
    }

    /// An endpoint of this host has the address, or Docker is about to make one.
    pub(super) fn holds(&self, network: u64, address: IpAddr) -> bool {
        let has = |l: &Local| l.network == network && l.has(address);
        self.unbound.contains_key(&(network, address)) || self.local.values().any(has)
    }

    /// Docker asks the store for this address of the network at the moment, or for any.
    pub(super) fn is_asked_for(&self, network: u64, address: Option<IpAddr>) -> bool {
        self.calls.values().any(|call| match call {
            Continuation::DockerAddress { network: n, address: a, .. } => {
                *n == network && (address.is_none() || *a == address)
            }
            _ => false,
        })
    }

    /// The store is just asked to remove the network that Docker calls so.
    pub(super) fn is_removing(&self, docker: &str) -> bool {
        self.calls.values().any(|call| match call {
            Continuation::DockerRemoved { docker: id, .. } => id == docker,
            _ => false,
        })
    }

    /// The store is just asked to take this address back: what is asked of it meanwhile might come
    /// before or after.
    pub(super) fn is_releasing(&self, network: u64, address: IpAddr) -> bool {
        self.calls.values().any(|call| match call {
            Continuation::Released { network: n, address: a, .. } => (*n, *a) == (network, address),
            _ => false,
        })
    }

    /// Leases of this host that a crash left behind are given back; not while any is being made.
    pub(super) fn reconcile_leases(&mut self, now: Instant) {
        let leasing = |c: &Continuation| {
            matches!(
                c,
                Continuation::Attach { .. }
                    | Continuation::Attach6(_)
                    | Continuation::DockerAddress { .. }
                    | Continuation::DockerEndpoint { .. }
            )
        };
        if self.health.name_conflict.is_some() || self.calls.values().any(leasing) {
            self.reconcile_at = Some(now + RECONCILE_AFTER);
            return;
        }
        self.reconcile_at = Some(now + RECONCILE_INTERVAL);
        self.unbound.retain(|_, unbound| unbound.since + RECONCILE_AFTER > now);
        for id in self.networks.keys().copied().collect::<Vec<_>>() {
            self.call(StoreCall::Leases(NetworkId(id)), Continuation::Reconcile(id));
        }
    }

    /// A call whose answer got lost may have been carried out.
    pub(super) fn reconcile_soon(&mut self, now: Instant) {
        self.reconcile_at = self.reconcile_at.map(|at| at.min(now + RECONCILE_AFTER));
    }

    fn reconcile_with(&mut self, now: Instant, network: u64, answer: Result<StoreAnswer, Refusal>) {
        let Ok(StoreAnswer::Leases(leases)) = answer else {
            self.reconcile_at = self.reconcile_at.map(|_| now + RECONCILE_AFTER);
            return;
        };
        if self.orphaned.contains(&network) {
            return;
        }
        self.retake(network, &leases);
        if self.reconcile_at.is_none() {
            // There was no state file: what nobody here knows of may be a container that runs.
            return;
        }
        let me = self.me.node.to_string();
        for lease in leases {
            let address = lease.address;
            let ours = lease.holder.node == me;
            let leasing = self.local.contains_key(&lease.holder.endpoint);
            if ours
                && !leasing
                && !self.holds(network, address)
                && !self.is_asked_for(network, None)
            {
                tracing::info!(%address, "a lease that no endpoint of this host holds is given back");
                self.call(StoreCall::ReleaseLease(lease), Continuation::Ignore);
            }
        }
    }

    /// Endpoints that run here without a lease: the store forgot them.
    fn retake(&mut self, network: u64, leases: &[Lease]) {
        let up = self.local.values().filter(|l| l.network == network && l.phase == Phase::Up);
        let missing = up.flat_map(|l| l.addresses().map(|a| (l.id.clone(), l.origin.clone(), a)));
        let missing: Vec<_> = missing
            .filter(|(_, _, address)| !leases.iter().any(|l| l.address == *address))
            .collect();
        for (id, origin, address) in missing {
            let endpoint = match origin {
                Origin::Attached => id.clone(),
                Origin::Docker => HOLDER.to_owned(),
            };
            let call = StoreCall::Allocate {
                network: NetworkId(network),
                wanted: Wanted::Address(address),
                endpoint,
            };
            self.call(call, Continuation::Retaken(id));
        }
    }

    fn retaken(&mut self, id: &str, lease: Result<Lease, Refusal>) {
        match (lease, self.local.get_mut(id)) {
            (Ok(lease), Some(local)) if local.phase == Phase::Up => {
                tracing::warn!(address = %lease.address, "the store had forgotten this lease; it is held again");
                if lease.address.is_ipv4() {
                    local.generation = lease.generation;
                }
                self.touch_state();
                self.publish(id);
            }
            (Ok(lease), _) => self.call(StoreCall::ReleaseLease(lease), Continuation::Ignore),
            (Err(refusal), _) => {
                tracing::error!(
                    endpoint = id,
                    error = refusal.message,
                    "an endpoint that runs has no lease"
                );
            }
        }
    }
}

pub(super) fn lease_of(answer: StoreAnswer) -> Result<Lease, Refusal> {
    match answer {
        StoreAnswer::Lease(lease) => Ok(lease),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn unexpected(answer: &StoreAnswer) -> Refusal {
    let message = format!("the store gave an answer to another question: {answer:?}");
    Refusal { kind: RefusalKind::Unavailable, message }
}
