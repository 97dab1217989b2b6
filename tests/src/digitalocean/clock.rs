//! The wall clock, as the API writes it.
use std::time::Instant;

use jiff::Timestamp;

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a server's answers carry the time of day")]
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A moment to measure from.
#[expect(clippy::disallowed_methods, reason = "droplets become active after a delay")]
pub(super) fn tick() -> Instant {
    Instant::now()
}

/// The time as `2020-07-21T18:37:44Z`.
pub(super) fn written(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
