//! Levels and counters of the core, for metrics.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Core;
use crate::control::api::MemberCounts;

/// What the core counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Hosts by state, this one included.
    pub members: MemberCounts,
    /// Endpoints of this host.
    pub local: usize,
    /// Endpoints of other hosts whose names are answered.
    pub remote: usize,
    /// Those that are reachable, and not named.
    pub withheld: usize,
    /// Of every network, by id.
    pub pools: Vec<PoolUse>,
    /// Sentences in status.
    pub problems: usize,
    /// Addresses that are held twice.
    pub conflicts: usize,
    /// Another host has this host's name.
    pub name_conflict: bool,
    /// Addresses that the store has not taken back.
    pub releases: usize,
    /// The store answers.
    pub store_up: bool,
    /// Docker's engine is connected.
    pub docker_up: bool,
    /// The state can be written.
    pub state_writable: bool,
    /// What is wrong with DNS in containers.
    pub dns_failures: usize,
    /// Things that audits put right.
    pub repaired: u64,
    /// Of these, what the last audit found.
    pub drift: u64,
    /// Things that the kernel does not take.
    pub failures: usize,
}

/// How much of a network's IPv4 addresses is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// The network's name.
    pub network: String,
    /// Addresses of endpoints that are known, on any host.
    pub used: u64,
    /// Addresses that can be given out.
    pub size: u64,
}

impl Core {
    pub(super) fn figures(&self) -> Figures {
        Figures {
            members: self.member_counts(),
            local: self.local_endpoints().count(),
            remote: self.remotes.visible().count(),
            withheld: self.remotes.held(),
            pools: self.pool_uses(),
            problems: self.problems(self.now).len(),
            conflicts: self.held_twice().len(),
            name_conflict: self.health.name_conflict.is_some(),
            releases: self.releases.len(),
            store_up: self.health.store.is_none(),
            docker_up: self.health.docker.is_none(),
            state_writable: self.health.disk.is_none(),
            dns_failures: self.health.dns.len(),
            repaired: self.health.repaired,
            drift: self.health.drift,
            failures: self.health.dataplane.len(),
        }
    }

    fn pool_uses(&self) -> Vec<PoolUse> {
        let own = self.local.values().flat_map(|l| l.addresses().map(|a| (l.network, a)));
        let own: BTreeSet<(u64, IpAddr)> = own.filter(|(_, address)| address.is_ipv4()).collect();
        let uses = self.networks.iter().map(|(id, network)| {
            let here = own.iter().filter(|(network, _)| network == id).count();
            let there = self.remotes.claimed(*id).filter(IpAddr::is_ipv4);
            let used = (here + there.filter(|a| !own.contains(&(*id, *a))).count()) as u64;
            PoolUse { network: network.name.to_string(), used, size: network.size() }
        });
        uses.collect()
    }
}
