//! Which states are to be asked for over TCP, because a change was missed. SANS-IO.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::NodeName;
use crate::endpoints::{MAX_ORIGINS, Version};

/// How long a gap may fill by itself: what is missing is mostly only late.
pub(crate) const PATIENCE: Duration = Duration::from_millis(150);
/// Most pulls under way. Further ones wait.
pub(crate) const MAX_IN_FLIGHT: usize = 4;
/// After so many attempts a state is left to the next push-pull.
const MAX_ATTEMPTS: u32 = 6;
/// Pause after the first failed attempt; it doubles each time.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Want {
    version: Version,
    /// Who told us of it.
    told_by: SocketAddrV4,
    due: Instant,
    attempts: u32,
    in_flight: bool,
}

/// A pull that is to begin now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DuePull {
    pub(crate) origin: NodeName,
    pub(crate) told_by: SocketAddrV4,
    /// How often it failed already: even, ask the origin; odd, ask who told us.
    pub(crate) attempts: u32,
}

/// States that are missed here; at most [`MAX_ORIGINS`], further ones are left to push-pull.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    wants: BTreeMap<NodeName, Want>,
    in_flight: usize,
}

impl Pulls {
    /// Notes that `version` of `origin` exists. True where that is news here.
    pub(crate) fn want(
        &mut self,
        origin: &NodeName,
        version: Version,
        told_by: SocketAddrV4,
        due: Instant,
    ) -> bool {
        if let Some(want) = self.wants.get_mut(origin) {
            let news = version > want.version;
            if news {
                want.version = version;
                want.told_by = told_by;
            }
            return news;
        }
        if self.wants.len() >= MAX_ORIGINS {
            return false;
        }
        let want = Want { version, told_by, due, attempts: 0, in_flight: false };
        self.wants.insert(origin.clone(), want);
        true
    }

    /// Drops what is held by now: `held` of `origin`.
    pub(crate) fn satisfied(&mut self, origin: &NodeName, held: Version) {
        if let Some(want) = self.wants.get(origin)
            && want.version <= held
        {
            self.drop_want(origin);
        }
    }

    /// Drops all that is wanted of a node.
    pub(crate) fn drop_want(&mut self, origin: &NodeName) {
        if let Some(want) = self.wants.remove(origin)
            && want.in_flight
        {
            self.in_flight -= 1;
        }
    }

    /// The next pull to begin, if one is due and not too many are under way.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<DuePull> {
        if self.in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let due = self.wants.iter_mut().find(|(_, want)| !want.in_flight && want.due <= now)?;
        due.1.in_flight = true;
        self.in_flight += 1;
        Some(DuePull { origin: due.0.clone(), told_by: due.1.told_by, attempts: due.1.attempts })
    }

    /// A pull ended without what was wanted: it waits, or is given up.
    pub(crate) fn failed(&mut self, origin: &NodeName, now: Instant) {
        let Some(want) = self.wants.get_mut(origin) else {
            return;
        };
        if want.in_flight {
            want.in_flight = false;
            self.in_flight -= 1;
        }
        want.due = now + RETRY * 2_u32.pow(want.attempts);
        want.attempts += 1;
        if want.attempts >= MAX_ATTEMPTS {
            self.drop_want(origin);
        }
    }

    /// When the next pull is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.in_flight >= MAX_IN_FLIGHT {
            return None;
        }
        let waiting = self.wants.values().filter(|want| !want.in_flight);
        waiting.map(|want| want.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(i: usize) -> NodeName {
        format!("n{i}").parse().unwrap()
    }

    fn by() -> SocketAddrV4 {
        "10.0.0.1:7946".parse().unwrap()
    }

    const V1: Version = Version { epoch: 1, seq: 1 };
    const V2: Version = Version { epoch: 1, seq: 2 };

    #[test]
    fn only_a_higher_version_is_news() {
        let now = crate::sim::start_of_time();
        let mut pulls = Pulls::default();
        assert!(pulls.want(&name(1), V1, by(), now));
        assert!(!pulls.want(&name(1), V1, by(), now));
        assert!(pulls.want(&name(1), V2, by(), now));
        pulls.satisfied(&name(1), V1);
        assert!(pulls.next().is_some());
        pulls.satisfied(&name(1), V2);
        assert!(pulls.next().is_none());
    }

    #[test]
    fn pulls_under_way_are_bounded_and_an_ended_one_makes_room() {
        let now = crate::sim::start_of_time();
        let mut pulls = Pulls::default();
        for i in 0..10 {
            pulls.want(&name(i), V1, by(), now);
        }
        let begun: Vec<_> = std::iter::from_fn(|| pulls.begin(now)).collect();
        assert_eq!(begun.len(), MAX_IN_FLIGHT);
        pulls.satisfied(&begun[0].origin, V1);
        assert!(pulls.begin(now).is_some());
    }

    #[test]
    fn a_pull_that_fails_is_tried_again_later_and_finally_left() {
        let mut now = crate::sim::start_of_time();
        let mut pulls = Pulls::default();
        pulls.want(&name(1), V1, by(), now);
        let mut attempts = 0;
        while let Some(due) = pulls.next() {
            now = now.max(due);
            pulls.begin(now).unwrap();
            pulls.failed(&name(1), now);
            attempts += 1;
        }
        assert_eq!(attempts, MAX_ATTEMPTS);
    }
}
