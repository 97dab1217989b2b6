//! What one pass did.

use std::collections::BTreeMap;

use crate::{ApplyError, Difference};

/// Most things of one pass that [`Report::done`] names; all are counted.
pub const MAX_DONE: usize = 64;

/// What one pass of [`crate::Dataplane`] did.
#[derive(Debug, Default)]
pub struct Report {
    /// Operations carried out, by kind, for logs and the drift metric. Empty: nothing was amiss.
    pub changes: BTreeMap<&'static str, usize>,
    /// The first [`MAX_DONE`] of them: what each of these operations mended.
    pub done: Vec<Difference>,
    /// Per endpoint (VNI, endpoint id): why it could not be made. All others are in place.
    pub failed_endpoints: BTreeMap<(u32, String), ApplyError>,
    /// Per network, by VNI: why its device or rows could not be made. What of the network could be
    /// made is in place.
    pub failed_networks: BTreeMap<u32, ApplyError>,
    /// Endpoints (VNI, endpoint id) whose sandbox is gone: its path vanished or is no network
    /// namespace (any more).
    pub gone: Vec<(u32, String)>,
    /// VNIs of devices of ours that are not desired and yet stay, because an interface in some
    /// namespace hangs on them: a container may be running there. They go with their last child,
    /// at the pass after it.
    pub orphans: Vec<u32>,
}

impl Report {
    /// Nothing failed. Orphans and vanished sandboxes are facts, not failures.
    pub fn is_ok(&self) -> bool {
        self.failed_endpoints.is_empty() && self.failed_networks.is_empty()
    }

    /// Counts an operation that was carried out, and keeps in mind what it mended.
    pub(crate) fn count(&mut self, kind: &'static str, mended: impl FnOnce() -> Difference) {
        self.count_only(kind);
        if self.room() > 0 {
            self.done.push(mended());
        }
    }

    /// The same for an operation that mends nothing by itself.
    pub(crate) fn count_only(&mut self, kind: &'static str) {
        *self.changes.entry(kind).or_default() += 1;
    }

    /// How many more things can be named.
    pub(crate) fn room(&self) -> usize {
        MAX_DONE.saturating_sub(self.done.len())
    }

    /// Takes over what an earlier attempt of the same pass has changed; its failures are void.
    pub(crate) fn add_changes_of(&mut self, earlier: Report) {
        for (kind, count) in earlier.changes {
            *self.changes.entry(kind).or_default() += count;
        }
        let room = MAX_DONE.saturating_sub(earlier.done.len());
        let later = std::mem::replace(&mut self.done, earlier.done);
        self.done.extend(later.into_iter().take(room));
    }
}
