//! The rows of a vxlan device: which a network wants, and what takes the kernel there.
//!
//! Two tables belong to a device. Neighbour rows (overlay address → MAC) answer ARP and neighbour
//! solicitations by the device's `proxy` flag; FDB rows (MAC → VTEP) say where a frame goes. Peers announce what stands
//! in them, so whatever could turn a row into something else than one station behind one VTEP is
//! left out here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{DesiredNetwork, LocalEndpoint, Mac, Remote};

/// Most remote addresses of each family that get rows in one network. Beyond it the highest ones get
/// none, and the network is reported as failed: they cannot be reached from this host.
pub const MAX_REMOTES: usize = 65_536;

/// The rows that a network wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WantedRows {
    pub(crate) fdb: BTreeMap<Mac, Ipv4Addr>,
    pub(crate) neighbours: BTreeMap<IpAddr, Mac>,
    /// Remotes beyond [`MAX_REMOTES`].
    pub(crate) left_out: usize,
    /// MACs and addresses of local endpoints: no row may contradict them.
    local_macs: BTreeSet<Mac>,
    local_addresses: BTreeSet<IpAddr>,
}

/// The rows that a device holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// `None`: a row that is not one permanent row to one VTEP (several destinations, a port or
    /// VNI of its own, a nexthop, not permanent).
    pub(crate) fdb: BTreeMap<Mac, Option<Ipv4Addr>>,
    /// Permanent ones only.
    pub(crate) neighbours: BTreeMap<IpAddr, Mac>,
}

/// One change of a row. All of them may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOp {
    /// Add, or replace in place.
    SetFdb {
        mac: Mac,
        vtep: Ipv4Addr,
    },
    /// Remove all destinations of this MAC.
    DeleteFdb {
        mac: Mac,
    },
    /// Add, or replace in place.
    SetNeighbour {
        address: IpAddr,
        mac: Mac,
    },
    DeleteNeighbour {
        address: IpAddr,
    },
}

impl RowOp {
    /// The name under which it is counted.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::SetFdb { .. } => "fdb_set",
            Self::DeleteFdb { .. } => "fdb_delete",
            Self::SetNeighbour { .. } => "neighbour_set",
            Self::DeleteNeighbour { .. } => "neighbour_delete",
        }
    }

    /// Whether the kernel takes it only where IPv6 is on.
    pub(crate) fn is_ipv6(&self) -> bool {
        match self {
            Self::SetNeighbour { address, .. } | Self::DeleteNeighbour { address } => {
                address.is_ipv6()
            }
            Self::SetFdb { .. } | Self::DeleteFdb { .. } => false,
        }
    }
}

impl WantedRows {
    /// Local endpoints win over what peers say; two remotes of one MAC share its FDB row, which
    /// follows the lower address when they disagree on the VTEP.
    pub(crate) fn of(network: &DesiredNetwork) -> Self {
        let mut wanted = Self {
            local_macs: network.endpoints.values().map(|e| e.mac).collect(),
            local_addresses: network.endpoints.values().flat_map(addresses).collect(),
            ..Self::default()
        };
        let (mut of_ipv4, mut of_ipv6) = (0, 0);
        for (&address, remote) in &network.remotes {
            if !is_reachable(remote, network.local)
                || !is_station(address)
                || wanted.local_macs.contains(&remote.mac)
                || wanted.local_addresses.contains(&address)
            {
                continue;
            }
            let count = if address.is_ipv4() { &mut of_ipv4 } else { &mut of_ipv6 };
            if *count == MAX_REMOTES {
                wanted.left_out += 1;
                continue;
            }
            *count += 1;
            wanted.neighbours.insert(address, remote.mac);
            wanted.fdb.entry(remote.mac).or_insert(remote.vtep);
        }
        wanted
    }

    /// What brings `have` here. Set before delete, the FDB row before the neighbour row that makes
    /// containers send to it, and the reverse for removals: at no moment does an address that
    /// stays lead nowhere.
    pub(crate) fn changes(&self, have: &Rows, settled: bool) -> Vec<RowOp> {
        let mut ops = Vec::new();
        for (&mac, &vtep) in &self.fdb {
            match have.fdb.get(&mac) {
                Some(&Some(there)) if there == vtep => continue,
                // A replace changes only the first of several destinations.
                Some(None) => ops.push(RowOp::DeleteFdb { mac }),
                Some(Some(_)) | None => {}
            }
            ops.push(RowOp::SetFdb { mac, vtep });
        }
        for (&address, &mac) in &self.neighbours {
            if have.neighbours.get(&address) != Some(&mac) {
                ops.push(RowOp::SetNeighbour { address, mac });
            }
        }
        ops.extend(self.removals(have, settled));
        ops
    }

    fn removals(&self, have: &Rows, settled: bool) -> impl Iterator<Item = RowOp> {
        let neighbours = have
            .neighbours
            .iter()
            .filter(move |(a, _)| !self.neighbours.contains_key(a))
            .filter(move |(a, m)| {
                settled || self.local_addresses.contains(a) || self.local_macs.contains(m)
            })
            .map(|(&address, _)| RowOp::DeleteNeighbour { address });
        let fdb = have
            .fdb
            .keys()
            .filter(move |m| !self.fdb.contains_key(m))
            .filter(move |m| settled || self.local_macs.contains(m))
            .map(|&mac| RowOp::DeleteFdb { mac });
        neighbours.chain(fdb)
    }
}

impl Rows {
    /// Enters what an operation did.
    pub(crate) fn record(&mut self, op: &RowOp) {
        match *op {
            RowOp::SetFdb { mac, vtep } => {
                self.fdb.insert(mac, Some(vtep));
            }
            RowOp::DeleteFdb { mac } => {
                self.fdb.remove(&mac);
            }
            RowOp::SetNeighbour { address, mac } => {
                self.neighbours.insert(address, mac);
            }
            RowOp::DeleteNeighbour { address } => {
                self.neighbours.remove(&address);
            }
        }
    }
}

/// An endpoint's addresses, of both families.
fn addresses(endpoint: &LocalEndpoint) -> impl Iterator<Item = IpAddr> + use<> {
    let of_ipv6 = endpoint.address6.map(|net| IpAddr::V6(net.addr()));
    [IpAddr::V4(endpoint.address.addr())].into_iter().chain(of_ipv6)
}

/// A row must not speak for what each host is to itself: with one for a link-local address the device
/// would answer in the name of another container (RFC 4291, section 2.4).
fn is_station(address: IpAddr) -> bool {
    let is_own = |a: Ipv6Addr| {
        a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local()
    };
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !is_own(address),
    }
}

/// Rows come from peers: a row for the zero MAC would flood all unknown frames to its VTEP, one to
/// a multicast or broadcast address would do so on the underlay, one to ourselves would loop.
fn is_reachable(remote: &Remote, local: Ipv4Addr) -> bool {
    let vtep = remote.vtep;
    let is_host = !vtep.is_unspecified() && !vtep.is_multicast() && !vtep.is_broadcast();
    remote.mac.is_unicast() && is_host && vtep != local
}
