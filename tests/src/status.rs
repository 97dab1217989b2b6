//! How a lab is: for people as a table, for programs as JSON.
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use crate::process::Activity;
use crate::{Host, Lab, LabError, StoreKind, table};

/// A lab.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The agents' store.
    pub store: StoreKind,
    /// The Consul server, if the lab has one.
    pub kvstore: Option<KvstoreStatus>,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
}

/// The Consul server.
#[derive(Debug, Serialize)]
pub struct KvstoreStatus {
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// `running`, `frozen` or `stopped`.
    pub state: &'static str,
    /// Its log.
    pub log: PathBuf,
}

/// A host.
#[derive(Debug, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// Its address on the underlay; None when its namespaces are gone.
    pub address: Option<Ipv4Addr>,
    /// `up`, `cut` or `gone`.
    pub link: &'static str,
    /// `running`, `frozen`, `stopped` or `never started`.
    pub agent: &'static str,
    /// The agent's process, as the machine numbers it.
    pub pid: Option<i32>,
    /// The agent's log.
    pub log: PathBuf,
    /// Names of its containers.
    pub containers: Vec<String>,
}

impl Status {
    /// Looks at a lab.
    #[must_use]
    pub fn of(lab: &Lab) -> Self {
        Self {
            name: lab.name().to_string(),
            store: lab.store(),
            kvstore: lab.kvstore().ok().map(|kvstore| KvstoreStatus {
                address: kvstore.address(),
                state: shown(kvstore.process().map(|process| process.activity())),
                log: kvstore.log(),
            }),
            hosts: lab.host_names().map(|name| host_status(lab, name)).collect(),
        }
    }

    /// As a table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("lab {}, store {}\n", self.name, self.store);
        if let Some(KvstoreStatus { address, state, log }) = &self.kvstore {
            text.push_str(&format!("kvstore {address}: Consul {state}, {}\n", log.display()));
        }
        let rows: Vec<_> = self.hosts.iter().map(HostStatus::row).collect();
        let heading = ["HOST", "ADDRESS", "LINK", "AGENT", "PID", "LOG", "CONTAINERS"];
        text.push_str(&table::render(&heading, &rows));
        text
    }
}

impl HostStatus {
    fn row(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        let containers =
            if self.containers.is_empty() { dash() } else { self.containers.join(", ") };
        vec![
            self.host.clone(),
            self.address.map_or_else(dash, |address| address.to_string()),
            self.link.to_owned(),
            self.agent.to_owned(),
            self.pid.map_or_else(dash, |pid| pid.to_string()),
            self.log.display().to_string(),
            containers,
        ]
    }
}

fn host_status(lab: &Lab, name: &str) -> HostStatus {
    let host = lab.host(name).ok();
    let link = |host: &Host| {
        if host.is_linked()? { Ok("up") } else { Ok::<_, LabError>("cut") }
    };
    HostStatus {
        host: name.to_owned(),
        address: host.as_ref().map(Host::address),
        link: host.as_ref().and_then(|host| link(host).ok()).unwrap_or("gone"),
        agent: agent_state(host.as_ref()),
        pid: host.as_ref().and_then(Host::agent).map(|agent| agent.pid()),
        log: lab.folder().join(name).join("agent.log"),
        containers: host.iter().flat_map(Host::containers).map(|c| c.name().to_owned()).collect(),
    }
}

fn agent_state(host: Option<&Host>) -> &'static str {
    match host.map(Host::agent_activity) {
        Some(None) => "never started",
        Some(activity) => shown(activity),
        None => "stopped",
    }
}

fn shown(activity: Option<Activity>) -> &'static str {
    match activity {
        Some(Activity::Running) => "running",
        Some(Activity::Frozen) => "frozen",
        Some(Activity::Gone) | None => "stopped",
    }
}
