//! Does an agent run here? Where none answers: why, as exactly as it can be seen from outside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use ovl_vxlan::netns;

use super::settings::Settings;
use super::unit::Unit;
use super::{Check, Group, Look, blocking};
use crate::config::process::ENVIRONMENT_FILE;
use crate::control::api::doctor::{Finding, Verdict};

pub(super) const RUNNING: &str = "agent.running";

/// The agent's name as a process, at most 15 bytes.
const PROCESS: &str = "ovl-agent";

/// Processes that are looked at as the agent of this host.
const PROCESSES_MAX: usize = 8;

/// Checks whose failure keeps an agent from starting.
const BEFORE_START: [&str; 5] =
    ["kernel.version", "ports.gossip-udp", "ports.gossip-tcp", "ports.vxlan", "vxlan.foreign"];

pub(super) const GROUP: Group = Group {
    checks: &[Check {
        id: RUNNING,
        title: "agent",
        looks_at: "whether the agent of this host answers; else its process and its unit",
        why: "without it nothing new is attached here, and other hosts' names are not found",
    }],
    within: Duration::from_secs(5),
    look: Look::Host(|host| {
        Box::pin(async move {
            match (host.status(), host.absence()) {
                (Some(status), _) => {
                    let age = status.uptime_seconds;
                    vec![Finding::ok(
                        RUNNING,
                        format!("the agent runs, and answers; it started {age} s ago"),
                    )]
                }
                (None, Some(absence)) => vec![judge(absence, host.mistakes())],
                (None, None) => vec![Finding::unchecked(RUNNING, "it was not looked for")],
            }
        })
    }),
};

/// What came of asking the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// There is no socket.
    NoSocket,
    /// There is one, and nobody listens on it.
    NobodyListens,
    /// It was connected to, and said nothing for this long.
    Silent(Duration),
    /// Something else, as a sentence.
    Other(String),
}

/// All that is known of an agent that does not answer.
#[derive(Clone, Debug)]
pub(super) struct Absence {
    pub(super) socket: PathBuf,
    pub(super) unanswered: Unanswered,
    pub(super) processes: Vec<Process>,
    pub(super) unit: Option<Unit>,
    /// The program is where programs are.
    pub(super) installed: bool,
}

/// A process that may be the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// As in proc(5): `S` sleeping, `T` stopped, `D` waiting for a disk.
    pub(super) state: char,
}

impl Absence {
    pub(super) async fn look(socket: &Path, unanswered: Unanswered) -> Absence {
        let unit = Unit::show().await.ok();
        let (processes, installed) =
            blocking(|| (processes(), is_installed())).await.unwrap_or_default();
        Absence { socket: socket.to_owned(), unanswered, processes, unit, installed }
    }
}

/// The processes of this network namespace that are called as the agent is. Those of other users are not
/// looked at: anybody may call a process so, and its settings name files that root reads.
fn processes() -> Vec<Process> {
    let namespace = |pid: &str| netns::identify(Path::new(&format!("/proc/{pid}/ns/net"))).ok();
    let own = namespace("thread-self");
    let entries = fs::read_dir("/proc").ok();
    let pids = entries.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let owner = fs::metadata(format!("/proc/{name}")).ok()?.uid();
        if owner != 0 && owner != geteuid().as_raw() {
            return None;
        }
        let command = fs::read_to_string(format!("/proc/{name}/comm")).ok()?;
        // Where it cannot be seen, it may be ours.
        let here = namespace(&name).is_none_or(|of_it| Some(of_it) == own);
        (command.trim_end() == PROCESS && here).then_some(name)
    });
    let read = pids.filter_map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Process { pid: pid.parse().ok()?, state: state(&status)? })
    });
    read.take(PROCESSES_MAX).collect()
}

/// `State:\tT (stopped)` → `T`.
fn state(status: &str) -> Option<char> {
    let line = status.lines().find_map(|line| line.strip_prefix("State:"))?;
    line.trim_start().chars().next()
}

fn is_installed() -> bool {
    ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"]
        .iter()
        .any(|folder| Path::new(folder).join(PROCESS).exists())
}

fn judge(absence: &Absence, mistakes: &[String]) -> Finding {
    match absence.processes.first() {
        Some(process) => of_process(process, absence),
        None => of_none(absence, mistakes).seen(format!(
            "no process `{PROCESS}` in this network namespace; nothing answers on {}",
            absence.socket.display()
        )),
    }
}

/// There is a process, and it does not answer.
fn of_process(process: &Process, absence: &Absence) -> Finding {
    let Process { pid, state } = process;
    let socket = absence.socket.display();
    let finding = match (state, &absence.unanswered) {
        ('T' | 't', _) => Finding::fail(
            RUNNING,
            format!("the agent (process {pid}) is frozen: a signal or a debugger stopped it"),
        )
        .mend(format!("kill -CONT {pid}")),
        ('D', _) => {
            let summary = format!(
                "the agent (process {pid}) hangs in the kernel, mostly for a disk that does not answer"
            );
            Finding::fail(RUNNING, summary)
                .mend(format!("see which: cat /proc/{pid}/stack; look at the disk of its state"))
        }
        ('Z', _) => Finding::fail(
            RUNNING,
            format!("the agent (process {pid}) has ended, and nobody takes notice"),
        )
        .mend("restart what started it"),
        (_, Unanswered::NoSocket | Unanswered::NobodyListens) => {
            let starting =
                absence.unit.as_ref().filter(|unit| unit.get("ActiveState") == "activating");
            match starting {
                Some(unit) => {
                    let status = unit.get("StatusText");
                    Finding::warn(
                        RUNNING,
                        format!("the agent (process {pid}) is starting: {status}"),
                    )
                }
                None => {
                    let summary =
                        format!("the agent (process {pid}) runs, and does not serve {socket}");
                    Finding::fail(RUNNING, summary)
                        .mend("give --socket what the agent's setting control-socket says; or restart the agent")
                }
            }
        }
        (_, Unanswered::Silent(after)) => {
            let after = after.as_secs();
            Finding::fail(
                RUNNING,
                format!("the agent (process {pid}) does not answer within {after} s"),
            )
            .mend(
                "look at its log: journalctl -u ovl-agent -n 50; then: systemctl restart ovl-agent",
            )
        }
        (_, Unanswered::Other(why)) => {
            Finding::fail(RUNNING, format!("the agent (process {pid}) does not answer: {why}"))
                .mend("look at its log: journalctl -u ovl-agent -n 50")
        }
    };
    finding.seen(format!("/proc/{pid}/status: State {state}")).seen(format!("asked on {socket}"))
}

/// There is no process.
fn of_none(absence: &Absence, mistakes: &[String]) -> Finding {
    let unit = absence.unit.as_ref().filter(|unit| unit.is_installed());
    if !mistakes.is_empty() {
        return Finding::fail(RUNNING, "no agent runs here, and its configuration has mistakes")
            .all_seen(mistakes.iter().cloned())
            .mend("mend them (ovl-agent --check-config lists them), then: systemctl restart ovl-agent");
    }
    let Some(unit) = unit else {
        return match (&absence.unanswered, absence.installed) {
            // One that ends by itself takes its socket away.
            (Unanswered::NobodyListens, _) => Finding::fail(
                RUNNING,
                "an agent ran here, and was killed or crashed: its socket is left, and nobody listens",
            )
            .mend("start it again as it was started; its log, and dmesg (out of memory), say why it ended"),
            (_, true) => Finding::fail(RUNNING, "no agent runs here").mend("start ovl-agent"),
            (_, false) => Finding::fail(RUNNING, "ovl-agent is not installed here")
                .mend("install the package ovl"),
        };
    };
    let log = "journalctl -u ovl-agent -n 50";
    let start = "systemctl enable --now ovl-agent";
    match (unit.get("ActiveState"), unit.get("ExecMainCode"), unit.number("ExecMainStatus")) {
        (_, "1", 3) => {
            Finding::fail(RUNNING, "this host has left the cluster, and its agent ended")
                .mend(start)
        }
        ("failed" | "activating", "1", status @ 1..) => {
            let meaning = match status {
                64 => "its configuration has mistakes",
                69 => "this host is not ready for it",
                _ => "its log says why",
            };
            let summary = format!("the agent ended with exit code {status}: {meaning}");
            Finding::fail(RUNNING, summary).mend(log)
        }
        ("failed" | "activating", "2" | "3", signal) => {
            Finding::fail(RUNNING, format!("the agent was ended by signal {signal}")).mend(log)
        }
        ("inactive", _, _) => Finding::fail(RUNNING, "the agent is stopped").mend(start),
        (state, _, _) => {
            let (sub, result) = (unit.get("SubState"), unit.get("Result"));
            Finding::fail(
                RUNNING,
                format!("its unit is {state} ({sub}, {result}), and no agent runs"),
            )
            .mend(log)
        }
    }
}

/// An agent that could not start for something else that is wrong is no cause of its own.
pub(super) fn settle(findings: &mut [Finding], absence: &Absence) {
    let fails = |finding: &&Finding| finding.verdict == Verdict::Fail;
    let in_its_way = |finding: &&Finding| BEFORE_START.contains(&finding.check.as_str());
    let cause = findings.iter().filter(fails).find(in_its_way).map(|finding| finding.check.clone());
    let Some(cause) = cause.filter(|_| absence.processes.is_empty()) else {
        return;
    };
    for finding in findings.iter_mut().filter(|finding| finding.check == RUNNING) {
        finding.verdict = finding.verdict.min(Verdict::Unchecked);
        finding.summary = format!("{}; it could not start: see {cause}", finding.summary);
        finding.fix = None;
    }
}

/// What an agent of this host has for settings: that of its process, if there is one, else that of a new one.
pub(super) fn settings(absence: &Absence) -> Settings {
    let process = absence.processes.first().and_then(|process| Settings::of_process(process.pid));
    process
        .unwrap_or_else(|| Settings::of_a_start(absence.unit.as_ref(), Path::new(ENVIRONMENT_FILE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absence(unanswered: Unanswered, state: Option<char>, unit: Option<&str>) -> Absence {
        Absence {
            socket: "/run/ovl/ovl.sock".into(),
            unanswered,
            processes: state.map(|state| Process { pid: 7, state }).into_iter().collect(),
            unit: unit.map(Unit::read),
            installed: true,
        }
    }

    fn unit(active: &str, code: u8, status: u8) -> String {
        format!(
            "LoadState=loaded\nActiveState={active}\nExecMainCode={code}\nExecMainStatus={status}\n"
        )
    }

    #[test]
    fn what_is_so_is_said_exactly() {
        let silent = || Unanswered::Silent(Duration::from_secs(5));
        let none = || Unanswered::NoSocket;
        for (absence, word, fix) in [
            (absence(silent(), Some('T'), None), "process 7) is frozen", "kill -CONT 7"),
            (absence(silent(), Some('D'), None), "hangs in the kernel", "stack"),
            (absence(silent(), Some('S'), None), "does not answer within 5 s", "restart"),
            (absence(none(), Some('S'), None), "does not serve /run/ovl/ovl.sock", "--socket"),
            (absence(none(), None, None), "no agent runs here", "start ovl-agent"),
            (absence(Unanswered::NobodyListens, None, None), "killed or crashed", "start it again"),
            (absence(none(), None, Some(&unit("inactive", 0, 0))), "is stopped", "enable --now"),
            (
                absence(none(), None, Some(&unit("failed", 1, 64))),
                "code 64: its configuration",
                "journal",
            ),
            (
                absence(none(), None, Some(&unit("activating", 1, 69))),
                "code 69: this host is not",
                "journal",
            ),
            (absence(none(), None, Some(&unit("failed", 1, 1))), "code 1: its log", "journal"),
            (absence(none(), None, Some(&unit("failed", 2, 9))), "by signal 9", "journal"),
            (
                absence(none(), None, Some(&unit("inactive", 1, 3))),
                "has left the cluster",
                "enable --now",
            ),
            (absence(none(), None, Some("LoadState=not-found\n")), "no agent runs here", "start"),
            (absence(Unanswered::Other("it hung up".into()), Some('S'), None), "it hung up", "log"),
        ] {
            let found = judge(&absence, &[]);
            assert_eq!(found.verdict, Verdict::Fail, "{found:?}");
            assert!(found.summary.contains(word), "{found:?}");
            assert!(found.fix.as_ref().is_some_and(|text| text.contains(fix)), "{found:?}");
        }
    }

    #[test]
    fn a_start_is_told_with_what_it_waits_for() {
        let unit = "LoadState=loaded\nActiveState=activating\nStatusText=waiting for the store\n";
        let found = judge(&absence(Unanswered::NoSocket, Some('S'), Some(unit)), &[]);
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.summary.contains("waiting for the store"), "{found:?}");
    }

    #[test]
    fn mistakes_in_the_configuration_are_the_reason() {
        let absence = absence(Unanswered::NoSocket, None, Some(&unit("failed", 1, 64)));
        let found = judge(&absence, &["gossip-port = 99999: expected a port".into()]);
        assert!(found.summary.contains("configuration has mistakes"), "{found:?}");
        assert!(found.evidence[0].contains("99999"), "{found:?}");
    }

    #[test]
    fn what_keeps_an_agent_from_starting_is_the_one_failure() {
        let port = || Finding::fail("ports.vxlan", "taken");
        let running = || Finding::fail(RUNNING, "no agent runs here").mend("start it");
        let gone = absence(Unanswered::NoSocket, None, None);
        let mut findings = [port(), running()];
        settle(&mut findings, &gone);
        assert_eq!(findings[1].verdict, Verdict::Unchecked);
        assert!(findings[1].summary.contains("see ports.vxlan"), "{findings:?}");
        // One that is frozen has its ports.
        let mut findings = [port(), running()];
        settle(&mut findings, &absence(Unanswered::NoSocket, Some('T'), None));
        assert_eq!(findings[1].verdict, Verdict::Fail);
        // What does not keep it from starting is another matter.
        let mut findings = [Finding::fail("store.reachable", "away"), running()];
        settle(&mut findings, &gone);
        assert_eq!(findings[1].verdict, Verdict::Fail);
    }

    #[test]
    fn the_state_of_a_process_is_read() {
        assert_eq!(state("Name:\tx\nState:\tT (stopped)\n"), Some('T'));
        assert_eq!(state("Name:\tx\n"), None);
    }
}
