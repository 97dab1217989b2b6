//! Programs are run by an interpreter of the kernel's rules, and held against what [`decode`] reads.

use proptest::prelude::*;

use super::*;
use crate::bpf::RETURN;
use crate::build::{self, Addresses, Ends};
use crate::decode::{self, Icmp, Payload, Transport};
use crate::{MacAddr, Marker};

const PORT: u16 = 4789;

/// Bytes of the frame that pass.
fn run(filter: &Filter, frame: &[u8]) -> u32 {
    let (mut a, mut x, mut pc) = (0u32, 0u32, 0usize);
    let load = |at: u32, length: usize| {
        let bytes = frame.get(at as usize..)?.get(..length)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    loop {
        let Instruction { code, jt, jf, k } = filter.0[pc];
        pc += 1;
        let loaded = match code {
            LOAD_BYTE => load(k, 1),
            LOAD_HALF => load(k, 2),
            LOAD_BYTE_X => load(x + k, 1),
            LOAD_HALF_X => load(x + k, 2),
            LOAD_WORD_X => load(x + k, 4),
            LOAD_X_IP_LENGTH => load(k, 1).map(|byte| {
                x = (byte & 15) * 4;
                a
            }),
            AND => Some(a & k),
            IF_EQUAL => {
                pc += usize::from(if a == k { jt } else { jf });
                Some(a)
            }
            IF_ANY_BIT => {
                pc += usize::from(if a & k != 0 { jt } else { jf });
                Some(a)
            }
            SKIP => {
                pc += k as usize;
                Some(a)
            }
            RETURN => return k,
            code => panic!("code {code:#x}"),
        };
        // A load beyond the end refuses the frame.
        let Some(value) = loaded else { return 0 };
        a = value;
    }
}

fn passes(filter: &Filter, frame: &[u8]) -> bool {
    run(filter, frame) > 0
}

/// A frame in VXLAN, as another host would send it; `options`: words of the outer header's options.
fn tunnelled(port: u16, vni: u32, options: u8, inner: &[u8]) -> Vec<u8> {
    let udp = 8 + 8 + inner.len();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.push(0x45 + options);
    frame.push(0);
    frame.extend(((20 + 4 * usize::from(options) + udp) as u16).to_be_bytes());
    frame.extend([0, 7, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend(std::iter::repeat_n(1, 4 * usize::from(options)));
    frame.extend(50_000u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((udp as u16).to_be_bytes());
    frame.extend([0, 0, 8, 0, 0, 0]);
    frame.extend((vni << 8).to_be_bytes());
    frame.extend(inner);
    frame
}

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, last)
}

fn udp(addresses: Addresses) -> Vec<u8> {
    let ends =
        Ends { source_mac: MacAddr::zero(), destination_mac: MacAddr::broadcast(), addresses };
    build::udp(&ends, 1, 2, 0, Marker { run: 0, sequence: 0 })
}

#[test]
fn only_vxlan_of_the_port_passes() {
    let filter = Filter::vxlan(PORT, None, &[]).unwrap();
    let inner = udp(Addresses::V4(v4(1), v4(2)));
    let frame = tunnelled(PORT, 7, 0, &inner);
    assert!(passes(&filter, &frame));
    assert!(passes(&filter, &tunnelled(PORT, 7, 10, &inner)), "with options outside");
    assert!(!passes(&filter, &tunnelled(8472, 7, 0, &inner)), "another port");
    assert!(!passes(&filter, &inner), "no VXLAN");
    for (at, value, what) in
        [(23, 6, "TCP"), (12, 9, "another EtherType"), (21, 1, "a later fragment")]
    {
        let mut other = frame.clone();
        other[at] = value;
        assert!(!passes(&filter, &other), "{what}");
    }
    let mut first = frame.clone();
    first[20] = 0x20;
    assert!(passes(&filter, &first), "the first fragment");
    for length in 0..37 {
        assert!(!passes(&filter, &frame[..length]), "{length} bytes");
    }
}

#[test]
fn only_the_vni_passes() {
    let filter = Filter::vxlan(PORT, Some(0x01_02_03), &[]).unwrap();
    let inner = udp(Addresses::V4(v4(1), v4(2)));
    for (vni, expected) in [(0x01_02_03, true), (0x01_02_04, false), (0x02, false), (0, false)] {
        let mut frame = tunnelled(PORT, vni, 1, &inner);
        assert_eq!(passes(&filter, &frame), expected, "{vni:#x}");
        // The last byte of that word is reserved, and ignored on receipt.
        frame[14 + 24 + 8 + 7] = 9;
        assert_eq!(passes(&filter, &frame), expected, "{vni:#x}");
    }
}

#[test]
fn only_frames_with_the_address_pass() {
    let (marker, mac) = (Marker { run: 0, sequence: 0 }, MacAddr::zero());
    let filter = Filter::vxlan(PORT, Some(7), &[v4(2).into(), v6(2).into()]).unwrap();
    let bare = Filter::addresses(&[v4(2).into(), v6(2).into()]).unwrap();
    for (inner, expected, what) in [
        (udp(Addresses::V4(v4(1), v4(2))), true, "to it"),
        (udp(Addresses::V4(v4(2), v4(1))), true, "from it"),
        (udp(Addresses::V4(v4(1), v4(3))), false, "of others"),
        (udp(Addresses::V6(v6(1), v6(2))), true, "to it"),
        (udp(Addresses::V6(v6(2), v6(1))), true, "from it"),
        (udp(Addresses::V6(v6(1), v6(3))), false, "of others"),
        (build::arp_request(mac, v4(1), v4(2), marker), true, "asked for it"),
        (build::arp_request(mac, v4(2), v4(1), marker), true, "asked by it"),
        (build::arp_request(mac, v4(1), v4(3), marker), false, "asked by others"),
        (build::neighbour_solicitation(mac, v6(1), v6(2), marker), true, "solicited"),
        (build::neighbour_solicitation(mac, v6(2), v6(1), marker), true, "soliciting"),
        (build::neighbour_solicitation(mac, v6(1), v6(3), marker), false, "others"),
        (vec![0xff; 60], false, "another protocol"),
    ] {
        assert_eq!(passes(&filter, &tunnelled(PORT, 7, 2, &inner)), expected, "{what}: {inner:x?}");
        assert_eq!(passes(&bare, &inner), expected, "{what}, not tunnelled: {inner:x?}");
    }
}

#[test]
fn an_ethertype_is_told_from_others() {
    let (marker, mac) = (Marker { run: 0, sequence: 0 }, MacAddr::zero());
    let arp = build::arp_request(mac, v4(1), v4(2), marker);
    assert!(passes(&Filter::ethertype(ARP), &arp));
    assert!(!passes(&Filter::ethertype(IPV6), &arp));
    assert!(passes(&Filter::everything(), &[]));
}

#[test]
fn more_addresses_than_fit_are_refused() {
    let addresses = vec![IpAddr::V4(v4(1)); ADDRESSES_MAX + 1];
    let refused = Filter::vxlan(PORT, None, &addresses).unwrap_err();
    assert_eq!(refused, TooManyAddresses(17));
    assert_eq!(Filter::addresses(&addresses).unwrap_err(), refused);
    assert!(refused.to_string().contains("17"));
}

/// What the filter should say, by the decoder.
fn holds(frame: &[u8], addresses: &[IpAddr]) -> bool {
    let Some(inner) = decode::vxlan(frame, PORT).and_then(|tunnel| tunnel.inner) else {
        return false;
    };
    match inner.payload {
        Payload::Arp(arp) => {
            [arp.sender, arp.target].iter().any(|address| addresses.contains(&(*address).into()))
        }
        Payload::Ip(ip) => {
            let neighbour = match ip.transport {
                Transport::Icmp(
                    Icmp::NeighbourSolicitation(n) | Icmp::NeighbourAdvertisement(n),
                ) => Some(n.target.into()),
                _ => None,
            };
            [Some(ip.source), Some(ip.destination), neighbour]
                .iter()
                .flatten()
                .any(|address| addresses.contains(address))
        }
        Payload::Other { .. } | Payload::Cut { .. } => false,
    }
}

fn inner_frames() -> impl Strategy<Value = Vec<u8>> {
    let (marker, mac) = (Marker { run: 0, sequence: 0 }, MacAddr::zero());
    prop_oneof![
        (0..4u8, 0..4u8).prop_map(|(a, b)| udp(Addresses::V4(v4(a), v4(b)))),
        (0..4u16, 0..4u16).prop_map(|(a, b)| udp(Addresses::V6(v6(a), v6(b)))),
        (0..4u8, 0..4u8).prop_map(move |(a, b)| build::arp_request(mac, v4(a), v4(b), marker)),
        (0..4u16, 0..4u16).prop_map(move |(a, b)| build::neighbour_solicitation(
            mac,
            v6(a),
            v6(b),
            marker
        )),
    ]
}

proptest! {
    #[test]
    fn the_filter_and_the_decoder_agree(
        inner in inner_frames(), options in 0..11u8,
        wanted in proptest::collection::vec(0..4u8, 1..ADDRESSES_MAX / 2),
    ) {
        let addresses: Vec<IpAddr> =
            wanted.iter().flat_map(|n| [v4(*n).into(), v6((*n).into()).into()]).collect();
        let filter = Filter::vxlan(PORT, None, &addresses).unwrap();
        let frame = tunnelled(PORT, 7, options, &inner);
        prop_assert_eq!(passes(&filter, &frame), holds(&frame, &addresses));
    }

    #[test]
    fn every_program_ends(frame in proptest::collection::vec(any::<u8>(), 0..200), vni in 0..1u32 << 24) {
        let addresses: Vec<IpAddr> = vec![v4(1).into(), v6(1).into()];
        let filter = Filter::vxlan(PORT, Some(vni), &addresses).unwrap();
        let _ = run(&filter, &frame);
        let _ = run(&filter, &tunnelled(PORT, vni, 3, &frame));
    }
}
