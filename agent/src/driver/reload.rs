//! Reads the configuration again while the agent runs, and takes what can be taken.
//!
//! A configuration with mistakes changes nothing. What a running agent cannot take (addresses, ports,
//! names, the store) is told as waiting for a restart, also in its status.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::oneshot;

use super::{Driver, boot};
use crate::config::{Config, Key, Origins, warnings};
use crate::control::api::{Change, Reloaded};
use crate::core::Event;
use crate::log;

/// Reads all settings afresh; the error is a sentence that names every mistake. Called on a thread of its
/// own: files and groups may be on the network.
pub type Read = Arc<dyn Fn() -> Result<(Config, Origins), String> + Send + Sync>;

/// Settings that were read, and who asked for it, if anybody did.
pub(super) struct Reread {
    settings: Result<(Config, Origins), String>,
    asker: Option<oneshot::Sender<Answer>>,
}

/// What came of it; the error names the mistakes.
pub(super) type Answer = Result<Reloaded, String>;

/// The configuration in force, and how to read it again.
pub(super) struct Settings {
    pub(super) in_force: Config,
    /// The same, for whoever looks at it.
    pub(super) shared: Arc<RwLock<Arc<Config>>>,
    pub(super) read: Read,
    pub(super) log: log::Handle,
    /// What status says of them.
    pub(super) shown: Vec<String>,
}

impl Driver {
    /// Has the settings read; they come back to [`Driver::reloaded`].
    pub(super) fn reread(&self, asker: Option<oneshot::Sender<Answer>>) {
        let (read, rereads) = (self.settings.read.clone(), self.rereads_in.clone());
        tokio::task::spawn_blocking(move || {
            let reread = Reread { settings: read(), asker };
            // The agent may be ending.
            let _ = rereads.blocking_send(reread);
        });
    }

    /// Takes what can be taken, and tells who asked for it. The store is asked whether it takes the token
    /// that is in its file now; that is waited for elsewhere.
    pub(super) async fn reloaded(&mut self, reread: Reread) {
        let Reread { settings, asker } = reread;
        let mut answer = match settings {
            Ok((new, origins)) => Ok(self.take_all(&new, &origins).await),
            Err(mistakes) => {
                tracing::error!("{mistakes}");
                // Else they were found by the next restart, which fails.
                let shown = self.settings.shown.iter().cloned().chain([mistakes.clone()]).collect();
                let changes = Err(mistakes.clone());
                self.feed(Event::Reconfigured { warnings: shown, changes });
                Err(mistakes)
            }
        };
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Ok(reloaded) = &mut answer
                && let Err(why) = store.renew().await
            {
                let warning =
                    format!("the store's former token and certificates stay in use: {why}");
                tracing::warn!("{warning}");
                reloaded.warnings.push(warning);
            }
            if let Some(asker) = asker {
                // Who went away does not want to know.
                let _ = asker.send(answer);
            }
        });
    }

    async fn take_all(&mut self, new: &Config, origins: &Origins) -> Reloaded {
        let mut changes = Vec::new();
        for key in Key::ALL {
            let (from, to) = (self.settings.in_force.text(key), new.text(key));
            if from != to {
                let in_force = self.take(key, new).await;
                tracing::info!(key = key.name(), from, to, in_force, "setting changed");
                changes.push(Change { key: key.name().to_owned(), from, to, in_force });
            }
        }
        *self.settings.shared.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(self.settings.in_force.clone());
        let warnings = warnings(new, origins);
        let waiting = changes.iter().filter(|change| !change.in_force).map(wait);
        let shown: Vec<String> = warnings.iter().cloned().chain(waiting).collect();
        self.settings.shown.clone_from(&shown);
        let told = Ok(changes.iter().map(told).collect());
        self.feed(Event::Reconfigured { warnings: shown, changes: told });
        Reloaded { changes, warnings }
    }

    /// Whether the setting is in force now.
    async fn take(&mut self, key: Key, new: &Config) -> bool {
        let Settings { in_force, log, .. } = &mut self.settings;
        match key {
            // Hosts are asked at the port that is in force on all of them.
            Key::Join if in_force.gossip_port != new.gossip_port => return false,
            Key::Join => {
                in_force.join.clone_from(&new.join);
                self.gossip.set_seeds(new.join.clone()).await;
            }
            Key::Log => {
                if log.set(&new.log).is_err() {
                    return false;
                }
                in_force.log.clone_from(&new.log);
            }
            Key::ResolvConf => {
                in_force.resolv_conf.clone_from(&new.resolv_conf);
                self.resolver.read_from(new.resolv_conf.clone());
            }
            Key::VniRange => {
                in_force.vni_range = new.vni_range;
                self.store.set_defaults(boot::defaults(in_force));
            }
            Key::DefaultPool => {
                in_force.default_pool = new.default_pool;
                self.store.set_defaults(boot::defaults(in_force));
            }
            // Looked at with each question.
            Key::AnswerPeers => in_force.answer_peers = new.answer_peers,
            Key::MetricsAddress => {
                in_force.metrics_address = new.metrics_address;
                self.metrics.move_to(new.metrics_address);
            }
            Key::NodeName
            | Key::Advertise
            | Key::Store
            | Key::GossipPort
            | Key::VxlanPort
            | Key::StateDir
            | Key::ControlSocket
            | Key::ControlGroup
            | Key::PluginSocket
            | Key::DockerHost
            | Key::DockerScope => return false,
        }
        true
    }
}

fn told(change: &Change) -> String {
    let Change { key, from, to, in_force } = change;
    let when = if *in_force { "now" } else { "after a restart" };
    format!("{key} is {to} {when}, and was {from}")
}

fn wait(change: &Change) -> String {
    let Change { key, from, to, .. } = change;
    format!("{key} is {to} in the configuration, and {from} in force until ovl-agent is restarted")
}
