//! The node and what others say: datagrams, and claims about members and about ourselves.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::RngExt;

use super::Node;
use crate::ask::Nonce;
use crate::endpoints::{Delta, Outcome, State, Version};
use crate::members::{Transition, Verdict};
use crate::pulls::PATIENCE;
use crate::wire::{self, Beat, Item, Kind, SwimPacket, WireError};
use crate::{NodeName, Oddity, OtherFormat};

/// A push-pull with somebody whom we hold for dead begins within this time: a split heals.
const HEAL: Duration = Duration::from_millis(500);
/// Packets of another format are told of at most this often.
const MISFIT_EVERY: Duration = Duration::from_secs(10);
/// How long the state of a new member may take to come by itself.
const FIRST_STATE: Duration = Duration::from_millis(500);

impl Node {
    /// Takes in a datagram. What is malformed, foreign or over a bound is counted and ignored.
    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, packet: &[u8]) {
        self.note(now);
        self.stats.datagrams_in += 1;
        let taken = self.datagram(from, packet);
        if let Err(error) = taken {
            self.stats.rejected += 1;
            tracing::trace!(%from, %error, "datagram rejected");
            self.misfit(*from.ip(), &error);
        }
        self.tell_disbelief(*from.ip());
        self.settle();
    }

    /// A host of another release is told of, now and then.
    pub(super) fn misfit(&mut self, from: Ipv4Addr, error: &WireError) {
        let WireError::Version(version) = *error else {
            return;
        };
        if self.misfit.is_none_or(|last| last + MISFIT_EVERY <= self.now) {
            self.misfit = Some(self.now);
            self.news.other_format = Some(OtherFormat { from, version, known: wire::VERSION });
        }
    }

    fn datagram(&mut self, from: SocketAddrV4, packet: &[u8]) -> Result<(), WireError> {
        if packet.len() > wire::MAX_DATAGRAM || from == self.address {
            return Err(WireError::Foreign);
        }
        let (kind, body) = wire::open(packet)?;
        match kind {
            Kind::NameCheck => self.name_check(from, &wire::parse(body)?),
            Kind::NameReply => self.name_reply(from, &wire::parse(body)?),
            Kind::Swim | Kind::Items | Kind::Beat if self.rivals.is_muted() => Ok(()),
            // foca would take what others say of our end for a mistake, and come back.
            Kind::Swim if self.leaving => Ok(()),
            Kind::Swim => self.swim_packet(from, body),
            Kind::Items => {
                for item in wire::parse_items(body)? {
                    self.item(from, item);
                }
                Ok(())
            }
            Kind::Beat => self.beat(from, &wire::parse(body)?),
            // To whoever asks, and no longer than the question: nothing is to be had by a forged source.
            Kind::Echo => {
                let nonce: Nonce = wire::parse(body)?;
                self.send(from, wire::seal(Kind::EchoReply, &nonce));
                Ok(())
            }
            Kind::EchoReply
            | Kind::Ask
            | Kind::Told
            | Kind::NotTold
            | Kind::PushPull
            | Kind::Answer
            | Kind::Closing
            | Kind::Pull
            | Kind::States => Err(WireError::Body),
        }
    }

    fn swim_packet(&mut self, from: SocketAddrV4, body: &[u8]) -> Result<(), WireError> {
        let mut packet = SwimPacket::parse(body)?;
        let source = packet.header.src.clone();
        if !self.believes(&source.name, source.epoch) {
            return Ok(());
        }
        if source.name == self.own && source.address == from {
            self.hear_of_us(&source, true);
        }
        if source.name == self.own || source.address != from || !self.may_ask(&packet) {
            return Err(WireError::Body);
        }
        let is_undead = packet.header.message == foca::Message::TurnUndead;
        if is_undead && packet.header.dst == *self.swim.identity() && !self.may_rejoin() {
            return Ok(());
        }
        let alive = foca::Member::new(source.clone(), 0, foca::State::Alive);
        if self.judge(&alive, false) == Verdict::NoRoom {
            return Err(WireError::Body);
        }
        if self.members.known(&source.name).is_some_and(|known| !known.is_active()) {
            self.push_pull_with(from, HEAL);
        }
        let updates = std::mem::take(&mut packet.updates);
        let told = updates.clone();
        packet.updates = updates.into_iter().filter_map(|claim| self.sift(claim)).collect();
        let taken = if packet.updates == told {
            self.swim.packet(self.now, body)
        } else {
            self.swim.packet(self.now, &packet.bytes())
        };
        self.refresh_soon();
        if taken { Ok(()) } else { Err(WireError::Body) }
    }

    fn item(&mut self, from: SocketAddrV4, item: Item) {
        match item {
            Item::Delta(delta) => self.delta(from, delta),
            Item::State(state) => {
                if self.state(state.clone()) == Outcome::Applied {
                    self.stats.deltas_in += 1;
                    self.spread_on(&Item::State(state));
                }
            }
            Item::Version { origin, version } => {
                if self.version_heard(from, &origin, version) {
                    self.spread_on(&Item::Version { origin, version });
                }
            }
        }
    }

    fn delta(&mut self, from: SocketAddrV4, delta: Delta) {
        let (origin, version) = (delta.origin.clone(), delta.version);
        if !self.believes(&origin, version.epoch) {
            return;
        }
        match self.table.apply_delta(delta.clone()) {
            Outcome::Applied => {
                self.stats.deltas_in += 1;
                self.table_changed(&origin);
                self.spread_on(&Item::Delta(delta));
            }
            Outcome::Ahead { first } => {
                if first {
                    self.stats.deltas_in += 1;
                    self.spread_on(&Item::Delta(delta));
                }
                self.version_heard(from, &origin, version);
            }
            Outcome::AboutUs => self.jump_above(version),
            Outcome::Refused => self.stats.rejected += 1,
            Outcome::Old => {}
        }
    }

    /// Takes in a whole state.
    pub(super) fn state(&mut self, state: State) -> Outcome {
        let (origin, version) = (state.origin.clone(), state.version);
        if !self.believes(&origin, version.epoch) {
            return Outcome::Refused;
        }
        let outcome = self.table.apply_state(state);
        match outcome {
            Outcome::Applied => self.table_changed(&origin),
            Outcome::AboutUs => self.jump_above(version),
            Outcome::Refused => self.stats.rejected += 1,
            Outcome::Old | Outcome::Ahead { .. } => {}
        }
        outcome
    }

    fn beat(&mut self, from: SocketAddrV4, beat: &Beat) -> Result<(), WireError> {
        if beat.origin != self.own {
            let known = self.members.known(&beat.origin);
            if known.is_none_or(|known| known.identity.address != from) {
                return Err(WireError::Body);
            }
            let held = self.table.version(&beat.origin);
            if let Some(version) = held.filter(|held| *held > beat.version) {
                let newer = Beat { origin: beat.origin.clone(), version };
                self.send(from, wire::seal(Kind::Beat, &newer));
            }
        }
        self.version_heard(from, &beat.origin, beat.version);
        Ok(())
    }

    /// Somebody says that a version exists. True where that is news.
    pub(super) fn version_heard(
        &mut self,
        from: SocketAddrV4,
        origin: &NodeName,
        version: Version,
    ) -> bool {
        if !self.believes(origin, version.epoch) {
            return false;
        }
        match self.table.compare(origin, version) {
            Outcome::Ahead { .. } => {
                let due = self.now + PATIENCE + self.pull_spread();
                self.pulls.want(origin, version, from, due)
            }
            Outcome::AboutUs => {
                self.jump_above(version);
                false
            }
            Outcome::Old | Outcome::Applied | Outcome::Refused => false,
        }
    }

    /// Carries out what foca decided.
    pub(super) fn settle(&mut self) {
        let heard = self.swim.heard();
        if heard.rejoined {
            self.rejoined();
        }
        let muted = self.rivals.is_muted();
        while let Some((to, bytes)) = self.swim.poll_send() {
            if !muted {
                let mut packet = wire::header(Kind::Swim);
                packet.extend_from_slice(bytes.as_ref());
                self.send(to, packet);
            }
        }
        if heard.changed || heard.rejoined {
            self.refresh();
        }
    }

    /// We were held for dead, and foca took a new identity for us.
    fn rejoined(&mut self) {
        self.stats.rejoins += 1;
        if self.put_off_rejoin() {
            self.news.oddity = Some(Oddity::HeldForDead { rejoins: self.stats.rejoins });
        }
        tracing::info!("the cluster held us for dead: back with a new identity");
        self.swim.introduce(self.now);
        self.tell_own_version();
        if let Some(peer) = self.some_members(1).first() {
            self.push_pull_with(*peer, 2 * HEAL);
        }
    }

    /// Looks at foca's members, and does what follows from the changes.
    pub(super) fn refresh(&mut self) {
        self.schedule.refresh = None;
        let was_alone = self.members.active().is_empty();
        let seen = self.swim.members();
        let transitions = self.members.refresh(self.now, &self.own, seen);
        if transitions.is_empty() {
            return;
        }
        for transition in transitions {
            self.transition(transition);
        }
        let active = self.members.active().len();
        self.swim.resize(active);
        if active == 0 && !was_alone {
            self.seeds.hurry(self.now);
        }
        self.make_room();
    }

    fn transition(&mut self, transition: Transition) {
        let name = match transition {
            Transition::New(name) | Transition::Moved(name) => {
                if self.table.version(&name).is_some() {
                    self.news.nodes.insert(name.clone());
                }
                self.want_first_state(&name);
                self.note_suspicion(&name);
                name
            }
            Transition::Returned(name) => {
                // It was away, and so were we for it.
                if let Some(known) = self.members.known(&name) {
                    let address = known.identity.address;
                    self.send(address, self.own_beat());
                }
                name
            }
            Transition::Down(name) => {
                self.doubts.remove(&name);
                name
            }
            Transition::Suspicion(name) => {
                self.note_suspicion(&name);
                name
            }
        };
        self.news_of_member(name);
    }

    /// A member's state of this life should come by itself; if it does not, it is pulled.
    fn want_first_state(&mut self, name: &NodeName) {
        let Some(known) = self.members.known(name).filter(|known| known.is_active()) else {
            return;
        };
        let first = Version { epoch: known.identity.epoch, seq: 0 };
        if self.table.version(name).is_none_or(|held| held < first) {
            let address = known.identity.address;
            let due = self.now + FIRST_STATE + self.pull_spread();
            self.pulls.want(name, first, address, due);
        }
    }

    /// The larger the cluster, the longer the time over which its pulls are spread.
    fn pull_spread(&mut self) -> Duration {
        let most = Duration::from_millis(50 + 2 * self.members.active().len() as u64);
        most.mul_f64(self.rng.random())
    }

    fn news_of_member(&mut self, name: NodeName) {
        self.members_changed = true;
        self.news.members.insert(name);
    }

    /// The endpoints of a node are others now.
    fn table_changed(&mut self, origin: &NodeName) {
        if let Some(held) = self.table.version(origin) {
            self.pulls.satisfied(origin, held);
        }
        let Some(known) = self.members.known(origin) else {
            return;
        };
        let (identity, incarnation) = (known.identity.clone(), known.incarnation);
        let was_active = known.is_active();
        self.news.nodes.insert(origin.clone());
        if self.table.has_left(origin, identity.epoch) {
            self.news_of_member(origin.clone());
            if was_active {
                let gone = foca::Member::new(identity, incarnation, foca::State::Down);
                self.swim.apply(self.now, vec![gone], true);
            }
        }
    }
}
