//! Address pools, and addresses out of them, as Docker asks for them.

use std::net::IpAddr;

use ipnet::IpNet;
use ovl_ipam::{Lease, Network, NetworkId, Wanted};

use super::super::store::{Continuation, unexpected};
use super::super::{Core, Refusal, Request, RequestId, Response, StoreAnswer, StoreCall, Unbound};
use super::{HOLDER, NETWORK_OPTION, pools_of, within, wrong_subnet};
use crate::docker::{RequestAddress, RequestPool};

/// Proposals kept at one time; at the bound the lowest subnet goes, and Docker's next call on it
/// is refused with a sentence that says to try again.
const PROPOSALS_MAX: usize = 256;

/// A pool that Docker considers.
#[derive(Clone, Debug, Default)]
pub(in crate::core) struct Proposal {
    pub(super) gateway: Option<IpAddr>,
    /// We picked it: another one would do.
    pub(super) automatic: bool,
}

impl Core {
    pub(in crate::core) fn pool(
        &mut self,
        id: RequestId,
        wanted: &RequestPool,
    ) -> Result<Option<Response>, Refusal> {
        let named = wanted.options.get(NETWORK_OPTION);
        if let Some(network) = named.map(|name| self.network_named(name)).unwrap_or_default() {
            return pool_of_network(network, wanted).map(|pool| Some(Response::Pool(pool)));
        }
        let Some(subnet) = wanted.pool else {
            let used = self.subnets_in_use();
            let call = match wanted.v6 {
                false => StoreCall::ProposeSubnet(used.iter().filter_map(v4).collect()),
                true => StoreCall::ProposeSubnet6(used.iter().filter_map(v6).collect()),
            };
            self.call(call, Continuation::Proposed(id));
            return Ok(None);
        };
        if self.network_of_pool(subnet).is_some() {
            return Ok(Some(Response::Pool(subnet)));
        }
        let touches = |n: &&Network| pools_of(n).any(|p| overlap(&p, &subnet));
        if let Some(network) = self.networks.values().find(touches) {
            return Err(Refusal::conflict(format!(
                "subnet {subnet} overlaps network {} ({}) of this cluster; choose another --subnet",
                network.name,
                pools_of(network).map(|p| p.to_string()).collect::<Vec<_>>().join(", ")
            )));
        }
        self.propose(subnet, false).map(Some)
    }

    pub(in crate::core) fn pool_proposed(
        &mut self,
        id: RequestId,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        let answer = match answer {
            Ok(StoreAnswer::Subnet(subnet)) => self.propose(subnet, true).map(Some),
            Ok(other) => Err(unexpected(&other)),
            Err(refusal) => Err(refusal),
        };
        self.answer(id, answer);
    }

    fn propose(&mut self, subnet: IpNet, automatic: bool) -> Result<Response, Refusal> {
        let smallest = match subnet {
            IpNet::V4(_) => 30,
            IpNet::V6(_) => 126,
        };
        let gateway = subnet.hosts().find(|a| *a != subnet.network());
        let gateway = gateway.filter(|_| subnet.prefix_len() <= smallest).ok_or_else(|| {
            Refusal::invalid(format!(
                "subnet {subnet} is too small for a network: /{smallest} is the smallest"
            ))
        })?;
        if self.proposals.len() >= PROPOSALS_MAX {
            self.proposals.pop_first();
        }
        self.proposals.insert(subnet, Proposal { gateway: Some(gateway), automatic });
        Ok(Response::Pool(subnet))
    }

    pub(in crate::core) fn release_pool(
        &mut self,
        pool: &str,
    ) -> Result<Option<Response>, Refusal> {
        self.proposals.remove(&pool_subnet(pool)?);
        Ok(Some(Response::Done))
    }

    pub(in crate::core) fn docker_address(
        &mut self,
        id: RequestId,
        wanted: &RequestAddress,
    ) -> Result<Option<Response>, Refusal> {
        let pool = pool_subnet(&wanted.pool_id)?;
        let Some(network) = self.network_of_pool(pool).cloned() else {
            if let Some(why) = self.unrecorded(pool).filter(|_| !wanted.gateway) {
                return Err(Refusal::unavailable(why));
            }
            if self.is_unnamed(pool) && !wanted.gateway {
                let what = format!(
                    "Docker's network {pool} is not known in the cluster yet: its name is heard from the Engine API, which does not answer; see: ovlctl status"
                );
                self.park(id, Request::Address(wanted.clone()), what);
                return Ok(None);
            }
            return self.proposed_address(pool, wanted).map(Some);
        };
        if wanted.gateway {
            return gateway_of(&network, pool, wanted.address).map(Some);
        }
        if let Some(address) = wanted.address
            && network.aux.values().any(|aux| *aux == address)
        {
            return Ok(Some(Response::Address(within(address, pool))));
        }
        self.refuse_orphaned(network.id.0)?;
        if let Some(address) = wanted.address {
            if self.is_leaving(network.id.0, address) || self.is_releasing(network.id.0, address) {
                let what = format!(
                    "{address} is still held by a container of this host that was removed: its interface does not go"
                );
                self.park(id, Request::Address(wanted.clone()), what);
                return Ok(None);
            }
            self.refuse_held(network.id.0, address)?;
            // It is wanted again before it was given back.
            self.releases.remove(&(network.id.0, address));
        }
        let (address, name) = (wanted.address, wanted.endpoint_name.as_deref());
        let preferred =
            address.is_none().then(|| self.returning(network.id.0, pool, name)).flatten();
        // The store would give it to us again, whoever of us has it by now.
        let in_use = |a: &IpAddr| {
            self.holds(network.id.0, *a)
                || self.is_asked_for(network.id.0, Some(*a))
                || self.is_releasing(network.id.0, *a)
        };
        let preferred = preferred.filter(|a| !in_use(a));
        self.docker_allocate(id, network.id, pool, address, preferred);
        Ok(None)
    }

    /// `address`: the one that is asked for; `preferred`: one to try first.
    fn docker_allocate(
        &mut self,
        request: RequestId,
        network: NetworkId,
        pool: IpNet,
        address: Option<IpAddr>,
        preferred: Option<IpAddr>,
    ) {
        let wanted = match (address.or(preferred), pool) {
            (Some(address), _) => Wanted::Address(address),
            (None, IpNet::V4(_)) => Wanted::V4,
            (None, IpNet::V6(_)) => Wanted::V6,
        };
        let call = StoreCall::Allocate { network, wanted, endpoint: HOLDER.to_owned() };
        let then = Continuation::DockerAddress {
            request,
            network: network.0,
            pool,
            address: address.or(preferred),
            preferred: preferred.is_some(),
        };
        self.call(call, then);
    }

    fn proposed_address(
        &mut self,
        subnet: IpNet,
        wanted: &RequestAddress,
    ) -> Result<Response, Refusal> {
        let proposal = self.proposals.get_mut(&subnet).ok_or_else(|| unknown_pool(subnet))?;
        if wanted.gateway {
            proposal.gateway = wanted.address.or(proposal.gateway);
            let gateway = proposal.gateway.ok_or_else(|| unknown_pool(subnet))?;
            return Ok(Response::Address(within(gateway, subnet)));
        }
        let address = wanted.address.ok_or_else(|| unknown_pool(subnet))?;
        if proposal.gateway == Some(address) {
            return Err(Refusal::conflict(format!(
                "{address} is the gateway that was picked for {subnet}; set another with --gateway"
            )));
        }
        Ok(Response::Address(within(address, subnet)))
    }

    pub(in crate::core) fn docker_leased(
        &mut self,
        request: RequestId,
        network: u64,
        pool: IpNet,
        (preferred, fixed): (bool, bool),
        lease: Result<Lease, Refusal>,
    ) {
        if preferred && lease.is_err() {
            // Somebody has it by now.
            return self.docker_allocate(request, NetworkId(network), pool, None, None);
        }
        let doubt = lease.as_ref().ok().and_then(|lease| self.doubt(network, lease.address));
        let answer = match (doubt.map_or(lease, Err), self.networks.contains_key(&network)) {
            (Ok(lease), true) => {
                self.docker.returning.taken(network, lease.address);
                let unbound = Unbound { generation: lease.generation, fixed, since: self.now };
                self.unbound.insert((network, lease.address), unbound);
                Ok(Some(Response::Address(within(lease.address, pool))))
            }
            (Ok(_), false) => Err(Refusal::not_found("the network was removed meanwhile")),
            (Err(refusal), _) => {
                self.reconcile_soon(self.now);
                Err(refusal)
            }
        };
        self.answer(request, answer);
    }

    /// The store gives one holder the same address again, and all of Docker on this host is one
    /// holder: that it is not held twice is known here.
    fn refuse_held(&self, network: u64, address: IpAddr) -> Result<(), Refusal> {
        if self.holds(network, address) || self.is_asked_for(network, Some(address)) {
            let what =
                format!("{address} is held by another container of this host; choose another --ip");
            return Err(Refusal::conflict(what));
        }
        Ok(())
    }

    pub(in crate::core) fn docker_release(
        &mut self,
        request: RequestId,
        pool: &str,
        address: IpAddr,
    ) -> Result<Option<Response>, Refusal> {
        let pool = pool_subnet(pool)?;
        let Some(network) = self.network_of_pool(pool) else {
            return Ok(Some(Response::Done));
        };
        let id = network.id.0;
        let kept = gateway_address(network, pool) == Some(address)
            || network.aux.values().any(|aux| *aux == address);
        if kept {
            return Ok(Some(Response::Done));
        }
        if self.is_leaving(id, address) {
            // Given back when its interface is gone; Docker need not wait for that.
            self.docker.leaving_addresses.insert((id, address));
            return Ok(Some(Response::Done));
        }
        if !self.holds_endpoint(id, address) {
            self.unbound.remove(&(id, address));
            self.release(id, address, Some(request));
            return Ok(None);
        }
        Ok(Some(Response::Done))
    }

    /// Subnets that a new one must not touch: those of networks, and pools that Docker considers.
    fn subnets_in_use(&self) -> Vec<IpNet> {
        let unnamed = self.unnamed_pools();
        let used = self.networks.values().flat_map(pools_of);
        used.chain(self.proposals.keys().copied()).chain(unnamed).collect()
    }
}

fn v4(pool: &IpNet) -> Option<ipnet::Ipv4Net> {
    match pool {
        IpNet::V4(pool) => Some(*pool),
        IpNet::V6(_) => None,
    }
}

fn v6(pool: &IpNet) -> Option<ipnet::Ipv6Net> {
    match pool {
        IpNet::V4(_) => None,
        IpNet::V6(pool) => Some(*pool),
    }
}

/// The subnet of a network that the pool's options name.
fn pool_of_network(network: &Network, wanted: &RequestPool) -> Result<IpNet, Refusal> {
    let own = pools_of(network).find(|pool| matches!(pool, IpNet::V6(_)) == wanted.v6);
    match (own, wanted.pool) {
        (Some(own), None) => Ok(own),
        (Some(own), Some(asked)) if own == asked => Ok(own),
        (_, Some(asked)) => Err(wrong_subnet(network, asked)),
        (None, None) => Err(Refusal::conflict(format!(
            "network {} has no IPv6 subnet in this cluster; leave out --ipv6",
            network.name
        ))),
    }
}

fn gateway_address(network: &Network, pool: IpNet) -> Option<IpAddr> {
    match pool {
        IpNet::V4(_) => Some(IpAddr::V4(network.gateway)),
        IpNet::V6(_) => network.ipv6.as_ref().map(|v6| IpAddr::V6(v6.gateway)),
    }
}

fn gateway_of(network: &Network, pool: IpNet, wanted: Option<IpAddr>) -> Result<Response, Refusal> {
    let gateway = gateway_address(network, pool).ok_or_else(|| unknown_pool(pool))?;
    match wanted {
        Some(address) if address != gateway => Err(Refusal::conflict(format!(
            "network {} has the gateway {gateway} in this cluster, not {address}",
            network.name
        ))),
        _ => Ok(Response::Address(within(gateway, pool))),
    }
}

pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// A pool's id is its subnet.
fn pool_subnet(pool: &str) -> Result<IpNet, Refusal> {
    pool.parse().map_err(|_| Refusal::invalid(format!("\"{pool}\" is not a pool of ovl")))
}

fn unknown_pool(subnet: IpNet) -> Refusal {
    Refusal::not_found(format!(
        "the pool {subnet} is no network of this cluster; create the network again"
    ))
}
