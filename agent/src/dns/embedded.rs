//! Docker's own resolver of a container, asked from inside the container's namespace.
//!
//! All queries over UDP share one connected socket (a [`Line`]), because making a socket in a
//! namespace takes a thread. The socket is made anew when it is suspect: Docker's rules lead
//! 127.0.0.11:53 to a port that changes when dockerd starts again, and conntrack keeps leading a
//! socket that has sent already to the old one. Whoever waits on a line that breaks asks once more
//! on the next one, so that a restart of dockerd costs nobody an answer.
//!
//! Everything here belongs to the one future that serves the sandbox, and closes with it.
use std::io;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::answer::{Foreign, Unanswered};
use super::exchange::{self, Query};
use super::forward::lock;
use super::sockets::Home;
use super::waiters::{Ticket, Waiters};
use super::{EMBEDDED_RESOLVER, PASS_MARK, Transport};

/// How long Docker's resolver may take. It asks up to three servers, each for up to four seconds;
/// most clients have given up long before.
const WAIT: Duration = Duration::from_secs(10);

/// How often the socket is made anew, at most. In between a suspect one is used again.
const REMAKE_EVERY: Duration = Duration::from_secs(1);

/// Answers that are taken in before the other work of the sandbox has its turn.
const BURST: usize = 32;

/// How long to leave a socket alone after an error that may last (no memory).
const PAUSE: Duration = Duration::from_millis(100);

/// Docker's resolver in a sandbox of Docker's. The default is what every dockerd has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Where it answers, seen from inside the sandbox.
    pub resolver: SocketAddrV4,
    /// `SO_MARK` of our queries to it, which the redirecting rule lets pass.
    pub mark: u32,
}

impl Default for Embedded {
    fn default() -> Embedded {
        Embedded { resolver: EMBEDDED_RESOLVER, mark: PASS_MARK }
    }
}

/// Asks Docker's resolver. [`DockerResolver::listen`] must run beside the queries.
#[derive(Debug)]
pub(crate) struct DockerResolver {
    home: Home,
    limit: usize,
    line: watch::Sender<Arc<Line>>,
    /// When the line was last made anew, or tried to be.
    remade: tokio::sync::Mutex<Option<Instant>>,
}

impl DockerResolver {
    /// `socket`: connected to Docker's resolver, and marked. `limit`: queries that wait on it; one
    /// more is turned away.
    pub(crate) fn new(home: Home, socket: UdpSocket, limit: usize) -> DockerResolver {
        let (line, _) = watch::channel(Arc::new(Line::new(socket, limit)));
        DockerResolver { home, limit, line, remade: tokio::sync::Mutex::new(None) }
    }

    /// The reply for the client, within ten seconds. Cancel-safe.
    pub(crate) async fn ask(&self, query: &Foreign) -> Result<Vec<u8>, Unanswered> {
        let reply = match query.transport {
            Transport::Udp => self.ask_udp(query).await?,
            Transport::Tcp => self.ask_tcp(query).await?,
        };
        Ok(query.relayed(reply))
    }

    /// Hands answers to whoever waits for them, for ever.
    pub(crate) async fn listen(&self) {
        let mut lines = self.line.subscribe();
        loop {
            let line = lines.borrow_and_update().clone();
            tokio::select! {
                _changed = lines.changed() => {}
                () = line.listen() => {}
            }
        }
    }

    /// Each line is tried once; the next one comes after [`REMAKE_EVERY`].
    async fn ask_udp(&self, query: &Foreign) -> Result<Vec<u8>, Unanswered> {
        let deadline = Instant::now() + WAIT;
        let mut broken: Option<Arc<Line>> = None;
        while let Ok(line) = timeout_at(deadline, self.line()).await {
            if broken.as_ref().is_some_and(|broken| Arc::ptr_eq(broken, &line)) {
                return Err(Unanswered::DockerGone);
            }
            let asked = Instant::now();
            match timeout_at(deadline, line.ask(query)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(NoReply::Full)) => return Err(Unanswered::Busy),
                Ok(Err(NoReply::Broken)) => broken = Some(line),
                Err(_elapsed) => {
                    line.silent_since(asked);
                    return Err(Unanswered::DockerSilent);
                }
            }
        }
        Err(Unanswered::DockerSilent)
    }

    /// Rare, and so over a connection of its own.
    async fn ask_tcp(&self, query: &Foreign) -> Result<Vec<u8>, Unanswered> {
        let asking = async {
            let message = Query::new(query.message.clone(), query.request.question_end)?;
            let stream = self.home.tcp().await.map_err(io::Error::other)?;
            message.ask_over(stream).await
        };
        match timeout(WAIT, asking).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                tracing::debug!(%error, "docker's resolver did not answer over tcp");
                Err(Unanswered::DockerGone)
            }
            Err(_elapsed) => Err(Unanswered::DockerSilent),
        }
    }

    /// The line to use now. A suspect one is replaced, when that was not tried just before.
    async fn line(&self) -> Arc<Line> {
        let mut remade = self.remade.lock().await;
        let current = self.line.borrow().clone();
        let now = Instant::now();
        if !current.is_suspect() || remade.is_some_and(|at| now < at + REMAKE_EVERY) {
            return current;
        }
        *remade = Some(now);
        match self.home.udp().await {
            Ok(socket) => {
                let line = Arc::new(Line::new(socket, self.limit));
                self.line.send_replace(line.clone());
                current.abandon();
                line
            }
            Err(error) => {
                let error = crate::chain(&error);
                tracing::debug!(error, "no new socket towards docker's resolver");
                current
            }
        }
    }
}

/// One connected socket, and who waits on it.
#[derive(Debug)]
struct Line {
    socket: UdpSocket,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiters: Waiters<oneshot::Sender<Vec<u8>>>,
    /// The last sign of life.
    heard: Option<Instant>,
    suspect: bool,
}

/// Why a line gave no reply.
enum NoReply {
    /// Too many wait on it.
    Full,
    /// It broke, or another took its place.
    Broken,
}

impl Line {
    fn new(socket: UdpSocket, limit: usize) -> Line {
        let state = State { waiters: Waiters::new(limit), heard: None, suspect: false };
        Line { socket, state: Mutex::new(state) }
    }

    /// Waits for ever on a line that is silent: give it a timeout. Cancel-safe.
    async fn ask(&self, query: &Foreign) -> Result<Vec<u8>, NoReply> {
        let (answer_to, answer) = oneshot::channel();
        let mut message = query.message.clone();
        let end = query.request.question_end;
        let ticket = lock(&self.state).waiters.add(&mut message, end, rand::random(), answer_to);
        let _wait = Wait { line: self, ticket: ticket.ok_or(NoReply::Full)? };
        if let Err(error) = self.socket.send(&message).await {
            self.broke(&error);
            return Err(NoReply::Broken);
        }
        answer.await.map_err(|_| NoReply::Broken)
    }

    async fn listen(&self) {
        loop {
            match self.socket.ready(Interest::READABLE | Interest::ERROR).await {
                Ok(ready) if ready.is_error() => self.take_error(),
                Ok(_) => {}
                Err(_shutting_down) => sleep(PAUSE).await,
            }
            for _ in 0..BURST {
                match exchange::receive(&self.socket) {
                    Ok(response) => self.heard(&response),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        self.broke(&error);
                    }
                    Err(error) => {
                        self.broke(&error);
                        sleep(PAUSE).await;
                        break;
                    }
                }
            }
        }
    }

    /// ICMP's word that nobody is there comes as an error, with nothing to read.
    fn take_error(&self) {
        let taken = self.socket.try_io(Interest::ERROR, || {
            self.socket.take_error()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        if let Ok(error) = taken {
            self.broke(&error);
        }
    }

    /// A late answer and one to another question are dropped; they are signs of life.
    fn heard(&self, response: &[u8]) {
        let mut state = lock(&self.state);
        state.heard = Some(Instant::now());
        state.suspect = false;
        if let Some(answer_to) = state.waiters.take(response) {
            // Dropped when nobody waits any more.
            let _ = answer_to.send(response.to_vec());
        }
    }

    /// Nothing of what was sent will be answered.
    fn broke(&self, error: &io::Error) {
        tracing::debug!(%error, "docker's resolver cannot be reached");
        let mut state = lock(&self.state);
        state.suspect = true;
        state.waiters.clear();
    }

    /// Another line took its place: whoever waits asks there.
    fn abandon(&self) {
        lock(&self.state).waiters.clear();
    }

    /// A query of then was given up. If nothing at all was heard since, the line is suspect.
    fn silent_since(&self, asked: Instant) {
        let mut state = lock(&self.state);
        state.suspect |= state.heard.is_none_or(|heard| heard < asked);
    }

    fn is_suspect(&self) -> bool {
        lock(&self.state).suspect
    }
}

/// A wait that ends when it is dropped.
struct Wait<'a> {
    line: &'a Line,
    ticket: Ticket,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        lock(&self.line.state).waiters.give_up(self.ticket);
    }
}
