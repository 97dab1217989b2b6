//! Questions about the host.

use std::{net::Ipv4Addr, path::PathBuf};

use ovl_vxlan::{ApplyError, Home};

use crate::lab::*;

#[test]
fn the_underlays_address_and_mtu_are_found() {
    let (host, _other) = two_hosts();
    host.sh("ip link set u0 mtu 1480");
    let agent = Agent::start(&host);
    let address = |name: &'static str| {
        agent.call(move |d| Box::pin(async move { d.interface_address(name).await }))
    };
    assert_eq!(address("u0").unwrap(), VTEP_A);
    for name in ["no-such", "../../etc", "a-name-that-is-too-long", ""] {
        assert!(matches!(address(name), Err(ApplyError::NoSuchInterface(_))), "{name}");
    }
    host.sh("ip address flush dev u0");
    assert!(matches!(address("u0"), Err(ApplyError::NoAddress(_))));
    host.sh("ip address add 192.0.2.1/24 dev u0");

    let mtu = |local| agent.call(move |d| Box::pin(async move { d.underlay_mtu(local).await }));
    assert_eq!(mtu(VTEP_A).unwrap(), 1480);
    assert_eq!(mtu(Ipv4Addr::LOCALHOST).unwrap(), u16::MAX);
    assert!(matches!(mtu(VTEP_B), Err(ApplyError::NoSuchAddress(_))));
}

#[test]
fn subnets_that_the_host_uses_are_told_without_the_default_route() {
    let (host, _other) = two_hosts();
    host.sh("ip route add default via 192.0.2.2");
    host.sh("ip route add 128.0.0.0/1 via 192.0.2.2");
    host.sh("ip route add 10.7.0.0/16 via 192.0.2.2");
    host.sh("ip route add blackhole 10.9.0.0/16");
    host.sh("ip route add 100.64.0.0/10 via 192.0.2.2 table 52");
    let agent = Agent::start(&host);
    let used = agent.call(|d| Box::pin(async move { d.used_subnets().await }));
    let used: Vec<String> = used.unwrap().iter().map(ToString::to_string).collect();
    let expected = ["10.7.0.0/16", "10.9.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "192.0.2.0/24"];
    assert_eq!(used, expected);
}

#[test]
fn a_link_is_found_by_its_mac_inside_a_namespace() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let find = |path: PathBuf| {
        let mac = endpoint(1, Home::Transit).mac;
        agent.call(move |d| Box::pin(async move { d.find_link(&path, mac).await }))
    };
    assert_eq!(find(sandbox.path()).unwrap(), None);
    // Docker gives such MACs too.
    sandbox.sh(&format!("ip link add d0 address {} type bridge", mac(1)));
    assert_eq!(find(sandbox.path()).unwrap(), None);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    agent.settle(&desired(&network));
    assert_eq!(find(sandbox.path()).unwrap(), Some(ifname("eth0")));
    sandbox.sh("ip link set eth0 down");
    assert_eq!(find(sandbox.path()).unwrap(), None, "Docker is not done with it");
    let error = find("/run/netns/no-such".into()).unwrap_err();
    assert!(matches!(&error, ApplyError::Netns(e) if e.is_gone()), "{error}");
}
