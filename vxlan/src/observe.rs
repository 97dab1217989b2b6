//! Netlink answers read into what the plans look at. Whatever is of no interest is left out, and
//! what cannot be read counts as not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVxlan,
        LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use crate::{Mac, plan, rows::Rows};

/// `NUD_PERMANENT | NUD_NOARP`: how `bridge fdb` makes a row permanent. For vxlan it is the same.
const PERMANENT_BY_BRIDGE: u16 = 0xc0;

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// What is below it carries frames.
    pub(crate) carrier: bool,
    /// It answers no ARP (`IFF_NOARP`): a vxlan device none from its rows, either.
    pub(crate) noarp: bool,
    pub(crate) alias: String,
    pub(crate) kind: Kind,
    pub(crate) quiet: Quiet,
    /// What it hangs on is in another namespace (`IFLA_LINK_NETNSID`), and so is its index.
    pub(crate) parent_is_elsewhere: bool,
}

/// What the plans tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    Vxlan(Vxlan),
    /// A macvlan, with the index of the interface it hangs on, in whatever namespace that is.
    Macvlan {
        parent: u32,
    },
    #[default]
    Other,
}

/// Attributes of a vxlan device (`IFLA_VXLAN_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub(crate) vni: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<Ipv4Addr>,
    pub(crate) learning: bool,
    pub(crate) proxy: bool,
    /// Metadata mode (`ip link … external`).
    pub(crate) external: bool,
}

/// The settings that keep an interface from taking part in the host's own traffic. `None`: the
/// kernel says nothing of it, as for IPv6 where the interface has none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quiet {
    /// Whether IPv6 addresses are made for it by the kernel.
    pub(crate) makes_addresses: Option<bool>,
    pub(crate) accept_ra: Option<i32>,
    pub(crate) arp_ignore: Option<i32>,
    /// Whether IPv6 is on (`disable_ipv6` 0): else the kernel takes no IPv6 neighbour row and no
    /// address.
    pub(crate) ipv6: Option<bool>,
}

/// A namespace from the inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) links: Vec<Link>,
    /// Addresses of both families by interface index.
    pub(crate) addresses: BTreeMap<u32, BTreeSet<IpNet>>,
}

impl Inside {
    /// The interface of an endpoint, which hangs on the interface with index `parent`: the one with
    /// its MAC, or else the one with its alias, whose MAC someone changed.
    pub(crate) fn child(&self, parent: u32, endpoint: &str, mac: Mac) -> Option<&Link> {
        let children = || self.links.iter().filter(|l| l.kind == Kind::Macvlan { parent });
        let alias = plan::endpoint_alias(endpoint);
        children().find(|l| l.mac == Some(mac)).or_else(|| children().find(|l| l.alias == alias))
    }

    pub(crate) fn loopback(&self) -> Option<&Link> {
        self.links.iter().find(|l| l.name == "lo")
    }

    pub(crate) fn has_address(&self, index: u32, address: impl Into<IpNet>) -> bool {
        self.addresses.get(&index).is_some_and(|held| held.contains(&address.into()))
    }
}

impl Link {
    /// `None` for anything but a link message.
    pub(crate) fn read(message: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = message else {
            return None;
        };
        Some(Self::from(message))
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            noarp: message.header.flags.contains(LinkFlags::Noarp),
            ..Self::default()
        };
        let mut parent = None;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Link(index) => parent = Some(index),
                LinkAttribute::LinkNetNsId(_) => link.parent_is_elsewhere = true,
                LinkAttribute::Address(bytes) => link.mac = Mac::from_bytes(&bytes),
                LinkAttribute::LinkInfo(infos) => link.kind = Kind::read(infos),
                LinkAttribute::AfSpecUnspec(specs) => link.quiet = Quiet::read(specs),
                _ => {}
            }
        }
        if let (Kind::Macvlan { parent: slot }, Some(index)) = (&mut link.kind, parent) {
            *slot = index;
        }
        link
    }
}

impl Kind {
    fn read(infos: Vec<LinkInfo>) -> Self {
        let mut kind = Self::Other;
        for info in infos {
            match info {
                LinkInfo::Kind(InfoKind::MacVlan) => kind = Self::Macvlan { parent: 0 },
                LinkInfo::Data(InfoData::Vxlan(attributes)) => {
                    kind = Self::Vxlan(Vxlan::read(attributes));
                }
                _ => {}
            }
        }
        kind
    }
}

impl Vxlan {
    fn read(attributes: Vec<InfoVxlan>) -> Self {
        let mut vxlan = Self::default();
        for attribute in attributes {
            match attribute {
                InfoVxlan::Id(vni) => vxlan.vni = vni,
                InfoVxlan::Port(port) => vxlan.port = port,
                InfoVxlan::Local(local) => vxlan.local = Some(local),
                InfoVxlan::Learning(on) => vxlan.learning = on,
                InfoVxlan::Proxy(on) => vxlan.proxy = on,
                InfoVxlan::CollectMetadata(on) => vxlan.external = on,
                _ => {}
            }
        }
        vxlan
    }
}

impl Quiet {
    fn read(specs: Vec<AfSpecUnspec>) -> Self {
        let mut quiet = Self::default();
        for spec in specs {
            match spec {
                AfSpecUnspec::Inet(attributes) => {
                    for attribute in attributes {
                        if let AfSpecInet::DevConf(conf) = attribute {
                            quiet.arp_ignore = Some(conf.arp_ignore);
                        }
                    }
                }
                AfSpecUnspec::Inet6(attributes) => quiet.read_inet6(attributes),
                _ => {}
            }
        }
        quiet
    }

    fn read_inet6(&mut self, attributes: Vec<AfSpecInet6>) {
        for attribute in attributes {
            match attribute {
                AfSpecInet6::DevConf(conf) => {
                    self.accept_ra = Some(conf.accept_ra);
                    self.ipv6 = Some(conf.disable_ipv6 == 0);
                }
                AfSpecInet6::AddrGenMode(mode) => {
                    self.makes_addresses = Some(mode != In6AddrGenMode::None);
                }
                _ => {}
            }
        }
    }
}

/// The interface index and the address of an address message.
pub(crate) fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    // `IFA_ADDRESS` is the peer's on a point-to-point link.
    let local = find(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = find(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let net = IpNet::new(local.or(any)?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}

/// Reads the FDB and neighbour rows of the interface `index`. Several FDB rows of one MAC, and
/// such as carry more than a destination, are not ours: see [`Rows::fdb`].
pub(crate) fn rows(
    index: u32,
    fdb: impl IntoIterator<Item = RouteNetlinkMessage>,
    neighbours: impl IntoIterator<Item = RouteNetlinkMessage>,
) -> Rows {
    let mut rows = Rows::default();
    for message in fdb {
        if let Some((mac, vtep)) = on_link(message, index).as_ref().and_then(fdb_row) {
            rows.fdb.entry(mac).and_modify(|several| *several = None).or_insert(vtep);
        }
    }
    rows.neighbours = neighbours
        .into_iter()
        .filter_map(|message| neighbour_row(&on_link(message, index)?))
        .collect();
    rows
}

fn on_link(message: RouteNetlinkMessage, index: u32) -> Option<NeighbourMessage> {
    match message {
        RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == index => {
            Some(message)
        }
        _ => None,
    }
}

fn fdb_row(message: &NeighbourMessage) -> Option<(Mac, Option<Ipv4Addr>)> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::from_bytes(bytes),
        _ => None,
    });
    let (vtep, plain) = destination(message);
    Some((mac?, vtep.filter(|_| plain)))
}

/// Where a row of an FDB leads, if to an IPv4 address; and whether it is such as the agent makes: never
/// ageing, with no port, VNI or interface of its own.
pub(crate) fn destination(message: &NeighbourMessage) -> (Option<Ipv4Addr>, bool) {
    let mut vtep = None;
    let mut plain = matches!(
        message.header.state,
        NeighbourState::Permanent | NeighbourState::Other(PERMANENT_BY_BRIDGE)
    );
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                vtep = Some(*address);
            }
            // In the bridge family destinations come as bytes.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                vtep = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Into::into);
            }
            NeighbourAttribute::Port(_)
            | NeighbourAttribute::Vni(_)
            | NeighbourAttribute::IfIndex(_) => plain = false,
            _ => {}
        }
    }
    (vtep, plain)
}

fn neighbour_row(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let is_ip = matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if !is_ip || message.header.state != NeighbourState::Permanent {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::V4(*found));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::V6(*found));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::from_bytes(bytes),
            _ => {}
        }
    }
    Some((address?, mac?))
}
