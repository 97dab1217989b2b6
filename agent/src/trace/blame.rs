//! What probes add to the verdict of each hop. Pure.

use super::facts::End;
use super::hops::{At, Doubt, Judged, Verdicts};
use super::points::{Loss, Names, Outcome, Spot};
use crate::control::api::trace::{ProbeKind, Verdict, Way};
use crate::core::VXLAN_OVERHEAD;
use crate::tool::quoted;

/// A loss for which a hop is blamed that was not known to be broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blamed {
    /// Packets are lost before it.
    pub(crate) spot: Spot,
    pub(crate) at: At,
    /// Where they were seen, and where not, in words.
    pub(crate) place: String,
}

/// Adds it.
pub(crate) fn settle(
    verdicts: &mut Verdicts,
    outcomes: &[Outcome],
    names: &Names<'_>,
) -> Option<Blamed> {
    let of = |kind| outcomes.iter().find(|outcome| outcome.kind == kind);
    let (echo, udp) = (of(ProbeKind::Echo), of(ProbeKind::Udp));
    for outcome in [echo, udp].into_iter().flatten() {
        confirm(verdicts, outcome, names);
    }
    // A kernel answers UDP only so often (icmp_ratelimit): silence alone says nothing.
    let is_told = |udp: &&Outcome| udp.arrived() || !udp.loss().is_some_and(|loss| loss.blind);
    let udp = udp.filter(is_told);
    let lost = echo.filter(|echo| echo.loss().is_some()).or(udp);
    let blamed = lost.and_then(|outcome| {
        // Of two that arrive, one answer is enough: a container need not answer everything.
        let arrives = outcome.arrived() && outcomes.iter().any(Outcome::answers_from_within);
        let loss = outcome.loss().filter(|_| !arrives)?;
        let only_large = outcome.kind == ProbeKind::Udp && echo.is_some_and(|e| e.answered > 0);
        blame(verdicts, outcome, loss, only_large, names)
    });
    doubt(verdicts, udp.filter(|udp| udp.bytes >= names.mtu), echo);
    blamed
}

/// Adds what became of an echo that FROM's own kernel sent, where frames out of its interface are answered.
pub(crate) fn settle_own(
    verdicts: &mut Verdicts,
    own: &Result<(), String>,
    near: &End,
    names: &Names<'_>,
) {
    // A program cannot do what the way does not.
    if own.is_err() && verdicts.first_broken().is_some() {
        return;
    }
    let Some(judged) = verdicts.hop(At::FromRoute).filter(|judged| !judged.is_broken()) else {
        return;
    };
    let from = names.from;
    match own {
        Ok(()) => judged.hop.evidence.push(format!(
            "an echo that {from}'s own kernel sent was answered, and came up to a program"
        )),
        Err(why) => {
            let says = format!(
                "{from}'s own kernel {why}, though what its interface sends is answered: a packet filter or a routing rule inside {from}"
            );
            let netns = near.held.as_ref().and_then(|held| held.netns.as_ref());
            let fix = netns.map(|netns| {
                let netns = quoted(&netns.display().to_string());
                format!(
                    "on {}: nsenter --net={netns} sh -c 'nft list ruleset; iptables-save; ip rule; ip route'",
                    names.near
                )
            });
            judged.breaks(says, fix);
        }
    }
}

/// Hops that only a probe can tell of, and that one has passed.
fn confirm(verdicts: &mut Verdicts, outcome: &Outcome, names: &Names<'_>) {
    let answered = outcome.answered > 0;
    let spots = [
        (At::Wire, Spot::FarUnderlayIn),
        (At::BackWire, Spot::UnderlayIn),
        (At::BackDevice, Spot::FromIn),
    ];
    for (at, spot) in spots {
        let passed =
            answered || (spot.way() == Way::There && outcome.arrived()) || outcome.was_seen(spot);
        let Some(judged) = verdicts.hop(at).filter(|judged| passed && !judged.is_broken()) else {
            continue;
        };
        let (whence, whither) = match spot.way() {
            Way::There => (names.near, names.far),
            Way::Back => (names.far, names.near),
        };
        judged.hop.verdict = Verdict::Ok;
        judged.hop.says = match at {
            At::BackDevice => format!("answers come back to {}", names.from),
            _ => format!("VXLAN packets of {whence} reach {whither}"),
        };
        let what = format!("{} of {} bytes", kind(outcome.kind), outcome.bytes);
        let seen = match outcome.was_seen(spot) {
            true => format!("{what}: seen at {}", names.spot(spot)),
            false => format!("{what}: answered"),
        };
        judged.hop.evidence.push(seen);
    }
}

fn blame(
    verdicts: &mut Verdicts,
    outcome: &Outcome,
    loss: Loss,
    only_large: bool,
    names: &Names<'_>,
) -> Option<Blamed> {
    let place = placed(outcome, loss, names);
    let suspects: Vec<At> = outcome.behind(loss).flat_map(Spot::hops_before).copied().collect();
    let known = |judged: &&mut Judged| judged.is_broken() && suspects.contains(&judged.at);
    if let Some(known) = verdicts.hops.iter_mut().find(known) {
        known.hop.evidence.push(place);
        return None;
    }
    let fits = |doubt: &&Doubt| match only_large {
        true => doubt.of_size,
        false => !doubt.of_size && suspects.contains(&doubt.at),
    };
    if let Some(doubt) = verdicts.doubts.iter().find(fits).cloned() {
        let judged = verdicts.hop(doubt.at)?;
        judged.breaks(format!("{}; {place}", doubt.says), doubt.fix);
        return None;
    }
    let spot = match loss.before {
        Some(before) if !loss.blind => before,
        Some(_) | None => outcome.behind(loss).next()?,
    };
    let there = |at: &&At| verdicts.hops.iter().any(|judged| judged.at == **at);
    let at = spot.hops_before().iter().rev().find(there).copied()?;
    let (why, fix) = cause(spot, loss, outcome, only_large, names);
    verdicts.hop(at)?.breaks(format!("{place}: {why}"), fix);
    (!loss.blind).then_some(Blamed { spot, at, place })
}

/// `an echo of 84 bytes was seen at eth1 on bee-1, and not at eth1 on bee-2`.
fn placed(outcome: &Outcome, loss: Loss, names: &Names<'_>) -> String {
    let what = format!("{} of {} bytes", kind(outcome.kind), outcome.bytes);
    let seen = loss.after.map_or_else(
        || format!("{what} was sent, and seen nowhere"),
        |after| {
            let which = if after.way() == Way::Back { "the answer to " } else { "" };
            format!("{which}{what} was seen at {}", names.spot(after))
        },
    );
    match (loss.before, loss.blind) {
        (Some(_), false) if outcome.error.is_some() => {
            let error = outcome.error.as_deref().unwrap_or_default();
            format!("{seen}, and refused: {error}")
        }
        (Some(Spot::ToOut), false) => format!("{seen}, and not answered"),
        (Some(before), false) => format!("{seen}, and not at {}", names.spot(before)),
        (_, _) => format!("{seen}, and no answer came back; in between nobody watched"),
    }
}

fn kind(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Arp => "ARP",
        ProbeKind::Echo => "an echo",
        ProbeKind::Udp => "UDP",
    }
}

/// The likely cause of a loss before a spot, and what to do.
fn cause(
    spot: Spot,
    loss: Loss,
    outcome: &Outcome,
    only_large: bool,
    names: &Names<'_>,
) -> (String, Option<String>) {
    let Names { from, to, near, far, port, .. } = names;
    let doctor = |host: &str| Some(format!("on {host}: ovlctl doctor --only firewall.vxlan"));
    let input = |host: &str| {
        let why = format!(
            "a packet filter of {host} drops UDP {port} that comes in (INPUT), or rp_filter does; or another program holds the port"
        );
        (why, doctor(host))
    };
    let wire = |whence: &str, whither: &str| match only_large {
        true => (
            format!(
                "the way from {whence} to {whither} carries small packets and loses large ones: its MTU is below the {} bytes that they have in VXLAN",
                outcome.bytes + usize::from(VXLAN_OVERHEAD)
            ),
            Some(format!(
                "find the switch, tunnel or cloud network with the smaller MTU between {whence} and {whither}; or create the network with a smaller --mtu"
            )),
        ),
        false => (
            format!(
                "UDP {port} is filtered on the way from {whence} to {whither}, or the two are cut off"
            ),
            Some(format!(
                "open UDP {port} between the hosts, in firewalls and in the cloud's security groups"
            )),
        ),
    };
    if loss.blind {
        return match spot {
            Spot::FarUnderlayIn => (
                format!(
                    "lost on the way, on {far} or on the way back: {far}'s agent does not answer"
                ),
                Some(format!("on {far}: systemctl status ovl-agent; then trace again")),
            ),
            spot => (
                format!("lost behind {}", names.spot(spot)),
                Some("see what could not be watched".to_owned()),
            ),
        };
    }
    match spot {
        Spot::FromOut => (
            format!("the kernel did not let {from}'s interface send it"),
            Some(format!("on {near}: look for tc filters in {from}")),
        ),
        Spot::DeviceOut => (
            format!(
                "{from}'s interface does not hand it to the network's device: tc filters in {from}, or macvlan in another mode than bridge"
            ),
            Some(format!("on {near}: ip -d link, tc filter show in {from}")),
        ),
        Spot::UnderlayOut => (
            format!(
                "a packet filter of {near} drops UDP {port} that goes out (OUTPUT), or the device has no use for it"
            ),
            doctor(near),
        ),
        Spot::FarUnderlayIn => wire(near, far),
        Spot::FarDeviceIn => input(far),
        Spot::ToIn => (
            format!(
                "{far}'s kernel does not hand it to {to}: its interface is down, has another MAC, or filters"
            ),
            Some(format!("on {far}: ip -d link in {to}'s namespace")),
        ),
        Spot::ToOut => (
            format!(
                "{to}'s own kernel drops it: a packet filter inside the container, or the address is not its own"
            ),
            Some(format!("on {far}: nft list ruleset and ip address in {to}'s namespace")),
        ),
        Spot::FarDeviceOut => (
            format!("{to}'s interface does not hand the answer to the network's device"),
            Some(format!("on {far}: ip -d link, tc filter show in {to}'s namespace")),
        ),
        Spot::FarUnderlayOut => (
            format!(
                "a packet filter of {far} drops UDP {port} that goes out (OUTPUT), or its device has no row for {from}"
            ),
            doctor(far),
        ),
        Spot::UnderlayIn => wire(far, near),
        Spot::DeviceIn => input(near),
        Spot::FromIn => (
            format!("{near}'s kernel does not hand the answer to {from}"),
            Some(format!("on {near}: ip -d link in {from}'s namespace")),
        ),
    }
}

/// Too small an MTU, where no probe was lost: large packets pass in fragments, or nothing tells.
fn doubt(verdicts: &mut Verdicts, udp: Option<&Outcome>, echo: Option<&Outcome>) {
    if verdicts.first_broken().is_some() {
        return;
    }
    let passed = udp.is_some_and(Outcome::arrived);
    let told = udp.is_some() && echo.is_some();
    for doubt in verdicts.doubts.clone() {
        let Some(judged) = verdicts.hop(doubt.at) else { continue };
        match (passed, told) {
            (true, _) if doubt.of_size => judged
                .hop
                .evidence
                .push(format!("{}; a large probe passed all the same, in fragments", doubt.says)),
            (true, _) => {
                judged.hop.evidence.push(format!("{}; probes passed all the same", doubt.says));
            }
            (false, true) => {}
            (false, false) if doubt.of_size => return judged.breaks(doubt.says, doubt.fix),
            (false, false) => judged.hop.evidence.push(doubt.says),
        }
    }
}

#[cfg(test)]
#[path = "blame_tests.rs"]
mod tests;
