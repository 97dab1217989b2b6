//! What can go wrong, one enum for each operation.
//!
//! Where a variant does not say otherwise, nothing was changed. With a `Store` variant that is
//! not known: the answer may have been lost after the change was made.

mod allocate;
mod create;

use ipnet::Ipv6Net;

use crate::ids::NetworkName;
use crate::network::Lease;
use crate::networks::MAX_DOCUMENT;
use crate::store::StoreError;

pub use self::allocate::AllocateError;
pub use self::create::CreateNetworkError;

/// The document of all networks cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A newer version of ovl wrote it. Upgrade this host.
    #[error("it has format {found}, this version knows {known}: upgrade ovl on this host")]
    Format {
        /// What it says.
        found: u32,
        /// What is understood.
        known: u32,
    },
    /// Not JSON, or not this JSON.
    #[error("it is not what ovl writes")]
    Json(#[from] serde_json::Error),
    /// It says what cannot be.
    #[error("network {network:?} is broken: {rule}", network = .network.as_str())]
    Broken {
        /// Of which network.
        network: NetworkName,
        /// What is wrong with it.
        rule: String,
    },
    /// Automatic IPv6 subnets would not be private ones.
    #[error("its IPv6 prefix {0} is no /48 of fd00::/8")]
    Prefix6(Ipv6Net),
    /// It would be longer than the store takes. Nothing was changed.
    #[error("with {networks} networks it takes {size} bytes of {MAX_DOCUMENT}: remove some first")]
    TooLarge {
        /// Bytes that it would take.
        size: usize,
        /// How many networks it would hold.
        networks: usize,
    },
}

/// A network was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveNetworkError {
    /// No such network.
    #[error("no network \"{0}\": it was removed, or never was")]
    NotFound(String),
    /// Addresses of it are held.
    #[error(
        "network \"{network}\" is in use, {}: stop what uses it first",
        held(*.leases, .examples)
    )]
    InUse {
        /// Which network.
        network: NetworkName,
        /// How many addresses are held.
        leases: usize,
        /// The first few of them, [`RemoveNetworkError::MAX_EXAMPLES`] at most, in order.
        examples: Vec<Lease>,
    },
    /// How far it came is not known: try again, it goes on from there.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RemoveNetworkError {
    /// Addresses that [`RemoveNetworkError::InUse`] names.
    pub const MAX_EXAMPLES: usize = 5;
}

/// The registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the URL leads to cannot be read here.
    #[error("cannot read {what} {path}")]
    File {
        /// What it is for.
        what: &'static str,
        /// As the URL says.
        path: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file with a secret that others can get at. It was not read.
    #[error(
        "{what} {path} has mode {mode:04o} and belongs to user {owner}: it must be closed to all but root and the agent; type: {todo}"
    )]
    Exposed {
        /// What it is for.
        what: &'static str,
        /// As the URL says.
        path: String,
        /// Permission bits.
        mode: u32,
        /// User id.
        owner: u32,
        /// The command that closes it.
        todo: String,
    },
    /// A token, certificate or address that no request can carry; its value is not shown.
    #[error("{what} cannot be used: {why}")]
    Unusable {
        /// Which, and where it came from.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up a client for {store}")]
    Client {
        /// The store's URL.
        store: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It does not answer, or not as a store of this version does.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Held addresses for a sentence: the first few with their hosts, and how many more.
fn held(leases: usize, examples: &[Lease]) -> String {
    let shown = |lease: &Lease| format!("{} by host {}", lease.address, lease.holder.node);
    let shown = examples.iter().map(shown).collect::<Vec<_>>().join(", ");
    let addresses = if leases == 1 { "address is" } else { "addresses are" };
    match leases.saturating_sub(examples.len()) {
        0 => format!("{leases} {addresses} held: {shown}"),
        more => format!("{leases} {addresses} held: {shown} and {more} more"),
    }
}
