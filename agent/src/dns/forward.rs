//! Forwarding: which resolver is asked, when, and how often. Names that are not ours go to the
//! host's resolvers, from the host's namespace.
//!
//! The resolvers are asked one after the other. Silence and refusal (SERVFAIL, REFUSED) mean the
//! next one; any other answer is final, NXDOMAIN too. What a resolver says is relayed byte for
//! byte under the client's id. Nothing is cached; but equal questions that are in flight at the
//! same time are one.
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use hickory_proto::op::ResponseCode;
use tokio::time::{Instant, timeout};

use super::Transport;
use super::answer::{Foreign, Unanswered};
use super::exchange::Query;
use super::upstreams::Upstreams;
use super::wire;

/// How long one resolver may take.
const ATTEMPT: Duration = Duration::from_millis(1_500);

/// How long a forwarded query may take in all: less than the five seconds after which the C
/// library's resolver gives up and asks again.
const TOTAL: Duration = Duration::from_secs(4);

/// Questions sent for one query at most; a sole resolver is asked again when it is silent.
const MAX_ATTEMPTS: usize = 3;

/// The datagram size that servers cut their answers at by convention, whatever the client says
/// (DNS flag day 2020).
const COMMON_CUT: usize = 1_232;

/// How much foreign work is accepted. Each query in flight costs a socket and about 3 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Forwarded queries in flight, of all sandboxes; one more is answered with SERVFAIL at once,
    /// and counted.
    pub in_flight: usize,
    /// The same for one sandbox, so that it cannot use up what is there for all.
    pub in_flight_per_sandbox: usize,
    /// Queries over UDP that wait for Docker's resolver, in one sandbox; the same at the bound. They
    /// share a socket, and each costs about 1 KiB.
    pub waiting_per_sandbox: usize,
    /// TCP connections of one port of one sandbox; one more waits in the kernel until another ends.
    pub connections_per_sandbox: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            in_flight: 512,
            in_flight_per_sandbox: 128,
            waiting_per_sandbox: 256,
            connections_per_sandbox: 32,
        }
    }
}

/// Asks the host's resolvers.
#[derive(Debug)]
pub(crate) struct Forwarder {
    upstreams: Arc<Mutex<Upstreams>>,
    flights: Mutex<HashMap<Key, WeakShared<Flight>>>,
}

/// What makes two queries in flight one: all bytes but the id, and the transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    message: Arc<[u8]>,
    transport: Transport,
}

/// One query on its way, for all who asked it.
type Flight = BoxFuture<'static, Result<Arc<[u8]>, Unanswered>>;

impl Forwarder {
    /// `resolv_conf`: the file that names the resolvers. It is read with the first query.
    pub(crate) fn new(resolv_conf: PathBuf) -> Forwarder {
        let upstreams = Arc::new(Mutex::new(Upstreams::new(resolv_conf)));
        Forwarder { upstreams, flights: Mutex::default() }
    }

    /// Never forwards to an address that we answer on ourselves.
    pub(crate) fn leave_out(&self, address: Ipv4Addr) {
        lock(&self.upstreams).leave_out(address);
    }

    /// Another file names the resolvers.
    pub(crate) fn read_from(&self, resolv_conf: PathBuf) {
        lock(&self.upstreams).read_from(resolv_conf);
    }

    /// The reply for the client, within four seconds. Cancel-safe.
    pub(crate) async fn forward(&self, query: &Foreign) -> Result<Vec<u8>, Unanswered> {
        let mut anonymous = query.message.clone();
        wire::set_id(&mut anonymous, 0);
        let key = Key { message: anonymous.into(), transport: query.transport };
        // Dropped in the reverse order: first our share of the flight, then the look at whether
        // it was the last.
        let _landing = Landing { flights: &self.flights, key: &key };
        let flight = self.join(&key, query);
        Ok(query.relayed(flight.await?.to_vec()))
    }

    /// The host's resolvers, in the order in which they are asked now.
    pub(crate) fn upstreams(&self) -> Vec<SocketAddr> {
        lock(&self.upstreams).order(Instant::now())
    }

    /// Different queries on their way.
    #[cfg(test)]
    pub(crate) fn flights(&self) -> usize {
        lock(&self.flights).len()
    }

    /// The flight of an equal query, or a new one.
    fn join(&self, key: &Key, query: &Foreign) -> Shared<Flight> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(key).and_then(WeakShared::upgrade) {
            return flight;
        }
        let round = Round {
            upstreams: self.upstreams.clone(),
            transport: key.transport,
            limit: query.limit(),
        };
        let query = Query::new(key.message.to_vec(), query.request.question_end);
        let flight = async move { round.run(query).await.map(Arc::from) }.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key.clone(), weak);
        }
        flight
    }
}

/// Takes a flight off the list when it is over, or when nobody waits for it any more.
struct Landing<'a> {
    flights: &'a Mutex<HashMap<Key, WeakShared<Flight>>>,
    key: &'a Key,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = lock(self.flights);
        if let Entry::Occupied(entry) = flights.entry(self.key.clone())
            && entry.get().upgrade().is_none_or(|flight| flight.peek().is_some())
        {
            entry.remove();
        }
    }
}

/// One query's round through the resolvers.
struct Round {
    upstreams: Arc<Mutex<Upstreams>>,
    transport: Transport,
    limit: usize,
}

/// How one attempt ended.
enum Attempt {
    Answer(Vec<u8>),
    Refusal(Vec<u8>),
    Silence,
    Unreachable(io::Error),
}

impl Round {
    async fn run(&self, query: io::Result<Query>) -> Result<Vec<u8>, Unanswered> {
        let Ok(query) = query else {
            return Err(Unanswered::Silence);
        };
        let deadline = Instant::now() + TOTAL;
        let mut servers = VecDeque::from(self.order());
        let mut outcome = Err(Unanswered::NoUpstream);
        for _ in 0..MAX_ATTEMPTS {
            let Some(server) = servers.pop_front() else {
                break;
            };
            match self.attempt(&query, server, deadline).await {
                Attempt::Answer(response) => return Ok(response),
                Attempt::Refusal(response) => outcome = Ok(response),
                Attempt::Silence => {
                    servers.push_back(server);
                    outcome = outcome.or(Err(Unanswered::Silence));
                }
                Attempt::Unreachable(error) => {
                    tracing::debug!(%server, %error, "a resolver of the host cannot be reached");
                    outcome = outcome.or(Err(Unanswered::Silence));
                }
            }
        }
        outcome
    }

    /// Asks one resolver, and keeps in mind whether it answered.
    async fn attempt(&self, query: &Query, server: SocketAddr, deadline: Instant) -> Attempt {
        let first = timeout(budget(deadline), self.ask(query, server)).await;
        self.remember(server, matches!(first, Ok(Ok(_))));
        match first {
            Err(_elapsed) => Attempt::Silence,
            Ok(Err(error)) => Attempt::Unreachable(error),
            Ok(Ok(response)) if is_refusal(&response) => Attempt::Refusal(response),
            Ok(Ok(response)) => {
                Attempt::Answer(self.whole(response, query, server, deadline).await)
            }
        }
    }

    async fn ask(&self, query: &Query, server: SocketAddr) -> io::Result<Vec<u8>> {
        match self.transport {
            Transport::Udp => query.ask_udp(server).await,
            Transport::Tcp => query.ask_tcp(server).await,
        }
    }

    /// The response, or what it was cut from.
    async fn whole(
        &self,
        response: Vec<u8>,
        query: &Query,
        server: SocketAddr,
        deadline: Instant,
    ) -> Vec<u8> {
        if !self.may_have_more(&response) {
            return response;
        }
        match timeout(budget(deadline), query.ask_tcp(server)).await {
            Ok(Ok(whole)) if whole.len() <= self.limit => whole,
            Ok(_) | Err(_) => response,
        }
    }

    /// A cut answer is passed on, and the client comes again over TCP; but a resolver may cut
    /// earlier than the client would: then the whole answer may still fit a datagram.
    fn may_have_more(&self, response: &[u8]) -> bool {
        self.transport == Transport::Udp && wire::is_truncated(response) && self.limit > COMMON_CUT
    }

    fn remember(&self, server: SocketAddr, answered: bool) {
        let mut upstreams = lock(&self.upstreams);
        if answered {
            upstreams.answered(server);
        } else {
            upstreams.silent(server, Instant::now());
        }
    }

    fn order(&self) -> Vec<SocketAddr> {
        lock(&self.upstreams).order(Instant::now())
    }
}

/// What one attempt may still take.
fn budget(deadline: Instant) -> Duration {
    ATTEMPT.min(deadline.saturating_duration_since(Instant::now()))
}

fn is_refusal(response: &[u8]) -> bool {
    let code = wire::response_code(response);
    code == u16::from(ResponseCode::ServFail) || code == u16::from(ResponseCode::Refused)
}

/// What a lock guards here stays whole even when its holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
