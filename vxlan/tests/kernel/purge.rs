//! A host that runs no agent any more, and is to be rid of it.

use ovl_vxlan::{Purged, netns, purge};

use crate::lab::*;

fn purge_of(host: &Netns, in_use: bool) -> Purged {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(purge(in_use)).unwrap()
    };
    netns::run(&host.path(), work).unwrap()
}

#[test]
fn everything_goes_that_nobody_uses_and_nothing_else() {
    let host = Netns::new("host");
    host.sh("ip link add vx9 type vxlan id 9 dstport 4999");
    let mut wanted = network(VTEP_A);
    // Docker moved an interface back here while no agent ran.
    wanted.endpoints.insert("e1".into(), handover(1, "left-over"));
    let agent = Agent::start(&host);
    agent.settle(&desired(&wanted));
    drop(agent);
    let purged = purge_of(&host, false);
    assert_eq!(purged.removed, [DEVICE]);
    assert!(purged.in_use.is_empty() && purged.firewall, "{purged:?}");
    assert_eq!(host.names(), ["vx9"]);
    assert!(!host.sh("nft list tables").contains("ovl"));
    assert_eq!(purge_of(&host, false), Purged::default());
}

#[test]
fn what_a_container_uses_stays_unless_it_is_to_go_too() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let mut wanted = network(VTEP_A);
    wanted.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    let agent = Agent::start(&host);
    agent.settle(&desired(&wanted));
    drop(agent);
    let spared = purge_of(&host, false);
    assert_eq!(
        (spared.in_use.as_slice(), spared.firewall),
        ([DEVICE.to_owned()].as_slice(), false)
    );
    assert_eq!(sandbox.names(), ["eth0"]);
    assert!(host.sh("nft list tables").contains("ovl"));
    let gone = purge_of(&host, true);
    assert_eq!(gone.removed, [DEVICE]);
    assert!(gone.firewall);
    assert_eq!((host.names(), sandbox.names()), (vec![], vec![]));
}
