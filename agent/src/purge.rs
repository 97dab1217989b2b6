//! Takes everything of an agent away from its host: kernel state, and what it remembers on disk.
//!
//! For a host that runs no agent any more; a running one would make it all anew.

use std::path::{Path, PathBuf};

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
    /// A file.
    #[error("cannot remove {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Removes what an agent left in the kernel of this network namespace and in its state folder. Devices
/// that containers use, and then the files, too, go only with `in_use`. What is not there is no failure.
///
/// # Errors
/// See [`PurgeError`].
pub async fn purge(state_dir: &Path, in_use: bool) -> Result<Purged, PurgeError> {
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
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(PurgeError::File { path, source }),
        }
    }
    Ok(purged)
}
