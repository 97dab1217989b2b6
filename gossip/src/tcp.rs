//! Streams: frames with a length before them, a deadline on everything, and a bound on how many.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::ask::{self, Desk};
use crate::node::{Dial, DialEnd};
use crate::places::Places;
use crate::seeds::Target;
use crate::wire::{HEADER, MAX_FRAME, MAX_REQUEST};

/// Most inbound streams open at a time. A further one is closed at once and counted; the caller tries
/// somebody else or later.
const MAX_INBOUND: usize = 64;
/// The same of one address: room for all its questions at once, and its exchanges.
const MAX_INBOUND_EACH: usize = 16;
/// Who opens a stream has something to say: without the length and the header of its first frame within
/// this time it is closed and counted.
const BEGIN: Duration = Duration::from_secs(2);
/// Events that wait for the task. When full, streams wait, within their deadline.
pub(crate) const EVENTS: usize = 64;
/// Longest wait for a name to resolve, for a connection, and for one frame to come or go.
const RESOLVE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);
const FRAME: Duration = Duration::from_secs(10);
/// Longest life of a stream.
const STREAM: Duration = Duration::from_secs(30);
/// Pause after a failed accept, which is mostly a want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Refused streams are told of in the log at most this often.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// Inbound streams that came to nothing.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Too many were open.
    pub(crate) refused: AtomicU64,
    /// They did not begin a frame in time.
    pub(crate) silent: AtomicU64,
}

/// What a stream tells the task.
#[derive(Debug)]
pub(crate) enum Event {
    /// A first frame came; the answer goes into `reply`.
    Request { from: Ipv4Addr, frame: Vec<u8>, reply: oneshot::Sender<Option<Vec<u8>>> },
    /// The last frame of an inbound stream.
    Closing { from: Ipv4Addr, frame: Vec<u8> },
    /// An answer to a dial; the closing frame goes into `reply`.
    Answer { id: u64, from: SocketAddrV4, frame: Vec<u8>, reply: oneshot::Sender<Option<Vec<u8>>> },
}

/// How a dial ended, for the task.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) address: Option<SocketAddrV4>,
    pub(crate) end: DialEnd,
}

/// Accepts streams until dropped; dropping it ends the streams too.
pub(crate) async fn serve(
    listener: TcpListener,
    events: mpsc::Sender<Event>,
    desk: Desk,
    counts: Arc<Counts>,
) {
    let places = Places::new(MAX_INBOUND, MAX_INBOUND_EACH);
    let mut streams = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        let (stream, SocketAddr::V4(from)) = accepted(|| listener.accept()).await else {
            continue;
        };
        while streams.try_join_next().is_some() {}
        let Some(place) = places.take(*from.ip()) else {
            let refused = 1 + counts.refused.fetch_add(1, Ordering::Relaxed);
            if told.is_none_or(|at| at.elapsed() >= REFUSED_EVERY) {
                told = Some(Instant::now());
                let silent = counts.silent.load(Ordering::Relaxed);
                tracing::warn!(from = %from.ip(), refused, silent, "streams of the gossip are refused: too many are open, of all hosts or of this one; look what opens them");
            }
            continue;
        };
        let (events, desk, counts) = (events.clone(), desk.clone(), counts.clone());
        streams.spawn(async move {
            let served = bounded(STREAM, answer(stream, *from.ip(), events, &counts)).await;
            drop(place);
            let served = match served {
                Ok(Some(asked)) => desk.serve(asked.stream, asked.from, asked.body).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::debug!(%from, %error, "inbound stream failed");
            }
        });
    }
}

/// The next stream, however long none can be had: that is told once.
async fn accepted<F>(accept: impl Fn() -> F) -> (TcpStream, SocketAddr)
where
    F: Future<Output = io::Result<(TcpStream, SocketAddr)>>,
{
    let mut failed = false;
    loop {
        match accept().await {
            Ok(accepted) => {
                if failed {
                    tracing::info!("streams of the gossip are accepted again");
                }
                return accepted;
            }
            // Its caller has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "no stream of the gossip can be accepted; it is tried again");
                }
                failed = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A stream that began with a question: not the gossip's.
struct Asked {
    stream: TcpStream,
    from: Ipv4Addr,
    body: Vec<u8>,
}

async fn answer(
    mut stream: TcpStream,
    from: Ipv4Addr,
    events: mpsc::Sender<Event>,
    counts: &Counts,
) -> io::Result<Option<Asked>> {
    let frame = first_frame(&mut stream, counts).await?;
    if let Some(body) = ask::question(&frame) {
        return Ok(Some(Asked { stream, from, body }));
    }
    let (reply, answer) = oneshot::channel();
    let request = Event::Request { from, frame, reply };
    if events.send(request).await.is_err() {
        return Ok(None);
    }
    let Some(answer) = answer.await.ok().flatten() else {
        return Ok(None);
    };
    write_frame(&mut stream, &answer).await?;
    match read_frame(&mut stream, MAX_FRAME, FRAME).await {
        Ok(frame) => {
            events.send(Event::Closing { from, frame }).await.ok();
            Ok(None)
        }
        // A pull has no closing frame.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Carries out one dial from our own address, bounded in time.
pub(crate) async fn dial(dial: Dial, own: SocketAddrV4, events: mpsc::Sender<Event>) -> Ended {
    let id = dial.id;
    let ended = |address, end| Ended { id, address, end };
    let address = match resolve(&dial.target, own).await {
        Ok(address) => address,
        Err(error) => {
            tracing::debug!(target = ?dial.target, %error, "seed not resolved");
            return ended(None, DialEnd::Failed);
        }
    };
    if address == own {
        return ended(Some(own), DialEnd::Ourselves);
    }
    match bounded(STREAM, exchange(&dial, own, address, events)).await {
        Ok(()) => ended(Some(address), DialEnd::Answered),
        Err(error) => {
            tracing::debug!(%address, %error, "exchange failed");
            ended(Some(address), DialEnd::Failed)
        }
    }
}

async fn exchange(
    dial: &Dial,
    own: SocketAddrV4,
    address: SocketAddrV4,
    events: mpsc::Sender<Event>,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    // Peers check that we come from where we say we are.
    socket.bind(SocketAddrV4::new(*own.ip(), 0).into())?;
    let mut stream = bounded(CONNECT, socket.connect(address.into())).await?;
    write_frame(&mut stream, &dial.request).await?;
    let frame = read_frame(&mut stream, MAX_FRAME, FRAME).await?;
    let (reply, closing) = oneshot::channel();
    let answer = Event::Answer { id: dial.id, from: address, frame, reply };
    if events.send(answer).await.is_err() {
        return Ok(());
    }
    if let Some(closing) = closing.await.ok().flatten() {
        write_frame(&mut stream, &closing).await?;
    }
    bounded(FRAME, stream.shutdown()).await
}

/// The first IPv4 address of a target that is not our own; our own where there is no other.
async fn resolve(target: &Target, own: SocketAddrV4) -> io::Result<SocketAddrV4> {
    let text = match target {
        Target::Address(address) => return Ok(*address),
        Target::Seed(text) if text.contains(':') => text.clone(),
        Target::Seed(text) => format!("{text}:{}", own.port()),
    };
    let mut ours = None;
    for address in bounded(RESOLVE, lookup_host(text)).await? {
        if let SocketAddr::V4(address) = address {
            if address != own {
                return Ok(address);
            }
            ours = Some(own);
        }
    }
    ours.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no IPv4 address"))
}

/// Reads the first frame of an inbound stream.
async fn first_frame(stream: &mut TcpStream, counts: &Counts) -> io::Result<Vec<u8>> {
    let begin = bounded(BEGIN, async {
        let length = stream.read_u32().await?;
        let mut head = vec![0; HEADER];
        stream.read_exact(&mut head).await?;
        Ok((length, head))
    });
    let (length, head) = begin.await.inspect_err(|error| {
        let silent = error.kind() == io::ErrorKind::TimedOut;
        counts.silent.fetch_add(u64::from(silent), Ordering::Relaxed);
    })?;
    bounded(FRAME, rest_of_frame(stream, head, length, MAX_REQUEST)).await
}

/// Reads a frame of at most `most` bytes. Memory grows with what arrives, not with what is claimed.
pub(crate) async fn read_frame(
    stream: &mut TcpStream,
    most: usize,
    within: Duration,
) -> io::Result<Vec<u8>> {
    bounded(within, async {
        let length = stream.read_u32().await?;
        rest_of_frame(stream, Vec::new(), length, most).await
    })
    .await
}

/// Reads what follows on the beginning of a frame of that length.
async fn rest_of_frame(
    stream: &mut TcpStream,
    mut frame: Vec<u8>,
    length: u32,
    most: usize,
) -> io::Result<Vec<u8>> {
    let length = u64::from(length);
    if length > most as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("frame of {length} bytes, at most {most} are taken"),
        ));
    }
    let left = length.saturating_sub(frame.len() as u64);
    stream.take(left).read_to_end(&mut frame).await?;
    if frame.len() as u64 == length { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(crate) async fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    bounded(FRAME, async {
        stream.write_u32(length).await?;
        stream.write_all(frame).await?;
        stream.flush().await
    })
    .await
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
