//! A real dockerd in namespaces of its own (mounts, network, host name, processes), and a driver
//! that hands out links that lead nowhere: enough for `docker network create -d ovl` and `docker run`.
//!
//! Everything dies with the namespaces' first process, which dies with the lab.
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use ovl_agent::docker::{
    Backend, ContainerEndpoint, CreateEndpoint, CreateEndpointReply, CreateNetwork, DockerNetwork,
    Engine, EngineEvent, IpamData, Join, JoinReply, LOCAL_ADDRESS_SPACE, PluginError, PluginServer,
    PoolReply, RequestAddress, RequestPool, Scope,
};
use tokio::sync::{mpsc, watch};

/// Where another Docker than the system's is unpacked, if one is to be tested; it may lean on the
/// system's `runc`.
const OTHER_DOCKER: &str = "OVL_TEST_DOCKER";

/// Longest wait for anything that dockerd is to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the namespaces run first: a `/run` of their own, as plugins are looked up there.
const INIT: &str = "mount --bind \"$1/run\" /run && hostname ovl-docker-lab && ip link set lo up \
                    && mkdir -p /run/docker/plugins && echo ready && exec sleep infinity";

/// A host with Docker.
pub(crate) struct Lab {
    directory: tempfile::TempDir,
    first: Child,
    /// The first process, as the machine numbers it.
    pid: u32,
    dockerd: Option<Child>,
    /// The driver behind the plugin socket.
    pub(crate) driver: Arc<Driver>,
    server: tokio::task::JoinHandle<()>,
}

impl Lab {
    /// Makes the namespaces and serves the plugin socket; dockerd is not started yet.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("ovl-docker-").tempdir().unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        let (first, pid) = namespaces(directory.path());
        let driver = Arc::new(Driver::new(pid));
        let socket = directory.path().join("run/docker/plugins/ovl.sock");
        let server = PluginServer::bind(&socket).await.unwrap();
        let server = tokio::spawn(server.serve(driver.clone(), std::future::pending()));
        Self { directory, first, pid, dockerd: None, driver, server }
    }

    /// Where the Engine API is, or will be.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// Starts dockerd and waits until it answers; containers of an earlier run go on.
    pub(crate) async fn start_dockerd(&mut self) {
        self.start_dockerd_with(&[]).await;
    }

    /// Starts dockerd with more arguments than the lab's own.
    pub(crate) async fn start_dockerd_with(&mut self, arguments: &[&str]) {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let mut command = inside(self.pid, &["-m", "-n", "-u", "-p"]);
        command.env("PATH", path());
        command.args(["dockerd", "--live-restore", "--storage-driver=vfs", "--bridge=none"]);
        command.args(["--iptables=false", "--ip6tables=false", "--userland-proxy=false"]);
        command.arg(format!("--cgroup-parent={}", self.cgroup()));
        command.args(["--data-root", &at("data"), "--exec-root", &at("run/docker-exec")]);
        command.args(["-H", &self.host(), "--pidfile", &at("dockerd.pid")]);
        command.args(arguments);
        let log = fs::File::options().create(true).append(true).open(at("dockerd.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.dockerd = Some(command.spawn().unwrap());
        let asked = async {
            while self.run(&["version"]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, asked).await.is_err() {
            panic!("dockerd does not start:\n{}", self.log());
        }
    }

    /// Writes a file into the lab's own folder; its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Stops dockerd as its service manager would.
    pub(crate) async fn stop_dockerd(&mut self) {
        let pid = fs::read_to_string(self.directory.path().join("dockerd.pid")).unwrap();
        let mut kill = inside(self.pid, &["-m", "-p"]);
        kill.args(["kill", "-TERM", pid.trim()]);
        finish(kill).await.unwrap();
        let mut dockerd = self.dockerd.take().unwrap();
        tokio::task::spawn_blocking(move || dockerd.wait()).await.unwrap().unwrap();
    }

    /// Makes the image `box`: busybox, and nothing else.
    pub(crate) async fn import_image(&self) {
        let root = self.directory.path().join("image");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "true"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let archive = self.directory.path().join("image.tar").display().to_string();
        let mut tar = Command::new("tar");
        tar.args(["-C", &root.display().to_string(), "-cf", &archive, "."]);
        finish(tar).await.unwrap();
        self.docker(&["import", &archive, "box"]).await;
    }

    /// Runs a docker command that must work; what it prints.
    pub(crate) async fn docker(&self, arguments: &[&str]) -> String {
        match self.run(arguments).await {
            Ok(output) => output,
            Err(error) => panic!("docker {arguments:?}: {error}\n{}", self.log()),
        }
    }

    /// Starts a container that sleeps; its id.
    pub(crate) async fn sleeper(&self, arguments: &[&str]) -> String {
        let run = [&["run", "-d"], arguments, &["box", "sleep", "1000"]].concat();
        self.docker(&run).await
    }

    /// Runs a docker command; what it prints, or why it failed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("timeout");
        command.args(["60", "docker", "-H", &self.host()]).args(arguments);
        command.env("PATH", path()).env("DOCKER_CONFIG", self.directory.path());
        finish(command).await
    }

    /// Whether the file exists as the lab's processes see it.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        let seen = path.strip_prefix("/").unwrap();
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        // /var/run is a link to /run, which would be resolved outside of the lab.
        let seen = seen.strip_prefix("var").unwrap_or(seen);
        root.join(seen).exists()
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("dockerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn cgroup(&self) -> String {
        format!("/ovl-docker-lab-{}", self.pid)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.abort();
        // The first process of the namespaces: the kernel kills the others with it.
        let _ = self.first.kill();
        let _ = self.first.wait();
        if let Some(dockerd) = &mut self.dockerd {
            let _ = dockerd.wait();
        }
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&controller.path().join(&self.cgroup()[1..]));
        }
        remove_cgroup(&Path::new("/sys/fs/cgroup").join(&self.cgroup()[1..]));
    }
}

/// Removes a control group and those below it; its processes are dead or dying.
fn remove_cgroup(path: &Path) {
    for below in fs::read_dir(path).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove_cgroup(&below.path());
        }
    }
    for _ in 0..100 {
        if !path.exists() || fs::remove_dir(path).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn namespaces(directory: &Path) -> (Child, u32) {
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "-n",
        "-u",
        "-p",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
        "sh",
        "-c",
    ]);
    command.arg(INIT).arg("sh").arg(directory);
    let mut outer = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(outer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "the namespaces cannot be made: root is needed");
    let children = format!("/proc/{0}/task/{0}/children", outer.id());
    let pid = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    (outer, pid)
}

fn path() -> String {
    let system = "/usr/sbin:/usr/bin:/sbin:/bin";
    match std::env::var(OTHER_DOCKER) {
        Ok(other) => format!("{other}/usr/sbin:{other}/usr/bin:{system}"),
        Err(_) => system.to_owned(),
    }
}

fn inside(pid: u32, namespaces: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string()]).args(namespaces).arg("--");
    command
}

async fn finish(mut command: Command) -> Result<String, String> {
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// A driver without a network: it hands out addresses, and links that lead nowhere.
pub(crate) struct Driver {
    /// Whose network namespace is dockerd's.
    pid: u32,
    /// Opened for as long as endpoints may leave: a test that closes it makes them hang.
    pub(crate) leaving: watch::Sender<bool>,
    /// Leaves under way.
    pub(crate) hung: watch::Sender<usize>,
    /// Endpoint id → network id, while it is joined.
    pub(crate) joined: Mutex<BTreeMap<String, String>>,
    /// What networks were created with.
    pub(crate) networks: Mutex<Vec<CreateNetwork>>,
    /// What was said of the dockerd that asked for the capabilities.
    pub(crate) cluster_stores: Mutex<Vec<bool>>,
    next: Mutex<u8>,
}

impl Driver {
    fn new(pid: u32) -> Self {
        Self {
            pid,
            leaving: watch::Sender::new(true),
            hung: watch::Sender::new(0),
            joined: Mutex::default(),
            networks: Mutex::default(),
            cluster_stores: Mutex::default(),
            next: Mutex::new(1),
        }
    }

    async fn ip(&self, arguments: &[&str]) -> Result<(), PluginError> {
        let mut command = inside(self.pid, &["-n"]);
        command.arg("ip").args(arguments);
        finish(command).await.map(drop).map_err(PluginError::internal)
    }
}

/// The address that is so many after the first one.
fn nth(first: IpAddr, nth: u8) -> IpAddr {
    match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + u32::from(nth)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(nth)).into(),
    }
}

fn link(endpoint: &str) -> String {
    format!("lab{}", &endpoint[..10])
}

#[async_trait]
impl Backend for Driver {
    async fn capabilities(&self, cluster_store: bool) -> Result<Scope, PluginError> {
        self.cluster_stores.lock().unwrap().push(cluster_store);
        Ok(Scope::Local)
    }

    async fn request_pool(&self, request: RequestPool) -> Result<PoolReply, PluginError> {
        let pool = request.pool.ok_or_else(|| PluginError::invalid("give --subnet"))?;
        Ok(PoolReply { pool_id: pool.to_string(), pool })
    }

    async fn release_pool(&self, _pool_id: String) -> Result<(), PluginError> {
        Ok(())
    }

    async fn request_address(&self, request: RequestAddress) -> Result<IpNet, PluginError> {
        let pool: IpNet = request.pool_id.parse().unwrap();
        let mut next = self.next.lock().unwrap();
        let free = nth(pool.network(), *next);
        *next += 1;
        Ok(IpNet::new(request.address.unwrap_or(free), pool.prefix_len()).unwrap())
    }

    async fn release_address(&self, _pool_id: String, _address: IpAddr) -> Result<(), PluginError> {
        Ok(())
    }

    async fn create_network(&self, request: CreateNetwork) -> Result<(), PluginError> {
        let ours = |data: &IpamData| data.address_space == LOCAL_ADDRESS_SPACE;
        if !request.ipv4.iter().chain(&request.ipv6).all(ours) {
            return Err(PluginError::invalid("add --ipam-driver ovl"));
        }
        self.networks.lock().unwrap().push(request);
        Ok(())
    }

    async fn delete_network(&self, _id: String) -> Result<(), PluginError> {
        Ok(())
    }

    async fn create_endpoint(
        &self,
        request: CreateEndpoint,
    ) -> Result<CreateEndpointReply, PluginError> {
        let [a, b, c, d] = request.address.unwrap().addr().octets();
        Ok(CreateEndpointReply { mac: Some([2, 0x42, a, b, c, d]) })
    }

    async fn delete_endpoint(&self, _network: String, endpoint: String) -> Result<(), PluginError> {
        let _ = self.ip(&["link", "del", &link(&endpoint)]).await;
        Ok(())
    }

    async fn join(&self, request: Join) -> Result<JoinReply, PluginError> {
        let src_name = link(&request.endpoint);
        self.ip(&["link", "add", &src_name, "type", "veth"]).await?;
        self.joined.lock().unwrap().insert(request.endpoint, request.network);
        Ok(JoinReply { src_name, dst_prefix: "eth".into(), disable_gateway_service: true })
    }

    async fn leave(&self, _network: String, endpoint: String) -> Result<(), PluginError> {
        self.hung.send_modify(|hung| *hung += 1);
        self.leaving.subscribe().wait_for(|open| *open).await.unwrap();
        self.hung.send_modify(|hung| *hung -= 1);
        self.joined.lock().unwrap().remove(&endpoint);
        Ok(())
    }
}

/// What the engine told, put together as its receiver would.
pub(crate) struct Told {
    /// The engine that tells.
    pub(crate) engine: Engine,
    events: mpsc::Receiver<EngineEvent>,
    /// `Connected` and `Lost`, in their order.
    pub(crate) links: Vec<EngineEvent>,
    /// Whole snapshots so far.
    pub(crate) snapshots: usize,
    /// Name → network, as told last.
    pub(crate) networks: BTreeMap<String, DockerNetwork>,
    /// How often networks were told.
    pub(crate) network_tells: usize,
    /// Container → its endpoints.
    pub(crate) containers: BTreeMap<String, Vec<ContainerEndpoint>>,
}

impl Told {
    /// Follows the Docker of a lab.
    pub(crate) fn follow(host: String) -> Self {
        let (engine, events) = Engine::follow(host, "ovl");
        Self {
            engine,
            events,
            links: Vec::new(),
            snapshots: 0,
            networks: BTreeMap::new(),
            network_tells: 0,
            containers: BTreeMap::new(),
        }
    }

    /// Takes events until the condition holds.
    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !condition(self) {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
            let Ok(event) = event else {
                panic!(
                    "not told: {what}\nlinks: {:#?}\nnetworks: {:#?}\ncontainers: {:#?}",
                    self.links, self.networks, self.containers
                );
            };
            self.take(event.expect("the engine ended"));
        }
    }

    fn take(&mut self, event: EngineEvent) {
        match event {
            EngineEvent::Connected { .. } | EngineEvent::Lost { .. } => self.links.push(event),
            EngineEvent::Networks(all) => {
                assert!(matches!(self.links.last(), Some(EngineEvent::Connected { .. })));
                self.network_tells += 1;
                let named = |network: DockerNetwork| (network.config.name.clone(), network);
                self.networks = all.into_iter().map(named).collect();
            }
            EngineEvent::Containers(all) => {
                assert!(self.network_tells > self.snapshots, "networks come first");
                self.snapshots += 1;
                self.containers.clear();
                for endpoint in all {
                    self.containers.entry(endpoint.container.clone()).or_default().push(endpoint);
                }
            }
            EngineEvent::Changed(endpoints) => {
                let container = endpoints.first().expect("at least one").container.clone();
                self.containers.insert(container, endpoints);
            }
            EngineEvent::Gone { container } => {
                self.containers.remove(&container).expect("was told before");
            }
        }
    }

    /// The names of a container that has one endpoint.
    pub(crate) fn names(&self, container: &str) -> Option<Vec<&str>> {
        match self.containers.get(container)?.as_slice() {
            [endpoint] => Some(endpoint.names.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}
