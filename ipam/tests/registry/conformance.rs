//! What every store promises, and what the registry promises over every store: the same
//! functions run over memory, SQLite and Consul.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ovl_ipam::store::MemoryStore;
use ovl_ipam::{
    AllocateError, CreateNetworkError, Holder, NetworkId, Registry, RemoveNetworkError, Wanted,
};

use crate::dual_stack::{
    a_network_without_ipv6_says_so, an_address_set_aside_is_never_held,
    both_families_are_given_out_each_in_its_own_round,
    ipv6_addresses_come_from_the_start_of_the_range_and_any_can_be_asked_for,
    ipv6_subnets_are_unique_in_the_cluster, ipv6_subnets_come_from_one_prefix_that_is_kept,
};
use crate::lives::{
    a_list_of_format_1_is_read_and_becomes_one_of_format_2,
    a_network_in_use_names_five_holders_and_how_many_more,
    a_node_that_is_gone_loses_all_and_nobody_else_anything,
    all_of_a_network_is_kept_as_it_was_asked_for, the_list_of_networks_ends_at_its_bound,
    the_next_id_tells_removed_networks_from_unknown_ones,
    the_same_network_asked_for_twice_is_said_to_exist,
};
use crate::support::{Consul, at, holder, last_byte, memory, network, now, spec, sqlite};

/// Two handles on one new store: what two hosts have.
pub(crate) struct Pair {
    pub(crate) a: Registry,
    pub(crate) b: Registry,
    // Kept for as long as the handles are used.
    _consul: Option<Consul>,
    _dir: Option<tempfile::TempDir>,
}

pub(crate) async fn in_memory() -> Pair {
    let store = Arc::new(MemoryStore::new());
    Pair { a: memory(&store), b: memory(&store), _consul: None, _dir: None }
}

pub(crate) async fn in_sqlite() -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/registry.db");
    Pair { a: sqlite(&path).await, b: sqlite(&path).await, _consul: None, _dir: Some(dir) }
}

pub(crate) async fn in_consul() -> Pair {
    let consul = Consul::start();
    let (a, b) = (consul.registry().await, consul.registry().await);
    Pair { a, b, _consul: Some(consul), _dir: None }
}

/// One test for each store and each promise.
macro_rules! over_every_store {
    ($($promise:ident),* $(,)?) => {
        mod memory_store { $(
            #[tokio::test]
            async fn $promise() { super::$promise(super::in_memory().await).await; }
        )* }
        mod sqlite_store { $(
            #[tokio::test]
            async fn $promise() { super::$promise(super::in_sqlite().await).await; }
        )* }
        mod consul_store {
            /// All of them on one server, each in turn on empty keys: a server takes seconds to start.
            #[tokio::test]
            async fn keeps_every_promise() {
                let mut pair = super::in_consul().await;
                $(
                    let consul = pair._consul.take().unwrap();
                    consul.command(&["kv", "delete", "-recurse", "ovl/"]);
                    println!(stringify!($promise));
                    super::$promise(super::Pair {
                        a: consul.registry().await,
                        b: consul.registry().await,
                        _consul: None,
                        _dir: None,
                    }).await;
                    pair._consul = Some(consul);
                )*
            }
        }
    };
}

over_every_store!(
    what_one_creates_the_other_sees,
    names_and_subnets_are_unique_in_the_cluster,
    addresses_go_round_and_a_freed_one_comes_late,
    an_explicit_address_is_held_once_and_repeated_to_its_holder,
    reserved_and_foreign_addresses_are_refused,
    exhaustion_is_exact_and_ends_with_a_release,
    a_release_is_idempotent_and_leaves_what_others_hold,
    a_lease_given_back_is_never_its_successor,
    generations_grow_with_every_holder_of_an_address,
    a_network_goes_only_when_nothing_of_it_is_held,
    a_network_that_is_gone_gives_out_nothing,
    a_watch_sees_what_another_changes,
    a_watch_without_change_ends_in_time_with_the_same_revision,
    a_watch_from_a_future_revision_returns_at_once,
    a_removed_name_comes_back_with_another_id_and_no_leases,
    ranges_bound_automatic_addresses_only,
    holders_that_are_too_long_are_refused,
    the_list_of_networks_ends_at_its_bound,
    both_families_are_given_out_each_in_its_own_round,
    ipv6_addresses_come_from_the_start_of_the_range_and_any_can_be_asked_for,
    a_network_without_ipv6_says_so,
    ipv6_subnets_come_from_one_prefix_that_is_kept,
    ipv6_subnets_are_unique_in_the_cluster,
    an_address_set_aside_is_never_held,
    all_of_a_network_is_kept_as_it_was_asked_for,
    a_network_in_use_names_five_holders_and_how_many_more,
    a_node_that_is_gone_loses_all_and_nobody_else_anything,
    the_next_id_tells_removed_networks_from_unknown_ones,
    the_same_network_asked_for_twice_is_said_to_exist,
    a_list_of_format_1_is_read_and_becomes_one_of_format_2,
);

async fn what_one_creates_the_other_sees(pair: Pair) {
    assert_eq!(pair.b.networks().await.unwrap().revision, 0);
    let proposed = pair.b.propose_subnet(&[]).await.unwrap();
    let created = pair.a.create_network(spec("blue", None)).await.unwrap();
    assert_eq!(created.subnet, proposed);
    let seen = pair.b.networks().await.unwrap();
    assert_eq!(seen.list, [created]);
    assert!(seen.revision > 0);
    pair.b.ping().await.unwrap();
}

async fn names_and_subnets_are_unique_in_the_cluster(pair: Pair) {
    network(&pair.a, "blue", "10.1.0.0/16").await;
    let name = pair.b.create_network(spec("Blue", None)).await.unwrap_err();
    assert!(matches!(name, CreateNetworkError::NameTaken { .. }), "{name}");
    let subnet = pair.b.create_network(spec("red", Some("10.1.7.0/24"))).await.unwrap_err();
    assert!(matches!(subnet, CreateNetworkError::Overlap { .. }), "{subnet}");
    let red = pair.b.create_network(spec("red", None)).await.unwrap();
    let list = pair.a.networks().await.unwrap().list;
    assert_eq!(list.iter().map(|n| n.vni).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(list[1], red);
}

async fn addresses_go_round_and_a_freed_one_comes_late(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/29").await.id;
    let mut given = Vec::new();
    for turn in 0..7 {
        let registry = if turn % 2 == 0 { &pair.a } else { &pair.b };
        let lease = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
        given.push(last_byte(lease.address));
        assert!(registry.release(id, lease.address, "n").await.unwrap());
    }
    assert_eq!(given, [2, 3, 4, 5, 6, 2, 3]);
}

async fn an_explicit_address_is_held_once_and_repeated_to_its_holder(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/24").await.id;
    let address = at("10.1.0.77");
    let first = pair.a.allocate(id, address, holder("n1", "e1")).await.unwrap();
    let again = pair.b.allocate(id, address, holder("n1", "e1")).await.unwrap();
    assert_eq!(first, again);
    for other in [holder("n2", "e1"), holder("n1", "e2")] {
        let error = pair.b.allocate(id, address, other).await.unwrap_err();
        assert!(error.to_string().contains("held by e1 on host n1"), "{error}");
    }
    assert_eq!(pair.b.leases(id).await.unwrap(), [first]);
}

async fn reserved_and_foreign_addresses_are_refused(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/24").await.id;
    for (address, word) in
        [("10.1.0.0", "network"), ("10.1.0.255", "broadcast"), ("10.1.0.1", "gateway")]
    {
        let error = pair.a.allocate(id, at(address), holder("n", "e")).await.unwrap_err();
        assert!(matches!(error, AllocateError::Reserved { what, .. } if what == word), "{error}");
    }
    let outside = pair.a.allocate(id, at("10.1.1.2"), holder("n", "e")).await.unwrap_err();
    assert!(matches!(outside, AllocateError::Outside { .. }), "{outside}");
    assert_eq!(pair.a.leases(id).await.unwrap(), []);
}

async fn exhaustion_is_exact_and_ends_with_a_release(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/29").await.id;
    let mut held = BTreeSet::new();
    for n in 0..5 {
        let registry = if n % 2 == 0 { &pair.a } else { &pair.b };
        held.insert(registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap().address);
    }
    let addresses: Vec<u8> = held.iter().copied().map(last_byte).collect();
    assert_eq!(addresses, [2, 3, 4, 5, 6]);
    let full = pair.b.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    assert!(full.to_string().contains("no free address in 10.1.0.0/29: 5 of 5"), "{full}");
    assert!(pair.a.release(id, "10.1.0.4".parse().unwrap(), "n").await.unwrap());
    let lease = pair.b.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    assert_eq!(last_byte(lease.address), 4);
}

async fn a_release_is_idempotent_and_leaves_what_others_hold(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/24").await.id;
    let lease = pair.a.allocate(id, Wanted::V4, holder("n1", "e")).await.unwrap();
    assert!(!pair.b.release(id, lease.address, "n2").await.unwrap());
    assert_eq!(pair.b.leases(id).await.unwrap(), std::slice::from_ref(&lease));
    assert!(pair.b.release(id, lease.address, "n1").await.unwrap());
    assert!(!pair.a.release(id, lease.address, "n1").await.unwrap());
    assert!(!pair.a.release(NetworkId(999), lease.address, "n1").await.unwrap());
}

async fn a_lease_given_back_is_never_its_successor(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/24").await.id;
    let address = at("10.1.0.9");
    let old = pair.a.allocate(id, address, holder("n", "e")).await.unwrap();
    assert!(pair.b.release_lease(&old).await.unwrap());
    let new = pair.a.allocate(id, address, holder("n", "e")).await.unwrap();
    assert!(!pair.b.release_lease(&old).await.unwrap());
    assert_eq!(pair.a.leases(id).await.unwrap(), [new]);
}

async fn generations_grow_with_every_holder_of_an_address(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/30").await.id;
    let mut before = 0;
    for turn in 0..6 {
        let (one, other) = if turn % 2 == 0 { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        let lease = one.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
        assert!(lease.generation > before, "{} after {before}", lease.generation);
        assert_eq!(other.leases(id).await.unwrap(), std::slice::from_ref(&lease));
        before = lease.generation;
        assert!(other.release(id, lease.address, "n").await.unwrap());
    }
}

async fn a_network_goes_only_when_nothing_of_it_is_held(pair: Pair) {
    let blue = network(&pair.a, "blue", "10.1.0.0/24").await;
    let lease = pair.b.allocate(blue.id, Wanted::V4, holder("n1", "web")).await.unwrap();
    let error = pair.a.remove_network(&blue.name).await.unwrap_err();
    assert!(error.to_string().contains("1 address is held: 10.1.0.2 by host n1"), "{error}");
    assert_eq!(pair.a.networks().await.unwrap().list, std::slice::from_ref(&blue));
    pair.a.release(blue.id, lease.address, "n1").await.unwrap();
    assert_eq!(pair.a.remove_network(&blue.name).await.unwrap(), blue);
    assert_eq!(pair.b.networks().await.unwrap().list, []);
    let error = pair.b.remove_network(&blue.name).await.unwrap_err();
    assert!(matches!(error, RemoveNetworkError::NotFound(_)), "{error}");
}

async fn a_network_that_is_gone_gives_out_nothing(pair: Pair) {
    let blue = network(&pair.a, "blue", "10.1.0.0/24").await;
    pair.a.remove_network(&blue.name).await.unwrap();
    for address in [Wanted::V4, Wanted::V6, at("10.1.0.7"), at("fd00::7")] {
        let error = pair.b.allocate(blue.id, address, holder("n", "e")).await.unwrap_err();
        assert!(matches!(error, AllocateError::NotFound(id) if id == blue.id), "{error}");
    }
    assert_eq!(pair.b.leases(blue.id).await.unwrap(), []);
}

async fn a_watch_sees_what_another_changes(pair: Pair) {
    let mut revision = pair.b.networks().await.unwrap().revision;
    for n in 0..4 {
        let watch = pair.b.watch_networks(revision, Duration::from_secs(60));
        let change = pair.a.create_network(spec(&format!("n{n}"), None));
        let started = now();
        let (seen, created) = tokio::join!(watch, change);
        let (seen, created) = (seen.unwrap(), created.unwrap());
        assert_ne!(seen.revision, revision);
        assert_eq!(seen.list.last(), Some(&created));
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        revision = seen.revision;
    }
    let watch = pair.a.watch_networks(revision, Duration::from_secs(60));
    let own = pair.a.create_network(spec("own", None));
    assert_ne!(tokio::join!(watch, own).0.unwrap().revision, revision);
}

async fn a_watch_without_change_ends_in_time_with_the_same_revision(pair: Pair) {
    for create in [false, true] {
        if create {
            network(&pair.a, "blue", "10.1.0.0/24").await;
        }
        let before = pair.b.networks().await.unwrap();
        let started = now();
        let after =
            pair.b.watch_networks(before.revision, Duration::from_millis(300)).await.unwrap();
        assert_eq!(after, before);
        assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    let at_once = pair.b.watch_networks(0, Duration::from_secs(60)).await.unwrap();
    assert_eq!(at_once.list.len(), 1);
}

async fn a_watch_from_a_future_revision_returns_at_once(pair: Pair) {
    let blue = network(&pair.a, "blue", "10.1.0.0/24").await;
    let started = now();
    let seen = pair.b.watch_networks(u64::MAX / 4, Duration::from_secs(60)).await.unwrap();
    assert_eq!(seen.list, [blue]);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

async fn a_removed_name_comes_back_with_another_id_and_no_leases(pair: Pair) {
    let old = network(&pair.a, "blue", "10.1.0.0/24").await;
    let lease = pair.a.allocate(old.id, Wanted::V4, holder("n", "e")).await.unwrap();
    pair.a.release(old.id, lease.address, "n").await.unwrap();
    pair.b.remove_network(&old.name).await.unwrap();
    let new = network(&pair.b, "blue", "10.1.0.0/24").await;
    assert_ne!(new.id, old.id);
    let lease = pair.a.allocate(new.id, Wanted::V4, holder("n", "e")).await.unwrap();
    assert_eq!(lease.address.to_string(), "10.1.0.2");
}

async fn ranges_bound_automatic_addresses_only(pair: Pair) {
    let mut wanted = spec("blue", Some("10.1.0.0/16"));
    wanted.range = "10.1.7.0/31".parse().ok();
    let id = pair.a.create_network(wanted).await.unwrap().id;
    pair.a.allocate(id, at("10.1.9.9"), holder("n", "e")).await.unwrap();
    for expected in ["10.1.7.0", "10.1.7.1"] {
        let lease = pair.b.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
        assert_eq!(lease.address.to_string(), expected);
    }
    let full = pair.b.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    assert!(matches!(full, AllocateError::Exhausted { size: 2, used: 2, .. }), "{full}");
}

async fn holders_that_are_too_long_are_refused(pair: Pair) {
    let id = network(&pair.a, "blue", "10.1.0.0/24").await.id;
    let long = "x".repeat(Holder::MAX_LEN);
    pair.a.allocate(id, Wanted::V4, holder(&long, &long)).await.unwrap();
    let longer = format!("{long}x");
    for bad in [holder(&longer, "e"), holder("n", &longer), holder("", "e"), holder("n\n", "e")] {
        let error = pair.a.allocate(id, Wanted::V4, bad).await.unwrap_err();
        assert!(matches!(error, AllocateError::Holder(_)), "{error}");
    }
}
