//! The node and streams: push-pull of everything, and pulls of single states.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::clock::EARLY_PUSH_PULLS;
use super::{Call, DialEnd, Node};
use crate::NodeName;
use crate::endpoints::{Outcome, State, Version};
use crate::identity::Identity;
use crate::pulls::DuePull;
use crate::seeds::Target;
use crate::wire::{
    self, Answer, Closing, Kind, Pull, PushPull, Row, STATE_BUDGET, States, WireError,
};

/// Most rows of the first frame that are looked at; there cannot be more members.
const MAX_ROWS: usize = 2 * crate::MAX_MEMBERS;
/// The next exchange begins within this time where one frame did not take everything.
const MORE: Duration = Duration::from_millis(100);

impl Node {
    /// The first frame of a push-pull.
    pub(super) fn push_pull(&self) -> Vec<u8> {
        let request = PushPull {
            from: self.swim.identity().clone(),
            introduced: self.introduced,
            members: self.members.rows(self.now),
            digest: self.table.digest(),
        };
        wire::seal(Kind::PushPull, &request)
    }

    /// Begins to pull one state: from its node, and after a failure from who told us of it.
    pub(super) fn call_for_state(&mut self, due: DuePull) {
        let known = self.members.known(&due.origin);
        let origin = known.map(|known| known.identity.address);
        let teller = Some(due.told_by).filter(|by| self.members.is_known_at(*by));
        let asked =
            if due.attempts.is_multiple_of(2) { origin.or(teller) } else { teller.or(origin) };
        let want = vec![(due.origin.clone(), self.table.version(&due.origin))];
        let request = wire::seal(Kind::Pull, &Pull { want });
        let begun = asked.is_some_and(|peer| {
            let call = Call::Pull(due.origin.clone());
            peer != self.address && self.call(call, Target::Address(peer), request)
        });
        if !begun {
            self.pulls.failed(&due.origin, self.now);
        }
    }

    /// Answers the first frame of a stream from `from`; `None` where there is no answer.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        from: Ipv4Addr,
        frame: &[u8],
    ) -> Option<Vec<u8>> {
        self.note(now);
        let answer = self.request(from, frame);
        self.settle();
        self.count_refusal(from, answer)
    }

    fn request(&mut self, from: Ipv4Addr, frame: &[u8]) -> Result<Vec<u8>, WireError> {
        let (kind, body) = wire::open(frame)?;
        if self.rivals.is_muted() || self.leaving {
            return Err(WireError::Foreign);
        }
        match kind {
            Kind::PushPull => self.answer(from, wire::parse(body)?),
            Kind::Pull => {
                let pull: Pull = wire::parse(body)?;
                let (states, _) = self.states_for(pull.want);
                self.stats.answered += 1;
                Ok(wire::seal(Kind::States, &States { states }))
            }
            Kind::Swim
            | Kind::Items
            | Kind::Beat
            | Kind::NameCheck
            | Kind::NameReply
            | Kind::Answer
            | Kind::Closing
            | Kind::States
            | Kind::Echo
            | Kind::EchoReply
            | Kind::Ask
            | Kind::Told
            | Kind::NotTold => Err(WireError::Body),
        }
    }

    fn answer(&mut self, from: Ipv4Addr, request: PushPull) -> Result<Vec<u8>, WireError> {
        let peer = &request.from;
        if *peer.address.ip() != from
            || request.members.len() > MAX_ROWS
            || request.digest.len() > MAX_ROWS
            || peer == self.swim.identity()
        {
            return Err(WireError::Body);
        }
        if peer.name == self.own {
            self.hear_of_us(&peer.clone(), true);
        } else if self.merge(&request.members) && request.introduced {
            self.welcome(peer);
        }
        let members = self.members.news_for(&request.members, self.now);
        let theirs: BTreeMap<_, _> = request.digest.iter().cloned().collect();
        let (states, more) = self.states_beyond(&theirs);
        let want = self.wanted(peer, theirs);
        self.stats.answered += 1;
        let answer = Answer {
            from: self.swim.identity().clone(),
            introduced: self.introduced,
            members,
            states,
            want,
            more,
        };
        Ok(wire::seal(Kind::Answer, &answer))
    }

    /// The nodes of which a peer holds more than we do.
    fn wanted(&mut self, peer: &Identity, theirs: BTreeMap<NodeName, Version>) -> Vec<NodeName> {
        let mut want = Vec::new();
        for (name, version) in theirs {
            if !self.believes(&name, version.epoch) {
                continue;
            }
            if name == self.own {
                if peer.name != self.own && version > self.table.own_version() {
                    self.jump_above(version);
                }
            } else if self.table.version(&name).is_none_or(|held| held < version) {
                want.push(name);
            }
        }
        want
    }

    /// Takes in the answer to our first frame, and returns the closing frame, if one is to be sent.
    pub(crate) fn handle_answer(
        &mut self,
        now: Instant,
        id: u64,
        from: SocketAddrV4,
        frame: &[u8],
    ) -> Option<Vec<u8>> {
        self.note(now);
        let closing = self.answered(id, from, frame);
        self.settle();
        self.count_refusal(*from.ip(), closing).flatten()
    }

    fn answered(
        &mut self,
        id: u64,
        from: SocketAddrV4,
        frame: &[u8],
    ) -> Result<Option<Vec<u8>>, WireError> {
        let (kind, body) = wire::open(frame)?;
        if self.rivals.is_muted() || self.leaving {
            return Ok(None);
        }
        match (kind, self.calls.get(&id)) {
            (Kind::Answer, Some(Call::Seed(_) | Call::PushPull)) => {
                let answer: Answer = wire::parse(body)?;
                if answer.from.address != from {
                    return Err(WireError::Body);
                }
                Ok(self.close(answer))
            }
            (Kind::States, Some(Call::Pull(_))) => {
                let answer: States = wire::parse(body)?;
                self.take_states(answer.states);
                Ok(None)
            }
            _ => Err(WireError::Body),
        }
    }

    fn close(&mut self, answer: Answer) -> Option<Vec<u8>> {
        let peer = &answer.from;
        if peer.name == self.own {
            self.hear_of_us(&peer.clone(), true);
            return None;
        }
        // A state of ours that stands above us is our own past; states of others wait until our name
        // is known to be free.
        if !self.merge(&answer.members) {
            return None;
        }
        if answer.introduced {
            self.welcome(peer);
        }
        let first = !self.synced;
        self.take_states(answer.states);
        if answer.more {
            self.schedule.targeted_after = self.now;
            self.push_pull_with(peer.address, MORE);
        }
        self.stats.push_pulls_ok += 1;
        let wanted = answer.want.into_iter().map(|name| (name, None)).collect();
        let (states, _) = self.states_for(wanted);
        let closing = Closing { from: self.swim.identity().clone(), states };
        self.completed();
        if first {
            self.swim.gossip(self.now);
        }
        Some(wire::seal(Kind::Closing, &closing))
    }

    /// Takes in the last frame of a push-pull that somebody began.
    pub(crate) fn handle_closing(&mut self, now: Instant, from: Ipv4Addr, frame: &[u8]) {
        self.note(now);
        let taken = self.closing(from, frame);
        self.settle();
        self.count_refusal(from, taken);
    }

    fn closing(&mut self, from: Ipv4Addr, frame: &[u8]) -> Result<(), WireError> {
        let (Kind::Closing, body) = wire::open(frame)? else {
            return Err(WireError::Body);
        };
        let closing: Closing = wire::parse(body)?;
        if *closing.from.address.ip() != from || closing.from.name == self.own {
            return Err(WireError::Body);
        }
        if !self.rivals.is_muted() && !self.leaving {
            self.welcome(&closing.from);
            self.swim.gossip(self.now);
            for state in closing.states {
                // Who joins knows few; we tell others of its endpoints for it.
                let joiner = (state.origin == closing.from.name).then(|| state.clone());
                if self.state(state) == Outcome::Applied
                    && let Some(state) = joiner
                {
                    self.tell_state(state);
                }
            }
            self.completed();
        }
        Ok(())
    }

    /// An exchange that we began is over.
    pub(crate) fn handle_dial_end(
        &mut self,
        now: Instant,
        id: u64,
        address: Option<SocketAddrV4>,
        end: DialEnd,
    ) {
        self.note(now);
        let ok = match end {
            DialEnd::Answered | DialEnd::Ourselves => true,
            DialEnd::Failed => false,
        };
        match self.calls.remove(&id) {
            Some(Call::Seed(text)) => {
                let joined = end == DialEnd::Ourselves || (ok && self.introduced);
                self.seeds.ended(&text, address, joined, self.now, &mut self.rng);
                self.stats.push_pulls_failed += u64::from(!ok);
            }
            Some(Call::PushPull) => self.stats.push_pulls_failed += u64::from(!ok),
            Some(Call::Pull(origin)) => {
                self.stats.pulls_ok += u64::from(ok);
                self.stats.pulls_failed += u64::from(!ok);
                // What came is satisfied by now and not wanted any more.
                self.pulls.failed(&origin, self.now);
            }
            None => {}
        }
        self.settle();
    }

    /// Takes in what a peer knows of members. False where our own name may not be free: then nothing of
    /// it was taken.
    fn merge(&mut self, rows: &[Row]) -> bool {
        let about_us = rows.iter().map(|row| &row.member);
        let about_us: Vec<_> = about_us.filter(|member| member.id().name == self.own).collect();
        if !self.introduced {
            for member in &about_us {
                self.hear_of_us(member.id(), member.state() != foca::State::Down);
            }
            if self.rivals.is_open() {
                return false;
            }
            self.introduced = true;
        }
        let day = crate::REMEMBERED_FOR.as_secs();
        let fresh = rows.iter().filter(|row| u64::from(row.down_secs) < day);
        let claims: Vec<_> = fresh.filter_map(|row| self.sift(row.member.clone())).collect();
        self.swim.apply(self.now, claims, self.synced);
        self.refresh();
        for row in rows.iter().filter(|row| row.down_secs > 0) {
            let ago = Duration::from_secs(row.down_secs.into());
            self.members.down_since(&row.member.id().name, self.now, ago);
        }
        true
    }

    /// Takes a peer that spoke to us for alive.
    fn welcome(&mut self, peer: &Identity) {
        let alive = foca::Member::new(peer.clone(), 0, foca::State::Alive);
        if let Some(alive) = self.sift(alive) {
            self.swim.apply(self.now, vec![alive], true);
            self.refresh();
        }
    }

    /// A push-pull with a live peer took place.
    fn completed(&mut self) {
        if !self.synced {
            self.synced = true;
            self.news.synced = true;
            self.early = EARLY_PUSH_PULLS;
            self.plan_push_pull();
            self.tell_own_state();
        }
    }

    fn take_states(&mut self, states: Vec<State>) {
        for state in states {
            self.state(state);
        }
    }

    /// All states that are newer than a peer's, as far as one frame takes them; true where more are.
    fn states_beyond(&self, theirs: &BTreeMap<NodeName, Version>) -> (Vec<State>, bool) {
        let digest = self.table.digest();
        let want = digest
            .into_iter()
            .map(|(name, _)| (theirs.get(&name).copied(), name))
            .map(|(version, name)| (name, version))
            .collect();
        self.states_for(want)
    }

    fn states_for(&self, want: Vec<(NodeName, Option<Version>)>) -> (Vec<State>, bool) {
        let mut states = Vec::new();
        let mut left = STATE_BUDGET;
        for (name, have) in want {
            let Some(state) = self.table.state(&name) else {
                continue;
            };
            if have.is_some_and(|have| have >= state.version) {
                continue;
            }
            let size = postcard::experimental::serialized_size(&state).unwrap_or(STATE_BUDGET);
            if size > left && !states.is_empty() {
                return (states, true);
            }
            left = left.saturating_sub(size);
            states.push(state);
        }
        (states, false)
    }

    fn count_refusal<T>(&mut self, from: Ipv4Addr, result: Result<T, WireError>) -> Option<T> {
        if let Err(error) = &result {
            self.stats.rejected += 1;
            tracing::debug!(%from, %error, "stream rejected");
            self.misfit(from, error);
        }
        self.tell_disbelief(from);
        result.ok()
    }
}
