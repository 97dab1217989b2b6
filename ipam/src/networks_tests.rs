use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::network::Docker;

/// What the prefix of IPv6 subnets is drawn from.
const RANDOM: u64 = 0x0123_4567_89ab_cdef;

fn spec(name: &str, subnet: Option<&str>) -> NetworkSpec {
    NetworkSpec {
        subnet: subnet.map(|s| s.parse().unwrap()),
        ..NetworkSpec::named(name.parse().unwrap())
    }
}

fn spec6(name: &str, subnet6: Option<&str>) -> NetworkSpec {
    let subnet = subnet6.map(|s| s.parse().unwrap());
    NetworkSpec { ipv6: Some(Ipv6Spec { subnet, ..Ipv6Spec::default() }), ..spec(name, None) }
}

fn aside(addresses: &[(&str, &str)]) -> BTreeMap<String, IpAddr> {
    addresses.iter().map(|(n, a)| ((*n).to_owned(), a.parse().unwrap())).collect()
}

fn with(specs: &[(&str, Option<&str>)]) -> Document {
    let defaults = Defaults::default();
    specs.iter().fold(Document::default(), |document, (name, subnet)| {
        document.create(&spec(name, *subnet), &defaults, RANDOM).unwrap().0
    })
}

#[test]
fn automatic_choices_are_the_lowest_free_ones() {
    let document = with(&[("a", None), ("b", Some("10.66.0.0/20")), ("c", None), ("d", None)]);
    let subnets: Vec<String> = document.networks.iter().map(|n| n.subnet.to_string()).collect();
    assert_eq!(subnets, ["10.64.0.0/16", "10.66.0.0/20", "10.65.0.0/16", "10.67.0.0/16"]);
    let vnis: Vec<u32> = document.networks.iter().map(|n| n.vni.value()).collect();
    assert_eq!(vnis, [1_048_576, 1_048_577, 1_048_578, 1_048_579]);
    assert_eq!(document.networks[0].gateway, Ipv4Addr::new(10, 64, 0, 1));
}

#[test]
fn an_automatic_subnet_avoids_what_the_host_routes_but_not_its_default_route() {
    let mut wanted = spec("a", None);
    wanted.avoid = ["0.0.0.0/0", "10.64.7.0/24", "10.66.0.0/15", "10.65.0.9/16"]
        .map(|s| s.parse().unwrap())
        .into();
    let (_, network) = Document::default().create(&wanted, &Defaults::default(), RANDOM).unwrap();
    assert_eq!(network.subnet.to_string(), "10.68.0.0/16");
}

#[test]
fn an_id_is_never_given_twice_even_when_its_network_goes() {
    let document = with(&[("a", None)]).without(NetworkId(1));
    let (_, network) = document.create(&spec("a", None), &Defaults::default(), RANDOM).unwrap();
    assert_eq!(network.id, NetworkId(2));
}

#[test]
fn a_name_that_differs_only_in_case_is_taken() {
    let error = with(&[("Blue", None)]).create(&spec("bLUE", None), &Defaults::default(), RANDOM);
    let error = error.unwrap_err();
    assert!(matches!(error, CreateNetworkError::NameTaken { .. }), "{error}");
    assert!(error.to_string().contains("as \"Blue\" with subnet 10.64.0.0/16"), "{error}");
}

#[test]
fn overlaps_are_refused_with_the_name_of_the_other_network() {
    let document = with(&[("a", Some("10.1.0.0/16"))]);
    for subnet in ["10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8"] {
        let error =
            document.create(&spec("b", Some(subnet)), &Defaults::default(), RANDOM).unwrap_err();
        assert!(error.to_string().contains("overlaps 10.1.0.0/16 of network \"a\""), "{error}");
    }
}

#[test]
fn a_gateway_a_range_and_an_mtu_must_fit() {
    let create = |change: &dyn Fn(&mut NetworkSpec)| {
        let mut wanted = spec("a", Some("10.1.0.0/24"));
        change(&mut wanted);
        Document::default()
            .create(&wanted, &Defaults::default(), RANDOM)
            .map(|(_, network)| network)
    };
    for bad in ["10.1.0.0", "10.1.0.255", "10.1.1.1"] {
        let error = create(&|s| s.gateway = Some(bad.parse().unwrap())).unwrap_err();
        assert!(matches!(error, CreateNetworkError::Gateway { .. }), "{bad}: {error}");
    }
    for bad in ["10.1.1.0/28", "10.0.0.0/8", "10.1.0.17/28"] {
        let error = create(&|s| s.range = Some(bad.parse().unwrap())).unwrap_err();
        assert!(matches!(error, CreateNetworkError::Range { .. }), "{bad}: {error}");
    }
    let error = create(&|s| s.range = Some("10.1.0.0/31".parse().unwrap())).unwrap_err();
    assert!(matches!(error, CreateNetworkError::EmptyRange { .. }), "{error}");
    for bad in [0, 575, 65_486, u16::MAX] {
        assert!(matches!(create(&|s| s.mtu = Some(bad)), Err(CreateNetworkError::Mtu { .. })));
    }
    let good = create(&|s| {
        s.gateway = Some("10.1.0.254".parse().unwrap());
        s.range = Some("10.1.0.16/28".parse().unwrap());
        s.mtu = Some(1450);
    });
    assert_eq!(good.unwrap().gateway.to_string(), "10.1.0.254");
}

#[test]
fn an_ipv6_side_must_fit() {
    let create = |change: &dyn Fn(&mut NetworkSpec)| {
        let mut wanted = spec6("a", Some("fd00::/64"));
        change(&mut wanted);
        Document::default().create(&wanted, &Defaults::default(), RANDOM).map(|(_, n)| n)
    };
    let with = |change: &dyn Fn(&mut Ipv6Spec)| create(&|s| change(s.ipv6.as_mut().unwrap()));
    for bad in ["fd00::", "fd00:0:0:1::1", "ff02::1"] {
        let error = with(&|v6| v6.gateway = bad.parse().ok()).unwrap_err();
        assert!(matches!(error, CreateNetworkError::Gateway { .. }), "{bad}: {error}");
    }
    for bad in ["fd00:0:0:1::/80", "fd00::/63", "fd00::1:1/112"] {
        let error = with(&|v6| v6.range = bad.parse().ok()).unwrap_err();
        assert!(matches!(error, CreateNetworkError::Range { .. }), "{bad}: {error}");
    }
    let error = with(&|v6| v6.range = "fd00::/127".parse().ok()).unwrap_err();
    assert!(matches!(error, CreateNetworkError::EmptyRange { .. }), "{error}");
    let error = create(&|s| s.mtu = Some(1279)).unwrap_err();
    assert!(error.to_string().contains("give 1280 to 65485 bytes"), "{error}");
    let last = "fd00::ffff:ffff:ffff:ffff";
    let good = with(&|v6| v6.gateway = last.parse().ok()).unwrap();
    assert_eq!(good.ipv6.unwrap().gateway.to_string(), last);
}

#[test]
fn what_is_set_aside_must_be_an_address_that_an_endpoint_could_have() {
    let create = |aux: BTreeMap<String, IpAddr>| {
        let wanted = NetworkSpec {
            aux,
            gateway: "10.1.0.1".parse().ok(),
            subnet: "10.1.0.0/24".parse().ok(),
            ..spec6("a", Some("fd00::/64"))
        };
        Document::default().create(&wanted, &Defaults::default(), RANDOM)
    };
    for bad in ["10.1.0.0", "10.1.0.1", "10.1.0.255", "10.2.0.7", "fd00::", "fd01::7"] {
        let error = create(aside(&[("x", bad)])).unwrap_err();
        assert!(matches!(error, CreateNetworkError::Aux { .. }), "{bad}: {error}");
    }
    let error = create(aside(&[("x", "10.1.0.7"), ("y", "10.1.0.7")])).unwrap_err();
    assert!(error.to_string().contains("it is set aside as \"x\" already"), "{error}");
    for bad in ["", "a\nb", &"x".repeat(129)] {
        let error = create(aside(&[(bad, "10.1.0.7")])).unwrap_err();
        assert!(matches!(error, CreateNetworkError::AuxName(_)), "{error}");
    }
    let many = |count: u8| {
        let all = (0..count).map(|n| (n.to_string(), Ipv4Addr::new(10, 1, 0, 10 + n).into()));
        create(all.collect())
    };
    assert!(many(64).is_ok());
    let error = many(65).unwrap_err();
    assert!(matches!(error, CreateNetworkError::TooManyAux { count: 65 }), "{error}");
    let wanted =
        NetworkSpec { aux: aside(&[("x", "192.0.2.2")]), ..spec("a", Some("192.0.2.0/30")) };
    let error = Document::default().create(&wanted, &Defaults::default(), RANDOM).unwrap_err();
    assert!(matches!(error, CreateNetworkError::EmptyRange { .. }), "{error}");
    let error = Document::default().create(
        &NetworkSpec { aux: aside(&[("x", "fd00::7")]), ..spec("a", None) },
        &Defaults::default(),
        RANDOM,
    );
    let words = error.unwrap_err().to_string();
    assert!(words.contains("the network has no IPv6"), "{words}");
}

#[test]
fn the_ipv6_prefix_is_drawn_once_and_its_end_is_said() {
    let defaults = Defaults::default();
    let document = with(&[("plain", None)]);
    assert!(document.prefix6.is_none() && document.free_subnet6(&[]).is_none());
    let (document, one) = document.create(&spec6("a", None), &defaults, RANDOM).unwrap();
    assert_eq!(one.ipv6.unwrap().subnet.to_string(), "fd01:2345:6789::/64");
    let (document, two) = document.create(&spec6("b", None), &defaults, !RANDOM).unwrap();
    assert_eq!(two.ipv6.unwrap().subnet.to_string(), "fd01:2345:6789:1::/64");
    assert_eq!(document.with_prefix6(!RANDOM), document);
    let halves = ["fd01:2345:6789::/49", "fd01:2345:6789:8000::/49"];
    let avoid = halves.map(|half| half.parse().unwrap());
    let error = document.free_subnet6(&avoid).unwrap().unwrap_err();
    assert!(matches!(error, CreateNetworkError::NoFreeSubnet6 { networks: 3, .. }), "{error}");
}

#[test]
fn the_end_of_the_pool_and_of_the_vnis_is_said() {
    let defaults = Defaults {
        pool: "10.1.0.0/24".parse().unwrap(),
        prefix_len: 24,
        vnis: "7-7".parse().unwrap(),
    };
    let (one, _) = Document::default().create(&spec("a", None), &defaults, RANDOM).unwrap();
    let error = one.create(&spec("b", None), &defaults, RANDOM).unwrap_err();
    assert!(matches!(error, CreateNetworkError::NoFreeSubnet { networks: 1, .. }), "{error}");
    let error = one.create(&spec("b", Some("10.2.0.0/24")), &defaults, RANDOM).unwrap_err();
    assert!(matches!(error, CreateNetworkError::NoFreeVni { .. }), "{error}");
}

#[test]
fn a_pool_of_addresses_that_no_network_may_have_is_refused() {
    let defaults = Defaults { pool: "224.0.0.0/8".parse().unwrap(), ..Defaults::default() };
    let error = Document::default().create(&spec("a", None), &defaults, RANDOM).unwrap_err();
    assert!(matches!(error, CreateNetworkError::Subnet(_)), "{error}");
}

#[test]
fn the_bytes_of_format_2_stay_as_they_are() {
    let document = with(&[("a", Some("10.1.0.0/16"))]);
    let bytes = document.encode().unwrap();
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        r#"{"format":2,"next_id":2,"networks":[{"id":1,"name":"a","vni":1048576,"subnet":"10.1.0.0/16","gateway":"10.1.0.1"}]}"#
    );
    assert_eq!(Document::decode(&bytes).unwrap(), document);
    let pair = || [("k".to_owned(), "v".to_owned())].into();
    let docker = Docker { options: pair(), labels: pair(), ipam_options: pair(), attachable: true };
    let mut full = spec6("b", None);
    full.ipv6.as_mut().unwrap().range = "fd01:2345:6789::8:0/112".parse().ok();
    full.aux = aside(&[("x", "10.64.0.9"), ("y", "fd01:2345:6789::9")]);
    let full = NetworkSpec { internal: true, docker, ..full };
    let (document, _) = Document::default().create(&full, &Defaults::default(), RANDOM).unwrap();
    let bytes = document.encode().unwrap();
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        r#"{"format":2,"next_id":2,"prefix6":"fd01:2345:6789::/48","networks":[{"id":1,"name":"b","vni":1048576,"subnet":"10.64.0.0/16","gateway":"10.64.0.1","ipv6":{"subnet":"fd01:2345:6789::/64","gateway":"fd01:2345:6789::1","range":"fd01:2345:6789::8:0/112"},"aux":{"x":"10.64.0.9","y":"fd01:2345:6789::9"},"internal":true,"docker":{"options":{"k":"v"},"labels":{"k":"v"},"ipam_options":{"k":"v"},"attachable":true}}]}"#
    );
    assert_eq!(Document::decode(&bytes).unwrap(), document);
}

#[test]
fn format_1_is_read_without_its_docker_hosts_and_written_as_format_2() {
    let old = r#"{"format":1,"next_id":3,"networks":[{"id":2,"name":"a","vni":5,"subnet":"10.1.0.0/16","gateway":"10.1.0.1","mtu":1400,"docker_hosts":["n1","n2"],"removing":true}]}"#;
    let document = Document::decode(old.as_bytes()).unwrap();
    assert!(document.networks[0].removing);
    let new = String::from_utf8(document.encode().unwrap()).unwrap();
    let expected = old.replace("\"format\":1", "\"format\":2");
    assert_eq!(new, expected.replace("\"docker_hosts\":[\"n1\",\"n2\"],", ""));
    for bad in [
        r#"[1]"#,
        r#"[1,2,[]]"#,
        r#"{"format":1}"#,
        r#"{"format":1,"next_id":3,"networks":7}"#,
        r#"{"format":1,"next_id":3,"networks":[7,[]]}"#,
        r#"{"format":1,"next_id":3,"networks":[],"hosts":[]}"#,
        &old.replace("10.1.0.1", "10.2.0.1"),
        &old.replace("\"format\":1", "\"format\":2"),
    ] {
        assert!(Document::decode(bad.as_bytes()).is_err(), "{bad} was taken");
    }
}

#[test]
fn a_newer_format_is_refused_with_what_to_do() {
    let error = Document::decode(br#"{"format":3,"everything":"new"}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it has format 3, this version knows 2: upgrade ovl on this host"
    );
}

#[test]
fn a_document_that_breaks_a_rule_is_refused_and_names_the_network() {
    let good = String::from_utf8(with(&[("a", None), ("b", None)]).encode().unwrap()).unwrap();
    assert!(Document::decode(good.as_bytes()).is_ok());
    let changes = [
        ("\"next_id\":3", "\"next_id\":2"),
        ("\"id\":2", "\"id\":1"),
        ("\"name\":\"b\"", "\"name\":\"A\""),
        ("10.65.0.0/16", "10.64.0.0/15"),
        ("10.65.0.1", "10.66.0.1"),
        ("1048577", "1048576"),
        ("1048577", "0"),
        ("\"name\":\"b\"", "\"name\":\"b/\""),
        ("\"format\":2", "\"format\":2,\"color\":2"),
        ("\"format\":2", "\"format\":2,\"prefix6\":\"2001:db8::/48\""),
        ("\"vni\"", "\"docker_hosts\":[\"n\"],\"vni\""),
        ("\"vni\"", "\"aux\":{\"x\":\"192.0.2.1\"},\"vni\""),
        ("\"vni\"", "\"ipv6\":{\"subnet\":\"fe80::/64\",\"gateway\":\"fe80::1\"},\"vni\""),
    ];
    for (from, to) in changes {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from} is not in it");
        assert!(Document::decode(bad.as_bytes()).is_err(), "{to} was taken");
    }
}

#[test]
fn a_document_that_the_store_would_not_take_is_refused_before_it_is_sent() {
    let document = with(&[("a", None)]).with(NetworkId(1), |network| {
        network.docker.labels = [("a".to_owned(), "b".repeat(MAX_DOCUMENT))].into();
    });
    let error = document.encode_longer().map(|_| ()).unwrap_err();
    assert!(matches!(error, DocumentError::TooLarge { networks: 1, .. }), "{error}");
    assert!(document.encode().is_ok(), "a removal could not be marked");
}

#[test]
fn a_thousand_networks_fit() {
    let defaults = Defaults { prefix_len: 24, ..Defaults::default() };
    let mut document = Document::default();
    for n in 0..1_000 {
        document =
            document.create(&spec(&format!("network-{n}"), None), &defaults, RANDOM).unwrap().0;
    }
    let bytes = document.encode_longer().unwrap();
    assert_eq!(Document::decode(&bytes).unwrap(), document);
}

proptest! {
    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::decode(&bytes);
    }

    #[test]
    fn a_document_with_anything_in_its_fields_never_panics(
        subnet in (any::<u32>(), 0u8..=32), range in (any::<u32>(), 0u8..=32), gateway in any::<u32>(),
        subnet6 in (any::<u128>(), 0u8..=128), range6 in (any::<u128>(), 0u8..=128), aux in any::<IpAddr>(),
    ) {
        let net6 = |(bits, len): (u128, u8)| Ipv6Net::new(bits.into(), len).unwrap();
        let net = |(bits, len): (u32, u8)| Ipv4Net::new(bits.into(), len).unwrap();
        let json = format!(
            r#"{{"format":2,"next_id":9,"prefix6":"{}","networks":[{{"id":1,"name":"a","vni":5,"subnet":"{}","gateway":"{}","range":"{}","ipv6":{{"subnet":"{}","gateway":"{}","range":"{}"}},"aux":{{"x":"{aux}"}}}}]}}"#,
            net6(range6), net(subnet), Ipv4Addr::from(gateway), net(range),
            net6(subnet6), net6(subnet6).network(), net6(range6),
        );
        let _ = Document::decode(json.as_bytes());
    }
}
