//! The agent's mind, without IO and without a clock: events in, actions out.
//!
//! [`Core`] knows the cluster's networks (from the store), this host's endpoints (from Docker
//! and the control socket), and every other host's endpoints (from the gossip), and derives from
//! them what the kernel should hold, which names exist, and what other hosts are told.
//!
//! The order of calls: [`Core::handle`] with each event, then [`Core::poll_action`] until it is
//! empty, then, if they moved, [`Core::desired`] and [`Core::state`], and [`Core::poll_timeout`]
//! for when to come back with [`Event::Timeout`]. The state is written down before actions are
//! carried out: a reply says that something is held, and must be true after a crash, too.
//!
//! - `event`: what is heard and said: events, requests, answers, actions.
//! - `local`: endpoints of this host, from lease to release.
//! - `kernel`: what the kernel should hold, and what becomes of a pass over it.
//! - `docker`: what libnetwork asks, as leases and endpoints.
//! - `remote`: other hosts: their endpoints, and what happens when they go away.
//! - `store`: calls on the registry and what becomes of their answers.
//! - `state`: what is kept on disk, so that a restart adopts what runs.
//! - `leaving`: this host on its way out of the cluster.
//! - `notice`, `tell`: what happened, for whoever wants to know afterwards.
//! - `explain`: why a name has its addresses.
//! - `figures`: levels and counters, for metrics.
//! - `audit`: the kernel against what it should be, on demand.
//! - `view`: answers for the control API.
//! - `trace`: what is known of the ends of a way.
//! - `diagnosis`: what is wrong, by topic, for examinations of the host.

mod audit;
mod diagnosis;
mod docker;
mod event;
mod explain;
mod figures;
mod kernel;
mod leaving;
mod local;
mod notice;
mod remote;
mod state;
mod store;
mod tell;
#[cfg(test)]
mod tests;
pub mod trace;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use ovl_gossip::{NodeName, Oddity, OtherFormat};
use ovl_ipam::Network;

pub use self::audit::Inspection;
pub use self::diagnosis::{Diagnosis, Problem, Topic};
pub use self::docker::Had;
pub use self::event::{
    Action, CallId, DockerCall, DockerError, Event, NamesChange, Refusal, RefusalKind, Request,
    RequestId, Response, StoreAnswer, StoreCall,
};
pub use self::explain::{Asked, Explained};
pub use self::figures::{Figures, PoolUse};
pub use self::local::{Sandbox, Target};
pub(crate) use self::notice::Log;
pub use self::notice::{Kind, Notice};
pub use self::remote::Absence;
pub use self::state::{FORMAT as STATE_FORMAT, State};
use self::{
    diagnosis::Trouble,
    docker::{Docker, Proposal, Returning},
    leaving::Leaving,
    local::Local,
    remote::Remotes,
    tell::{Level, Telling},
};
use crate::docker::Scope;

/// Where every sandbox finds its DNS server: link-local (RFC 3927), so it shadows no user's
/// subnet, and on the sandbox's own `lo`, so it needs no route.
pub use crate::dns::RESOLVER_ADDRESS as RESOLVER;

/// Bytes that VXLAN over IPv4 adds to a packet: outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14
/// (RFC 7348, section 5).
pub const VXLAN_OVERHEAD: u16 = 50;

/// How often the kernel is read afresh and held against what it should be.
const AUDIT_INTERVAL: Duration = Duration::from_secs(10);

/// How often sandboxes are looked at: a container that went without a word is noticed within it.
const SANDBOX_INTERVAL: Duration = Duration::from_secs(2);

/// After the first exchange with a peer: until then, rows that a previous run left are kept.
const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// After the start, when leases of this host that no endpoint holds are given back.
const RECONCILE_AFTER: Duration = Duration::from_secs(60);

/// How often that is looked at again.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(300);

/// How long until a release that the store did not take is tried again.
const RELEASE_RETRY: Duration = Duration::from_secs(5);

/// Requests that may wait at one time; at the bound a new one is refused with "busy".
const PENDING_MAX: usize = 4096;

/// What is fixed for the life of the agent.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This host's name in the cluster.
    pub node: NodeName,
    /// Our VTEP: outer source of every packet.
    pub vtep: Ipv4Addr,
    /// UDP and TCP port of the gossip.
    pub gossip_port: u16,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// MTU of the interface that holds `vtep`, in bytes.
    pub underlay_mtu: u16,
    /// True when the configuration names hosts to join, or an earlier run knew some: then the
    /// first exchange with one of them is awaited before old rows are removed.
    pub expects_peers: bool,
    /// The scope that Docker is told; `None`: what its configuration asks for.
    pub docker_scope: Option<Scope>,
    /// What is allowed in the configuration, but likely not meant.
    pub warnings: Vec<String>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Core {
    me: Identity,
    started: Instant,
    /// Of the event that is being handled.
    now: Instant,
    networks: BTreeMap<u64, Network>,
    local: BTreeMap<String, Local>,
    remotes: Remotes,
    docker: Docker,
    proposals: BTreeMap<IpNet, Proposal>,
    /// Addresses that Docker asked for and has made no endpoint of yet.
    unbound: BTreeMap<(u64, IpAddr), Unbound>,
    /// Docker's endpoints that run → their containers; none: Docker was not heard yet.
    running: Option<BTreeMap<String, String>>,
    /// Networks in use here that the store does not know (any more).
    orphaned: BTreeSet<u64>,
    /// Revision of the newest list of networks.
    revision: u64,
    /// The id that the store gives to the next network.
    next_network: u64,
    /// The store gave its list of networks since the start.
    heard_store: bool,
    /// Releases that the store has not taken yet.
    releases: BTreeSet<(u64, IpAddr)>,
    calls: BTreeMap<CallId, store::Continuation>,
    next_call: u64,
    actions: VecDeque<Action>,
    desired_version: u64,
    state_version: u64,
    settled: bool,
    /// A peer was heard since the start.
    synced: bool,
    settle_at: Option<Instant>,
    reconcile_at: Option<Instant>,
    release_at: Option<Instant>,
    audit_at: Instant,
    sandboxes_at: Instant,
    /// The kernel was brought to the desired state at least once, without (`true`) or with failures.
    passed: Option<bool>,
    leaving: Option<Leaving>,
    health: Health,
    telling: Telling,
    /// Version of the desired state that the kernel was brought to last, and whether all of it.
    kernel_has: Option<(u64, bool)>,
}

/// An address that Docker asked for.
#[derive(Clone, Copy, Debug)]
struct Unbound {
    generation: u64,
    /// `--ip`: the user chose it.
    fixed: bool,
    since: Instant,
}

/// What is wrong, for status.
#[derive(Debug, Default)]
struct Health {
    store: Option<String>,
    docker: Option<String>,
    disk: Option<String>,
    dns: Vec<String>,
    /// Why metrics are not served.
    metrics: Option<String>,
    /// A network of the store that cannot be what it says.
    foreign: Option<String>,
    name_conflict: Option<std::net::SocketAddr>,
    /// A host speaks another version of the gossip; heard last then.
    other_format: Option<(Instant, OtherFormat)>,
    /// What somebody told that cannot be: the last of each kind, and when.
    oddities: Vec<(Instant, Oddity)>,
    dataplane: Vec<Trouble>,
    repaired: u64,
    /// What the last audit found changed by others.
    drift: u64,
    /// The last audit that put something right.
    repaired_at: Option<Instant>,
}

impl Core {
    /// Starts from what the last run wrote down. `known`: there was such a state, so leases of
    /// ours that it does not name are leftovers.
    pub fn new(me: Identity, state: State, known: bool, now: Instant) -> Core {
        let mut docker = Docker::restored(state.docker_networks, state.docker_global);
        docker.returning = Returning::restored(state.returning, now);
        let mut core = Core {
            started: now,
            now,
            networks: BTreeMap::new(),
            local: BTreeMap::new(),
            remotes: Remotes::default(),
            docker,
            proposals: BTreeMap::new(),
            unbound: BTreeMap::new(),
            running: None,
            orphaned: BTreeSet::new(),
            revision: 0,
            next_network: 0,
            heard_store: false,
            releases: state.releases.into_iter().collect(),
            calls: BTreeMap::new(),
            next_call: 0,
            actions: VecDeque::new(),
            desired_version: 1,
            state_version: 1,
            settled: !me.expects_peers,
            synced: false,
            settle_at: None,
            reconcile_at: known.then(|| now + RECONCILE_AFTER),
            release_at: Some(now + RELEASE_RETRY),
            audit_at: now + AUDIT_INTERVAL,
            sandboxes_at: now + SANDBOX_INTERVAL,
            passed: None,
            leaving: None,
            health: Health {
                store: Some("it was not asked yet".into()),
                docker: Some("not connected yet".into()),
                ..Health::default()
            },
            telling: Telling::default(),
            kernel_has: None,
            me,
        };
        for network in state.networks {
            core.learn_network(network);
        }
        for endpoint in state.endpoints {
            core.adopt(endpoint);
        }
        core.tell_start();
        core
    }

    /// Takes in one event. Never blocks, never fails; what follows from it are actions.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.now = now;
        match event {
            Event::Request(id, request) => self.request(now, id, request, false),
            Event::Store(call, answer) => self.store_answered(now, call, answer),
            Event::Networks(networks) => self.learn_networks(networks),
            Event::StoreHealth(error) => {
                self.level(Level::Store, error.as_deref());
                self.health.store = error;
            }
            Event::Gossip(changes) => self.gossip_changed(now, changes),
            Event::Applied { version, audit, report } => self.applied(version, audit, report),
            Event::Inspected(request, result) => self.inspected(request, result),
            Event::Moved { endpoint, ifname } => self.moved(&endpoint, ifname),
            Event::Probed { node, answers } => self.probed(now, &node, answers),
            Event::SandboxesGone(gone) => {
                gone.iter().for_each(|id| self.lost(id, "its sandbox is gone"));
            }
            Event::Containers { complete, list } => self.containers(complete, list),
            Event::ContainerGone(container) => self.container_gone(&container),
            Event::DockerNetworks(list) => self.docker_networks(list),
            Event::Docker(call, answer) => self.docker_answered(call, answer),
            Event::DockerHealth(error) => {
                self.level(Level::Docker, error.as_deref());
                self.docker_health(error);
            }
            Event::DiskHealth(error) => {
                self.level(Level::State, error.as_deref());
                self.health.disk = error;
                self.refuse_half_made();
            }
            Event::DnsHealth(errors) => {
                self.level(Level::Dns, errors.first().map(String::as_str));
                self.health.dns = errors;
            }
            Event::MetricsHealth(error) => {
                self.level(Level::Metrics, error.as_deref());
                self.health.metrics = error;
            }
            Event::Reconfigured { warnings, changes } => {
                self.me.warnings = warnings;
                self.tell_reload(changes);
            }
            Event::Timeout => self.timeout(now),
        }
        self.go_on_leaving();
        self.hand_over_notices();
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        [
            self.settle_at,
            self.reconcile_at,
            self.release_at,
            self.remotes.next_timeout(),
            // Until the store was heard nothing of Docker's networks can be tried.
            self.docker.next_retry().filter(|_| self.leaving.is_none() && self.heard_store),
            self.docker.returning.next_expiry(),
            self.next_overdue(),
            self.leaving_timeout(),
            self.names_timeout(),
        ]
        .into_iter()
        .flatten()
        .fold(self.audit_at.min(self.sandboxes_at), Instant::min)
    }

    /// Counts up whenever [`Core::desired`] would differ.
    pub fn desired_version(&self) -> u64 {
        self.desired_version
    }

    /// Counts up whenever [`Core::state`] would differ.
    pub fn state_version(&self) -> u64 {
        self.state_version
    }

    fn request(&mut self, now: Instant, id: RequestId, request: Request, fresh: bool) {
        if self.calls.len() >= PENDING_MAX {
            let busy =
                format!("the agent is busy with {PENDING_MAX} requests; try again in a moment");
            return self.reply(id, Err(Refusal::unavailable(busy)));
        }
        if let (Some(error), true) = (&self.health.disk, request.needs_memory()) {
            let why = format!(
                "the agent's state cannot be written ({error}); make room in --state-dir and try again"
            );
            return self.reply(id, Err(Refusal::unavailable(why)));
        }
        if let Err(refusal) = self.refuse_leaving(&request) {
            return self.reply(id, Err(refusal));
        }
        let answer = match request {
            Request::Status => Ok(Some(Response::Status(Box::new(self.status(now))))),
            Request::Diagnose => Ok(Some(Response::Diagnosis(Box::new(self.diagnosis(now))))),
            Request::Members => Ok(Some(Response::Members(self.members()))),
            Request::Networks => Ok(Some(Response::Networks(self.network_list()))),
            Request::Endpoints(network) => {
                self.endpoint_list(network.as_deref()).map(|l| Some(Response::Endpoints(l)))
            }
            Request::Network(ref name) => match self.network_detail(name) {
                Err(_) if !fresh => return self.refresh_then(id, request),
                answer => answer.map(|detail| Some(Response::Network(detail))),
            },
            Request::NetworkId(name) => {
                self.network_or_refuse(&name).map(|n| Some(Response::NetworkId(n.id.0)))
            }
            Request::TraceEnds(question) => {
                self.trace_ends(&question).map(|ends| Some(Response::TraceEnds(Box::new(ends))))
            }
            Request::CreateNetwork(spec) => {
                self.call(StoreCall::CreateNetwork(spec), store::Continuation::Create(id));
                Ok(None)
            }
            Request::RemoveNetwork(name) => {
                if let Some(refusal) =
                    self.network_named(name.as_ref()).and_then(|n| self.refuse_used(n.id.0))
                {
                    return self.reply(id, Err(refusal));
                }
                self.call(StoreCall::RemoveNetwork(name), store::Continuation::Remove(id));
                Ok(None)
            }
            Request::Attach(ref target) => match self.attach(id, target) {
                Err(Refusal { kind: RefusalKind::NotFound, .. }) if !fresh => {
                    return self.refresh_then(id, request);
                }
                answer => answer.map(|()| None),
            },
            Request::LeaveCluster { force } => self.leave_cluster(id, force).map(|()| None),
            Request::Figures => Ok(Some(Response::Figures(Box::new(self.figures())))),
            Request::Explain(asked) => {
                self.explain(&asked).map(|told| Some(Response::Explained(Box::new(told))))
            }
            Request::Audit { repair } => {
                self.inspect(id, repair);
                Ok(None)
            }
            Request::Detach { network, name } => self.detach(id, &network, &name).map(|()| None),
            Request::Scope(_)
            | Request::Pool(_)
            | Request::ReleasePool(_)
            | Request::Address(_)
            | Request::ReleaseAddress(..)
            | Request::DockerNetwork(_)
            | Request::DeleteDockerNetwork(_)
            | Request::CreateEndpoint(_)
            | Request::DeleteEndpoint(_)
            | Request::Join(_)
            | Request::Leave(_) => return self.docker_request(id, request, fresh),
        };
        self.answer(id, answer);
    }

    /// `Ok(None)`: the reply comes later.
    fn answer(&mut self, id: RequestId, answer: Result<Option<Response>, Refusal>) {
        match answer {
            Ok(None) => {}
            Ok(Some(response)) => self.reply(id, Ok(response)),
            Err(refusal) => self.reply(id, Err(refusal)),
        }
    }

    fn reply(&mut self, id: RequestId, answer: Result<Response, Refusal>) {
        self.actions.push_back(Action::Reply(id, answer));
    }

    fn timeout(&mut self, now: Instant) {
        if self.settle_at.is_some_and(|at| at <= now) {
            self.settle_at = None;
            self.settled = true;
            self.touch_desired();
        }
        if self.reconcile_at.is_some_and(|at| at <= now) {
            self.reconcile_at = None;
            self.reconcile_leases(now);
        }
        if self.release_at.is_some_and(|at| at <= now) {
            self.release_at = None;
            self.retry_releases();
        }
        if self.sandboxes_at <= now {
            self.sandboxes_at = now + SANDBOX_INTERVAL;
            self.check_sandboxes();
            self.look_at_conflicts();
            self.remove_stale(now);
        }
        if self.audit_at <= now {
            self.audit_at = now + AUDIT_INTERVAL;
            self.actions.push_back(Action::Audit);
        }
        if self.docker.next_retry().is_some_and(|at| at <= now) {
            self.match_networks();
        }
        if self.health.store.is_some() {
            self.docker.returning.hold(now);
        }
        if self.docker.returning.expire(now) {
            self.touch_state();
        }
        self.refuse_overdue();
        self.remote_timeout(now);
    }

    fn touch_desired(&mut self) {
        self.desired_version += 1;
    }

    fn touch_state(&mut self) {
        self.state_version += 1;
    }

    /// The overlay's MTU on a network: the user's, else what fits the underlay.
    fn mtu(&self, network: &Network) -> u16 {
        network.mtu.unwrap_or_else(|| self.me.underlay_mtu.saturating_sub(VXLAN_OVERHEAD))
    }

    fn network_named(&self, name: &str) -> Option<&Network> {
        self.networks.values().find(|network| network.name.as_ref() as &str == name)
    }
}
