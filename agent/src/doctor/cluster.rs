//! The cluster as this host's agent sees it, what else the agent knows to be wrong, and what audits of the
//! kernel found.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ovl_gossip::MemberState;
use ovl_vxlan::DifferenceKind;

use super::{Check, Group, Host, Look};
use crate::control::api::Member;
use crate::control::api::audit::{Audit, Difference};
use crate::control::api::doctor::{Finding, Verdict};
use crate::core::{Diagnosis, Request, Response, Topic};

const MEMBERS: &str = "cluster.members";
const NAMES: &str = "cluster.names";
const ADDRESSES: &str = "cluster.addresses";
const PROBLEMS: &str = "agent.problems";
const DRIFT: &str = "kernel.drift";

/// How long the kernel may take to be read.
const AUDIT_WITHIN: Duration = Duration::from_secs(5);

/// What an audit calls the parts that it could not read.
const UNREADABLE: &str = DifferenceKind::Unreadable.name();

/// A change by others that was put right longer ago is told without a warning.
const RECENT: Duration = Duration::from_secs(600);

const CHECKS: &[Check] = &[
    Check {
        id: MEMBERS,
        title: "hosts",
        looks_at: "the hosts of the cluster that are not alive, or speak another release's format; claims that cannot be",
        why: "their containers are not found by name, and perhaps not reached",
    },
    Check {
        id: NAMES,
        title: "names of hosts",
        looks_at: "whether another host uses this host's name",
        why: "two hosts of one name take each other's addresses for their own",
    },
    Check {
        id: ADDRESSES,
        title: "addresses",
        looks_at: "addresses of endpoints held twice, and two hosts that advertise one address",
        why: "packets reach one of the two, and now and then the other",
    },
    Check {
        id: DRIFT,
        title: "kernel as wanted",
        looks_at: "the kernel's devices and rows, read now; what it refused, and what audits found changed",
        why: "somebody who removes devices or rules of ovl cuts containers off again and again",
    },
    Check {
        id: PROBLEMS,
        title: "the agent's own problems",
        looks_at: "what `ovlctl status` lists under problems, and no other check names",
        why: "the agent knows of things that cannot be seen from outside",
    },
];

pub(super) const GROUP: Group = Group {
    checks: CHECKS,
    within: Duration::from_secs(10),
    look: Look::Agent(|host, _| Box::pin(look(host))),
};

async fn look(host: Host) -> Vec<Finding> {
    let Some(diagnosis) = host.diagnosis().await else {
        let why = "the agent did not say what it knows";
        return CHECKS.iter().map(|check| Finding::unchecked(check.id, why)).collect();
    };
    let docker = host.status().is_some_and(|status| status.docker == "connected");
    let mut findings = judge(diagnosis, docker, host.only.wants("peer.agent"));
    if host.only.wants(DRIFT)
        && let Some(differs) = compared(audit(&host).await)
        && let Some(drift) = findings.iter_mut().find(|f| f.check == DRIFT)
        // What the kernel refused differs, of course.
        && matches!(drift.verdict, Verdict::Ok | Verdict::Warn)
    {
        *drift = differs;
    }
    findings
}

/// The kernel, read now, against what it should be.
async fn audit(host: &Host) -> Result<Audit, String> {
    let agent = host.agent()?;
    let asked = agent.ask(Request::Audit { repair: false });
    match tokio::time::timeout(AUDIT_WITHIN, asked).await {
        Ok(Ok(Response::Audit(audit))) => Ok(audit),
        Ok(Ok(_)) => Err("the agent answered something else".to_owned()),
        Ok(Err(refusal)) => Err(refusal.message),
        Err(_) => Err(format!("that took longer than {} s", AUDIT_WITHIN.as_secs())),
    }
}

/// None: it is what it should be.
fn compared(audit: Result<Audit, String>) -> Option<Finding> {
    let audit = match audit {
        Ok(audit) => audit,
        Err(why) => {
            return Some(Finding::unchecked(DRIFT, format!("the kernel was not read: {why}")));
        }
    };
    let (unread, differ): (Vec<_>, Vec<_>) =
        audit.differences.iter().partition(|differs| differs.kind == UNREADABLE);
    let words = audit.differences.iter().map(in_words);
    let count = differ.len() + audit.left_out;
    if count > 0 {
        let things = if count == 1 { "one thing differs" } else { "things differ" };
        let number = if count == 1 { String::new() } else { format!("{count} ") };
        let summary = format!(
            "{number}{things} between the kernel and what ovl wants of it: somebody else has changed that"
        );
        let mend = "ovlctl audit --repair; then look who does it: ovlctl events --kind kernel";
        return Some(Finding::fail(DRIFT, summary).all_seen(words).mend(mend));
    }
    (!unread.is_empty())
        .then(|| Finding::unchecked(DRIFT, "parts of the kernel could not be read").all_seen(words))
}

/// `fdb-missing: ovl-1048576 02:42:…, wanted 192.168.77.12`.
fn in_words(differs: &Difference) -> String {
    let Difference { kind, device, what, want, have, endpoint, .. } = differs;
    let mut text = format!("{kind}: {device}");
    for (before, part) in [(" ", what), (", of ", endpoint), (", wanted ", want), (", is ", have)] {
        if let Some(part) = part {
            text.push_str(before);
            text.push_str(part);
        }
    }
    text
}

/// `docker`: it is connected, and so what ails DNS is told by its checks. `asked`: the agents of other
/// hosts are asked as well, and which of them is away is told there.
fn judge(diagnosis: &Diagnosis, docker: bool, asked: bool) -> Vec<Finding> {
    let mut findings = members(diagnosis, asked);
    findings.push(names(diagnosis));
    findings.extend(addresses(diagnosis));
    findings.extend(drift(diagnosis));
    findings.extend(problems(diagnosis, docker));
    findings
}

fn members(diagnosis: &Diagnosis, asked: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        diagnosis.texts(Topic::Release).map(|text| Finding::fail(MEMBERS, text)).collect();
    for (state, what) in [
        (MemberState::Down, "is down: its agent does not answer"),
        (MemberState::Suspect, "is suspected to be down: its agent answered no probe lately"),
    ] {
        findings.extend(diagnosis.in_state(state).filter(|_| !asked).map(|member| {
            let Member { name, address, .. } = member;
            Finding::warn(MEMBERS, format!("host {name} ({address}) {what}"))
                .about(name)
                .mend(format!("on {name}: ovlctl doctor; a host that is gone for good is forgotten after a day"))
        }));
    }
    findings.extend(diagnosis.texts(Topic::Joining).map(|text| {
        Finding::warn(MEMBERS, text)
            .mend("see the checks of firewalls here, and `ovlctl doctor` there")
    }));
    findings.extend(diagnosis.texts(Topic::Claims).map(|text| Finding::warn(MEMBERS, text)));
    if findings.is_empty() {
        let alive = diagnosis.in_state(MemberState::Alive).count();
        let summary = match alive {
            1 => "this host is alone, and no other is awaited".to_owned(),
            alive => format!("{alive} hosts are alive{}", away(diagnosis)),
        };
        findings.push(Finding::ok(MEMBERS, summary));
    }
    findings
}

/// How many are not, in words.
fn away(diagnosis: &Diagnosis) -> String {
    let away = [MemberState::Suspect, MemberState::Down].map(|s| diagnosis.in_state(s).count());
    match away.iter().sum() {
        0_usize => String::new(),
        count => format!(", {count} suspected or down: see peer.agent"),
    }
}

fn names(diagnosis: &Diagnosis) -> Finding {
    match diagnosis.texts(Topic::Name).next() {
        Some(text) => Finding::fail(NAMES, text)
            .mend("set node-name to another on one of the two, then: systemctl restart ovl-agent"),
        None => Finding::ok(NAMES, "no other host has this host's name"),
    }
}

fn addresses(diagnosis: &Diagnosis) -> Vec<Finding> {
    let mut findings: Vec<Finding> = diagnosis
        .texts(Topic::Address)
        .map(|text| {
            Finding::fail(ADDRESSES, text).mend(
                "set store to the same on all hosts, then start the containers of one side again",
            )
        })
        .collect();
    findings.extend(shared(&diagnosis.members).into_iter().map(|(address, hosts)| {
        let hosts = hosts.join(" and ");
        Finding::fail(
            ADDRESSES,
            format!("{hosts} both advertise {address}: packets reach one of them"),
        )
        .about(address.to_string())
        .mend("set advertise to an address of its own on each")
    }));
    if findings.is_empty() {
        findings.push(Finding::ok(ADDRESSES, "no address is held twice"));
    }
    findings
}

/// Addresses that several hosts advertise; one that is gone may have left its own to another.
fn shared(members: &[Member]) -> Vec<(Ipv4Addr, Vec<&str>)> {
    let mut by_address: BTreeMap<Ipv4Addr, Vec<&str>> = BTreeMap::new();
    for member in members {
        if matches!(member.state, MemberState::Alive | MemberState::Suspect) {
            by_address.entry(member.address).or_default().push(&member.name);
        }
    }
    by_address.into_iter().filter(|(_, hosts)| hosts.len() > 1).collect()
}

fn drift(diagnosis: &Diagnosis) -> Vec<Finding> {
    let refused: Vec<Finding> = diagnosis
        .texts(Topic::Kernel)
        .map(|text| Finding::fail(DRIFT, text).mend("journalctl -u ovl-agent -n 50"))
        .collect();
    if !refused.is_empty() {
        return refused;
    }
    if diagnosis.texts(Topic::Device).chain(diagnosis.texts(Topic::Port)).next().is_some() {
        let why =
            "a network cannot be made for what is in its way: see vxlan.foreign and ports.vxlan";
        return vec![Finding::unchecked(DRIFT, why)];
    }
    let times = diagnosis.repaired;
    let finding = match diagnosis.repaired_ago {
        None => Finding::ok(DRIFT, "the kernel is as the agent wants it, and was since its start"),
        Some(ago) if ago < RECENT => {
            let summary = format!(
                "somebody changes what ovl has in the kernel: {times} changes put right, the last {} s ago",
                ago.as_secs()
            );
            Finding::warn(DRIFT, summary)
                .mend("see what: ovlctl events --kind kernel; then look who does it")
        }
        Some(ago) => Finding::ok(
            DRIFT,
            format!(
                "the kernel is as the agent wants it; {times} changes by others were put right, the last {} min ago",
                ago.as_secs() / 60
            ),
        ),
    };
    vec![finding]
}

fn problems(diagnosis: &Diagnosis, docker: bool) -> Vec<Finding> {
    let store_is_away = diagnosis.texts(Topic::Store).next().is_some();
    let verdict = |topic| match topic {
        Topic::Settings | Topic::Docker => Some(Verdict::Warn),
        Topic::Foreign | Topic::Disk => Some(Verdict::Fail),
        Topic::Dns => (!docker).then_some(Verdict::Fail),
        Topic::GiveBack if store_is_away => Some(Verdict::Unchecked),
        Topic::GiveBack => Some(Verdict::Warn),
        // Each has a check of its own.
        Topic::Joining
        | Topic::Release
        | Topic::Claims
        | Topic::Hosts
        | Topic::Name
        | Topic::Address
        | Topic::Store
        | Topic::Kernel
        | Topic::Device
        | Topic::Port
        | Topic::Consequence => None,
    };
    let told = diagnosis.problems.iter().filter_map(|problem| {
        let verdict = verdict(problem.topic)?;
        Some(Finding { verdict, ..Finding::warn(PROBLEMS, problem.text.clone()) })
    });
    let told: Vec<Finding> = told.collect();
    match told.is_empty() {
        true => vec![Finding::ok(PROBLEMS, "the agent knows of no other problem")],
        false => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Problem;

    fn member(name: &str, last: u8, state: MemberState) -> Member {
        Member { name: name.into(), address: Ipv4Addr::new(10, 0, 0, last), state }
    }

    fn healthy() -> Diagnosis {
        Diagnosis {
            problems: Vec::new(),
            members: vec![member("a", 1, MemberState::Alive), member("b", 2, MemberState::Alive)],
            networks: Vec::new(),
            remote_addresses: 0,
            repaired: 0,
            repaired_ago: None,
        }
    }

    fn with(topic: Topic) -> Diagnosis {
        let problem = Problem { topic, text: "something is wrong".into() };
        Diagnosis { problems: vec![problem], ..healthy() }
    }

    /// What is not fine.
    fn amiss(diagnosis: &Diagnosis, docker: bool) -> Vec<(String, Verdict)> {
        let findings = judge(diagnosis, docker, false);
        for check in CHECKS {
            assert!(findings.iter().any(|finding| finding.check == check.id), "{}", check.id);
        }
        let amiss = findings.into_iter().filter(|finding| finding.verdict != Verdict::Ok);
        amiss.map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn each_topic_is_told_by_one_check_at_most() {
        use Verdict::{Fail, Unchecked, Warn};
        assert_eq!(amiss(&healthy(), false), []);
        for (topic, expected) in [
            (Topic::Settings, Some((PROBLEMS, Warn))),
            (Topic::Joining, Some((MEMBERS, Warn))),
            (Topic::Release, Some((MEMBERS, Fail))),
            (Topic::Claims, Some((MEMBERS, Warn))),
            (Topic::Hosts, None),
            (Topic::Name, Some((NAMES, Fail))),
            (Topic::Address, Some((ADDRESSES, Fail))),
            (Topic::Store, None),
            (Topic::Foreign, Some((PROBLEMS, Fail))),
            (Topic::Docker, Some((PROBLEMS, Warn))),
            (Topic::Dns, Some((PROBLEMS, Fail))),
            (Topic::Disk, Some((PROBLEMS, Fail))),
            (Topic::Kernel, Some((DRIFT, Fail))),
            (Topic::Device, Some((DRIFT, Unchecked))),
            (Topic::Port, Some((DRIFT, Unchecked))),
            (Topic::Consequence, None),
            (Topic::GiveBack, Some((PROBLEMS, Warn))),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(id, verdict)| (id.to_owned(), verdict)).collect();
            assert_eq!(amiss(&with(topic), false), expected, "{topic:?}");
        }
        // With Docker, its own check tells of DNS.
        assert_eq!(amiss(&with(Topic::Dns), true), []);
    }

    #[test]
    fn hosts_that_are_away_are_named_one_by_one() {
        let members = vec![
            member("a", 1, MemberState::Alive),
            member("b", 2, MemberState::Down),
            member("c", 3, MemberState::Suspect),
            member("d", 4, MemberState::Left),
        ];
        let findings = judge(&Diagnosis { members, ..healthy() }, false, false);
        let named: Vec<_> = findings.iter().filter_map(|f| f.subject.as_deref()).collect();
        assert_eq!(named, ["b", "c"]);
    }

    #[test]
    fn two_hosts_of_one_address_are_told_unless_one_is_gone() {
        for (state, expected) in [
            (MemberState::Alive, 1),
            (MemberState::Suspect, 1),
            (MemberState::Down, 0),
            (MemberState::Left, 0),
        ] {
            let members = vec![member("a", 1, MemberState::Alive), member("b", 1, state)];
            assert_eq!(shared(&members).len(), expected, "{state:?}");
        }
    }

    #[test]
    fn a_kernel_that_was_not_read_is_not_told_to_be_fine() {
        let differs = |kind: &str| Difference { kind: kind.into(), ..Difference::default() };
        let audit = |kinds: &[&str]| {
            let differences = kinds.iter().map(|kind| differs(kind)).collect();
            compared(Ok(Audit { differences, ..Audit::default() }))
        };
        let verdict = |finding: Option<Finding>| finding.map(|finding| finding.verdict);
        assert_eq!(audit(&[]), None);
        assert_eq!(verdict(audit(&["fdb-missing", UNREADABLE])), Some(Verdict::Fail));
        assert_eq!(verdict(audit(&[UNREADABLE])), Some(Verdict::Unchecked));
        let late = compared(Err("another is under way".into())).unwrap();
        assert_eq!(late.verdict, Verdict::Unchecked);
        assert!(late.summary.contains("another is under way"), "{}", late.summary);
    }

    #[test]
    fn an_old_repair_is_no_news() {
        for (ago, verdict) in [(5, Verdict::Warn), (599, Verdict::Warn), (601, Verdict::Ok)] {
            let repaired_ago = Some(Duration::from_secs(ago));
            let found = drift(&Diagnosis { repaired: 3, repaired_ago, ..healthy() });
            assert_eq!(found[0].verdict, verdict);
        }
    }

    #[test]
    fn what_waits_for_the_store_is_no_problem_of_its_own() {
        let problem = |topic| Problem { topic, text: "x".into() };
        let problems = vec![problem(Topic::Store), problem(Topic::GiveBack)];
        let amiss = amiss(&Diagnosis { problems, ..healthy() }, false);
        assert_eq!(amiss, [(PROBLEMS.to_owned(), Verdict::Unchecked)]);
    }
}
