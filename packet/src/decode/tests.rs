use proptest::prelude::*;

use super::*;
use crate::Marker;
use crate::build::{self, Addresses, Ends};

/// Bytes of a text of hexadecimal digits, spaces left out.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|d| d.try_into().unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn ip_of(frame: &[u8]) -> Ip {
    match ethernet(frame).unwrap().payload {
        Payload::Ip(ip) => ip,
        other => panic!("{other:?}"),
    }
}

/// As a real host sent it: a ping of 10.42.0.3 from 10.42.0.2 in VNI 4098.
const PING: &str = "02aaaaaaaa02 02aaaaaaaa01 0800 45000086 3b1a 0000 40 11 0000 0ac80001 0ac80002 \
    c5d1 12b5 0072 0000 08000000 00100200 02420a2a0003 02420a2a0002 0800 \
    45000054 79a1 4000 40 01 ac9f 0a2a0002 0a2a0003 0800 6c6d 001c 0001 \
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn a_ping_in_vxlan_is_read_outside_and_inside() {
    let frame = hex(PING);
    let tunnel = vxlan(&frame, 4789).unwrap();
    assert_eq!(tunnel.source, Ipv4Addr::new(10, 200, 0, 1));
    assert_eq!(tunnel.destination, Ipv4Addr::new(10, 200, 0, 2));
    assert_eq!((tunnel.source_port, tunnel.ttl, tunnel.vni), (0xc5d1, 64, 4098));
    assert_eq!(tunnel.inner_offset, 50);
    let inner = tunnel.inner.unwrap();
    assert_eq!(inner.source.to_string(), "02:42:0a:2a:00:02");
    assert_eq!(inner.vlan, None);
    let Payload::Ip(ip) = inner.payload else { panic!("{:?}", inner.payload) };
    assert_eq!(ip.source, Ipv4Addr::new(10, 42, 0, 2));
    assert!(ip.dont_fragment);
    let echo = Icmp::EchoRequest { identifier: 0x1c, sequence: 1 };
    assert_eq!(ip.transport, Transport::Icmp(echo));
    assert_eq!(vxlan(&frame, 8472), None, "another port");
}

#[test]
fn what_is_cut_off_is_said_to_be() {
    let frame = hex(PING);
    assert_eq!(vxlan(&frame[..49], 4789), None);
    assert_eq!(vxlan(&frame[..50], 4789).unwrap().inner, None);
    let inner = vxlan(&frame[..70], 4789).unwrap().inner.unwrap();
    assert_eq!(inner.payload, Payload::Cut { ethertype: IPV4 });
    let inner = vxlan(&frame[..86], 4789).unwrap().inner.unwrap();
    assert!(matches!(inner.payload, Payload::Ip(Ip { transport: Transport::Cut, .. })));
}

#[test]
fn segments_say_what_they_do() {
    let frame = hex(
        "020000000002 020000000001 0800 4500003c 0000 4000 40 06 0000 0a000001 0a000002 \
        d431 0050 00000001 00000000 a0 02 faf0 0000 0000 020405b4 0402080a 0000000000000000 01 030307",
    );
    let expected = Transport::Tcp {
        source: 0xd431,
        destination: 80,
        flags: TcpFlags(2),
        sequence: 1,
        acknowledgement: 0,
        window: 0xfaf0,
        length: 0,
    };
    assert_eq!(ip_of(&frame).transport, expected);
    assert_eq!(TcpFlags(0x12).names().collect::<Vec<_>>(), ["SYN", "ACK"]);
    assert_eq!(TcpFlags(0).names().count(), 0);
}

#[test]
fn padding_is_no_payload() {
    // A datagram without a payload in the smallest frame.
    let frame =
        hex("020000000002 020000000001 0800 4500001c 0000 0000 40 11 0000 0a000001 0a000002 \
        0001 0002 0008 0000 000000000000000000000000000000000000");
    let expected = Transport::Udp { source: 1, destination: 2, length: 0 };
    assert_eq!(ip_of(&frame).transport, expected);
}

#[test]
fn tags_are_taken_off() {
    let arp = "0806 0001 0800 06 04 0002 020000000001 0a000001 020000000002 0a000002";
    let tagged = hex(&format!("020000000002 020000000001 88a8 2007 8100 0005 {arp}"));
    let read = ethernet(&tagged).unwrap();
    assert_eq!(read.vlan, Some(7));
    let Payload::Arp(arp) = read.payload else { panic!("{read:?}") };
    assert_eq!((arp.operation, arp.target), (2, Ipv4Addr::new(10, 0, 0, 2)));
}

#[test]
fn fragments_are_told() {
    let first =
        hex("020000000002 020000000001 0800 450005dc 0009 2000 40 11 0000 0a000001 0a000002 \
        0001 0002 0bb8 0000");
    let ip = ip_of(&first);
    assert_eq!(ip.fragment, Some(Fragment { id: 9, offset: 0, more: true }));
    assert_eq!(ip.transport, Transport::Udp { source: 1, destination: 2, length: 2992 });
    let later =
        hex("020000000002 020000000001 0800 450005dc 0009 00b9 40 11 0000 0a000001 0a000002 \
        00010002");
    let ip = ip_of(&later);
    assert_eq!(ip.fragment, Some(Fragment { id: 9, offset: 1480, more: false }));
    assert_eq!(ip.transport, Transport::LaterFragment);
}

#[test]
fn extension_headers_are_passed_over() {
    let ends = "fd000000000000000000000000000001 fd000000000000000000000000000002";
    let frame = hex(&format!(
        "020000000002 020000000001 86dd 60000000 001c 00 40 {ends} \
        2c 00 0000 00000000 11 00 0001 000000ff 0001 0002 000c 0000 00000000"
    ));
    let ip = ip_of(&frame);
    assert_eq!(ip.protocol, 17);
    assert_eq!(ip.fragment, Some(Fragment { id: 255, offset: 0, more: true }));
    assert_eq!(ip.transport, Transport::Udp { source: 1, destination: 2, length: 4 });
    let cut = ip_of(&frame[..58]);
    assert_eq!(cut.transport, Transport::Cut);
}

#[test]
fn what_icmp_reports_is_read() {
    let header = "020000000002 020000000001 0800 45000038 0000 0000 40 01 0000 0a000001 0a000002";
    for (message, expected) in [
        ("03 04 0000 0000 0578", Icmp::TooBig { mtu: 1400 }),
        ("03 01 0000 0000 0000", Icmp::Unreachable { code: 1 }),
        ("0b 00 0000 0000 0000", Icmp::Other { kind: 11, code: 0 }),
        ("00 00 0000 0001 0002", Icmp::EchoReply { identifier: 1, sequence: 2 }),
    ] {
        let frame = hex(&format!("{header} {message}"));
        assert_eq!(ip_of(&frame).transport, Transport::Icmp(expected));
    }
}

#[test]
fn an_advertisement_names_a_station_and_bad_options_end_the_search() {
    let ends = "fe800000000000000000000000000001 ff020000000000000000000000000001";
    let target = "fd000000000000000000000000000009";
    let head = format!(
        "020000000002 020000000001 86dd 60000000 0028 3a ff {ends} 88 00 0000 20000000 {target}"
    );
    let station = Some(MacAddr(2, 0, 0, 0, 0, 9));
    for (options, expected) in [
        ("05 01 000000000578 02 01 020000000009", station),
        ("02 01 020000000009", station),
        ("02 00 020000000009", None),
        ("02 01 0200", None),
        ("05 ff 000000000000", None),
        ("", None),
    ] {
        let frame = hex(&format!("{head} {options}"));
        let Transport::Icmp(Icmp::NeighbourAdvertisement(neighbour)) = ip_of(&frame).transport
        else {
            panic!("{options}")
        };
        assert_eq!(neighbour.target, "fd00::9".parse::<Ipv6Addr>().unwrap());
        assert_eq!(neighbour.station, expected, "{options}");
    }
}

use std::net::Ipv6Addr;

/// Frames that are almost right: built, then some bytes replaced, then cut.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let marker = Marker { run: 1, sequence: 2 };
    let (mac, here) = (MacAddr::zero(), Ipv6Addr::LOCALHOST);
    let v6 = Ends { source_mac: mac, destination_mac: mac, addresses: Addresses::V6(here, here) };
    let v4 = Ends { addresses: Addresses::V4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST), ..v6 };
    let kinds = vec![
        hex(PING),
        build::arp_request(mac, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, marker),
        build::neighbour_solicitation(mac, here, here, marker),
        build::echo_request(&v6, 1, 2, 100, marker),
        build::udp(&v4, 1, 2, 100, marker),
    ];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (prop::sample::select(kinds), changes, any::<prop::sample::Index>()).prop_map(
        |(mut frame, changes, end)| {
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            frame.truncate(end.index(frame.len() + 1));
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nothing_panics_on_damaged_frames(frame in damaged()) {
        let _ = ethernet(&frame);
        let _ = vxlan(&frame, 4789);
    }

    #[test]
    fn nothing_panics_on_noise(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ethernet(&frame);
        let _ = vxlan(&frame, 4789);
        // As the payload of each protocol.
        for protocol in [1, 6, 17, 58, 0, 43, 44, 60] {
            let mut packet = hex("020000000002 020000000001 0800 45000000 0000 0000 40 00 0000 0a000001 0a000002");
            packet[23] = protocol;
            packet.extend(&frame);
            let _ = ethernet(&packet);
            let mut packet = hex("020000000002 020000000001 86dd 60000000 0000 00 40");
            packet[20] = protocol;
            packet.extend([0; 32]);
            packet.extend(&frame);
            let _ = ethernet(&packet);
        }
    }
}
