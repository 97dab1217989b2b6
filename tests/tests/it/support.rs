//! Labs that end with their test, and looks at what names, packets and the kernel say.
use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use ovl_tests::{Container, Host, Lab, LabName, LabSpec, Outcome, StoreKind, leftovers, wait};
use serde_json::Value;

/// Labs at once: each is a few daemons, and most of its time is waiting.
const SLOTS: usize = 2;
/// How long a test waits for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(900);
/// How long what one host announces may take to be in force on the others.
pub(crate) const SPREAD: Duration = Duration::from_secs(10);
/// How long a host that vanished may go on being listed: detection takes some probe rounds.
pub(crate) const FAILURE: Duration = Duration::from_secs(60);

/// The device over which agents probe the ways between them: it is on every host that knows another.
pub(crate) const PROBES: &str = "ovl-16777215";

/// The hosts of most tests.
pub(crate) const THREE: [&str; 3] = ["bee-1", "bee-2", "bee-3"];

/// A lab that is taken down when the test ends, however it ends.
pub(crate) struct TestLab {
    lab: Lab,
    _turn: File,
}

impl TestLab {
    /// Hosts with agents that see each other.
    pub(crate) fn up(name: &str, hosts: &[&str], store: StoreKind) -> Self {
        Self::build(name, hosts, store, true)
    }

    /// Hosts without agents.
    pub(crate) fn bare(name: &str, hosts: &[&str]) -> Self {
        Self::build(name, hosts, StoreKind::Sqlite, false)
    }

    fn build(name: &str, hosts: &[&str], store: StoreKind, agents: bool) -> Self {
        let turn = take_turn();
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let mut spec = LabSpec::new(unique(name), hosts, store).unwrap();
        spec.owned = true;
        spec.agents = agents;
        match Lab::up(&spec, &mut |line| eprintln!("{name}: {line}")) {
            Ok(lab) => Self { lab, _turn: turn },
            Err(error) => {
                if let Ok(lab) = Lab::open(&spec.name) {
                    show_logs(&lab);
                }
                let down = Lab::down(&spec.name);
                panic!("lab {name} did not come up: {}; down: {down:?}", error.chain());
            }
        }
    }
}

impl Deref for TestLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(&self.lab);
        }
        let down = Lab::down(self.lab.name());
        if let Err(error) = down
            && !std::thread::panicking()
        {
            panic!("the lab was not taken down: {}", error.chain());
        }
    }
}

/// A lab's name that no other run uses.
pub(crate) fn unique(name: &str) -> LabName {
    format!("t-{name}-{}", std::process::id()).parse().unwrap()
}

/// Waits for one of the slots, whichever runner started the tests; sweeps what killed runs left.
pub(crate) fn take_turn() -> File {
    static SWEPT: OnceLock<()> = OnceLock::new();
    SWEPT.get_or_init(|| {
        let swept = leftovers::sweep();
        assert!(swept.is_ok(), "leftovers of an earlier run are in the way: {swept:?}");
    });
    let path = |slot| -> PathBuf { std::env::temp_dir().join(format!("ovl-tests-{slot}.lock")) };
    eventually("a turn of this test", TURN_LIMIT, || {
        (0..SLOTS)
            .filter_map(|slot| File::create(path(slot)).ok())
            .find(|file| file.try_lock().is_ok())
            .ok_or_else(|| format!("{SLOTS} labs are up"))
    })
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

/// What `ovlctl` answers; fails with its sentence.
pub(crate) fn ctl(host: &Host, args: &[&str]) -> Value {
    host.ctl_json(args).unwrap_or_else(|error| panic!("ovlctl {args:?}: {}", error.chain()))
}

/// `ovlctl` must say no: with `code`, in one sentence that holds every word of `words`.
pub(crate) fn refused(host: &Host, args: &[&str], code: i32, words: &[&str]) {
    let outcome = host.ctl(args).unwrap();
    one_sentence(&outcome, code, words);
}

/// The program must have failed with `code`, and said so in one line that holds all `words`.
pub(crate) fn one_sentence(outcome: &Outcome, code: i32, words: &[&str]) {
    let said = outcome.stderr.trim();
    let command = &outcome.command;
    assert_eq!(outcome.code, Some(code), "`{command}` said {said:?}");
    assert_eq!(said.lines().count(), 1, "`{command}` said more than a sentence: {said:?}");
    assert!(!said.contains("panicked"), "`{command}` panicked: {said:?}");
    for word in words {
        assert!(said.contains(word), "`{command}` does not name {word:?}: {said:?}");
    }
}

/// What `ovlctl doctor --only …` finds on a host.
pub(crate) fn findings(host: &Host, only: &str) -> Vec<Value> {
    let outcome = host.ctl(&["--json", "doctor", "--only", only]).unwrap();
    let examination =
        outcome.json().unwrap_or_else(|e| panic!("{}: {}", e.chain(), outcome.stderr));
    examination["findings"].as_array().cloned().unwrap_or_default()
}

/// Of these, the warnings and failures.
pub(crate) fn troubles(host: &Host, only: &str) -> Vec<Value> {
    let bad = |finding: &Value| finding["verdict"] == "warn" || finding["verdict"] == "fail";
    findings(host, only).into_iter().filter(bad).collect()
}

/// The endpoints that a host knows, sorted by name.
pub(crate) fn endpoints(host: &Host) -> Vec<Value> {
    let mut endpoints = ctl(host, &["endpoint", "ls"]).as_array().cloned().unwrap_or_default();
    endpoints.sort_by_key(|endpoint| text(&endpoint["name"]));
    endpoints
}

/// The names of the endpoints that a host knows, sorted.
pub(crate) fn endpoint_names(host: &Host) -> Vec<String> {
    endpoints(host).iter().map(|endpoint| text(&endpoint["name"])).collect()
}

/// The endpoint of this name, as a host knows it.
pub(crate) fn endpoint(host: &Host, name: &str) -> Value {
    let all = endpoints(host);
    let found = all.iter().find(|endpoint| endpoint["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("{} does not list {name}: {all:?}", host.name()))
}

/// The address that a container finds under a name, once it finds one.
pub(crate) fn address_of(container: &Container, name: &str) -> String {
    eventually(&format!("{} resolving {name}", container.name()), SPREAD, || {
        ovl_tests::names::resolve(container, name)
            .map(|(address, _)| address.to_string())
            .map_err(|error| error.to_string())
    })
}

/// The first container reaches the second by its name.
pub(crate) fn pings(from: &Container, name: &str) {
    address_of(from, name);
    let argv = ["ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", name];
    let outcome = from.run(&argv).unwrap();
    assert!(
        outcome.stdout.contains(" 3 received"),
        "{} does not reach {name}: {} {}",
        from.name(),
        outcome.stdout,
        outcome.stderr
    );
}

/// VNI of a network.
pub(crate) fn vni(host: &Host, network: &str) -> u64 {
    let detail = ctl(host, &["network", "inspect", network]);
    detail["vni"].as_u64().unwrap_or_else(|| panic!("no vni in {detail}"))
}

/// `ip -j -d link` of a device in a host; None when there is none.
pub(crate) fn link(host: &Host, device: &str) -> Option<Value> {
    let outcome = host.run(&["ip", "-j", "-d", "link", "show", "dev", device]).unwrap();
    outcome.ok().then(|| outcome.json().unwrap()[0].clone())
}

/// The network devices of a host, but for the lab's own.
pub(crate) fn devices(host: &Host) -> Vec<String> {
    let links = json(host, &["ip", "-j", "link", "show"]);
    let names = links.iter().map(|link| text(&link["ifname"]));
    names.filter(|name| name != "lo" && name != "eth1" && name != PROBES).collect()
}

/// The FDB rows of a device that lead to another VTEP, as `MAC VTEP`.
pub(crate) fn fdb(host: &Host, device: &str) -> Vec<String> {
    let rows = json(host, &["bridge", "-j", "fdb", "show", "dev", device]);
    let remote = rows.iter().filter(|row| row["dst"].is_string());
    remote.map(|row| format!("{} {}", text(&row["mac"]), text(&row["dst"]))).collect()
}

/// The permanent neighbour rows of a device, as `IP MAC`.
pub(crate) fn neighbours(host: &Host, device: &str) -> Vec<String> {
    let rows = json(host, &["ip", "-j", "neigh", "show", "dev", device, "nud", "permanent"]);
    rows.iter().map(|row| format!("{} {}", text(&row["dst"]), text(&row["lladdr"]))).collect()
}

/// A JSON list that a program of the host prints.
pub(crate) fn json(host: &Host, argv: &[&str]) -> Vec<Value> {
    let outcome = host.run(argv).unwrap().require().unwrap_or_else(|error| panic!("{error}"));
    // iproute2 prints nothing at all for some empty lists.
    if outcome.stdout.trim().is_empty() {
        return Vec::new();
    }
    outcome.json().unwrap().as_array().cloned().unwrap_or_default()
}

/// A JSON string, or nothing.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn show_logs(lab: &Lab) {
    for host in lab.host_names() {
        for log in ["agent.log", "dockerd.log"] {
            let file = lab.folder().join(host).join(log);
            let Ok(bytes) = std::fs::read(&file) else {
                continue;
            };
            let all = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = all.lines().collect();
            eprintln!("--- the end of {log} of {host}");
            eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}
