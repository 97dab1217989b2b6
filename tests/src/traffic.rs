//! Traffic that runs while something happens, counted to the last packet and the last look-up.
//!
//! Both run on threads of their own, in network namespaces that paths name, until they are asked
//! to finish. What is on its way then is waited for.
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};

use crate::names;
use crate::wait::Deadline;

/// Between two packets of a stream: 1,000 a second.
const PACKET_STEP: Duration = Duration::from_millis(1);
/// Between two look-ups.
const QUERY_STEP: Duration = Duration::from_millis(10);
/// What a resolver waits before it asks again: an answer that comes later is lost.
const QUERY_LIMIT: Duration = Duration::from_secs(5);
/// How long the last packets may take.
const DRAIN: Duration = Duration::from_secs(2);
/// How often a thread that waits looks around.
const LOOK: Duration = Duration::from_millis(50);
/// Some seconds of the stream: a receiver that gets no CPU for a while loses nothing.
const BUFFER: usize = 8 << 20;

/// Something that runs until it is finished.
#[derive(Debug)]
pub struct Running<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<T>>,
}

/// What became of a stream.
#[derive(Clone, Debug, Default)]
pub struct Packets {
    /// How many were sent.
    pub sent: u32,
    /// How many of them arrived.
    pub received: u32,
    /// Why some could not be sent.
    pub refused: Vec<String>,
    /// The longest time without one.
    pub longest_gap: Duration,
}

/// What became of look-ups.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    /// How many questions were asked.
    pub asked: u32,
    /// How many were answered with the address that was expected.
    pub answered: u32,
    /// What became of the others.
    pub failures: Vec<String>,
    /// The longest time that an answer took.
    pub longest: Duration,
}

impl<T> Running<T> {
    /// Ends it, waits for what is on its way, and gives the result.
    ///
    /// # Errors
    /// Those of sockets and namespaces.
    pub fn finish(self) -> io::Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }
}

/// Sends 1,000 packets a second from one network namespace to `to`, an address of another, and
/// counts there.
///
/// # Errors
/// Those of sockets and namespaces.
pub fn packets(from: &str, receiver: &str, to: SocketAddr) -> io::Result<Running<Packets>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (from, at) = (File::open(from)?, File::open(receiver)?);
    let inbox = in_network(at, move || {
        let socket = UdpSocket::bind(to)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(socket)
    })?;
    let outbox = in_network(from, move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to)?;
        Ok(socket)
    })?;
    let (asked, sent) = (Arc::clone(&stop), Arc::new(AtomicU32::new(0)));
    let thread = thread::spawn(move || {
        let (done, total) = (Arc::clone(&asked), Arc::clone(&sent));
        let sender = thread::spawn(move || send(&outbox, &done, &total));
        let (received, longest_gap) = receive(&inbox, &asked, &sent)?;
        let refused = sender.join().unwrap_or_default();
        Ok(Packets { sent: sent.load(Ordering::Relaxed), received, refused, longest_gap })
    });
    Ok(Running { stop, thread })
}

/// Asks Docker's resolver in a network namespace for `name` every 10 ms, with a socket of its own
/// each time, as programs do. Right is `expected`.
///
/// # Errors
/// Those of sockets and namespaces.
pub fn lookups(namespace: &str, name: &str, expected: Ipv4Addr) -> io::Result<Running<Lookups>> {
    const SERVER: ([u8; 4], u16) = ([127, 0, 0, 11], 53);
    let stop = Arc::new(AtomicBool::new(false));
    let (namespace, name, asked) = (File::open(namespace)?, name.to_owned(), Arc::clone(&stop));
    let thread = thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        look_up(SocketAddr::from(SERVER), &name, expected, &asked)
    });
    Ok(Running { stop, thread })
}

fn send(outbox: &UdpSocket, stop: &AtomicBool, sent: &AtomicU32) -> Vec<String> {
    let (clock, mut refused) = (Deadline::after(Duration::MAX), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outbox.send(&number.to_be_bytes()) {
            refused.push(format!("packet {number}: {error}"));
        }
        // What was late is made up for.
        thread::sleep((PACKET_STEP * (number + 1)).saturating_sub(clock.elapsed()));
    }
    refused
}

/// Counts different packets until all are there, or the last ones do not come.
fn receive(inbox: &UdpSocket, stop: &AtomicBool, sent: &AtomicU32) -> io::Result<(u32, Duration)> {
    let (mut seen, mut longest) = (std::collections::HashSet::new(), Duration::ZERO);
    let mut quiet = Deadline::after(DRAIN);
    loop {
        let mut bytes = [0; 4];
        match inbox.recv(&mut bytes) {
            Ok(_) => {
                seen.insert(u32::from_be_bytes(bytes));
                longest = longest.max(quiet.elapsed());
                quiet = Deadline::after(DRAIN);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let received = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let all = received == sent.load(Ordering::Relaxed);
        // A packet that is sent after this look would be one that nobody counts: hence the quiet.
        if stop.load(Ordering::Relaxed) && (quiet.passed() || all && quiet.elapsed() >= LOOK) {
            return Ok((received, longest));
        }
    }
}

fn look_up(
    server: SocketAddr,
    name: &str,
    expected: Ipv4Addr,
    stop: &AtomicBool,
) -> io::Result<Lookups> {
    let (clock, mut result) = (Deadline::after(Duration::MAX), Lookups::default());
    let mut pending: Vec<(UdpSocket, Deadline)> = Vec::new();
    while !stop.load(Ordering::Relaxed) || !pending.is_empty() {
        if !stop.load(Ordering::Relaxed) && clock.elapsed() >= QUERY_STEP * result.asked {
            pending.push((names::send(server, name)?, Deadline::after(QUERY_LIMIT)));
            result.asked += 1;
        }
        pending.retain(|(socket, deadline)| match names::received(socket) {
            Ok(None) if deadline.passed() => {
                result.failures.push(format!("no answer within {QUERY_LIMIT:?}"));
                false
            }
            Ok(None) => true,
            Ok(Some(address)) if address == Some(expected) => {
                result.answered += 1;
                result.longest = result.longest.max(deadline.elapsed());
                false
            }
            Ok(Some(address)) => {
                result.failures.push(format!("answered with {address:?}"));
                false
            }
            Err(error) => {
                result.failures.push(error.to_string());
                false
            }
        });
        thread::sleep(PACKET_STEP);
    }
    Ok(result)
}

/// Makes something in a network namespace, that goes on belonging to it.
fn in_network<T: Send + 'static>(
    namespace: File,
    make: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let thread = thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        make()
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}
