//! Docker's own sharing of networks, which ended with 23.0: `--cluster-store`.
use std::cell::OnceCell;

use ovl_tests::docker::Options;
use ovl_tests::etcd;

use super::rig::{NET, Rig};

#[test]
fn a_cluster_store_and_the_agents_share_one_network() {
    let store = OnceCell::new();
    let rig = Rig::prepared("scope", |host| {
        let store = store.get_or_init(|| etcd::start(host).unwrap_or_else(|e| panic!("{e}")));
        Options { flags: etcd::flags(store, host), ..Options::default() }
    });
    rig.network(NET, &[]);
    let [here, there] = [rig.lists(0, NET), rig.lists(1, NET)];
    assert_eq!(here["IPAM"]["Config"], there["IPAM"]["Config"]);
    rig.run(0, "one", &[]);
    rig.run(1, "two", &[]);
    rig.reaches(0, "one", "two");
    rig.reaches(1, "two", "one");
    rig.ok(0, &["rm", "-f", "one"]);
    rig.ok(1, &["rm", "-f", "two"]);
    rig.ok(1, &["network", "rm", NET]);
    for at in [0, 1] {
        rig.lists_no(at, NET);
    }
}
