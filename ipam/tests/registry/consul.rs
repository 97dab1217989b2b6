//! What only Consul can do: stall, die, forget, refuse, and speak TLS.

use std::time::Duration;

use ovl_ipam::store::Operation;
use ovl_ipam::{AllocateError, Defaults, Registry, StoreError, StoreUrl, Wanted};

use crate::support::{Consul, binary, chain, holder, network, now, spec};

async fn open(url: &str, deadline: Duration) -> Registry {
    let url: StoreUrl = url.parse().unwrap();
    Registry::open(&url, Defaults::default(), deadline).await.unwrap()
}

#[tokio::test]
async fn a_server_that_stalls_or_dies_is_said_within_the_deadline_and_comes_back() {
    let mut consul = Consul::start();
    let deadline = Duration::from_millis(800);
    let registry = open(&consul.url().to_string(), deadline).await;
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    let revision = registry.networks().await.unwrap().revision;
    consul.stall();
    let started = now();
    let error = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    assert!(matches!(error, AllocateError::Store(StoreError::Timeout { .. })), "{error}");
    assert!(error.to_string().contains("within 800ms"), "{error}");
    let error = registry.watch_networks(revision, Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, StoreError::Timeout { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    consul.resume();
    let registry = consul.registry().await;
    registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    consul.kill();
    let error = registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    let words = chain(&error);
    assert!(words.contains("cannot reach the store consul://127.0.0.1"), "{words}");
    assert!(words.contains("connect"), "the cause is missing: {words}");
}

#[tokio::test]
async fn a_watch_survives_a_server_that_lost_everything() {
    let old = Consul::start();
    let registry = old.registry().await;
    for n in 0..5 {
        registry.create_network(spec(&format!("n{n}"), None)).await.unwrap();
    }
    let revision = registry.networks().await.unwrap().revision;
    old.command(&["kv", "delete", "-recurse", "ovl/"]);
    let seen = registry.watch_networks(revision, Duration::from_secs(60)).await.unwrap();
    assert_eq!((seen.revision, seen.list.len()), (0, 0));
    let watch = registry.watch_networks(0, Duration::from_secs(60));
    let create = registry.create_network(spec("blue", None));
    assert_eq!(tokio::join!(watch, create).0.unwrap().list.len(), 1);
    // Another cluster, whose indexes are lower: the revision is one that it has not reached.
    let new = Consul::start();
    let fresh = new.registry().await;
    fresh.create_network(spec("blue", None)).await.unwrap();
    let started = now();
    let seen = fresh.watch_networks(revision + 1_000, Duration::from_secs(60)).await.unwrap();
    assert_eq!(seen.list.len(), 1);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_longest_list_of_networks_fits_consul_and_a_longer_value_is_refused_in_words() {
    let consul = Consul::start();
    let registry = consul.registry().await;
    let store = registry.store();
    let set = |len: usize| Operation::Set { key: "ovl/v1/big".into(), value: vec![b'x'; len] };
    // With what the marks of removals may add, and the longest pool key beside it.
    let pool = Operation::Set { key: "ovl/v1/pools/1".into(), value: vec![b'x'; 20 * 1024] };
    store.commit(&[set(ovl_ipam::MAX_DOCUMENT + 20_000), pool]).await.unwrap();
    let error = store.commit(&[set(600 * 1024)]).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains("too large for the store"), "{error}");
}

#[tokio::test]
async fn what_is_not_consul_is_said_to_be_none() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\ncontent-length: 5\r\n\r\n[{\"a\"",
        "HTTP/1.1 200 OK\r\nX-Consul-Index: \u{fe}\u{ff}\r\ncontent-length: 2\r\n\r\n[]",
        "HTTP/1.1 301 Moved\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        let error = answered(answer).await;
        let said = ["unreadable", "cannot reach", "could not"].iter().any(|w| error.contains(w));
        assert!(said, "{answer:?}: {error}");
    }
    let endless = "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\ncontent-length: 999999999\r\n\r\n";
    let error = answered(&format!("{endless}{}", " ".repeat(65 << 20))).await;
    assert!(error.contains("an answer is too large for the store"), "{error}");
}

/// What opening says when a server of one answer is there.
async fn answered(answer: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.as_bytes().to_vec();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        // The other side may have heard enough.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    });
    let url: StoreUrl = format!("consul://127.0.0.1:{port}").parse().unwrap();
    let opened = Registry::open(&url, Defaults::default(), Duration::from_secs(20)).await;
    server.await.unwrap();
    chain(&opened.unwrap_err())
}

#[tokio::test]
async fn tls_is_spoken_with_a_server_whose_ca_is_named_and_with_no_other() {
    let config = r#"{
        "ports": {"https": PORT},
        "cert_file": "DIR/dc1-server-consul-0.pem",
        "key_file": "DIR/dc1-server-consul-0-key.pem",
        "ca_file": "DIR/consul-agent-ca.pem"
    }"#;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let consul = Consul::start_with(&config.replace("PORT", &port.to_string()), |dir| {
        for args in [&["tls", "ca", "create"][..], &["tls", "cert", "create", "-server"]] {
            let made = std::process::Command::new(binary()).args(args).current_dir(dir).output();
            assert!(made.unwrap().status.success());
        }
    });
    let ca = consul.dir.path().join("consul-agent-ca.pem");
    let url = format!("consul+https://127.0.0.1:{port}?ca-file={}", ca.display());
    let registry = open(&url, Duration::from_secs(20)).await;
    network(&registry, "blue", "10.1.0.0/24").await;
    let url: StoreUrl = format!("consul+https://127.0.0.1:{port}").parse().unwrap();
    let opened = Registry::open(&url, Defaults::default(), Duration::from_secs(20)).await;
    let error = chain(&opened.unwrap_err());
    assert!(error.contains("certificate"), "{error}");
}
