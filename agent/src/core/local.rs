//! Endpoints of this host, from lease to release.
//!
//! An endpoint is answered for only when its address is durably held and the kernel holds its
//! interface; it is announced after that and withdrawn before its interface goes.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Instant;

use ipnet::{Ipv4Net, Ipv6Net};
use ovl_gossip::Endpoint;
use ovl_ipam::{Lease, NetworkId, Wanted};
use ovl_vxlan::{Home, IfName, Mac};
use serde::{Deserialize, Serialize};

use super::store::Continuation;
use super::{Action, Core, NamesChange, RESOLVER, Refusal, RequestId, Response, StoreCall};
use crate::control::api;

/// Names that an endpoint may have; what is over is not announced (the gossip's bound).
pub(super) const NAMES_MAX: usize = 16;

/// Addresses in doubt that an attach passes over.
pub(super) const DOUBTED_MAX: u32 = 32;

/// A network namespace: where it is, and which one it was when it was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// As the agent sees it.
    pub netns: PathBuf,
    /// Its device and inode: the same path may later be another namespace.
    pub id: Option<(u64, u64)>,
}

/// What `endpoint attach` asks for, its namespace already looked at.
#[derive(Clone, Debug)]
pub struct Target {
    /// The network's name.
    pub network: String,
    /// All names, the first one being the endpoint's own; checked by [`Target::names`].
    pub names: Vec<String>,
    /// Where it goes.
    pub sandbox: Sandbox,
    /// A given address.
    pub address: Option<Ipv4Addr>,
    /// Name of the interface inside.
    pub ifname: IfName,
    /// Random; makes the endpoint's id.
    pub id: u64,
}

/// Who made an endpoint, and so who takes it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Origin {
    /// The control socket.
    Attached,
    /// Docker, under this endpoint id of its own.
    Docker,
}

/// How far an endpoint has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Named, but its address is not held yet.
    Leasing(RequestId),
    /// Docker has made it, no container has joined.
    Created,
    /// In the desired state from this version on; the request waits for the kernel.
    Programming(RequestId, u64),
    /// The kernel holds it, and others know of it.
    Up,
    /// Out of the desired state from this version on; its address is given back after that.
    Leaving(Option<RequestId>, u64),
    /// A crash left it half-made or half-removed. Desired once more, from this version on, so that
    /// the kernel's task knows what there is to remove; never announced.
    Clearing(u64),
}

/// An endpoint of this host.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) id: String,
    pub(super) network: u64,
    pub(super) names: Vec<String>,
    pub(super) address: Option<Ipv4Net>,
    /// On a network that has IPv6.
    pub(super) address6: Option<Ipv6Net>,
    pub(super) generation: u64,
    pub(super) mac: Mac,
    pub(super) origin: Origin,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) ifname: Option<IfName>,
    pub(super) phase: Phase,
    /// Docker has it in transit from the host's namespace to the sandbox.
    pub(super) transit: bool,
    /// DNS serves in its sandbox.
    pub(super) serving: bool,
    /// Its sandbox is made ready for DNS by this version of the desired state.
    pub(super) serve_after: Option<u64>,
    /// Nobody else gives its address back: Docker does, unless it lost the container.
    pub(super) forsaken: bool,
    /// Its user chose the address.
    pub(super) fixed: bool,
    /// When its container was last known to run; see `Core::containers`.
    pub(super) seen: Option<Instant>,
}

impl Target {
    /// Checks names and puts the first one in front of its aliases.
    ///
    /// # Errors
    /// A sentence that names the wrong name.
    pub fn names(name: &str, aliases: &[String]) -> Result<Vec<String>, Refusal> {
        let mut names: Vec<String> = Vec::new();
        for name in std::iter::once(name).chain(aliases.iter().map(String::as_str)) {
            if !is_name(name) {
                return Err(Refusal::invalid(format!(
                    "\"{name}\" cannot be an endpoint's name: use 1 to 63 letters, digits, \"_\", \".\" or \"-\", beginning with a letter or digit"
                )));
            }
            if !names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        }
        if names.len() > NAMES_MAX {
            return Err(Refusal::invalid(format!(
                "an endpoint has at most {NAMES_MAX} names, these are {}",
                names.len()
            )));
        }
        Ok(names)
    }
}

pub(super) fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    begins
        && name.len() <= 63
        && name.bytes().all(inner)
        && name.split('.').all(|label| !label.is_empty())
}

impl Local {
    /// It is in the kernel, or is to be.
    pub(super) fn wanted(&self) -> bool {
        matches!(self.phase, Phase::Programming(..) | Phase::Up | Phase::Clearing(_))
    }

    pub(super) fn home(&self) -> Option<Home> {
        let ifname = self.ifname.clone()?;
        if self.transit {
            return Some(Home::Transit);
        }
        Some(match &self.sandbox {
            None => Home::Handover { ifname },
            Some(sandbox) => {
                Home::Sandbox { netns: sandbox.netns.clone(), ifname, resolver: Some(RESOLVER) }
            }
        })
    }

    /// The address is its own, of whichever family.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// Its addresses, IPv4 first.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.address.map(|a| IpAddr::V4(a.addr()));
        v4.into_iter().chain(self.address6.map(|a| IpAddr::V6(a.addr())))
    }

    /// What others are told of it, once it has an address.
    pub(super) fn announcement(&self) -> Option<Endpoint> {
        Some(Endpoint {
            id: self.id.clone(),
            network: self.network,
            ipv4: self.address?.addr(),
            ipv6: self.address6.map(|a| a.addr()),
            mac: self.mac.0,
            names: self.names.iter().take(NAMES_MAX).cloned().collect(),
            generation: self.generation,
        })
    }
}

impl Core {
    /// What the gossip is told at its start.
    pub fn announcements(&self) -> Vec<Endpoint> {
        self.local
            .values()
            .filter(|local| local.phase == Phase::Up)
            .filter_map(Local::announcement)
            .collect()
    }

    pub(super) fn attach(&mut self, request: RequestId, target: &Target) -> Result<(), Refusal> {
        let network = self.network_or_refuse(&target.network)?.id;
        self.refuse_rival()?;
        self.refuse_orphaned(network.0)?;
        for name in &target.names {
            if let Some(other) = name.rsplit_once('.').and_then(|(_, end)| self.network_named(end))
            {
                return Err(Refusal::invalid(format!(
                    "\"{name}\" would stand for an endpoint of network {}; choose a name that does not end in a network's",
                    other.name
                )));
            }
            if let Some(host) = self.holder_of(network.0, name) {
                return Err(Refusal::conflict(format!(
                    "the name \"{name}\" is taken on network {} by an endpoint on {host}; choose another, or detach that one first",
                    target.network
                )));
            }
        }
        if let Some(other) = self
            .local
            .values()
            .find(|l| l.network == network.0 && l.sandbox.as_ref() == Some(&target.sandbox))
        {
            let name = other.names.first().map_or("another endpoint", String::as_str);
            return Err(Refusal::conflict(format!(
                "{} is on network {} already, as \"{name}\"",
                target.sandbox.netns.display(),
                target.network
            )));
        }
        let id = format!("{:016x}", target.id);
        self.local.insert(
            id.clone(),
            Local {
                id: id.clone(),
                network: network.0,
                names: target.names.clone(),
                address: None,
                address6: None,
                generation: 0,
                mac: Mac([0; 6]),
                origin: Origin::Attached,
                sandbox: Some(target.sandbox.clone()),
                ifname: Some(target.ifname.clone()),
                phase: Phase::Leasing(request),
                transit: false,
                serving: false,
                serve_after: None,
                forsaken: false,
                fixed: target.address.is_some(),
                seen: None,
            },
        );
        let wanted = target.address.map_or(Wanted::V4, |a| Wanted::Address(a.into()));
        let call = StoreCall::Allocate { network, wanted, endpoint: id.clone() };
        self.call(call, Continuation::Attach { id, address: target.address, doubted: 0 });
        Ok(())
    }

    /// While another host has our name, what we do in its name would be undone in its name.
    pub(super) fn refuse_rival(&self) -> Result<(), Refusal> {
        match self.health.name_conflict {
            None => Ok(()),
            Some(address) => Err(Refusal::conflict(format!(
                "another host at {address} has the node name \"{}\" too; give one of the two another --node-name",
                self.me.node
            ))),
        }
    }

    /// The address of an attach is held, or not. One in doubt stays held for now, so that the next
    /// try gets another; it is given back with what no endpoint holds.
    pub(super) fn attach_leased(
        &mut self,
        now: Instant,
        id: &str,
        (asked, doubted): (Option<Ipv4Addr>, u32),
        lease: Result<Lease, Refusal>,
    ) {
        let Some(Local { phase: Phase::Leasing(request), network, .. }) = self.local.get(id) else {
            return;
        };
        let (request, network) = (*request, *network);
        let prefix = self.networks.get(&network).map_or(32, |n| n.subnet.prefix_len());
        let doubt = lease.as_ref().ok().and_then(|lease| self.doubt(network, lease.address));
        if doubt.is_some() && asked.is_none() && doubted < DOUBTED_MAX {
            let endpoint = id.to_owned();
            let then =
                Continuation::Attach { id: id.to_owned(), address: None, doubted: doubted + 1 };
            let network = NetworkId(network);
            return self.call(StoreCall::Allocate { network, wanted: Wanted::V4, endpoint }, then);
        }
        let lease = match doubt.map_or(lease, Err) {
            Ok(lease) => lease,
            Err(refusal) => {
                self.local.remove(id);
                // It may be held all the same.
                self.reconcile_soon(now);
                return self.reply(request, Err(refusal));
            }
        };
        let IpAddr::V4(address) = lease.address else {
            let odd = format!("the store gave {} for an IPv4 address", lease.address);
            self.local.remove(id);
            return self.reply(request, Err(Refusal::unavailable(odd)));
        };
        if let Some(local) = self.local.get_mut(id) {
            local.address = Ipv4Net::new(address, prefix).ok();
            local.generation = lease.generation;
            local.mac = Mac::from_ipv4(address);
        }
        if self.networks.get(&network).is_some_and(|n| n.ipv6.is_some()) {
            let (network, endpoint) = (NetworkId(network), id.to_owned());
            let call = StoreCall::Allocate { network, wanted: Wanted::V6, endpoint };
            return self.call(call, Continuation::Attach6(id.to_owned()));
        }
        self.program(id, request);
    }

    /// The IPv6 address of an attach is held, or not: then the IPv4 one is given back.
    pub(super) fn attach_leased6(&mut self, id: &str, lease: Result<Lease, Refusal>) {
        let Some(Local { phase: Phase::Leasing(request), network, address, .. }) =
            self.local.get(id)
        else {
            return;
        };
        let (request, network, address) = (*request, *network, *address);
        let prefix = self.networks.get(&network).and_then(|n| Some(n.ipv6.as_ref()?.subnet));
        let doubt = lease.as_ref().ok().and_then(|lease| self.doubt(network, lease.address));
        let lease = doubt.map_or(lease, Err);
        let lease = lease.map(|lease| (lease.address, prefix.map(|subnet| subnet.prefix_len())));
        match lease {
            Ok((IpAddr::V6(held), Some(prefix))) => {
                if let Some(local) = self.local.get_mut(id) {
                    local.address6 = Ipv6Net::new(held, prefix).ok();
                }
                self.program(id, request);
            }
            Ok((held, _)) => {
                self.local.remove(id);
                self.release(network, held, None);
                let odd = format!("the store gave {held} for an IPv6 address");
                self.reply(request, Err(Refusal::unavailable(odd)));
            }
            Err(refusal) => {
                self.local.remove(id);
                // It may be held all the same.
                self.reconcile_soon(self.now);
                if let Some(address) = address {
                    self.release(network, address.addr().into(), None);
                }
                self.reply(request, Err(refusal));
            }
        }
    }

    fn program(&mut self, id: &str, request: RequestId) {
        self.touch_desired();
        self.touch_state();
        let version = self.desired_version;
        if let Some(local) = self.local.get_mut(id) {
            local.phase = Phase::Programming(request, version);
        }
    }

    pub(super) fn detach(
        &mut self,
        request: RequestId,
        network: &str,
        name: &str,
    ) -> Result<(), Refusal> {
        let number = self.network_or_refuse(network)?.id.0;
        let found = self
            .local
            .values()
            .find(|l| l.network == number && l.names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        let Some(local) = found else {
            return Err(match self.holder_of(number, name) {
                Some(host) => Refusal::conflict(format!(
                    "\"{name}\" on network {network} is on host {host}; detach it there"
                )),
                None => Refusal::not_found(format!(
                    "there is no endpoint \"{name}\" on network {network}"
                )),
            });
        };
        if local.origin == Origin::Docker {
            return Err(Refusal::conflict(format!(
                "\"{name}\" belongs to a container of Docker; use: docker network disconnect {network} {name}"
            )));
        }
        if !matches!(local.phase, Phase::Up) {
            return Err(Refusal::unavailable(format!(
                "\"{name}\" is just being attached or detached; try again in a moment"
            )));
        }
        let id = local.id.clone();
        self.leave(&id, Some(request), "it was detached over the control socket");
        Ok(())
    }

    /// Takes an endpoint out: first its names and announcement, then its interface, then its lease.
    pub(super) fn leave(&mut self, id: &str, request: Option<RequestId>, why: &str) {
        self.quiet(id, why);
        self.touch_desired();
        self.touch_state();
        let version = self.desired_version;
        if let Some(local) = self.local.get_mut(id) {
            local.phase = Phase::Leaving(request, version);
        }
    }

    /// The state cannot be written: what was not given to the kernel yet is taken back.
    pub(super) fn refuse_half_made(&mut self) {
        let Some(why) = self.health.disk.clone() else {
            return;
        };
        let half = self.local.values().filter_map(|l| match (&l.phase, &l.origin) {
            (Phase::Programming(request, _), Origin::Attached) => Some((l.id.clone(), *request)),
            _ => None,
        });
        for (id, request) in half.collect::<Vec<_>>() {
            self.leave(&id, None, "the agent's state cannot be written");
            let why = format!(
                "the agent's state cannot be written ({why}); make room in --state-dir and try again"
            );
            self.reply(request, Err(Refusal::unavailable(why)));
        }
    }

    /// Nobody resolves or reaches it any more; its interface stays.
    pub(super) fn quiet(&mut self, id: &str, why: &str) {
        if let Some(endpoint) = self.local.get(id).and_then(Local::announcement) {
            self.tell_not_here(&endpoint, why);
        }
        let Some(local) = self.local.get_mut(id) else {
            return;
        };
        local.serving = false;
        let (network, netns) = (local.network, local.sandbox.as_ref().map(|s| s.netns.clone()));
        let key = (self.me.node.to_string(), id.to_owned());
        self.actions.push_back(Action::Names(NamesChange::Remove(network, key)));
        self.actions.push_back(Action::Withdraw(id.to_owned()));
        if let Some(netns) = netns {
            self.scope_changed(netns);
        }
    }

    /// Tells of an endpoint: names here, announcement to others, DNS in its sandbox.
    pub(super) fn publish(&mut self, id: &str) {
        let node = self.me.node.to_string();
        let Some(local) = self.local.get_mut(id) else {
            return;
        };
        let Some(endpoint) = local.announcement() else {
            return;
        };
        let how = match local.origin {
            Origin::Attached => "asked for over the control socket",
            Origin::Docker => "asked for by Docker",
        };
        local.serving = local.sandbox.is_some() && !local.transit && local.serve_after.is_none();
        let netns = local.sandbox.as_ref().filter(|_| local.serving).map(|s| s.netns.clone());
        self.actions.push_back(Action::Names(NamesChange::Set {
            network: endpoint.network,
            key: (node, endpoint.id.clone()),
            ipv4: endpoint.ipv4,
            ipv6: endpoint.ipv6,
            names: endpoint.names.clone(),
        }));
        if let Some(netns) = netns {
            self.scope_changed(netns);
        }
        self.tell_here(&endpoint, how);
        self.actions.push_back(Action::Announce(endpoint));
    }

    /// DNS in this sandbox serves the networks of all its endpoints that are up.
    fn scope_changed(&mut self, netns: PathBuf) {
        let here = |l: &&Local| l.serving && l.sandbox.as_ref().is_some_and(|s| s.netns == netns);
        let scope = self.local.values().filter(here).map(|l| l.network).collect();
        let embedded = self.local.values().filter(here).any(|l| l.origin == Origin::Docker);
        self.actions.push_back(Action::Dns { netns, scope, embedded });
    }

    /// What DNS in this sandbox serves once that network is there, too.
    pub(super) fn scope_with(&self, netns: &std::path::Path, network: u64) -> Vec<u64> {
        let mut scope = self.scope_of(netns);
        if let Err(at) = scope.binary_search(&network) {
            scope.insert(at, network);
        }
        scope
    }

    /// What DNS in this sandbox serves.
    pub(super) fn scope_of(&self, netns: &std::path::Path) -> Vec<u64> {
        let here = |l: &&Local| l.serving && l.sandbox.as_ref().is_some_and(|s| s.netns == netns);
        let scope: std::collections::BTreeSet<u64> =
            self.local.values().filter(here).map(|l| l.network).collect();
        scope.into_iter().collect()
    }

    /// The endpoint's sandbox is not there any more: nobody will detach it.
    pub(super) fn lost(&mut self, id: &str, why: &str) {
        if self.local.get(id).is_some_and(|l| l.phase == Phase::Up && !l.transit) {
            self.forsake(id, why);
        }
    }

    /// Removes an endpoint that nobody else will, its lease included.
    pub(super) fn forsake(&mut self, id: &str, why: &str) {
        let Some(local) = self.local.get_mut(id) else {
            return;
        };
        tracing::info!(endpoint = id, names = ?local.names, why, "endpoint removed");
        local.forsaken = true;
        self.leave(id, None, why);
    }

    pub(super) fn check_sandboxes(&mut self) {
        let list: Vec<(String, Sandbox)> = self
            .local
            .values()
            .filter(|l| l.phase == Phase::Up && !l.transit)
            .filter_map(|l| Some((l.id.clone(), l.sandbox.clone()?)))
            .collect();
        if !list.is_empty() {
            self.actions.push_back(Action::CheckSandboxes(list));
        }
    }

    /// Which host has an endpoint of this name on this network.
    fn holder_of(&self, network: u64, name: &str) -> Option<String> {
        let named = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
        if self.local.values().any(|l| l.network == network && named(&l.names)) {
            return Some(self.me.node.to_string());
        }
        self.remotes
            .visible()
            .find(|(_, e)| e.network == network && named(&e.names))
            .map(|(node, _)| node.to_string())
    }

    pub(super) fn endpoint_view(&self, id: &str) -> Option<api::Endpoint> {
        let local = self.local.get(id)?;
        Some(self.describe(&local.announcement()?, self.me.node.as_ref()))
    }

    pub(super) fn local_endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.local.values().filter(|l| l.phase == Phase::Up).filter_map(Local::announcement)
    }

    pub(super) fn network_or_refuse(&self, name: &str) -> Result<&ovl_ipam::Network, Refusal> {
        self.network_named(name).ok_or_else(|| {
            Refusal::not_found(format!("there is no network \"{name}\"; see: ovlctl network ls"))
        })
    }

    /// An endpoint of the last run: in the kernel already, to be announced.
    pub(super) fn adopt(&mut self, endpoint: super::state::Endpoint) {
        let mut local = Local::from(endpoint);
        if local.phase == Phase::Up {
            local.serve_after = Some(self.desired_version);
        } else if let Phase::Clearing(since) = &mut local.phase {
            *since = self.desired_version;
        }
        if let (true, Some(sandbox)) = (local.transit, &local.sandbox) {
            let (endpoint, netns, mac) = (local.id.clone(), sandbox.netns.clone(), local.mac);
            self.actions.push_back(Action::AwaitMove { endpoint, netns, mac });
        }
        if let (Phase::Up, Some(known)) = (&local.phase, local.announcement()) {
            self.knows_here(&known);
        }
        self.local.insert(local.id.clone(), local);
    }

    /// Gives an address back, and answers `request` when the store has said something to it: what
    /// it does not take now is tried again without anybody waiting.
    pub(super) fn release(&mut self, network: u64, address: IpAddr, request: Option<RequestId>) {
        self.releases.insert((network, address));
        self.touch_state();
        let call = StoreCall::Release { network: NetworkId(network), address };
        self.call(call, Continuation::Released { network, address, request });
    }

    pub(super) fn released(&mut self, request: Option<RequestId>) {
        if let Some(request) = request {
            self.reply(request, Ok(Response::Done));
        }
    }
}
