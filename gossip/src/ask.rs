//! Questions from agent to agent, beside the gossip itself: one over TCP with an answer, whose content
//! is the user's own, and an echo over UDP.
//!
//! A question is one frame on a stream of its own, the answer another. It is taken from members only, as
//! far as an address says who somebody is. Questions have places of their own, so that they do not keep
//! the gossip from its exchanges.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::gossip::Board;
use crate::places::Places;
use crate::tcp::{read_frame, write_frame};
use crate::wire::{self, Kind, MAX_FRAME};

/// Largest question in bytes, and largest answer.
pub const MAX_QUESTION: usize = wire::MAX_REQUEST - wire::HEADER;
/// See [`MAX_QUESTION`].
pub const MAX_ANSWER: usize = MAX_FRAME - wire::HEADER;
/// Longest time that an answer may take: the stream ends then.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// Questions of others that are being answered. A further one is told that we are busy.
const MAX_ASKS: usize = 16;
/// The same of one address.
const MAX_ASKS_EACH: usize = 8;
/// Questions that wait for the reader. When full, they wait within their deadline.
pub(crate) const ASKS: usize = MAX_ASKS;
/// Datagrams of others that an echo passes over before it gives up: nobody else knows the port.
const MAX_STRAYS: usize = 16;

/// A question of another host's agent. Dropped without an answer, the asker is told so.
#[derive(Debug)]
pub struct Ask {
    /// The address that it comes from, a member's.
    pub from: Ipv4Addr,
    /// What is asked, at most [`MAX_QUESTION`] bytes.
    pub body: Vec<u8>,
    reply: oneshot::Sender<Vec<u8>>,
}

impl Ask {
    /// Answers, with at most [`MAX_ANSWER`] bytes; a longer one is not sent. Who asked may have gone.
    pub fn answer(self, body: Vec<u8>) {
        let _ = self.reply.send(body);
    }

    /// Answers with what comes of `work`, which is dropped when nobody waits for it any more: the asker
    /// hung up, or [`ANSWER_WITHIN`] is over.
    pub async fn answer_with(mut self, work: impl Future<Output = Vec<u8>>) {
        tokio::select! {
            body = work => self.answer(body),
            () = self.reply.closed() => {}
        }
    }
}

/// Why a question has no answer. Whether it was carried out is known only of those not heard.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No connection.
    #[error("no connection to {to} (TCP)")]
    Connect {
        /// Who was asked.
        to: SocketAddrV4,
        /// Refused: no agent there; timed out: filtered on the way, or the host is down.
        #[source]
        source: io::Error,
    },
    /// Its host took the connection, and then there was silence: the agent hangs, is stopped, or takes
    /// longer.
    #[error("{to} took the connection, but gave no answer within {:.1} s", within.as_secs_f64())]
    Silent {
        /// Who was asked.
        to: SocketAddrV4,
        /// How long it was waited for.
        within: Duration,
    },
    /// The stream was closed without a word: an agent that does not know questions yet.
    #[error(
        "{to} closed the connection without a word: its agent is of an older version, or was just stopped"
    )]
    Older {
        /// Who was asked.
        to: SocketAddrV4,
    },
    /// We are no member for it.
    #[error("{to} does not count this host among its members, and answers members only")]
    Stranger {
        /// Who was asked.
        to: SocketAddrV4,
    },
    /// It answers as many as it takes, or stops.
    #[error("{to} is busy with the questions of others; try again in a moment")]
    Busy {
        /// Who was asked.
        to: SocketAddrV4,
    },
    /// The stream broke, or what came is no answer.
    #[error("the answer of {to} did not arrive whole")]
    Broken {
        /// Who was asked.
        to: SocketAddrV4,
        /// What happened to it.
        #[source]
        source: io::Error,
    },
}

/// Why there is no answer to a question that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotTold {
    /// Who asks is no member.
    Stranger,
    /// Too many ask, or the agent stops.
    Busy,
}

/// What inbound questions go through.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    asks: mpsc::Sender<Ask>,
    board: Board,
    places: Arc<Places>,
}

impl Desk {
    pub(crate) fn new(asks: mpsc::Sender<Ask>, board: Board) -> Self {
        Self { asks, board, places: Arc::new(Places::new(MAX_ASKS, MAX_ASKS_EACH)) }
    }

    /// Sees to a stream whose first frame was a question.
    pub(crate) async fn serve(
        &self,
        mut stream: TcpStream,
        from: Ipv4Addr,
        body: Vec<u8>,
    ) -> io::Result<()> {
        let Some(_place) = self.places.take(from) else {
            return refuse(&mut stream, NotTold::Busy).await;
        };
        if !self.board.with(|board| board.members.iter().any(|m| *m.address.ip() == from)) {
            return refuse(&mut stream, NotTold::Stranger).await;
        }
        let (reply, answer) = oneshot::channel();
        if self.asks.send(Ask { from, body, reply }).await.is_err() {
            return refuse(&mut stream, NotTold::Busy).await;
        }
        let told = tokio::select! {
            told = timeout(ANSWER_WITHIN, answer) => told,
            // Who asks sends nothing more: an end, or anything else, ends it.
            () = hung_up(&stream) => return Ok(()),
        };
        let told = match told {
            Ok(Ok(told)) if told.len() <= MAX_ANSWER => told,
            _ => return refuse(&mut stream, NotTold::Busy).await,
        };
        let mut frame = wire::header(Kind::Told);
        frame.extend(told);
        write_frame(&mut stream, &frame).await
    }
}

/// Completes when the other side ends the stream, or sends what nobody asked for.
async fn hung_up(stream: &TcpStream) {
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut [0]) {
            // It looked readable, and was not.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}

async fn refuse(stream: &mut TcpStream, why: NotTold) -> io::Result<()> {
    write_frame(stream, &wire::seal(Kind::NotTold, &why)).await
}

/// The body of a first frame that is a question.
pub(crate) fn question(frame: &[u8]) -> Option<Vec<u8>> {
    match wire::open(frame) {
        Ok((Kind::Ask, body)) => Some(body.to_vec()),
        _ => None,
    }
}

/// Asks another agent, from our own address, by which it knows us.
pub(crate) async fn ask(
    own: Ipv4Addr,
    to: SocketAddrV4,
    body: &[u8],
    within: Duration,
) -> Result<Vec<u8>, AskError> {
    let until = Instant::now() + within;
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(own, 0).into())?;
        socket.connect(to.into()).await
    };
    let connected = by(until, connect).await;
    let mut stream = connected.map_err(|source| AskError::Connect { to, source })?;
    let exchange = async {
        let mut frame = wire::header(Kind::Ask);
        frame.extend_from_slice(body);
        write_frame(&mut stream, &frame).await?;
        read_frame(&mut stream, MAX_FRAME, ANSWER_WITHIN).await
    };
    let frame = by(until, exchange).await.map_err(|source| match source.kind() {
        io::ErrorKind::TimedOut => AskError::Silent { to, within },
        // An agent that does not know the kind of a frame closes the stream.
        io::ErrorKind::UnexpectedEof => AskError::Older { to },
        _ => AskError::Broken { to, source },
    })?;
    told(&frame, to)
}

fn told(frame: &[u8], to: SocketAddrV4) -> Result<Vec<u8>, AskError> {
    let garbage = || io::Error::new(io::ErrorKind::InvalidData, "no answer of an agent");
    match wire::open(frame) {
        Ok((Kind::Told, body)) => Ok(body.to_vec()),
        Ok((Kind::NotTold, body)) => Err(match wire::parse(body) {
            Ok(NotTold::Stranger) => AskError::Stranger { to },
            Ok(NotTold::Busy) => AskError::Busy { to },
            Err(_) => AskError::Broken { to, source: garbage() },
        }),
        _ => Err(AskError::Broken { to, source: garbage() }),
    }
}

/// Sends a datagram from a new socket of `own` to an agent's gossip port, and waits for its echo: the
/// round trip. To the host's packet filter it is a new flow, as another host's would be.
///
/// # Errors
/// `TimedOut`: nothing came back; `ConnectionRefused`: no agent listens there; others are of the way.
pub async fn echo(own: Ipv4Addr, to: SocketAddrV4, within: Duration) -> io::Result<Duration> {
    let socket = UdpSocket::bind(SocketAddrV4::new(own, 0)).await?;
    socket.connect(to).await?;
    let nonce = crate::task::entropy();
    let sent = Instant::now();
    socket.send(&wire::seal(Kind::Echo, &Nonce(nonce))).await?;
    let heard = async {
        let mut buffer = [0; 64];
        for _ in 0..MAX_STRAYS {
            let length = socket.recv(&mut buffer).await?;
            let answer = wire::open(&buffer[..length]);
            if let Ok((Kind::EchoReply, body)) = answer
                && wire::parse::<Nonce>(body) == Ok(Nonce(nonce))
            {
                return Ok(sent.elapsed());
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there is no agent"))
    };
    by(sent + within, heard).await
}

/// What an echo repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nonce(pub(crate) u64);

async fn by<T>(until: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout_at(until, work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
