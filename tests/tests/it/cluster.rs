//! The life of a network over three hosts, with either store.
use std::time::Duration;

use ovl_tests::{Container, Host, StoreKind};

use crate::support::{
    self, SPREAD, THREE, TestLab, address_of, ctl, devices, endpoint, endpoint_names, eventually,
    fdb, holds, link, neighbours, pings, refused, text, vni,
};

const NETWORK: &str = "rethinkdb";
/// What a container has of the underlay's 1500 bytes after VXLAN's 50.
const MTU: u64 = 1450;

#[test]
fn a_network_in_sqlite_lives_on_three_hosts() {
    lives_on_three_hosts("sqlite", StoreKind::Sqlite);
}

#[test]
fn a_network_in_consul_lives_on_three_hosts() {
    lives_on_three_hosts("consul", StoreKind::Consul);
}

fn lives_on_three_hosts(name: &str, store: StoreKind) {
    let lab = TestLab::up(name, &THREE, store);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", NETWORK]);
    known_everywhere(&hosts);
    assert_eq!(devices(&hosts[0]), [""; 0], "a network without endpoints needs no device");

    let names = ["leader", "follower-1", "follower-2"];
    let containers: Vec<_> = THREE
        .iter()
        .zip(names)
        .map(|(host, name)| lab.attach(host, NETWORK, name).unwrap_or_else(|e| panic!("{e}")))
        .collect();
    all_reach_all(&containers);
    kernel_state_is_complete(&hosts);
    full_size_packets_pass(&containers);
    names_are_answered(&containers[0], &hosts[0]);

    refused(&hosts[1], &["network", "rm", NETWORK], 1, &[NETWORK]);
    what_is_detached_is_gone(&hosts, containers);
    network_is_gone_after_rm(&hosts);
    nothing_is_wrong(&hosts);
}

fn known_everywhere(hosts: &[Host]) {
    for host in hosts {
        eventually(&format!("{} listing {NETWORK}", host.name()), SPREAD, || {
            let networks = ctl(host, &["network", "ls"]);
            let ours = networks.as_array().is_some_and(|list| {
                list.len() == 1 && list[0]["name"] == NETWORK && list[0]["mtu"] == MTU
            });
            holds(ours, networks)
        });
    }
    assert_eq!(vni(&hosts[0], NETWORK), vni(&hosts[2], NETWORK), "one network has one VNI");
}

fn all_reach_all(containers: &[Container]) {
    for from in containers {
        for to in containers.iter().filter(|to| to.name() != from.name()) {
            pings(from, to.name());
        }
    }
}

/// Every host has the vxlan device, and on it both others' endpoints, pushed and permanent.
fn kernel_state_is_complete(hosts: &[Host]) {
    let device = format!("ovl-{}", vni(&hosts[0], NETWORK));
    for host in hosts {
        let data = link(host, &device).unwrap_or_else(|| panic!("{}: no {device}", host.name()));
        let vxlan = &data["linkinfo"]["info_data"];
        assert_eq!(vxlan["id"].as_u64(), Some(vni(host, NETWORK)), "{data}");
        assert_eq!(vxlan["port"].as_u64(), Some(4789), "{data}");
        assert_eq!(vxlan["local"], host.address().to_string(), "{data}");
        assert_ne!(vxlan["learning"], true, "nothing may be learned: {data}");
        let addresses = host.run(&["ip", "-o", "address", "show", "dev", &device]).unwrap();
        assert_eq!(addresses.stdout.trim(), "", "{device} must carry no address");
        for other in hosts.iter().filter(|other| other.name() != host.name()) {
            rows_lead_to(host, &device, other);
        }
    }
}

fn rows_lead_to(host: &Host, device: &str, other: &Host) {
    for remote in support::endpoints(other).iter().filter(|e| e["host"] == other.name()) {
        let (mac, ipv4) = (text(&remote["mac"]), text(&remote["ipv4"]));
        let (rows, neighbours) = (fdb(host, device), neighbours(host, device));
        let row = format!("{mac} {}", other.address());
        assert!(rows.contains(&row), "{} lacks FDB row {row}: {rows:?}", host.name());
        let neighbour = format!("{ipv4} {mac}");
        assert!(
            neighbours.contains(&neighbour),
            "{} lacks neighbour {neighbour}: {neighbours:?}",
            host.name()
        );
    }
}

fn full_size_packets_pass(containers: &[Container]) {
    // 20 bytes of IP header and 8 of ICMP fill the MTU.
    let size = (MTU - 28).to_string();
    let argv = ["ping", "-n", "-c", "2", "-i", "0.1", "-M", "do", "-s", &size, "follower-1"];
    let outcome = containers[0].run(&argv).unwrap();
    assert!(outcome.ok(), "{}{}", outcome.stdout, outcome.stderr);
}

fn names_are_answered(asking: &Container, host: &Host) {
    let address = text(&endpoint(host, "follower-1")["ipv4"]);
    let reverse: Vec<_> = address.split('.').rev().collect();
    let reverse = format!("{}.in-addr.arpa", reverse.join("."));
    let full = format!("follower-1.{NETWORK}");
    let unknown = format!("nobody.{NETWORK}");
    for (question, status, answers) in [
        (&["follower-1", "A"][..], "NOERROR", vec![address.clone()]),
        (&["FOLLOWER-1", "A"], "NOERROR", vec![address.clone()]),
        (&[full.as_str(), "A"], "NOERROR", vec![address.clone()]),
        (&["follower-1", "A", "+tcp"], "NOERROR", vec![address.clone()]),
        (&["follower-1", "AAAA"], "NOERROR", vec![]),
        (&[reverse.as_str(), "PTR"], "NOERROR", vec![format!("{full}.")]),
        (&[unknown.as_str(), "A"], "NXDOMAIN", vec![]),
        (&["nobody", "A"], "NXDOMAIN", vec![]),
    ] {
        let answer = dig(asking, question);
        assert_eq!((answer.status.as_str(), answer.data), (status, answers), "{question:?}");
    }
    let outcome = host.ctl_json(&["resolve", "follower-1"]).unwrap();
    assert_eq!(outcome, serde_json::json!([address]));
}

fn what_is_detached_is_gone(hosts: &[Host], containers: Vec<Container>) {
    let device = format!("ovl-{}", vni(&hosts[0], NETWORK));
    let mac = text(&endpoint(&hosts[0], "follower-2")["mac"]);
    let [leader, follower, last] = <[Container; 3]>::try_from(containers).unwrap();
    last.detach().unwrap();
    assert_eq!(devices(&hosts[2]), [""; 0], "the last endpoint of a host takes the device along");
    for host in &hosts[..2] {
        eventually(&format!("{} forgetting follower-2", host.name()), SPREAD, || {
            let names = endpoint_names(host);
            holds(names == ["follower-1", "leader"], names)?;
            let rows = fdb(host, &device);
            holds(!rows.iter().any(|row| row.starts_with(&mac)), rows)
        });
    }
    let answer = dig(&leader, &["follower-2", "A"]);
    assert_eq!((answer.status.as_str(), answer.data), ("NXDOMAIN", vec![]));
    // The others never noticed.
    pings(&leader, "follower-1");
    address_of(&follower, "leader");
    leader.detach().unwrap();
    follower.detach().unwrap();
}

fn network_is_gone_after_rm(hosts: &[Host]) {
    eventually("bee-2 seeing no endpoint of the network", SPREAD, || {
        let names = endpoint_names(&hosts[1]);
        holds(names.is_empty(), names)
    });
    ctl(&hosts[1], &["network", "rm", NETWORK]);
    for host in hosts {
        eventually(&format!("{} forgetting {NETWORK}", host.name()), SPREAD, || {
            let networks = ctl(host, &["network", "ls"]);
            holds(networks == serde_json::json!([]), networks)
        });
        assert_eq!(devices(host), [""; 0], "{} has devices left", host.name());
    }
}

fn nothing_is_wrong(hosts: &[Host]) {
    for host in hosts {
        let status = ctl(host, &["status"]);
        assert_eq!(status["problems"], serde_json::json!([]), "{}: {status}", host.name());
        assert_eq!(status["dataplane"]["errors"], serde_json::json!([]), "{status}");
        assert_eq!(status["dataplane"]["repaired"], 0, "audits met surprises: {status}");
    }
}

/// What dig got for an answer.
struct Answer {
    status: String,
    data: Vec<String>,
}

fn dig(container: &Container, question: &[&str]) -> Answer {
    let mut argv = vec!["dig", "+time=2", "+tries=1", "+noall", "+comments", "+answer"];
    argv.extend(question);
    let outcome = container.run_within(&argv, Duration::from_secs(10)).unwrap();
    let text = &outcome.stdout;
    let status = text.split_once("status: ").and_then(|(_, rest)| rest.split_once(','));
    let rows = text.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    Answer {
        status: status.map_or_else(|| text.clone(), |(status, _)| status.to_owned()),
        data: rows.filter_map(|row| row.split_whitespace().last().map(str::to_owned)).collect(),
    }
}
