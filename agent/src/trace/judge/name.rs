//! From what was asked for to an address: which record answers, and whose it is.

use std::net::IpAddr;

use super::{Facts, some};
use crate::core::Absence;
use crate::core::trace::{Known, KnownNetwork, Place, There};
use crate::tool::quoted;
use crate::trace::hops::{At, Judged};
use crate::trace::select::{Target, is_called, name};

pub(super) fn judge(facts: &Facts) -> Judged {
    match &facts.target {
        Target::Endpoint { known, address, also } => endpoint(facts, known, *address, also),
        Target::OtherNetwork(known) => other_network(facts, known),
        Target::Nobody { address: None, .. } => no_such_name(facts),
        Target::Nobody { address: Some(address), around } => unheld(facts, *address, around),
    }
}

fn endpoint(facts: &Facts, known: &Known, address: IpAddr, also: &[Known]) -> Judged {
    let host = &facts.near.host;
    let text = &facts.asked.text;
    let whose = match &known.place {
        Place::Here(_) => format!("{address} is {}'s, on this host", name(known)),
        Place::There(there) => {
            format!("{address} is {}'s, announced by {}{}", name(known), known.host, age(there))
        }
    };
    let evidence = evidence(facts, known, also);
    if let Some((broken, fix)) = absent(known, address, facts.asked.answer.is_some()) {
        if is_cut_off(facts) {
            let says = format!("{broken}; but this host itself is cut off: see underlay");
            return Judged::unknown(At::Name, host, says).saw(evidence);
        }
        return Judged::broken(At::Name, host, broken).fix(fix).saw(evidence);
    }
    if let Some(holders) = rivals(known) {
        let says = format!(
            "{address} of network {} is held more than once, on {holders}: the hosts' stores differ, or one gave out what another held",
            known.network.name
        );
        let fix = "give all agents the same --store (ovlctl status on each host shows it), and attach the containers anew";
        return Judged::broken(At::Name, host, says).fix(fix).saw(evidence);
    }
    match &facts.asked.answer {
        None => Judged::ok(At::Name, host, whose).saw(evidence),
        Some(answer) if answer.contains(&address) => {
            let from = name(&facts.from);
            let says = format!(
                "DNS in {from}'s sandbox answers \"{text}\" with {}",
                some(answer.iter().map(ToString::to_string))
            );
            Judged::ok(At::Name, host, format!("{says}; {whose}")).saw(evidence)
        }
        // An id is no name.
        Some(answer) if answer.is_empty() && !is_name(text, known) => {
            Judged::ok(At::Name, host, whose).saw(evidence)
        }
        Some(answer) => {
            let says = unanswered(facts, known, answer);
            Judged::broken(At::Name, host, says)
                .fix(format!("on {host}: ovlctl status; journalctl -u ovl-agent"))
                .saw(evidence)
        }
    }
}

fn is_name(text: &str, known: &Known) -> bool {
    text != known.id && known.names.iter().any(|name| is_called(text, name))
}

fn unanswered(facts: &Facts, known: &Known, answer: &[IpAddr]) -> String {
    let from = name(&facts.from);
    let text = &facts.asked.text;
    if !facts.asked.scope.contains(&known.network.name) {
        let scope = match facts.asked.scope.as_slice() {
            [] => "no network".to_owned(),
            names => format!("only {}", some(names.iter().cloned())),
        };
        return format!(
            "DNS in {from}'s sandbox is answered for {scope}, not for {}, and does not know \"{text}\"",
            known.network.name
        );
    }
    match (&known.place, answer) {
        (Place::Here(here), []) if !here.is_up => {
            format!("\"{text}\" is not answered: {} is {}", name(known), here.phase)
        }
        (_, []) => format!("DNS in {from}'s sandbox does not answer \"{text}\""),
        (_, answer) => format!(
            "DNS in {from}'s sandbox answers \"{text}\" with {}, and not with {}",
            some(answer.iter().map(ToString::to_string)),
            known.ipv4
        ),
    }
}

/// This host's own way out is closed, so that it hears of nobody.
fn is_cut_off(facts: &Facts) -> bool {
    match &facts.near.outer {
        Some(Ok(outer)) => {
            outer.holder.is_none() || outer.route.is_err() || !outer.up || !outer.carrier
        }
        Some(Err(_)) | None => false,
    }
}

/// Why its host's absence took the record or the rows away, and what to do.
fn absent(known: &Known, address: IpAddr, by_name: bool) -> Option<(String, String)> {
    let Place::There(there) = &known.place else {
        return None;
    };
    let (name, host) = (name(known), &known.host);
    match there.absence {
        Absence::Silent => Some((
            format!(
                "{host}, where {name} ({address}) was, gives no sign of life at {}: its names and rows were taken back",
                there.address
            ),
            format!("look at {host} and its network: ping {}", there.address),
        )),
        Absence::Nameless if by_name => Some((
            format!(
                "the agent of {host} is away ({}), so its names are not answered any more; {name} ({address}) itself may run, and its rows are still here",
                state(there)
            ),
            format!("on {host}: systemctl start ovl-agent"),
        )),
        Absence::Nameless | Absence::Recent | Absence::None => None,
    }
}

/// The hosts that hold an address together, if several do.
fn rivals(known: &Known) -> Option<String> {
    let first = (!known.rivals.is_empty()).then(|| known.host.clone());
    let hosts = first.into_iter().chain(known.rivals.iter().map(|(host, _)| host.clone()));
    let hosts: Vec<String> = hosts.collect();
    (!hosts.is_empty()).then(|| hosts.join(" and "))
}

fn evidence(facts: &Facts, known: &Known, also: &[Known]) -> Vec<String> {
    let mut evidence = vec![match &known.place {
        Place::Here(here) => format!("{} is an endpoint of this host: {}", name(known), here.phase),
        Place::There(there) => heard(known, there),
    }];
    if let (true, false) = (facts.asked.answer.is_some(), facts.asked.scope.is_empty()) {
        let scope = some(facts.asked.scope.iter().cloned());
        evidence.push(format!("{}'s sandbox is answered for network {scope}", name(&facts.from)));
    }
    if !also.is_empty() {
        let others = also.iter().map(|k| format!("{} ({}, {})", name(k), k.ipv4, k.host));
        evidence.push(format!("\"{}\" stands for {} as well", facts.asked.text, some(others)));
    }
    evidence
}

fn age(there: &There) -> String {
    there.heard.map_or_else(String::new, |age| format!(" {} s ago", age.as_secs()))
}

fn heard(known: &Known, there: &There) -> String {
    let age = age(there);
    format!(
        "announced by {} ({}), and heard as it is{age}: {}, MAC {}, generation {}",
        known.host,
        state(there),
        known.ipv4,
        known.mac,
        known.generation
    )
}

/// `alive`, `suspect`, `down` or `left`.
pub(in crate::trace) fn state(there: &There) -> &'static str {
    match there.state {
        ovl_gossip::MemberState::Alive => "alive",
        ovl_gossip::MemberState::Suspect => "suspect",
        ovl_gossip::MemberState::Down => "down",
        ovl_gossip::MemberState::Left => "left",
    }
}

fn other_network(facts: &Facts, known: &[Known]) -> Judged {
    let from = name(&facts.from);
    let places = known.iter().map(|k| format!("{} ({}, on {})", k.network.name, k.ipv4, k.host));
    let first = known.first().map_or("", |k| name(k));
    let network = &facts.from.network.name;
    let container = quoted(first);
    Judged::broken(
        At::Name,
        &facts.near.host,
        format!(
            "\"{}\" is on another network than {from}, which is on {network}: on {}; containers reach each other on a common network only",
            facts.asked.text,
            some(places)
        ),
    )
    .fix(format!("docker network connect {network} {container}, or: ovlctl endpoint attach --network {network} --name {container} --netns PATH"))
}

fn no_such_name(facts: &Facts) -> Judged {
    let (from, text) = (name(&facts.from), &facts.asked.text);
    let mut says = format!("no endpoint of any host is called \"{text}\"");
    if let Some(answer) = facts.asked.answer.as_deref().filter(|answer| !answer.is_empty()) {
        says = format!(
            "{says}, though DNS in {from}'s sandbox answers it with {}",
            some(answer.iter().map(ToString::to_string))
        );
    }
    let scope = match facts.asked.scope.as_slice() {
        [] => format!("no name of ovl is answered in {from}'s sandbox"),
        names => {
            format!("{from}'s sandbox is answered for network {}", some(names.iter().cloned()))
        }
    };
    Judged::broken(At::Name, &facts.near.host, says)
        .saw([scope])
        .fix("ovlctl endpoint ls shows every name; a container that does not run has none")
}

fn unheld(facts: &Facts, address: IpAddr, around: &[KnownNetwork]) -> Judged {
    let own = &facts.from.network;
    let says = match around {
        [] => format!("{address} lies in no network of the cluster"),
        around => match around.iter().find(|network| network.id == own.id) {
            Some(network) if IpAddr::V4(network.gateway) == address => format!(
                "{address} is the gateway of network {}: kept for a way out, no endpoint holds it",
                network.name
            ),
            Some(network) => {
                format!("no endpoint of any host holds {address} of network {}", network.name)
            }
            None => format!(
                "{address} lies in network {}, and no endpoint of any host holds it",
                some(around.iter().map(|network| network.name.clone()))
            ),
        },
    };
    Judged::broken(At::Name, &facts.near.host, says)
        .saw([format!("{} is on network {}, {}", name(&facts.from), own.name, own.subnet)])
        .fix("ovlctl endpoint ls shows every address; one that was set by hand inside a container is nobody's, and no other host knows a way to it")
}
