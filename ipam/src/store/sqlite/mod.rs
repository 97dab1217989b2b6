//! The registry in a file of this host, shared by the agents of this host.
//!
//! WAL mode, so that readers and the one writer do not wait for each other; `synchronous=FULL`,
//! as an address that was answered has to be held after a power cut too. One connection for each
//! handle, behind an asynchronous lock: at most one thread is ever busy with it, however many
//! callers give up waiting.

mod sql;

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Mutex, watch};

use super::{Entry, MAX_OPERATIONS, Operation, Outcome, Store, StoreError, revision};

/// How long a change made by another process stays unseen by a watch: the pause between two
/// looks at `PRAGMA data_version`, which costs no read of the file. A change made through this
/// handle is seen at once.
const POLL: Duration = Duration::from_millis(100);

const RESTORE: &str =
    "restore it from a backup; a new empty one would give out addresses that are in use";

/// See the module.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    file: File,
    deadline: Duration,
    /// Counts commits of this handle, which `data_version` does not show.
    commits: watch::Sender<u64>,
}

/// Which file was opened.
#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SqliteStore {
    /// Opens the file, or creates it (mode 0600) and its directory (0700).
    pub(crate) async fn open(path: &Path, deadline: Duration) -> Result<SqliteStore, StoreError> {
        let opened = opening(path, deadline, open).await?;
        Ok(SqliteStore::with(opened, deadline))
    }

    /// Opens the file as it is, without making or changing anything; `None`: there is none.
    pub(crate) async fn peek(
        path: &Path,
        deadline: Duration,
    ) -> Result<Option<SqliteStore>, StoreError> {
        let opened = opening(path, deadline, peek).await?;
        Ok(opened.map(|opened| SqliteStore::with(opened, deadline)))
    }

    fn with((connection, file): (Connection, File), deadline: Duration) -> SqliteStore {
        let connection = Arc::new(Mutex::new(connection));
        SqliteStore { connection, file, deadline, commits: watch::Sender::new(0) }
    }

    /// Runs `work` on the connection, on a thread that may wait.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (connection, file) = (Arc::clone(&self.connection), self.file.clone());
        let running = async move {
            let mut connection = connection.lock_owned().await;
            let blocking = tokio::task::spawn_blocking(move || {
                file.is_still_there()?;
                work(&mut connection).map_err(|e| classify(&file.path, doing, e))
            });
            blocking.await.map_err(|e| died(&self.file.path, doing, e))?
        };
        let late = |_| timeout(&self.file.path, doing, self.deadline);
        tokio::time::timeout(self.deadline, running).await.map_err(late)?
    }

    /// Returns when the key's revision differs from `after`.
    async fn differs(&self, key: &str, after: u64) -> Result<Option<Entry>, StoreError> {
        let mut own = self.commits.subscribe();
        let mut seen = None;
        loop {
            let of_own = own.has_changed().unwrap_or(false);
            own.mark_unchanged();
            let version = self.run("watch", sql::data_version).await?;
            if of_own || seen != Some(version) {
                let entry = self.read(key).await?;
                if revision(entry.as_ref()) != after {
                    return Ok(entry);
                }
                seen = Some(version);
            }
            // Either way the next round looks.
            let _ = tokio::time::timeout(POLL, own.changed()).await.map(|_| own.mark_changed());
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn read(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.run("read", move |connection| sql::read(connection, &key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let prefix = prefix.to_owned();
        self.run("list", move |connection| sql::list(connection, &prefix)).await
    }

    async fn commit(&self, operations: &[Operation]) -> Result<Outcome, StoreError> {
        if operations.len() > MAX_OPERATIONS {
            let (store, bound) = (url(&self.file.path), format!("{MAX_OPERATIONS} operations"));
            return Err(StoreError::TooLarge { store, what: "a transaction", bound });
        }
        let operations = operations.to_vec();
        let outcome = self.run("commit", move |c| sql::commit(c, &operations)).await?;
        self.commits.send_modify(|count| *count += 1);
        Ok(outcome)
    }

    async fn try_write(&self, _key: &str) -> Result<(), StoreError> {
        self.run("commit", sql::try_write).await
    }

    async fn watch(
        &self,
        key: &str,
        after: u64,
        wait: Duration,
    ) -> Result<Option<Entry>, StoreError> {
        match tokio::time::timeout(wait, self.differs(key, after)).await {
            Ok(entry) => entry,
            Err(_) => self.read(key).await,
        }
    }
}

impl File {
    fn of(path: &Path) -> Result<File, std::io::Error> {
        let metadata = std::fs::metadata(path)?;
        Ok(File { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// SQLite goes on with a deleted file, while a process that starts now makes a new one.
    fn is_still_there(&self) -> Result<(), StoreError> {
        let same = |f: &File| (f.device, f.inode) == (self.device, self.inode);
        match File::of(&self.path) {
            Ok(now) if same(&now) => Ok(()),
            Ok(_) => Err(StoreError::Replaced { path: self.path.display().to_string() }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::Replaced { path: self.path.display().to_string() })
            }
            Err(e) => Err(unreachable(&self.path, "read", e)),
        }
    }
}

/// Runs it on a thread that may wait.
async fn opening<T: Send + 'static>(
    path: &Path,
    deadline: Duration,
    open: fn(&Path, Duration) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let path = path.to_owned();
    let opening = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || open(&path, deadline))
    };
    let late = |_| timeout(&path, "open", deadline);
    let opened = tokio::time::timeout(deadline, opening).await.map_err(late)?;
    opened.map_err(|e| died(&path, "open", e))?
}

fn peek(path: &Path, deadline: Duration) -> Result<Option<(Connection, File)>, StoreError> {
    let file = match File::of(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreachable(path, "open", e)),
    };
    let failed = |e| classify(path, "open", e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(deadline).map_err(failed)?;
    let found = sql::version(&connection).map_err(failed)?;
    is_known(path, found)?;
    Ok(Some((connection, file)))
}

fn open(path: &Path, deadline: Duration) -> Result<(Connection, File), StoreError> {
    if let Some(parent) = path.parent() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|e| unreachable(path, "create its directory", e))?;
    }
    let failed = |e| classify(path, "open", e);
    let mut connection = Connection::open(path).map_err(failed)?;
    // By path, before anything is in it: opening it here and closing it again would drop the
    // locks that another handle of this process holds on it (POSIX), and -wal and -shm follow
    // its mode.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| unreachable(path, "set the mode of", e))?;
    let file = File::of(path).map_err(|e| unreachable(path, "open", e))?;
    connection.busy_timeout(deadline).map_err(failed)?;
    sql::write_ahead(&connection, deadline).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let found = sql::schema(&mut connection).map_err(failed)?;
    is_known(path, found)?;
    Ok((connection, file))
}

/// Whether the schema is one of this version.
fn is_known(path: &Path, found: u32) -> Result<(), StoreError> {
    match found {
        sql::SCHEMA => Ok(()),
        0 => Err(StoreError::Refused {
            store: url(path),
            doing: "open",
            reason: "it is a SQLite file of something else".into(),
            advice: "name another file",
        }),
        found => Err(StoreError::Newer {
            store: url(path),
            what: "the schema",
            found,
            known: sql::SCHEMA,
        }),
    }
}

/// What SQLite's answer means to the one who asked.
fn classify(path: &Path, doing: &'static str, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode as Code;
    let store = url(path);
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => StoreError::Failed {
            store,
            doing,
            reason: "another process holds its lock for too long".into(),
        },
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => corrupt(store, error),
        Some(Code::ReadOnly | Code::PermissionDenied) => StoreError::Refused {
            store,
            doing,
            reason,
            advice: "give the agent's user write access to the file and its directory",
        },
        Some(Code::CannotOpen) => unreachable(path, doing, error),
        Some(_) => StoreError::Failed { store, doing, reason },
        // Rows that are not what this crate writes, or tables that are not there.
        None => corrupt(store, error),
    }
}

fn corrupt(store: String, error: rusqlite::Error) -> StoreError {
    let (what, source) = ("the file".to_owned(), Some(error.into()));
    StoreError::Corrupt { store, what, advice: RESTORE, source }
}

fn unreachable(
    path: &Path,
    doing: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Unreachable { store: url(path), doing, source: source.into() }
}

fn timeout(path: &Path, doing: &'static str, after: Duration) -> StoreError {
    StoreError::Timeout { store: url(path), doing, after }
}

/// The blocking thread panicked, or the runtime stops.
fn died(path: &Path, doing: &'static str, error: tokio::task::JoinError) -> StoreError {
    StoreError::Failed { store: url(path), doing, reason: error.to_string() }
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}
