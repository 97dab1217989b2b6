//! Giving out addresses and taking them back.

use std::net::IpAddr;

use super::Registry;
use super::tries::{Tries, entropy};
use crate::errors::AllocateError;
use crate::family::Family;
use crate::ids::{NetworkId, NetworkName};
use crate::keys;
use crate::network::{Holder, Lease, Wanted};
use crate::pool::{NoneLeft, Pool, Snapshot, Unusable, spread};
use crate::store::{Entry, Operation, Outcome, StoreError};

const STRAY: &str = "look who made it, and delete it if nobody uses that address";

/// The pool key, and at which revision it was read.
struct OpenPool {
    network: NetworkId,
    pool: Pool,
    revision: u64,
}

impl Registry {
    /// One address, durably held when this returns. The next free one is the next after the one
    /// of its family that was given out last, inside the network's range if it has one; an IPv6
    /// one among the first 65,536 addresses of the range, or of the subnet.
    ///
    /// The same holder asking for the same explicit address again gets the same lease. Asking
    /// for the next free one gives another one each time.
    ///
    /// # Errors
    /// [`AllocateError`].
    pub async fn allocate(
        &self,
        network: NetworkId,
        wanted: Wanted,
        holder: Holder,
    ) -> Result<Lease, AllocateError> {
        if !holder.is_legal() {
            return Err(AllocateError::Holder(Box::new(holder)));
        }
        let doing = "hold an address";
        let family = match wanted {
            Wanted::Address(address) => {
                return self.bounded(doing, self.hold(network, address, holder)).await;
            }
            Wanted::V4 => Family::V4,
            Wanted::V6 => Family::V6,
        };
        self.bounded(doing, self.hold_next(network, family, holder)).await
    }

    /// Gives an address back. Idempotent: one that is free, or that another node holds, is left
    /// alone (returns false).
    ///
    /// # Errors
    /// [`StoreError`]; whether it is still held is then not known: call again.
    pub async fn release(
        &self,
        network: NetworkId,
        address: IpAddr,
        node: &str,
    ) -> Result<bool, StoreError> {
        let work = self.give_back(network, address, |lease| lease.holder.node == node);
        self.bounded("release an address", work).await
    }

    /// Gives back exactly this lease: false when it is gone, or when the address was given out
    /// anew since. For those who take back what a dead node or a lost endpoint left.
    ///
    /// # Errors
    /// As [`Registry::release`].
    pub async fn release_lease(&self, lease: &Lease) -> Result<bool, StoreError> {
        let same = |now: &Lease| now.generation == lease.generation;
        let work = self.give_back(lease.network, lease.address, same);
        self.bounded("release an address", work).await
    }

    /// Every address of the network that is held, in order, IPv4 first; none when there is no such
    /// network.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn leases(&self, network: NetworkId) -> Result<Vec<Lease>, StoreError> {
        let work = self.held(network);
        let mut leases = self.bounded("list the addresses", work).await?.leases;
        leases.sort_unstable_by_key(|lease| lease.address);
        Ok(leases)
    }

    async fn hold(
        &self,
        network: NetworkId,
        address: IpAddr,
        holder: Holder,
    ) -> Result<Lease, AllocateError> {
        let key = keys::lease(network, address);
        let mut tries = Tries::new(&self.inner.url, &key);
        loop {
            let store = &self.inner.store;
            let (pool, entry) = tokio::try_join!(self.pool(network), store.read(&key))?;
            if let Some(open) = pool {
                open.pool.check(address).map_err(|why| unusable(&open.pool, address, why))?;
                if let Some(entry) = entry {
                    let lease = self.lease(network, address, &entry)?;
                    return repeated(lease, &holder, open.pool.name);
                }
                if let Some(lease) = self.grant(&open, address, &holder, None).await? {
                    return Ok(lease);
                }
            } else {
                self.reopen(network).await?;
            }
            tries.again().await?;
        }
    }

    async fn hold_next(
        &self,
        network: NetworkId,
        family: Family,
        holder: Holder,
    ) -> Result<Lease, AllocateError> {
        let what = keys::leases(network);
        let mut tries = Tries::new(&self.inner.url, &what);
        loop {
            let (pool, snapshot) = tokio::try_join!(self.pool(network), self.snapshot(network))?;
            if let Some(open) = pool {
                let skip = spread(tries.before(), entropy());
                let picked = open.pool.pick(family, &snapshot, skip);
                let address = picked.map_err(|none| none_left(&open.pool, none))?;
                let (key, value) = (keys::last(network, family), address.to_string().into_bytes());
                let last = Some(Operation::Set { key, value });
                if let Some(lease) = self.grant(&open, address, &holder, last).await? {
                    return Ok(lease);
                }
            } else {
                self.reopen(network).await?;
            }
            tries.again().await?;
        }
    }

    /// Creates the lease if the network still gives out addresses and nobody holds this one;
    /// `None` if not.
    async fn grant(
        &self,
        open: &OpenPool,
        address: IpAddr,
        holder: &Holder,
        last: Option<Operation>,
    ) -> Result<Option<Lease>, StoreError> {
        let network = open.network;
        // Two strings: it can always be written.
        let value = serde_json::to_vec(holder).unwrap_or_default();
        let key = keys::lease(network, address);
        let is_open = Operation::Check { key: keys::pool(network), revision: open.revision };
        let operations = [is_open, Operation::Put { key, revision: 0, value }];
        let operations: Vec<Operation> = operations.into_iter().chain(last).collect();
        Ok(match self.inner.store.commit(&operations).await? {
            Outcome::Conflict => None,
            Outcome::Committed { revision: generation } => {
                let holder = holder.clone();
                Some(Lease { network, address, holder, generation })
            }
        })
    }

    pub(super) async fn give_back(
        &self,
        network: NetworkId,
        address: IpAddr,
        is_meant: impl Fn(&Lease) -> bool,
    ) -> Result<bool, StoreError> {
        let key = keys::lease(network, address);
        let mut tries = Tries::new(&self.inner.url, &key);
        loop {
            let Some(entry) = self.inner.store.read(&key).await? else {
                return Ok(false);
            };
            if !is_meant(&self.lease(network, address, &entry)?) {
                return Ok(false);
            }
            let delete = Operation::Delete { key: key.clone(), revision: entry.revision };
            match self.inner.store.commit(&[delete]).await? {
                Outcome::Committed { .. } => return Ok(true),
                Outcome::Conflict => tries.again().await?,
            }
        }
    }

    /// `None`: the network gives out no addresses, for the moment or for ever.
    async fn pool(&self, network: NetworkId) -> Result<Option<OpenPool>, StoreError> {
        let Some(entry) = self.inner.store.read(&keys::pool(network)).await? else {
            return Ok(None);
        };
        let pool =
            serde_json::from_slice(&entry.value).map_err(|e| self.stray(&entry.key, Some(e)))?;
        Ok(Some(OpenPool { network, pool, revision: entry.revision }))
    }

    /// What picking needs. A lease that cannot be read counts: its address is not free.
    async fn snapshot(&self, network: NetworkId) -> Result<Snapshot, StoreError> {
        let prefix = keys::leases(network);
        let mut snapshot = Snapshot::default();
        for entry in self.inner.store.list(&prefix).await? {
            match parse(&prefix, &entry) {
                Leaf::Last(family, last) => {
                    snapshot.last.extend(last.map(|address| (family, address)));
                }
                Leaf::Address(address) => {
                    snapshot.held.insert(address, entry.revision);
                }
                Leaf::Stray => tracing::warn!(key = %entry.key, "a key that is no lease: {STRAY}"),
            }
        }
        Ok(snapshot)
    }

    /// Every lease of the network, and the keys that go with the last of them.
    pub(super) async fn held(&self, network: NetworkId) -> Result<Held, StoreError> {
        let prefix = keys::leases(network);
        let mut held = Held { leases: Vec::new(), last: Vec::new() };
        for entry in self.inner.store.list(&prefix).await? {
            match parse(&prefix, &entry) {
                Leaf::Last(family, _) => held.last.push((family, entry.revision)),
                Leaf::Address(address) => held.leases.push(self.lease(network, address, &entry)?),
                Leaf::Stray => return Err(self.stray(&entry.key, None)),
            }
        }
        Ok(held)
    }

    pub(super) fn lease(
        &self,
        network: NetworkId,
        address: IpAddr,
        entry: &Entry,
    ) -> Result<Lease, StoreError> {
        let holder: Holder =
            serde_json::from_slice(&entry.value).map_err(|e| self.stray(&entry.key, Some(e)))?;
        Ok(Lease { network, address, holder, generation: entry.revision })
    }

    fn stray(&self, key: &str, source: Option<serde_json::Error>) -> StoreError {
        StoreError::Corrupt {
            store: self.inner.url.clone(),
            what: format!("the key {key}"),
            advice: STRAY,
            source: source.map(Into::into),
        }
    }
}

/// The leases of a network.
pub(super) struct Held {
    pub(super) leases: Vec<Lease>,
    /// Revisions of the keys that name the address given out last, where there is one.
    pub(super) last: Vec<(Family, u64)>,
}

/// What the end of a key below a network's leases says.
pub(super) enum Leaf {
    Last(Family, Option<IpAddr>),
    Address(IpAddr),
    Stray,
}

pub(super) fn parse(prefix: &str, entry: &Entry) -> Leaf {
    let leaf = entry.key.strip_prefix(prefix).unwrap_or_default();
    match leaf {
        keys::LAST => Leaf::Last(Family::V4, hint(Family::V4, entry)),
        keys::LAST6 => Leaf::Last(Family::V6, hint(Family::V6, entry)),
        // An address has one key: another way to write it is nobody's lease.
        _ => match leaf.parse::<IpAddr>() {
            Ok(address) if address.to_string() == leaf => Leaf::Address(address),
            Ok(_) | Err(_) => Leaf::Stray,
        },
    }
}

/// Only says where to look first: one that cannot be read is none.
fn hint(family: Family, entry: &Entry) -> Option<IpAddr> {
    let address = std::str::from_utf8(&entry.value).ok()?.parse().ok()?;
    (Family::of(address) == family).then_some(address)
}

/// For an address that is held already.
fn repeated(lease: Lease, holder: &Holder, network: NetworkName) -> Result<Lease, AllocateError> {
    match lease.holder == *holder {
        true => Ok(lease),
        false => Err(AllocateError::Taken { network, lease: Box::new(lease) }),
    }
}

fn none_left(pool: &Pool, none: NoneLeft) -> AllocateError {
    let network = pool.name.clone();
    match none {
        NoneLeft::NoIpv6 => AllocateError::NoIpv6 { network },
        NoneLeft::TooMany => AllocateError::TooMany { network },
        NoneLeft::Exhausted { range, size, used } => {
            AllocateError::Exhausted { network, range, size, used }
        }
    }
}

fn unusable(pool: &Pool, address: IpAddr, why: Unusable) -> AllocateError {
    let network = pool.name.clone();
    match why {
        Unusable::NoIpv6 => AllocateError::NoIpv6 { network },
        Unusable::Outside(subnet) => AllocateError::Outside { address, network, subnet },
        Unusable::Reserved(what) => AllocateError::Reserved { address, network, what },
        Unusable::Aside(name) => AllocateError::Aside { address, network, name },
    }
}
