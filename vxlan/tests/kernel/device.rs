//! Devices: how they look, what stands in their way, what can be changed, when they go.

use std::{collections::BTreeMap, net::UdpSocket};

use ovl_vxlan::{ApplyError, Desired, netns};

use crate::lab::*;

#[test]
fn a_network_gets_one_device_that_is_quiet_towards_the_host() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let report = agent.settle(&desired(&network(VTEP_A)));
    assert_eq!(report.changes, BTreeMap::from([("device_create", 1)]));

    let link = host.link(DEVICE);
    assert_eq!(link["ifalias"], "ovl network rethinkdb");
    assert_eq!(link["address"], "02:6f:c0:00:02:01");
    assert_eq!(link["mtu"], MTU);
    assert_eq!(link["inet6_addr_gen_mode"], "none");
    let vxlan = &link["linkinfo"]["info_data"];
    assert_eq!(vxlan["id"], VNI);
    assert_eq!(vxlan["port"], PORT);
    assert_eq!(vxlan["local"], "192.0.2.1");
    assert_eq!(vxlan["learning"], false);
    assert_eq!(vxlan["proxy"], true);
    assert!(vxlan.get("l2miss").is_none() && vxlan.get("l3miss").is_none());
    assert!(host.is_up(DEVICE));
    let sysctl = |name: &str| host.sh(&format!("cat /proc/sys/net/{name}")).trim().to_owned();
    assert_eq!(sysctl("ipv4/conf/ovl-5000/arp_ignore"), "8");
    assert_eq!(sysctl("ipv6/conf/ovl-5000/accept_ra"), "0");
    assert_eq!(sysctl("ipv6/conf/ovl-5000/disable_ipv6"), "0");
    assert_eq!(host.sh("ip address show dev ovl-5000").matches("inet").count(), 0);
    assert_eq!(agent.warnings(), [""; 0]);

    let again = agent.audit(&desired(&network(VTEP_A)));
    assert!(again.is_ok() && again.changes.is_empty(), "{again:#?}");
}

#[test]
fn a_setting_that_someone_changed_is_put_back() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let desired = desired(&network(VTEP_A));
    agent.settle(&desired);
    let index = host.ifindex(DEVICE);
    for (command, setting) in [
        ("ip link set ovl-5000 down", "down"),
        ("ip link set ovl-5000 mtu 1300", "mtu"),
        ("ip link set ovl-5000 addrgenmode eui64", "addrgenmode"),
        ("ip link set ovl-5000 type vxlan learning", "learning"),
        ("ip link set ovl-5000 type vxlan local 192.0.2.7", "local"),
        ("sysctl -qw net.ipv4.conf.ovl-5000.arp_ignore=0", "arp_ignore"),
        ("sysctl -qw net.ipv6.conf.ovl-5000.accept_ra=1", "accept_ra"),
    ] {
        let before = host.link(DEVICE);
        host.sh(command);
        let report = agent.apply(&desired);
        assert!(report.is_ok(), "{setting}: {report:#?}");
        assert_eq!(report.changes, BTreeMap::from([("device_set", 1)]), "{setting}");
        assert_eq!(host.link(DEVICE), before, "{setting}");
    }
    assert_eq!(host.ifindex(DEVICE), index);
}

#[test]
fn what_the_kernel_can_change_is_changed_in_place_under_running_containers() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));
    let (device, child) = (host.ifindex(DEVICE), sandbox.ifindex("eth0"));

    for mtu in [1300, 1450] {
        network.name = format!("renamed-{mtu}");
        network.local = VTEP_B;
        network.mtu = mtu;
        agent.settle(&desired(&network));
        assert_eq!(host.link(DEVICE)["mtu"], mtu);
        assert_eq!(sandbox.link("eth0")["mtu"], mtu);
    }
    assert_eq!(host.link(DEVICE)["ifalias"], "ovl network renamed-1450");
    assert_eq!(host.link(DEVICE)["linkinfo"]["info_data"]["local"], "192.0.2.2");
    assert_eq!((host.ifindex(DEVICE), sandbox.ifindex("eth0")), (device, child));
}

#[test]
fn another_port_replaces_a_device_but_never_under_a_container() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend([remote(9, VTEP_B)]);
    agent.settle(&desired(&network));
    network.port = 4791;
    let report = agent.settle(&desired(&network));
    assert_eq!(report.changes["device_replace"], 1);
    assert_eq!(host.link(DEVICE)["linkinfo"]["info_data"]["port"], 4791);
    assert_eq!(host.fdb(DEVICE), [(mac(9), "192.0.2.2".into())]);

    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));
    let (device, child) = (host.ifindex(DEVICE), sandbox.ifindex("eth0"));
    network.port = 4792;
    network.remotes.extend([remote(10, VTEP_B)]);
    let report = agent.apply(&desired(&network));
    let error = &report.failed_networks[&VNI];
    assert!(matches!(error, ApplyError::DeviceInUse { have: 4791, want: 4792, .. }), "{error}");
    // The rest of the network goes on.
    assert_eq!(host.fdb(DEVICE).len(), 2);
    assert_eq!((host.ifindex(DEVICE), sandbox.ifindex("eth0")), (device, child));
    assert_eq!(host.names(), [DEVICE]);
}

#[test]
fn an_undesired_device_goes_and_leaves_nothing() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.remotes.extend((10..20).map(|n| remote(n, VTEP_B)));
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    network.endpoints.insert("e2".into(), handover(2, "ovlh2"));
    agent.settle(&desired(&network));
    assert_eq!(host.names(), [DEVICE, "ovlh2"]);

    let report = agent.settle(&Desired::default());
    assert_eq!(report.orphans, [0; 0]);
    assert_eq!(host.names(), [""; 0]);
    assert_eq!(sandbox.names(), [""; 0]);
    assert_eq!(sandbox.addresses("lo"), ["127.0.0.1/8"]);
}

#[test]
fn an_undesired_device_stays_while_anything_hangs_on_it_in_any_namespace() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    Agent::start(&host).settle(&desired(&network));

    // A restarted agent that has lost its state, a child that is up and then one that is down.
    let agent = Agent::start(&host);
    for _ in 0..2 {
        let report = agent.settle(&Desired::default());
        assert_eq!(report.orphans, [VNI]);
        assert!(report.changes.is_empty(), "{report:#?}");
        assert_eq!(host.names(), [DEVICE]);
        assert_eq!(sandbox.names(), ["eth0"]);
        sandbox.sh("ip link set eth0 down");
    }
    sandbox.sh("ip link del eth0");
    let report = agent.settle(&Desired::default());
    assert_eq!((report.orphans, host.names()), (vec![], vec![]));
}

#[test]
fn a_foreign_device_of_the_same_vni_and_port_is_named() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    host.sh("ip link add other type vxlan id 5000 dstport 4790 local 192.0.2.9");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    let report = agent.apply(&desired(&network));
    let error = &report.failed_networks[&VNI];
    assert!(matches!(error, ApplyError::VniTaken { foreign, .. } if foreign == "other"), "{error}");
    assert!(error.to_string().contains("ip link del other"), "{error}");
    let error = &report.failed_endpoints[&(VNI, "e1".into())];
    assert!(matches!(error, ApplyError::NoDevice { .. }), "{error}");
    assert_eq!((host.names(), sandbox.names()), (vec!["other".into()], vec![]));

    // Where Docker's own overlay has it: made here, moved away.
    host.sh(&format!("ip link set other netns {}", sandbox.name()));
    let report = agent.apply(&desired(&network));
    let error = &report.failed_networks[&VNI];
    assert!(matches!(error, ApplyError::VniTakenElsewhere { .. }), "{error}");

    sandbox.sh("ip link del other");
    agent.settle(&desired(&network));
}

#[test]
fn what_holds_the_udp_port_is_named() {
    let host = Netns::new("host");
    host.sh("ip link set lo up");
    let agent = Agent::start(&host);
    let wanted = desired(&network(VTEP_A));
    host.sh("ip link add meta type vxlan external dstport 4790");
    host.sh("ip link set meta up");
    let report = agent.apply(&wanted);
    let error = &report.failed_networks[&VNI];
    assert!(matches!(error, ApplyError::PortTaken { foreign, .. } if foreign == "meta"), "{error}");
    assert_eq!(host.names(), ["meta"]);
    host.sh("ip link del meta");

    let socket = netns::run(&host.path(), || UdpSocket::bind(("0.0.0.0", PORT)));
    let report = agent.apply(&wanted);
    let error = &report.failed_networks[&VNI];
    assert!(matches!(error, ApplyError::PortInUse { port: PORT, .. }), "{error}");
    assert_eq!(host.names(), [""; 0]);
    drop(socket);
    agent.settle(&wanted);
}

#[test]
fn one_failing_network_does_not_hold_up_another() {
    let host = Netns::new("host");
    host.sh("ip link add other type vxlan id 5000 dstport 4790");
    let agent = Agent::start(&host);
    let mut wanted = desired(&network(VTEP_A));
    let mut second = network(VTEP_A);
    second.vni = 5001;
    wanted.networks.insert(5001, second);
    let report = agent.apply(&wanted);
    assert_eq!(report.failed_networks.keys().collect::<Vec<_>>(), [&VNI]);
    assert!(host.is_up("ovl-5001"));
}
