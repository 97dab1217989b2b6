//! Where probes were lost, and the hop that is named for it.

use std::collections::BTreeMap;

use super::*;
use crate::trace::hops::Doubt;

/// All hops of a way between hosts, in order.
fn verdicts() -> Verdicts {
    let hops = [
        (At::FromInterface, "bee-1"),
        (At::Device, "bee-1"),
        (At::Neighbour, "bee-1"),
        (At::Fdb, "bee-1"),
        (At::Underlay, "bee-1"),
        (At::Wire, "bee-1"),
        (At::Peer, "bee-2"),
        (At::PeerDevice, "bee-2"),
        (At::ToInterface, "bee-2"),
        (At::ToContainer, "bee-2"),
        (At::BackRoute, "bee-2"),
        (At::BackNeighbour, "bee-2"),
        (At::BackFdb, "bee-2"),
        (At::BackUnderlay, "bee-2"),
        (At::BackWire, "bee-2"),
        (At::BackDevice, "bee-1"),
    ];
    let by_probes = [At::Wire, At::BackWire, At::BackDevice];
    let hops = hops.map(|(at, host)| match by_probes.contains(&at) {
        true => Judged::unknown(at, host, "not tried"),
        false => Judged::ok(at, host, "in order"),
    });
    Verdicts { hops: hops.into(), doubts: Vec::new() }
}

/// Seen at the first spots of a way between hosts, and not at the others.
fn outcome(kind: ProbeKind, seen: usize) -> Outcome {
    let spots = Spot::BETWEEN_HOSTS;
    let answered = u16::from(seen == spots.len());
    Outcome {
        kind,
        bytes: if kind == ProbeKind::Udp { 1450 } else { 84 },
        sent: 3,
        answered,
        answer: None,
        refused: None,
        error: None,
        rtt_us: None,
        seen: spots.iter().enumerate().map(|(i, s)| (*s, Some(u16::from(i < seen)))).collect(),
    }
}

/// The same, with nobody at the other end.
fn blind(kind: ProbeKind, seen: usize) -> Outcome {
    let mut outcome = outcome(kind, seen);
    for (spot, seen) in &mut outcome.seen {
        if spot.is_far() {
            *seen = None;
        }
    }
    outcome
}

fn judge(verdicts: &mut Verdicts, outcomes: &[Outcome]) -> Option<(Spot, At)> {
    let interfaces = BTreeMap::new();
    let names = Names {
        from: "web",
        to: "db",
        near: "bee-1",
        far: "bee-2",
        interfaces: &interfaces,
        port: 4789,
        mtu: 1450,
    };
    settle(verdicts, outcomes, &names).map(|blamed| (blamed.spot, blamed.at))
}

fn broken(verdicts: &Verdicts) -> Vec<At> {
    verdicts.hops.iter().filter(|judged| judged.is_broken()).map(|judged| judged.at).collect()
}

#[test]
fn the_first_spot_that_does_not_see_a_probe_names_the_hop_before_it() {
    let hops = [
        At::FromInterface,
        At::Device,
        At::Underlay,
        At::Wire,
        At::PeerDevice,
        At::ToInterface,
        At::ToContainer,
        At::BackRoute,
        At::BackUnderlay,
        At::BackWire,
        At::BackDevice,
        At::BackDevice,
    ];
    for (seen, expected) in hops.into_iter().enumerate() {
        let mut verdicts = verdicts();
        let both = [outcome(ProbeKind::Echo, seen), outcome(ProbeKind::Udp, seen)];
        let lost = judge(&mut verdicts, &both);
        assert_eq!(broken(&verdicts), [expected], "seen at {seen}");
        assert_eq!(lost, Some((Spot::BETWEEN_HOSTS[seen], expected)));
        let hop = &verdicts.hop(expected).unwrap().hop;
        assert!(hop.fix.is_some() && hop.says.contains("84 bytes"), "{hop:?}");
    }
}

#[test]
fn what_was_passed_is_in_order() {
    let mut verdicts = verdicts();
    let all = Spot::BETWEEN_HOSTS.len();
    let both = [outcome(ProbeKind::Echo, all), outcome(ProbeKind::Udp, all)];
    assert_eq!(judge(&mut verdicts, &both), None);
    assert!(verdicts.hops.iter().all(Judged::is_ok), "{verdicts:#?}");
}

#[test]
fn a_hop_that_is_known_to_be_broken_is_not_joined_by_another() {
    for (known, seen) in [
        (At::Neighbour, 2),
        (At::Fdb, 2),
        (At::PeerDevice, 4),
        (At::ToInterface, 5),
        (At::BackFdb, 8),
        (At::BackNeighbour, 8),
        // TO asks for FROM's MAC before it answers, and is not told.
        (At::BackNeighbour, 6),
    ] {
        let mut verdicts = verdicts();
        verdicts.hop(known).unwrap().breaks("known".into(), None);
        let lost = judge(&mut verdicts, &[outcome(ProbeKind::Echo, seen)]);
        assert_eq!((broken(&verdicts), lost), (vec![known], None));
        let evidence = &verdicts.hop(known).unwrap().hop.evidence;
        assert!(evidence.iter().any(|line| line.contains("was seen at")), "{evidence:?}");
    }
}

#[test]
fn only_large_packets_lost_is_an_mtu() {
    let all = Spot::BETWEEN_HOSTS.len();
    let lost = || [outcome(ProbeKind::Echo, all), outcome(ProbeKind::Udp, 3)];
    let mut verdicts = verdicts();
    judge(&mut verdicts, &lost());
    let says = &verdicts.first_broken().unwrap().hop.says;
    assert!(says.contains("loses large ones") && says.contains("1500 bytes"), "{says}");

    // A host that is known to carry too little is it.
    let doubt = |at| Doubt { at, of_size: true, says: "too small".into(), fix: None };
    let mut verdicts = self::verdicts();
    verdicts.doubts = vec![doubt(At::Underlay)];
    judge(&mut verdicts, &lost());
    assert_eq!(broken(&verdicts), [At::Underlay]);
    assert!(verdicts.first_broken().unwrap().hop.says.starts_with("too small"));

    // Not when they arrive, in fragments.
    let mut verdicts = self::verdicts();
    verdicts.doubts = vec![doubt(At::Underlay)];
    judge(&mut verdicts, &[outcome(ProbeKind::Echo, all), outcome(ProbeKind::Udp, all)]);
    assert_eq!(broken(&verdicts), []);
    // And when nothing tells.
    for outcomes in [vec![], vec![outcome(ProbeKind::Echo, all)]] {
        let mut verdicts = self::verdicts();
        verdicts.doubts = vec![doubt(At::Underlay)];
        judge(&mut verdicts, &outcomes);
        assert_eq!(broken(&verdicts), [At::Underlay]);
    }
}

#[test]
fn one_answer_from_within_is_enough() {
    let all = Spot::BETWEEN_HOSTS.len();
    for (echo, udp) in [(6, all), (all, 6)] {
        let mut verdicts = verdicts();
        judge(&mut verdicts, &[outcome(ProbeKind::Echo, echo), outcome(ProbeKind::Udp, udp)]);
        assert_eq!(broken(&verdicts), [], "{echo} {udp}");
    }
}

#[test]
fn where_nobody_watches_it_is_not_said_which_side_lost_it() {
    let mut verdicts = verdicts();
    assert_eq!(judge(&mut verdicts, &[blind(ProbeKind::Echo, 3)]), None);
    assert_eq!(broken(&verdicts), [At::Wire]);
    let says = &verdicts.first_broken().unwrap().hop.says;
    assert!(says.contains("nobody watched") && says.contains("bee-2's agent"), "{says}");
    // An answer tells that all of it was passed.
    let mut verdicts = self::verdicts();
    let all = Spot::BETWEEN_HOSTS.len();
    judge(&mut verdicts, &[blind(ProbeKind::Echo, all), blind(ProbeKind::Udp, all)]);
    assert!(verdicts.hops.iter().all(Judged::is_ok), "{verdicts:#?}");
    // Silence to UDP alone tells nothing: answers to it are limited.
    let mut verdicts = self::verdicts();
    judge(&mut verdicts, &[blind(ProbeKind::Echo, all), blind(ProbeKind::Udp, 3)]);
    assert!(verdicts.hops.iter().all(Judged::is_ok), "{verdicts:#?}");
    // A loss on this host is as certain as ever.
    let mut verdicts = self::verdicts();
    judge(&mut verdicts, &[blind(ProbeKind::Echo, 2)]);
    assert_eq!(broken(&verdicts), [At::Underlay]);
}

#[test]
fn on_one_host_there_is_nothing_in_between() {
    let hops = [
        At::FromInterface,
        At::Device,
        At::Sibling,
        At::ToInterface,
        At::ToContainer,
        At::BackRoute,
    ];
    for (seen, expected) in [At::FromInterface, At::ToInterface, At::ToContainer, At::FromInterface]
        .into_iter()
        .enumerate()
    {
        let mut verdicts = Verdicts {
            hops: hops.map(|at| Judged::ok(at, "bee-1", "ok")).into(),
            doubts: Vec::new(),
        };
        let mut outcome = outcome(ProbeKind::Echo, 0);
        outcome.seen = Spot::ON_ONE_HOST
            .iter()
            .enumerate()
            .map(|(i, s)| (*s, Some(u16::from(i < seen))))
            .collect();
        judge(&mut verdicts, &[outcome]);
        assert_eq!(broken(&verdicts), [expected], "seen at {seen}");
    }
}
