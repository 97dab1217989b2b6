//! The document of all networks, and what may become of it: pure functions from one to the next.
//!
//! It is written by compare-and-swap as a whole, so that each rule that spans networks (one name,
//! one VNI, no overlap) holds whoever else writes at the same moment.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::errors::{CreateNetworkError, DocumentError};
use crate::family::overlap;
use crate::ids::{NetworkId, Vni};
use crate::network::{Ipv6, Network, Networks};
use crate::spec::{Defaults, Ipv6Spec, NetworkSpec};
use crate::{rules, subnet};

/// The format that this version writes. Any change to the fields is a new one.
///
/// It reads format 1 as well, in which a network had no IPv6, no addresses set aside and nothing
/// for Docker, but a list of the hosts whose Docker had it (`docker_hosts`), which is dropped.
const FORMAT: u32 = 2;
const FORMAT_WITH_HOSTS: u32 = 1;

/// Bytes of the document, at most. Consul takes a transaction of 512 KiB, in which a value is a
/// third longer (base64), and the document is written together with a network's pool key of up
/// to 20 KiB. A network needs some 120 bytes; with all the options, labels and addresses set
/// aside that it can have, some 30,000. At the bound, what would make it longer is refused:
/// [`DocumentError::TooLarge`].
pub const MAX_DOCUMENT: usize = 340 * 1024;

/// All networks, as they stand in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    format: u32,
    next_id: u64,
    /// Where automatic IPv6 subnets come from: drawn when the first one is wanted, and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix6: Option<Ipv6Net>,
    pub(crate) networks: Vec<Network>,
}

impl Default for Document {
    fn default() -> Document {
        Document { format: FORMAT, next_id: FIRST_ID, prefix6: None, networks: Vec::new() }
    }
}

/// Of the first network.
const FIRST_ID: u64 = 1;

impl Document {
    /// Reads what [`Document::encode`] wrote, or what anybody else put in its place.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Document, DocumentError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(bytes)?;
        let document = match format {
            FORMAT => serde_json::from_slice(bytes)?,
            FORMAT_WITH_HOSTS => without_hosts(serde_json::from_slice(bytes)?)?,
            found => return Err(DocumentError::Format { found, known: FORMAT }),
        };
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

    /// What the users of the registry see of it.
    pub(crate) fn into_networks(self, revision: u64) -> Networks {
        let next_id = if self.next_id == FIRST_ID { 0 } else { self.next_id };
        Networks { revision, next_id, list: self.networks }
    }

    /// The network of this id, if there is one.
    pub(crate) fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.iter().find(|n| n.id == id)
    }

    /// This, with one network more. `random` is for the cluster's IPv6 prefix, if it is to be
    /// drawn.
    pub(crate) fn create(
        &self,
        spec: &NetworkSpec,
        defaults: &Defaults,
        random: u64,
    ) -> Result<(Document, Network), CreateNetworkError> {
        self.name_is_free(spec)?;
        let subnet = match spec.subnet {
            Some(subnet) => subnet,
            None => self.free_subnet(defaults, &spec.avoid)?,
        };
        let mut next = self.clone();
        let ipv6 = match &spec.ipv6 {
            Some(wanted) => Some(next.ipv6(wanted, spec, random)?),
            None => None,
        };
        let network = Network {
            id: NetworkId(self.next_id),
            name: spec.name.clone(),
            vni: self.free_vni(defaults)?,
            subnet,
            gateway: spec.gateway.unwrap_or_else(|| first(subnet.hosts(), spec, subnet.network())),
            range: spec.range,
            ipv6,
            aux: spec.aux.clone(),
            mtu: spec.mtu,
            internal: spec.internal,
            docker: spec.docker.clone(),
            removing: false,
        };
        rules::check(&network)?;
        self.subnets_are_free(&network)?;
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
        let taken = avoid.chain(self.networks.iter().map(|n| n.subnet));
        let free = subnet::lowest_free(pool, prefix_len, taken);
        let networks = self.networks.len();
        let free = free.ok_or(CreateNetworkError::NoFreeSubnet { pool, prefix_len, networks })?;
        subnet::check(free)?;
        Ok(free)
    }

    /// The same for IPv6; `None` as long as the cluster has no prefix.
    pub(crate) fn free_subnet6(
        &self,
        avoid: &[Ipv6Net],
    ) -> Option<Result<Ipv6Net, CreateNetworkError>> {
        let prefix = self.prefix6?;
        let avoid = avoid.iter().copied().filter(|a| !a.contains(&prefix));
        let own = self.networks.iter().filter_map(|n| n.ipv6).map(|ipv6| ipv6.subnet);
        let networks = self.networks.len();
        let free = subnet::lowest_free6(prefix, avoid.chain(own));
        Some(free.ok_or(CreateNetworkError::NoFreeSubnet6 { prefix, networks }))
    }

    /// This, with a prefix for IPv6 subnets, the old one if it has one.
    pub(crate) fn with_prefix6(&self, random: u64) -> Document {
        let prefix6 = self.prefix6.or_else(|| Some(subnet::unique_local(random)));
        Document { prefix6, ..self.clone() }
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

    /// The IPv6 side of a new network; draws the prefix of the cluster if it is wanted.
    fn ipv6(
        &mut self,
        wanted: &Ipv6Spec,
        spec: &NetworkSpec,
        random: u64,
    ) -> Result<Ipv6, CreateNetworkError> {
        let subnet = match wanted.subnet {
            Some(subnet) => subnet,
            None => {
                let prefix = *self.prefix6.get_or_insert_with(|| subnet::unique_local(random));
                let networks = self.networks.len();
                let none = || Err(CreateNetworkError::NoFreeSubnet6 { prefix, networks });
                self.free_subnet6(&spec.avoid6).unwrap_or_else(none)?
            }
        };
        // The first address is the routers' anycast address, no host's.
        let hosts = || subnet.hosts().skip(1);
        let gateway = wanted.gateway.unwrap_or_else(|| first(hosts(), spec, subnet.network()));
        Ok(Ipv6 { subnet, gateway, range: wanted.range })
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

    /// Whether no other network has part of its subnets.
    fn subnets_are_free(&self, network: &Network) -> Result<(), CreateNetworkError> {
        for subnet in subnets(network) {
            let theirs = |n| subnets(n).map(move |net| (n, net));
            let mut all = self.networks.iter().flat_map(theirs);
            if let Some((other, other_subnet)) = all.find(|(_, net)| overlap(subnet, *net)) {
                let other = other.name.clone();
                return Err(CreateNetworkError::Overlap { subnet, other, other_subnet });
            }
        }
        Ok(())
    }

    fn free_vni(&self, defaults: &Defaults) -> Result<Vni, CreateNetworkError> {
        let range = defaults.vnis;
        let taken: HashSet<Vni> = self.networks.iter().map(|n| n.vni).collect();
        let mut all = (range.first.value()..=range.last.value()).filter_map(Vni::new);
        all.find(|v| !taken.contains(v)).ok_or(CreateNetworkError::NoFreeVni { range })
    }

    /// What every writer of this crate keeps; a document of other hands may break it.
    fn check(&self) -> Result<(), DocumentError> {
        if let Some(prefix) = self.prefix6.filter(|p| !subnet::is_unique_local(*p)) {
            return Err(DocumentError::Prefix6(prefix));
        }
        let (mut ids, mut names, mut vnis) = (HashSet::new(), HashSet::new(), HashSet::new());
        for network in &self.networks {
            if network.id.0 >= self.next_id {
                return Err(broken(network, "its id was not given out yet"));
            }
            rules::check(network).map_err(|error| broken(network, &error.to_string()))?;
            let name = network.name.as_str().to_ascii_lowercase();
            if !ids.insert(network.id) || !names.insert(name) || !vnis.insert(network.vni) {
                return Err(broken(network, "another one has its id, name or VNI"));
            }
        }
        self.check_subnets()
    }

    fn check_subnets(&self) -> Result<(), DocumentError> {
        let all = self.networks.iter().flat_map(|n| subnets(n).map(move |net| (net, n)));
        let mut sorted: Vec<(IpNet, &Network)> = all.collect();
        sorted.sort_unstable_by_key(|(net, _)| net.network());
        // Subnets nest or are apart: where two overlap, two neighbours do.
        match sorted.windows(2).find(|pair| overlap(pair[0].0, pair[1].0)) {
            Some(pair) => Err(broken(pair[1].1, "another one has part of its subnet")),
            None => Ok(()),
        }
    }
}

/// A document of format 1 as one of this format.
fn without_hosts(mut old: Value) -> Result<Document, serde_json::Error> {
    if let Some(fields) = old.as_object_mut() {
        fields.insert("format".to_owned(), FORMAT.into());
    }
    let networks = old.get_mut("networks").and_then(Value::as_array_mut);
    for network in networks.into_iter().flatten().filter_map(Value::as_object_mut) {
        network.remove("docker_hosts");
    }
    serde_json::from_value(old)
}

fn broken(network: &Network, rule: &str) -> DocumentError {
    DocumentError::Broken { network: network.name.clone(), rule: rule.to_owned() }
}

fn subnets(network: &Network) -> impl Iterator<Item = IpNet> {
    let subnet6 = network.ipv6.map(|ipv6| IpNet::from(ipv6.subnet));
    std::iter::once(IpNet::from(network.subnet)).chain(subnet6)
}

/// The gateway of a network that asks for none: the first host that is not set aside. When all
/// are, the first of them, for the rules to refuse; `network` when there are none at all.
fn first<A: Copy + Into<IpAddr>>(
    mut hosts: impl Iterator<Item = A>,
    spec: &NetworkSpec,
    network: A,
) -> A {
    let first = hosts.next();
    let is_free = |host: &A| !spec.aux.values().any(|aside| *aside == (*host).into());
    let free = first.into_iter().chain(hosts.take(Network::MAX_AUX)).find(is_free);
    free.or(first).unwrap_or(network)
}

#[cfg(test)]
#[path = "networks_tests.rs"]
mod tests;
