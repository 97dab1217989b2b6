//! Reading the kernel, through the same socket that changes it.

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourMessage},
    route::RouteMessage,
};
use rtnetlink::LinkUnspec;

use crate::{
    error::NetlinkError,
    netlink::Kernel,
    observe::{self, Inside, Link},
    rows::Rows,
};

impl Kernel {
    /// All interfaces, or those of one kind.
    pub(crate) async fn links(
        &mut self,
        kind: Option<InfoKind>,
    ) -> Result<Vec<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        // Counters are most of an answer.
        let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        message.attributes.push(mask);
        if let Some(kind) = kind {
            let filter = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
            message.attributes.push(filter);
        }
        let answers = self.socket.dump(RouteNetlinkMessage::GetLink(message)).await?;
        Ok(answers.into_iter().filter_map(Link::read).collect())
    }

    /// The interface of this name.
    pub(crate) async fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let message = LinkUnspec::new_with_name(name).build();
        let found = self.socket.get(RouteNetlinkMessage::GetLink(message)).await?;
        Ok(found.and_then(Link::read))
    }

    /// The rows of the vxlan device with this index.
    pub(crate) async fn rows(&mut self, index: u32) -> Result<Rows, NetlinkError> {
        let fdb = self.neighbours(AddressFamily::Bridge, index).await?;
        let mut neighbours = self.neighbours(AddressFamily::Inet, index).await?;
        neighbours.extend(self.neighbours(AddressFamily::Inet6, index).await?);
        Ok(observe::rows(index, fdb, neighbours))
    }

    /// Interfaces and addresses of a sandbox.
    pub(crate) async fn inside(&mut self) -> Result<Inside, NetlinkError> {
        let mut inside = Inside { links: self.links(None).await?, ..Inside::default() };
        for (index, address) in self.all_addresses(AddressFamily::Unspec).await? {
            inside.addresses.entry(index).or_default().insert(address);
        }
        Ok(inside)
    }

    /// IPv4 addresses, with the index of their interface, in the kernel's order.
    pub(crate) async fn addresses(&mut self) -> Result<Vec<(u32, Ipv4Net)>, NetlinkError> {
        let all = self.all_addresses(AddressFamily::Inet).await?;
        let of_ipv4 = |(index, net)| match net {
            IpNet::V4(net) => Some((index, net)),
            IpNet::V6(_) => None,
        };
        Ok(all.into_iter().filter_map(of_ipv4).collect())
    }

    /// Addresses of one family, or with `Unspec` of all, with the index of their interface.
    async fn all_addresses(
        &mut self,
        family: AddressFamily,
    ) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family;
        let answers = self.socket.dump(RouteNetlinkMessage::GetAddress(message)).await?;
        let read = |answer: &RouteNetlinkMessage| match answer {
            RouteNetlinkMessage::NewAddress(message) => observe::address(message),
            _ => None,
        };
        Ok(answers.iter().filter_map(read).collect())
    }

    /// IPv4 routes of all tables.
    pub(crate) async fn routes(&mut self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.socket.dump(RouteNetlinkMessage::GetRoute(message)).await?;
        let read = |answer| match answer {
            RouteNetlinkMessage::NewRoute(message) => Some(message),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(read).collect())
    }

    pub(crate) async fn neighbours(
        &mut self,
        family: AddressFamily,
        index: u32,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        self.socket.dump(RouteNetlinkMessage::GetNeighbour(message)).await
    }
}
