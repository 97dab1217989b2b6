//! The seam to the outside: a small ordered key-value store with compare-and-swap.
//!
//! Everything that several hosts agree on goes through [`Store::commit`]: each write says which
//! revision it replaces, so that a writer that looked away learns of it. Each call returns
//! within the deadline that its store was opened with.
//!
//! Cancel-safety: a call whose future is dropped is as one whose answer was lost. A commit may
//! have been made or not; nothing else is left behind.

mod consul;
mod error;
mod memory;
mod sqlite;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::errors::OpenError;

pub use self::error::StoreError;
pub use self::memory::MemoryStore;

pub use self::consul::check_files;

pub(crate) use self::consul::ConsulStore;
pub(crate) use self::sqlite::SqliteStore;

/// A key, its value, and when it was last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Letters, digits, `.`, `:` and `/`.
    pub key: String,
    /// JSON of this crate, or whatever another put there.
    pub value: Vec<u8>,
    /// Of the last write; never 0. Later writes, to whichever key, have higher ones.
    pub revision: u64,
}

/// One step of a transaction. Revision 0 stands for "the key is absent".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The key is at this revision.
    Check {
        /// Which key.
        key: String,
        /// 0: absent.
        revision: u64,
    },
    /// The key is at this revision, and gets this value.
    Put {
        /// Which key.
        key: String,
        /// 0: absent.
        revision: u64,
        /// The new value.
        value: Vec<u8>,
    },
    /// The key gets this value, whatever it was.
    Set {
        /// Which key.
        key: String,
        /// The new value.
        value: Vec<u8>,
    },
    /// The key is at this revision (not 0), and goes.
    Delete {
        /// Which key.
        key: String,
        /// Not 0.
        revision: u64,
    },
}

impl Operation {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Operation::Check { key, .. }
            | Operation::Put { key, .. }
            | Operation::Set { key, .. }
            | Operation::Delete { key, .. } => key,
        }
    }
}

/// Operations in one transaction, at most: Consul takes 64, and a delete counts as two there.
/// More is an error of the caller, [`StoreError::TooLarge`].
pub const MAX_OPERATIONS: usize = 32;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done, durably; each key that was put has this revision now. Without a
    /// `Put` or `Set` the number means nothing.
    Committed {
        /// Higher than any before.
        revision: u64,
    },
    /// None of it was done: a key was not at the revision that was named.
    Conflict,
}

/// Where the registry lives. Several handles, in several processes, share one store.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The key as it is now, `None` when it is absent. What was committed before the call, by
    /// anybody, is seen.
    async fn read(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Every key that begins with `prefix` (which ends with `/`), in any order, all of one
    /// moment; fresh as [`Store::read`].
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;

    /// All of `operations`, each key at most once, or none of them.
    async fn commit(&self, operations: &[Operation]) -> Result<Outcome, StoreError>;

    /// Does all that a write needs (its leader, the token's rights, the lock on its file, its disk), and
    /// changes nothing that is read. `key` is one that the caller may write.
    async fn try_write(&self, key: &str) -> Result<(), StoreError> {
        let never = Operation::Put { key: key.to_owned(), revision: NEVER, value: Vec::new() };
        self.commit(&[never]).await.map(|_| ())
    }

    /// The key, as soon as its revision differs from `after` (0: absent), or as it is when
    /// `wait` is over. Takes at most `wait`, a sixteenth of it, and two deadlines.
    async fn watch(
        &self,
        key: &str,
        after: u64,
        wait: Duration,
    ) -> Result<Option<Entry>, StoreError>;

    /// Reads anew the files that the store was opened with, and tries them. What worked is not
    /// given up for what does not; when nothing works, what is in the files now counts. Takes at
    /// most a deadline.
    async fn renew(&self) -> Result<(), OpenError> {
        Ok(())
    }
}

/// A revision that no key has: stores count from 1, and no store counts that far.
const NEVER: u64 = 1 << 62;

/// The revision of what may be absent.
#[must_use]
pub(crate) fn revision(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, |e| e.revision)
}
