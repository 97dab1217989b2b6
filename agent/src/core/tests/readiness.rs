//! What a start waits for, and for how long.

use super::*;

fn awaited(world: &World, serving: bool) -> String {
    world.core.awaited(world.now, serving).join(", ")
}

#[test]
fn a_start_waits_for_kernel_store_peers_and_dns() {
    let mut world = World::unsettled(State::default(), true);
    let all = awaited(&world, false);
    for what in ["the kernel", "the store", "a host to join by", "DNS in containers"] {
        assert!(all.contains(what), "{what} in {all}");
    }
    world.settle();
    world.event(Event::StoreHealth(Some("no route".into())));
    assert_eq!(awaited(&world, true), "the store (no route), a host to join by");
    world.event(Event::StoreHealth(None));
    world.publish_networks();
    world.event(Event::Gossip(Changes { synced: true, ..Changes::default() }));
    assert_eq!(awaited(&world, true), "");
}

#[test]
fn nobody_waits_for_ever() {
    let mut world = World::new(State::default(), true);
    world.event(Event::StoreHealth(Some("no route".into())));
    world.pass(Duration::from_secs(11));
    assert_eq!(awaited(&world, false), "the store (no route)");
    world.pass(Duration::from_secs(50));
    assert_eq!(awaited(&world, false), "");
    let summary = world.core.summary(world.now);
    assert!(summary.contains("problem") && summary.contains("more"), "{summary}");
}

#[test]
fn names_are_known_with_the_first_peer_or_soon_after_the_start() {
    let mut world = World::new(State::default(), true);
    assert!(!world.core.knows_names(world.now));
    world.event(Event::Gossip(Changes { synced: true, ..Changes::default() }));
    assert!(world.core.knows_names(world.now));
    let mut alone = World::new(State::default(), true);
    alone.pass(Duration::from_secs(3));
    assert!(alone.core.knows_names(alone.now));
    assert!(World::new(State::default(), false).core.knows_names(world.now));
}

#[test]
fn what_waits_for_a_restart_is_in_the_status() {
    let mut world = World::ready();
    world.event(Event::Reconfigured {
        warnings: vec!["vxlan-port waits".into()],
        changes: Ok(Vec::new()),
    });
    assert!(world.problems().contains(&"vxlan-port waits".to_owned()));
}

#[test]
fn a_host_of_another_release_is_named_with_who_has_to_be_upgraded() {
    let mut world = World::ready();
    for (version, whom) in [(9, "on this host"), (1, "on that host")] {
        let other = OtherFormat { from: Ipv4Addr::new(10, 0, 0, 9), version, known: 2 };
        world.event(Event::Gossip(Changes { other_format: Some(other), ..Changes::default() }));
        let problems = world.problems();
        assert!(
            problems.iter().any(|p| p.contains("10.0.0.9") && p.contains(whom)),
            "{problems:?}"
        );
    }
    world.pass(Duration::from_secs(61));
    assert!(!world.problems().iter().any(|p| p.contains("10.0.0.9")));
}

#[test]
fn a_kernel_that_refuses_is_waited_for() {
    let mut world = World::unsettled(State::default(), false);
    let mut report = Report::default();
    report.failed_networks.insert(4097, kernel_error());
    let version = world.core.desired_version();
    world.core.handle(world.now, Event::Applied { version, audit: false, report });
    assert!(awaited(&world, true).contains("the kernel"), "{}", awaited(&world, true));
}
