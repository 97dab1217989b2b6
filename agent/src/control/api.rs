//! What travels over the control socket, shared with `ovlctl`.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/reload` | | [`Reloaded`] |
//! | `POST /v1/leave` | [`Leave`] | [`Left`] |
//! | `GET /v1/members` | | `[`[`Member`]`]` |
//! | `GET /v1/networks` | | `[`[`Network`]`]` |
//! | `POST /v1/networks` | [`CreateNetwork`] | [`NetworkDetail`] |
//! | `GET /v1/networks/{name}` | | [`NetworkDetail`] |
//! | `DELETE /v1/networks/{name}` | | `{}` |
//! | `GET /v1/endpoints` | `?network=` | `[`[`Endpoint`]`]` |
//! | `POST /v1/endpoints` | [`AttachEndpoint`] | [`Endpoint`] |
//! | `DELETE /v1/endpoints/{network}/{name}` | | `{}` |
//! | `GET /v1/resolve` | `?name=…&network=…` | `[address]` |
//! | `GET /v1/resolve/explain` | `?name=…&network=…&from=…` | [`explain::Explanation`] |
//! | `GET /v1/events` | `?after=N&wait=SECONDS&limit=N&since=SECONDS` | [`events::Events`] |
//! | `GET /v1/metrics` | | Prometheus' text format |
//! | `GET /v1/audit` | | [`audit::Audit`] |
//! | `POST /v1/audit` | | [`audit::Audit`], with its `repair` |
//! | `GET /v1/doctor` | `?only=check,…` | [`doctor::Examination`] |
//! | `POST /v1/captures` | [`captures::StartCapture`] | [`captures::Capture`] |
//! | `POST /v1/captures/{id}/read` | `?after=…&wait=…` ([`captures::ReadCapture`]) | [`captures::Batch`] |
//! | `DELETE /v1/captures/{id}` | | `{}` |
//! | `POST /v1/ping` | [`paths::PingHosts`] | `[`[`paths::Ping`]`]` |
//! | `POST /v1/paths` | [`paths::LookAtPath`] | [`paths::Path`] |
//! | `GET /v1/probes/{nonce}` | | [`paths::Seen`] |
//! | `GET /v1/clock` | | [`paths::Clock`] |
//! | `GET /v1/counters` | | [`counters::Counters`] |
//! | `POST /v1/trace` | [`trace::TraceWay`] | [`trace::Trace`] |
//! | `GET /v1/trace/end`, `POST /v1/watch`, `POST /v1/watch/{id}` | | what agents ask of each other for a trace |
//!
//! With the header `ovl-host: NAME` a request is handed to the agent of that host, and `ovl-within:
//! SECONDS` says how long its answer is waited for (10 s); what other hosts answer at all stands in
//! `control/peers.rs`, and what they do not is a 501.
//!
//! Everything else than 200 carries an [`Error`]: 400 (the request is wrong), 403 (this user may
//! not, or may only GET), 404 (no such thing), 409 (taken, overlapping, in use), 413 (the answer is too large
//! to be handed on from another host), 503 (the store or the kernel did not do it in time).
pub mod audit;
pub mod captures;
pub mod counters;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod paths;
pub mod trace;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Percent-encoded, for a segment of a path or a value of a query; what never needs it stays (RFC 3986,
/// sections 2.1 and 2.3).
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Into a string: this cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Why a request was not carried out, as one sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What happened, to what, why, and what to do next.
    pub error: String,
}

/// What came of reading the configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Settings that differ from those in force before; empty: none.
    pub changes: Vec<Change>,
    /// What is allowed, but likely not meant.
    pub warnings: Vec<String>,
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// Its value in force until now, as the file could have it.
    pub from: String,
    /// Its value in the configuration now.
    pub to: String,
    /// It is in force now; false: after a restart.
    pub in_force: bool,
}

/// Asks the agent to take its host out of the cluster, and to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// Also when endpoints run here (they lose their network), and when the store does not answer.
    #[serde(default)]
    pub force: bool,
}

/// This host is not in the cluster any more; the agent ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Addresses that were still held by this host, and were given back.
    pub addresses: usize,
    /// What is left behind all the same, each as a sentence.
    pub notes: Vec<String>,
    /// Where the agent kept its state.
    pub state_dir: PathBuf,
}

/// A host of the cluster, as this agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The host's node name.
    pub name: String,
    /// The address it advertises: of its gossip, and of its VTEP.
    pub address: Ipv4Addr,
    /// `alive`, `suspect`, `down` or `left`.
    pub state: ovl_gossip::MemberState,
}

/// An overlay network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, unique in the cluster.
    pub name: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Where its addresses come from.
    pub subnet: Ipv4Net,
    /// Where its IPv6 addresses come from, if it has any.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// Without a way out.
    #[serde(default)]
    pub internal: bool,
    /// Largest packet inside the overlay, in bytes.
    pub mtu: u16,
}

/// An overlay network, with all that this host knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDetail {
    /// Its name, VNI, subnet and MTU.
    #[serde(flatten)]
    pub network: Network,
    /// Reserved for a way out; never given to an endpoint.
    pub gateway: Ipv4Addr,
    /// The VXLAN device of this host, when an endpoint here uses the network.
    pub device: Option<String>,
    /// Its endpoints on every host.
    pub endpoints: Vec<Endpoint>,
}

/// Asks for a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateNetwork {
    /// 1 to 63 characters: letters, digits, `_`, `.`, `-`.
    pub name: String,
    /// None: a free one is picked.
    #[serde(default)]
    pub subnet: Option<Ipv4Net>,
    /// None: the subnet's first address.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 addresses, too.
    #[serde(default)]
    pub ipv6: bool,
    /// None, with `ipv6`: a free one is picked.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// Containers of Docker get no way out and publish no ports.
    #[serde(default)]
    pub internal: bool,
    /// None: the underlay's MTU less the 50 bytes of VXLAN.
    #[serde(default)]
    pub mtu: Option<u16>,
}

/// An endpoint, on whichever host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// Its first name.
    pub name: String,
    /// Every name it answers to, the first one included.
    pub names: Vec<String>,
    /// Its address on the network.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address, if the network has them.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Its MAC address, `02:42:0a:58:00:02`.
    pub mac: String,
    /// The node name of its host.
    pub host: String,
}

/// Asks for an endpoint in a namespace of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachEndpoint {
    /// An existing network's name.
    pub network: String,
    /// A name that no other endpoint of the network has.
    pub name: String,
    /// More names it answers to.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The network namespace, as the agent sees the path (`/run/netns/x`, `/proc/1234/ns/net`).
    pub netns: PathBuf,
    /// None: the next free one.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Name of the interface inside; None: the first free `ethN`.
    #[serde(default)]
    pub ifname: Option<String>,
}

/// How this agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `major.minor.patch` of the agent.
    pub version: String,
    /// This host's node name.
    pub node: String,
    /// The address that it advertises.
    pub address: Ipv4Addr,
    /// Seconds since the agent started.
    pub uptime_seconds: u64,
    /// The store, and why it does not answer, if so.
    pub store: StoreStatus,
    /// Members by state.
    pub members: MemberCounts,
    /// Networks in the cluster.
    pub networks: usize,
    /// Endpoints on this host, and on all.
    pub endpoints: EndpointCounts,
    /// Kernel state against what the agent wants.
    pub dataplane: DataplaneStatus,
    /// Docker's engine: `connected`, or why not.
    pub docker: String,
    /// What is wrong now, each as a sentence with what to do. Empty: nothing known.
    pub problems: Vec<String>,
}

/// The store as seen by the last use of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Without secrets.
    pub url: String,
    /// None: it answers.
    pub error: Option<String>,
}

/// How many members are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberCounts {
    /// Answering.
    pub alive: usize,
    /// Not answering, not yet given up.
    pub suspect: usize,
    /// Given up.
    pub down: usize,
    /// Stopped in order.
    pub left: usize,
}

/// How many endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCounts {
    /// On this host.
    pub local: usize,
    /// On every host, this one included.
    pub total: usize,
    /// Whose agent is away while their host still answers: reachable, but not named.
    pub held: usize,
}

/// The kernel's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataplaneStatus {
    /// Things that audits found changed by others, and put right, since the start.
    pub repaired: u64,
    /// What could not be put right.
    pub errors: Vec<String>,
}
