//! Who comes first when several endpoints share a name. No IO, no clock.
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::RecordType;

/// How many counters a family has. Names that share one still take turns, only not as evenly.
const COUNTERS: usize = 32;

/// Counters that rotate the addresses of shared names, round robin.
///
/// One counter for all would not do: most clients ask for A and AAAA of a name, or for two names,
/// always in the same order, and of two addresses the same one would then always come first.
#[derive(Debug)]
pub(crate) struct Turns {
    ipv6: [AtomicUsize; COUNTERS],
    others: [AtomicUsize; COUNTERS],
}

impl Turns {
    /// `first`: where all counters start. Clients that ask once and no more spread only when each
    /// starts elsewhere, so it should be random.
    pub(crate) fn starting_at(first: usize) -> Turns {
        let counters = || std::array::from_fn(|_| AtomicUsize::new(first));
        Turns { ipv6: counters(), others: counters() }
    }

    /// How far to rotate the addresses in this answer.
    pub(crate) fn next(&self, name: &str, kind: RecordType) -> usize {
        let mut hasher = DefaultHasher::new();
        for byte in name.bytes() {
            byte.to_ascii_lowercase().hash(&mut hasher);
        }
        let counters = if kind == RecordType::AAAA { &self.ipv6 } else { &self.others };
        let slot = usize::try_from(hasher.finish() % COUNTERS as u64).unwrap_or(0);
        counters.get(slot).map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_asks_for_both_families_each_time_still_sees_all_addresses_first() {
        let turns = Turns::starting_at(0);
        let first: Vec<usize> = (0..4)
            .map(|_| {
                turns.next("web", RecordType::AAAA);
                turns.next("Web", RecordType::A) % 2
            })
            .collect();
        assert_eq!(first, [0, 1, 0, 1]);
    }

    #[test]
    fn counters_do_not_end() {
        let turns = Turns::starting_at(usize::MAX);
        assert_eq!(turns.next("web", RecordType::A), usize::MAX);
        assert_eq!(turns.next("web", RecordType::A), 0);
    }
}
