//! A sandbox's sockets, and the loops over them.
//!
//! One task serves one sandbox, and everything of that sandbox is inside it: the UDP socket, the
//! listener, the connections, the forwarded queries that wait. When the task goes, all sockets
//! close with it. Buffers live only while a message is handled, so that a sandbox at rest costs
//! a few KiB.
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::Transport;
use super::answer::{Asker, Foreign, Verdict};
use super::exchange::framed;
use super::resolver::{Admission, Resolver};
use super::wire::MAX_UDP;

/// Port of a DNS server (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// Longest query that is read, over UDP and TCP. A longer datagram is cut, and then malformed; a
/// longer message over TCP closes its connection.
const MAX_QUERY: usize = MAX_UDP as usize;

/// Datagrams that are handled before the other work of the sandbox has its turn.
const BURST: usize = 32;

/// How long a TCP connection may take to bring the next whole query, or to take a reply.
const IDLE: Duration = Duration::from_secs(10);

/// How long opening the sockets may take; it takes a millisecond when all is well.
const OPENING: Duration = Duration::from_secs(5);

/// How long to leave a socket alone after an error that may last (no memory, no descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// Why a sandbox has no DNS server. Nothing is left open after any of these.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The namespace cannot be entered: it is gone, or is none. Not worth a retry on the same path.
    #[error("cannot enter network namespace {} to serve dns in it", .netns.display())]
    Namespace {
        /// The namespace's file.
        netns: PathBuf,
        /// What the kernel said.
        #[source]
        source: ovl_vxlan::netns::NetnsError,
    },
    /// The address is not there yet, or someone else listens on it inside the sandbox.
    #[error(
        "cannot listen on {protocol} {address} in network namespace {}: the address must be on \
         its lo, and no other dns server in the container may hold the port", .netns.display()
    )]
    Bind {
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// Where it was to listen.
        address: SocketAddrV4,
        /// The namespace's file.
        netns: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The runtime does not take the sockets: out of memory or descriptors, or shutting down.
    #[error("cannot watch the dns sockets of network namespace {}", .netns.display())]
    Watch {
        /// The namespace's file.
        netns: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Opening took too long; what the thread opens later is closed again at once.
    #[error("opening dns sockets in network namespace {} took over {after:?}", .netns.display())]
    Timeout {
        /// The namespace's file.
        netns: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The thread that was to open the sockets did not end well: the agent is shutting down.
    #[error("the thread that opens dns sockets in network namespace {} broke off", .netns.display())]
    Thread {
        /// The namespace's file.
        netns: PathBuf,
        /// How it ended.
        #[source]
        source: JoinError,
    },
}

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
    ) -> Result<SandboxDns, DnsError> {
        let sockets = Sockets::open(netns.to_owned(), SocketAddrV4::new(address, DNS_PORT)).await?;
        resolver.leave_out(address);
        let limits = resolver.limits();
        let sandbox = Arc::new(Sandbox {
            resolver: resolver.clone(),
            scope: RwLock::new(scope),
            in_flight: Semaphore::new(limits.in_flight_per_sandbox.min(Semaphore::MAX_PERMITS)),
            rotation: AtomicUsize::new(0),
        });
        let mut task = JoinSet::new();
        task.spawn(serve(sandbox.clone(), sockets));
        Ok(SandboxDns { sandbox, task })
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

/// The two sockets, made inside the sandbox.
struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    async fn open(netns: PathBuf, address: SocketAddrV4) -> Result<Sockets, DnsError> {
        let path = netns.clone();
        let opening = tokio::task::spawn_blocking(move || {
            ovl_vxlan::netns::run(&path, move || bind(address))
        });
        let opened = match timeout(OPENING, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(source)) => return Err(DnsError::Thread { netns, source }),
            Err(_elapsed) => {
                return Err(DnsError::Timeout { netns, after: OPENING });
            }
        };
        let bound =
            opened.map_err(|source| DnsError::Namespace { netns: netns.clone(), source })?;
        let (udp, tcp) = bound.map_err(|(protocol, source)| DnsError::Bind {
            protocol,
            address,
            netns: netns.clone(),
            source,
        })?;
        Sockets::watch(udp, tcp).map_err(|source| DnsError::Watch { netns, source })
    }

    fn watch(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<Sockets> {
        Ok(Sockets { udp: UdpSocket::from_std(udp)?, tcp: TcpListener::from_std(tcp)? })
    }
}

/// Runs inside the namespace; the sockets stay in it wherever they are used.
fn bind(
    address: SocketAddrV4,
) -> Result<(std::net::UdpSocket, std::net::TcpListener), (&'static str, io::Error)> {
    let udp = std::net::UdpSocket::bind(address).map_err(|error| ("udp", error))?;
    udp.set_nonblocking(true).map_err(|error| ("udp", error))?;
    let tcp = std::net::TcpListener::bind(address).map_err(|error| ("tcp", error))?;
    tcp.set_nonblocking(true).map_err(|error| ("tcp", error))?;
    Ok((udp, tcp))
}

/// What the loops of one sandbox share with its handle.
#[derive(Debug)]
struct Sandbox {
    resolver: Resolver,
    scope: RwLock<Vec<u64>>,
    in_flight: Semaphore,
    rotation: AtomicUsize,
}

impl Sandbox {
    fn answer(&self, message: &[u8], transport: Transport) -> Verdict {
        let scope = self.scope.read().unwrap_or_else(PoisonError::into_inner);
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed);
        self.resolver.answer(Asker { scope: &scope, transport, rotation }, message)
    }

    fn admit(&self, query: &Foreign) -> Result<Admission<'_>, Vec<u8>> {
        self.resolver.admit(&self.in_flight, query)
    }
}

async fn serve(sandbox: Arc<Sandbox>, sockets: Sockets) {
    tokio::join!(serve_udp(&sandbox, &sockets.udp), serve_tcp(&sandbox, &sockets.tcp));
}

/// A query over UDP that was admitted to be forwarded, and who sent it.
struct Forwarded<'a> {
    query: Foreign,
    client: SocketAddr,
    admission: Admission<'a>,
}

async fn serve_udp(sandbox: &Sandbox, socket: &UdpSocket) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ready_or_broken = socket.readable() => {
                for _ in 0..BURST {
                    match receive(sandbox, socket) {
                        Ok(None) => {}
                        Ok(Some(forwarded)) => in_flight.push(relay(sandbox, socket, forwarded)),
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
fn receive<'a>(sandbox: &'a Sandbox, socket: &UdpSocket) -> io::Result<Option<Forwarded<'a>>> {
    let mut buffer = [0; MAX_QUERY];
    let (length, client) = socket.try_recv_from(&mut buffer)?;
    let reply = match sandbox.answer(&buffer[..length], Transport::Udp) {
        Verdict::Ignore => return Ok(None),
        Verdict::Reply(reply) => reply,
        Verdict::Forward(query) => match sandbox.admit(&query) {
            Ok(admission) => {
                return Ok(Some(Forwarded { query, client, admission }));
            }
            Err(turned_away) => turned_away,
        },
    };
    send(sandbox, socket, &reply, client);
    Ok(None)
}

async fn relay(sandbox: &Sandbox, socket: &UdpSocket, forwarded: Forwarded<'_>) {
    let Forwarded { query, client, admission } = forwarded;
    let reply = sandbox.resolver.forward(&query, admission).await;
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

async fn serve_tcp(sandbox: &Sandbox, listener: &TcpListener) {
    let limit = sandbox.resolver.limits().connections_per_sandbox;
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = accept(listener), if connections.len() < limit => {
                connections.extend(stream.map(|stream| serve_connection(sandbox, stream)));
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
async fn serve_connection(sandbox: &Sandbox, mut stream: TcpStream) {
    while let Ok(Ok(message)) = timeout(IDLE, read_query(&mut stream)).await {
        let reply = match sandbox.answer(&message, Transport::Tcp) {
            Verdict::Ignore => return,
            Verdict::Reply(reply) => reply,
            Verdict::Forward(query) => match sandbox.admit(&query) {
                Ok(admission) => sandbox.resolver.forward(&query, admission).await,
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
