//! Desired against kernel, as `/v1/audit` tells it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The kernel of a host, held against what it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Networks that should have a device on this host.
    pub networks: usize,
    /// FDB and neighbour rows that should be there.
    pub rows: usize,
    /// Endpoints of this host.
    pub endpoints: usize,
    /// Where the kernel was not what it should be; at most 1,000.
    pub differences: Vec<Difference>,
    /// How many more there were.
    pub left_out: usize,
    /// What came of putting it right; none: that was not asked for.
    #[serde(default)]
    pub repair: Option<Repair>,
}

/// What came of putting a kernel right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Things that were put right.
    pub done: usize,
    /// What the kernel refused, each as a sentence.
    pub failures: Vec<String>,
    /// Where it still is not what it should be.
    pub left: Vec<Difference>,
}

/// Somewhere a kernel is not what it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `device-missing`, `device-setting`, `device-left-over`, `fdb-missing`, `fdb-wrong`,
    /// `fdb-foreign`, `neighbour-missing`, `neighbour-wrong`, `neighbour-foreign`,
    /// `interface-missing`, `interface-setting`, `interface-left-over`, `address-missing`,
    /// `address-left-over`, `firewall-missing` or `unreadable`.
    pub kind: String,
    /// The network's name, if it is one of the cluster's.
    #[serde(default)]
    pub network: Option<String>,
    /// The network's VNI; none: it concerns the whole host.
    #[serde(default)]
    pub vni: Option<u32>,
    /// The endpoint's first name, if it concerns one of this host.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The network namespace's file; none: the host's own.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The interface, or the nftables table.
    pub device: String,
    /// The setting, address or MAC; none: the device itself.
    #[serde(default)]
    pub what: Option<String>,
    /// As it should be; none: it should not be there.
    #[serde(default)]
    pub want: Option<String>,
    /// As it is; none: it is not there.
    #[serde(default)]
    pub have: Option<String>,
}
