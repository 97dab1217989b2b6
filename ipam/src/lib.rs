//! The durable registry of a cluster: which overlay networks exist, and which endpoint holds
//! which address.
//!
//! Hosts agree on these things through a store that they share, [`StoreUrl`]: Consul for a
//! cluster, a SQLite file for one machine. [`Registry`] is what the agent uses.
//!
//! How it is built: the rules are pure functions from what is in the store to what shall be in
//! it (`networks` and `rules`: names, VNIs and subnets; `pool`: addresses). The registry reads,
//! asks them, and commits only if nothing that they saw has changed; on a conflict it reads
//! again. So no host ever waits for a lock that another one holds, and one that dies leaves none.
//!
//! - **No two endpoints hold one address of one network**: a lease is a key of its own that is
//!   created only where absent.
//! - **An address is answered only after it is durably held.**
//! - **A network goes only when nothing of it is held**, however allocation and removal meet: see
//!   `registry/removal.rs`.
//! - **Every call is bounded**: in time by the deadline given at [`Registry::open`], in size by
//!   [`MAX_DOCUMENT`], [`MAX_LEASES`], [`Holder::MAX_LEN`] and [`Docker::MAX_LEN`], in tries by
//!   [`MAX_TRIES`].
//!
//! Who owns what: each lease belongs to the node in its [`Holder`]; only that node releases it,
//! except one that takes back the leases of a dead node. Networks belong to nobody: each lives
//! until somebody removes it.

mod errors;
mod family;
mod ids;
mod keys;
mod network;
mod networks;
mod pool;
mod registry;
mod rules;
mod spec;
pub mod store;
mod subnet;
mod url;

pub use self::errors::{
    AllocateError, CreateNetworkError, DocumentError, OpenError, RemoveNetworkError,
};
pub use self::ids::{
    NetworkId, NetworkName, ParseNetworkNameError, ParseVniError, ParseVniRangeError, Vni, VniRange,
};
pub use self::network::{Docker, Holder, Ipv6, Lease, Network, Networks, Wanted};
pub use self::networks::MAX_DOCUMENT;
pub use self::pool::MAX_LEASES;
pub use self::registry::{Look, MAX_TRIES, Registry};
pub use self::spec::{Defaults, Ipv6Spec, NetworkSpec};
pub use self::store::{StoreError, check_files};
pub use self::subnet::SubnetError;
pub use self::url::{ParseStoreUrlError, StoreUrl};
