//! Real namespaces for the tests: each test is a host of its own, with sandboxes beside it.
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::super::RESOLVER_ADDRESS;

/// No test takes longer, whatever hangs.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Runs a test on a thread in a network namespace of its own, with `lo` up: the host. Whatever
/// the test binds or sends stays in there.
pub(super) fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let host = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(TEST_LIMIT, test()).await.expect("in time") });
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command; its output when it succeeds.
pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for a condition, ten seconds at most.
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A container's network namespace with the resolver's address on its `lo`; gone when dropped.
#[derive(Debug)]
pub(super) struct SandboxNetns {
    name: String,
}

impl SandboxNetns {
    pub(super) fn new() -> SandboxNetns {
        let sandbox = SandboxNetns::without_address();
        let address = format!("{RESOLVER_ADDRESS}/32");
        run("ip", &["-n", &sandbox.name, "addr", "add", &address, "dev", "lo"]);
        sandbox
    }

    pub(super) fn without_address() -> SandboxNetns {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ovl-dns-{}-{count}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let sandbox = SandboxNetns { name };
        run("ip", &["-n", &sandbox.name, "link", "set", "lo", "up"]);
        sandbox
    }

    /// Another namespace takes its place at the same path; sockets keep the first one alive.
    pub(super) fn replaced(self) -> SandboxNetns {
        run("ip", &["netns", "del", &self.name]);
        run("ip", &["netns", "add", &self.name]);
        run("ip", &["-n", &self.name, "link", "set", "lo", "up"]);
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// What `dig` prints inside, asked with these words. One try, six seconds.
    pub(super) async fn dig(&self, words: &str) -> String {
        self.dig_at(RESOLVER_ADDRESS, words).await
    }

    /// The same, asking another server.
    pub(super) async fn dig_at(&self, server: Ipv4Addr, words: &str) -> String {
        let net = format!("--net=/run/netns/{}", self.name);
        let server = format!("@{server}");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || {
            let mut arguments = vec![&*net, "dig", &*server, "+tries=1", "+time=6"];
            arguments.extend(words.iter().map(String::as_str));
            run("nsenter", &arguments)
        })
        .await
        .unwrap()
    }

    /// The lines of `dig +short`.
    pub(super) async fn dig_short(&self, words: &str) -> BTreeSet<String> {
        self.dig(&format!("+short {words}")).await.lines().map(str::to_owned).collect()
    }

    /// A client's UDP socket inside, connected to the resolver.
    pub(super) fn udp(&self) -> UdpSocket {
        self.udp_to(RESOLVER_ADDRESS)
    }

    /// The same, connected to another server.
    pub(super) fn udp_to(&self, server: Ipv4Addr) -> UdpSocket {
        let socket = self.inside(move || {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect((server, 53)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        UdpSocket::from_std(socket).unwrap()
    }

    /// A client's TCP connection inside, to the resolver.
    pub(super) fn tcp(&self) -> tokio::net::TcpStream {
        self.tcp_to(RESOLVER_ADDRESS)
    }

    /// The same, to another server.
    pub(super) fn tcp_to(&self, server: Ipv4Addr) -> tokio::net::TcpStream {
        let stream = self.inside(move || {
            let stream = std::net::TcpStream::connect((server, 53)).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        });
        tokio::net::TcpStream::from_std(stream).unwrap()
    }

    /// Runs a command inside.
    pub(super) fn run(&self, command: &str) {
        let net = format!("--net=/run/netns/{}", self.name);
        let words: Vec<&str> = [&*net].into_iter().chain(command.split(' ')).collect();
        run("nsenter", &words);
    }

    pub(super) fn inside<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        ovl_vxlan::netns::run(&self.path(), f).unwrap()
    }
}

impl Drop for SandboxNetns {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("the namespace {} may be left over", self.name);
        }
    }
}
