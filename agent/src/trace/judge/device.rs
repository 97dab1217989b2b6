//! The network's vxlan device on each host.

use super::{PUTS_BACK, Way};
use crate::trace::facts::{Device, End, Vxlan};
use crate::trace::hops::{At, Doubt, Judged, Verdicts};

impl Way<'_> {
    /// The vxlan device of a host.
    pub(super) fn device(&self, at: At, end: &End) -> Judged {
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
            let fix = format!("on {host}: {command}");
            Judged::broken(at, host, says)
                .fix(fix)
                .saw([PUTS_BACK.to_owned()])
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
            let says = format!(
                "{name} on {host} has an MTU of {} bytes, and the network one of {}: its containers' interfaces have no larger one",
                device.mtu, end.mtu
            );
            return broken(
                says,
                format!("ip link set {name} mtu {}; then ovlctl audit --repair", end.mtu),
            );
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
                of_size: true,
                says: format!("the network has an MTU of {} bytes on {host} and of {} on {}: their underlays differ", far.mtu, near.mtu, near.host),
                fix: Some(format!("create the network with --mtu {least}")),
            });
        }
        device
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
