//! The rtnetlink messages of the operations. Pure: they are sent elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressHeaderFlags, AddressMessage},
    link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, LinkAttribute,
        LinkMessage, MacVlanMode,
    },
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use rtnetlink::{AddressMessageBuilder, LinkMacVlan, LinkUnspec, LinkVxlan};

use crate::{
    DesiredNetwork, Mac,
    netlink::NewChild,
    plan::{self, Setting},
    rows::RowOp,
    socket::Request,
};

type RouteRequest = Request<RouteNetlinkMessage>;

pub(crate) fn new_link(message: LinkMessage) -> RouteRequest {
    Request::new(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

pub(crate) fn set_link(message: LinkMessage) -> RouteRequest {
    Request::new(RouteNetlinkMessage::SetLink(message), 0)
}

pub(crate) fn child_message(child: &NewChild<'_>) -> rtnetlink::LinkMessageBuilder<LinkMacVlan> {
    LinkMacVlan::new(child.ifname, child.device, MacVlanMode::Bridge)
        .address(child.mac.0.to_vec())
        .mtu(child.mtu.into())
}

/// The file under `/proc/sys/net/ipv6/conf/DEVICE/` for a setting that netlink has no message for.
/// Each of them is put to 0.
pub(crate) fn conf_key(setting: Setting) -> Option<&'static str> {
    match setting {
        Setting::NoRouterAdvertisement => Some("accept_ra"),
        Setting::Ipv6 => Some("disable_ipv6"),
        Setting::Alias
        | Setting::Local
        | Setting::NoLearning
        | Setting::Mtu
        | Setting::NoIpv6Address
        | Setting::NoArpReply
        | Setting::Arp
        | Setting::Up => None,
    }
}

/// The message for a setting, by the device's name; `None` for what [`conf_key`] has a file for.
pub(crate) fn setting_request(setting: Setting, network: &DesiredNetwork) -> Option<RouteRequest> {
    let name = plan::device_name(network.vni);
    let link = LinkUnspec::new_with_name(&name);
    // Attributes of the vxlan itself are changed by RTM_NEWLINK without NLM_F_CREATE.
    let vxlan = rtnetlink::LinkMessageBuilder::<LinkVxlan>::new(&name);
    let changed = |message| Some(Request::new(RouteNetlinkMessage::NewLink(message), 0));
    let set = |message| Some(set_link(message));
    match setting {
        Setting::Alias => set(link.alias(plan::device_alias(network)).build()),
        Setting::Local => changed(vxlan.local(network.local).build()),
        Setting::NoLearning => changed(vxlan.learning(false).build()),
        Setting::Mtu => set(link.mtu(network.mtu.into()).build()),
        Setting::NoIpv6Address => {
            let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
            let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
            set(link.append_extra_attribute(spec).build())
        }
        Setting::NoArpReply => {
            let mut conf = InetDevConf::default();
            conf.arp_ignore = plan::NO_ARP_REPLY;
            let conf = AfSpecInet::DevConfRequest(conf);
            let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![conf])]);
            set(link.append_extra_attribute(spec).build())
        }
        Setting::Arp => set(link.arp(true).build()),
        Setting::Up => set(link.up().build()),
        Setting::NoRouterAdvertisement | Setting::Ipv6 => None,
    }
}

pub(crate) fn row_request(device: u32, row: &RowOp) -> RouteRequest {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = device;
    message.header.state = NeighbourState::Permanent;
    let lladdr = |mac: Mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec());
    let to = |ip: IpAddr| {
        NeighbourAttribute::Destination(match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        })
    };
    let family_of = |ip: IpAddr| match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let (family, attributes, is_set) = match *row {
        RowOp::SetFdb { mac, vtep } => {
            (AddressFamily::Bridge, vec![lladdr(mac), to(vtep.into())], true)
        }
        // Without a destination all of them go.
        RowOp::DeleteFdb { mac } => (AddressFamily::Bridge, vec![lladdr(mac)], false),
        RowOp::SetNeighbour { address, mac } => {
            (family_of(address), vec![to(address), lladdr(mac)], true)
        }
        RowOp::DeleteNeighbour { address } => (family_of(address), vec![to(address)], false),
    };
    if family == AddressFamily::Bridge {
        message.header.flags = NeighbourFlags::Own;
    }
    message.header.family = family;
    message.attributes = attributes;
    if is_set {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        Request::new(RouteNetlinkMessage::NewNeighbour(message), flags)
    } else {
        Request::new(RouteNetlinkMessage::DelNeighbour(message), 0)
    }
}

/// An IPv6 address comes without duplicate address detection (`IFA_F_NODAD`): it is good at once, and
/// nobody else on the overlay has it.
pub(crate) fn address_message(index: u32, address: IpNet) -> AddressMessage {
    match address {
        IpNet::V4(net) => {
            let builder = AddressMessageBuilder::<Ipv4Addr>::new().index(index);
            builder.address(net.addr(), net.prefix_len()).build()
        }
        IpNet::V6(net) => {
            let builder = AddressMessageBuilder::<Ipv6Addr>::new().index(index);
            let mut message = builder.address(net.addr(), net.prefix_len()).build();
            message.header.flags = AddressHeaderFlags::Nodad;
            message
        }
    }
}
