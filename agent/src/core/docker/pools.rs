//! Address pools, as Docker asks for them.

use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::Ipv4Net;
use ovl_ipam::Lease;

use super::super::store::{Continuation, RESERVED, unexpected};
use super::super::{Core, Refusal, RequestId, Response, StoreAnswer, StoreCall, Unbound};
use super::{NETWORK_OPTION, wrong_subnet};
use crate::docker::{RequestAddress, RequestPool};

/// Proposals kept at one time; at the bound the oldest subnet goes, and Docker's next call on it
/// is refused with a sentence that says to try again.
const PROPOSALS_MAX: usize = 256;

/// A pool that Docker considers.
#[derive(Clone, Debug, Default)]
pub(in crate::core) struct Proposal {
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) range: Option<Ipv4Net>,
    pub(super) reserved: Vec<Ipv4Addr>,
}

impl Core {
    pub(in crate::core) fn pool(
        &mut self,
        id: RequestId,
        pool: &RequestPool,
    ) -> Result<Option<Response>, Refusal> {
        let named = pool.options.get(NETWORK_OPTION);
        if let Some(network) = named.map(|name| self.network_named(name)).unwrap_or_default() {
            return match pool.pool {
                Some(subnet) if subnet != network.subnet => Err(wrong_subnet(network, subnet)),
                _ => Ok(Some(Response::Pool(network.subnet, network.gateway))),
            };
        }
        let Some(subnet) = pool.pool else {
            self.call(StoreCall::ProposeSubnet(self.subnets_in_use()), Continuation::Proposed(id));
            return Ok(None);
        };
        if let Some(network) = self.networks.values().find(|n| n.subnet == subnet) {
            return Ok(Some(Response::Pool(network.subnet, network.gateway)));
        }
        if let Some(network) = self.networks.values().find(|n| overlap(&n.subnet, &subnet)) {
            return Err(Refusal::conflict(format!(
                "subnet {subnet} overlaps network {} ({}); choose another --subnet",
                network.name, network.subnet
            )));
        }
        self.propose(subnet, pool.sub_pool).map(Some)
    }

    pub(in crate::core) fn pool_proposed(
        &mut self,
        id: RequestId,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        let answer = match answer {
            Ok(StoreAnswer::Subnet(subnet)) => self.propose(subnet, None).map(Some),
            Ok(other) => Err(unexpected(&other)),
            Err(refusal) => Err(refusal),
        };
        self.answer(id, answer);
    }

    pub(in crate::core) fn propose(
        &mut self,
        subnet: Ipv4Net,
        range: Option<Ipv4Net>,
    ) -> Result<Response, Refusal> {
        let gateway =
            subnet.hosts().next().filter(|_| subnet.prefix_len() <= 30).ok_or_else(|| {
                Refusal::invalid(format!(
                    "subnet {subnet} is too small for a network: /30 is the smallest"
                ))
            })?;
        if self.proposals.len() >= PROPOSALS_MAX {
            self.proposals.pop_first();
        }
        let proposal = Proposal { gateway: Some(gateway), range, reserved: Vec::new() };
        self.proposals.insert(subnet, proposal);
        Ok(Response::Pool(subnet, gateway))
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
        let subnet = pool_subnet(&wanted.pool_id)?;
        let Some(network) = self.networks.values().find(|n| n.subnet == subnet).cloned() else {
            return self.proposed_address(subnet, wanted).map(Some);
        };
        if wanted.gateway {
            return match wanted.address {
                Some(address) if address != network.gateway => Err(Refusal::conflict(format!(
                    "network {} has the gateway {} in this cluster, not {address}",
                    network.name, network.gateway
                ))),
                _ => Ok(Some(Response::Address(within(network.gateway, subnet)))),
            };
        }
        // Before our Docker has the network, only addresses that it sets aside are asked for.
        let reserved = !self.docker_networks.values().any(|known| *known == network.id.0);
        let endpoint = if reserved { RESERVED } else { "docker" };
        self.refuse_orphaned(network.id.0)?;
        if let Some(address) = wanted.address.filter(|_| !reserved) {
            self.refuse_held(network.id.0, address)?;
            // It is wanted again before it was given back.
            self.releases.remove(&(network.id.0, address));
        }
        let call = StoreCall::Allocate {
            network: network.id,
            address: wanted.address,
            endpoint: endpoint.to_owned(),
        };
        self.call(
            call,
            Continuation::DockerAddress {
                request: id,
                network: network.id.0,
                address: wanted.address,
                reserved,
            },
        );
        Ok(None)
    }

    pub(in crate::core) fn proposed_address(
        &mut self,
        subnet: Ipv4Net,
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
        proposal.reserved.push(address);
        Ok(Response::Address(within(address, subnet)))
    }

    pub(in crate::core) fn docker_leased(
        &mut self,
        now: Instant,
        request: RequestId,
        network: u64,
        reserved: bool,
        lease: Result<Lease, Refusal>,
    ) {
        let subnet = self.networks.get(&network).map(|n| n.subnet);
        let doubt = lease.as_ref().ok().and_then(|lease| self.doubt(network, lease.address));
        let answer = match (doubt.map_or(lease, Err), subnet) {
            (Ok(lease), Some(subnet)) => {
                if reserved {
                    self.reserved.insert((network, lease.address));
                    self.touch_state();
                } else {
                    let unbound = Unbound { generation: lease.generation, since: now };
                    self.unbound.insert((network, lease.address), unbound);
                }
                Ok(Some(Response::Address(within(lease.address, subnet))))
            }
            (Ok(_), None) => Err(Refusal::not_found("the network was removed meanwhile")),
            (Err(refusal), _) => {
                self.reconcile_soon(now);
                Err(refusal)
            }
        };
        self.answer(request, answer);
    }

    /// The store gives one holder the same address again, and all of Docker on this host is one
    /// holder: that it is not held twice is known here.
    fn refuse_held(&self, network: u64, address: Ipv4Addr) -> Result<(), Refusal> {
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
        address: Ipv4Addr,
    ) -> Result<Option<Response>, Refusal> {
        let subnet = pool_subnet(pool)?;
        let Some(network) = self.networks.values().find(|n| n.subnet == subnet) else {
            return Ok(Some(Response::Done));
        };
        let (id, gateway) = (network.id.0, network.gateway);
        let me = self.me.node.to_string();
        let (known, elsewhere) = (network.id, network.docker_hosts.iter().any(|host| *host != me));
        if self.reserved.remove(&(id, address)) {
            self.touch_state();
            if !elsewhere {
                let call = StoreCall::ReleaseReserved { network: known, address };
                self.call(call, Continuation::Answer(request));
                return Ok(None);
            }
        } else if address != gateway && !self.holds(id, address) {
            self.unbound.remove(&(id, address));
            self.release(id, address, Some(request));
            return Ok(None);
        }
        Ok(Some(Response::Done))
    }
}

fn within(address: Ipv4Addr, subnet: Ipv4Net) -> Ipv4Net {
    // The prefix comes from a valid subnet, so this cannot fail; the subnet is the harmless answer.
    Ipv4Net::new(address, subnet.prefix_len()).unwrap_or(subnet)
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// A pool's id is its subnet.
fn pool_subnet(pool: &str) -> Result<Ipv4Net, Refusal> {
    pool.parse().map_err(|_| Refusal::invalid(format!("\"{pool}\" is not a pool of ovl")))
}

fn unknown_pool(subnet: Ipv4Net) -> Refusal {
    Refusal::not_found(format!(
        "the pool {subnet} is no network of this cluster; create the network again"
    ))
}
