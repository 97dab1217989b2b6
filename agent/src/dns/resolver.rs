//! What all sandboxes share: the names table, the host's resolvers, bounds and counters.
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Names;
use super::answer::{Asker, Foreign, Unanswered, Verdict, answer};
use super::forward::{Forwarder, Limits};
use crate::metrics::{Histogram, Reading};

/// Bounds for answers from the table, in seconds.
const TABLE_SECONDS: &[f64] = &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.01];

/// Bounds for answers of others, in seconds.
const ELSEWHERE_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 4.0];

/// Shared by the DNS servers of all sandboxes. Clones are the same resolver.
#[derive(Clone, Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    names: Arc<RwLock<Names>>,
    forwarder: Forwarder,
    in_flight: Semaphore,
    limits: Limits,
    counters: Counters,
    table: Histogram,
    elsewhere: Histogram,
}

/// What was done since the start, for all sandboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Replies from the names table, refusals of malformed queries included.
    pub answered: u64,
    /// Queries for others' names that a resolver of the host, or Docker's, answered.
    pub forwarded: u64,
    /// Queries for others' names that nobody answered, or that had nobody to ask.
    pub unanswered: u64,
    /// Queries for others' names that were turned away, because too many were in flight.
    pub busy: u64,
    /// Messages without an answer: junk, and responses.
    pub ignored: u64,
    /// Replies that the kernel did not take.
    pub unsent: u64,
}

/// How long answers took since the start, for all sandboxes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// Those from the names table.
    pub table: Reading,
    /// Those from a resolver of the host or from Docker's, and those that did not come.
    pub elsewhere: Reading,
}

/// A place among the queries in flight, of the sandbox and of all; free again when dropped.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    _here: SemaphorePermit<'a>,
    _everywhere: Option<SemaphorePermit<'a>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    answered: AtomicU64,
    forwarded: AtomicU64,
    unanswered: AtomicU64,
    busy: AtomicU64,
    ignored: AtomicU64,
    unsent: AtomicU64,
}

impl Resolver {
    /// `names`: the table to answer from, written by the core. `resolv_conf`: the host's file; it
    /// is read with the first query for a foreign name, and again whenever it changes.
    pub fn new(names: Arc<RwLock<Names>>, resolv_conf: PathBuf) -> Resolver {
        Resolver::with_limits(names, resolv_conf, Limits::default())
    }

    /// The same, with bounds of one's own.
    pub fn with_limits(
        names: Arc<RwLock<Names>>,
        resolv_conf: PathBuf,
        limits: Limits,
    ) -> Resolver {
        let shared = Shared {
            names,
            forwarder: Forwarder::new(resolv_conf),
            in_flight: Semaphore::new(limits.in_flight.min(Semaphore::MAX_PERMITS)),
            limits,
            counters: Counters::default(),
            table: Histogram::new(TABLE_SECONDS),
            elsewhere: Histogram::new(ELSEWHERE_SECONDS),
        };
        Resolver { shared: Arc::new(shared) }
    }

    /// Reads the host's resolvers from another file from now on.
    pub fn read_from(&self, resolv_conf: PathBuf) {
        self.shared.forwarder.read_from(resolv_conf);
    }

    /// The host's resolvers, in the order in which they are asked now.
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        self.shared.forwarder.upstreams()
    }

    /// What was done since the start.
    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            answered: read(&counters.answered),
            forwarded: read(&counters.forwarded),
            unanswered: read(&counters.unanswered),
            busy: read(&counters.busy),
            ignored: read(&counters.ignored),
            unsent: read(&counters.unsent),
        }
    }

    /// How long answers took since the start.
    pub fn durations(&self) -> Durations {
        Durations { table: self.shared.table.read(), elsewhere: self.shared.elsewhere.read() }
    }

    #[cfg(test)]
    pub(crate) fn forwarder(&self) -> &Forwarder {
        &self.shared.forwarder
    }

    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Never forwards to an address that a sandbox's server answers on.
    pub(crate) fn leave_out(&self, address: Ipv4Addr) {
        self.shared.forwarder.leave_out(address);
    }

    /// Answers from the table, or says that the query has to be forwarded.
    pub(crate) fn answer(&self, asker: Asker<'_>, message: &[u8]) -> Verdict {
        let begin = Instant::now();
        let names = self.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        let verdict = answer(&names, asker, message);
        drop(names);
        match &verdict {
            Verdict::Ignore => count(&self.shared.counters.ignored),
            Verdict::Reply(_) => {
                count(&self.shared.counters.answered);
                self.shared.table.observe(begin.elapsed());
            }
            Verdict::Forward(_) => {}
        }
        verdict
    }

    /// Room for one more query that costs a socket, or the reply that turns it away.
    pub(crate) fn admit<'a>(
        &'a self,
        sandbox: &'a Semaphore,
        query: &Foreign,
    ) -> Result<Admission<'a>, Vec<u8>> {
        match (sandbox.try_acquire(), self.shared.in_flight.try_acquire()) {
            (Ok(here), Ok(everywhere)) => {
                Ok(Admission { _here: here, _everywhere: Some(everywhere) })
            }
            (Err(_), _) | (_, Err(_)) => Err(self.turn_away(query)),
        }
    }

    /// The same for a query that costs its sandbox only a little memory.
    pub(crate) fn admit_waiter<'a>(
        &self,
        sandbox: &'a Semaphore,
        query: &Foreign,
    ) -> Result<Admission<'a>, Vec<u8>> {
        match sandbox.try_acquire() {
            Ok(here) => Ok(Admission { _here: here, _everywhere: None }),
            Err(_) => Err(self.turn_away(query)),
        }
    }

    /// Asks the host's resolvers, and comes back within four seconds. Cancel-safe.
    pub(crate) async fn forward(&self, query: &Foreign) -> Result<Vec<u8>, Unanswered> {
        self.shared.forwarder.forward(query).await
    }

    /// Counts how a forwarded query ended and how long it took, and makes the reply of it.
    pub(crate) fn settle(
        &self,
        query: &Foreign,
        outcome: Result<Vec<u8>, Unanswered>,
        took: Duration,
    ) -> Vec<u8> {
        self.shared.elsewhere.observe(took);
        let counters = &self.shared.counters;
        count(if outcome.is_ok() { &counters.forwarded } else { &counters.unanswered });
        outcome.unwrap_or_else(|reason| reason.reply(query))
    }

    fn turn_away(&self, query: &Foreign) -> Vec<u8> {
        count(&self.shared.counters.busy);
        Unanswered::Busy.reply(query)
    }

    /// A reply was lost on its way out.
    pub(crate) fn unsent(&self) {
        count(&self.shared.counters.unsent);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
