//! The task that owns the kernel: one pass at a time, always to the newest desired state.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use ovl_vxlan::{Dataplane, Desired, IfName, Mac, Report};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::core::{Core, Event, Inspection, RESOLVER, Refusal, RequestId};
use crate::metrics::Instruments;

/// Passes and look-ups that wait. The driver sends a pass only when none is under way, so this
/// is filled by look-ups of moving endpoints; at the bound those wait.
const WORK_MAX: usize = 64;

/// Looks at the kernel that wait for it; who asks for one more is told to try again.
const INSPECTIONS_MAX: usize = 16;

/// How long Docker is given to move an interface into its sandbox.
const MOVE_WITHIN: Duration = Duration::from_secs(30);

/// How often the sandbox is looked at meanwhile: at first, when a container's first look-ups must not
/// come before its DNS server, and after [`MOVE_SOON`].
const MOVE_STEP: Duration = Duration::from_millis(10);
const MOVE_STEP_LATER: Duration = Duration::from_millis(200);
const MOVE_SOON: u32 = 300;

enum Work {
    Pass { version: u64, desired: Desired, audit: bool },
    Inspect { request: RequestId, version: u64, desired: Desired, is_due: bool, repair: bool },
    Find { netns: PathBuf, mac: Mac, found: oneshot::Sender<Option<IfName>> },
    Subnets(oneshot::Sender<Vec<Ipv4Net>>),
    Prepare { netns: PathBuf, done: oneshot::Sender<Result<(), String>> },
}

/// The driver's side: what was handed over, and what is under way.
pub(super) struct Kernel {
    work: mpsc::Sender<Work>,
    /// Passes and inspections under way, whose events are yet to come.
    awaited: u32,
    sent: u64,
    audit: bool,
    /// A pass that brings something new went before an audit that is due: what the audit then finds is
    /// what others have changed. Only one does, so that audits come about on a busy host, too.
    put_off: bool,
    /// Who wants to know whether the kernel is what it should be, and whether it is to be put right.
    inspections: VecDeque<(RequestId, bool)>,
}

impl Kernel {
    /// Starts the task; results come as [`Event::Applied`].
    pub(super) fn start(
        dataplane: Dataplane,
        instruments: Instruments,
        events: mpsc::Sender<Event>,
    ) -> Kernel {
        let (work, inbox) = mpsc::channel(WORK_MAX);
        tokio::spawn(serve(dataplane, inbox, instruments, events));
        Kernel {
            work,
            awaited: 0,
            sent: 0,
            audit: false,
            put_off: false,
            inspections: VecDeque::new(),
        }
    }

    /// The next pass reads the kernel afresh.
    pub(super) fn audit(&mut self) {
        self.audit = true;
    }

    /// Looks at the kernel when it has been brought to the newest desired state; the answer comes as
    /// [`Event::Inspected`].
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) fn inspect(&mut self, request: RequestId, repair: bool) -> Result<(), Refusal> {
        if self.inspections.len() >= INSPECTIONS_MAX {
            let busy = "the kernel is being looked at for others; try again in a moment";
            return Err(Refusal::unavailable(busy));
        }
        self.inspections.push_back((request, repair));
        Ok(())
    }

    /// The event of the pass under way arrived.
    pub(super) fn passed(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// Hands over the desired state if it moved, unless a pass is under way: then the pass's own
    /// event brings the driver back here.
    pub(super) fn keep(&mut self, core: &Core) {
        let version = core.desired_version();
        if self.awaited > 0 {
            return;
        }
        // Whoever looks on, and however often, the audit that is due comes first.
        if !self.inspections.is_empty() && !self.audit {
            return self.look(version, core);
        }
        if version == self.sent && !self.audit {
            return;
        }
        let audit = self.audit && (version == self.sent || self.put_off);
        let work = Work::Pass { version, desired: core.desired(), audit };
        if self.work.try_send(work).is_ok() {
            self.sent = version;
            self.put_off = self.audit && !audit;
            self.audit = self.put_off;
            self.awaited = 1;
        }
    }

    /// After a pass, if one is due: what is not done yet would be told as a difference.
    fn look(&mut self, version: u64, core: &Core) {
        let Some(&(request, repair)) = self.inspections.front() else {
            return;
        };
        let is_due = version != self.sent;
        let desired = core.desired();
        let work = Work::Inspect { request, version, desired, is_due, repair };
        if self.work.try_send(work).is_ok() {
            self.inspections.pop_front();
            self.sent = version;
            self.awaited = 1 + u32::from(is_due);
        }
    }

    /// A way to ask which subnets this host's own routes and addresses use.
    pub(super) fn routes(&self) -> Routes {
        Routes(self.work.clone())
    }

    /// A way to make sandboxes ready for DNS.
    pub(super) fn preparer(&self) -> Preparer {
        Preparer(self.work.clone())
    }

    /// Waits in a task until the interface is in the sandbox.
    pub(super) fn await_move(
        &self,
        endpoint: String,
        netns: PathBuf,
        mac: Mac,
        events: mpsc::Sender<Event>,
    ) {
        let work = self.work.clone();
        tokio::spawn(async move {
            let found = tokio::time::timeout(MOVE_WITHIN, find(&work, &netns, mac)).await;
            let _ = events.send(Event::Moved { endpoint, ifname: found.ok().flatten() }).await;
        });
    }
}

/// See [`Kernel::preparer`].
#[derive(Clone)]
pub(super) struct Preparer(mpsc::Sender<Work>);

impl Preparer {
    /// Gives a sandbox the address on which DNS is served there.
    pub(super) async fn prepare(&self, netns: &Path) -> Result<(), String> {
        let (sender, done) = oneshot::channel();
        // The task ends only with the agent.
        let _ = self.0.send(Work::Prepare { netns: netns.to_owned(), done: sender }).await;
        done.await.unwrap_or_else(|_| Err("the agent is stopping".to_owned()))
    }
}

/// See [`Kernel::routes`].
#[derive(Clone)]
pub(super) struct Routes(mpsc::Sender<Work>);

impl Routes {
    /// Subnets that a network which nobody chose a subnet for must not touch.
    pub(super) async fn used(&self) -> Vec<Ipv4Net> {
        let (sender, used) = oneshot::channel();
        // The task ends only with the agent.
        let _ = self.0.send(Work::Subnets(sender)).await;
        used.await.unwrap_or_default()
    }
}

async fn find(work: &mpsc::Sender<Work>, netns: &Path, mac: Mac) -> Option<IfName> {
    for attempt in 0.. {
        let step = if attempt < MOVE_SOON { MOVE_STEP } else { MOVE_STEP_LATER };
        // Before the namespace is there, nobody else need wait for a look at it.
        if !netns.exists() {
            tokio::time::sleep(step).await;
            continue;
        }
        let (sender, found) = oneshot::channel();
        work.send(Work::Find { netns: netns.to_owned(), mac, found: sender }).await.ok()?;
        if let Some(ifname) = found.await.ok()? {
            return Some(ifname);
        }
        tokio::time::sleep(step).await;
    }
    None
}

async fn serve(
    mut dataplane: Dataplane,
    mut inbox: mpsc::Receiver<Work>,
    instruments: Instruments,
    events: mpsc::Sender<Event>,
) {
    while let Some(work) = inbox.recv().await {
        match work {
            Work::Pass { version, desired, audit } => {
                let report = pass(&mut dataplane, &desired, audit, &instruments).await;
                if events.send(Event::Applied { version, audit, report }).await.is_err() {
                    return;
                }
            }
            Work::Inspect { request, version, desired, is_due, repair } => {
                if is_due {
                    let report = pass(&mut dataplane, &desired, false, &instruments).await;
                    let applied = Event::Applied { version, audit: false, report };
                    if events.send(applied).await.is_err() {
                        return;
                    }
                }
                let found = dataplane.compare(&desired).await;
                let repair = match repair {
                    true => {
                        let report = pass(&mut dataplane, &desired, true, &instruments).await;
                        Some((report, dataplane.compare(&desired).await))
                    }
                    false => None,
                };
                let inspection = Inspection { version, found, repair };
                if events.send(Event::Inspected(request, Ok(inspection))).await.is_err() {
                    return;
                }
            }
            Work::Subnets(used) => {
                let subnets = dataplane.used_subnets().await.unwrap_or_else(|error| {
                    tracing::warn!(
                        error = crate::chain(&error),
                        "the host's routes could not be read"
                    );
                    Vec::new()
                });
                let _ = used.send(subnets);
            }
            Work::Prepare { netns, done } => {
                let prepared = dataplane.prepare_resolver(&netns, RESOLVER).await;
                let _ = done.send(prepared.map_err(|error| crate::chain(&error)));
            }
            Work::Find { netns, mac, found } => {
                // A sandbox that is not there yet is the normal case, and asked for again.
                let ifname = dataplane.find_link(&netns, mac).await.unwrap_or(None);
                let _ = found.send(ifname);
            }
        }
    }
}

async fn pass(
    dataplane: &mut Dataplane,
    desired: &Desired,
    audit: bool,
    instruments: &Instruments,
) -> Report {
    let begin = Instant::now();
    let report =
        if audit { dataplane.audit(desired).await } else { dataplane.apply(desired).await };
    instruments.passed(audit, report.is_ok(), begin.elapsed());
    log(&report, audit);
    report
}

fn log(report: &Report, audit: bool) {
    if audit && !report.changes.is_empty() {
        tracing::warn!(changes = ?report.changes, "the kernel differed from what it should hold, and was put right");
    } else if !report.changes.is_empty() {
        tracing::debug!(changes = ?report.changes, "applied");
    }
}
