//! The settings for people: `--print-config`, and what is allowed but likely not meant.
use super::key::Key;
use super::problem::Origin;
use super::{Advertise, AnswerPeers, Config, Origins, host};
use crate::docker::Scope;
use ovl_ipam::StoreUrl;

/// One line for each key: its name, its value, and where that came from. Holds no secrets.
pub fn table(config: &Config, origins: &Origins) -> String {
    let mut rows = vec![["KEY", "VALUE", "SOURCE"].map(str::to_owned)];
    rows.extend(
        Key::ALL
            .into_iter()
            .map(|key| [key.to_string(), or_dash(config.text(key)), origins.of(key).to_string()]),
    );
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let (first, second) = (width(0), width(1));
    rows.iter()
        .map(|[key, value, from]| format!("{key:first$}  {value:second$}  {from}\n"))
        .collect()
}

/// A column must not be empty, or scripts lose count.
fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// The answer to `--check-config`: what [`warnings`] has, and that nothing is wrong.
pub(super) fn fine(config: &Config, origins: &Origins) -> String {
    let warnings = warnings(config, origins);
    let lines = warnings.into_iter().map(|warning| format!("warning: {warning}\n"));
    lines.chain(["configuration is fine\n".to_owned()]).collect()
}

/// What is allowed but likely not meant, each as one sentence for the log and for the status.
/// Looks at who may write the files.
pub fn warnings(config: &Config, origins: &Origins) -> Vec<String> {
    let mut warnings = Vec::new();
    let default_store = *origins.of(Key::Store) == Origin::Default;
    if default_store && !config.join.is_empty() {
        warnings.push(format!(
            "this host joins others but keeps a registry of its own, {}: hosts with different \
             registries give out the same addresses; set --store to the one that all share",
            config.store
        ));
    }
    let file = origins.file.as_deref();
    warnings.extend(file.and_then(|path| host::writable_by_others("the file", path)));
    if let StoreUrl::Consul { ca_file: Some(path), .. } = &config.store {
        warnings.extend(host::writable_by_others("the CA file", path));
    }
    warnings
}

impl Config {
    /// The value of a key as the file could have it. Holds no secrets.
    pub(crate) fn text(&self, key: Key) -> String {
        match key {
            Key::NodeName => self.node_name.to_string(),
            Key::Advertise => match &self.advertise {
                Advertise::Address(address) => address.to_string(),
                Advertise::Interface(name) => name.clone(),
                Advertise::Auto => "auto".to_owned(),
            },
            Key::Join => self.join.join(","),
            Key::Store => self.store.to_string(),
            Key::GossipPort => self.gossip_port.to_string(),
            Key::VxlanPort => self.vxlan_port.to_string(),
            Key::VniRange => self.vni_range.to_string(),
            Key::DefaultPool => self.default_pool.to_string(),
            Key::StateDir => self.state_dir.display().to_string(),
            Key::ControlSocket => self.control_socket.display().to_string(),
            Key::ControlGroup => {
                self.control_group.as_ref().map(|group| group.name.clone()).unwrap_or_default()
            }
            Key::AnswerPeers => match self.answer_peers {
                AnswerPeers::None => "none".to_owned(),
                AnswerPeers::Read => "read".to_owned(),
                AnswerPeers::All => "all".to_owned(),
            },
            Key::MetricsAddress => {
                self.metrics_address.map(|address| address.to_string()).unwrap_or_default()
            }
            Key::PluginSocket => self.plugin_socket.display().to_string(),
            Key::DockerHost => self.docker_host.clone(),
            Key::DockerScope => match self.docker_scope {
                None => "auto".to_owned(),
                Some(Scope::Local) => "local".to_owned(),
                Some(Scope::Global) => "global".to_owned(),
            },
            Key::ResolvConf => self.resolv_conf.display().to_string(),
            Key::Log => self.log.clone(),
        }
    }
}
