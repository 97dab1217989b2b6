//! Hosts that vanish and agents that hang, as the others see them.
use ovl_tests::{Host, StoreKind};

use crate::ping::Ping;
use crate::support::{
    FAILURE, SPREAD, THREE, TestLab, address_of, ctl, endpoint, endpoint_names, eventually, fdb,
    holds, neighbours, pings, text, vni,
};

#[test]
fn a_crashed_host_is_forgotten_and_comes_back() {
    let lab = TestLab::up("crash", &THREE, StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let one = lab.attach("bee-1", "net", "one").unwrap();
    let two = lab.attach("bee-2", "net", "two").unwrap();
    let three = lab.attach("bee-3", "net", "three").unwrap();
    pings(&one, "three");
    pings(&two, "three");
    let lost = endpoint(&hosts[0], "three");

    hosts[2].kill_agent().unwrap();
    hosts[2].cut().unwrap();
    for host in &hosts[..2] {
        forgets(host, &text(&lost["ipv4"]), &text(&lost["mac"]));
    }
    pings(&one, "two");

    hosts[2].heal().unwrap();
    hosts[2].start_agent().unwrap_or_else(|error| panic!("{error}"));
    for host in &hosts {
        eventually(&format!("{} seeing all again", host.name()), FAILURE, || {
            let names = endpoint_names(host);
            holds(names == ["one", "three", "two"], names)
        });
    }
    assert_eq!(endpoint(&hosts[0], "three")["ipv4"], lost["ipv4"], "it kept its address");
    pings(&one, "three");
    pings(&three, "two");
}

fn forgets(host: &Host, ipv4: &str, mac: &str) {
    let device = format!("ovl-{}", vni(host, "net"));
    eventually(&format!("{} forgetting the crashed host", host.name()), FAILURE, || {
        let names = endpoint_names(host);
        holds(names == ["one", "two"], names)?;
        let resolved = host.ctl(&["resolve", "three"]).map_err(|error| error.chain())?;
        holds(!resolved.ok(), resolved.stdout)?;
        let rows = fdb(host, &device);
        holds(!rows.iter().any(|row| row.starts_with(mac)), rows)?;
        let rows = neighbours(host, &device);
        holds(!rows.iter().any(|row| row.starts_with(&format!("{ipv4} "))), rows)
    });
}

#[test]
fn a_frozen_agent_rejoins_when_it_is_thawed() {
    let lab = TestLab::up("frozen", &THREE, StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let one = lab.attach("bee-1", "net", "one").unwrap();
    lab.attach("bee-3", "net", "three").unwrap();
    pings(&one, "three");
    let ping = Ping::start(&one, &address_of(&one, "three"));

    hosts[2].freeze_agent().unwrap();
    for host in &hosts[..2] {
        eventually(&format!("{} giving bee-3 up", host.name()), FAILURE, || {
            let state = member_state(host, "bee-3");
            holds(state == "down", state)
        });
    }
    hosts[2].thaw_agent().unwrap();
    for host in &hosts {
        eventually(&format!("{} seeing three members", host.name()), FAILURE, || {
            let states = THREE.map(|member| member_state(host, member));
            holds(states.iter().all(|state| state == "alive"), states)
        });
        eventually(&format!("{} seeing both endpoints", host.name()), SPREAD, || {
            let names = endpoint_names(host);
            holds(names == ["one", "three"], names)
        });
    }
    pings(&one, "three");
    // Its host answered all the while, so its endpoints stayed reachable.
    let answers = ping.end();
    assert!(answers.count() > 100, "the ping did not run: {answers:?}");
    assert_eq!(answers.lost(), [0; 0], "packets to a frozen agent's container were lost");
}

#[test]
fn a_partition_heals() {
    let lab = TestLab::up("partition", &THREE, StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let one = lab.attach("bee-1", "net", "one").unwrap();
    hosts[2].cut().unwrap();
    eventually("bee-1 giving bee-3 up", FAILURE, || {
        let state = member_state(&hosts[0], "bee-3");
        holds(state == "down", state)
    });
    // Both sides go on: the store is a file that all three see.
    lab.attach("bee-2", "net", "two").unwrap();
    let three = lab.attach("bee-3", "net", "three").unwrap();
    hosts[2].heal().unwrap();
    for host in &hosts {
        eventually(&format!("{} seeing all endpoints", host.name()), FAILURE, || {
            let names = endpoint_names(host);
            holds(names == ["one", "three", "two"], names)
        });
    }
    pings(&one, "three");
    pings(&three, "two");
}

fn member_state(host: &Host, member: &str) -> String {
    let members = ctl(host, &["members"]);
    let all = members.as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|row| row["name"] == member);
    found.map_or_else(|| "unknown".to_owned(), |row| text(&row["state"]))
}
