//! Endpoints for the tests of this folder.

use std::net::Ipv4Addr;
use std::time::Duration;

use ovl_gossip::MemberState;
use ovl_vxlan::Mac;

use crate::core::Absence;
use crate::core::trace::{Ends, Here, Known, KnownNetwork, Place, There};

pub(super) fn network(id: u64) -> KnownNetwork {
    KnownNetwork {
        id,
        name: format!("net-{id}"),
        vni: 4096 + u32::try_from(id).unwrap(),
        mtu: 1450,
        subnet: "10.88.0.0/24".parse().unwrap(),
        subnet6: None,
        gateway: Ipv4Addr::new(10, 88, 0, 1),
    }
}

fn known(name: &str, network_id: u64, host: &str, last: u8, place: Place) -> Known {
    let ipv4 = Ipv4Addr::new(10, 88, 0, last);
    Known {
        network: network(network_id),
        id: format!("id-{name}-{network_id}"),
        names: vec![name.into()],
        ipv4,
        ipv6: None,
        mac: Mac::from_ipv4(ipv4),
        generation: 7,
        host: host.into(),
        place,
        rivals: Vec::new(),
    }
}

/// An endpoint of bee-1, 10.88.0.2.
pub(super) fn here(name: &str, network: u64) -> Known {
    let here = Here {
        phase: "up".into(),
        is_up: true,
        netns: Some(format!("/run/netns/{name}").into()),
        ifname: Some("eth0".into()),
        docker: false,
        container: None,
        docker_heard: false,
        scope: vec![network],
    };
    known(name, network, "bee-1", 2, Place::Here(here))
}

/// An endpoint of another host, 10.88.0.3.
pub(super) fn there(name: &str, network: u64, host: &str) -> Known {
    let there = There {
        address: Ipv4Addr::new(192, 0, 2, 2),
        vtep: Ipv4Addr::new(192, 0, 2, 2),
        state: MemberState::Alive,
        absence: Absence::None,
        heard: Some(Duration::from_secs(12)),
    };
    known(name, network, host, 3, Place::There(there))
}

pub(super) fn ends(from: Vec<Known>, to: Vec<Known>) -> Ends {
    Ends {
        node: "bee-1".into(),
        vtep: Ipv4Addr::new(192, 0, 2, 1),
        vxlan_port: 4789,
        from,
        to,
        around: Vec::new(),
        troubles: Vec::new(),
        siblings: Vec::new(),
    }
}
