//! Which endpoints a way leads from and to. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::core::Refusal;
use crate::core::trace::{Ends, Here, Known, KnownNetwork, Place};

/// Candidates that a refusal names.
const NAMED_MAX: usize = 8;

/// The way that was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It begins on another host, whose agent follows it.
    Elsewhere(Box<Known>),
    /// It begins here.
    Here {
        /// Where.
        from: Box<Known>,
        /// What this host has of it.
        here: Here,
        /// Where it leads.
        to: Box<Target>,
    },
}

/// Where a way leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To an endpoint of the same network.
    Endpoint {
        /// Which one.
        known: Known,
        /// Which address of it.
        address: IpAddr,
        /// Others that the name stands for, too.
        also: Vec<Known>,
    },
    /// To endpoints of networks that the beginning is not on.
    OtherNetwork(Vec<Known>),
    /// To no endpoint that is known here.
    Nobody {
        /// What was asked for, if it is an address.
        address: Option<IpAddr>,
        /// The networks whose subnet it lies in.
        around: Vec<KnownNetwork>,
    },
}

/// Picks the way out of what is known.
///
/// # Errors
/// `from` is nobody, or either is more than one.
pub(crate) fn way(from: &str, to: &str, ends: &Ends) -> Result<Way, Refusal> {
    if ends.from.is_empty() {
        return Err(Refusal::not_found(format!(
            "nothing here is called \"{from}\", and no endpoint has such an address; see: ovlctl endpoint ls"
        )));
    }
    let starts = own_first(from, &ends.from);
    let goals = own_first(to, &ends.to);
    let networks: BTreeSet<u64> = starts
        .iter()
        .filter(|s| goals.iter().any(|g| is_pair(s, g)))
        .map(|s| s.network.id)
        .collect();
    if networks.len() > 1 {
        let names: Vec<&str> = named_networks(&starts, &networks);
        return Err(Refusal::conflict(format!(
            "\"{from}\" and \"{to}\" are both on networks {}; say which one with --network",
            names.join(" and ")
        )));
    }
    let network = networks.first().copied();
    let start = the_only(from, &starts, network)?;
    let Place::Here(here) = &start.place else {
        return Ok(Way::Elsewhere(Box::new(start.clone())));
    };
    let target = target(to, start, &goals, ends)?;
    Ok(Way::Here { from: Box::new(start.clone()), here: here.clone(), to: Box::new(target) })
}

/// Endpoints of that name, address or id themselves go before those that have it as an alias.
fn own_first<'a>(text: &str, known: &'a [Known]) -> Vec<&'a Known> {
    let is_own = |k: &&Known| {
        k.id == text
            || text.parse::<IpAddr>().is_ok()
            || k.names.first().is_some_and(|name| {
                let text = text.trim_end_matches('.');
                text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            })
    };
    let own: Vec<&Known> = known.iter().filter(is_own).collect();
    if own.is_empty() { known.iter().collect() } else { own }
}

fn is_pair(start: &Known, goal: &Known) -> bool {
    start.network.id == goal.network.id && !is_same(start, goal)
}

fn is_same(a: &Known, b: &Known) -> bool {
    a.host == b.host && a.id == b.id
}

fn named_networks<'a>(starts: &[&'a Known], networks: &BTreeSet<u64>) -> Vec<&'a str> {
    let named = starts.iter().map(|s| &s.network).filter(|n| networks.contains(&n.id));
    let names: BTreeSet<&str> = named.map(|network| network.name.as_str()).collect();
    names.into_iter().collect()
}

/// The beginning. On no network that the goal is on, any of its own will do.
fn the_only<'a>(
    text: &str,
    starts: &[&'a Known],
    network: Option<u64>,
) -> Result<&'a Known, Refusal> {
    let fit = |s: &&&Known| network.is_none_or(|network| s.network.id == network);
    let fits: Vec<&Known> = starts.iter().filter(fit).copied().collect();
    let one_container = |a: &Known, b: &Known| match (&a.place, &b.place) {
        (Place::Here(a), Place::Here(b)) => a.netns.is_some() && a.netns == b.netns,
        (Place::There(_), Place::There(_)) => a.host == b.host && a.names == b.names,
        (Place::Here(_), Place::There(_)) | (Place::There(_), Place::Here(_)) => false,
    };
    match fits.as_slice() {
        [first, rest @ ..] if rest.iter().all(|other| one_container(first, other)) => Ok(first),
        [] | [_, ..] => Err(several(text, &fits)),
    }
}

fn several(text: &str, known: &[&Known]) -> Refusal {
    let shown = known.iter().take(NAMED_MAX).map(|k| {
        format!("{} on network {} ({}, host {})", name(k), k.network.name, k.ipv4, k.host)
    });
    Refusal::conflict(format!(
        "\"{text}\" stands for several endpoints; name one by its address, or its network with --network: {}",
        shown.collect::<Vec<_>>().join("; ")
    ))
}

fn target(to: &str, start: &Known, goals: &[&Known], ends: &Ends) -> Result<Target, Refusal> {
    let asked = to.parse::<IpAddr>().ok();
    let mut fits: Vec<&Known> = goals.iter().filter(|g| is_pair(start, g)).copied().collect();
    // As DNS sorts its answers; of rivals for one address the one that the rows lead to.
    fits.sort_by_key(|k| (k.ipv4, std::cmp::Reverse(k.generation)));
    if let Some((first, also)) = fits.split_first() {
        let address = asked.unwrap_or(IpAddr::V4(first.ipv4));
        let also = also.iter().map(|k| (*k).clone()).collect();
        return Ok(Target::Endpoint { known: (*first).clone(), address, also });
    }
    if goals.iter().any(|goal| is_same(start, goal)) {
        return Err(Refusal::invalid(format!(
            "\"{to}\" is where the way begins, {} on host {}: give two different ends",
            name(start),
            start.host
        )));
    }
    if goals.is_empty() {
        return Ok(Target::Nobody { address: asked, around: ends.around.clone() });
    }
    Ok(Target::OtherNetwork(goals.iter().map(|goal| (*goal).clone()).collect()))
}

/// What an endpoint is called.
pub(crate) fn name(known: &Known) -> &str {
    known.names.first().unwrap_or(&known.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::{ends, here, there};

    fn picked(from: &str, to: &str, ends: &Ends) -> (String, String) {
        match way(from, to, ends).unwrap() {
            Way::Here { from, to, .. } => match *to {
                Target::Endpoint { known, .. } => (from.host, known.host),
                other => panic!("{other:?}"),
            },
            Way::Elsewhere(known) => (known.host, String::new()),
        }
    }

    #[test]
    fn two_endpoints_of_one_network_are_a_way() {
        let ends = ends(vec![here("web", 1)], vec![there("db", 1, "bee-2")]);
        assert_eq!(picked("web", "db", &ends), ("bee-1".into(), "bee-2".into()));
    }

    #[test]
    fn a_way_from_another_host_is_followed_there() {
        let ends = ends(vec![there("db", 1, "bee-2")], vec![here("web", 1)]);
        assert_eq!(picked("db", "web", &ends).0, "bee-2");
    }

    #[test]
    fn a_container_of_two_networks_goes_by_the_one_it_shares() {
        let both = vec![here("web", 1), here("web", 2)];
        let ends = ends(both, vec![there("db", 2, "bee-2")]);
        let Way::Here { from, .. } = way("web", "db", &ends).unwrap() else { panic!() };
        assert_eq!(from.network.id, 2);
    }

    #[test]
    fn two_shared_networks_are_asked_about() {
        let both = vec![here("web", 1), here("web", 2)];
        let goals = vec![there("db", 1, "bee-2"), there("db", 2, "bee-2")];
        let refused = way("web", "db", &ends(both, goals)).unwrap_err();
        for word in ["net-1", "net-2", "--network"] {
            assert!(refused.message.contains(word), "{}", refused.message);
        }
    }

    #[test]
    fn two_containers_of_one_alias_are_no_beginning_but_a_goal() {
        let (mut a, mut b) = (here("a", 1), there("b", 1, "bee-2"));
        (a.names, b.names) = (vec!["a".into(), "app".into()], vec!["b".into(), "app".into()]);
        let refused = way("app", "web", &ends(vec![a.clone(), b.clone()], vec![here("web", 1)]));
        assert!(refused.unwrap_err().message.contains("stands for several"));
        let goals = ends(vec![here("web", 1)], vec![a, b]);
        let Way::Here { to, .. } = way("web", "app", &goals).unwrap() else { panic!() };
        assert!(matches!(*to, Target::Endpoint { also, .. } if also.len() == 1));
    }

    #[test]
    fn ones_own_name_goes_before_anothers_alias() {
        let mut other = there("other", 1, "bee-2");
        other.names.push("web".into());
        let ends = ends(vec![other, here("web", 1)], vec![there("db", 1, "bee-2")]);
        assert_eq!(picked("web", "db", &ends).0, "bee-1");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let from = || vec![here("web", 1)];
        assert!(way("nobody", "db", &ends(vec![], vec![])).unwrap_err().message.contains("nobody"));
        let refused = way("web", "web", &ends(from(), from())).unwrap_err();
        assert!(refused.message.contains("two different ends"), "{}", refused.message);
        let to = |ends: &Ends| match way("web", "db", ends).unwrap() {
            Way::Here { to, .. } => *to,
            Way::Elsewhere(_) => panic!(),
        };
        assert!(matches!(to(&ends(from(), vec![])), Target::Nobody { address: None, .. }));
        let elsewhere = to(&ends(from(), vec![there("db", 2, "bee-2")]));
        assert!(matches!(elsewhere, Target::OtherNetwork(_)));
    }
}
