//! The token goes to Consul and nowhere else.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
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
    write(&file, format!("{token}\n").as_bytes());
    format!("{}?token-file={}", consul.url(), file.display()).parse().unwrap()
}

/// Replaces a file by a closed one.
fn write(file: &Path, text: &[u8]) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    set_mode(&fresh, 0o600);
    std::fs::rename(&fresh, file).unwrap();
}

fn set_mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
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
    let look = limited.look().await.unwrap();
    assert!(matches!(look.write, Err(StoreError::Refused { .. })), "{look:?}");
    assert_eq!(look.networks.as_ref().unwrap(), &1);
    let error = limited.allocate(id, Wanted::V4, holder("n", "e")).await.unwrap_err();
    assert!(matches!(error, AllocateError::Store(StoreError::Refused { .. })), "{error}");

    for nobody in [url(&consul, WRONG), consul.url()] {
        let opened = Registry::open(&nobody, Defaults::default(), DEADLINE).await;
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::Store(StoreError::Refused { .. })), "{error}");
        printed.push(format!("{error:?} {}", chain(&error)));
        let looked = Registry::peek(&nobody, Defaults::default(), DEADLINE, None).await.unwrap();
        let error = looked.unwrap().look().await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        printed.push(format!("{error:?} {}", chain(&error)));
    }
    // On behalf of an agent that has the token in its environment.
    let looked = Registry::peek(&consul.url(), Defaults::default(), DEADLINE, Some(GOOD)).await;
    let looked = looked.unwrap().unwrap();
    assert!(looked.look().await.unwrap().write.is_ok());
    printed.push(format!("{looked:?}"));
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
        write(&file, bad);
        let error = open().await.unwrap_err();
        assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
        let words = format!("{error:?} {}", chain(&error));
        assert!(words.contains("the token in") && !words.contains("second"), "{words}");
    }
}

/// Why a store on which nobody listens cannot be opened with this token's file.
async fn refused(file: &Path) -> OpenError {
    let url: StoreUrl =
        format!("consul://127.0.0.1:1?token-file={}", file.display()).parse().unwrap();
    let told: Vec<_> = ovl_ipam::check_files(&url).iter().map(|e| chain(e)).collect();
    let error = Registry::open(&url, Defaults::default(), DEADLINE).await.unwrap_err();
    let file_is_right = matches!(error, OpenError::Store(StoreError::Unreachable { .. }));
    let expected = if file_is_right { Vec::new() } else { vec![chain(&error)] };
    assert_eq!(told, expected);
    error
}

#[tokio::test]
async fn a_token_file_that_others_can_get_at_is_refused_with_the_command_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token;exit");
    let link = dir.path().join("link");
    symlink(&file, &link).unwrap();
    for (mode, owner) in [(0o644, 0), (0o620, 0), (0o604, 0), (0o600, 1000), (0o666, 1000)] {
        write(&file, GOOD.as_bytes());
        set_mode(&file, mode);
        chown(&file, Some(owner), Some(1000)).unwrap();
        let error = refused(&link).await;
        let OpenError::Exposed { todo, .. } = &error else { panic!("{error}") };
        let words = chain(&error);
        for part in [&format!("mode {mode:04o}"), &format!("user {owner}:"), "link", todo] {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert!(!words.contains(GOOD), "{words}");
        let typed = std::process::Command::new("sh").args(["-euc", todo]).status().unwrap();
        assert!(typed.success(), "{todo}");
        let error = refused(&file).await;
        assert!(matches!(error, OpenError::Store(StoreError::Unreachable { .. })), "{error}");
    }
    for mode in [0o400, 0o440, 0o640] {
        set_mode(&file, mode);
        let error = refused(&link).await;
        assert!(matches!(error, OpenError::Store(_)), "{mode:o}: {error}");
    }
}

#[tokio::test]
async fn a_token_file_that_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
        let error = refused(path).await;
        assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}

#[tokio::test]
async fn another_token_is_taken_without_opening_the_store_again() {
    let mut consul = start();
    let url = url(&consul, READER);
    let StoreUrl::Consul { token_file: Some(file), .. } = &url else { panic!("{url}") };
    let registry = Registry::open(&url, Defaults::default(), DEADLINE).await.unwrap();
    let (handle, wrong) = (registry.clone(), format!("{WRONG}\n"));
    let may_write = async |name| handle.create_network(spec(name, None)).await.is_ok();

    write(file, GOOD.as_bytes());
    assert!(!may_write("a").await, "nobody has asked for the other token");
    registry.renew().await.unwrap();
    assert!(may_write("a").await);

    // What does not work is not taken, nor is what is not safe.
    write(file, wrong.as_bytes());
    let error = registry.renew().await.unwrap_err();
    assert!(matches!(error, OpenError::Store(StoreError::Refused { .. })), "{error}");
    assert!(!format!("{error:?} {}", chain(&error)).contains(WRONG), "{error:?}");
    assert!(may_write("b").await);
    set_mode(file, 0o644);
    let error = registry.renew().await.unwrap_err();
    assert!(matches!(error, OpenError::Exposed { .. }), "{error}");
    std::fs::remove_file(file).unwrap();
    let error = registry.renew().await.unwrap_err();
    assert!(matches!(error, OpenError::File { .. }), "{error}");
    assert!(may_write("c").await);
    assert!(!format!("{registry:?}").contains(GOOD));

    // Nobody answers: nothing is known against what is in the file.
    consul.kill();
    write(file, READER.as_bytes());
    registry.renew().await.unwrap();
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
