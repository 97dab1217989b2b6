//! What the registry keeps: networks, and who holds which address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ids::{NetworkId, NetworkName, Vni, VniRange};
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
    /// Bytes of the largest packet inside; set by the user. None: each host derives it from its
    /// underlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Node names of the hosts whose Docker has this network; see
    /// [`Registry::attach_docker`](crate::Registry::attach_docker).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub docker_hosts: BTreeSet<String>,
    /// A removal is under way: no new addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
}

impl Network {
    /// Smallest MTU that may be asked for: what every IPv4 host must take (RFC 791, section 3.1).
    pub const MIN_MTU: u16 = 576;
    /// Largest one: 65,535 less the 50 bytes of Ethernet, IPv4, UDP and VXLAN headers.
    pub const MAX_MTU: u16 = 65_485;

    /// How many addresses can be given out automatically when none is held.
    #[must_use]
    pub fn size(&self) -> u64 {
        Pool::from(self).size().min(MAX_LEASES as u64)
    }
}

/// Every network, and the store's revision of that list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Differs when the list does. 0: nothing was ever created. It grows, except after a store
    /// was set up anew or restored.
    pub revision: u64,
    /// In the order of their creation.
    pub list: Vec<Network>,
}

/// Asks for a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Unique in the cluster.
    pub name: NetworkName,
    /// None: a free one is picked from [`Defaults::pool`].
    pub subnet: Option<Ipv4Net>,
    /// None: the subnet's first host address.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the subnet for automatic addresses; None: all of it.
    pub range: Option<Ipv4Net>,
    /// [`Network::MIN_MTU`] to [`Network::MAX_MTU`] bytes; None: each host derives it.
    pub mtu: Option<u16>,
    /// Subnets of this host that an automatic pick must avoid (routes, resolvers). A default
    /// route (`/0`) in it is passed over: it would leave nothing.
    pub avoid: Vec<Ipv4Net>,
}

/// Where automatic choices come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Holds every automatic subnet.
    pub pool: Ipv4Net,
    /// Size of an automatic subnet, 8..=30 and not shorter than the pool's.
    pub prefix_len: u8,
    /// VNIs for new networks; the lowest free one is taken.
    pub vnis: VniRange,
}

impl Default for Defaults {
    /// `10.64.0.0/10` in networks of `/16`, VNIs from 1048576 to 2097151.
    ///
    /// The pool: Docker's own are in 172.16.0.0/12 and 192.168.0.0/16, Swarm's start at
    /// 10.0.0.0, clouds take 10.0.0.0/16, 10.100.0.0 and up, or 10.128.0.0/9, Weave and k3s
    /// 10.32 to 10.47. The lowest free subnet is taken, so the first 24 networks (10.64 to 10.87)
    /// meet none of these, nor Podman's 10.88, nor the services of Kubernetes from 10.96.
    ///
    /// The prefix: 65,533 addresses, as a /24 becomes a wall at 254 containers.
    ///
    /// The VNIs: a second VXLAN device of one VNI and port on a host is refused by the kernel,
    /// or worse, the frames of the two meet. Docker's classic overlay counts up from 256, Swarm
    /// from 4096, EVPN fabrics and NSX mostly use numbers below 100,000; from 2^20 nobody is
    /// known to start, and a million numbers are left.
    fn default() -> Defaults {
        Defaults {
            pool: Ipv4Net::new_assert(Ipv4Addr::new(10, 64, 0, 0), 10),
            prefix_len: 16,
            vnis: VniRange { first: Vni::constant(1 << 20), last: Vni::constant((1 << 21) - 1) },
        }
    }
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
        is_node_name(&self.node) && (self.endpoint.is_empty() || is_node_name(&self.endpoint))
    }
}

/// Whether it can be stored: 1 to [`Holder::MAX_LEN`] bytes without control characters, which
/// would take six bytes each in JSON.
pub(crate) fn is_node_name(text: &str) -> bool {
    (1..=Holder::MAX_LEN).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// An address that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of which network.
    pub network: NetworkId,
    /// Inside that network's subnet.
    pub address: Ipv4Addr,
    /// By whom.
    pub holder: Holder,
    /// Store revision at which it was given out: of two claims on one address the higher one is true.
    pub generation: u64,
}
