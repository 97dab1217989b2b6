//! The node and claims: what others say of members, of us, and in our name.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use foca::Message;

use super::{Doubt, Node, Suspicion};
use crate::endpoints::Version;
use crate::identity::Identity;
use crate::members::Verdict;
use crate::wire::{self, Kind, NameCheck, SwimPacket, WireError};
use crate::{EPOCHS_AHEAD, NodeName, Oddity};

/// How long a member that others hold for dead may take to come back as another. It is told at once and
/// twice again; others have waited for it already.
const DOUBT: Duration = Duration::from_secs(3);
/// Time between two tellings to a member that others hold it for dead.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How much longer than who raised it we wait for a suspicion to be settled.
const SETTLED_BY: Duration = Duration::from_secs(2);
/// Least time between two jumps above a version that is said to be ours.
const JUMP: Duration = Duration::from_secs(1);
/// Least time between two comebacks of a host that others hold for dead: each is told to many, and who does
/// not believe it answers at once. It doubles up to [`REJOIN_MAX`] while the next one is due at once.
const REJOIN: Duration = Duration::from_secs(1);
const REJOIN_MAX: Duration = Duration::from_secs(30);
/// Epochs that were not believed are told of at most this often.
const DISBELIEF_EVERY: Duration = Duration::from_secs(10);

impl Node {
    /// True where a clock can have given the epoch. What lies further ahead is garbage, and would leave the
    /// host that it is said of nothing to outbid it with; below that, time alone makes room above any claim.
    pub(super) fn believes(&mut self, name: &NodeName, epoch: u64) -> bool {
        let (begun, ours) = self.begun;
        let since = self.now.saturating_duration_since(begun) + EPOCHS_AHEAD;
        let latest = ours.saturating_add(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        if epoch > latest {
            self.stats.rejected += 1;
            self.disbelieved = Some((name.clone(), epoch));
        }
        epoch <= latest
    }

    /// Tells who claimed what was not believed, now and then.
    pub(super) fn tell_disbelief(&mut self, from: Ipv4Addr) {
        if let Some((node, epoch)) = self.disbelieved.take()
            && self.disbelief.is_none_or(|last| last + DISBELIEF_EVERY <= self.now)
        {
            self.disbelief = Some(self.now);
            self.news.oddity = Some(Oddity::Epoch { from, node, epoch });
        }
    }

    /// True where a claim would have foca take a new identity for us, which has to wait.
    fn comes_too_soon(&self, claim: &foca::Member<Identity>) -> bool {
        // Nothing refutes a suspicion of the highest incarnation.
        let kills = claim.state() == foca::State::Down || claim.incarnation() == u16::MAX;
        kills && !self.may_rejoin()
    }

    /// True where we may come back from the dead. Who is not answered yet says so again.
    pub(super) fn may_rejoin(&self) -> bool {
        self.schedule.rejoin_after <= self.now
    }

    /// Plans when we may come back the next time. True where this time followed at once on the last.
    pub(super) fn put_off_rejoin(&mut self) -> bool {
        let schedule = &mut self.schedule;
        let again = self.now < schedule.rejoin_after + schedule.rejoin_pause;
        schedule.rejoin_pause =
            if again { (2 * schedule.rejoin_pause).min(REJOIN_MAX) } else { REJOIN };
        schedule.rejoin_after = self.now + schedule.rejoin_pause;
        again
    }

    /// foca answers some messages with many bytes, or by writing to a third party. That is done only
    /// for and towards members, or we could be used to flood somebody.
    pub(super) fn may_ask(&self, packet: &SwimPacket) -> bool {
        let is_member = |identity: &Identity| self.members.is_known_at(identity.address);
        match &packet.header.message {
            Message::Announce => self.members.known(&packet.header.src.name).is_some(),
            Message::PingReq { target: third, .. }
            | Message::IndirectPing { origin: third, .. }
            | Message::IndirectAck { target: third, .. }
            | Message::ForwardedAck { origin: third, .. } => is_member(third),
            Message::Ping(_)
            | Message::Ack(_)
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => true,
        }
    }

    pub(super) fn judge(&mut self, claim: &foca::Member<Identity>, left: bool) -> Verdict {
        let verdict = self.members.judge(claim, left);
        match verdict {
            Verdict::Pass | Verdict::Stale => verdict,
            Verdict::NoRoom => {
                self.make_room();
                self.members.judge(claim, left)
            }
            Verdict::Doubt => {
                // What we hold may be a tenth of a second old.
                self.refresh();
                self.members.judge(claim, left)
            }
        }
    }

    /// What foca may hear of a claim.
    pub(super) fn sift(&mut self, claim: foca::Member<Identity>) -> Option<foca::Member<Identity>> {
        let subject = claim.id();
        if !self.believes(&subject.name, subject.epoch) {
            return None;
        }
        if subject.name == self.own {
            let is_us = *subject == *self.swim.identity() && self.introduced;
            if !is_us {
                let active = claim.state() != foca::State::Down;
                self.hear_of_us(&subject.clone(), active);
            }
            return (is_us && !self.comes_too_soon(&claim)).then_some(claim);
        }
        let left = self.table.has_left(&subject.name, subject.epoch);
        match self.judge(&claim, left) {
            Verdict::Pass => Some(claim),
            Verdict::Stale => None,
            Verdict::NoRoom => {
                self.stats.rejected += 1;
                None
            }
            Verdict::Doubt => {
                self.doubt(&claim);
                None
            }
        }
    }

    /// Puts a claim that a member is down to the member, and waits for it to come back as another.
    fn doubt(&mut self, claim: &foca::Member<Identity>) {
        let subject = claim.id();
        let doubted = self.doubts.get(&subject.name);
        if doubted.is_some_and(|doubt| doubt.identity == *subject) {
            return;
        }
        self.stats.doubts += 1;
        let doubt = Doubt { identity: subject.clone(), ask_at: self.now, until: self.now + DOUBT };
        self.doubts.insert(subject.name.clone(), doubt);
    }

    /// Tells doubted members what is said of them, so that they come back with a new identity; who does
    /// not is down.
    pub(super) fn settle_doubts(&mut self) {
        let now = self.now;
        let mut dead = Vec::new();
        let mut asked = Vec::new();
        self.doubts.retain(|name, doubt| {
            let known = self.members.known(name);
            if known.is_none_or(|known| known.identity != doubt.identity || !known.is_active()) {
                return false;
            }
            if doubt.until <= now {
                let identity = doubt.identity.clone();
                dead.push(foca::Member::new(identity, 0, foca::State::Down));
                return false;
            }
            if doubt.ask_at <= now {
                doubt.ask_at = now + ASK_AGAIN;
                asked.push(doubt.identity.clone());
            }
            true
        });
        for identity in asked {
            let packet = SwimPacket::turn_undead(self.swim.identity().clone(), identity);
            self.send(packet.header.dst.address, packet.sealed());
        }
        if !dead.is_empty() {
            self.swim.apply(now, dead, true);
        }
    }

    /// Notes that a member is suspected, so that it is down in the end even if we do not hear of that.
    pub(super) fn note_suspicion(&mut self, name: &NodeName) {
        let known = self.members.known(name);
        let Some(known) = known.filter(|known| known.state == foca::State::Suspect) else {
            self.suspicions.remove(name);
            return;
        };
        let suspicion = Suspicion {
            identity: known.identity.clone(),
            incarnation: known.incarnation,
            until: self.now + self.swim.suspicion() + SETTLED_BY,
        };
        self.suspicions.insert(name.clone(), suspicion);
    }

    /// Settles the suspicions of which nothing more was heard.
    pub(super) fn settle_suspicions(&mut self) {
        let now = self.now;
        if !self.suspicions.values().any(|s| s.until <= now) {
            return;
        }
        self.refresh();
        let suspicions = std::mem::take(&mut self.suspicions);
        for (name, suspicion) in suspicions {
            if suspicion.until > now {
                self.suspicions.insert(name, suspicion);
                continue;
            }
            let known = self.members.known(&name).map(|k| (&k.identity, k.incarnation, k.state));
            let same = (&suspicion.identity, suspicion.incarnation, foca::State::Suspect);
            if known == Some(same) {
                let dead = foca::Member::new(suspicion.identity, 0, foca::State::Down);
                self.swim.apply(now, vec![dead], true);
            } else {
                self.note_suspicion(&name);
            }
        }
    }

    /// Our own name was heard, in another identity than ours.
    pub(super) fn hear_of_us(&mut self, heard: &Identity, active: bool) {
        if !self.believes(&heard.name, heard.epoch) {
            return;
        }
        let ours = self.swim.identity();
        if heard.address == ours.address {
            // Before we are introduced nobody can know this life of ours, so it is an earlier one.
            if heard.beats(ours) || (!self.introduced && heard.epoch >= ours.epoch) {
                self.outrank(heard);
            }
        } else if active {
            self.rivals.hear(heard, self.now);
        } else {
            self.outrank(heard);
        }
    }

    /// Takes an identity above one that is our own past, where it stands above us.
    pub(super) fn outrank(&mut self, past: &Identity) {
        let ours = self.swim.identity();
        if past.beats(ours) || (!self.introduced && past.epoch >= ours.epoch) {
            self.jump_above(Version { epoch: past.epoch, seq: 0 });
        }
        if !self.introduced {
            self.seeds.hurry(self.now);
        }
    }

    /// Our clock or memory went back, or somebody holds more of us than we said: we go above that.
    pub(super) fn jump_above(&mut self, heard: Version) {
        if self.schedule.jump_after > self.now || self.leaving {
            return;
        }
        self.schedule.jump_after = self.now + JUMP;
        self.table.jump_above(heard);
        let identity = Identity {
            epoch: self.table.own_version().epoch,
            bump: 0,
            ..self.swim.identity().clone()
        };
        tracing::info!(epoch = identity.epoch, "our epoch was behind what the cluster holds of us");
        self.swim.become_identity(self.now, identity);
        self.tell_own_state();
    }

    pub(super) fn name_check(
        &mut self,
        from: SocketAddrV4,
        check: &NameCheck,
    ) -> Result<(), WireError> {
        if check.from.address != from {
            return Err(WireError::Body);
        }
        if check.from.name == self.own {
            self.hear_of_us(&check.from, true);
        }
        let reply = NameCheck {
            nonce: check.nonce,
            from: self.swim.identity().clone(),
            introduced: self.introduced,
        };
        self.send(from, wire::seal(Kind::NameReply, &reply));
        Ok(())
    }

    pub(super) fn name_reply(
        &mut self,
        from: SocketAddrV4,
        reply: &NameCheck,
    ) -> Result<(), WireError> {
        if reply.nonce != self.nonce || reply.from.address != from {
            return Err(WireError::Body);
        }
        if reply.from.name != self.own {
            if let Some(past) = self.rivals.deny(from, self.now) {
                self.outrank(&past);
            }
            return Ok(());
        }
        if !self.believes(&self.own.clone(), reply.from.epoch) {
            return Ok(());
        }
        let ours = self.swim.identity();
        let we_lose = match (self.introduced, reply.introduced) {
            (true, false) => false,
            (false, true) => true,
            (true, true) | (false, false) => reply.from.beats(ours),
        };
        if self.rivals.confirm(from, we_lose, self.now) {
            tracing::error!(name = %self.own, other = %from, we_lose, "another host uses our name: rename one of the two");
            self.news.conflict = true;
        }
        if we_lose {
            self.introduced = false;
            self.spread.clear();
        }
        Ok(())
    }

    /// The other host with our name, as the user knows addresses.
    pub(super) fn conflict(&self) -> Option<SocketAddr> {
        self.rivals.conflict().map(SocketAddr::V4)
    }
}
