//! Turns at what costs much: those of this host's users and those of other hosts are counted apart, so that
//! a local question has its turn whatever others ask.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::access::Asker;

/// How many may do one thing at a time.
pub(super) struct Turns {
    here: Semaphore,
    others: Semaphore,
    /// Of the turns of others, how many one host may have.
    each: usize,
    /// Hosts that have turns or wait for one: no more than questions that are let in.
    hosts: Mutex<BTreeMap<Ipv4Addr, Arc<Semaphore>>>,
}

/// A turn, until it is dropped.
pub(super) struct Turn<'a> {
    _share: SemaphorePermit<'a>,
    _host: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// So many for users of this host, so many for all others, and of these so many for `each` host.
    pub(super) const fn new(here: usize, others: usize, each: usize) -> Turns {
        Turns {
            here: Semaphore::const_new(here),
            others: Semaphore::const_new(others),
            each,
            hosts: Mutex::new(BTreeMap::new()),
        }
    }

    /// Waits for a turn, so long; none: others have them. Cancel-safe.
    pub(super) async fn take(&self, asker: &Asker, within: Duration) -> Option<Turn<'_>> {
        let turn = async {
            let (host, share) = match asker {
                Asker::User(_) => (None, &self.here),
                Asker::Host(host) => {
                    (Some(self.of(*host).acquire_owned().await.ok()?), &self.others)
                }
            };
            Some(Turn { _share: share.acquire().await.ok()?, _host: host })
        };
        timeout(within, turn).await.ok().flatten()
    }

    fn of(&self, host: Ipv4Addr) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has a turn, or waits for one, holds the semaphore.
        hosts.retain(|_, turns| Arc::strong_count(turns) > 1);
        hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Asker = Asker::User(Some(0));
    const ONE: Asker = Asker::Host(Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: Asker = Asker::Host(Ipv4Addr::new(10, 0, 0, 2));

    #[tokio::test]
    async fn other_hosts_take_no_turn_from_this_one_nor_one_of_them_all_from_the_rest() {
        let turns = Turns::new(1, 2, 1);
        let take = |asker| turns.take(asker, Duration::ZERO);
        let one = take(&ONE).await;
        assert!(one.is_some() && take(&ONE).await.is_none());
        let other = take(&OTHER).await;
        assert!(other.is_some());
        assert!(take(&Asker::Host(Ipv4Addr::LOCALHOST)).await.is_none(), "the share is used up");
        let here = take(&HERE).await;
        assert!(here.is_some() && take(&HERE).await.is_none());
        drop(one);
        assert!(take(&ONE).await.is_some());
    }

    #[tokio::test]
    async fn who_waits_has_the_turn_that_ends_and_hosts_are_forgotten_with_their_turns() {
        let turns = Turns::new(1, 1, 1);
        let first = turns.take(&ONE, Duration::ZERO).await.unwrap();
        let (second, ()) = tokio::join!(turns.take(&OTHER, Duration::from_secs(5)), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        drop(second.unwrap());
        drop(turns.take(&OTHER, Duration::ZERO).await.unwrap());
        assert_eq!(turns.hosts.lock().unwrap().len(), 1);
    }
}
