//! IPv6 beside IPv4, and addresses that are set aside: promises over every store.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::Ipv6Net;
use ovl_ipam::{AllocateError, CreateNetworkError, Ipv6Spec, NetworkSpec, Wanted};

use crate::conformance::Pair;
use crate::support::{at, holder, network, spec, spec6};

fn aside(addresses: &[(&str, &str)]) -> std::collections::BTreeMap<String, IpAddr> {
    addresses.iter().map(|(n, a)| ((*n).to_owned(), a.parse().unwrap())).collect()
}

pub(crate) async fn both_families_are_given_out_each_in_its_own_round(pair: Pair) {
    let wanted = spec6("blue", Some("10.1.0.0/29"), Some("fd00:1::/125"));
    let id = pair.a.create_network(wanted).await.unwrap().id;
    let mut given = Vec::new();
    for turn in 0..8 {
        let registry = if turn % 2 == 0 { &pair.a } else { &pair.b };
        let wanted = if turn % 4 < 3 { Wanted::V6 } else { Wanted::V4 };
        let lease = registry.allocate(id, wanted, holder("n", "e")).await.unwrap();
        given.push(lease.address.to_string());
        assert_eq!(registry.leases(id).await.unwrap(), std::slice::from_ref(&lease));
        assert!(!registry.release(id, lease.address, "m").await.unwrap());
        assert!(registry.release(id, lease.address, "n").await.unwrap());
    }
    let expected = [
        "fd00:1::2",
        "fd00:1::3",
        "fd00:1::4",
        "10.1.0.2",
        "fd00:1::5",
        "fd00:1::6",
        "fd00:1::7",
        "10.1.0.3",
    ];
    assert_eq!(given, expected);
    for _ in 0..6 {
        pair.a.allocate(id, Wanted::V6, holder("n", "e")).await.unwrap();
    }
    let full = pair.b.allocate(id, Wanted::V6, holder("n", "e")).await.unwrap_err();
    assert!(full.to_string().contains("no free address in fd00:1::/125: 6 of 6"), "{full}");
    pair.b.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    let held: Vec<bool> =
        pair.b.leases(id).await.unwrap().iter().map(|l| l.address.is_ipv4()).collect();
    assert_eq!(held, [true, false, false, false, false, false, false], "IPv4 comes first");
}

pub(crate) async fn ipv6_addresses_come_from_the_start_of_the_range_and_any_can_be_asked_for(
    pair: Pair,
) {
    let mut wanted = spec6("blue", None, Some("2001:db8:0:1::/64"));
    wanted.ipv6.as_mut().unwrap().range = "2001:db8:0:1:8000::/65".parse().ok();
    let blue = pair.a.create_network(wanted).await.unwrap();
    assert_eq!((blue.size(), blue.size6()), (65_533, 65_536));
    // However it is written, it is one address and one key.
    let far = at("2001:DB8:0:1:0:0:0:ffff");
    let lease = pair.a.allocate(blue.id, far, holder("n", "e")).await.unwrap();
    assert_eq!(lease.address.to_string(), "2001:db8:0:1::ffff");
    let key = format!("ovl/v1/leases/{}/2001:db8:0:1::ffff", blue.id);
    assert!(pair.b.store().read(&key).await.unwrap().is_some());
    assert_eq!(pair.b.allocate(blue.id, far, holder("n", "e")).await.unwrap(), lease);
    let taken = pair.b.allocate(blue.id, far, holder("n2", "e")).await.unwrap_err();
    assert!(matches!(taken, AllocateError::Taken { .. }), "{taken}");
    for expected in ["2001:db8:0:1:8000::", "2001:db8:0:1:8000::1"] {
        let lease = pair.b.allocate(blue.id, Wanted::V6, holder("n", "e")).await.unwrap();
        assert_eq!(lease.address.to_string(), expected);
    }
    for (address, word) in [("2001:db8:0:1::", "network"), ("2001:db8:0:1::1", "gateway")] {
        let error = pair.a.allocate(blue.id, at(address), holder("n", "e")).await.unwrap_err();
        assert!(matches!(error, AllocateError::Reserved { what, .. } if what == word), "{error}");
    }
    let last = at("2001:db8:0:1:ffff:ffff:ffff:ffff");
    pair.a.allocate(blue.id, last, holder("n", "e")).await.unwrap();
    for outside in ["2001:db8:0:2::2", "fe80::2", "::ffff:10.64.0.2", "ff02::1"] {
        let error = pair.a.allocate(blue.id, at(outside), holder("n", "e")).await.unwrap_err();
        assert!(matches!(error, AllocateError::Outside { .. }), "{outside}: {error}");
    }
    assert_eq!(pair.b.release_node("n").await.unwrap(), 4);
}

pub(crate) async fn a_network_without_ipv6_says_so(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/24").await.id;
    for wanted in [Wanted::V6, at("fd00::7")] {
        let error = pair.b.allocate(id, wanted, holder("n", "e")).await.unwrap_err();
        assert!(error.to_string().contains("network \"blue\" has no IPv6"), "{error}");
    }
}

pub(crate) async fn ipv6_subnets_come_from_one_prefix_that_is_kept(pair: Pair) {
    let proposed = pair.a.propose_subnet6(&[]).await.unwrap();
    assert_eq!(pair.b.propose_subnet6(&[]).await.unwrap(), proposed, "it is kept");
    assert_eq!(proposed.prefix_len(), 64);
    assert_eq!(proposed.addr().octets()[0], 0xfd);
    let networks = pair.b.networks().await.unwrap();
    assert_eq!((networks.next_id, networks.list.len()), (0, 0), "a prefix is no network");
    let mut seen = BTreeSet::new();
    for n in 0..4 {
        let registry = if n % 2 == 0 { &pair.a } else { &pair.b };
        let wanted = spec6(&format!("n{n}"), None, None);
        let ipv6 = registry.create_network(wanted).await.unwrap().ipv6.unwrap();
        assert_eq!(u128::from(ipv6.gateway), u128::from(ipv6.subnet.network()) + 1);
        assert!(seen.insert(ipv6.subnet));
    }
    assert!(seen.contains(&proposed));
    let prefix = Ipv6Net::new(proposed.network(), 48).unwrap().trunc();
    assert!(seen.iter().all(|subnet| prefix.contains(subnet)));
    // Routes of the host are avoided, but not those that would leave nothing.
    let next = pair.a.propose_subnet6(&[]).await.unwrap();
    let avoid = [next, "::/0".parse().unwrap(), "fc00::/7".parse().unwrap()];
    let other = pair.b.propose_subnet6(&avoid).await.unwrap();
    assert!(prefix.contains(&other) && other != next && !seen.contains(&other));
    let wanted = NetworkSpec { avoid6: avoid.into(), ..spec6("last", None, None) };
    assert_eq!(pair.a.create_network(wanted).await.unwrap().ipv6.unwrap().subnet, other);
}

pub(crate) async fn ipv6_subnets_are_unique_in_the_cluster(pair: Pair) {
    pair.a.create_network(spec6("blue", None, Some("fd00:1::/64"))).await.unwrap();
    for overlapping in ["fd00:1::/64", "fd00:1::/48", "fd00:1::/112"] {
        let wanted = spec6("red", None, Some(overlapping));
        let error = pair.b.create_network(wanted).await.unwrap_err();
        assert!(
            error.to_string().contains("overlaps fd00:1::/64 of network \"blue\""),
            "{overlapping}: {error}"
        );
    }
    for bad in ["ff02::/64", "fe80::/64", "::/64", "::ffff:0:0/112", "fd00::1/64", "fd00::/32"] {
        let error = pair.b.create_network(spec6("red", None, Some(bad))).await.unwrap_err();
        assert!(matches!(error, CreateNetworkError::Subnet(_)), "{bad}: {error}");
    }
    pair.b.create_network(spec6("red", None, Some("fd00:1:0:1::/64"))).await.unwrap();
}

pub(crate) async fn an_address_set_aside_is_never_held(pair: Pair) {
    let aux = aside(&[("router", "10.1.0.2"), ("host", "fd00::1"), ("far", "fd00::4")]);
    let ipv6 = Some(Ipv6Spec { subnet: "fd00::/125".parse().ok(), ..Ipv6Spec::default() });
    let wanted = NetworkSpec { aux, ipv6, ..spec("blue", Some("10.1.0.0/29")) };
    let blue = pair.a.create_network(wanted).await.unwrap();
    assert_eq!(blue.ipv6.unwrap().gateway.to_string(), "fd00::2", "::1 was set aside");
    assert_eq!((blue.size(), blue.size6()), (4, 4));
    for (address, name) in [("10.1.0.2", "router"), ("fd00::4", "far")] {
        let error = pair.b.allocate(blue.id, at(address), holder("n", "e")).await.unwrap_err();
        assert!(error.to_string().contains(&format!("set aside as \"{name}\"")), "{error}");
    }
    assert_eq!(pair.b.leases(blue.id).await.unwrap(), [], "what is set aside is no lease");
    for wanted in [Wanted::V4, Wanted::V6] {
        let mut given = BTreeSet::new();
        for _ in 0..4 {
            let lease = pair.b.allocate(blue.id, wanted, holder("n", "e")).await.unwrap();
            given.insert(lease.address);
        }
        assert!(blue.aux.values().all(|address| !given.contains(address)), "{given:?}");
        let full = pair.a.allocate(blue.id, wanted, holder("n", "e")).await.unwrap_err();
        assert!(matches!(full, AllocateError::Exhausted { size: 4, used: 4, .. }), "{full}");
    }
    assert_eq!(pair.a.release_node("n").await.unwrap(), 8);
    assert_eq!(pair.a.remove_network(&blue.name).await.unwrap(), blue);
    assert_eq!(pair.b.store().list("ovl/v1/leases/").await.unwrap(), [], "something was left");
    assert_eq!(pair.b.store().list("ovl/v1/pools/").await.unwrap(), [], "something was left");
}
