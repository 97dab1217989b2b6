//! What is asked for, and what is chosen where nothing is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::errors::CreateNetworkError;
use crate::ids::{NetworkName, Vni, VniRange};
use crate::network::Docker;
use crate::networks::Document;

/// Asks for a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Unique in the cluster.
    pub name: NetworkName,
    /// None: a free one is picked from [`Defaults::pool`].
    pub subnet: Option<Ipv4Net>,
    /// None: the subnet's first host address that is not set aside.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the subnet for automatic addresses; None: all of it.
    pub range: Option<Ipv4Net>,
    /// None: IPv4 only.
    pub ipv6: Option<Ipv6Spec>,
    /// Set aside by name, inside the subnet or the IPv6 subnet; at most
    /// [`Network::MAX_AUX`](crate::Network::MAX_AUX).
    pub aux: BTreeMap<String, IpAddr>,
    /// [`Network::MIN_MTU`](crate::Network::MIN_MTU) (with IPv6
    /// [`Network::MIN_MTU6`](crate::Network::MIN_MTU6)) to
    /// [`Network::MAX_MTU`](crate::Network::MAX_MTU) bytes; None: each host derives it.
    pub mtu: Option<u16>,
    /// No way out.
    pub internal: bool,
    /// At most [`Docker::MAX_LEN`] bytes.
    pub docker: Docker,
    /// Subnets of this host that an automatic pick must avoid (routes, resolvers). A default
    /// route (`/0`) in it is passed over: it would leave nothing.
    pub avoid: Vec<Ipv4Net>,
    /// The same for an automatic IPv6 subnet. What holds the whole prefix of the cluster is
    /// passed over: it would leave nothing.
    pub avoid6: Vec<Ipv6Net>,
}

impl NetworkSpec {
    /// Whether there can be such a network at all, whatever others there are.
    ///
    /// # Errors
    /// What keeps it from being, as [`Registry::create_network`](crate::Registry::create_network)
    /// would say.
    pub fn check(&self) -> Result<(), CreateNetworkError> {
        Document::default().create(self, &Defaults::default(), 0).map(drop)
    }

    /// A network of that name, IPv4 only, everything else chosen.
    #[must_use]
    pub fn named(name: NetworkName) -> NetworkSpec {
        NetworkSpec {
            name,
            subnet: None,
            gateway: None,
            range: None,
            ipv6: None,
            aux: BTreeMap::new(),
            mtu: None,
            internal: false,
            docker: Docker::default(),
            avoid: Vec::new(),
            avoid6: Vec::new(),
        }
    }
}

/// Asks for the IPv6 side of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv6Spec {
    /// None: a free /64 of the cluster's own prefix, which is unique-local (RFC 4193): fd00::/8
    /// and 40 random bits, drawn once and kept in the store.
    pub subnet: Option<Ipv6Net>,
    /// None: the subnet's first host address (`…::1`) that is not set aside.
    pub gateway: Option<Ipv6Addr>,
    /// The part of the subnet for automatic addresses; None: all of it.
    pub range: Option<Ipv6Net>,
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
