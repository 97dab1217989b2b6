//! Which address to give out next: a snapshot in, an address out.
//!
//! What is picked is only a proposal: the transaction that creates the lease decides. The order
//! of addresses is round-robin, so that a freed one is reused as late as can be: hosts that have
//! not yet heard of the release would send to its old holder.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::ids::NetworkName;
use crate::network::Network;

/// Leases of one network: as many as a /16 holds. At the bound automatic addresses are refused,
/// as the list of leases, which is read for each of them, would become too large.
pub const MAX_LEASES: usize = 65_536;

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
}

/// Which addresses of a network are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// With their generations.
    pub(crate) held: BTreeMap<Ipv4Addr, u64>,
    /// Given out automatically last, if that is known.
    pub(crate) last: Option<Ipv4Addr>,
}

/// Nothing is left to give out automatically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// Where automatic addresses come from.
    pub(crate) range: Ipv4Net,
    /// How many it has for endpoints.
    pub(crate) size: u64,
    /// How many of them are held.
    pub(crate) used: u64,
}

/// Why no endpoint can have an address of the subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Outside,
    Network,
    Broadcast,
    Gateway,
}

impl From<&Network> for Pool {
    fn from(network: &Network) -> Pool {
        Pool {
            name: network.name.clone(),
            subnet: network.subnet,
            gateway: network.gateway,
            range: network.range,
        }
    }
}

impl Pool {
    /// Whether an endpoint may hold `address`; it need not lie in the range.
    pub(crate) fn check(&self, address: Ipv4Addr) -> Result<(), Unusable> {
        if !self.subnet.contains(&address) {
            return Err(Unusable::Outside);
        }
        if address == self.subnet.network() {
            return Err(Unusable::Network);
        }
        if address == self.subnet.broadcast() {
            return Err(Unusable::Broadcast);
        }
        if address == self.gateway {
            return Err(Unusable::Gateway);
        }
        Ok(())
    }

    /// How many addresses can be given out automatically when none is held.
    pub(crate) fn size(&self) -> u64 {
        let range = self.automatic();
        let mut reserved = vec![self.subnet.network(), self.subnet.broadcast(), self.gateway];
        reserved.sort_unstable();
        reserved.dedup();
        let inside = reserved.iter().filter(|a| range.contains(*a)).count();
        (1u64 << (32 - range.prefix_len())) - inside as u64
    }

    /// The next free address after the last one given out, wrapping at the end of the range;
    /// `skip` free ones further, for hosts that race (counted round and round: with one
    /// address left it is that one).
    ///
    /// Its time grows with the number of addresses held.
    pub(crate) fn pick(&self, snapshot: &Snapshot, skip: u64) -> Result<Ipv4Addr, Exhausted> {
        let range = self.automatic();
        let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
        let counts = |a: &&Ipv4Addr| range.contains(*a) && self.check(**a).is_ok();
        let used = snapshot.held.keys().filter(counts).count() as u64;
        let size = self.size();
        let free = size.saturating_sub(used);
        if free == 0 || snapshot.held.len() >= MAX_LEASES {
            let size = size.min(MAX_LEASES as u64);
            return Err(Exhausted { range, size, used });
        }
        let is_free = |a: Ipv4Addr| self.check(a).is_ok() && !snapshot.held.contains_key(&a);
        let start = snapshot.cursor().map(u32::from).filter(|c| (first..last).contains(c));
        let start = start.map_or(first, |c| c + 1);
        let round = (start..=last).chain(first..start).map(Ipv4Addr::from);
        let index = usize::try_from(skip % free).unwrap_or(0);
        round.filter(|a| is_free(*a)).nth(index).ok_or(Exhausted { range, size, used })
    }

    fn automatic(&self) -> Ipv4Net {
        self.range.unwrap_or(self.subnet)
    }
}

impl Snapshot {
    /// After which address to look on.
    fn cursor(&self) -> Option<Ipv4Addr> {
        let newest = || self.held.iter().max_by_key(|(_, generation)| **generation);
        self.last.or_else(|| newest().map(|(address, _)| *address))
    }
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
