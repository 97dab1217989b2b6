//! What is said to SQLite, on a thread that may wait.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use crate::store::{Entry, Operation, Outcome};

/// The schema that this version makes and reads, in `user_version`.
pub(super) const SCHEMA: u32 = 1;

const SCHEMA_SQL: &str = "
    CREATE TABLE entries (
        key TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL,
        revision INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE revision (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL);
    INSERT INTO revision VALUES (1, 0);
    PRAGMA user_version = 1;";

/// Switches to WAL. When several processes do so at once, SQLite answers "busy" without calling
/// the busy handler, so that this has to be tried again.
pub(super) fn write_ahead(
    connection: &Connection,
    deadline: Duration,
) -> Result<(), rusqlite::Error> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut left = deadline;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(e) if is_busy(&e) && left > PAUSE => {
                std::thread::sleep(PAUSE);
                left -= PAUSE;
            }
            done => return done,
        }
    }
}

/// The schema's version, after making it in a file without tables. 0: the tables are others.
pub(super) fn schema(connection: &mut Connection) -> Result<u32, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = |t: &Transaction| t.query_row("PRAGMA user_version", [], |r| r.get(0));
    let tables: u32 =
        transaction.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0))?;
    if version(&transaction)? == 0 && tables == 0 {
        transaction.execute_batch(SCHEMA_SQL)?;
    }
    let found = version(&transaction)?;
    transaction.commit()?;
    Ok(found)
}

/// The schema's version as it is.
pub(super) fn version(connection: &Connection) -> Result<u32, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

pub(super) fn data_version(connection: &mut Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

pub(super) fn read(connection: &Connection, key: &str) -> Result<Option<Entry>, rusqlite::Error> {
    let sql = "SELECT key, value, revision FROM entries WHERE key = ?1";
    connection.prepare_cached(sql)?.query_row([key], entry).optional()
}

pub(super) fn list(connection: &Connection, prefix: &str) -> Result<Vec<Entry>, rusqlite::Error> {
    let sql = "SELECT key, value, revision FROM entries WHERE key >= ?1 AND key < ?2";
    let end = format!("{prefix}\u{10ffff}");
    connection.prepare_cached(sql)?.query_map([prefix, &end], entry)?.collect()
}

fn entry(row: &Row<'_>) -> Result<Entry, rusqlite::Error> {
    Ok(Entry { key: row.get(0)?, value: row.get(1)?, revision: unsigned(row, 2)? })
}

/// SQLite's integers are signed; a negative revision is none that this crate wrote.
fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, rusqlite::Error> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn commit(
    connection: &mut Connection,
    operations: &[Operation],
) -> Result<Outcome, rusqlite::Error> {
    // Takes the write lock first: what is checked below stays as it is until the end.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for operation in operations {
        if !holds(&transaction, operation)? {
            return Ok(Outcome::Conflict);
        }
    }
    let sql = "UPDATE revision SET revision = revision + 1 RETURNING revision";
    let revision: u64 = transaction.prepare_cached(sql)?.query_row([], |row| unsigned(row, 0))?;
    for operation in operations {
        apply(&transaction, operation, revision)?;
    }
    transaction.commit()?;
    Ok(Outcome::Committed { revision })
}

/// Writes a page of the file as it is: it goes through the log to the disk like any other. What is set to
/// its own value SQLite does not write.
pub(super) fn try_write(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("UPDATE revision SET revision = revision + 1", [])?;
    transaction.execute("UPDATE revision SET revision = revision - 1", [])?;
    transaction.commit()
}

fn holds(transaction: &Transaction<'_>, operation: &Operation) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT revision FROM entries WHERE key = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let now: Option<u64> = statement.query_row([operation.key()], |r| unsigned(r, 0)).optional()?;
    Ok(match operation {
        Operation::Check { revision, .. } | Operation::Put { revision, .. } => {
            now.unwrap_or(0) == *revision
        }
        Operation::Delete { revision, .. } => now == Some(*revision),
        Operation::Set { .. } => true,
    })
}

fn apply(
    transaction: &Transaction<'_>,
    operation: &Operation,
    revision: u64,
) -> Result<(), rusqlite::Error> {
    match operation {
        Operation::Check { .. } => {}
        Operation::Put { key, value, .. } | Operation::Set { key, value } => {
            let revision = revision.cast_signed();
            let sql = "INSERT OR REPLACE INTO entries (key, value, revision) VALUES (?1, ?2, ?3)";
            transaction.prepare_cached(sql)?.execute(params![key, value, revision])?;
        }
        Operation::Delete { key, .. } => {
            transaction.prepare_cached("DELETE FROM entries WHERE key = ?1")?.execute([key])?;
        }
    }
    Ok(())
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}
