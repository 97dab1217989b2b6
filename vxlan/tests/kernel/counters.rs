//! Counters of devices, against what `ip` says.

use ovl_vxlan::{LinkCounters, link_counters, netns};

use crate::lab::*;

#[test]
fn counters_are_those_of_our_devices_and_of_the_underlay() {
    let (host, _other) = two_hosts();
    let agent = Agent::start(&host);
    agent.settle(&desired(&network(VTEP_A)));
    // Not ours, whatever its name.
    host.sh("ip link add ovl-77 type bridge");
    host.sh("ping -c 1 -W 2 192.0.2.2");
    let read = |underlay: Option<&'static str>| {
        let work = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(link_counters(underlay)).unwrap()
        };
        let mut all = netns::run(&host.path(), work).unwrap();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    };
    let names = |all: &[LinkCounters]| -> Vec<(String, Option<u32>)> {
        all.iter().map(|one| (one.name.clone(), one.vni)).collect()
    };
    assert_eq!(names(&read(None)), [(DEVICE.to_owned(), Some(VNI))]);
    assert_eq!(names(&read(Some("no-such"))).len(), 1);
    let all = read(Some("u0"));
    assert_eq!(names(&all), [(DEVICE.to_owned(), Some(VNI)), ("u0".to_owned(), None)]);
    let seen = host.json("ip -j -s -s link show dev u0");
    let stats = &seen[0]["stats64"];
    assert!(all[1].rx.packets > 0 && all[1].tx.bytes > 0, "{all:?}");
    // It may have grown meanwhile.
    assert!(stats["rx"]["packets"].as_u64().unwrap() >= all[1].rx.packets, "{stats} {all:?}");
    assert!(stats["tx"]["bytes"].as_u64().unwrap() >= all[1].tx.bytes, "{stats} {all:?}");
}
