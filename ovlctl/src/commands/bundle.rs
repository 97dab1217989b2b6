//! `bundle`: one archive of all that is known of this host and its cluster, for a bug report.
//!
//! Parts are gathered a few at a time, each with a limit in time and size ([`parts`] has the list,
//! [`collect`] carries it out); what cannot be had leaves a file that says why. Every text goes
//! through [`secrets`] on its way into the archive.
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::client::Client;
use crate::error::{EXIT_INTERRUPTED, Error};
use crate::output::{Output, printable};
use crate::stop::Stop;

mod archive;
mod collect;
mod files;
mod here;
mod parts;
mod secrets;
#[cfg(test)]
mod tests;

use here::Here;
use secrets::Secrets;

/// Parts that are named when they are missing; of more, how many.
const NAMED_MAX: usize = 6;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to put it
    ///
    /// A file that is not there yet. Without it, `ovl-bundle-HOST-TIME.tar.gz` in the working
    /// directory, the time being UTC.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Leave out what the agents of other hosts say of their hosts
    ///
    /// Otherwise each of up to 64 hosts is examined as by `ovlctl doctor` there.
    #[arg(long)]
    no_peers: bool,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    /// Of the archive.
    bytes: u64,
    parts: Vec<Entry>,
}

/// A part of the archive: a line of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Entry {
    /// Within the archive's folder.
    path: String,
    bytes: usize,
    /// Why it could not be had; then the file says that.
    error: Option<String>,
    /// Its end is left out, as there was more than the limit.
    cut: bool,
}

/// What stands in the archive's `manifest.json`.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    /// RFC 3339, UTC.
    made: String,
    host: &'a str,
    ovlctl: &'static str,
    parts: &'a [Entry],
}

pub(super) async fn run(args: Args, client: &Client, output: &Output) -> Result<(), Error> {
    if let Some(host) = client.host() {
        return Err(Error::Usage(format!(
            "a bundle is made on its own host: run `ovlctl bundle` on {host}, without --host"
        )));
    }
    let made = now();
    let here = Here::look(client.socket()).await;
    let name = format!("ovl-bundle-{}-{}", here.host_name, made.strftime("%Y%m%dT%H%M%SZ"));
    let file = args.output.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    // Now, and not after a minute's work.
    let target = create(&file)?;
    if io::stderr().is_terminal() {
        // Nobody to tell: fine.
        let _ = writeln!(io::stderr(), "collecting; this takes up to a minute");
    }
    let mut stop = Stop::new(None)?;
    let all = async {
        let collected = collect::all(&here, client, !args.no_peers).await;
        // Megabytes are read through: not where signals are minded.
        let write = move || write(target, &name, made, &here, collected);
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(error.into()))
    };
    let written = tokio::select! {
        written = all => written.map_err(|error| Error::File { path: file.clone(), error }),
        () = stop.reached() => Err(Error::Told(EXIT_INTERRUPTED)),
    };
    let written = written.inspect_err(|_| {
        // Half an archive is of no use to anybody.
        let _ = std::fs::remove_file(&file);
    })?;
    let (bytes, parts) = written;
    output.show(&Written { file, bytes, parts }, in_words)
}

#[expect(clippy::disallowed_methods, reason = "a shell: the archive says when it was made")]
fn now() -> Timestamp {
    let now = std::time::SystemTime::now();
    Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For its owner alone, whatever the umask.
fn create(file: &Path) -> Result<File, Error> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::Usage(format!(
            "{} exists already; it is not overwritten, name another file with --output",
            file.display()
        )),
        _ => Error::File { path: file.to_owned(), error },
    })
}

/// Cleans, packs and writes. What comes back is the archive's size and its parts, without the manifest.
fn write(
    target: File,
    folder: &str,
    made: Timestamp,
    here: &Here,
    collected: Vec<collect::Collected>,
) -> io::Result<(u64, Vec<Entry>)> {
    let secrets = Secrets::of(here);
    let mut archive = archive::Archive::new(target, folder, made);
    let mut entries = Vec::new();
    for part in collected {
        let (path, text) = part.file();
        let text = secrets.clean(&text);
        archive.add(&path, &text)?;
        let error = part.found.err().map(|why| secrets.clean(&why));
        entries.push(Entry { path, bytes: text.len(), error, cut: part.cut });
    }
    let manifest = Manifest {
        made: made.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        host: &here.host_name,
        ovlctl: ovl_agent::VERSION,
        parts: &entries,
    };
    archive.add("manifest.json", &(serde_json::to_string_pretty(&manifest)? + "\n"))?;
    Ok((archive.finish()?, entries))
}

fn in_words(written: &Written) -> String {
    let Written { file, bytes, parts } = written;
    let missing: Vec<&Entry> = parts.iter().filter(|part| part.error.is_some()).collect();
    let kinds: BTreeSet<&str> =
        parts.iter().filter_map(|part| part.path.split('/').next()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let file = printable(&file.display().to_string());
    let size = size(*bytes);
    let count = parts.len() - missing.len();
    let mut text = format!("{file}: {size}, {count} parts ({})\n", kinds.join(", "));
    if !missing.is_empty() {
        let mut names: Vec<String> =
            missing.iter().take(NAMED_MAX).map(|part| printable(&part.path)).collect();
        if missing.len() > NAMED_MAX {
            names.push(format!("{} more", missing.len() - NAMED_MAX));
        }
        let count = missing.len();
        text.push_str(&format!("{count} could not be had, and say why: {}\n", names.join(", ")));
    }
    text.push_str(
        "It holds names and addresses of hosts, networks and containers, firewall rules and logs. \
         Tokens, passwords and keys were taken out wherever they could be recognised.\n",
    );
    text.push_str(&format!("Look at it before you send it to anybody: tar -xzf {file}\n"));
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        10_485_760.. => format!("{} MiB", bytes / 1_048_576),
    }
}
