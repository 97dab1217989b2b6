//! Machines that end with their test, and looks at what systemd, names, packets and the kernel say.
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use ovl_tests::kvstore::Kvstore;
use ovl_tests::machine::{CONTAINER_IMAGE, Image};
use ovl_tests::traffic::{self, Lookups, Packets, Running};
use ovl_tests::underlay::{Underlay, host_port};
use ovl_tests::{Lab, LabName, LabSpec, Machine, StoreKind, leftovers, spec, wait};
use serde_json::Value;

/// The unit of the agent.
pub(crate) const UNIT: &str = "ovl-agent";
/// The device over which agents probe the ways between them.
pub(crate) const PROBES: &str = "ovl-16777215";
/// The settings of the agent.
pub(crate) const SETTINGS: &str = "/etc/ovl/agent.toml";
/// The network of most tests.
pub(crate) const NETWORK: &str = "web";
/// How long an agent may take to be ready, with a store that answers.
pub(crate) const READY: Duration = Duration::from_secs(30);
/// How long what one machine announces may take to be in force on the other.
pub(crate) const SPREAD: Duration = Duration::from_secs(15);
/// The machines of tests with two.
pub(crate) const TWO: [&str; 2] = ["ant", "bee"];
/// The container on each of them.
pub(crate) const CONTAINERS: [&str; 2] = ["anna", "bert"];

/// Units whose journals a failed test shows, and how many lines of each.
const SHOWN: [(&str, usize); 2] = [(UNIT, 80), ("docker", 15)];
/// Of the streams between containers.
const STREAM_PORT: u16 = 9000;

/// A network with a Consul server and machines, that is taken down when the test ends, however it
/// ends.
pub(crate) struct Site {
    lab: Lab,
    machines: Vec<Machine>,
}

impl Site {
    /// Machines of this Debian, booted, without ovl.
    pub(crate) fn up(name: &str, machines: &[&str], image: Image) -> Self {
        let mut site = Self::bare(name, StoreKind::Consul);
        let start = |(index, machine): (usize, &&str)| {
            let machine = machine.parse().unwrap();
            Machine::start(&site.lab, &machine, index, image)
        };
        // The first is there when the second boots: the lab's lock takes them one after the other.
        let started: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> =
                machines.iter().enumerate().map(|one| scope.spawn(move || start(one))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for machine in started {
            site.machines.push(machine.unwrap_or_else(|error| panic!("{}", error.chain())));
        }
        site
    }

    /// A network without machines.
    pub(crate) fn bare(name: &str, store: StoreKind) -> Self {
        static SWEPT: OnceLock<()> = OnceLock::new();
        SWEPT.get_or_init(|| {
            let swept = leftovers::sweep();
            assert!(swept.is_ok(), "leftovers of an earlier run are in the way: {swept:?}");
        });
        let lab_name: LabName = format!("m-{name}-{}", std::process::id()).parse().unwrap();
        let spec = LabSpec {
            name: lab_name.clone(),
            hosts: Vec::new(),
            store,
            agents: false,
            owned: true,
        };
        let lab = Lab::up(&spec, &mut |_| {}).unwrap_or_else(|error| {
            let down = Lab::down(&lab_name);
            panic!("lab {name} did not come up: {}; down: {down:?}", error.chain())
        });
        Self { lab, machines: Vec::new() }
    }

    /// The lab around it.
    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Machines with ovl installed from a package, configured and ready.
    pub(crate) fn installed(
        name: &str,
        machines: &[&str],
        image: Image,
        package: &PathBuf,
    ) -> Self {
        let site = Self::up(name, machines, image);
        for machine in &*site {
            install(machine, package);
            configure(machine, &settings(&site));
        }
        // Together: each waits a while for the others.
        for machine in &*site {
            systemctl(machine, &["restart", "--no-block", UNIT]);
        }
        for machine in &*site {
            eventually("the end of a restart", READY, || {
                let jobs = systemctl(machine, &["list-jobs", "--no-legend"]);
                holds(jobs.is_empty(), jobs)
            });
            machine.wait_for_state(UNIT, "active", READY).unwrap();
            members(machine, site.len());
        }
        site
    }

    /// Two such machines, with a container on each on one network, that reach each other by name.
    pub(crate) fn with_containers(name: &str, image: Image, package: &PathBuf) -> Self {
        let site = Self::installed(name, &TWO, image, package);
        for machine in &*site {
            machine.import_image().unwrap();
        }
        docker(&site[0], &["network", "create", "-d", "ovl", "--ipam-driver", "ovl", NETWORK]);
        eventually("the network in the other Docker", SPREAD, || {
            let list = docker(&site[1], &["network", "ls", "--format", "{{.Name}}"]);
            holds(list.lines().any(|name| name == NETWORK), list)
        });
        for (machine, container) in site.iter().zip(CONTAINERS) {
            run_container(machine, container, &["--restart", "always"]);
        }
        site.reach_each_other();
        site
    }

    /// The Consul server.
    pub(crate) fn store(&self) -> Kvstore {
        self.lab.kvstore().unwrap()
    }

    /// Pulls a machine's cable (`false`), or plugs it in again.
    pub(crate) fn set_cable(&self, index: usize, up: bool) {
        let underlay = Underlay::open(self.lab.folder()).unwrap();
        underlay.set_link(&host_port(index), up).unwrap();
    }

    /// Waits until the two containers reach each other by name.
    pub(crate) fn reach_each_other(&self) {
        reaches(&self[0], CONTAINERS[0], CONTAINERS[1]);
        reaches(&self[1], CONTAINERS[1], CONTAINERS[0]);
    }

    /// 1,000 packets a second between the two containers, each way.
    pub(crate) fn streams(&self) -> [Running<Packets>; 2] {
        [(0, 1), (1, 0)].map(|(from, to)| {
            let to_address = SocketAddr::from((address(&self[to], CONTAINERS[to]), STREAM_PORT));
            let from = self[from].network_path_of_container(CONTAINERS[from]).unwrap();
            let to = self[to].network_path_of_container(CONTAINERS[to]).unwrap();
            traffic::packets(&from, &to, to_address).unwrap()
        })
    }

    /// A look-up every 10 ms of each container for the other.
    pub(crate) fn lookups(&self) -> [Running<Lookups>; 2] {
        [(0, 1), (1, 0)].map(|(from, to)| {
            let path = self[from].network_path_of_container(CONTAINERS[from]).unwrap();
            traffic::lookups(&path, CONTAINERS[to], address(&self[to], CONTAINERS[to])).unwrap()
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for machine in &self.machines {
                for (unit, lines) in SHOWN {
                    let tail = machine.journal_tail(unit, lines);
                    eprintln!("== journal of {unit} on {}:\n{tail}", machine.name());
                }
            }
        }
        let down = Lab::down(self.lab.name());
        if let Err(error) = down
            && !std::thread::panicking()
        {
            panic!("the machines were not taken down: {}", error.chain());
        }
    }
}

impl Deref for Site {
    type Target = [Machine];

    fn deref(&self) -> &[Machine] {
        &self.machines
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut [Machine] {
        &mut self.machines
    }
}

/// The package of the earlier version.
pub(crate) fn older() -> PathBuf {
    package("OVL_PACKAGE_OLDER")
}

/// The package of the later version.
pub(crate) fn newer() -> PathBuf {
    package("OVL_PACKAGE_NEWER")
}

fn package(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    let path =
        path.unwrap_or_else(|| panic!("{variable} names no package: use scripts/test-system"));
    PathBuf::from(path)
}

/// Settings with which the machines of a site are one cluster. Who is alone has nobody to join.
pub(crate) fn settings(site: &Site) -> String {
    let store = spec::kvstore_address();
    let mut text = format!("advertise = \"eth1\"\nstore = \"consul://{store}:8500\"\n");
    let addresses: Vec<_> =
        site.iter().map(|one| format!("{:?}", one.address().to_string())).collect();
    if addresses.len() > 1 {
        text.push_str(&format!("join = [{}]\n", addresses.join(", ")));
    }
    text
}

/// Writes the agent's settings, which it is not told of.
pub(crate) fn configure(machine: &Machine, text: &str) {
    machine.write(SETTINGS, text).unwrap();
}

/// `apt-get install ./FILE`, as a person would, and what it said.
pub(crate) fn install(machine: &Machine, package: &PathBuf) -> String {
    let inside = copy_package(machine, package);
    let argv = ["apt-get", "install", "-y", "--allow-downgrades", &inside];
    let outcome = machine.run(&argv).unwrap();
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    outcome.stdout + &outcome.stderr
}

/// Puts a package into a machine; answers its path there.
pub(crate) fn copy_package(machine: &Machine, package: &PathBuf) -> String {
    let inside = format!("/root/{}", package.file_name().unwrap().to_str().unwrap());
    machine.copy_in(package, &inside).unwrap();
    inside
}

/// Runs a command that must succeed; its standard output.
pub(crate) fn ok(machine: &Machine, argv: &[&str]) -> String {
    let outcome = machine.run(argv).unwrap();
    let command = &outcome.command;
    assert_eq!(
        outcome.code,
        Some(0),
        "`{command}` on {}: {}{}",
        machine.name(),
        outcome.stdout,
        outcome.stderr
    );
    outcome.stdout
}

/// `systemctl …`, which must succeed.
pub(crate) fn systemctl(machine: &Machine, args: &[&str]) -> String {
    ok(machine, &["systemctl"].iter().chain(args).copied().collect::<Vec<_>>())
}

/// `docker …`, which must succeed.
pub(crate) fn docker(machine: &Machine, args: &[&str]) -> String {
    ok(machine, &["docker"].iter().chain(args).copied().collect::<Vec<_>>())
}

/// `ovlctl … --json`.
pub(crate) fn ctl(machine: &Machine, args: &[&str]) -> Value {
    let argv: Vec<&str> = ["ovlctl"].iter().chain(args).chain(&["--json"]).copied().collect();
    serde_json::from_str(&ok(machine, &argv)).unwrap()
}

/// Starts a container on the network.
pub(crate) fn run_container(machine: &Machine, name: &str, options: &[&str]) {
    let mut args = vec!["run", "-d", "--network", NETWORK, "--name", name];
    args.extend(options);
    args.extend([CONTAINER_IMAGE, "sleep", "1000000"]);
    docker(machine, &args);
}

/// A container's address on the network.
pub(crate) fn address(machine: &Machine, container: &str) -> Ipv4Addr {
    machine.address_of(container, NETWORK).unwrap().parse().unwrap()
}

/// Waits until a container reaches another by name.
pub(crate) fn reaches(machine: &Machine, from: &str, to: &str) {
    eventually(&format!("{from} reaching {to}"), SPREAD, || {
        let argv = ["exec", from, "ping", "-c", "1", "-W", "1", to];
        let outcome = machine.docker(&argv).unwrap();
        holds(outcome.ok(), outcome.stdout + &outcome.stderr)
    });
}

/// Waits until an agent sees so many members alive.
pub(crate) fn members(machine: &Machine, expected: usize) {
    eventually(&format!("{expected} members on {}", machine.name()), SPREAD, || {
        let status = ctl(machine, &["status"]);
        let alive = status["members"]["alive"].as_u64();
        holds(alive == u64::try_from(expected).ok(), &status["members"])
    });
}

/// The names of the endpoints that an agent knows, sorted.
pub(crate) fn endpoints(machine: &Machine) -> Vec<String> {
    let list = ctl(machine, &["endpoint", "ls"]);
    let names = list.as_array().unwrap().iter();
    let mut names: Vec<_> = names.map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The interfaces of a machine, as the kernel lists them.
pub(crate) fn links(machine: &Machine) -> Vec<Value> {
    let list: Value = serde_json::from_str(&ok(machine, &["ip", "-d", "-j", "link"])).unwrap();
    list.as_array().unwrap().clone()
}

/// Names and numbers of ovl's devices in a machine.
pub(crate) fn devices(machine: &Machine) -> Vec<(String, u64)> {
    let of = |link: &Value| {
        let name = link["ifname"].as_str()?.to_owned();
        Some((name, link["ifindex"].as_u64()?))
    };
    let all = links(machine).iter().filter_map(of).collect::<Vec<_>>();
    // That of the probes carries nothing of containers, and goes with the last other host.
    all.into_iter().filter(|(name, _)| name.starts_with("ovl") && name != PROBES).collect()
}

/// Waits until the condition holds; fails with what was seen last.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    probe: impl FnMut() -> Result<T, String>,
) -> T {
    wait::until(what, limit, probe).unwrap_or_else(|error| panic!("{error}"))
}

/// `Ok` if it holds; else what was seen.
pub(crate) fn holds(condition: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if condition { Ok(()) } else { Err(format!("{seen:?}")) }
}

/// Ends streams of packets, none of which may be lost.
pub(crate) fn nothing_lost(what: &str, streams: [Running<Packets>; 2]) {
    for stream in streams {
        let Packets { sent, received, refused, longest_gap } = stream.finish().unwrap();
        println!("{what}: {received} of {sent} packets, longest gap {longest_gap:?}");
        assert!(sent > 0 && refused.is_empty(), "{what}: {refused:?}");
        assert_eq!(received, sent, "{what}: packets were lost; longest gap {longest_gap:?}");
    }
}

/// Ends look-ups, each of which must have been answered.
pub(crate) fn every_name_found(what: &str, lookups: [Running<Lookups>; 2]) {
    for one in lookups {
        let Lookups { asked, answered, failures, longest } = one.finish().unwrap();
        println!("{what}: {answered} of {asked} look-ups, longest {longest:?}");
        assert!(
            failures.is_empty(),
            "{what}: {} of {asked} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        assert!(asked > 0 && answered == asked, "{what}: {answered} of {asked}");
    }
}
