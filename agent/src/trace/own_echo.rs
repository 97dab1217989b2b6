//! An echo that FROM's own kernel sends, and whose answer comes up to a socket in it.
//!
//! The probes leave by FROM's interface as they are, and are seen there. What FROM's own kernel does to its
//! programs' packets before and after, they do not meet: its packet filter, its routing rules.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, recv,
    sendto, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use ovl_packet::Marker;

use super::watch::ATTEMPTS_MAX;

/// How long one try waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// Bytes of a packet that are read: with IPv4 its header comes along.
const READ_MAX: usize = 512;

/// What it takes.
pub(super) struct OwnEcho {
    /// FROM's namespace.
    pub(super) netns: PathBuf,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    /// An ICMP message, from its type on; one for each try.
    pub(super) messages: Vec<Vec<u8>>,
    /// By which the answers are known.
    pub(super) run: u64,
}

impl OwnEcho {
    /// Sends it until it is answered, at most a few times.
    ///
    /// # Errors
    /// What FROM's kernel did instead: a sentence's end. `Ok(None)`: it could not be tried.
    pub(super) async fn send(self) -> Result<Option<()>, String> {
        let tried = tokio::task::spawn_blocking(move || {
            let netns = self.netns.clone();
            ovl_vxlan::netns::run(&netns, move || self.try_all())
        });
        match tried.await {
            Ok(Ok(Ok(true))) => Ok(Some(())),
            Ok(Ok(Ok(false))) => Err("did not let the answer in to a program".to_owned()),
            // So says the kernel where a packet filter dropped it on its way out.
            Ok(Ok(Err(Errno::EPERM | Errno::EACCES))) => {
                Err("did not let a program send it (EPERM)".to_owned())
            }
            Ok(Ok(Err(error @ (Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL)))) => {
                Err(format!("did not let a program send it: {}", error.desc()))
            }
            // No right to such a socket, no more of them, a namespace that has just gone.
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => Ok(None),
        }
    }

    fn try_all(&self) -> Result<bool, Errno> {
        let socket = self.open().map_err(|error| match error {
            // Not what is told of a packet.
            Errno::EPERM | Errno::EACCES | Errno::EINVAL => Errno::ENOTSUP,
            other => other,
        })?;
        for message in self.messages.iter().take(usize::from(ATTEMPTS_MAX)) {
            self.send_one(&socket, message)?;
            if self.heard(&socket)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        let (family, protocol) = match self.from {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        match self.from {
            IpAddr::V4(from) => {
                bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0)))?;
            }
            IpAddr::V6(from) => {
                bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(from, 0, 0, 0)))?;
            }
        }
        let wait = TimeVal::new(0, ANSWER_WITHIN.subsec_micros().into());
        setsockopt(&socket.as_fd(), ReceiveTimeout, &wait)?;
        Ok(socket)
    }

    fn send_one(&self, socket: &OwnedFd, message: &[u8]) -> Result<(), Errno> {
        let (socket, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        match self.to {
            IpAddr::V4(to) => {
                sendto(socket, message, &SockaddrIn::from(SocketAddrV4::new(to, 0)), flags)
            }
            IpAddr::V6(to) => {
                sendto(socket, message, &SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0)), flags)
            }
        }
        .map(drop)
    }

    /// Whether an echo reply of ours comes in time; other ICMP of the container comes by, too.
    fn heard(&self, socket: &OwnedFd) -> Result<bool, Errno> {
        let until = now() + ANSWER_WITHIN;
        let mut buffer = [0; READ_MAX];
        while now() < until {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    if self.is_answer(&buffer[..length]) {
                        return Ok(true);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn is_answer(&self, packet: &[u8]) -> bool {
        // Of IPv4 the header is there (raw(7)), of IPv6 not (RFC 3542, section 3).
        let (message, reply) = match self.from {
            IpAddr::V4(_) => {
                let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
                (packet.get(header..).unwrap_or_default(), ECHO_REPLY)
            }
            IpAddr::V6(_) => (packet, ECHO_REPLY6),
        };
        message.first() == Some(&reply)
            && Marker::find(message).is_some_and(|marker| marker.run == self.run)
    }
}

/// Types of ICMP messages (RFC 792; RFC 4443, section 4.2).
const ECHO_REPLY: u8 = 0;
const ECHO_REPLY6: u8 = 129;

#[expect(clippy::disallowed_methods, reason = "a shell: it waits on a thread of its own")]
fn now() -> Instant {
    Instant::now()
}
