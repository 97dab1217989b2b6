use std::net::IpAddr;

use ipnet::IpNet;

use crate::ids::{NetworkId, NetworkName};
use crate::network::{Holder, Lease};
use crate::pool::MAX_LEASES;
use crate::store::StoreError;

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
        range: IpNet,
        /// How many addresses for endpoints that has.
        size: u64,
        /// How many of them are held.
        used: u64,
    },
    /// So many addresses of the network are held that their list could not be read any longer.
    #[error(
        "network \"{network}\" has no address left: {max} are held, as many as one network can have: remove endpoints, or make another network",
        max = MAX_LEASES
    )]
    TooMany {
        /// Which network.
        network: NetworkName,
    },
    /// An IPv6 address, of a network without.
    #[error(
        "network \"{network}\" has no IPv6: ask for an IPv4 address, or make a network with IPv6"
    )]
    NoIpv6 {
        /// Which network.
        network: NetworkName,
    },
    /// Not inside the subnet.
    #[error("address {address} is outside {subnet} of network \"{network}\"")]
    Outside {
        /// As asked for.
        address: IpAddr,
        /// Which network.
        network: NetworkName,
        /// Its subnet.
        subnet: IpNet,
    },
    /// The subnet's own.
    #[error("address {address} is the {what} address of network \"{network}\": take another one")]
    Reserved {
        /// As asked for.
        address: IpAddr,
        /// Which network.
        network: NetworkName,
        /// `network`, `broadcast` or `gateway`.
        what: &'static str,
    },
    /// Set aside when the network was made.
    #[error(
        "address {address} of network \"{network}\" is set aside as {name:?}: take another one, or none to have one picked"
    )]
    Aside {
        /// As asked for.
        address: IpAddr,
        /// Which network.
        network: NetworkName,
        /// Its name in [`Network::aux`](crate::Network::aux).
        name: String,
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
