use std::error::Error;
use std::time::Duration;

/// The store did not do what was asked.
///
/// Where the asked was a change, [`StoreError::Unreachable`], [`StoreError::Timeout`] and
/// [`StoreError::Failed`] leave open whether it was made; the others mean that it was not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody answers there, or the connection broke. Look whether the store runs; try again.
    #[error(
        "cannot reach the store {store} to {doing}: check that it runs and that this host reaches it"
    )]
    Unreachable {
        /// The store's URL, without secrets.
        store: String,
        /// What was asked of it.
        doing: &'static str,
        /// What the system or the network said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No answer in time. Look how busy the store is; try again.
    #[error(
        "the store {store} did not {doing} within {after:?}: check its load and the network to it, then try again"
    )]
    Timeout {
        /// The store's URL, without secrets.
        store: String,
        /// What was asked of it.
        doing: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// It answers that this agent may not: token, policy, file permissions.
    #[error("the store {store} refused to {doing} ({reason}): {advice}")]
    Refused {
        /// The store's URL, without secrets.
        store: String,
        /// What was asked of it.
        doing: &'static str,
        /// The store's own words.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// It answers that it cannot now: no leader, disk full, overload.
    #[error("the store {store} could not {doing} ({reason}): see its log, then try again")]
    Failed {
        /// The store's URL, without secrets.
        store: String,
        /// What was asked of it.
        doing: &'static str,
        /// The store's own words.
        reason: String,
    },
    /// What is stored cannot be right. It stays as it is until a person looks at it.
    #[error("{what} in the store {store} is unreadable: {advice}")]
    Corrupt {
        /// The store's URL, without secrets.
        store: String,
        /// A key, or the whole.
        what: String,
        /// What to do.
        advice: &'static str,
        /// What is wrong with it.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A newer version of ovl wrote it.
    #[error(
        "{what} in the store {store} has format {found}, this version knows {known}: upgrade ovl on this host"
    )]
    Newer {
        /// The store's URL, without secrets.
        store: String,
        /// What has that format.
        what: &'static str,
        /// What it says.
        found: u32,
        /// What is understood.
        known: u32,
    },
    /// The file in use is not the one under its name any more. Going on with the new one would
    /// give out addresses that are in use.
    #[error(
        "the store's file {path} was deleted or replaced while in use: put it back, or restart every ovl-agent of this host to go on with what is there now"
    )]
    Replaced {
        /// The file.
        path: String,
    },
    /// More than the store takes, or than is read of an answer.
    #[error("{what} is too large for the store {store}: more than {bound}")]
    TooLarge {
        /// The store's URL, without secrets.
        store: String,
        /// A value, a transaction or an answer.
        what: &'static str,
        /// The named limit, with its unit.
        bound: String,
    },
    /// Other hosts changed the same thing at every try. Nothing was changed; try again.
    #[error(
        "{what} in the store {store} was changed by others at each of {tries} tries: try again"
    )]
    Contended {
        /// The store's URL, without secrets.
        store: String,
        /// What others change.
        what: String,
        /// How often it was tried.
        tries: u32,
    },
}
