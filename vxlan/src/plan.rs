//! What to do, in which order, to bring the kernel where it should be. Pure: no sockets, no clock.
//!
//! [`network`] and [`removal`] concern the host's own namespace: a device, its rows, and the children
//! that wait there to be taken. What one endpoint needs inside its sandbox is planned in
//! [`crate::plan_inside`].
//!
//! One rule stands above all others: a device takes its children with it when it goes, wherever
//! they are. It is therefore never removed by a plain delete, but by [`Op::DeleteDevice`] and
//! [`Op::ReplaceDevice`], which the kernel itself refuses while anything hangs on it.

use std::net::Ipv4Addr;

use crate::{
    DesiredNetwork, Home, Mac,
    observe::{Kind, Link, Vxlan},
    rows::{RowOp, Rows, WantedRows},
};

/// Start of the alias of our devices: with the name it marks them as ours.
const DEVICE_MARK: &str = "ovl network ";

/// Start of the alias of our endpoints' interfaces. A macvlan on our device without it is someone
/// else's, for example an operator's way into the overlay, and left alone.
pub(crate) const ENDPOINT_MARK: &str = "ovl endpoint ";

/// Start of the MAC of our devices, see [`device_mac`].
const DEVICE_MAC: [u8; 2] = [0x02, 0x6f];

/// Start of the name of probes, see [`probe_name`].
const PROBE_PREFIX: &str = "ovlp-";

/// Longest alias in bytes, less than the kernel's 255 by what UTF-8 might be cut by.
const MAX_ALIAS: usize = 250;

/// `arp_ignore` 8: no ARP reply for any of the host's addresses.
pub(crate) const NO_ARP_REPLY: i32 = 8;

/// What the host's namespace holds of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Have {
    /// Our device.
    pub(crate) device: Option<Link>,
    /// The device was found to have children, so that it cannot be replaced.
    pub(crate) pinned: bool,
    pub(crate) rows: Rows,
    /// Macvlans on the device that are in the host's namespace.
    pub(crate) children: Vec<Link>,
}

/// One change in the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// With all its settings, up.
    CreateDevice,
    /// Remove, if nothing hangs on it, in order to create it anew by the next plan. Stands alone.
    ReplaceDevice,
    /// Remove, if nothing hangs on it.
    DeleteDevice,
    SetDevice(Setting),
    Row(RowOp),
    /// For someone else to take; down.
    CreateChild {
        endpoint: String,
        ifname: String,
        mac: Mac,
    },
    SetChildMtu {
        index: u32,
        ifname: String,
    },
    DeleteChild {
        index: u32,
        ifname: String,
    },
}

/// A setting of the device that can be changed while containers use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Alias,
    Local,
    NoLearning,
    Mtu,
    NoIpv6Address,
    NoRouterAdvertisement,
    NoArpReply,
    /// ARP on: without it the device does not answer from its rows.
    Arp,
    /// IPv6 on: without it the kernel takes no IPv6 neighbour row.
    Ipv6,
    Up,
}

impl Op {
    /// The name under which it is counted.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::CreateDevice => "device_create",
            Self::ReplaceDevice => "device_replace",
            Self::DeleteDevice => "device_delete",
            Self::SetDevice(_) => "device_set",
            Self::Row(row) => row.kind(),
            Self::CreateChild { .. } => "child_create",
            Self::SetChildMtu { .. } => "child_set",
            Self::DeleteChild { .. } => "child_delete",
        }
    }
}

impl Op {
    /// The change of a row, if it is one.
    pub(crate) fn row(&self) -> Option<RowOp> {
        match self {
            Self::Row(row) => Some(*row),
            Self::CreateDevice
            | Self::ReplaceDevice
            | Self::DeleteDevice
            | Self::SetDevice(_)
            | Self::CreateChild { .. }
            | Self::SetChildMtu { .. }
            | Self::DeleteChild { .. } => None,
        }
    }
}

/// Name of a network's device.
pub(crate) fn device_name(vni: u32) -> String {
    format!("ovl-{vni}")
}

/// Name of the interface that tells, for a moment, whether a device has children.
pub(crate) fn probe_name(vni: u32) -> String {
    format!("{PROBE_PREFIX}{vni}")
}

/// Alias of a network's device.
pub(crate) fn device_alias(network: &DesiredNetwork) -> String {
    alias(DEVICE_MARK, &network.name)
}

/// Alias of an endpoint's interface.
pub(crate) fn endpoint_alias(endpoint: &str) -> String {
    alias(ENDPOINT_MARK, endpoint)
}

/// The device's own MAC never stands on the wire. It is set, so that network managers leave it
/// alone (udev's `MACAddressPolicy` changes only what the kernel made up), and tells whose it is:
/// `02:6f` and the VTEP's address.
pub(crate) fn device_mac(local: Ipv4Addr) -> Mac {
    let [a, b, c, d] = local.octets();
    Mac([DEVICE_MAC[0], DEVICE_MAC[1], a, b, c, d])
}

/// The VNI of a device of ours: known by its name together with its alias, or with its MAC, which
/// it has from the start, should a crash have come before the alias.
pub(crate) fn owned_vni(link: &Link) -> Option<u32> {
    let Kind::Vxlan(vxlan) = &link.kind else {
        return None;
    };
    let has_mark = link.alias.starts_with(DEVICE_MARK)
        || link.mac.is_some_and(|mac| mac.0.starts_with(&DEVICE_MAC));
    (has_mark && link.name == device_name(vxlan.vni)).then_some(vxlan.vni)
}

/// The changes that a network needs in the host's namespace. When the plan is a lone
/// [`Op::ReplaceDevice`], plan again after it: without the device, or with it pinned.
pub(crate) fn network(want: &DesiredNetwork, have: &Have) -> Vec<Op> {
    let mut ops = match &have.device {
        None => vec![Op::CreateDevice],
        Some(device) if must_be_replaced(want, device) && !have.pinned => {
            return vec![Op::ReplaceDevice];
        }
        Some(device) => settings(want, device),
    };
    // Its rows and children go with a device.
    let nothing = Rows::default();
    let (rows, children) = match have.device {
        Some(_) => (&have.rows, have.children.as_slice()),
        None => (&nothing, [].as_slice()),
    };
    let deletions = children.iter().filter(|c| is_stray(want, c)).map(delete);
    ops.extend(deletions);
    let rows = WantedRows::of(want).changes(rows, want.settled);
    ops.extend(rows.into_iter().map(Op::Row));
    ops.extend(handovers(want, children));
    ops
}

/// The changes that rid the host of a network's device. Its endpoints in sandboxes are not seen
/// from here: as long as there are any, the device stays.
pub(crate) fn removal(have: &Have) -> Vec<Op> {
    let children = have.children.iter().filter(|c| is_ours(c)).map(delete);
    let device = have.device.iter().map(|_| Op::DeleteDevice);
    children.chain(device).collect()
}

/// Whether there are IPv6 rows, for which the device needs IPv6. They come last in the order.
pub(crate) fn wants_ipv6(want: &DesiredNetwork) -> bool {
    want.remotes.last_key_value().is_some_and(|(address, _)| address.is_ipv6())
}

/// Whether the device differs in what the kernel does not change.
pub(crate) fn must_be_replaced(want: &DesiredNetwork, device: &Link) -> bool {
    match &device.kind {
        Kind::Vxlan(vxlan) => vxlan.port != want.port || !vxlan.proxy || vxlan.external,
        Kind::Macvlan { .. } | Kind::Other => true,
    }
}

/// The device's MTU before its children's: theirs cannot be larger. `Up` last.
fn settings(want: &DesiredNetwork, device: &Link) -> Vec<Op> {
    let vxlan = match &device.kind {
        Kind::Vxlan(vxlan) => vxlan.clone(),
        Kind::Macvlan { .. } | Kind::Other => Vxlan::default(),
    };
    let quiet = device.quiet;
    let is_due = [
        (Setting::Alias, device.alias != device_alias(want)),
        (Setting::Local, vxlan.local != Some(want.local)),
        (Setting::NoLearning, vxlan.learning),
        (Setting::Mtu, device.mtu != u32::from(want.mtu)),
        (Setting::NoIpv6Address, quiet.makes_addresses == Some(true)),
        (Setting::NoRouterAdvertisement, quiet.accept_ra.is_some_and(|v| v != 0)),
        (Setting::NoArpReply, quiet.arp_ignore.is_some_and(|v| v != NO_ARP_REPLY)),
        (Setting::Arp, device.noarp),
        (Setting::Ipv6, wants_ipv6(want) && quiet.ipv6 == Some(false)),
        (Setting::Up, !device.up),
    ];
    let due = is_due.into_iter().filter(|(_, due)| *due);
    due.map(|(setting, _)| Op::SetDevice(setting)).collect()
}

/// A child in the host's namespace that no endpoint has a use for. One whose endpoint belongs in a
/// sandbox stays until that sandbox lacks it.
fn is_stray(want: &DesiredNetwork, child: &Link) -> bool {
    let endpoint = want.endpoints.values().find(|e| child.mac == Some(e.mac));
    match endpoint.map(|e| &e.home) {
        None => is_ours(child),
        Some(Home::Handover { ifname }) => child.name != ifname.as_ref(),
        Some(Home::Transit | Home::Sandbox { .. }) => false,
    }
}

/// An endpoint's interface, or a probe that was left behind by a crash: no other child can be made
/// while there is one.
fn is_ours(child: &Link) -> bool {
    child.alias.starts_with(ENDPOINT_MARK) || child.name.starts_with(PROBE_PREFIX)
}

fn delete(child: &Link) -> Op {
    Op::DeleteChild { index: child.index, ifname: child.name.clone() }
}

fn handovers(want: &DesiredNetwork, children: &[Link]) -> Vec<Op> {
    let mut ops = Vec::new();
    for (id, endpoint) in &want.endpoints {
        let Home::Handover { ifname } = &endpoint.home else {
            continue;
        };
        let there =
            children.iter().find(|c| c.mac == Some(endpoint.mac) && c.name == ifname.as_ref());
        match there {
            None => ops.push(Op::CreateChild {
                endpoint: id.clone(),
                ifname: ifname.to_string(),
                mac: endpoint.mac,
            }),
            Some(child) if child.mtu != u32::from(want.mtu) => {
                ops.push(Op::SetChildMtu { index: child.index, ifname: child.name.clone() });
            }
            Some(_) => {}
        }
    }
    ops
}

fn alias(mark: &str, text: &str) -> String {
    let mut alias = format!("{mark}{text}");
    while alias.len() > MAX_ALIAS {
        alias.pop();
    }
    alias
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
