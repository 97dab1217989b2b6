//! A Consul server for each test that wants one, and short words for what tests do.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ovl_ipam::store::MemoryStore;
use ovl_ipam::{Defaults, Holder, Ipv6Spec, Network, NetworkSpec, Registry, StoreUrl, Wanted};

/// Bounds every call of a test that is to succeed, on a machine that is busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A Consul server on loopback with a port of its own; stops and cleans up when dropped.
pub(crate) struct Consul {
    child: Child,
    pub(crate) port: u16,
    pub(crate) dir: tempfile::TempDir,
}

impl Consul {
    /// A server in development mode.
    pub(crate) fn start() -> Consul {
        Consul::start_with("{}", |_| ())
    }

    /// The same with configuration of its own (JSON), and `prepare` run in its directory first.
    pub(crate) fn start_with(config: &str, prepare: impl Fn(&Path)) -> Consul {
        // Between finding free ports and listening on them somebody else may take one.
        let started = (0..5).find_map(|_| Consul::try_start(config, &prepare));
        started.expect("consul did not start in five tries")
    }

    fn try_start(config: &str, prepare: &impl Fn(&Path)) -> Option<Consul> {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let config_file = dir.path().join("config.json");
        std::fs::write(&config_file, config.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let [port, server, serf] = free_ports();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(binary())
            .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-node=test"])
            .args([format!("-http-port={port}"), format!("-server-port={server}")])
            .args([format!("-serf-lan-port={serf}")])
            .args(["-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1"])
            .arg(format!("-config-file={}", config_file.display()))
            .env_remove("CONSUL_HTTP_TOKEN")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut consul = Consul { child, port, dir };
        consul.wait_for_leader().then_some(consul)
    }

    pub(crate) fn url(&self) -> StoreUrl {
        format!("consul://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) async fn registry(&self) -> Registry {
        Registry::open(&self.url(), Defaults::default(), DEADLINE).await.unwrap()
    }

    /// Runs `consul` against this server.
    pub(crate) fn command(&self, args: &[&str]) -> String {
        output(self.client().args(args))
    }

    /// The same; whether it succeeded.
    pub(crate) fn tries(&self, args: &[&str]) -> bool {
        self.client().args(args).output().unwrap().status.success()
    }

    fn client(&self) -> Command {
        let mut command = Command::new(binary());
        command.env("CONSUL_HTTP_ADDR", format!("127.0.0.1:{}", self.port));
        command
    }

    /// Stops answering, as a server that is stalled, until [`Consul::resume`].
    pub(crate) fn stall(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        output(Command::new("kill").args([signal, &self.child.id().to_string()]));
    }

    fn wait_for_leader(&mut self) -> bool {
        let end = now() + START;
        while now() < end {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if std::fs::read_to_string(self.dir.path().join("log"))
                .unwrap()
                .contains("Synced node info")
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("consul has no leader after {START:?}: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        let mut log = String::new();
        let mut file = std::fs::File::open(self.dir.path().join("log")).unwrap();
        file.read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The real server; a test that cannot have one fails.
pub(crate) fn binary() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/consul");
    let path = std::env::var_os("OVL_CONSUL").map_or(tools, PathBuf::from);
    assert!(
        path.is_file(),
        "no consul at {}: run scripts/tools, or set OVL_CONSUL",
        path.display()
    );
    path
}

/// Ports that nobody listened on a moment ago, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|l| l.local_addr().unwrap().port())
}

#[expect(clippy::disallowed_methods, reason = "tests of real servers wait in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A registry on a file.
pub(crate) async fn sqlite(path: &Path) -> Registry {
    let url: StoreUrl = format!("sqlite://{}", path.display()).parse().unwrap();
    Registry::open(&url, Defaults::default(), DEADLINE).await.unwrap()
}

/// A registry on a store in memory, which stays in the hands of the test.
pub(crate) fn memory(store: &Arc<MemoryStore>) -> Registry {
    let store = Arc::<MemoryStore>::clone(store);
    Registry::with_store(store, "memory:".into(), Defaults::default(), DEADLINE)
}

pub(crate) fn spec(name: &str, subnet: Option<&str>) -> NetworkSpec {
    NetworkSpec {
        subnet: subnet.map(|s| s.parse().unwrap()),
        ..NetworkSpec::named(name.parse().unwrap())
    }
}

/// The same with IPv6.
pub(crate) fn spec6(name: &str, subnet: Option<&str>, subnet6: Option<&str>) -> NetworkSpec {
    let subnet6 = subnet6.map(|s| s.parse().unwrap());
    let ipv6 = Some(Ipv6Spec { subnet: subnet6, ..Ipv6Spec::default() });
    NetworkSpec { ipv6, ..spec(name, subnet) }
}

/// This address.
pub(crate) fn at(address: &str) -> Wanted {
    Wanted::Address(address.parse().unwrap())
}

/// What an address of a small IPv4 subnet ends with.
pub(crate) fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => panic!("{address} is not IPv4"),
    }
}

pub(crate) async fn network(registry: &Registry, name: &str, subnet: &str) -> Network {
    registry.create_network(spec(name, Some(subnet))).await.unwrap()
}

pub(crate) fn holder(node: &str, endpoint: &str) -> Holder {
    Holder { node: node.into(), endpoint: endpoint.into() }
}

/// An error with its causes, as the edge prints it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
