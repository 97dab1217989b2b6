//! Would this host's packet filter drop what the hosts send each other?
//!
//! The rules are read by the tools that made them (`rules`), brought to one form (`model`), and a
//! packet of each kind is led through them (`walk`). Nothing is sent: whether packets arrive is
//! another check's question, and a filter elsewhere on the way is not seen here.

mod advice;
mod iptables;
mod judge;
mod model;
mod nft;
mod peers;
mod rules;
mod traffic;
mod walk;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;

use self::model::{Base, Hook, Ruleset};
use super::{Check, Group, Host, Look};
use crate::config::Config;
use crate::control::api::doctor::Finding;
use crate::underlay;

const GOSSIP: &str = "firewall.gossip";
const VXLAN: &str = "firewall.vxlan";

pub(super) const GROUP: Group = Group {
    checks: &[
        Check {
            id: GOSSIP,
            title: "packet filter: gossip",
            looks_at: "the rules of nftables, iptables, ufw and firewalld here, led through by what \
                       other hosts send to the gossip port (UDP and TCP) and what is sent to theirs",
            why: "hosts that cannot gossip take each other for dead",
        },
        Check {
            id: VXLAN,
            title: "packet filter: VXLAN",
            looks_at: "the same, by UDP packets to the VXLAN port from and to the other hosts",
            why: "no packet between containers of two hosts arrives",
        },
    ],
    within: Duration::from_secs(20),
    look: Look::Settings(|host, config| Box::pin(look(host, config))),
};

/// What is known of this host.
#[derive(Clone, Debug)]
struct Facts {
    rules: Arc<Ruleset>,
    /// Why there may be more rules than these.
    gaps: Vec<Gap>,
    /// Its own address, on which the others reach it.
    address: Ipv4Addr,
    /// The interface with that address, and its network. No interface: packets come in by those that the
    /// others are reached by.
    interface: Option<String>,
    network: Option<Ipv4Net>,
    /// The other hosts; empty: none is known.
    peers: Vec<Peer>,
    gossip_port: u16,
    vxlan_port: u16,
    /// VNIs that networks may have, first and last.
    vnis: (u32, u32),
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Peer {
    address: Ipv4Addr,
    /// Its node name, if it is or was a member.
    name: Option<String>,
    /// The interface by which it is reached from here.
    via: Option<String>,
}

/// All rules of this host that could be read, and why others could not.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    set: Arc<Ruleset>,
    gaps: Vec<Gap>,
}

/// Rules that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gap {
    /// Which, and why; a sentence.
    why: String,
    /// What to do about it.
    todo: Option<String>,
}

/// What the rules do to packets that this host forwards.
pub(super) struct Forwarding {
    /// Chains that drop what none of their rules decides about. A packet has to pass all of them.
    pub(super) drops: Vec<Closed>,
    /// Why there may be more.
    pub(super) gap: Option<String>,
}

/// A chain for forwarded packets whose policy is to drop.
pub(super) struct Closed {
    /// In the words of its tool.
    pub(super) chain: String,
    /// A rule of it names Docker, or its bridge.
    pub(super) lets_docker_through: bool,
    /// Docker puts its rules there: the chain FORWARD of iptables.
    pub(super) is_dockers: bool,
}

/// How long all rules may take to be read; those that have not come by then are a gap.
const READ_WITHIN: Duration = Duration::from_secs(9);

impl Rules {
    /// See the module.
    pub(super) async fn gather() -> Rules {
        let gathered = tokio::time::timeout(READ_WITHIN, rules::gather()).await;
        gathered.unwrap_or_else(|_| {
            let why = format!("reading the rules took longer than {} s", READ_WITHIN.as_secs());
            Rules { set: Arc::default(), gaps: vec![Gap { why, todo: None }] }
        })
    }

    pub(super) fn forwarding(&self) -> Forwarding {
        let mut drops = Vec::new();
        for table in &self.set.tables {
            for (name, chain) in &table.chains {
                let closes = |base: &Base| base.hook == Hook::Forward && base.drops;
                if !chain.base.as_ref().is_some_and(closes) {
                    continue;
                }
                let of_docker = |text: &str| text.to_ascii_lowercase().contains("docker");
                drops.push(Closed {
                    chain: format!(
                        "chain {name} (table {} {}, {})",
                        table.family, table.name, table.tool
                    ),
                    lets_docker_through: of_docker(&table.name)
                        || chain.rules.iter().any(|rule| of_docker(&rule.text)),
                    is_dockers: (table.family.as_str(), table.name.as_str(), name.as_str())
                        == ("ip", "filter", "FORWARD"),
                });
            }
        }
        Forwarding { drops, gap: self.gaps.first().map(|gap| gap.why.clone()) }
    }
}

pub(super) async fn look(host: Host, config: Arc<Config>) -> Vec<Finding> {
    let address = match host.address() {
        Ok(address) => address,
        Err(why) => return [GOSSIP, VXLAN].map(|check| Finding::unchecked(check, &why)).to_vec(),
    };
    let holder = underlay::holder(address);
    let network = holder.as_ref().map(|holder| holder.network);
    let interface = holder.filter(|holder| !holder.is_stub).map(|holder| holder.name);
    let (rules, peers) = tokio::join!(host.rules(), peers::gather(&host, &config, address));
    let Rules { set, gaps } = rules.clone();
    let facts = Facts {
        rules: set,
        gaps,
        address,
        interface,
        network,
        peers,
        gossip_port: config.gossip_port,
        vxlan_port: config.vxlan_port,
        vnis: (config.vni_range.first.value(), config.vni_range.last.value()),
    };
    let judged = super::blocking(move || judge::judge(&facts)).await;
    judged.unwrap_or_else(|why| [GOSSIP, VXLAN].map(|id| Finding::unchecked(id, &why)).to_vec())
}
