//! Two hosts that ask for addresses of one network at the same time.
use std::collections::BTreeSet;
use std::thread;

use ovl_tests::{Container, Host, StoreKind};

use crate::support::{
    SPREAD, TestLab, ctl, endpoint, endpoint_names, endpoints, eventually, holds, pings, text,
};

const EACH: usize = 20;

#[test]
fn racing_hosts_get_distinct_addresses_from_sqlite() {
    race("race-sqlite", StoreKind::Sqlite);
}

#[test]
fn racing_hosts_get_distinct_addresses_from_consul() {
    race("race-consul", StoreKind::Consul);
}

fn race(name: &str, store: StoreKind) {
    let lab = TestLab::up(name, &["bee-1", "bee-2"], store);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let containers: Vec<_> = hosts.iter().flat_map(containers).collect();
    thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| {
                container.join("net", &[]).unwrap_or_else(|error| panic!("{error}"));
            });
        }
    });
    for host in &hosts {
        let what = format!("{} listing {} endpoints", host.name(), 2 * EACH);
        let all = eventually(&what, SPREAD, || {
            let all = endpoints(host);
            holds(all.len() == 2 * EACH, all.len()).map(|()| all)
        });
        let addresses: BTreeSet<_> = all.iter().map(|end| text(&end["ipv4"])).collect();
        assert_eq!(addresses.len(), 2 * EACH, "an address was given twice: {all:?}");
        let macs: BTreeSet<_> = all.iter().map(|end| text(&end["mac"])).collect();
        assert_eq!(macs.len(), 2 * EACH, "a MAC was given twice: {all:?}");
    }
    pings(&containers[0], containers[2 * EACH - 1].name());
    one_host_leaves(&hosts, &containers);
}

/// What one host detaches is gone, and the other's is as it was.
fn one_host_leaves(hosts: &[Host], containers: &[Container]) {
    let (leaving, staying) = containers.split_at(EACH);
    let before: Vec<_> = staying.iter().map(|end| endpoint(&hosts[1], end.name())).collect();
    thread::scope(|scope| {
        for container in leaving {
            scope.spawn(|| container.leave().unwrap_or_else(|error| panic!("{error}")));
        }
    });
    for host in hosts {
        eventually(&format!("{} listing the rest", host.name()), SPREAD, || {
            let names = endpoint_names(host);
            holds(names.len() == EACH, names)
        });
    }
    let after: Vec<_> = staying.iter().map(|end| endpoint(&hosts[1], end.name())).collect();
    assert_eq!(before, after, "endpoints that stayed have changed");
    pings(&staying[0], staying[EACH - 1].name());
}

fn containers(host: &Host) -> Vec<Container> {
    let name = |number| format!("{}-c{number}", host.name()).parse().unwrap();
    (0..EACH).map(|number| Container::create(host, &name(number)).unwrap()).collect()
}
