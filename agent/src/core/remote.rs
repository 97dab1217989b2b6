//! Other hosts: their endpoints, and what happens when they go away.
//!
//! An agent that is away is not a host that is away. When a member is down or has left, its host
//! is asked for any sign of life (a TCP reset will do):
//!
//! - the host is silent: its endpoints are withdrawn at once, rows and names;
//! - the host answers: its containers run, so the rows stay and no packet is lost. Nobody vouches
//!   for its names any more: they go when the agent has been away for [`NAMES_HELD`], long enough
//!   for a restart or an upgrade. It is asked again every [`PROBE_INTERVAL`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ovl_gossip::{Changes, Endpoint, Member, MemberState, NodeEndpoints, NodeName};
use ovl_vxlan::{Mac, Remote};

use super::tell::Level;
use super::{Action, Core, Kind, NamesChange, Notice, SETTLE_AFTER};

/// How long names are answered for a host whose agent is away.
pub(super) const NAMES_HELD: Duration = Duration::from_secs(15);

/// How often a host whose agent is away is asked for a sign of life.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Another host.
#[derive(Debug)]
struct Host {
    address: SocketAddrV4,
    state: MemberState,
    vtep: Ipv4Addr,
    endpoints: BTreeMap<String, Endpoint>,
    /// When each of them was heard of as it is now.
    heard: BTreeMap<String, Instant>,
    away: Option<Away>,
}

/// Whether a host's agent is away, and what follows from that here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It is not.
    None,
    /// It is, for so short a time that names and rows of its endpoints stay.
    Recent,
    /// Its host answers, so rows stay; names are not answered any more.
    Nameless,
    /// Its host gave no sign of life: its names and rows were taken back.
    Silent,
}

/// An announcement, and the host that it came from.
#[derive(Debug)]
pub(super) struct Heard<'a> {
    pub(super) node: &'a NodeName,
    pub(super) address: Ipv4Addr,
    pub(super) vtep: Ipv4Addr,
    pub(super) state: MemberState,
    pub(super) absence: Absence,
    pub(super) since: Option<Instant>,
}

/// Its agent does not answer.
#[derive(Debug)]
struct Away {
    names_until: Instant,
    probe_at: Instant,
    /// The host gave no sign of life.
    silent: bool,
    /// Its names were taken back.
    nameless: bool,
}

/// Who claims an address, by generation, host and endpoint id; the highest is true.
type Claims = BTreeMap<(u64, NodeName, String), Remote>;

/// What is known of other hosts.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    hosts: BTreeMap<NodeName, Host>,
    /// Network → address → who claims it.
    claims: BTreeMap<u64, BTreeMap<IpAddr, Claims>>,
    /// Of these, the addresses with several claims.
    doubled: BTreeSet<(u64, IpAddr)>,
    /// Docker endpoints between Join's request and its reply → the sandbox they go to.
    pub(super) joining: BTreeMap<String, PathBuf>,
}

impl Host {
    fn named(&self) -> bool {
        self.away.as_ref().is_none_or(|away| !away.silent && !away.nameless)
    }

    fn reachable(&self) -> bool {
        self.away.as_ref().is_none_or(|away| !away.silent)
    }

    fn absence(&self) -> Absence {
        match &self.away {
            None => Absence::None,
            Some(Away { silent: true, .. }) => Absence::Silent,
            Some(Away { nameless: true, .. }) => Absence::Nameless,
            Some(_) => Absence::Recent,
        }
    }
}

impl Remotes {
    /// Rows for the kernel: of several claims on one address the one given out last.
    pub(super) fn rows(&self, network: u64) -> BTreeMap<IpAddr, Remote> {
        let claims = self.claims.get(&network).into_iter().flatten();
        claims
            .filter_map(|(address, claims)| Some((*address, *claims.last_key_value()?.1)))
            .collect()
    }

    /// The host that is there and claims the address.
    pub(super) fn alive_holder(&self, network: u64, address: IpAddr) -> Option<&NodeName> {
        let claims = self.claims.get(&network)?.get(&address)?;
        let alive = |node: &&NodeName| self.hosts.get(*node).is_some_and(|h| h.away.is_none());
        claims.keys().map(|(_, node, _)| node).find(alive)
    }

    /// Endpoints whose names are answered.
    pub(super) fn visible(&self) -> impl Iterator<Item = (&NodeName, &Endpoint)> {
        let hosts = self.hosts.iter().filter(|(_, host)| host.named());
        hosts.flat_map(|(node, host)| host.endpoints.values().map(move |e| (node, e)))
    }

    /// Every endpoint that was announced, those of hosts that are away included.
    pub(super) fn all(&self) -> impl Iterator<Item = (Heard<'_>, &Endpoint)> {
        self.hosts.iter().flat_map(|(node, host)| {
            host.endpoints.values().map(move |endpoint| {
                let heard = Heard {
                    node,
                    address: *host.address.ip(),
                    vtep: host.vtep,
                    state: host.state,
                    absence: host.absence(),
                    since: host.heard.get(&endpoint.id).copied(),
                };
                (heard, endpoint)
            })
        })
    }

    /// Who claims an address, as (generation, host, endpoint id).
    pub(super) fn claims(
        &self,
        network: u64,
        address: IpAddr,
    ) -> impl Iterator<Item = (u64, &NodeName, &str)> {
        let claims = self.claims.get(&network).and_then(|network| network.get(&address));
        claims
            .into_iter()
            .flatten()
            .map(|((generation, node, id), _)| (*generation, node, id.as_str()))
    }

    /// Every address of a network that an endpoint elsewhere has.
    pub(super) fn claimed(&self, network: u64) -> impl Iterator<Item = IpAddr> {
        self.claims.get(&network).into_iter().flatten().map(|(address, _)| *address)
    }

    /// Endpoints that are reachable, but not named any more.
    pub(super) fn held(&self) -> usize {
        self.hosts.values().filter(|h| h.reachable() && !h.named()).map(|h| h.endpoints.len()).sum()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&NodeName, Ipv4Addr, MemberState)> {
        self.hosts.iter().map(|(name, host)| (name, *host.address.ip(), host.state))
    }

    /// Where agents are that may be there at the next start.
    pub(super) fn peers(&self) -> impl Iterator<Item = SocketAddrV4> {
        let there =
            self.hosts.values().filter(|h| h.state != MemberState::Left && h.address.port() != 0);
        there.map(|host| host.address)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let away = self.hosts.values().filter_map(|host| host.away.as_ref());
        away.flat_map(|a| [Some(a.probe_at), (!a.nameless).then_some(a.names_until)])
            .flatten()
            .min()
    }

    /// Addresses that several endpoints claim, with the hosts; `local` are our own.
    pub(super) fn claimed_twice(&self, local: &[(u64, IpAddr)]) -> Vec<(u64, IpAddr, Vec<String>)> {
        let claims = |(network, address): &(u64, IpAddr)| self.claims.get(network)?.get(address);
        let local: BTreeSet<_> = local.iter().filter(|held| claims(held).is_some()).collect();
        let twice: BTreeSet<_> = self.doubled.iter().chain(local.iter().copied()).collect();
        let hosts = |held: &(u64, IpAddr)| {
            let here = local.contains(held).then(|| "this host".to_owned());
            let claims = claims(held).into_iter().flat_map(Claims::keys);
            claims.map(|(_, node, _)| node.to_string()).chain(here).collect()
        };
        twice.into_iter().map(|held| (held.0, held.1, hosts(held))).collect()
    }

    fn claim(&mut self, node: &NodeName, vtep: Ipv4Addr, e: &Endpoint) {
        let network = self.claims.entry(e.network).or_default();
        for address in addresses(e) {
            let claim = (e.generation, node.clone(), e.id.clone());
            let claims = network.entry(address).or_default();
            claims.insert(claim, Remote { mac: Mac(e.mac), vtep });
            if claims.len() > 1 {
                self.doubled.insert((e.network, address));
            }
        }
    }

    fn unclaim(&mut self, node: &NodeName, e: &Endpoint) {
        let Some(network) = self.claims.get_mut(&e.network) else {
            return;
        };
        for address in addresses(e) {
            if let Some(claims) = network.get_mut(&address) {
                claims.remove(&(e.generation, node.clone(), e.id.clone()));
                if claims.len() < 2 {
                    self.doubled.remove(&(e.network, address));
                }
                if claims.is_empty() {
                    network.remove(&address);
                }
            }
        }
        if network.is_empty() {
            self.claims.remove(&e.network);
        }
    }
}

impl Core {
    pub(super) fn gossip_changed(&mut self, now: Instant, changes: Changes) {
        self.synced |= changes.synced;
        if changes.synced && !self.settled {
            self.settle_at = Some(now + SETTLE_AFTER);
        }
        let rival = changes.name_conflict.map(|address| format!("it is at {address}"));
        self.level(Level::Name, rival.as_deref());
        self.health.name_conflict = changes.name_conflict;
        if let Some(other) = changes.other_format {
            if self.health.other_format.is_none_or(|(_, known)| known != other) {
                tracing::warn!(host = %other.from, format = other.version, known = other.known, "a host runs another release, and is not understood");
                self.tell_format(other);
            }
            self.health.other_format = Some((now, other));
        }
        if let Some(odd) = changes.oddity {
            self.odd(now, odd);
        }
        // In this order: a host may be forgotten and known again in one batch, and an endpoint
        // set arrives for a host that is known.
        for node in changes.forgotten {
            self.withdraw_names(&node);
            self.withdraw_rows(&node);
            if self.remotes.hosts.remove(&node).is_some() {
                let summary = format!("host {node} was forgotten: it was away for long");
                self.tell(Notice::new(Kind::HostForgotten, summary).host(&node));
            }
            self.touch_desired();
        }
        for member in changes.members {
            self.member_changed(now, member);
        }
        for node in changes.nodes {
            self.host_endpoints(node);
        }
    }

    fn member_changed(&mut self, now: Instant, member: Member) {
        if member.name == self.me.node {
            return;
        }
        let before = self.remotes.hosts.get(&member.name).map(|h| (h.state, h.address));
        self.tell_member(&member, before.map(|(state, address)| (state, *address.ip())));
        let node = member.name;
        let host = self.remotes.hosts.entry(node.clone()).or_insert_with(|| Host {
            address: member.address,
            state: member.state,
            vtep: *member.address.ip(),
            endpoints: BTreeMap::new(),
            heard: BTreeMap::new(),
            away: None,
        });
        host.address = member.address;
        host.state = member.state;
        self.state_version += 1;
        // Who is there is probed.
        let probed = |(state, address)| (state != MemberState::Left, address);
        if before.map(probed) != Some(probed((member.state, member.address))) {
            self.desired_version += 1;
        }
        match member.state {
            MemberState::Alive | MemberState::Suspect => self.host_back(&node),
            MemberState::Down | MemberState::Left => self.host_away(now, &node),
        }
    }

    fn host_back(&mut self, node: &NodeName) {
        let Some(host) = self.remotes.hosts.get_mut(node) else {
            return;
        };
        if host.away.take().is_some() {
            self.show(node);
        }
    }

    fn host_away(&mut self, now: Instant, node: &NodeName) {
        let Some(host) = self.remotes.hosts.get_mut(node) else {
            return;
        };
        if host.away.is_some() {
            return;
        }
        let probe_at = now + PROBE_INTERVAL;
        host.away =
            Some(Away { names_until: now + NAMES_HELD, probe_at, silent: false, nameless: false });
        let address = host.address;
        self.actions.push_back(Action::Probe { node: node.clone(), address });
    }

    pub(super) fn probed(&mut self, now: Instant, node: &NodeName, answers: bool) {
        let Some(host) = self.remotes.hosts.get_mut(node) else {
            return;
        };
        let Some(away) = host.away.as_mut() else {
            return;
        };
        away.probe_at = now + PROBE_INTERVAL;
        let was_silent = std::mem::replace(&mut away.silent, !answers);
        let count = host.endpoints.len();
        if !answers && !was_silent {
            self.withdraw_names(node);
            self.withdraw_rows(node);
            let summary =
                format!("host {node} gives no sign of life: its {count} endpoints are withdrawn");
            self.tell(Notice::new(Kind::HostSilent, summary).host(node));
        } else if answers && was_silent {
            self.show(node);
            let summary =
                format!("host {node} gives signs of life: its {count} endpoints are back");
            self.tell(Notice::new(Kind::HostAnswers, summary).host(node));
        }
    }

    pub(super) fn remote_timeout(&mut self, now: Instant) {
        let mut nameless = Vec::new();
        for (node, host) in &mut self.remotes.hosts {
            let Some(away) = host.away.as_mut() else {
                continue;
            };
            if !away.nameless && away.names_until <= now {
                nameless.push(node.clone());
            }
            if away.probe_at <= now {
                away.probe_at = now + PROBE_INTERVAL;
                self.actions.push_back(Action::Probe { node: node.clone(), address: host.address });
            }
        }
        for node in nameless {
            self.withdraw_names(&node);
            if let Some(away) =
                self.remotes.hosts.get_mut(&node).and_then(|host| host.away.as_mut())
            {
                away.nameless = true;
                self.tell_nameless(&node);
            }
        }
    }

    /// The whole set of a host's endpoints; what is not in it is gone.
    fn host_endpoints(&mut self, new: NodeEndpoints) {
        if new.node == self.me.node {
            return;
        }
        let host = self.remotes.hosts.entry(new.node.clone()).or_insert_with(|| Host {
            address: SocketAddrV4::new(new.vtep, 0),
            state: MemberState::Alive,
            vtep: new.vtep,
            endpoints: BTreeMap::new(),
            heard: BTreeMap::new(),
            away: None,
        });
        let (named, reachable) = (host.named(), host.reachable());
        let moved = std::mem::replace(&mut host.vtep, new.vtep) != new.vtep;
        let endpoints: BTreeMap<String, Endpoint> =
            new.endpoints.into_iter().map(|e| (e.id.clone(), e)).collect();
        let old = std::mem::replace(&mut host.endpoints, endpoints.clone());
        host.heard.retain(|id, _| !moved && old.get(id) == endpoints.get(id));
        endpoints.keys().for_each(|id| {
            host.heard.entry(id.clone()).or_insert(self.now);
        });
        self.tell_endpoints_of(&new.node, &old, &endpoints);
        let differs = |id: &String, e: &Endpoint, other: &BTreeMap<String, Endpoint>| {
            moved || other.get(id) != Some(e)
        };
        for (_, e) in old.iter().filter(|(id, e)| differs(id, e, &endpoints)) {
            self.remotes.unclaim(&new.node, e);
            if endpoints.get(&e.id).is_none_or(|n| n.network != e.network) {
                self.actions.push_back(Action::Names(NamesChange::Remove(
                    e.network,
                    (new.node.to_string(), e.id.clone()),
                )));
            }
        }
        for (_, e) in endpoints.iter().filter(|(id, e)| differs(id, e, &old)) {
            if reachable {
                self.remotes.claim(&new.node, new.vtep, e);
            }
            if named {
                self.actions.push_back(set_names(&new.node, e));
            }
        }
        self.touch_desired();
    }

    /// Names and rows of a host that is back.
    fn show(&mut self, node: &NodeName) {
        let Some(host) = self.remotes.hosts.get(node) else {
            return;
        };
        let (vtep, named) = (host.vtep, host.named());
        for e in host.endpoints.values().cloned().collect::<Vec<_>>() {
            self.remotes.claim(node, vtep, &e);
            if named {
                self.actions.push_back(set_names(node, &e));
            }
        }
        self.touch_desired();
    }

    fn withdraw_names(&mut self, node: &NodeName) {
        let Some(host) = self.remotes.hosts.get(node) else {
            return;
        };
        for e in host.endpoints.values() {
            self.actions.push_back(Action::Names(NamesChange::Remove(
                e.network,
                (node.to_string(), e.id.clone()),
            )));
        }
    }

    fn withdraw_rows(&mut self, node: &NodeName) {
        let Some(host) = self.remotes.hosts.get(node) else {
            return;
        };
        for e in host.endpoints.values().cloned().collect::<Vec<_>>() {
            self.remotes.unclaim(node, &e);
        }
        self.touch_desired();
    }
}

fn set_names(node: &NodeName, e: &Endpoint) -> Action {
    Action::Names(NamesChange::Set {
        network: e.network,
        key: (node.to_string(), e.id.clone()),
        ipv4: e.ipv4,
        ipv6: e.ipv6,
        names: e.names.clone(),
    })
}

/// An endpoint's addresses, IPv4 first.
pub(super) fn addresses(e: &Endpoint) -> impl Iterator<Item = IpAddr> + use<> {
    std::iter::once(IpAddr::V4(e.ipv4)).chain(e.ipv6.map(IpAddr::V6))
}
