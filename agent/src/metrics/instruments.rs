//! What is counted and timed while it happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ovl_vxlan::LinkCounters;

use super::devices::{Tally, Totals};
use super::histogram::Histogram;
use crate::core::StoreCall;

/// Bounds for calls on the store and for passes over the kernel, in seconds.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Shared by the parts of the agent; clones are the same instruments.
#[derive(Clone, Debug, Default)]
pub struct Instruments(Arc<Inner>);

/// See [`Instruments`].
#[derive(Debug)]
pub struct Inner {
    ready: AtomicBool,
    /// Calls on the store, of all kinds.
    pub(super) store: Histogram,
    store_calls: [[AtomicU64; Outcome::ALL.len()]; StoreCallKind::ALL.len()],
    /// Passes after a change.
    pub(super) apply: Histogram,
    /// Audits.
    pub(super) audit: Histogram,
    failed_passes: AtomicU64,
    failed_writes: AtomicU64,
    devices: Mutex<Tally>,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner {
            ready: AtomicBool::new(false),
            store: Histogram::new(SECONDS),
            store_calls: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            apply: Histogram::new(SECONDS),
            audit: Histogram::new(SECONDS),
            failed_passes: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            devices: Mutex::default(),
        }
    }
}

impl std::ops::Deref for Instruments {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCallKind {
    /// The list of networks.
    Networks,
    /// A new network.
    CreateNetwork,
    /// The removal of one.
    RemoveNetwork,
    /// A free subnet.
    ProposeSubnet,
    /// An address.
    Allocate,
    /// To take one back.
    Release,
    /// All addresses of a network.
    Leases,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// The store said no.
    Refused,
    /// The store did not answer, or not in time.
    Failed,
}

impl StoreCallKind {
    /// Every kind.
    pub const ALL: [StoreCallKind; 7] = [
        StoreCallKind::Networks,
        StoreCallKind::CreateNetwork,
        StoreCallKind::RemoveNetwork,
        StoreCallKind::ProposeSubnet,
        StoreCallKind::Allocate,
        StoreCallKind::Release,
        StoreCallKind::Leases,
    ];

    /// As it stands in a label.
    pub const fn name(self) -> &'static str {
        match self {
            StoreCallKind::Networks => "networks",
            StoreCallKind::CreateNetwork => "create_network",
            StoreCallKind::RemoveNetwork => "remove_network",
            StoreCallKind::ProposeSubnet => "propose_subnet",
            StoreCallKind::Allocate => "allocate",
            StoreCallKind::Release => "release",
            StoreCallKind::Leases => "leases",
        }
    }
}

impl From<&StoreCall> for StoreCallKind {
    fn from(call: &StoreCall) -> StoreCallKind {
        match call {
            StoreCall::Networks => StoreCallKind::Networks,
            StoreCall::CreateNetwork(_) | StoreCall::EnsureNetwork(_) => {
                StoreCallKind::CreateNetwork
            }
            StoreCall::RemoveNetwork(_) => StoreCallKind::RemoveNetwork,
            StoreCall::ProposeSubnet(_) | StoreCall::ProposeSubnet6(_) => {
                StoreCallKind::ProposeSubnet
            }
            StoreCall::Allocate { .. } => StoreCallKind::Allocate,
            StoreCall::Release { .. } | StoreCall::ReleaseNode | StoreCall::ReleaseLease(_) => {
                StoreCallKind::Release
            }
            StoreCall::Leases(_) => StoreCallKind::Leases,
        }
    }
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 3] = [Outcome::Ok, Outcome::Refused, Outcome::Failed];

    /// As it stands in a label.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        }
    }
}

impl Inner {
    /// The agent serves.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// A call on the store was answered, or given up.
    pub fn store_called(&self, kind: StoreCallKind, outcome: Outcome, took: Duration) {
        self.store.observe(took);
        if let Some(count) = self.store_count(kind, outcome) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The kernel was brought to the desired state, or not wholly.
    pub fn passed(&self, is_audit: bool, is_ok: bool, took: Duration) {
        if is_audit { &self.audit } else { &self.apply }.observe(took);
        self.failed_passes.fetch_add(u64::from(!is_ok), Ordering::Relaxed);
    }

    /// The state could not be written.
    pub fn write_failed(&self) {
        self.failed_writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what the devices counted since the last look.
    pub(super) fn tally(&self, devices: &[LinkCounters]) -> Totals {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).take(devices)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(super) fn store_calls(&self, kind: StoreCallKind, outcome: Outcome) -> u64 {
        self.store_count(kind, outcome).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn store_count(&self, kind: StoreCallKind, outcome: Outcome) -> Option<&AtomicU64> {
        self.store_calls.get(kind as usize)?.get(outcome as usize)
    }

    pub(super) fn failed_passes(&self) -> u64 {
        self.failed_passes.load(Ordering::Relaxed)
    }

    pub(super) fn failed_writes(&self) -> u64 {
        self.failed_writes.load(Ordering::Relaxed)
    }
}
