use pnet_packet::icmp::IcmpPacket;
use pnet_packet::icmpv6::Icmpv6Packet;
use proptest::prelude::*;

use super::*;
use crate::decode::{self, Icmp, Payload, Transport};

const MARKER: Marker = Marker { run: 0x0123_4567_89ab_cdef, sequence: 7 };
const A: MacAddr = MacAddr(2, 0x42, 0, 0, 0, 1);
const B: MacAddr = MacAddr(2, 0x42, 0, 0, 0, 2);

fn ends(addresses: Addresses) -> Ends {
    Ends { source_mac: A, destination_mac: B, addresses }
}

fn v4() -> Addresses {
    Addresses::V4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
}

fn v6() -> Addresses {
    Addresses::V6("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
}

/// The packet that a frame carries, read back.
fn ip(frame: &[u8]) -> decode::Ip {
    let ethernet = decode::ethernet(frame).unwrap();
    match ethernet.payload {
        Payload::Ip(ip) => ip,
        other => panic!("{other:?}"),
    }
}

/// The sum over what a checksum covers is all ones when the checksum is right (RFC 1071).
fn sums_up(parts: &[&[u8]]) -> bool {
    let mut sum = 0u32;
    for pair in parts.concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// What TCP's and UDP's checksums cover besides: addresses, protocol, length.
fn pseudo_header(addresses: Addresses, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = match addresses {
        Addresses::V4(a, b) => [a.octets(), b.octets()].concat(),
        Addresses::V6(a, b) => [a.octets(), b.octets()].concat(),
    };
    bytes.extend([0, protocol]);
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes
}

#[test]
fn an_arp_request_is_one() {
    let frame = arp_request(A, [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), MARKER);
    assert_eq!(frame.len(), 60);
    let read = decode::ethernet(&frame).unwrap();
    assert_eq!((read.source, read.destination), (A, MacAddr::broadcast()));
    let Payload::Arp(arp) = read.payload else { panic!("{read:?}") };
    assert_eq!(arp.operation, 1);
    assert_eq!((arp.sender_mac, arp.target_mac), (A, MacAddr::zero()));
    assert_eq!((arp.sender, arp.target), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
    assert_eq!(Marker::find(&frame), Some(MARKER));
}

#[test]
fn a_neighbour_solicitation_is_one() {
    let (sender, target) = ("fd00::1".parse().unwrap(), "fd00::12:3456".parse().unwrap());
    let frame = neighbour_solicitation(A, sender, target, MARKER);
    let ip = ip(&frame);
    assert_eq!(ip.ttl, 255);
    assert_eq!(ip.destination, "ff02::1:ff12:3456".parse::<IpAddr>().unwrap());
    let Transport::Icmp(Icmp::NeighbourSolicitation(neighbour)) = ip.transport else {
        panic!("{ip:?}")
    };
    assert_eq!((neighbour.target, neighbour.station), (target, Some(A)));
    let group = "ff02::1:ff12:3456".parse().unwrap();
    let message = &frame[54..];
    let header = pseudo_header(Addresses::V6(sender, group), 58, message.len());
    assert!(sums_up(&[&header, message]));
    assert_eq!(Marker::find(&frame), Some(MARKER));
}

#[test]
fn echoes_are_what_ping_sends() {
    let frame = echo_request(&ends(v4()), 5, 6, 84, MARKER);
    let read = ip(&frame);
    assert_eq!((read.length, read.dont_fragment, read.fragment), (84, true, None));
    assert_eq!(read.transport, Transport::Icmp(Icmp::EchoRequest { identifier: 5, sequence: 6 }));
    assert!(sums_up(&[&frame[14..34]]), "of the header");
    assert!(sums_up(&[&frame[34..]]), "of the message");
    assert!(IcmpPacket::new(&frame[34..]).is_some());

    let frame = echo_request(&ends(v6()), 5, 6, 104, MARKER);
    let read = ip(&frame);
    assert_eq!(read.length, 104);
    assert_eq!(read.transport, Transport::Icmp(Icmp::EchoRequest { identifier: 5, sequence: 6 }));
    assert!(sums_up(&[&pseudo_header(v6(), 58, 64), &frame[54..]]));
    assert!(Icmpv6Packet::new(&frame[54..]).is_some());
}

#[test]
fn addresses_are_of_one_family() {
    let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
    assert!(Addresses::of(a, a).is_some());
    assert!(Addresses::of(b, b).is_some());
    assert_eq!(Addresses::of(a, b), None);
    assert_eq!(Addresses::of(b, a), None);
}

proptest! {
    #[test]
    fn a_datagram_has_its_size_its_sum_and_its_marker(
        size in 0usize..70_000, source: u16, destination: u16, six: bool, run: u64, sequence: u16,
    ) {
        let addresses = if six { v6() } else { v4() };
        let header = if six { 40 } else { 20 };
        let marker = Marker { run, sequence };
        let frame = udp(&ends(addresses), source, destination, size, marker);
        let expected = size.clamp(header + 8 + Marker::LENGTH, SIZE_MAX);
        prop_assert_eq!(frame.len(), (14 + expected).max(60));
        let read = ip(&frame);
        prop_assert_eq!(read.length, expected);
        prop_assert_eq!(read.dont_fragment, !six);
        let length = expected - header - 8;
        prop_assert_eq!(&read.transport, &Transport::Udp { source, destination, length });
        let message = &frame[14 + header..][..expected - header];
        prop_assert!(sums_up(&[&pseudo_header(addresses, 17, message.len()), message]));
        prop_assert_eq!(Marker::find(&frame), Some(marker));
    }
}
