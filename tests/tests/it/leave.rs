//! A host that leaves the cluster, and what is left of it: nothing.
use ovl_tests::{Host, StoreKind};

use crate::support::{
    SPREAD, TestLab, ctl, devices, endpoint_names, eventually, holds, pings, refused, text,
};

const HOSTS: [&str; 2] = ["bee-1", "bee-2"];

#[test]
fn a_host_leaves_and_nothing_of_it_is_left() {
    let lab = TestLab::up("leave", &HOSTS, StoreKind::Consul);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let leader = lab.attach("bee-1", "net", "leader").unwrap();
    lab.attach("bee-2", "net", "follower").unwrap();
    pings(&leader, "follower");

    refused(&hosts[1], &["leave"], 1, &["follower on net", "--force"]);
    assert_eq!(endpoint_names(&hosts[0]), ["follower", "leader"]);
    refused(&hosts[1], &["leave", "--purge"], 64, &["--yes"]);

    let gone = ctl(&hosts[1], &["leave", "--force", "--purge", "--yes"]);
    assert_eq!(gone["purged"]["in_use"].as_array().unwrap().len(), 0, "{gone}");
    assert!(gone["purged"]["firewall"] == true, "{gone}");
    nothing_is_left(&hosts[1]);
    eventually("the other host having no trace of it", SPREAD, || {
        let members = ctl(&hosts[0], &["members"]);
        let states: Vec<_> =
            members.as_array().unwrap().iter().map(|m| text(&m["state"])).collect();
        holds(states == ["alive", "left"] && endpoint_names(&hosts[0]) == ["leader"], states)
    });
    // Its address is free: the network can be removed once the other endpoint is gone.
    lab.container("leader").unwrap().detach().unwrap_or_else(|error| panic!("{error}"));
    ctl(&hosts[0], &["network", "rm", "net"]);
    hosts[1].start_agent().unwrap_or_else(|error| panic!("{error}"));
    eventually("it being a member again", SPREAD, || {
        let alive = ctl(&hosts[0], &["status"])["members"]["alive"].clone();
        holds(alive == 2, alive)
    });
}

#[test]
fn without_an_agent_a_purge_spares_what_is_in_use_unless_it_is_forced() {
    let lab = TestLab::up("purge", &HOSTS, StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let leader = lab.attach("bee-1", "net", "leader").unwrap();
    lab.attach("bee-2", "net", "follower").unwrap();
    pings(&leader, "follower");
    let before = devices(&hosts[1]);
    // An agent that answers elsewhere is not taken for none.
    let elsewhere = ["--socket", "/run/elsewhere.sock", "leave", "--purge", "--yes", "--force"];
    refused(&hosts[1], &elsewhere, 1, &["an ovl-agent runs with the state in /var/lib/ovl"]);
    assert_eq!(devices(&hosts[1]), before);
    hosts[1].kill_agent().unwrap();

    refused(&hosts[1], &["leave"], 69, &["no agent"]);
    let spared = hosts[1].ctl(&["leave", "--purge", "--yes"]).unwrap();
    assert_eq!(spared.code, Some(1), "{spared:?}");
    assert!(spared.stderr.contains("containers use them"), "{spared:?}");
    assert_eq!(devices(&hosts[1]), before);
    pings(&leader, "follower");

    let gone = ctl(&hosts[1], &["leave", "--purge", "--yes", "--force"]);
    assert!(gone["left"].is_null(), "{gone}");
    nothing_is_left(&hosts[1]);
    // Again: nothing to do is no failure.
    ctl(&hosts[1], &["leave", "--purge", "--yes"]);
}

fn nothing_is_left(host: &Host) {
    assert!(host.agent().is_none(), "the agent still runs");
    assert_eq!(devices(host), [""; 0]);
    let tables = host.run(&["nft", "list", "tables"]).unwrap();
    assert!(!tables.stdout.contains("ovl"), "{}", tables.stdout);
    let state = host.run(&["find", "/var/lib/ovl", "-type", "f"]).unwrap();
    assert_eq!(state.stdout.trim(), "");
}
