//! Captures: taps at the interface between the hosts, each of which somebody reads.
//!
//! A capture is a task that moves frames from its tap into its [`Buffer`]. Nothing is dropped here: when
//! the buffer is full, frames wait in the kernel's, and when that is full the kernel drops them, counts
//! them, and costs the agent nothing. A capture that nobody reads ends.
//!
//! Who holds the sessions' lock never waits. Reading is cancel-safe: a frame stays until the next read
//! says that it was got.

mod buffer;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::net::if_::if_nametoindex;
use ovl_packet::{Direction, Filter, Frame, RawTap, SNAPLEN_MAX, Tap, TapError};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep_until, timeout_at};

use self::buffer::Buffer;
use crate::chain;
use crate::control::api::captures::{
    BUFFER_MAX, BUFFER_MIN, Batch, Capture, CapturedFrame, Direction as Way, READ_WAIT_MAX,
    ReadCapture,
};
use crate::core::Refusal;

/// Captures of one host at once; one more is refused.
const CAPTURES_MAX: usize = 4;

/// How long a capture that nobody reads goes on.
const UNREAD_FOR: Duration = Duration::from_secs(15);

/// How often it is looked whether the interface is still there.
const LOOK: Duration = Duration::from_secs(2);

/// Of a read from an interface that went down, once.
const ENETDOWN: i32 = nix::errno::Errno::ENETDOWN as i32;

/// Room for frames that wait, in bytes, when nothing else is asked for.
const BUFFER: u32 = 4 << 20;

/// What is captured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Name and VNI of the network; None: all.
    pub(crate) network: Option<(String, u32)>,
    /// Inner addresses; empty: all.
    pub(crate) addresses: Vec<IpAddr>,
    /// Bytes of each frame.
    pub(crate) snaplen: Option<u32>,
    /// Bytes of frames that wait.
    pub(crate) buffer: Option<u32>,
}

/// All captures of this host.
pub(crate) struct Captures {
    host: String,
    vxlan_port: u16,
    unread_for: Duration,
    running: Mutex<BTreeMap<String, Arc<Running>>>,
}

/// One capture.
struct Running {
    tap: Tap,
    interface: String,
    index: u32,
    state: Mutex<State>,
    /// A frame came, or none will come any more.
    news: Notify,
    /// Frames were got, or the deadline moved, or it was ended.
    asked: Notify,
}

struct State {
    buffer: Buffer,
    /// When it ends, unless somebody reads it.
    deadline: Instant,
    ended: Option<String>,
}

impl Captures {
    pub(crate) fn new(host: String, vxlan_port: u16) -> Captures {
        Captures { host, vxlan_port, unread_for: UNREAD_FOR, running: Mutex::default() }
    }

    /// Starts one; `asker` is for the log.
    pub(crate) fn start(
        self: &Arc<Self>,
        interface: &str,
        wanted: &Wanted,
        asker: &str,
    ) -> Result<Capture, Refusal> {
        let buffer = wanted.buffer.unwrap_or(BUFFER);
        if !(BUFFER_MIN..=BUFFER_MAX).contains(&buffer) {
            return Err(Refusal::invalid(format!(
                "a buffer of {buffer} bytes: give one from {BUFFER_MIN} to {BUFFER_MAX}"
            )));
        }
        let vni = wanted.network.as_ref().map(|(_, vni)| *vni);
        let filter = Filter::vxlan(self.vxlan_port, vni, &wanted.addresses)
            .map_err(|e| Refusal::invalid(chain(&e)))?;
        let index = if_nametoindex(interface).map_err(|error| {
            Refusal::conflict(format!("no capture can be made on {interface}: {error}"))
        })?;
        let largest = u32::try_from(SNAPLEN_MAX).unwrap_or(u32::MAX);
        let snaplen = wanted.snaplen.unwrap_or(largest).clamp(1, largest);
        let mut running = lock(&self.running);
        if running.len() >= CAPTURES_MAX {
            return Err(Refusal::unavailable(format!(
                "{CAPTURES_MAX} captures run on this host already; end one of them, or wait: one that nobody reads ends after {} s",
                UNREAD_FOR.as_secs()
            )));
        }
        let tap = open(interface, &filter, snaplen, buffer)?;
        let id = format!("{:016x}", rand::random::<u64>());
        let words = self.in_words(wanted);
        tracing::info!(capture = id, interface, filter = words, asker, "a capture begins");
        let session = Arc::new(Running {
            tap,
            interface: interface.to_owned(),
            index,
            state: Mutex::new(State {
                buffer: Buffer::new(buffer as usize),
                deadline: Instant::now() + self.unread_for,
                ended: None,
            }),
            news: Notify::new(),
            asked: Notify::new(),
        });
        running.insert(id.clone(), session.clone());
        tokio::spawn(self.clone().follow(id.clone(), session));
        Ok(Capture {
            id,
            host: self.host.clone(),
            interface: interface.to_owned(),
            vxlan_port: self.vxlan_port,
            snaplen,
            filter: words,
        })
    }

    /// What came since; waits for it as long as it may. Many may read one capture, each frame is for
    /// the first who says that it was got.
    pub(crate) async fn read(&self, id: &str, read: ReadCapture) -> Result<Batch, Refusal> {
        let session = lock(&self.running).get(id).cloned().ok_or_else(no_such_capture)?;
        let until = Instant::now() + Duration::from_secs(read.wait.min(READ_WAIT_MAX).into());
        session.keep_until(until + self.unread_for, read.after);
        let batch = session.batch_by(until).await;
        session.keep_until(Instant::now() + self.unread_for, read.after);
        Ok(batch)
    }

    /// Ends one.
    pub(crate) fn end(&self, id: &str) -> Result<(), Refusal> {
        let session = lock(&self.running).remove(id).ok_or_else(no_such_capture)?;
        session.end("it was ended");
        Ok(())
    }

    /// How many run.
    pub(crate) fn count(&self) -> usize {
        lock(&self.running).len()
    }

    /// Ends all, as the agent ends. Who reads one is told.
    pub(crate) fn close(&self) {
        for session in std::mem::take(&mut *lock(&self.running)).into_values() {
            session.end("the agent of its host was stopped");
        }
    }

    /// The task of one capture, until it ends.
    async fn follow(self: Arc<Self>, id: String, session: Arc<Running>) {
        let why = session.run().await;
        session.end(&why);
        // Who reads it has yet to hear why.
        while lock(&self.running).contains_key(&id)
            && let Some(deadline) = session.read_until()
        {
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = session.asked.notified() => {}
            }
        }
        lock(&self.running).remove(&id);
        tracing::info!(capture = id, dropped = session.tap.dropped(), why, "a capture has ended");
    }

    fn in_words(&self, wanted: &Wanted) -> String {
        let mut words = format!("VXLAN to UDP port {}", self.vxlan_port);
        if let Some((name, vni)) = &wanted.network {
            words.push_str(&format!(" of network {name} (VNI {vni})"));
        }
        if !wanted.addresses.is_empty() {
            let addresses: Vec<String> = wanted.addresses.iter().map(ToString::to_string).collect();
            words.push_str(&format!(" with {} inside", addresses.join(" or ")));
        }
        words
    }
}

impl Running {
    /// Moves frames until there is a reason to end.
    async fn run(&self) -> String {
        let mut looks = interval(LOOK);
        loop {
            let (full, deadline) = {
                let state = lock(&self.state);
                if let Some(why) = &state.ended {
                    return why.clone();
                }
                (state.buffer.is_full(), state.deadline)
            };
            if deadline <= Instant::now() {
                return format!("nobody read it for {} s", UNREAD_FOR.as_secs());
            }
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = self.asked.notified() => {}
                frame = self.tap.recv(), if !full => match frame {
                    Ok(frame) => self.push(frame),
                    // An interface that goes down comes up again.
                    Err(error) if error.raw_os_error() == Some(ENETDOWN) => {}
                    Err(error) => return format!("interface {} cannot be read: {error}", self.interface),
                },
                _ = looks.tick() => if self.is_gone() {
                    return format!("interface {} was removed", self.interface);
                },
            }
        }
    }

    fn push(&self, frame: Frame) {
        lock(&self.state).buffer.push(captured(frame));
        self.news.notify_waiters();
    }

    /// The kernel does not tell it of an interface that was down already.
    fn is_gone(&self) -> bool {
        if_nametoindex(self.interface.as_str()) != Ok(self.index)
    }

    fn end(&self, why: &str) {
        let mut state = lock(&self.state);
        if state.ended.is_none() {
            state.ended = Some(why.to_owned());
        }
        drop(state);
        self.news.notify_waiters();
        self.asked.notify_one();
    }

    /// How long it is kept for who reads it; `None`: nobody does.
    fn read_until(&self) -> Option<Instant> {
        let deadline = lock(&self.state).deadline;
        (deadline > Instant::now()).then_some(deadline)
    }

    /// Somebody reads it, and has got all up to `after`.
    fn keep_until(&self, deadline: Instant, after: u64) {
        let mut state = lock(&self.state);
        state.deadline = deadline;
        state.buffer.let_go(after);
        drop(state);
        self.asked.notify_one();
    }

    async fn batch_by(&self, until: Instant) -> Batch {
        loop {
            let news = self.news.notified();
            let batch = self.batch();
            if !batch.frames.is_empty() || batch.ended.is_some() {
                return batch;
            }
            if timeout_at(until, news).await.is_err() {
                return self.batch();
            }
        }
    }

    fn batch(&self) -> Batch {
        let state = lock(&self.state);
        let frames = state.buffer.batch();
        // What waits is given before the reason why there is no more.
        let ended = if frames.is_empty() { state.ended.clone() } else { None };
        Batch { frames, dropped: self.tap.dropped(), ended }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_such_capture() -> Refusal {
    Refusal::not_found(format!(
        "there is no such capture (any more): one that nobody reads for {} s ends, and all end with their agent; start another",
        UNREAD_FOR.as_secs()
    ))
}

fn open(interface: &str, filter: &Filter, snaplen: u32, buffer: u32) -> Result<Tap, Refusal> {
    let refuse = |e: &TapError| {
        Refusal::conflict(format!("no capture can be made on {interface}: {}", chain(e)))
    };
    let raw = RawTap::open(interface, filter, snaplen as usize).map_err(|e| refuse(&e))?;
    // The kernel takes twice what is asked for.
    let tap = raw.set_buffer(buffer as usize / 2).and_then(|()| raw.register());
    tap.map_err(|source| {
        let interface = interface.to_owned();
        refuse(&TapError::Failed { interface, what: "make room for frames", source })
    })
}

fn captured(frame: Frame) -> CapturedFrame {
    let since = frame.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    CapturedFrame {
        number: 0,
        at: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        direction: match frame.direction {
            Direction::In => Way::In,
            Direction::Out => Way::Out,
            Direction::Other => Way::Other,
        },
        length: u32::try_from(frame.length).unwrap_or(u32::MAX),
        bytes: frame.bytes,
    }
}

#[cfg(test)]
mod tests;
