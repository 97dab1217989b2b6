//! The token goes to Consul and nowhere else.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovl_ipam::{
    AllocateError, CreateNetworkError, Defaults, OpenError, Registry, StoreError, StoreUrl, Wanted,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Consul, DEADLINE, chain, holder, network, now, spec};

const MASTER: &str = "b1650045-0000-4000-8000-000000000001";
/// Of a token that may read and write what the registry needs.
const GOOD: &str = "c0ffee00-0000-4000-8000-000000000002";
/// Of one that may read only.
const READER: &str = "decade00-0000-4000-8000-000000000003";
/// Of no token at all.
const WRONG: &str = "facade00-0000-4000-8000-000000000004";

/// Keeps all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

/// A server that refuses whatever no token allows.
fn start() -> Consul {
    let config = format!(
        r#"{{"acl": {{"enabled": true, "default_policy": "deny", "tokens": {{"master": "{MASTER}", "agent": "{MASTER}"}}}}}}"#
    );
    let consul = Consul::start_with(&config, |_| ());
    let master = format!("-token={MASTER}");
    for (name, secret, access) in [("good", GOOD, "write"), ("reader", READER, "read")] {
        let rules = format!("key_prefix \"ovl/v1/\" {{ policy = \"{access}\" }}");
        let end = now() + DEADLINE;
        // The server starts its ACL system some moments after it has a leader.
        while !consul.tries(&["acl", "policy", "create", &master, "-name", name, "-rules", &rules])
        {
            assert!(now() < end, "{}", consul.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        consul.command(&[
            "acl",
            "token",
            "create",
            &master,
            "-policy-name",
            name,
            "-secret",
            secret,
        ]);
    }
    consul
}

/// A file with a token, and the URL that names it.
fn url(consul: &Consul, token: &str) -> StoreUrl {
    let file = consul.dir.path().join(format!("token-{}", &token[..6]));
    std::fs::write(&file, format!("{token}\n")).unwrap();
    format!("{}?token-file={}", consul.url(), file.display()).parse().unwrap()
}

#[tokio::test]
async fn a_token_opens_the_store_and_is_never_printed() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut consul = start();
    let mut printed = Vec::new();

    let good = url(&consul, GOOD);
    let registry = Registry::open(&good, Defaults::default(), DEADLINE).await.unwrap();
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    registry.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap();
    printed.push(format!("{good} {good:?} {registry:?} {registry:#?}"));

    let reader = url(&consul, READER);
    let limited = Registry::open(&reader, Defaults::default(), DEADLINE).await.unwrap();
    let error = limited.create_network(spec("red", None)).await.unwrap_err();
    assert!(matches!(error, CreateNetworkError::Store(StoreError::Refused { .. })), "{error}");
    assert!(error.to_string().contains("has write on the key prefix \"ovl/v1/\""), "{error}");
    printed.push(format!("{error:?} {}", chain(&error)));
    let error = limited.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    assert!(matches!(error, AllocateError::Store(StoreError::Refused { .. })), "{error}");

    for nobody in [url(&consul, WRONG), consul.url()] {
        let opened = Registry::open(&nobody, Defaults::default(), DEADLINE).await;
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::Store(StoreError::Refused { .. })), "{error}");
        printed.push(format!("{error:?} {}", chain(&error)));
    }
    consul.kill();
    let error = registry.ping().await.unwrap_err();
    printed.push(format!("{error:?} {}", chain(&error)));

    printed.push(String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned());
    for text in printed {
        for token in [GOOD, READER, WRONG] {
            assert!(!text.contains(token), "the token is in: {text}");
        }
    }
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_refused_without_showing_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let url: StoreUrl =
        format!("consul://127.0.0.1:1?token-file={}", file.display()).parse().unwrap();
    let open = || Registry::open(&url, Defaults::default(), DEADLINE);
    let missing = chain(&open().await.unwrap_err());
    assert!(missing.contains("cannot read the token file"), "{missing}");
    for bad in [&b""[..], b"  \n", b"first\nsecond", b"\xff\xfe", b"a\0b"] {
        std::fs::write(&file, bad).unwrap();
        let error = open().await.unwrap_err();
        assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
        let words = format!("{error:?} {}", chain(&error));
        assert!(words.contains("the token in") && !words.contains("second"), "{words}");
    }
}

/// The environment belongs to the whole process: this test runs itself in one of its own.
#[tokio::test]
async fn the_token_of_the_environment_is_used() {
    const URL: &str = "OVL_IPAM_TEST_URL";
    if let Ok(url) = std::env::var(URL) {
        let url: StoreUrl = url.parse().unwrap();
        let registry = Registry::open(&url, Defaults::default(), DEADLINE).await.unwrap();
        network(&registry, "blue", "10.1.0.0/24").await;
        assert!(!format!("{registry:?}").contains(GOOD));
        return;
    }
    let consul = start();
    let me = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "secrets::the_token_of_the_environment_is_used"])
        .env(URL, consul.url().to_string())
        .env("CONSUL_HTTP_TOKEN", GOOD)
        .output()
        .unwrap();
    assert!(me.status.success(), "{}", String::from_utf8_lossy(&me.stdout));
}
