//! Hosts and containers: network namespaces that go with the test, also when it panics.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use ovl_vxlan::{
    Dataplane, Desired, DesiredNetwork, Home, IfName, LocalEndpoint, Mac, Remote, Report, netns,
};
use serde_json::Value;

pub(crate) const VNI: u32 = 5000;
pub(crate) const PORT: u16 = 4790;
pub(crate) const MTU: u16 = 1400;
pub(crate) const DEVICE: &str = "ovl-5000";
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);

/// A namespace: a host, or a container.
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ovlt{}-{number}-{role}", std::process::id());
        sh(&format!("ip netns add {name}"));
        Self { name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs a shell command inside, and returns what it prints.
    pub(crate) fn sh(&self, command: &str) -> String {
        sh(&format!("nsenter --net=/run/netns/{} {command}", self.name))
    }

    /// The same, but tells whether it succeeded.
    pub(crate) fn succeeds(&self, command: &str) -> bool {
        let command = format!("nsenter --net=/run/netns/{} {command}", self.name);
        shell(&command).status.success()
    }

    pub(crate) fn json(&self, command: &str) -> Value {
        let text = self.sh(command);
        // `bridge -j` prints nothing for an empty table.
        let text = if text.trim().is_empty() { "[]" } else { &text };
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{command}: {e}: {text}"))
    }

    /// `ip -j -d link` of one interface; `Null` when there is none.
    pub(crate) fn link(&self, name: &str) -> Value {
        let links = self.json("ip -j -d link show");
        let links = links.as_array().cloned().unwrap_or_default();
        let mut found = links.into_iter().filter(|l| l["ifname"] == name);
        found.next().unwrap_or(Value::Null)
    }

    pub(crate) fn ifindex(&self, name: &str) -> u64 {
        let link = self.link(name);
        link["ifindex"].as_u64().unwrap_or_else(|| panic!("no {name} in {}", self.name))
    }

    /// Names of all interfaces but those that every new namespace has.
    pub(crate) fn names(&self) -> Vec<String> {
        let links = self.json("ip -j link show");
        let names = links.as_array().unwrap().iter();
        let names = names.map(|l| l["ifname"].as_str().unwrap().to_owned());
        let fresh = fresh_names();
        names.filter(|n| !fresh.contains(n)).collect()
    }

    /// FDB rows as (MAC, VTEP), in order.
    pub(crate) fn fdb(&self, device: &str) -> Vec<(String, String)> {
        let rows = self.json(&format!("bridge -j fdb show dev {device}"));
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let rows = rows.as_array().unwrap().iter();
        let mut rows: Vec<_> = rows
            .inspect(|r| assert_eq!(r["state"], "permanent", "{r}"))
            .map(|r| (text(&r["mac"]), text(&r["dst"])))
            .collect();
        rows.sort();
        rows
    }

    /// Permanent neighbour rows as (address, MAC), in order.
    pub(crate) fn neighbours(&self, device: &str) -> Vec<(String, String)> {
        self.neighbours_of("-4", device)
    }

    /// The same for IPv6.
    pub(crate) fn neighbours6(&self, device: &str) -> Vec<(String, String)> {
        self.neighbours_of("-6", device)
    }

    fn neighbours_of(&self, family: &str, device: &str) -> Vec<(String, String)> {
        let rows = self.json(&format!("ip {family} -j neigh show dev {device} nud permanent"));
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let rows = rows.as_array().unwrap().iter();
        let mut rows: Vec<_> = rows.map(|r| (text(&r["dst"]), text(&r["lladdr"]))).collect();
        rows.sort();
        rows
    }

    /// IPv4 addresses of an interface, as `a.b.c.d/n`.
    pub(crate) fn addresses(&self, ifname: &str) -> Vec<String> {
        let found = self.json(&format!("ip -4 -j address show dev {ifname}"));
        let infos = found[0]["addr_info"].as_array().cloned().unwrap_or_default();
        let address = |i: &Value| format!("{}/{}", i["local"].as_str().unwrap(), i["prefixlen"]);
        infos.iter().map(address).collect()
    }

    /// IPv6 addresses of an interface but the link-local ones, as `a::b/n`. None of them is tentative
    /// or a duplicate.
    pub(crate) fn addresses6(&self, ifname: &str) -> Vec<String> {
        let found = self.json(&format!("ip -6 -j address show dev {ifname}"));
        let mut infos = found[0]["addr_info"].as_array().cloned().unwrap_or_default();
        infos.retain(|i| i["scope"] == "global");
        for flag in ["tentative", "dadfailed"] {
            assert!(infos.iter().all(|i| i.get(flag).is_none()), "{flag}: {infos:?}");
        }
        let address = |i: &Value| format!("{}/{}", i["local"].as_str().unwrap(), i["prefixlen"]);
        infos.iter().map(address).collect()
    }

    pub(crate) fn is_up(&self, ifname: &str) -> bool {
        let link = self.link(ifname);
        let flags = link["flags"].as_array().cloned().unwrap_or_default();
        flags.contains(&Value::from("UP"))
    }

    pub(crate) fn pings(&self, address: &str) -> bool {
        self.succeeds(&format!("ping -q -c 2 -i 0.05 -W 2 {address}"))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // All of what is inside goes with it. Once gone by the test's own hand is fine.
        let _ = shell(&format!("ip netns del {}", self.name));
    }
}

/// Two hosts on one underlay, 192.0.2.1 and 192.0.2.2.
pub(crate) fn two_hosts() -> (Netns, Netns) {
    let (a, b) = (Netns::new("a"), Netns::new("b"));
    sh(&format!("ip link add u0 netns {} type veth peer name u0 netns {}", a.name, b.name));
    for (host, address) in [(&a, VTEP_A), (&b, VTEP_B)] {
        host.sh("ip link set lo up");
        host.sh(&format!("ip address add {address}/24 dev u0"));
        host.sh("ip link set u0 up");
    }
    (a, b)
}

pub(crate) const VTEP_A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const VTEP_B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A dataplane on a thread in a host's namespace, as the agent would run it there.
pub(crate) struct Agent {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

type Job = Box<dyn FnOnce(&tokio::runtime::Runtime, &mut Dataplane) + Send>;
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl Agent {
    pub(crate) fn start(host: &Netns) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let path = host.path();
        let thread = thread::spawn(move || {
            netns::run(&path, move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let mut dataplane = runtime.block_on(Dataplane::open()).unwrap();
                while let Ok(job) = inbox.recv() {
                    job(&runtime, &mut dataplane);
                }
            })
            .unwrap();
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    pub(crate) fn call<T: Send + 'static>(
        &self,
        f: impl for<'a> FnOnce(&'a mut Dataplane) -> Work<'a, T> + Send + 'static,
    ) -> T {
        let (sender, receiver) = mpsc::channel();
        let job: Job = Box::new(move |runtime, dataplane| {
            let _ = sender.send(runtime.block_on(f(dataplane)));
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        receiver.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    pub(crate) fn apply(&self, desired: &Desired) -> Report {
        let desired = desired.clone();
        self.call(move |d| Box::pin(async move { d.apply(&desired).await }))
    }

    pub(crate) fn audit(&self, desired: &Desired) -> Report {
        let desired = desired.clone();
        self.call(move |d| Box::pin(async move { d.audit(&desired).await }))
    }

    /// Applies, and says what went wrong.
    pub(crate) fn settle(&self, desired: &Desired) -> Report {
        let report = self.apply(desired);
        assert!(report.is_ok() && report.gone.is_empty(), "{report:#?}");
        report
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.call(|d| Box::pin(async move { d.warnings().to_vec() }))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(thread::panicking() || result.is_ok());
        }
    }
}

pub(crate) fn desired(network: &DesiredNetwork) -> Desired {
    Desired { networks: [(network.vni, network.clone())].into() }
}

pub(crate) fn network(local: Ipv4Addr) -> DesiredNetwork {
    DesiredNetwork {
        name: "rethinkdb".to_owned(),
        vni: VNI,
        local,
        port: PORT,
        mtu: MTU,
        endpoints: [].into(),
        remotes: [].into(),
        settled: true,
    }
}

/// The address 10.88.`n`/16, as (high, low) byte.
pub(crate) fn address(n: u16) -> Ipv4Addr {
    let [high, low] = n.to_be_bytes();
    Ipv4Addr::new(10, 88, high, low)
}

pub(crate) fn endpoint(n: u16, home: Home) -> LocalEndpoint {
    LocalEndpoint {
        mac: Mac::from_ipv4(address(n)),
        address: Ipv4Net::new(address(n), 16).unwrap(),
        address6: None,
        home,
    }
}

/// The address fd00:88::`n`/64.
pub(crate) fn address6(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, n)
}

/// The endpoint with both families.
pub(crate) fn dual(n: u16, endpoint: LocalEndpoint) -> LocalEndpoint {
    LocalEndpoint { address6: Some(Ipv6Net::new(address6(n), 64).unwrap()), ..endpoint }
}

pub(crate) fn in_sandbox(n: u16, sandbox: &Netns) -> LocalEndpoint {
    let home =
        Home::Sandbox { netns: sandbox.path(), ifname: ifname("eth0"), resolver: Some(RESOLVER) };
    endpoint(n, home)
}

pub(crate) fn handover(n: u16, name: &str) -> LocalEndpoint {
    let home = Home::Handover { ifname: ifname(name) };
    endpoint(n, home)
}

pub(crate) fn remote(n: u16, vtep: Ipv4Addr) -> (IpAddr, Remote) {
    let mac = Mac::from_ipv4(address(n));
    (address(n).into(), Remote { mac, vtep })
}

/// Both addresses of a remote endpoint.
pub(crate) fn dual_remote(n: u16, vtep: Ipv4Addr) -> [(IpAddr, Remote); 2] {
    let (address, remote) = remote(n, vtep);
    [(address, remote), (address6(n).into(), remote)]
}

pub(crate) fn ifname(name: &str) -> IfName {
    name.parse().unwrap()
}

pub(crate) fn mac(n: u16) -> String {
    Mac::from_ipv4(address(n)).to_string()
}

/// Runs a shell command, and returns what it prints. It has to succeed.
pub(crate) fn sh(command: &str) -> String {
    let output = shell(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every wait in a test has an end.
fn shell(command: &str) -> std::process::Output {
    Command::new("timeout").args(["30", "sh", "-c", command]).output().unwrap()
}

/// Kernels put fallback devices into each new namespace, depending on what is built in.
fn fresh_names() -> &'static [String] {
    static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    NAMES.get_or_init(|| {
        let fresh = Netns::new("fresh");
        let links = fresh.json("ip -j link show");
        let names = links.as_array().unwrap().iter();
        names.map(|l| l["ifname"].as_str().unwrap().to_owned()).collect()
    })
}

/// Asks again and again; the condition has to come true in time.
pub(crate) fn wait_until(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let interval = Duration::from_millis(10);
    for _ in 0..deadline.as_millis() / interval.as_millis() {
        if condition() {
            return;
        }
        thread::sleep(interval);
    }
    panic!("condition did not come true within {deadline:?}");
}
