//! Looks at this host for everything that is known to break an overlay, and says what it found.
//!
//! A *group* gathers facts in a thin shell and judges them in pure functions; what it looks at
//! stands in its list of [`Check`]s. The frame here runs the groups: a few at a time, each within
//! a limit, a panic or a late answer being "unchecked". It works in the agent ([`examine`]) and,
//! where none runs, in `ovlctl` ([`examine_host`]).
//!
//! One cause, one failure: a check whose precondition is not met says `unchecked` and why, never
//! `fail`. Examining changes nothing on the host that outlives it.

mod checks;
mod cluster;
mod devices;
mod docker;
mod features;
mod firewall;
mod kernel;
mod memory;
mod net;
mod peers;
mod ports;
mod running;
mod settings;
mod store;
mod subject;
mod unit;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::checks::{Check, Only, UnknownCheck, all};
use self::running::Absence;
pub use self::running::Unanswered;
use self::subject::Host;
use crate::config::Config;
use crate::control::api::doctor::{Examination, Finding};
use crate::core::{Refusal, Request, Response};
use crate::driver::{Agent, wall_clock};

/// Groups that look at once; the others wait for their turn.
const AT_ONCE: usize = 4;

/// An examination ends after this long: sooner than a connection to the control socket. What has
/// not been looked at by then is unchecked.
const WITHIN: Duration = Duration::from_secs(24);

/// How long the agent's own loop may take to say how it is, before it counts as not answering.
const STATUS_WITHIN: Duration = Duration::from_secs(5);

/// Threads that wait for disks, of all examinations together: the agent needs its others itself. When all
/// of them hang, what else wants one is unchecked.
static THREADS: Semaphore = Semaphore::const_new(6);

/// Findings of one check that are told, the worst ones; of more, one more says how many are left
/// out.
const FINDINGS_MAX: usize = 64;

/// Checks that are made together, from the same facts.
struct Group {
    /// What it checks; it may say several things of each (with a subject), and says at least one.
    checks: &'static [Check],
    /// After this long, what it has not said is unchecked.
    within: Duration,
    look: Look,
}

/// A look at the host, and what it needs. Dropped when it takes too long.
enum Look {
    /// Nothing but the host.
    Host(fn(Host) -> BoxFuture<'static, Vec<Finding>>),
    /// The settings that the agent has, or would have.
    Settings(fn(Host, Arc<Config>) -> BoxFuture<'static, Vec<Finding>>),
    /// The agent that runs here.
    Agent(fn(Host, Agent) -> BoxFuture<'static, Vec<Finding>>),
}

/// All groups, in the order in which people are told.
const GROUPS: &[&Group] = &[
    &running::GROUP,
    &unit::GROUP,
    &kernel::GROUP,
    &features::GROUP,
    &ports::GROUP,
    &firewall::GROUP,
    &devices::GROUP,
    &peers::GROUP,
    &memory::GROUP,
    &net::GROUP,
    &store::GROUP,
    &cluster::GROUP,
    &docker::GROUP,
];

/// Examines the host of this agent.
///
/// # Errors
/// The agent's own loop does not answer.
pub async fn examine(agent: &Agent, only: &Only) -> Result<Examination, Refusal> {
    let status = match timeout(STATUS_WITHIN, agent.ask(Request::Status)).await {
        Ok(Ok(Response::Status(status))) => status,
        Ok(Err(refusal)) => return Err(refusal),
        Ok(Ok(_)) | Err(_) => {
            let seconds = STATUS_WITHIN.as_secs();
            return Err(Refusal::unavailable(format!(
                "the agent's own loop did not answer within {seconds} s: look at its log"
            )));
        }
    };
    Ok(examination(Host::of_agent(agent.clone(), *status, only.clone())).await)
}

/// Examines this host without its agent, which did not answer on `socket`: with the settings that it has
/// or would have. All that needs an agent is unchecked. Needs a tokio runtime with IO and time.
pub async fn examine_host(socket: &Path, unanswered: Unanswered, only: &Only) -> Examination {
    let absence = Absence::look(socket, unanswered).await;
    let settings = running::settings(&absence);
    examination(Host::without_agent(settings, Some(absence), only.clone())).await
}

async fn examination(host: Host) -> Examination {
    let mut findings = look_at_all(&host, GROUPS).await;
    if let Some(absence) = host.absence() {
        running::settle(&mut findings, absence);
    }
    findings.sort_by_key(|finding| checks::position(&finding.check));
    let at = format!("{:.0}", wall_clock());
    Examination { host: host.name(), version: crate::VERSION.to_owned(), at, findings }
}

async fn look_at_all(host: &Host, groups: &[&'static Group]) -> Vec<Finding> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let end = host.end();
    let mut looks = JoinSet::new();
    let mut waited_for = BTreeMap::new();
    for group in groups.iter().filter(|group| group.is_wanted(&host.only)) {
        let look = look(group, host.clone(), turns.clone(), end);
        waited_for.insert(looks.spawn(look).id(), *group);
    }
    let mut all = Vec::new();
    while let Some(done) = looks.join_next_with_id().await {
        let (id, found) = match done {
            Ok((id, found)) => (id, found),
            // A bug of the group's; the others go on.
            Err(fault) => (fault.id(), Err(format!("it could not be looked at: {fault}"))),
        };
        if let Some(group) = waited_for.remove(&id) {
            all.extend(group.complete(found, &host.only));
        }
    }
    all
}

/// What the group found, or why it found nothing.
async fn look(
    group: &Group,
    host: Host,
    turns: Arc<Semaphore>,
    end: Instant,
) -> Result<Vec<Finding>, String> {
    let looked = timeout_at(end, async {
        // Never closed.
        let _turn = turns.acquire().await;
        timeout(group.within, group.look.start(host)?)
            .await
            .map_err(|_| format!("it took longer than {} s", group.within.as_secs()))
    });
    let late = |_| format!("there was no time left after {} s for it", WITHIN.as_secs());
    looked.await.map_err(late)?
}

impl Look {
    /// The look, or why it cannot be had.
    fn start(&self, host: Host) -> Result<BoxFuture<'static, Vec<Finding>>, String> {
        match self {
            Look::Host(look) => Ok(look(host)),
            Look::Settings(look) => {
                let config = host.config()?;
                Ok(look(host, config))
            }
            Look::Agent(look) => {
                let agent = host.agent()?;
                Ok(look(host, agent))
            }
        }
    }
}

impl Group {
    fn is_wanted(&self, only: &Only) -> bool {
        self.checks.iter().any(|check| only.wants(check.id))
    }

    /// For each wanted check what was found, or that nothing was.
    fn complete(&self, found: Result<Vec<Finding>, String>, only: &Only) -> Vec<Finding> {
        let (mut found, why) = match found {
            Ok(found) => (found, "the check said nothing, which is a bug of ovl".to_owned()),
            Err(why) => (Vec::new(), why),
        };
        let wanted = self.checks.iter().filter(|check| only.wants(check.id));
        wanted
            .flat_map(|check| {
                let (mut of_it, others) = std::mem::take(&mut found)
                    .into_iter()
                    .partition(|f: &Finding| f.check == check.id);
                found = others;
                if of_it.is_empty() {
                    of_it.push(Finding::unchecked(check.id, why.clone()));
                }
                bounded(check.id, of_it)
            })
            .collect()
    }
}

/// Sorted by subject; of too many, the worst.
fn bounded(check: &str, mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| b.verdict.cmp(&a.verdict).then_with(|| a.subject.cmp(&b.subject)));
    let more = findings.split_off(FINDINGS_MAX.min(findings.len()));
    findings.sort_by(|a, b| a.subject.cmp(&b.subject));
    if let Some(worst) = more.iter().map(|finding| finding.verdict).max() {
        let summary = format!("{} more findings of this check are left out", more.len());
        let last = Finding { verdict: worst, ..Finding::ok(check, summary) };
        findings.push(last);
    }
    findings
}

/// Runs what may wait for a disk on a thread for that. One that hangs keeps its thread, and its place.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let fault = |fault| format!("it could not be looked at: {fault}");
    // Never closed.
    let place = THREADS.acquire().await;
    let work = move || {
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(fault)
}

#[cfg(test)]
mod tests;
