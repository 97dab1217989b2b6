//! Takes everything of an agent away from its host: kernel state, and what it remembers on disk.
//!
//! For a host that runs no agent any more; a running one would make it all anew.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// What an agent keeps in its state folder, with what SQLite puts beside its file.
const FILES: [&str; 9] = [
    "state.json",
    "state.new",
    "state.json.unreadable",
    "epoch",
    "epoch.new",
    "ovl.db",
    "ovl.db-wal",
    "ovl.db-shm",
    "ovl.db-journal",
];

/// How long an agent that ends is waited for.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Devices, and with them their rows and the interfaces in containers.
    pub devices: Vec<String>,
    /// Devices that stay because containers use them; then all the rest stays, too.
    pub in_use: Vec<String>,
    /// The nftables table was there.
    pub firewall: bool,
    /// Files of the state folder.
    pub files: Vec<PathBuf>,
}

/// Why not all was taken away. What was removed before stays removed.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The kernel's part.
    #[error(transparent)]
    Kernel(#[from] ovl_vxlan::PurgeError),
    /// An agent runs with this state, also if it answers elsewhere. Nothing was removed.
    #[error("an ovl-agent runs with the state in {}: stop it first, or let ovlctl reach it (--socket)", path.display())]
    Running {
        /// The folder.
        path: PathBuf,
    },
    /// A file, or the folder.
    #[error("cannot remove {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Removes what an agent left in the kernel of this network namespace and in its state folder. Devices
/// that containers use, and then the files, too, go only with `in_use`. What is not there is no failure.
///
/// # Errors
/// See [`PurgeError`].
pub async fn purge(state_dir: &Path, in_use: bool) -> Result<Purged, PurgeError> {
    let _lock = own(state_dir).await?;
    let kernel = ovl_vxlan::purge(in_use).await?;
    let mut purged = Purged {
        devices: kernel.removed,
        in_use: kernel.in_use,
        firewall: kernel.firewall,
        files: Vec::new(),
    };
    if !purged.in_use.is_empty() {
        return Ok(purged);
    }
    for path in FILES.map(|name| state_dir.join(name)) {
        match std::fs::remove_file(&path) {
            Ok(()) => purged.files.push(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(PurgeError::File { path, source }),
        }
    }
    Ok(purged)
}

/// The right to the state folder, which an agent has as long as it lives; `None`: there is no such folder.
async fn own(state_dir: &Path) -> Result<Option<Flock<File>>, PurgeError> {
    for _ in 0..LOCK_TRIES {
        match lock(state_dir) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            // One that was told to end may take a moment.
            Ok(None) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PurgeError::File { path: state_dir.to_owned(), source }),
        }
    }
    Err(PurgeError::Running { path: state_dir.to_owned() })
}

/// A lock on a state folder; `None`: another process has it.
///
/// # Errors
/// The folder cannot be opened.
pub(crate) fn lock(state_dir: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(File::open(state_dir)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}
