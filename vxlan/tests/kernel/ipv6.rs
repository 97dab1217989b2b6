//! IPv6 in the overlay: rows, addresses in sandboxes, packets.

use std::collections::BTreeMap;

use ovl_vxlan::{ApplyError, Desired};

use crate::{lab::*, traffic::counted};

const IPV6_ON: &str = "cat /proc/sys/net/ipv6/conf/ovl-5000/disable_ipv6";

/// Two hosts with agents, two containers on the first and one on the second, all with both
/// families.
struct Cluster {
    hosts: [Netns; 2],
    boxes: [Netns; 3],
    agents: [(Agent, Desired); 2],
}

impl Cluster {
    fn new() -> Self {
        let hosts: [Netns; 2] = two_hosts().into();
        let boxes = [Netns::new("box"), Netns::new("box"), Netns::new("box")];
        let (mut on_a, mut on_b) = (network(VTEP_A), network(VTEP_B));
        for (n, sandbox) in (1..).zip(&boxes) {
            let endpoint = dual(n, in_sandbox(n, sandbox));
            let network = if n < 3 { &mut on_a } else { &mut on_b };
            network.endpoints.insert(format!("e{n}"), endpoint);
        }
        on_a.remotes.extend(dual_remote(3, VTEP_B));
        on_b.remotes.extend(dual_remote(1, VTEP_A));
        on_b.remotes.extend(dual_remote(2, VTEP_A));
        let start = |host, network| {
            let (agent, desired) = (Agent::start(host), desired(network));
            agent.settle(&desired);
            (agent, desired)
        };
        let agents = [start(&hosts[0], &on_a), start(&hosts[1], &on_b)];
        Self { hosts, boxes, agents }
    }
}

/// Counts, on arrival over the underlay, VXLAN packets that hold a neighbour solicitation, and others.
fn count_solicitations(host: &Netns) {
    host.sh("nft add table ip probe");
    host.sh("nft add chain ip probe in '{ type filter hook prerouting priority 0; }'");
    host.sh("nft add counter ip probe asked");
    host.sh("nft add counter ip probe sum");
    // The inner packet: behind 8 bytes of UDP, 8 of VXLAN and 14 of Ethernet. ICMPv6 is its next
    // header, and 135 the type.
    let asked = "@th,288,8 58 @th,560,8 135 counter name asked";
    host.sh(&format!("nft add rule ip probe in udp dport 4790 {asked}"));
    host.sh("nft add rule ip probe in udp dport 4790 counter name sum");
}

#[test]
fn containers_reach_each_other_by_ipv6_and_solicitations_never_cross_the_underlay() {
    let Cluster { hosts, boxes: [first, second, third], agents } = Cluster::new();
    hosts.iter().for_each(count_solicitations);
    // On one host, and between hosts, both ways.
    assert!(first.pings("fd00:88::2"));
    assert!(second.pings("fd00:88::1"));
    assert!(first.pings("fd00:88::3"));
    assert!(third.pings("fd00:88::2"));
    // Full-sized packets pass whole; IPv4 goes on beside it.
    assert!(first.succeeds("ping -q -c 2 -i 0.05 -W 2 -M do -s 1352 fd00:88::3"));
    assert!(first.pings("10.88.0.3"));
    // A neighbour that was forgotten is asked for once more, by unicast and by multicast.
    first.sh("ip -6 neigh flush dev eth0");
    assert!(first.pings("fd00:88::3"));
    assert!(!first.succeeds("ping -q -c 1 -W 1 fd00:88::99"));
    for host in &hosts {
        assert!(counted(host, "sum") > 0);
        assert_eq!(counted(host, "asked"), 0);
        // The device is as quiet as before.
        assert_eq!(host.sh("ip address show dev ovl-5000").matches("inet").count(), 0);
    }
    for (agent, desired) in &agents {
        let clean = agent.audit(desired);
        assert!(clean.is_ok() && clean.changes.is_empty(), "{clean:#?}");
    }
}

#[test]
fn a_device_that_floods_would_be_counted() {
    let (a, b) = two_hosts();
    count_solicitations(&b);
    a.sh("ip link add flood type vxlan id 5000 dstport 4790 local 192.0.2.1");
    a.sh("bridge fdb append 00:00:00:00:00:00 dev flood dst 192.0.2.2");
    a.sh("ip link set flood up");
    a.sh("ip address add fd00:88::1/64 dev flood nodad");
    assert!(!a.succeeds("ping -q -c 1 -W 1 fd00:88::2"));
    assert!(counted(&b, "asked") > 0);
}

#[test]
fn an_endpoint_with_both_families_has_one_fdb_row_and_two_neighbour_rows() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend(dual_remote(1, VTEP_B));
    let report = agent.settle(&desired(&network));
    assert_eq!((report.changes["fdb_set"], report.changes["neighbour_set"]), (1, 2));
    assert_eq!(host.fdb(DEVICE), [(mac(1), "192.0.2.2".into())]);
    assert_eq!(host.neighbours(DEVICE), [("10.88.0.1".into(), mac(1))]);
    assert_eq!(host.neighbours6(DEVICE), [("fd00:88::1".into(), mac(1))]);

    // A restarted agent reads them, and removes what is not desired.
    drop(agent);
    let agent = Agent::start(&host);
    let report = agent.settle(&desired(&network));
    assert!(report.changes.is_empty(), "{report:#?}");
    network.remotes.retain(|address, _| address.is_ipv4());
    agent.settle(&desired(&network));
    assert_eq!((host.neighbours(DEVICE).len(), host.neighbours6(DEVICE).len()), (1, 0));
    assert_eq!(host.fdb(DEVICE).len(), 1);
}

#[test]
fn an_audit_repairs_ipv6_rows_and_counts_them_as_drift() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend((1..=3).flat_map(|n| dual_remote(n, VTEP_B)));
    agent.settle(&desired(&network));
    let rows = host.neighbours6(DEVICE);
    host.sh("ip neigh del fd00:88::1 dev ovl-5000");
    host.sh("ip neigh replace fd00:88::2 lladdr 02:00:00:00:00:01 dev ovl-5000 nud permanent");
    host.sh("ip neigh add fd00:88::99 lladdr 02:00:00:00:00:02 dev ovl-5000 nud permanent");
    let report = agent.audit(&desired(&network));
    assert!(report.is_ok(), "{report:#?}");
    assert_eq!(report.changes, BTreeMap::from([("neighbour_set", 2), ("neighbour_delete", 1)]));
    assert_eq!(host.neighbours6(DEVICE), rows);
}

#[test]
fn a_device_that_lost_its_rows_gets_them_back_with_the_next_pass() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend(dual_remote(1, VTEP_B));
    agent.settle(&desired(&network));
    let rows = (host.neighbours(DEVICE), host.neighbours6(DEVICE));
    for command in ["ip link set ovl-5000 down", "sysctl -qw net.ipv6.conf.ovl-5000.disable_ipv6=1"]
    {
        host.sh(command);
        assert_eq!(host.neighbours6(DEVICE), []);
        let report = agent.settle(&desired(&network));
        assert_eq!(report.changes["device_set"], 1, "{command}: {report:#?}");
        assert_eq!((host.neighbours(DEVICE), host.neighbours6(DEVICE)), rows, "{command}");
        assert_eq!(host.fdb(DEVICE).len(), 1);
    }
}

#[test]
fn a_host_that_turns_ipv6_off_by_default_takes_the_rows_and_stays_quiet() {
    let host = Netns::new("host");
    host.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend([remote(1, VTEP_B)]);
    agent.settle(&desired(&network));
    // Without IPv6 in the network the host's choice stands.
    assert_eq!(host.sh(IPV6_ON).trim(), "1");

    network.remotes.extend(dual_remote(1, VTEP_B));
    let report = agent.settle(&desired(&network));
    assert_eq!(report.changes, BTreeMap::from([("device_set", 1), ("neighbour_set", 1)]));
    assert_eq!(host.neighbours6(DEVICE), [("fd00:88::1".into(), mac(1))]);

    // From the start, too.
    agent.settle(&Desired::default());
    agent.settle(&desired(&network));
    assert_eq!(host.neighbours6(DEVICE), [("fd00:88::1".into(), mac(1))]);
    assert_eq!(host.sh(IPV6_ON).trim(), "0");
    assert_eq!(host.link(DEVICE)["inet6_addr_gen_mode"], "none");
    assert_eq!(host.sh("cat /proc/sys/net/ipv6/conf/ovl-5000/accept_ra").trim(), "0");
    assert_eq!(host.sh("ip address show dev ovl-5000").matches("inet").count(), 0);
}

#[test]
fn where_there_is_no_ipv6_the_network_says_so_and_ipv4_goes_on() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    // The kernel takes IPv6 from an interface whose MTU is smaller (RFC 8200, section 5).
    network.mtu = 1279;
    network.remotes.extend(dual_remote(2, VTEP_B));
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    for _ in 0..2 {
        let report = agent.apply(&desired(&network));
        let error = &report.failed_networks[&VNI];
        assert!(matches!(error, ApplyError::NoIpv6 { mtu: 1279, .. }), "{error}");
        assert!(error.to_string().contains("ovl-5000 on this host carries no IPv6"), "{error}");
        assert!(report.failed_endpoints.is_empty(), "{report:#?}");
    }
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (1, 1));
    assert_eq!(sandbox.addresses("eth0"), ["10.88.0.1/16"]);

    // As soon as it can be had, it is.
    network.mtu = MTU;
    agent.apply(&desired(&network));
    agent.settle(&desired(&network));
    assert_eq!(host.neighbours6(DEVICE).len(), 1);
    assert_eq!(host.link(DEVICE)["inet6_addr_gen_mode"], "none");
}

#[test]
fn an_ipv6_address_in_a_sandbox_is_good_at_once_and_put_back_by_an_audit() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), dual(1, in_sandbox(1, &sandbox)));
    agent.settle(&desired(&network));
    assert_eq!(sandbox.addresses6("eth0"), ["fd00:88::1/64"]);
    assert_eq!(sandbox.addresses("eth0"), ["10.88.0.1/16"]);
    let clean = agent.audit(&desired(&network));
    assert!(clean.changes.is_empty(), "{clean:#?}");
    for command in [
        "ip address del fd00:88::1/64 dev eth0",
        "ip link set eth0 down",
        "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
        "ip link set eth0 mtu 1279",
        "ip link del eth0",
    ] {
        sandbox.sh(command);
        let report = agent.audit(&desired(&network));
        assert!(report.is_ok(), "{command}: {report:#?}");
        assert!(report.changes.contains_key("address_add"), "{command}: {report:#?}");
        assert_eq!(sandbox.addresses6("eth0"), ["fd00:88::1/64"], "{command}");
        assert!(sandbox.succeeds("ip -6 route get fd00:88::2"), "{command}");
    }

    // Theirs stays, ours goes when it is not desired.
    sandbox.sh("ip address add fd00:88::77/64 dev eth0 nodad");
    network.endpoints.insert("e1".into(), dual(2, in_sandbox(1, &sandbox)));
    agent.settle(&desired(&network));
    let mut held = sandbox.addresses6("eth0");
    held.sort();
    assert_eq!(held, ["fd00:88::2/64", "fd00:88::77/64"]);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));
    assert_eq!(sandbox.addresses6("eth0"), ["fd00:88::77/64"]);
}

#[test]
fn a_sandbox_that_turns_ipv6_off_by_default_gets_it_for_this_interface_alone() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    sandbox.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    sandbox.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), dual(1, in_sandbox(1, &sandbox)));
    agent.settle(&desired(&network));
    assert_eq!(sandbox.addresses6("eth0"), ["fd00:88::1/64"]);
    assert_eq!(sandbox.sh("cat /proc/sys/net/ipv6/conf/lo/disable_ipv6").trim(), "1");
    // The agent's own namespace is not the one that was written to.
    assert_eq!(host.sh("cat /proc/sys/net/ipv6/conf/all/disable_ipv6").trim(), "0");
}

/// Makes /proc/sys read-only for an agent's thread, as in a container without privileges.
fn lock_sysctls(agent: &Agent) {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    let lock = || {
        let (none, sys) = (None::<&str>, Some("/proc/sys"));
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(sys, "/proc/sys", none, bind, none).unwrap();
        mount(none, "/proc/sys", none, bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
            .unwrap();
    };
    agent.call(move |_| Box::pin(async move { lock() }));
}

#[test]
fn where_ipv6_cannot_be_turned_on_the_file_is_named_and_ipv4_goes_on() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    for netns in [&host, &sandbox] {
        netns.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    }
    let agent = Agent::start(&host);
    lock_sysctls(&agent);
    let mut network = network(VTEP_A);
    network.remotes.extend(dual_remote(2, VTEP_B));
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    let mut both = network.clone();
    for _ in 0..2 {
        let report = agent.apply(&desired(&network));
        let error = &report.failed_networks[&VNI];
        assert!(matches!(error, ApplyError::Ipv6Off { .. }), "{error}");
        let file = "/proc/sys/net/ipv6/conf/ovl-5000/disable_ipv6";
        assert!(error.to_string().contains(file), "{error}");
        assert!(report.failed_endpoints.is_empty(), "{report:#?}");
    }
    assert_eq!((host.fdb(DEVICE).len(), host.neighbours(DEVICE).len()), (1, 1));
    assert_eq!(sandbox.addresses("eth0"), ["10.88.0.1/16"]);

    // An endpoint that gets IPv6 later keeps its IPv4.
    both.endpoints.insert("e1".into(), dual(1, in_sandbox(1, &sandbox)));
    let report = agent.apply(&desired(&both));
    let error = &report.failed_endpoints[&(VNI, "e1".into())];
    assert!(matches!(error, ApplyError::Ipv6Off { ifname, .. } if ifname == "eth0"), "{error}");
    assert_eq!(sandbox.addresses("eth0"), ["10.88.0.1/16"]);

    // What the error says helps.
    host.sh("sysctl -qw net.ipv6.conf.ovl-5000.disable_ipv6=0");
    sandbox.sh("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0");
    agent.settle(&desired(&both));
    assert_eq!(host.neighbours6(DEVICE).len(), 1);
    assert_eq!(sandbox.addresses6("eth0"), ["fd00:88::1/64"]);
}

#[test]
fn an_endpoint_that_cannot_have_its_ipv6_address_is_not_left_half_made() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.mtu = 1279;
    network.endpoints.insert("e1".into(), dual(1, in_sandbox(1, &sandbox)));
    let report = agent.apply(&desired(&network));
    let error = &report.failed_endpoints[&(VNI, "e1".into())];
    assert!(matches!(error, ApplyError::NoIpv6 { .. }), "{error}");
    assert!(error.to_string().contains(sandbox.name()), "{error}");
    assert_eq!(sandbox.names(), [""; 0]);
}
