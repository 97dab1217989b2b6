//! Observations of durations, counted by size. No lock, no allocation: an observation is two additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations by upper bounds.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in seconds, rising.
    bounds: &'static [f64],
    /// One for each bound, and one for what is beyond.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Upper bound in seconds, and how many observations are not above it.
    pub buckets: Vec<(f64, u64)>,
    /// How many there are in all.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// `bounds`: in seconds, rising.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, nanoseconds: AtomicU64::new(0) }
    }

    /// Counts one more.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was observed so far.
    pub fn read(&self) -> Reading {
        let mut count = 0;
        let counts = self.counts.iter().map(|n| n.load(Ordering::Relaxed));
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (at, n) in counts.enumerate() {
            count += n;
            buckets.extend(self.bounds.get(at).map(|bound| (*bound, count)));
        }
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        Reading { buckets, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_stand_in_every_bucket_that_they_are_not_above() {
        let histogram = Histogram::new(&[0.001, 0.01]);
        for microseconds in [500, 1_000, 5_000, 20_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let Reading { buckets, count, sum } = histogram.read();
        assert_eq!((buckets, count), (vec![(0.001, 2), (0.01, 3)], 4));
        assert!((sum - 0.0265).abs() < 1e-9, "{sum}");
    }
}
