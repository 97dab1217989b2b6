//! Hosts that die in the middle, over the store that can be told to fail.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ovl_ipam::store::MemoryStore;
use ovl_ipam::{AllocateError, MAX_TRIES, RemoveNetworkError, StoreError, Wanted};
use proptest::prelude::*;

use crate::support::{at, holder, last_byte, memory, network, spec, spec6};

#[tokio::test]
async fn a_removal_that_died_half_way_is_finished_by_the_next_that_touches_the_network() {
    for calls in 0..6 {
        for made in [false, true] {
            for next in 0..4 {
                let store = Arc::new(MemoryStore::new());
                let registry = memory(&store);
                let wanted = spec6("blue", Some("10.1.0.0/24"), None);
                let blue = registry.create_network(wanted).await.unwrap();
                store.go_down_after(calls, made);
                let removed = registry.remove_network(&blue.name).await;
                store.set_down(false);
                let gone = registry.networks().await.unwrap().list.is_empty();
                let marked = registry.networks().await.unwrap().list.iter().any(|n| n.removing);
                let case = format!("after {calls} calls, made {made}, next {next}");
                assert!(removed.is_err() || gone, "{case}");
                match next {
                    0 => match registry.remove_network(&blue.name).await {
                        Ok(_) => assert!(!gone, "{case}"),
                        Err(RemoveNetworkError::NotFound(_)) => assert!(gone, "{case}"),
                        Err(other) => panic!("{case}: {other}"),
                    },
                    1 => match registry.allocate(blue.id, Wanted::V4, holder("n", "e")).await {
                        Ok(_) => assert!(!gone && !marked, "{case}"),
                        Err(AllocateError::NotFound(_)) => assert!(gone || marked, "{case}"),
                        Err(other) => panic!("{case}: {other}"),
                    },
                    2 => match registry.allocate(blue.id, Wanted::V6, holder("n", "e")).await {
                        Ok(_) => assert!(!gone && !marked, "{case}"),
                        Err(AllocateError::NotFound(_)) => assert!(gone || marked, "{case}"),
                        Err(other) => panic!("{case}: {other}"),
                    },
                    _ => {
                        let again =
                            registry.create_network(spec("blue", Some("10.1.0.0/24"))).await;
                        assert_eq!(again.is_ok(), gone || marked, "{case}: {again:?}");
                    }
                }
                let left = registry.networks().await.unwrap().list;
                assert!(left.iter().all(|n| !n.removing), "{case}: {left:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_release_of_a_node_that_died_half_way_is_finished_by_the_next() {
    let mut calls = 0;
    loop {
        let store = Arc::new(MemoryStore::new());
        let registry = memory(&store);
        let mut wanted = 0;
        for name in ["blue", "red", "green"] {
            let id = registry.create_network(spec6(name, None, None)).await.unwrap().id;
            for _ in 0..40 {
                registry.allocate(id, Wanted::V6, holder("gone", "e")).await.unwrap();
                wanted += 1;
            }
            registry.allocate(id, Wanted::V4, holder("other", "e")).await.unwrap();
        }
        store.go_down_after(calls, calls % 2 == 0);
        let first = registry.release_node("gone").await;
        store.set_down(false);
        let second = registry.release_node("gone").await.unwrap();
        assert_eq!(registry.release_node("gone").await.unwrap(), 0);
        for network in registry.networks().await.unwrap().list {
            let left = registry.leases(network.id).await.unwrap();
            assert_eq!(left.iter().map(|l| l.holder.node.as_str()).collect::<Vec<_>>(), ["other"]);
        }
        if let Ok(first) = first {
            assert_eq!(first + second, wanted);
            break;
        }
        calls += 1;
        assert!(calls < 100, "it never ends");
    }
}

#[tokio::test]
async fn a_node_is_released_through_conflicts_and_past_leases_that_cannot_be_read() {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    for _ in 0..3 {
        registry.allocate(id, Wanted::V4, holder("gone", "e")).await.unwrap();
    }
    let key = format!("ovl/v1/leases/{id}/10.1.0.99");
    let set = ovl_ipam::store::Operation::Set { key: key.clone(), value: b"junk".to_vec() };
    registry.store().commit(&[set]).await.unwrap();
    store.conflict_next(5);
    assert_eq!(registry.release_node("gone").await.unwrap(), 3);
    let left = registry.store().list(&format!("ovl/v1/leases/{id}/")).await.unwrap();
    assert!(left.iter().any(|entry| entry.key == key), "{left:?}");
}

#[tokio::test]
async fn a_removal_that_was_begun_too_early_is_taken_back() {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    let blue = network(&registry, "blue", "10.1.0.0/24").await;
    // Reads the list, finds no lease, reads the pool key, marks: and dies there.
    store.go_down_after(4, false);
    assert!(registry.remove_network(&blue.name).await.is_err());
    store.set_down(false);
    assert!(registry.networks().await.unwrap().list[0].removing, "the crash came elsewhere");
    // As if the lease had been there: it is what a removal must never overlook.
    let lease = ovl_ipam::store::Operation::Set {
        key: format!("ovl/v1/leases/{}/10.1.0.9", blue.id),
        value: br#"{"node":"n","endpoint":"e"}"#.to_vec(),
    };
    registry.store().commit(&[lease]).await.unwrap();
    let error = registry.remove_network(&blue.name).await.unwrap_err();
    assert!(matches!(error, RemoveNetworkError::InUse { leases: 1, .. }), "{error}");
    assert_eq!(registry.networks().await.unwrap().list, std::slice::from_ref(&blue));
    let lease = registry.allocate(blue.id, Wanted::V4, holder("n", "e2")).await.unwrap();
    assert_eq!(lease.address.to_string(), "10.1.0.10");
}

#[tokio::test]
async fn a_pool_key_that_other_hands_deleted_comes_back() {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    let key = format!("ovl/v1/pools/{id}");
    let revision = registry.store().read(&key).await.unwrap().unwrap().revision;
    let delete = ovl_ipam::store::Operation::Delete { key, revision };
    registry.store().commit(&[delete]).await.unwrap();
    registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
}

#[tokio::test]
async fn conflicts_are_tried_again_and_end_somewhere() {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    store.conflict_next(5);
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    store.conflict_next(5);
    let lease = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    store.conflict_next(5);
    assert!(registry.release(id, lease.address, "n").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn endless_conflicts_end_in_an_error_that_says_so() {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    store.conflict_next(u32::MAX);
    let error = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    assert!(
        matches!(&error, AllocateError::Store(StoreError::Contended { tries, .. }) if *tries == MAX_TRIES),
        "{error}"
    );
}

#[tokio::test]
async fn what_other_hands_wrote_is_named_and_blocks_no_more_than_itself() {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    for (leaf, value) in [
        ("10.1.0.2", "junk"),
        ("10.1.0.3", "{}"),
        ("last", "\u{1}"),
        ("last6", "10.1.0.9"),
        ("x", "y"),
        ("FD00::2", "y"),
    ] {
        let key = format!("ovl/v1/leases/{id}/{leaf}");
        let set = ovl_ipam::store::Operation::Set { key, value: value.into() };
        registry.store().commit(&[set]).await.unwrap();
    }
    let lease = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    assert_eq!(lease.address.to_string(), "10.1.0.4");
    let error = registry.leases(id).await.unwrap_err();
    assert!(error.to_string().contains(&format!("the key ovl/v1/leases/{id}/10.1.0.2")), "{error}");
    let error = registry.allocate(id, at("10.1.0.2"), holder("n", "e")).await.unwrap_err();
    assert!(error.to_string().contains("unreadable"), "{error}");
}

#[tokio::test]
async fn a_list_of_networks_that_cannot_be_read_is_left_as_it_is() {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    for (value, words) in [("{", "unreadable"), (r#"{"format":9}"#, "upgrade ovl on this host")] {
        let key = "ovl/v1/networks".to_owned();
        let set = ovl_ipam::store::Operation::Set { key, value: value.into() };
        registry.store().commit(&[set]).await.unwrap();
        let error = registry.networks().await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        let error = registry.create_network(spec("blue", None)).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        let left = registry.store().read("ovl/v1/networks").await.unwrap().unwrap();
        assert_eq!(left.value, value.as_bytes());
    }
}

/// What one step of a history does.
#[derive(Clone, Debug)]
enum Step {
    Allocate {
        node: u8,
        address: Option<u8>,
    },
    Release {
        node: u8,
        address: u8,
    },
    /// The same as an allocation, by a host that dies after so many calls.
    Crash {
        node: u8,
        calls: u32,
        made: bool,
    },
    Remove {
        calls: Option<u32>,
        made: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0u8..3;
    let step = prop_oneof![
        6 => (node(), prop::option::weighted(0.3, 0u8..16))
            .prop_map(|(node, address)| Step::Allocate { node, address }),
        4 => (node(), 0u8..16).prop_map(|(node, address)| Step::Release { node, address }),
        2 => (node(), 0u32..5, any::<bool>())
            .prop_map(|(node, calls, made)| Step::Crash { node, calls, made }),
        1 => (prop::option::of(0u32..6), any::<bool>())
            .prop_map(|(calls, made)| Step::Remove { calls, made }),
    ];
    prop::collection::vec(step, 0..80)
}

/// Which node holds what.
type Model = BTreeMap<IpAddr, u8>;

fn blue_address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, last).into()
}

async fn run(steps: Vec<Step>) {
    let store = Arc::new(MemoryStore::new());
    let registry = memory(&store);
    let mut blue = network(&registry, "blue", "10.1.0.0/28").await;
    let mut held = Model::new();
    for step in steps {
        match step {
            Step::Allocate { node, address } => {
                let wanted = address.map_or(Wanted::V4, |a| Wanted::Address(blue_address(a)));
                let who = holder(&node.to_string(), "e");
                match registry.allocate(blue.id, wanted, who).await {
                    Ok(lease) => {
                        assert!(![0, 1, 15].contains(&last_byte(lease.address)), "{lease:?}");
                        let before = held.insert(lease.address, node);
                        let repeated = wanted != Wanted::V4 && before == Some(node);
                        assert!(before.is_none() || repeated, "{lease:?} was given twice");
                    }
                    Err(AllocateError::Exhausted { size, used, .. }) => {
                        assert_eq!((size, used, held.len()), (13, 13, 13));
                    }
                    Err(AllocateError::Taken { lease, .. }) => {
                        assert_ne!(held.get(&lease.address), Some(&node));
                    }
                    Err(AllocateError::Reserved { address, .. }) => {
                        assert!([0, 1, 15].contains(&last_byte(address)));
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Release { node, address } => {
                let address = blue_address(address);
                let mine = held.get(&address) == Some(&node);
                let released = registry.release(blue.id, address, &node.to_string()).await.unwrap();
                assert_eq!(released, mine);
                if released {
                    held.remove(&address);
                }
            }
            Step::Crash { node, calls, made } => {
                store.go_down_after(calls, made);
                let _ =
                    registry.allocate(blue.id, Wanted::V4, holder(&node.to_string(), "e")).await;
                store.set_down(false);
                // What it may have left is what the store says, and nobody else's changed.
                let now: Model = leases(&registry, &blue).await;
                assert!(held.iter().all(|(a, n)| now.get(a) == Some(n)));
                assert!(now.len() <= held.len() + 1);
                held = now;
            }
            Step::Remove { calls, made } => {
                if let Some(calls) = calls {
                    store.go_down_after(calls, made);
                }
                let removed = registry.remove_network(&blue.name).await;
                store.set_down(false);
                assert!(removed.is_err() || held.is_empty(), "{held:?} held");
                let list = registry.networks().await.unwrap().list;
                if held.is_empty() {
                    if list.iter().any(|n| n.removing) {
                        registry.remove_network(&blue.name).await.unwrap();
                    }
                    if registry.networks().await.unwrap().list.is_empty() {
                        blue = network(&registry, "blue", "10.1.0.0/28").await;
                    }
                } else {
                    assert_eq!(list, std::slice::from_ref(&blue));
                }
            }
        }
        assert_eq!(leases(&registry, &blue).await, held);
    }
}

async fn leases(registry: &ovl_ipam::Registry, network: &ovl_ipam::Network) -> Model {
    let leases = registry.leases(network.id).await.unwrap();
    leases.into_iter().map(|l| (l.address, l.holder.node.parse().unwrap())).collect()
}

proptest! {
    #[test]
    fn no_history_of_hosts_that_die_gives_an_address_twice_or_takes_one_away(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps));
    }
}
