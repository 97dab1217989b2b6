//! A packet socket (AF_PACKET, packet(7)) at one interface.
//!
//! The filter is attached before the socket is bound, and until then it belongs to no protocol: no
//! frame that the filter refuses, and none of another interface, is ever in its buffer.
//!
//! There is no safe way to a `sockaddr_ll` but pnet's: it binds a duplicate of the socket.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt};
use pnet_datalink::NetworkInterface;
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::filter::Filter;

/// Most bytes of one frame that a tap gives; further ones are cut off. As large as the frames that
/// the kernel puts together from what arrives (GRO), or takes apart later (GSO), with their outer headers.
pub const SNAPLEN_MAX: usize = 66 << 10;

/// Interfaces whose frames begin with an Ethernet header (linux/if_arp.h).
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// `sll_pkttype` (linux/if_packet.h).
const HOST: u8 = 0;
const BROADCAST: u8 = 1;
const MULTICAST: u8 = 2;
const OUTGOING: u8 = 4;

/// Which way a frame went, as the interface sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received, for this interface or for many.
    In,
    /// Sent. A tap does not see what it sends itself.
    Out,
    /// Received, for another station.
    Other,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From the Ethernet header on, at most the tap's snaplen.
    pub bytes: Vec<u8>,
    /// Length of the frame in bytes, at least that of `bytes`.
    pub length: usize,
    /// Which way it went.
    pub direction: Direction,
    /// When the kernel saw it, in nanoseconds' resolution.
    pub at: SystemTime,
}

/// Why an interface could not be tapped. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// There is no interface of this name in the network namespace.
    #[error("there is no interface {0:?}")]
    NoInterface(String),
    /// The kernel does not let this process have packet sockets.
    #[error(
        "raw packets need the capability CAP_NET_RAW, and AF_PACKET in the unit's RestrictAddressFamilies="
    )]
    Denied(#[source] io::Error),
    /// Its frames begin in another way, as those of WireGuard's interfaces do.
    #[error(
        "frames of interface {interface:?} are no Ethernet frames (ARPHRD {kind}), and are not read"
    )]
    NotEthernet {
        /// The interface.
        interface: String,
        /// `ARPHRD_*` (linux/if_arp.h).
        kind: u16,
    },
    /// Anything else.
    #[error("could not {what} at interface {interface:?}")]
    Failed {
        /// The interface.
        interface: String,
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A tap that no runtime knows yet. It may be opened on a thread that is in another network
/// namespace, and stays at that namespace's interface wherever it is used.
#[derive(Debug)]
pub struct RawTap {
    socket: Socket,
    snaplen: usize,
}

impl RawTap {
    /// Opens a tap at the interface of this name, for frames that pass `filter`, of which it keeps the
    /// first `snaplen` bytes (at most [`SNAPLEN_MAX`]).
    ///
    /// Needs CAP_NET_RAW in the network namespace's user namespace.
    pub fn open(interface: &str, filter: &Filter, snaplen: usize) -> Result<RawTap, TapError> {
        let failed = |what| {
            let interface = interface.to_owned();
            move |source| TapError::Failed { interface, what, source }
        };
        let index = nix::net::if_::if_nametoindex(interface)
            .map_err(|_| TapError::NoInterface(interface.to_owned()))?;
        let socket =
            Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None).map_err(|source| {
                match denied(&source) {
                    true => TapError::Denied(source),
                    false => failed("open a packet socket")(source),
                }
            })?;
        let program: Vec<SockFilter> = filter
            .instructions()
            .iter()
            .map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k))
            .collect();
        socket.attach_filter(&program).map_err(failed("attach the filter"))?;
        let options = setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
            .and_then(|()| setsockopt(&socket, sockopt::RxqOvfl, &1));
        options.map_err(|e| failed("set the options of a packet socket")(e.into()))?;
        bind(&socket, interface, index).map_err(failed("bind a packet socket"))?;
        if let Some(kind) = hardware(interface)
            && kind != ARPHRD_ETHER
            && kind != ARPHRD_LOOPBACK
        {
            return Err(TapError::NotEthernet { interface: interface.to_owned(), kind });
        }
        Ok(RawTap { socket, snaplen: snaplen.min(SNAPLEN_MAX) })
    }

    /// Room for frames that were not read yet, in bytes of the kernel's memory. Frames that do not fit
    /// are dropped, and counted. Without this call it is `net.core.rmem_default`.
    ///
    /// The kernel takes twice the number, for what it stores beside the frames. Beyond
    /// `net.core.rmem_max` this needs CAP_NET_ADMIN.
    pub fn set_buffer(&self, bytes: usize) -> io::Result<()> {
        setsockopt(&self.socket, sockopt::RcvBufForce, &bytes)
            .or_else(|_| setsockopt(&self.socket, sockopt::RcvBuf, &bytes))
            .map_err(io::Error::from)
    }

    /// Registers it with the runtime of the calling task.
    pub fn register(self) -> io::Result<Tap> {
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe: the caller promises that the number stays open, as a Socket's does"
        )]
        let socket = AsyncFd::new(self.socket)?;
        Ok(Tap {
            socket,
            scratch: Mutex::new(vec![0; self.snaplen].into_boxed_slice()),
            dropped: AtomicU64::new(0),
        })
    }
}

/// No CAP_NET_RAW, or the address family is not allowed (systemd's RestrictAddressFamilies= answers
/// with the last of these).
fn denied(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPERM | Errno::EACCES | Errno::EAFNOSUPPORT))
}

/// What an interface of this thread's network namespace is, as `ARPHRD_*`; none: it is not told.
fn hardware(interface: &str) -> Option<u16> {
    let mut interfaces = getifaddrs().ok()?.filter(|found| found.interface_name == interface);
    interfaces.find_map(|found| Some(found.address?.as_link_addr()?.hatype()))
}

/// Binds to the interface, for all protocols.
fn bind(socket: &Socket, name: &str, index: u32) -> io::Result<()> {
    let duplicate = OwnedFd::from(socket.try_clone()?);
    let interface = NetworkInterface {
        name: name.to_owned(),
        description: String::new(),
        index,
        mac: None,
        ips: Vec::new(),
        flags: 0,
    };
    let config = pnet_datalink::Config {
        write_buffer_size: 0,
        read_buffer_size: 0,
        promiscuous: false,
        // pnet owns the number from here on, and closes it when it fails and when its channel goes.
        socket_fd: Some(duplicate.into_raw_fd()),
        ..pnet_datalink::Config::default()
    };
    pnet_datalink::channel(&interface, config).map(drop)
}

/// A tap: frames of one interface, as they come.
#[derive(Debug)]
pub struct Tap {
    socket: AsyncFd<Socket>,
    /// Where frames are received, `snaplen` bytes.
    scratch: Mutex<Box<[u8]>>,
    dropped: AtomicU64,
}

impl Tap {
    /// [`RawTap::open`] and [`RawTap::register`].
    pub fn open(interface: &str, filter: &Filter, snaplen: usize) -> Result<Tap, TapError> {
        let name = interface.to_owned();
        RawTap::open(interface, filter, snaplen)?.register().map_err(|source| TapError::Failed {
            interface: name,
            what: "wait for frames",
            source,
        })
    }

    /// The next frame. Cancel-safe: a frame is given or stays.
    ///
    /// An interface that goes down is an error once (ENETDOWN); frames come again when it is up.
    pub async fn recv(&self) -> io::Result<Frame> {
        self.socket
            .async_io(Interest::READABLE | Interest::ERROR, |socket| self.receive(socket.as_fd()))
            .await
    }

    /// Sends a frame as it is, from its Ethernet header on. Cancel-safe.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| socket.send(frame)).await?;
        if sent != frame.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the frame was not sent whole"));
        }
        Ok(())
    }

    /// Frames that passed the filter and found no room in the kernel's buffer, since the tap was opened.
    /// The kernel tells it with each frame: those that were dropped after the last one that was
    /// received are not in it yet.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn receive(&self, socket: BorrowedFd<'_>) -> io::Result<Frame> {
        let mut scratch = self.scratch.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec, u32);
        let mut parts = [IoSliceMut::new(&mut scratch)];
        // With MSG_TRUNC the answer is the frame's length, whatever was cut off.
        let message = recvmsg::<LinkAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_TRUNC,
        )?;
        let direction = direction(message.address.as_ref().map(LinkAddr::pkttype));
        let mut at = SystemTime::UNIX_EPOCH;
        for item in message.cmsgs()? {
            match item {
                ControlMessageOwned::ScmTimestampns(time) => at += Duration::from(time),
                ControlMessageOwned::RxqOvfl(count) => self.note_dropped(count),
                _ => {}
            }
        }
        let length = message.bytes;
        let bytes = scratch[..length.min(scratch.len())].to_vec();
        Ok(Frame { bytes, length, direction, at })
    }

    /// The kernel's counter has 32 bits. Frames are received one at a time, under the lock.
    fn note_dropped(&self, count: u32) {
        let before = self.dropped.load(Ordering::Relaxed);
        // Truncation is meant: what the counter showed before.
        let more = count.wrapping_sub(before as u32);
        self.dropped.store(before + u64::from(more), Ordering::Relaxed);
    }
}

fn direction(packet_type: Option<u8>) -> Direction {
    match packet_type {
        Some(HOST | BROADCAST | MULTICAST) => Direction::In,
        Some(OUTGOING) => Direction::Out,
        Some(_) | None => Direction::Other,
    }
}
