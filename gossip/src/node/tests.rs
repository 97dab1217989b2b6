//! Whole clusters of real cores in virtual time.

use std::time::Duration;

use super::Node;
use crate::endpoints::{State, Version};
use crate::identity::Identity;
use crate::sim::{Sim, config, endpoint, name};
use crate::wire::{self, Beat, Item, Kind, NameCheck, PushPull, Row, SwimPacket};
use crate::{EPOCHS_AHEAD, MemberState, Oddity};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster that found itself.
fn whole(hosts: usize, seed: u64, loss: f64, limit: Duration) -> Sim {
    let mut sim = Sim::started(hosts, seed, loss);
    let took = sim.run_until(limit, Sim::is_whole);
    eprintln!("{hosts} hosts whole after {took:?}, {} datagrams", sim.datagrams);
    assert!(took.is_some(), "{hosts} hosts are not one cluster after {limit:?}");
    sim
}

/// How often anybody saw a member that runs as down, from `since` on.
fn false_deaths(sim: &Sim, since: Duration, dead: &[usize]) -> usize {
    let runs = |seen: &_| !dead.iter().any(|host| name(*host) == *seen);
    let all = sim.hosts.iter().flat_map(|host| &host.view.states);
    all.filter(|(at, seen, state)| *at >= since && *state == MemberState::Down && runs(seen))
        .count()
}

#[test]
fn hosts_that_start_together_become_one_cluster_and_know_all_endpoints() {
    for (hosts, limit) in [(2, 2), (4, 3), (50, 4)] {
        whole(hosts, 1, 0.05, limit * SECOND);
    }
}

#[test]
fn an_endpoint_is_known_everywhere_within_a_second_in_spite_of_loss() {
    for hosts in [4, 50] {
        let mut sim = whole(hosts, 2, 0.05, 6 * SECOND);
        sim.with(1, |node, now| node.announce(now, endpoint(1, 1)));
        sim.with(2, |node, now| {
            let id = endpoint(2, 0).id;
            node.withdraw(now, id);
        });
        let took = sim.run_until(SECOND, Sim::is_whole);
        eprintln!("{hosts} hosts: change known after {took:?}");
        assert!(took.is_some());
    }
}

#[test]
fn a_killed_host_is_down_everywhere_in_time_and_nobody_else_is() {
    for (hosts, limit) in [(3, 7), (10, 7), (50, 12), (200, 15)] {
        let mut sim = whole(hosts, 3, 0.05, 6 * SECOND);
        let since = sim.elapsed();
        sim.kill(1);
        let took = sim.run_until(limit * SECOND, |sim| sim.all_see(1, MemberState::Down));
        eprintln!("{hosts} hosts: death known after {took:?}");
        assert!(took.is_some());
        assert_eq!(false_deaths(&sim, since, &[1]), 0);
    }
}

#[test]
fn a_frozen_host_that_thaws_returns_by_itself_and_suspects_nobody() {
    let mut sim = whole(8, 4, 0.02, 5 * SECOND);
    sim.freeze(3);
    sim.run(30 * SECOND);
    assert!(sim.all_see(3, MemberState::Down));
    sim.with(1, |node, now| node.announce(now, endpoint(1, 1)));
    sim.run(SECOND);
    let since = sim.elapsed();
    sim.thaw(3);
    let took = sim.run_until(5 * SECOND, Sim::is_whole);
    eprintln!("thawed host is back after {took:?}");
    assert!(took.is_some());
    assert_eq!(false_deaths(&sim, since, &[]), 0);
    assert!(sim.hosts[3].node.as_ref().unwrap().stats().stalls > 0);
}

#[test]
fn a_host_that_is_often_frozen_for_a_second_is_never_down_and_downs_nobody() {
    let mut sim = whole(6, 5, 0.01, 5 * SECOND);
    let since = sim.elapsed();
    for _ in 0..20 {
        sim.freeze(2);
        sim.run(1200 * SECOND / 1000);
        sim.thaw(2);
        sim.run(2 * SECOND);
    }
    assert_eq!(false_deaths(&sim, since, &[]), 0);
}

#[test]
fn two_halves_become_one_cluster_again_with_what_changed_in_both() {
    for hosts in [4, 30] {
        let mut sim = whole(hosts, 6, 0.02, 6 * SECOND);
        sim.split(|host| u8::from(host % 2 == 0));
        sim.run(100 * SECOND);
        for host in 0..hosts {
            sim.with(host, |node, now| node.announce(now, endpoint(host, 1)));
        }
        sim.run(200 * SECOND);
        assert!(!sim.is_whole());
        let since = sim.elapsed();
        sim.split(|_| 0);
        let took = sim.run_until(60 * SECOND, Sim::is_whole);
        eprintln!("{hosts} hosts healed after {took:?}");
        assert!(took.is_some());
        sim.run(20 * SECOND);
        assert!(sim.is_whole());
        assert_eq!(false_deaths(&sim, since, &[]), 0, "healing shows the living as down");
    }
}

#[test]
fn a_restarted_host_never_shows_an_empty_or_partial_set_in_between() {
    let mut sim = whole(10, 7, 0.05, 6 * SECOND);
    for number in 1..60 {
        sim.with(4, |node, now| node.announce(now, endpoint(4, number)));
    }
    assert!(sim.run_until(2 * SECOND, Sim::is_whole).is_some());
    let since = sim.elapsed();
    sim.kill(4);
    sim.run(SECOND);
    let mut again = config(4, 2);
    again.endpoints = (0..61).map(|number| endpoint(4, number)).collect();
    sim.start(4, &again);
    let took = sim.run_until(5 * SECOND, Sim::is_whole);
    eprintln!("restart known after {took:?}");
    assert!(took.is_some());
    let seen = sim.hosts.iter().flat_map(|host| &host.view.counts);
    let mut seen = seen.filter(|(at, node, _)| *at >= since && *node == name(4));
    assert!(seen.all(|(_, _, count)| [60, 61].contains(count)));
    assert_eq!(false_deaths(&sim, since, &[]), 0);
}

#[test]
fn a_host_that_leaves_is_shown_as_left_at_once() {
    let mut sim = whole(12, 8, 0.05, 6 * SECOND);
    let since = sim.elapsed();
    sim.with(5, Node::leave);
    sim.run(SECOND / 4);
    sim.kill(5);
    let took = sim.run_until(2 * SECOND, |sim| sim.all_see(5, MemberState::Left));
    eprintln!("leaving known after {took:?}");
    assert!(took.is_some());
    sim.run(20 * SECOND);
    assert!(sim.all_see(5, MemberState::Left));
    assert_eq!(false_deaths(&sim, since, &[]), 0);
    sim.start(5, &config(5, 2));
    assert!(sim.run_until(5 * SECOND, Sim::is_whole).is_some());
}

#[test]
fn a_host_that_lost_its_clock_goes_above_what_is_known_of_it() {
    let mut sim = whole(6, 9, 0.0, 5 * SECOND);
    sim.with(2, |node, now| node.announce(now, endpoint(2, 1)));
    sim.run(SECOND);
    for epoch in [1, 0] {
        sim.kill(2);
        sim.run(SECOND);
        sim.start(2, &config(2, epoch));
        let took = sim.run_until(10 * SECOND, Sim::is_whole);
        assert!(took.is_some(), "epoch {epoch}");
    }
}

#[test]
fn a_host_that_comes_back_at_another_address_is_one_member_with_the_new_vtep() {
    let mut sim = Sim::new(6, 10, 0.0);
    for host in 0..5 {
        sim.start(host, &config(host, 1));
    }
    assert!(sim.run_until(5 * SECOND, Sim::is_whole).is_some());
    sim.kill(2);
    let mut moved = config(5, 2);
    moved.name = name(2);
    sim.start(5, &moved);
    let arrived = |sim: &Sim| {
        let vtep = Some(crate::sim::address(5)).map(|at| *at.ip());
        [0, 1, 3, 4].iter().all(|host| {
            let view = &sim.hosts[*host].view;
            view.vteps.get(&name(2)).copied() == vtep
                && view.members.get(&name(2)) == Some(&MemberState::Alive)
                && view.members.len() == 4
        })
    };
    assert!(sim.run_until(10 * SECOND, arrived).is_some());
    assert!(!sim.hosts[5].view.conflict);
}

#[test]
fn two_live_hosts_with_one_name_both_see_the_conflict_and_nobody_flaps() {
    let mut sim = Sim::new(6, 11, 0.02);
    for host in 0..5 {
        sim.start(host, &config(host, 1));
    }
    assert!(sim.run_until(5 * SECOND, Sim::is_whole).is_some());
    let since = sim.elapsed();
    let mut twin = config(5, 2);
    twin.name = name(2);
    sim.start(5, &twin);
    let both = |sim: &Sim| sim.hosts[2].view.conflict && sim.hosts[5].view.conflict;
    assert!(sim.run_until(5 * SECOND, both).is_some());
    sim.run(120 * SECOND);
    assert!(both(&sim));
    let moves = sim.hosts[0].view.states.iter();
    assert_eq!(moves.filter(|(at, _, _)| *at > since).count(), 0);
    sim.kill(2);
    let taken = |sim: &Sim| {
        let view = &sim.hosts[0].view;
        !sim.hosts[5].view.conflict
            && view.vteps.get(&name(2)) == Some(crate::sim::address(5).ip())
            && view.members.get(&name(2)) == Some(&MemberState::Alive)
    };
    assert!(sim.run_until(60 * SECOND, taken).is_some());
}

#[test]
fn a_host_alone_finds_its_seed_whenever_that_comes() {
    let mut sim = Sim::new(2, 12, 0.0);
    sim.start(1, &config(1, 1));
    sim.run(200 * SECOND);
    sim.start(0, &config(0, 1));
    assert!(sim.run_until(40 * SECOND, Sim::is_whole).is_some());
}

#[test]
fn the_dead_are_forgotten_after_a_day_with_all_that_was_theirs() {
    let mut sim = whole(2, 13, 0.0, 2 * SECOND);
    sim.kill(1);
    sim.run(23 * 3600 * SECOND);
    assert!(sim.all_see(1, MemberState::Down));
    assert_eq!(sim.hosts[0].view.endpoints.len(), 1);
    sim.run(2 * 3600 * SECOND);
    let host = &sim.hosts[0];
    assert!(host.view.members.is_empty() && host.view.endpoints.is_empty());
    let stats = host.node.as_ref().unwrap().stats();
    assert_eq!((stats.members_down, stats.endpoints), (0, 0));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut sim = Sim::started(10, seed, 0.05);
        sim.run(20 * SECOND);
        sim.kill(3);
        sim.run(20 * SECOND);
        sim.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_host_of_another_release_is_told_of_and_not_heard() {
    let mut sim = whole(2, 5, 0.0, 2 * SECOND);
    let newer = [b'O', b'V', wire::VERSION + 1, 1, 0];
    let from = "10.0.9.9:7946".parse().unwrap();
    let mut told = Vec::new();
    for _ in 0..30 {
        sim.with(0, |node, now| {
            node.handle_datagram(now, from, &newer);
            assert!(node.handle_request(now, *from.ip(), &newer).is_none());
            told.extend(node.poll_changes().and_then(|changes| changes.other_format));
        });
        sim.run(SECOND);
    }
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((told[0].from, told[0].version), (*from.ip(), wire::VERSION + 1));
    assert!(sim.is_whole());
}

/// Somebody who is no member, and whom nobody reaches.
fn stranger() -> Identity {
    let address = "10.0.9.9:7946".parse().unwrap();
    Identity { name: "stranger".parse().unwrap(), address, epoch: 5, bump: 0 }
}

/// What a stranger may say to all in packets of every kind: that `victim` is so, at this version.
fn claims(victim: &foca::Member<Identity>, version: Version) -> Vec<Vec<u8>> {
    let origin = victim.id().name.clone();
    let gossip = |host| {
        let dst =
            Identity { name: name(host), address: crate::sim::address(host), epoch: 1, bump: 0 };
        let (src, message) = (stranger(), foca::Message::Gossip);
        let header = foca::Header { src, src_incarnation: 0, dst, message };
        SwimPacket { header, updates: vec![victim.clone()] }.sealed()
    };
    let items = |item| [wire::header(Kind::Items), wire::item_bytes(&item)].concat();
    let none = Vec::new();
    let state = State { origin: origin.clone(), version, leaving: false, endpoints: none };
    let request = PushPull {
        from: stranger(),
        introduced: true,
        members: vec![Row { member: victim.clone(), down_secs: 0 }],
        digest: vec![(origin.clone(), version)],
    };
    let check = NameCheck { nonce: 1, from: victim.id().clone(), introduced: true };
    let others = [
        wire::seal(Kind::PushPull, &request),
        items(Item::Version { origin: origin.clone(), version }),
        items(Item::State(state)),
        wire::seal(Kind::Beat, &Beat { origin, version }),
        wire::seal(Kind::NameCheck, &check),
    ];
    (0..4).map(gossip).chain(others).collect()
}

/// A member that is said to be so, and its version; they once muted it for good, or kept it busy.
fn made_up() -> Vec<(foca::Member<Identity>, Version)> {
    use foca::State::{Alive, Down, Suspect};
    let century = u64::try_from(EPOCHS_AHEAD.as_millis()).unwrap();
    let numbers = [
        (u64::MAX, u32::MAX, u64::MAX, 0, Alive),
        (u64::MAX, 0, 0, 0, Down),
        (u64::MAX - 1, u32::MAX, u64::MAX, u16::MAX, Suspect),
        (century, u32::MAX, u64::MAX, u16::MAX, Alive),
        (1, u32::MAX, u64::MAX, 0, Alive),
        (1, u32::MAX, 0, u16::MAX, Down),
        (1, 0, u64::MAX, u16::MAX, Suspect),
        (1, 0, u64::MAX, u16::MAX, Alive),
    ];
    let made_up = |address| {
        numbers.map(|(epoch, bump, seq, incarnation, state)| {
            let victim = Identity { name: name(1), address, epoch, bump };
            (foca::Member::new(victim, incarnation, state), Version { epoch, seq })
        })
    };
    [crate::sim::address(1), stranger().address].into_iter().flat_map(made_up).collect()
}

#[test]
fn no_number_that_somebody_makes_up_keeps_a_host_out_for_good_or_busy() {
    for ((victim, version), deaf) in
        made_up().into_iter().flat_map(|c| [(c.clone(), false), (c, true)])
    {
        let mut sim = whole(4, 14, 0.0, 5 * SECOND);
        let before = sim.datagrams;
        sim.run(10 * SECOND);
        let usual = sim.datagrams - before;
        let from = stranger().address;
        for packet in claims(&victim, version) {
            for host in (0..4).filter(|host| *host != 1 || !deaf) {
                sim.with(host, |node, now| {
                    node.handle_datagram(now, from, &packet);
                    node.handle_request(now, *from.ip(), &packet);
                });
            }
            sim.run(SECOND / 10);
        }
        let before = sim.datagrams;
        sim.run(10 * SECOND);
        let busy = sim.datagrams - before;
        sim.with(1, |node, now| node.announce(now, endpoint(1, 1)));
        let took = sim.run_until(5 * SECOND, Sim::is_whole);
        let rejoins = sim.hosts[1].node.as_ref().unwrap().stats().rejoins;
        eprintln!("{victim:?} {version:?}: {took:?}, {rejoins} rejoins, {busy} for {usual}");
        assert!(took.is_some(), "{victim:?} {version:?}");
        assert!(rejoins <= 3, "{victim:?}: {rejoins} rejoins");
        assert!(busy < 2 * usual, "{victim:?}: {busy} datagrams, usually {usual}");
    }
}

#[test]
fn an_epoch_that_no_clock_has_given_is_told_of_with_who_claims_it() {
    let mut sim = whole(2, 15, 0.0, 2 * SECOND);
    let from = stranger().address;
    let version = Version { epoch: u64::MAX, seq: 0 };
    let beat = wire::seal(Kind::Beat, &Beat { origin: name(0), version });
    let mut told = Vec::new();
    for _ in 0..30 {
        sim.with(0, |node, now| {
            node.handle_datagram(now, from, &beat);
            told.extend(node.poll_changes().and_then(|changes| changes.oddity));
        });
        sim.run(SECOND);
    }
    let odd = Oddity::Epoch { from: *from.ip(), node: name(0), epoch: u64::MAX };
    assert_eq!(told, [odd.clone(), odd.clone(), odd]);
    assert_eq!(sim.hosts[0].node.as_ref().unwrap().stats().rejected, 30);
}

#[test]
fn a_host_that_is_called_dead_again_and_again_comes_back_ever_more_seldom() {
    let mut sim = whole(2, 16, 0.0, 2 * SECOND);
    let from = crate::sim::address(0);
    let accuser = Identity { name: name(0), address: from, epoch: 1, bump: 0 };
    let mut told = Vec::new();
    for _ in 0..60_000 {
        sim.with(1, |node, now| {
            let undead = SwimPacket::turn_undead(accuser.clone(), node.swim.identity().clone());
            node.handle_datagram(now, from, &undead.sealed());
            told.extend(node.poll_changes().and_then(|changes| changes.oddity));
        });
        sim.run(SECOND / 1000);
    }
    let rejoins = sim.hosts[1].node.as_ref().unwrap().stats().rejoins;
    assert_eq!((rejoins, told.len()), (6, 5), "{told:?}");
    assert_eq!(told.last(), Some(&Oddity::HeldForDead { rejoins }));
    sim.run(5 * SECOND);
    assert!(sim.is_whole());
}

#[test]
fn a_host_whose_clock_is_behind_believes_what_outbids_a_claim_as_time_passes() {
    let mut sim = Sim::new(4, 17, 0.0);
    for (host, epoch) in [5001, 5001, 5001, 1].into_iter().enumerate() {
        sim.start(host, &config(host, epoch));
    }
    assert!(sim.run_until(5 * SECOND, Sim::is_whole).is_some());
    // The most that hosts 0 and 2 believe, and host 3 does not yet.
    let latest = EPOCHS_AHEAD + 5001 * SECOND / 1000 + sim.elapsed();
    let epoch = u64::try_from(latest.as_millis()).unwrap();
    let victim = Identity { name: name(1), address: crate::sim::address(1), epoch, bump: u32::MAX };
    let victim = foca::Member::new(victim, 0, foca::State::Alive);
    let from = stranger().address;
    for packet in claims(&victim, Version { epoch, seq: u64::MAX }) {
        for host in [0, 2, 3] {
            sim.with(host, |node, now| {
                node.handle_request(now, *from.ip(), &packet);
            });
        }
    }
    sim.run(SECOND);
    sim.with(1, |node, now| node.announce(now, endpoint(1, 1)));
    let took = sim.run_until(60 * SECOND, Sim::is_whole);
    eprintln!("believed everywhere after {took:?}");
    assert!(took.is_some());
}
