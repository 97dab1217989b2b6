use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::store::StoreError;

/// How often one call starts again because another host changed the same thing. With pauses of
/// up to 100 ms these last longer than most deadlines, which then end them first.
pub const MAX_TRIES: u32 = 200;

/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Counts the tries of one call, and pauses between them for a random time that grows, so that
/// racing hosts part.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    store: &'a str,
    what: &'a str,
    conflicts: u32,
}

impl<'a> Tries<'a> {
    /// For a call that changes `what`.
    pub(super) fn new(store: &'a str, what: &'a str) -> Tries<'a> {
        Tries { store, what, conflicts: 0 }
    }

    /// Tries before this one.
    pub(super) fn before(&self) -> u32 {
        self.conflicts
    }

    /// Pauses after a conflict.
    pub(super) async fn again(&mut self) -> Result<(), StoreError> {
        self.conflicts += 1;
        if self.conflicts >= MAX_TRIES {
            let (store, what) = (self.store.to_owned(), self.what.to_owned());
            return Err(StoreError::Contended { store, what, tries: self.conflicts });
        }
        let limit = Duration::from_millis(1) * 2u32.saturating_pow(self.conflicts.min(10));
        let limit = limit.min(MAX_PAUSE).as_micros();
        let micros = u128::from(entropy()) % limit;
        tokio::time::sleep(Duration::from_micros(u64::try_from(micros).unwrap_or(0))).await;
        Ok(())
    }
}

/// A number that other hosts do not draw at the same moment; not fit for secrets. The standard
/// library seeds each of these hashers anew, from the system's randomness.
pub(super) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}
