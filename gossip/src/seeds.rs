//! Whom to ask to join: seeds, and members of an earlier run. SANS-IO.
//!
//! While no other member is alive, everybody is asked, for ever, with a growing pause. Later a seed
//! that is not among the members is still asked now and then: it may be the other half of a split.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, RngExt};

/// First pause between two tries; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Pause between two looks at a seed while other members are alive.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Known addresses tried at a time while alone.
const KNOWN_AT_ONCE: usize = 3;
/// Most addresses of an earlier run that are kept. Further ones are left out.
pub(crate) const MAX_KNOWN: usize = 1024;

/// Whom to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `host:port` or `host`, resolved anew at each try.
    Seed(String),
    /// An address.
    Address(SocketAddrV4),
}

#[derive(Debug)]
struct Pace {
    next: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Seed {
    text: String,
    pace: Pace,
    /// What it resolved to last, or ourselves.
    address: Option<SocketAddrV4>,
    asked: bool,
}

impl Seed {
    fn new(text: &str, now: Instant) -> Self {
        let pace = Pace { next: now, pause: MIN_PAUSE };
        Self { text: text.to_owned(), pace, address: None, asked: false }
    }
}

/// Seeds and known addresses, and when to try them next.
#[derive(Debug)]
pub(crate) struct Seeds {
    seeds: Vec<Seed>,
    known: Vec<SocketAddrV4>,
    known_pace: Pace,
}

impl Seeds {
    pub(crate) fn new(seeds: &[String], known: &[SocketAddrV4], now: Instant) -> Self {
        Self {
            seeds: seeds.iter().map(|text| Seed::new(text, now)).collect(),
            known: known.iter().copied().take(MAX_KNOWN).collect(),
            known_pace: Pace { next: now, pause: MIN_PAUSE },
        }
    }

    /// Others from now on; what is known of those that stay is kept.
    pub(crate) fn replace(&mut self, seeds: &[String], now: Instant) {
        let mut old = std::mem::take(&mut self.seeds);
        let kept = |text: &String| {
            let at = old.iter().position(|seed| seed.text == *text);
            at.map_or_else(|| Seed::new(text, now), |at| old.swap_remove(at))
        };
        self.seeds = seeds.iter().map(kept).collect();
    }

    /// Seeds to be called now. `is_member`: whether an active member, or ourselves, is at an address.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        alone: bool,
        is_member: impl Fn(SocketAddrV4) -> bool,
    ) -> Vec<Target> {
        let mut due = Vec::new();
        for seed in &mut self.seeds {
            if seed.asked || seed.pace.next > now {
                continue;
            }
            if !alone && seed.address.is_some_and(&is_member) {
                seed.pace.next = now + LOOK_AGAIN;
            } else {
                seed.asked = true;
                due.push(Target::Seed(seed.text.clone()));
            }
        }
        due
    }

    /// Addresses to be called now, while alone: some that are known from before, or of the dead.
    pub(crate) fn due_known(
        &mut self,
        now: Instant,
        dead: impl Iterator<Item = SocketAddrV4>,
        rng: &mut StdRng,
    ) -> Vec<Target> {
        if self.known_pace.next > now {
            return Vec::new();
        }
        self.known_pace.fail(now, rng);
        let known = self.known.sample(rng, KNOWN_AT_ONCE).copied();
        let mut chosen: Vec<_> = known.collect();
        chosen.extend(dead.sample(rng, KNOWN_AT_ONCE));
        chosen.sort_unstable();
        chosen.dedup();
        chosen.into_iter().map(Target::Address).collect()
    }

    /// A call of a seed ended. `address`: what it resolved to.
    pub(crate) fn ended(
        &mut self,
        text: &str,
        address: Option<SocketAddrV4>,
        ok: bool,
        now: Instant,
        rng: &mut StdRng,
    ) {
        for seed in self.seeds.iter_mut().filter(|seed| seed.text == text) {
            seed.asked = false;
            seed.address = address.or(seed.address);
            if ok {
                seed.pace = Pace { next: now + jitter(LOOK_AGAIN, rng), pause: MIN_PAUSE };
            } else {
                seed.pace.fail(now, rng);
            }
        }
    }

    /// Nobody else is alive any more: everybody is tried again from the beginning.
    pub(crate) fn hurry(&mut self, now: Instant) {
        let seeds = self.seeds.iter_mut().map(|seed| &mut seed.pace);
        for pace in seeds.chain([&mut self.known_pace]) {
            pace.pause = MIN_PAUSE;
            pace.next = pace.next.min(now);
        }
    }

    /// When the next try is due.
    pub(crate) fn next(&self, alone: bool) -> Option<Instant> {
        let seeds = self.seeds.iter().filter(|seed| !seed.asked);
        let known = alone.then_some(self.known_pace.next);
        seeds.map(|seed| seed.pace.next).chain(known).min()
    }
}

impl Pace {
    fn fail(&mut self, now: Instant, rng: &mut StdRng) {
        self.next = now + jitter(self.pause, rng);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

/// 80 to 120 % of a time, so that nodes which start together do not call together.
pub(crate) fn jitter(time: Duration, rng: &mut impl Rng) -> Duration {
    time.mul_f64(rng.random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_that_does_not_answer_is_tried_for_ever_with_a_bounded_pause() {
        let mut now = crate::sim::start_of_time();
        let mut rng = StdRng::seed_from_u64(1);
        let mut seeds = Seeds::new(&["s".into()], &[], now);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            assert_eq!(seeds.due(now, true, |_| false).len(), 1);
            assert!(seeds.due(now, true, |_| false).is_empty());
            seeds.ended("s", None, false, now, &mut rng);
            let next = seeds.next(false).unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses[0] < Duration::from_millis(1300));
        assert!(pauses[19] > Duration::from_secs(23) && pauses[19] < Duration::from_secs(37));
    }

    #[test]
    fn a_seed_among_the_members_is_left_in_peace_and_one_that_is_not_is_asked_again() {
        let now = crate::sim::start_of_time();
        let mut rng = StdRng::seed_from_u64(1);
        let address: SocketAddrV4 = "10.0.0.1:7946".parse().unwrap();
        let mut seeds = Seeds::new(&["s".into()], &[], now);
        seeds.due(now, true, |_| false);
        seeds.ended("s", Some(address), true, now, &mut rng);
        let later = now + 2 * LOOK_AGAIN;
        assert!(seeds.due(later, false, |at| at == address).is_empty());
        let later = later + LOOK_AGAIN;
        assert_eq!(seeds.due(later, false, |_| false).len(), 1);
    }

    #[test]
    fn other_seeds_are_asked_at_once_and_those_that_stay_keep_their_pace() {
        let now = crate::sim::start_of_time();
        let mut rng = StdRng::seed_from_u64(1);
        let mut seeds = Seeds::new(&["old".into(), "stays".into()], &[], now);
        seeds.due(now, true, |_| false);
        seeds.ended("stays", None, false, now, &mut rng);
        seeds.replace(&["stays".into(), "new".into()], now);
        assert_eq!(seeds.due(now, true, |_| false), [Target::Seed("new".into())]);
        // A call of one that is none any more may still end.
        seeds.ended("old", None, false, now, &mut rng);
        let later = seeds.next(false).unwrap();
        assert_eq!(seeds.due(later, true, |_| false), [Target::Seed("stays".into())]);
    }

    #[test]
    fn when_alone_the_known_and_the_dead_are_tried_some_at_a_time() {
        let now = crate::sim::start_of_time();
        let mut rng = StdRng::seed_from_u64(1);
        let address = |i: u8| SocketAddrV4::new([10, 0, 0, i].into(), 7946);
        let known: Vec<_> = (1..=50).map(address).collect();
        let mut seeds = Seeds::new(&[], &known, now);
        let due = seeds.due_known(now, (60..=90).map(address), &mut rng);
        assert_eq!(due.len(), 2 * KNOWN_AT_ONCE);
        assert!(seeds.due_known(now, std::iter::empty(), &mut rng).is_empty());
    }
}
