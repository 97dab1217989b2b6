//! A look at the kernel that changes nothing, and names what differs.

use ovl_vxlan::{Comparison, Desired, DesiredNetwork};

use crate::lab::*;

/// What differs, one line each.
fn differences(agent: &Agent, desired: &Desired) -> Vec<String> {
    let Comparison { differences, left_out, .. } = compare(agent, desired);
    assert_eq!(left_out, 0);
    differences.iter().map(ToString::to_string).collect()
}

fn compare(agent: &Agent, desired: &Desired) -> Comparison {
    let desired = desired.clone();
    agent.call(move |d| Box::pin(async move { d.compare(&desired).await }))
}

/// Everything that the kernel holds of a host and of a sandbox.
fn all(host: &Netns, sandbox: &Netns) -> String {
    let rows = "ip neigh show nud permanent; bridge fdb show; nft list ruleset";
    let links = "ip -d -o link show; ip -o address show";
    let shown =
        [host.sh(&format!("sh -c '{links}; {rows}'")), sandbox.sh(&format!("sh -c '{links}'"))];
    // The kernel looks for duplicates of its own IPv6 addresses when it likes.
    shown.concat().replace(" tentative", "")
}

#[test]
fn every_change_by_hand_is_named_and_left_as_it_is_and_mended_by_an_audit() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    network.remotes.extend((2..=6).map(|n| remote(n, VTEP_B)));
    let wanted = desired(&network);
    agent.settle(&wanted);
    let counts = compare(&agent, &wanted);
    assert_eq!((counts.networks, counts.rows, counts.endpoints), (1, 10, 1));
    assert_eq!(counts.differences, []);

    let (m2, m3, m4) = (mac(2), mac(3), mac(4));
    let netns = sandbox.path().display().to_string();
    let on_host: &[(&str, &str)] = &[
        (
            &format!("bridge fdb del {m2} dev ovl-5000"),
            &format!("ovl-5000: fdb-missing {m2}: want 192.0.2.2, have nothing"),
        ),
        (
            &format!("bridge fdb replace {m3} dev ovl-5000 dst 192.0.2.7"),
            &format!("ovl-5000: fdb-wrong {m3}: want 192.0.2.2, have 192.0.2.7"),
        ),
        (
            &format!("bridge fdb replace {m4} dev ovl-5000 dst 192.0.2.2 port 9"),
            &format!(
                "ovl-5000: fdb-wrong {m4}: want 192.0.2.2, have another kind of row than one permanent one to one VTEP"
            ),
        ),
        (
            "bridge fdb add 02:00:00:00:00:99 dev ovl-5000 dst 192.0.2.66",
            "ovl-5000: fdb-foreign 02:00:00:00:00:99: want nothing, have 192.0.2.66",
        ),
        (
            "ip neigh del 10.88.0.2 dev ovl-5000",
            &format!("ovl-5000: neighbour-missing 10.88.0.2: want {m2}, have nothing"),
        ),
        (
            "ip neigh replace 10.88.0.3 lladdr 02:00:00:00:00:01 dev ovl-5000 nud permanent",
            &format!("ovl-5000: neighbour-wrong 10.88.0.3: want {m3}, have 02:00:00:00:00:01"),
        ),
        (
            "ip neigh add 10.88.9.9 lladdr 02:00:00:00:00:02 dev ovl-5000 nud permanent",
            "ovl-5000: neighbour-foreign 10.88.9.9: want nothing, have 02:00:00:00:00:02",
        ),
        ("ip link set ovl-5000 arp off", "ovl-5000: device-setting arp: want on, have off"),
        ("ip link set ovl-5000 mtu 1399", "ovl-5000: device-setting mtu: want 1400, have 1399"),
        (
            "ip link set ovl-5000 alias x",
            "ovl-5000: device-setting alias: want ovl network rethinkdb, have x",
        ),
        (
            "ip link set ovl-5000 type vxlan local 192.0.2.9 learning",
            "ovl-5000: device-setting local: want 192.0.2.1, have 192.0.2.9",
        ),
        (
            "nft delete table netdev ovl || nft delete table inet ovl || nft delete table arp ovl || nft delete table ip ovl",
            "ovl: firewall-missing",
        ),
        ("nft flush table inet ovl", "ovl: firewall-missing"),
    ];
    let inside: &[(&str, &str)] = &[
        (
            "ip link set eth0 mtu 1300",
            &format!("eth0 in {netns}: interface-setting mtu: want 1400, have 1300"),
        ),
        (
            "ip address del 10.88.0.1/16 dev eth0",
            &format!(
                "eth0 in {netns}: address-missing 10.88.0.1/16: want 10.88.0.1/16, have nothing"
            ),
        ),
        (
            "ip link set eth0 down",
            &format!("eth0 in {netns}: interface-setting state: want up, have down"),
        ),
        (
            "ip link set eth0 address 02:00:00:00:00:99",
            &format!(
                "eth0 in {netns}: interface-setting mac: want 02:42:0a:58:00:01, have 02:00:00:00:00:99"
            ),
        ),
        (
            "ip address del 169.254.53.53/32 dev lo",
            &format!(
                "lo in {netns}: address-missing 169.254.53.53: want 169.254.53.53, have nothing"
            ),
        ),
    ];
    for (place, changes) in [(&host, on_host), (&sandbox, inside)] {
        for (command, difference) in changes {
            place.sh(&format!("sh -c '{command}' 2>/dev/null"));
            let before = all(&host, &sandbox);
            let told = differences(&agent, &wanted);
            assert!(told.iter().any(|told| told == difference), "{command}: {told:#?}");
            assert_eq!(all(&host, &sandbox), before, "{command}: it was changed");
            let report = agent.audit(&wanted);
            assert!(report.is_ok(), "{command}: {report:#?}");
            let done: Vec<_> = report.done.iter().map(ToString::to_string).collect();
            assert!(done.iter().any(|done| done == difference), "{command}: {done:#?}");
            assert_eq!(differences(&agent, &wanted), [""; 0], "{command}");
        }
    }
}

#[test]
fn what_follows_from_another_difference_is_not_told() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    network.remotes.extend([remote(2, VTEP_B)]);
    let wanted = desired(&network);
    agent.settle(&wanted);
    let netns = sandbox.path().display().to_string();
    sandbox.sh("ip link del eth0");
    assert_eq!(differences(&agent, &wanted), [format!("eth0 in {netns}: interface-missing")]);
    host.sh("ip link del ovl-5000");
    assert_eq!(differences(&agent, &wanted), ["ovl-5000: device-missing"]);
    agent.audit(&wanted);
    assert_eq!(differences(&agent, &wanted), [""; 0]);
    // Its rows went with it; both are told, for neither is the other's consequence alone.
    host.sh("ip link set ovl-5000 down");
    let told = differences(&agent, &wanted);
    assert!(
        told.contains(&"ovl-5000: device-setting state: want up, have down".into()),
        "{told:?}"
    );
    agent.audit(&wanted);
    // A sandbox that has ended is a fact, and no difference.
    drop(sandbox);
    assert_eq!(differences(&agent, &wanted), [""; 0]);
}

#[test]
fn what_nobody_wants_any_more_and_what_cannot_be_changed_are_named() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let network = network(VTEP_A);
    agent.settle(&desired(&network));
    assert_eq!(differences(&agent, &Desired::default()), ["ovl-5000: device-left-over"]);
    let elsewhere = DesiredNetwork { port: 4791, ..network.clone() };
    assert_eq!(
        differences(&agent, &desired(&elsewhere)),
        ["ovl-5000: device-setting port: want 4791, have 4790"]
    );
    host.sh("ip link add name child link ovl-5000 type macvlan mode bridge");
    host.sh("ip link set child alias \"ovl endpoint e9\"");
    assert_eq!(differences(&agent, &desired(&network)), ["child: interface-left-over"]);
}

#[test]
fn rows_of_peers_not_heard_of_yet_are_no_difference() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend([remote(1, VTEP_B)]);
    agent.settle(&desired(&network));
    network.remotes.clear();
    network.settled = false;
    assert_eq!(differences(&agent, &desired(&network)), [""; 0]);
    network.settled = true;
    assert_eq!(differences(&agent, &desired(&network)).len(), 2);
}
