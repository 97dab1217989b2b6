use std::net::{Ipv4Addr, Ipv6Addr};

use foca::State as Life;
use proptest::prelude::*;

use super::*;
use crate::endpoint::tests::endpoint;
use crate::node::Node;
use crate::{Config, Endpoint};

fn name() -> impl Strategy<Value = NodeName> {
    "[a-z][a-z0-9_.-]{0,62}".prop_map(|text| text.parse().unwrap())
}

fn identity() -> impl Strategy<Value = Identity> {
    (name(), any::<[u8; 2]>(), 1..u16::MAX, any::<u64>(), any::<u32>()).prop_map(
        |(name, [c, d], port, epoch, bump)| Identity {
            name,
            address: std::net::SocketAddrV4::new(Ipv4Addr::new(10, 0, c, d), port),
            epoch,
            bump,
        },
    )
}

fn version() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, seq)| Version { epoch, seq })
}

/// An address of a network fd00::/64.
fn address(station: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(station))
}

fn item() -> impl Strategy<Value = Item> {
    let ipv6 = prop::option::of((1..=u64::MAX).prop_map(address));
    let delta = (name(), version(), 0..3_u8, ipv6).prop_map(|(origin, version, what, ipv6)| {
        let change = match what {
            0 => Change::Upsert(Endpoint { ipv6, ..endpoint("e", 1) }),
            1 => Change::Remove("e".into()),
            _ => Change::Leaving,
        };
        Item::Delta(Delta { origin, version, change })
    });
    let state = (name(), version(), 0..5_u64).prop_map(|(origin, version, count)| {
        Item::State(State {
            origin,
            version,
            leaving: count == 0,
            endpoints: (0..count).map(|i| endpoint(&format!("e{i}"), i)).collect(),
        })
    });
    let only = (name(), version()).prop_map(|(origin, version)| Item::Version { origin, version });
    prop_oneof![delta, state, only]
}

fn member() -> impl Strategy<Value = Member<Identity>> {
    (identity(), any::<u16>(), 0..3_u8).prop_map(|(identity, incarnation, life)| {
        let life = [Life::Alive, Life::Suspect, Life::Down][usize::from(life)];
        Member::new(identity, incarnation, life)
    })
}

fn reader() -> Node {
    let config = Config {
        name: "reader".parse().unwrap(),
        advertise: "10.0.0.1:7946".parse().unwrap(),
        seeds: Vec::new(),
        known: Vec::new(),
        epoch: 1,
        endpoints: Vec::new(),
    };
    Node::new(&config, crate::sim::start_of_time(), 1)
}

proptest! {
    #[test]
    fn items_come_out_as_they_went_in(items in prop::collection::vec(item(), 0..20)) {
        let bytes: Vec<u8> = items.iter().flat_map(item_bytes).collect();
        prop_assert_eq!(parse_items(&bytes).unwrap(), items);
    }

    #[test]
    fn a_membership_packet_comes_out_as_it_went_in(
        src in identity(),
        dst in identity(),
        number in any::<u8>(),
        updates in prop::collection::vec(member(), 0..20),
    ) {
        let header = Header { src, src_incarnation: 3, dst, message: Message::Ping(number) };
        let packet = SwimPacket { header, updates };
        prop_assert_eq!(SwimPacket::parse(&packet.bytes()).unwrap(), packet);
    }

    #[test]
    fn a_push_pull_comes_out_as_it_went_in(
        from in identity(),
        members in prop::collection::vec(member(), 0..20),
        digest in prop::collection::vec((name(), version()), 0..20),
    ) {
        let members = members.into_iter().map(|member| Row { member, down_secs: 5 }).collect();
        let request = PushPull { from, introduced: true, members, digest };
        let bytes = seal(Kind::PushPull, &request);
        let (kind, body) = open(&bytes).unwrap();
        prop_assert_eq!(kind, Kind::PushPull);
        prop_assert_eq!(parse::<PushPull>(body).unwrap(), request);
    }

    /// Random bytes behind a true header of each kind, as datagrams and as frames.
    #[test]
    fn no_bytes_make_a_node_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut node = reader();
        let now = crate::sim::start_of_time();
        let from: std::net::SocketAddrV4 = "10.0.0.9:7946".parse().unwrap();
        node.handle_datagram(now, from, &body);
        for kind in Kind::ALL {
            let mut packet = header(kind);
            packet.extend(&body);
            node.handle_datagram(now, from, &packet);
            node.handle_request(now, *from.ip(), &packet);
            node.handle_closing(now, *from.ip(), &packet);
            node.handle_answer(now, 1, from, &packet);
        }
        while node.poll_transmit().is_some() {}
    }

    /// True packets with some bytes changed or cut off get deeper than random ones.
    #[test]
    fn no_damaged_packet_makes_a_node_panic(
        src in identity(),
        updates in prop::collection::vec(member(), 0..8),
        items in prop::collection::vec(item(), 0..8),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cut in any::<usize>(),
    ) {
        let mut node = reader();
        let now = crate::sim::start_of_time();
        let from = src.address;
        let dst = Identity {
            name: "reader".parse().unwrap(),
            address: "10.0.0.1:7946".parse().unwrap(),
            epoch: 1,
            bump: 0,
        };
        let head = Header { src, src_incarnation: 0, dst, message: Message::Gossip };
        let swim = SwimPacket { header: head, updates }.sealed();
        let mut told = header(Kind::Items);
        told.extend(items.iter().flat_map(item_bytes));
        for mut packet in [swim, told] {
            for (at, value) in &damage {
                let length = packet.len();
                packet[at % length] = *value;
            }
            packet.truncate(packet.len().saturating_sub(cut % 8));
            node.handle_datagram(now, from, &packet);
        }
        node.handle_timeout(now + std::time::Duration::from_secs(1));
        while node.poll_transmit().is_some() {}
    }
}

#[test]
fn another_version_and_another_kind_are_told_apart_from_junk() {
    let packet =
        seal(Kind::Beat, &Beat { origin: "a".parse().unwrap(), version: Version::default() });
    assert!(open(&packet).is_ok());
    let changed = |at: usize, to: u8| {
        let mut packet = packet.clone();
        packet[at] = to;
        open(&packet).unwrap_err()
    };
    assert_eq!(changed(0, 0), WireError::Foreign);
    assert_eq!(changed(2, 9), WireError::Version(9));
    assert_eq!(changed(3, 99), WireError::Kind(99));
    assert_eq!(open(&packet[..3]).unwrap_err(), WireError::Foreign);
}

#[test]
fn what_breaks_a_bound_is_refused_though_it_decodes() {
    let link_local = Some("fe80::1".parse().unwrap());
    for bad in [
        Endpoint { mac: [0; 6], ..endpoint("e", 1) },
        Endpoint { ipv6: link_local, ..endpoint("e", 1) },
    ] {
        let item = Item::Delta(Delta {
            origin: "a".parse().unwrap(),
            version: Version::default(),
            change: Change::Upsert(bad),
        });
        assert_eq!(parse_items(&item_bytes(&item)), Err(WireError::Body));
    }
}

#[test]
fn the_largest_endpoint_fits_a_datagram() {
    let mut largest = endpoint(&"i".repeat(crate::MAX_ENDPOINT_ID), u64::MAX);
    largest.names = vec!["n".repeat(crate::MAX_ENDPOINT_NAME); crate::MAX_ENDPOINT_NAMES];
    largest.network = u64::MAX;
    largest.ipv6 = Some(Ipv6Addr::from_bits(u128::MAX >> 3));
    assert!(largest.is_valid());
    let item = Item::Delta(Delta {
        origin: "o".repeat(crate::MAX_NODE_NAME).parse().unwrap(),
        version: Version { epoch: u64::MAX, seq: u64::MAX },
        change: Change::Upsert(largest),
    });
    assert!(item_bytes(&item).len() <= MAX_DATAGRAM - HEADER);
}

#[test]
fn the_largest_lists_fit_the_first_frame_of_a_stream() {
    let from = Identity {
        name: "o".repeat(crate::MAX_NODE_NAME).parse().unwrap(),
        address: "255.0.0.1:65535".parse().unwrap(),
        epoch: u64::MAX,
        bump: u32::MAX,
    };
    let row = Row { member: Member::new(from.clone(), u16::MAX, Life::Down), down_secs: u32::MAX };
    let version = Version { epoch: u64::MAX, seq: u64::MAX };
    let request = PushPull {
        introduced: true,
        members: vec![row; crate::MAX_MEMBERS],
        digest: vec![(from.name.clone(), version); crate::MAX_MEMBERS + 1],
        from,
    };
    assert!(seal(Kind::PushPull, &request).len() <= MAX_REQUEST);
}

/// A small question must not bring a large answer to an address that may be forged.
#[test]
fn no_datagram_from_a_stranger_brings_an_answer_much_larger_than_itself() {
    let mut node = reader();
    let now = crate::sim::start_of_time();
    let stranger = Identity {
        name: "stranger".parse().unwrap(),
        address: "10.0.0.9:7946".parse().unwrap(),
        epoch: 1,
        bump: 0,
    };
    let reader = Identity {
        name: "reader".parse().unwrap(),
        address: "10.0.0.1:7946".parse().unwrap(),
        epoch: 1,
        bump: 0,
    };
    let announce = SwimPacket {
        header: Header {
            src: stranger.clone(),
            src_incarnation: 0,
            dst: reader,
            message: Message::Announce,
        },
        updates: Vec::new(),
    };
    let check = NameCheck { nonce: 1, from: stranger.clone(), introduced: true };
    for question in [announce.sealed(), seal(Kind::NameCheck, &check)] {
        node.handle_datagram(now, stranger.address, &question);
        let answers: usize =
            std::iter::from_fn(|| node.poll_transmit()).map(|sent| sent.bytes.len()).sum();
        assert!(answers <= question.len() + 16, "{answers} for {}", question.len());
    }
}
