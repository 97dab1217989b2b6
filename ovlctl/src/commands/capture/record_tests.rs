use ovl_agent::control::api::{Endpoint, Member, Network};
use ovl_packet::build::{self, Addresses, Ends};
use ovl_packet::{MacAddr, Marker};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PORT: u16 = 4789;
const WEB: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 2);
const DB: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 3);
const MARKER: Marker = Marker { run: 0, sequence: 0 };

fn directory(name: &str) -> Directory {
    let endpoint = |name: &str, ipv4: Ipv4Addr, ipv6: &str| Endpoint {
        network: "blue".into(),
        name: name.into(),
        names: vec![name.into()],
        ipv4,
        ipv6: ipv6.parse().ok(),
        mac: String::new(),
        host: "bee-1".into(),
    };
    let endpoints = vec![endpoint(name, WEB, "fd00::2"), endpoint("db", DB, "fd00::3")];
    let member = |name: &str, last| Member {
        name: name.into(),
        address: [10, 200, 0, last].into(),
        state: serde_json::from_value(json!("alive")).unwrap(),
    };
    let network = Network {
        name: "blue".into(),
        vni: 4098,
        subnet: "10.42.0.0/16".parse().unwrap(),
        subnet6: None,
        internal: false,
        mtu: 1450,
    };
    Directory::new(endpoints, vec![member("bee-1", 1), member("bee-2", 2)], vec![network])
}

/// A frame in VXLAN from 10.200.0.1 to 10.200.0.2.
fn tunnelled(vni: u32, inner: &[u8]) -> CapturedFrame {
    let udp = 8 + 8 + inner.len();
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    bytes.extend(u16::try_from(20 + udp).unwrap().to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 200, 0, 1, 10, 200, 0, 2]);
    bytes.extend(
        [50_000, PORT, u16::try_from(udp).unwrap(), 0].into_iter().flat_map(u16::to_be_bytes),
    );
    bytes.extend([8, 0, 0, 0]);
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(inner);
    captured(bytes)
}

fn captured(bytes: Vec<u8>) -> CapturedFrame {
    let length = u32::try_from(bytes.len()).unwrap();
    CapturedFrame {
        number: 1,
        at: 1_700_000_000_123_456_000,
        direction: Direction::Out,
        length,
        bytes,
    }
}

fn ends(a: impl Into<IpAddr>, b: impl Into<IpAddr>) -> Ends {
    let (source_mac, destination_mac) = (MacAddr(2, 0, 0, 0, 0, 2), MacAddr(2, 0, 0, 0, 0, 3));
    let addresses = Addresses::of(a.into(), b.into()).unwrap();
    Ends { source_mac, destination_mac, addresses }
}

fn line(frame: &CapturedFrame, directory: &Directory) -> String {
    Record::new(frame, PORT, directory).line(&TimeZone::UTC)
}

#[test]
fn packets_are_shown_with_names_in_place_of_addresses() {
    let directory = directory("web");
    let stranger = Ipv4Addr::new(10, 42, 0, 9);
    let v6 = |last: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let mac = MacAddr(2, 0, 0, 0, 0, 2);
    for (vni, inner, expected) in [
        (
            4098,
            build::echo_request(&ends(WEB, DB), 28, 1, 84, MARKER),
            "bee-1 > bee-2 blue: web > db ICMP echo request 28, sequence 1, 84 bytes",
        ),
        (
            7,
            build::udp(&ends(WEB, stranger), 40_000, 53, 48, MARKER),
            "bee-1 > bee-2 VNI 7: web:40000 > 10.42.0.9:53 UDP payload 20",
        ),
        (
            4098,
            build::udp(&ends(v6(2), v6(9)), 1, 2, 68, MARKER),
            "bee-1 > bee-2 blue: web:1 > [fd00::9]:2 UDP payload 20",
        ),
        (
            4098,
            build::arp_request(mac, WEB, DB, MARKER),
            "bee-1 > bee-2 blue: web > db ARP who has db?",
        ),
        (
            4098,
            build::neighbour_solicitation(mac, v6(2), v6(3), MARKER),
            "bee-1 > bee-2 blue: web > ff02::1:ff00:3 ICMPv6 who has db?, 96 bytes",
        ),
        (
            4098,
            [&[0xff; 6], &[2, 0, 0, 0, 0, 2][..], &[0x88, 0xcc], &[0; 46]].concat(),
            "bee-1 > bee-2 blue: 02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff EtherType 0x88cc",
        ),
    ] {
        let shown = line(&tunnelled(vni, &inner), &directory);
        assert_eq!(shown, format!("22:13:20.123456 out {expected}\n"));
    }
}

#[test]
fn what_was_cut_off_is_said_to_be() {
    let directory = directory("web");
    let whole = tunnelled(4098, &build::udp(&ends(WEB, DB), 1, 2, 100, MARKER));
    for (length, expected) in [
        (49, "out 49 bytes, cut off\n"),
        (55, "out bee-1 > bee-2 blue: cut off\n"),
        (70, "02:00:00:00:00:02 > 02:00:00:00:00:03 IPv4 cut off\n"),
        (86, "web > db UDP cut off\n"),
    ] {
        let shown = line(&captured(whole.bytes[..length].to_vec()), &directory);
        assert!(shown.ends_with(expected), "{length}: {shown}");
    }
}

#[test]
fn json_has_the_documented_shape() {
    let inner = build::udp(&ends(WEB, DB), 40_000, 53, 48, MARKER);
    let record = Record::new(&tunnelled(4098, &inner), PORT, &directory("web"));
    let expected = json!({
        "time": "2023-11-14T22:13:20.123456000Z",
        "direction": "out",
        "length": 112,
        "outer": {
            "source": "10.200.0.1", "source_host": "bee-1", "source_port": 50_000,
            "destination": "10.200.0.2", "destination_host": "bee-2",
            "ttl": 64, "vni": 4098, "network": "blue",
        },
        "inner": {
            "source_mac": "02:00:00:00:00:02", "destination_mac": "02:00:00:00:00:03", "vlan": null,
            "protocol": "UDP",
            "source": "10.42.0.2", "source_name": "web", "source_port": 40_000,
            "destination": "10.42.0.3", "destination_name": "db", "destination_port": 53,
            "summary": "payload 20",
        },
    });
    assert_eq!(serde_json::to_value(&record).unwrap(), expected);
    let cut = Record::new(&captured(vec![0; 10]), PORT, &directory("web"));
    let shown = serde_json::to_value(&cut).unwrap();
    assert_eq!((&shown["outer"], &shown["inner"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_name_is_asked_for_again_only_where_one_is_missing() {
    let known = tunnelled(4098, &build::udp(&ends(WEB, DB), 1, 2, 48, MARKER));
    assert!(!Record::new(&known, PORT, &directory("web")).lacks_names());
    let stranger = Ipv4Addr::new(10, 42, 0, 9);
    let unknown = tunnelled(4098, &build::udp(&ends(WEB, stranger), 1, 2, 48, MARKER));
    assert!(Record::new(&unknown, PORT, &directory("web")).lacks_names());
    let network = tunnelled(7, &build::udp(&ends(WEB, DB), 1, 2, 48, MARKER));
    assert!(Record::new(&network, PORT, &directory("web")).lacks_names());
}

#[test]
fn new_names_are_those_that_were_not_there() {
    let (old, new) = (directory("web"), directory("shop"));
    let all = new.beyond(None);
    assert_eq!(all.len(), 6);
    assert!(all.contains(&(WEB.into(), "shop.blue".into())));
    assert!(all.contains(&([10, 200, 0, 2].into(), "bee-2".into())));
    let names: Vec<String> = new.beyond(Some(&old)).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["shop.blue", "shop.blue"]);
}

proptest! {
    #[test]
    fn a_line_is_one_line_that_steers_no_terminal(
        name in "\\PC*|(\u{1b}\\[31m|\n|\u{202e}|größe|日本)*",
        inner in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let udp = build::udp(&ends(WEB, DB), 1, 2, 48, MARKER);
        for inner in [&udp, &inner] {
            let shown = line(&tunnelled(4098, inner), &directory(&name));
            let text = shown.strip_suffix('\n').unwrap();
            prop_assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        }
    }
}
