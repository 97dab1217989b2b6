//! Looks at the kernel for people who hunt a fault: what stands there, not what should. Nothing is
//! changed.
//!
//! An [`Observer`] has a socket of its own, so that a look never waits for a pass over the kernel,
//! and a pass never for a look.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
};

use crate::{
    ApplyError, KernelError, Mac, OpenError,
    error::NetlinkError,
    netlink::Kernel,
    netns::{Namespace, NetnsError},
    observe::{self, Kind, Link},
};

/// Most addresses of one interface that are told; the rest is left out.
const ADDRESSES_MAX: usize = 64;

/// One network namespace, for reading.
pub struct Observer {
    kernel: Kernel,
    /// ` in PATH`, for messages; empty for the host's own.
    place: String,
}

/// An interface, as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias (`IFLA_IFALIAS`); ours are marked there.
    pub alias: String,
    /// Set up by somebody (`IFF_UP`).
    pub up: bool,
    /// What is below it carries frames (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// In bytes.
    pub mtu: u32,
    /// `None`: none of six bytes.
    pub mac: Option<Mac>,
    /// What it is.
    pub kind: InterfaceKind,
    /// At most 64, in order.
    pub addresses: Vec<IpNet>,
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A vxlan device.
    Vxlan(VxlanSettings),
    /// A macvlan, with the index of the interface it hangs on, in whatever namespace that is.
    Macvlan {
        /// `IFLA_LINK`.
        parent: u32,
    },
    /// Anything else.
    Other,
}

/// Attributes of a vxlan device (`IFLA_VXLAN_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSettings {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Source of the outer packets; `None`: the route decides.
    pub local: Option<Ipv4Addr>,
    /// It learns FDB rows from what arrives.
    pub learning: bool,
    /// It answers ARP and ND from its neighbour rows.
    pub proxy: bool,
    /// Metadata mode.
    pub external: bool,
}

/// A row of a neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// `None`: not resolved.
    pub mac: Option<Mac>,
    /// It never ages (`NUD_PERMANENT`).
    pub permanent: bool,
    /// The kernel would use it, or answer from it: reachable, stale, being checked, permanent or noarp.
    pub valid: bool,
}

/// A row of a vxlan device's FDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbRow {
    /// Where frames go; `None`: to no IPv4 address.
    pub vtep: Option<Ipv4Addr>,
    /// It never ages, and has no port, VNI or interface of its own.
    pub plain: bool,
}

/// What the kernel would do with a packet to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Send it on, or take it in.
    Route(Route),
    /// It has no way; the errno that a program would get.
    Refused(KernelError),
}

/// A route that was looked up (`RTM_GETROUTE`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The address is one of this namespace itself.
    pub is_local: bool,
    /// Index of the interface that it leaves by.
    pub device: Option<u32>,
    /// The next hop; `None`: the address is on the link.
    pub gateway: Option<IpAddr>,
    /// The source that a program would have which did not choose one.
    pub source: Option<IpAddr>,
    /// Largest packet of the route itself in bytes, where one is set or was learned from ICMP.
    pub mtu: Option<u32>,
}

impl Observer {
    /// In the network namespace of the calling thread. Needs a tokio runtime.
    ///
    /// # Errors
    /// No rtnetlink socket.
    pub fn open() -> Result<Self, OpenError> {
        let kernel = Kernel::open().map_err(OpenError::from)?;
        Ok(Self { kernel, place: String::new() })
    }

    /// In another namespace, which is kept alive until this is dropped: soon.
    ///
    /// # Errors
    /// The namespace is gone or cannot be entered.
    pub async fn open_in(netns: &Path) -> Result<Self, NetnsError> {
        let namespace = Namespace::open(netns)?;
        let kernel = Kernel::open_in(&namespace).await?;
        Ok(Self { kernel, place: format!(" in {}", netns.display()) })
    }

    /// All interfaces, with their addresses.
    ///
    /// # Errors
    /// The kernel could not be asked; so for all that follows.
    pub async fn interfaces(&mut self) -> Result<Vec<Interface>, ApplyError> {
        let inside = self.kernel.inside().await.map_err(self.failed("read the interfaces"))?;
        let mut addresses = inside.addresses;
        let with_addresses = |link: Link| {
            let own = addresses.remove(&link.index).unwrap_or_default();
            Interface::new(link, own.into_iter().take(ADDRESSES_MAX).collect())
        };
        Ok(inside.links.into_iter().map(with_addresses).collect())
    }

    /// The rows for an address on an interface: at most one.
    ///
    /// # Errors
    /// See [`Observer::interfaces`].
    pub async fn neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, ApplyError> {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let rows = self.kernel.neighbours(family, index).await;
        let rows = rows.map_err(self.failed("read the neighbour rows"))?;
        let mut messages = rows.into_iter().filter_map(|row| on(row, index));
        let found = messages.find(|message| destination(message) == Some(address));
        Ok(found.map(|message| Neighbour::from(&message)))
    }

    /// The rows of a MAC in the FDB of a vxlan device.
    ///
    /// # Errors
    /// See [`Observer::interfaces`].
    pub async fn fdb(&mut self, index: u32, mac: Mac) -> Result<Vec<FdbRow>, ApplyError> {
        let rows = self.kernel.neighbours(AddressFamily::Bridge, index).await;
        let rows = rows.map_err(self.failed("read the FDB"))?;
        let messages = rows.into_iter().filter_map(|row| on(row, index));
        let of_mac = messages.filter(|message| hardware_address(message) == Some(mac));
        Ok(of_mac.map(|message| FdbRow::from(&message)).collect())
    }

    /// What would become of a packet to an address, from `source` if given: then that one must be
    /// an address of this namespace, as for a socket that is bound to it.
    ///
    /// # Errors
    /// See [`Observer::interfaces`]. That there is no way is no error.
    pub async fn route(
        &mut self,
        to: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<Lookup, ApplyError> {
        let question = RouteNetlinkMessage::GetRoute(question(to, source));
        match self.kernel.socket.get(question).await {
            Ok(Some(RouteNetlinkMessage::NewRoute(message))) => {
                Ok(Lookup::Route(Route::from(&message)))
            }
            Ok(_) => Ok(Lookup::Refused(no_route())),
            Err(NetlinkError::Kernel(refused)) => Ok(Lookup::Refused(refused)),
            Err(error) => Err(self.failed(&format!("look up the route to {to}"))(error)),
        }
    }

    fn failed(&self, what: &str) -> impl FnOnce(NetlinkError) -> ApplyError + use<> {
        ApplyError::netlink(format!("{what}{}", self.place))
    }
}

impl Interface {
    fn new(link: Link, addresses: Vec<IpNet>) -> Self {
        Self {
            index: link.index,
            name: link.name,
            alias: link.alias,
            up: link.up,
            carrier: link.carrier,
            mtu: link.mtu,
            mac: link.mac,
            kind: InterfaceKind::from(link.kind),
            addresses,
        }
    }
}

impl From<Kind> for InterfaceKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Vxlan(vxlan) => Self::Vxlan(VxlanSettings {
                vni: vxlan.vni,
                port: vxlan.port,
                local: vxlan.local,
                learning: vxlan.learning,
                proxy: vxlan.proxy,
                external: vxlan.external,
            }),
            Kind::Macvlan { parent } => Self::Macvlan { parent },
            Kind::Other => Self::Other,
        }
    }
}

impl From<&NeighbourMessage> for Neighbour {
    fn from(message: &NeighbourMessage) -> Self {
        let state = message.header.state;
        let valid = matches!(
            state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp
        );
        let permanent = state == NeighbourState::Permanent;
        Self { mac: hardware_address(message), permanent, valid }
    }
}

impl From<&NeighbourMessage> for FdbRow {
    fn from(message: &NeighbourMessage) -> Self {
        let (vtep, plain) = observe::destination(message);
        Self { vtep, plain }
    }
}

impl From<&RouteMessage> for Route {
    fn from(message: &RouteMessage) -> Self {
        let mut route = Self {
            is_local: message.header.kind == RouteType::Local,
            device: None,
            gateway: None,
            source: None,
            mtu: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.device = Some(*index),
                RouteAttribute::Gateway(address) => route.gateway = plain(address),
                RouteAttribute::PrefSource(address) => route.source = plain(address),
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        route
    }
}

fn question(to: IpAddr, source: Option<IpAddr>) -> RouteMessage {
    let (family, whole) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = whole;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    if let Some(source) = source {
        message.header.source_prefix_length = whole;
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    message
}

fn no_route() -> KernelError {
    KernelError { errno: nix::errno::Errno::ENETUNREACH, message: None }
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn on(row: RouteNetlinkMessage, index: u32) -> Option<NeighbourMessage> {
    match row {
        RouteNetlinkMessage::NewNeighbour(row) if row.header.ifindex == index => Some(row),
        _ => None,
    }
}

fn destination(row: &NeighbourMessage) -> Option<IpAddr> {
    row.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some((*address).into())
        }
        // In the bridge family destinations come as bytes.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            let bytes = <[u8; 4]>::try_from(bytes.as_slice()).ok()?;
            Some(IpAddr::from(bytes))
        }
        _ => None,
    })
}

fn hardware_address(row: &NeighbourMessage) -> Option<Mac> {
    row.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::from_bytes(bytes),
        _ => None,
    })
}
