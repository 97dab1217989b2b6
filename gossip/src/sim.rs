//! A cluster in virtual time, from one seed: loss, latency, splits, frozen and dead hosts. For tests.
//!
//! Only the network is simulated; every node is the real core. The same seed gives the same run.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::node::{Dial, DialEnd, Node};
use crate::seeds::Target;
use crate::{Changes, Config, Endpoint, MemberState, NodeName};

/// Datagrams that a frozen host's socket keeps.
const SOCKET_BUFFER: usize = 256;
/// Latency of one way.
const LATENCY: std::ops::Range<f64> = 0.0002..0.005;
/// How long a connection to nowhere takes to fail.
const CONNECT: Duration = Duration::from_secs(3);

/// An origin for virtual time; only differences count.
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
pub(crate) fn start_of_time() -> Instant {
    Instant::now()
}

/// What the user of a node has seen.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) members: BTreeMap<NodeName, MemberState>,
    pub(crate) endpoints: BTreeMap<NodeName, Vec<Endpoint>>,
    pub(crate) vteps: BTreeMap<NodeName, std::net::Ipv4Addr>,
    pub(crate) conflict: bool,
    pub(crate) synced: bool,
    /// Every state of every member, in order.
    pub(crate) states: Vec<(Duration, NodeName, MemberState)>,
    /// Every number of endpoints of every node, in order.
    pub(crate) counts: Vec<(Duration, NodeName, usize)>,
}

#[derive(Debug)]
enum Event {
    Timer,
    Datagram(SocketAddrV4, Vec<u8>),
    Request(Call, Vec<u8>),
    Answer(Call, Vec<u8>),
    Closing(Call, Vec<u8>),
    End(u64, SocketAddrV4, DialEnd),
}

/// A stream between two hosts.
#[derive(Clone, Copy, Debug)]
struct Call {
    id: u64,
    caller: usize,
    called: usize,
}

pub(crate) struct Host {
    pub(crate) node: Option<Node>,
    pub(crate) view: View,
    frozen: bool,
    kept: VecDeque<(SocketAddrV4, Vec<u8>)>,
    timer: Option<Instant>,
    side: u8,
}

/// The cluster.
pub(crate) struct Sim {
    pub(crate) hosts: Vec<Host>,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) loss: f64,
    pub(crate) datagrams: u64,
    rng: StdRng,
    queue: BTreeMap<(Instant, u64), (usize, Event)>,
    sequence: u64,
    trace: DefaultHasher,
}

pub(crate) fn address(host: usize) -> SocketAddrV4 {
    let [_, _, high, low] = u32::try_from(host + 1).unwrap().to_be_bytes();
    SocketAddrV4::new([10, 0, high, low].into(), 7946)
}

pub(crate) fn name(host: usize) -> NodeName {
    format!("node-{host}").parse().unwrap()
}

/// A host that knows host 0.
pub(crate) fn config(host: usize, epoch: u64) -> Config {
    Config {
        name: name(host),
        advertise: address(host),
        seeds: vec![address(0).to_string()],
        known: Vec::new(),
        epoch,
        endpoints: vec![endpoint(host, 0)],
    }
}

/// The `number`th endpoint of a host.
pub(crate) fn endpoint(host: usize, number: usize) -> Endpoint {
    let id = format!("endpoint-{host}-{number}");
    crate::endpoint::tests::endpoint(&id, 1)
}

impl Sim {
    pub(crate) fn new(hosts: usize, seed: u64, loss: f64) -> Self {
        let start = start_of_time();
        let host = |_| Host {
            node: None,
            view: View::default(),
            frozen: false,
            kept: VecDeque::new(),
            timer: None,
            side: 0,
        };
        Self {
            hosts: (0..hosts).map(host).collect(),
            start,
            now: start,
            loss,
            datagrams: 0,
            rng: StdRng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            sequence: 0,
            trace: DefaultHasher::new(),
        }
    }

    /// All hosts, started together, each with one endpoint.
    pub(crate) fn started(hosts: usize, seed: u64, loss: f64) -> Self {
        let mut sim = Self::new(hosts, seed, loss);
        for host in 0..hosts {
            sim.start(host, &config(host, 1));
        }
        sim
    }

    /// Starts a node, or starts it again with nothing remembered.
    pub(crate) fn start(&mut self, host: usize, config: &Config) {
        let seed = self.rng.random();
        self.hosts[host].node = Some(Node::new(config, self.now, seed));
        self.hosts[host].view = View::default();
        self.flush(host);
    }

    /// The process is gone.
    pub(crate) fn kill(&mut self, host: usize) {
        self.hosts[host].node = None;
    }

    /// The process stands still; its socket keeps what fits.
    pub(crate) fn freeze(&mut self, host: usize) {
        self.hosts[host].frozen = true;
    }

    /// The process goes on: it sees the clock first, then what its socket kept.
    pub(crate) fn thaw(&mut self, host: usize) {
        self.hosts[host].frozen = false;
        self.with(host, Node::handle_timeout);
        while let Some((from, bytes)) = self.hosts[host].kept.pop_front() {
            self.with(host, |node, now| node.handle_datagram(now, from, &bytes));
        }
    }

    /// Hosts on different sides do not reach each other.
    pub(crate) fn split(&mut self, side: impl Fn(usize) -> u8) {
        for (index, host) in self.hosts.iter_mut().enumerate() {
            host.side = side(index);
        }
    }

    /// Calls into a node, and carries out what follows.
    pub(crate) fn with(&mut self, host: usize, work: impl FnOnce(&mut Node, Instant)) {
        if let Some(node) = &mut self.hosts[host].node {
            work(node, self.now);
            self.flush(host);
        }
    }

    /// Virtual time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A number that two runs share only if they went alike.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Runs for a time.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until `done`, looking every 50 ms; the time that took, or `None` after `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let begun = self.now;
        while !done(self) {
            if self.now - begun >= limit {
                return None;
            }
            self.run(Duration::from_millis(50));
        }
        Some(self.now - begun)
    }

    /// True where all hosts that run see all others that run alive, and their endpoints as they are.
    pub(crate) fn is_whole(&self) -> bool {
        (0..self.hosts.len()).all(|host| self.sees_all(host))
    }

    fn sees_all(&self, host: usize) -> bool {
        let view = &self.hosts[host].view;
        let others = (0..self.hosts.len()).filter(|other| *other != host);
        self.hosts[host].node.is_none()
            || others.filter_map(|other| Some((other, self.hosts[other].node.as_ref()?))).all(
                |(other, node)| {
                    view.members.get(&name(other)) == Some(&MemberState::Alive)
                        && view.endpoints.get(&name(other)) == Some(&node.own_endpoints())
                },
            )
    }

    /// True where all other running hosts see `host` in this state.
    pub(crate) fn all_see(&self, host: usize, state: MemberState) -> bool {
        let others = self.hosts.iter().enumerate();
        others
            .filter(|(index, other)| *index != host && other.node.is_some())
            .all(|(_, other)| other.view.members.get(&name(host)) == Some(&state))
    }

    fn step(&mut self, until: Instant) -> bool {
        let Some(next) = self.queue.first_entry().filter(|e| e.key().0 <= until) else {
            return false;
        };
        let (at, _) = *next.key();
        let (host, event) = next.remove();
        self.now = at;
        ((at - self.start).as_nanos(), host).hash(&mut self.trace);
        self.deliver(host, event);
        true
    }

    fn deliver(&mut self, host: usize, event: Event) {
        let now = self.now;
        match event {
            Event::Timer => {
                self.hosts[host].timer = None;
                if !self.hosts[host].frozen {
                    self.with(host, |node, now| {
                        if node.poll_timeout().is_some_and(|due| due <= now) {
                            node.handle_timeout(now);
                        }
                    });
                }
            }
            Event::Datagram(from, bytes) if self.hosts[host].frozen => {
                if self.hosts[host].kept.len() < SOCKET_BUFFER {
                    self.hosts[host].kept.push_back((from, bytes));
                }
            }
            Event::Datagram(from, bytes) => {
                bytes.hash(&mut self.trace);
                self.with(host, |node, _| node.handle_datagram(now, from, &bytes));
            }
            Event::Request(call, frame) => self.request(call, &frame),
            Event::Answer(call, frame) => self.answer(call, &frame),
            Event::Closing(call, frame) => {
                let from = *address(call.caller).ip();
                if self.reaches(call) {
                    self.with(call.called, |node, _| {
                        node.handle_closing(now, from, &frame);
                    });
                }
            }
            Event::End(id, address, end) => {
                self.with(host, |node, _| {
                    node.handle_dial_end(now, id, Some(address), end);
                });
            }
        }
    }

    fn request(&mut self, call: Call, frame: &[u8]) {
        let (now, from) = (self.now, *address(call.caller).ip());
        if !self.reaches(call) {
            let gone = self.hosts[call.called].node.is_none();
            return self.end(call, if gone { Duration::ZERO } else { CONNECT }, DialEnd::Failed);
        }
        let mut answer = None;
        self.with(call.called, |node, _| {
            answer = node.handle_request(now, from, frame);
        });
        match answer {
            Some(answer) => self.post(call.caller, Event::Answer(call, answer)),
            None => self.end(call, Duration::ZERO, DialEnd::Failed),
        }
    }

    fn answer(&mut self, call: Call, frame: &[u8]) {
        if !self.reaches(call) {
            return self.end(call, CONNECT, DialEnd::Failed);
        }
        let (now, from) = (self.now, address(call.called));
        let mut closing = None;
        self.with(call.caller, |node, _| {
            closing = node.handle_answer(now, call.id, from, frame);
        });
        if let Some(closing) = closing {
            self.post(call.called, Event::Closing(call, closing));
        }
        self.end(call, Duration::ZERO, DialEnd::Answered);
    }

    fn end(&mut self, call: Call, after: Duration, end: DialEnd) {
        let event = Event::End(call.id, address(call.called), end);
        self.push(self.now + after, call.caller, event);
    }

    fn reaches(&self, call: Call) -> bool {
        let (a, b) = (&self.hosts[call.caller], &self.hosts[call.called]);
        a.side == b.side && b.node.is_some() && !b.frozen && !a.frozen
    }

    fn post(&mut self, host: usize, event: Event) {
        let latency = Duration::from_secs_f64(self.rng.random_range(LATENCY));
        self.push(self.now + latency, host, event);
    }

    fn push(&mut self, at: Instant, host: usize, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (host, event));
    }

    /// Carries out what a node has to say, and shows its user what changed.
    fn flush(&mut self, host: usize) {
        let elapsed = self.elapsed();
        let here = &mut self.hosts[host];
        let Some(node) = &mut here.node else { return };
        let sent: Vec<_> = std::iter::from_fn(|| node.poll_transmit()).collect();
        let dials: Vec<_> = std::iter::from_fn(|| node.poll_dial()).collect();
        while let Some(changes) = node.poll_changes() {
            here.view.take(elapsed, changes);
        }
        let due = node.poll_timeout();
        if let Some(due) = due
            && here.timer.is_none_or(|timer| due < timer)
        {
            here.timer = Some(due);
            self.push(due.max(self.now), host, Event::Timer);
        }
        for transmit in sent {
            self.transmit(host, transmit.to, transmit.bytes);
        }
        for dial in dials {
            self.dial(host, dial);
        }
    }

    fn transmit(&mut self, host: usize, to: SocketAddrV4, bytes: Vec<u8>) {
        self.datagrams += 1;
        assert!(bytes.len() <= crate::wire::MAX_DATAGRAM);
        let Some(target) = self.index(to) else { return };
        let lost = self.rng.random_bool(self.loss);
        if !lost && self.hosts[host].side == self.hosts[target].side {
            self.post(target, Event::Datagram(address(host), bytes));
        }
    }

    fn dial(&mut self, host: usize, dial: Dial) {
        let to = match dial.target {
            Target::Seed(text) => text.parse().unwrap(),
            Target::Address(address) => address,
        };
        let called = self.index(to);
        let call = Call { id: dial.id, caller: host, called: called.unwrap_or(host) };
        match called {
            Some(called) if called == host => self.end(call, Duration::ZERO, DialEnd::Ourselves),
            Some(called) => self.post(called, Event::Request(call, dial.request)),
            None => self.end(call, CONNECT, DialEnd::Failed),
        }
    }

    fn index(&self, at: SocketAddrV4) -> Option<usize> {
        (0..self.hosts.len()).find(|host| address(*host) == at)
    }
}

impl View {
    fn take(&mut self, at: Duration, changes: Changes) {
        for name in changes.forgotten {
            self.members.remove(&name);
            self.endpoints.remove(&name);
        }
        for member in changes.members {
            self.states.push((at, member.name.clone(), member.state));
            self.members.insert(member.name, member.state);
        }
        for node in changes.nodes {
            self.counts.push((at, node.node.clone(), node.endpoints.len()));
            self.vteps.insert(node.node.clone(), node.vtep);
            self.endpoints.insert(node.node, node.endpoints);
        }
        self.conflict = changes.name_conflict.is_some();
        self.synced |= changes.synced;
    }
}
