//! The packets that hosts send each other, each kind once.

use std::net::Ipv4Addr;

use super::walk::{Direction, Packet, Protocol};
use super::{Facts, GOSSIP, Peer, VXLAN};

/// Source ports of TCP and of VXLAN: `net.ipv4.ip_local_port_range` as Linux sets it. The kernel takes
/// VXLAN's from the flow inside (RFC 7348, section 5).
const LOCAL_PORTS: (u16, u16) = (32768, 60999);

/// One kind of packets between this host and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Traffic {
    /// The check that it is of.
    pub(super) check: &'static str,
    pub(super) inbound: bool,
    pub(super) tcp: bool,
    /// From the service's port, in a connection that the other side opened.
    pub(super) answers: bool,
    /// The service's.
    pub(super) port: u16,
}

/// All kinds.
pub(super) fn all(facts: &Facts) -> Vec<Traffic> {
    let (gossip, vxlan) = (facts.gossip_port, facts.vxlan_port);
    let kinds = [
        (VXLAN, false, false, vxlan),
        (GOSSIP, false, false, gossip),
        (GOSSIP, true, false, gossip),
        (GOSSIP, true, true, gossip),
    ];
    let both = kinds.map(|(check, tcp, answers, port)| {
        [true, false].map(|inbound| Traffic { check, inbound, tcp, answers, port })
    });
    both.concat()
}

impl Traffic {
    /// Its packet from or to any of some addresses, which are reached by `via`.
    pub(super) fn packet(
        self,
        facts: &Facts,
        others: Vec<(Ipv4Addr, Ipv4Addr)>,
        via: Option<&str>,
    ) -> Packet {
        let own = vec![(facts.address, facts.address)];
        let service = (self.port, self.port);
        // Gossip over UDP has one socket for both.
        let client = if self.check == GOSSIP && !self.tcp { service } else { LOCAL_PORTS };
        let ports = if self.answers { (service, client) } else { (client, service) };
        let here = facts.interface.as_deref().or(via);
        let path_back = here.zip(via).map(|(here, via)| here == via);
        let interface = if self.inbound { here } else { via };
        let (sources, destinations) = if self.inbound { (others, own) } else { (own, others) };
        Packet {
            direction: if self.inbound { Direction::In } else { Direction::Out },
            protocol: if self.tcp { Protocol::Tcp } else { Protocol::Udp },
            sources,
            destinations,
            source_ports: ports.0,
            destination_ports: ports.1,
            interface: interface.map(str::to_owned),
            answers: self.answers,
            path_back,
            vnis: (self.check == VXLAN).then_some(facts.vnis),
        }
    }
}

/// `UDP 4789 and TCP 7946`, each once; `answers of TCP 7946` where no more is meant.
pub(super) fn ports(traffic: &[Traffic]) -> String {
    let mut names: Vec<(u16, Vec<&str>)> = Vec::new();
    for one in traffic {
        let protocol = if one.tcp { "TCP" } else { "UDP" };
        match names.iter_mut().find(|(port, _)| *port == one.port) {
            Some((_, protocols)) if protocols.contains(&protocol) => {}
            Some((_, protocols)) => protocols.push(protocol),
            None => names.push((one.port, vec![protocol])),
        }
    }
    let named = |(port, protocols): (u16, Vec<&str>)| format!("{} {port}", protocols.join(" and "));
    let all = names.into_iter().map(named).collect::<Vec<_>>().join(", ");
    // What is sent there passes.
    if traffic.iter().all(|one| one.answers) { format!("answers of {all}") } else { all }
}

/// Of some peers: first to last of neighbours.
pub(super) fn ranges(peers: &[&Peer]) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let mut ranges: Vec<(Ipv4Addr, Ipv4Addr)> = Vec::new();
    for peer in peers {
        let next = |last: Ipv4Addr| u32::from(last).checked_add(1) == Some(peer.address.into());
        match ranges.last_mut() {
            Some((_, last)) if next(*last) => *last = peer.address,
            _ => ranges.push((peer.address, peer.address)),
        }
    }
    ranges
}
