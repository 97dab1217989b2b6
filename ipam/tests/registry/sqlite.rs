//! What only a file can do.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ovl_ipam::{Defaults, OpenError, Registry, StoreError, Wanted};

use crate::support::{chain, holder, network, now, spec, sqlite};

async fn refused(path: &Path) -> String {
    let url = format!("sqlite://{}", path.display()).parse().unwrap();
    let opened = Registry::open(&url, Defaults::default(), Duration::from_secs(5)).await;
    chain(&opened.unwrap_err())
}

#[tokio::test]
async fn only_the_owner_can_read_the_files_and_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("var/ovl/registry.db");
    let registry = sqlite(&path).await;
    network(&registry, "blue", "10.1.0.0/24").await;
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let mut files = 0;
    for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        files += 1;
    }
    assert_eq!(files, 3, "the file, its log and its index");
}

#[tokio::test]
async fn what_was_held_is_held_after_everybody_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let registry = sqlite(&path).await;
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    let lease = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    drop(registry);
    let registry = sqlite(&path).await;
    assert_eq!(registry.leases(id).await.unwrap(), std::slice::from_ref(&lease));
    let next = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    assert!(next.generation > lease.generation);
}

#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_in_use_is_said_and_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("registry.db"), dir.path().join("aside.db"));
    let registry = sqlite(&path).await;
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    std::fs::rename(&path, &aside).unwrap();
    let error = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    assert!(error.to_string().contains("was deleted or replaced while in use"), "{error}");
    std::fs::write(&path, b"").unwrap();
    let error = registry.watch_networks(0, Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, StoreError::Replaced { .. }), "{error}");
    std::fs::rename(&aside, &path).unwrap();
    registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("text"), "x".repeat(10_000)).unwrap();
    let error = refused(&path("text")).await;
    assert!(error.contains("is unreadable: restore it from a backup"), "{error}");

    let other = rusqlite::Connection::open(path("other")).unwrap();
    other.execute_batch("CREATE TABLE songs (title)").unwrap();
    let error = refused(&path("other")).await;
    assert!(error.contains("a SQLite file of something else"), "{error}");

    drop(sqlite(&path("newer")).await);
    let newer = rusqlite::Connection::open(path("newer")).unwrap();
    newer.execute_batch("PRAGMA user_version = 2").unwrap();
    let error = refused(&path("newer")).await;
    assert!(error.contains("the schema") && error.contains("upgrade ovl"), "{error}");

    std::fs::create_dir(path("directory")).unwrap();
    let error = refused(&path("directory")).await;
    assert!(error.contains("cannot reach the store sqlite:///"), "{error}");
    let error = refused(&path("text/below/a/file")).await;
    assert!(error.contains("to create its directory"), "{error}");
}

#[tokio::test]
async fn a_file_whose_pages_were_overwritten_is_said_to_be_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let registry = sqlite(&path).await;
    for n in 0..20 {
        registry.create_network(spec(&format!("n{n}"), None)).await.unwrap();
    }
    drop(registry);
    let mut bytes = std::fs::read(&path).unwrap();
    let from = 4_096.min(bytes.len() / 2);
    bytes[from..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = refused(&path).await;
    assert!(error.contains("is unreadable: restore it from a backup"), "{error}");
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_waited_for_no_longer_than_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    drop(sqlite(&path).await);
    let url = format!("sqlite://{}", path.display()).parse().unwrap();
    let deadline = Duration::from_millis(700);
    let registry = Registry::open(&url, Defaults::default(), deadline).await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = now();
    let error = registry.create_network(spec("blue", None)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let words = error.to_string();
    assert!(
        words.contains("within 700ms") || words.contains("another process holds its lock"),
        "{words}"
    );
    assert_eq!(registry.networks().await.unwrap().revision, 0, "reading goes on");
    other.execute_batch("COMMIT").unwrap();
    registry.create_network(spec("blue", None)).await.unwrap();
}

#[tokio::test]
async fn an_opening_error_is_the_stores_own() {
    let url = "sqlite:///proc/none/registry.db".parse().unwrap();
    let opened = Registry::open(&url, Defaults::default(), Duration::from_secs(5)).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, OpenError::Store(StoreError::Unreachable { .. })), "{error}");
}
