//! What a kernel can do is tried where it harms nobody.

use ovl_vxlan::{netns, probe};

use crate::lab::*;

#[test]
fn everything_is_tried_and_nothing_is_left_in_the_namespace_of_who_asks() {
    let host = Netns::new("host");
    // The same VNI and port as the probe: it must not meet them.
    host.sh("ip link add ovl-1 type vxlan id 1 dstport 4789");
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(probe()).unwrap()
    };
    let probe = netns::run(&host.path(), work).unwrap();
    assert_eq!(probe.vxlan, Ok(()));
    assert_eq!(probe.macvlan, Some(Ok(())));
    assert_eq!(probe.ipv6, Some(Ok(())));
    assert_eq!(probe.nf_tables, Ok(()));
    assert_eq!(probe.owned_table, Ok(()));
    assert_eq!(probe.strict_dumps, Ok(()));
    assert_eq!(host.names(), ["ovl-1"]);
    assert_eq!(host.sh("nft list tables").trim(), "");
}
