//! The names table: which addresses a name has, network by network. No IO, no clock.
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;

/// Names of one endpoint that are kept; what comes after them is left out.
///
/// A container has its name, short id, host name and a few aliases; a peer that announces
/// thousands for one endpoint must not fill the table.
pub(crate) const MAX_NAMES: usize = 64;

/// Longest name in text form, without the trailing dot (RFC 1035 §2.3.4: 255 bytes on the wire).
const MAX_NAME_LENGTH: usize = 253;

/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

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
    /// Its addresses, sorted, each once; never empty.
    Found(Vec<Ipv4Addr>),
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
    /// It lies in the subnet of a network in scope, and nobody with a name holds it.
    NoSuchName,
    /// Not for us to say: ask elsewhere.
    NotOurs,
}

impl Names {
    /// Makes a network known, or changes its name or subnet. Its endpoints stay.
    pub fn set_network(&mut self, id: u64, name: &str, subnet: Ipv4Net) {
        let name: Box<str> = fold(name).into();
        let network = self.networks.entry(id).or_default();
        let before = network.spec.replace(Spec { name: name.clone(), subnet });
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
    /// first: the first is what its address resolves to. Names that cannot stand in a DNS query
    /// (empty, labels over 63 bytes, white space, backslashes) are left out, and so are those
    /// after the first 64. The network need not be known yet.
    pub fn set(&mut self, network: u64, key: (String, String), ipv4: Ipv4Addr, names: &[String]) {
        if self.networks.entry(network).or_default().set(key, ipv4, names) {
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
        if entry.get().spec.is_none() && entry.get().endpoints.is_empty() {
            entry.remove();
        }
        self.changed();
    }

    /// All addresses of `name`, or of `name.network`, sorted; case does not matter, nor does a
    /// trailing dot. `scope`: the networks to look in, `None` for all.
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
    pub fn reverse(&self, scope: Option<&[u64]>, address: Ipv4Addr) -> ReverseResolution {
        let mut found = Vec::new();
        let mut ours = false;
        for network in self.in_scope(scope) {
            let Some(spec) = &network.spec else { continue };
            ours |= spec.subnet.contains(&address);
            let names = network.by_address.get(&address).map_or(&[][..], Vec::as_slice);
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
    pub(crate) fn subnet_around(&self, scope: Option<&[u64]>, range: Ipv4Net) -> Option<Ipv4Net> {
        self.in_scope(scope)
            .filter_map(|network| network.spec.as_ref().map(|spec| spec.subnet))
            .filter(|subnet| subnet.contains(&range))
            .max_by_key(Ipv4Net::prefix_len)
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

/// What is known of a network itself, once it is.
#[derive(Debug, PartialEq, Eq)]
struct Spec {
    name: Box<str>,
    subnet: Ipv4Net,
}

/// One network's endpoints, and the two indexes over them.
///
/// The indexes are multisets: two endpoints may hold one name, and for a moment, while news
/// travels, also one address; the record goes when the last of them does.
#[derive(Debug, Default)]
struct Network {
    spec: Option<Spec>,
    endpoints: HashMap<(String, String), Endpoint>,
    by_name: HashMap<Arc<str>, Vec<Ipv4Addr>>,
    by_address: HashMap<Ipv4Addr, Vec<Arc<str>>>,
}

#[derive(Debug)]
struct Endpoint {
    address: Ipv4Addr,
    names: Box<[Arc<str>]>,
}

impl Network {
    fn addresses(&self, name: &str) -> &[Ipv4Addr] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// False when nothing changed.
    fn set(&mut self, key: (String, String), address: Ipv4Addr, names: &[String]) -> bool {
        let names = usable(names);
        if let Some(old) = self.endpoints.get(&key)
            && old.address == address
            && old.names.iter().map(|name| &**name).eq(names.iter().map(|name| &**name))
        {
            return false;
        }
        self.remove(&key);
        let names: Box<[Arc<str>]> = names.iter().map(|name| self.intern(name)).collect();
        for name in &names {
            insert(self.by_name.entry(name.clone()).or_default(), address);
        }
        if let Some(first) = names.first() {
            insert(self.by_address.entry(address).or_default(), first.clone());
        }
        self.endpoints.insert(key, Endpoint { address, names });
        true
    }

    /// False when there was no such endpoint.
    fn remove(&mut self, key: &(String, String)) -> bool {
        let Some(endpoint) = self.endpoints.remove(key) else {
            return false;
        };
        for name in &endpoint.names {
            if let Entry::Occupied(mut entry) = self.by_name.entry(name.clone()) {
                take(entry.get_mut(), &endpoint.address);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
        }
        if let Some(first) = endpoint.names.first()
            && let Entry::Occupied(mut entry) = self.by_address.entry(endpoint.address)
        {
            take(entry.get_mut(), first);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        true
    }

    /// One allocation for a name, however many endpoints and indexes hold it.
    fn intern(&self, name: &str) -> Arc<str> {
        self.by_name.get_key_value(name).map_or_else(|| name.into(), |(known, _)| known.clone())
    }
}

/// Adds to a sorted multiset. Most have one element, so the first takes no more room than it needs.
fn insert<T: Ord>(set: &mut Vec<T>, item: T) {
    if set.is_empty() {
        set.reserve_exact(1);
    }
    let at = set.partition_point(|other| *other < item);
    set.insert(at, item);
}

/// Takes one occurrence out of a sorted multiset.
fn take<T: Ord>(set: &mut Vec<T>, item: &T) {
    if let Ok(at) = set.binary_search(item) {
        set.remove(at);
    }
}

/// Lower case (ASCII, RFC 4343), without a trailing dot.
fn fold(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The names that can be asked for, folded, each once, in their order.
fn usable(names: &[String]) -> Vec<Cow<'_, str>> {
    let mut usable: Vec<Cow<'_, str>> = Vec::with_capacity(names.len().min(MAX_NAMES));
    for name in names.iter().map(|name| fold(name)).filter(|name| can_be_asked(name)) {
        if usable.len() == MAX_NAMES {
            break;
        }
        if !usable.contains(&name) {
            usable.push(name);
        }
    }
    usable
}

fn can_be_asked(name: &str) -> bool {
    let clean = |byte: u8| byte > b' ' && byte != b'\\' && byte != 0x7f;
    name.len() <= MAX_NAME_LENGTH
        && name.bytes().all(clean)
        && name.split('.').all(|label| (1..=MAX_LABEL_LENGTH).contains(&label.len()))
}
