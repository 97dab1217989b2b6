//! The systemd unit of the agent: what it is, and how its process ended.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Check, Group, Host, Look, blocking};
use crate::control::api::doctor::Finding;
use crate::tool::{self, Limits};

const UNIT: &str = "systemd.unit";

/// Its name.
pub(super) const NAME: &str = "ovl-agent.service";

/// The unit that belongs to this version.
const OURS: &str = include_str!("../../../packaging/systemd/ovl-agent.service");

/// There where systemd is process 1 (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

const SHOW: Limits = Limits { time: Duration::from_secs(5), output: 1 << 20 };

/// An agent that was started again by systemd lives shorter than this, or has recovered.
const RECOVERED: u64 = 600;

const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,UnitFileState,FragmentPath,\
                          DropInPaths,NeedDaemonReload,MainPID,ExecMainCode,ExecMainStatus,NRestarts,StatusText,ExecStart,Environment";

pub(super) const GROUP: Group = Group {
    checks: &[Check {
        id: UNIT,
        title: "systemd unit",
        looks_at: "ovl-agent.service: enabled, of this version, loaded as it is on disk, its drop-ins",
        why: "an agent that is not enabled is gone after the next boot, and containers with it",
    }],
    within: Duration::from_secs(10),
    look: Look::Host(|host| Box::pin(look(host))),
};

/// What systemd says of the unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit(BTreeMap<String, String>);

impl Unit {
    /// None: this host does not run systemd, or it does not say.
    pub(super) async fn show() -> Result<Unit, String> {
        if !runs_here() {
            return Err("this host does not run systemd".to_owned());
        }
        let shown = tool::run(&["systemctl", "show", NAME, PROPERTIES], SHOW).await;
        shown.map(|said| Unit::read(&said.text)).map_err(|error| error.to_string())
    }

    /// Lines of the form `Name=value`.
    pub(super) fn read(text: &str) -> Unit {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Unit(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A property; empty: systemd does not know it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The words of its `ExecStart=`, the program first; empty: systemd does not say.
    pub(super) fn command_line(&self) -> Vec<&str> {
        // { path=/usr/bin/ovl-agent ; argv[]=/usr/bin/ovl-agent --log debug ; ignore_errors=no ; … }
        let line = self.get("ExecStart").split(" ; ").find_map(|part| part.strip_prefix("argv[]="));
        line.unwrap_or_default().split_whitespace().collect()
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or_default()
    }

    pub(super) fn is_installed(&self) -> bool {
        !matches!(self.get("LoadState"), "not-found" | "")
    }
}

fn runs_here() -> bool {
    Path::new(BOOTED).exists()
}

async fn look(host: Host) -> Vec<Finding> {
    if !runs_here() {
        return vec![Finding::ok(UNIT, "this host does not run systemd, and needs no unit")];
    }
    let unit = match Unit::show().await {
        Ok(unit) => unit,
        Err(why) => return vec![Finding::unchecked(UNIT, why)],
    };
    let path = unit.get("FragmentPath").to_owned();
    let file = blocking(move || fs::read_to_string(path).ok()).await.ok().flatten();
    let runs = host.status().map(|status| (std::process::id(), status.uptime_seconds));
    vec![judge(&unit, file.as_deref(), runs)]
}

/// `file`: what it was loaded from, as it is on disk; `runs`: the agent that asks, and its age in seconds.
fn judge(unit: &Unit, file: Option<&str>, runs: Option<(u32, u64)>) -> Finding {
    if !unit.is_installed() {
        return Finding::unchecked(UNIT, format!("{NAME} is not installed on this host"));
    }
    if runs.is_some_and(|(pid, _)| unit.number("MainPID") != u64::from(pid)) {
        return Finding::unchecked(UNIT, format!("the agent that runs was not started by {NAME}"));
    }
    let path = unit.get("FragmentPath");
    let drop_ins = unit.get("DropInPaths").split_whitespace();
    let finding = amiss(unit, file, runs.map(|(_, age)| age));
    let finding = finding.unwrap_or_else(|| {
        let changed = if unit.get("DropInPaths").is_empty() { "" } else { ", with drop-ins" };
        Finding::ok(
            UNIT,
            format!("{NAME} is {} and of this version{changed}", unit.get("UnitFileState")),
        )
    });
    finding
        .seen(format!("loaded from {path}"))
        .all_seen(drop_ins.map(|path| format!("drop-in {path}")))
}

/// The first thing that is not as it should be.
fn amiss(unit: &Unit, file: Option<&str>, age: Option<u64>) -> Option<Finding> {
    let restarts = unit.number("NRestarts");
    if unit.get("LoadState") == "masked" {
        let found = Finding::fail(UNIT, format!("{NAME} is masked: the agent cannot be started"));
        return Some(found.mend(format!("systemctl unmask {NAME}")));
    }
    if restarts > 0 && age.is_some_and(|age| age < RECOVERED) {
        let summary =
            format!("systemd had to start the agent again {restarts} times: it ends by itself");
        return Some(Finding::warn(UNIT, summary).mend("journalctl -u ovl-agent -b | tail -n 100"));
    }
    if unit.get("NeedDaemonReload") == "yes" {
        let summary = format!("{NAME} was changed on disk, and the old one is in force");
        let fix = "systemctl daemon-reload; systemctl restart ovl-agent";
        return Some(Finding::warn(UNIT, summary).mend(fix));
    }
    if unit.get("UnitFileState") == "disabled" {
        let summary = format!("{NAME} is not enabled: after the next boot no agent runs");
        return Some(Finding::warn(UNIT, summary).mend("systemctl enable ovl-agent"));
    }
    // install.sh may have put the programs there.
    let ours = |file: &str| file.replace("/usr/local/bin/ovl", "/usr/bin/ovl") == OURS;
    if file.is_some_and(|file| !ours(file)) {
        let summary =
            format!("{NAME} is not the one of this version: what the agent may do stands in it");
        let path = unit.get("FragmentPath");
        let fix = match path.starts_with("/etc/") {
            true => {
                format!("take {path} away, and put what you changed into: systemctl edit ovl-agent")
            }
            false => "install the package of this version again".to_owned(),
        };
        return Some(Finding::warn(UNIT, summary).mend(fix));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::doctor::Verdict;

    const FINE: &str = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\
                        FragmentPath=/usr/lib/systemd/system/ovl-agent.service\nDropInPaths=\n\
                        NeedDaemonReload=no\nMainPID=7\nNRestarts=0\n";

    #[test]
    fn a_unit_that_is_not_as_it_should_be_is_told_with_the_command() {
        let with = |from: &str, to: &str| Unit::read(&FINE.replace(from, to));
        let runs = Some((7, 30));
        let local = OURS.replace("/usr/bin/ovl", "/usr/local/bin/ovl");
        for (unit, file, runs, verdict, word) in [
            (with("", ""), OURS, runs, Verdict::Ok, "enabled"),
            (with("", ""), OURS, None, Verdict::Ok, "enabled"),
            (with("", ""), &local, runs, Verdict::Ok, "enabled"),
            (with("loaded", "not-found"), OURS, None, Verdict::Unchecked, "not installed"),
            (with("loaded", "masked"), OURS, None, Verdict::Fail, "masked"),
            (with("MainPID=7", "MainPID=8"), OURS, runs, Verdict::Unchecked, "not started by"),
            (with("Reload=no", "Reload=yes"), OURS, runs, Verdict::Warn, "on disk"),
            (with("=enabled", "=disabled"), OURS, runs, Verdict::Warn, "not enabled"),
            (with("NRestarts=0", "NRestarts=4"), OURS, runs, Verdict::Warn, "again 4 times"),
            (with("NRestarts=0", "NRestarts=4"), OURS, Some((7, 9999)), Verdict::Ok, "enabled"),
            (with("", ""), "[Unit]\n", runs, Verdict::Warn, "of this version"),
        ] {
            let found = judge(&unit, Some(file), runs);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.summary.contains(word), "{found:?}");
            assert_eq!(found.fix.is_some(), verdict > Verdict::Unchecked, "{found:?}");
        }
    }

    #[test]
    fn drop_ins_are_named() {
        let unit = Unit::read(&FINE.replace("DropInPaths=", "DropInPaths=/etc/a.conf /etc/b.conf"));
        let found = judge(&unit, Some(OURS), None);
        assert_eq!(found.verdict, Verdict::Ok);
        assert_eq!(found.evidence[1..], ["drop-in /etc/a.conf", "drop-in /etc/b.conf"]);
    }

    #[test]
    fn the_command_line_is_read_with_the_flags_of_drop_ins() {
        let unit = Unit::read(
            "ExecStart={ path=/usr/bin/ovl-agent ; argv[]=/usr/bin/ovl-agent --advertise eth1 ; ignore_errors=no ; pid=0 }\n",
        );
        assert_eq!(unit.command_line(), ["/usr/bin/ovl-agent", "--advertise", "eth1"]);
        assert!(Unit::default().command_line().is_empty());
    }

    #[test]
    fn what_systemctl_prints_is_read_whatever_it_is() {
        let unit = Unit::read("A=b=c\n\njunk\nN=x\n");
        assert_eq!((unit.get("A"), unit.get("nothing"), unit.number("N")), ("b=c", "", 0));
        assert!(!Unit::default().is_installed());
    }
}
