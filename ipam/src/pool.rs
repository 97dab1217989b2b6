//! Which address to give out next: a snapshot in, an address out.
//!
//! What is picked is only a proposal: the transaction that creates the lease decides. The order
//! of addresses is round-robin, so that a freed one is reused as late as can be: hosts that have
//! not yet heard of the release would send to its old holder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::family::{Family, bounds, number};
use crate::ids::NetworkName;
use crate::network::{Ipv6, Network};

/// Leases of one network, IPv4 and IPv6 together: as many as a /16 holds. At the bound automatic
/// addresses are refused, as the list of leases, which is read for each of them, would become too
/// large.
pub const MAX_LEASES: usize = 65_536;

/// Automatic IPv6 addresses come from the first 65,536 addresses of the range, or of the subnet: as
/// many as there can be leases, in numbers that people can read.
const WINDOW6: u8 = 112;

/// Widest spread of racing hosts, in free addresses.
const MAX_SPREAD: u64 = 4_096;

/// What giving out addresses needs to know of a network; the value of its pool key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    pub(crate) name: NetworkName,
    pub(crate) subnet: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<Ipv4Net>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ipv6: Option<Ipv6>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) aux: BTreeMap<String, IpAddr>,
}

/// Which addresses of a network are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// With their generations.
    pub(crate) held: BTreeMap<IpAddr, u64>,
    /// Given out automatically last, where that is known.
    pub(crate) last: BTreeMap<Family, IpAddr>,
}

/// No address can be given out automatically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoneLeft {
    /// The network has no IPv6 subnet.
    NoIpv6,
    /// Nothing is free.
    Exhausted {
        /// Where automatic addresses come from.
        range: IpNet,
        /// How many it has for endpoints.
        size: u64,
        /// How many of them are held.
        used: u64,
    },
    /// [`MAX_LEASES`] are held.
    TooMany,
}

/// Why no endpoint can have an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// An IPv6 address, and the network has no IPv6 subnet.
    NoIpv6,
    /// Not inside this subnet.
    Outside(IpNet),
    /// The subnet's own: of the network, broadcast, gateway.
    Reserved(&'static str),
    /// Set aside under this name.
    Aside(String),
}

impl From<&Network> for Pool {
    fn from(network: &Network) -> Pool {
        Pool {
            name: network.name.clone(),
            subnet: network.subnet,
            gateway: network.gateway,
            range: network.range,
            ipv6: network.ipv6,
            aux: network.aux.clone(),
        }
    }
}

impl Pool {
    /// Whether an endpoint may hold `address`; it need not lie in the range.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Unusable> {
        self.check_own(address)?;
        match self.aux.iter().find(|(_, aside)| **aside == address) {
            Some((name, _)) => Err(Unusable::Aside(name.clone())),
            None => Ok(()),
        }
    }

    /// Whether `address` is inside a subnet of the network and none of that subnet's own.
    pub(crate) fn check_own(&self, address: IpAddr) -> Result<(), Unusable> {
        let subnet = self.subnet_of(Family::of(address)).ok_or(Unusable::NoIpv6)?;
        if !subnet.contains(&address) {
            return Err(Unusable::Outside(subnet));
        }
        match self.own(Family::of(address)).into_iter().find(|(own, _)| *own == address) {
            Some((_, what)) => Err(Unusable::Reserved(what)),
            None => Ok(()),
        }
    }

    /// How many addresses can be given out automatically when none is held.
    pub(crate) fn size(&self, family: Family) -> u64 {
        self.automatic(family).map_or(0, |range| count(range, &self.reserved(range)))
    }

    /// The next free address after the last one given out, wrapping at the end of the range;
    /// `skip` free ones further, for hosts that race (counted round and round: with one
    /// address left it is that one).
    ///
    /// Its time grows with the number of addresses held.
    pub(crate) fn pick(
        &self,
        family: Family,
        snapshot: &Snapshot,
        skip: u64,
    ) -> Result<IpAddr, NoneLeft> {
        let range = self.automatic(family).ok_or(NoneLeft::NoIpv6)?;
        let reserved = self.reserved(range);
        let inside = snapshot.held.range(range.network()..=range.broadcast());
        let used = inside.filter(|(a, _)| !reserved.contains(*a)).count() as u64;
        let size = count(range, &reserved);
        let exhausted = NoneLeft::Exhausted { range, size, used };
        if size <= used {
            return Err(exhausted);
        }
        if snapshot.held.len() >= MAX_LEASES {
            return Err(NoneLeft::TooMany);
        }
        let is_free = |a: &IpAddr| !reserved.contains(a) && !snapshot.held.contains_key(a);
        let (first, last) = bounds(range);
        let start = snapshot.cursor(family).map(number).filter(|c| (first..last).contains(c));
        let start = start.map_or(first, |c| c + 1);
        let round = (start..=last).chain(first..start).map(|n| family.address(n));
        let index = usize::try_from(skip % (size - used)).unwrap_or(0);
        round.filter(is_free).nth(index).ok_or(exhausted)
    }

    /// Where automatic addresses come from.
    pub(crate) fn automatic(&self, family: Family) -> Option<IpNet> {
        match (family, self.ipv6) {
            (Family::V4, _) => Some(self.range.unwrap_or(self.subnet).into()),
            (Family::V6, Some(ipv6)) => {
                let range = ipv6.range.unwrap_or(ipv6.subnet);
                let window = Ipv6Net::new(range.network(), range.prefix_len().max(WINDOW6));
                Some(window.unwrap_or(range).into())
            }
            (Family::V6, None) => None,
        }
    }

    fn subnet_of(&self, family: Family) -> Option<IpNet> {
        match family {
            Family::V4 => Some(self.subnet.into()),
            Family::V6 => self.ipv6.map(|v6| v6.subnet.into()),
        }
    }

    /// The subnet's own addresses, and what they are.
    fn own(&self, family: Family) -> Vec<(IpAddr, &'static str)> {
        match (family, self.ipv6) {
            (Family::V4, _) => vec![
                (self.subnet.network().into(), "network"),
                (self.subnet.broadcast().into(), "broadcast"),
                (self.gateway.into(), "gateway"),
            ],
            // The first address is the routers' anycast address (RFC 4291, section 2.6.1).
            (Family::V6, Some(ipv6)) => {
                vec![(ipv6.subnet.network().into(), "network"), (ipv6.gateway.into(), "gateway")]
            }
            (Family::V6, None) => Vec::new(),
        }
    }

    /// Every address of the range that no endpoint can have.
    fn reserved(&self, range: IpNet) -> BTreeSet<IpAddr> {
        let own = self.own(Family::of(range.addr())).into_iter().map(|(address, _)| address);
        let all = own.chain(self.aux.values().copied());
        all.filter(|address| range.contains(address)).collect()
    }
}

impl Snapshot {
    /// After which address to look on.
    fn cursor(&self, family: Family) -> Option<IpAddr> {
        let known = self.last.get(&family).copied();
        let held = || self.held.iter().filter(|(address, _)| Family::of(**address) == family);
        let newest = || held().max_by_key(|(_, generation)| **generation);
        known.or_else(|| newest().map(|(address, _)| *address))
    }
}

/// Addresses of the range less those reserved in it. A range has at most 2^32 of them.
fn count(range: IpNet, reserved: &BTreeSet<IpAddr>) -> u64 {
    let (first, last) = bounds(range);
    u64::try_from(last - first).unwrap_or(u64::MAX).saturating_add(1) - reserved.len() as u64
}

/// How many free addresses the try number `attempt` (from 0) passes over: none at first, later
/// a random number below a limit that grows, so that many racing hosts part quickly.
pub(crate) fn spread(attempt: u32, entropy: u64) -> u64 {
    match attempt {
        0 => 0,
        _ => entropy % 16u64.saturating_pow(attempt).min(MAX_SPREAD),
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
