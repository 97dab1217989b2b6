//! The node and time: what is due, and what a late call means.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::{Call, MAX_CALLS, Node};
use crate::rival::Turn;
use crate::seeds::{Target, jitter};
use crate::spread;
use crate::wire::{self, Beat, Kind, NameCheck};

/// A timer that is late by more means that we were frozen or starved, not that others are silent.
const STALL: Duration = Duration::from_millis(400);
/// How long changes that foca does not announce (suspicion) may wait to be seen.
pub(super) const REFRESH: Duration = Duration::from_millis(100);
/// Time between two push-pulls with a random member, in a cluster of up to 32 members. It grows with
/// the logarithm of the size.
const PUSH_PULL: Duration = Duration::from_secs(30);
/// Push-pulls soon after joining: who joins together with many others has not heard of all of them.
pub(super) const EARLY_PUSH_PULLS: u32 = 4;
/// Pause before the first early one; it doubles each time.
const EARLY: Duration = Duration::from_millis(500);
/// Time between two tellings of our version to [`BEAT_TARGETS`] members: who missed the last change of
/// a quiet node learns so.
const BEAT: Duration = Duration::from_secs(10);
const BEAT_TARGETS: usize = 2;
/// Time between two looks for what is to be forgotten.
const SWEEP: Duration = Duration::from_secs(60);
/// A state without a member is dropped after so many sweeps.
const ORPHAN_SWEEPS: u32 = 10;
/// Least time between two targeted push-pulls.
const TARGETED: Duration = Duration::from_secs(5);

impl Node {
    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let schedule = &self.schedule;
        let rivals = self.rivals.next();
        if self.rivals.is_muted() {
            return rivals;
        }
        let calls_left = self.calls.len() < MAX_CALLS && !self.leaving;
        let alone = self.is_alone();
        [
            rivals,
            schedule.refresh,
            schedule.tick,
            self.swim.next(),
            Some(schedule.beat),
            Some(schedule.sweep),
            self.doubts.values().map(|d| d.until.min(d.ask_at)).min(),
            self.suspicions.values().map(|s| s.until).min(),
            calls_left.then(|| self.seeds.next(alone)).flatten(),
            calls_left.then(|| self.pulls.next()).flatten(),
            schedule.push_pull.filter(|_| calls_left && !alone),
            schedule.targeted.map(|(at, _)| at).filter(|_| calls_left),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due by `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.note(now);
        self.turn_to_rivals();
        if !self.rivals.is_muted() {
            if self.swim.fire(now) {
                self.refresh_soon();
            }
            self.settle_doubts();
            self.settle_suspicions();
            self.make_calls();
            self.tick();
            self.sweep();
        }
        self.settle();
        if self.schedule.refresh.is_some_and(|at| at <= now) {
            self.refresh();
        }
    }

    /// Takes note of the time. Where a timer of foca is late, all of them are put off by that, so that
    /// nobody is suspected for answers that we did not hear.
    pub(super) fn note(&mut self, now: Instant) {
        self.now = now.max(self.now);
        if self.rivals.is_muted() {
            return;
        }
        let late =
            self.swim.next().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late > STALL {
            self.stats.stalls += 1;
            self.put_off(late);
        }
    }

    pub(super) fn put_off(&mut self, by: Duration) {
        self.swim.put_off(by);
        for doubt in self.doubts.values_mut() {
            doubt.until += by;
        }
        for suspicion in self.suspicions.values_mut() {
            suspicion.until += by;
        }
    }

    pub(super) fn refresh_soon(&mut self) {
        let at = self.now + REFRESH;
        self.schedule.refresh.get_or_insert(at);
    }

    /// Asks for a push-pull with a certain member, soon; refused while the last one is recent.
    pub(super) fn push_pull_with(&mut self, peer: SocketAddrV4, within: Duration) {
        if self.schedule.targeted_after <= self.now {
            self.schedule.targeted_after = self.now + TARGETED;
            let at = self.now + within.mul_f64(self.rng.random());
            self.schedule.targeted = Some((at, peer));
        }
    }

    /// Plans the next push-pull with a random member.
    pub(super) fn plan_push_pull(&mut self) {
        let pause = if self.early > 0 {
            self.early -= 1;
            EARLY * 2_u32.pow(EARLY_PUSH_PULLS.saturating_sub(1 + self.early))
        } else {
            let size = self.members.active().len() + 1;
            PUSH_PULL * (size / 32).max(1).ilog2().saturating_add(1)
        };
        self.schedule.push_pull = Some(self.now + jitter(pause, &mut self.rng));
    }

    fn make_calls(&mut self) {
        if self.leaving {
            return;
        }
        if self.calls.len() < MAX_CALLS {
            self.call_seeds();
        }
        if self.schedule.push_pull.is_some_and(|at| at <= self.now) {
            self.plan_push_pull();
            if let Some(peer) = self.members.active().choose(&mut self.rng).copied() {
                self.call_peer(peer);
            }
        }
        if let Some((_, peer)) = self.schedule.targeted.take_if(|(at, _)| *at <= self.now) {
            self.call_peer(peer);
        }
        while self.calls.len() < MAX_CALLS
            && let Some(due) = self.pulls.begin(self.now)
        {
            self.call_for_state(due);
        }
    }

    fn call_seeds(&mut self) {
        let (members, own) = (&self.members, self.address);
        let alone = self.is_alone();
        let is_member = |at| at == own || members.is_active_at(at);
        let mut targets = self.seeds.due(self.now, alone, is_member);
        if alone {
            let dead = members.iter().filter(|(_, known)| !known.is_active());
            let dead = dead.map(|(_, known)| known.identity.address);
            targets.extend(self.seeds.due_known(self.now, dead, &mut self.rng));
        }
        for target in targets {
            let request = self.push_pull();
            match &target {
                Target::Seed(text) => {
                    if !self.call(Call::Seed(text.clone()), target.clone(), request) {
                        let text = text.clone();
                        self.seeds.ended(&text, None, false, self.now, &mut self.rng);
                    }
                }
                Target::Address(_) => {
                    self.call(Call::PushPull, target, request);
                }
            }
        }
    }

    fn call_peer(&mut self, peer: SocketAddrV4) {
        let request = self.push_pull();
        self.call(Call::PushPull, Target::Address(peer), request);
    }

    fn turn_to_rivals(&mut self) {
        while let Some(turn) = self.rivals.turn(self.now) {
            match turn {
                Turn::Ask(address) => {
                    let check = NameCheck {
                        nonce: self.nonce,
                        from: self.swim.identity().clone(),
                        introduced: self.introduced,
                    };
                    self.send(address, wire::seal(Kind::NameCheck, &check));
                }
                Turn::Cleared(past) => self.outrank(&past),
                Turn::Over { we_lost } => {
                    self.news.conflict = true;
                    if we_lost {
                        self.come_back();
                    }
                }
            }
        }
    }

    /// The other host with our name is gone: foca's clock goes on where it stood, and we join again.
    fn come_back(&mut self) {
        let late = self.swim.next();
        let late = late.map_or(Duration::ZERO, |due| self.now.saturating_duration_since(due));
        self.put_off(late);
        self.seeds.hurry(self.now);
    }

    fn tick(&mut self) {
        if self.schedule.tick.take_if(|at| *at <= self.now).is_some() {
            self.tell_again();
        }
        if self.schedule.beat <= self.now {
            self.schedule.beat = self.now + jitter(BEAT, &mut self.rng);
            let beat = self.own_beat();
            for peer in self.some_members(BEAT_TARGETS) {
                self.send(peer, beat.clone());
            }
        }
    }

    /// "My endpoints are at this version", sealed.
    pub(super) fn own_beat(&self) -> Vec<u8> {
        let beat = Beat { origin: self.own.clone(), version: self.table.own_version() };
        wire::seal(Kind::Beat, &beat)
    }

    /// Random active members.
    pub(super) fn some_members(&mut self, wanted: usize) -> Vec<SocketAddrV4> {
        let active = self.members.active();
        active.sample(&mut self.rng, wanted).copied().collect()
    }

    /// Those who are told endpoint news now.
    pub(super) fn audience(&mut self) -> Vec<SocketAddrV4> {
        self.some_members(spread::fan_out(self.members.active().len()))
    }

    fn sweep(&mut self) {
        if self.schedule.sweep > self.now {
            return;
        }
        self.schedule.sweep = self.now + SWEEP;
        self.make_room();
        let known = |name: &crate::NodeName| self.members.known(name).is_some();
        let orphans: Vec<_> = self.table.origins().filter(|o| !known(o)).cloned().collect();
        self.orphans.retain(|name, _| orphans.contains(name));
        for name in orphans {
            let sweeps = self.orphans.entry(name.clone()).or_default();
            *sweeps += 1;
            if *sweeps > ORPHAN_SWEEPS {
                self.table.forget(&name);
                self.pulls.drop_want(&name);
            }
        }
    }

    /// Forgets members that were dead for long, and the oldest dead where there are too many members.
    pub(super) fn make_room(&mut self) {
        while let Some(identity) = self.members.to_forget(self.now) {
            self.forget(identity);
        }
    }

    fn forget(&mut self, identity: crate::identity::Identity) {
        let name = identity.name.clone();
        self.swim.forget(self.now, identity);
        self.members.forget(&name);
        self.table.forget(&name);
        self.pulls.drop_want(&name);
        self.doubts.remove(&name);
        self.suspicions.remove(&name);
        self.news.members.remove(&name);
        self.members_changed = true;
        self.news.nodes.remove(&name);
        if self.news.forgotten.len() < crate::MAX_MEMBERS {
            self.news.forgotten.insert(name);
        }
    }
}
