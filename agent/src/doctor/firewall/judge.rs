//! What the rules mean for the other hosts. Pure.

use std::collections::BTreeMap;

use super::model::Ruleset;
use super::traffic::{self, Traffic, ranges};
use super::walk::{Culprit, Doubt, Fate, Packet, Walked, walk};
use super::{Facts, GOSSIP, Peer, VXLAN, advice};
use crate::control::api::doctor::Finding;

/// Hosts that are named in a sentence; of more, how many more.
const NAMED_MAX: usize = 4;

/// Rules that packets are led through, of all walks together: of a thousand hosts that fare differently
/// under thousands of rules, some are not looked at.
const STEPS_MAX: usize = 20_000_000;

/// Something that stands in the way of some packets.
struct Obstacle<'a> {
    culprit: Culprit,
    /// None: it is certain.
    doubt: Option<Doubt>,
    traffic: Vec<Traffic>,
    /// By address; empty: of whoever it is.
    peers: Vec<&'a Peer>,
}

/// Judges both checks.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut obstacles = Vec::new();
    let mut too_far = false;
    let mut walks = Walks { facts, left: STEPS_MAX };
    for traffic in traffic::all(facts) {
        for (peers, fate) in walks.fates(traffic) {
            match fate {
                Fate::Accepted => {}
                Fate::Dropped(culprit) => put(&mut obstacles, traffic, peers, culprit, None),
                Fate::MayDrop(culprit, doubt) => {
                    put(&mut obstacles, traffic, peers, culprit, Some(doubt));
                }
                Fate::TooFar => too_far = true,
            }
        }
    }
    [GOSSIP, VXLAN]
        .into_iter()
        .flat_map(|check| findings(check, facts, &obstacles, too_far))
        .collect()
}

/// Leads packets of all peers through the rules.
struct Walks<'a> {
    facts: &'a Facts,
    /// Rules that may still be looked at.
    left: usize,
}

impl<'a> Walks<'a> {
    /// How the packets of one kind fare, of all peers: those of like fate together.
    fn fates(&mut self, traffic: Traffic) -> Vec<(Vec<&'a Peer>, Fate)> {
        let facts = self.facts;
        if facts.peers.is_empty() {
            let whole = facts.network.unwrap_or_default();
            let anyone = vec![(whole.network(), whole.broadcast())];
            let packet = traffic.packet(facts, anyone, facts.interface.as_deref());
            return vec![(Vec::new(), self.fate(&packet).0)];
        }
        let mut by_interface: BTreeMap<Option<&str>, Vec<&Peer>> = BTreeMap::new();
        for peer in &facts.peers {
            by_interface.entry(peer.via.as_deref()).or_default().push(peer);
        }
        let mut fates = Vec::new();
        for peers in by_interface.values() {
            self.split(traffic, peers, &mut fates);
        }
        fates
    }

    /// All at once; halves, where the rules tell some from others.
    fn split(
        &mut self,
        traffic: Traffic,
        peers: &[&'a Peer],
        fates: &mut Vec<(Vec<&'a Peer>, Fate)>,
    ) {
        let via = peers.first().and_then(|peer| peer.via.as_deref());
        let (fate, divides) = self.fate(&traffic.packet(self.facts, ranges(peers), via));
        if matches!(fate, Fate::MayDrop(..)) && divides && peers.len() > 1 {
            let (one, other) = peers.split_at(peers.len() / 2);
            self.split(traffic, one, fates);
            self.split(traffic, other, fates);
        } else {
            fates.push((peers.to_vec(), fate));
        }
    }

    /// And whether some of them may fare otherwise than others.
    fn fate(&mut self, packet: &Packet) -> (Fate, bool) {
        if self.left == 0 {
            return (Fate::TooFar, false);
        }
        let Walked { fate, divides, steps } = walk(&self.facts.rules, packet);
        self.left = self.left.saturating_sub(steps);
        (fate, divides)
    }
}

/// Adds to the obstacle that is known already, if it is.
fn put<'a>(
    obstacles: &mut Vec<Obstacle<'a>>,
    traffic: Traffic,
    peers: Vec<&'a Peer>,
    culprit: Culprit,
    doubt: Option<Doubt>,
) {
    let known = obstacles.iter_mut().find(|known| {
        let same_check = known.traffic.iter().all(|one| one.check == traffic.check);
        same_check && known.culprit == culprit && known.doubt == doubt
    });
    let Some(known) = known else {
        return obstacles.push(Obstacle { culprit, doubt, traffic: vec![traffic], peers });
    };
    if !known.traffic.contains(&traffic) {
        known.traffic.push(traffic);
    }
    known.peers.extend(peers);
    known.peers.sort_unstable();
    known.peers.dedup();
}

fn findings(check: &str, facts: &Facts, obstacles: &[Obstacle<'_>], too_far: bool) -> Vec<Finding> {
    let of_check = obstacles.iter().filter(|one| one.traffic.iter().all(|t| t.check == check));
    let findings: Vec<Finding> = of_check.map(|one| finding(check, facts, one)).collect();
    if !findings.is_empty() {
        return findings;
    }
    let what = traffic::ports(&of(check, facts));
    if too_far {
        let why = format!(
            "this host has more rules than are looked at: whether one drops {what} is not known"
        );
        return vec![Finding::unchecked(check, why)];
    }
    if let Some(gap) = facts.gaps.first() {
        let why = format!("whether this host drops {what} is not known: {}", gap.why);
        let more = facts.gaps[1..].iter().map(|gap| gap.why.clone());
        let finding = Finding::unchecked(check, why).all_seen(more);
        return vec![match facts.gaps.iter().find_map(|gap| gap.todo.as_ref()) {
            Some(todo) => finding.mend(todo.clone()),
            None => finding,
        }];
    }
    let whom = match facts.peers.len() {
        0 => "other hosts".to_owned(),
        1 => "the other host".to_owned(),
        count => format!("the {count} other hosts"),
    };
    let summary = format!("no rule of this host drops {what} from or to {whom}");
    vec![Finding::ok(check, summary).seen(looked_at(&facts.rules))]
}

fn of(check: &str, facts: &Facts) -> Vec<Traffic> {
    traffic::all(facts).into_iter().filter(|one| one.check == check).collect()
}

/// How much there is.
fn looked_at(rules: &Ruleset) -> String {
    if rules.tables.is_empty() {
        return "there are no tables but the agent's own".to_owned();
    }
    let tables = rules.tables.iter().map(|table| {
        let rules: usize = table.chains.values().map(|chain| chain.rules.len()).sum();
        format!("{} {} ({}): {rules} rules", table.family, table.name, table.tool)
    });
    let tables: Vec<String> = tables.collect();
    format!("looked at: {}", tables.join(", "))
}

fn finding(check: &str, facts: &Facts, obstacle: &Obstacle<'_>) -> Finding {
    let Obstacle { culprit, doubt, traffic, peers } = obstacle;
    let what = traffic::ports(traffic);
    let way = match (traffic.iter().any(|t| t.inbound), traffic.iter().any(|t| !t.inbound)) {
        (true, true) => "from and to",
        (true, false) => "from",
        (false, _) => "to",
    };
    let whom = whom(facts, peers);
    let does = if culprit.diverts() { "leads elsewhere" } else { "drops" };
    let place = culprit.to_string();
    let finding = match doubt {
        None => Finding::fail(check, format!("this host {does} {what} {way} {whom}: {place}")),
        Some(Doubt::Some) => Finding::unchecked(
            check,
            format!(
                "this host {does} {what} {way} some addresses, and no other host is known yet: {place}"
            ),
        ),
        Some(Doubt::Match { text, place: of }) => Finding::warn(
            check,
            format!(
                "this host may {} {what} {way} {whom}: {place}; it depends on `{text}`, which cannot be told from here ({of})",
                does.trim_end_matches('s')
            ),
        ),
    };
    let finding =
        finding.seen(advice::quote(culprit)).mend(advice::fix(facts, culprit, traffic, peers));
    match peers.as_slice() {
        [only] if facts.peers.len() > 1 => finding.about(name(only)),
        _ => finding,
    }
}

fn whom(facts: &Facts, peers: &[&Peer]) -> String {
    if peers.is_empty() {
        return "other hosts".to_owned();
    }
    if peers.len() == facts.peers.len() && peers.len() > 1 {
        return "every other host".to_owned();
    }
    let mut names: Vec<String> = peers.iter().take(NAMED_MAX).map(|peer| shown(peer)).collect();
    if peers.len() > NAMED_MAX {
        names.push(format!("{} more", peers.len() - NAMED_MAX));
    }
    names.join(", ")
}

fn name(peer: &Peer) -> String {
    peer.name.clone().unwrap_or_else(|| peer.address.to_string())
}

fn shown(peer: &Peer) -> String {
    match &peer.name {
        Some(name) => format!("{name} ({})", peer.address),
        None => peer.address.to_string(),
    }
}
