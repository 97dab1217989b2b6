//! What is seen of a way, as data: gathered by shells on the hosts of both ends, judged elsewhere.
//!
//! What another host's agent gathers comes as JSON. It is bounded by the size of the answer, and only
//! looked at and printed, never acted upon.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A look, or why it failed, as a sentence.
pub(crate) type Seen<T> = Result<T, String>;

/// One end of a way: what its host's agent knows, and what its kernel holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// The host's node name.
    pub(crate) host: String,
    /// Of its agent.
    pub(crate) version: String,
    pub(crate) vtep: Ipv4Addr,
    /// UDP port of VXLAN.
    pub(crate) port: u16,
    pub(crate) vni: u32,
    /// Of the network on that host, in bytes.
    pub(crate) mtu: u16,
    /// The endpoint; none: that host has none of this id.
    pub(crate) held: Option<Held>,
    /// What the last pass over the kernel could not do for it, each as a sentence.
    pub(crate) troubles: Vec<String>,
    pub(crate) device: Seen<Option<Device>>,
    /// Inside the endpoint's namespace; none: it has none.
    pub(crate) inside: Option<Seen<Inside>>,
    /// The device's rows for the other end; none: there is no device.
    pub(crate) rows: Option<Seen<Rows>>,
    /// The way of VXLAN packets to the other end's host; none: it is the same host, or not known.
    pub(crate) outer: Option<Seen<Outer>>,
    /// What this host knows of the other end; none: nothing.
    pub(crate) other: Option<Other>,
}

/// An endpoint on its own host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: String,
    /// How far it has come, and whether that is all the way.
    pub(crate) phase: String,
    pub(crate) is_up: bool,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) ifname: Option<String>,
    pub(crate) container: Container,
}

/// Who lives in the endpoint's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Container {
    /// A namespace that somebody attached.
    Attached,
    /// A container that Docker runs, by its id.
    Docker(String),
    /// Docker runs no container with this endpoint.
    Gone,
    /// Docker has not told what runs.
    Unheard,
}

/// The network's vxlan device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    /// None: it is no vxlan device.
    pub(crate) vxlan: Option<Vxlan>,
}

/// Settings of a vxlan device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vxlan {
    pub(crate) vni: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<Ipv4Addr>,
    pub(crate) proxy: bool,
    pub(crate) learning: bool,
}

/// The endpoint's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inside {
    /// The endpoint's interface.
    pub(crate) interface: Option<Interface>,
    /// Its interfaces that have the other end's address.
    pub(crate) same_address: Vec<(String, IpNet)>,
    /// The way to the other end.
    pub(crate) route: Result<Route, String>,
    /// The container's own neighbour entry of the other end.
    pub(crate) neighbour: Option<Row>,
    /// Programs that run there: how many, and some of them as `NAME (PID)`.
    pub(crate) processes: usize,
    /// One of them.
    #[serde(default)]
    pub(crate) first_pid: Option<u32>,
    pub(crate) programs: Vec<String>,
}

/// An interface in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<String>,
    pub(crate) addresses: Vec<IpNet>,
    /// It hangs on the network's device.
    pub(crate) on_device: bool,
}

/// A route, looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// The address is one of the namespace's own.
    pub(crate) is_local: bool,
    /// The interface that it leaves by.
    pub(crate) device: String,
    pub(crate) gateway: Option<IpAddr>,
    /// The source of who chooses none.
    pub(crate) source: Option<IpAddr>,
    /// Of the interface, or of the route where that is smaller, in bytes.
    pub(crate) mtu: u32,
}

/// A row of a neighbour table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) mac: Option<String>,
    pub(crate) permanent: bool,
    /// The kernel would use it.
    pub(crate) valid: bool,
}

/// A device's rows for one address and its MAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub(crate) neighbour: Option<Row>,
    /// Where frames to the MAC go.
    pub(crate) fdb: Vec<Fdb>,
}

/// A row of the FDB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fdb {
    pub(crate) vtep: Option<Ipv4Addr>,
    /// It leads there, and has no port or VNI of its own.
    pub(crate) plain: bool,
}

/// The way of VXLAN packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outer {
    /// The interface that holds this host's VTEP.
    pub(crate) holder: Option<String>,
    /// That one is a loopback or a dummy: packets never leave by it.
    #[serde(default)]
    pub(crate) stub: bool,
    /// From the VTEP to the other host's; else the kernel's own words.
    pub(crate) route: Result<Route, String>,
    /// The interface that they leave by is up, and carries frames.
    pub(crate) up: bool,
    pub(crate) carrier: bool,
}

/// The other end, as a host knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Other {
    pub(crate) host: String,
    pub(crate) mac: String,
    /// Where its packets go; none: it is on the same host.
    pub(crate) vtep: Option<Ipv4Addr>,
    /// How its host is seen: `alive` and so on; none: the same host.
    pub(crate) state: Option<String>,
    pub(crate) absence: Absence,
    /// Seconds since its announcement was heard as it is.
    pub(crate) heard: Option<u64>,
    /// Other hosts that hold its address.
    pub(crate) rivals: Vec<String>,
}

/// See [`crate::core::Absence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Absence {
    None,
    Recent,
    Nameless,
    Silent,
}

impl From<crate::core::Absence> for Absence {
    fn from(absence: crate::core::Absence) -> Absence {
        match absence {
            crate::core::Absence::None => Absence::None,
            crate::core::Absence::Recent => Absence::Recent,
            crate::core::Absence::Nameless => Absence::Nameless,
            crate::core::Absence::Silent => Absence::Silent,
        }
    }
}
