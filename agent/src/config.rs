//! The agent's settings: read from a file, the environment and flags, parsed once.
//!
//! Each [`Key`] may be set in three places, the later ones over the earlier ones: the TOML file
//! (`gossip-port = 7946`), an `OVL_*` variable (`OVL_GOSSIP_PORT`) and a flag
//! (`--gossip-port`). Every wrong key and every wrong value of all three is reported at once,
//! also when a later source would have hidden it, so that one start shows all there is to mend.
//!
//! [`parse`] is pure: [`Sources`] in, settings and where each came from out; what it asks of the
//! host stands in them. [`start()`] adds the command line and the reading of the file. Nothing is
//! bound or created in here, and nobody is contacted.
use crate::docker::Scope;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::Ipv4Net;
use ovl_gossip::NodeName;
use ovl_ipam::{StoreUrl, VniRange};

mod about;
mod draft;
mod env;
mod file;
mod host;
mod key;
mod nearest;
mod problem;
pub mod process;
mod show;
mod start;
mod value;

#[cfg(test)]
mod tests;

pub use about::About;
pub use file::FileText;
pub use host::Host;
pub use key::Key;
pub(crate) use nearest::distance;
pub use problem::{Origin, Problem};
pub use show::{table, warnings};
pub use start::{DEFAULT_FILE, EXIT_USAGE, Start, start};

/// The settings of one agent, all of them valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This host's name in the cluster; no other host may have it.
    pub node_name: NodeName,
    /// What other hosts send gossip and VXLAN to.
    pub advertise: Advertise,
    /// Gossip addresses to join by, each `host:port` (the port is filled in), without repeats.
    pub join: Vec<String>,
    /// The registry that all hosts of the cluster share.
    pub store: StoreUrl,
    /// UDP and TCP port of the gossip.
    pub gossip_port: u16,
    /// UDP port of VXLAN; the same on every host.
    pub vxlan_port: u16,
    /// VNIs that new networks get.
    pub vni_range: VniRange,
    /// Where the subnets of networks made without one come from.
    pub default_pool: Ipv4Net,
    /// What the agent remembers across restarts; absolute.
    pub state_dir: PathBuf,
    /// Where `ovlctl` reaches this agent; absolute, at most 107 bytes.
    pub control_socket: PathBuf,
    /// Who may read over the control socket, besides root.
    pub control_group: Option<Group>,
    /// What agents of other hosts may ask of this one.
    pub answer_peers: AnswerPeers,
    /// Where metrics are served; none: nowhere.
    pub metrics_address: Option<SocketAddr>,
    /// Where Docker finds the plugin; its file name is the driver's name. Absolute, at most 107
    /// bytes.
    pub plugin_socket: PathBuf,
    /// Docker's engine, `unix:///path`.
    pub docker_host: String,
    /// The scope that Docker is told for our networks; `None`: what its own configuration asks for.
    pub docker_scope: Option<Scope>,
    /// Resolvers for names that are not of an overlay network, in resolv.conf(5) form.
    pub resolv_conf: PathBuf,
    /// Log filter: levels and `target=level`, comma-separated.
    pub log: String,
}

/// What agents of other hosts may ask of this one, from nothing to everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerPeers {
    /// Nothing.
    None,
    /// How it is, what it knows, what the ways between hosts and endpoints are like, and repairs of its
    /// own kernel state.
    Read,
    /// Also captures.
    All,
}

/// A group of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// As configured: a name or a number.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

/// What other hosts send gossip and VXLAN to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// This address; it must be on an interface of this host.
    Address(Ipv4Addr),
    /// The first IPv4 address of this interface (1 to 15 bytes).
    Interface(String),
    /// The address of the interface with the default route.
    Auto,
}

/// Where each setting of a [`Config`] came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    of: BTreeMap<Key, Origin>,
    /// The configuration file, if one was read by [`start()`].
    file: Option<PathBuf>,
}

impl Origins {
    /// Where this setting came from.
    pub fn of(&self, key: Key) -> &Origin {
        self.of.get(&key).unwrap_or(&Origin::Default)
    }
}

/// All that settings are read from, in rising order of precedence.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The host's name: the node name when none is set. None: could not be read.
    pub host_name: Option<String>,
    /// The configuration file. None: there is none.
    pub file: Option<FileText>,
    /// The whole environment; variables that do not begin with `OVL_` are left alone.
    pub env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Flags in the order given; of a key that is given twice the last one counts.
    pub flags: Vec<(Key, String)>,
    /// The host that they are for.
    pub host: Host,
}

/// One value for one key, not parsed yet.
struct Setting {
    key: Key,
    text: String,
    origin: Origin,
}

/// Parses and merges all sources.
///
/// # Errors
/// Every wrong key and value of every source, sources in order of precedence. Never empty.
pub fn parse(sources: &Sources) -> Result<(Config, Origins), Vec<Problem>> {
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    if let Some(file) = &sources.file {
        settings.extend(file::settings(file, &mut problems));
    }
    settings.extend(env::settings(&sources.env, &mut problems));
    settings.extend(sources.flags.iter().map(|(key, text)| Setting {
        key: *key,
        text: text.clone(),
        origin: Origin::Flag(format!("--{}", key.name())),
    }));
    draft::build(settings, sources.host_name.as_deref(), sources.host, problems)
}
