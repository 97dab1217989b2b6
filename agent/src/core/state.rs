//! What is kept on disk, so that a restart adopts what runs, even without the store.

use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};
use ovl_ipam::Network;
use ovl_vxlan::{IfName, Mac};
use serde::{Deserialize, Serialize};

use super::Core;
use super::local::{Local, Origin, Phase, Sandbox};

/// Version of the file's form; an older agent refuses a newer file.
pub const FORMAT: u32 = 2;

/// Peers that are written down; more would not make it likelier to find one of them.
const PEERS_MAX: usize = 64;

/// The agent's memory, written whole at each change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// See [`FORMAT`].
    pub format: u32,
    /// Whose it is: leases are held in that name.
    #[serde(default)]
    pub node: String,
    /// The last list of networks that the store gave.
    pub networks: Vec<Network>,
    /// This host's endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Docker's network id → ours.
    pub docker_networks: std::collections::BTreeMap<String, u64>,
    /// Addresses that the store has not taken back yet.
    pub releases: Vec<(u64, IpAddr)>,
    /// Docker was told that our networks are of global scope.
    #[serde(default)]
    pub docker_global: bool,
    /// Addresses of containers that may come back.
    #[serde(default)]
    pub returning: Vec<super::docker::Had>,
    /// Where other agents were: tried at the next start, besides the configured ones.
    #[serde(default)]
    pub peers: Vec<std::net::SocketAddrV4>,
}

/// An endpoint of this host, on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub(super) id: String,
    network: u64,
    names: Vec<String>,
    address: Option<Ipv4Net>,
    #[serde(default)]
    address6: Option<Ipv6Net>,
    generation: u64,
    mac: [u8; 6],
    origin: Origin,
    /// Where it is; none: Docker has made it, no container has joined.
    pub sandbox: Option<Sandbox>,
    ifname: Option<String>,
    stage: Stage,
    /// Docker is moving its interface.
    transit: bool,
    /// Its user chose the address.
    #[serde(default)]
    fixed: bool,
}

/// How far an endpoint had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    /// Docker has made it, no container has joined.
    Created,
    /// In the kernel, and announced.
    Up,
    /// Being made or being removed, and nobody waits for it after a crash.
    Half,
}

impl Core {
    /// What a restart needs to know.
    pub fn state(&self) -> State {
        State {
            format: FORMAT,
            node: self.me.node.to_string(),
            networks: self.networks.values().cloned().collect(),
            endpoints: self
                .local
                .values()
                .filter(|l| l.address.is_some())
                .map(Endpoint::from)
                .collect(),
            docker_networks: self.docker.networks(),
            docker_global: self.docker.global,
            returning: self.docker.returning.remembered(),
            releases: self.releases.iter().copied().collect(),
            peers: self.remotes.peers().take(PEERS_MAX).collect(),
        }
    }
}

impl State {
    /// Drops the endpoints whose sandbox `gone` says is gone; their addresses go back to the store.
    /// Returns how many.
    pub fn forget_endpoints(&mut self, mut gone: impl FnMut(&Sandbox) -> bool) -> usize {
        let before = self.endpoints.len();
        let (releases, returning) = (&mut self.releases, &mut self.returning);
        self.endpoints.retain(|endpoint| {
            // What Docker is still moving has no sandbox yet.
            let keep = endpoint.transit || !endpoint.sandbox.as_ref().is_some_and(&mut gone);
            let v4 = endpoint.address.map(|a| IpAddr::V4(a.addr()));
            let v6 = endpoint.address6.map(|a| IpAddr::V6(a.addr()));
            for address in v4.into_iter().chain(v6).filter(|_| !keep) {
                releases.push((endpoint.network, address));
                if endpoint.origin == Origin::Docker && !endpoint.fixed {
                    let name = endpoint.names.first().cloned();
                    returning.push(super::docker::Had { network: endpoint.network, address, name });
                }
            }
            keep
        });
        before - self.endpoints.len()
    }
}

impl From<&Local> for Endpoint {
    fn from(local: &Local) -> Endpoint {
        Endpoint {
            id: local.id.clone(),
            network: local.network,
            names: local.names.clone(),
            address: local.address,
            address6: local.address6,
            generation: local.generation,
            mac: local.mac.0,
            origin: local.origin.clone(),
            sandbox: local.sandbox.clone(),
            ifname: local.ifname.as_ref().map(ToString::to_string),
            stage: match (&local.phase, &local.origin) {
                (Phase::Up, _) => Stage::Up,
                (Phase::Created | Phase::Leasing(_), _)
                | (Phase::Programming(..), Origin::Docker) => Stage::Created,
                (Phase::Programming(..), Origin::Attached)
                | (Phase::Leaving(..) | Phase::Clearing(_), _) => Stage::Half,
            },
            transit: local.transit,
            fixed: local.fixed,
        }
    }
}

impl From<Endpoint> for Local {
    fn from(e: Endpoint) -> Local {
        let phase = match (e.stage, &e.sandbox) {
            (Stage::Up, Some(_)) => Phase::Up,
            (Stage::Half, Some(_)) => Phase::Clearing(0),
            (Stage::Created, _) | (Stage::Up | Stage::Half, None) => Phase::Created,
        };
        Local {
            id: e.id,
            network: e.network,
            names: e.names,
            address: e.address,
            address6: e.address6,
            generation: e.generation,
            mac: Mac(e.mac),
            origin: e.origin,
            sandbox: e.sandbox,
            ifname: e.ifname.and_then(|name| name.parse::<IfName>().ok()),
            phase,
            transit: e.transit,
            serving: false,
            serve_after: None,
            forsaken: false,
            fixed: e.fixed,
            seen: None,
        }
    }
}
