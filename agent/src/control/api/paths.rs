//! What the ways between hosts are like.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Hosts that an agent pings at one time; further ones come after them.
pub const AT_ONCE: usize = 64;

/// Shortest time between two probes to one host, in milliseconds.
pub const INTERVAL_MIN_MS: u32 = 20;

/// Longest.
pub const INTERVAL_MAX_MS: u32 = 1000;

/// Asks an agent to ping other hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingHosts {
    /// Their names; empty: all other members that are alive or suspect.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Probes of each kind to each host, 1 to 20.
    pub count: u32,
    /// Between two of them, in milliseconds, 20 to 1000.
    pub interval_ms: u32,
    /// Bytes of a packet inside VXLAN, 20 to 9000; none: the smallest.
    #[serde(default)]
    pub size: Option<u16>,
}

/// The ways from one host to another, as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The host that was pinged.
    pub host: String,
    /// Where.
    pub address: Ipv4Addr,
    /// How the gossip sees it.
    pub state: ovl_gossip::MemberState,
    /// By UDP between the agents' gossip ports.
    pub underlay: Series,
    /// By frames through the VXLAN devices of both hosts, answered by the agent there.
    pub vxlan: Series,
}

/// What came of some probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Probes sent.
    pub sent: u32,
    /// Answers that came in time.
    pub received: u32,
    /// Shortest round trip, in microseconds.
    #[serde(default)]
    pub min_us: Option<u64>,
    /// Mean round trip, in microseconds.
    #[serde(default)]
    pub avg_us: Option<u64>,
    /// Longest round trip, in microseconds.
    #[serde(default)]
    pub max_us: Option<u64>,
    /// Why probes could not be sent.
    #[serde(default)]
    pub error: Option<String>,
}

impl Series {
    /// Takes in what came of one probe: the round trip in microseconds.
    pub fn add(&mut self, answer: Option<u64>) {
        self.sent += 1;
        let Some(us) = answer else {
            return;
        };
        let known = self.avg_us.unwrap_or_default() * u64::from(self.received);
        self.received += 1;
        self.avg_us = Some((known + us) / u64::from(self.received));
        self.min_us = Some(self.min_us.map_or(us, |least| least.min(us)));
        self.max_us = Some(self.max_us.map_or(us, |most| most.max(us)));
    }
}

/// Asks an agent what the way to a host is like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookAtPath {
    /// The host's name.
    pub to: String,
}

/// What the way from one host to another is like, in this direction: what was sent was new to the
/// other host's packet filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// TCP to the gossip port.
    pub tcp: Reach,
    /// UDP to the gossip port.
    pub udp: Reach,
    /// VXLAN with the smallest packet.
    pub vxlan: Reach,
    /// VXLAN with a packet of [`Path::mtu`] bytes; not tried where the smallest did not get through.
    pub vxlan_full: Reach,
    /// The largest packet inside VXLAN that this host's underlay takes, in bytes.
    pub mtu: u16,
    /// The largest that got through and back, where [`Path::mtu`] did not.
    #[serde(default)]
    pub largest: Option<u16>,
    /// By which the other host counted the small VXLAN probes (`GET /v1/probes/{nonce}`), in hexadecimal.
    pub nonce: String,
}

/// Whether something got through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Reach {
    /// It was answered.
    Answered {
        /// The round trip, in microseconds.
        rtt_us: u64,
    },
    /// The host said that nobody listens there.
    Refused,
    /// Nothing came back.
    Silent,
    /// It could not be sent, or was turned back on the way.
    Failed {
        /// Why.
        why: String,
    },
    /// It was not tried.
    Untried {
        /// Why.
        why: String,
    },
}

impl Reach {
    /// It got through.
    pub fn is_answered(&self) -> bool {
        matches!(self, Reach::Answered { .. })
    }
}

/// Probes of one series that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// How many.
    pub seen: u32,
}

/// What a host's clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Microseconds since 1970 (UTC), as the host has it.
    pub unix_us: u64,
}
