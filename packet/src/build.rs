//! Makes frames that probe a way.
//!
//! Each carries a [`Marker`] at the start of its payload, so that it is known at every point where a tap
//! sees it, even when only the beginning of a frame is kept. Checksums are filled in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_base::MacAddr;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherType, EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmp::{self, IcmpTypes};
use pnet_packet::icmpv6::{self, Icmpv6Types};
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::{self, Ipv4Flags, Ipv4Packet, MutableIpv4Packet};
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet_packet::udp::{self, MutableUdpPacket, UdpPacket};

use crate::marker::Marker;

/// Largest packet that is built, in bytes, with its IP header.
pub const SIZE_MAX: usize = 0xffff;

/// Smallest frame on Ethernet, in bytes, without its checksum.
const FRAME_MIN: usize = 60;

/// Header of an echo, in bytes.
const ECHO_HEADER: usize = 8;

/// Time to live, or hop limit, of probes. Neighbour discovery needs 255.
const TTL: u8 = 64;

/// An option of neighbour discovery for experiments (RFC 4727): whoever does not know it skips it.
const ND_OPTION: u8 = 253;

/// Source and destination of a packet, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Source and destination.
    V4(Ipv4Addr, Ipv4Addr),
    /// Source and destination.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    /// `None`: the two are of different families.
    pub fn of(source: IpAddr, destination: IpAddr) -> Option<Addresses> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some(Addresses::V4(source, destination))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(Addresses::V6(source, destination))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    fn header(self) -> usize {
        match self {
            Addresses::V4(..) => Ipv4Packet::minimum_packet_size(),
            Addresses::V6(..) => Ipv6Packet::minimum_packet_size(),
        }
    }
}

/// Between which stations and addresses a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The station that it says it is from.
    pub source_mac: MacAddr,
    /// The station that it goes to.
    pub destination_mac: MacAddr,
    /// The addresses.
    pub addresses: Addresses,
}

/// A broadcast that asks who has `target` (RFC 826). The marker is in the padding behind it.
pub fn arp_request(
    sender_mac: MacAddr,
    sender: Ipv4Addr,
    target: Ipv4Addr,
    marker: Marker,
) -> Vec<u8> {
    let packet = ArpPacket::minimum_packet_size();
    let length = (EthernetPacket::minimum_packet_size() + packet + Marker::LENGTH).max(FRAME_MIN);
    let mut frame = ethernet(sender_mac, MacAddr::broadcast(), EtherTypes::Arp, length);
    let payload = &mut frame[EthernetPacket::minimum_packet_size()..];
    payload[packet..packet + Marker::LENGTH].copy_from_slice(&marker.to_bytes());
    if let Some(mut arp) = MutableArpPacket::new(payload) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(sender_mac);
        arp.set_sender_proto_addr(sender);
        arp.set_target_proto_addr(target);
    }
    frame
}

/// A multicast that asks who has `target` (RFC 4861, 4.3). The marker is in an option.
pub fn neighbour_solicitation(
    sender_mac: MacAddr,
    sender: Ipv6Addr,
    target: Ipv6Addr,
    marker: Marker,
) -> Vec<u8> {
    const OPTIONS: usize = 24;
    const LENGTH: usize = OPTIONS + 8 + 24;
    let mut message = vec![0; LENGTH];
    message[0] = Icmpv6Types::NeighborSolicit.0;
    message[8..OPTIONS].copy_from_slice(&target.octets());
    // Source link-layer address, one unit of eight bytes; then ours, three units.
    message[OPTIONS..OPTIONS + 2].copy_from_slice(&[1, 1]);
    message[OPTIONS + 2..OPTIONS + 8].copy_from_slice(&sender_mac.octets());
    message[OPTIONS + 8..OPTIONS + 10].copy_from_slice(&[ND_OPTION, 3]);
    message[OPTIONS + 10..OPTIONS + 10 + Marker::LENGTH].copy_from_slice(&marker.to_bytes());
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let ends = Ends {
        source_mac: sender_mac,
        destination_mac: MacAddr(0x33, 0x33, 0xff, a, b, c),
        addresses: Addresses::V6(sender, group),
    };
    fill_icmpv6_checksum(&mut message, sender, group);
    packet(&ends, IpNextHeaderProtocols::Icmpv6, 255, &message)
}

/// An echo request (RFC 792, RFC 4443); over IPv4 with "don't fragment".
///
/// `size` is the packet's length in bytes with its IP header; not less than the headers and the marker
/// take, and not more than [`SIZE_MAX`].
pub fn echo_request(
    ends: &Ends,
    identifier: u16,
    sequence: u16,
    size: usize,
    marker: Marker,
) -> Vec<u8> {
    let mut message = payload(ends, ECHO_HEADER, size, marker);
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    match ends.addresses {
        Addresses::V4(..) => {
            message[0] = IcmpTypes::EchoRequest.0;
            if let Some(mut echo) = icmp::MutableIcmpPacket::new(&mut message) {
                echo.set_checksum(icmp::checksum(&echo.to_immutable()));
            }
            packet(ends, IpNextHeaderProtocols::Icmp, TTL, &message)
        }
        Addresses::V6(source, destination) => {
            message[0] = Icmpv6Types::EchoRequest.0;
            fill_icmpv6_checksum(&mut message, source, destination);
            packet(ends, IpNextHeaderProtocols::Icmpv6, TTL, &message)
        }
    }
}

/// UDP (RFC 768); over IPv4 with "don't fragment". `size` as in [`echo_request`].
pub fn udp(
    ends: &Ends,
    source_port: u16,
    destination_port: u16,
    size: usize,
    marker: Marker,
) -> Vec<u8> {
    let mut message = payload(ends, UdpPacket::minimum_packet_size(), size, marker);
    let length = wire_length(message.len());
    if let Some(mut datagram) = MutableUdpPacket::new(&mut message) {
        datagram.set_source(source_port);
        datagram.set_destination(destination_port);
        datagram.set_length(length);
        let sum = match &ends.addresses {
            Addresses::V4(a, b) => udp::ipv4_checksum(&datagram.to_immutable(), a, b),
            Addresses::V6(a, b) => udp::ipv6_checksum(&datagram.to_immutable(), a, b),
        };
        // A sum of 0 is sent as its other form: 0 means "none".
        datagram.set_checksum(if sum == 0 { 0xffff } else { sum });
    }
    packet(ends, IpNextHeaderProtocols::Udp, TTL, &message)
}

/// Room for a header of `header` bytes, then the marker, then zeroes, up to the packet's size.
fn payload(ends: &Ends, header: usize, size: usize, marker: Marker) -> Vec<u8> {
    let least = header + Marker::LENGTH;
    let most = SIZE_MAX - ends.addresses.header();
    let mut message = vec![0; size.saturating_sub(ends.addresses.header()).clamp(least, most)];
    message[header..least].copy_from_slice(&marker.to_bytes());
    message
}

fn fill_icmpv6_checksum(message: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    if let Some(mut packet) = icmpv6::MutableIcmpv6Packet::new(message) {
        packet.set_checksum(icmpv6::checksum(&packet.to_immutable(), &source, &destination));
    }
}

/// The frame of an IP packet.
fn packet(ends: &Ends, protocol: IpNextHeaderProtocol, ttl: u8, message: &[u8]) -> Vec<u8> {
    let ethertype = match ends.addresses {
        Addresses::V4(..) => EtherTypes::Ipv4,
        Addresses::V6(..) => EtherTypes::Ipv6,
    };
    let start = EthernetPacket::minimum_packet_size();
    let header = ends.addresses.header();
    let length = (start + header + message.len()).max(FRAME_MIN);
    let mut frame = ethernet(ends.source_mac, ends.destination_mac, ethertype, length);
    frame[start + header..][..message.len()].copy_from_slice(message);
    match ends.addresses {
        Addresses::V4(source, destination) => {
            let Some(mut ip) = MutableIpv4Packet::new(&mut frame[start..]) else { return frame };
            ip.set_version(4);
            ip.set_header_length(5);
            ip.set_total_length(wire_length(header + message.len()));
            ip.set_flags(Ipv4Flags::DontFragment);
            ip.set_ttl(ttl);
            ip.set_next_level_protocol(protocol);
            ip.set_source(source);
            ip.set_destination(destination);
            ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
        }
        Addresses::V6(source, destination) => {
            let Some(mut ip) = MutableIpv6Packet::new(&mut frame[start..]) else { return frame };
            ip.set_version(6);
            ip.set_payload_length(wire_length(message.len()));
            ip.set_next_header(protocol);
            ip.set_hop_limit(ttl);
            ip.set_source(source);
            ip.set_destination(destination);
        }
    }
    frame
}

/// A frame of `length` bytes whose payload is zeroes.
fn ethernet(source: MacAddr, destination: MacAddr, kind: EtherType, length: usize) -> Vec<u8> {
    let mut frame = vec![0; length];
    if let Some(mut header) = MutableEthernetPacket::new(&mut frame) {
        header.set_source(source);
        header.set_destination(destination);
        header.set_ethertype(kind);
    }
    frame
}

/// Lengths are bounded by [`SIZE_MAX`] where they are chosen.
fn wire_length(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
