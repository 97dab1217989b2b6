//! An agent that ends and comes back, while packets flow.
use ovl_tests::{Host, StoreKind};

use crate::ping::Ping;
use crate::support::{
    SPREAD, TestLab, address_of, ctl, endpoint, endpoint_names, eventually, holds, link, pings,
    text,
};

const HOSTS: [&str; 2] = ["bee-1", "bee-2"];
/// How often each agent is ended and started again.
const ROUNDS: usize = 5;

#[test]
fn a_killed_agent_comes_back_and_no_packet_is_lost() {
    comes_back("killed", |host| host.kill_agent().unwrap());
}

#[test]
fn a_stopped_agent_comes_back_and_no_packet_is_lost() {
    comes_back("stopped", |host| host.stop_agent().unwrap());
}

fn comes_back(name: &str, end: impl Fn(&Host)) {
    let lab = TestLab::up(name, &HOSTS, StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let leader = lab.attach("bee-1", "net", "leader").unwrap();
    let follower = lab.attach("bee-2", "net", "follower").unwrap();
    pings(&leader, "follower");
    pings(&follower, "leader");
    let before = [state(&hosts[0]), state(&hosts[1])];

    let there = Ping::start(&leader, &address_of(&leader, "follower"));
    let back = Ping::start(&follower, &address_of(&follower, "leader"));
    for host in hosts.iter().cycle().take(ROUNDS * HOSTS.len()) {
        end(host);
        host.start_agent().unwrap_or_else(|error| panic!("{error}"));
        all_is_known_again(&hosts);
    }
    pings(&leader, "follower");
    pings(&follower, "leader");
    for answers in [there.end(), back.end()] {
        assert!(answers.count() > 10 * ROUNDS, "the ping did not run: {answers:?}");
        assert_eq!(answers.lost(), [0; 0], "packets were lost");
    }
    assert_eq!(before, [state(&hosts[0]), state(&hosts[1])], "devices and addresses must be kept");
    detaching_still_works(&lab, &hosts);
}

fn all_is_known_again(hosts: &[Host]) {
    for host in hosts {
        eventually(&format!("{} knowing both endpoints", host.name()), SPREAD, || {
            let names = endpoint_names(host);
            holds(names == ["follower", "leader"], names)?;
            let alive = ctl(host, &["status"])["members"]["alive"].clone();
            holds(alive == 2, alive)
        });
    }
}

/// Index of the vxlan device, and both endpoints' addresses and MACs.
fn state(host: &Host) -> (u64, Vec<String>) {
    let device = ctl(host, &["network", "inspect", "net"])["device"].clone();
    let index = link(host, &text(&device)).map(|link| link["ifindex"].as_u64().unwrap());
    let ends = ["leader", "follower"].map(|name| endpoint(host, name));
    let ends = ends.iter().map(|end| format!("{} {}", text(&end["ipv4"]), text(&end["mac"])));
    (index.unwrap_or_else(|| panic!("{} has no device", host.name())), ends.collect())
}

/// What was attached before the restart is the agent's to detach.
fn detaching_still_works(lab: &TestLab, hosts: &[Host]) {
    for name in ["leader", "follower"] {
        lab.container(name).unwrap().detach().unwrap_or_else(|error| panic!("{error}"));
    }
    eventually("bee-2 knowing of no endpoint", SPREAD, || {
        let names = endpoint_names(&hosts[1]);
        holds(names.is_empty(), names)
    });
    ctl(&hosts[0], &["network", "rm", "net"]);
}
