//! One question to one resolver. Each exchange has a socket of its own: the kernel picks a random
//! port and checks where a datagram comes from, the id is random, and the question must be echoed
//! (RFC 5452 §9). Cancel-safe: dropping the future closes its socket. It waits for ever: give it
//! a timeout.
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};

use super::wire::{self, HEADER_LENGTH};

/// Longest message there is (RFC 1035 §4.2.2).
const MAX_MESSAGE: usize = 65_535;

/// A query as it goes out: the client's bytes under an id of our own.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    message: Vec<u8>,
    question_end: usize,
}

impl Query {
    /// `question_end`: where the question section ends, in bytes. Draws a new id.
    pub(crate) fn new(mut message: Vec<u8>, question_end: usize) -> io::Result<Query> {
        let random = SysRng.try_next_u32().map_err(io::Error::other)?;
        let [high, low, ..] = random.to_be_bytes();
        wire::set_id(&mut message, u16::from_be_bytes([high, low]));
        Ok(Query { message, question_end })
    }

    /// Sends one datagram and waits for its answer; whatever else arrives is passed over.
    pub(crate) async fn ask_udp(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(&self.message).await?;
        loop {
            // A resolver that is not there answers with ICMP: an error, and nothing to read.
            if socket.ready(Interest::READABLE | Interest::ERROR).await?.is_error() {
                let error = socket.take_error()?;
                return Err(error.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()));
            }
            match receive(&socket) {
                Ok(response) if self.is_answered_by(&response) => return Ok(response),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks over a connection of its own. An answer to something else is an error.
    pub(crate) async fn ask_tcp(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        self.ask_over(TcpStream::connect(server).await?).await
    }

    /// The same over a connection that was made already.
    pub(crate) async fn ask_over(&self, mut stream: TcpStream) -> io::Result<Vec<u8>> {
        stream.write_all(&framed(&self.message)?).await?;
        let length = stream.read_u16().await?;
        let mut response = vec![0; length.into()];
        stream.read_exact(&mut response).await?;
        if self.is_answered_by(&response) {
            Ok(response)
        } else {
            let problem = "the resolver answered another question over tcp";
            Err(io::Error::new(io::ErrorKind::InvalidData, problem))
        }
    }

    fn is_answered_by(&self, response: &[u8]) -> bool {
        wire::answers(&self.message, self.question_end, response)
    }
}

/// The message behind its length, as it goes over TCP. A message over 65,535 bytes is an error.
pub(crate) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    Ok(framed)
}

/// Takes one datagram, if there is one. The buffer lives for this call only: nothing large is held by the many that wait.
pub(crate) fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(MAX_MESSAGE);
    let length = socket.try_recv_buf(&mut buffer)?;
    buffer.truncate(length.max(HEADER_LENGTH));
    Ok(buffer.as_slice().to_vec())
}
