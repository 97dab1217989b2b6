//! Where a lab is written down: `/run/ovl-lab/NAME/`.
//!
//! | path | what |
//! |---|---|
//! | `lab.json` | [`Record`]: the hosts, the store, the owner |
//! | `underlay/holder` | process 1 of the bridge's sandbox |
//! | `HOST/holder`, `HOST/agent`, `HOST/agent.log` | process 1 of the host, its agent, its log |
//! | `HOST/run`, `HOST/etc`, `HOST/var/…` | what the host sees as its /run, changes to /etc, … |
//! | `HOST/containers/NAME/` | `holder`, `network`, and the files of a container |
//! | `kvstore/` | as a host, with `consul` and `consul.log` |
//! | `store/ovl.db` | the shared SQLite store |
use std::fs;
use std::fs::File;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::{LabError, LabName, NodeName, StoreKind, wait};

/// Folder of all labs of this machine.
pub const ROOT: &str = "/run/ovl-lab";
/// How long one command waits for another that changes the same lab.
const LOCK_LIMIT: Duration = Duration::from_secs(120);

/// A lab's folder, which may or may not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// What `lab.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The lab's name.
    pub name: LabName,
    /// The agents' store.
    pub store: StoreKind,
    /// Its hosts.
    pub hosts: Vec<HostRecord>,
    /// Pid and start time of the process that the lab must not outlive; None: it stays.
    pub owner: Option<(i32, u64)>,
}

/// A host in `lab.json`; its place in the list numbers its port on the underlay's bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRecord {
    /// Host name, and node name of its agent.
    pub name: NodeName,
    /// Its address on the underlay.
    pub address: Ipv4Addr,
}

/// Held while a lab is changed; other commands of the same lab wait.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// The lock as a child's standard input: the child then holds it too, even if we are killed.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn to_stdio(&self) -> Result<Stdio, LabError> {
        let file = self.0.try_clone();
        file.map(Stdio::from).map_err(failed("share", Path::new(ROOT)))
    }
}

impl Folder {
    /// The folder of the lab of this name.
    #[must_use]
    pub fn of(name: &LabName) -> Self {
        Self(Path::new(ROOT).join(name.as_str()))
    }

    /// Folders of all labs, whole or not.
    #[must_use]
    pub fn all() -> Vec<(LabName, Self)> {
        let Ok(entries) = fs::read_dir(ROOT) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(|name| (Self::of(&name), name))
            .map(|(folder, name)| (name, folder))
            .collect()
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether there is one.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.0.join(relative)
    }

    /// Waits until nobody else changes the lab.
    ///
    /// # Errors
    /// [`LabError::Timeout`], [`LabError::File`].
    pub fn lock(&self) -> Result<Lock, LabError> {
        let path = self.0.with_extension("lock");
        let what = format!("the end of another command that changes {}", self.0.display());
        wait::until(&what, LOCK_LIMIT, || {
            let lock = open_lock(&path).map_err(|error| error.chain())?;
            lock.ok_or_else(|| format!("{} is locked", path.display()))
        })
    }

    /// Reads `lab.json`; None when the lab is not there or was never finished that far.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        let text = fs::read_to_string(self.join("lab.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Makes the folder with its `lab.json`.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn create(&self, record: &Record) -> Result<(), LabError> {
        make_folder(&self.join("store"))?;
        let text = serde_json::to_string_pretty(record)
            .map_err(|_| LabError::BadRecord { path: self.join("lab.json") })?;
        write_file(&self.join("lab.json"), &text)
    }

    /// Records of every sandbox in it: of nodes first, then of containers.
    #[must_use]
    pub fn holders(&self) -> Vec<PathBuf> {
        let nodes = subfolders(&self.0);
        let containers = nodes.iter().flat_map(|node| subfolders(&node.join("containers")));
        let all = nodes.iter().cloned().chain(containers);
        all.map(|folder| folder.join("holder")).filter(|record| record.exists()).collect()
    }

    /// Removes it, if it is there; its lock file stays until [`forget_lock`](Self::forget_lock).
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn remove(&self) -> Result<(), LabError> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("remove", &self.0)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the lock file, and the folder of all labs when this was the last. Only while the
    /// lock is held.
    pub fn forget_lock(&self) {
        // Nothing depends on either: both are made again when needed.
        let _ = fs::remove_file(self.0.with_extension("lock"));
        let _ = fs::remove_dir(ROOT);
    }
}

impl Record {
    /// Whether it belongs to a process that has ended.
    #[must_use]
    pub fn is_left_over(&self) -> bool {
        self.owner.is_some_and(|(pid, started)| {
            Process::observe(pid).is_none_or(|process| process.started() != started)
        })
    }
}

/// The lock, unless somebody else has it. A file that `forget_lock` unlinked meanwhile is no lock.
fn open_lock(path: &Path) -> Result<Option<Lock>, LabError> {
    make_folder(Path::new(ROOT))?;
    let file = File::create(path).map_err(failed("create", path))?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    let ours = file.metadata().map(|metadata| metadata.ino()).ok();
    let named = fs::metadata(path).map(|metadata| metadata.ino()).ok();
    Ok((ours == named).then_some(Lock(file)))
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`LabError::File`].
pub fn make_folder(path: &Path) -> Result<(), LabError> {
    fs::create_dir_all(path).map_err(failed("create", path))
}

/// Writes a whole file.
///
/// # Errors
/// [`LabError::File`].
pub fn write_file(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(failed("write", path))
}

/// Folders in a folder, sorted by name.
#[must_use]
pub fn subfolders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut folders: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Turns an I/O error into ours.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LabError {
    let path = path.to_owned();
    move |source| LabError::File { action, path, source }
}
