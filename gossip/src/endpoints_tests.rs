use proptest::prelude::*;

use super::*;
use crate::endpoint::tests::endpoint;

fn origin() -> NodeName {
    "origin".parse().unwrap()
}

fn table() -> Table {
    Table::new("reader".parse().unwrap(), 1, Vec::new())
}

fn origin_table(epoch: u64) -> Table {
    Table::new(origin(), epoch, vec![endpoint("first", 1)])
}

fn upsert(id: &str, generation: u64) -> Change {
    Change::Upsert(endpoint(id, generation))
}

/// Everything an origin ever said, and its whole state at each version.
struct History {
    deltas: Vec<Delta>,
    states: Vec<State>,
}

/// An origin that does `changes` and restarts where told.
fn history(changes: &[(u8, u8, bool)]) -> History {
    let mut table = origin_table(1);
    let mut history = History { deltas: Vec::new(), states: vec![table.own_state()] };
    for (what, id, restart) in changes {
        if *restart {
            let before = table.own_state();
            table = Table::new(origin(), before.version.epoch + 1, before.endpoints);
            history.states.push(table.own_state());
        }
        let change = match what % 3 {
            0 | 1 => upsert(&format!("e{id}"), u64::from(*what)),
            _ => Change::Remove(format!("e{id}")),
        };
        if let Some(delta) = table.change(change) {
            history.deltas.push(delta);
            history.states.push(table.own_state());
        }
    }
    history
}

fn deliver(table: &mut Table, history: &History, pick: usize) {
    let all = history.deltas.len() + history.states.len();
    match (pick % all).checked_sub(history.deltas.len()) {
        None => table.apply_delta(history.deltas[pick % all].clone()),
        Some(state) => table.apply_state(history.states[state].clone()),
    };
}

proptest! {
    /// Whatever is lost, repeated or out of order, a reader only ever holds what the origin once held,
    /// never goes back, and ends with the last state once that has arrived.
    #[test]
    fn any_order_loss_and_repetition_ends_in_the_table_of_the_origin(
        changes in prop::collection::vec((any::<u8>(), 0..6_u8, prop::bool::weighted(0.1)), 1..40),
        picks in prop::collection::vec(any::<usize>(), 0..200),
    ) {
        let history = history(&changes);
        let mut table = table();
        let mut last = None;
        for pick in picks {
            deliver(&mut table, &history, pick);
            let held = table.state(&origin());
            if let Some(held) = &held {
                prop_assert!(history.states.contains(held));
                prop_assert!(last <= Some(held.version));
                last = Some(held.version);
            }
            prop_assert_eq!(table.len(), held.map_or(0, |held| held.endpoints.len()));
        }
        let end = history.states.last().unwrap();
        table.apply_state(end.clone());
        prop_assert_eq!(table.state(&origin()), Some(end.clone()));
    }

    /// After a first state, the changes alone suffice, in any order.
    #[test]
    fn all_changes_in_any_order_lead_from_the_first_state_to_the_last(
        changes in prop::collection::vec((any::<u8>(), 0..6_u8, Just(false)), 1..40),
        seed in any::<u64>(),
    ) {
        let history = history(&changes);
        let mut deltas = history.deltas.clone();
        let mut shuffle = seed;
        deltas.sort_by_cached_key(|_| {
            shuffle = shuffle.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffle
        });
        let mut table = table();
        table.apply_state(history.states[0].clone());
        for delta in deltas {
            table.apply_delta(delta);
        }
        prop_assert_eq!(table.state(&origin()), history.states.last().cloned());
    }
}

#[test]
fn a_change_before_the_first_state_waits_for_it() {
    let mut origin_table = origin_table(1);
    let first = origin_table.own_state();
    let delta = origin_table.change(upsert("e", 1)).unwrap();
    let mut table = table();
    let outcome = table.apply_delta(delta.clone());
    assert_eq!(outcome, Outcome::Ahead { first: true });
    assert_eq!(table.apply_delta(delta), Outcome::Ahead { first: false });
    assert!(table.endpoints(&origin()).is_none());
    assert_eq!(table.apply_state(first), Outcome::Applied);
    assert_eq!(table.state(&origin()), Some(origin_table.own_state()));
}

#[test]
fn after_a_restart_the_old_state_stays_until_the_whole_new_one_is_here() {
    let mut old = origin_table(1);
    old.change(upsert("e", 1));
    let mut table = table();
    table.apply_state(old.own_state());
    let mut new = origin_table(2);
    let delta = new.change(upsert("f", 1)).unwrap();
    assert_eq!(table.apply_delta(delta), Outcome::Ahead { first: true });
    assert_eq!(table.state(&origin()), Some(old.own_state()));
    assert_eq!(table.apply_state(new.own_state()), Outcome::Applied);
    assert_eq!(table.state(&origin()), Some(new.own_state()));
    assert_eq!(table.apply_state(old.own_state()), Outcome::Old);
}

#[test]
fn what_is_said_of_us_above_our_own_version_is_noticed_and_jumped_over() {
    let mut ours = origin_table(3);
    let heard = Version { epoch: 3, seq: 9 };
    assert_eq!(ours.compare(&origin(), heard), Outcome::AboutUs);
    ours.jump_above(heard);
    assert!(ours.own_version() > heard);
    assert_eq!(ours.compare(&origin(), heard), Outcome::Old);
}

#[test]
fn an_announcement_that_changes_nothing_makes_no_version() {
    let mut ours = origin_table(1);
    assert!(ours.change(upsert("e", 1)).is_some());
    assert!(ours.change(upsert("e", 1)).is_none());
    assert!(ours.change(Change::Remove("x".into())).is_none());
    assert!(ours.change(Change::Leaving).is_some());
    assert!(ours.change(upsert("f", 1)).is_none());
}

#[test]
fn the_endpoints_of_one_node_are_bounded() {
    let mut ours = origin_table(1);
    for i in 1..MAX_ENDPOINTS_PER_NODE {
        assert!(ours.change(upsert(&format!("e{i}"), 1)).is_some());
    }
    let mut table = table();
    table.apply_state(ours.own_state());
    assert!(ours.own_is_full("more") && !ours.own_is_full("e1"));
    assert!(ours.change(upsert("more", 1)).is_none());
    let mut version = ours.own_version();
    version.seq += 1;
    let origin = origin();
    let change = upsert("more", 1);
    let delta = Delta { origin, version, change };
    assert_eq!(table.apply_delta(delta), Outcome::Refused);
    assert_eq!(table.len(), MAX_ENDPOINTS_PER_NODE);
}

#[test]
fn deltas_that_wait_are_bounded_and_what_is_not_kept_is_no_news() {
    let mut table = table();
    let delta = |seq| Delta {
        origin: origin(),
        version: Version { epoch: 1, seq },
        change: Change::Remove("e".into()),
    };
    for seq in 1..=MAX_AHEAD as u64 {
        let outcome = table.apply_delta(delta(seq));
        assert_eq!(outcome, Outcome::Ahead { first: true });
    }
    let outcome = table.apply_delta(delta(1000));
    assert_eq!(outcome, Outcome::Ahead { first: false });
    assert_eq!(table.waiting, MAX_AHEAD);
    table.forget(&origin());
    assert_eq!(table.waiting, 0);
}

#[test]
fn the_nodes_of_which_a_state_is_held_are_bounded() {
    let mut table = table();
    let state = |i| State {
        origin: format!("n{i}").parse().unwrap(),
        version: Version::default(),
        leaving: false,
        endpoints: Vec::new(),
    };
    for i in 0..MAX_ORIGINS {
        assert_eq!(table.apply_state(state(i)), Outcome::Applied);
    }
    assert_eq!(table.apply_state(state(MAX_ORIGINS)), Outcome::Refused);
}
