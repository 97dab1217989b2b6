//! Why a name has its addresses, and why not others.

use super::*;
use crate::control::api::explain::Record;

impl World {
    fn explain(&mut self, name: &str, network: Option<&str>, from: Option<&str>) -> Explained {
        let own = |text: &str| text.to_owned();
        let asked = Asked { name: own(name), network: network.map(own), from: from.map(own) };
        match self.get(Request::Explain(asked)).unwrap() {
            Response::Explained(explained) => *explained,
            other => panic!("{other:?}"),
        }
    }

    /// With networks rethinkdb and blue.
    fn two_networks() -> World {
        let mut world = World::ready();
        world.store.push(network(2, "blue", "10.99.0.0/16"));
        world.publish_networks();
        world
    }
}

fn blue(id: &str, address: &str, name: &str) -> Endpoint {
    Endpoint { network: 2, ..remote(id, address, 7, name) }
}

fn shown(record: &Record) -> (&str, &str, &str, bool) {
    (&record.endpoint, &record.network, &record.host, record.answers)
}

#[test]
fn a_record_says_whose_it_is_how_old_and_of_which_generation() {
    let mut world = World::ready();
    world.endpoints_of("bee", vec![remote("a", "10.88.0.9", 3, "web")]);
    world.pass(Duration::from_secs(42));
    let told = world.explain("WEB.", None, None);
    assert_eq!((told.scope, told.asker.networks), (None, None));
    let record = &told.records[0];
    assert_eq!(shown(record), ("web", "rethinkdb", "bee", true));
    assert_eq!((record.generation, record.known_seconds), (3, 42));
    assert_eq!(record.addresses, ["10.88.0.9".parse::<IpAddr>().unwrap()]);
    assert_eq!(record.why, "bee announces it, and \"web\" is one of its names");
    let told = world.explain("web.rethinkdb", None, None);
    assert!(told.records[0].why.ends_with("\"web\" of network rethinkdb is meant"), "{told:?}");
    // Its age counts from its last change.
    world.endpoints_of("bee", vec![remote("a", "10.88.0.9", 4, "web")]);
    assert_eq!(world.explain("web", None, None).records[0].known_seconds, 0);
}

#[test]
fn one_of_another_network_is_told_with_the_networks_of_who_asks() {
    let mut world = World::two_networks();
    world.get(Request::Attach(target("asker"))).unwrap();
    world.endpoints_of("bee", vec![blue("b", "10.99.0.9", "web")]);
    let told = world.explain("web", None, Some("asker"));
    assert_eq!(told.scope, Some(vec![1]));
    assert_eq!(told.asker.host.as_deref(), Some("queenbee"));
    assert_eq!(told.asker.docker, Some(false));
    assert_eq!(shown(&told.records[0]), ("web", "blue", "bee", false));
    assert_eq!(told.records[0].why, "it is on network blue, and asker is on rethinkdb only");
    let told = world.explain("web", Some("rethinkdb"), None);
    assert_eq!(told.records[0].why, "it is on network blue, and only rethinkdb is looked in");
    assert!(world.explain("web", Some("blue"), None).records[0].answers);
}

#[test]
fn who_asks_is_on_all_networks_of_its_container() {
    let mut world = World::two_networks();
    let twin = |network: &str, id| Target { network: network.into(), id, ..target("asker") };
    world.get(Request::Attach(twin("rethinkdb", 1))).unwrap();
    world.get(Request::Attach(twin("blue", 2))).unwrap();
    let told = world.explain("web", None, Some("asker"));
    assert_eq!(told.asker.networks, Some(vec!["rethinkdb".to_owned(), "blue".to_owned()]));
    // Of another host's containers, those of one name are taken for one.
    let both = vec![remote("a", "10.88.0.9", 3, "far"), blue("b", "10.99.0.9", "far")];
    world.endpoints_of("bee", both);
    let told = world.explain("web", None, Some("far"));
    assert_eq!((told.scope, told.asker.docker), (Some(vec![1, 2]), None));
    world.endpoints_of("wasp", vec![remote("c", "10.88.0.7", 3, "far")]);
    let asked = Asked { name: "web".into(), network: None, from: Some("far".into()) };
    let refusal = world.get(Request::Explain(asked)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    let asked = Asked { name: "web".into(), network: None, from: Some("nobody".into()) };
    assert_eq!(world.get(Request::Explain(asked)).unwrap_err().kind, RefusalKind::NotFound);
}

#[test]
fn names_of_a_host_that_is_away_are_explained() {
    let mut world = World::ready();
    world.member("bee", MemberState::Alive);
    world.endpoints_of("bee", vec![remote("a", "10.88.0.9", 3, "web")]);
    world.member("bee", MemberState::Left);
    world.event(Event::Probed { node: "bee".parse().unwrap(), answers: true });
    assert!(world.explain("web", None, None).records[0].answers);
    world.pass(remote::NAMES_HELD + Duration::from_secs(5));
    let told = world.explain("web", None, None);
    assert!(!told.records[0].answers);
    assert!(
        told.records[0]
            .why
            .starts_with("its host's agent has been away for more than 15 s: nobody"),
        "{told:?}"
    );
    world.event(Event::Probed { node: "bee".parse().unwrap(), answers: false });
    let told = world.explain("web", None, None);
    assert!(told.records[0].why.contains("no sign of life"), "{told:?}");
}

#[test]
fn an_endpoint_of_this_host_that_is_not_up_is_explained() {
    let mut world = World::ready();
    world.kernel_waits = true;
    world.ask(Request::Attach(target("leader")));
    let told = world.explain("leader", None, None);
    assert_eq!(
        (told.records[0].answers, told.records[0].why.as_str()),
        (false, "it is just being attached")
    );
}

#[test]
fn a_whole_name_goes_before_name_and_network() {
    let mut world = World::two_networks();
    let dotted = remote("a", "10.88.0.9", 3, "web.blue");
    world.endpoints_of("bee", vec![dotted, blue("b", "10.99.0.9", "web")]);
    let told = world.explain("web.blue", None, None);
    assert_eq!(shown(&told.records[0]), ("web.blue", "rethinkdb", "bee", true));
    assert_eq!(shown(&told.records[1]), ("web", "blue", "bee", false));
    assert!(told.records[1].why.contains("as a whole"), "{told:?}");
}

#[test]
fn a_name_that_nobody_has_brings_the_nearest() {
    let mut world = World::two_networks();
    let list = ["database", "web", "worker-1"].iter().enumerate();
    let list =
        list.map(|(n, name)| remote(&format!("{n}"), &format!("10.88.0.{}", n + 9), 3, name));
    world.endpoints_of("bee", list.collect());
    for (asked, near) in [
        ("databse", &["database"][..]),
        ("DATABASES", &["database"]),
        ("wbe", &["web"]),
        ("wbe.rethinkdb", &["web.rethinkdb"]),
        ("web.rethinkdbb", &["web.rethinkdb"]),
        ("worker-2", &["worker-1"]),
        ("elsewhere", &[]),
        ("example.org", &[]),
    ] {
        let told = world.explain(asked, None, None);
        assert_eq!(told.near, near, "{asked}");
        assert!(told.records.is_empty());
    }
    assert_eq!(world.explain("databse", Some("blue"), None).near, [""; 0], "not on that network");
}

#[test]
fn an_explanation_is_bounded() {
    let mut world = World::ready();
    for host in 0..10u8 {
        let list =
            (0..10).map(|n| remote(&format!("{host}-{n}"), &format!("10.88.{host}.{n}"), 3, "web"));
        world.endpoints_of(&format!("bee-{host}"), list.collect());
    }
    let told = world.explain("web", None, None);
    assert_eq!((told.records.len(), told.left_out), (64, 36));
}

#[test]
fn an_address_that_is_held_twice_is_told_with_it() {
    let mut world = World::ready();
    world.endpoints_of("bee-1", vec![remote("a", "10.88.0.9", 3, "web")]);
    world.endpoints_of("bee-2", vec![remote("b", "10.88.0.9", 4, "other")]);
    let told = world.explain("web", None, None);
    assert!(
        told.records[0].why.ends_with("its address is held twice, on bee-1 and bee-2"),
        "{told:?}"
    );
}
