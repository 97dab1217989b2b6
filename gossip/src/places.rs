//! Places for what others begin here: so many in all, and for one address a part of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    each: usize,
    /// Those of addresses that have one.
    hosts: Mutex<BTreeMap<Ipv4Addr, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, hosts: Mutex::default() }
    }

    /// A place for that address; `None`: it has its part, or all are taken.
    pub(crate) fn take(&self, from: Ipv4Addr) -> Option<Place> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has a place holds the semaphore.
        hosts.retain(|_, places| Arc::strong_count(places) > 1);
        let all = self.all.clone().try_acquire_owned().ok()?;
        let own = hosts.entry(from).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Some(Place { _all: all, _own: own.clone().try_acquire_owned().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_part_of_the_places_and_no_more() {
        let places = Places::new(4, 2);
        let [one, other, third] = [1, 2, 3].map(|n| Ipv4Addr::new(10, 0, 0, n));
        let mut held: Vec<_> = std::iter::from_fn(|| places.take(one)).collect();
        assert_eq!(held.len(), 2);
        let others: Vec<_> = std::iter::from_fn(|| places.take(other)).collect();
        assert_eq!(others.len(), 2, "those that were refused keep no place");
        assert!(places.take(third).is_none());
        held.pop();
        assert!(places.take(third).is_some());
        drop((held, others));
        drop(places.take(third));
        assert_eq!(places.hosts.lock().unwrap().len(), 1, "who has none is forgotten");
    }
}
