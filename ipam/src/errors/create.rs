use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::DocumentError;
use crate::ids::{NetworkName, VniRange};
use crate::network::{Docker, Network};
use crate::store::StoreError;
use crate::subnet::{PREFIX6, SubnetError};

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
        subnet: IpNet,
        /// Whose subnet is in the way.
        other: NetworkName,
        /// That subnet.
        other_subnet: IpNet,
    },
    /// Not a host address of the subnet.
    #[error(
        "gateway {gateway} is no host address of {subnet}: give one inside, or none for the first"
    )]
    Gateway {
        /// As asked for.
        gateway: IpAddr,
        /// The network's.
        subnet: IpNet,
    },
    /// Not a part of the subnet.
    #[error("range {range} is no part of {subnet}, or has host bits set: give a subnet inside it")]
    Range {
        /// As asked for.
        range: IpNet,
        /// The network's.
        subnet: IpNet,
    },
    /// The range, or the subnet without one, has only reserved addresses.
    #[error(
        "{range} of subnet {subnet} has no address for an endpoint beside those set aside: give a larger range, or set fewer aside"
    )]
    EmptyRange {
        /// Where automatic addresses would come from.
        range: IpNet,
        /// The network's.
        subnet: IpNet,
    },
    /// Too small or too large.
    #[error(
        "MTU {mtu} is not possible: give {min} to {} bytes ({} with IPv6), or none",
        Network::MAX_MTU,
        Network::MIN_MTU6
    )]
    Mtu {
        /// As asked for.
        mtu: u16,
        /// Smallest one of this network.
        min: u16,
    },
    /// An address cannot be set aside.
    #[error("address {address} cannot be set aside as {name:?}: {why}")]
    Aux {
        /// As asked for.
        name: String,
        /// As asked for.
        address: IpAddr,
        /// What is wrong with it.
        why: String,
    },
    /// Empty, too long, or with control characters.
    #[error(
        "no address can be set aside as {0:?}: give a name of 1 to {max} bytes without control characters",
        max = Network::MAX_AUX_NAME
    )]
    AuxName(String),
    /// More than [`Network::MAX_AUX`].
    #[error(
        "{count} addresses are to be set aside, {max} can be: give a range for automatic addresses instead",
        max = Network::MAX_AUX
    )]
    TooManyAux {
        /// How many were asked for.
        count: usize,
    },
    /// More than [`Docker::MAX_LEN`].
    #[error(
        "its options and labels take {size} bytes, {max} is the most: give fewer or shorter ones",
        max = Docker::MAX_LEN
    )]
    DockerTooLong {
        /// Bytes of all names and values together.
        size: usize,
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
    /// Every automatic IPv6 subnet is taken, or meets one that this host must avoid.
    #[error(
        "no free subnet /{prefix_len} in the cluster's prefix {prefix} beside {networks} networks and the routes of this host: give a subnet",
        prefix_len = PREFIX6
    )]
    NoFreeSubnet6 {
        /// Where automatic IPv6 subnets come from.
        prefix: Ipv6Net,
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
