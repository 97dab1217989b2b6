//! Entries for journald, in its own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
//!
//! `journalctl` shows an entry's message and none of its own fields, so each value stands in both:
//! behind the sentence, as on standard error, and as a field to search by. (tracing-journald has the
//! fields only: "the store does not answer" would lack the why.) Events only: there are no spans.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Begins the journal's name of each field: `OVL_NODE` for `node`.
const PREFIX: &str = "OVL_";

/// What `journalctl -t` asks for.
const IDENTIFIER: &str = "ovl-agent";

/// Bytes of a value that are kept, so that an entry fits into one datagram.
const LONGEST: usize = 8 * 1024;

/// How long a journald that takes nothing is waited for; after that the entry is lost.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long one that hung is left alone: the agent has better things to do than to wait for its log.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// A way to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    /// When it took an entry too late last.
    hung: Mutex<Option<Instant>>,
    /// Entries since then that it did not get.
    lost: AtomicU64,
}

impl Journal {
    /// # Errors
    /// Nobody listens there.
    pub(super) fn open(path: impl Into<PathBuf>) -> io::Result<Journal> {
        let journal = Journal {
            socket: UnixDatagram::unbound()?,
            path: path.into(),
            hung: Mutex::default(),
            lost: AtomicU64::new(0),
        };
        journal.socket.set_write_timeout(Some(PATIENCE))?;
        // An empty entry is thrown away.
        journal.socket.send_to(&[], &journal.path)?;
        Ok(journal)
    }

    /// # Errors
    /// It hangs; the entry is lost, and counted.
    fn send(&self, entry: &[u8]) -> io::Result<()> {
        let mut hung = self.hung.lock().unwrap_or_else(PoisonError::into_inner);
        if hung.is_some_and(|since| since + LEFT_ALONE > now()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::TimedOut.into());
        }
        let sent = self.socket.send_to(entry, &self.path).map(drop);
        if sent.is_err() {
            *hung = Some(now());
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else if hung.take().is_some() {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            let mut entry = Entry::default();
            entry.put("PRIORITY", priority(Level::WARN));
            entry.put("SYSLOG_IDENTIFIER", IDENTIFIER);
            entry.put("MESSAGE", &format!("journald did not take {lost} entries"));
            self.socket.send_to(&entry.bytes, &self.path)?;
        }
        sent
    }
}

#[expect(clippy::disallowed_methods, reason = "a log is outside of every core")]
fn now() -> Instant {
    Instant::now()
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::default();
        entry.put("PRIORITY", priority(*metadata.level()));
        entry.put("SYSLOG_IDENTIFIER", IDENTIFIER);
        entry.put("TARGET", metadata.target());
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry.put("CODE_FILE", file);
            entry.put("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        // There is nowhere to tell of it.
        let _ = self.send(&entry.finish());
    }
}

/// Those of syslog(3). What runs as it should is not worth a notice.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// The beginning of a long value.
fn cut(value: &str) -> &str {
    let mut end = value.len().min(LONGEST);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

/// An entry that is being written.
#[derive(Default)]
struct Entry {
    bytes: Vec<u8>,
    message: String,
    /// ` name=value` of each.
    values: String,
}

impl Entry {
    /// With the value's length before it, so that a value may hold anything.
    fn put(&mut self, name: &str, value: &str) {
        let value = cut(value);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }

    /// `shown` is the value as it stands in the message.
    fn value(&mut self, field: &Field, value: &str, shown: fmt::Arguments<'_>) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            // What the bridge from the log crate tells of itself.
            name if name.starts_with("log.") => {}
            name => {
                let odd = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
                let upper: String = name.to_ascii_uppercase().chars().map(odd).collect();
                self.put(&format!("{PREFIX}{upper}"), value);
                // Writing to a string does not fail.
                let _ = write!(self.values, " {name}={shown}");
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let text = format!("{}{}", self.message, self.values);
        self.put("MESSAGE", text.trim_start());
        self.bytes
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.value(field, value, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.value(field, &text, format_args!("{text}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What arrives of that which is logged.
    fn arrived(log: impl FnOnce()) -> Vec<BTreeMap<String, String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_nonblocking(true).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::open(&path).unwrap());
        tracing::subscriber::with_default(subscriber, log);
        let mut buffer = vec![0; 1 << 20];
        let mut entries = Vec::new();
        while let Ok(length) = journald.recv(&mut buffer) {
            entries.push(fields(&buffer[..length]));
        }
        assert!(entries.remove(0).is_empty(), "the first one only tries the socket");
        entries
    }

    fn fields(mut rest: &[u8]) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = BTreeMap::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (length, after) = rest[end + 1..].split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            fields.insert(text(&rest[..end]), text(&after[..length]));
            assert_eq!(after[length], b'\n');
            rest = &after[length + 1..];
        }
        assert!(rest.is_empty());
        fields
    }

    #[test]
    fn each_value_stands_in_the_message_and_in_a_field() {
        let entries = arrived(|| {
            tracing::warn!(error = "no route", tries = 3, host = %"bee-1", "no answer from {}", "x");
        });
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        for (name, value) in [
            ("MESSAGE", r#"no answer from x error="no route" tries=3 host=bee-1"#),
            ("OVL_ERROR", "no route"),
            ("OVL_TRIES", "3"),
            ("OVL_HOST", "bee-1"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "ovl-agent"),
            ("TARGET", "ovl_agent::log::journal::tests"),
            ("CODE_FILE", file!()),
        ] {
            assert_eq!(entry.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn each_level_has_its_priority() {
        let entries = arrived(|| {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
        });
        let priorities: Vec<_> = entries.iter().map(|entry| entry["PRIORITY"].as_str()).collect();
        assert_eq!(priorities, ["3", "4", "6", "7", "7"]);
    }

    #[test]
    fn no_value_makes_a_field_of_its_own_or_an_entry_too_long() {
        let evil = "x\nPRIORITY=0\nMESSAGE\n";
        let long = "é".repeat(1 << 20);
        let entries = arrived(|| tracing::info!(evil, long, "{evil}"));
        let [entry] = &entries[..] else { panic!("{} entries", entries.len()) };
        assert_eq!(entry["PRIORITY"], "6");
        assert_eq!(entry["OVL_EVIL"], evil);
        assert_eq!(entry["OVL_LONG"].len(), LONGEST);
        assert!(entry["MESSAGE"].starts_with(evil));
        assert!(entry["MESSAGE"].len() <= LONGEST);
    }

    #[test]
    fn without_a_journald_it_does_not_open() {
        assert!(Journal::open("/nowhere/socket").is_err());
    }

    #[test]
    fn a_journald_that_hangs_is_waited_for_once_and_then_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path).unwrap();
        let mut taken = 0;
        while journal.send(b"entry").is_ok() {
            taken += 1;
            assert!(taken < 100_000, "it takes everything");
        }
        assert!(journal.send(b"entry").is_err());
        assert_eq!(journal.lost.load(Ordering::Relaxed), 2);
        // It is not even asked for a while, although it would take more by now.
        let mut buffer = [0; 16];
        journald.recv(&mut buffer).unwrap();
        journald.recv(&mut buffer).unwrap();
        assert!(journal.send(b"entry").is_err());
    }
}
