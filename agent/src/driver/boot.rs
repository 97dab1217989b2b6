//! What has to be there before the first event, in the order in which others may rely on it:
//! memory, kernel, gossip, DNS, and only then the sockets that ask for something.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ovl_gossip::Gossip;
use ovl_ipam::Defaults;
use ovl_vxlan::Dataplane;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::dataplane::Kernel;
use super::disk::{StateError, StateFile, next_epoch};
use super::readiness::Readiness;
use super::registry::Store;
use super::reload::{Read, Settings};
use super::sandboxes::{Presence, Sandboxes, presence};
use super::{Agent, Driver, EVENTS_MAX, now, wall_clock};
use crate::capture::Captures;
use crate::config::Config;
use crate::control::{self, Access};
use crate::core::{Core, Event, Identity, Kind, Notice, State, VXLAN_OVERHEAD};
use crate::dns::{Names, Resolver};
use crate::docker::{Engine, EngineEvent, PluginServer};
use crate::events::Log;
use crate::log;
use crate::metrics::{self, Instruments, Metrics};
use crate::peers::Peers;
use crate::preflight::{self, Failure};
use crate::probe::Prober;
use crate::systemd::{Kept, Manager};
use crate::trace::Watches;
use crate::unix_socket::{BindError, UnixSocket};

/// The driver's name in Docker: `docker network create -d ovl`.
const DRIVER: &str = "ovl";

/// Reloads that wait; who asks for one more waits, too.
const RELOADS_MAX: usize = 4;

/// How long the cluster is given to hear that this agent stops.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// How long each socket's open connections are given when the agent stops.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// Why the agent did not start. What ran before still runs.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host is not ready; each failure says what to do.
    #[error("this host is not ready for ovl")]
    Preflight(Vec<Failure>),
    /// The agent's memory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Endpoints of the last run hold their addresses under another node name.
    #[error(
        "this host was {was} and is to be {is}, but {endpoints} endpoints run here whose addresses are held by {was}; start with --node-name {was} and detach them first"
    )]
    Renamed {
        /// The name in the state.
        was: String,
        /// The configured one.
        is: String,
        /// How many endpoints.
        endpoints: usize,
    },
    /// The kernel did not let us in.
    #[error("the kernel's network cannot be managed")]
    Kernel(#[source] ovl_vxlan::OpenError),
    /// The gossip's sockets.
    #[error("the gossip did not start")]
    Gossip(#[source] ovl_gossip::StartError),
    /// The control or the plugin socket.
    #[error("the {what} did not start")]
    Socket {
        /// Which one.
        what: &'static str,
        /// Why.
        source: BindError,
    },
}

/// What the agent has from the program around it.
pub struct Outside {
    /// Who started the agent.
    pub manager: Manager,
    /// Reads the settings again.
    pub read: Read,
    /// Changes what is logged.
    pub log: log::Handle,
}

/// How the agent ended, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// The host has left the cluster, and should not be started again by itself.
    Left,
}

/// Runs the agent until `stop` completes, or its host leaves the cluster. Stopping takes nothing down.
/// `warnings` are of the configuration, for its status.
///
/// # Errors
/// Only from the start; once it runs, what fails is tried again and shown in its status.
pub async fn run(
    config: Config,
    warnings: Vec<String>,
    outside: Outside,
    stop: impl Future<Output = ()>,
) -> Result<Ended, RunError> {
    let Outside { manager, read, log } = outside;
    manager.status("starting");
    let mut kept = manager.take_kept();
    let vtep = check_host(&config).await?;
    let (state_file, state) = StateFile::open(&config.state_dir)?;
    let dataplane = Dataplane::open().await.map_err(RunError::Kernel)?;
    for warning in dataplane.warnings() {
        tracing::warn!("{warning}");
    }
    let underlay_mtu = dataplane.underlay_mtu(vtep).await.unwrap_or(1500);
    let known = state.is_some();
    let state = still_there(state.unwrap_or_default(), &mut kept);
    let node: &str = config.node_name.as_ref();
    if !state.endpoints.is_empty() && state.node != node {
        let endpoints = state.endpoints.len();
        return Err(RunError::Renamed { was: state.node, is: node.to_owned(), endpoints });
    }
    let (mut warnings, joins) =
        (warnings, joins_others(&config.join, SocketAddrV4::new(vtep, config.gossip_port)));
    if vtep.is_loopback() && joins {
        warnings.push(format!(
            "advertise comes to {vtep}, at which no other host reaches this one; set it to the address or interface between the hosts"
        ));
    }
    let shown = warnings.clone();
    let me = Identity {
        node: config.node_name.clone(),
        vtep,
        gossip_port: config.gossip_port,
        vxlan_port: config.vxlan_port,
        underlay_mtu,
        warnings,
        expects_peers: joins || !state.peers.is_empty(),
        docker_scope: config.docker_scope,
    };
    tracing::info!(node = %me.node, address = %vtep, store = %config.store, endpoints = state.endpoints.len(), "starting");

    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let (requests_in, requests) = mpsc::channel(EVENTS_MAX);
    let (reloads_in, reloads) = mpsc::channel(RELOADS_MAX);
    let (rereads_in, rereads) = mpsc::channel(RELOADS_MAX);
    let names = Arc::new(RwLock::new(Names::default()));
    let resolver = Resolver::new(names.clone(), config.resolv_conf.clone());
    let log_of_events = Arc::new(Log::new(wall_clock()));
    let advertise = SocketAddrV4::new(vtep, config.gossip_port);
    let epoch = next_epoch(&config.state_dir)?;
    let peers = state.peers.clone();
    let core = Core::new(me, state, known, now());
    let gossip = Gossip::start(ovl_gossip::Config {
        name: config.node_name.clone(),
        advertise,
        seeds: config.join.clone(),
        known: peers,
        epoch,
        endpoints: core.announcements(),
    })
    .await
    .map_err(RunError::Gossip)?;
    tokio::spawn(follow_gossip(gossip.clone(), events_in.clone()));
    let instruments = Instruments::default();
    let kernel = Kernel::start(dataplane, instruments.clone(), events_in.clone());
    let store = Store::start(
        config.store.clone(),
        defaults(&config),
        config.node_name.clone(),
        (kernel.routes(), instruments.clone()),
        events_in.clone(),
    );
    let shared = Arc::new(RwLock::new(Arc::new(config.clone())));
    let agent = Agent {
        requests: requests_in,
        reloads: reloads_in,
        names: names.clone(),
        resolver: resolver.clone(),
        log: log_of_events.clone(),
        store_url: config.store.to_string().into(),
        state_dir: config.state_dir.as_path().into(),
        config: shared.clone(),
        peers: Peers {
            gossip: gossip.clone(),
            node: config.node_name.clone(),
            vtep,
            vxlan_mtu: underlay_mtu.saturating_sub(VXLAN_OVERHEAD),
        },
        prober: Prober::start(vtep),
        watches: Watches::default(),
        captures: Arc::new(Captures::new(config.node_name.to_string(), config.vxlan_port)),
        registry: store.found(),
        instruments: instruments.clone(),
    };
    let (metrics, address) = Metrics::at(config.metrics_address);
    let (engine, told) = Engine::follow(config.docker_host.clone(), DRIVER);
    let sandboxes = Sandboxes::new(resolver.clone(), kernel.preparer(), manager, kept);
    let mut driver = Driver {
        core,
        events,
        events_in: events_in.clone(),
        requests,
        reloads,
        rereads,
        rereads_in,
        replies: std::collections::BTreeMap::new(),
        next_request: 0,
        held: std::collections::VecDeque::new(),
        gossip: gossip.clone(),
        kernel,
        store,
        names,
        log: log_of_events.clone(),
        resolver,
        sandboxes,
        daemon: engine.daemon(),
        state_file,
        settings: Settings { in_force: config.clone(), shared, read, log, shown },
        readiness: Readiness::new(manager),
        metrics,
        instruments,
        left: false,
    };
    let servers = Servers::open(&config, &agent).await?;
    tokio::spawn(control::answer_peers(agent.clone()));
    tokio::spawn(metrics::follow(agent.clone(), address, events_in.clone()));
    tokio::spawn(follow_docker(told, events_in));
    tracing::info!(gossip = %advertise, control = %config.control_socket.display(), plugin = %config.plugin_socket.display(), "serving");
    let ended = driver.run(pin!(stop)).await;
    drop(engine);
    tracing::info!("stopping; endpoints stay as they are");
    manager.stopping();
    let last = Notice::new(Kind::AgentStopping, "this agent stops; endpoints stay as they are");
    log_of_events.push(wall_clock(), last);
    log_of_events.close();
    // Names are answered meanwhile, and what was forwarded has time to come back.
    gossip.leave(LEAVE_WITHIN).await;
    agent.captures().close();
    servers.close().await;
    driver.sandboxes.hand_over();
    Ok(ended)
}

/// This host may be among those to join by, and alone so far.
fn joins_others(join: &[String], own: SocketAddrV4) -> bool {
    join.iter().any(|seed| *seed != own.to_string())
}

pub(super) fn defaults(config: &Config) -> Defaults {
    let usual = Defaults::default();
    // A pool that is smaller than the usual network is one network.
    let prefix_len = usual.prefix_len.max(config.default_pool.prefix_len());
    Defaults { pool: config.default_pool, prefix_len, vnis: config.vni_range }
}

/// Endpoints whose sandbox went while no agent ran are not adopted; their leases are given back. What was
/// kept of such a sandbox is closed at once: it holds the namespace, and the interface in it.
fn still_there(mut state: State, kept: &mut Kept) -> State {
    let mut alive = BTreeSet::new();
    let gone = state.forget_endpoints(|sandbox| match presence(sandbox) {
        Presence::There((_, inode)) => {
            alive.insert(inode);
            false
        }
        Presence::Unknown => {
            alive.extend(sandbox.id.map(|(_, inode)| inode));
            false
        }
        Presence::Gone => true,
    });
    kept.retain(|inode, _| alive.contains(inode));
    if gone > 0 {
        tracing::info!(gone, "endpoints of the last run whose sandbox is gone were dropped");
    }
    state
}

/// Everything that keeps this host from running the agent, at once; else its address.
async fn check_host(config: &Config) -> Result<Ipv4Addr, RunError> {
    let address = preflight::address(&config.advertise);
    let report =
        preflight::check(config, *address.as_ref().unwrap_or(&Ipv4Addr::UNSPECIFIED)).await;
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    let mut failures = report.failures;
    let unknown = address.as_ref().err().cloned();
    if unknown.is_some() {
        // On which address a port is free is only known with the address.
        failures.retain(|failure| !failure.check.starts_with("gossip port"));
    }
    failures.splice(0..0, unknown);
    match (address, failures.is_empty()) {
        (Ok(address), true) => Ok(address),
        (Ok(_) | Err(_), _) => Err(RunError::Preflight(failures)),
    }
}

async fn follow_gossip(gossip: Gossip, events: mpsc::Sender<Event>) {
    loop {
        let changes = gossip.changes().await;
        if events.send(Event::Gossip(changes)).await.is_err() {
            return;
        }
    }
}

async fn follow_docker(mut told: mpsc::Receiver<EngineEvent>, events: mpsc::Sender<Event>) {
    while let Some(event) = told.recv().await {
        let event = match event {
            EngineEvent::Connected { version } => {
                tracing::info!(version, "connected to Docker's engine");
                Event::DockerHealth(None)
            }
            EngineEvent::Lost { why } => Event::DockerHealth(Some(why)),
            EngineEvent::Networks(list) => Event::DockerNetworks(list),
            EngineEvent::Containers(list) => Event::Containers { complete: true, list },
            EngineEvent::Changed(list) => Event::Containers { complete: false, list },
            EngineEvent::Gone { container } => Event::ContainerGone(container),
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// The control and the plugin socket, served until dropped or stopped.
struct Servers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Servers {
    async fn open(config: &Config, agent: &Agent) -> Result<Servers, RunError> {
        let failed = |what| move |source| RunError::Socket { what, source };
        let group = config.control_group.as_ref();
        let control = UnixSocket::bind(&config.control_socket, group.map(|group| group.gid))
            .await
            .map_err(failed("control socket"))?;
        let access = Access::of(group);
        let plugin =
            PluginServer::bind(&config.plugin_socket).await.map_err(failed("plugin socket"))?;
        let (stop, stopping) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(control::serve(control, access, agent.clone(), stopped(stopping.clone()))),
            tokio::spawn(plugin.serve(Arc::new(agent.clone()), stopped(stopping))),
        ];
        Ok(Servers { stop, tasks })
    }

    /// Takes the socket files away; who is still connected gets a moment.
    async fn close(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = tokio::time::timeout(CLOSE_WITHIN, task).await;
        }
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // The sender gone is a stop, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}
