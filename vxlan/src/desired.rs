//! What the kernel of this host should hold. The agent writes it, this crate follows it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{IfName, Mac};

/// All that this host's kernel should hold for ovl. Level-triggered: a pass compares it with the
/// kernel and does what is missing, so that a lost or repeated pass harms nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By VNI. A network without local endpoints is left out: its device then goes.
    pub networks: BTreeMap<u32, DesiredNetwork>,
}

/// One overlay network: one vxlan device `ovl-<vni>`, its endpoints and its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredNetwork {
    /// For the interface alias, and messages.
    pub name: String,
    /// VXLAN network identifier (RFC 7348, section 5), 24 bits.
    pub vni: u32,
    /// Our VTEP: the source of the outer packets.
    pub local: Ipv4Addr,
    /// UDP destination port of the outer packets.
    pub port: u16,
    /// Of the overlay, in bytes: the underlay's less 50 for the outer headers.
    pub mtu: u16,
    /// By endpoint id.
    pub endpoints: BTreeMap<String, LocalEndpoint>,
    /// Endpoints of other hosts, by their address in the overlay. One with both families stands here
    /// twice, with the same MAC. While there is an IPv6 address among them, IPv6 is turned on on the
    /// device.
    pub remotes: BTreeMap<IpAddr, Remote>,
    /// False after a start until the cluster's state is known: rows that are not desired are then
    /// left alone, since their endpoints may only not have been heard of yet.
    pub settled: bool,
}

/// An endpoint on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Hardware address, unique in its network.
    pub mac: Mac,
    /// Address and prefix length in the overlay.
    pub address: Ipv4Net,
    /// IPv6 address and prefix length in the overlay, where the network has IPv6. It is set without
    /// duplicate address detection: addresses are given out once.
    pub address6: Option<Ipv6Net>,
    /// Where its interface belongs.
    pub home: Home,
}

/// Where the interface of an endpoint belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the host's namespace, down, under this name, for someone else (Docker) to take and set
    /// up.
    Handover {
        /// Its name until then.
        ifname: IfName,
    },
    /// Somewhere between the two; not touched.
    Transit,
    /// In a sandbox: the interface with its addresses, up; `lo` up, with `resolver`/32.
    ///
    /// Made anew when missing. An interface that has this MAC and hangs on this network is adopted
    /// whatever its name.
    Sandbox {
        /// File of the network namespace.
        netns: PathBuf,
        /// Name of the interface when it is made here.
        ifname: IfName,
        /// Address on `lo` where the agent answers DNS.
        resolver: Option<Ipv4Addr>,
    },
}

/// An endpoint on another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its hardware address.
    pub mac: Mac,
    /// The underlay address of its host.
    pub vtep: Ipv4Addr,
}
