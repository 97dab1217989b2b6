//! The task that finds the store and watches it, and the calls on it.
//!
//! The agent starts without the store, too: containers that run keep running, and are adopted
//! from the state file. Until the store is found, what needs it is refused with its last error.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use ovl_gossip::NodeName;
use ovl_ipam::{
    AllocateError, CreateNetworkError, Defaults, Holder, Network, NetworkName, NetworkSpec,
    Networks, Registry, RemoveNetworkError, StoreError, StoreUrl,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::dataplane::Routes;
use crate::core::{CallId, Event, Refusal, RefusalKind, StoreAnswer, StoreCall};
use crate::metrics::{Instruments, Outcome, StoreCallKind};

/// No call on the store takes longer.
const DEADLINE: Duration = Duration::from_secs(5);

/// One watch of the list of networks; then the next. It bounds how long a store that hangs, or that
/// is back, goes unnoticed when nobody calls it.
const WATCH: Duration = Duration::from_secs(10);

/// How often a network that is in use is looked at again before its removal is refused.
const REMOVE_TRIES: u32 = 8;
const REMOVE_PAUSE: Duration = Duration::from_millis(250);

/// After a store that does not answer is asked again: at first, and at most.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Nobody listens any more.
struct Gone;

/// The registry, once it is found; else why not.
pub(super) type Found = Arc<RwLock<Result<Registry, String>>>;

/// The store, and how it is called.
#[derive(Clone)]
pub(super) struct Store {
    found: Found,
    /// Whether it was tried. Calls wait for that: what is asked of an agent that was just started
    /// is not refused for want of milliseconds.
    tried: watch::Sender<bool>,
    /// One renewal at a time, so that the newest token is the last.
    renewing: Arc<tokio::sync::Mutex<()>>,
    /// For networks that leave them open.
    defaults: Arc<RwLock<Defaults>>,
    node: NodeName,
    routes: Routes,
    instruments: Instruments,
}

impl Store {
    /// Starts looking for it.
    pub(super) fn start(
        url: StoreUrl,
        defaults: Defaults,
        node: NodeName,
        (routes, instruments): (Routes, Instruments),
        events: mpsc::Sender<Event>,
    ) -> Store {
        let found = Arc::new(RwLock::new(Err("it was not asked yet".to_owned())));
        let defaults = Arc::new(RwLock::new(defaults));
        let (tried, renewing) = (watch::Sender::new(false), Arc::default());
        let store = Store { found, tried, renewing, defaults, node, routes, instruments };
        tokio::spawn(store.clone().follow(url, events));
        store
    }

    /// The registry as it is found, for whoever looks at it.
    pub(super) fn found(&self) -> Found {
        self.found.clone()
    }

    /// Other choices for networks that leave them open, from now on.
    pub(super) fn set_defaults(&self, defaults: Defaults) {
        *self.defaults.write().unwrap_or_else(std::sync::PoisonError::into_inner) = defaults;
        let found = self.found.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Ok(registry) = found {
            self.set(Ok(registry.with_defaults(self.defaults())));
        }
    }

    /// Takes the token and the certificates that are in their files now.
    ///
    /// # Errors
    /// Why the former ones stay in use.
    pub(super) async fn renew(&self) -> Result<(), String> {
        let _turn = self.renewing.lock().await;
        let found = self.found.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        match found {
            Ok(registry) => registry.renew().await.map_err(|error| crate::chain(&error)),
            // Read at each try.
            Err(_) => Ok(()),
        }
    }

    fn defaults(&self) -> Defaults {
        self.defaults.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Makes the call in a task; the answer comes as [`Event::Store`].
    pub(super) fn call(&self, id: CallId, call: StoreCall, events: mpsc::Sender<Event>) {
        let (store, kind) = (self.clone(), StoreCallKind::from(&call));
        tokio::spawn(async move {
            let begin = Instant::now();
            let answer = match store.first_try().await {
                Ok(registry) => {
                    let call = avoiding(call, &store.routes).await;
                    carry_out(&registry, store.node.as_ref(), call).await
                }
                Err(why) => Err(Refusal::unavailable(format!("the store does not answer: {why}"))),
            };
            store.instruments.store_called(kind, outcome(&answer), begin.elapsed());
            // A store that hangs shows in a call before it shows in the watch.
            let health = match &answer {
                Ok(_) => Some(None),
                Err(refusal) if refusal.kind == RefusalKind::Unavailable => {
                    Some(Some(refusal.message.clone()))
                }
                Err(_) => None,
            };
            if let Some(health) = health {
                let _ = events.send(Event::StoreHealth(health)).await;
            }
            let _ = events.send(Event::Store(id, answer)).await;
        });
    }

    async fn follow(self, url: StoreUrl, events: mpsc::Sender<Event>) {
        let mut retry = RETRY;
        let registry = loop {
            match Registry::open(&url, self.defaults(), DEADLINE).await {
                Ok(registry) => break registry,
                Err(error) => {
                    let why = crate::chain(&error);
                    if retry == RETRY {
                        tracing::warn!(error = why, "the store does not answer; trying again");
                    }
                    self.set(Err(why.clone()));
                    if unhealthy(&events, why, &mut retry).await.is_err() {
                        return;
                    }
                }
            }
        };
        self.set(Ok(registry.with_defaults(self.defaults())));
        watch(&registry, &events).await;
    }

    /// The registry as it is found, once it was looked for: which takes no longer than a call.
    async fn first_try(&self) -> Result<Registry, String> {
        // The sender is this one's own: it is not dropped meanwhile.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
        self.found.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set(&self, found: Result<Registry, String>) {
        *self.found.write().unwrap_or_else(std::sync::PoisonError::into_inner) = found;
        self.tried.send_replace(true);
    }
}

fn outcome(answer: &Result<StoreAnswer, Refusal>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Ok,
        Err(refusal) if refusal.kind == RefusalKind::Unavailable => Outcome::Failed,
        Err(_) => Outcome::Refused,
    }
}

/// The networks, and then every change of them, as long as anybody listens.
async fn watch(registry: &Registry, events: &mpsc::Sender<Event>) {
    let (mut known, mut healthy, mut retry) = (None, false, RETRY);
    loop {
        let answer = match known {
            // After an error too: that it answers again must not wait for a change.
            Some(revision) if healthy => registry.watch_networks(revision, WATCH).await,
            Some(_) | None => registry.networks().await,
        };
        let sent = match answer {
            Ok(networks) => {
                retry = RETRY;
                let news = known.replace(networks.revision) != Some(networks.revision);
                heard(events, networks, news, &mut healthy).await
            }
            Err(error) => {
                let why = crate::chain(&error);
                if std::mem::replace(&mut healthy, false) {
                    tracing::warn!(
                        error = why,
                        "the store does not answer; what runs goes on, new networks and addresses wait for it"
                    );
                }
                unhealthy(events, why, &mut retry).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn heard(
    events: &mpsc::Sender<Event>,
    networks: Networks,
    news: bool,
    healthy: &mut bool,
) -> Result<(), Gone> {
    if !std::mem::replace(healthy, true) {
        tracing::info!("the store answers");
    }
    // A call may have found it silent meanwhile.
    events.send(Event::StoreHealth(None)).await.map_err(|_| Gone)?;
    if news {
        events.send(Event::Networks(networks)).await.map_err(|_| Gone)?;
    }
    Ok(())
}

async fn unhealthy(
    events: &mpsc::Sender<Event>,
    why: String,
    retry: &mut Duration,
) -> Result<(), Gone> {
    events.send(Event::StoreHealth(Some(why))).await.map_err(|_| Gone)?;
    tokio::time::sleep(*retry).await;
    *retry = (*retry * 2).min(RETRY_MAX);
    Ok(())
}

/// What is picked for the user keeps clear of this host's own routes.
async fn avoiding(call: StoreCall, routes: &Routes) -> StoreCall {
    match call {
        StoreCall::CreateNetwork(mut spec) if spec.subnet.is_none() => {
            spec.avoid.extend(routes.used().await);
            StoreCall::CreateNetwork(spec)
        }
        StoreCall::EnsureNetwork(mut spec) if spec.subnet.is_none() => {
            spec.avoid.extend(routes.used().await);
            StoreCall::EnsureNetwork(spec)
        }
        StoreCall::ProposeSubnet(mut avoid) => {
            avoid.extend(routes.used().await);
            StoreCall::ProposeSubnet(avoid)
        }
        call => call,
    }
}

async fn carry_out(
    registry: &Registry,
    node: &str,
    call: StoreCall,
) -> Result<StoreAnswer, Refusal> {
    match call {
        StoreCall::Networks => registry.networks().await.map(StoreAnswer::Networks).map_err(store),
        StoreCall::CreateNetwork(spec) => {
            registry.create_network(spec).await.map(StoreAnswer::Network).map_err(create)
        }
        StoreCall::EnsureNetwork(spec) => ensure(registry, spec).await.map(StoreAnswer::Network),
        StoreCall::RemoveNetwork(name) => {
            remove_network(registry, &name).await.map(StoreAnswer::Network)
        }
        StoreCall::ProposeSubnet(avoid) => {
            let subnet = registry.propose_subnet(&avoid).await;
            subnet.map(|subnet| StoreAnswer::Subnet(subnet.into())).map_err(create)
        }
        StoreCall::ProposeSubnet6(avoid) => {
            let subnet = registry.propose_subnet6(&avoid).await;
            subnet.map(|subnet| StoreAnswer::Subnet(subnet.into())).map_err(create)
        }
        StoreCall::Allocate { network, wanted, endpoint } => {
            let holder = Holder { node: node.to_owned(), endpoint };
            let lease = registry.allocate(network, wanted, holder).await;
            lease.map(StoreAnswer::Lease).map_err(allocate)
        }
        StoreCall::Release { network, address } => {
            registry.release(network, address, node).await.map(|_| StoreAnswer::Done).map_err(store)
        }
        StoreCall::ReleaseLease(lease) => {
            registry.release_lease(&lease).await.map(|_| StoreAnswer::Done).map_err(store)
        }
        StoreCall::ReleaseNode => {
            registry.release_node(node).await.map(StoreAnswer::Released).map_err(store)
        }
        StoreCall::Leases(network) => {
            registry.leases(network).await.map(StoreAnswer::Leases).map_err(store)
        }
    }
}

/// The network of that name and subnet, made if there is none; two hosts may do this at once.
async fn ensure(registry: &Registry, spec: NetworkSpec) -> Result<Network, Refusal> {
    let subnet = spec.subnet;
    match registry.create_network(spec).await {
        Err(CreateNetworkError::NameTaken { existing, .. })
            if subnet == Some(existing.subnet) && !existing.removing =>
        {
            Ok(*existing)
        }
        answer => answer.map_err(create),
    }
}

/// An address is given back a moment after its container was removed, perhaps on another host: what
/// is in use is looked at again before it is an error.
async fn remove_network(registry: &Registry, name: &NetworkName) -> Result<Network, Refusal> {
    for _ in 0..REMOVE_TRIES {
        match registry.remove_network(name).await {
            Err(RemoveNetworkError::InUse { .. }) => tokio::time::sleep(REMOVE_PAUSE).await,
            answer => return answer.map_err(remove),
        }
    }
    registry.remove_network(name).await.map_err(remove)
}

fn store(error: StoreError) -> Refusal {
    Refusal::unavailable(crate::chain(&error))
}

fn create(error: CreateNetworkError) -> Refusal {
    use CreateNetworkError as E;
    let kind = match &error {
        E::NameTaken { .. }
        | E::Overlap { .. }
        | E::NoFreeSubnet { .. }
        | E::NoFreeSubnet6 { .. }
        | E::NoFreeVni { .. }
        | E::TooLarge(_) => RefusalKind::Conflict,
        E::Subnet(_)
        | E::Gateway { .. }
        | E::Range { .. }
        | E::EmptyRange { .. }
        | E::Aux { .. }
        | E::AuxName(_)
        | E::TooManyAux { .. }
        | E::DockerTooLong { .. }
        | E::Mtu { .. } => RefusalKind::Invalid,
        E::Store(_) => RefusalKind::Unavailable,
    };
    refusal(kind, &error)
}

fn remove(error: RemoveNetworkError) -> Refusal {
    use RemoveNetworkError as E;
    let kind = match &error {
        E::NotFound(_) => RefusalKind::NotFound,
        E::InUse { .. } => RefusalKind::Conflict,
        E::Store(_) => RefusalKind::Unavailable,
    };
    refusal(kind, &error)
}

fn allocate(error: AllocateError) -> Refusal {
    use AllocateError as E;
    let kind = match &error {
        E::NotFound(_) => RefusalKind::NotFound,
        E::Store(_) => RefusalKind::Unavailable,
        E::Holder(_) => RefusalKind::Invalid,
        E::Exhausted { .. }
        | E::Outside { .. }
        | E::Reserved { .. }
        | E::Aside { .. }
        | E::TooMany { .. }
        | E::NoIpv6 { .. }
        | E::Taken { .. } => RefusalKind::Conflict,
    };
    refusal(kind, &error)
}

fn refusal(kind: RefusalKind, error: &dyn std::error::Error) -> Refusal {
    Refusal { kind, message: crate::chain(error) }
}
