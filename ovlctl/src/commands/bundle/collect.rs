//! Gathers the parts: a few at a time, each within its limits.
use std::path::PathBuf;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use ovl_agent::control::api::{Member, Status};
use ovl_agent::doctor::Only;
use ovl_agent::tool::{self, Limits};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::files;
use super::here::Here;
use super::parts::{Part, Source, of_host, of_peers};
use crate::client::{Client, path};
use crate::commands::doctor::examine;

/// Parts that are gathered at one time.
const AT_ONCE: usize = 8;

/// Bytes of a part; of a longer one the end is left out, and that is said.
const PART_MAX: usize = 8 << 20;

/// Bytes of all parts together; what comes after is left out, and that is said.
const ALL_MAX: usize = 96 << 20;

/// What all other hosts together may take; what has not come by then is left out, and that is said.
const PEERS_WITHIN: Duration = Duration::from_secs(60);

/// What `journalctl` prints where it finds nothing, also where there is no journal.
const NO_ENTRIES: &str = "-- No entries --";

/// A part, or why it could not be had.
pub(super) struct Collected {
    path: String,
    pub(super) found: Result<String, String>,
    /// There is more of it.
    pub(super) cut: bool,
}

impl Collected {
    pub(super) fn new(path: &str, found: Result<String, String>, cut: bool) -> Collected {
        Collected { path: path.to_owned(), found, cut }
    }

    /// Its file in the archive, and what stands in it.
    pub(super) fn file(&self) -> (String, String) {
        match &self.found {
            Ok(text) => (self.path.clone(), text.clone()),
            Err(why) => (format!("{}.missing.txt", self.path), format!("{why}\n")),
        }
    }
}

/// All parts, in their order.
pub(super) async fn all(here: &Here, client: &Client, peers: bool) -> Vec<Collected> {
    let mut parts = of_host(here);
    if peers {
        // Without an agent there is nobody to ask for others.
        let members: Vec<Member> = client.get(&path(&["members"])).await.unwrap_or_default();
        let status: Option<Status> = client.get(&path(&["status"])).await.ok();
        parts.extend(of_peers(&members, status.as_ref().map(|status| status.node.as_str())));
    }
    let until = Instant::now() + PEERS_WITHIN;
    let mut collected = stream::iter(parts).map(|part| one(part, client, until)).buffered(AT_ONCE);
    let mut all: Vec<Collected> = Vec::new();
    let mut bytes = 0;
    while let Some(mut part) = collected.next().await {
        bytes += part.found.as_ref().map_or(0, String::len);
        if bytes > ALL_MAX {
            part.found =
                Err(format!("it is left out: all parts are more than {} MiB", ALL_MAX >> 20));
        }
        all.push(part);
    }
    all
}

/// `until`: for what other hosts say.
async fn one(part: Part, client: &Client, until: Instant) -> Collected {
    let Part { path, source, within } = part;
    let end = match source {
        Source::Agent { host: Some(_), .. } => until.min(Instant::now() + within),
        _ => Instant::now() + within,
    };
    let found = tokio::time::timeout_at(end, source.find(client, within)).await;
    let late =
        || Err(format!("it, or what comes before it, took longer than {} s", within.as_secs()));
    match found.unwrap_or_else(|_| late()) {
        Ok((text, cut)) => Collected::new(&path, Ok(text), cut),
        Err(why) => Collected::new(&path, Err(why), false),
    }
}

/// A text, and whether its end is left out; else why there is none.
type Found = Result<(String, bool), String>;

impl Source {
    async fn find(self, client: &Client, within: Duration) -> Found {
        match self {
            Source::Program(argv) => {
                let limits = Limits { time: within, output: PART_MAX };
                let said = tool::run(&argv, limits).await.map_err(|error| error.to_string())?;
                match said.text.trim() {
                    NO_ENTRIES => Err(format!("the journal has no entries. {}", said.complaint)),
                    // Some programs find nothing, and say so there.
                    "" => Ok((said.complaint + "\n", false)),
                    _ => Ok((said.text, said.cut)),
                }
            }
            Source::File(file) => {
                let failed = format!("{}: ", file.display());
                let read = move || files::read(&file, PART_MAX).map_err(|error| error.to_string());
                apart(read).await.map_err(|why| failed + &why)
            }
            Source::Files(files) => apart(move || Ok((each(&files), false))).await,
            Source::Agent { target, host } => {
                let client = client.to(host.as_deref()).patient(within);
                json(client.get::<Value>(&target).await.map_err(|error| error.to_string())?)
            }
            Source::Doctor => {
                // It looks at files itself where no agent answers.
                let (client, runtime) = (client.clone(), Handle::current());
                apart(move || {
                    let seen = runtime.block_on(examine(&[], &Only::all(), &client));
                    let seen = seen.map_err(|error| error.to_string())?;
                    json(serde_json::to_value(seen).map_err(|error| error.to_string())?)
                })
                .await
            }
            Source::Text(text) => Ok((text, false)),
        }
    }
}

/// On a thread of its own: a disk that does not answer holds up nothing else, and can be left behind.
async fn apart(read: impl FnOnce() -> Found + Send + 'static) -> Found {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|error| Err(error.to_string()))
}

fn json(value: Value) -> Found {
    // What is large is for programs, and what is larger still is for grep.
    let mut text = format!("{value:#}\n");
    if text.len() > PART_MAX {
        text = value.to_string();
    }
    let cut = text.len() > PART_MAX;
    if cut {
        text = String::from_utf8_lossy(&text.as_bytes()[..PART_MAX]).into_owned();
    }
    Ok((text, cut))
}

/// `/proc/sys/net/ipv4/ip_forward = 1`.
fn each(files: &[PathBuf]) -> String {
    let line = |file: &PathBuf| {
        let (text, _) = files::read(file, PART_MAX).ok()?;
        Some(format!("{} = {}\n", file.display(), text.trim()))
    };
    files.iter().filter_map(line).collect()
}
