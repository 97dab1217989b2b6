//! `capture`: the overlay's packets between hosts, as they come.
//!
//! One request after the other asks the agent for what came since; each says what was got. So it works
//! through another host's agent as well.
mod apart;
mod directory;
mod record;
mod sink;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use ovl_agent::control::api::captures::{self, BUFFER_MAX, BUFFER_MIN, Batch, StartCapture};
use tokio::time::{Instant, sleep};

use self::apart::Apart;
use self::directory::Directory;
use self::sink::{Sink, Target};
use crate::args::seconds;
use crate::client::{Client, path, with_query};
use crate::complete;
use crate::error::Error;
use crate::output::Output;
use crate::stop::Stop;

/// How long the agent waits for a packet before it answers that there is none, in seconds.
const WAIT: u32 = 5;

/// How long it may take for what is left, and to end the capture, once the end has come.
const END_WITHIN: Duration = Duration::from_secs(3);

/// How long it may take besides.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// An agent that has nothing and does not wait, either, is asked again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// What is kept of a packet that is only shown, in bytes: all headers, outside and inside.
const SHOWN: u32 = 256;

const KIB: u32 = 1 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Capture {
    /// Only packets of this network
    ///
    /// Without it, of all networks.
    #[arg(long, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
    network: Option<String>,

    /// Only packets that this endpoint sends or gets
    ///
    /// A name or alias, NAME.NETWORK, or an address; ARP and neighbour discovery for it as well. Its
    /// addresses are looked up once, at the start.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = complete::endpoints())]
    name: Option<String>,

    /// End after this many packets
    ///
    /// Without it Ctrl-C ends it.
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after this many seconds
    ///
    /// From 0.1 to 3600. Without it Ctrl-C ends it.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,

    /// Write packets to a file in place of showing them
    ///
    /// In the format pcapng, for Wireshark and tshark: times in nanoseconds, names of addresses, the count
    /// of dropped packets. A file that is there is replaced; a new one only you can read. `-`: to standard
    /// output, for a pipe.
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Bytes to keep of each packet
    ///
    /// Without it all of them with --write, else the first 256, which hold the headers.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: Option<u32>,

    /// Room for packets that were not read yet, in KiB
    ///
    /// From 16 to 16384, in the agent and once more in the kernel. Packets that come when it is full are
    /// dropped and counted.
    #[arg(long, value_name = "KIB", default_value_t = 4 * KIB)]
    #[arg(value_parser = clap::value_parser!(u32).range(i64::from(BUFFER_MIN / KIB)..=i64::from(BUFFER_MAX / KIB)))]
    buffer: u32,
}

pub(super) async fn run(capture: Capture, client: &Client, output: &Output) -> Result<(), Error> {
    let Capture { network, name, count, duration, write, snaplen, buffer } = capture;
    // Before signals are minded: a pipe is waited for until somebody reads it.
    let target = write.as_deref().map(Target::open).transpose()?;
    let mut stop = Stop::new(duration)?;
    let snaplen = snaplen.or(write.is_none().then_some(SHOWN));
    let wanted = StartCapture { network, name, snaplen, buffer: Some(buffer * KIB) };
    let start = async {
        // All agents know all names, and the one of this host is the nearest.
        let directory = Directory::read(&client.to(None)).await?;
        let started: captures::Capture = client.post(&path(&["captures"]), &wanted).await?;
        Ok::<_, Error>((directory, started))
    };
    let (directory, started) = tokio::select! {
        begun = start => begun?,
        () = stop.reached() => return Ok(()),
    };
    let mut follower = Follower {
        client: client.patient(Duration::from_secs(WAIT.into()) + ANSWER_WITHIN),
        started: &started,
        left: count,
        last: 0,
        got: 0,
        stuck: 0,
        dropped: 0,
    };
    let outcome = match Sink::open(target, output.is_json(), &started, directory) {
        Ok(sink) => {
            output.remark(&format!(
                "capturing on {} of {}: {}; Ctrl-C ends it",
                started.interface, started.host, started.filter
            ));
            let mut sink = Apart::new(sink, &mut stop);
            let followed = follower.follow(&mut sink).await;
            // What was got is kept, whatever ended it.
            let dropped = follower.dropped;
            let finished = sink.write(move |sink| sink.finish(dropped)).await;
            output.remark(&follower.in_words());
            followed.and(finished)
        }
        Err(error) => Err(error),
    };
    // It ends by itself as well, only later.
    let (client, target) = (client.hasty(END_WITHIN), path(&["captures", &started.id]));
    tokio::select! {
        _ = client.delete(&target) => {}
        () = stop.reached() => {}
    }
    outcome
}

/// Reads one capture.
struct Follower<'a> {
    client: Client,
    started: &'a captures::Capture,
    /// How many more packets are wanted; None: all.
    left: Option<u64>,
    /// The number of the last one that was got.
    last: u64,
    /// How many were got, and written.
    got: u64,
    /// How many were got, and not taken by who reads them.
    stuck: u64,
    dropped: u64,
}

impl Follower<'_> {
    async fn follow(&mut self, sink: &mut Apart<'_>) -> Result<(), Error> {
        sink.write(Sink::begin).await?;
        loop {
            let batch = if sink.is_stopped() {
                tokio::select! {
                    batch = self.read(0) => batch,
                    // Once more: now.
                    () = sink.stopped() => return Ok(()),
                }
            } else {
                tokio::select! {
                    batch = self.read(WAIT) => batch,
                    () = sink.stopped() => continue,
                }
            };
            let is_last = sink.is_stopped();
            let batch = batch.map_err(ended)?;
            let over = batch.ended.clone();
            let frames = self.take(batch)?;
            let count = frames.len() as u64;
            sink.write(move |sink| sink.take(frames)).await?;
            if sink.is_stuck() {
                self.stuck = count;
                return Ok(());
            }
            self.got += count;
            if is_last || self.left == Some(0) {
                return Ok(());
            }
            if sink.wants_names() {
                let nearest = self.client.to(None);
                let new = tokio::select! {
                    new = Directory::read(&nearest) => new,
                    () = sink.stopped() => continue,
                };
                // Without an answer the old ones stay.
                if let Ok(new) = new {
                    sink.write(|sink| sink.refresh(new)).await?;
                }
            }
            if let Some(why) = over {
                return Err(Error::CaptureEnded(why));
            }
        }
    }

    async fn read(&self, wait: u32) -> Result<Batch, Error> {
        let asked = Instant::now();
        let (after, wait_for) = (self.last.to_string(), wait.to_string());
        let target = path(&["captures", &self.started.id, "read"]);
        let query = [("after", Some(after.as_str())), ("wait", Some(wait_for.as_str()))];
        let client = match wait {
            0 => self.client.hasty(END_WITHIN),
            _ => self.client.clone(),
        };
        let batch: Batch = client.post(&with_query(target, &query), &()).await?;
        let is_idle = batch.frames.is_empty() && batch.ended.is_none();
        if wait > 0 && is_idle && asked.elapsed() < AGAIN {
            sleep(AGAIN).await;
        }
        Ok(batch)
    }

    /// The packets of an answer that are wanted; it may come from another host, and is looked at before.
    fn take(&mut self, batch: Batch) -> Result<Vec<captures::CapturedFrame>, Error> {
        let forged = |why: String| Err(ended(self.client.misunderstood(why)));
        let mut last = self.last;
        for frame in &batch.frames {
            let (number, bytes) = (frame.number, frame.bytes.len() as u64);
            if number <= last {
                return forged(format!("packet {number} comes after packet {last}"));
            }
            let most = frame.length.min(self.started.snaplen);
            if bytes > most.into() {
                return forged(format!(
                    "of packet {number} there are {bytes} bytes, and not {most}"
                ));
            }
            last = number;
        }
        let wanted =
            self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let frames: Vec<_> = batch.frames.into_iter().take(wanted).collect();
        self.dropped = batch.dropped;
        self.last = frames.last().map_or(self.last, |frame| frame.number);
        self.left = self.left.map(|left| left.saturating_sub(frames.len() as u64));
        Ok(frames)
    }

    fn in_words(&self) -> String {
        let Follower { got, stuck, dropped, .. } = self;
        let packets = |count: u64| if count == 1 { "packet" } else { "packets" };
        let hint = match (got, stuck, dropped) {
            (_, 1.., _) => {
                let packets = packets(*stuck);
                format!(
                    "; {stuck} more {packets} had come, and who reads them did not take them all"
                )
            }
            (0, 0, 0) => {
                "; packets between containers of one host do not leave it, and are not seen here"
                    .to_owned()
            }
            (_, 0, 0) => String::new(),
            (_, 0, _) => "; a larger --buffer, or a narrower capture, drops fewer".to_owned(),
        };
        format!("{got} {} captured, {dropped} dropped by the kernel{hint}", packets(*got))
    }
}

/// The agent went, or it ended the capture: with what was captured before, all is well.
fn ended(error: Error) -> Error {
    Error::CaptureEnded(error.to_string())
}
