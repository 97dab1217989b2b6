//! The way from one container to another: `POST /v1/trace`, and `ovlctl trace`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Asks to follow a way. The agent sends packets for it, unless `probe` is false.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceWay {
    /// A container's name, a name with its network (`web.blue`), an address, or an id.
    pub from: String,
    /// The same; an address may be one that nobody holds.
    pub to: String,
    /// The network, where both are on several.
    #[serde(default)]
    pub network: Option<String>,
    /// Length of the UDP probe in bytes, with its IP header; none: the network's full MTU.
    #[serde(default)]
    pub size: Option<u16>,
    /// Send probes.
    #[serde(default = "yes")]
    pub probe: bool,
    /// Another agent asks, as it knows that `from` is here: it is not passed on again.
    #[serde(default)]
    pub relayed: bool,
}

fn yes() -> bool {
    true
}

/// A way, hop by hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Where it begins.
    pub from: TraceEnd,
    /// Where it leads.
    pub to: TraceEnd,
    /// The network that both are on; none: they are on none together.
    pub network: Option<TraceNetwork>,
    /// `broken` if a hop is; else `ok`, unless it could not be told whether packets arrive.
    pub verdict: Verdict,
    /// The first broken hop.
    pub broken: Option<String>,
    /// What it comes to, as one sentence.
    pub conclusion: String,
    /// What mends the first broken hop.
    pub fix: Option<String>,
    /// In the order in which a packet and its answer meet them.
    pub hops: Vec<Hop>,
    /// What was sent, and where it was seen; empty: nothing was sent.
    pub probes: Vec<Probe>,
    /// Why nothing was sent.
    pub unprobed: Option<String>,
    /// Points of the way that could not be watched, each with why.
    pub unwatched: Vec<String>,
}

/// One end of a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEnd {
    /// Its own name; what was asked for, where nothing is known of it.
    pub name: String,
    /// The host that it is on.
    pub host: Option<String>,
    /// The address of the way.
    pub address: Option<IpAddr>,
    /// Its MAC.
    pub mac: Option<String>,
}

/// The network of a way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceNetwork {
    /// Its name.
    pub name: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Its MTU on the host of `from`, in bytes.
    pub mtu: u16,
}

/// One place that a packet or its answer passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Its id: `from.interface`, `fdb`, …; docs/trace.md has all.
    pub hop: String,
    /// The host that it is on.
    pub host: String,
    /// How it is.
    pub verdict: Verdict,
    /// What the kernel does there; where it is broken: what is wrong, and why.
    pub says: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// The command that mends it, or what to do.
    pub fix: Option<String>,
}

/// How a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be looked at, or follows from another hop.
    Unknown,
    /// Packets end here.
    Broken,
}

/// One kind of probe, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// `arp` (over IPv6: neighbour discovery), `echo` or `udp`.
    pub probe: ProbeKind,
    /// Length in bytes: of the packet with its IP header; of ARP: of the frame.
    pub bytes: usize,
    /// How many were sent; they are repeated until one is answered.
    pub sent: u16,
    /// How many were answered.
    pub answered: u16,
    /// What the first answer was; why nothing could be sent.
    pub answer: Option<String>,
    /// From the first that was answered to its answer, as FROM's interface saw them: microseconds.
    pub rtt_us: Option<u64>,
    /// Where it was seen, in the order of its way.
    pub points: Vec<Point>,
}

/// The kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// Who has the address?
    Arp,
    /// An ICMP echo.
    Echo,
    /// UDP to a port that is likely closed, with "don't fragment".
    Udp,
}

/// A point of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// On which host.
    pub host: String,
    /// In which container; none: in the host's own namespace.
    pub container: Option<String>,
    /// At which interface; empty: it was not watched.
    pub interface: String,
    /// `out` or `in`, as the interface sees it.
    pub direction: Direction,
    /// `there`: the probe; `back`: its answer.
    pub way: Way,
    /// How many were seen; none: nobody watched.
    pub seen: Option<u16>,
}

/// As an interface sees a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It leaves.
    Out,
    /// It arrives.
    In,
}

/// Of a probe and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From FROM to TO.
    There,
    /// From TO to FROM.
    Back,
}
