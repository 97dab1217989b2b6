//! A configuration that changes under a running agent.
use nix::sys::signal::Signal;
use ovl_tests::{Host, StoreKind};

use crate::support::{SPREAD, TestLab, ctl, eventually, holds, refused, text};

#[test]
fn what_an_agent_can_take_is_in_force_at_once_and_the_rest_is_named() {
    let lab = TestLab::up("reload", &["bee-1"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    assert_eq!(ctl(&host, &["reload"])["changes"].as_array().unwrap().len(), 0);

    configure(&host, "log = \"debug\"\ndefault-pool = \"10.99.0.0/16\"\nvxlan-port = 4790\n");
    let reloaded = ctl(&host, &["reload"]);
    let changes: Vec<_> = reloaded["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{} {} {}", text(&c["key"]), text(&c["to"]), c["in_force"]))
        .collect();
    assert_eq!(
        changes,
        ["vxlan-port 4790 false", "default-pool 10.99.0.0/16 true", "log debug true"]
    );
    let made = ctl(&host, &["network", "create", "net"]);
    assert_eq!(text(&made["subnet"]), "10.99.0.0/16");
    let problems = ctl(&host, &["status"])["problems"].to_string();
    assert!(problems.contains("vxlan-port is 4790 in the configuration"), "{problems}");
    refused(&host, &["network", "inspect", "nothing"], 1, &["nothing"]);
    assert!(log(&host).contains(" DEBUG "), "nothing is logged as debug");

    // What waits for a restart is said each time, and no more once it is taken back.
    configure(&host, "log = \"info\"\ndefault-pool = \"10.99.0.0/16\"\n");
    host.agent().unwrap().signal(Signal::SIGHUP).unwrap();
    eventually("the problem being gone", SPREAD, || {
        let problems = ctl(&host, &["status"])["problems"].to_string();
        holds(!problems.contains("vxlan-port"), problems)
    });
}

#[test]
fn a_wrong_configuration_is_refused_and_changes_nothing() {
    let lab = TestLab::up("misreload", &["bee-1"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    configure(&host, "log = \"debug\"\nvxlan-port = 70000\nstroe = \"x\"\n");
    refused(&host, &["reload"], 1, &["vxlan-port", "70000", "stroe"]);
    refused(&host, &["network", "inspect", "nothing"], 1, &["nothing"]);
    assert!(!log(&host).contains(" DEBUG "), "half of it was taken");
    // The next restart would fail over it: status says so until the file is mended.
    let problems = ctl(&host, &["status"])["problems"].to_string();
    assert!(problems.contains("stroe"), "{problems}");
    configure(&host, "");
    ctl(&host, &["reload"]);
    let problems = ctl(&host, &["status"])["problems"].clone();
    assert_eq!(problems, serde_json::json!([]));
}

#[test]
fn hosts_are_not_asked_at_a_port_that_is_not_in_force() {
    let lab = TestLab::up("joinport", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    configure(&host, "gossip-port = 7950\n");
    let changes = ctl(&host, &["reload"])["changes"].as_array().cloned().unwrap();
    let told: Vec<_> =
        changes.iter().map(|c| format!("{} {}", text(&c["key"]), c["in_force"])).collect();
    assert_eq!(told, ["join false", "gossip-port false"]);
}

#[test]
fn other_hosts_to_join_are_joined_without_a_restart() {
    let lab = TestLab::bare("rejoin", &["bee-1", "bee-2"]);
    let hosts = lab.hosts().unwrap();
    for host in &hosts {
        configure(host, "advertise = \"eth1\"\n");
        let agent = ovl_tests::programs::Programs::find().unwrap().agent().display().to_string();
        let (log, record) = (host.agent_log(), host.folder().join("agent"));
        host.sandbox().spawn("an agent", &[&agent], &log, &record).unwrap();
        eventually("an answer of the agent", SPREAD, || host.agent_answer().map(drop));
    }
    assert_eq!(ctl(&hosts[0], &["status"])["members"]["alive"], 1);
    let join = format!("advertise = \"eth1\"\njoin = [\"{}\"]\n", hosts[1].address());
    configure(&hosts[0], &join);
    ctl(&hosts[0], &["reload"]);
    eventually("both being members", SPREAD, || {
        let alive = ctl(&hosts[1], &["status"])["members"]["alive"].clone();
        holds(alive == 2, alive)
    });
}

fn configure(host: &Host, text: &str) {
    let write = format!("cat > /etc/ovl/agent.toml <<'END'\n{text}END\n");
    host.run(&["sh", "-c", &write]).unwrap().require().unwrap();
}

fn log(host: &Host) -> String {
    std::fs::read_to_string(host.agent_log()).unwrap()
}
