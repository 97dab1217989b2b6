//! What all hops and probes come to, in one sentence. Pure.

use super::hops::{At, Judged, Verdicts};
use super::points::Outcome;
use crate::control::api::trace::{ProbeKind, Verdict};

/// The end of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conclusion {
    pub(crate) verdict: Verdict,
    pub(crate) broken: Option<String>,
    pub(crate) sentence: String,
    pub(crate) fix: Option<String>,
}

/// `unprobed`: why nothing was sent.
pub(crate) fn conclude(
    (from, to): (&str, &str),
    verdicts: &Verdicts,
    outcomes: &[Outcome],
    unprobed: Option<&str>,
) -> Conclusion {
    if let Some(Judged { hop, .. }) = verdicts.first_broken() {
        let sentence = format!(
            "the way from {from} to {to} is broken at {}, on {}: {}",
            hop.hop, hop.host, hop.says
        );
        let broken = Some(hop.hop.clone());
        return Conclusion { verdict: Verdict::Broken, broken, sentence, fix: hop.fix.clone() };
    }
    let answered = |kind| outcomes.iter().any(|o| o.kind == kind && o.answered > 0);
    let agent = verdicts.hops.iter().find(|judged| judged.at == At::Peer && !judged.is_ok());
    let (verdict, sentence, fix) = if answered(ProbeKind::Echo) || answered(ProbeKind::Udp) {
        match agent {
            None => (Verdict::Ok, works(from, to, outcomes), None),
            Some(agent) => (
                Verdict::Ok,
                format!(
                    "{}; what does not answer is the agent of {}: {}",
                    works(from, to, outcomes),
                    agent.hop.host,
                    agent.hop.says
                ),
                agent.hop.fix.clone(),
            ),
        }
    } else if let Some(agent) = agent {
        let says = format!(
            "no broken hop was found from {from} to {to}, but not all could be looked at: {}",
            agent.hop.says
        );
        (Verdict::Unknown, says, agent.hop.fix.clone())
    } else if let Some(unknown) = unlooked(verdicts) {
        let says = format!(
            "no broken hop was found from {from} to {to}, but {} could not be looked at: {}",
            unknown.hop.hop, unknown.hop.says
        );
        (Verdict::Unknown, says, None)
    } else {
        let why = unprobed.unwrap_or("no probe was answered");
        let says = format!(
            "every hop from {from} to {to} is as it should be, as far as can be seen without sending: {why}"
        );
        (Verdict::Ok, says, None)
    };
    Conclusion { verdict, broken: None, sentence, fix }
}

/// The first hop that is unknown, but for those that only probes tell of.
fn unlooked(verdicts: &Verdicts) -> Option<&Judged> {
    let told_by_probes = [At::Wire, At::BackWire, At::BackDevice];
    verdicts.hops.iter().find(|judged| !judged.is_ok() && !told_by_probes.contains(&judged.at))
}

fn works(from: &str, to: &str, outcomes: &[Outcome]) -> String {
    let echo = outcomes.iter().find(|outcome| outcome.kind == ProbeKind::Echo);
    let time = echo.and_then(|echo| echo.rtt_us);
    let time = match time {
        Some(us @ 0..1000) => format!(" after {us} µs"),
        Some(us) => format!(" after {}.{:02} ms", us / 1000, us % 1000 / 10),
        None => String::new(),
    };
    let large = outcomes.iter().find(|o| o.kind == ProbeKind::Udp && o.arrived());
    let large =
        large.map(|udp| format!(", also packets of {} bytes", udp.bytes)).unwrap_or_default();
    let silent = outcomes.iter().find(|o| o.kind == ProbeKind::Udp && o.sent > 0 && !o.arrived());
    let silent = silent.map(|udp| {
        format!("; whether packets of {} bytes arrive is not known: they were not answered, and nobody watched there", udp.bytes)
    });
    let silent = silent.unwrap_or_default();
    let unsent = outcomes.iter().find_map(|outcome| {
        let why = outcome.refused.as_ref()?;
        Some(format!("; one of {} bytes was not sent: {why}", outcome.bytes))
    });
    let unsent = unsent.unwrap_or_default();
    format!("the way from {from} to {to} works: {to} answered{time}{large}{silent}{unsent}")
}
