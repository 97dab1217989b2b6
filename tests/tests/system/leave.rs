//! `ovlctl leave`: the host goes out of the cluster, and with --purge nothing of ovl is left on it.
use ovl_tests::Machine;
use ovl_tests::machine::Image;

use crate::support::{
    READY, Site, UNIT, devices, docker, endpoints, eventually, holds, members, newer, ok, systemctl,
};

#[test]
fn a_host_that_leaves_gives_all_back_and_its_unit_stays_stopped() {
    let site = Site::with_containers("leave", Image::Bookworm, &newer());
    let refused = site[1].run(&["ovlctl", "leave"]).unwrap();
    assert!(!refused.ok(), "it left its containers");
    assert!(refused.stderr.contains("bert"), "the endpoint is not named: {}", refused.stderr);
    site[1].wait_for_state(UNIT, "active", READY).unwrap();
    site.reach_each_other();

    docker(&site[1], &["rm", "-f", "bert"]);
    ok(&site[1], &["ovlctl", "leave"]);
    is_out(&site);
    assert!(leases(&site).iter().all(|lease| !lease.contains("bee")), "{:?}", leases(&site));
    // Not even systemd's own means bring it back before somebody asks for it.
    assert_eq!(site[1].property(UNIT, "ExecMainStatus").unwrap(), "3");
    assert_eq!(site[1].property(UNIT, "NRestarts").unwrap(), "0");

    systemctl(&site[1], &["start", UNIT]);
    site[1].wait_for_state(UNIT, "active", READY).unwrap();
    members(&site[0], 2);
}

#[test]
fn a_host_that_leaves_with_purge_has_nothing_of_ovl_in_its_kernel_and_on_its_disk() {
    let site = Site::with_containers("purge", Image::Trixie, &newer());
    ok(&site[1], &["ovlctl", "leave", "--force", "--purge", "--yes"]);
    is_out(&site);
    assert!(leases(&site).iter().all(|lease| !lease.contains("bee")), "{:?}", leases(&site));
    is_clean(&site[1]);
    let left = ok(&site[1], &["find", "/var/lib/ovl", "-type", "f"]);
    assert_eq!(left, "", "files are left");
    assert_eq!(endpoints(&site[0]), ["anna"]);

    // On a host whose agent does not run it takes the kernel's part by itself.
    docker(&site[0], &["rm", "-f", "anna"]);
    systemctl(&site[0], &["stop", UNIT]);
    ok(&site[0], &["ovlctl", "leave", "--purge", "--yes"]);
    is_clean(&site[0]);
}

/// The second host's unit has ended, in order, and the first knows.
fn is_out(site: &Site) {
    site[1].wait_for_state(UNIT, "inactive", READY).unwrap();
    assert_eq!(site[1].property(UNIT, "Result").unwrap(), "success");
    members(&site[0], 1);
    eventually("no endpoint of a host that left", READY, || {
        let seen = endpoints(&site[0]);
        holds(seen == ["anna"], seen)
    });
}

fn is_clean(machine: &Machine) {
    assert!(devices(machine).is_empty(), "{:?}", devices(machine));
    let tables = ok(machine, &["nft", "list", "tables"]);
    assert!(!tables.contains("ovl"), "{tables}");
    let rows = ok(machine, &["bridge", "fdb"]);
    assert!(!rows.contains("ovl"), "{rows}");
}

/// What the store holds of addresses: keys and values.
fn leases(site: &Site) -> Vec<String> {
    let keys: Vec<String> = serde_json::from_str(&site.store().keys("ovl/v1/").unwrap()).unwrap();
    let values = keys.iter().map(|key| format!("{key} {}", site.store().get(key).unwrap()));
    values.collect()
}
