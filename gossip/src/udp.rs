//! The UDP socket.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;

use crate::wire::MAX_DATAGRAM;

/// Receive buffer asked for, in bytes: what a burst of a large cluster needs until we look. The kernel
/// may grant less; then more is lost in bursts, and repaired by push-pull.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A datagram socket that never blocks its owner.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Udp {
    /// Binds to the advertised address, so that what we send comes from there.
    pub(crate) fn bind(address: SocketAddrV4) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // The force needs CAP_NET_ADMIN; the plain request is capped by net.core.rmem_max.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err()
            && let Err(error) = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)
        {
            tracing::debug!(%error, "receive buffer left at its default");
        }
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            // One byte more than is taken, so that what is too large is seen to be.
            buffer: vec![0; MAX_DATAGRAM + 1],
        })
    }

    /// Waits until there may be something to read. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Reads a datagram, if one is there.
    ///
    /// # Errors
    /// `WouldBlock` where none is there. Others concern an earlier send or the link; the socket stays
    /// usable.
    pub(crate) fn try_receive(&mut self) -> io::Result<(SocketAddr, &[u8])> {
        let (length, from) = self.socket.try_recv_from(&mut self.buffer)?;
        Ok((from, &self.buffer[..length]))
    }

    /// Sends a datagram, or says why not (no route, refused, forbidden, buffer full). Never fatal.
    pub(crate) fn try_send(&self, to: SocketAddrV4, bytes: &[u8]) -> io::Result<()> {
        self.socket.try_send_to(bytes, to.into()).map(drop)
    }
}
