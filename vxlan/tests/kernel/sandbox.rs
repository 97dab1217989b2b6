//! Endpoints: made, adopted, repaired, removed.

use std::collections::BTreeMap;

use ovl_vxlan::{ApplyError, Desired, Home};

use crate::lab::*;

#[test]
fn an_endpoint_in_a_sandbox_is_complete() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));

    let link = sandbox.link("eth0");
    assert_eq!(link["address"], mac(1));
    assert_eq!(link["mtu"], MTU);
    assert_eq!(link["ifalias"], "ovl endpoint e1");
    assert_eq!(link["linkinfo"]["info_kind"], "macvlan");
    assert_eq!(link["linkinfo"]["info_data"]["mode"], "bridge");
    assert_eq!(link["link_index"].as_u64(), Some(host.ifindex(DEVICE)));
    assert!(sandbox.is_up("eth0") && sandbox.is_up("lo"));
    assert_eq!(sandbox.addresses("eth0"), ["10.88.0.1/16"]);
    assert_eq!(sandbox.addresses("lo"), ["127.0.0.1/8", "169.254.53.53/32"]);
    assert_eq!(host.names(), [DEVICE]);

    let again = agent.audit(&desired(&network));
    assert!(again.is_ok() && again.changes.is_empty(), "{again:#?}");
}

#[test]
fn what_someone_changed_in_a_sandbox_is_put_back_by_an_audit() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));
    for (command, change) in [
        ("ip link set eth0 down", "child_set"),
        ("ip link set eth0 mtu 1300", "child_set"),
        ("ip link set eth0 address 02:00:00:00:00:99", "child_set"),
        ("ip address del 10.88.0.1/16 dev eth0", "address_add"),
        ("ip address del 169.254.53.53/32 dev lo", "resolver_add"),
        ("ip link set lo down", "loopback_up"),
        ("ip link del eth0", "child_create"),
    ] {
        sandbox.sh(command);
        let report = agent.audit(&desired(&network));
        assert!(report.is_ok(), "{command}: {report:#?}");
        assert!(report.changes.contains_key(change), "{command}: {report:#?}");
        assert!(sandbox.is_up("eth0") && sandbox.is_up("lo"));
        assert_eq!(sandbox.addresses("eth0"), ["10.88.0.1/16"]);
        assert_eq!(sandbox.link("eth0")["mtu"], MTU);
        assert_eq!(sandbox.link("eth0")["address"], "02:42:0a:58:00:01");
    }
    // A second address that someone added is theirs.
    sandbox.sh("ip address add 10.88.7.7/16 dev eth0");
    let report = agent.audit(&desired(&network));
    assert!(report.changes.is_empty(), "{report:#?}");
}

#[test]
fn an_endpoint_for_docker_waits_on_the_host_and_is_adopted_where_docker_puts_it() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), handover(1, "ovlh1"));
    agent.settle(&desired(&network));
    let link = host.link("ovlh1");
    assert_eq!((&link["address"], &link["mtu"]), (&mac(1).into(), &MTU.into()));
    assert_eq!(link["ifalias"], "ovl endpoint e1");
    assert!(!host.is_up("ovlh1"));

    network.endpoints.insert("e1".into(), endpoint(1, Home::Transit));
    agent.settle(&desired(&network));
    assert_eq!(host.names(), [DEVICE, "ovlh1"]);
    host.sh(&format!("ip link set ovlh1 netns {} name eth3", sandbox.name()));
    sandbox.sh("ip address add 10.88.0.1/16 dev eth3");
    sandbox.sh("ip link set eth3 up");
    let index = sandbox.ifindex("eth3");
    agent.settle(&desired(&network));

    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    let report = agent.settle(&desired(&network));
    assert!(!report.changes.contains_key("child_create"), "{report:#?}");
    assert_eq!((sandbox.names(), sandbox.ifindex("eth3")), (vec!["eth3".into()], index));
    assert_eq!(sandbox.addresses("lo"), ["127.0.0.1/8", "169.254.53.53/32"]);
    let found = agent.call({
        let path = sandbox.path();
        move |d| Box::pin(async move { d.find_link(&path, endpoint(1, Home::Transit).mac).await })
    });
    assert_eq!(found.unwrap(), Some(ifname("eth3")));

    // Docker gives it back, and the endpoint is deleted.
    sandbox.sh(&format!("ip link set eth3 netns {} name ovlh1", host.name()));
    network.endpoints.clear();
    agent.settle(&desired(&network));
    assert_eq!(host.names(), [DEVICE]);
}

#[test]
fn a_leftover_on_the_host_is_adopted_when_it_fits_and_replaced_when_not() {
    let host = Netns::new("host");
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), handover(1, "ovlh1"));
    network.endpoints.insert("e2".into(), handover(2, "ovlh2"));
    Agent::start(&host).settle(&desired(&network));
    let (first, second) = (host.ifindex("ovlh1"), host.ifindex("ovlh2"));

    let agent = Agent::start(&host);
    network.endpoints.insert("e2".into(), handover(3, "ovlh2"));
    network.endpoints.insert("e3".into(), handover(2, "ovlh3"));
    agent.settle(&desired(&network));
    assert_eq!(host.ifindex("ovlh1"), first);
    assert_ne!(host.ifindex("ovlh2"), second);
    assert_eq!(host.link("ovlh2")["address"], mac(3));
    assert_eq!(host.link("ovlh3")["address"], mac(2));
}

#[test]
fn a_name_that_is_taken_is_named_and_nothing_is_left_behind() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    host.sh("ip link add ovlh2 type bridge");
    sandbox.sh("ip link add eth0 type bridge");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    network.endpoints.insert("e2".into(), handover(2, "ovlh2"));
    network.endpoints.insert("e3".into(), handover(3, "ovlh3"));
    let report = agent.apply(&desired(&network));
    assert_eq!(report.failed_endpoints.len(), 2);
    let error = report.failed_endpoints[&(VNI, "e1".into())].to_string();
    assert!(error.contains("eth0") && error.contains(sandbox.name()), "{error}");
    let error = report.failed_endpoints[&(VNI, "e2".into())].to_string();
    assert!(error.contains("ovlh2") && error.contains("on this host"), "{error}");
    assert_eq!(sandbox.names(), ["eth0"]);
    assert_eq!(host.names(), ["ovlh2", DEVICE, "ovlh3"]);
    assert!(host.link("ovlh2").get("ifalias").is_none());
}

#[test]
fn a_mac_that_is_still_in_use_is_named_and_nothing_is_left_behind() {
    let (host, old, new) = (Netns::new("host"), Netns::new("old"), Netns::new("new"));
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &old));
    Agent::start(&host).settle(&desired(&network));

    let agent = Agent::start(&host);
    network.endpoints = [("e2".into(), in_sandbox(1, &new))].into();
    let report = agent.apply(&desired(&network));
    let error = &report.failed_endpoints[&(VNI, "e2".into())];
    assert!(matches!(error, ApplyError::MacInUse { .. }), "{error}");
    assert_eq!((old.names(), new.names()), (vec!["eth0".into()], vec![]));
}

#[test]
fn a_vanished_sandbox_is_told_and_harms_no_other() {
    let (host, kept, going) = (Netns::new("host"), Netns::new("kept"), Netns::new("going"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &going));
    network.endpoints.insert("e2".into(), in_sandbox(2, &kept));
    let mut never = in_sandbox(3, &kept);
    never.home =
        Home::Sandbox { netns: "/etc/hostname".into(), ifname: ifname("eth0"), resolver: None };
    network.endpoints.insert("e3".into(), never);
    drop(going);
    let expected = [(VNI, "e1".to_owned()), (VNI, "e3".to_owned())];
    for report in [agent.apply(&desired(&network)), agent.audit(&desired(&network))] {
        assert!(report.is_ok(), "{report:#?}");
        assert_eq!(report.gone, expected);
    }
    assert!(kept.is_up("eth0"));
}

#[test]
fn a_sandbox_that_ends_later_is_told_at_the_next_pass_and_keeps_nothing_alive() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));
    drop(sandbox);
    let report = agent.apply(&desired(&network));
    assert_eq!(report.gone, [(VNI, "e1".to_owned())]);
    // The child went with its namespace, so the device is free.
    let deadline = std::time::Duration::from_secs(5);
    wait_until(deadline, || agent.settle(&Desired::default()).orphans.is_empty());
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn an_endpoint_that_leaves_takes_only_its_own_with_it() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let (mut first, mut second) = (network(VTEP_A), network(VTEP_A));
    second.vni = 5001;
    first.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    let mut other = in_sandbox(2, &sandbox);
    other.home =
        Home::Sandbox { netns: sandbox.path(), ifname: ifname("eth1"), resolver: Some(RESOLVER) };
    second.endpoints.insert("e2".into(), other);
    let mut wanted = desired(&first);
    wanted.networks.insert(5001, second);
    agent.settle(&wanted);
    assert_eq!(sandbox.names(), ["eth0", "eth1"]);

    wanted.networks.remove(&VNI);
    let report = agent.settle(&wanted);
    assert_eq!(report.changes, BTreeMap::from([("child_delete", 1), ("device_delete", 1)]));
    assert_eq!(sandbox.names(), ["eth1"]);
    assert_eq!(sandbox.addresses("lo"), ["127.0.0.1/8", "169.254.53.53/32"]);
    agent.settle(&Desired::default());
    assert_eq!((sandbox.names(), host.names()), (vec![], vec![]));
    assert_eq!(sandbox.addresses("lo"), ["127.0.0.1/8"]);
}

#[test]
fn an_endpoint_follows_its_container_into_another_sandbox() {
    let (host, old, new) = (Netns::new("host"), Netns::new("old"), Netns::new("new"));
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &old));
    agent.settle(&desired(&network));
    network.endpoints.insert("e1".into(), in_sandbox(1, &new));
    agent.settle(&desired(&network));
    assert_eq!((old.names(), new.names()), (vec![], vec!["eth0".into()]));

    // Another address in place, another MAC by a new interface.
    let index = new.ifindex("eth0");
    let mut changed = in_sandbox(1, &new);
    changed.address = "10.88.3.3/16".parse().unwrap();
    network.endpoints.insert("e1".into(), changed);
    agent.settle(&desired(&network));
    assert_eq!(new.addresses("eth0"), ["10.88.3.3/16"]);
    assert_eq!(new.ifindex("eth0"), index);
    network.endpoints.insert("e1".into(), in_sandbox(4, &new));
    agent.settle(&desired(&network));
    assert_eq!(new.addresses("eth0"), ["10.88.0.4/16"]);
    assert_eq!(new.link("eth0")["address"], mac(4));
}

#[test]
fn hundreds_of_endpoints_fit_on_one_network() {
    let host = Netns::new("host");
    let sandboxes: Vec<Netns> = (0..15).map(|_| Netns::new("box")).collect();
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    for n in 1..=300 {
        let home = Home::Sandbox {
            netns: sandboxes[usize::from(n) % 15].path(),
            ifname: ifname(&format!("eth{n}")),
            resolver: Some(RESOLVER),
        };
        let endpoint = endpoint(n, home);
        network.endpoints.insert(format!("e{n}"), endpoint);
    }
    agent.settle(&desired(&network));
    assert!(sandboxes.iter().all(|s| s.names().len() == 20));
    assert_eq!(sandboxes[0].addresses("eth300"), ["10.88.1.44/16"]);
    let clean = agent.audit(&desired(&network));
    assert!(clean.changes.is_empty(), "{:?}", clean.changes);
    agent.settle(&Desired::default());
    assert!(sandboxes.iter().all(|s| s.names().is_empty()));
    assert_eq!(host.names(), [""; 0]);
}
