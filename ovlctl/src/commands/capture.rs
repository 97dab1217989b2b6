//! `capture`: the overlay's packets between hosts, as they come.
//!
//! One request after the other asks the agent for what came since; each says what was got. So it works
//! through another host's agent as well.
mod directory;
mod record;
mod sink;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use ovl_agent::control::api::captures::{self, BUFFER_MAX, BUFFER_MIN, Batch, StartCapture};

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

/// How long it may take besides.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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
        id: &started.id,
        left: count,
        last: 0,
        got: 0,
        dropped: 0,
    };
    let outcome = match Sink::open(target, output.is_json(), &started, directory) {
        Ok(mut sink) => {
            output.remark(&format!(
                "capturing on {} of {}: {}; Ctrl-C ends it",
                started.interface, started.host, started.filter
            ));
            let followed = follower.follow(&mut sink, &mut stop).await;
            // What was got is kept, whatever ended it.
            let finished = sink.finish(follower.dropped);
            output.remark(&follower.in_words());
            followed.and(finished)
        }
        Err(error) => Err(error),
    };
    // It ends by itself as well, only later.
    let target = path(&["captures", &started.id]);
    tokio::select! {
        _ = client.delete(&target) => {}
        () = stop.reached() => {}
    }
    outcome
}

/// Reads one capture.
struct Follower<'a> {
    client: Client,
    id: &'a str,
    /// How many more packets are wanted; None: all.
    left: Option<u64>,
    /// The number of the last one that was got.
    last: u64,
    /// How many were got.
    got: u64,
    dropped: u64,
}

impl Follower<'_> {
    async fn follow(&mut self, sink: &mut Sink, stop: &mut Stop) -> Result<(), Error> {
        loop {
            let (batch, stopped) = tokio::select! {
                batch = self.read(WAIT) => (batch.map_err(ended)?, false),
                () = stop.reached() => tokio::select! {
                    batch = self.read(0) => (batch.map_err(ended)?, true),
                    // Once more: now.
                    () = stop.reached() => return Ok(()),
                },
            };
            let over = batch.ended.clone();
            self.take(batch, sink)?;
            if stopped || self.left == Some(0) {
                return Ok(());
            }
            let nearest = self.client.to(None);
            tokio::select! {
                refreshed = sink.refresh(&nearest) => refreshed?,
                () = stop.reached() => return Ok(()),
            }
            if let Some(why) = over {
                return Err(Error::CaptureEnded(why));
            }
        }
    }

    async fn read(&self, wait: u32) -> Result<Batch, Error> {
        let (after, wait) = (self.last.to_string(), wait.to_string());
        let target = path(&["captures", self.id, "read"]);
        let query = [("after", Some(after.as_str())), ("wait", Some(wait.as_str()))];
        self.client.post(&with_query(target, &query), &()).await
    }

    fn take(&mut self, batch: Batch, sink: &mut Sink) -> Result<(), Error> {
        let wanted =
            self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let frames: Vec<_> = batch.frames.into_iter().take(wanted).collect();
        self.dropped = batch.dropped;
        self.last = frames.last().map_or(self.last, |frame| frame.number);
        self.got += frames.len() as u64;
        self.left = self.left.map(|left| left.saturating_sub(frames.len() as u64));
        sink.take(frames)
    }

    fn in_words(&self) -> String {
        let Follower { got, dropped, .. } = self;
        let hint = match (got, dropped) {
            (0, 0) => {
                "; packets between containers of one host do not leave it, and are not seen here"
            }
            (_, 0) => "",
            (_, _) => "; a larger --buffer, or a narrower capture, drops fewer",
        };
        let packets = if *got == 1 { "packet" } else { "packets" };
        format!("{got} {packets} captured, {dropped} dropped by the kernel{hint}")
    }
}

/// The agent went, or it ended the capture: with what was captured before, all is well.
fn ended(error: Error) -> Error {
    Error::CaptureEnded(error.to_string())
}
