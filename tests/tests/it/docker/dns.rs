//! Names without any flag: no `--dns`, nothing in daemon.json.
use std::time::Duration;

use ovl_tests::docker::IMAGE;

use super::outside;
use super::rig::{NET, Rig};

/// How long a container may wait for an answer, dig's start included, when no agent is there.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn nothing_has_to_be_configured() {
    let rig = Rig::up("dns-bare");
    rig.network(NET, &[]);
    rig.network("inner", &["--internal"]);
    for (network, names) in [(NET, ["a0", "a1"]), ("inner", ["b0", "b1"])] {
        for (at, name) in names.into_iter().enumerate() {
            rig.run_on(at, network, name, &[]);
            let resolver = rig.exec(at, name, &["grep", "^nameserver", "/etc/resolv.conf"]).stdout;
            assert_eq!(resolver.trim(), "nameserver 127.0.0.11", "{name}");
        }
        let address = rig.on_network(1, names[1], network, "IPAddress");
        rig.resolves(0, names[0], names[1], &[&address]);
        rig.reaches(0, names[0], names[1]);
        rig.reaches(1, names[1], names[0]);
    }
    let daemon = rig.hosts[0].run(&["cat", "/etc/docker/daemon.json"]).unwrap();
    assert!(!daemon.ok() || !daemon.stdout.contains("dns"), "{}", daemon.stdout);
}

#[test]
fn names_of_docker_s_own_networks_stay() {
    let rig = Rig::up("dns-bridge");
    rig.network(NET, &[]);
    rig.ok(0, &["network", "create", "side"]);
    rig.run_on(0, "side", "neighbour", &[]);
    rig.run_on(0, "side", "both", &[]);
    rig.ok(0, &["network", "connect", NET, "both"]);
    rig.run(1, "far", &[]);
    let neighbour = rig.on_network(0, "neighbour", "side", "IPAddress");
    rig.resolves(0, "both", "far", &[&rig.address(1, "far")]);
    rig.resolves(0, "both", "neighbour", &[&neighbour]);
    rig.reaches(0, "both", "neighbour");
    rig.reaches(0, "neighbour", "both");
    // Who is not on the network is told nothing of it.
    rig.forgets(0, "neighbour", "far");
    rig.forgets(1, "far", "neighbour");
}

#[test]
fn outside_names_are_asked_of_the_host_s_servers() {
    let rig = Rig::up("dns-outside");
    rig.network(NET, &[]);
    rig.run(0, "asker", &[]);
    rig.run(1, "far", &[]);
    rig.resolves(0, "asker", outside::KNOWN, &[outside::ADDRESS]);
    rig.resolves(0, "asker", "far", &[&rig.address(1, "far")]);
    let unknown = rig.dig(0, "asker", "nobody.example.org", "A");
    assert_eq!(unknown.status, "NXDOMAIN", "{unknown:?}");
}

#[test]
fn without_an_agent_docker_answers_local_names_at_once() {
    let rig = Rig::up("dns-alone");
    rig.network(NET, &[]);
    rig.run(0, "one", &[]);
    rig.run(0, "two", &["--network-alias", "second"]);
    rig.run(1, "far", &[]);
    let address = rig.address(0, "two");
    rig.resolves(0, "one", "far", &[&rig.address(1, "far")]);
    rig.hosts[0].kill_agent().unwrap();
    for name in ["two", "second", "two", "second"] {
        let answer = rig.dig(0, "one", name, "A");
        assert_eq!(answer.status, "NOERROR", "{name}: {answer:?}");
        assert!(answer.addresses.contains(&address), "{name}: {answer:?}");
        assert!(answer.took < AT_ONCE, "{name}: {answer:?}");
    }
    rig.reaches(0, "one", "two");
    rig.hosts[0].start_agent().unwrap_or_else(|error| panic!("{error}"));
    rig.resolves(0, "one", "far", &[&rig.address(1, "far")]);
}

#[test]
fn a_network_of_another_driver_is_left_alone() {
    let rig = Rig::up("dns-alien");
    rig.run_on(0, "bridge", "plain", &[]);
    rig.ok(0, &["network", "create", "side"]);
    rig.run_on(0, "side", "one", &[]);
    rig.ok(0, &["run", "-d", "--net", "side", "--name", "two", IMAGE, "sleep", "3600"]);
    rig.resolves(0, "one", "two", &[&rig.on_network(0, "two", "side", "IPAddress")]);
    rig.reaches(0, "two", "one");
}
