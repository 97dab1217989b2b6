//! Packets: between containers, and never to the host.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use ovl_vxlan::{Remote, netns};

use crate::lab::*;

const LISTEN: u16 = 9999;

/// Two hosts with agents, two containers on the first and one on the second.
struct Cluster {
    a: Netns,
    b: Netns,
    boxes: [Netns; 3],
    agents: [Agent; 2],
}

impl Cluster {
    fn new() -> Self {
        let (a, b) = two_hosts();
        let boxes = [Netns::new("box"), Netns::new("box"), Netns::new("box")];
        let (mut on_a, mut on_b) = (network(VTEP_A), network(VTEP_B));
        for n in 1..=3 {
            let endpoint = in_sandbox(n, &boxes[usize::from(n) - 1]);
            let network = if n < 3 { &mut on_a } else { &mut on_b };
            network.endpoints.insert(format!("e{n}"), endpoint);
        }
        on_a.remotes.extend([remote(3, VTEP_B)]);
        on_b.remotes.extend([remote(1, VTEP_A), remote(2, VTEP_A)]);
        let agents = [Agent::start(&a), Agent::start(&b)];
        agents[0].settle(&desired(&on_a));
        agents[1].settle(&desired(&on_b));
        Self { a, b, boxes, agents }
    }
}

/// Counts, on arrival over the underlay, VXLAN packets whose inner frame is ARP, and others.
fn count_inner(host: &Netns) {
    host.sh("nft add table ip probe");
    host.sh("nft add chain ip probe in '{ type filter hook prerouting priority 0; }'");
    // The inner EtherType: behind 8 bytes of UDP, 8 of VXLAN and two MACs.
    host.sh("nft add counter ip probe arps");
    host.sh("nft add counter ip probe sum");
    host.sh("nft add rule ip probe in udp dport 4790 @th,224,16 0x0806 counter name arps");
    host.sh("nft add rule ip probe in udp dport 4790 counter name sum");
}

pub(crate) fn counted(host: &Netns, counter: &str) -> u64 {
    let found = host.json(&format!("nft -j list counter ip probe {counter}"));
    found["nftables"][1]["counter"]["packets"].as_u64().unwrap()
}

#[test]
fn containers_reach_each_other_and_arp_never_crosses_the_underlay() {
    let cluster = Cluster::new();
    count_inner(&cluster.a);
    count_inner(&cluster.b);
    let [first, second, third] = &cluster.boxes;
    // On one host, and between hosts, both ways.
    assert!(first.pings("10.88.0.2"));
    assert!(first.pings("10.88.0.3"));
    assert!(third.pings("10.88.0.1"));
    assert!(second.pings("10.88.0.3"));
    // Full-sized packets pass whole.
    assert!(first.succeeds("ping -q -c 2 -i 0.05 -W 2 -M do -s 1372 10.88.0.3"));
    // Nobody has this address: nothing is flooded for it.
    assert!(!first.succeeds("ping -q -c 1 -W 1 10.88.9.9"));
    for host in [&cluster.a, &cluster.b] {
        assert!(counted(host, "sum") > 0);
        assert_eq!(counted(host, "arps"), 0);
    }
}

/// What a UDP socket of the host hears within the time that its own control datagram needs.
fn hears(host: &Netns, act: impl FnOnce()) -> Vec<String> {
    let path = host.path();
    let socket = netns::run(&path, || UdpSocket::bind(("0.0.0.0", LISTEN))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    act();
    send(path, VTEP_B, "end");
    let mut heard = Vec::new();
    let mut buffer = [0; 100];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text == "end" {
            return heard;
        }
        heard.push(text);
    }
}

fn send(from: PathBuf, to: Ipv4Addr, text: &'static str) {
    netns::run(&from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(text.as_bytes(), (to, LISTEN)).unwrap();
    })
    .unwrap();
}

#[test]
fn sockets_of_the_host_never_hear_the_overlay() {
    let cluster = Cluster::new();
    let [first, _, third] = &cluster.boxes;
    // What a hostile peer could send: frames to the device's own MAC, and broadcasts.
    cluster.a.sh("bridge fdb add 02:6f:c0:00:02:02 dev ovl-5000 dst 192.0.2.2");
    cluster.a.sh("bridge fdb add ff:ff:ff:ff:ff:ff dev ovl-5000 dst 192.0.2.2");
    first.sh("ip neigh add 10.88.0.77 lladdr 02:6f:c0:00:02:02 dev eth0");
    first.sh("ip route add 192.0.2.2 via 10.88.0.77 dev eth0 onlink");
    first.sh("ip route add 255.255.255.255 dev eth0");
    // So that only the rule stands in the way.
    cluster.b.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ovl-5000.rp_filter=0");
    let attack = || {
        send(first.path(), VTEP_B, "unicast");
        send(first.path(), Ipv4Addr::new(255, 255, 255, 255), "broadcast");
        // Frames of one sender arrive in order: the others are in before the echo is back.
        assert!(first.pings("10.88.0.3"));
    };
    assert_eq!(hears(&cluster.b, attack), [""; 0]);
    assert!(third.pings("10.88.0.1"));

    // The attack is real: without the rule it is heard.
    cluster.b.sh("nft delete table inet ovl");
    assert_eq!(hears(&cluster.b, attack), ["unicast", "broadcast"]);

    // The rule comes back by itself.
    let report = cluster.agents[1].audit(&network_of_b(&cluster));
    assert_eq!(report.changes.get("firewall_install"), Some(&1), "{report:#?}");
    assert_eq!(hears(&cluster.b, attack), [""; 0]);
}

fn network_of_b(cluster: &Cluster) -> ovl_vxlan::Desired {
    let mut network = network(VTEP_B);
    network.endpoints.insert("e3".into(), in_sandbox(3, &cluster.boxes[2]));
    network.remotes.extend([remote(1, VTEP_A), remote(2, VTEP_A)]);
    desired(&network)
}

#[test]
fn the_ruleset_is_one_table_however_often_it_is_installed() {
    let host = Netns::new("host");
    for _ in 0..3 {
        drop(Agent::start(&host));
    }
    let ruleset = host.sh("nft list ruleset");
    let lines: Vec<&str> = ruleset.lines().map(str::trim).collect();
    let expected = [
        "table inet ovl {",
        "chain from-overlay {",
        "type filter hook prerouting priority raw; policy accept;",
        "iifname \"ovl-*\" counter packets 0 bytes 0 drop",
        "}",
        "}",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_host_answers_no_arp_from_the_overlay() {
    let (a, b) = two_hosts();
    // A hostile peer: its vxlan device floods what ours would answer itself.
    a.sh("ip link add evil address 02:00:00:00:00:66 type vxlan id 5000 dstport 4790 local 192.0.2.1");
    a.sh("bridge fdb append 00:00:00:00:00:00 dev evil dst 192.0.2.2");
    a.sh("ip address add 10.88.0.66/16 dev evil");
    a.sh("ip link set evil up");
    b.sh("ip address add 10.88.0.99/32 dev lo");
    let mut network = network(VTEP_B);
    let evil = Remote { mac: "02:00:00:00:00:66".parse().unwrap(), vtep: VTEP_A };
    network.remotes.insert(Ipv4Addr::new(10, 88, 0, 66).into(), evil);
    let agent = Agent::start(&b);
    agent.settle(&desired(&network));
    assert!(!a.succeeds("ping -q -c 1 -W 1 10.88.0.99"));
    assert!(!a.sh("ip neigh show 10.88.0.99 dev evil").contains("lladdr"));
    // It did arrive.
    let counters = b.json("ip -s -j link show dev ovl-5000");
    assert!(counters[0]["stats64"]["rx"]["packets"].as_u64().unwrap() > 0);
    let clean = agent.audit(&desired(&network));
    assert!(clean.changes.is_empty(), "{clean:#?}");
}
