//! Where the log goes, and how much of it: standard error, or journald with a field for each value.
//!
//! systemd says by `JOURNAL_STREAM` that it joined a service's standard error to journald
//! (systemd.exec(5)). A shell or a pipe in between makes that stale, so it counts only while it
//! names the file that standard error is.

mod journal;

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;

use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use self::journal::Journal;
use crate::config::Config;

const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// Changes what is logged while the agent runs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(reload::Handle<EnvFilter, Registry>);

/// Why another filter was not taken; the former one is still in force.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It is none.
    #[error("log filter \"{filter}\": cannot be read")]
    Filter {
        /// As given.
        filter: String,
        /// Where it is wrong.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Nothing logs through this handle.
    #[error("the log has ended")]
    Ended(#[source] reload::Error),
}

impl Handle {
    /// Logs by this filter from now on: [`Config::log`] of other settings.
    ///
    /// # Errors
    /// It is no filter.
    pub fn set(&self, filter: &str) -> Result<(), SetError> {
        let parsed = EnvFilter::try_new(filter)
            .map_err(|source| SetError::Filter { filter: filter.to_owned(), source })?;
        self.0.reload(parsed).map_err(SetError::Ended)
    }
}

/// Starts the log of this process. Called once; what a second call sets up stays unused.
pub fn init(config: &Config) -> Handle {
    // The value was parsed with the settings, so this is the same filter again.
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let journal = to_journal(std::env::var_os(JOURNAL_STREAM).as_deref(), standard_error())
        .then(|| Journal::open(journal::SOCKET))
        .transpose();
    let (journal, unreachable) = match journal {
        Ok(journal) => (journal, None),
        Err(error) => (None, Some(error)),
    };
    let lines =
        journal.is_none().then(|| fmt::layer().with_writer(io::stderr).with_ansi(false).boxed());
    let _ = tracing_subscriber::registry().with(filter).with(journal).with(lines).try_init();
    if let Some(error) = unreachable {
        tracing::warn!(%error, "journald cannot be reached; the log goes to standard error");
    }
    Handle(handle)
}

/// `stream` is `JOURNAL_STREAM`, `DEVICE:INODE`; so is `stderr`.
fn to_journal(stream: Option<&OsStr>, stderr: Option<(u64, u64)>) -> bool {
    let named = stream.and_then(OsStr::to_str).and_then(|text| text.split_once(':'));
    let named = named.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    named.is_some() && named == stderr
}

fn standard_error() -> Option<(u64, u64)> {
    let found = nix::sys::stat::fstat(io::stderr().as_fd()).ok()?;
    Some((found.st_dev, found.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_standard_error_is_means_the_journal() {
        let stderr = Some((8, 4711));
        let goes = |stream: &str, stderr| to_journal(Some(OsStr::new(stream)), stderr);
        assert!(goes("8:4711", stderr));
        for other in ["", ":", "8", "8:", ":4711", "8:4712", "9:4711", "8:4711:1", "a:b", "8:-1"] {
            assert!(!goes(other, stderr), "{other}");
            assert!(!goes(other, None), "{other}");
        }
        assert!(!goes("8:4711", None));
        assert!(!to_journal(None, stderr));
        assert!(!to_journal(None, None));
    }

    #[test]
    fn a_filter_is_changed_while_it_logs_and_a_wrong_one_changes_nothing() {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("warn"));
        let handle = Handle(handle);
        let subscriber = tracing_subscriber::registry().with(filter);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            handle.set("info,ovl_agent=debug").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            let error = handle.set("a=b=info==").unwrap_err();
            assert!(matches!(error, SetError::Filter { .. }), "{error}");
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            handle.set("off").unwrap();
            assert!(!tracing::enabled!(tracing::Level::ERROR));
        });
        assert!(matches!(handle.set("info"), Err(SetError::Ended(_))));
    }
}
