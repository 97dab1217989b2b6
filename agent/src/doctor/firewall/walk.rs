//! What becomes of a packet: its way through the rules, as the kernel would take it.
//!
//! Three-valued, as not all can be told from here: a match holds, or does not, or may. One that
//! may hold splits the way in two, and both are followed. A packet may also stand for many (from
//! any of some addresses): a match that holds for some of them only may hold.

mod fact;

use std::net::Ipv4Addr;

use self::fact::{Fact, all, any, fact};
use super::model::{
    Base, Chain, ESTABLISHED, Effect, Element, Field, Hook, Match, NEW, Rule, Ruleset, Table, Tool,
    UNTRACKED, Verdict,
};

/// Deepest nesting of jumps; the kernel allows 16.
const DEPTH_MAX: usize = 32;

/// Rules looked at for one packet: some ten thousand are in use where many services are. What needs
/// more is not followed to its end ([`Fate::TooFar`]).
const STEPS_MAX: usize = 300_000;

/// A packet between two hosts, or many that differ in some of this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) direction: Direction,
    pub(super) protocol: Protocol,
    /// From any of these, first to last.
    pub(super) sources: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub(super) destinations: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub(super) source_ports: (u16, u16),
    pub(super) destination_ports: (u16, u16),
    /// By which it comes or goes; None: not known.
    pub(super) interface: Option<String>,
    /// It belongs to a connection that was let through the other way.
    pub(super) answers: bool,
    /// Whether an answer would leave by the interface that it came in by; None: not known.
    pub(super) path_back: Option<bool>,
    /// VNIs that it may have.
    pub(super) vnis: Option<(u32, u32)>,
}

/// As this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    In,
    Out,
}

pub(super) use crate::preflight::Protocol;

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    /// By this.
    Dropped(Culprit),
    /// By this, if something holds that cannot be told.
    MayDrop(Culprit, Doubt),
    /// There are more rules than are looked at.
    TooFar,
}

/// Why it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A match, in the tool's words, and where it stands.
    Match { text: String, place: String },
    /// It holds for some of the packets.
    Some,
}

/// What drops a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Culprit {
    pub(super) tool: Tool,
    pub(super) family: String,
    pub(super) table: String,
    /// The chains on the way, the base chain first.
    pub(super) path: Vec<String>,
    /// None: the policy of the base chain.
    pub(super) rule: Option<Rule>,
}

impl Culprit {
    /// The chain that it stands in.
    pub(super) fn chain(&self) -> &str {
        self.path.last().map(String::as_str).unwrap_or_default()
    }

    /// It is led elsewhere rather than dropped.
    pub(super) fn diverts(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.verdict == Verdict::Divert)
    }
}

/// What became of a packet.
pub(super) struct Walked {
    pub(super) fate: Fate,
    /// Of the packets that it stands for, some may fare otherwise than others.
    pub(super) divides: bool,
    /// Rules that were looked at.
    pub(super) steps: usize,
}

/// How a packet fares.
pub(super) fn walk(rules: &Ruleset, packet: &Packet) -> Walked {
    let mut walk = Walk {
        packet,
        steps: 0,
        divides: false,
        doubts: Vec::new(),
        table: None,
        path: Vec::new(),
    };
    let fate = walk.whole(rules);
    Walked { fate, divides: walk.divides, steps: walk.steps }
}

#[cfg(test)]
pub(super) fn fate(rules: &Ruleset, packet: &Packet) -> Fate {
    walk(rules, packet).fate
}

impl<'a> Walk<'a> {
    fn whole(&mut self, rules: &'a Ruleset) -> Fate {
        let packet = self.packet;
        let mut state = State::of(packet);
        let mut may_drop = None;
        for (table, name, chain, base) in way(rules, packet) {
            self.doubts.clear();
            self.table = Some(table);
            let end = self.base_chain(name, chain, base, state);
            if self.steps >= STEPS_MAX {
                return Fate::TooFar;
            }
            match (end.on, end.drop) {
                (None, Some(drop)) => return Fate::Dropped(drop.culprit),
                (Some(on), drop) => {
                    state = on;
                    let doubt = |because: Option<Doubt>| {
                        because.or_else(|| self.doubts.first().cloned()).unwrap_or(Doubt::Some)
                    };
                    may_drop =
                        may_drop.or(drop.map(|d| Fate::MayDrop(d.culprit, doubt(d.because))));
                }
                // Chains that nobody can leave are not made.
                (None, None) => return Fate::TooFar,
            }
        }
        may_drop.unwrap_or(Fate::Accepted)
    }
}

/// The base chains that the packet passes, in order.
fn way<'a>(rules: &'a Ruleset, packet: &Packet) -> Vec<(&'a Table, &'a str, &'a Chain, &'a Base)> {
    let hooks: &[Hook] = match packet.direction {
        Direction::In => &[Hook::Ingress, Hook::Prerouting, Hook::Input],
        Direction::Out => &[Hook::Output, Hook::Postrouting, Hook::Egress],
    };
    let on_device = |base: &Base| match base.hook {
        Hook::Ingress | Hook::Egress => {
            packet.interface.as_ref().is_some_and(|name| base.devices.contains(name))
        }
        Hook::Prerouting | Hook::Input | Hook::Forward | Hook::Output | Hook::Postrouting => true,
    };
    let mut way: Vec<_> = rules
        .tables
        .iter()
        .flat_map(|table| table.chains.iter().map(move |(name, chain)| (table, name, chain)))
        .filter_map(|(table, name, chain)| {
            Some((table, name.as_str(), chain, chain.base.as_ref()?))
        })
        .filter(|(.., base)| hooks.contains(&base.hook) && on_device(base))
        .filter(|(.., base)| !(base.nat && packet.answers))
        .collect();
    way.sort_by_key(|(table, name, _, base)| (base.hook, base.priority, &table.name, *name));
    way
}

/// What rules may change about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// States that its connection may have, as bits.
    tracking: u64,
    /// None: not known.
    mark: Option<u32>,
}

impl State {
    fn of(packet: &Packet) -> State {
        State { tracking: if packet.answers { ESTABLISHED } else { NEW }, mark: Some(0) }
    }

    /// Where two ways meet.
    fn or(self, other: State) -> State {
        let mark = if self.mark == other.mark { self.mark } else { None };
        State { tracking: self.tracking | other.tracking, mark }
    }

    fn after(self, effects: &[Effect]) -> State {
        effects.iter().fold(self, |state, effect| match *effect {
            Effect::NoTrack => State { tracking: UNTRACKED, ..state },
            Effect::Mark { value, mask } => {
                State { mark: state.mark.map(|mark| (mark & !mask) ^ value), ..state }
            }
            Effect::SomeMark => State { mark: None, ..state },
        })
    }
}

fn join(one: Option<State>, other: Option<State>) -> Option<State> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.or(other)),
        (one, other) => one.or(other),
    }
}

/// Where a packet may be after some rules.
#[derive(Default)]
struct Ways {
    /// It left the base chain, let through.
    accepted: Option<State>,
    /// It goes on with the next rule.
    on: Option<State>,
    /// It goes back to the chain that jumped here.
    back: Option<State>,
    dropped: Option<Drop>,
}

struct Drop {
    culprit: Culprit,
    /// A match on the way to it that may hold.
    because: Option<Doubt>,
}

/// The one to name: the first that is certain, else the first.
fn first(one: Option<Drop>, other: Option<Drop>) -> Option<Drop> {
    match (one, other) {
        (Some(one), Some(other)) if one.because.is_some() && other.because.is_none() => Some(other),
        (one, other) => one.or(other),
    }
}

/// What a base chain does.
struct End {
    on: Option<State>,
    drop: Option<Drop>,
}

struct Walk<'a> {
    packet: &'a Packet,
    steps: usize,
    /// An address of many decides.
    divides: bool,
    /// Matches of this base chain that may hold, of rules that would decide; the first ones.
    doubts: Vec<Doubt>,
    table: Option<&'a Table>,
    path: Vec<String>,
}

/// Whether the matches of a rule hold.
enum Holds<'r> {
    Yes,
    No,
    MayBe(Unsure<'r>),
}

/// Because of what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsure<'r> {
    /// It holds for some of the packets' addresses.
    Address,
    /// Nobody can tell whether this holds.
    Match(&'r Match),
}

/// Doubts that are kept: one is told.
const DOUBTS_MAX: usize = 8;

impl<'a> Walk<'a> {
    fn base_chain(&mut self, name: &str, chain: &'a Chain, base: &Base, state: State) -> End {
        self.path = vec![name.to_owned()];
        let ways = self.chain(chain, state);
        let undecided = join(ways.on, ways.back);
        let (on, drop) = match undecided {
            Some(_) if base.drops => {
                let culprit = self.culprit(None);
                (ways.accepted, first(ways.dropped, Some(Drop { culprit, because: None })))
            }
            _ => (join(ways.accepted, undecided), ways.dropped),
        };
        End { on, drop }
    }

    /// Through all rules of a chain.
    fn chain(&mut self, chain: &'a Chain, state: State) -> Ways {
        let mut ways = Ways { on: Some(state), ..Ways::default() };
        for rule in &chain.rules {
            let Some(state) = ways.on else {
                break;
            };
            self.steps += 1;
            if self.steps >= STEPS_MAX {
                break;
            }
            let unsure = match self.holds(rule, state) {
                Holds::No => continue,
                Holds::Yes => None,
                Holds::MayBe(unsure) => Some(unsure),
            };
            let mut taken = self.take(rule, state.after(&rule.effects));
            if let Some(unsure) = unsure {
                self.divides |= unsure == Unsure::Address;
                let decides = !matches!(rule.verdict, Verdict::Continue);
                if decides && self.doubts.len() < DOUBTS_MAX {
                    self.doubts.push(self.doubt(rule, unsure));
                }
                taken.on = join(taken.on, Some(state));
                if let Some(drop) = &mut taken.dropped
                    && drop.because.is_none()
                {
                    drop.because = Some(self.doubt(rule, unsure));
                }
            }
            ways.on = taken.on;
            ways.back = join(ways.back, taken.back);
            ways.accepted = join(ways.accepted, taken.accepted);
            ways.dropped = first(ways.dropped, taken.dropped);
        }
        ways
    }

    /// A rule whose matches hold.
    fn take(&mut self, rule: &Rule, state: State) -> Ways {
        let dropped = |walk: &Walk<'_>, because| {
            Some(Drop { culprit: walk.culprit(Some(rule.clone())), because })
        };
        match &rule.verdict {
            Verdict::Continue => Ways { on: Some(state), ..Ways::default() },
            Verdict::Accept => Ways { accepted: Some(state), ..Ways::default() },
            Verdict::Return => Ways { back: Some(state), ..Ways::default() },
            Verdict::Drop | Verdict::Divert => {
                Ways { dropped: dropped(self, None), ..Ways::default() }
            }
            Verdict::Unclear(what) => {
                let doubt = Doubt::Match { text: what.clone(), place: self.place(rule) };
                if self.doubts.len() < DOUBTS_MAX {
                    self.doubts.push(doubt.clone());
                }
                let dropped = dropped(self, Some(doubt));
                // It may let it through, drop it, or say nothing.
                Ways { accepted: Some(state), on: Some(state), dropped, back: None }
            }
            Verdict::Jump(target) => {
                let inner = self.enter(target, state);
                Ways { on: join(inner.on, inner.back), back: None, ..inner }
            }
            Verdict::Goto(target) => {
                let inner = self.enter(target, state);
                Ways { back: join(inner.on, inner.back), on: None, ..inner }
            }
        }
    }

    fn enter(&mut self, target: &str, state: State) -> Ways {
        let chain = self.table.and_then(|table| table.chains.get(target));
        let Some(chain) = chain.filter(|_| self.path.len() < DEPTH_MAX) else {
            return Ways { on: Some(state), ..Ways::default() };
        };
        self.path.push(target.to_owned());
        let ways = self.chain(chain, state);
        self.path.pop();
        ways
    }

    fn doubt(&self, rule: &Rule, unsure: Unsure<'_>) -> Doubt {
        match unsure {
            Unsure::Address => Doubt::Some,
            Unsure::Match(one) => {
                // What nft has for a single match is JSON; the rule's own words say more.
                let of_nft = self.table.is_some_and(|table| table.tool == Tool::Nft);
                let text = if of_nft { &rule.text } else { &one.text };
                Doubt::Match { text: text.to_string(), place: self.place(rule) }
            }
        }
    }

    fn place(&self, rule: &Rule) -> String {
        self.culprit(Some(rule.clone())).to_string()
    }

    fn culprit(&self, rule: Option<Rule>) -> Culprit {
        let table = self.table;
        Culprit {
            tool: table.map_or(Tool::Nft, |table| table.tool),
            family: table.map(|table| table.family.clone()).unwrap_or_default(),
            table: table.map(|table| table.name.clone()).unwrap_or_default(),
            path: self.path.clone(),
            rule,
        }
    }

    /// Whether all matches of a rule hold.
    fn holds<'r>(&self, rule: &'r Rule, state: State) -> Holds<'r> {
        let mut doubt = None;
        for one in &rule.matches {
            match self.matches(one, state) {
                Some(true) => {}
                Some(false) => return Holds::No,
                None => doubt = doubt.or(Some(one)),
            }
        }
        let Some(one) = doubt else {
            return Holds::Yes;
        };
        let of_addresses = |field: &Field| matches!(field, Field::Source | Field::Destination);
        let known = !one.elements.iter().flatten().any(|element| *element == Element::Unknown);
        if known && one.fields.iter().any(of_addresses) && self.is_many() {
            return Holds::MayBe(Unsure::Address);
        }
        Holds::MayBe(Unsure::Match(one))
    }

    /// It stands for packets of several addresses.
    fn is_many(&self) -> bool {
        let many = |ranges: &[(Ipv4Addr, Ipv4Addr)]| {
            ranges.len() > 1 || ranges.iter().any(|(a, b)| a != b)
        };
        many(&self.packet.sources) || many(&self.packet.destinations)
    }

    fn matches(&self, one: &Match, state: State) -> Option<bool> {
        let facts: Vec<Fact> =
            one.fields.iter().map(|field| fact(self.packet, *field, state)).collect();
        let among = match facts.as_slice() {
            [fact] => fact.among(one.elements.iter().filter_map(|element| element.first())),
            facts => any(one.elements.iter().map(|tuple| {
                all(facts.iter().zip(tuple).map(|(fact, element)| fact.among([element])))
            })),
        };
        among.map(|among| among != one.negated)
    }
}
