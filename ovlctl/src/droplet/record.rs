//! What is made and about to be made, on this machine's disk: written before the provider is asked, so
//! that nothing is made twice and nothing is lost sight of.
//!
//! One folder for each cluster, for its owner only: `record.json`, ssh's configuration, and the host keys
//! that are known. No secret is in it.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

use super::digitalocean::KeyRef;
use super::names::{Cluster, is_droplet_name};

/// Of the format; a higher one is not read.
const VERSION: u32 = 1;
/// The files of a cluster: what is recorded, and who is at work.
pub(crate) const RECORD: &str = "record.json";
const LOCK: &str = "lock";
/// ssh's configuration, and what the names of files with host keys begin with.
pub(crate) const CONFIG: &str = "ssh_config";
pub(crate) const KNOWN_HOSTS: &str = "known_hosts.";
/// What the names of files begin with that are just written, or not to stay.
const UNFINISHED: &str = ".new-";
/// Nobody needs one that is older: it is written, or read, at once.
const UNFINISHED_FOR: Duration = Duration::from_secs(3600);
/// Bytes of a record that are read: thousands of droplets.
const SIZE_MAX: u64 = 16 << 20;

/// A record that could not be read or written; what is on disk is as before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Neither `XDG_STATE_HOME` nor `HOME` is set.
    #[error("no folder to record droplets in: set HOME, or give --droplet-state")]
    NoFolder,
    /// A file or folder.
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    /// Not what was written by this program.
    #[error("{} is not understood: {why}; mend it or move it away (then only what the provider knows is shown)", path.display())]
    Garbage { path: PathBuf, why: String },
    /// Written by a later one.
    #[error("{} was written by a later ovlctl (format {found}): use that one", path.display())]
    Newer { path: PathBuf, found: u32 },
    /// Two at once would make things twice.
    #[error("another ovlctl is at work on cluster {cluster}: wait for it to end")]
    Busy { cluster: Cluster },
}

/// All that is known of a cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// Whose droplets they are: a token of another account shows none of them.
    #[serde(default)]
    pub(crate) account: Option<String>,
    /// By name.
    pub(crate) droplets: BTreeMap<String, Entry>,
    /// SSH keys that were added to the account.
    pub(crate) added_keys: BTreeSet<u64>,
    /// SSH keys that were about to be added; they may have been.
    #[serde(default)]
    pub(crate) adding_keys: BTreeSet<NewKey>,
    /// What `create` is making by a pattern of names, until all of it is well.
    #[serde(default)]
    pub(crate) creating: BTreeMap<String, BTreeSet<String>>,
    /// What `cluster up` was asked for.
    pub(crate) wanted: Option<Wanted>,
    /// The agent's, for hosts that none is named for.
    #[serde(default)]
    pub(crate) package: Package,
    /// A registry of the user's own, for all hosts; else it is that of kvstore, wherever that is.
    #[serde(default)]
    pub(crate) store: Option<String>,
    /// The registry of kvstore, as it was seen last.
    #[serde(default)]
    pub(crate) seen_store: Option<String>,
}

/// An SSH key that was about to be added to the account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct NewKey {
    /// The account's name for it.
    pub(crate) name: String,
    /// As `type base64`.
    pub(crate) key: String,
}

/// What a cluster is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) workers: usize,
    pub(crate) order: Order,
}

/// One droplet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) task: Task,
    pub(crate) order: Order,
    /// The provider's number, once it is known.
    pub(crate) id: Option<u64>,
    /// Requests that were about to be sent, and of which it is not known what came. The newest is the last.
    pub(crate) requests: Vec<Request>,
    /// Why it is not there, the last time.
    pub(crate) failure: Option<String>,
    /// It is what it is to be.
    pub(crate) ready: bool,
}

impl Entry {
    /// Nothing is asked for yet.
    pub(crate) fn new(task: Task, order: Order) -> Entry {
        Entry { task, order, id: None, requests: Vec::new(), failure: None, ready: false }
    }
}

/// What is asked of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) region: String,
    pub(crate) size: String,
    pub(crate) image: String,
    pub(crate) vpc: Option<String>,
    pub(crate) ssh_keys: Vec<KeyRef>,
    /// The user's own.
    pub(crate) tags: Vec<String>,
}

/// What a droplet is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "role")]
pub(crate) enum Task {
    /// The registry of the cluster.
    Kvstore,
    /// Docker and an agent. Without a store of its own it has the cluster's.
    Node { store: Option<String>, join: Vec<String>, package: Package },
}

impl Task {
    /// What it is in a cluster that has this store.
    pub(crate) fn with_store(&self, of_cluster: Option<&str>) -> Task {
        let mut task = self.clone();
        if self.has_cluster_store()
            && let Task::Node { store, .. } = &mut task
        {
            *store = of_cluster.map(str::to_owned);
        }
        task
    }

    /// Its agent has the store of the cluster.
    pub(crate) fn has_cluster_store(&self) -> bool {
        match self {
            Task::Kvstore => false,
            Task::Node { store, package, .. } => store.is_none() && *package != Package::None,
        }
    }

    pub(crate) fn has_agent(&self) -> bool {
        match self {
            Task::Kvstore => false,
            Task::Node { store, package, .. } => store.is_some() || *package != Package::None,
        }
    }

    pub(crate) fn role(&self) -> &'static str {
        match self {
            Task::Kvstore => "kvstore",
            Task::Node { .. } => "node",
        }
    }
}

/// Where the agent comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Package {
    /// Docker only; with a store of its own: an agent that somebody else installs.
    #[default]
    None,
    /// A file of this machine.
    File(PathBuf),
    /// Fetched by the droplet itself.
    Url { url: String, sha256: Option<String> },
}

/// A request that was about to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// On all that came of it.
    pub(crate) tag: String,
    /// Of the host key that the droplet's first boot gets: it is trusted until it has made its own.
    pub(crate) host_key: String,
}

/// The record of one cluster, held by this process alone.
pub(crate) struct Book {
    folder: Folder,
    pub(crate) record: Record,
    _lock: Flock<File>,
}

/// Where a cluster's record is.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Below `base`, or where programs keep such things (XDG Base Directory Specification).
    pub(crate) fn of(cluster: &Cluster, base: Option<&Path>) -> Result<Folder, RecordError> {
        let set = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let base = base.map(Path::to_owned);
        let base = base.or_else(|| set("XDG_STATE_HOME").map(|state| state.join("ovl")));
        let base = base.or_else(|| set("HOME").map(|home| home.join(".local/state/ovl")));
        let base = base.ok_or(RecordError::NoFolder)?;
        // ssh reads its files from other folders than this one.
        let base = std::path::absolute(&base).map_err(|source| RecordError::File {
            what: "find",
            path: base,
            source,
        })?;
        Ok(Folder(base.join(cluster.as_str())))
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What is recorded, without holding it; nothing is fine.
    pub(crate) fn read(&self) -> Result<Record, RecordError> {
        let path = self.join(RECORD);
        let failed = |source| RecordError::File { what: "read", path: path.clone(), source };
        let garbage = |why: &str| RecordError::Garbage { path: path.clone(), why: why.to_owned() };
        // A pipe in its place is not waited for.
        let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Record::default()),
            Err(error) => return Err(failed(error)),
        };
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(garbage("it is no regular file"));
        }
        if about.len() > SIZE_MAX {
            return Err(garbage("it is too large"));
        }
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, SIZE_MAX), &mut text)
            .map_err(failed)?;
        let text = String::from_utf8(text).map_err(|_| garbage("it is no text"))?;
        parsed(&path, &text)
    }

    /// Makes it, for this user only.
    pub(crate) fn make(&self) -> Result<(), RecordError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| RecordError::File { what: "make", path: self.0.clone(), source })
    }

    /// Writes a file at once and whole.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), RecordError> {
        let path = self.join(name);
        let write = || {
            let mut new = self.unfinished()?;
            new.write_all(text.as_bytes())?;
            new.as_file().sync_all()?;
            new.persist(&path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|source| RecordError::File { what: "write", path, source })
    }

    /// A file for a program that reads it as it begins: it goes when it is dropped.
    pub(crate) fn passing(&self, text: &str) -> Result<TempPath, RecordError> {
        let write = || {
            self.sweep()?;
            let mut new = self.unfinished()?;
            new.write_all(text.as_bytes())?;
            Ok(new.into_temp_path())
        };
        write().map_err(|source| RecordError::File {
            what: "write a file in",
            path: self.0.clone(),
            source,
        })
    }

    /// The same for a program that takes the place of this one: it goes when it is old. The same text is in the
    /// same file.
    pub(crate) fn left(&self, text: &str) -> Result<PathBuf, RecordError> {
        let hash = digest(&SHA256, text.as_bytes());
        let hash: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{UNFINISHED}{hash}");
        self.write(&name, text)?;
        Ok(self.join(&name))
    }

    /// Two that write at once have a file each. It is for its owner only.
    fn unfinished(&self) -> std::io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.0)
    }

    /// Removes what programs left that were killed, or became another.
    fn sweep(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let is_unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            // Another one may remove it at the same time.
            let written = entry.metadata().and_then(|about| about.modified());
            let age = written.ok().and_then(|written| written.elapsed().ok());
            if is_unfinished && age.is_some_and(|age| age > UNFINISHED_FOR) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// It is another one after each time that a file is written; `None`: it is not there.
    pub(crate) fn edition(&self, name: &str) -> Option<(u64, SystemTime)> {
        let about = fs::metadata(self.join(name)).ok()?;
        Some((about.ino(), about.modified().ok()?))
    }

    /// Removes the files whose names fit; those that are not there are fine.
    pub(crate) fn remove(&self, fits: impl Fn(&str) -> bool) -> Result<(), RecordError> {
        let remove = || {
            for entry in fs::read_dir(&self.0)? {
                let entry = entry?;
                if entry.file_name().to_str().is_some_and(&fits) && entry.file_type()?.is_file() {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok::<(), std::io::Error>(())
        };
        match remove() {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(RecordError::File { what: "remove", path: self.0.clone(), source: error })
            }
            _ => Ok(()),
        }
    }
}

fn parsed(path: &Path, text: &str) -> Result<Record, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let garbage = |error: serde_json::Error| RecordError::Garbage {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let Versioned { version } = serde_json::from_str(text).map_err(garbage)?;
    if version > VERSION {
        return Err(RecordError::Newer { path: path.to_owned(), found: version });
    }
    let record: Record = serde_json::from_str(text).map_err(garbage)?;
    match record.droplets.keys().find(|name| !is_droplet_name(name)) {
        Some(name) => Err(RecordError::Garbage {
            path: path.to_owned(),
            why: format!("{name:?} is no name of a droplet"),
        }),
        None => Ok(record),
    }
}

impl Book {
    /// Reads it, and keeps others from it.
    pub(crate) fn open(folder: Folder, cluster: &Cluster) -> Result<Book, RecordError> {
        folder.make()?;
        let path = folder.join(LOCK);
        let failed = |source| RecordError::File { what: "lock", path: path.clone(), source };
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(RecordError::Busy { cluster: cluster.clone() });
            }
            Err((_, error)) => return Err(failed(error.into())),
        };
        let record = folder.read()?;
        Ok(Book { folder, record, _lock: lock })
    }

    /// To the disk, before anything that depends on it is done.
    pub(crate) fn save(&mut self) -> Result<(), RecordError> {
        self.record.version = VERSION;
        let text = serde_json::to_string_pretty(&self.record);
        let text = text.map_err(|error| RecordError::Garbage {
            path: self.folder.join(RECORD),
            why: error.to_string(),
        })?;
        self.folder.write(RECORD, &(text + "\n"))
    }

    /// There is nothing any more, and no file of ours says otherwise; but for the lock, which is held.
    pub(crate) fn clear(&mut self) -> Result<(), RecordError> {
        self.record = Record::default();
        self.folder.remove(|name| {
            [RECORD, CONFIG].contains(&name)
                || name.starts_with(KNOWN_HOSTS)
                || name.starts_with(UNFINISHED)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder, Cluster) {
        let base = tempfile::tempdir().unwrap();
        let cluster: Cluster = "default".parse().unwrap();
        let folder = Folder::of(&cluster, Some(base.path())).unwrap();
        (base, folder, cluster)
    }

    fn entry() -> Entry {
        let order = Order {
            region: "sfo3".into(),
            size: "s-1vcpu-1gb".into(),
            image: "debian-12-x64".into(),
            vpc: None,
            ssh_keys: vec![KeyRef::Number(7), KeyRef::Name("aa:bb".into())],
            tags: vec![],
        };
        let request = Request { tag: "ovl:request:1".into(), host_key: "ssh-ed25519 AAAA".into() };
        let package = Package::Url { url: "https://x/ovl.deb".into(), sha256: None };
        let task = Task::Node { store: None, join: vec![], package };
        Entry { requests: vec![request], ..Entry::new(task, order) }
    }

    #[test]
    fn what_is_about_to_be_made_is_there_after_a_crash() {
        let (_base, folder, cluster) = folder();
        let mut book = Book::open(folder.clone(), &cluster).unwrap();
        book.record.droplets.insert("queenbee".into(), entry());
        book.save().unwrap();
        drop(book);
        let read = folder.read().unwrap();
        assert_eq!(read.droplets["queenbee"].order, entry().order);
        assert_eq!(read.droplets["queenbee"].task, entry().task);
    }

    #[test]
    fn a_passing_file_goes_and_those_that_were_left_go_later() {
        let (_base, folder, _) = folder();
        folder.make().unwrap();
        let left = folder.passing("left").unwrap().keep().unwrap();
        let passing = folder.passing("text").unwrap();
        assert_eq!(fs::read_to_string(&passing).unwrap(), "text");
        assert!(left.exists());
        let written = fs::metadata(&left).unwrap().modified().unwrap();
        let old = written - UNFINISHED_FOR - Duration::from_secs(1);
        File::options().write(true).open(&left).unwrap().set_modified(old).unwrap();
        drop(passing);
        let now = folder.passing("now").unwrap();
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
        drop(now);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_written_is_another_edition() {
        let (_base, folder, _) = folder();
        folder.make().unwrap();
        assert_eq!(folder.edition(CONFIG), None);
        folder.write(CONFIG, "").unwrap();
        let first = folder.edition(CONFIG);
        assert_eq!(folder.edition(CONFIG), first);
        folder.write(CONFIG, "").unwrap();
        assert_ne!(folder.edition(CONFIG), first);
    }

    #[test]
    fn two_at_once_are_one_too_many() {
        let (_base, folder, cluster) = folder();
        let book = Book::open(folder.clone(), &cluster).unwrap();
        assert!(matches!(Book::open(folder.clone(), &cluster), Err(RecordError::Busy { .. })));
        drop(book);
        assert!(Book::open(folder, &cluster).is_ok());
    }

    #[test]
    fn a_record_that_is_not_understood_is_left_as_it_is() {
        let (_base, folder, cluster) = folder();
        folder.make().unwrap();
        folder.write("record.json", "{\"version\": 2, \"new\": 1}").unwrap();
        assert!(matches!(
            Book::open(folder.clone(), &cluster),
            Err(RecordError::Newer { found: 2, .. })
        ));
        let named = serde_json::json!({
            "version": 1, "droplets": { "../x": entry() }, "added_keys": [], "wanted": null
        });
        for text in [named.to_string(), "oops".to_owned()] {
            folder.write("record.json", &text).unwrap();
            assert!(matches!(folder.read(), Err(RecordError::Garbage { .. })), "{text}");
        }
        assert_eq!(fs::read_to_string(folder.join("record.json")).unwrap(), "oops");
    }
}
