//! Carries out the core's actions, and turns what comes of them into events.
//!
//! One task owns the [`Core`] and runs the loop: wait for an event, feed it, write down
//! the state if it moved, carry out the actions, hand the desired state to the kernel's task if it
//! moved. Everything that may wait (the store, the kernel, a namespace, a host) runs in a task of
//! its own and comes back as an event, so nothing slow stands in the way of anything else.
//!
//! - `boot`: what has to be there before the first event.
//! - `dataplane`: the task that owns the kernel.
//! - `registry`: the task that finds the store, and the calls on it.
//! - `sandboxes`: DNS inside the containers' namespaces.
//! - `disk`: the state file.
//! - `docker`: Docker's requests, as requests to the core.
//! - `readiness`: what the service manager is told.
//! - `reload`: the configuration, read again.

mod boot;
mod dataplane;
mod disk;
mod docker;
mod readiness;
mod registry;
mod reload;
mod sandboxes;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use ovl_gossip::Gossip;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

pub use self::boot::{Ended, Outside, RunError, run};
use self::dataplane::Kernel;
use self::readiness::Readiness;
use self::registry::Store;
pub use self::reload::Read;
use self::reload::{Reread, Settings};
use self::sandboxes::{Presence, Sandboxes};
use crate::capture::Captures;
use crate::config::Config;
use crate::control::api::Reloaded;
use crate::core::{
    self, Action, Core, Event, NamesChange, Notice, Refusal, Request, RequestId, Response,
};
use crate::dns::{Counts, Durations, Names, Resolver};
use crate::docker::Daemon;
use crate::events::Log;
use crate::metrics::{Instruments, Metrics};
use crate::peers::Peers;
use crate::probe::Prober;
use crate::trace::Watches;

/// Exit code of an agent whose host has left the cluster: it is not to be started again by itself.
pub const EXIT_LEFT: u8 = 3;

/// Events that wait for the core. When it is full their senders wait: the store's watch, the
/// gossip and the engine coalesce on their side, and requests are answered later.
const EVENTS_MAX: usize = 1024;

/// How long a request is waited for before its caller is told so. Longer than the store's
/// deadline and the kernel's, so that their own errors arrive first.
const REQUEST_WITHIN: Duration = Duration::from_secs(20);

/// How long a host is given to show a sign of life, and how often it is asked.
const PROBE_WITHIN: Duration = Duration::from_millis(700);
const PROBE_TRIES: u32 = 3;

/// A way to ask the agent for something; cheap to clone.
#[derive(Clone)]
pub struct Agent {
    requests: mpsc::Sender<(Request, oneshot::Sender<Result<Response, Refusal>>)>,
    reloads: mpsc::Sender<oneshot::Sender<Result<Reloaded, String>>>,
    names: Arc<RwLock<Names>>,
    resolver: Resolver,
    log: Arc<Log>,
    store_url: Arc<str>,
    state_dir: Arc<Path>,
    config: Arc<RwLock<Arc<Config>>>,
    registry: registry::Found,
    peers: Peers,
    prober: Prober,
    watches: Watches,
    captures: Arc<Captures>,
    instruments: Instruments,
}

impl Agent {
    /// Asks, and waits for the answer. The request is carried out even if the caller goes away.
    ///
    /// # Errors
    /// The refusal; also when the agent is stopping or does not come to it in time.
    pub async fn ask(&self, request: Request) -> Result<Response, Refusal> {
        let (sender, answer) = oneshot::channel();
        let stopping = || Refusal::unavailable("the agent is stopping");
        self.requests.send((request, sender)).await.map_err(|_| stopping())?;
        match tokio::time::timeout(REQUEST_WITHIN, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(stopping())),
            Err(_) => Err(Refusal::unavailable(format!(
                "the agent did not come to an answer within {} s; what was asked may still be done",
                REQUEST_WITHIN.as_secs()
            ))),
        }
    }

    /// Reads the configuration again, and takes what can be taken.
    ///
    /// # Errors
    /// It has mistakes, and nothing was changed; or the agent is stopping.
    pub async fn reload(&self) -> Result<Reloaded, Refusal> {
        let (sender, answer) = oneshot::channel();
        let stopping = |_| Refusal::unavailable("the agent is stopping");
        self.reloads.send(sender).await.map_err(|_| stopping(()))?;
        answer.await.map_err(|_| stopping(()))?.map_err(Refusal::invalid)
    }

    /// The id of a network by its name.
    ///
    /// # Errors
    /// There is no such network.
    pub async fn network_id(&self, name: &str) -> Result<u64, Refusal> {
        match self.ask(Request::NetworkId(name.to_owned())).await? {
            Response::NetworkId(id) => Ok(id),
            other => Err(Refusal::unavailable(format!(
                "the agent gave an answer to another question: {other:?}"
            ))),
        }
    }

    /// One whose core has ended: it says of every request that the agent is stopping.
    #[cfg(test)]
    pub(crate) fn ended() -> Agent {
        let (requests, _) = mpsc::channel(1);
        let (reloads, _) = mpsc::channel(1);
        let sources = crate::config::Sources { host_name: Some("h".into()), ..Default::default() };
        let (config, _) = crate::config::parse(&sources).unwrap();
        Agent {
            requests,
            reloads,
            names: Arc::default(),
            resolver: Resolver::new(Arc::default(), "/nonexistent".into()),
            log: Arc::new(Log::new(jiff::Timestamp::UNIX_EPOCH)),
            store_url: "".into(),
            state_dir: Path::new("").into(),
            config: Arc::new(RwLock::new(Arc::new(config))),
            registry: Arc::new(RwLock::new(Err("it was not asked yet".to_owned()))),
            peers: Peers::alone(),
            prober: Prober::ended(),
            instruments: Instruments::default(),
            watches: Watches::default(),
            captures: Arc::new(Captures::new(String::new(), 4789)),
        }
    }

    /// The names table, for `resolve`.
    pub fn names(&self) -> &RwLock<Names> {
        &self.names
    }

    /// The host's resolvers, in the order in which they are asked now.
    pub fn upstreams(&self) -> Vec<std::net::SocketAddr> {
        self.resolver.upstreams()
    }

    /// What is counted and timed as it happens.
    pub(crate) fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// What DNS in containers has done, and how long answers took.
    pub(crate) fn dns_figures(&self) -> (Counts, Durations) {
        (self.resolver.counts(), self.resolver.durations())
    }

    /// What happened.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The store's address, without secrets.
    pub fn store_url(&self) -> &str {
        &self.store_url
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The registry, to look at; else why it was not found yet.
    pub(crate) fn registry(&self) -> Result<ovl_ipam::Registry, String> {
        self.registry.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The captures of this host.
    pub(crate) fn captures(&self) -> &Arc<Captures> {
        &self.captures
    }

    /// Where the agent keeps its state.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The other hosts' agents.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Where probes of traces are watched for.
    pub(crate) fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Probes of the ways to other hosts.
    pub(crate) fn prober(&self) -> &Prober {
        &self.prober
    }
}

/// Owns the core and everything that it acts through.
struct Driver {
    core: Core,
    events: mpsc::Receiver<Event>,
    events_in: mpsc::Sender<Event>,
    requests: mpsc::Receiver<(Request, oneshot::Sender<Result<Response, Refusal>>)>,
    reloads: mpsc::Receiver<oneshot::Sender<Result<Reloaded, String>>>,
    rereads: mpsc::Receiver<Reread>,
    rereads_in: mpsc::Sender<Reread>,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<Response, Refusal>>>,
    next_request: u64,
    /// Actions that wait for the disk; bounded by what the core has in hand: requests, endpoints
    /// and addresses.
    held: VecDeque<Action>,
    gossip: Gossip,
    kernel: Kernel,
    store: Store,
    names: Arc<RwLock<Names>>,
    log: Arc<Log>,
    resolver: Resolver,
    sandboxes: Sandboxes,
    daemon: Daemon,
    state_file: disk::StateFile,
    settings: Settings,
    readiness: Readiness,
    metrics: Metrics,
    instruments: Instruments,
    /// The host has left the cluster.
    left: bool,
}

impl Driver {
    /// Runs until `stop` is there, or the host has left the cluster. Nothing is taken down: the kernel
    /// keeps what it has.
    async fn run(
        &mut self,
        mut stop: std::pin::Pin<&mut (impl Future<Output = ()> + ?Sized)>,
    ) -> Ended {
        let mut hangups = signal(SignalKind::hangup()).ok();
        loop {
            self.flush().await;
            if self.left {
                return Ended::Left;
            }
            if self.core.knows_names(now()) {
                self.sandboxes.begin();
            }
            if let Some(notice) = self.readiness.tell(now(), &self.core, self.sandboxes.settled()) {
                self.instruments.ready();
                self.log.push(wall_clock(), notice);
            }
            let wake = tokio::time::Instant::from_std(self.core.poll_timeout());
            tokio::select! {
                () = &mut stop => return Ended::Stopped,
                // What comes of it is in the log.
                () = hangup(&mut hangups) => self.reread(None),
                Some(asker) = self.reloads.recv() => self.reread(Some(asker)),
                Some(reread) = self.rereads.recv() => self.reloaded(reread).await,
                Some(event) = self.events.recv() => self.feed(event),
                Some((request, reply)) = self.requests.recv() => self.accept(request, reply),
                () = tokio::time::sleep_until(wake) => self.feed(Event::Timeout),
                changed = self.sandboxes.progress() => if changed {
                    let problems = self.sandboxes.problems();
                    self.feed(Event::DnsHealth(problems));
                },
            }
        }
    }

    fn feed(&mut self, event: Event) {
        if matches!(event, Event::Applied { .. } | Event::Inspected(_, Ok(_))) {
            self.kernel.passed();
        }
        self.core.handle(now(), event);
    }

    fn accept(&mut self, request: Request, reply: oneshot::Sender<Result<Response, Refusal>>) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.replies.insert(id, reply);
        self.feed(Event::Request(id, request));
    }

    /// State to disk first: what is answered, announced, given back or done in the kernel after it is
    /// true after a crash, too. While the disk does not take it, all that waits; it is tried again
    /// with each event, and the core's own timers see to it that there is one.
    async fn flush(&mut self) {
        let disk = self.state_file.keep(&self.core);
        let durable = !matches!(disk, Some(Err(_)));
        if !durable {
            self.instruments.write_failed();
        }
        if let Some(news) = disk {
            self.feed(Event::DiskHealth(news.err()));
        }
        if durable {
            while let Some(action) = self.held.pop_front() {
                self.carry_out(action).await;
            }
        }
        while let Some(action) = self.core.poll_action() {
            if !durable && action.needs_memory() {
                self.held.push_back(action);
            } else {
                self.carry_out(action).await;
            }
        }
        if durable {
            self.kernel.keep(&self.core);
        }
    }

    /// What waits here is only the gossip's mailbox, which its task empties whatever we do.
    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::Reply(id, answer) => self.reply(id, answer),
            Action::Store(id, call) => self.store.call(id, call, self.events_in.clone()),
            Action::Announce(endpoint) => self.gossip.announce(endpoint).await,
            Action::Withdraw(id) => self.gossip.withdraw(id).await,
            Action::Names(change) => self.rename(change),
            Action::Docker(call) => docker::call(&self.daemon, call, self.events_in.clone()),
            Action::DnsEarly { netns, scope } => self.sandboxes.want_early(netns, scope),
            Action::Dns { netns, scope, embedded } => {
                self.sandboxes.want(netns, scope, embedded);
                let problems = self.sandboxes.problems();
                self.feed(Event::DnsHealth(problems));
            }
            Action::AwaitMove { endpoint, netns, mac } => {
                self.kernel.await_move(endpoint, netns, mac, self.events_in.clone());
            }
            Action::Probe { node, address } => {
                let events = self.events_in.clone();
                tokio::spawn(async move {
                    let answers = answers(address).await;
                    let _ = events.send(Event::Probed { node, answers }).await;
                });
            }
            Action::Audit => self.kernel.audit(),
            Action::Inspect { request, repair } => {
                if let Err(busy) = self.kernel.inspect(request, repair) {
                    self.feed(Event::Inspected(request, Err(busy)));
                }
            }
            Action::Tell(notice) => {
                log(&notice);
                self.log.push(wall_clock(), notice);
            }
            Action::End => self.left = true,
            Action::CheckSandboxes(list) => {
                let mut gone = Vec::new();
                let mut unknown = 0;
                for (id, sandbox) in list {
                    match sandboxes::presence(&sandbox) {
                        Presence::There(_) => {}
                        Presence::Gone => gone.push(id),
                        Presence::Unknown => unknown += 1,
                    }
                }
                if unknown > 0 {
                    tracing::warn!(
                        unknown,
                        "sandboxes that cannot be looked at count as there: perhaps all file descriptors are in use"
                    );
                }
                if !gone.is_empty() {
                    // Not fed from here: what follows from it waits for the state file, too. When
                    // the mailbox is full, the next check says it again.
                    let _ = self.events_in.try_send(Event::SandboxesGone(gone));
                }
            }
        }
    }

    fn reply(&mut self, id: RequestId, answer: Result<Response, Refusal>) {
        if let Err(refusal) = &answer {
            tracing::debug!(request = id.0, error = refusal.message, "refused");
        }
        if let Some(reply) = self.replies.remove(&id) {
            // A caller that went away does not undo what was done.
            let _ = reply.send(answer);
        }
    }

    fn rename(&mut self, change: NamesChange) {
        let mut names = self.names.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        match change {
            NamesChange::Network(id, name, subnet, subnet6) => {
                names.set_network(id, &name, subnet, subnet6);
            }
            NamesChange::NoNetwork(id) => names.remove_network(id),
            NamesChange::Set { network, key, ipv4, ipv6, names: list } => {
                names.set(network, key, ipv4, ipv6, &list);
            }
            NamesChange::Remove(network, key) => names.remove(network, &key),
        }
    }
}

fn log(notice: &Notice) {
    let (event, reason) = (notice.kind.name(), notice.reason.as_deref().unwrap_or_default());
    match notice.kind.log() {
        core::Log::Info => tracing::info!(event, reason, "{}", notice.summary),
        core::Log::Debug => tracing::debug!(event, reason, "{}", notice.summary),
        core::Log::Elsewhere => {}
    }
}

/// Completes with the next SIGHUP.
async fn hangup(signals: &mut Option<Signal>) {
    match signals {
        Some(signals) => {
            signals.recv().await;
        }
        // Without a handler the signal's own default ends the process.
        None => std::future::pending().await,
    }
}

/// A connection, or its refusal, is a sign of life; silence and "no route" are not.
async fn answers(address: SocketAddrV4) -> bool {
    for _ in 0..PROBE_TRIES {
        match tokio::time::timeout(PROBE_WITHIN, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => return true,
            Ok(Err(_)) => tokio::time::sleep(PROBE_WITHIN).await,
            Err(_) => {}
        }
    }
    false
}

/// When things happened, for people.
#[expect(clippy::disallowed_methods, reason = "the driver is the core's clock")]
pub(crate) fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

#[expect(clippy::disallowed_methods, reason = "the driver is the core's clock")]
fn now() -> Instant {
    Instant::now()
}
