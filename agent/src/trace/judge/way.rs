//! The network's device, its rows, and the underlay.

use super::{Way, end};
use crate::trace::facts::{Absence, Device, End, Outer, Row, Rows, Seen, Vxlan};
use crate::trace::hops::{At, Doubt, Judged, Verdicts};

const PUTS_BACK: &str =
    "the agent puts it back within 10 s; if it vanishes again, another program removes it";

impl Way<'_> {
    /// The vxlan device of a host.
    pub(super) fn device(&self, at: At, end: &End, verdicts: &mut Verdicts) -> Judged {
        let (host, name) = (&end.host, format!("ovl-{}", end.vni));
        let device = match &end.device {
            Ok(Some(device)) => device,
            Ok(None) => {
                let says = format!(
                    "{host} has no device {name}, on which its containers of the network hang"
                );
                return Judged::broken(at, host, says).saw(end.troubles.iter().cloned()).fix(format!(
                    "the agent of {host} makes it anew within 10 s; if it does not, ovlctl status on {host} says why"
                ));
            }
            Err(why) => {
                return Judged::unknown(at, host, format!("{name} could not be looked at: {why}"));
            }
        };
        let seen = described(device);
        let broken = |says: String, command: String| {
            let fix = format!("on {host}: {command}; {PUTS_BACK}");
            Judged::broken(at, host, says)
                .fix(fix)
                .saw([seen.clone()])
                .saw(end.troubles.iter().cloned())
        };
        let Some(vxlan) = &device.vxlan else {
            return broken(
                format!("{name} on {host} is no vxlan device"),
                format!("ip link del {name}"),
            );
        };
        if !device.up {
            return broken(
                format!("{name} on {host} is down: it drops every frame"),
                format!("ip link set {name} up"),
            );
        }
        if let Some((says, command)) = misset(vxlan, end, &name) {
            return broken(says, command);
        }
        if device.mtu < u32::from(end.mtu) {
            verdicts.doubts.push(Doubt {
                at,
                says: format!(
                    "{name} on {host} has an MTU of {} bytes, and the network one of {}",
                    device.mtu, end.mtu
                ),
                fix: Some(format!("on {host}: ip link set {name} mtu {}", end.mtu)),
            });
        }
        let local = vxlan.local.map_or_else(|| "any address".to_owned(), |local| local.to_string());
        let says =
            format!("{name} carries VNI {} over UDP port {}, from {local}", vxlan.vni, vxlan.port);
        Judged::ok(at, host, says).saw([seen])
    }

    /// Whether the other host's device is at the same tunnel as ours.
    pub(super) fn same_tunnel(&self, far: &End, device: Judged, verdicts: &mut Verdicts) -> Judged {
        let (near, host) = (&self.facts.near, &far.host);
        if !device.is_ok() {
            return device;
        }
        if far.port != near.port {
            let says = format!(
                "{host} listens for VXLAN on UDP port {}, and {} sends to {}",
                far.port, near.host, near.port
            );
            return Judged::broken(At::PeerDevice, host, says)
                .fix("give all agents the same vxlan-port, and restart them");
        }
        if far.vni != near.vni {
            let says = format!(
                "the network has VNI {} on {host} and {} on {}",
                far.vni, near.vni, near.host
            );
            return Judged::broken(At::PeerDevice, host, says)
                .fix("give all agents the same --store");
        }
        if far.mtu != near.mtu {
            let least = far.mtu.min(near.mtu);
            verdicts.doubts.push(Doubt {
                at: At::PeerDevice,
                says: format!("the network has an MTU of {} bytes on {host} and of {} on {}: their underlays differ", far.mtu, near.mtu, near.host),
                fix: Some(format!("create the network with --mtu {least}")),
            });
        }
        device
    }

    /// The other end of a way, as `end` sees it: address, MAC, name.
    fn other(&self, at: At) -> (Option<std::net::IpAddr>, String, &str) {
        match at {
            At::BackNeighbour | At::BackFdb => {
                (self.from_address, self.facts.from.mac.to_string(), self.from_name())
            }
            _ => (Some(self.to_address), self.to.mac.to_string(), self.to_name()),
        }
    }

    /// What the device would answer to who has the other address.
    pub(super) fn neighbour(&self, at: At, end: &End, device_ok: bool) -> Judged {
        let (address, mac, name) = self.other(at);
        let host = &end.host;
        let Some(address) = address else {
            return Judged::unknown(at, host, format!("{name} has no address of this family"));
        };
        if let Some(judged) = self.unheard(at, end, name) {
            return judged;
        }
        let rows = match usable(at, end, device_ok) {
            Ok(rows) => rows,
            Err(unknown) => return *unknown,
        };
        let device = format!("ovl-{}", end.vni);
        let fix = format!(
            "on {host}: ip neigh replace {address} lladdr {mac} dev {device} nud permanent; {PUTS_BACK}"
        );
        match &rows.neighbour {
            None => Judged::broken(at, host, format!("{device} on {host} has no neighbour row for {address}: nobody answers who has it")).fix(fix),
            Some(row) if !row.valid || row.mac.is_none() => {
                Judged::broken(at, host, format!("the neighbour row of {address} on {device} leads to nobody")).fix(fix)
            }
            Some(row) if row.mac.as_ref() != Some(&mac) => {
                let has = row.mac.as_deref().unwrap_or("nobody");
                let says = format!("{device} on {host} answers that {address} is at {has}, but {name} has {mac}");
                Judged::broken(at, host, says).fix(fix)
            }
            Some(row) => {
                let says = format!("{device} answers who has {address}: {mac}, {name}'s");
                Judged::ok(at, host, says).saw(ages(row))
            }
        }
    }

    /// Where the device sends frames to the other MAC.
    pub(super) fn fdb(&self, at: At, end: &End, device_ok: bool) -> Judged {
        let (_, mac, name) = self.other(at);
        let host = &end.host;
        let rows = match usable(at, end, device_ok) {
            Ok(rows) => rows,
            Err(unknown) => return *unknown,
        };
        let Some((vtep, whose)) = self.wanted_vtep(at, end) else {
            return Judged::unknown(at, host, format!("{host} has not heard where {name} is"));
        };
        let device = format!("ovl-{}", end.vni);
        let fix =
            format!("on {host}: bridge fdb replace {mac} dev {device} dst {vtep}; {PUTS_BACK}");
        match rows.fdb.as_slice() {
            [] => {
                let says = format!(
                    "{device} on {host} has no FDB row for {mac}, {name}'s: it drops frames to it"
                );
                Judged::broken(at, host, says).fix(fix)
            }
            [row] if row.vtep == Some(vtep) && row.plain => {
                Judged::ok(at, host, format!("frames to {mac} go to {vtep}, {whose}'s VTEP"))
            }
            [row] if row.vtep == Some(vtep) => {
                let says = format!(
                    "the FDB row for {mac} on {device} leads to {vtep}, but by a port or VNI of its own, or not for good"
                );
                Judged::broken(at, host, says).fix(fix)
            }
            others => {
                let to = others.iter().map(|row| {
                    row.vtep.map_or_else(|| "nowhere".to_owned(), |vtep| vtep.to_string())
                });
                let says = format!(
                    "{device} on {host} sends frames to {mac} to {}, but {name} is behind {vtep}, {whose}'s VTEP",
                    super::some(to)
                );
                Judged::broken(at, host, says).fix(fix)
            }
        }
    }

    fn wanted_vtep(&self, at: At, end: &End) -> Option<(std::net::Ipv4Addr, String)> {
        match at {
            At::Fdb => Some((self.vtep?, self.to.host.clone())),
            _ => Some((self.facts.near.vtep, self.facts.near.host.clone()))
                .filter(|_| end.other.is_some()),
        }
    }

    /// The host has not heard of the other end, or has taken back what it had.
    fn unheard(&self, at: At, end: &End, name: &str) -> Option<Judged> {
        let (host, near) = (&end.host, &self.facts.near);
        if at != At::BackNeighbour {
            return None;
        }
        let Some(other) = &end.other else {
            let says =
                format!("{host} has not heard of {name} on {}, and has no rows for it", near.host);
            return Some(Judged::broken(at, host, says).fix(format!(
                "open TCP and UDP of the gossip between the two; ovlctl members on {host} shows how it sees {}",
                near.host
            )));
        };
        (other.absence == Absence::Silent).then(|| {
            let state = other.state.as_deref().unwrap_or("down");
            let says = format!(
                "{host} takes {} for dead ({state}) and has taken its rows back",
                near.host
            );
            Judged::broken(at, host, says)
                .fix(format!("open TCP and UDP of the gossip from {host} to {}", near.host))
        })
    }

    /// The way of VXLAN packets out of a host.
    pub(super) fn underlay(&self, at: At, end: &End, verdicts: &mut Verdicts) -> Judged {
        let host = &end.host;
        let to = match at {
            At::Underlay => self.vtep.map(|vtep| (vtep, &self.to.host)),
            _ => Some((self.facts.near.vtep, &self.facts.near.host)),
        };
        let (Some((to, whose)), Some(outer)) = (to, &end.outer) else {
            return Judged::unknown(
                at,
                host,
                format!("{host} does not know where to send VXLAN packets"),
            );
        };
        let outer = match outer {
            Ok(outer) => outer,
            Err(why) => {
                return Judged::unknown(
                    at,
                    host,
                    format!("the route to {to} could not be looked up: {why}"),
                );
            }
        };
        if let Some(judged) = no_way(at, end, to, outer) {
            return judged;
        }
        let Ok(route) = &outer.route else {
            return Judged::unknown(at, host, format!("no route to {to}"));
        };
        let (device, mtu, needed) = (&route.device, route.mtu, Way::outer_size(end.mtu));
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let says = format!(
            "VXLAN packets to {to}, {whose}, leave by {device}{via} from {}, with up to {needed} bytes",
            end.vtep
        );
        let mut seen = vec![format!("{device} carries packets of {mtu} bytes")];
        if mtu < needed {
            verdicts.doubts.push(Doubt {
                at,
                says: format!("{device} on {host} carries packets of {mtu} bytes on the way to {whose}, and full packets of the network need {needed} in VXLAN"),
                fix: Some(format!(
                    "on {host}: ip link set {device} mtu {needed}, if the network between the hosts carries that; else create the network with --mtu {}",
                    end.mtu.saturating_sub(u16::try_from(needed - mtu).unwrap_or(u16::MAX))
                )),
            });
            seen.push("the kernel sends larger ones in fragments".to_owned());
        }
        if let Some(other) = route.source.filter(|source| *source != std::net::IpAddr::V4(end.vtep))
        {
            seen.push(format!("the host's own packets there leave from {other}"));
        }
        if let (At::Underlay, Some(state)) = (at, end.other.as_ref().and_then(|o| o.state.as_ref()))
        {
            seen.push(format!("the gossip sees {whose} {state}"));
        }
        Judged::ok(at, host, says).saw(seen)
    }

    /// Between the hosts: only probes tell.
    pub(super) fn wire(&self, at: At) -> Judged {
        let (near, there) = (&self.facts.near.host, &self.to.host);
        match at {
            At::BackWire => {
                Judged::unknown(at, there, format!("not tried: packets from {there} to {near}"))
            }
            _ => Judged::unknown(at, near, format!("not tried: packets from {near} to {there}")),
        }
    }

    /// Whether the other host's agent tells.
    pub(super) fn peer(&self, far: &Seen<Box<End>>) -> Judged {
        let host = &self.to.host;
        let state = self.facts.near.other.as_ref().and_then(|other| other.state.clone());
        let seen = state.map(|state| format!("the gossip sees {host} {state}"));
        match (far, end::why(far)) {
            (Ok(far), _) => {
                Judged::ok(At::Peer, host, format!("the agent of {host} answers: {}", far.version))
                    .saw(seen)
            }
            (Err(_), why) => Judged::unknown(At::Peer, host, why.unwrap_or_default())
                .saw(seen)
                .fix(format!("on {host}: systemctl status ovl-agent")),
        }
    }

    /// Between two containers of one host.
    pub(super) fn sibling(&self, device_ok: bool) -> Judged {
        let (near, address, mac) = (&self.facts.near, self.to_address, self.to.mac.to_string());
        let (host, name) = (&near.host, self.to_name());
        let rows = match usable(At::Sibling, near, device_ok) {
            Ok(rows) => rows,
            Err(unknown) => return *unknown,
        };
        let device = format!("ovl-{}", near.vni);
        let foreign =
            rows.neighbour.as_ref().filter(|row| row.valid && row.mac.as_ref() != Some(&mac));
        if let Some(has) = foreign.and_then(|row| row.mac.as_ref()) {
            let says = format!(
                "{device} answers that {address} is at {has}, but {name} on this host has {mac}"
            );
            return Judged::broken(At::Sibling, host, says)
                .fix(format!("on {host}: ip neigh del {address} dev {device}; {PUTS_BACK}"));
        }
        Judged::ok(
            At::Sibling,
            host,
            format!(
                "both are on {host}: {device} hands frames for {mac} straight to {name}; no row and no underlay is needed"
            ),
        )
    }
}

/// What of a device's settings is wrong, and the command that mends it.
fn misset(vxlan: &Vxlan, end: &End, name: &str) -> Option<(String, String)> {
    let host = &end.host;
    let again = format!("ip link del {name}");
    if vxlan.vni != end.vni {
        return Some((
            format!("{name} on {host} carries VNI {}, and the network has {}", vxlan.vni, end.vni),
            again,
        ));
    }
    if vxlan.port != end.port {
        let says = format!(
            "{name} on {host} uses UDP port {}, and the agent is set to {}",
            vxlan.port, end.port
        );
        return Some((
            says,
            "restart the network's containers there, or set vxlan-port back".to_owned(),
        ));
    }
    if vxlan.local != Some(end.vtep) {
        let has = vxlan.local.map_or_else(
            || "whatever address the route gives".to_owned(),
            |local| local.to_string(),
        );
        let says =
            format!("{name} on {host} sends from {has}, and the host's VTEP is {}", end.vtep);
        return Some((says, format!("ip link set {name} type vxlan local {}", end.vtep)));
    }
    (!vxlan.proxy)
        .then(|| (format!("{name} on {host} does not answer ARP from its rows (no proxy)"), again))
}

/// The rows, or why they say nothing.
fn usable(at: At, end: &End, device_ok: bool) -> Result<&Rows, Box<Judged>> {
    let device = format!("ovl-{}", end.vni);
    let unknown = |says: String| Box::new(Judged::unknown(at, &end.host, says));
    match &end.rows {
        Some(_) | None if !device_ok => Err(unknown(format!(
            "it depends on {device}, which is not in order; its rows come back with it"
        ))),
        None => Err(unknown(format!("the rows of {device} were not looked at"))),
        Some(Err(why)) => Err(unknown(format!("the rows of {device} could not be read: {why}"))),
        Some(Ok(rows)) => Ok(rows),
    }
}

fn no_way(at: At, end: &End, to: std::net::Ipv4Addr, outer: &Outer) -> Option<Judged> {
    let (host, vtep) = (&end.host, end.vtep);
    if outer.holder.is_none() {
        let says = format!(
            "no interface of {host} has its VTEP {vtep} any more: VXLAN packets cannot leave from it"
        );
        return Some(Judged::broken(at, host, says).fix(format!(
            "on {host}: ip address add {vtep}/PREFIX dev INTERFACE; or restart the agent with another --advertise"
        )));
    }
    let route = match &outer.route {
        Err(why) => {
            let says = format!("{host} has no route to the VTEP {to}: {why}");
            return Some(
                Judged::broken(at, host, says).fix(format!("on {host}: ip route get {to}")),
            );
        }
        Ok(route) => route,
    };
    if route.is_local {
        let says =
            format!("the VTEP {to} is an address of {host} itself: two hosts have one address");
        return Some(Judged::broken(at, host, says).fix("give one of the two another --advertise"));
    }
    let device = &route.device;
    if !outer.up {
        let says = format!("{device} on {host}, which leads to {to}, is down");
        return Some(
            Judged::broken(at, host, says).fix(format!("on {host}: ip link set {device} up")),
        );
    }
    (!outer.carrier).then(|| {
        let says = format!(
            "{device} on {host}, which leads to {to}, has no carrier: its cable or bond is down"
        );
        Judged::broken(at, host, says).fix(format!("on {host}: ip link show {device}"))
    })
}

fn described(device: &Device) -> String {
    let up = if device.up { "up" } else { "down" };
    let Some(vxlan) = &device.vxlan else {
        return format!("{}: {up}, MTU {}", device.name, device.mtu);
    };
    let local = vxlan.local.map_or_else(|| "none".to_owned(), |local| local.to_string());
    let learning = if vxlan.learning { ", learning" } else { "" };
    format!(
        "{}: {up}, MTU {}, VNI {}, UDP port {}, local {local}{learning}",
        device.name, device.mtu, vxlan.vni, vxlan.port
    )
}

fn ages(row: &Row) -> Option<String> {
    (!row.permanent).then(|| "the row is not permanent: the agent did not write it".to_owned())
}
