//! Why a name has the addresses that it has: every endpoint that is called so, whether it is answered,
//! and why not.
//!
//! The names table itself answers in the end; what stands here says how it came to be so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ovl_gossip::Endpoint;

use super::local::{Local, Origin, Phase};
use super::remote::{Absence, NAMES_HELD, addresses};
use super::view::listed;
use super::{Core, Refusal};
use crate::config::distance;
use crate::control::api::explain::{Asker, Record};

/// Records of one explanation; of more only the number is told.
const RECORDS_MAX: usize = 64;

/// Names that are nearly the same.
const NEAR_MAX: usize = 5;

/// Names that are compared for that. In a larger cluster, those of the first endpoints only.
const COMPARED_MAX: usize = 50_000;

/// The farthest that one of them may be away.
const NEAR_BY_MAX: usize = 3;

/// Network, address and hosts, of an address that several endpoints hold.
type HeldTwice = (u64, IpAddr, Vec<String>);

/// Networks that a sentence names.
const NAMED_MAX: usize = 8;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name.
    pub name: String,
    /// In this network only; with `from`: the network that the asker is on.
    pub network: Option<String>,
    /// An endpoint's name, of any host.
    pub from: Option<String>,
}

/// What the core knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explained {
    /// Who asks.
    pub asker: Asker,
    /// The networks to look in; `None`: all.
    pub scope: Option<Vec<u64>>,
    /// Those that are answered first.
    pub records: Vec<Record>,
    /// Beyond the bound.
    pub left_out: usize,
    /// Names that are nearly the same.
    pub near: Vec<String>,
}

/// An endpoint that has the name, and how it stands with it.
struct Candidate<'a> {
    endpoint: Endpoint,
    host: &'a str,
    matched: String,
    /// The name is its own as a whole, and not name and network.
    whole: bool,
    known: Duration,
    /// Why nobody's question would be answered by it.
    withheld: Option<String>,
}

impl Core {
    pub(super) fn explain(&self, asked: &Asked) -> Result<Explained, Refusal> {
        let (asker, scope) = self.asker(asked)?;
        let name = fold(&asked.name);
        let mut candidates = self.candidates(&name);
        let looked_in = |network: &u64| scope.as_ref().is_none_or(|ids| ids.contains(network));
        // A name with dots that exists as a whole goes before name and network.
        let is_whole = candidates
            .iter()
            .any(|c| c.whole && c.withheld.is_none() && looked_in(&c.endpoint.network));
        for candidate in &mut candidates {
            let network = candidate.endpoint.network;
            if !looked_in(&network) {
                candidate.withheld = Some(self.outside(network, &asker));
            } else if candidate.withheld.is_none() && is_whole && !candidate.whole {
                candidate.withheld = Some(format!(
                    "another endpoint is called \"{name}\" as a whole, which goes first"
                ));
            }
        }
        candidates.sort_by_key(|c| (c.withheld.is_some(), c.endpoint.network, c.host.to_owned()));
        let left_out = candidates.len().saturating_sub(RECORDS_MAX);
        let near = match candidates.iter().any(|c| c.withheld.is_none()) {
            true => Vec::new(),
            false => self.near(&name, &looked_in),
        };
        let records = candidates.into_iter().take(RECORDS_MAX);
        let twice = self.held_twice();
        let records = records.map(|c| self.record_of(c, &twice)).collect();
        Ok(Explained { asker, scope, records, left_out, near })
    }

    /// Who asks, and the networks that are looked in for it.
    fn asker(&self, asked: &Asked) -> Result<(Asker, Option<Vec<u64>>), Refusal> {
        let only = asked.network.as_deref().map(|name| self.network_or_refuse(name)).transpose()?;
        let only = only.map(|network| network.id.0);
        let Some(from) = &asked.from else {
            let scope = only.map(|id| vec![id]);
            let networks = scope.as_deref().map(|ids| self.names_of_networks(ids));
            return Ok((Asker { networks, ..Asker::default() }, scope));
        };
        let called = |e: &Endpoint| {
            let named = e.names.iter().any(|name| name.eq_ignore_ascii_case(from));
            (named || e.id.starts_with(from.as_str())) && only.is_none_or(|id| e.network == id)
        };
        let me = self.me.node.to_string();
        let here = self.local_endpoints().map(|e| (me.clone(), e));
        let there = self.remotes.all().map(|(heard, e)| (heard.node.to_string(), e.clone()));
        let found: Vec<_> = here.chain(there).filter(|(_, e)| called(e)).collect();
        let Some((host, endpoint)) = found.first() else {
            return Err(Refusal::not_found(format!(
                "there is no endpoint \"{from}\"; see: ovlctl endpoint ls"
            )));
        };
        let other =
            found.iter().find(|(h, e)| h != host || e.names.first() != endpoint.names.first());
        if let Some((other, _)) = other {
            return Err(Refusal::conflict(format!(
                "several endpoints are called \"{from}\", on {host} and on {other}; say with --network which one asks, or give its first name"
            )));
        }
        let scope = self.networks_of(host, endpoint);
        let asker = Asker {
            endpoint: Some(endpoint.names.first().unwrap_or(from).clone()),
            host: Some(host.clone()),
            networks: Some(self.names_of_networks(&scope)),
            docker: self.local.get(&endpoint.id).map(|local| local.origin == Origin::Docker),
        };
        Ok((asker, Some(scope)))
    }

    /// The networks of the asker's container. Of another host's it is not known which endpoints share
    /// one: those that have the same first name are taken to.
    fn networks_of(&self, host: &str, endpoint: &Endpoint) -> Vec<u64> {
        let mut scope: BTreeSet<u64> = [endpoint.network].into();
        if let Some(local) = self.local.get(&endpoint.id) {
            let shares = |l: &&Local| l.sandbox.is_some() && l.sandbox == local.sandbox;
            scope.extend(self.local.values().filter(shares).map(|l| l.network));
        } else if !endpoint.names.is_empty() {
            let of_host =
                self.remotes.all().filter(|(heard, _)| heard.node.as_ref() as &str == host);
            let same = of_host.filter(|(_, e)| e.names.first() == endpoint.names.first());
            scope.extend(same.map(|(_, e)| e.network));
        }
        scope.into_iter().collect()
    }

    fn names_of_networks(&self, ids: &[u64]) -> Vec<String> {
        ids.iter().map(|id| self.name_of_network(*id)).collect()
    }

    fn candidates(&self, name: &str) -> Vec<Candidate<'_>> {
        let now = self.now;
        let here = self.local.values().filter_map(|local| {
            let endpoint = local.announcement()?;
            let (matched, whole) = self.matched(name, &endpoint)?;
            let since = self.told_since(&endpoint.id).unwrap_or(now);
            let known = now.saturating_duration_since(since);
            let withheld = not_up(local);
            Some(Candidate {
                endpoint,
                host: self.me.node.as_ref(),
                matched,
                whole,
                known,
                withheld,
            })
        });
        let there = self.remotes.all().filter_map(|(heard, endpoint)| {
            let (matched, whole) = self.matched(name, endpoint)?;
            let (endpoint, host) = (endpoint.clone(), heard.node.as_ref());
            let known = now.saturating_duration_since(heard.since.unwrap_or(now));
            let withheld = not_vouched_for(heard.absence);
            Some(Candidate { endpoint, host, matched, whole, known, withheld })
        });
        here.chain(there).collect()
    }

    /// Which of its names is meant, and whether by itself.
    fn matched(&self, name: &str, endpoint: &Endpoint) -> Option<(String, bool)> {
        let find = |wanted: &str| endpoint.names.iter().find(|own| fold(own) == wanted).cloned();
        if let Some(own) = find(name) {
            return Some((own, true));
        }
        let network = self.networks.get(&endpoint.network)?;
        let host = name.strip_suffix(&fold(network.name.as_ref()))?.strip_suffix('.')?;
        find(host).map(|own| (own, false))
    }

    fn outside(&self, network: u64, asker: &Asker) -> String {
        let network = self.name_of_network(network);
        let looked_in = listed(asker.networks.clone().unwrap_or_default(), NAMED_MAX);
        let looked_in = looked_in.unwrap_or_else(|| "none".to_owned());
        match &asker.endpoint {
            Some(asker) => {
                format!("it is on network {network}, and {asker} is on {looked_in} only")
            }
            None => format!("it is on network {network}, and only {looked_in} is looked in"),
        }
    }

    fn record_of(&self, candidate: Candidate<'_>, twice: &[HeldTwice]) -> Record {
        let Candidate { endpoint, host, matched, whole, known, withheld } = candidate;
        let network = self.name_of_network(endpoint.network);
        let answers = withheld.is_none();
        let why = withheld.unwrap_or_else(|| match whole {
            true => format!("{host} announces it, and \"{matched}\" is one of its names"),
            false => {
                format!("{host} announces it, and \"{matched}\" of network {network} is meant")
            }
        });
        let own: Vec<IpAddr> = addresses(&endpoint).collect();
        let held = |(id, address, _): &&HeldTwice| *id == endpoint.network && own.contains(address);
        let why = match twice.iter().find(held) {
            Some((.., hosts)) => {
                format!("{why}; its address is held twice, on {}", hosts.join(" and "))
            }
            None => why,
        };
        let short = || endpoint.id.chars().take(12).collect();
        Record {
            endpoint: endpoint.names.first().cloned().unwrap_or_else(short),
            names: endpoint.names.clone(),
            addresses: addresses(&endpoint).collect(),
            network,
            host: host.to_owned(),
            matched,
            generation: endpoint.generation,
            known_seconds: known.as_secs(),
            answers,
            why,
        }
    }

    /// Names that are so near that one of them may be meant, nearest first.
    fn near(&self, name: &str, looked_in: &impl Fn(&u64) -> bool) -> Vec<String> {
        let networks: BTreeMap<u64, String> = self
            .networks
            .keys()
            .filter(|id| looked_in(id))
            .map(|id| (*id, self.name_of_network(*id)))
            .collect();
        let dotted = name.contains('.');
        let near_enough = |id: u64, own: &str| {
            let network = networks.get(&id)?;
            // Asked for with a network, it is told with one.
            let tail = if dotted && !own.contains('.') { network.len() + 1 } else { 0 };
            let allowed = (own.len() / 3).clamp(1, NEAR_BY_MAX);
            // Most names are told apart by their length: this holds up everything else.
            if (own.len() + tail).abs_diff(name.len()) > allowed {
                return None;
            }
            let text = if tail > 0 { format!("{own}.{network}") } else { own.to_owned() };
            let distance = distance(name, &fold(&text));
            (distance <= allowed).then_some((distance, text))
        };
        let mut near = Vec::new();
        let mut compared = 0;
        let mut compare = |endpoint: &Endpoint| {
            for own in endpoint.names.iter().take(COMPARED_MAX - compared) {
                compared += 1;
                near.extend(near_enough(endpoint.network, own));
            }
        };
        self.local_endpoints().for_each(|endpoint| compare(&endpoint));
        self.remotes.visible().for_each(|(_, endpoint)| compare(endpoint));
        near.sort();
        near.dedup();
        near.into_iter().take(NEAR_MAX).map(|(_, text)| text).collect()
    }
}

/// Why an endpoint of this host is not answered, if it is not.
fn not_up(local: &Local) -> Option<String> {
    match local.phase {
        Phase::Up => None,
        Phase::Leasing(_) | Phase::Programming(..) => Some("it is just being attached".to_owned()),
        Phase::Created => Some("Docker has made it, and no container has joined".to_owned()),
        Phase::Leaving(..) | Phase::Clearing(_) => Some("it is just being removed".to_owned()),
    }
}

/// Why an endpoint of another host is not answered, if it is not.
fn not_vouched_for(absence: Absence) -> Option<String> {
    match absence {
        Absence::None | Absence::Recent => None,
        Absence::Nameless => Some(format!(
            "its host's agent has been away for more than {} s: nobody vouches for its names, though packets still reach it",
            NAMES_HELD.as_secs()
        )),
        Absence::Silent => {
            let why = "its host gives no sign of life, so its endpoints are withdrawn";
            Some(why.to_owned())
        }
    }
}

/// As names are compared: lower case (RFC 4343), without a trailing dot.
fn fold(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
