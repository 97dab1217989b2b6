//! Network namespaces by path.
//!
//! A thread belongs to one network namespace, and a socket to the one its thread was in when it
//! was opened. Work in a sandbox is done on a thread of its own, which ends with the work, so that
//! no other task ever finds itself in the wrong namespace.
//!
//! An open file or socket keeps its namespace alive: none is kept beyond one operation.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use tokio::sync::oneshot;

/// How long work inside a namespace may take before its caller goes on without it. The thread ends
/// by itself later, and what it did then is found by the next audit.
const INSIDE_TIMEOUT: Duration = Duration::from_secs(5);

/// Device and inode of a namespace: its identity, whatever paths lead to it.
///
/// An inode may be given out again after the namespace has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    /// Device number of nsfs.
    pub dev: u64,
    /// Inode on nsfs.
    pub ino: u64,
}

/// The identity of the namespace at `path`.
///
/// Only that it is a namespace is checked here (`NSFS_MAGIC`); that it is one of the network kind
/// shows when it is entered.
pub fn identify(path: &Path) -> Result<NetnsId, NetnsError> {
    Namespace::open(path).map(|namespace| namespace.id)
}

/// Runs `f` on a thread of its own inside the network namespace at `path`, and waits for it.
pub fn run<T: Send + 'static>(
    path: &Path,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NetnsError> {
    let namespace = Namespace::open(path)?;
    let handle = namespace.spawn(move |entered| entered.map(|()| f()))?;
    handle.join().map_err(|_| NetnsError::Panicked { path: path.to_owned() })?
}

/// Why a network namespace could not be used. Nothing was done inside it, except for `Timeout` and
/// `Panicked`.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing is at the path (any more).
    #[error("no network namespace at {}: it does not exist", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The path leads to something else, for example the empty file that stays when a namespace is
    /// unmounted.
    #[error("{} is not a network namespace", path.display())]
    NotANamespace {
        /// The path.
        path: PathBuf,
    },
    /// The path cannot be opened.
    #[error("could not open network namespace {}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refused entry (`setns`).
    #[error("could not enter network namespace {}", path.display())]
    Enter {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel made no namespace to try something in (`unshare`).
    #[error("could not make a network namespace to try something in")]
    Fresh(#[source] io::Error),
    /// No thread could be started.
    #[error("no thread for network namespace {}", path.display())]
    Thread {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The work inside panicked.
    #[error("work in network namespace {} panicked", path.display())]
    Panicked {
        /// The path.
        path: PathBuf,
    },
    /// The work inside did not end in time.
    #[error("work in network namespace {} did not end within {after:?}", path.display())]
    Timeout {
        /// The path.
        path: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
}

impl NetnsError {
    /// The namespace does not exist (any more), as opposed to not being usable.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::NotANamespace { .. } => true,
            Self::Open { .. }
            | Self::Enter { .. }
            | Self::Fresh(_)
            | Self::Thread { .. }
            | Self::Panicked { .. }
            | Self::Timeout { .. } => false,
        }
    }
}

/// An open namespace file. It keeps the namespace alive: for the time of one operation only.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    path: PathBuf,
    id: NetnsId,
}

impl Namespace {
    pub(crate) fn open(path: &Path) -> Result<Self, NetnsError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                NetnsError::Missing { path: path.to_owned() }
            }
            _ => NetnsError::Open { path: path.to_owned(), source },
        };
        // Non-blocking: the path is a user's, and opening a FIFO would wait for its other end.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(failed)?;
        let kind = fstatfs(&file).map_err(|e| failed(e.into()))?;
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(NetnsError::NotANamespace { path: path.to_owned() });
        }
        let metadata = file.metadata().map_err(failed)?;
        Ok(Self {
            id: NetnsId { dev: metadata.dev(), ino: metadata.ino() },
            file,
            path: path.to_owned(),
        })
    }

    pub(crate) fn id(&self) -> NetnsId {
        self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For `IFLA_NET_NS_FD`; good as long as `self` lives.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `f` inside on a thread of its own, with the caller's tokio runtime at hand, so that it
    /// may open sockets for it.
    pub(crate) async fn inside<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetnsError> {
        let runtime = tokio::runtime::Handle::current();
        let (sender, receiver) = oneshot::channel();
        self.spawn(move |entered| {
            let _runtime = runtime.enter();
            // The receiver is gone only when the caller no longer waits.
            let _ = sender.send(entered.map(|()| f()));
        })?;
        match tokio::time::timeout(INSIDE_TIMEOUT, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(NetnsError::Panicked { path: self.path.clone() }),
            Err(_) => Err(NetnsError::Timeout { path: self.path.clone(), after: INSIDE_TIMEOUT }),
        }
    }

    fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce(Result<(), NetnsError>) -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>, NetnsError> {
        let failed = |source| NetnsError::Thread { path: self.path.clone(), source };
        let file = self.file.try_clone().map_err(failed)?;
        let path = self.path.clone();
        thread::Builder::new()
            .name("ovl-netns".to_owned())
            .spawn(move || {
                let entered = setns(&file, CloneFlags::CLONE_NEWNET);
                drop(file);
                f(entered.map_err(|errno| refused(path, errno)))
            })
            .map_err(failed)
    }
}

/// Runs `f` in a network namespace of its own, on a thread of its own, with the caller's tokio runtime
/// at hand. What is made there goes when the last socket that `f` opened is closed.
pub(crate) async fn in_fresh<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NetnsError> {
    let runtime = tokio::runtime::Handle::current();
    let (sender, receiver) = oneshot::channel();
    let path = || PathBuf::from("(a new one)");
    let work = move || {
        let made = unshare(CloneFlags::CLONE_NEWNET);
        let _runtime = runtime.enter();
        // The receiver is gone only when the caller no longer waits.
        let _ = sender.send(made.map(|()| f()));
    };
    let thread = thread::Builder::new().name("ovl-netns".to_owned()).spawn(work);
    thread.map_err(|source| NetnsError::Thread { path: path(), source })?;
    match tokio::time::timeout(INSIDE_TIMEOUT, receiver).await {
        Ok(Ok(result)) => result.map_err(|errno| NetnsError::Fresh(errno.into())),
        Ok(Err(_)) => Err(NetnsError::Panicked { path: path() }),
        Err(_) => Err(NetnsError::Timeout { path: path(), after: INSIDE_TIMEOUT }),
    }
}

/// `setns` answers EINVAL for a namespace of another kind.
fn refused(path: PathBuf, errno: nix::errno::Errno) -> NetnsError {
    match errno {
        nix::errno::Errno::EINVAL => NetnsError::NotANamespace { path },
        _ => NetnsError::Enter { path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_by_its_identity_whatever_the_path() {
        let this = identify(Path::new("/proc/self/ns/net")).unwrap();
        let pid = std::process::id();
        assert_eq!(identify(Path::new(&format!("/proc/{pid}/ns/net"))).unwrap(), this);
        assert_ne!(identify(Path::new("/proc/self/ns/mnt")).unwrap(), this);
    }

    #[test]
    fn what_is_no_namespace_is_refused_by_name() {
        let missing = identify(Path::new("/run/netns/no-such-namespace")).unwrap_err();
        assert!(missing.is_gone());
        assert!(missing.to_string().contains("/run/netns/no-such-namespace"));
        let below_a_file = identify(Path::new("/etc/hostname/x")).unwrap_err();
        assert!(below_a_file.is_gone());
        for path in ["/etc/passwd", "/etc", "/proc/self/stat", "/dev/null"] {
            let error = identify(Path::new(path)).unwrap_err();
            assert!(matches!(error, NetnsError::NotANamespace { .. }), "{error}");
            assert!(error.to_string().contains(path));
        }
    }

    #[test]
    fn a_namespace_of_another_kind_is_refused_on_entry() {
        let error = run(Path::new("/proc/self/ns/mnt"), || ()).unwrap_err();
        assert!(error.is_gone(), "{error}");
    }

    #[test]
    fn a_panic_inside_is_an_error_outside() {
        let error = run(Path::new("/proc/self/ns/net"), || panic!("inside")).unwrap_err();
        assert!(matches!(error, NetnsError::Panicked { .. }), "{error}");
    }
}
