//! What can go wrong, one enum for each operation.
//!
//! Where a variant does not say otherwise, nothing was changed. With a `Store` variant that is
//! not known: the answer may have been lost after the change was made.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::ids::{NetworkId, NetworkName, VniRange};
use crate::network::{Holder, Lease, Network};
use crate::networks::MAX_DOCUMENT;
use crate::store::StoreError;
use crate::subnet::SubnetError;

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
        rule: &'static str,
    },
    /// It would be longer than the store takes. Nothing was changed.
    #[error("with {networks} networks it takes {size} bytes of {MAX_DOCUMENT}: remove some first")]
    TooLarge {
        /// Bytes that it would take.
        size: usize,
        /// How many networks it would hold.
        networks: usize,
    },
}

/// A network was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateNetworkError {
    /// There is a network of that name, or of one that differs only in case.
    #[error(
        "network \"{name}\" exists already, as \"{}\" with subnet {}: take another name, or remove it first",
        .existing.name, .existing.subnet
    )]
    NameTaken {
        /// As asked for.
        name: NetworkName,
        /// The one that has it.
        existing: Box<Network>,
    },
    /// No network can have that subnet.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// Another network has part of it.
    #[error(
        "subnet {subnet} overlaps {other_subnet} of network \"{other}\": take another one, or none to have one picked"
    )]
    Overlap {
        /// As asked for.
        subnet: Ipv4Net,
        /// Whose subnet is in the way.
        other: NetworkName,
        /// That subnet.
        other_subnet: Ipv4Net,
    },
    /// Not a host address of the subnet.
    #[error(
        "gateway {gateway} is no host address of {subnet}: give one inside, or none for the first"
    )]
    Gateway {
        /// As asked for.
        gateway: Ipv4Addr,
        /// The network's.
        subnet: Ipv4Net,
    },
    /// Not a part of the subnet.
    #[error("range {range} is no part of {subnet}, or has host bits set: give a subnet inside it")]
    Range {
        /// As asked for.
        range: Ipv4Net,
        /// The network's.
        subnet: Ipv4Net,
    },
    /// It has only reserved addresses.
    #[error("range {range} of {subnet} has no address for an endpoint: give a larger one")]
    EmptyRange {
        /// As asked for.
        range: Ipv4Net,
        /// The network's.
        subnet: Ipv4Net,
    },
    /// Too small or too large.
    #[error(
        "MTU {mtu} is not possible: give {} to {} bytes, or none",
        Network::MIN_MTU,
        Network::MAX_MTU
    )]
    Mtu {
        /// As asked for.
        mtu: u16,
    },
    /// Every automatic subnet is taken, or meets one that this host must avoid.
    #[error(
        "no free subnet /{prefix_len} in the pool {pool} beside {networks} networks and the routes of this host: give a subnet, or the agent a larger pool"
    )]
    NoFreeSubnet {
        /// Where automatic subnets come from.
        pool: Ipv4Net,
        /// Their size.
        prefix_len: u8,
        /// How many networks there are.
        networks: usize,
    },
    /// Every VNI of the range is taken.
    #[error("no free VNI in {range}: give the agent a larger range, or remove a network")]
    NoFreeVni {
        /// Where VNIs come from.
        range: VniRange,
    },
    /// The store would not take it.
    #[error("the list of networks would be too long")]
    TooLarge(#[source] DocumentError),
    /// Whether it was created is not known: look before trying again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A network was not removed, or its Docker hosts were not changed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveNetworkError {
    /// No such network.
    #[error("no network \"{0}\": it was removed, or never was")]
    NotFound(String),
    /// Addresses of it are held.
    #[error(
        "network \"{network}\" is in use: {leases} address(es) held, as {} by {} on host {}: stop what uses them first",
        .example.address, .example.holder.endpoint, .example.holder.node
    )]
    InUse {
        /// Which network.
        network: NetworkName,
        /// How many addresses are held.
        leases: usize,
        /// One of them.
        example: Box<Lease>,
    },
    /// Docker has it.
    #[error(
        "network \"{network}\" is in use by Docker on {}: `docker network rm` it there first",
        list(.hosts)
    )]
    Docker {
        /// Which network.
        network: NetworkName,
        /// Node names of those hosts.
        hosts: Vec<String>,
    },
    /// Longer than [`Holder::MAX_LEN`] bytes, empty, or with control characters.
    #[error("node name {0:?} cannot be stored: it has 1 to {max} bytes and no control characters", max = Holder::MAX_LEN)]
    NodeName(String),
    /// The store would not take one more Docker host.
    #[error("the list of networks would be too long")]
    TooLarge(#[source] DocumentError),
    /// How far it came is not known: try again, it goes on from there.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// No address was given out.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// No such network.
    #[error("no network with id {0}: it was removed")]
    NotFound(NetworkId),
    /// Every automatic address is held.
    #[error(
        "network \"{network}\" has no free address in {range}: {used} of {size} are held: remove endpoints, or make a larger network"
    )]
    Exhausted {
        /// Which network.
        network: NetworkName,
        /// Where its automatic addresses come from.
        range: Ipv4Net,
        /// How many addresses for endpoints that has.
        size: u64,
        /// How many of them are held.
        used: u64,
    },
    /// Not inside the subnet.
    #[error("address {address} is outside {subnet} of network \"{network}\"")]
    Outside {
        /// As asked for.
        address: Ipv4Addr,
        /// Which network.
        network: NetworkName,
        /// Its subnet.
        subnet: Ipv4Net,
    },
    /// The subnet's own.
    #[error("address {address} is the {what} address of network \"{network}\": take another one")]
    Reserved {
        /// As asked for.
        address: Ipv4Addr,
        /// Which network.
        network: NetworkName,
        /// `network`, `broadcast` or `gateway`.
        what: &'static str,
    },
    /// Somebody else holds it.
    #[error(
        "address {} of network \"{network}\" is held by {} on host {}: take another one, or none to have one picked",
        .lease.address, .lease.holder.endpoint, .lease.holder.node
    )]
    Taken {
        /// Which network.
        network: NetworkName,
        /// Who holds it, and since when.
        lease: Box<Lease>,
    },
    /// A name in it is longer than [`Holder::MAX_LEN`] bytes or has control characters, or the
    /// node's is empty.
    #[error("holder {:?} on host {:?} cannot be stored: names have 1 to {} bytes and no control characters", .0.endpoint, .0.node, Holder::MAX_LEN)]
    Holder(Box<Holder>),
    /// Whether an address is held now is not known: it would stand in
    /// [`Registry::leases`](crate::Registry::leases) under this holder, to be released.
    #[error(transparent)]
    Store(#[from] StoreError),
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

/// Names for a sentence: the first few, and how many more.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
