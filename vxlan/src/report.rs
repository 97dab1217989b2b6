//! What one pass did.

use std::collections::BTreeMap;

use crate::ApplyError;

/// What one pass of [`crate::Dataplane`] did.
#[derive(Debug, Default)]
pub struct Report {
    /// Operations carried out, by kind, for logs and the drift metric. Empty: nothing was amiss.
    pub changes: BTreeMap<&'static str, usize>,
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

    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.changes.entry(kind).or_default() += 1;
    }

    /// Takes over what an earlier attempt of the same pass has changed; its failures are void.
    pub(crate) fn add_changes_of(&mut self, earlier: Report) {
        for (kind, count) in earlier.changes {
            *self.changes.entry(kind).or_default() += count;
        }
    }
}
