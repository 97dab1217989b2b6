//! Who is examined: a host, its settings, and its agent where one runs.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ovl_vxlan::Probe;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::firewall::Rules;
use super::running::Absence;
use super::settings::Settings;
use super::{Only, WITHIN};
use crate::config::Config;
use crate::control::api::Status;
use crate::core::{Diagnosis, Request, Response};
use crate::driver::Agent;
use crate::preflight::{self, Failure};

/// What it takes to say what was found.
const TO_TELL: Duration = Duration::from_millis(1500);

/// The host under examination; cheap to clone.
#[derive(Clone)]
pub(super) struct Host {
    /// What is to be looked at: a group may save itself work that is not asked for.
    pub(super) only: Only,
    inner: Arc<Inner>,
}

struct Inner {
    /// `Err`: what is wrong with them.
    settings: Result<Arc<Config>, Vec<String>>,
    agent: Option<(Agent, Status)>,
    diagnosis: OnceCell<Option<Diagnosis>>,
    probe: OnceCell<Result<Probe, String>>,
    rules: OnceCell<Rules>,
    /// Where no agent answers, what is known of it.
    absence: Option<Absence>,
    /// Consul's token of an agent's environment.
    token: Option<String>,
    /// When the examination ends.
    end: Instant,
}

impl Host {
    pub(super) fn of_agent(agent: Agent, status: Status, only: Only) -> Host {
        let inner = Inner {
            settings: Ok(agent.config()),
            agent: Some((agent, status)),
            diagnosis: OnceCell::new(),
            probe: OnceCell::new(),
            rules: OnceCell::new(),
            absence: None,
            token: None,
            end: Instant::now() + WITHIN,
        };
        Host { only, inner: Arc::new(inner) }
    }

    pub(super) fn without_agent(settings: Settings, absence: Option<Absence>, only: Only) -> Host {
        let inner = Inner {
            settings: settings.config.map(Arc::new),
            agent: None,
            diagnosis: OnceCell::new(),
            probe: OnceCell::new(),
            rules: OnceCell::new(),
            absence,
            token: settings.token,
            end: Instant::now() + WITHIN,
        };
        Host { only, inner: Arc::new(inner) }
    }

    /// When all examinations of this host have to end.
    pub(super) fn end(&self) -> Instant {
        self.inner.end
    }

    /// So long from now, or until shortly before the end: what is known by then can be told.
    pub(super) fn until(&self, within: Duration) -> Instant {
        let last = self.inner.end.checked_sub(TO_TELL).unwrap_or(self.inner.end);
        last.min(Instant::now() + within)
    }

    /// Its node name, where it is known.
    pub(super) fn name(&self) -> Option<String> {
        let settings = self.inner.settings.as_ref();
        settings.ok().map(|config| config.node_name.to_string())
    }

    /// The settings in force; without an agent, those that one would have. Else why there are none.
    pub(super) fn config(&self) -> Result<Arc<Config>, String> {
        let broken = |_: &Vec<String>| "the agent's configuration has mistakes".to_owned();
        self.inner.settings.as_ref().map(Arc::clone).map_err(broken)
    }

    /// What is wrong with the settings, a sentence each.
    pub(super) fn mistakes(&self) -> &[String] {
        self.inner.settings.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// The agent that runs here, else that there is none.
    pub(super) fn agent(&self) -> Result<Agent, String> {
        let agent = self.inner.agent.as_ref().map(|(agent, _)| agent.clone());
        agent.ok_or_else(|| "no agent answers on this host".to_owned())
    }

    /// How the agent is, where one runs.
    pub(super) fn status(&self) -> Option<&Status> {
        self.inner.agent.as_ref().map(|(_, status)| status)
    }

    /// What the agent knows to be wrong, asked once; none where no agent runs, or where it does not say.
    pub(super) async fn diagnosis(&self) -> Option<&Diagnosis> {
        let (agent, _) = self.inner.agent.as_ref()?;
        let ask = || async {
            match agent.ask(Request::Diagnose).await {
                Ok(Response::Diagnosis(diagnosis)) => Some(*diagnosis),
                Ok(_) | Err(_) => None,
            }
        };
        self.inner.diagnosis.get_or_init(ask).await.as_ref()
    }

    /// Processes that are the agent of this host.
    pub(super) fn own_processes(&self) -> Vec<u32> {
        match &self.inner.absence {
            Some(absence) => absence.processes.iter().map(|process| process.pid).collect(),
            None => self.status().map(|_| std::process::id()).into_iter().collect(),
        }
    }

    /// What is known of an agent that does not answer.
    pub(super) fn absence(&self) -> Option<&Absence> {
        self.inner.absence.as_ref()
    }

    /// Consul's token, in place of this process's own environment.
    pub(super) fn store_token(&self) -> Option<&str> {
        self.inner.token.as_deref()
    }

    /// What the kernel can do, tried once.
    pub(super) async fn probe(&self) -> &Result<Probe, String> {
        let probe = || async { ovl_vxlan::probe().await.map_err(|error| crate::chain(&error)) };
        self.inner.probe.get_or_init(probe).await
    }

    /// The rules of its packet filter, read once.
    pub(super) async fn rules(&self) -> &Rules {
        self.inner.rules.get_or_init(Rules::gather).await
    }

    /// The address that other hosts send gossip and VXLAN to. Without an agent it is found as an agent
    /// would find it.
    pub(super) fn address(&self) -> Result<Ipv4Addr, String> {
        if let Some(status) = self.status() {
            return Ok(status.address);
        }
        let seen = |failure: Failure| format!("{}: {}", failure.check, failure.seen);
        preflight::address(&self.config()?.advertise).map_err(seen)
    }
}
