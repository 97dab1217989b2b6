//! What passed through the devices of a host: `GET /v1/counters`.

use serde::{Deserialize, Serialize};

/// Counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The host's node name.
    pub host: String,
    /// When they were read: microseconds on a clock that never goes back while the agent runs, and
    /// that begins when counters are asked for first.
    pub at_micros: u64,
    /// The underlay's interface, and the device of each network that is used here.
    pub devices: Vec<Device>,
}

/// Counters of one device, since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The interface's name.
    pub device: String,
    /// Its VXLAN network identifier; none: the underlay's interface.
    pub vni: Option<u32>,
    /// Its network; none also where no network has that identifier.
    pub network: Option<String>,
    /// What came in.
    pub rx: Passed,
    /// What went out.
    pub tx: Passed,
}

/// What passed one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Packets.
    pub packets: u64,
    /// Bytes: on a network's device those of the frames inside VXLAN.
    pub bytes: u64,
    /// Packets that were broken, or could not be sent.
    pub errors: u64,
    /// Packets for which there was no room or no way.
    pub dropped: u64,
}
