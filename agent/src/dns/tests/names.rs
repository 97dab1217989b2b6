//! The names table, by example and against a naive model.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::super::network::MAX_NAMES;
use super::super::{Names, Resolution, ReverseResolution};

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, last)
}

fn ip6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0x88, 0, 0, 0, last.into())
}

fn key(endpoint: &str) -> (String, String) {
    ("node-a".to_owned(), endpoint.to_owned())
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn found(last: &[u8]) -> Resolution {
    Resolution::Found(last.iter().map(|&last| ip(last).into()).collect())
}

fn names() -> Names {
    let mut names = Names::default();
    names.set_network(1, "RethinkDB", "10.88.0.0/16".parse().unwrap(), None);
    names.set_network(2, "front.end", "10.89.0.0/20".parse().unwrap(), None);
    names.set(1, key("e1"), ip(2), None, &owned(&["Leader", "0a1b2c3d4e5f", "db"]));
    names.set(1, key("e2"), ip(3), None, &owned(&["follower", "db"]));
    names.set(2, key("e3"), Ipv4Addr::new(10, 89, 0, 2), None, &owned(&["web.1"]));
    names
}

#[test]
fn a_name_is_found_in_any_case_with_its_network_and_with_a_trailing_dot() {
    let names = names();
    for name in ["leader", "LEADER", "leader.", "leader.rethinkdb", "Leader.RethinkDB."] {
        assert_eq!(names.resolve(Some(&[1]), name), found(&[2]), "{name}");
    }
    assert_eq!(names.resolve(None, "leader"), found(&[2]));
}

#[test]
fn a_shared_name_has_all_addresses_sorted_and_each_once() {
    let mut names = names();
    names.set(1, key("e0"), ip(1), None, &owned(&["db"]));
    names.set(1, key("e9"), ip(2), None, &owned(&["db"]));
    assert_eq!(names.resolve(Some(&[1, 1]), "db"), found(&[1, 2, 3]));
}

#[test]
fn both_families_are_found_ipv4_first_and_lead_back() {
    let subnet6: Ipv6Net = "fd00:0:0:88::/64".parse().unwrap();
    let mut names = names();
    assert_eq!(names.reverse(None, ip6(9).into()), ReverseResolution::NotOurs);
    names.set_network(1, "RethinkDB", "10.88.0.0/16".parse().unwrap(), Some(subnet6));
    names.set(1, key("e1"), ip(2), Some(ip6(2)), &owned(&["leader", "db"]));
    let all: Vec<IpAddr> = vec![ip(2).into(), ip(3).into(), ip6(2).into()];
    assert_eq!(names.resolve(Some(&[1]), "db"), Resolution::Found(all));
    let leader = ReverseResolution::Found(vec!["leader.rethinkdb.".to_owned()]);
    assert_eq!(names.reverse(Some(&[1]), ip(2).into()), leader);
    assert_eq!(names.reverse(Some(&[1]), ip6(2).into()), leader);
    assert_eq!(names.reverse(Some(&[1]), ip6(9).into()), ReverseResolution::NoSuchName);
    assert_eq!(names.reverse(Some(&[2]), ip6(2).into()), ReverseResolution::NotOurs);
    let serial = names.serial();
    names.set(1, key("e1"), ip(2), None, &owned(&["leader", "db"]));
    assert_eq!(names.serial(), serial + 1, "an address that goes is a change");
    assert_eq!(names.resolve(Some(&[1]), "db"), found(&[2, 3]));
    assert_eq!(names.reverse(Some(&[1]), ip6(2).into()), ReverseResolution::NoSuchName);
}

#[test]
fn names_and_networks_may_contain_dots() {
    let names = names();
    let web = Resolution::Found(vec![Ipv4Addr::new(10, 89, 0, 2).into()]);
    assert_eq!(names.resolve(Some(&[2]), "web.1"), web);
    assert_eq!(names.resolve(Some(&[2]), "web.1.front.end"), web);
    assert_eq!(names.resolve(Some(&[2]), "web.2.front.end"), Resolution::NoSuchName);
}

#[test]
fn what_is_out_of_scope_is_not_ours() {
    let names = names();
    assert_eq!(names.resolve(Some(&[2]), "leader"), Resolution::NotOurs);
    assert_eq!(names.resolve(Some(&[2]), "leader.rethinkdb"), Resolution::NotOurs);
    assert_eq!(names.resolve(Some(&[]), "leader"), Resolution::NotOurs);
    assert_eq!(names.resolve(Some(&[1]), "nobody"), Resolution::NotOurs);
    assert_eq!(names.resolve(Some(&[1]), "nobody.rethinkdb"), Resolution::NoSuchName);
    assert_eq!(names.resolve(Some(&[1]), "example.com"), Resolution::NotOurs);
    assert_eq!(names.resolve(None, ""), Resolution::NotOurs);
    assert_eq!(names.resolve(None, "."), Resolution::NotOurs);
}

#[test]
fn an_address_leads_to_the_first_name_with_its_network() {
    let names = names();
    let leader = ReverseResolution::Found(vec!["leader.rethinkdb.".to_owned()]);
    assert_eq!(names.reverse(Some(&[1]), ip(2).into()), leader);
    assert_eq!(names.reverse(Some(&[1]), ip(9).into()), ReverseResolution::NoSuchName);
    assert_eq!(names.reverse(Some(&[2]), ip(2).into()), ReverseResolution::NotOurs);
    assert_eq!(names.reverse(None, Ipv4Addr::LOCALHOST.into()), ReverseResolution::NotOurs);
}

#[test]
fn a_record_lives_exactly_as_long_as_its_endpoint() {
    let mut names = names();
    names.remove(1, &key("e1"));
    assert_eq!(names.resolve(Some(&[1]), "leader"), Resolution::NotOurs);
    assert_eq!(names.resolve(Some(&[1]), "db"), found(&[3]));
    assert_eq!(names.reverse(Some(&[1]), ip(2).into()), ReverseResolution::NoSuchName);
    names.set(1, key("e2"), ip(4), None, &owned(&["other"]));
    assert_eq!(names.resolve(Some(&[1]), "db"), Resolution::NotOurs);
    assert_eq!(names.resolve(Some(&[1]), "other"), found(&[4]));
    names.remove_network(1);
    assert_eq!(names.resolve(None, "other"), Resolution::NotOurs);
    assert_eq!(names.resolve(None, "other.rethinkdb"), Resolution::NotOurs);
}

#[test]
fn a_name_stays_while_one_of_two_with_the_same_address_stays() {
    let mut names = names();
    names.set(1, key("twin"), ip(2), None, &owned(&["leader"]));
    names.remove(1, &key("e1"));
    assert_eq!(names.resolve(Some(&[1]), "leader"), found(&[2]));
}

#[test]
fn a_network_may_come_after_its_endpoints_and_change_its_name() {
    let mut names = Names::default();
    names.set(7, key("e"), ip(2), None, &owned(&["early"]));
    assert_eq!(names.resolve(Some(&[7]), "early"), found(&[2]));
    names.set_network(7, "one", "10.88.0.0/24".parse().unwrap(), None);
    names.set_network(7, "two", "10.88.0.0/24".parse().unwrap(), None);
    assert_eq!(names.resolve(Some(&[7]), "early.two"), found(&[2]));
    assert_eq!(names.resolve(Some(&[7]), "early.one"), Resolution::NotOurs);
}

#[test]
fn names_that_cannot_be_asked_for_are_left_out_and_so_are_too_many() {
    let mut names = names();
    let long = "x".repeat(64);
    names.set(
        1,
        key("odd"),
        ip(5),
        None,
        &owned(&["", ".", "a..b", "a b", "a\\b", &long, "fine."]),
    );
    assert_eq!(names.resolve(Some(&[1]), "fine"), found(&[5]));
    assert_eq!(names.resolve(Some(&[1]), "a b"), Resolution::NotOurs);
    assert_eq!(
        names.reverse(Some(&[1]), ip(5).into()),
        ReverseResolution::Found(owned(&["fine.rethinkdb."]))
    );
    let many: Vec<String> = (0..=MAX_NAMES).map(|n| format!("n{n}")).collect();
    names.set(1, key("many"), ip(6), None, &many);
    assert_eq!(names.resolve(Some(&[1]), &many[MAX_NAMES - 1]), found(&[6]));
    assert_eq!(names.resolve(Some(&[1]), &many[MAX_NAMES]), Resolution::NotOurs);
}

#[test]
fn the_serial_number_counts_changes_only() {
    let mut names = names();
    let before = names.serial();
    names.set(1, key("e2"), ip(3), None, &owned(&["Follower", "DB"]));
    names.set_network(1, "rethinkdb", "10.88.0.0/16".parse().unwrap(), None);
    names.remove(1, &key("unknown"));
    names.remove(99, &key("unknown"));
    names.remove_network(99);
    assert_eq!(names.serial(), before);
    names.remove(1, &key("e2"));
    assert_eq!(names.serial(), before + 1);
}

/// One change of the table.
#[derive(Clone, Debug)]
enum Change {
    SetNetwork(u64, String),
    RemoveNetwork(u64),
    Set(u64, String, u8, Option<u8>, Vec<String>),
    Remove(u64, String),
}

/// The same table as two maps, searched from end to end.
#[derive(Debug, Default)]
struct Model {
    networks: BTreeMap<u64, String>,
    endpoints: BTreeMap<(u64, String), (Vec<IpAddr>, Vec<String>)>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::SetNetwork(id, name) => drop(self.networks.insert(id, name.to_lowercase())),
            Change::RemoveNetwork(id) => {
                self.networks.remove(&id);
                self.endpoints.retain(|(network, _), _| *network != id);
            }
            Change::Set(network, endpoint, last, last6, names) => {
                let names = names.iter().map(|name| name.to_lowercase()).collect();
                let addresses: Vec<IpAddr> = [ip(last).into()]
                    .into_iter()
                    .chain(last6.map(|last| ip6(last).into()))
                    .collect();
                self.endpoints.insert((network, endpoint), (addresses, names));
            }
            Change::Remove(network, endpoint) => {
                self.endpoints.remove(&(network, endpoint));
            }
        }
    }

    fn holders(&self, scope: &[u64], matches: impl Fn(u64, &str) -> bool) -> Vec<IpAddr> {
        let holders = self.endpoints.iter().filter(|((network, _), (_, names))| {
            scope.contains(network) && names.iter().any(|name| matches(*network, name))
        });
        let addresses: BTreeSet<IpAddr> =
            holders.flat_map(|(_, (addresses, _))| addresses.iter().copied()).collect();
        addresses.into_iter().collect()
    }

    fn resolve(&self, scope: &[u64], name: &str) -> Resolution {
        let name = name.to_lowercase();
        let mut addresses = self.holders(scope, |_, other| other == name);
        if addresses.is_empty() {
            addresses = self.holders(scope, |id, other| {
                self.networks.get(&id).is_some_and(|network| format!("{other}.{network}") == name)
            });
        }
        let under = |id: &u64| {
            self.networks.get(id).is_some_and(|network| name.ends_with(&format!(".{network}")))
        };
        match (addresses.is_empty(), scope.iter().any(under)) {
            (false, _) => Resolution::Found(addresses),
            (true, true) => Resolution::NoSuchName,
            (true, false) => Resolution::NotOurs,
        }
    }

    fn reverse(&self, scope: &[u64], address: IpAddr) -> ReverseResolution {
        let known = |id: &&u64| self.networks.contains_key(id);
        let names: BTreeSet<String> = scope
            .iter()
            .filter(known)
            .flat_map(|id| {
                let network = &self.networks[id];
                let own = self.endpoints.iter().filter(move |((of, _), _)| of == id);
                own.filter(|(_, (held, _))| held.contains(&address)).filter_map(
                    move |(_, (_, names))| Some(format!("{}.{network}.", names.first()?)),
                )
            })
            .collect();
        match (names.is_empty(), scope.iter().filter(known).count()) {
            (false, _) => ReverseResolution::Found(names.into_iter().collect()),
            (true, 0) => ReverseResolution::NotOurs,
            (true, _) => ReverseResolution::NoSuchName,
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "B", "c", "a.b", "b.c", "C.a", "a.b.c"]).prop_map(str::to_owned)
}

fn change() -> impl Strategy<Value = Change> {
    let id = || 0..3u64;
    let endpoint = || prop::sample::select(vec!["e1", "e2", "e3"]).prop_map(str::to_owned);
    prop_oneof![
        2 => (id(), word()).prop_map(|(id, name)| Change::SetNetwork(id, name)),
        1 => id().prop_map(Change::RemoveNetwork),
        6 => (id(), endpoint(), 0..3u8, prop::option::of(0..3u8), prop::collection::vec(word(), 0..3))
            .prop_map(|(id, endpoint, last, last6, names)| Change::Set(id, endpoint, last, last6, names)),
        2 => (id(), endpoint()).prop_map(|(id, endpoint)| Change::Remove(id, endpoint)),
    ]
}

proptest! {
    #[test]
    fn the_table_answers_as_the_naive_model_does(
        changes in prop::collection::vec(change(), 0..40),
        scope in prop::collection::vec(0..4u64, 0..4),
        questions in prop::collection::vec(prop::collection::vec(word(), 1..3), 1..12),
    ) {
        let (mut names, mut model) = (Names::default(), Model::default());
        let subnet: Ipv4Net = "10.88.0.0/16".parse().unwrap();
        let subnet6: Ipv6Net = "fd00:0:0:88::/64".parse().unwrap();
        for change in &changes {
            model.apply(change);
            match change.clone() {
                Change::SetNetwork(id, name) => names.set_network(id, &name, subnet, Some(subnet6)),
                Change::RemoveNetwork(id) => names.remove_network(id),
                Change::Set(id, endpoint, last, last6, list) => {
                    names.set(id, key(&endpoint), ip(last), last6.map(ip6), &list);
                }
                Change::Remove(id, endpoint) => names.remove(id, &key(&endpoint)),
            }
        }
        for question in questions.iter().map(|words| words.join(".")) {
            prop_assert_eq!(names.resolve(Some(&scope), &question), model.resolve(&scope, &question));
        }
        for last in 0..4 {
            for address in [ip(last).into(), ip6(last).into()] {
                prop_assert_eq!(names.reverse(Some(&scope), address), model.reverse(&scope, address));
            }
        }
    }
}
