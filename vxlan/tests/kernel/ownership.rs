//! What is not ours is left alone.

use ovl_vxlan::{ApplyError, Desired};

use crate::lab::*;

#[test]
fn a_device_with_our_name_but_not_our_mark_is_left_alone_and_named() {
    let host = Netns::new("host");
    host.sh("ip link add ovl-5000 type vxlan id 5000 dstport 4999");
    let before = host.link(DEVICE);
    let agent = Agent::start(&host);
    let report = agent.apply(&desired(&network(VTEP_A)));
    let error = &report.failed_networks[&VNI];
    assert!(matches!(error, ApplyError::NameTaken { ifname, .. } if ifname == DEVICE), "{error}");
    assert_eq!(host.link(DEVICE), before);
    agent.settle(&Desired::default());
    assert_eq!(host.link(DEVICE), before);
}

#[test]
fn foreign_interfaces_survive_every_pass() {
    let host = Netns::new("host");
    host.sh("ip link add ovl-x type bridge");
    host.sh("ip link add vx9 type vxlan id 9 dstport 4999");
    host.sh("ip link add link vx9 name mv9 type macvlan mode bridge");
    let agent = Agent::start(&host);
    agent.settle(&desired(&network(VTEP_A)));
    agent.settle(&Desired::default());
    assert_eq!(host.names(), ["ovl-x", "vx9", "mv9"]);
}

#[test]
fn an_operators_own_macvlan_on_our_device_is_kept_and_keeps_the_device() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    agent.settle(&desired(&network(VTEP_A)));
    host.sh("ip link add link ovl-5000 name shim type macvlan mode bridge");
    agent.settle(&desired(&network(VTEP_A)));
    assert_eq!(host.names(), [DEVICE, "shim"]);
    let report = agent.settle(&Desired::default());
    assert_eq!(report.orphans, [VNI]);
    assert_eq!(host.names(), [DEVICE, "shim"]);
    host.sh("ip link del shim");
    agent.settle(&Desired::default());
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn a_probe_that_a_crash_left_behind_is_in_nobodys_way() {
    let host = Netns::new("host");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    let crash = || host.sh("ip link add link ovl-5000 name ovlp-5000 type macvlan mode passthru");
    agent.settle(&desired(&network));
    crash();
    network.endpoints.insert("e1".into(), handover(1, "ovlh1"));
    agent.settle(&desired(&network));
    assert_eq!(host.names(), [DEVICE, "ovlh1"]);
    network.endpoints.clear();
    agent.settle(&desired(&network));
    crash();
    network.port = 4791;
    agent.settle(&desired(&network));
    assert_eq!(host.names(), [DEVICE]);
    crash();
    agent.settle(&Desired::default());
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn a_device_that_a_crash_left_without_its_alias_is_ours_by_its_mac() {
    let host = Netns::new("host");
    host.sh("ip link add ovl-5000 address 02:6f:c0:00:02:01 type vxlan id 5000 dstport 4790 proxy");
    let index = host.ifindex(DEVICE);
    let agent = Agent::start(&host);
    agent.settle(&desired(&network(VTEP_A)));
    assert_eq!(host.ifindex(DEVICE), index);
    assert_eq!(host.link(DEVICE)["ifalias"], "ovl network rethinkdb");
    agent.settle(&Desired::default());
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn an_agent_in_a_container_of_another_ovl_keeps_its_own_interface() {
    let (outer, inner) = (Netns::new("outer"), Netns::new("inner"));
    for n in 0..5 {
        outer.sh(&format!("ip link add filler{n} type bridge"));
    }
    let agent = Agent::start(&outer);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &inner));
    agent.settle(&desired(&network));
    // The same index as the outer device has, seen from inside.
    let index = outer.ifindex(DEVICE);
    inner.sh(&format!(
        "ip link add index {index} name ovl-6000 address 02:6f:0a:58:00:01 type vxlan id 6000 dstport 4790 proxy"
    ));
    let nested = Agent::start(&inner);
    let mut second = network.clone();
    (second.vni, second.endpoints) = (6000, [].into());
    nested.settle(&desired(&second));
    assert_eq!(inner.ifindex("ovl-6000"), index);
    assert!(inner.names().contains(&"eth0".to_owned()));
}
