//! Questions about the host, and about a sandbox, that the agent asks once in a while.

use std::{collections::BTreeSet, net::Ipv4Addr, path::Path};

use ipnet::Ipv4Net;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use crate::{
    ApplyError, Dataplane, IfName, Mac,
    netlink::Kernel,
    netns::Namespace,
    observe::{Kind, Link},
};

/// Most subnets of this host that are told. A host with a full routing table of the Internet has
/// more; a pool for an overlay cannot avoid them all, and the rest, the highest, is left out.
pub const MAX_USED_SUBNETS: usize = 4096;

/// Routes to more than this much of the address space, as a prefix length, lead "everywhere else"
/// like the default route, of which VPNs make two halves or four quarters.
const CATCH_ALL_PREFIX: u8 = 4;

/// `RT_TABLE_LOCAL`: the host's own addresses, told as addresses.
const LOCAL_TABLE: u32 = 255;

impl Dataplane {
    /// Name of the endpoint's interface with this MAC inside a namespace; `None`: not there (yet), or
    /// not yet up: whoever moved it there is still setting it up, and would stumble over us.
    pub async fn find_link(&self, netns: &Path, mac: Mac) -> Result<Option<IfName>, ApplyError> {
        let namespace = Namespace::open(netns)?;
        let mut kernel = Kernel::open_in(&namespace).await?;
        let failed = ApplyError::netlink(format!("read the interfaces in {}", netns.display()));
        let links = kernel.links(None).await.map_err(failed)?;
        // Another driver's interface may have the same MAC by the same convention.
        let is_endpoint = |l: &&Link| matches!(l.kind, Kind::Macvlan { .. }) && l.up;
        let found = links.iter().filter(|l| l.mac == Some(mac)).find(is_endpoint);
        Ok(found.and_then(|l| l.name.parse().ok()))
    }

    /// Makes `lo` of a sandbox ready for DNS before the endpoint's interface is there: up, with
    /// `resolver`/32. The passes keep it so, and take it away with the last endpoint.
    pub async fn prepare_resolver(
        &self,
        netns: &Path,
        resolver: Ipv4Addr,
    ) -> Result<(), ApplyError> {
        let namespace = Namespace::open(netns)?;
        let mut kernel = Kernel::open_in(&namespace).await?;
        let failed = || ApplyError::netlink(format!("prepare lo in {}", netns.display()));
        let inside = kernel.inside().await.map_err(failed())?;
        let Some(lo) = inside.loopback() else {
            return Err(ApplyError::NoSuchInterface(format!("lo in {}", netns.display())));
        };
        if !lo.up {
            kernel.set_up(lo.index).await.map_err(failed())?;
        }
        let address = Ipv4Net::from(resolver);
        if !inside.has_address(lo.index, address) {
            kernel.add_address(lo.index, address.into()).await.map_err(failed())?;
        }
        Ok(())
    }

    /// MTU of the interface that holds this address, in bytes.
    pub async fn underlay_mtu(&self, local: Ipv4Addr) -> Result<u16, ApplyError> {
        let mut kernel = self.kernel.lock().await;
        let read = || ApplyError::netlink("read the addresses of this host");
        let addresses = kernel.addresses().await.map_err(read())?;
        let holder = addresses.iter().find(|(_, net)| net.addr() == local);
        let &(index, _) = holder.ok_or(ApplyError::NoSuchAddress(local))?;
        let links = kernel.links(None).await.map_err(read())?;
        let link = links.iter().find(|l| l.index == index);
        let link = link.ok_or(ApplyError::NoSuchAddress(local))?;
        Ok(u16::try_from(link.mtu).unwrap_or(u16::MAX))
    }

    /// First IPv4 address of an interface of this namespace.
    pub async fn interface_address(&self, ifname: &str) -> Result<Ipv4Addr, ApplyError> {
        let mut kernel = self.kernel.lock().await;
        let missing = || ApplyError::NoSuchInterface(ifname.to_owned());
        // The kernel would take another name for a malformed message.
        ifname.parse::<IfName>().map_err(|_| missing())?;
        let read = || ApplyError::netlink(format!("read the addresses of {ifname}"));
        let link = kernel.link(ifname).await.map_err(read())?;
        let link = link.ok_or_else(missing)?;
        let addresses = kernel.addresses().await.map_err(read())?;
        let first = addresses.iter().find(|(index, _)| *index == link.index);
        first.map(|(_, net)| net.addr()).ok_or_else(|| ApplyError::NoAddress(ifname.to_owned()))
    }

    /// The subnets that this host has addresses in or routes to, in order, without the default
    /// route and its halves. At most [`MAX_USED_SUBNETS`].
    pub async fn used_subnets(&self) -> Result<Vec<Ipv4Net>, ApplyError> {
        let mut kernel = self.kernel.lock().await;
        let read = || ApplyError::netlink("read the routes of this host");
        let addresses = kernel.addresses().await.map_err(read())?;
        let routes = kernel.routes().await.map_err(read())?;
        let subnets: BTreeSet<Ipv4Net> = addresses
            .iter()
            .map(|(_, net)| net.trunc())
            .chain(routes.iter().filter_map(destination))
            .collect();
        Ok(subnets.into_iter().take(MAX_USED_SUBNETS).collect())
    }
}

fn destination(route: &RouteMessage) -> Option<Ipv4Net> {
    let prefix = route.header.destination_prefix_length;
    let mut table = u32::from(route.header.table);
    let mut to = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(wide) => table = *wide,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
            _ => {}
        }
    }
    let net = Ipv4Net::new(to?, prefix).ok()?;
    (table != LOCAL_TABLE && prefix > CATCH_ALL_PREFIX).then_some(net.trunc())
}
