//! The state file: written whole beside itself and renamed, so it is old or new, never half.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use ovl_gossip::EPOCHS_AHEAD;

use crate::core::{Core, State};
use crate::purge::lock;

/// Why the agent's memory cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or its folder not be made.
    #[error("the state in {} cannot be used; check --state-dir and its rights", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another agent uses the folder.
    #[error("the state in {} is in use by another ovl-agent; stop that one, or give one of the two another --state-dir", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A newer agent wrote it.
    #[error("{} was written by a newer ovl-agent (format {found}, this one knows up to {known}); install that version again, or move the file away to start without memory", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that we know.
        known: u32,
    },
}

/// Keeps the file as new as the core.
pub(super) struct StateFile {
    /// Held as long as the agent lives: nobody else writes here, or takes it away.
    _lock: Flock<File>,
    path: PathBuf,
    written: u64,
    failing: bool,
}

impl StateFile {
    /// Reads what the last run left; `None`: there is nothing (or nothing readable: that is kept
    /// aside under another name, and said).
    pub(super) fn open(dir: &Path) -> Result<(StateFile, Option<State>), StateError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let lock = match lock(dir) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(StateError::InUse { path: dir.to_owned() }),
            Err(source) => return Err(StateError::Io { path: dir.to_owned(), source }),
        };
        let path = dir.join("state.json");
        let state = match std::fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(StateError::Io { path, source }),
        };
        Ok((StateFile { _lock: lock, path, written: 0, failing: false }, state))
    }

    /// Writes the state if it moved, or was not written then. The answer is news only: what the
    /// disk says when that changed.
    pub(super) fn keep(&mut self, core: &Core) -> Option<Result<(), String>> {
        if self.written == core.state_version() {
            return None;
        }
        match write(&self.path, &core.state()) {
            Ok(()) => {
                self.written = core.state_version();
                std::mem::take(&mut self.failing).then_some(Ok(()))
            }
            Err(error) => {
                let why = format!("{}: {error}", self.path.display());
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(
                        error = why,
                        "the state cannot be written; nothing new is attached until it can"
                    );
                }
                Some(Err(why))
            }
        }
    }
}

/// A number that is higher at every start, also when the folder or the clock was set back (not both). One
/// on disk that others would not believe is garbage, and counts for nothing.
pub(super) fn next_epoch(dir: &Path) -> Result<u64, StateError> {
    let path = dir.join("epoch");
    let now = unix_millis();
    let ahead = u64::try_from(EPOCHS_AHEAD.as_millis()).unwrap_or(u64::MAX);
    let last = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .filter(|last| *last < now.saturating_add(ahead))
        .unwrap_or(0);
    let epoch = last.saturating_add(1).max(now);
    write_bytes(&path, epoch.to_string().as_bytes())
        .map_err(|source| StateError::Io { path, source })?;
    Ok(epoch)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Option<State>, StateError> {
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    let known = crate::core::STATE_FORMAT;
    if let Ok(Head { format: found }) = serde_json::from_slice(bytes)
        && found > known
    {
        return Err(StateError::Newer { path: path.to_owned(), found, known });
    }
    match serde_json::from_slice(bytes) {
        Ok(state) => Ok(Some(state)),
        Err(error) => {
            let aside = path.with_extension("json.unreadable");
            tracing::error!(path = %path.display(), kept = %aside.display(), %error, "the state is unreadable; starting without memory");
            std::fs::rename(path, &aside)
                .map_err(|source| StateError::Io { path: path.to_owned(), source })?;
            Ok(None)
        }
    }
}

fn write(path: &Path, state: &State) -> std::io::Result<()> {
    write_bytes(path, &serde_json::to_vec(state)?)
}

fn write_bytes(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    std::fs::rename(&new, path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an epoch comes from the wall clock, once at the start"
)]
fn unix_millis() -> u64 {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_above_the_last_one_unless_that_is_garbage() {
        let folder = tempfile::tempdir().unwrap();
        let first = next_epoch(folder.path()).unwrap();
        assert!(next_epoch(folder.path()).unwrap() > first);
        for (last, follows) in [(first + 1_000_000, true), (u64::MAX, false)] {
            std::fs::write(folder.path().join("epoch"), last.to_string()).unwrap();
            let next = next_epoch(folder.path()).unwrap();
            assert_eq!(last.checked_add(1) == Some(next), follows, "{last} {next}");
        }
    }
}
