//! The handle on the gossip task, and how it starts.

use std::io;
use std::net::{SocketAddrV4, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::ask::{self, ASKS, Ask, AskError, Desk};
use crate::endpoints::MAX_ENDPOINTS_PER_NODE;
use crate::identity::is_unicast;
use crate::task::{Command, Task};
use crate::udp::Udp;
use crate::{Changes, Endpoint, Member, NodeName, Stats};

/// Requests that wait for the task. When full, `announce`, `withdraw` and `leave` wait: the task is
/// never far behind.
const COMMANDS: usize = 256;

/// How far epochs of other nodes may be ahead of our own at the start plus the time since, read as
/// milliseconds: a hundred years, as no clock is so wrong. What is further ahead is refused.
pub const EPOCHS_AHEAD: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This host's name in the cluster; one live host a name.
    pub name: NodeName,
    /// Bound (UDP and TCP) and told to others; its IP is also the VTEP.
    pub advertise: SocketAddrV4,
    /// `host:port` or `host` (then with the port of `advertise`); IPv4, resolved anew each time.
    /// Tried for ever while no other member is alive, and now and then while one of them is none.
    pub seeds: Vec<String>,
    /// Addresses that were members in an earlier run; tried like seeds. The first 1,024 count.
    pub known: Vec<SocketAddrV4>,
    /// Higher at every start of this node, and at least the milliseconds since 1970 if its clock is right:
    /// of what is further ahead than [`EPOCHS_AHEAD`] nothing is believed. If it is not higher, the node
    /// finds that out when it joins, and goes above what the cluster remembers of it.
    pub epoch: u64,
    /// Endpoints that already run here, announced as the first state of this epoch.
    pub endpoints: Vec<Endpoint>,
}

/// Why gossip did not start; nothing is bound or running then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The advertised address cannot be one host's.
    #[error(
        "cannot advertise {address}: give the address and port at which other hosts reach this one"
    )]
    Advertise {
        /// What was configured.
        address: SocketAddrV4,
    },
    /// More endpoints than one host may announce.
    #[error(
        "cannot announce {count} endpoints: one host announces at most {MAX_ENDPOINTS_PER_NODE}"
    )]
    TooManyEndpoints {
        /// How many were given.
        count: usize,
    },
    /// A socket could not be bound: the address is not (yet) on this host, or the port is taken.
    #[error(
        "cannot bind {protocol} {address}: check that the address is on this host and that no other agent or gossip program uses the port"
    )]
    Bind {
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// What was to be bound.
        address: SocketAddrV4,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What the task publishes.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) members: Vec<Member>,
    pub(crate) stats: Stats,
}

/// Published state, shared with the task. The lock is held for copies only, never across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Published>>);

impl Board {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Published) -> T) -> T {
        // A panic elsewhere leaves a whole list behind: it is replaced, never edited.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Handle on the gossip task; cheap to clone. The task ends, without a good-bye, when the last handle
/// is dropped.
#[derive(Clone, Debug)]
pub struct Gossip {
    commands: mpsc::Sender<Command>,
    changes: Arc<AsyncMutex<mpsc::Receiver<Changes>>>,
    asks: Arc<AsyncMutex<mpsc::Receiver<Ask>>>,
    own: SocketAddrV4,
    board: Board,
}

impl Gossip {
    /// Binds UDP and TCP, then runs until [`leave`](Self::leave) or the drop of the last handle.
    ///
    /// To be called in a tokio runtime with IO and time. Cancel-safe: it does not wait.
    ///
    /// # Errors
    /// See [`StartError`].
    #[expect(clippy::unused_async, reason = "starting may come to wait; its callers are async")]
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let address = config.advertise;
        if !is_unicast(*address.ip()) || address.port() == 0 {
            return Err(StartError::Advertise { address });
        }
        let count = config.endpoints.len();
        if count > MAX_ENDPOINTS_PER_NODE {
            return Err(StartError::TooManyEndpoints { count });
        }
        let bind = |protocol| move |source| StartError::Bind { protocol, address, source };
        let udp = Udp::bind(address).map_err(bind("udp"))?;
        let tcp = listen(address).map_err(bind("tcp"))?;
        let (commands, requests) = mpsc::channel(COMMANDS);
        // One batch waits for the reader; what changes meanwhile is coalesced in the core.
        let (news, changes) = mpsc::channel(1);
        let board = Board::default();
        let task = Task::new(&config, udp, board.clone(), news);
        let (asks_in, asks) = mpsc::channel(ASKS);
        tokio::spawn(task.run(tcp, Desk::new(asks_in, board.clone()), requests));
        tracing::info!(name = %config.name, %address, epoch = config.epoch, "gossip started");
        let (changes, asks) = (Arc::new(AsyncMutex::new(changes)), Arc::new(AsyncMutex::new(asks)));
        Ok(Self { commands, changes, asks, own: address, board })
    }

    /// One whose task has ended: it knows nobody, and hears nothing. For tests of its users.
    pub fn ended() -> Self {
        let (commands, _) = mpsc::channel(1);
        let (_, changes) = mpsc::channel(1);
        let (_, asks) = mpsc::channel(1);
        let (changes, asks) = (Arc::new(AsyncMutex::new(changes)), Arc::new(AsyncMutex::new(asks)));
        let own = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
        Self { commands, changes, asks, own, board: Board::default() }
    }

    /// Waits until something changed. Waits for ever once the task has ended.
    ///
    /// Cancel-safe. Of several readers each change reaches one.
    pub async fn changes(&self) -> Changes {
        let received = self.changes.lock().await.recv().await;
        match received {
            Some(changes) => changes,
            None => std::future::pending().await,
        }
    }

    /// Waits for the next question of another agent. Waits for ever once the task has ended.
    ///
    /// Cancel-safe. Of several readers each question reaches one.
    pub async fn asked(&self) -> Ask {
        let received = self.asks.lock().await.recv().await;
        match received {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }

    /// Asks the agent that gossips at `to`; it reads `body`, at most [`crate::MAX_QUESTION`] bytes, from its
    /// [`asked`](Self::asked). Cancel-safe: what was asked may still be carried out.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(
        &self,
        to: SocketAddrV4,
        body: &[u8],
        within: Duration,
    ) -> Result<Vec<u8>, AskError> {
        ask::ask(*self.own.ip(), to, body, within).await
    }

    /// Adds or replaces one of our own endpoints, and tells the cluster at once. An endpoint that
    /// breaks a bound (see [`Endpoint`]) is not announced, which is logged as an error.
    ///
    /// Cancel-safe: an endpoint is announced whole or not at all.
    pub async fn announce(&self, endpoint: Endpoint) {
        self.command(Command::Announce(endpoint)).await;
    }

    /// Removes one of our own endpoints, and tells the cluster at once. Cancel-safe.
    pub async fn withdraw(&self, id: String) {
        self.command(Command::Withdraw(id)).await;
    }

    /// Joins by these from now on, as [`Config::seeds`] says; new ones are tried at once. Cancel-safe.
    pub async fn set_seeds(&self, seeds: Vec<String>) {
        self.command(Command::Seeds(seeds)).await;
    }

    /// All other members, alive or remembered, ordered by name; not ourselves.
    pub fn members(&self) -> Vec<Member> {
        self.board.with(|board| board.members.clone())
    }

    /// Counters for status: packets, rejected packets, push-pulls, backlog.
    pub fn stats(&self) -> Stats {
        self.board.with(|board| board.stats.clone())
    }

    /// Tells the cluster that this agent stops; peers then show it as left. Returns when that is sent
    /// (a fraction of a second), at the latest `within`; the task and its sockets are gone then.
    pub async fn leave(&self, within: Duration) {
        let (done, left) = oneshot::channel();
        let leave = async {
            self.command(Command::Leave { within, done }).await;
            // An error means that the task has ended already.
            left.await.ok();
        };
        tokio::time::timeout(within, leave).await.ok();
    }

    async fn command(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("gossip has ended: request dropped");
        }
    }
}

fn listen(address: SocketAddrV4) -> io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
