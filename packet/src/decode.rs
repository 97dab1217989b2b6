//! Reads frames.
//!
//! What is understood is given, what is not is named by its number, and what was cut off is
//! [`Cut`](Payload::Cut). Checksums are not looked at: of a frame that is on its way out the interface has
//! not filled them in yet.

mod icmp;
mod ip;

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::Packet as _;
use pnet_packet::arp::ArpPacket;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::udp::UdpPacket;
use pnet_packet::vlan::VlanPacket;
use pnet_packet::vxlan::VxlanPacket;

pub use self::icmp::{Icmp, Neighbour};
pub use self::ip::{Fragment, Ip, TcpFlags, Transport};
use crate::filter::{ARP, IPV4, IPV6};

/// EtherTypes of VLAN tags (IEEE 802.1Q).
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

/// VLAN tags that are read; behind more the payload counts as another protocol.
const TAGS_MAX: usize = 2;

/// "The VNI is valid" (RFC 7348, section 5).
const VXLAN_VNI: u8 = 0x08;

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// From which station.
    pub source: MacAddr,
    /// To which station or stations.
    pub destination: MacAddr,
    /// The VLAN of the outermost tag.
    pub vlan: Option<u16>,
    /// What it carries.
    pub payload: Payload,
}

/// What an Ethernet frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// ARP of IPv4 on Ethernet.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
    /// Another protocol.
    Other {
        /// Its number.
        ethertype: u16,
    },
    /// The frame, or what was kept of it, ends before its protocol's header does.
    Cut {
        /// The protocol's number.
        ethertype: u16,
    },
}

/// ARP (RFC 826).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1: request, 2: reply; others are seldom.
    pub operation: u16,
    /// Who asks or answers.
    pub sender: Ipv4Addr,
    /// Its station.
    pub sender_mac: MacAddr,
    /// Who is asked for, or answered.
    pub target: Ipv4Addr,
    /// Its station; all zeroes in requests.
    pub target_mac: MacAddr,
}

/// An Ethernet frame in VXLAN (RFC 7348) in UDP and IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The VTEP that sent it.
    pub source: Ipv4Addr,
    /// The VTEP to which it goes.
    pub destination: Ipv4Addr,
    /// UDP port of the sender, which tells flows apart.
    pub source_port: u16,
    /// Time to live of the outer packet.
    pub ttl: u8,
    /// Virtual network identifier, 24 bits.
    pub vni: u32,
    /// The frame inside; `None`: cut off.
    pub inner: Option<Ethernet>,
    /// Where the frame inside begins, in bytes.
    pub inner_offset: usize,
}

/// Reads a frame from its Ethernet header on; `None`: that header is cut off.
pub fn ethernet(bytes: &[u8]) -> Option<Ethernet> {
    let frame = EthernetPacket::new(bytes)?;
    let (vlan, ethertype, payload) = untag(frame.get_ethertype().0, frame.payload())?;
    Some(Ethernet {
        source: frame.get_source(),
        destination: frame.get_destination(),
        vlan,
        payload: protocol(ethertype, payload),
    })
}

/// Reads a frame that carries VXLAN to this UDP port over IPv4; `None`: it is something else, a later
/// fragment, or cut off before the end of the VXLAN header.
pub fn vxlan(bytes: &[u8], port: u16) -> Option<Vxlan> {
    let frame = EthernetPacket::new(bytes)?;
    let (_, ethertype, packet) = untag(frame.get_ethertype().0, frame.payload())?;
    if ethertype != IPV4 {
        return None;
    }
    let (ip, payload) = ip::v4_header(packet)?;
    if ip.protocol != crate::filter::UDP || ip.is_later_fragment() {
        return None;
    }
    let udp = UdpPacket::new(payload).filter(|udp| udp.get_destination() == port)?;
    // Not udp.payload(): a frame that the kernel put together may be longer than its length field says.
    let tunnel = payload.get(UdpPacket::minimum_packet_size()..)?;
    let header = VxlanPacket::new(tunnel).filter(|header| header.get_flags() & VXLAN_VNI != 0)?;
    let inner = tunnel.get(VxlanPacket::minimum_packet_size()..)?;
    Some(Vxlan {
        source: ip.source,
        destination: ip.destination,
        source_port: udp.get_source(),
        ttl: ip.ttl,
        vni: header.get_vni(),
        inner: ethernet(inner),
        inner_offset: bytes.len() - inner.len(),
    })
}

/// The outermost VLAN, the EtherType behind the tags, and what follows.
fn untag(ethertype: u16, payload: &[u8]) -> Option<(Option<u16>, u16, &[u8])> {
    let (mut vlan, mut ethertype, mut payload) = (None, ethertype, payload);
    for _ in 0..TAGS_MAX {
        if ![VLAN, SERVICE_VLAN].contains(&ethertype) {
            break;
        }
        let Some(tag) = VlanPacket::new(payload) else { break };
        vlan = vlan.or(Some(tag.get_vlan_identifier()));
        ethertype = tag.get_ethertype().0;
        payload = payload.get(VlanPacket::minimum_packet_size()..)?;
    }
    Some((vlan, ethertype, payload))
}

fn protocol(ethertype: u16, payload: &[u8]) -> Payload {
    let read = match ethertype {
        ARP => arp(payload),
        IPV4 => ip::v4(payload).map(Payload::Ip),
        IPV6 => ip::v6(payload).map(Payload::Ip),
        _ => Some(Payload::Other { ethertype }),
    };
    read.unwrap_or(Payload::Cut { ethertype })
}

/// ARP of other protocols than IPv4 on Ethernet is just named.
fn arp(payload: &[u8]) -> Option<Payload> {
    let arp = ArpPacket::new(payload)?;
    let lengths = (arp.get_hw_addr_len(), arp.get_proto_addr_len());
    if arp.get_protocol_type().0 != IPV4 || lengths != (6, 4) {
        return Some(Payload::Other { ethertype: ARP });
    }
    Some(Payload::Arp(Arp {
        operation: arp.get_operation().0,
        sender: arp.get_sender_proto_addr(),
        sender_mac: arp.get_sender_hw_addr(),
        target: arp.get_target_proto_addr(),
        target_mac: arp.get_target_hw_addr(),
    }))
}

#[cfg(test)]
mod tests;
