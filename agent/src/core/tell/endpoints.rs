//! Endpoints that come, go, move and are named, here and on other hosts, and addresses held twice.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ovl_gossip::{Endpoint, NodeName};

use super::EACH_MAX;
use crate::core::Core;
use crate::core::notice::{Kind, Notice};

/// Endpoints that came or went of late, by which one that moves is known. The oldest go first.
const RECENT_MAX: usize = 256;

/// How long one is remembered for that.
const RECENT_FOR: Duration = Duration::from_secs(60);

/// An endpoint that came or went.
#[derive(Debug)]
pub(super) struct Recent {
    at: Instant,
    network: u64,
    name: String,
    host: String,
    address: IpAddr,
    gone: bool,
}

/// An endpoint of this host that was told of.
#[derive(Debug)]
pub(super) struct Here {
    since: Instant,
    names: Vec<String>,
}

/// Where an endpoint is, or was, and which.
struct Place<'a> {
    host: &'a str,
    endpoint: &'a Endpoint,
}

impl Place<'_> {
    fn name(&self) -> String {
        let short = || self.endpoint.id.chars().take(12).collect();
        self.endpoint.names.first().cloned().unwrap_or_else(short)
    }

    fn address(&self) -> IpAddr {
        self.endpoint.ipv4.into()
    }
}

impl Core {
    pub(in crate::core) fn name_of_network(&self, id: u64) -> String {
        self.networks.get(&id).map_or_else(|| format!("#{id}"), |n| n.name.to_string())
    }

    /// An endpoint of this host is up and has these names.
    pub(in crate::core) fn tell_here(&mut self, endpoint: &Endpoint, why: &str) {
        let host = self.me.node.to_string();
        let place = Place { host: &host, endpoint };
        let here = Here { since: self.now, names: endpoint.names.clone() };
        match self.telling.here.insert(endpoint.id.clone(), here) {
            None => self.tell_arrival(&place, why),
            Some(before) if before.names != endpoint.names => {
                self.tell_names(&place, &before.names);
            }
            Some(before) => {
                self.telling.here.insert(endpoint.id.clone(), before);
            }
        }
    }

    /// One that ran before this agent's start.
    pub(in crate::core) fn knows_here(&mut self, endpoint: &Endpoint) {
        let here = Here { since: self.now, names: endpoint.names.clone() };
        self.telling.here.insert(endpoint.id.clone(), here);
    }

    /// Since when an endpoint of this host is as it is now.
    pub(in crate::core) fn told_since(&self, id: &str) -> Option<Instant> {
        self.telling.here.get(id).map(|here| here.since)
    }

    /// An endpoint of this host is on its way out.
    pub(in crate::core) fn tell_not_here(&mut self, endpoint: &Endpoint, why: &str) {
        if self.telling.here.remove(&endpoint.id).is_some() {
            let host = self.me.node.to_string();
            self.tell_departure(&Place { host: &host, endpoint }, why);
        }
    }

    /// Another host's endpoints before, and now.
    pub(in crate::core) fn tell_endpoints_of(
        &mut self,
        node: &NodeName,
        old: &BTreeMap<String, Endpoint>,
        new: &BTreeMap<String, Endpoint>,
    ) {
        let host: &str = node.as_ref();
        let came: Vec<_> = new.values().filter(|e| !old.contains_key(&e.id)).collect();
        let went: Vec<_> = old.values().filter(|e| !new.contains_key(&e.id)).collect();
        self.tell_set(Kind::EndpointDetached, "lost", host, &went);
        self.tell_set(Kind::EndpointAttached, "brought", host, &came);
        for (before, now) in old.values().filter_map(|e| Some((e, new.get(&e.id)?))) {
            let place = Place { host, endpoint: now };
            if (before.ipv4, before.ipv6, before.network) != (now.ipv4, now.ipv6, now.network) {
                self.tell_move(&place, host, before.ipv4.into());
            } else if before.names != now.names {
                self.tell_names(&place, &before.names);
            }
        }
    }

    fn tell_set(&mut self, kind: Kind, verb: &str, host: &str, set: &[&Endpoint]) {
        if set.len() > EACH_MAX {
            let names = set.iter().map(|endpoint| Place { host, endpoint }.name());
            let summary = format!("host {host} {verb} {} endpoints", set.len());
            let notice = || Notice::new(kind, summary).host(host).count(set.len()).details(names);
            return self.tell_of(kind, set.len(), notice);
        }
        for endpoint in set {
            let place = Place { host, endpoint };
            match kind {
                Kind::EndpointDetached => self.tell_departure(&place, ""),
                _ => self.tell_arrival(&place, ""),
            }
        }
    }

    fn tell_arrival(&mut self, place: &Place<'_>, why: &str) {
        if self.tell_return(place) {
            return;
        }
        self.remember_place(place, false);
        self.tell_endpoint(Kind::EndpointAttached, "attached to", place, why);
    }

    fn tell_departure(&mut self, place: &Place<'_>, why: &str) {
        let elsewhere = self.recently(place, false).map(|recent| recent.host.clone());
        if elsewhere.is_none() {
            self.remember_place(place, true);
        }
        let why = elsewhere.map_or_else(|| why.to_owned(), |h| format!("it is on host {h} now"));
        self.tell_endpoint(Kind::EndpointDetached, "detached from", place, &why);
    }

    fn tell_endpoint(&mut self, kind: Kind, verb: &str, place: &Place<'_>, why: &str) {
        let network = self.name_of_network(place.endpoint.network);
        self.tell_of(kind, 1, || {
            let (name, address, host) = (place.name(), place.address(), place.host);
            let summary =
                format!("endpoint {name} ({address}) {verb} network {network} on host {host}");
            let notice = Notice::new(kind, summary).host(host).network(network).endpoint(name);
            notice.address(address).because(why)
        });
    }

    fn tell_names(&mut self, place: &Place<'_>, before: &[String]) {
        if before.is_empty() && self.tell_return(place) {
            return;
        }
        let network = self.name_of_network(place.endpoint.network);
        self.tell_of(Kind::EndpointRenamed, 1, || {
            let names = match place.endpoint.names.as_slice() {
                [] => "has no name any more".to_owned(),
                names => format!("is called {} now", names.join(", ")),
            };
            let (address, host) = (place.address(), place.host);
            let summary = format!("endpoint {address} of network {network} on host {host} {names}");
            let notice = Notice::new(Kind::EndpointRenamed, summary).host(host).network(network);
            notice.endpoint(place.name()).address(address)
        });
    }

    /// Whether it was elsewhere a moment ago; then that is told.
    fn tell_return(&mut self, place: &Place<'_>) -> bool {
        let moved = self.recently(place, true).map(|r| (r.host.clone(), r.address));
        let Some((host, address)) =
            moved.filter(|m| (m.0.as_str(), m.1) != (place.host, place.address()))
        else {
            return false;
        };
        self.remember_place(place, false);
        self.tell_move(place, &host, address);
        true
    }

    fn tell_move(&mut self, place: &Place<'_>, from: &str, address: IpAddr) {
        let network = self.name_of_network(place.endpoint.network);
        self.tell_of(Kind::EndpointMoved, 1, || {
            let (name, now, host) = (place.name(), place.address(), place.host);
            let summary = format!(
                "endpoint {name} of network {network} moved from {address} on host {from} to {now} on host {host}"
            );
            let notice = Notice::new(Kind::EndpointMoved, summary).host(host).network(network);
            notice.endpoint(name).address(now)
        });
    }

    /// Where one of that name came or went of late: elsewhere, if it came.
    fn recently(&self, place: &Place<'_>, gone: bool) -> Option<&Recent> {
        let name = place.endpoint.names.first()?;
        self.telling.recent.iter().rev().find(|recent| {
            recent.gone == gone
                && recent.network == place.endpoint.network
                && recent.name == *name
                && (gone || recent.host != place.host)
                && recent.at + RECENT_FOR > self.now
        })
    }

    fn remember_place(&mut self, place: &Place<'_>, gone: bool) {
        let Some(name) = place.endpoint.names.first().cloned() else {
            return;
        };
        let (network, host, address) =
            (place.endpoint.network, place.host.to_owned(), place.address());
        let recent = &mut self.telling.recent;
        recent.retain(|r| (r.network, &r.name) != (network, &name));
        if recent.len() >= RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(Recent { at: self.now, network, name, host, address, gone });
    }

    /// Addresses that are held twice. What is so at two looks in a row is told: an endpoint that
    /// moves is on two hosts for a moment.
    pub(in crate::core) fn look_at_conflicts(&mut self) {
        let now: BTreeMap<_, _> = self
            .held_twice()
            .into_iter()
            .map(|(network, address, hosts)| ((network, address), hosts.join(" and ")))
            .collect();
        let before = std::mem::take(&mut self.telling.conflicts);
        for (key, (told, hosts)) in &before {
            if *told && !now.contains_key(key) {
                self.tell_conflict(
                    Kind::AddressConflictOver,
                    "not held twice any more",
                    *key,
                    hosts,
                );
            }
        }
        for (key, hosts) in now {
            let told = before.get(&key).map(|(told, _)| *told);
            if told == Some(false) {
                self.tell_conflict(Kind::AddressConflict, "held twice", key, &hosts);
            }
            self.telling.conflicts.insert(key, (told.is_some(), hosts));
        }
    }

    fn tell_conflict(&mut self, kind: Kind, what: &str, key: (u64, IpAddr), hosts: &str) {
        let (network, address) = (self.name_of_network(key.0), key.1);
        self.tell_of(kind, 1, || {
            let notice = Notice::new(kind, format!("{address} of network {network} is {what}"));
            let why = match kind {
                Kind::AddressConflict => format!("on {hosts}"),
                _ => format!("it was, on {hosts}"),
            };
            notice.network(network).address(address).because(why)
        });
    }
}
