//! Another live host with our name: found out, said, and lived with. SANS-IO.
//!
//! The cluster speaks of a name, not of a host, so what we hear of our own name at another address is
//! mostly our own past. To know, the address is asked ([`NameCheck`](crate::wire::NameCheck)). Silence
//! clears it for a while; an answer in our name is a conflict, which both sides see (the one asks,
//! the other is asked, and asks back).
//!
//! Of two the one that is not a member yet gives way, else the one that foca's order lets lose. It
//! falls silent, so that the cluster never flaps between the two, and goes on asking; when the other
//! is gone it joins by itself.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::identity::Identity;

/// Pause between two questions until the rival is found or cleared.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Questions without an answer that clear an address.
const QUESTIONS: u32 = 5;
/// Pause between two questions in a known conflict.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// A conflict ends so long after the last answer.
const CONFLICT_ENDS: Duration = Duration::from_secs(30);
/// How long an address stays cleared.
const CLEARED_FOR: Duration = Duration::from_secs(60);
/// Most addresses remembered as cleared. At the bound the oldest is asked again when heard of.
const MAX_CLEARED: usize = 64;

#[derive(Debug)]
struct Suspicion {
    identity: Identity,
    questions: u32,
    ask_at: Instant,
}

#[derive(Debug)]
struct Conflict {
    address: SocketAddrV4,
    we_lose: bool,
    ask_at: Instant,
    ends: Instant,
}

/// What came of a look at the clock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send a question there.
    Ask(SocketAddrV4),
    /// Nobody of our name lives there: this identity is our own past, or somebody's who is gone.
    Cleared(Identity),
    /// The conflict is over; `we_lost` where we may join again.
    Over { we_lost: bool },
}

/// The one rival that is looked at, at a time.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    suspicion: Option<Suspicion>,
    conflict: Option<Conflict>,
    cleared: BTreeMap<SocketAddrV4, Instant>,
}

impl Rivals {
    /// Somebody said that our name lives at another address.
    pub(crate) fn hear(&mut self, identity: &Identity, now: Instant) {
        let address = identity.address;
        let cleared = self.cleared.get(&address).is_some_and(|until| *until > now);
        let known = self.conflict.as_ref().is_some_and(|conflict| conflict.address == address);
        if self.suspicion.is_none() && !cleared && !known {
            self.suspicion =
                Some(Suspicion { identity: identity.clone(), questions: 0, ask_at: now });
        }
    }

    /// The host at `address` answered in our name. True where the conflict is new.
    pub(crate) fn confirm(&mut self, address: SocketAddrV4, we_lose: bool, now: Instant) -> bool {
        self.suspicion.take_if(|suspicion| suspicion.identity.address == address);
        let new = self.conflict.as_ref().is_none_or(|conflict| conflict.address != address);
        self.conflict = Some(Conflict {
            address,
            we_lose,
            ask_at: now + WATCH_EVERY,
            ends: now + CONFLICT_ENDS,
        });
        new
    }

    /// The host at `address` answered in another name.
    pub(crate) fn deny(&mut self, address: SocketAddrV4, now: Instant) -> Option<Identity> {
        let suspicion =
            self.suspicion.take_if(|suspicion| suspicion.identity.address == address)?;
        self.clear(address, now);
        Some(suspicion.identity)
    }

    /// What is to be done by now; to be called until `None`.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Turn> {
        if let Some(over) = self.conflict.take_if(|conflict| conflict.ends <= now) {
            return Some(Turn::Over { we_lost: over.we_lose });
        }
        if let Some(conflict) = self.conflict.as_mut().filter(|c| c.ask_at <= now) {
            conflict.ask_at = now + WATCH_EVERY;
            return Some(Turn::Ask(conflict.address));
        }
        let suspicion = self.suspicion.as_mut().filter(|s| s.ask_at <= now)?;
        let address = suspicion.identity.address;
        if suspicion.questions < QUESTIONS {
            suspicion.questions += 1;
            suspicion.ask_at = now + ASK_EVERY;
            return Some(Turn::Ask(address));
        }
        self.deny(address, now).map(Turn::Cleared)
    }

    /// When [`turn`](Self::turn) has something to do next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let conflict = self.conflict.as_ref().map(|c| c.ask_at.min(c.ends));
        let suspicion = self.suspicion.as_ref().map(|s| s.ask_at);
        conflict.into_iter().chain(suspicion).min()
    }

    /// The address of the other host, while the conflict lasts.
    pub(crate) fn conflict(&self) -> Option<SocketAddrV4> {
        self.conflict.as_ref().map(|conflict| conflict.address)
    }

    /// True where we must be silent: the other host has the name.
    pub(crate) fn is_muted(&self) -> bool {
        self.conflict.as_ref().is_some_and(|c| c.we_lose)
    }

    /// True while it is open whether our name is free.
    pub(crate) fn is_open(&self) -> bool {
        self.suspicion.is_some()
    }

    fn clear(&mut self, address: SocketAddrV4, now: Instant) {
        self.cleared.retain(|_, until| *until > now);
        if self.cleared.len() >= MAX_CLEARED {
            let oldest = self.cleared.iter().min_by_key(|(_, until)| **until);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.cleared.remove(&oldest);
            }
        }
        self.cleared.insert(address, now + CLEARED_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rival() -> Identity {
        Identity {
            name: "a".parse().unwrap(),
            address: "10.0.0.2:7946".parse().unwrap(),
            epoch: 1,
            bump: 0,
        }
    }

    /// Runs until nothing is left to do, and returns what was done.
    fn run(rivals: &mut Rivals, now: &mut Instant, until: Instant) -> Vec<Turn> {
        let mut turns = Vec::new();
        while let Some(next) = rivals.next().filter(|next| *next <= until) {
            *now = (*now).max(next);
            turns.extend(std::iter::from_fn(|| rivals.turn(*now)));
        }
        turns
    }

    #[test]
    fn an_address_that_does_not_answer_is_cleared_and_not_asked_again_soon() {
        let mut now = crate::sim::start_of_time();
        let mut rivals = Rivals::default();
        rivals.hear(&rival(), now);
        let until = now + Duration::from_secs(5);
        let turns = run(&mut rivals, &mut now, until);
        assert_eq!(turns.len(), QUESTIONS as usize + 1);
        assert_eq!(turns.last(), Some(&Turn::Cleared(rival())));
        rivals.hear(&rival(), now);
        assert!(!rivals.is_open());
    }

    #[test]
    fn a_conflict_lasts_while_the_other_answers_and_ends_by_itself() {
        let mut now = crate::sim::start_of_time();
        let mut rivals = Rivals::default();
        rivals.hear(&rival(), now);
        assert!(rivals.confirm(rival().address, true, now));
        assert!(!rivals.confirm(rival().address, true, now));
        assert!(rivals.is_muted());
        let until = now + Duration::from_secs(60);
        let turns = run(&mut rivals, &mut now, until);
        assert_eq!(turns.last(), Some(&Turn::Over { we_lost: true }));
        assert!(!rivals.is_muted() && rivals.conflict().is_none());
    }
}
