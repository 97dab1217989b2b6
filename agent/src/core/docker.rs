//! What libnetwork asks, as leases and endpoints, and Docker's networks as those of the cluster.
//!
//! Docker asks for a pool before it says which network it is for, and when it makes the network it
//! does not say its name. So a pool that is no network yet is a *proposal*, kept here only, and a
//! network that Docker has made is *unnamed* until the Engine API lists it, some milliseconds
//! later. Only then is it in the store, and with it in the Docker of every other host: see
//! `networks`.
//!
//! A pool's id is its subnet, because subnets do not overlap in the cluster, so an id stays good
//! over a restart.
//!
//! An endpoint's interface is made in the host's namespace by `Join`, taken by Docker into the
//! sandbox, and found there again by its MAC.

mod containers;
mod networks;
mod parked;
mod pools;
mod restarts;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ovl_ipam::Network;

pub(super) use self::networks::Docker;
pub(super) use self::pools::Proposal;
pub use self::restarts::Had;
pub(super) use self::restarts::Returning;
use super::{Core, Refusal, RefusalKind, Request, RequestId, Response};
use crate::docker::{CreateNetwork, GLOBAL_ADDRESS_SPACE, IpamData, LOCAL_ADDRESS_SPACE, Scope};

/// The option that names the network of the cluster, when it is not called as Docker's is.
pub(super) const NETWORK_OPTION: &str = "ovl.network";

/// Docker's own option for the largest packet, in bytes.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// Who holds an address that Docker asked for: the endpoint is not known by then.
pub(super) const HOLDER: &str = "docker";

impl Core {
    pub(super) fn docker_request(&mut self, id: RequestId, request: Request, fresh: bool) {
        let answer = match &request {
            Request::Scope(cluster_store) => Ok(Some(Response::Scope(self.scope(*cluster_store)))),
            Request::Pool(pool) => self.pool(id, pool),
            Request::ReleasePool(pool) => self.release_pool(pool),
            Request::Address(address) => self.docker_address(id, address),
            Request::ReleaseAddress(pool, address) => self.docker_release(id, pool, *address),
            Request::DockerNetwork(network) => self.docker_network(network).map(Some),
            Request::DeleteDockerNetwork(network) => self.delete_docker_network(id, network),
            Request::CreateEndpoint(endpoint) => self.create_endpoint(id, endpoint),
            Request::DeleteEndpoint(endpoint) => self.delete_endpoint(endpoint),
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

    /// dockerd asks once in its life, so this is remembered: with a scope of `global` Docker itself
    /// shows a network on every host.
    fn scope(&mut self, cluster_store: bool) -> Scope {
        let scope = self.me.docker_scope.unwrap_or(match cluster_store {
            true => Scope::Global,
            false => Scope::Local,
        });
        self.docker.global = scope == Scope::Global;
        self.touch_state();
        scope
    }

    /// Docker makes a network. Whatever can be refused is refused here: later nobody listens.
    fn docker_network(&mut self, wanted: &CreateNetwork) -> Result<Response, Refusal> {
        let unknown = |key: &&String| key.starts_with("ovl.") && *key != NETWORK_OPTION;
        if let Some(key) = wanted.options.keys().find(unknown) {
            return Err(Refusal::invalid(format!(
                "unknown option {key}; ovl knows {NETWORK_OPTION} and {MTU_OPTION}"
            )));
        }
        let subnet = one_subnet(wanted)?;
        let name = wanted.options.get(NETWORK_OPTION).map(|name| network_name(name)).transpose()?;
        spec::of_request(wanted)?.check().map_err(|e| Refusal::invalid(crate::chain(&e)))?;
        let existing = self.network_of_pool(subnet).map(|n| (n.id.0, n.name.clone()));
        match (&name, existing) {
            (Some(name), Some((_, other))) if *name != other => {
                return Err(Refusal::conflict(format!(
                    "subnet {subnet} belongs to network {other} of this cluster"
                )));
            }
            (Some(_), Some((network, _))) => {
                self.bind(&wanted.id, network);
                return Ok(Response::Done);
            }
            // Its name is heard later: Docker's own request, made for the cluster, or the same one
            // on two hosts at once.
            (None, Some((network, _))) => {
                if self.docker.made_for(subnet) == Some(network) {
                    self.bind(&wanted.id, network);
                    return Ok(Response::Done);
                }
            }
            (Some(name), None) => {
                if let Some(network) = self.network_named(name.as_ref()) {
                    return Err(wrong_subnet(network, subnet));
                }
            }
            // What we told Docker to make may be gone from the store by now: it is removed again.
            (None, None) => {
                if let Some(network) = self.docker.made_for(subnet) {
                    self.bind(&wanted.id, network);
                    return Ok(Response::Done);
                }
            }
        }
        if let Some(error) = &self.health.store {
            return Err(Refusal::unavailable(format!(
                "the store does not answer, so no network can be made: {error}"
            )));
        }
        self.unnamed(&wanted.id, pools(wanted));
        Ok(Response::Done)
    }

    /// The network that has this subnet, of whichever family.
    pub(super) fn network_of_pool(&self, pool: IpNet) -> Option<&Network> {
        self.networks.values().find(|n| pools_of(n).any(|p| p == pool))
    }
}

/// A network's subnets: IPv4, and IPv6 if it has one.
pub(super) fn pools_of(network: &Network) -> impl Iterator<Item = IpNet> + use<> {
    let v6 = network.ipv6.as_ref().map(|v6| IpNet::V6(v6.subnet));
    std::iter::once(IpNet::V4(network.subnet)).chain(v6)
}

fn pools(wanted: &CreateNetwork) -> BTreeSet<IpNet> {
    wanted.ipv4.iter().chain(&wanted.ipv6).map(|data| data.pool).collect()
}

/// The IPv4 subnet of a network that can be made.
fn one_subnet(wanted: &CreateNetwork) -> Result<IpNet, Refusal> {
    let [data] = wanted.ipv4.as_slice() else {
        return Err(Refusal::invalid(format!(
            "an ovl network has one IPv4 subnet, {} were given",
            wanted.ipv4.len()
        )));
    };
    if wanted.ipv6.len() > 1 {
        return Err(Refusal::invalid(format!(
            "an ovl network has at most one IPv6 subnet, {} were given",
            wanted.ipv6.len()
        )));
    }
    let ours = |data: &IpamData| {
        [LOCAL_ADDRESS_SPACE, GLOBAL_ADDRESS_SPACE].contains(&data.address_space.as_str())
    };
    if !ours(data) || !wanted.ipv6.iter().all(ours) {
        return Err(Refusal::invalid(
            "Docker's own address management gives out the same addresses on several hosts; repeat the command with: --ipam-driver ovl (in a compose file: ipam: { driver: ovl })",
        ));
    }
    Ok(data.pool)
}

fn mtu(options: &BTreeMap<String, String>) -> Result<Option<u16>, Refusal> {
    let wrong =
        |_| Refusal::invalid(format!("{MTU_OPTION}: a number of bytes up to 65485 is expected"));
    options.get(MTU_OPTION).map(|mtu| mtu.parse().map_err(wrong)).transpose()
}

fn network_name(name: &str) -> Result<ovl_ipam::NetworkName, Refusal> {
    name.parse().map_err(|e| Refusal::invalid(crate::chain(&e)))
}

fn wrong_subnet(network: &Network, subnet: IpNet) -> Refusal {
    Refusal::conflict(format!(
        "network {0} has the subnet {1} in this cluster, not {subnet}; repeat with: --subnet {1} (or --ipam-opt {NETWORK_OPTION}={0})",
        network.name, network.subnet
    ))
}

/// An address with the prefix length of its subnet.
fn within(address: IpAddr, subnet: IpNet) -> IpNet {
    // The prefix comes from a valid subnet, so this cannot fail; the subnet is the harmless answer.
    IpNet::new(address, subnet.prefix_len()).unwrap_or(subnet)
}
