//! What the agent tells the service manager, and what that keeps for it over a restart.
//!
//! Under systemd (`Type=notify`, sd_notify(3)) the agent says when it serves, what it waits for and
//! that it is alive. The manager also holds copies of sockets for it (`FDSTORE`): those of DNS in
//! containers, and the one that owns the rule that leads queries to them. While the agent is
//! replaced they stay open, so queries wait in them and are answered by the next agent, and nobody
//! in a container notices.
//!
//! The manager is told to forget all of them when a new agent starts, and is given them again one by
//! one when each serves. An agent that cannot start or crashes early thereby closes them, and containers
//! fall back to Docker's own resolver instead of asking a socket that nobody reads.
//!
//! Without a manager everything here does nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use sd_notify::NotifyState;

/// Begins the names of what the manager holds for us. The number is the arrangement's version: an
/// agent closes what it does not understand. Short, because the manager hands over all names, one for each
/// descriptor, in one variable, and Linux takes none above 128 KiB (`MAX_ARG_STRLEN`).
const KEPT: &str = "o1-";

/// What systemd calls a descriptor that has no name.
const UNNAMED: &str = "stored";

/// Descriptors that are kept, of all sandboxes; `FileDescriptorStoreMax=` of the unit is the same. Of a
/// sandbox beyond it nothing is kept, and what its containers ask during a restart is lost.
pub const KEPT_MAX: usize = 5120;

/// The service manager, or nobody.
#[derive(Clone, Copy, Debug)]
pub struct Manager {
    listens: bool,
}

/// What the manager held for us, by the inode of the network namespace that it is of.
pub type Kept = BTreeMap<u64, Vec<OwnedFd>>;

impl Manager {
    /// As the environment says (`NOTIFY_SOCKET`).
    pub fn from_env() -> Manager {
        Manager { listens: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    /// There is one.
    pub fn listens(self) -> bool {
        self.listens
    }

    /// The agent serves; what waits for it may start.
    pub fn ready(self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// What goes on, as one line of `systemctl status`.
    pub fn status(self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    /// The agent stops.
    pub fn stopping(self) {
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("stopping; endpoints stay as they are"),
        ]);
    }

    /// The agent is alive.
    pub fn alive(self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// How often [`Manager::alive`] has to be said, if it has to be: half of the time after which a
    /// silent agent is ended.
    pub fn watchdog(self) -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|_| self.listens).map(|limit| limit / 2)
    }

    /// Takes over what was kept for this process, and tells the manager to forget it. To be called
    /// once, first of all.
    pub fn take_kept(self) -> Kept {
        let mut kept = Kept::new();
        let inherited = inherited();
        let names: BTreeSet<&str> = inherited.iter().map(|(_, name)| name.as_str()).collect();
        names.into_iter().for_each(|name| self.forget(name));
        for (fd, name) in &inherited {
            match (take(*fd), netns_of(name)) {
                (Ok(fd), Some(netns)) => kept.entry(netns).or_default().push(fd),
                // Closed: it is not ours, or of another version.
                (Ok(_), None) => {}
                (Err(error), _) => {
                    tracing::warn!(%error, name, "a kept socket cannot be taken over");
                }
            }
        }
        kept
    }

    /// Has these kept under a name of [`kept_name`], beside those that are kept under it already.
    pub fn keep(self, name: &str, fds: &[BorrowedFd<'_>]) {
        if !self.listens || fds.is_empty() {
            return;
        }
        // The manager would drop a socket that polls as broken: one of netlink may, and recovers.
        let state = [
            NotifyState::Custom("FDSTORE=1"),
            NotifyState::Custom("FDPOLL=0"),
            NotifyState::FdName(name),
        ];
        if let Err(error) = sd_notify::notify_with_fds(&state, fds) {
            tracing::warn!(%error, name, "sockets cannot be kept over a restart");
        }
    }

    /// Closes the manager's copies.
    pub fn forget(self, name: &str) {
        self.tell(&[NotifyState::Custom("FDSTOREREMOVE=1"), NotifyState::FdName(name)]);
    }

    fn tell(self, state: &[NotifyState<'_>]) {
        if self.listens
            && let Err(error) = sd_notify::notify(state)
        {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }
}

/// The name under which sockets of a network namespace are kept. `turn` tells apart those of one
/// namespace that are opened one after another: what is forgotten late must not take newer ones along.
pub fn kept_name(inode: u64, turn: u64) -> String {
    // So many turns later nothing of the first is left.
    format!("{KEPT}{inode:x}-{:x}", turn % (1 << 24))
}

fn netns_of(name: &str) -> Option<u64> {
    let (inode, _turn) = name.strip_prefix(KEPT)?.split_once('-')?;
    u64::from_str_radix(inode, 16).ok()
}

fn inherited() -> Vec<(RawFd, String)> {
    match sd_notify::listen_fds_with_names() {
        Ok(fds) => fds.collect(),
        Err(error) => {
            tracing::warn!(%error, "what the service manager handed over has no names, and is closed");
            let unnamed = sd_notify::listen_fds().into_iter().flatten();
            unnamed.map(|fd| (fd, UNNAMED.to_owned())).collect()
        }
    }
}

/// A number of the environment as a descriptor that is owned. There is no safe way from one to the
/// other but asking the kernel for a copy (pidfd_getfd(2), Linux 5.6; older ones have no rule that could be
/// kept); the original is closed.
fn take(fd: RawFd) -> io::Result<OwnedFd> {
    let copy = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|me| pidfd_getfd(me, fd, PidfdGetfdFlags::empty()));
    nix::unistd::close(fd)?;
    Ok(copy?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::IntoRawFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_is_taken_over_by_its_number() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let number = ours.into_raw_fd();
        let mut taken = UnixStream::from(take(number).unwrap());
        theirs.write_all(b"x").unwrap();
        let mut byte = [0];
        taken.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        drop(taken);
        // No copy is left open.
        assert_eq!(theirs.read(&mut byte).unwrap(), 0);
    }

    #[test]
    fn a_name_says_of_which_namespace_sockets_are() {
        assert_eq!(netns_of(&kept_name(4_026_532_000, 7)), Some(4_026_532_000));
        for other in ["stored", "o2-4-5", "o1-", "o1-4", "o1-x-5", "ovl1-4-5-6"] {
            assert_eq!(netns_of(other), None, "{other}");
        }
    }

    #[test]
    fn all_names_together_fit_into_one_variable() {
        // Inodes of namespaces are of 32 bits (`proc_alloc_inum` of the kernel).
        let longest = kept_name(u32::MAX.into(), u64::MAX).len() + ":".len();
        assert!("LISTEN_FDNAMES=".len() + KEPT_MAX * longest < 128 * 1024);
    }

    #[test]
    fn a_number_without_a_descriptor_is_an_error() {
        assert!(take(1_000_000).is_err());
    }
}
