//! Waiting for a condition, always with a limit.
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::LabError;

/// How long a poll sleeps between two looks.
const STEP: Duration = Duration::from_millis(20);

/// A point in time after which to give up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    started: Instant,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { started: now(), limit }
    }

    /// Whether the limit is used up.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.elapsed() >= self.limit
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now().duration_since(self.started)
    }
}

/// Measures a piece of work.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let watch = Deadline::after(Duration::MAX);
    let result = work();
    (result, watch.elapsed())
}

/// Looks again and again until `probe` answers `Ok`; an `Err` says what was seen instead.
///
/// # Errors
/// [`LabError::Timeout`] with what was seen last, or [`LabError::Interrupted`].
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<T, LabError> {
    let deadline = Deadline::after(limit);
    loop {
        let seen = match probe() {
            Ok(found) => return Ok(found),
            Err(seen) => seen,
        };
        if interrupted() {
            return Err(LabError::Interrupted);
        }
        if deadline.passed() {
            return Err(LabError::Timeout { what: what.to_owned(), limit, seen });
        }
        std::thread::sleep(STEP);
    }
}

/// The flag that a signal handler sets; every wait ends soon after.
#[must_use]
pub fn interrupt_flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// Whether somebody asked this process to stop.
#[must_use]
pub fn interrupted() -> bool {
    interrupt_flag().load(Ordering::Relaxed)
}

/// Forgets the interruption, so that the waits of the clean-up work.
pub fn clear_interruption() {
    interrupt_flag().store(false, Ordering::Relaxed);
}

#[expect(clippy::disallowed_methods, reason = "the lab is a shell: it waits for real processes")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_limit_and_says_what_was_seen() {
        let error = until::<()>("rain", Duration::from_millis(30), || Err("sun".to_owned()))
            .expect_err("it never rains");
        assert!(error.to_string().contains("rain"), "{error}");
        assert!(error.to_string().contains("sun"), "{error}");
    }

    #[test]
    fn a_wait_ends_as_soon_as_the_condition_holds() {
        let mut looks = 0;
        let found = until("third look", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks.to_string()) }
        });
        assert_eq!(found.expect("the third look succeeds"), 3);
    }
}
