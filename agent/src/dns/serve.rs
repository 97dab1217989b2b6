//! A sandbox's DNS server: the loops over its sockets.
//!
//! One task serves one sandbox, and everything of that sandbox is inside it: the UDP sockets, the
//! listeners, the connections, the forwarded queries that wait. When the task goes, all sockets
//! close with it. Buffers live only while a message is handled, so that a sandbox at rest costs
//! a few KiB.
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Asker, Foreign, Verdict};
use super::embedded::DockerResolver;
use super::exchange::framed;
use super::resolver::{Admission, Resolver};
use super::sockets::{Door, Redirected, Sockets};
use super::turns::Turns;
use super::wire::MAX_UDP;
use super::{DnsError, Embedded, Transport};

/// Longest query that is read, over UDP and TCP. A longer datagram is cut, and then malformed; a
/// longer message over TCP closes its connection.
const MAX_QUERY: usize = MAX_UDP as usize;

/// Datagrams that are handled before the other work of the sandbox has its turn.
const BURST: usize = 32;

/// How long a TCP connection may take to bring the next whole query, or to take a reply.
const IDLE: Duration = Duration::from_secs(10);

/// How long to leave a socket alone after an error that may last (no memory, no descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// The DNS server of one sandbox.
///
/// Dropping it ends its task, which closes all its sockets as soon as the runtime gets to it, so
/// that they do not keep the network namespace alive; [`SandboxDns::close`] waits for that.
#[derive(Debug)]
pub struct SandboxDns {
    sandbox: Arc<Sandbox>,
    task: JoinSet<()>,
}

impl SandboxDns {
    /// Listens on UDP and TCP port 53 of `address`, inside the network namespace at `netns`.
    ///
    /// `address` must be there already, on the sandbox's `lo`. `scope`: ids of the networks the
    /// container is attached to. Cancelled, it leaves nothing behind once its thread has ended.
    ///
    /// With `embedded` it listens on [`REDIRECT_PORT`](super::REDIRECT_PORT) as well: what arrives
    /// there was asked of Docker's resolver, and goes on to it when it is not ours. What arrives
    /// at port 53 and is not ours goes to the host's resolvers.
    ///
    /// # Errors
    /// See [`DnsError`].
    ///
    /// # Panics
    /// Outside a tokio runtime with IO and time.
    pub async fn open(
        resolver: &Resolver,
        netns: &Path,
        address: Ipv4Addr,
        scope: Vec<u64>,
        embedded: Option<Embedded>,
    ) -> Result<SandboxDns, DnsError> {
        let sockets = Sockets::open(netns, address, embedded).await?;
        Ok(SandboxDns::serve(resolver, address, scope, sockets))
    }

    /// The same over sockets that listen on `address` already.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO and time.
    pub fn serve(
        resolver: &Resolver,
        address: Ipv4Addr,
        scope: Vec<u64>,
        sockets: Sockets,
    ) -> SandboxDns {
        resolver.leave_out(address);
        let limits = resolver.limits();
        let semaphore = |permits: usize| Semaphore::new(permits.min(Semaphore::MAX_PERMITS));
        let sandbox = Arc::new(Sandbox {
            resolver: resolver.clone(),
            scope: RwLock::new(scope),
            in_flight: semaphore(limits.in_flight_per_sandbox),
            waiting: semaphore(limits.waiting_per_sandbox),
            turns: Turns::starting_at(usize::from(rand::random::<u16>())),
        });
        let mut task = JoinSet::new();
        task.spawn(serve(sandbox.clone(), sockets));
        SandboxDns { sandbox, task }
    }

    /// Answers from these networks from now on.
    pub fn set_scope(&self, scope: Vec<u64>) {
        *self.sandbox.scope.write().unwrap_or_else(PoisonError::into_inner) = scope;
    }

    /// Ends the server; when this returns, its sockets are closed.
    pub async fn close(mut self) {
        self.task.shutdown().await;
    }
}

/// What the loops of one sandbox share with its handle.
#[derive(Debug)]
struct Sandbox {
    resolver: Resolver,
    scope: RwLock<Vec<u64>>,
    /// Forwarded queries that have a socket of their own.
    in_flight: Semaphore,
    /// Forwarded queries that share one.
    waiting: Semaphore,
    turns: Turns,
}

/// Where what is not ours goes.
#[derive(Clone, Copy)]
enum Onward<'a> {
    /// To the host's resolvers.
    Host,
    /// To Docker's.
    Docker(&'a DockerResolver),
}

impl Sandbox {
    fn answer(&self, message: &[u8], transport: Transport) -> Verdict {
        let scope = self.scope.read().unwrap_or_else(PoisonError::into_inner);
        let asker = Asker { scope: &scope, transport, turns: &self.turns };
        self.resolver.answer(asker, message)
    }

    fn admit(&self, query: &Foreign, onward: Onward<'_>) -> Result<Admission<'_>, Vec<u8>> {
        match (onward, query.transport) {
            (Onward::Host, _) | (_, Transport::Tcp) => self.resolver.admit(&self.in_flight, query),
            (Onward::Docker(_), Transport::Udp) => self.resolver.admit_waiter(&self.waiting, query),
        }
    }

    /// Always comes back with a reply: within four seconds from the host's resolvers, within ten
    /// from Docker's. Cancel-safe.
    async fn forward(
        &self,
        query: &Foreign,
        admission: Admission<'_>,
        onward: Onward<'_>,
    ) -> Vec<u8> {
        let begin = Instant::now();
        let outcome = match onward {
            Onward::Host => self.resolver.forward(query).await,
            Onward::Docker(docker) => docker.ask(query).await,
        };
        drop(admission);
        self.resolver.settle(query, outcome, begin.elapsed())
    }
}

async fn serve(sandbox: Arc<Sandbox>, sockets: Sockets) {
    let Sockets { plain, redirected } = sockets;
    let sandbox = &*sandbox;
    tokio::join!(serve_port(sandbox, &plain, Onward::Host), serve_redirected(sandbox, redirected));
}

async fn serve_redirected(sandbox: &Sandbox, redirected: Option<Redirected>) {
    let Some(Redirected { door, home, onward }) = redirected else {
        return;
    };
    let limit = sandbox.resolver.limits().waiting_per_sandbox;
    let docker = DockerResolver::new(home, onward, limit);
    tokio::join!(docker.listen(), serve_port(sandbox, &door, Onward::Docker(&docker)));
}

async fn serve_port(sandbox: &Sandbox, door: &Door, onward: Onward<'_>) {
    tokio::join!(serve_udp(sandbox, &door.udp, onward), serve_tcp(sandbox, &door.tcp, onward));
}

/// A query over UDP that was admitted to be forwarded, and who sent it.
struct Forwarded<'a> {
    query: Foreign,
    client: SocketAddr,
    admission: Admission<'a>,
}

async fn serve_udp(sandbox: &Sandbox, socket: &UdpSocket, onward: Onward<'_>) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ready_or_broken = socket.readable() => {
                for _ in 0..BURST {
                    match receive(sandbox, socket, onward) {
                        Ok(None) => {}
                        Ok(Some(forwarded)) => {
                            in_flight.push(relay(sandbox, socket, forwarded, onward));
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => {
                            tracing::debug!(%error, "cannot receive from a sandbox's dns socket");
                            sleep(PAUSE).await;
                            break;
                        }
                    }
                }
            }
            Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
        }
    }
}

/// Takes one datagram and answers it, or hands back what is to be forwarded.
fn receive<'a>(
    sandbox: &'a Sandbox,
    socket: &UdpSocket,
    onward: Onward<'_>,
) -> io::Result<Option<Forwarded<'a>>> {
    let mut buffer = [0; MAX_QUERY];
    let (length, client) = socket.try_recv_from(&mut buffer)?;
    let reply = match sandbox.answer(&buffer[..length], Transport::Udp) {
        Verdict::Ignore => return Ok(None),
        Verdict::Reply(reply) => reply,
        Verdict::Forward(query) => match sandbox.admit(&query, onward) {
            Ok(admission) => {
                return Ok(Some(Forwarded { query, client, admission }));
            }
            Err(turned_away) => turned_away,
        },
    };
    send(sandbox, socket, &reply, client);
    Ok(None)
}

async fn relay(
    sandbox: &Sandbox,
    socket: &UdpSocket,
    forwarded: Forwarded<'_>,
    onward: Onward<'_>,
) {
    let Forwarded { query, client, admission } = forwarded;
    let reply = sandbox.forward(&query, admission, onward).await;
    send(sandbox, socket, &reply, client);
}

/// A reply that does not fit the socket's buffer is lost, as datagrams may be: the client asks
/// again.
fn send(sandbox: &Sandbox, socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(reply, client) {
        sandbox.resolver.unsent();
        tracing::debug!(%client, %error, "cannot send a dns reply");
    }
}

async fn serve_tcp(sandbox: &Sandbox, listener: &TcpListener, onward: Onward<'_>) {
    let limit = sandbox.resolver.limits().connections_per_sandbox;
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = accept(listener), if connections.len() < limit => {
                connections.extend(stream.map(|stream| serve_connection(sandbox, stream, onward)));
            }
            Some(()) = connections.next(), if !connections.is_empty() => {}
        }
    }
}

/// None: the kernel had no connection to give.
async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _client)) => Some(stream),
        Err(error) => {
            tracing::debug!(%error, "cannot accept a dns connection");
            sleep(PAUSE).await;
            None
        }
    }
}

/// Answers the queries of one connection one after the other (RFC 7766 §6.2.1), until it ends,
/// is idle, or brings junk.
async fn serve_connection(sandbox: &Sandbox, mut stream: TcpStream, onward: Onward<'_>) {
    while let Ok(Ok(message)) = timeout(IDLE, read_query(&mut stream)).await {
        let reply = match sandbox.answer(&message, Transport::Tcp) {
            Verdict::Ignore => return,
            Verdict::Reply(reply) => reply,
            Verdict::Forward(query) => match sandbox.admit(&query, onward) {
                Ok(admission) => sandbox.forward(&query, admission, onward).await,
                Err(turned_away) => turned_away,
            },
        };
        let Ok(reply) = framed(&reply) else { return };
        let Ok(Ok(())) = timeout(IDLE, stream.write_all(&reply)).await else {
            return;
        };
    }
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a dns query of that length"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
