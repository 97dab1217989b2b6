//! Endpoints of containers: made, joined, moved, named, left, deleted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ovl_ipam::{Lease, NetworkId, Wanted};
use ovl_vxlan::{IfName, Mac};

use super::super::local::{Local, Origin, Phase, Sandbox, is_name};
use super::super::store::Continuation;
use super::super::{Action, Core, Refusal, RequestId, Response, StoreCall};
use super::HOLDER;
use crate::docker::{ContainerEndpoint, CreateEndpoint, Join};

/// An endpoint that Docker's engine does not list is taken as gone after this long.
const STALE_AFTER: Duration = Duration::from_secs(45);

impl Core {
    pub(in crate::core) fn create_endpoint(
        &mut self,
        id: RequestId,
        wanted: &CreateEndpoint,
    ) -> Result<Option<Response>, Refusal> {
        let address = wanted.address.ok_or_else(|| {
            Refusal::invalid(
                "Docker gave the endpoint no address; create the network with: --ipam-driver ovl",
            )
        })?;
        let network = self.network_of_endpoint(wanted, address.addr().into())?;
        self.refuse_rival()?;
        let mac = wanted.mac.map_or_else(|| Mac::from_ipv4(address.addr()), Mac);
        let asked = [Some(IpAddr::V4(address.addr())), wanted.address6.map(|a| a.addr().into())];
        let has = |l: &&Local| asked.iter().flatten().any(|address| l.has(*address));
        match self.local.values().filter(|l| l.network == network).find(has) {
            // Docker repeats itself when an answer got lost.
            Some(same) if same.id == wanted.endpoint => return Ok(Some(Response::Mac(same.mac))),
            Some(other) => {
                let (address, id) = (address.addr(), &other.id);
                return Err(Refusal::conflict(format!(
                    "{address} is held by endpoint {id} of this host"
                )));
            }
            None => {}
        }
        let held = self.unbound.remove(&(network, address.addr().into()));
        let held6 = wanted.address6.and_then(|a| self.unbound.remove(&(network, a.addr().into())));
        let fixed = [held, held6].iter().flatten().any(|held| held.fixed);
        let generation = held.map(|held| held.generation);
        let local = Local {
            id: wanted.endpoint.clone(),
            network,
            names: Vec::new(),
            address: Some(address),
            address6: wanted.address6,
            generation: generation.unwrap_or_default(),
            mac,
            origin: Origin::Docker,
            sandbox: None,
            ifname: None,
            phase: Phase::Created,
            transit: false,
            serving: false,
            serve_after: None,
            forsaken: false,
            fixed,
            seen: None,
        };
        self.local.insert(local.id.clone(), local);
        self.touch_state();
        if generation.is_some() {
            return Ok(Some(Response::Mac(mac)));
        }
        // Docker had the address before the agent's last start: the same holder gets the same lease.
        let call = StoreCall::Allocate {
            network: NetworkId(network),
            wanted: Wanted::Address(address.addr().into()),
            endpoint: HOLDER.to_owned(),
        };
        self.call(
            call,
            Continuation::DockerEndpoint { request: id, endpoint: wanted.endpoint.clone() },
        );
        Ok(None)
    }

    /// Docker's network is known by its id, or, where Docker itself shares it between hosts and has
    /// not listed it yet, by the address that we have just given out.
    fn network_of_endpoint(
        &mut self,
        wanted: &CreateEndpoint,
        address: IpAddr,
    ) -> Result<u64, Refusal> {
        if let Some(network) = self.docker.network_of(&wanted.network) {
            return Ok(network);
        }
        let given = self.unbound.keys().find(|(_, held)| *held == address).map(|(id, _)| *id);
        let network = given.ok_or_else(|| unknown_network(&wanted.network))?;
        self.bind(&wanted.network, network);
        Ok(network)
    }

    pub(in crate::core) fn docker_endpoint_leased(
        &mut self,
        request: RequestId,
        endpoint: &str,
        lease: Result<Lease, Refusal>,
    ) {
        let answer = match (lease, self.local.get_mut(endpoint)) {
            (Ok(lease), Some(local)) => {
                local.generation = lease.generation;
                Ok(Some(Response::Mac(local.mac)))
            }
            (Ok(_), None) => Err(Refusal::not_found("the endpoint was deleted meanwhile")),
            (Err(refusal), _) => {
                self.local.remove(endpoint);
                self.touch_state();
                Err(refusal)
            }
        };
        self.answer(request, answer);
    }

    pub(in crate::core) fn join(
        &mut self,
        id: RequestId,
        join: &Join,
    ) -> Result<Option<Response>, Refusal> {
        let local =
            self.local.get_mut(&join.endpoint).ok_or_else(|| unknown_endpoint(&join.endpoint))?;
        if !self.networks.contains_key(&local.network) {
            return Err(Refusal::not_found(
                "the endpoint's network is not in the cluster any more; remove and create it again",
            ));
        }
        local.ifname = Some(handover_name(&join.endpoint)?);
        local.sandbox = None;
        local.transit = false;
        self.desired_version += 1;
        local.phase = Phase::Programming(id, self.desired_version);
        // Where it goes is known now, and used once the kernel holds the interface.
        self.remotes.joining.insert(join.endpoint.clone(), join.sandbox_key.clone());
        Ok(None)
    }

    /// The interface is made: Docker may take it, and others may know of it.
    pub(in crate::core) fn hand_over(&mut self, id: &str, request: RequestId) {
        let Some(netns) = self.remotes.joining.remove(id) else {
            return;
        };
        let Some(local) = self.local.get_mut(id) else {
            return;
        };
        local.transit = true;
        local.sandbox = Some(Sandbox { netns: netns.clone(), id: None });
        let (mac, ifname, network) = (local.mac, local.ifname.clone(), local.network);
        self.touch_desired();
        self.touch_state();
        self.publish(id);
        match ifname {
            Some(ifname) => self.reply(request, Ok(Response::Joined(ifname))),
            None => self.reply(request, Err(unknown_endpoint(id))),
        }
        let scope = self.scope_with(&netns, network);
        self.actions.push_back(Action::DnsEarly { netns: netns.clone(), scope });
        self.actions.push_back(Action::AwaitMove { endpoint: id.to_owned(), netns, mac });
    }

    pub(in crate::core) fn moved(&mut self, id: &str, ifname: Option<IfName>) {
        let Some(local) = self.local.get_mut(id).filter(|l| l.transit) else {
            return;
        };
        let Some(ifname) = ifname else {
            tracing::warn!(
                endpoint = id,
                "Docker has not yet taken the interface into its sandbox"
            );
            let Some(netns) = local.sandbox.as_ref().map(|s| s.netns.clone()) else {
                return;
            };
            let (endpoint, mac) = (id.to_owned(), local.mac);
            return self.actions.push_back(Action::AwaitMove { endpoint, netns, mac });
        };
        local.transit = false;
        local.ifname = Some(ifname);
        local.serve_after = Some(self.desired_version + 1);
        self.touch_desired();
        self.touch_state();
    }

    pub(in crate::core) fn docker_leave(
        &mut self,
        endpoint: &str,
    ) -> Result<Option<Response>, Refusal> {
        if self.local.contains_key(endpoint) {
            self.quiet(endpoint, "Docker took it off: its container stops, or was disconnected");
            self.touch_desired();
            self.touch_state();
        }
        if let Some(local) = self.local.get_mut(endpoint) {
            local.phase = Phase::Created;
            local.sandbox = None;
            local.ifname = None;
            local.transit = false;
        }
        Ok(Some(Response::Done))
    }

    /// Idempotent: Docker repeats itself. The interface is back in the host's namespace by now; the
    /// kernel takes some tens of milliseconds to remove it, for which Docker need not wait.
    pub(in crate::core) fn delete_endpoint(
        &mut self,
        endpoint: &str,
    ) -> Result<Option<Response>, Refusal> {
        let there = |phase: &Phase| !matches!(phase, Phase::Leaving(..));
        if self.local.get(endpoint).is_some_and(|l| there(&l.phase)) {
            self.remember(endpoint);
            self.leave(endpoint, None, "Docker removed it");
        }
        Ok(Some(Response::Done))
    }

    /// An endpoint of this host is being removed, and still holds the address.
    pub(in crate::core) fn is_leaving(&self, network: u64, address: IpAddr) -> bool {
        let leaving = |l: &Local| matches!(l.phase, Phase::Leaving(..));
        self.local.values().any(|l| l.network == network && l.has(address) && leaving(l))
    }

    pub(in crate::core) fn leaving_on(&self, network: u64) -> bool {
        let leaving = |l: &Local| matches!(l.phase, Phase::Leaving(..));
        self.local.values().any(|l| l.network == network && leaving(l))
            || self.releases.iter().any(|(n, _)| *n == network)
    }

    /// An endpoint of this host has the address.
    pub(in crate::core) fn holds_endpoint(&self, network: u64, address: IpAddr) -> bool {
        self.local.values().any(|l| l.network == network && l.has(address))
    }

    /// Names come from the engine, after the fact; and so does the knowledge that a container went
    /// while the agent or dockerd was away.
    pub(in crate::core) fn containers(&mut self, complete: bool, list: Vec<ContainerEndpoint>) {
        self.note_running(complete, &list);
        let named: BTreeMap<String, Vec<String>> =
            list.into_iter().map(|c| (c.endpoint_id, c.names)).collect();
        for (id, mut names) in named {
            names.retain(|name| is_name(name));
            let changed = self.local.get_mut(&id).filter(|l| l.names != names).map(|l| {
                l.names = names;
                l.phase == Phase::Up
            });
            if changed.is_some() {
                self.touch_state();
            }
            if changed == Some(true) {
                self.publish(&id);
            }
        }
    }

    fn note_running(&mut self, complete: bool, list: &[ContainerEndpoint]) {
        if complete {
            self.running = Some(BTreeMap::new());
        }
        if let Some(running) = &mut self.running {
            running.retain(|_, container| !list.iter().any(|c| c.container == *container));
            running.extend(list.iter().map(|c| (c.endpoint_id.clone(), c.container.clone())));
        }
    }

    pub(in crate::core) fn container_gone(&mut self, gone: &str) {
        if let Some(running) = &mut self.running {
            running.retain(|_, container| container != gone);
        }
    }

    /// Endpoints of containers that went while the agent or dockerd was away: Docker says nothing
    /// of them any more, so nobody else removes them. One that is in its sandbox is not judged by
    /// what Docker lists, but by whether the sandbox is there: see `check_sandboxes`.
    pub(in crate::core) fn remove_stale(&mut self, now: Instant) {
        let Some(running) = &self.running else {
            return;
        };
        let mut stale = Vec::new();
        for local in self.local.values_mut().filter(|l| l.origin == Origin::Docker) {
            if running.contains_key(&local.id) {
                local.seen = Some(now);
            } else if (local.phase == Phase::Created || local.transit)
                && *local.seen.get_or_insert(now) + STALE_AFTER <= now
            {
                stale.push(local.id.clone());
            }
        }
        for id in stale {
            self.forsake(&id, "Docker does not run its container any more");
        }
    }
}

/// `ovl` and 12 digits of Docker's endpoint id: 15 bytes, the most that Linux takes.
fn handover_name(endpoint: &str) -> Result<IfName, Refusal> {
    let short: String = endpoint.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let wrong = |_| Refusal::invalid(format!("\"{endpoint}\" is not an endpoint id of Docker"));
    format!("ovl{short}").parse().map_err(wrong)
}

fn unknown_network(id: &str) -> Refusal {
    let short: String = id.chars().take(12).collect();
    Refusal::not_found(format!(
        "this agent does not know Docker's network {short}; remove it and create it again"
    ))
}

fn unknown_endpoint(id: &str) -> Refusal {
    let short: String = id.chars().take(12).collect();
    Refusal::not_found(format!(
        "this agent does not know the endpoint {short}; start the container again"
    ))
}
