//! The members as last seen, beside foca: names, identities, how long the dead are remembered, and
//! the judgement on what others claim. SANS-IO.
//!
//! foca keeps the truth; this is its mirror, with what foca does not tell: which change happened to
//! whom, and until when a member that is down is remembered.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use foca::State;

use crate::NodeName;
use crate::identity::Identity;
use crate::wire::Row;

/// Most members, alive or remembered. At the bound the one that would be forgotten next makes room;
/// where all are alive, claims of further ones are refused and counted as rejected.
pub const MAX_MEMBERS: usize = 4096;
/// Most members remembered though down or left. At the bound the oldest is forgotten early.
pub(crate) const MAX_REMEMBERED: usize = 1024;
/// How long a member that is down or left is remembered, and asked again.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What is held of one member.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) identity: Identity,
    pub(crate) incarnation: u16,
    pub(crate) state: State,
    /// When it is forgotten; `None` while it lives.
    pub(crate) forget_at: Option<Instant>,
}

impl Known {
    fn member(&self) -> foca::Member<Identity> {
        foca::Member::new(self.identity.clone(), self.incarnation, self.state)
    }

    pub(crate) fn is_active(&self) -> bool {
        is_active(self.state)
    }
}

/// What happened to a member between two looks at foca.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// Never seen before, or forgotten since.
    New(NodeName),
    /// It was down and is active again.
    Returned(NodeName),
    /// It went down.
    Down(NodeName),
    /// It has another address or epoch.
    Moved(NodeName),
    /// Suspected, or no longer.
    Suspicion(NodeName),
}

/// What to do with a claim about a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Give it to foca, which knows the rules.
    Pass,
    /// A claim that a member is down that we see alive and nobody suspected: it is put to the member
    /// first. Else the meeting of two halves of a split cluster, each of which holds the other for
    /// dead, would show everybody as down for a moment.
    Doubt,
    /// No room for another member.
    NoRoom,
    /// Known already, or older than what is known. foca would find that out too, by comparing it with
    /// each member in turn, which at 1,000 members is most of the work of a node.
    Stale,
}

/// The mirror.
#[derive(Debug, Default)]
pub(crate) struct Members {
    map: BTreeMap<NodeName, Known>,
    /// Addresses of active members.
    active: Vec<SocketAddrV4>,
}

impl Members {
    /// Looks at foca's members again. `own` is left out: foca may hold a former self of ours.
    pub(crate) fn refresh<'a>(
        &mut self,
        now: Instant,
        own: &NodeName,
        seen: impl Iterator<Item = &'a foca::Member<Identity>>,
    ) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for member in seen.filter(|member| member.id().name != *own) {
            self.look(now, member, &mut transitions);
        }
        if !transitions.is_empty() {
            self.index();
        }
        transitions
    }

    fn look(&mut self, now: Instant, seen: &foca::Member<Identity>, out: &mut Vec<Transition>) {
        let name = &seen.id().name;
        let forget_at = (!is_active(seen.state())).then(|| now + REMEMBERED_FOR);
        let Some(known) = self.map.get_mut(name) else {
            let known = Known {
                identity: seen.id().clone(),
                incarnation: seen.incarnation(),
                state: seen.state(),
                forget_at,
            };
            self.map.insert(name.clone(), known);
            out.push(Transition::New(name.clone()));
            return;
        };
        known.incarnation = seen.incarnation();
        if known.identity != *seen.id() {
            let moved = known.identity.address != seen.id().address
                || known.identity.epoch != seen.id().epoch;
            known.identity = seen.id().clone();
            if moved {
                out.push(Transition::Moved(name.clone()));
            }
        }
        if known.state != seen.state() {
            let (before, after) = (known.is_active(), is_active(seen.state()));
            known.state = seen.state();
            if before != after {
                known.forget_at = forget_at;
            }
            out.push(match (before, after) {
                (false, true) => Transition::Returned(name.clone()),
                (true, false) => Transition::Down(name.clone()),
                (true, true) | (false, false) => Transition::Suspicion(name.clone()),
            });
        }
    }

    fn index(&mut self) {
        self.active.clear();
        let active = self.map.values().filter(|known| known.is_active());
        self.active.extend(active.map(|known| known.identity.address));
    }

    /// How to take a claim about a member other than ourselves. `left`: it said that it stops.
    pub(crate) fn judge(&self, claim: &foca::Member<Identity>, left: bool) -> Verdict {
        let Some(known) = self.map.get(&claim.id().name) else {
            return if self.map.len() < MAX_MEMBERS { Verdict::Pass } else { Verdict::NoRoom };
        };
        if !beats(claim, &known.member()) {
            return Verdict::Stale;
        }
        let of_the_living = known.state == State::Alive && known.identity == *claim.id();
        if of_the_living && claim.state() == State::Down && !left {
            Verdict::Doubt
        } else {
            Verdict::Pass
        }
    }

    /// Shortens the memory of a member that others found down earlier than we heard of it.
    pub(crate) fn down_since(&mut self, name: &NodeName, now: Instant, ago: Duration) {
        let until = now + REMEMBERED_FOR.saturating_sub(ago);
        if let Some(known) = self.map.get_mut(name)
            && let Some(forget_at) = &mut known.forget_at
        {
            *forget_at = until.min(*forget_at);
        }
    }

    /// The member that is to be forgotten by now, or first when there are too many; one a call.
    pub(crate) fn to_forget(&self, now: Instant) -> Option<Identity> {
        let remembered = self.map.len() - self.active.len();
        let (at, oldest) = self
            .map
            .values()
            .filter_map(|known| Some((known.forget_at?, known)))
            .min_by_key(|(at, _)| *at)?;
        let too_many = remembered > MAX_REMEMBERED || self.map.len() >= MAX_MEMBERS;
        (at <= now || too_many).then(|| oldest.identity.clone())
    }

    /// Drops a member.
    pub(crate) fn forget(&mut self, name: &NodeName) {
        self.map.remove(name);
        self.index();
    }

    /// What is held of a member.
    pub(crate) fn known(&self, name: &NodeName) -> Option<&Known> {
        self.map.get(name)
    }

    /// All members, ordered by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Known)> {
        self.map.iter()
    }

    /// Addresses of all active members.
    pub(crate) fn active(&self) -> &[SocketAddrV4] {
        &self.active
    }

    /// True where an active member has this address.
    pub(crate) fn is_active_at(&self, address: SocketAddrV4) -> bool {
        self.active.contains(&address)
    }

    /// True where some member has this address, alive or not.
    pub(crate) fn is_known_at(&self, address: SocketAddrV4) -> bool {
        let mut all = self.map.values();
        all.any(|known| known.identity.address == address)
    }

    /// Number of all members.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The list for a push-pull, without ourselves.
    pub(crate) fn rows(&self, now: Instant) -> Vec<Row> {
        self.map.values().map(|known| row(known, now)).collect()
    }

    /// The rows that tell something to a peer that holds `theirs`.
    pub(crate) fn news_for(&self, theirs: &[Row], now: Instant) -> Vec<Row> {
        let theirs: BTreeMap<&NodeName, &Row> =
            theirs.iter().map(|row| (&row.member.id().name, row)).collect();
        let news = self.map.values().filter(|known| {
            let theirs = theirs.get(&known.identity.name);
            theirs.is_none_or(|row| beats(&known.member(), &row.member))
        });
        news.map(|known| row(known, now)).collect()
    }
}

fn is_active(state: State) -> bool {
    match state {
        State::Alive | State::Suspect => true,
        State::Down => false,
    }
}

fn row(known: &Known, now: Instant) -> Row {
    let left =
        known.forget_at.map(|at| at.saturating_duration_since(now)).unwrap_or(REMEMBERED_FOR);
    let down_for = REMEMBERED_FOR.saturating_sub(left).as_secs();
    Row { member: known.member(), down_secs: u32::try_from(down_for).unwrap_or(u32::MAX) }
}

/// Whether `a` is news to one who holds `b`, both of one name (SWIM, section 4.2).
fn beats(a: &foca::Member<Identity>, b: &foca::Member<Identity>) -> bool {
    if a.id() != b.id() {
        return a.id().beats(b.id());
    }
    let rank = |member: &foca::Member<Identity>| match member.state() {
        State::Alive => (0, member.incarnation(), 0),
        State::Suspect => (0, member.incarnation(), 1),
        State::Down => (1, 0, 0),
    };
    rank(a) > rank(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, epoch: u64, state: State) -> foca::Member<Identity> {
        let identity = Identity {
            name: name.parse().unwrap(),
            address: "10.0.0.1:7946".parse().unwrap(),
            epoch,
            bump: 0,
        };
        foca::Member::new(identity, 0, state)
    }

    fn members(seen: &[foca::Member<Identity>], now: Instant) -> Members {
        let mut members = Members::default();
        members.refresh(now, &"me".parse().unwrap(), seen.iter());
        members
    }

    fn start() -> Instant {
        crate::sim::start_of_time()
    }

    #[test]
    fn a_restart_is_a_move_and_no_death() {
        let own = "me".parse().unwrap();
        let mut members = members(&[member("a", 1, State::Alive)], start());
        let restarted = member("a", 2, State::Alive);
        let seen = members.refresh(start(), &own, [restarted].iter());
        assert_eq!(seen, [Transition::Moved("a".parse().unwrap())]);
    }

    #[test]
    fn a_death_that_nobody_suspected_is_doubted_unless_the_member_said_that_it_stops() {
        let alive = members(&[member("a", 1, State::Alive)], start());
        let down = member("a", 1, State::Down);
        assert_eq!(alive.judge(&down, false), Verdict::Doubt);
        assert_eq!(alive.judge(&down, true), Verdict::Pass);
        let suspected = members(&[member("a", 1, State::Suspect)], start());
        assert_eq!(suspected.judge(&down, false), Verdict::Pass);
    }

    #[test]
    fn what_is_known_already_is_not_given_to_foca() {
        let seen = members(&[member("a", 2, State::Suspect)], start());
        for (epoch, state, verdict) in [
            (1, State::Alive, Verdict::Stale),
            (2, State::Alive, Verdict::Stale),
            (2, State::Suspect, Verdict::Stale),
            (2, State::Down, Verdict::Pass),
            (3, State::Alive, Verdict::Pass),
        ] {
            let claim = member("a", epoch, state);
            assert_eq!(seen.judge(&claim, false), verdict, "{epoch} {state:?}");
        }
    }

    #[test]
    fn the_dead_are_remembered_for_a_day_counted_from_the_first_who_found_them_dead() {
        let now = start();
        let name = "a".parse().unwrap();
        let mut members = members(&[member("a", 1, State::Down)], now);
        assert!(members.to_forget(now).is_none());
        members.down_since(&name, now, Duration::from_secs(3600));
        assert_eq!(members.rows(now)[0].down_secs, 3600);
        let later = now + REMEMBERED_FOR - Duration::from_secs(3600);
        assert_eq!(members.to_forget(later).unwrap().name, name);
    }

    #[test]
    fn the_remembered_dead_are_bounded_and_the_oldest_goes_first() {
        let now = start();
        let dead: Vec<_> =
            (0..=MAX_REMEMBERED).map(|i| member(&format!("n{i}"), 1, State::Down)).collect();
        let mut members = members(&dead, now);
        members.down_since(&"n7".parse().unwrap(), now, Duration::from_secs(60));
        let oldest = members.to_forget(now).unwrap();
        assert_eq!(oldest.name.as_ref(), "n7");
        members.forget(&oldest.name);
        assert!(members.to_forget(now).is_none());
    }

    #[test]
    fn only_what_a_peer_does_not_know_is_told() {
        let now = start();
        let ours = members(
            &[
                member("a", 2, State::Alive),
                member("b", 1, State::Suspect),
                member("c", 1, State::Alive),
            ],
            now,
        );
        let theirs = members(
            &[
                member("a", 1, State::Down),
                member("b", 1, State::Alive),
                member("c", 1, State::Down),
            ],
            now,
        );
        let told = ours.news_for(&theirs.rows(now), now);
        let names: Vec<_> = told.iter().map(|row| row.member.id().name.as_ref()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
