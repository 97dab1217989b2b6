//! The task that drives a node: waits, feeds the core, sends what it says.
//!
//! It owns the core and the sockets. It never waits for a peer or for its user: streams are tasks of
//! their own, bounded in number and time, and changes wait coalesced in the core until they are read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::ask::Desk;
use crate::gossip::Board;
use crate::node::Node;
use crate::tcp::{self, Counts, EVENTS, Ended, Event};
use crate::udp::Udp;
use crate::{Changes, Config, Endpoint};

/// Datagrams read before others have their turn.
const READ_AT_ONCE: usize = 64;
/// How long the task goes on after the good-bye was sent, to repeat it for those who missed it.
const LINGER: Duration = Duration::from_millis(250);
/// Longest sleep; there is always something due earlier.
const IDLE: Duration = Duration::from_secs(60);

/// What the handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// See [`Gossip::announce`](crate::Gossip::announce).
    Announce(Endpoint),
    /// See [`Gossip::withdraw`](crate::Gossip::withdraw).
    Withdraw(String),
    /// See [`Gossip::set_seeds`](crate::Gossip::set_seeds).
    Seeds(Vec<String>),
    /// See [`Gossip::leave`](crate::Gossip::leave).
    Leave { within: Duration, done: oneshot::Sender<()> },
}

/// The driver.
pub(crate) struct Task {
    node: Node,
    udp: Udp,
    own: std::net::SocketAddrV4,
    board: Board,
    news: mpsc::Sender<Changes>,
    dials: JoinSet<Ended>,
    errors: u64,
    streams: Arc<Counts>,
    /// When to end, after a good-bye, and whom to tell.
    ends: Option<(Instant, oneshot::Sender<()>)>,
}

/// What woke the task.
enum Wake {
    Command(Option<Command>),
    Event(Event),
    Readable(io::Result<()>),
    Dialled(Ended),
    Timeout,
    ReaderReady,
    /// All handles are gone.
    Over,
}

impl Task {
    pub(crate) fn new(
        config: &Config,
        udp: Udp,
        board: Board,
        news: mpsc::Sender<Changes>,
    ) -> Self {
        Self {
            node: Node::new(config, now(), entropy()),
            udp,
            own: config.advertise,
            board,
            news,
            dials: JoinSet::new(),
            errors: 0,
            streams: Arc::default(),
            ends: None,
        }
    }

    /// Runs until the handles are gone or the good-bye is said.
    pub(crate) async fn run(
        mut self,
        listener: TcpListener,
        desk: Desk,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let (events, mut inbox) = mpsc::channel(EVENTS);
        let mut server = JoinSet::new();
        server.spawn(tcp::serve(listener, events.clone(), desk, self.streams.clone()));
        loop {
            self.flush(&events);
            let ends = self.ends.as_ref().map(|(at, _)| *at);
            if ends.is_some_and(|at| at <= now()) {
                break;
            }
            let wake = self.wait(&mut commands, &mut inbox, ends).await;
            if matches!(wake, Wake::Command(None) | Wake::Over) && self.ends.is_none() {
                break;
            }
            self.handle(wake, &mut commands);
        }
        // Sockets and streams end before the one who waits hears of it.
        server.shutdown().await;
        self.dials.shutdown().await;
        let done = self.ends.take();
        drop(self);
        if let Some((_, done)) = done {
            done.send(()).ok();
        }
    }

    async fn wait(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        inbox: &mut mpsc::Receiver<Event>,
        ends: Option<Instant>,
    ) -> Wake {
        let due = self.node.poll_timeout().unwrap_or(now() + IDLE);
        let due = ends.map_or(due, |ends| due.min(ends));
        let unread = self.node.has_changes();
        tokio::select! {
            command = commands.recv(), if ends.is_none() => Wake::Command(command),
            Some(event) = inbox.recv() => Wake::Event(event),
            readable = self.udp.readable() => Wake::Readable(readable),
            Some(ended) = self.dials.join_next() => match ended {
                Ok(ended) => Wake::Dialled(ended),
                Err(error) => {
                    tracing::error!(%error, "an exchange ended early");
                    Wake::Timeout
                }
            },
            permit = self.news.reserve(), if unread => match permit {
                Ok(_) => Wake::ReaderReady,
                Err(_) => Wake::Over,
            },
            () = sleep_until(due.into()) => Wake::Timeout,
        }
    }

    fn handle(&mut self, wake: Wake, commands: &mut mpsc::Receiver<Command>) {
        match wake {
            Wake::Command(Some(command)) => {
                self.command(command);
                // Those who announce many at once are told on in few datagrams.
                while let Ok(command) = commands.try_recv() {
                    self.command(command);
                }
            }
            Wake::Event(event) => self.event(event),
            Wake::Readable(Ok(())) => self.read(),
            Wake::Readable(Err(_)) => self.errors += 1,
            Wake::Dialled(ended) => {
                self.node.handle_dial_end(now(), ended.id, ended.address, ended.end);
            }
            Wake::Timeout | Wake::ReaderReady | Wake::Command(None) | Wake::Over => {}
        }
        let now = now();
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.node.handle_timeout(now);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Announce(endpoint) => self.node.announce(now(), endpoint),
            Command::Withdraw(id) => self.node.withdraw(now(), id),
            Command::Seeds(seeds) => self.node.set_seeds(now(), &seeds),
            Command::Leave { within, done } => {
                let now = now();
                self.node.leave(now);
                let alone = self.node.stats().members_alive == 0;
                let linger = if alone { Duration::ZERO } else { LINGER };
                self.ends = Some((now + linger.min(within / 2), done));
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Request { from, frame, reply } => {
                reply.send(self.node.handle_request(now(), from, &frame)).ok();
            }
            Event::Closing { from, frame } => self.node.handle_closing(now(), from, &frame),
            Event::Answer { id, from, frame, reply } => {
                reply.send(self.node.handle_answer(now(), id, from, &frame)).ok();
            }
        }
    }

    fn read(&mut self) {
        for _ in 0..READ_AT_ONCE {
            match self.udp.try_receive() {
                Ok((SocketAddr::V4(from), packet)) => {
                    self.node.handle_datagram(now(), from, packet);
                }
                Ok((SocketAddr::V6(_), _)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.errors += 1,
            }
        }
    }

    /// Sends what the node has to say, and publishes what changed.
    fn flush(&mut self, events: &mpsc::Sender<Event>) {
        while let Some(transmit) = self.node.poll_transmit() {
            if self.udp.try_send(transmit.to, &transmit.bytes).is_err() {
                self.errors += 1;
            }
        }
        while let Some(dial) = self.node.poll_dial() {
            self.dials.spawn(tcp::dial(dial, self.own, events.clone()));
        }
        let mut stats = self.node.stats();
        stats.datagram_errors = self.errors;
        stats.streams_refused = self.streams.refused.load(Ordering::Relaxed);
        stats.streams_silent = self.streams.silent.load(Ordering::Relaxed);
        self.board.with(|board| board.stats = stats);
        if self.node.has_changes()
            && let Ok(permit) = self.news.try_reserve()
            && let Some(changes) = self.node.poll_changes()
        {
            permit.send(changes);
        }
        if self.node.members_changed() {
            let members = self.node.members();
            self.board.with(|board| board.members = members);
        }
    }
}

/// The clock of the runtime, so that paused time works.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn entropy() -> u64 {
    StdRng::try_from_rng(&mut SysRng).map_or_else(
        // Without the kernel's random source the process id must do: chance only spreads load here.
        |_| std::process::id().into(),
        |mut rng| rng.random(),
    )
}
