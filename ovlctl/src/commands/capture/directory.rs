//! Names in place of addresses, as the agent knows them.
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ovl_agent::control::api::{Endpoint, Member, Network};
use tokio::time::Instant;

use crate::client::{Client, path};
use crate::error::Error;

/// When something without a name was met, the agent is asked again, but not more often. Each time that it
/// has nothing new, twice as long passes before the next.
const FRESH_FOR: Duration = Duration::from_secs(5);
const FRESH_FOR_MAX: Duration = Duration::from_secs(320);

/// Who has which address. Subnets of a cluster do not overlap, so an address is one endpoint's.
#[derive(Debug)]
pub(super) struct Directory {
    /// Name and network.
    endpoints: BTreeMap<IpAddr, (String, String)>,
    hosts: BTreeMap<Ipv4Addr, String>,
    networks: BTreeMap<u32, String>,
    read: Instant,
    fresh_for: Duration,
}

impl Directory {
    pub(super) async fn read(client: &Client) -> Result<Directory, Error> {
        let endpoints: Vec<Endpoint> = client.get(&path(&["endpoints"])).await?;
        let members: Vec<Member> = client.get(&path(&["members"])).await?;
        let networks: Vec<Network> = client.get(&path(&["networks"])).await?;
        Ok(Directory::new(endpoints, members, networks))
    }

    pub(super) fn new(
        endpoints: Vec<Endpoint>,
        members: Vec<Member>,
        networks: Vec<Network>,
    ) -> Directory {
        let mut names = BTreeMap::new();
        for endpoint in endpoints {
            let name = (endpoint.name, endpoint.network);
            if let Some(ipv6) = endpoint.ipv6 {
                names.insert(ipv6.into(), name.clone());
            }
            names.insert(endpoint.ipv4.into(), name);
        }
        Directory {
            endpoints: names,
            hosts: members.into_iter().map(|member| (member.address, member.name)).collect(),
            networks: networks.into_iter().map(|network| (network.vni, network.name)).collect(),
            read: Instant::now(),
            fresh_for: FRESH_FOR,
        }
    }

    /// It is worth asking again.
    pub(super) fn is_old(&self) -> bool {
        self.read.elapsed() > self.fresh_for
    }

    /// Takes what was read anew, and gives back the old.
    pub(super) fn replace(&mut self, new: Directory) -> Directory {
        let old = std::mem::replace(self, new);
        let same = (&self.endpoints, &self.hosts, &self.networks)
            == (&old.endpoints, &old.hosts, &old.networks);
        if same {
            self.fresh_for = (old.fresh_for * 2).min(FRESH_FOR_MAX);
        }
        old
    }

    pub(super) fn endpoint(&self, address: IpAddr) -> Option<&str> {
        self.endpoints.get(&address).map(|(name, _)| name.as_str())
    }

    pub(super) fn host(&self, address: Ipv4Addr) -> Option<&str> {
        self.hosts.get(&address).map(String::as_str)
    }

    pub(super) fn network(&self, vni: u32) -> Option<&str> {
        self.networks.get(&vni).map(String::as_str)
    }

    /// Addresses with names that `other` does not have: hosts by their names, endpoints as NAME.NETWORK.
    pub(super) fn beyond(&self, other: Option<&Directory>) -> Vec<(IpAddr, String)> {
        let all = |directory: &Directory| {
            let hosts = directory.hosts.iter().map(|(a, name)| (IpAddr::from(*a), name.clone()));
            let endpoints = directory.endpoints.iter();
            let endpoints = endpoints.map(|(a, (name, network))| (*a, format!("{name}.{network}")));
            hosts.chain(endpoints).collect::<BTreeMap<_, _>>()
        };
        let known = other.map(all).unwrap_or_default();
        all(self).into_iter().filter(|(address, name)| known.get(address) != Some(name)).collect()
    }
}
