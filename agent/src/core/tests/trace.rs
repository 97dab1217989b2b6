//! What the core knows of the ends of a way.

use super::*;
use crate::core::trace::{CANDIDATES_MAX, Ends, Place, Question};

fn ends(world: &mut World, from: &str, to: &str) -> Ends {
    let question = Question { from: from.into(), to: to.into(), network: None };
    match world.get(Request::TraceEnds(question)).unwrap() {
        Response::TraceEnds(ends) => *ends,
        other => panic!("{other:?}"),
    }
}

fn found(world: &mut World, text: &str) -> Vec<String> {
    let ends = ends(world, text, "nobody");
    ends.from.iter().map(|known| known.id.clone()).collect()
}

/// workerbee has db, 10.88.0.50.
fn world() -> World {
    let mut world = World::ready();
    world.get(Request::Attach(target("web"))).unwrap();
    let mut db = remote("db-id", "10.88.0.50", 5, "db");
    db.names.push("0123456789ab".into());
    hears(&mut world, "workerbee", vec![db]);
    world
}

fn hears(world: &mut World, node: &str, endpoints: Vec<Endpoint>) {
    let node: NodeName = node.parse().unwrap();
    let vtep = Ipv4Addr::new(10, 132, 0, 2);
    let member = Member {
        name: node.clone(),
        address: SocketAddrV4::new(vtep, 7946),
        state: MemberState::Alive,
    };
    world.event(Event::Gossip(Changes {
        members: vec![member],
        nodes: vec![NodeEndpoints { node, vtep, endpoints }],
        ..Changes::default()
    }));
}

#[test]
fn an_end_is_meant_by_its_names_its_address_and_its_ids() {
    let mut world = world();
    let long = format!("0123456789ab{}", "c".repeat(52));
    for text in ["db", "DB", "db.", "db.rethinkdb", "DB.RethinkDB.", "10.88.0.50", "db-id", &long] {
        assert_eq!(found(&mut world, text), ["db-id"], "{text}");
    }
    for text in ["d", "dbx", "db.blue", "db.rethink", "10.88.0.51", "rethinkdb", "", ".", "db-i"] {
        assert_eq!(found(&mut world, text), [""; 0], "{text}");
    }
    assert_eq!(found(&mut world, "web").len(), 1);
}

#[test]
fn where_it_is_and_since_when_it_was_heard_is_told() {
    let mut world = world();
    world.now += Duration::from_secs(12);
    let ends = ends(&mut world, "web", "db");
    let Place::Here(here) = &ends.from[0].place else { panic!("{ends:?}") };
    assert!(here.is_up && here.scope == [1], "{here:?}");
    let Place::There(there) = &ends.to[0].place else { panic!("{ends:?}") };
    assert_eq!(there.heard, Some(Duration::from_secs(12)));
    assert_eq!(there.absence, Absence::None);
    assert_eq!((ends.to[0].host.as_str(), ends.to[0].generation), ("workerbee", 5));
    assert_eq!(ends.to[0].network.mtu, 1450);
    assert_eq!(ends.siblings.len(), 1);
    // Announced anew with another name: that is heard just now.
    hears(&mut world, "workerbee", vec![remote("db-id", "10.88.0.50", 5, "db")]);
    let ends = self::ends(&mut world, "web", "db");
    let Place::There(there) = &ends.to[0].place else { panic!("{ends:?}") };
    assert_eq!(there.heard, Some(Duration::ZERO));
}

#[test]
fn an_absence_is_told_with_what_follows_from_it() {
    let mut world = world();
    let node: NodeName = "workerbee".parse().unwrap();
    let absence = |world: &mut World| match &ends(world, "web", "10.88.0.50").to[0].place {
        Place::There(there) => there.absence,
        Place::Here(_) => panic!("it is here"),
    };
    let address = SocketAddrV4::new(Ipv4Addr::new(10, 132, 0, 2), 7946);
    let down = Member { name: node.clone(), address, state: MemberState::Down };
    world.event(Event::Gossip(Changes { members: vec![down], ..Changes::default() }));
    assert_eq!(absence(&mut world), Absence::Recent);
    world.now += Duration::from_secs(16);
    world.event(Event::Timeout);
    assert_eq!(absence(&mut world), Absence::Nameless);
    world.event(Event::Probed { node, answers: false });
    assert_eq!(absence(&mut world), Absence::Silent);
}

#[test]
fn others_that_hold_the_address_are_told() {
    let mut world = world();
    assert_eq!(ends(&mut world, "web", "db").to[0].rivals, []);
    hears(&mut world, "drone", vec![remote("x", "10.88.0.50", 6, "x")]);
    let ends = ends(&mut world, "web", "db");
    assert_eq!(ends.to[0].rivals, [("drone".to_owned(), 6)]);
}

#[test]
fn an_address_that_nobody_holds_is_told_with_its_network() {
    let mut world = world();
    let around = |world: &mut World, to: &str| ends(world, "web", to).around.len();
    assert_eq!(around(&mut world, "10.88.7.7"), 1);
    assert_eq!((around(&mut world, "192.0.2.1"), around(&mut world, "db")), (0, 0));
}

#[test]
fn a_name_that_stands_for_too_many_is_refused() {
    let mut world = world();
    let many =
        (0..=CANDIDATES_MAX).map(|n| remote(&format!("e{n}"), &format!("10.88.1.{n}"), 1, "app"));
    hears(&mut world, "drone", many.collect());
    let question = Question { from: "app".into(), to: "db".into(), network: None };
    let refused = world.get(Request::TraceEnds(question)).unwrap_err();
    assert!(refused.message.contains("more than 64 endpoints"), "{}", refused.message);
    let question = Question { from: "web".into(), to: "db".into(), network: Some("x".into()) };
    assert!(world.get(Request::TraceEnds(question)).is_err(), "no such network");
}
