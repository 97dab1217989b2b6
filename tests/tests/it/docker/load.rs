//! Many containers, at once and on one network.
use std::time::Duration;

use ovl_tests::docker::IMAGE;

use super::rig::{NET, Rig, at_once};
use crate::support::{eventually, holds};

/// `docker run`s at once, over both hosts.
const AT_ONCE: usize = 16;
const MANY: usize = 200;
/// How many of the many are started at the same time.
const WORKERS: usize = 8;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn sixteen_runs_at_once_from_two_hosts_all_succeed() {
    let rig = Rig::up("at-once");
    rig.network(NET, &[]);
    at_once(0..AT_ONCE, |number| rig.run(number % 2, &format!("c{number}"), &[]));
    let mut addresses: Vec<_> =
        (0..AT_ONCE).map(|number| rig.address(number % 2, &format!("c{number}"))).collect();
    for number in 1..AT_ONCE {
        rig.reaches(0, "c0", &format!("c{number}"));
        rig.reaches(1, "c1", &format!("c{}", number - 1));
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), AT_ONCE, "an address was given out twice");
}

#[test]
fn two_hundred_containers_of_one_host_are_on_one_network() {
    let rig = Rig::up("many");
    // Internal: docker_gwbridge and its veths are Docker's own and do not count.
    rig.network(NET, &["--internal"]);
    rig.run(1, "asker", &[]);
    at_once(0..WORKERS, |worker| {
        for number in (worker..MANY).step_by(WORKERS) {
            let (name, args) = (format!("c{number}"), ["--network-alias", "all"]);
            let run = [&["run", "-d", "--net", NET, "--name", &name][..], &args].concat();
            rig.ok(0, &[&run[..], &[IMAGE, "sleep", "3600"]].concat());
        }
    });
    for number in [0, 1, MANY / 2, MANY - 1] {
        rig.reaches(1, "asker", &format!("c{number}"));
    }
    eventually("every container being listed on the other host", LIMIT, || {
        let endpoints = crate::support::endpoint_names(&rig.hosts[1]);
        holds(endpoints.len() == MANY + 1, endpoints.len())
    });
}
