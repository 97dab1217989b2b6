//! What every store promises by itself.

use std::time::Duration;

use ovl_ipam::store::{MAX_OPERATIONS, Operation, Outcome, Store};
use ovl_ipam::{Defaults, Registry, StoreError, StoreUrl};

use crate::conformance::{in_consul, in_memory, in_sqlite};
use crate::support::{DEADLINE, chain, now};

#[tokio::test]
async fn a_transaction_of_too_many_operations_is_refused_by_every_store() {
    let (memory, sqlite) = (in_memory().await, in_sqlite().await);
    for registry in [&memory.a, &sqlite.a] {
        let check = |n| Operation::Check { key: format!("ovl/v1/{n}"), revision: 0 };
        let operations: Vec<Operation> = (0..=MAX_OPERATIONS).map(check).collect();
        let error = registry.store().commit(&operations).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        let done = registry.store().commit(&operations[1..]).await.unwrap();
        assert_ne!(done, Outcome::Conflict);
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_said_within_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let deadline = Duration::from_millis(500);
    let open = |port: u16| async move {
        let url: StoreUrl = format!("consul://127.0.0.1:{port}").parse().unwrap();
        let started = now();
        let error = Registry::open(&url, Defaults::default(), deadline).await.unwrap_err();
        assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
        chain(&error)
    };
    // One that takes connections and says nothing, one that refuses them.
    let error = open(port).await;
    assert!(error.contains("did not") && error.contains("within 500ms"), "{error}");
    drop(listener);
    let error = open(port).await;
    assert!(error.contains("cannot reach the store consul://127.0.0.1"), "{error}");
}

/// The store's own promises, over every store.
async fn operations_hold_or_none_is_done(store: &dyn Store) {
    let key = |n: u8| format!("ovl/v1/test/{n}");
    let put =
        |n, revision, value: &str| Operation::Put { key: key(n), revision, value: value.into() };
    let check = |n, revision| Operation::Check { key: key(n), revision };
    let delete = |n, revision| Operation::Delete { key: key(n), revision };
    let set = |n, value: &str| Operation::Set { key: key(n), value: value.into() };
    let committed = async |operations: &[Operation]| match store.commit(operations).await.unwrap() {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict => panic!("conflict on {operations:?}"),
    };
    let first = committed(&[put(1, 0, "a"), put(2, 0, "b"), check(3, 0)]).await;
    assert!(first > 0);
    let listed = store.list("ovl/v1/test/").await.unwrap();
    assert_eq!(listed.iter().map(|e| e.revision).collect::<Vec<_>>(), [first, first]);
    let conflicts = [
        vec![put(3, 0, "c"), put(1, 0, "x")],
        vec![put(3, 0, "c"), put(1, first + 1, "x")],
        vec![put(3, 0, "c"), check(1, 0)],
        vec![put(3, 0, "c"), check(1, first + 1)],
        vec![put(3, 0, "c"), check(4, first)],
        vec![put(3, 0, "c"), delete(1, first + 1)],
        vec![put(3, 0, "c"), delete(4, first)],
        vec![set(3, "c"), put(5, first, "x")],
    ];
    for operations in conflicts {
        let outcome = store.commit(&operations).await.unwrap();
        assert_eq!(outcome, Outcome::Conflict, "{operations:?}");
        assert_eq!(store.list("ovl/v1/test/").await.unwrap().len(), 2, "{operations:?}");
    }
    let second = committed(&[check(1, first), delete(2, first), set(3, "c"), set(4, "")]).await;
    assert!(second > first);
    assert_eq!(store.read(&key(2)).await.unwrap(), None);
    let empty = store.read(&key(4)).await.unwrap().unwrap();
    assert_eq!((empty.value, empty.revision), (vec![], second));
    let again = committed(&[put(2, 0, "b")]).await;
    assert!(again > second, "a key that comes back has a higher revision");
    assert_eq!(store.list("ovl/v1/tes/").await.unwrap(), []);
    let bytes: Vec<u8> = (0..=255).collect();
    committed(&[Operation::Set { key: key(9), value: bytes.clone() }]).await;
    assert_eq!(store.read(&key(9)).await.unwrap().unwrap().value, bytes);
}

#[tokio::test]
async fn operations_hold_or_none_is_done_over_every_store() {
    for pair in [in_memory().await, in_sqlite().await, in_consul().await] {
        operations_hold_or_none_is_done(pair.a.store()).await;
    }
}
