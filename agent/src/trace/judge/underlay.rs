//! The way of VXLAN packets between the hosts, and the other host's agent.

use std::net::{IpAddr, Ipv4Addr};

use super::Way;
use crate::trace::facts::{End, Outer, Route, Seen};
use crate::trace::hops::{At, Doubt, Judged, Verdicts};

impl Way<'_> {
    /// The way of VXLAN packets out of a host.
    pub(super) fn underlay(&self, at: At, end: &End, verdicts: &mut Verdicts) -> Judged {
        let (host, near) = (&end.host, &self.facts.near);
        let to = match at {
            At::Underlay => self.vtep.map(|vtep| (vtep, self.to.host.as_str())),
            _ => Some((near.vtep, near.host.as_str())),
        };
        let unknown = |says: String| Judged::unknown(at, host, says);
        let (Some((to, whose)), Some(outer)) = (to, &end.outer) else {
            return unknown(format!("{host} does not know where to send VXLAN packets"));
        };
        match outer {
            Err(why) => unknown(format!("the route to {to} could not be looked up: {why}")),
            Ok(outer) => match way_out(end, to, outer) {
                Err((says, fix)) => Judged::broken(at, host, says).fix(format!("on {host}: {fix}")),
                Ok(route) => self.leaves_by(at, end, (to, whose), route, verdicts),
            },
        }
    }

    fn leaves_by(
        &self,
        at: At,
        end: &End,
        (to, whose): (Ipv4Addr, &str),
        route: &Route,
        verdicts: &mut Verdicts,
    ) -> Judged {
        let (host, vtep) = (&end.host, end.vtep);
        let (device, mtu, needed) = (&route.device, route.mtu, Way::outer_size(end.mtu));
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let mut seen = vec![format!("{device} carries packets of {mtu} bytes")];
        if mtu < needed {
            verdicts.doubts.push(too_small(at, end, whose, route, needed));
            seen.push("the kernel sends larger ones in fragments".to_owned());
        }
        if let Some(Ok(outer)) = &end.outer
            && let Some(holder) = outer.holder.as_ref().filter(|holder| *holder != device)
            && !outer.stub
        {
            verdicts.doubts.push(Doubt {
                at,
                of_size: false,
                says: format!(
                    "VXLAN packets to {to}, {whose}, leave {host} by {device}, and its VTEP {vtep} is on {holder}: a route or a rule leads them there"
                ),
                fix: Some(format!("on {host}: ip route get {to} from {vtep}; ip rule; take that route out, or advertise an address of {device}")),
            });
        }
        let other = route.source.filter(|source| *source != IpAddr::V4(vtep));
        seen.extend(other.map(|other| format!("the host's own packets there leave from {other}")));
        let state = end.other.as_ref().and_then(|other| other.state.as_ref());
        seen.extend(state.map(|state| format!("the gossip on {host} sees {whose} {state}")));
        let says = format!(
            "VXLAN packets to {to}, {whose}, leave by {device}{via} from {vtep}, with up to {needed} bytes"
        );
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
        match far {
            Ok(far) => {
                let says = format!("the agent of {host} answers: {}", far.version);
                Judged::ok(At::Peer, host, says).saw(seen)
            }
            Err(why) => Judged::unknown(At::Peer, host, why.clone())
                .saw(seen)
                .fix(format!("on {host}: systemctl status ovl-agent")),
        }
    }
}

fn too_small(at: At, end: &End, whose: &str, route: &Route, needed: u32) -> Doubt {
    let (host, device, mtu) = (&end.host, &route.device, route.mtu);
    let missing = u16::try_from(needed.saturating_sub(mtu)).unwrap_or(u16::MAX);
    let fits = end.mtu.saturating_sub(missing);
    Doubt {
        at,
        of_size: true,
        says: format!(
            "{device} on {host} carries packets of {mtu} bytes on the way to {whose}, and full packets of the network need {needed} in VXLAN"
        ),
        fix: Some(format!(
            "on {host}: ip link set {device} mtu {needed}, if the network between the hosts carries that; else create the network with --mtu {fits}"
        )),
    }
}

/// The route; else what is wrong, and the command that mends it.
fn way_out<'a>(end: &End, to: Ipv4Addr, outer: &'a Outer) -> Result<&'a Route, (String, String)> {
    let (host, vtep) = (&end.host, end.vtep);
    if outer.holder.is_none() {
        return Err((
            format!(
                "no interface of {host} has its VTEP {vtep} any more: VXLAN packets cannot leave from it"
            ),
            format!(
                "ip address add {vtep}/PREFIX dev INTERFACE; or restart the agent with another --advertise"
            ),
        ));
    }
    let route = outer.route.as_ref().map_err(|why| {
        (format!("{host} has no route to the VTEP {to}: {why}"), format!("ip route get {to}"))
    })?;
    let device = &route.device;
    if route.is_local {
        return Err((
            format!("the VTEP {to} is an address of {host} itself: two hosts have one address"),
            format!("give one of the two another --advertise: ip address show to {to}"),
        ));
    }
    if !outer.up {
        return Err((
            format!("{device} on {host}, which leads to {to}, is down"),
            format!("ip link set {device} up"),
        ));
    }
    if !outer.carrier {
        return Err((
            format!(
                "{device} on {host}, which leads to {to}, has no carrier: its cable or bond is down"
            ),
            format!("ip link show {device}"),
        ));
    }
    Ok(route)
}
