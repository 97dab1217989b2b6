//! What the facts of the other hosts come to. Of each host one cause is named; what follows from it is
//! unchecked.

use std::net::SocketAddrV4;

use crate::control::api::doctor::{Finding, Verdict};
use crate::control::api::paths::{Path, Reach, Series};
use crate::probe::paths::Loss;
use crate::underlay::WayOut;

/// No network has a smaller one, in bytes (RFC 791: what every host takes).
const SMALLEST_MTU: u16 = 576;

/// Clocks that differ by less than this are as good as equal, in microseconds.
const CLOCK_FINE_US: i64 = 1_000_000;

const VXLAN: &str = "peer.vxlan";
const LOSS: &str = "peer.loss";

/// One packet of twenty may be lost once.
const LOST_FINE: u32 = 1;
/// With so many of twenty lost, what else seems closed may just have been lost, too.
const LOST_MANY: u32 = 5;

/// How far another clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) ahead_us: i64,
    /// It may be that much more or less.
    pub(super) within_us: u64,
}

/// Why an agent said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The connection was refused.
    NoAgent,
    /// There was a connection, and silence.
    Frozen,
    /// It does not know the question.
    Older,
    /// There was no connection, as said.
    NoConnection(String),
    /// Something else, as said.
    Other(String),
}

/// What is known of another host and the ways to it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) address: SocketAddrV4,
    /// It said that it stops.
    pub(super) has_left: bool,
    pub(super) clock: Result<Offset, NoAnswer>,
    /// From here to there.
    pub(super) way: Path,
    /// How its packets leave this host, where its agent did not answer.
    pub(super) way_out: Option<WayOut>,
    /// There and back, of many.
    pub(super) loss: Loss,
    /// From there to here, looked at by its agent; or why not.
    pub(super) back: Result<Path, String>,
    /// How many of our small VXLAN probes its agent saw; none: it was not asked.
    pub(super) arrived: Option<u32>,
    /// How many of its small VXLAN probes we saw.
    pub(super) came: u32,
    /// What its own packet filter does wrong, where that was asked.
    pub(super) their_filter: Vec<Finding>,
}

/// Of one host, in words in which `{host}` stands for its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) host: String,
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) words: String,
    pub(super) evidence: Vec<String>,
    pub(super) fix: Option<String>,
}

impl Said {
    fn new(facts: &Facts, check: &'static str, verdict: Verdict, words: impl Into<String>) -> Said {
        let (host, words) = (facts.name.clone(), words.into());
        Said { host, check, verdict, words, evidence: Vec::new(), fix: None }
    }

    fn seen(mut self, line: impl Into<String>) -> Said {
        self.evidence.push(line.into());
        self
    }

    fn mend(mut self, fix: impl Into<String>) -> Said {
        self.fix = Some(fix.into());
        self
    }
}

/// Something does not pass between the two, whichever way: the packet filter there may say why.
pub(super) fn is_blocked(facts: &Facts) -> bool {
    let back = facts.back.as_ref().ok();
    let silent = |path: &Path| path.vxlan == Reach::Silent;
    !facts.way.udp.is_answered()
        || silent(&facts.way)
        || back
            .is_some_and(|back| !back.udp.is_answered() || !back.tcp.is_answered() || silent(back))
}

/// All that is to be said of all hosts. `own_filter` is what this host's packet filter does wrong, if
/// that is told beside this: then what follows from it is not told again.
pub(super) fn all(facts: &[Facts], own_filter: &[Finding]) -> Vec<Said> {
    let mut said = Vec::new();
    for facts in facts {
        said.extend(of_host(facts, own_filter));
    }
    said.extend(clocks(facts));
    said
}

/// What follows from a fault of this host that is told by another check is no failure.
pub(super) fn refer(said: &mut [Said], check: &str) {
    blame(said, "{host} is not reached", check);
}

fn blame(said: &mut [Said], words: &str, check: &str) {
    for one in said.iter_mut().filter(|one| one.verdict > Verdict::Unchecked) {
        one.verdict = Verdict::Unchecked;
        one.words = format!("{words}: see {check}");
        (one.evidence, one.fix) = (Vec::new(), None);
    }
}

fn of_host(facts: &Facts, own_filter: &[Finding]) -> Vec<Said> {
    if facts.has_left && facts.clock.is_err() {
        return vec![left(facts)];
    }
    let agent = agent(facts);
    let unanswered = facts.clock.is_err();
    let mut said = Vec::new();
    if !unanswered {
        let vxlan = vxlan(facts, own_filter);
        let loss = loss(facts, vxlan.verdict == Verdict::Ok);
        said.extend([tcp(facts, own_filter), udp(facts, own_filter), vxlan, mtu(facts)]);
        if loss.verdict == Verdict::Fail {
            blame(&mut said, "what seems closed may have been lost", LOSS);
        }
        said.push(loss);
    } else {
        let nothing = matches!(facts.clock, Err(NoAnswer::NoConnection(_)));
        let closed = if nothing { closed(facts) } else { Vec::new() };
        let why = "not looked at: the agent of {host} did not answer".to_owned();
        for check in ["peer.tcp", "peer.udp", "peer.vxlan", LOSS, "peer.mtu", "peer.clock"] {
            if !closed.iter().any(|said| said.check == check) {
                said.push(Said::new(facts, check, Verdict::Unchecked, why.clone()));
            }
        }
        said.extend(closed);
    }
    said.push(agent);
    let of_this = |f: &&Finding| f.subject.as_ref().is_none_or(|subject| *subject == facts.name);
    let drops = |f: &&Finding| f.check == "firewall.gossip" && f.verdict == Verdict::Fail;
    if matches!(facts.clock, Err(NoAnswer::NoConnection(_)))
        && own_filter.iter().filter(drops).any(|f| of_this(&f))
    {
        blame(&mut said, "{host} could not be asked", "firewall.gossip");
    }
    said
}

/// An agent that is stopped says good-bye as one whose host goes for good.
fn left(facts: &Facts) -> Said {
    if facts.clock == Err(NoAnswer::NoAgent) {
        return Said::new(facts, "peer.agent", Verdict::Warn, "the agent of {host} was stopped, and its host is up")
            .mend("on {host}: systemctl start ovl-agent; if it left the cluster for good, this ends within a day");
    }
    Said::new(facts, "peer.agent", Verdict::Ok, "{host} has left the cluster")
}

fn agent(facts: &Facts) -> Said {
    let id = "peer.agent";
    let said = |verdict, words: &str| Said::new(facts, id, verdict, words);
    let at = facts.address;
    if let Some(wrong) = no_way_out(facts) {
        return wrong;
    }
    match &facts.clock {
        Ok(_) => said(Verdict::Ok, "questions are answered by {host}"),
        Err(NoAnswer::NoAgent) => {
            said(Verdict::Fail, "no agent runs on {host}: the host answers, and its gossip port is closed")
                .seen(format!("{}: {at} refused a TCP connection", facts.name))
                .mend("on {host}: systemctl start ovl-agent; journalctl -u ovl-agent says why it ended")
        }
        Err(NoAnswer::Frozen) => {
            said(Verdict::Fail, "the agent of {host} is there and does not answer: it is stopped (SIGSTOP), hangs, or its host is overloaded")
                .seen(format!("{}: {at} took a TCP connection, and gave no answer within 4 s", facts.name))
                .seen(format!("{}: UDP {}", facts.name, in_words(&facts.way.udp)))
                .mend("on {host}: ps -o pid,stat,cmd -C ovl-agent (T: stopped); systemctl restart ovl-agent, no container notices")
        }
        Err(NoAnswer::Older) => {
            said(Verdict::Warn, "the agent of {host} closed the connection without a word: it is of an older version, or was just stopped")
                .mend("ovlctl doctor once more; if it says the same, upgrade ovl on {host}")
        }
        Err(NoAnswer::Other(why)) => said(Verdict::Unchecked, "the agent of {host} gave no good answer").seen(why.clone()),
        Err(NoAnswer::NoConnection(why)) if facts.way.udp.is_answered() || facts.way.vxlan.is_answered() => {
            said(Verdict::Unchecked, "the agent of {host} cannot be asked: see what is closed on the way").seen(why.clone())
        }
        Err(NoAnswer::NoConnection(why)) => {
            said(Verdict::Fail, "no sign of life from {host}: down, or cut off from this host")
                .seen(why.clone())
                .seen(format!("{}: UDP {}, VXLAN {}", facts.name, in_words(&facts.way.udp), in_words(&facts.way.vxlan)))
                .mend("look at {host}, and at firewalls between the hosts that close TCP and UDP 7946 and UDP 4789 alike (docs/ports-and-firewalls.md)")
        }
    }
}

/// What of this host itself keeps its packets from that one.
fn no_way_out(facts: &Facts) -> Option<Said> {
    let to = facts.address.ip();
    let said = |words: String| Said::new(facts, "peer.agent", Verdict::Fail, words);
    match facts.way_out.as_ref()? {
        WayOut::Local => Some(
            said(format!("this host has the address of {{host}}, {to}: nothing that it sends there leaves it"))
                .mend(format!("take it off here, or give {{host}} another one: ip address show to {to}")),
        ),
        WayOut::Refused(why) => Some(
            said(format!("this host has no way to {{host}}, {to}: {why}"))
                .mend(format!("take out the route or the rule that forbids it: ip route get {to}; ip route show to match {to} table all; ip rule")),
        ),
        // Who answers at all is reached.
        WayOut::By { interface, is_own: false }
            if matches!(facts.clock, Err(NoAnswer::NoConnection(_)))
                && !facts.way.vxlan.is_answered()
                && !facts.way.udp.is_answered() =>
        {
            let words = format!(
                "no sign of life from {{host}}, and packets to it leave by {interface}, which has not this host's address"
            );
            Some(said(words).mend(format!("take out the route that leads there, if it is not meant: ip route get {to}; else look at {{host}} and at the way by {interface}")))
        }
        WayOut::By { .. } => None,
    }
}

/// Of a host to which there is no TCP connection, and something else gets through.
fn closed(facts: &Facts) -> Vec<Said> {
    let port = facts.address.port();
    if facts.way.udp.is_answered() {
        let words = format!(
            "TCP {port} of {{host}} is closed to this host: UDP to the same port is answered"
        );
        return vec![
            Said::new(facts, "peer.tcp", Verdict::Fail, words)
                .seen(format!("{}: TCP {}", facts.name, in_words(&facts.way.tcp)))
                .mend(open(format!("TCP {port}"))),
            Said::new(
                facts,
                "peer.udp",
                Verdict::Ok,
                "UDP between this host and {host} is answered",
            ),
        ];
    }
    if facts.way.vxlan.is_answered() {
        let words = format!(
            "TCP and UDP {port} of {{host}} are closed to this host: VXLAN to it is answered"
        );
        return vec![
            Said::new(facts, "peer.tcp", Verdict::Fail, words)
                .seen(format!(
                    "{}: TCP {}, UDP {}",
                    facts.name,
                    in_words(&facts.way.tcp),
                    in_words(&facts.way.udp)
                ))
                .mend(open(format!("TCP and UDP {port}"))),
            Said::new(
                facts,
                "peer.vxlan",
                Verdict::Ok,
                "VXLAN between this host and {host} is answered",
            ),
        ];
    }
    Vec::new()
}

fn open(what: String) -> String {
    format!(
        "let {what} through, in the packet filter of {{host}}, here, and in any firewall between them (ovlctl doctor --only firewall on both)"
    )
}

fn in_words(reach: &Reach) -> String {
    match reach {
        Reach::Answered { rtt_us } => format!("answered after {:.1} ms", *rtt_us as f64 / 1000.0),
        Reach::Refused => "refused".into(),
        Reach::Silent => "without an answer".into(),
        Reach::Failed { why } => format!("failed: {why}"),
        Reach::Untried { why } => format!("not tried: {why}"),
    }
}

/// What of a way is closed, and which way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    No,
    There,
    Here,
    Both,
}

impl Closed {
    fn of(there: bool, here: bool) -> Closed {
        match (there, here) {
            (true, true) => Closed::No,
            (false, true) => Closed::There,
            (true, false) => Closed::Here,
            (false, false) => Closed::Both,
        }
    }

    fn words(self, what: &str) -> String {
        match self {
            Closed::No => format!("{what} passes between this host and {{host}}, both ways"),
            Closed::There => format!(
                "{what} from this host does not arrive at {{host}}; from there it arrives here"
            ),
            Closed::Here => format!(
                "{what} from {{host}} does not arrive at this host; from here it arrives there"
            ),
            Closed::Both => format!("{what} passes neither from this host to {{host}} nor back"),
        }
    }
}

fn tcp(facts: &Facts, own_filter: &[Finding]) -> Said {
    let what = format!("TCP {}", facts.address.port());
    let back = match &facts.back {
        Ok(back) => back,
        Err(why) => return unchecked(facts, "peer.tcp", &what, why),
    };
    // It was asked over TCP just now.
    let closed = Closed::of(true, back.tcp.is_answered());
    way(
        facts,
        "peer.tcp",
        &what,
        closed,
        (&facts.way.tcp, &back.tcp),
        ("firewall.gossip", own_filter),
    )
}

fn udp(facts: &Facts, own_filter: &[Finding]) -> Said {
    let what = format!("UDP {}", facts.address.port());
    let back = match &facts.back {
        Ok(back) => back,
        Err(why) => return unchecked(facts, "peer.udp", &what, why),
    };
    let closed = Closed::of(facts.way.udp.is_answered(), back.udp.is_answered());
    way(
        facts,
        "peer.udp",
        &what,
        closed,
        (&facts.way.udp, &back.udp),
        ("firewall.gossip", own_filter),
    )
}

fn vxlan(facts: &Facts, own_filter: &[Finding]) -> Said {
    let what = "VXLAN";
    let back = match (&facts.back, &facts.way.vxlan) {
        (Err(why), _)
        | (Ok(Path { vxlan: Reach::Untried { why }, .. }), _)
        | (Ok(_), Reach::Untried { why }) => {
            return unchecked(facts, "peer.vxlan", what, why);
        }
        (Ok(back), _) => back,
    };
    let there = facts.way.vxlan.is_answered() || facts.arrived.is_some_and(|seen| seen > 0);
    let here = facts.way.vxlan.is_answered() || back.vxlan.is_answered() || facts.came > 0;
    let closed = Closed::of(there, here);
    way(facts, VXLAN, what, closed, (&facts.way.vxlan, &back.vxlan), ("firewall.vxlan", own_filter))
}

fn unchecked(facts: &Facts, check: &'static str, what: &str, why: &str) -> Said {
    let words = format!("{what} between this host and {{host}} could not be looked at");
    Said::new(facts, check, Verdict::Unchecked, words).seen(format!("{}: {why}", facts.name))
}

/// A way that is open, or closed in some direction, and by whom as far as that is known.
fn way(
    facts: &Facts,
    check: &'static str,
    what: &str,
    closed: Closed,
    (there, here): (&Reach, &Reach),
    (filter, own_filter): (&str, &[Finding]),
) -> Said {
    if closed == Closed::No {
        return Said::new(facts, check, Verdict::Ok, closed.words(what));
    }
    let broken = |f: &&Finding| f.check == filter && f.verdict == Verdict::Fail;
    if own_filter.iter().any(|f| broken(&f)) {
        let words = format!("{}: see {filter}", closed.words(what));
        return Said::new(facts, check, Verdict::Unchecked, words);
    }
    let mut said = Said::new(facts, check, Verdict::Fail, closed.words(what)).seen(format!(
        "{}: ours {}, theirs {}",
        facts.name,
        in_words(there),
        in_words(here)
    ));
    if let (VXLAN, Some(arrived)) = (check, facts.arrived) {
        let came = facts.came;
        said = said.seen(format!(
            "{}: {arrived} of our frames arrived there, {came} of theirs came here",
            facts.name
        ));
    }
    let theirs = facts.their_filter.iter().find(broken);
    let Some(theirs) = theirs else {
        return said.mend(open(what.to_owned()));
    };
    let mut said = said.seen(format!("on {}: {}", facts.name, theirs.summary));
    for line in &theirs.evidence {
        said = said.seen(format!("on {}: {line}", facts.name));
    }
    match &theirs.fix {
        // Its words, not ours: to be read before they are typed.
        Some(fix) => said.mend(format!("on {{host}}, which advises: {fix}")),
        None => said.mend(open(what.to_owned())),
    }
}

/// `passes`: some VXLAN does, each way.
fn loss(facts: &Facts, passes: bool) -> Said {
    let Loss { vxlan, underlay } = &facts.loss;
    if let Some(why) = &vxlan.error {
        return unchecked(facts, LOSS, "the loss of packets", why);
    }
    // One of a few may have passed where of many at a time none does: a limit of packets.
    if vxlan.received == 0 && !passes {
        let words = "not looked at: VXLAN to {host} and back does not pass at all";
        return Said::new(facts, LOSS, Verdict::Unchecked, words);
    }
    let lost = |series: &Series| series.sent - series.received;
    if lost(vxlan) <= LOST_FINE {
        return Said::new(
            facts,
            LOSS,
            Verdict::Ok,
            "packets between this host and {host} are not lost",
        );
    }
    let verdict = if lost(vxlan) < LOST_MANY { Verdict::Warn } else { Verdict::Fail };
    let (words, mend) = match underlay {
        Some(underlay) if lost(underlay) > LOST_FINE => (
            "some packets between this host and {host} are lost, in VXLAN and beside it",
            "look for errors and drops on both hosts (ip -s link; ethtool -S), at their load, and at the \
             cables, switches and limits between them",
        ),
        _ => (
            "some VXLAN packets between this host and {host} are lost, and no others",
            "look for a limit of packets or a filter that takes some of UDP 4789, on both hosts \
             (ovlctl doctor --only firewall) and between them; and for full queues (ip -s link)",
        ),
    };
    let mut seen =
        format!("{}: {} of {} frames did not come back", facts.name, lost(vxlan), vxlan.sent);
    if let Some(underlay) = underlay {
        seen += &format!(", {} of {} echoes by UDP", lost(underlay), underlay.sent);
    }
    Said::new(facts, LOSS, verdict, words).seen(seen).mend(mend)
}

fn mtu(facts: &Facts) -> Said {
    let id = "peer.mtu";
    let whole = |path: &Path| path.vxlan_full.is_answered();
    let back = match &facts.back {
        Ok(back) if facts.way.vxlan.is_answered() && back.vxlan.is_answered() => back,
        Ok(_) => {
            let words = "not looked at: VXLAN to {host} and back does not pass at all";
            return Said::new(facts, id, Verdict::Unchecked, words);
        }
        Err(why) => return unchecked(facts, id, "the size of packets", why),
    };
    for path in [&facts.way, back] {
        if let Reach::Untried { why } = &path.vxlan_full {
            return unchecked(facts, id, "the size of packets", why);
        }
    }
    let closed = Closed::of(whole(&facts.way), whole(back));
    if closed == Closed::No {
        let words = format!(
            "packets of {} bytes, as large as this underlay takes, pass to {{host}} and back",
            facts.way.mtu.min(back.mtu)
        );
        return Said::new(facts, id, Verdict::Ok, words);
    }
    let largest = |path: &Path| match path.largest {
        Some(bytes) => format!("{bytes} of {} bytes at most", path.mtu),
        None if whole(path) => format!("{} bytes", path.mtu),
        None => format!("no {} bytes; less was not found out", path.mtu),
    };
    let passes = [&facts.way, back].into_iter().filter_map(|path| path.largest).min();
    // Some links take a few bytes more than their MTU: a VLAN tag's.
    let safe = passes.map(|bytes| bytes / 10 * 10).filter(|bytes| *bytes >= SMALLEST_MTU);
    let mend = safe.map_or_else(
        || "give the interfaces between the hosts one MTU, and networks one that fits (--mtu)".to_owned(),
        |bytes| format!("raise the MTU of what lies between the hosts, or make networks with --mtu {bytes} (docker network create -o com.docker.network.driver.mtu={bytes})"),
    );
    let words = match passes {
        Some(bytes) => format!("packets of more than {bytes} bytes inside VXLAN do not pass between this host and {{host}}: small ones do, large transfers hang"),
        None => "packets of full size do not pass between this host and {host}: small ones do, large transfers hang".to_owned(),
    };
    Said::new(facts, id, Verdict::Fail, words)
        .seen(format!("{}: there {}, back {}", facts.name, largest(&facts.way), largest(back)))
        .mend(mend)
}

/// Whose clock is off: of two hosts that cannot be said, of more it is who differs from most.
fn clocks(facts: &[Facts]) -> Vec<Said> {
    let id = "peer.clock";
    let known: Vec<(&Facts, Offset)> =
        facts.iter().filter_map(|f| Some((f, *f.clock.as_ref().ok()?))).collect();
    let mut all: Vec<i64> = known.iter().map(|(_, offset)| offset.ahead_us).chain([0]).collect();
    all.sort_unstable();
    let usual = all[all.len() / 2];
    let ours_is_off = known.len() > 1 && usual.abs() >= CLOCK_FINE_US;
    let chrony = "set up time synchronisation (systemctl enable --now systemd-timesyncd, or chrony); timedatectl shows it";
    known
        .iter()
        .map(|(facts, offset)| {
            let said = |words: String| {
                Said::new(facts, id, Verdict::Warn, words).seen(format!(
                    "{}: {} (± {} ms)",
                    facts.name,
                    ahead(offset.ahead_us),
                    offset.within_us / 1000
                ))
            };
            let fine = CLOCK_FINE_US + i64::try_from(offset.within_us).unwrap_or(i64::MAX / 2);
            if offset.ahead_us.abs() < fine {
                Said::new(
                    facts,
                    id,
                    Verdict::Ok,
                    "the clocks of this host and {host} agree within a second",
                )
            } else if ours_is_off && (offset.ahead_us - usual).abs() < fine {
                said(format!(
                    "this host's clock is {} s {} those of most other hosts ({{host}})",
                    seconds(usual),
                    if usual < 0 { "ahead of" } else { "behind" }
                ))
                .mend(format!("here: {chrony}"))
            } else if known.len() > 1 {
                said(format!(
                    "the clock of {{host}} is {} s {} those of most other hosts",
                    seconds(offset.ahead_us - usual),
                    if offset.ahead_us > usual { "ahead of" } else { "behind" }
                ))
                .mend(format!("on {{host}}: {chrony}"))
            } else {
                said(format!(
                    "the clocks of this host and {{host}} differ by {} s",
                    seconds(offset.ahead_us)
                ))
                .mend(format!("on both: {chrony}"))
            }
        })
        .collect()
}

fn ahead(us: i64) -> String {
    format!(
        "its clock is {} s {} this host's",
        seconds(us),
        if us < 0 { "behind" } else { "ahead of" }
    )
}

fn seconds(us: i64) -> String {
    format!("{:.1}", us.unsigned_abs() as f64 / 1e6)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
