//! One thing is broken for real, and `ovlctl doctor` names it, and nothing else.
mod store;

use std::time::Duration;

use ovl_tests::{Host, StoreKind, exec};
use serde_json::Value;

use crate::support::{FAILURE, SPREAD, THREE, TestLab, ctl, eventually, holds, text, vni};

/// What cannot be looked at in a lab: no systemd started its agents, and the limits of neighbours are those
/// of the machine's own network namespace.
const LACKING: [&str; 2] = ["net.neighbours (IPv4)", "net.neighbours (IPv6)"];

/// Exit codes of `ovlctl doctor`.
const UNCHECKED: i32 = 2;
const FAIL: i32 = 4;

/// An operator waits no longer for what is wrong.
const SOON: Duration = Duration::from_secs(30);

/// What one run of `ovlctl doctor --json` said.
pub(crate) struct Report {
    code: Option<i32>,
    took: Duration,
    findings: Vec<Value>,
}

impl Report {
    pub(crate) fn of(host: &Host, args: &[&str]) -> Report {
        let all = [&["--json", "doctor"], args].concat();
        let outcome = host.ctl(&all).unwrap_or_else(|error| panic!("{}", error.chain()));
        let answer =
            outcome.json().unwrap_or_else(|error| panic!("{}: {outcome:?}", error.chain()));
        let findings = answer["findings"].as_array().cloned().unwrap_or_default();
        assert!(!findings.is_empty(), "{outcome:?}");
        Report { code: outcome.code, took: outcome.took, findings }
    }

    /// Check and subject of those with that verdict.
    pub(crate) fn with(&self, verdict: &str) -> Vec<String> {
        let of_it = self.findings.iter().filter(|finding| finding["verdict"] == verdict);
        let named = of_it.map(|finding| match finding["subject"].as_str() {
            Some(subject) => format!("{} ({subject})", text(&finding["check"])),
            None => text(&finding["check"]),
        });
        named.collect()
    }

    /// The one finding of a check that is not fine.
    fn of_check(&self, check: &str) -> &Value {
        let found = self.findings.iter().find(|f| f["check"] == check && f["verdict"] != "ok");
        found.unwrap_or_else(|| panic!("{check} is fine: {self}"))
    }

    /// These fail and no others, no warning is given but of `warned`, and the exit code says so.
    #[track_caller]
    pub(crate) fn fails_only(&self, failed: &[&str], warned: &[&str]) {
        assert_eq!(self.with("fail"), failed, "{self}");
        let warnings = self.with("warn");
        let unexpected = warnings.iter().find(|warning| !warned.contains(&warning.as_str()));
        assert_eq!(unexpected, None, "{self}");
        assert_eq!(self.code, Some(FAIL), "{self}");
        assert!(self.took < SOON, "it took {:?}", self.took);
    }

    /// The sentence, the evidence and the fix of a check have all these words.
    #[track_caller]
    pub(crate) fn says(&self, check: &str, words: &[&str]) {
        let found = self.of_check(check).to_string();
        for word in words {
            assert!(found.contains(word), "{word} in {found}");
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let amiss = self.findings.iter().filter(|finding| finding["verdict"] != "ok");
        amiss.into_iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

#[test]
fn a_healthy_cluster_has_nothing_to_tell() {
    let lab = TestLab::up("doctor", &THREE, StoreKind::Consul);
    let hosts = lab.hosts().unwrap();
    create(&hosts[0], &["net", "--ipv6"]);
    lab.attach("bee-1", "net", "one").unwrap();
    lab.attach("bee-2", "net", "two").unwrap();
    for host in &hosts {
        let report = Report::of(host, &[]);
        assert_eq!(report.with("fail"), [""; 0], "{report}");
        assert_eq!(report.with("warn"), [""; 0], "{report}");
        assert_eq!(report.with("unchecked"), LACKING, "{report}");
        assert_eq!(report.code, Some(UNCHECKED));
    }
    // For people: what is fine is a line, and nothing goes beyond 80 columns.
    let said = hosts[0].ctl(&["doctor"]).unwrap();
    assert_eq!(said.code, Some(UNCHECKED), "{said:?}");
    assert!(said.stdout.contains("findings are fine"), "{said:?}");
    assert!(
        said.stdout.lines().count() < 8 && said.stdout.lines().all(|l| l.chars().count() <= 80)
    );
    assert!(!said.stdout.contains('\u{1b}'), "colours in a pipe: {said:?}");
    let one = hosts[0].ctl(&["doctor", "--only", "kernel.version,ports"]).unwrap();
    assert_eq!(one.code, Some(0), "{one:?}");
    let unknown = hosts[0].ctl(&["doctor", "--only", "kernel.versio"]).unwrap();
    crate::support::one_sentence(&unknown, 64, &["kernel.versio", "kernel.version, "]);
}

#[test]
fn a_foreign_device_on_the_vni_is_named_before_and_after_it_is_in_the_way() {
    let lab = TestLab::up("doctor-vni", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    create(&hosts[0], &["net"]);
    let device = format!("ovl-{}", vni(&hosts[0], "net"));
    let add = format!(
        "ip link add vx0 type vxlan id {} dstport 4789 && ip link set vx0 up",
        &device[4..]
    );
    hosts[0].run(&["sh", "-c", &add]).unwrap().require().unwrap();
    let before = Report::of(&hosts[0], &[]);
    before.fails_only(&["vxlan.foreign (vx0)"], &[]);
    before.says("vxlan.foreign", &["network net", "ip link del vx0"]);

    lab.attach("bee-1", "net", "one").unwrap_err();
    let after = Report::of(&hosts[0], &[]);
    after.fails_only(&["vxlan.foreign (vx0)"], &[]);

    // As Swarm does it: made here, and moved to a namespace of its own.
    let moved = format!(
        "ip link del vx0; ip netns add side; ip link add vx1 type vxlan id {} dstport 4789; \
         ip link set vx1 netns side",
        &device[4..]
    );
    hosts[0].run(&["sh", "-c", &moved]).unwrap().require().unwrap();
    let moved = Report::of(&hosts[0], &[]);
    moved.fails_only(&["vxlan.foreign (vx1)"], &[]);
    moved.says("vxlan.foreign", &["/run/netns/side"]);
    hosts[0].run(&["ip", "netns", "del", "side"]).unwrap().require().unwrap();
    eventually("an attach after the device went", SPREAD, || {
        lab.attach("bee-1", "net", "two").map(drop).map_err(|error| error.chain())
    });
    assert_eq!(Report::of(&hosts[0], &[]).with("fail"), [""; 0]);
}

#[test]
fn a_frozen_and_a_stopped_agent_are_seen_from_outside() {
    let lab = TestLab::up("doctor-agent", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    create(&hosts[0], &["net"]);
    lab.attach("bee-1", "net", "one").unwrap();

    hosts[0].freeze_agent().unwrap();
    let frozen = Report::of(&hosts[0], &[]);
    frozen.fails_only(&["agent.running"], &[]);
    frozen.says("agent.running", &["is frozen", "kill -CONT", "State T"]);
    hosts[0].thaw_agent().unwrap();

    // Where the next agent would find its settings; those of this one end with it.
    let lines = format!(
        "advertise = \"eth1\"\nstore = \"{}\"\n",
        text(&ctl(&hosts[1], &["status"])["store"]["url"])
    );
    configure(&hosts[0], &lines);
    eventually("bee-1 answering again", SPREAD, || hosts[0].agent_answer().map(drop));
    hosts[0].kill_agent().unwrap();
    let killed = Report::of(&hosts[0], &[]);
    killed.fails_only(&["agent.running"], &[]);
    killed.says("agent.running", &["no process `ovl-agent`"]);
    // From the other side: the host is away, which this host cannot mend.
    eventually("bee-2 missing bee-1", FAILURE, || {
        let report = Report::of(&hosts[1], &["--only", "cluster"]);
        holds(report.with("warn") == ["cluster.members (bee-1)"], report.to_string())
    });
}

#[test]
fn what_keeps_an_agent_from_starting_is_named_before_it_is_started() {
    let lab = TestLab::bare("doctor-start", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    configure(&host, "advertise = \"eth1\"\ngossip-port = 99999\nvxlan-prt = 4789\n");
    let mistakes = Report::of(&host, &[]);
    mistakes.fails_only(&["agent.running"], &[]);
    mistakes.says("agent.running", &["configuration has mistakes", "99999", "vxlan-prt"]);

    configure(&host, "advertise = \"eth1\"\n");
    let ready = Report::of(&host, &[]);
    ready.fails_only(&["agent.running"], &[]);

    // A Consul with its gossip where ours is to be.
    let address = host.address().to_string();
    let consul = ["consul", "agent", "-dev", "-bind", &address, "-serf-lan-port=7946"];
    let (log, record) = (host.folder().join("run/consul.log"), host.folder().join("consul"));
    host.sandbox().spawn("Consul", &consul, &log, &record).unwrap();
    eventually("the port being taken", SPREAD, || {
        let report = Report::of(&host, &["--only", "ports"]);
        holds(report.with("fail") == ["ports.gossip-udp"], report.to_string())
    });
    let taken = Report::of(&host, &[]);
    taken.fails_only(&["ports.gossip-udp"], &[]);
    taken.says("ports.gossip-udp", &[&format!("{address}:7946"), "`consul`"]);
    taken.says("agent.running", &["it could not start: see ports.gossip-udp"]);

    configure(&host, "advertise = \"eth9\"\n");
    let nowhere = Report::of(&host, &[]);
    nowhere.fails_only(&["ports.gossip-udp"], &[]);
    nowhere.says("ports.gossip-udp", &["there is no interface eth9"]);
}

/// `ovlctl network create`, once the agent has found its store.
fn create(host: &Host, args: &[&str]) {
    let all = [&["network", "create"], args].concat();
    eventually(&format!("{} creating a network", host.name()), SPREAD, || {
        host.ctl_json(&all).map(drop).map_err(|error| error.chain())
    });
}

/// The agent's configuration file of a host.
fn configure(host: &Host, lines: &str) {
    let script = "umask 022; printf '%s' \"$1\" > /etc/ovl/agent.toml";
    host.sandbox().script(script, &[lines]).unwrap();
}

#[test]
fn two_hosts_of_one_name_are_told_as_that() {
    let lab = TestLab::up("doctor-names", &["bee-1", "bee-2", "bee-3"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    hosts[2].stop_agent().unwrap();
    let mut argv = hosts[2].agent_argv().unwrap();
    argv.extend(["--node-name".to_owned(), "bee-1".to_owned()]);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let (log, record) = (hosts[2].folder().join("run/twin.log"), hosts[2].folder().join("twin"));
    hosts[2].sandbox().spawn("a twin", &argv, &log, &record).unwrap();
    let told = |host: &Host| {
        eventually(&format!("{} telling of it", host.name()), FAILURE, || {
            let report = Report::of(host, &[]);
            holds(report.with("fail") == ["cluster.names"], report.to_string()).map(|()| report)
        })
    };
    let report = told(&hosts[0]);
    report.says("cluster.names", &["bee-1", &hosts[2].address().to_string(), "node-name"]);
    told(&hosts[2]);
}

#[test]
fn an_address_held_twice_is_told_with_its_hosts() {
    let lab = TestLab::bare("doctor-twice", &["bee-1", "bee-2"]);
    let hosts = lab.hosts().unwrap();
    for host in &hosts {
        // Each with a registry of its own, and alone so far.
        configure(host, "advertise = \"eth1\"\n");
        let agent = host.agent_argv().unwrap().swap_remove(0);
        let (log, record) = (host.folder().join("run/own.log"), host.folder().join("own-agent"));
        host.sandbox().spawn("an agent", &[&agent], &log, &record).unwrap();
        eventually(&format!("{} answering", host.name()), SPREAD, || host.agent_answer().map(drop));
        create(host, &["net", "--subnet", "10.99.0.0/24"]);
        lab.attach(host.name(), "net", &format!("on-{}", host.name())).unwrap();
    }
    let lines = format!("advertise = \"eth1\"\njoin = [\"{}\"]\n", hosts[1].address());
    configure(&hosts[0], &lines);
    ctl(&hosts[0], &["reload"]);
    let report = eventually("the address being told", FAILURE, || {
        let report = Report::of(&hosts[0], &[]);
        holds(report.with("fail") == ["cluster.addresses"], report.to_string()).map(|()| report)
    });
    report.says("cluster.addresses", &["10.99.0.2", "bee-2", "store"]);
    // What the agent makes of its settings.
    report.says("agent.problems", &["keeps a registry of its own"]);
}

#[test]
fn a_reverse_path_filter_that_drops_a_host_is_named() {
    let lab = TestLab::up("doctor-path", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    let strict = "sysctl -qw net.ipv4.conf.eth1.rp_filter=1";
    hosts[0].run(&["sh", "-c", strict]).unwrap().require().unwrap();
    let fine = Report::of(&hosts[0], &[]);
    assert_eq!((fine.with("fail"), fine.with("warn")), (vec![], vec![]), "{fine}");

    // A second interface on the same wire, by which the other host is routed from now on.
    let peer = hosts[1].address().to_string();
    let script = "ip link add link eth1 name eth2 type macvlan mode bridge; ip link set eth2 up; \
                  ip route add \"$1\"/32 dev eth2 src \"$2\"";
    hosts[0].sandbox().script(script, &[&peer, &hosts[0].address().to_string()]).unwrap();
    let report = Report::of(&hosts[0], &[]);
    report.fails_only(&["net.rp-filter (eth1)"], &["cluster.members (bee-2)"]);
    report.says("net.rp-filter", &["bee-2", "eth2", "rp_filter=2"]);
}

#[test]
fn somebody_who_removes_devices_is_noticed() {
    let lab = TestLab::up("doctor-drift", &["bee-1"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    create(&host, &["net"]);
    lab.attach("bee-1", "net", "one").unwrap();
    let device = format!("ovl-{}", vni(&host, "net"));
    exec::run_ok(host.command("ip").args(["link", "del", &device])).unwrap();
    eventually("the repair being told", SPREAD * 3, || {
        let report = Report::of(&host, &[]);
        holds(report.with("warn") == ["kernel.drift"], report.to_string())?;
        holds(report.with("fail").is_empty(), report.to_string())
    });
}
