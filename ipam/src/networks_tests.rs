use proptest::prelude::*;

use super::*;

fn spec(name: &str, subnet: Option<&str>) -> NetworkSpec {
    NetworkSpec {
        name: name.parse().unwrap(),
        subnet: subnet.map(|s| s.parse().unwrap()),
        gateway: None,
        range: None,
        mtu: None,
        avoid: Vec::new(),
    }
}

fn with(specs: &[(&str, Option<&str>)]) -> Document {
    let defaults = Defaults::default();
    specs.iter().fold(Document::default(), |document, (name, subnet)| {
        document.create(&spec(name, *subnet), &defaults).unwrap().0
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
    let (_, network) = Document::default().create(&wanted, &Defaults::default()).unwrap();
    assert_eq!(network.subnet.to_string(), "10.68.0.0/16");
}

#[test]
fn an_id_is_never_given_twice_even_when_its_network_goes() {
    let document = with(&[("a", None)]).without(NetworkId(1));
    let (_, network) = document.create(&spec("a", None), &Defaults::default()).unwrap();
    assert_eq!(network.id, NetworkId(2));
}

#[test]
fn a_name_that_differs_only_in_case_is_taken() {
    let error = with(&[("Blue", None)]).create(&spec("bLUE", None), &Defaults::default());
    let error = error.unwrap_err();
    assert!(matches!(error, CreateNetworkError::NameTaken { .. }), "{error}");
    assert!(error.to_string().contains("as \"Blue\" with subnet 10.64.0.0/16"), "{error}");
}

#[test]
fn overlaps_are_refused_with_the_name_of_the_other_network() {
    let document = with(&[("a", Some("10.1.0.0/16"))]);
    for subnet in ["10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8"] {
        let error = document.create(&spec("b", Some(subnet)), &Defaults::default()).unwrap_err();
        assert!(error.to_string().contains("overlaps 10.1.0.0/16 of network \"a\""), "{error}");
    }
}

#[test]
fn a_gateway_a_range_and_an_mtu_must_fit() {
    let create = |change: &dyn Fn(&mut NetworkSpec)| {
        let mut wanted = spec("a", Some("10.1.0.0/24"));
        change(&mut wanted);
        Document::default().create(&wanted, &Defaults::default()).map(|(_, network)| network)
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
fn the_end_of_the_pool_and_of_the_vnis_is_said() {
    let defaults = Defaults {
        pool: "10.1.0.0/24".parse().unwrap(),
        prefix_len: 24,
        vnis: "7-7".parse().unwrap(),
    };
    let (one, _) = Document::default().create(&spec("a", None), &defaults).unwrap();
    let error = one.create(&spec("b", None), &defaults).unwrap_err();
    assert!(matches!(error, CreateNetworkError::NoFreeSubnet { networks: 1, .. }), "{error}");
    let error = one.create(&spec("b", Some("10.2.0.0/24")), &defaults).unwrap_err();
    assert!(matches!(error, CreateNetworkError::NoFreeVni { .. }), "{error}");
}

#[test]
fn a_pool_of_addresses_that_no_network_may_have_is_refused() {
    let defaults = Defaults { pool: "224.0.0.0/8".parse().unwrap(), ..Defaults::default() };
    let error = Document::default().create(&spec("a", None), &defaults).unwrap_err();
    assert!(matches!(error, CreateNetworkError::Subnet(_)), "{error}");
}

#[test]
fn the_bytes_of_format_1_stay_as_they_are() {
    let document = with(&[("a", Some("10.1.0.0/16"))]);
    let bytes = document.encode().unwrap();
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        r#"{"format":1,"next_id":2,"networks":[{"id":1,"name":"a","vni":1048576,"subnet":"10.1.0.0/16","gateway":"10.1.0.1"}]}"#
    );
    assert_eq!(Document::decode(&bytes).unwrap(), document);
}

#[test]
fn a_newer_format_is_refused_with_what_to_do() {
    let error = Document::decode(br#"{"format":2,"everything":"new"}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it has format 2, this version knows 1: upgrade ovl on this host"
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
        ("\"format\":1", "\"format\":1,\"color\":2"),
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
        network.docker_hosts =
            (0..12_000).map(|n| format!("a-host-of-a-long-name-{n:08}")).collect();
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
        document = document.create(&spec(&format!("network-{n}"), None), &defaults).unwrap().0;
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
    ) {
        let net = |(bits, len): (u32, u8)| Ipv4Net::new(bits.into(), len).unwrap();
        let json = format!(
            r#"{{"format":1,"next_id":9,"networks":[{{"id":1,"name":"a","vni":5,"subnet":"{}","gateway":"{}","range":"{}"}}]}}"#,
            net(subnet), Ipv4Addr::from(gateway), net(range),
        );
        let _ = Document::decode(json.as_bytes());
    }
}
