//! What the facts come to, hop by hop. Pure.
//!
//! One cause, one broken hop: what only follows from another hop (the interface of a container that
//! went with its device, rows of a device that is down) is unknown, and says from which.

mod device;
mod end;
mod name;
mod rows;
#[cfg(test)]
mod tests;
mod underlay;

use std::net::{IpAddr, Ipv4Addr};

pub(super) use self::name::state;
use super::facts::{End, Seen};
use super::hops::{At, Judged, Verdicts};
use super::select::{Target, name as name_of};
use crate::core::VXLAN_OVERHEAD;
use crate::core::trace::{Known, Place};

/// For evidence of what the agent repairs.
const PUTS_BACK: &str =
    "the agent puts it right within 10 s; if it comes again, something else changes it";

/// All that is known of a way before a packet is sent.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) from: Known,
    pub(crate) asked: Asked,
    pub(crate) target: Target,
    pub(crate) near: End,
    pub(crate) far: Far,
}

/// How the other end was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) text: String,
    /// What DNS answers in the sandbox; none: an address was given.
    pub(crate) answer: Option<Vec<IpAddr>>,
    /// The networks whose names that DNS answers.
    pub(crate) scope: Vec<String>,
    /// Endpoints of this host on the network, by MAC.
    pub(crate) siblings: Vec<(String, String)>,
}

/// The other end.
#[derive(Clone, Debug)]
pub(crate) enum Far {
    /// There is none to look at.
    Nowhere,
    /// On the same host.
    Same(Box<End>),
    /// On another host; `Err`: why its agent did not tell.
    Other(Seen<Box<End>>),
}

/// Names and addresses of a way to an endpoint.
#[derive(Clone, Copy)]
struct Way<'a> {
    facts: &'a Facts,
    to: &'a Known,
    /// Addresses of the way, of one family.
    from_address: Option<IpAddr>,
    to_address: IpAddr,
    /// VTEP of the other host.
    vtep: Option<Ipv4Addr>,
}

/// Judges every hop that there is.
pub(crate) fn hops(facts: &Facts) -> Verdicts {
    let mut verdicts = Verdicts::default();
    verdicts.push(from(facts));
    verdicts.push(name::judge(facts));
    let Target::Endpoint { known, address, .. } = &facts.target else {
        return verdicts;
    };
    let way = Way {
        facts,
        to: known,
        from_address: own_address(&facts.from, *address),
        to_address: *address,
        vtep: match &known.place {
            Place::There(there) => Some(there.vtep),
            Place::Here(_) => None,
        },
    };
    match &facts.far {
        Far::Nowhere => {}
        Far::Same(far) => way.on_one_host(far, &mut verdicts),
        Far::Other(far) => way.between_hosts(far, &mut verdicts),
    }
    verdicts
}

/// The address of an endpoint that belongs to a way to `to`.
pub(crate) fn own_address(known: &Known, to: IpAddr) -> Option<IpAddr> {
    match to {
        IpAddr::V4(_) => Some(known.ipv4.into()),
        IpAddr::V6(_) => known.ipv6.map(IpAddr::V6),
    }
}

fn from(facts: &Facts) -> Judged {
    let (from, host) = (&facts.from, &facts.near.host);
    let name = name_of(from);
    let addresses: Vec<String> = std::iter::once(IpAddr::V4(from.ipv4))
        .chain(from.ipv6.map(IpAddr::V6))
        .map(|address| address.to_string())
        .collect();
    let is = format!(
        "{name} is on {host}, on network {}: {}, MAC {}",
        from.network.name,
        addresses.join(" and "),
        from.mac
    );
    match &facts.near.held {
        Some(held) if held.is_up => Judged::ok(At::From, host, is).saw(end::about(held)),
        Some(held) => Judged::broken(At::From, host, format!("{is}; but it is {}", held.phase))
            .saw(facts.near.troubles.iter().cloned())
            .fix(format!("on {host}: ovlctl status, docker ps --all")),
        None => Judged::broken(At::From, host, format!("{is}; but it is gone by now")),
    }
}

impl Way<'_> {
    fn start(&self) -> &str {
        name_of(&self.facts.from)
    }

    fn goal(&self) -> &str {
        name_of(self.to)
    }

    /// Of the network's subnet, in the way's family.
    fn prefix(&self) -> u8 {
        let network = &self.to.network;
        match self.to_address {
            IpAddr::V4(_) => network.subnet.prefix_len(),
            IpAddr::V6(_) => network.subnet6.map_or(128, |subnet| subnet.prefix_len()),
        }
    }

    /// What one interface of the underlay has to carry for a full packet of the network.
    fn outer_size(mtu: u16) -> u32 {
        u32::from(mtu) + u32::from(VXLAN_OVERHEAD)
    }

    /// What is the same on every way: the beginning.
    fn leaves(&self, verdicts: &mut Verdicts) {
        let near = &self.facts.near;
        let device = self.device(At::Device, near);
        let from = end::Side {
            name: self.start(),
            own: self.from_address,
            prefix: self.prefix(),
            mac: self.facts.from.mac.to_string(),
            other_name: self.goal(),
            other: self.to_address,
            other_mac: self.to.mac.to_string(),
            siblings: &self.facts.asked.siblings,
            device_ok: device.is_ok(),
        };
        let interface = from.interface(At::FromInterface, near);
        let route = from.route(At::FromRoute, near, interface.is_ok());
        verdicts.hops.extend([interface, route, device]);
    }

    /// What is the same on every way: the end, seen by its own host.
    fn arrives(&self, far: &End, device_ok: bool, verdicts: &mut Verdicts) {
        let nobody = Vec::new();
        let to = end::Side {
            name: self.goal(),
            own: Some(self.to_address),
            prefix: self.prefix(),
            mac: self.to.mac.to_string(),
            other_name: self.start(),
            other: self.from_address.unwrap_or(self.to_address),
            other_mac: self.facts.from.mac.to_string(),
            siblings: &nobody,
            device_ok,
        };
        let interface = to.interface(At::ToInterface, far);
        let container = to.container(At::ToContainer, far);
        let route = to.route(At::BackRoute, far, interface.is_ok());
        verdicts.hops.extend([interface, container, route]);
    }

    fn on_one_host(&self, far: &End, verdicts: &mut Verdicts) {
        self.leaves(verdicts);
        let device_ok = verdicts.is_ok(At::Device);
        verdicts.push(self.sibling(device_ok));
        self.arrives(far, device_ok, verdicts);
    }

    fn between_hosts(&self, far: &Seen<Box<End>>, verdicts: &mut Verdicts) {
        let near = &self.facts.near;
        self.leaves(verdicts);
        let device_ok = verdicts.is_ok(At::Device);
        verdicts.push(self.neighbour(At::Neighbour, near, device_ok));
        verdicts.push(self.fdb(At::Fdb, near, device_ok));
        let underlay = self.underlay(At::Underlay, near, verdicts);
        verdicts.push(underlay);
        verdicts.push(self.wire(At::Wire));
        verdicts.push(self.peer(far));
        match far {
            Ok(far) => self.comes_back(far, verdicts),
            Err(_) => self.unseen(verdicts),
        }
        verdicts.push(self.wire(At::BackWire));
        verdicts.push(Judged::unknown(
            At::BackDevice,
            &near.host,
            format!("not tried: answers to {}", self.start()),
        ));
    }

    /// The other host, and the way back from it.
    fn comes_back(&self, far: &End, verdicts: &mut Verdicts) {
        let device = self.device(At::PeerDevice, far);
        let device = self.same_tunnel(far, device, verdicts);
        let device_ok = device.is_ok();
        verdicts.push(device);
        self.arrives(far, device_ok, verdicts);
        verdicts.push(self.neighbour(At::BackNeighbour, far, device_ok));
        verdicts.push(self.fdb(At::BackFdb, far, device_ok));
        let underlay = self.underlay(At::BackUnderlay, far, verdicts);
        verdicts.push(underlay);
    }

    /// Its agent did not tell.
    fn unseen(&self, verdicts: &mut Verdicts) {
        let hops = [
            At::PeerDevice,
            At::ToInterface,
            At::ToContainer,
            At::BackRoute,
            At::BackNeighbour,
            At::BackFdb,
            At::BackUnderlay,
        ];
        let host = &self.to.host;
        let says = format!("not looked at: the agent of {host} does not answer");
        verdicts.hops.extend(hops.map(|at| Judged::unknown(at, host, says.clone())));
    }
}

/// `a, b and 3 more`.
fn some(names: impl IntoIterator<Item = String>) -> String {
    const SHOWN_MAX: usize = 4;
    let names: Vec<String> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
