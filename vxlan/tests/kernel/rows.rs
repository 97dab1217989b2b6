//! Neighbour and FDB rows in the kernel.

use std::net::{IpAddr, Ipv4Addr};

use ovl_vxlan::{Mac, Remote};

use crate::lab::*;

#[test]
fn each_remote_has_a_neighbour_row_and_an_fdb_row() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend([remote(1, VTEP_B), remote(2, VTEP_B)]);
    let report = agent.settle(&desired(&network));
    assert_eq!((report.changes["fdb_set"], report.changes["neighbour_set"]), (2, 2));
    let to_b = |n| (mac(n), "192.0.2.2".to_owned());
    let is_at = |n| (address(n).to_string(), mac(n));
    assert_eq!(host.fdb(DEVICE), [to_b(1), to_b(2)]);
    assert_eq!(host.neighbours(DEVICE), [is_at(1), is_at(2)]);

    // It moved, and the other went.
    let third = Ipv4Addr::new(192, 0, 2, 3);
    network.remotes = [remote(1, third)].into();
    agent.settle(&desired(&network));
    assert_eq!(host.fdb(DEVICE), [(mac(1), "192.0.2.3".into())]);
    assert_eq!(host.neighbours(DEVICE), [is_at(1)]);
}

#[test]
fn a_mac_that_two_addresses_share_keeps_its_fdb_row_until_the_last_goes() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    let shared = remote(1, VTEP_B).1;
    network.remotes = [(address(1).into(), shared), (address(2).into(), shared)].into();
    agent.settle(&desired(&network));
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (1, 2));
    network.remotes.remove(&IpAddr::V4(address(1)));
    agent.settle(&desired(&network));
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (1, 1));
    network.remotes.clear();
    agent.settle(&desired(&network));
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (0, 0));
}

#[test]
fn a_local_endpoint_wins_over_what_peers_say_of_its_mac_and_address() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend([remote(1, VTEP_B), remote(2, VTEP_B)]);
    agent.settle(&desired(&network));
    // The container has moved here, and its old host is still announced.
    network.settled = false;
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));
    assert_eq!(host.fdb(DEVICE), [(mac(2), "192.0.2.2".into())]);
    assert_eq!(host.neighbours(DEVICE), [(address(2).to_string(), mac(2))]);
}

#[test]
fn rows_of_peers_not_heard_of_yet_stay_until_the_cluster_is_known() {
    let host = Netns::new("host");
    let mut network = network(VTEP_A);
    network.remotes.extend([remote(1, VTEP_B), remote(2, VTEP_B)]);
    Agent::start(&host).settle(&desired(&network));

    let agent = Agent::start(&host);
    network.settled = false;
    network.remotes = [remote(3, VTEP_B)].into();
    agent.settle(&desired(&network));
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (3, 3));
    network.settled = true;
    agent.settle(&desired(&network));
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (1, 1));
}

#[test]
fn an_audit_repairs_rows_and_counts_them_as_drift() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend((1..=5).map(|n| remote(n, VTEP_B)));
    agent.settle(&desired(&network));
    let (fdb, neighbours) = (host.fdb(DEVICE), host.neighbours(DEVICE));
    let clean = agent.audit(&desired(&network));
    assert!(clean.changes.is_empty(), "{clean:#?}");

    let m = |n| mac(n);
    host.sh(&format!("bridge fdb del {} dev ovl-5000", m(1)));
    host.sh(&format!("bridge fdb replace {} dev ovl-5000 dst 192.0.2.77", m(2)));
    host.sh(&format!("bridge fdb replace {} dev ovl-5000 dst 192.0.2.2 port 9", m(3)));
    host.sh("bridge fdb append 00:00:00:00:00:00 dev ovl-5000 dst 192.0.2.66");
    host.sh("ip neigh del 10.88.0.4 dev ovl-5000");
    host.sh("ip neigh replace 10.88.0.5 lladdr 02:00:00:00:00:01 dev ovl-5000 nud permanent");
    host.sh("ip neigh add 10.88.9.9 lladdr 02:00:00:00:00:02 dev ovl-5000 nud permanent");
    let report = agent.audit(&desired(&network));
    assert!(report.is_ok(), "{report:#?}");
    assert_eq!(report.changes["fdb_set"], 3);
    assert_eq!(report.changes["neighbour_set"], 2);
    assert_eq!(report.changes["neighbour_delete"], 1);
    assert_eq!((host.fdb(DEVICE), host.neighbours(DEVICE)), (fdb, neighbours));
}

#[test]
fn thousands_of_remotes_get_their_rows() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    // More than gc_thresh3, which counts rows that are not permanent only.
    network.remotes.extend((1..=3000).map(|n| remote(n, VTEP_B)));
    agent.settle(&desired(&network));
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (3000, 3000));
    let clean = agent.audit(&desired(&network));
    assert!(clean.changes.is_empty(), "{clean:#?}");
    network.remotes.retain(|a, _| matches!(a, IpAddr::V4(a) if a.octets()[3] == 1));
    agent.settle(&desired(&network));
    assert_eq!(host.fdb(DEVICE).len(), network.remotes.len());
}

#[test]
fn rows_that_would_flood_or_loop_are_not_made() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    let unicast = Mac::from_ipv4(address(1));
    let bad = [
        (Mac([0; 6]), VTEP_B),
        (Mac([0xff; 6]), VTEP_B),
        (Mac([1, 0, 0x5e, 0, 0, 1]), VTEP_B),
        (unicast, VTEP_A),
        (unicast, Ipv4Addr::UNSPECIFIED),
        (unicast, Ipv4Addr::BROADCAST),
        (unicast, Ipv4Addr::new(239, 1, 1, 1)),
    ];
    let numbered = (1..).zip(bad);
    let remote = |(n, (mac, vtep))| (address(n).into(), Remote { mac, vtep });
    network.remotes = numbered.map(remote).collect();
    agent.settle(&desired(&network));
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (0, 0));
}
