//! The names table: which addresses a name has, network by network. No IO, no clock.
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::network::{Addresses, Network, Spec, fold};

/// Names to addresses and back, for every network of the cluster.
///
/// A record lives exactly as long as its endpoint: [`Names::set`] puts it, [`Names::remove`]
/// takes it away, and nothing ages. The number of networks and endpoints is bounded by the
/// table this one follows (the gossip's); the names of an endpoint are bounded here.
///
/// A look-up costs a hash for each network in the scope and for each dot of the name, however
/// many endpoints there are.
#[derive(Debug, Default)]
pub struct Names {
    networks: HashMap<u64, Network>,
    by_network_name: HashMap<Box<str>, Vec<u64>>,
    serial: u32,
}

/// What [`Names::resolve`] knows of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its addresses, sorted, IPv4 first, each once; never empty.
    Found(Vec<IpAddr>),
    /// It lies under the name of a network in scope, and nothing there is called so.
    NoSuchName,
    /// Not for us to say: ask elsewhere.
    NotOurs,
}

/// What [`Names::reverse`] knows of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReverseResolution {
    /// `name.network.`, sorted, each once, from the first name of whoever holds it; never empty.
    Found(Vec<String>),
    /// It lies in a subnet of a network in scope, and nobody with a name holds it.
    NoSuchName,
    /// Not for us to say: ask elsewhere.
    NotOurs,
}

impl Names {
    /// Makes a network known, or changes its name or subnets. Its endpoints stay.
    pub fn set_network(&mut self, id: u64, name: &str, subnet: Ipv4Net, subnet6: Option<Ipv6Net>) {
        let name: Box<str> = fold(name).into();
        let network = self.networks.entry(id).or_default();
        let before = network.spec.replace(Spec { name: name.clone(), subnet, subnet6 });
        if before.as_ref() == network.spec.as_ref() {
            return;
        }
        if let Some(before) = before {
            self.forget_name(id, &before.name);
        }
        self.by_network_name.entry(name).or_default().push(id);
        self.changed();
    }

    /// Forgets a network and all its endpoints.
    pub fn remove_network(&mut self, id: u64) {
        let Some(network) = self.networks.remove(&id) else {
            return;
        };
        if let Some(spec) = network.spec {
            self.forget_name(id, &spec.name);
        }
        self.changed();
    }

    /// Puts one endpoint; what it had before under this key is replaced.
    ///
    /// `key` identifies it in the cluster (node, endpoint id). `names` are single names, its own
    /// first: the first is what its addresses resolve to. Names that cannot stand in a DNS query
    /// (empty, labels over 63 bytes, white space, backslashes) are left out, and so are those
    /// after the first 64. The network need not be known yet.
    pub fn set(
        &mut self,
        network: u64,
        key: (String, String),
        ipv4: Ipv4Addr,
        ipv6: Option<Ipv6Addr>,
        names: &[String],
    ) {
        let addresses = Addresses { ipv4, ipv6 };
        if self.networks.entry(network).or_default().set(key, addresses, names) {
            self.changed();
        }
    }

    /// Takes one endpoint away; unknown ones are no error.
    pub fn remove(&mut self, network: u64, key: &(String, String)) {
        let Entry::Occupied(mut entry) = self.networks.entry(network) else {
            return;
        };
        if !entry.get_mut().remove(key) {
            return;
        }
        if entry.get().is_void() {
            entry.remove();
        }
        self.changed();
    }

    /// All addresses of `name`, or of `name.network`, sorted, IPv4 first; case does not matter, nor
    /// does a trailing dot. `scope`: the networks to look in, `None` for all.
    ///
    /// A name that contains dots and exists as such in the scope goes before `name.network`.
    pub fn resolve(&self, scope: Option<&[u64]>, name: &str) -> Resolution {
        let name = fold(name);
        let mut found = Vec::new();
        for network in self.in_scope(scope) {
            found.extend_from_slice(network.addresses(&name));
        }
        let mut ours = false;
        if found.is_empty() {
            for (host, network) in self.splits(scope, &name) {
                ours = true;
                found.extend_from_slice(network.addresses(host));
            }
        }
        if found.is_empty() {
            return if ours { Resolution::NoSuchName } else { Resolution::NotOurs };
        }
        found.sort_unstable();
        found.dedup();
        Resolution::Found(found)
    }

    /// The names of whoever holds `address` in a network in scope (`None`: in any).
    pub fn reverse(&self, scope: Option<&[u64]>, address: IpAddr) -> ReverseResolution {
        let mut found = Vec::new();
        let mut ours = false;
        for network in self.in_scope(scope) {
            let Some(spec) = &network.spec else { continue };
            ours |= spec.subnets().any(|subnet| subnet.contains(&address));
            let names = network.names_at(address);
            found.extend(names.iter().map(|name| format!("{name}.{}.", spec.name)));
        }
        if found.is_empty() {
            return if ours { ReverseResolution::NoSuchName } else { ReverseResolution::NotOurs };
        }
        found.sort_unstable();
        found.dedup();
        ReverseResolution::Found(found)
    }

    /// Labels of the name of the network in scope that `name` lies under or is, the most
    /// specific one; `None` when there is none.
    pub(crate) fn zone_labels(&self, scope: Option<&[u64]>, name: &str) -> Option<usize> {
        let name = fold(name);
        let apex = self.known_as(scope, &name).next().is_some();
        let zone = if apex {
            Some(&*name)
        } else {
            let (host, _) = self.splits(scope, &name).next()?;
            name.get(host.len() + 1..)
        };
        zone.map(|zone| zone.split('.').count())
    }

    /// The smallest subnet of a network in scope that contains all of `range`.
    pub(crate) fn subnet_around(&self, scope: Option<&[u64]>, range: IpNet) -> Option<IpNet> {
        self.in_scope(scope)
            .filter_map(|network| network.spec.as_ref())
            .flat_map(Spec::subnets)
            .filter(|subnet| subnet.contains(&range))
            .max_by_key(IpNet::prefix_len)
    }

    /// Counts the changes, as the serial number of a zone does (RFC 1035 §3.3.13). Each host
    /// counts for itself.
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    fn changed(&mut self) {
        self.serial = self.serial.wrapping_add(1);
    }

    fn forget_name(&mut self, id: u64, name: &str) {
        if let Some(ids) = self.by_network_name.get_mut(name) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_network_name.remove(name);
            }
        }
    }

    fn in_scope<'a>(&'a self, scope: Option<&'a [u64]>) -> impl Iterator<Item = &'a Network> {
        let all = scope.is_none().then(|| self.networks.values());
        let some = scope.unwrap_or_default().iter().filter_map(|id| self.networks.get(id));
        some.chain(all.into_iter().flatten())
    }

    /// Networks in scope that are called `name`.
    fn known_as<'a>(
        &'a self,
        scope: Option<&'a [u64]>,
        name: &str,
    ) -> impl Iterator<Item = &'a Network> + use<'a> {
        let ids = self.by_network_name.get(name).map_or(&[][..], Vec::as_slice);
        ids.iter()
            .filter(move |id| scope.is_none_or(|scope| scope.contains(id)))
            .filter_map(|id| self.networks.get(id))
    }

    /// Every way to read `name` as host and network in scope, the longest network name first.
    fn splits<'a>(
        &'a self,
        scope: Option<&'a [u64]>,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Network)> {
        name.match_indices('.').flat_map(move |(dot, _)| {
            let (host, zone) = (&name[..dot], &name[dot + 1..]);
            self.known_as(scope, zone).map(move |network| (host, network))
        })
    }
}
