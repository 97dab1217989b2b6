//! The keys, which the file, the variables and the flags all come from, and their defaults.
use std::fmt;

/// A setting's key, in the order in which `--print-config` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// This host's name in the cluster.
    NodeName,
    /// What other hosts send gossip and VXLAN to.
    Advertise,
    /// Hosts to join by.
    Join,
    /// The shared registry.
    Store,
    /// UDP and TCP port of the gossip.
    GossipPort,
    /// UDP port of VXLAN.
    VxlanPort,
    /// VNIs for new networks.
    VniRange,
    /// Where automatic subnets come from.
    DefaultPool,
    /// What is kept across restarts.
    StateDir,
    /// Where `ovlctl` reaches the agent.
    ControlSocket,
    /// Who may read over the control socket.
    ControlGroup,
    /// What agents of other hosts may ask of this one.
    AnswerPeers,
    /// Where metrics are served.
    MetricsAddress,
    /// Where Docker finds the plugin.
    PluginSocket,
    /// Docker's engine.
    DockerHost,
    /// Who shows a network to other hosts' Docker.
    DockerScope,
    /// Resolvers for all other names.
    ResolvConf,
    /// Log filter.
    Log,
}

impl Key {
    /// Every key.
    pub const ALL: [Key; 18] = [
        Key::NodeName,
        Key::Advertise,
        Key::Join,
        Key::Store,
        Key::GossipPort,
        Key::VxlanPort,
        Key::VniRange,
        Key::DefaultPool,
        Key::StateDir,
        Key::ControlSocket,
        Key::ControlGroup,
        Key::AnswerPeers,
        Key::MetricsAddress,
        Key::PluginSocket,
        Key::DockerHost,
        Key::DockerScope,
        Key::ResolvConf,
        Key::Log,
    ];

    /// Its name in the file; with `--` before it, the flag.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// Its environment variable, `OVL_GOSSIP_PORT`.
    pub fn variable(self) -> String {
        format!("OVL_{}", self.name().to_ascii_uppercase().replace('-', "_"))
    }

    /// The key of this name, in the file's spelling.
    pub(crate) fn from_name(name: &str) -> Option<Key> {
        Key::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The default in words, for people.
    pub fn default_in_words(self) -> String {
        match self {
            Key::NodeName => "the host's name".to_owned(),
            Key::Join => "nobody".to_owned(),
            Key::ControlGroup => "none".to_owned(),
            Key::MetricsAddress => "none, metrics are off".to_owned(),
            Key::Store => format!("sqlite://STATE-DIR/{}", super::draft::REGISTRY_FILE),
            Key::Advertise
            | Key::GossipPort
            | Key::VxlanPort
            | Key::VniRange
            | Key::DefaultPool
            | Key::StateDir
            | Key::ControlSocket
            | Key::AnswerPeers
            | Key::PluginSocket
            | Key::DockerHost
            | Key::DockerScope
            | Key::ResolvConf
            | Key::Log => self.default_text().unwrap_or_default(),
        }
    }

    /// The default as it could be written in the file. None: it depends on the host (node name)
    /// or on another setting (store).
    pub fn default_text(self) -> Option<String> {
        let text = match self {
            Key::NodeName | Key::Store => return None,
            Key::Advertise => "auto",
            Key::Join | Key::ControlGroup | Key::MetricsAddress => "",
            Key::GossipPort => "7946",
            Key::VxlanPort => "4789",
            Key::VniRange => return Some(ovl_ipam::Defaults::default().vnis.to_string()),
            Key::DefaultPool => return Some(ovl_ipam::Defaults::default().pool.to_string()),
            Key::StateDir => "/var/lib/ovl",
            Key::ControlSocket => "/run/ovl/ovl.sock",
            Key::AnswerPeers => "read",
            Key::PluginSocket => "/run/docker/plugins/ovl.sock",
            Key::DockerHost => "unix:///var/run/docker.sock",
            Key::DockerScope => "auto",
            Key::ResolvConf => "/etc/resolv.conf",
            Key::Log => "info",
        };
        Some(text.to_owned())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
