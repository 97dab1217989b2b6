//! How networks come, last and go: promises over every store.

use std::net::IpAddr;

use ovl_ipam::store::{Operation, Outcome};
use ovl_ipam::{CreateNetworkError, Docker, NetworkId, NetworkSpec, RemoveNetworkError, Wanted};

use crate::conformance::Pair;
use crate::support::{at, chain, holder, network, spec, spec6};

const NETWORKS: &str = "ovl/v1/networks";

fn docker(pairs: &[(&str, &str)]) -> Docker {
    let map = || pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Docker { options: map(), labels: map(), ipam_options: map(), attachable: true }
}

pub(crate) async fn all_of_a_network_is_kept_as_it_was_asked_for(pair: Pair) {
    let docker = docker(&[("com.example/a", "b\n\"c\""), ("empty", "")]);
    let wanted = NetworkSpec {
        internal: true,
        mtu: Some(1400),
        docker: docker.clone(),
        ..spec6("blue", None, None)
    };
    let created = pair.a.create_network(wanted).await.unwrap();
    assert_eq!((created.internal, &created.docker), (true, &docker));
    let plain = pair.a.create_network(NetworkSpec::named("red".parse().unwrap())).await.unwrap();
    assert_eq!((plain.internal, plain.ipv6), (false, None));
    assert!(plain.docker.is_empty() && plain.aux.is_empty());
    assert_eq!(pair.b.networks().await.unwrap().list, [created, plain]);
    let long = "x".repeat(Docker::MAX_LEN);
    let labels = [("a".to_owned(), long)].into();
    let docker = Docker { labels, ..Docker::default() };
    let wanted = NetworkSpec { docker, ..spec("green", None) };
    let error = pair.b.create_network(wanted).await.unwrap_err();
    assert!(error.to_string().contains("take 8193 bytes, 8192 is the most"), "{error}");
}

pub(crate) async fn a_network_in_use_names_five_holders_and_how_many_more(pair: Pair) {
    let wanted = spec6("blue", Some("10.1.0.0/24"), Some("fd00::/64"));
    let blue = pair.a.create_network(wanted).await.unwrap();
    pair.a.allocate(blue.id, Wanted::V6, holder("n6", "e")).await.unwrap();
    for n in 2..6 {
        pair.a.allocate(blue.id, Wanted::V4, holder(&format!("n{n}"), "e")).await.unwrap();
    }
    let five = "5 addresses are held: 10.1.0.2 by host n2, 10.1.0.3 by host n3, \
                10.1.0.4 by host n4, 10.1.0.5 by host n5, fd00::2 by host n6: stop";
    let error = pair.b.remove_network(&blue.name).await.unwrap_err();
    assert!(error.to_string().contains(five), "{error}");
    for _ in 0..3 {
        pair.a.allocate(blue.id, Wanted::V4, holder("n", "e")).await.unwrap();
    }
    let error = pair.b.remove_network(&blue.name).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("8 addresses are held: ") && words.contains(" and 3 more: "), "{words}");
    let RemoveNetworkError::InUse { leases, examples, .. } = error else { panic!("{error}") };
    assert_eq!((leases, examples.len()), (8, RemoveNetworkError::MAX_EXAMPLES));
}

pub(crate) async fn a_node_that_is_gone_loses_all_and_nobody_else_anything(pair: Pair) {
    assert_eq!(pair.a.release_node("gone").await.unwrap(), 0);
    let mut kept = Vec::new();
    for n in 0..10 {
        let wanted = spec6(&format!("n{n}"), None, None);
        let id = pair.a.create_network(wanted).await.unwrap().id;
        for wanted in [Wanted::V4, Wanted::V6] {
            kept.push(pair.a.allocate(id, wanted, holder("stays", "e")).await.unwrap());
            // More than one transaction takes.
            for _ in 0..if n == 0 { 40 } else { 1 } {
                pair.b.allocate(id, wanted, holder("gone", "e")).await.unwrap();
            }
        }
    }
    assert_eq!(pair.a.release_node("gon").await.unwrap(), 0);
    assert_eq!(pair.a.release_node("gone").await.unwrap(), 98);
    assert_eq!(pair.b.release_node("gone").await.unwrap(), 0);
    let mut left = Vec::new();
    for network in pair.b.networks().await.unwrap().list {
        left.extend(pair.b.leases(network.id).await.unwrap());
    }
    assert_eq!(left, kept);
}

pub(crate) async fn the_next_id_tells_removed_networks_from_unknown_ones(pair: Pair) {
    assert_eq!(pair.a.networks().await.unwrap().next_id, 0);
    let blue = network(&pair.a, "blue", "10.1.0.0/24").await;
    let red = network(&pair.b, "red", "10.2.0.0/24").await;
    pair.a.remove_network(&red.name).await.unwrap();
    let networks = pair.b.networks().await.unwrap();
    assert!(red.id.0 < networks.next_id && blue.id.0 < networks.next_id);
    assert_eq!(NetworkId(networks.next_id), network(&pair.a, "green", "10.3.0.0/24").await.id);
    let seen = pair.b.watch_networks(0, std::time::Duration::from_secs(10)).await.unwrap();
    assert_eq!(seen.next_id, networks.next_id + 1);
}

pub(crate) async fn the_same_network_asked_for_twice_is_said_to_exist(pair: Pair) {
    let wanted = || spec6("blue", Some("10.1.0.0/24"), Some("fd00::/64"));
    let created = pair.a.create_network(wanted()).await.unwrap();
    let error = pair.b.create_network(wanted()).await.unwrap_err();
    let CreateNetworkError::NameTaken { existing, .. } = error else { panic!("{error}") };
    assert_eq!(*existing, created);
}

pub(crate) async fn a_list_of_format_1_is_read_and_becomes_one_of_format_2(pair: Pair) {
    let old = r#"{"format":1,"next_id":8,"networks":[{"id":7,"name":"blue","vni":4097,"subnet":"10.1.0.0/24","gateway":"10.1.0.1","docker_hosts":["n1","n2"]}]}"#;
    let pool = r#"{"name":"blue","subnet":"10.1.0.0/24","gateway":"10.1.0.1"}"#;
    let held = r#"{"node":"n1","endpoint":"e"}"#;
    let entries = [(NETWORKS, old), ("ovl/v1/pools/7", pool), ("ovl/v1/leases/7/10.1.0.2", held)];
    let set = |(key, value): (&str, &str)| Operation::Set { key: key.into(), value: value.into() };
    pair.a.store().commit(&entries.map(set)).await.unwrap();
    let networks = pair.b.networks().await.unwrap();
    assert_eq!((networks.next_id, networks.list.len()), (8, 1));
    let blue = networks.list[0].clone();
    let lease = pair.b.allocate(blue.id, Wanted::V4, holder("n2", "e")).await.unwrap();
    assert_eq!(lease.address, "10.1.0.3".parse::<IpAddr>().unwrap());
    let left = pair.a.store().read(NETWORKS).await.unwrap().unwrap();
    assert_eq!(left.value, old.as_bytes(), "reading changes nothing");
    assert!(pair.a.release(blue.id, lease.address, "n2").await.unwrap());
    let red = pair.a.create_network(spec6("red", None, None)).await.unwrap();
    assert_eq!(red.id, NetworkId(8));
    let new = String::from_utf8(pair.b.store().read(NETWORKS).await.unwrap().unwrap().value);
    let new = new.unwrap();
    assert!(new.starts_with(r#"{"format":2,"#) && !new.contains("docker_hosts"), "{new}");
    assert_eq!(pair.b.networks().await.unwrap().list, [blue.clone(), red]);
    // Hosts whose Docker had it hold it no longer; its lease does.
    let error = pair.b.remove_network(&blue.name).await.unwrap_err();
    assert!(matches!(error, RemoveNetworkError::InUse { leases: 1, .. }), "{error}");
    assert_eq!(pair.b.release_node("n1").await.unwrap(), 1);
    pair.b.remove_network(&blue.name).await.unwrap();
}

/// A network of the longest kind: 64 addresses with long names that JSON makes twice as long, and
/// all of the options.
fn longest(n: usize) -> NetworkSpec {
    let name = |address: u8| format!("{address:0>3}{}", "\"".repeat(125));
    let aux = (10..74).map(|last| (name(last), [10, 1, n as u8, last].into())).collect();
    let options = [("a".to_owned(), "\"".repeat(Docker::MAX_LEN - 1))].into();
    let docker = Docker { options, ..Docker::default() };
    let subnet = format!("10.1.{n}.0/24");
    NetworkSpec { aux, docker, ..spec6(&format!("n{n}"), Some(&subnet), None) }
}

/// The bound is below what Consul takes: it is this crate that refuses, in words of its own, and
/// what is there can be used and removed.
pub(crate) async fn the_list_of_networks_ends_at_its_bound(pair: Pair) {
    let mut created = Vec::new();
    let error = loop {
        match pair.a.create_network(longest(created.len())).await {
            Ok(network) => created.push(network),
            Err(error) => break error,
        }
        assert!(created.len() < 100, "no bound");
    };
    assert!(matches!(error, CreateNetworkError::TooLarge(_)), "{error}");
    assert!(chain(&error).contains("remove some first"), "{}", chain(&error));
    let store = pair.a.store();
    let pool = store.read(&format!("ovl/v1/pools/{}", created[0].id)).await.unwrap().unwrap();
    assert!((17_000..20 * 1024).contains(&pool.value.len()), "{}", pool.value.len());
    let mut n = 0;
    while pair.b.create_network(spec(&format!("small-{n}"), None)).await.is_ok() {
        n += 1;
    }
    // As full as it can be, and a removal that was begun is to be taken back, with its pool key.
    let (id, revision) = (created[0].id, store.read(NETWORKS).await.unwrap().unwrap());
    let marked = String::from_utf8(revision.value).unwrap();
    let at_name = marked.find("\"name\":\"n0\"").unwrap();
    let marked = format!("{}\"removing\":true,{}", &marked[..at_name], &marked[at_name..]);
    let key = format!("ovl/v1/leases/{id}/10.1.0.9");
    let half = [
        Operation::Put { key: NETWORKS.into(), revision: revision.revision, value: marked.into() },
        Operation::Delete { key: pool.key, revision: pool.revision },
        Operation::Set { key, value: br#"{"node":"n","endpoint":"e"}"#.to_vec() },
    ];
    assert_ne!(store.commit(&half).await.unwrap(), Outcome::Conflict);
    let lease = pair.b.allocate(id, at("10.1.0.8"), holder("n", "e")).await.unwrap();
    assert_eq!(pair.b.leases(id).await.unwrap().len(), 2);
    assert!(pair.a.release_lease(&lease).await.unwrap());
    assert_eq!(pair.a.release_node("n").await.unwrap(), 1);
    for network in created {
        assert_eq!(pair.b.remove_network(&network.name).await.unwrap(), network);
    }
    pair.a.create_network(longest(0)).await.unwrap();
}
