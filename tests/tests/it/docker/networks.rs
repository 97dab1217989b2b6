//! A network is made on one host, and is there on all.
use std::time::Duration;

use serde_json::json;

use super::rig::{BACK, NAMED, NET, Rig, at_once, create};
use crate::support::{ctl, devices, eventually, holds};

#[test]
fn one_create_shows_on_every_host_and_one_rm_removes_everywhere() {
    let rig = Rig::up("create");
    let before: Vec<_> = rig.hosts.iter().map(devices).collect();
    rig.network(NET, &[]);
    let [here, there] = [rig.lists(0, NET), rig.lists(1, NET)];
    assert_eq!(here["IPAM"]["Config"], there["IPAM"]["Config"]);
    assert_eq!((&there["Driver"], &there["IPAM"]["Driver"]), (&json!("ovl"), &json!("ovl")));
    let used = rig.ok(1, &["run", "--rm", "--net", NET, "busybox", "ip", "-4", "addr"]);
    assert!(used.contains("eth0"), "{used}");

    // The host that did not make it may remove it.
    rig.ok(1, &["network", "rm", NET]);
    for at in [0, 1] {
        rig.lists_no(at, NET);
        eventually("ovlctl listing no network", NAMED, || {
            let networks = ctl(&rig.hosts[at], &["network", "ls"]);
            holds(networks == json!([]), networks)
        });
        eventually("no device being left", NAMED, || {
            let mut left = devices(&rig.hosts[at]);
            // docker_gwbridge is Docker's own, made with the first container and kept.
            left.retain(|device| !before[at].contains(device) && device != "docker_gwbridge");
            holds(left.is_empty(), left)
        });
    }
}

#[test]
fn options_labels_and_addresses_come_along() {
    let rig = Rig::up("options");
    let more = "--internal --label team=bees -o com.docker.network.driver.mtu=1400 \
                --subnet 10.45.0.0/16 --ip-range 10.45.1.0/24 --gateway 10.45.0.9 \
                --aux-address printer=10.45.0.7";
    rig.network(NET, &more.split_whitespace().collect::<Vec<_>>());
    let config = json!([{
        "Subnet": "10.45.0.0/16", "IPRange": "10.45.1.0/24", "Gateway": "10.45.0.9",
        "AuxiliaryAddresses": {"printer": "10.45.0.7"},
    }]);
    for at in [0, 1] {
        let network = rig.lists(at, NET);
        assert_eq!(network["IPAM"]["Config"], config, "on host {at}");
        assert_eq!(network["Internal"], true, "on host {at}");
        assert_eq!(network["Labels"]["team"], "bees", "on host {at}");
        let mtu = &network["Options"]["com.docker.network.driver.mtu"];
        assert_eq!(mtu, "1400", "on host {at}");
        rig.run(at, &format!("c{at}"), &[]);
        let link = rig.exec(at, &format!("c{at}"), &["ip", "link", "show", "eth0"]);
        assert!(link.stdout.contains("mtu 1400"), "on host {at}: {}", link.stdout);
    }
}

#[test]
fn a_network_in_use_elsewhere_is_made_again() {
    let rig = Rig::up("in-use");
    rig.network(NET, &[]);
    let subnet = rig.lists(0, NET)["IPAM"]["Config"].clone();
    rig.run(1, "user", &[]);
    // Docker removes what has no container of its own host; there is no way to refuse.
    rig.docker(0, &["network", "rm", NET]);
    let again = rig.lists(0, NET);
    assert_eq!(again["IPAM"]["Config"], subnet);
    eventually("ovlctl status saying where it is used", NAMED, || {
        let status = rig.hosts[0].ctl(&["status"]).map_err(|error| error.chain())?;
        let said = [NET, "bee-2"].iter().all(|word| status.stdout.contains(word));
        holds(said, &status.stdout)
    });
    rig.run(0, "second", &[]);
    rig.reaches(0, "second", "user");

    for (at, name) in [(0, "second"), (1, "user")] {
        rig.ok(at, &["rm", "-f", name]);
    }
    rig.ok(0, &["network", "rm", NET]);
    for at in [0, 1] {
        rig.lists_no(at, NET);
    }
}

#[test]
fn ovlctl_makes_and_removes_networks_in_every_docker() {
    let rig = Rig::up("by-ctl");
    ctl(&rig.hosts[0], &["network", "create", NET, "--subnet", "10.46.0.0/16"]);
    for at in [0, 1] {
        assert_eq!(rig.lists(at, NET)["IPAM"]["Config"][0]["Subnet"], "10.46.0.0/16");
        rig.run(at, &format!("c{at}"), &[]);
    }
    rig.reaches(0, "c0", "c1");
    for at in [0, 1] {
        rig.ok(at, &["rm", "-f", &format!("c{at}")]);
    }
    eventually("ovlctl removing the network", NAMED, || {
        rig.hosts[1].ctl_ok(&["network", "rm", NET]).map_err(|error| error.chain())
    });
    for at in [0, 1] {
        rig.lists_no(at, NET);
    }
}

#[test]
fn two_creates_at_once_make_one_network() {
    let rig = Rig::up("race");
    for round in 0..5 {
        let name = format!("race-{round}");
        let made = at_once([0, 1], |at| rig.docker(at, &create(&name, &[])));
        assert!(made.iter().any(ovl_tests::Outcome::ok), "both were refused: {made:?}");
        let subnets = [0, 1].map(|at| rig.lists(at, &name)["IPAM"]["Config"].clone());
        assert_eq!(subnets[0], subnets[1], "{name}");
        for at in [0, 1] {
            // Docker allows two networks of one name; `inspect` would then complain.
            let filter = format!("name=^{name}$");
            let listed = rig.ok(at, &["network", "ls", "-q", "--filter", &filter]);
            assert_eq!(listed.lines().count(), 1, "host {at} has duplicates: {listed}");
        }
    }
    let networks = ctl(&rig.hosts[0], &["network", "ls"]);
    assert_eq!(networks.as_array().map(Vec::len), Some(5), "{networks}");
}

#[test]
fn an_agent_that_was_away_catches_up() {
    let rig = Rig::up("agent-away");
    rig.network("old", &[]);
    rig.hosts[1].stop_agent().unwrap();
    rig.ok(0, &create(NET, &[]));
    rig.ok(0, &["network", "rm", "old"]);
    rig.hosts[1].start_agent().unwrap_or_else(|error| panic!("{error}"));
    shown_within(&rig, BACK);
}

#[test]
fn a_dockerd_that_was_away_catches_up() {
    let mut rig = Rig::up("dockerd-away");
    rig.network("old", &[]);
    rig.dockers[1].stop().unwrap();
    rig.ok(0, &create(NET, &[]));
    rig.ok(0, &["network", "rm", "old"]);
    rig.dockers[1].start_again(&rig.hosts[1]).unwrap_or_else(|error| panic!("{error}"));
    shown_within(&rig, BACK);
}

/// The second host lists the network of most tests, as the first does, and `old` no more.
fn shown_within(rig: &Rig, limit: Duration) {
    eventually("the second host catching up", limit, || {
        let listed = rig.ok(1, &["network", "ls", "--format", "{{.Name}}"]);
        let names: Vec<_> = listed.lines().collect();
        holds(names.contains(&NET) && !names.contains(&"old"), names)
    });
    assert_eq!(rig.lists(0, NET)["IPAM"]["Config"], rig.lists(1, NET)["IPAM"]["Config"]);
    rig.run(1, "late", &[]);
    rig.run(0, "early", &[]);
    rig.reaches(1, "late", "early");
}

#[test]
fn without_the_ipam_driver_it_is_refused() {
    let rig = Rig::up("no-ipam");
    let said = rig.refused(0, &["network", "create", "-d", "ovl", NET]);
    assert!(said.contains("--ipam-driver ovl"), "it does not name the flag: {said}");
    for at in [0, 1] {
        rig.lists_no(at, NET);
    }
    assert_eq!(ctl(&rig.hosts[0], &["network", "ls"]), json!([]));
}
