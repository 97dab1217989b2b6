//! Addresses, as Docker's flags ask for them.
use super::rig::{NET, Rig};

#[test]
fn asked_for_addresses_are_given_and_no_other() {
    let rig = Rig::up("ip");
    let more = "--subnet 10.45.0.0/16 --ip-range 10.45.1.0/24 --gateway 10.45.1.1 \
                --aux-address printer=10.45.1.2";
    rig.network(NET, &more.split_whitespace().collect::<Vec<_>>());
    for at in [0, 1] {
        let name = format!("any-{at}");
        rig.run(at, &name, &[]);
        let address = rig.address(at, &name);
        assert!(address.starts_with("10.45.1."), "{address} is not of the range");
        assert!(!["10.45.1.1", "10.45.1.2"].contains(&address.as_str()), "{address} is reserved");
    }
    let mac = "02:42:aa:bb:cc:dd";
    rig.run(0, "fixed", &["--ip", "10.45.7.7", "--mac-address", mac]);
    assert_eq!(rig.address(0, "fixed"), "10.45.7.7");
    let link = rig.exec(0, "fixed", &["ip", "addr", "show", "eth0"]).stdout;
    assert!(link.contains(mac) && link.contains("10.45.7.7/16"), "{link}");
    rig.reaches(1, "any-1", "fixed");
    rig.reaches(0, "fixed", "any-1");

    // What is taken is taken on every host, and what is reserved is not given out.
    for taken in ["10.45.7.7", "10.45.1.1", "10.45.1.2"] {
        let args = ["run", "--rm", "--net", NET, "--ip", taken, "busybox", "true"];
        let said = rig.refused(1, &args);
        assert!(said.contains(taken), "it does not name {taken}: {said}");
    }
}

#[test]
fn ipv6_comes_with_a_subnet_or_without() {
    let rig = Rig::up("ipv6");
    rig.network(NET, &["--ipv6"]);
    rig.network("six", &["--ipv6", "--subnet", "fd00:45::/64"]);
    for at in [0, 1] {
        rig.run(at, &format!("c{at}"), &[]);
    }
    rig.run_on(0, "six", "s0", &["--ip6", "fd00:45::77"]);
    rig.run_on(1, "six", "s1", &[]);
    let address = |at, name: &str, network: &str| {
        let address = rig.on_network(at, name, network, "GlobalIPv6Address");
        assert!(!address.is_empty(), "{name} has no IPv6 address on {network}");
        address
    };
    assert_eq!(address(0, "s0", "six"), "fd00:45::77");
    assert!(address(1, "s1", "six").starts_with("fd00:45::"));
    // Docker may show an IPv6 gateway with its prefix length, or without.
    let subnets = [0, 1].map(|at| rig.lists(at, NET)["IPAM"]["Config"].to_string());
    let subnets = subnets.map(|config| config.replace("::1/64", "::1"));
    assert_eq!(subnets[0], subnets[1]);
    for (from, name, network) in [("c1", "c0", NET), ("s1", "s0", "six")] {
        let there = address(0, name, network);
        rig.reaches(1, from, &there);
        rig.reaches(1, from, name);
        let answer = rig.dig(1, from, name, "AAAA");
        assert!(answer.addresses.contains(&there), "{name}: {answer:?}");
    }
}

#[test]
fn connect_takes_addresses_and_aliases() {
    let rig = Rig::up("connect-ip");
    rig.network(NET, &["--subnet", "10.45.0.0/16"]);
    rig.run(1, "asker", &[]);
    rig.ok(0, &["run", "-d", "--name", "late", "busybox", "sleep", "3600"]);
    let connect = "network connect --ip 10.45.3.3 --alias other --link-local-ip 169.254.77.7";
    let args: Vec<_> = connect.split_whitespace().chain([NET, "late"]).collect();
    rig.ok(0, &args);
    assert_eq!(rig.address(0, "late"), "10.45.3.3");
    rig.reaches(1, "asker", "10.45.3.3");
    for name in ["late", "other"] {
        rig.resolves(1, "asker", name, &["10.45.3.3"]);
    }
    let addresses = rig.exec(0, "late", &["ip", "addr"]).stdout;
    assert!(addresses.contains("169.254.77.7"), "{addresses}");
}

#[test]
fn an_internal_network_has_no_way_out() {
    let rig = Rig::up("internal");
    rig.network(NET, &["--internal"]);
    rig.run(0, "one", &[]);
    rig.run(1, "two", &[]);
    rig.reaches(0, "one", "two");
    rig.reaches(1, "two", "one");
    let routes = rig.exec(0, "one", &["ip", "route"]).stdout;
    assert!(!routes.contains("default"), "{routes}");
    rig.does_not_reach(0, "one", &rig.hosts[1].address().to_string());
}
