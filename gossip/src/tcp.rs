//! Streams: frames with a length before them, a deadline on everything, and a bound on how many.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ask::{self, Desk};
use crate::node::{Dial, DialEnd};
use crate::seeds::Target;
use crate::wire::{MAX_FRAME, MAX_REQUEST};

/// Most inbound streams open at a time. A further one is closed at once and counted; the caller tries
/// somebody else or later.
const MAX_INBOUND: usize = 32;
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
    refused: Arc<AtomicU64>,
) {
    let places = Arc::new(Semaphore::new(MAX_INBOUND));
    let mut streams = JoinSet::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "stream not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while streams.try_join_next().is_some() {}
        let Ok(place) = places.clone().try_acquire_owned() else {
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (events, desk) = (events.clone(), desk.clone());
        streams.spawn(async move {
            let served = bounded(STREAM, answer(stream, from, events)).await;
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

/// A stream that began with a question: not the gossip's.
struct Asked {
    stream: TcpStream,
    from: Ipv4Addr,
    body: Vec<u8>,
}

async fn answer(
    mut stream: TcpStream,
    from: SocketAddr,
    events: mpsc::Sender<Event>,
) -> io::Result<Option<Asked>> {
    let IpAddr::V4(from) = from.ip() else {
        return Ok(None);
    };
    let frame = read_frame(&mut stream, MAX_REQUEST, FRAME).await?;
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

/// Reads a frame of at most `most` bytes. Memory grows with what arrives, not with what is claimed.
pub(crate) async fn read_frame(
    stream: &mut TcpStream,
    most: usize,
    within: Duration,
) -> io::Result<Vec<u8>> {
    bounded(within, async {
        let length = u64::from(stream.read_u32().await?);
        if length > most as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("frame of {length} bytes, at most {most} are taken"),
            ));
        }
        let mut frame = Vec::new();
        (&mut *stream).take(length).read_to_end(&mut frame).await?;
        if frame.len() as u64 == length {
            Ok(frame)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    })
    .await
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
