//! How often a request is repeated, and after how long.
use std::time::Duration;

/// Tries in all.
const TRIES: u32 = 5;
/// After the first failure; doubled each time.
const FIRST: Duration = Duration::from_millis(500);
/// All waits of one request together.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// The tries of one request.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    waited: Duration,
}

impl Retry {
    /// Tries that were made and failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// After a failure: how long to wait before the next try, `asked` by the provider or doubled each time;
    /// `None`: that was the last one.
    pub(super) fn after_failure(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.failures += 1;
        let wait = asked.unwrap_or(FIRST * 2u32.saturating_pow(self.failures - 1)).max(FIRST);
        if self.failures >= TRIES || self.waited.saturating_add(wait) > WAIT_MAX {
            return None;
        }
        self.waited += wait;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let mut retry = Retry::default();
        let waits: Vec<_> = std::iter::from_fn(|| retry.after_failure(None)).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000].map(Duration::from_millis));
        assert_eq!(retry.failures(), TRIES);
    }

    #[test]
    fn what_the_provider_asks_for_counts_within_bounds() {
        let mut retry = Retry::default();
        assert_eq!(
            retry.after_failure(Some(Duration::from_secs(100))),
            Some(Duration::from_secs(100))
        );
        assert_eq!(retry.after_failure(Some(Duration::from_secs(21))), None);
        assert_eq!(Retry::default().after_failure(Some(Duration::ZERO)), Some(FIRST));
        assert_eq!(Retry::default().after_failure(Some(Duration::from_secs(3600))), None);
    }
}
