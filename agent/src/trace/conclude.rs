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

/// `unprobed`: why nothing was sent. `asked`: something was to be sent.
pub(crate) fn conclude(
    (from, to): (&str, &str),
    verdicts: &Verdicts,
    outcomes: &[Outcome],
    unprobed: Option<&str>,
    asked: bool,
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
        let refused = outcomes.iter().find_map(|outcome| outcome.refused.as_deref());
        let why = unprobed.or(refused).unwrap_or("no probe was answered");
        let says = format!(
            "every hop from {from} to {to} is as it should be, as far as can be seen without sending: {why}"
        );
        // Whoever wanted to know by a probe does not know.
        (if asked { Verdict::Unknown } else { Verdict::Ok }, says, None)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(answered: u16, refused: Option<&str>) -> Outcome {
        Outcome {
            kind: ProbeKind::Echo,
            bytes: 84,
            sent: if refused.is_some() { 0 } else { 3 },
            answered,
            answer: None,
            refused: refused.map(str::to_owned),
            error: None,
            rtt_us: None,
            seen: Vec::new(),
        }
    }

    fn told(
        verdicts: &Verdicts,
        outcomes: &[Outcome],
        unprobed: Option<&str>,
        asked: bool,
    ) -> Conclusion {
        conclude(("web", "db"), verdicts, outcomes, unprobed, asked)
    }

    #[test]
    fn a_way_that_nothing_was_sent_on_is_fine_only_when_nothing_was_to_be_sent() {
        let hops = vec![Judged::ok(At::Device, "bee-1", "in order")];
        let fine = Verdicts { hops, doubts: Vec::new() };
        for (outcomes, unprobed, asked, verdict, why) in [
            (vec![], Some("as was asked for"), false, Verdict::Ok, "as was asked for"),
            (vec![], Some("no interface"), true, Verdict::Unknown, "no interface"),
            (vec![outcome(0, Some("no room"))], None, true, Verdict::Unknown, "no room"),
            (vec![outcome(0, None)], None, true, Verdict::Unknown, "no probe was answered"),
            (vec![outcome(1, None)], None, true, Verdict::Ok, "db answered"),
        ] {
            let Conclusion { verdict: told, sentence, .. } =
                told(&fine, &outcomes, unprobed, asked);
            assert_eq!(told, verdict, "{sentence}");
            assert!(sentence.contains(why), "{sentence}");
        }
    }

    #[test]
    fn a_broken_hop_is_named_whatever_was_answered() {
        let hops = vec![
            Judged::ok(At::Device, "bee-1", "in order"),
            Judged::broken(At::Fdb, "bee-1", "no row").fix("mend it"),
            Judged::broken(At::Wire, "bee-1", "filtered"),
        ];
        let verdicts = Verdicts { hops, doubts: Vec::new() };
        let end = told(&verdicts, &[outcome(1, None)], None, true);
        assert_eq!((end.verdict, end.broken.as_deref()), (Verdict::Broken, Some("fdb")));
        assert_eq!(end.sentence, "the way from web to db is broken at fdb, on bee-1: no row");
        assert_eq!(end.fix.as_deref(), Some("mend it"));
    }

    #[test]
    fn a_hop_that_could_not_be_looked_at_is_named_unless_only_probes_tell_of_it() {
        for (at, named) in [(At::Peer, true), (At::BackRoute, true), (At::Wire, false)] {
            let hops = vec![Judged::unknown(at, "bee-2", "not looked at")];
            let end = told(&Verdicts { hops, doubts: Vec::new() }, &[], Some("not sent"), false);
            let verdict = if named { Verdict::Unknown } else { Verdict::Ok };
            assert_eq!((end.verdict, end.sentence.contains("not looked at")), (verdict, named));
        }
    }
}
