//! What is told of what happens: once, with its reason, and never thousandfold.

use ovl_gossip::Oddity;

use super::*;
use crate::core::tell::EACH_MAX;

impl World {
    /// What was told since the last look, as `kind: summary (reason)`.
    fn tells(&mut self) -> Vec<String> {
        let line = |notice: Notice| {
            let reason = notice.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{}: {}{reason}", notice.kind.name(), notice.summary)
        };
        std::mem::take(&mut self.told).into_iter().map(line).collect()
    }

    fn kinds(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.told).iter().map(|notice| notice.kind.name()).collect()
    }

    fn audited(&mut self, report: Report) {
        let version = self.applied;
        self.event(Event::Applied { version, audit: true, report });
    }
}

/// So many endpoints of one host, with addresses of their own.
fn many(host: u8, count: u8) -> Vec<Endpoint> {
    let one = |n| remote(&format!("{host}-{n}"), &format!("10.88.{host}.{n}"), 3, &format!("c{n}"));
    (0..count).map(one).collect()
}

#[test]
fn a_start_says_what_it_took_over_and_not_each_of_it() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    let mut restarted = World::new(world.core.state(), false);
    let told = restarted.tells();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("agent-started: the agent of queenbee started"), "{told:?}");
    assert!(told[0].ends_with("(it took over 1 endpoints of the last run)"), "{told:?}");
    restarted.event(Event::StoreHealth(None));
    restarted.publish_networks();
    assert_eq!(restarted.kinds(), ["store-back"]);
}

#[test]
fn a_host_is_told_of_by_what_became_of_it() {
    let mut world = World::ready();
    world.told.clear();
    world.member("bee", MemberState::Alive);
    assert_eq!(world.tells(), ["host-joined: host bee (10.132.0.2) joined"]);
    world.member("bee", MemberState::Alive);
    assert!(world.told.is_empty(), "nothing new");
    world.member("bee", MemberState::Suspect);
    world.member("bee", MemberState::Alive);
    world.member("bee", MemberState::Suspect);
    world.member("bee", MemberState::Down);
    assert_eq!(world.kinds(), ["host-suspected", "host-back", "host-suspected", "host-down"]);
    world.event(Event::Probed { node: "bee".parse().unwrap(), answers: false });
    world.event(Event::Probed { node: "bee".parse().unwrap(), answers: true });
    world.pass(remote::NAMES_HELD);
    assert_eq!(world.kinds(), ["host-silent", "host-answers", "names-withheld"]);
    world.member("bee", MemberState::Alive);
    world.member("bee", MemberState::Left);
    let told = world.tells();
    assert_eq!(told[0], "host-back: host bee (10.132.0.2) is back (it was down)");
    assert!(told[1].ends_with("left (its agent said that it stops)"), "{told:?}");
    let forgotten = vec!["bee".parse().unwrap()];
    world.event(Event::Gossip(Changes { forgotten, ..Changes::default() }));
    assert_eq!(world.kinds(), ["host-forgotten"]);
}

#[test]
fn an_endpoint_of_this_host_comes_and_goes_with_its_reason() {
    let mut world = World::ready();
    world.told.clear();
    world.get(Request::Attach(target("leader"))).unwrap();
    assert_eq!(
        world.tells(),
        [
            "endpoint-attached: endpoint leader (10.88.0.2) attached to network rethinkdb on host queenbee (asked for over the control socket)"
        ]
    );
    world.get(Request::Detach { network: "rethinkdb".into(), name: "leader".into() }).unwrap();
    let told = world.tells();
    assert!(told[0].ends_with("(it was detached over the control socket)"), "{told:?}");
    assert_eq!(told.len(), 1);
    world.kernel_fails = true;
    world.get(Request::Attach(target("leader"))).unwrap_err();
    let kinds = world.kinds();
    assert!(
        !kinds.iter().any(|kind| kind.starts_with("endpoint")),
        "it never was there: {kinds:?}"
    );
}

#[test]
fn an_endpoint_that_goes_elsewhere_moved_whatever_comes_first() {
    let mut world = World::ready();
    world.endpoints_of("bee-1", vec![remote("a", "10.88.0.9", 3, "web")]);
    world.told.clear();
    world.endpoints_of("bee-1", vec![]);
    world.endpoints_of("bee-2", vec![remote("b", "10.88.0.10", 4, "web")]);
    let told = world.tells();
    assert!(told[0].starts_with("endpoint-detached: "), "{told:?}");
    assert_eq!(
        told[1],
        "endpoint-moved: endpoint web of network rethinkdb moved from 10.88.0.9 on host bee-1 to 10.88.0.10 on host bee-2"
    );
    world.endpoints_of("bee-3", vec![remote("c", "10.88.0.11", 5, "web")]);
    world.endpoints_of("bee-2", vec![]);
    let told = world.tells();
    assert!(told[0].starts_with("endpoint-attached: "), "{told:?}");
    assert!(told[1].ends_with("(it is on host bee-3 now)"), "{told:?}");
    world.endpoints_of("bee-3", vec![remote("c", "10.88.0.12", 6, "web")]);
    assert_eq!(world.kinds(), ["endpoint-moved"]);
    world.pass(Duration::from_secs(61));
    world.endpoints_of("bee-4", vec![remote("d", "10.88.0.13", 7, "web")]);
    assert_eq!(world.kinds(), ["endpoint-attached"], "that was long ago");
}

#[test]
fn a_container_is_named_after_it_came() {
    let mut world = World::ready();
    let nameless = Endpoint { names: vec![], ..remote("0123456789abcdef", "10.88.0.9", 3, "") };
    world.endpoints_of("bee", vec![nameless]);
    world.endpoints_of("bee", vec![remote("0123456789abcdef", "10.88.0.9", 3, "web")]);
    let told = world.tells();
    let last = &told[told.len() - 2..];
    assert!(
        last[0].starts_with("endpoint-attached: endpoint 0123456789ab (10.88.0.9)"),
        "{told:?}"
    );
    assert!(last[1].ends_with("on host bee is called web now"), "{told:?}");
}

#[test]
fn a_host_with_many_endpoints_is_one_event() {
    let mut world = World::ready();
    world.told.clear();
    world.endpoints_of("bee", many(1, 200));
    let told = std::mem::take(&mut world.told);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].summary, "host bee brought 200 endpoints");
    assert_eq!((told[0].count, told[0].details.len()), (Some(200), 8));
    assert_eq!(told[0].details.last().unwrap(), "and 193 more");
    world.endpoints_of("bee", many(1, 3));
    assert_eq!(world.tells(), ["endpoint-detached: host bee lost 197 endpoints"]);
}

#[test]
fn many_hosts_in_one_batch_are_one_event_of_each_kind() {
    let mut world = World::ready();
    world.told.clear();
    let (mut members, mut nodes) = (Vec::new(), Vec::new());
    for n in 0..100u8 {
        let address = format!("10.132.1.{n}:7946").parse().unwrap();
        let name: NodeName = format!("bee-{n}").parse().unwrap();
        members.push(Member { name: name.clone(), address, state: MemberState::Alive });
        nodes.push(NodeEndpoints { node: name, vtep: *address.ip(), endpoints: many(n, 20) });
    }
    world.event(Event::Gossip(Changes { members, nodes, synced: true, ..Changes::default() }));
    let told = world.tells();
    let told: Vec<_> = told.iter().map(String::as_str).collect();
    assert_eq!(
        told,
        ["host-joined: 100 hosts joined", "endpoint-attached: 2000 endpoints were attached"]
    );
}

#[test]
fn what_is_at_the_bound_is_told_each_by_each() {
    let mut world = World::ready();
    world.told.clear();
    world.endpoints_of("bee", many(1, u8::try_from(EACH_MAX).unwrap()));
    assert_eq!(world.told.len(), EACH_MAX);
}

#[test]
fn networks_come_and_go() {
    let mut world = World::ready();
    let told = world.tells();
    assert_eq!(
        told.last().unwrap(),
        "network-created: network rethinkdb is there: 10.88.0.0/16, VNI 4098 (it stood in the store when it was first asked)"
    );
    world.store.push(network(2, "blue", "10.99.0.0/16"));
    world.publish_networks();
    world.store.pop();
    world.publish_networks();
    assert_eq!(
        world.tells(),
        [
            "network-created: network blue is there: 10.99.0.0/16, VNI 4099",
            "network-removed: network blue (10.99.0.0/16) was removed"
        ]
    );
    world.get(Request::Attach(target("leader"))).unwrap();
    world.store.clear();
    world.told.clear();
    world.publish_networks();
    world.publish_networks();
    assert_eq!(world.kinds(), ["network-orphaned"]);
}

#[test]
fn levels_are_told_when_they_change() {
    let mut world = World::new(State::default(), false);
    world.told.clear();
    let lost = || Some("no route to host".to_owned());
    for health in [lost(), lost(), None, None, lost(), None] {
        world.event(Event::StoreHealth(health));
    }
    assert_eq!(world.kinds(), ["store-lost", "store-back", "store-lost", "store-back"]);
    for health in [None, None, lost(), None] {
        world.event(Event::DiskHealth(health));
    }
    assert_eq!(world.kinds(), ["state-lost", "state-back"]);
    world.event(Event::DnsHealth(vec![]));
    world.event(Event::DnsHealth(vec!["no DNS in /run/netns/a: why".into()]));
    world.event(Event::DnsHealth(vec![]));
    let told = world.tells();
    assert_eq!(told[0], "dns-lost: DNS is in trouble (no DNS in /run/netns/a: why)");
    assert_eq!(told.len(), 2);
    world.event(Event::DockerHealth(lost()));
    world.event(Event::DockerHealth(None));
    assert_eq!(world.kinds(), ["docker-lost", "docker-back"]);
    let rival = Some("10.132.0.9:7946".parse().unwrap());
    for name_conflict in [rival, rival, None] {
        world.event(Event::Gossip(Changes { name_conflict, ..Changes::default() }));
    }
    assert_eq!(world.kinds(), ["name-conflict", "name-conflict-over"]);
}

#[test]
fn claims_that_cannot_be_are_told_once_and_named_for_some_minutes() {
    let mut world = World::ready();
    world.told.clear();
    let from = Ipv4Addr::new(10, 132, 0, 9);
    let epoch = |epoch| Oddity::Epoch { from, node: "bee-1".parse().unwrap(), epoch };
    for odd in [epoch(u64::MAX), epoch(u64::MAX - 1), Oddity::HeldForDead { rejoins: 2 }, epoch(7)]
    {
        world.event(Event::Gossip(Changes { oddity: Some(odd), ..Changes::default() }));
    }
    assert_eq!(world.kinds(), ["odd-claim", "odd-claim"]);
    assert!(world.problems().iter().any(|problem| problem.contains("was held for dead again")));
    world.pass(Duration::from_secs(601));
    assert!(!world.problems().iter().any(|problem| problem.contains("was held for dead again")));
}

#[test]
fn an_address_that_is_held_twice_is_told_when_it_stays_so() {
    let mut world = World::ready();
    world.endpoints_of("bee-1", vec![remote("a", "10.88.0.9", 3, "old")]);
    world.told.clear();
    world.endpoints_of("bee-2", vec![remote("b", "10.88.0.9", 4, "new")]);
    world.kinds();
    world.pass(SANDBOX_INTERVAL);
    assert!(world.told.is_empty(), "it may be on its way");
    world.pass(SANDBOX_INTERVAL);
    assert_eq!(
        world.tells(),
        ["address-conflict: 10.88.0.9 of network rethinkdb is held twice (on bee-1 and bee-2)"]
    );
    world.pass(SANDBOX_INTERVAL * 3);
    assert!(world.told.is_empty(), "once");
    world.endpoints_of("bee-1", vec![]);
    world.kinds();
    world.pass(SANDBOX_INTERVAL);
    assert_eq!(world.kinds(), ["address-conflict-over"]);
}

#[test]
fn an_audit_that_had_to_repair_says_what_and_one_that_did_not_is_silent() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    world.told.clear();
    world.audited(Report::default());
    assert!(world.told.is_empty());
    let changes = BTreeMap::from([("fdb_set", 2)]);
    world.audited(Report { changes: changes.clone(), ..Report::default() });
    let told = world.tells();
    assert_eq!(
        told,
        [
            "kernel-repaired: the kernel was not as it should be: 2 things were put right (somebody else changed it)"
        ]
    );
    // One that brought something new as well says nothing of others.
    let version = world.applied + 1;
    let report = Report { changes, ..Report::default() };
    world.event(Event::Applied { version, audit: true, report });
    assert!(world.told.is_empty());
}

#[test]
fn what_the_kernel_refuses_is_told_once_and_its_end_too() {
    let mut world = World::ready();
    world.told.clear();
    let failing = || {
        let failed_networks = BTreeMap::from([(4098, kernel_error())]);
        Report { failed_networks, ..Report::default() }
    };
    world.audited(failing());
    world.audited(failing());
    world.audited(Report::default());
    assert_eq!(world.kinds(), ["kernel-failed", "kernel-back"]);
}

#[test]
fn a_reload_is_told_with_its_changes_or_its_mistakes() {
    let mut world = World::ready();
    world.told.clear();
    let reload = |changes| Event::Reconfigured { warnings: vec![], changes };
    world.event(reload(Ok(vec!["log is debug now, and was info".into()])));
    world.event(reload(Err("vxlan-port: 70000".into())));
    assert_eq!(world.told[0].details, ["log is debug now, and was info"]);
    assert_eq!(
        world.tells(),
        [
            "reloaded: the configuration was read again; 1 settings differ",
            "reload-refused: the configuration was not taken (vxlan-port: 70000)"
        ]
    );
}

#[test]
fn an_inspection_names_networks_and_endpoints_and_what_it_repaired_is_told() {
    use ovl_vxlan::{Comparison, Difference, DifferenceKind};
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    world.told.clear();
    let difference = Difference {
        kind: DifferenceKind::InterfaceSetting,
        vni: Some(4098),
        endpoint: Some(world.announced.keys().next().unwrap().clone()),
        netns: None,
        device: "eth0".into(),
        what: "state".into(),
        want: Some("up".into()),
        have: Some("down".into()),
    };
    let found = || Comparison { differences: vec![difference.clone()], ..Comparison::default() };
    let version = world.applied;
    let report = Report { changes: BTreeMap::from([("child_set", 1)]), ..Report::default() };
    for repair in [None, Some((report, Comparison::default()))] {
        let id = world.ask(Request::Audit { repair: repair.is_some() });
        let is_repair = repair.is_some();
        world.event(Event::Inspected(id, Ok(Inspection { version, found: found(), repair })));
        let Ok(Response::Audit(audit)) = world.replies.remove(&id).unwrap() else { panic!() };
        let told = &audit.differences[0];
        assert_eq!(told.network.as_deref(), Some("rethinkdb"));
        assert_eq!(told.endpoint.as_deref(), Some("leader"));
        assert_eq!(
            audit.repair.as_ref().map(|r| (r.done, r.left.len())),
            is_repair.then_some((1, 0))
        );
    }
    assert_eq!(world.kinds(), ["kernel-repaired"]);
    let id = world.ask(Request::Audit { repair: false });
    world.event(Event::Inspected(id, Err(Refusal::unavailable("busy"))));
    assert!(world.replies.remove(&id).unwrap().is_err());
}
