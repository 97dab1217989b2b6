//! The document of all networks, and what may become of it: pure functions from one to the next.
//!
//! It is written by compare-and-swap as a whole, so that each rule that spans networks (one name,
//! one VNI, no overlap) holds whoever else writes at the same moment.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::errors::{CreateNetworkError, DocumentError};
use crate::ids::{NetworkId, Vni};
use crate::network::{Defaults, Network, NetworkSpec};
use crate::pool::Pool;
use crate::subnet;

/// The format that this version reads and writes. Any change to the fields is a new one.
const FORMAT: u32 = 1;

/// Bytes of the document, at most. Consul takes a transaction of 512 KiB, in which a value is a
/// third longer (base64). A network needs some 120 bytes and some 10 for each Docker host that
/// has it. At the bound, what would make it longer is refused: [`DocumentError::TooLarge`].
pub const MAX_DOCUMENT: usize = 360 * 1024;

/// All networks, as they stand in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    format: u32,
    next_id: u64,
    pub(crate) networks: Vec<Network>,
}

impl Default for Document {
    fn default() -> Document {
        Document { format: FORMAT, next_id: 1, networks: Vec::new() }
    }
}

impl Document {
    /// Reads what [`Document::encode`] wrote, or what anybody else put in its place.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Document, DocumentError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(DocumentError::Format { found: format, known: FORMAT });
        }
        let document: Document = serde_json::from_slice(bytes)?;
        document.check()?;
        Ok(document)
    }

    /// The bytes for the store, after a change that makes the document longer for good.
    pub(crate) fn encode_longer(&self) -> Result<Vec<u8>, DocumentError> {
        let bytes = self.encode()?;
        if bytes.len() > MAX_DOCUMENT {
            let (size, networks) = (bytes.len(), self.networks.len());
            return Err(DocumentError::TooLarge { size, networks });
        }
        Ok(bytes)
    }

    /// The bytes for the store, after any other change. A removal's mark may go beyond the bound:
    /// at the bound it must be possible to remove. The store takes 20,000 bytes more.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, DocumentError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The network of this id, if there is one.
    pub(crate) fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.iter().find(|n| n.id == id)
    }

    /// This, with one network more.
    pub(crate) fn create(
        &self,
        spec: &NetworkSpec,
        defaults: &Defaults,
    ) -> Result<(Document, Network), CreateNetworkError> {
        self.name_is_free(spec)?;
        let subnet = match spec.subnet {
            Some(subnet) => self.subnet_is_free(subnet)?,
            None => self.free_subnet(defaults, &spec.avoid)?,
        };
        let network = Network {
            id: NetworkId(self.next_id),
            name: spec.name.clone(),
            vni: self.free_vni(defaults)?,
            subnet,
            gateway: gateway(spec, subnet)?,
            range: spec.range,
            mtu: mtu(spec)?,
            docker_hosts: Default::default(),
            removing: false,
        };
        range(&network)?;
        let mut next = self.clone();
        next.next_id += 1;
        next.networks.push(network.clone());
        Ok((next, network))
    }

    /// The subnet that a network without one would get now.
    pub(crate) fn free_subnet(
        &self,
        defaults: &Defaults,
        avoid: &[Ipv4Net],
    ) -> Result<Ipv4Net, CreateNetworkError> {
        let &Defaults { pool, prefix_len, .. } = defaults;
        let avoid = avoid.iter().copied().filter(|a| a.prefix_len() > 0);
        let taken: Vec<Ipv4Net> = avoid.chain(self.networks.iter().map(|n| n.subnet)).collect();
        let free = subnet::lowest_free(pool, prefix_len, taken);
        let networks = self.networks.len();
        let free = free.ok_or(CreateNetworkError::NoFreeSubnet { pool, prefix_len, networks })?;
        subnet::check(free)?;
        Ok(free)
    }

    /// This, with the network of `id` changed by `change`; as it is when there is none.
    pub(crate) fn with(&self, id: NetworkId, change: impl FnOnce(&mut Network)) -> Document {
        let mut next = self.clone();
        if let Some(network) = next.networks.iter_mut().find(|n| n.id == id) {
            change(network);
        }
        next
    }

    /// This, without the network of `id`.
    pub(crate) fn without(&self, id: NetworkId) -> Document {
        let mut next = self.clone();
        next.networks.retain(|n| n.id != id);
        next
    }

    fn name_is_free(&self, spec: &NetworkSpec) -> Result<(), CreateNetworkError> {
        let same = |n: &&Network| n.name.as_str().eq_ignore_ascii_case(spec.name.as_str());
        match self.networks.iter().find(same) {
            Some(existing) => Err(CreateNetworkError::NameTaken {
                name: spec.name.clone(),
                existing: Box::new(existing.clone()),
            }),
            None => Ok(()),
        }
    }

    fn subnet_is_free(&self, subnet: Ipv4Net) -> Result<Ipv4Net, CreateNetworkError> {
        subnet::check(subnet)?;
        match self.networks.iter().find(|n| subnet::overlap(n.subnet, subnet)) {
            Some(other) => Err(CreateNetworkError::Overlap {
                subnet,
                other: other.name.clone(),
                other_subnet: other.subnet,
            }),
            None => Ok(subnet),
        }
    }

    fn free_vni(&self, defaults: &Defaults) -> Result<Vni, CreateNetworkError> {
        let range = defaults.vnis;
        let taken: HashSet<Vni> = self.networks.iter().map(|n| n.vni).collect();
        let mut all = (range.first.value()..=range.last.value()).filter_map(Vni::new);
        all.find(|v| !taken.contains(v)).ok_or(CreateNetworkError::NoFreeVni { range })
    }

    /// What every writer of this crate keeps; a document of other hands may break it.
    fn check(&self) -> Result<(), DocumentError> {
        let (mut ids, mut names, mut vnis) = (HashSet::new(), HashSet::new(), HashSet::new());
        for network in &self.networks {
            self.check_one(network).map_err(|rule| broken(network, rule))?;
            let name = network.name.as_str().to_ascii_lowercase();
            if !ids.insert(network.id) || !names.insert(name) || !vnis.insert(network.vni) {
                return Err(broken(network, "another one has its id, name or VNI"));
            }
        }
        let mut sorted: Vec<&Network> = self.networks.iter().collect();
        sorted.sort_unstable_by_key(|n| n.subnet.network());
        // Subnets nest or are apart: where two overlap, two neighbours do.
        match sorted.windows(2).find(|pair| subnet::overlap(pair[0].subnet, pair[1].subnet)) {
            Some(pair) => Err(broken(pair[1], "another one has part of its subnet")),
            None => Ok(()),
        }
    }

    fn check_one(&self, network: &Network) -> Result<(), &'static str> {
        if network.id.0 >= self.next_id {
            return Err("its id was not given out yet");
        }
        subnet::check(network.subnet).map_err(|_| "its subnet is unusable")?;
        if !is_host(network.subnet, network.gateway) {
            return Err("its gateway is no host of its subnet");
        }
        range(network).map_err(|_| "its range is unusable")
    }
}

fn broken(network: &Network, rule: &'static str) -> DocumentError {
    DocumentError::Broken { network: network.name.clone(), rule }
}

fn gateway(spec: &NetworkSpec, subnet: Ipv4Net) -> Result<Ipv4Addr, CreateNetworkError> {
    let first = || Ipv4Addr::from(u32::from(subnet.network()) + 1);
    let gateway = spec.gateway.unwrap_or_else(first);
    match is_host(subnet, gateway) {
        true => Ok(gateway),
        false => Err(CreateNetworkError::Gateway { gateway, subnet }),
    }
}

fn is_host(subnet: Ipv4Net, address: Ipv4Addr) -> bool {
    subnet.contains(&address) && address != subnet.network() && address != subnet.broadcast()
}

fn range(network: &Network) -> Result<(), CreateNetworkError> {
    let subnet = network.subnet;
    match network.range {
        Some(range) if range.trunc() != range || !subnet.contains(&range) => {
            Err(CreateNetworkError::Range { range, subnet })
        }
        Some(range) if Pool::from(network).size() == 0 => {
            Err(CreateNetworkError::EmptyRange { range, subnet })
        }
        Some(_) | None => Ok(()),
    }
}

fn mtu(spec: &NetworkSpec) -> Result<Option<u16>, CreateNetworkError> {
    match spec.mtu {
        Some(mtu) if !(Network::MIN_MTU..=Network::MAX_MTU).contains(&mtu) => {
            Err(CreateNetworkError::Mtu { mtu })
        }
        mtu => Ok(mtu),
    }
}

#[cfg(test)]
#[path = "networks_tests.rs"]
mod tests;
