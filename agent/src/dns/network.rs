//! One network of the names table: its endpoints, and the indexes over them. No IO, no clock.
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Names of one endpoint that are kept; what comes after them is left out.
///
/// A container has its name, short id, host name and a few aliases; a peer that announces
/// thousands for one endpoint must not fill the table.
pub(crate) const MAX_NAMES: usize = 64;

/// Longest name in text form, without the trailing dot (RFC 1035 §2.3.4: 255 bytes on the wire).
const MAX_NAME_LENGTH: usize = 253;

/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

/// What is known of a network itself, once it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Its name, folded.
    pub(crate) name: Box<str>,
    /// Where its IPv4 addresses are from.
    pub(crate) subnet: Ipv4Net,
    /// The same for IPv6, when it has any.
    pub(crate) subnet6: Option<Ipv6Net>,
}

impl Spec {
    /// The subnets of both families.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        [IpNet::V4(self.subnet)].into_iter().chain(self.subnet6.map(IpNet::V6))
    }
}

/// One network's endpoints, and the two indexes over them.
///
/// The indexes are multisets: two endpoints may hold one name, and for a moment, while news
/// travels, also one address; the record goes when the last of them does.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// `None`: its endpoints were heard of before it was.
    pub(crate) spec: Option<Spec>,
    endpoints: HashMap<(String, String), Endpoint>,
    by_name: HashMap<Arc<str>, Vec<IpAddr>>,
    by_address: HashMap<IpAddr, Vec<Arc<str>>>,
}

#[derive(Debug)]
struct Endpoint {
    addresses: Addresses,
    names: Box<[Arc<str>]>,
}

/// Where an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Every endpoint has one of these.
    pub(crate) ipv4: Ipv4Addr,
    /// And one of these where its network has IPv6.
    pub(crate) ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    fn iter(self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.ipv4)].into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

impl Network {
    /// No endpoint is left, and nothing is known of the network itself.
    pub(crate) fn is_void(&self) -> bool {
        self.spec.is_none() && self.endpoints.is_empty()
    }

    /// Sorted, IPv4 first; an address of two endpoints is there twice.
    pub(crate) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// First names of whoever holds the address; sorted.
    pub(crate) fn names_at(&self, address: IpAddr) -> &[Arc<str>] {
        self.by_address.get(&address).map_or(&[], Vec::as_slice)
    }

    /// False when nothing changed.
    pub(crate) fn set(
        &mut self,
        key: (String, String),
        addresses: Addresses,
        names: &[String],
    ) -> bool {
        let names = usable(names);
        if let Some(old) = self.endpoints.get(&key)
            && old.addresses == addresses
            && old.names.iter().map(|name| &**name).eq(names.iter().map(|name| &**name))
        {
            return false;
        }
        self.remove(&key);
        let names: Box<[Arc<str>]> = names.iter().map(|name| self.intern(name)).collect();
        for address in addresses.iter() {
            for name in &names {
                insert(self.by_name.entry(name.clone()).or_default(), address);
            }
            if let Some(first) = names.first() {
                insert(self.by_address.entry(address).or_default(), first.clone());
            }
        }
        self.endpoints.insert(key, Endpoint { addresses, names });
        true
    }

    /// False when there was no such endpoint.
    pub(crate) fn remove(&mut self, key: &(String, String)) -> bool {
        let Some(endpoint) = self.endpoints.remove(key) else {
            return false;
        };
        for address in endpoint.addresses.iter() {
            for name in &endpoint.names {
                take(&mut self.by_name, name.clone(), &address);
            }
            if let Some(first) = endpoint.names.first() {
                take(&mut self.by_address, address, first);
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

/// Takes one occurrence out of the sorted multiset under `key`, which goes with its last element.
fn take<K: Eq + Hash, T: Ord>(index: &mut HashMap<K, Vec<T>>, key: K, item: &T) {
    if let Entry::Occupied(mut entry) = index.entry(key) {
        if let Ok(at) = entry.get().binary_search(item) {
            entry.get_mut().remove(at);
        }
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

/// Lower case (ASCII, RFC 4343), without a trailing dot.
pub(crate) fn fold(name: &str) -> Cow<'_, str> {
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
