//! What this host knows of the two ends of a way, for whoever follows it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use ovl_gossip::{Endpoint, MemberState};
use ovl_ipam::Network;
use ovl_vxlan::Mac;

use super::local::{Local, Origin, Phase};
use super::remote::{Absence, Heard};
use super::{Core, Refusal};

/// Endpoints that one question may mean; further ones are left out, and the question is refused as one
/// that means too much.
pub const CANDIDATES_MAX: usize = 64;

/// Length of the short id under which Docker makes a container known.
const SHORT_ID: usize = 12;

/// Which ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// A name, a name with its network, an address, or an endpoint's id.
    pub from: String,
    /// The same.
    pub to: String,
    /// On this network only.
    pub network: Option<String>,
}

/// What the host knows; see [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// This host.
    pub node: String,
    /// Its VTEP.
    pub vtep: Ipv4Addr,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// What `from` may mean.
    pub from: Vec<Known>,
    /// What `to` may mean, on every network.
    pub to: Vec<Known>,
    /// The networks that `to` lies in, where it is an address.
    pub around: Vec<KnownNetwork>,
    /// What the kernel did not take of the networks of `from`, each as a sentence.
    pub troubles: Vec<String>,
    /// Every other endpoint of this host on a network of `from`, by MAC: its name.
    pub siblings: Vec<(Mac, String)>,
}

/// A network, as far as a way needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNetwork {
    /// Its id in the cluster.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// Of its packets on this host, in bytes.
    pub mtu: u16,
    /// Where its addresses come from.
    pub subnet: Ipv4Net,
    /// The same for IPv6.
    pub subnet6: Option<Ipv6Net>,
    /// No endpoint gets it.
    pub gateway: Ipv4Addr,
}

/// An endpoint, as this host knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its network.
    pub network: KnownNetwork,
    /// Unique on its host.
    pub id: String,
    /// Its names, its own first.
    pub names: Vec<String>,
    /// Its address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address, if it has one.
    pub ipv6: Option<std::net::Ipv6Addr>,
    /// Its MAC.
    pub mac: Mac,
    /// Of two claims on one address the one with the higher generation is true.
    pub generation: u64,
    /// The host that it is on.
    pub host: String,
    /// Where it is, seen from here.
    pub place: Place,
    /// Other endpoints that hold an address of its own, as (host, generation).
    pub rivals: Vec<(String, u64)>,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this host.
    Here(Here),
    /// On another.
    There(There),
}

/// An endpoint of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// How far it has come: a word.
    pub phase: String,
    /// Its interface and sandbox are in order as far as this host's agent knows.
    pub is_up: bool,
    /// Its network namespace.
    pub netns: Option<PathBuf>,
    /// Its interface there.
    pub ifname: Option<String>,
    /// Docker made it.
    pub docker: bool,
    /// Docker's container; `None`: not of Docker, or Docker lists no container that runs with it.
    pub container: Option<String>,
    /// Docker has told what runs.
    pub docker_heard: bool,
    /// The networks whose names its sandbox is answered.
    pub scope: Vec<u64>,
}

/// An endpoint of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    /// Where its host's agent is.
    pub address: Ipv4Addr,
    /// Where its packets go.
    pub vtep: Ipv4Addr,
    /// How its host is seen from here.
    pub state: MemberState,
    /// Whether its agent is away, and what follows from that.
    pub absence: Absence,
    /// How long ago its announcement was heard as it is now.
    pub heard: Option<Duration>,
}

impl Core {
    pub(super) fn trace_ends(&self, question: &Question) -> Result<Ends, Refusal> {
        let only = question.network.as_deref().map(|name| self.network_or_refuse(name));
        let only = only.transpose()?.map(|network| network.id.0);
        let from = self.meant(&question.from, only)?;
        let to = self.meant(&question.to, only)?;
        let networks: Vec<u64> = from.iter().map(|known| known.network.id).collect();
        Ok(Ends {
            node: self.me.node.to_string(),
            vtep: self.me.vtep,
            vxlan_port: self.me.vxlan_port,
            around: self.around(&question.to),
            troubles: self.troubles_of(&from),
            siblings: self.siblings(&networks),
            from,
            to,
        })
    }

    /// Every endpoint that a text may mean.
    fn meant(&self, text: &str, only: Option<u64>) -> Result<Vec<Known>, Refusal> {
        let wanted = |e: &Endpoint| only.is_none_or(|id| e.network == id) && self.is_meant(text, e);
        let local = self.local.values().filter_map(|l| Some((l, l.announcement()?)));
        let local = local.filter(|(l, e)| wanted(e) || (self.is_container(text, l)));
        let local = local.filter_map(|(l, e)| self.known_here(l, &e));
        let remote = self.remotes.all().filter(|(_, e)| wanted(e));
        let remote = remote.filter_map(|(heard, e)| self.known_there(&heard, e));
        let found: Vec<Known> = local.chain(remote).take(CANDIDATES_MAX + 1).collect();
        if found.len() > CANDIDATES_MAX {
            return Err(Refusal::conflict(format!(
                "\"{text}\" stands for more than {CANDIDATES_MAX} endpoints; name one by its own name or address"
            )));
        }
        Ok(found)
    }

    fn is_meant(&self, text: &str, endpoint: &Endpoint) -> bool {
        if let Ok(address) = text.parse::<IpAddr>() {
            return super::remote::addresses(endpoint).any(|own| own == address);
        }
        let text = text.trim_end_matches('.');
        let short = text.get(..SHORT_ID).filter(|_| is_long_id(text));
        let called = |name: &String| {
            name.eq_ignore_ascii_case(text)
                || short.is_some_and(|short| name == short)
                || self.is_qualified(text, name, endpoint.network)
        };
        endpoint.id == text || endpoint.names.iter().any(called)
    }

    /// `text` is `NAME.NETWORK`.
    fn is_qualified(&self, text: &str, name: &str, network: u64) -> bool {
        let Some(network) = self.networks.get(&network) else {
            return false;
        };
        let network: &str = network.name.as_ref();
        text.len() == name.len() + 1 + network.len()
            && text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && text
                .get(name.len()..)
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| rest.eq_ignore_ascii_case(network))
    }

    /// `text` is the whole id of the endpoint's container.
    fn is_container(&self, text: &str, local: &Local) -> bool {
        let running = self.running.as_ref().and_then(|running| running.get(&local.id));
        running.is_some_and(|container| container == text)
    }

    fn known_here(&self, local: &Local, endpoint: &Endpoint) -> Option<Known> {
        let netns = local.sandbox.as_ref().map(|sandbox| sandbox.netns.clone());
        let container = self.running.as_ref().and_then(|running| running.get(&local.id).cloned());
        let here = Here {
            phase: phase(local).to_owned(),
            is_up: local.phase == Phase::Up && !local.transit,
            scope: netns.as_deref().map(|netns| self.scope_of(netns)).unwrap_or_default(),
            netns,
            ifname: local.ifname.as_ref().map(ToString::to_string),
            docker: local.origin == Origin::Docker,
            container,
            docker_heard: self.running.is_some(),
        };
        self.known(endpoint, self.me.node.to_string(), Place::Here(here))
    }

    fn known_there(&self, heard: &Heard<'_>, endpoint: &Endpoint) -> Option<Known> {
        let there = There {
            address: heard.address,
            vtep: heard.vtep,
            state: heard.state,
            absence: heard.absence,
            heard: heard.since.map(|since| self.now.saturating_duration_since(since)),
        };
        self.known(endpoint, heard.node.to_string(), Place::There(there))
    }

    fn known(&self, endpoint: &Endpoint, host: String, place: Place) -> Option<Known> {
        let network = self.known_network(self.networks.get(&endpoint.network)?);
        Some(Known {
            network,
            id: endpoint.id.clone(),
            names: endpoint.names.clone(),
            ipv4: endpoint.ipv4,
            ipv6: endpoint.ipv6,
            mac: Mac(endpoint.mac),
            generation: endpoint.generation,
            rivals: self.rivals(endpoint, &host),
            host,
            place,
        })
    }

    fn known_network(&self, network: &Network) -> KnownNetwork {
        KnownNetwork {
            id: network.id.0,
            name: network.name.to_string(),
            vni: network.vni.value(),
            mtu: self.mtu(network),
            subnet: network.subnet,
            subnet6: network.ipv6.as_ref().map(|v6| v6.subnet),
            gateway: network.gateway,
        }
    }

    /// Who else holds one of its addresses.
    fn rivals(&self, endpoint: &Endpoint, host: &str) -> Vec<(String, u64)> {
        let is_other = |node: &str, id: &str| node != host || id != endpoint.id;
        let me = self.me.node.to_string();
        let mut rivals: Vec<(String, u64)> = super::remote::addresses(endpoint)
            .flat_map(|address| {
                let there = self.remotes.claims(endpoint.network, address);
                let there = there.map(|(generation, node, id)| (node.to_string(), generation, id));
                let here = self.local.values().filter(move |l| {
                    l.network == endpoint.network && l.phase == Phase::Up && l.has(address)
                });
                let here = here.map(|l| (me.clone(), l.generation, l.id.as_str()));
                there.chain(here).collect::<Vec<_>>()
            })
            .filter(|(node, _, id)| is_other(node, id))
            .map(|(node, generation, _)| (node, generation))
            .collect();
        rivals.sort();
        rivals.dedup();
        rivals
    }

    fn around(&self, text: &str) -> Vec<KnownNetwork> {
        let Ok(address) = text.parse::<IpAddr>() else {
            return Vec::new();
        };
        let holds = |network: &&Network| match address {
            IpAddr::V4(v4) => network.subnet.contains(&v4),
            IpAddr::V6(v6) => network.ipv6.as_ref().is_some_and(|own| own.subnet.contains(&v6)),
        };
        self.networks.values().filter(holds).map(|network| self.known_network(network)).collect()
    }

    /// What the last pass over the kernel could not do for these endpoints and their networks.
    fn troubles_of(&self, known: &[Known]) -> Vec<String> {
        let begins: Vec<String> = known
            .iter()
            .flat_map(|k| [format!("VNI {}: ", k.network.vni), format!("endpoint {}: ", k.id)])
            .collect();
        let texts = self.health.dataplane.iter().map(|trouble| &trouble.text);
        let ours = texts.filter(|text| begins.iter().any(|begin| text.starts_with(begin)));
        ours.cloned().collect()
    }

    fn siblings(&self, networks: &[u64]) -> Vec<(Mac, String)> {
        let on_them = self.local.values().filter(|local| networks.contains(&local.network));
        let name = |local: &Local| local.names.first().unwrap_or(&local.id).clone();
        on_them.map(|local| (local.mac, name(local))).collect()
    }
}

/// A container's or an endpoint's whole id, as Docker writes it.
fn is_long_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn phase(local: &Local) -> &'static str {
    match local.phase {
        Phase::Leasing(_) => "waiting for its address",
        Phase::Created => "made by Docker, with no container in it",
        Phase::Programming(..) => "being put into the kernel",
        Phase::Up if local.transit => "on its way into the container",
        Phase::Up => "up",
        Phase::Leaving(..) | Phase::Clearing(_) => "being removed",
    }
}
