//! A trace as it is told. Pure.

use super::conclude::Conclusion;
use super::hops::Verdicts;
use super::judge::{Facts, own_address};
use super::points::{Names, Outcome, Spot};
use super::select::Target;
use super::tried::{Tried, place};
use super::watch::Place as Watched;
use crate::control::api::trace::{Point, Probe, Trace, TraceEnd, TraceNetwork};

/// The answer to who asked for the trace.
pub(super) fn answer(
    facts: &Facts,
    verdicts: Verdicts,
    conclusion: Conclusion,
    outcomes: &[Outcome],
    names: &Names<'_>,
    unprobed: Option<String>,
    tried: &Tried,
) -> Trace {
    let (known, address) = match &facts.target {
        Target::Endpoint { known, address, .. } => (Some(known), Some(*address)),
        Target::Nobody { address, .. } => (None, *address),
        Target::OtherNetwork(_) => (None, None),
    };
    let own = address.and_then(|address| own_address(&facts.from, address));
    let from = TraceEnd {
        name: names.from.to_owned(),
        host: Some(facts.from.host.clone()),
        address: own.or(Some(facts.from.ipv4.into())),
        mac: Some(facts.from.mac.to_string()),
    };
    let to = TraceEnd {
        name: names.to.to_owned(),
        host: known.map(|known| known.host.clone()),
        address,
        mac: known.map(|known| known.mac.to_string()),
    };
    let network = known.map(|known| TraceNetwork {
        name: known.network.name.clone(),
        vni: facts.near.vni,
        mtu: facts.near.mtu,
    });
    let unwatched = if outcomes.is_empty() { Vec::new() } else { tried.unwatched(names.far) };
    Trace {
        from,
        to,
        network,
        verdict: conclusion.verdict,
        broken: conclusion.broken,
        conclusion: conclusion.sentence,
        fix: conclusion.fix,
        hops: verdicts.hops.into_iter().map(|judged| judged.hop).collect(),
        probes: outcomes.iter().map(|outcome| told(outcome, names)).collect(),
        unprobed,
        unwatched,
    }
}

fn container<'a>(spot: Spot, names: &Names<'a>) -> Option<&'a str> {
    match (place(spot), spot.is_far()) {
        (Watched::Endpoint, true) => Some(names.to),
        (Watched::Endpoint, false) => Some(names.from),
        (Watched::Device | Watched::Underlay, _) => None,
    }
}

fn told(outcome: &Outcome, names: &Names<'_>) -> Probe {
    let point = |(spot, seen): &(Spot, Option<u16>)| Point {
        host: if spot.is_far() { names.far } else { names.near }.to_owned(),
        container: container(*spot, names).map(str::to_owned),
        interface: names.interfaces.get(spot).cloned().unwrap_or_default(),
        direction: spot.direction(),
        way: spot.way(),
        seen: *seen,
    };
    let refused = outcome.refused.as_ref().map(|why| format!("not sent: {why}"));
    Probe {
        probe: outcome.kind,
        bytes: outcome.bytes,
        sent: outcome.sent,
        answered: outcome.answered,
        answer: outcome.answer.clone().or(refused).or_else(|| outcome.error.clone()),
        rtt_us: outcome.rtt_us,
        points: outcome.seen.iter().map(point).collect(),
    }
}
