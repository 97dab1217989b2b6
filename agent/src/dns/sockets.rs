//! The sockets of a sandbox, made on a thread that enters its namespace; a socket stays in the
//! namespace it was made in, wherever it is used.
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt,
    setsockopt, socket, sockopt,
};
use ovl_vxlan::netns::{self, NetnsError, NetnsId};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::task::JoinError;
use tokio::time::timeout;

use super::{Embedded, REDIRECT_PORT};

/// Port of a DNS server (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// How long opening the sockets may take; it takes a millisecond when all is well.
const OPENING: Duration = Duration::from_secs(5);

/// The namespace that the calling thread is in.
const HERE: &str = "/proc/thread-self/ns/net";

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
        source: NetnsError,
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
    /// No socket towards Docker's resolver can be made: out of descriptors, or no right to mark it.
    #[error(
        "cannot make a socket towards docker's resolver {resolver} in network namespace {}: it \
         takes CAP_NET_ADMIN, and lo must be up", .netns.display()
    )]
    Docker {
        /// Docker's resolver.
        resolver: SocketAddrV4,
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

/// All sockets of a sandbox.
pub struct Sockets {
    /// Port 53: what the container asks us itself.
    pub(crate) plain: Door,
    /// Port 54: what it asked Docker's resolver, and was led here.
    pub(crate) redirected: Option<Redirected>,
}

/// What is there in a sandbox of Docker's besides.
pub(crate) struct Redirected {
    /// Where the queries arrive.
    pub(crate) door: Door,
    /// For further sockets towards Docker's resolver.
    pub(crate) home: Home,
    /// The first of them: UDP, connected and marked.
    pub(crate) onward: UdpSocket,
}

/// One port, over UDP and TCP.
pub(crate) struct Door {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

impl Sockets {
    /// Listens on `address` in the namespace at `netns`, as [`SandboxDns::open`](super::SandboxDns::open)
    /// says. Cancelled, it leaves nothing behind once its thread has ended.
    ///
    /// # Errors
    /// See [`DnsError`].
    pub async fn open(
        netns: &Path,
        address: Ipv4Addr,
        embedded: Option<Embedded>,
    ) -> Result<Sockets, DnsError> {
        let netns = netns.to_owned();
        let path = netns.clone();
        let opening =
            tokio::task::spawn_blocking(move || netns::run(&path, move || bind(address, embedded)));
        let opened = match timeout(OPENING, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(source)) => return Err(DnsError::Thread { netns, source }),
            Err(_elapsed) => {
                return Err(DnsError::Timeout { netns, after: OPENING });
            }
        };
        let bound =
            opened.map_err(|source| DnsError::Namespace { netns: netns.clone(), source })?;
        let bound = bound.map_err(|refused| refused.in_netns(&netns))?;
        Sockets::watch(bound, &netns).map_err(|source| DnsError::Watch { netns, source })
    }

    /// Goes on with the sockets of the agent before this one. `id` is that of the namespace at
    /// `netns`; `embedded` is who is asked there, where there are sockets for that.
    ///
    /// # Errors
    /// See [`DnsError`]; the sockets are closed.
    pub async fn adopt(
        kept: KeptSockets,
        netns: &Path,
        id: NetnsId,
        embedded: Embedded,
    ) -> Result<Sockets, DnsError> {
        let watch = |source| DnsError::Watch { netns: netns.to_owned(), source };
        let plain = Door::watch(kept.plain).map_err(watch)?;
        let Some(ports) = kept.redirected else {
            return Ok(Sockets { plain, redirected: None });
        };
        let door = Door::watch(ports).map_err(watch)?;
        let home = Home { netns: netns.to_owned(), id, embedded };
        let onward = home.udp().await.map_err(|error| DnsError::Docker {
            resolver: embedded.resolver,
            netns: netns.to_owned(),
            source: io::Error::other(error),
        })?;
        Ok(Sockets { plain, redirected: Some(Redirected { door, home, onward }) })
    }

    /// Those that listen, to be handed on; [`KeptSockets::sort`] reads them.
    pub fn listening(&self) -> Vec<BorrowedFd<'_>> {
        let doors = [Some(&self.plain), self.redirected.as_ref().map(|there| &there.door)];
        doors.into_iter().flatten().flat_map(|door| [door.udp.as_fd(), door.tcp.as_fd()]).collect()
    }

    fn watch(bound: Bound, netns: &Path) -> io::Result<Sockets> {
        let plain = Door::watch(bound.plain)?;
        let Some(redirected) = bound.redirected else {
            return Ok(Sockets { plain, redirected: None });
        };
        let BoundRedirected { ports, embedded, onward, id } = redirected;
        let home = Home { netns: netns.to_owned(), id, embedded };
        let (door, onward) = (Door::watch(ports)?, UdpSocket::from_std(onward)?);
        Ok(Sockets { plain, redirected: Some(Redirected { door, home, onward }) })
    }
}

impl Door {
    fn watch((udp, tcp): Ports) -> io::Result<Door> {
        Ok(Door { udp: UdpSocket::from_std(udp)?, tcp: TcpListener::from_std(tcp)? })
    }
}

/// The sockets of one port as the namespace's thread hands them over.
type Ports = (std::net::UdpSocket, std::net::TcpListener);

/// A sandbox's sockets as an agent left them for the next one.
#[derive(Debug)]
pub struct KeptSockets {
    plain: Ports,
    redirected: Option<Ports>,
    /// Of netlink: it owns the rule that leads queries here. There with the redirected ones only.
    pub owner: Option<OwnedFd>,
}

impl KeptSockets {
    /// Tells sockets that listen on `address` apart by what the kernel says of them. `None`, and all
    /// closed: they are not what an agent keeps of a sandbox.
    pub fn sort(fds: Vec<OwnedFd>, address: Ipv4Addr) -> Option<KeptSockets> {
        let (mut plain, mut redirected, mut owner) = ((None, None), (None, None), None);
        for fd in fds {
            match what(&fd)? {
                What::Netlink => owner = Some(fd),
                What::Listening(at, kind) if *at.ip() == address => {
                    let (udp, tcp) = match at.port() {
                        DNS_PORT => (&mut plain.0, &mut plain.1),
                        REDIRECT_PORT => (&mut redirected.0, &mut redirected.1),
                        _ => return None,
                    };
                    match kind {
                        SockType::Datagram => *udp = Some(fd.into()),
                        SockType::Stream => *tcp = Some(fd.into()),
                        _ => return None,
                    }
                }
                What::Listening(..) => return None,
            }
        }
        let redirected = redirected.0.zip(redirected.1);
        let plain = plain.0.zip(plain.1)?;
        (redirected.is_some() == owner.is_some()).then_some(KeptSockets {
            plain,
            redirected,
            owner,
        })
    }
}

enum What {
    Netlink,
    Listening(SocketAddrV4, SockType),
}

fn what(fd: &OwnedFd) -> Option<What> {
    let name: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
    match name.family()? {
        AddressFamily::Netlink => Some(What::Netlink),
        AddressFamily::Inet => {
            let address = name.as_sockaddr_in()?;
            let kind = getsockopt(fd, sockopt::SockType).ok()?;
            Some(What::Listening(SocketAddrV4::new(address.ip(), address.port()), kind))
        }
        _ => None,
    }
}

/// What was bound inside.
struct Bound {
    plain: Ports,
    redirected: Option<BoundRedirected>,
}

struct BoundRedirected {
    ports: Ports,
    embedded: Embedded,
    onward: std::net::UdpSocket,
    id: NetnsId,
}

/// What cannot be had inside.
enum Refused {
    Port { protocol: &'static str, address: SocketAddrV4, source: io::Error },
    Docker { resolver: SocketAddrV4, source: io::Error },
}

impl Refused {
    fn in_netns(self, netns: &Path) -> DnsError {
        let netns = netns.to_owned();
        match self {
            Refused::Port { protocol, address, source } => {
                DnsError::Bind { protocol, address, netns, source }
            }
            Refused::Docker { resolver, source } => DnsError::Docker { resolver, netns, source },
        }
    }
}

/// Runs inside the namespace.
fn bind(address: Ipv4Addr, embedded: Option<Embedded>) -> Result<Bound, Refused> {
    let plain = bind_both(SocketAddrV4::new(address, DNS_PORT))?;
    let Some(embedded) = embedded else {
        return Ok(Bound { plain, redirected: None });
    };
    let ports = bind_both(SocketAddrV4::new(address, REDIRECT_PORT))?;
    let resolver = embedded.resolver;
    let refused = |source| Refused::Docker { resolver, source };
    let onward = connected(embedded).map_err(refused)?;
    let id = netns::identify(Path::new(HERE)).map_err(io::Error::other).map_err(refused)?;
    Ok(Bound { plain, redirected: Some(BoundRedirected { ports, embedded, onward, id }) })
}

fn bind_both(address: SocketAddrV4) -> Result<Ports, Refused> {
    let refused = |protocol| move |source| Refused::Port { protocol, address, source };
    let udp = std::net::UdpSocket::bind(address).map_err(refused("udp"))?;
    udp.set_nonblocking(true).map_err(refused("udp"))?;
    let tcp = std::net::TcpListener::bind(address).map_err(refused("tcp"))?;
    tcp.set_nonblocking(true).map_err(refused("tcp"))?;
    Ok((udp, tcp))
}

/// A sandbox's namespace, and whom to ask in it. It holds nothing open.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    netns: PathBuf,
    id: NetnsId,
    embedded: Embedded,
}

/// Why there is no socket towards Docker's resolver. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSocket {
    /// The namespace cannot be entered.
    #[error("cannot enter network namespace {}", .netns.display())]
    Namespace {
        netns: PathBuf,
        #[source]
        source: NetnsError,
    },
    /// Its path leads to another one by now: this sandbox is about to be closed.
    #[error("{} is another network namespace by now", .netns.display())]
    Another { netns: PathBuf },
    /// The kernel did not give the socket, or did not connect it.
    #[error("cannot make a socket towards {resolver} in network namespace {}", .netns.display())]
    Socket {
        netns: PathBuf,
        resolver: SocketAddrV4,
        #[source]
        source: io::Error,
    },
    /// The thread was too slow, or broke off.
    #[error("the thread that makes sockets in network namespace {} did not end in time", .netns.display())]
    Thread { netns: PathBuf },
}

impl Home {
    /// A connected UDP socket towards Docker's resolver, marked to be let through.
    pub(crate) async fn udp(&self) -> Result<UdpSocket, NoSocket> {
        let embedded = self.embedded;
        let socket = self.inside(move || connected(embedded)).await?;
        UdpSocket::from_std(socket).map_err(|source| self.failed(source))
    }

    /// A TCP connection to it, marked as well. Waits as long as the kernel tries to connect.
    pub(crate) async fn tcp(&self) -> Result<tokio::net::TcpStream, NoSocket> {
        let Embedded { resolver, mark } = self.embedded;
        let socket = self.inside(move || marked(SockType::Stream, mark)).await?;
        let socket = TcpSocket::from_std_stream(socket.into());
        socket.connect(resolver.into()).await.map_err(|source| self.failed(source))
    }

    /// Runs in this namespace, or not at all.
    async fn inside<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, NoSocket> {
        let (netns, id) = (self.netns.clone(), self.id);
        let making = tokio::task::spawn_blocking(move || {
            netns::run(&netns, move || {
                let same = netns::identify(Path::new(HERE)).is_ok_and(|here| here == id);
                same.then(make)
            })
        });
        let netns = || self.netns.clone();
        match timeout(OPENING, making).await {
            Err(_) | Ok(Err(_)) => Err(NoSocket::Thread { netns: netns() }),
            Ok(Ok(Err(source))) => Err(NoSocket::Namespace { netns: netns(), source }),
            Ok(Ok(Ok(None))) => Err(NoSocket::Another { netns: netns() }),
            Ok(Ok(Ok(Some(made)))) => made.map_err(|source| self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> NoSocket {
        NoSocket::Socket { netns: self.netns.clone(), resolver: self.embedded.resolver, source }
    }
}

fn connected(embedded: Embedded) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::from(marked(SockType::Datagram, embedded.mark)?);
    socket.connect(embedded.resolver)?;
    Ok(socket)
}

/// The mark is there before the first packet, so that none is led back to us.
fn marked(kind: SockType, mark: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    setsockopt(&socket, sockopt::Mark, &mark)?;
    Ok(socket)
}
