//! Where probes were seen, and what their loss says. Pure.
//!
//! A probe and its answer pass points in a fixed order. The first point that it was not seen at, after
//! one that it was, is the place of loss; the hops between the two are to blame.

use std::collections::BTreeMap;

use super::hops::{At, Verdicts};
use crate::control::api::trace::{Direction, ProbeKind, Verdict, Way};
use crate::core::VXLAN_OVERHEAD;

/// A place where a packet can be seen, in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    FromOut,
    DeviceOut,
    UnderlayOut,
    FarUnderlayIn,
    FarDeviceIn,
    ToIn,
    ToOut,
    FarDeviceOut,
    FarUnderlayOut,
    UnderlayIn,
    DeviceIn,
    FromIn,
}

impl Spot {
    /// On a way between hosts.
    pub(crate) const BETWEEN_HOSTS: [Spot; 12] = [
        Spot::FromOut,
        Spot::DeviceOut,
        Spot::UnderlayOut,
        Spot::FarUnderlayIn,
        Spot::FarDeviceIn,
        Spot::ToIn,
        Spot::ToOut,
        Spot::FarDeviceOut,
        Spot::FarUnderlayOut,
        Spot::UnderlayIn,
        Spot::DeviceIn,
        Spot::FromIn,
    ];

    /// Between containers of one host, where the device hands frames over inside the kernel.
    pub(crate) const ON_ONE_HOST: [Spot; 4] =
        [Spot::FromOut, Spot::ToIn, Spot::ToOut, Spot::FromIn];

    /// Of ARP between hosts, which the device answers.
    pub(crate) const OF_PROXY: [Spot; 4] =
        [Spot::FromOut, Spot::DeviceOut, Spot::DeviceIn, Spot::FromIn];

    pub(crate) fn way(self) -> Way {
        if self <= Spot::ToIn { Way::There } else { Way::Back }
    }

    pub(crate) fn direction(self) -> Direction {
        match self {
            Spot::FromOut | Spot::DeviceOut | Spot::UnderlayOut => Direction::Out,
            Spot::FarUnderlayIn | Spot::FarDeviceIn | Spot::ToIn => Direction::In,
            Spot::ToOut | Spot::FarDeviceOut | Spot::FarUnderlayOut => Direction::Out,
            Spot::UnderlayIn | Spot::DeviceIn | Spot::FromIn => Direction::In,
        }
    }

    /// At the end that the way leads to.
    pub(crate) fn is_far(self) -> bool {
        (Spot::FarUnderlayIn..=Spot::FarUnderlayOut).contains(&self)
    }

    /// The hops that a packet passes to come here from the spot before; the last one is to blame when
    /// none of them is known to be broken.
    fn hops_before(self) -> &'static [At] {
        match self {
            Spot::FromOut => &[At::FromInterface],
            Spot::DeviceOut => &[At::FromInterface, At::Device],
            Spot::UnderlayOut => &[At::Neighbour, At::Fdb, At::Underlay],
            Spot::FarUnderlayIn => &[At::Wire],
            Spot::FarDeviceIn => &[At::PeerDevice],
            // Between containers of one host there is no spot in between.
            Spot::ToIn => &[At::FromInterface, At::Device, At::Sibling, At::ToInterface],
            Spot::ToOut => &[At::BackRoute, At::ToInterface, At::ToContainer],
            Spot::FarDeviceOut => &[At::ToInterface, At::PeerDevice, At::BackRoute],
            Spot::FarUnderlayOut => &[At::BackNeighbour, At::BackFdb, At::BackUnderlay],
            Spot::UnderlayIn => &[At::BackWire],
            Spot::DeviceIn => &[At::Device, At::BackDevice],
            Spot::FromIn => &[At::Sibling, At::Device, At::FromInterface, At::BackDevice],
        }
    }
}

/// What became of the probes of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) kind: ProbeKind,
    /// As sent, in bytes.
    pub(crate) bytes: usize,
    pub(crate) sent: u16,
    pub(crate) answered: u16,
    /// What the first answer was.
    pub(crate) answer: Option<String>,
    /// Why it could not be sent.
    pub(crate) refused: Option<String>,
    pub(crate) microseconds: Option<u64>,
    /// The spots of its way, in order, with how many were seen; none: nobody watched there.
    pub(crate) seen: Vec<(Spot, Option<u16>)>,
}

/// Where a probe was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The last spot where it was seen.
    pub(crate) after: Option<Spot>,
    /// The first where it was not, although somebody watched; none: nobody watched the rest.
    pub(crate) before: Option<Spot>,
    /// Spots in between that nobody watched.
    pub(crate) blind: bool,
}

impl Outcome {
    /// It came to the other end, whether that answered or not.
    pub(crate) fn arrived(&self) -> bool {
        self.answered > 0 || self.was_seen(Spot::ToIn)
    }

    /// The other end's own kernel has answered.
    fn answers_from_within(&self) -> bool {
        self.kind != ProbeKind::Arp && self.answered > 0
    }

    pub(crate) fn was_seen(&self, spot: Spot) -> bool {
        self.seen.iter().any(|(at, seen)| *at == spot && seen.is_some_and(|seen| seen > 0))
    }

    /// None: it was answered, or not sent.
    pub(crate) fn loss(&self) -> Option<Loss> {
        if self.answered > 0 || self.sent == 0 {
            return None;
        }
        let seen = |entry: &&(Spot, Option<u16>)| entry.1.is_some_and(|seen| seen > 0);
        let after = self.seen.iter().rev().find(seen).map(|(spot, _)| *spot);
        let rest = self.seen.iter().filter(|(spot, _)| after.is_none_or(|after| *spot > after));
        let rest: Vec<_> = rest.collect();
        let before = rest.iter().find(|(_, seen)| *seen == Some(0)).map(|(spot, _)| *spot);
        let blind = rest
            .iter()
            .take_while(|(spot, _)| before.is_none_or(|before| *spot < before))
            .any(|(_, seen)| seen.is_none());
        Some(Loss { after, before, blind })
    }
}

/// What probes add to the verdict of each hop.
pub(crate) fn settle(verdicts: &mut Verdicts, outcomes: &[Outcome], names: &Names<'_>) {
    let of = |kind| outcomes.iter().find(|outcome| outcome.kind == kind);
    let (echo, udp) = (of(ProbeKind::Echo), of(ProbeKind::Udp));
    for outcome in [echo, udp].into_iter().flatten() {
        confirm(verdicts, outcome, names);
    }
    if let Some(outcome) = echo.filter(|echo| echo.loss().is_some()).or(udp) {
        let only_large = outcome.kind == ProbeKind::Udp && echo.is_some_and(|e| e.answered > 0);
        // Of two that arrive, one answer is enough: a container need not answer everything.
        let arrives = outcome.arrived() && outcomes.iter().any(|o| o.answers_from_within());
        if let Some(loss) = outcome.loss().filter(|_| !arrives) {
            blame(verdicts, outcome, loss, only_large, names);
        }
    }
    doubt(verdicts, udp.filter(|udp| udp.bytes >= names.mtu), echo);
}

/// Words for what is blamed.
pub(crate) struct Names<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) near: &'a str,
    pub(crate) far: &'a str,
    /// What spots are called: the interface.
    pub(crate) interfaces: &'a BTreeMap<Spot, String>,
    /// UDP port of VXLAN.
    pub(crate) port: u16,
    /// Of the network, in bytes.
    pub(crate) mtu: usize,
}

impl Names<'_> {
    /// `eth1 on bee-2`, `eth0 of db`.
    pub(crate) fn spot(&self, spot: Spot) -> String {
        let interface = self.interfaces.get(&spot).map_or("its interface", String::as_str);
        match spot {
            Spot::FromOut | Spot::FromIn => format!("{interface} of {}", self.from),
            Spot::ToIn | Spot::ToOut => format!("{interface} of {}", self.to),
            spot if spot.is_far() => format!("{interface} on {}", self.far),
            _ => format!("{interface} on {}", self.near),
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
) {
    let place = placed(outcome, loss, names);
    // With nobody watching in between, any of the hops from there on may be it.
    let spots = outcome.seen.iter().map(|(spot, _)| *spot);
    let last = loss.before.unwrap_or(Spot::FromIn);
    let between =
        spots.filter(|spot| loss.after.is_none_or(|after| *spot > after) && *spot <= last);
    let suspects: Vec<At> = between.flat_map(Spot::hops_before).copied().collect();
    if let Some(known) =
        verdicts.hops.iter_mut().find(|j| j.is_broken() && suspects.contains(&j.at))
    {
        known.hop.evidence.push(place);
        return;
    }
    if only_large && let Some(doubt) = verdicts.doubts.first().cloned() {
        if let Some(judged) = verdicts.hop(doubt.at) {
            judged.breaks(format!("{}; {place}", doubt.says), doubt.fix);
        }
        return;
    }
    let first = outcome
        .seen
        .iter()
        .map(|(spot, _)| *spot)
        .find(|spot| loss.after.is_none_or(|after| *spot > after));
    let Some(spot) = (if loss.blind { first } else { loss.before }) else {
        return;
    };
    let there = |at: &&At| verdicts.hops.iter().any(|judged| judged.at == **at);
    let Some(at) = spot.hops_before().iter().rev().find(there).copied() else {
        return;
    };
    let (why, fix) = cause(spot, loss, outcome, only_large, names);
    if let Some(judged) = verdicts.hop(at) {
        judged.breaks(format!("{place}: {why}"), fix);
    }
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
        (Some(before), false) if before == Spot::ToOut => format!("{seen}, and not answered"),
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
            (true, _) => judged
                .hop
                .evidence
                .push(format!("{}; a large probe passed all the same, in fragments", doubt.says)),
            (false, true) => {}
            (false, false) => return judged.breaks(doubt.says, doubt.fix),
        }
    }
}
