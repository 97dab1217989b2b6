//! What libnetwork asks, as leases and endpoints.
//!
//! Docker asks for a pool before it says which network it is for, so a pool that is no network
//! yet is a *proposal*, kept here only: nothing is in the store until `CreateNetwork` names it
//! (`-o ovl.network=NAME`). A pool's id is its subnet, because subnets do not overlap in the
//! cluster, so an id stays good over a restart.
//!
//! An endpoint's interface is made in the host's namespace by `Join`, taken by Docker into the
//! sandbox, and found there again by its MAC.

mod containers;
mod pools;

use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::Ipv4Net;
use ovl_ipam::{Network, NetworkId, NetworkSpec};

pub(super) use self::pools::Proposal;
use super::store::{Continuation, RESERVED};
use super::{
    Core, RELEASE_RETRY, Refusal, RefusalKind, Request, RequestId, Response, StoreAnswer, StoreCall,
};
use crate::docker::{CreateNetwork, LOCAL_ADDRESS_SPACE};

/// The option that says which network of the cluster a Docker network is.
pub(super) const NETWORK_OPTION: &str = "ovl.network";

/// Docker's own option for the largest packet, in bytes.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

impl Core {
    pub(super) fn docker_request(&mut self, id: RequestId, request: Request, fresh: bool) {
        let answer = match &request {
            Request::Pool(pool) => self.pool(id, pool),
            Request::ReleasePool(pool) => self.release_pool(pool),
            Request::Address(address) => self.docker_address(id, address),
            Request::ReleaseAddress(pool, address) => self.docker_release(id, pool, *address),
            Request::DockerNetwork(network) => self.docker_network(id, network),
            Request::DeleteDockerNetwork(network) => self.delete_docker_network(id, network),
            Request::CreateEndpoint(endpoint) => self.create_endpoint(id, endpoint),
            Request::DeleteEndpoint(endpoint) => self.delete_endpoint(id, endpoint),
            Request::Join(join) => self.join(id, join),
            Request::Leave(endpoint) => self.docker_leave(endpoint),
            other => Err(Refusal::invalid(format!("not a request of Docker: {other:?}"))),
        };
        match answer {
            Err(Refusal { kind: RefusalKind::NotFound, .. }) if !fresh => {
                self.refresh_then(id, request);
            }
            answer => self.answer(id, answer),
        }
    }

    fn docker_network(
        &mut self,
        id: RequestId,
        wanted: &CreateNetwork,
    ) -> Result<Option<Response>, Refusal> {
        let name = wanted.options.get(NETWORK_OPTION).ok_or_else(|| {
            Refusal::invalid(format!(
                "which network of the cluster is this? add: -o {NETWORK_OPTION}=NAME"
            ))
        })?;
        let unknown =
            wanted.options.keys().find(|key| key.starts_with("ovl.") && *key != NETWORK_OPTION);
        if let Some(key) = unknown {
            return Err(Refusal::invalid(format!(
                "unknown option {key}; ovl knows {NETWORK_OPTION} and {MTU_OPTION}"
            )));
        }
        let name: ovl_ipam::NetworkName = name
            .parse()
            .map_err(|e| Refusal::invalid(format!("{NETWORK_OPTION}: {}", crate::chain(&e))))?;
        let [data] = wanted.ipv4.as_slice() else {
            return Err(Refusal::invalid(format!(
                "an ovl network has one IPv4 subnet, {} were given",
                wanted.ipv4.len()
            )));
        };
        if data.address_space != LOCAL_ADDRESS_SPACE {
            return Err(Refusal::invalid(
                "Docker's own address management gives the same address on several hosts; add: --ipam-driver ovl",
            ));
        }
        if let Some(network) = self.network_named(name.as_ref()) {
            if network.subnet != data.pool {
                return Err(wrong_subnet(network, data.pool));
            }
        } else if let Some(other) = self.networks.values().find(|n| n.subnet == data.pool) {
            return Err(Refusal::conflict(format!(
                "subnet {} belongs to network {} of this cluster",
                data.pool, other.name
            )));
        }
        let proposal = self.proposals.get(&data.pool).cloned().unwrap_or_default();
        let mtu = match wanted.options.get(MTU_OPTION).map(|mtu| mtu.parse::<u16>()) {
            None => None,
            Some(Ok(mtu)) => Some(mtu),
            Some(Err(_)) => {
                return Err(Refusal::invalid(format!(
                    "{MTU_OPTION}: a number of bytes is expected"
                )));
            }
        };
        let gateway = data.gateway.map(|g| g.addr()).or(proposal.gateway);
        let spec = NetworkSpec {
            name,
            subnet: Some(data.pool),
            gateway,
            range: proposal.range,
            mtu,
            avoid: Vec::new(),
        };
        let then = Continuation::DockerNetwork {
            request: id,
            docker: wanted.id.clone(),
            reserved: proposal.reserved,
        };
        self.call(StoreCall::EnsureDockerNetwork(spec), then);
        Ok(None)
    }

    pub(super) fn docker_network_made(
        &mut self,
        request: RequestId,
        docker: String,
        reserved: &[Ipv4Addr],
        network: Result<Network, Refusal>,
    ) {
        let answer = network.map(|network| {
            self.proposals.remove(&network.subnet);
            self.docker_networks.insert(docker, network.id.0);
            self.detaches.remove(&network.id.0);
            self.touch_state();
            for address in reserved {
                self.reserved.insert((network.id.0, *address));
                let call = StoreCall::Allocate {
                    network: network.id,
                    address: Some(*address),
                    endpoint: RESERVED.to_owned(),
                };
                self.call(call, Continuation::Ignore);
            }
            Some(Response::Done)
        });
        self.answer(request, answer);
    }

    fn delete_docker_network(
        &mut self,
        id: RequestId,
        docker: &str,
    ) -> Result<Option<Response>, Refusal> {
        let Some(network) = self.docker_networks.get(docker).copied() else {
            return Ok(Some(Response::Done));
        };
        self.docker_networks.remove(docker);
        self.touch_state();
        if self.docker_networks.values().any(|other| *other == network) {
            return Ok(Some(Response::Done));
        }
        self.detaches.insert(network);
        let then = Continuation::DockerDetached { request: Some(id), network };
        self.call(StoreCall::DetachDocker(NetworkId(network)), then);
        Ok(None)
    }

    /// Docker forgets its network whatever is answered, so the answer is always yes, and what the
    /// store did not take is tried again.
    pub(super) fn docker_network_left(
        &mut self,
        now: Instant,
        request: Option<RequestId>,
        network: u64,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        match answer {
            Ok(_) => {
                self.detaches.remove(&network);
                self.touch_state();
            }
            Err(refusal) => {
                let error = refusal.message;
                tracing::warn!(
                    network,
                    error,
                    "the store still counts this host's Docker as a user of the network"
                );
                self.release_at = Some(now + RELEASE_RETRY);
            }
        }
        self.released(request);
    }

    pub(super) fn retry_detaches(&mut self) {
        for network in self.detaches.clone() {
            if self.docker_networks.values().any(|known| *known == network) {
                self.detaches.remove(&network);
            } else {
                let then = Continuation::DockerDetached { request: None, network };
                self.call(StoreCall::DetachDocker(NetworkId(network)), then);
            }
        }
    }
}

fn wrong_subnet(network: &Network, subnet: Ipv4Net) -> Refusal {
    Refusal::conflict(format!(
        "network {0} has the subnet {1} in this cluster, not {subnet}; repeat with: --subnet {1} (or --ipam-opt {NETWORK_OPTION}={0})",
        network.name, network.subnet
    ))
}
