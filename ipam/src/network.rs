//! What the registry keeps: networks, and who holds which address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::family::Family;
use crate::ids::{NetworkId, NetworkName, Vni};
use crate::pool::{MAX_LEASES, Pool};

/// An overlay network, as every host of the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Never given out twice.
    pub id: NetworkId,
    /// Unique in the cluster, whatever the case of its letters.
    pub name: NetworkName,
    /// Unique in the cluster.
    pub vni: Vni,
    /// /8 to /30, without host bits; overlaps no other network's.
    pub subnet: Ipv4Net,
    /// Inside the subnet; never given to an endpoint.
    pub gateway: Ipv4Addr,
    /// Only part of the subnet from which automatic addresses come; None: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Ipv4Net>,
    /// None: it has IPv4 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
    /// Addresses inside the subnet or the IPv6 subnet that are set aside under a name (Docker's
    /// `--aux-address`): never given to an endpoint, and no leases. At most
    /// [`Network::MAX_AUX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux: BTreeMap<String, IpAddr>,
    /// Bytes of the largest packet inside; set by the user. None: each host derives it from its
    /// underlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Its endpoints have no way out of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// What each host's Docker is to be told when the network is made there.
    #[serde(default, skip_serializing_if = "Docker::is_empty")]
    pub docker: Docker,
    /// A removal is under way: no new addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
}

impl Network {
    /// Smallest MTU that may be asked for: what every IPv4 host must take (RFC 791, section 3.1).
    pub const MIN_MTU: u16 = 576;
    /// The same for a network with IPv6 (RFC 8200, section 5): the kernel has no IPv6 on an
    /// interface of less.
    pub const MIN_MTU6: u16 = 1280;
    /// Largest one: 65,535 less the 50 bytes of Ethernet, IPv4, UDP and VXLAN headers.
    pub const MAX_MTU: u16 = 65_485;
    /// Addresses set aside, at most; a network with more is refused. They are read for every
    /// address that is given out.
    pub const MAX_AUX: usize = 64;
    /// Bytes in the name of one, at most.
    pub const MAX_AUX_NAME: usize = 128;

    /// How many IPv4 addresses can be given out automatically when none is held.
    #[must_use]
    pub fn size(&self) -> u64 {
        Pool::from(self).size(Family::V4).min(MAX_LEASES as u64)
    }

    /// The same for IPv6; 0 without it.
    #[must_use]
    pub fn size6(&self) -> u64 {
        Pool::from(self).size(Family::V6)
    }
}

/// The IPv6 side of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv6 {
    /// /48 to /126, without host bits; overlaps no other network's.
    pub subnet: Ipv6Net,
    /// Inside the subnet; never given to an endpoint.
    pub gateway: Ipv6Addr,
    /// Only part of the subnet from which automatic addresses come; None: all of it. They come
    /// from the first 65,536 addresses of either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Ipv6Net>,
}

/// What each host's Docker is told when a network is made there. The registry does not look
/// into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// `--opt`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// `--label`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `--ipam-opt`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ipam_options: BTreeMap<String, String>,
    /// `--attachable`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub attachable: bool,
}

impl Docker {
    /// Bytes of all names and values together, at most; a network with more is refused.
    pub const MAX_LEN: usize = 8 * 1024;

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Docker::default()
    }

    /// Bytes of all names and values together.
    pub(crate) fn len(&self) -> usize {
        let maps = [&self.options, &self.labels, &self.ipam_options];
        maps.into_iter().flatten().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Every network, and the store's revision of that list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Differs when the list does. 0: nothing was ever created. It grows, except after a store
    /// was set up anew or restored.
    pub revision: u64,
    /// The id that the next network gets; 0: none was ever created. An id below it that is not
    /// in the list was a network's that is removed; one at or above it is unknown to this store,
    /// which lost its memory.
    pub next_id: u64,
    /// In the order of their creation.
    pub list: Vec<Network>,
}

/// Which address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The next free IPv4 one.
    V4,
    /// The next free IPv6 one.
    V6,
    /// This one.
    Address(IpAddr),
}

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's node name; 1 to [`Holder::MAX_LEN`] bytes without control characters.
    pub node: String,
    /// What on that host; at most [`Holder::MAX_LEN`] bytes without control characters.
    pub endpoint: String,
}

impl Holder {
    /// Bytes in each of a holder's two names: keeps the list of a network's leases small enough
    /// to be read at once.
    pub const MAX_LEN: usize = 128;

    /// Whether both names can be stored.
    pub(crate) fn is_legal(&self) -> bool {
        let legal = |text: &str| is_name(text, Holder::MAX_LEN);
        legal(&self.node) && (self.endpoint.is_empty() || legal(&self.endpoint))
    }
}

/// Whether it can be stored: 1 to `max` bytes without control characters, which would take six
/// bytes each in JSON.
pub(crate) fn is_name(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// An address that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of which network.
    pub network: NetworkId,
    /// Inside that network's subnet, or its IPv6 subnet.
    pub address: IpAddr,
    /// By whom.
    pub holder: Holder,
    /// Store revision at which it was given out: of two claims on one address the higher one is true.
    pub generation: u64,
}
