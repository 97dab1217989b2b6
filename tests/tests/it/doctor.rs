//! One thing is broken for real, and `ovlctl doctor` names it, and nothing else.
mod between;
mod store;

use std::time::Duration;

use ovl_tests::{Host, Outcome, StoreKind, exec};
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
        Report::read(host.ctl(&all).unwrap_or_else(|error| panic!("{}", error.chain())))
    }

    /// What `ovlctl --json doctor` said.
    fn read(outcome: Outcome) -> Report {
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
        // The devices for probes come a moment after the first other host is known.
        eventually(&format!("{} being fine", host.name()), SPREAD, || {
            let report = Report::of(host, &[]);
            let amiss = ["fail", "warn", "unchecked"].map(|verdict| report.with(verdict));
            let fine = amiss[..2].iter().all(Vec::is_empty) && amiss[2] == LACKING;
            holds(fine && report.code == Some(UNCHECKED), report.to_string())
        });
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

    // A device that shares its port with none.
    host.sandbox()
        .script("ip link add cil type vxlan external dstport 4789; ip link set cil up", &[])
        .unwrap();
    host.sandbox().script("kill -9 $(pidof consul)", &[]).unwrap();
    eventually("the device being the one failure", SPREAD, || {
        let report = Report::of(&host, &[]);
        holds(report.with("fail") == ["vxlan.foreign (cil)"], report.to_string())
    });
    host.sandbox().script("ip link del cil", &[]).unwrap();

    configure(&host, "advertise = \"eth9\"\n");
    let nowhere = Report::of(&host, &[]);
    nowhere.fails_only(&["ports.gossip-udp"], &[]);
    nowhere.says("ports.gossip-udp", &["there is no interface eth9"]);
}

#[test]
fn what_a_host_lacks_is_named_before_an_agent_is_started() {
    let lab = TestLab::bare("doctor-lacks", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    configure(&host, "advertise = \"eth1\"\n");
    // A kernel that is too old, as uname(2) tells it to this program alone; and a user without rights.
    let old = under(&host, &["setarch", "--uname-2.6"]);
    old.fails_only(&["kernel.version"], &[]);
    old.says("kernel.version", &["2.6.", "3.16"]);
    old.says("agent.running", &["could not start: see kernel.version"]);
    let weak =
        under(&host, &["setpriv", "--bounding-set", "-net_admin,-sys_admin", "--inh-caps=-all"]);
    assert!(weak.with("unchecked").contains(&"kernel.privileges".to_owned()), "{weak}");
    weak.says("kernel.privileges", &["CAP_NET_ADMIN", "run it as root"]);

    // Other programs at our ports: at that of VXLAN, and at TCP of the gossip's alone.
    let address = host.address().to_string();
    let taken_tcp = format!("{address}:7946 is taken");
    let (data, client) = (format!("-bind={address}"), format!("-client={address}"));
    for (port, check, words) in [
        ("-serf-lan-port=4789", "ports.vxlan", &["4789", "`consul`"][..]),
        ("-http-port=7946", "ports.gossip-tcp", &[&taken_tcp, "`consul`"]),
    ] {
        let consul = ["consul", "agent", "-dev", &data, &client, port];
        let (log, record) = (host.folder().join("run/consul.log"), host.folder().join("consul"));
        host.sandbox().spawn("Consul", &consul, &log, &record).unwrap();
        eventually(&format!("{check} being told"), SPREAD, || {
            let report = Report::of(&host, &["--only", "ports"]);
            holds(report.with("fail") == [check], report.to_string())
        });
        let taken = Report::of(&host, &[]);
        taken.fails_only(&[check], &[]);
        taken.says(check, words);
        host.sandbox().script("kill -9 $(pidof consul)", &[]).unwrap();
        eventually("the port being free", SPREAD, || {
            let report = Report::of(&host, &["--only", "ports"]);
            holds(report.with("fail").is_empty(), report.to_string())
        });
    }
}

/// What doctor says of a host, run by another program.
fn under(host: &Host, wrapper: &[&str]) -> Report {
    let ovlctl = host.ctl_command().unwrap();
    let ovlctl = ovlctl.get_args().last().unwrap().to_string_lossy().into_owned();
    let argv = [wrapper, &[ovlctl.as_str(), "--json", "doctor"]].concat();
    Report::read(host.run(&argv).unwrap_or_else(|error| panic!("{}", error.chain())))
}

#[test]
fn the_neighbour_tables_of_this_machine_itself_are_read() {
    // A lab's hosts do not see their limits; the machine that this runs on does.
    let host = ovl_tests::programs::Programs::find().unwrap().ovlctl();
    let argv = ["--socket", "/nowhere/ovl.sock", "--json", "doctor", "--only", "net.neighbours"];
    let said = exec::run(std::process::Command::new(host).args(argv), SOON).unwrap();
    let report = Report::read(said);
    let looked_at = ["ok", "warn"].map(|verdict| report.with(verdict)).concat();
    assert_eq!(looked_at, ["net.neighbours (IPv4)", "net.neighbours (IPv6)"], "{report}");
    let limit = std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").unwrap();
    let words = format!("of {} ", limit.trim());
    assert!(
        report.findings.iter().any(|f| f.to_string().contains(&words)),
        "{:?}",
        report.findings
    );
}

#[test]
fn guests_behind_a_bridge_that_filters_are_told_of() {
    let lab = TestLab::up("doctor-bridge", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    // The underlay becomes a bridge, as on a host of virtual machines.
    let script = "ip link add br0 type bridge; ip link set br0 up; ip link set eth1 master br0; ip address del \"$1\"/24 dev eth1; \
                  ip address add \"$1\"/24 dev br0; sysctl -qw net.bridge.bridge-nf-call-iptables=1";
    host.sandbox().script(script, &[&host.address().to_string()]).unwrap();
    eventually("the way over the bridge", SPREAD * 3, || {
        let report = Report::of(&host, &[]);
        let amiss = ["fail", "warn"].map(|verdict| report.with(verdict)).concat();
        holds(amiss.is_empty(), report.to_string())
    });
    host.sandbox().script("iptables -P FORWARD DROP", &[]).unwrap();
    let report = Report::of(&host, &[]);
    assert_eq!(report.with("warn"), ["net.bridge-nf (br0)"], "{report}");
    assert_eq!(report.with("fail"), [""; 0], "{report}");
    report.says(
        "net.bridge-nf",
        &["behind the bridge br0", "chain FORWARD", "bridge-nf-call-iptables=0"],
    );
}

#[test]
fn an_address_on_the_loopback_is_no_reason_to_warn() {
    // As where a routing protocol leads to each host by several interfaces.
    let lab = TestLab::bare("doctor-loopback", &["bee-1", "bee-2"]);
    let hosts = lab.hosts().unwrap();
    let own = |host: &Host| host.address().to_string().replace("192.168.77.", "10.77.0.");
    for (host, other) in [(&hosts[0], &hosts[1]), (&hosts[1], &hosts[0])] {
        let script = "ip address add \"$1\"/32 dev lo; ip route add \"$2\"/32 via \"$3\" src \"$1\"; sysctl -qw net.ipv4.conf.all.rp_filter=1";
        let there = other.address().to_string();
        host.sandbox().script(script, &[&own(host), &own(other), &there]).unwrap();
        let lines = format!("advertise = \"{}\"\njoin = [\"{}\"]\n", own(host), own(other));
        configure(host, &lines);
        let agent = host.agent_argv().unwrap().swap_remove(0);
        let (log, record) = (host.folder().join("run/own.log"), host.folder().join("own-agent"));
        host.sandbox().spawn("an agent", &[&agent], &log, &record).unwrap();
    }
    eventually("nothing being wrong", SPREAD * 3, || {
        let report = Report::of(&hosts[0], &[]);
        let amiss = ["fail", "warn"].map(|verdict| report.with(verdict)).concat();
        // Each has a registry of its own here.
        holds(amiss.iter().all(|check| check.starts_with("agent.problems")), report.to_string())
    });
    // A rule on the interface that packets really come in by is named, and one on the loopback is none.
    let rule = |device: &str| format!("iptables -A INPUT -i {device} -p udp --dport 4789 -j DROP");
    hosts[0].sandbox().script(&rule("lo"), &[]).unwrap();
    assert_eq!(Report::of(&hosts[0], &["--only", "firewall"]).with("fail"), [""; 0]);
    hosts[0].sandbox().script(&rule("eth1"), &[]).unwrap();
    let report = Report::of(&hosts[0], &["--only", "firewall"]);
    assert_eq!(report.with("fail"), ["firewall.vxlan"], "{report}");
    report.says("firewall.vxlan", &["rule 2 of chain INPUT"]);
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
    // bee-3 stopped, and its address has another name now.
    report.fails_only(&["cluster.names"], &["peer.agent (bee-3)", "cluster.members (bee-3)"]);
    told(&hosts[2]);
    // Whom it does not concern has nothing to call broken.
    let other = Report::of(&hosts[1], &[]);
    assert_eq!(other.with("fail"), [""; 0], "{other}");
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
    report.fails_only(&["cluster.addresses"], &["agent.problems", "agent.problems (1)"]);
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
    exec::run_ok(host.command("ip").args(["link", "set", &device, "down"])).unwrap();
    let differs = Report::of(&host, &[]);
    differs.fails_only(&["kernel.drift"], &[]);
    differs.says("kernel.drift", &["device-setting", &device, "ovlctl audit --repair"]);
    exec::run_ok(host.command("ip").args(["link", "del", &device])).unwrap();
    eventually("the repair being told", SPREAD * 3, || {
        let report = Report::of(&host, &[]);
        holds(report.with("warn") == ["kernel.drift"], report.to_string())?;
        holds(report.with("fail").is_empty(), report.to_string())
    });
}
