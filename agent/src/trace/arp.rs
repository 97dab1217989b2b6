//! What the answers to "who has the address?" say. Pure.

use super::hops::{At, Judged, Verdicts};
use super::points::{Names, Outcome, Spot};

/// The answers, and what they should be.
pub(crate) struct Answers<'a> {
    /// Each MAC that was answered, in the order of the answers.
    pub(crate) macs: &'a [String],
    /// The other end's.
    pub(crate) expected: &'a str,
    /// Endpoints of the same host, as (MAC, name).
    pub(crate) siblings: &'a [(String, String)],
    /// The address that was asked for.
    pub(crate) address: std::net::IpAddr,
}

/// Adds them to the verdict on the hop that answers.
pub(crate) fn settle(
    verdicts: &mut Verdicts,
    outcome: &Outcome,
    answers: &Answers<'_>,
    names: &Names<'_>,
) {
    let one_host = verdicts.hop(At::Sibling).is_some();
    let at = if one_host { At::Sibling } else { At::Neighbour };
    let address = answers.address;
    if let Some(other) = answers.macs.iter().find(|mac| *mac != answers.expected) {
        let says = taken(other, answers, names);
        let fix = format!("in that container: ip address del {address}/PREFIX dev INTERFACE");
        if let Some(judged) = verdicts.hop(at).filter(|judged| !judged.is_broken()) {
            judged.breaks(says, Some(fix));
        } else if let Some(judged) = verdicts.hop(at) {
            judged.hop.evidence.push(says);
        }
        return;
    }
    if !answers.macs.is_empty() {
        if let Some(judged) = verdicts.hop(at) {
            judged.hop.evidence.push(format!("asked by a probe, it answered {}", answers.expected));
        }
        return;
    }
    if outcome.sent > 0 {
        silent(verdicts, outcome, at, names);
    }
}

fn taken(other: &str, answers: &Answers<'_>, names: &Names<'_>) -> String {
    let (address, to, near) = (answers.address, names.to, names.near);
    let whose = match answers.siblings.iter().find(|(mac, _)| mac == other) {
        Some((_, name)) => format!("{name} on {near}"),
        None => format!("an interface with MAC {other} on {near}"),
    };
    format!(
        "{whose} ({other}) answers who has {address}, beside {to}: the address was set there by hand, and packets to {to} go astray"
    )
}

/// Nobody answered. On one host the other end should have.
fn silent(verdicts: &mut Verdicts, outcome: &Outcome, at: At, names: &Names<'_>) {
    let suspects = [At::FromInterface, At::Device, At::Sibling, At::Neighbour, At::ToInterface];
    let what = format!("{} questions who has it were not answered", outcome.sent);
    let broken = |judged: &&mut Judged| judged.is_broken() && suspects.contains(&judged.at);
    if let Some(known) = verdicts.hops.iter_mut().find(broken) {
        known.hop.evidence.push(what);
        return;
    }
    let (at, says) = match at {
        At::Sibling if outcome.was_seen(Spot::ToIn) => (
            At::ToContainer,
            format!("{what}, though {} got them: arp_ignore or a filter in {}", names.to, names.to),
        ),
        At::Sibling => (At::ToInterface, format!("{what}, and did not come to {}", names.to)),
        at => (at, format!("{what}, though the device has the row: it does not answer from it")),
    };
    // A row that is not there, as another hop says, cannot be answered from.
    let is_known = |judged: &&mut Judged| judged.at != At::Neighbour || judged.is_ok();
    if let Some(judged) = verdicts.hop(at).filter(is_known) {
        judged.breaks(says, None);
    }
}
