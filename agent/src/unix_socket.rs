//! A listening socket's file: made so that only root (and a group, if one is named) may connect,
//! and never taken from a live peer.
//!
//! The socket is bound under another name, closed to everyone else, and renamed into place: who
//! connects sees either the old file or a new one that answers. It listens only after it is closed,
//! so whatever the umask, nobody gets in before. A lock on the directory keeps two agents that start
//! at the same moment apart.
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixListener, UnixSocket as Unbound, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections that wait to be accepted; the kernel refuses more.
const BACKLOG: u32 = 1024;

/// How long to wait for another agent that is binding in the same directory, and for a peer to
/// accept a probe.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two tries to lock the directory.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Why the socket could not be made. Nothing was changed, but for directories made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path names no file.
    #[error("socket {path}: not the path of a file; give one such as /run/ovl/ovl.sock")]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// Its directory can be neither made nor opened.
    #[error("socket {path}: its directory is not usable; check that it can be written to")]
    Directory {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Another process answers on it.
    #[error("socket {path}: another process listens on it; stop that one, or give another path")]
    InUse {
        /// The path as given.
        path: PathBuf,
    },
    /// Something else than a socket has this name; it is left alone.
    #[error("socket {path}: a file that is no socket is in the way; move it, or give another path")]
    NotASocket {
        /// The path as given.
        path: PathBuf,
    },
    /// The kernel did not let it be given to its group.
    #[error(
        "socket {path}: cannot be given to group {gid}; the agent needs CAP_CHOWN, or to be in that group"
    )]
    Group {
        /// The path as given.
        path: PathBuf,
        /// The group's number.
        gid: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the socket, its mode or its name.
    #[error("socket {path}: cannot be made; the path may be too long (107 bytes at most)")]
    Bind {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A listening socket and the name it has; the name goes when this is dropped, unless another
/// socket has taken it meanwhile.
#[derive(Debug)]
pub struct UnixSocket {
    /// Bound and listening.
    pub listener: UnixListener,
    /// Keeps the name.
    pub file: SocketFile,
}

/// The socket's name in the file system, removed on drop.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl UnixSocket {
    /// Listens on `path`, mode 0600; with a group's number, the group's, mode 0660. A stale socket
    /// is replaced, a live one refused.
    pub async fn bind(path: &Path, group: Option<u32>) -> Result<Self, BindError> {
        let (directory, name) = match (path.parent(), path.file_name()) {
            (Some(directory), Some(name)) if !directory.as_os_str().is_empty() => (directory, name),
            (None | Some(_), None | Some(_)) => {
                return Err(BindError::NotAFile { path: path.into() });
            }
        };
        let _lock = lock_directory(directory)
            .await
            .map_err(|source| BindError::Directory { path: path.into(), source })?;
        refuse_taken(path).await?;
        let mut fresh = std::ffi::OsString::from(".");
        fresh.push(name);
        let failed = |source| BindError::Bind { path: path.into(), source };
        let fresh = directory.join(fresh);
        let bound = bind_closed(&fresh).map_err(failed)?;
        if let Some(gid) = group {
            let failed = |source| BindError::Group { path: path.into(), gid, source };
            lchown(&fresh, None, Some(gid)).map_err(failed)?;
        }
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        listen_and_rename(bound, mode, &fresh, path).map_err(failed)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.device_and_inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

async fn lock_directory(directory: &Path) -> io::Result<Flock<std::fs::File>> {
    std::fs::create_dir_all(directory)?;
    let mut file = std::fs::File::open(directory)?;
    let tries = PATIENCE.as_millis() / LOCK_RETRY.as_millis();
    for _ in 0..tries {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
    Err(Errno::EWOULDBLOCK.into())
}

async fn refuse_taken(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket { path: path.into() }),
        Err(source) => {
            return Err(BindError::Directory { path: path.into(), source });
        }
    }
    match tokio::time::timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // A full backlog, or no answer at all, is a process too.
        Ok(Ok(_) | Err(_)) | Err(_) => Err(BindError::InUse { path: path.into() }),
    }
}

fn bind_closed(fresh: &Path) -> io::Result<Unbound> {
    match std::fs::remove_file(fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Unbound::new_stream()?;
    socket.bind(fresh)?;
    Ok(socket)
}

fn listen_and_rename(
    bound: Unbound,
    mode: u32,
    fresh: &Path,
    path: &Path,
) -> io::Result<UnixSocket> {
    std::fs::set_permissions(fresh, std::fs::Permissions::from_mode(mode))?;
    let listener = bound.listen(BACKLOG)?;
    let made = std::fs::symlink_metadata(fresh)?;
    std::fs::rename(fresh, path)?;
    let file = SocketFile { path: path.to_owned(), device_and_inode: (made.dev(), made.ino()) };
    Ok(UnixSocket { listener, file })
}

/// Accepts no more connections than there are permits; further ones wait in the kernel's queue.
pub struct Limited<L = UnixListener> {
    listener: L,
    permits: Arc<Semaphore>,
    guests: Option<Arc<Semaphore>>,
    within: Option<Duration>,
}

impl<L> Limited<L> {
    /// Limits the connections of a listener to `most` at a time.
    pub fn new(listener: L, most: usize) -> Limited<L> {
        Limited { listener, permits: Arc::new(Semaphore::new(most)), guests: None, within: None }
    }

    /// Of these, at most `most` are of other users than root and our own, so that they cannot keep
    /// those out; one more of theirs is closed at once.
    #[must_use]
    pub fn with_guests(self, most: usize) -> Limited<L> {
        Limited { guests: Some(Arc::new(Semaphore::new(most))), ..self }
    }

    /// A guest's place; `Err`: there is none.
    fn place(&self, user: Option<u32>) -> Result<Option<OwnedSemaphorePermit>, ()> {
        let own = user.is_some_and(|user| user == 0 || user == geteuid().as_raw());
        match (&self.guests, own) {
            (None, _) | (_, true) => Ok(None),
            (Some(guests), false) => guests.clone().try_acquire_owned().map(Some).map_err(drop),
        }
    }

    /// Ends each connection after that time, whatever it does, so that neither idle ones nor those that
    /// read no answer keep others out for ever.
    #[must_use]
    pub fn ending_after(self, within: Duration) -> Limited<L> {
        Limited { within: Some(within), ..self }
    }
}

/// A connection that may know which user is at its other end.
pub trait Peered {
    /// Its number; `None`: that cannot be known.
    fn user(&self) -> Option<u32>;
}

impl Peered for UnixStream {
    fn user(&self) -> Option<u32> {
        self.peer_cred().ok().map(|cred| cred.uid())
    }
}

impl Peered for TcpStream {
    fn user(&self) -> Option<u32> {
        None
    }
}

impl<L> Listener for Limited<L>
where
    L: Listener,
    L::Io: Peered,
{
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Held<L::Io>, Self::Addr) {
        let permit = self.permits.clone().acquire_owned().await;
        // Never closed: no permit would only mean one connection too many.
        let permit = permit.ok();
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let Ok(place) = self.place(stream.user()) else {
                continue;
            };
            let deadline = self.within.map(|within| Box::pin(tokio::time::sleep(within)));
            return (Held { stream, deadline, _permits: (permit, place) }, address);
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that holds its permit until it is closed.
pub struct Held<S = UnixStream> {
    stream: S,
    deadline: Option<Pin<Box<Sleep>>>,
    _permits: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>),
}

impl Held {
    /// The effective user of the process that connected, at that moment, as the kernel tells it
    /// (SO_PEERCRED, unix(7)); None when it does not.
    pub fn peer_user(&self) -> Option<u32> {
        self.stream.user()
    }

    /// The process that connected, as this process numbers it; None when it cannot see it.
    pub fn peer(&self) -> Option<i32> {
        // A process of another pid namespace has the number 0.
        self.stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    }
}

impl<S: Unpin> Held<S> {
    /// The stream, while its time is not over. Whoever waits for it is woken at the end of that time.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut S>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn it_is_for_its_owner_alone_or_for_its_group_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ovl.sock");
        for (group, mode) in [(None, 0o600), (Some(4711), 0o660)] {
            let socket = UnixSocket::bind(&path, group).await.unwrap();
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!(found.mode() & 0o7777, mode);
            assert_eq!((found.uid(), found.gid()), (0, group.unwrap_or(0)));
            UnixStream::connect(&path).await.unwrap();
            drop(socket);
        }
    }

    #[tokio::test]
    async fn an_idle_connection_makes_room_for_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixSocket::bind(&folder.path().join("ovl.sock"), None).await.unwrap();
        let mut limited = Limited::new(socket.listener, 1).ending_after(Duration::from_millis(10));
        let path = folder.path().join("ovl.sock");
        let (_first, _second) =
            (UnixStream::connect(&path).await.unwrap(), UnixStream::connect(&path).await.unwrap());
        let (mut held, _) = limited.accept().await;
        let ended = held.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(held);
        limited.accept().await;
    }

    #[tokio::test]
    async fn a_connection_that_reads_nothing_ends_as_soon_as_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ovl.sock");
        let socket = UnixSocket::bind(&path, None).await.unwrap();
        let mut limited = Limited::new(socket.listener, 1).ending_after(Duration::from_millis(50));
        let _mute = UnixStream::connect(&path).await.unwrap();
        let (mut held, _) = limited.accept().await;
        let answer = vec![0; 16 << 20];
        let written = tokio::time::timeout(PATIENCE, held.write_all(&answer)).await;
        let ended = written.expect("it ends by itself").unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(held.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(held.shutdown().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
