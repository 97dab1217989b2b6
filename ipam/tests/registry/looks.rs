//! Looks at a store that tell what it allows, and leave nothing behind.

use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use ovl_ipam::{Defaults, Registry, StoreError, StoreUrl};

use crate::conformance::{in_consul, in_memory, in_sqlite};
use crate::support::{DEADLINE, chain, network, sqlite};

#[tokio::test]
async fn a_look_reads_and_tries_to_write_and_nothing_remains() {
    for pair in [in_memory().await, in_sqlite().await, in_consul().await] {
        network(&pair.a, "blue", "10.1.0.0/24").await;
        let before = pair.a.store().list("ovl/v1/").await.unwrap();
        let look = pair.a.look().await.unwrap();
        assert!(look.write.is_ok(), "{look:?}");
        assert_eq!(look.networks.as_ref().unwrap(), &1);
        assert!(look.read < DEADLINE, "{look:?}");
        assert_eq!(pair.a.store().list("ovl/v1/").await.unwrap(), before);
    }
}

#[tokio::test]
async fn a_file_is_looked_at_as_it_is_and_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/registry.db");
    let url: StoreUrl = format!("sqlite://{}", path.display()).parse().unwrap();
    let peek = || Registry::peek(&url, Defaults::default(), DEADLINE, None);
    assert!(peek().await.unwrap().is_none());
    assert!(!path.parent().unwrap().exists());

    let registry = sqlite(&path).await;
    network(&registry, "blue", "10.1.0.0/24").await;
    let look = peek().await.unwrap().unwrap().look().await.unwrap();
    assert!(look.write.is_ok(), "{look:?}");
    // Both can be used on.
    network(&registry, "red", "10.2.0.0/24").await;
    drop(registry);

    let other = dir.path().join("other.db");
    std::fs::write(&other, b"no database at all, but long enough to have a header of one........")
        .unwrap();
    let url: StoreUrl = format!("sqlite://{}", other.display()).parse().unwrap();
    let error = Registry::peek(&url, Defaults::default(), DEADLINE, None).await.unwrap_err();
    assert!(chain(&error).contains("unreadable"), "{}", chain(&error));
}

#[tokio::test]
async fn a_newer_list_of_networks_is_told_apart_from_a_store_that_is_away() {
    let pair = in_memory().await;
    let newer = ovl_ipam::store::Operation::Set {
        key: "ovl/v1/networks".into(),
        value: br#"{"format":99}"#.to_vec(),
    };
    pair.a.store().commit(&[newer]).await.unwrap();
    let look = pair.a.look().await.unwrap();
    assert!(matches!(look.networks, Err(StoreError::Newer { found: 99, .. })), "{look:?}");
    assert!(look.write.is_ok(), "{look:?}");
}

/// A disk that takes no more, as the limit on a file's size makes one: what is read is read on.
#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_by_a_look() {
    // Inherited by the threads that wait for the disk: the kernel's error is to be seen, not its signal.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let registry = sqlite(&dir.path().join("registry.db")).await;
    network(&registry, "blue", "10.1.0.0/24").await;
    let limit = |bytes: &str| {
        let own = std::process::id().to_string();
        let set =
            Command::new("prlimit").args(["--pid", &own, &format!("--fsize={bytes}:")]).status();
        assert!(set.unwrap().success());
    };
    limit("1");
    let look = registry.look().await.unwrap();
    limit("unlimited");
    assert!(matches!(look.write, Err(StoreError::Failed { .. })), "{look:?}");
    assert_eq!(look.networks.unwrap(), 1);
    assert!(registry.look().await.unwrap().write.is_ok());
}
