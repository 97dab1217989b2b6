//! Settings on their way to a [`Config`]: each parsed by itself, then completed with defaults,
//! then checked against each other.
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::Ipv4Net;
use ovl_gossip::NodeName;
use ovl_ipam::{StoreUrl, VniRange};

use super::key::Key;
use super::problem::{Origin, Problem};
use super::{Advertise, AnswerPeers, Config, Group, Host, Origins, Setting, value};
use crate::docker::Scope;

/// File of the default store, in the state directory.
pub(super) const REGISTRY_FILE: &str = "ovl.db";

/// Parses settings given in rising order of precedence, and fills in the defaults.
pub(super) fn build(
    settings: Vec<Setting>,
    host_name: Option<&str>,
    host: Host,
    mut problems: Vec<Problem>,
) -> Result<(Config, Origins), Vec<Problem>> {
    let mut draft = Draft { host, ..Draft::default() };
    let mut origins = Origins::default();
    for Setting { key, text, origin } in settings {
        if let Err(why) = draft.set(key, &text) {
            problems.push(unfit(key, &text, origin.clone(), &why));
        }
        origins.of.insert(key, origin);
    }
    draft.set_defaults(host_name, &mut origins, &mut problems);
    draft.check(&origins, &mut problems);
    match draft.finish() {
        Some(config) if problems.is_empty() => Ok((config, origins)),
        Some(_) | None => Err(problems),
    }
}

/// None: not set, or only wrongly, which then is among the problems.
#[derive(Default)]
struct Draft {
    host: Host,
    node_name: Option<NodeName>,
    advertise: Option<Advertise>,
    join: Option<Vec<String>>,
    store: Option<StoreUrl>,
    gossip_port: Option<u16>,
    vxlan_port: Option<u16>,
    vni_range: Option<VniRange>,
    default_pool: Option<Ipv4Net>,
    state_dir: Option<PathBuf>,
    control_socket: Option<PathBuf>,
    control_group: Option<Option<Group>>,
    answer_peers: Option<AnswerPeers>,
    metrics_address: Option<Option<SocketAddr>>,
    plugin_socket: Option<PathBuf>,
    docker_host: Option<String>,
    docker_scope: Option<Option<Scope>>,
    resolv_conf: Option<PathBuf>,
    log: Option<String>,
}

impl Draft {
    /// Parses `text` for `key`; the error adds to what is expected of this key.
    fn set(&mut self, key: Key, text: &str) -> Result<(), String> {
        match key {
            Key::NodeName => self.node_name = Some(plain(text)?),
            Key::Advertise => self.advertise = Some(value::advertise(text)?),
            Key::Join => self.join = Some(value::join(text)?),
            Key::Store => self.store = Some(parsed(text)?),
            Key::GossipPort => self.gossip_port = Some(value::port(text)?),
            Key::VxlanPort => self.vxlan_port = Some(value::port(text)?),
            Key::VniRange => self.vni_range = Some(value::vni_range(text)?),
            Key::DefaultPool => self.default_pool = Some(value::pool(text)?),
            Key::StateDir => self.state_dir = Some(value::path(text)?),
            Key::ControlSocket => self.control_socket = Some(value::socket_path(text)?),
            Key::ControlGroup => self.control_group = Some(value::group(text, self.host.group)?),
            Key::AnswerPeers => self.answer_peers = Some(value::answer_peers(text)?),
            Key::MetricsAddress => self.metrics_address = Some(value::metrics_address(text)?),
            Key::PluginSocket => self.plugin_socket = Some(value::socket_path(text)?),
            Key::DockerHost => self.docker_host = Some(value::docker_host(text)?),
            Key::DockerScope => self.docker_scope = Some(value::docker_scope(text)?),
            Key::ResolvConf => self.resolv_conf = Some(value::path(text)?),
            Key::Log => self.log = Some(value::log(text)?),
        }
        Ok(())
    }

    /// Sets what nobody has set. A key that was set wrongly is left alone.
    fn set_defaults(
        &mut self,
        host_name: Option<&str>,
        origins: &mut Origins,
        problems: &mut Vec<Problem>,
    ) {
        let unset: Vec<Key> =
            Key::ALL.into_iter().filter(|key| !origins.of.contains_key(key)).collect();
        for key in &unset {
            origins.of.insert(*key, Origin::Default);
            if let Some(text) = key.default_text()
                && let Err(why) = self.set(*key, &text)
            {
                problems.push(unfit(*key, &text, Origin::Default, &why));
            }
        }
        if unset.contains(&Key::NodeName) {
            problems.extend(self.name_after_host(host_name).err());
        }
        if unset.contains(&Key::Store) {
            let file = self.state_dir.as_ref().map(|dir| dir.join(REGISTRY_FILE));
            self.store = file.map(StoreUrl::Sqlite);
        }
    }

    fn name_after_host(&mut self, host_name: Option<&str>) -> Result<(), Problem> {
        let advice = match host_name.map(|name| self.set(Key::NodeName, name)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(_)) => "the host's name cannot be a node name",
            None => "the host's name cannot be read",
        };
        Err(Problem {
            origin: Origin::Default,
            key: Some(Key::NodeName.name().to_owned()),
            value: host_name.map(str::to_owned),
            advice: format!("{advice}; set --node-name to {}", Key::NodeName.about().expected),
        })
    }

    /// What is right by itself, but not together.
    fn check(&self, origins: &Origins, problems: &mut Vec<Problem>) {
        let ports = (self.gossip_port, self.vxlan_port);
        if let (Some(gossip), Some(vxlan)) = ports
            && gossip == vxlan
        {
            problems.push(clash(origins, Key::VxlanPort, Key::GossipPort, &gossip.to_string()));
        }
        let metrics = self.metrics_address.flatten();
        if let (Some(metrics), Some(gossip)) = (metrics, self.gossip_port)
            && metrics.port() == gossip
        {
            problems.push(clash(
                origins,
                Key::MetricsAddress,
                Key::GossipPort,
                &metrics.to_string(),
            ));
        }
        let sockets = (&self.control_socket, &self.plugin_socket);
        if let (Some(control), Some(plugin)) = sockets
            && control == plugin
        {
            let path = control.display().to_string();
            problems.push(clash(origins, Key::PluginSocket, Key::ControlSocket, &path));
        }
        if let Some(advertise) = &self.advertise
            && let Some(advice) = (self.host.advertise)(advertise)
        {
            problems.push(Problem {
                origin: origins.of(Key::Advertise).clone(),
                key: Some(Key::Advertise.name().to_owned()),
                value: None,
                advice,
            });
        }
        if let Some(store) = &self.store {
            let problem = |advice| Problem {
                origin: origins.of(Key::Store).clone(),
                key: Some(Key::Store.name().to_owned()),
                value: Some(store.to_string()),
                advice,
            };
            problems.extend((self.host.store_files)(store).into_iter().map(problem));
        }
    }

    /// None: something is missing, and among the problems.
    fn finish(self) -> Option<Config> {
        let gossip_port = self.gossip_port?;
        Some(Config {
            node_name: self.node_name?,
            advertise: self.advertise?,
            join: value::with_port(self.join?, gossip_port),
            store: self.store?,
            gossip_port,
            vxlan_port: self.vxlan_port?,
            vni_range: self.vni_range?,
            default_pool: self.default_pool?,
            state_dir: self.state_dir?,
            control_socket: self.control_socket?,
            control_group: self.control_group?,
            answer_peers: self.answer_peers?,
            metrics_address: self.metrics_address?,
            plugin_socket: self.plugin_socket?,
            docker_host: self.docker_host?,
            docker_scope: self.docker_scope?,
            resolv_conf: self.resolv_conf?,
            log: self.log?,
        })
    }
}

/// The type's own error says more than the key's words do.
fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// The key's words say all.
fn plain<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| String::new())
}

fn unfit(key: Key, text: &str, origin: Origin, why: &str) -> Problem {
    let expected = key.about().expected;
    let text = value::without_secrets(text);
    let why = value::without_secrets(why);
    let advice = if why.is_empty() {
        format!("expected {expected}")
    } else {
        format!("expected {expected}: {why}")
    };
    Problem { origin, key: Some(key.name().to_owned()), value: Some(text), advice }
}

fn clash(origins: &Origins, key: Key, other: Key, text: &str) -> Problem {
    let origin = origins.of(key).clone();
    Problem {
        origin,
        key: Some(key.name().to_owned()),
        value: Some(text.to_owned()),
        advice: format!("{other} is the same; give each its own"),
    }
}
