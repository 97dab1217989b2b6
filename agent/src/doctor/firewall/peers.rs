//! Which hosts send packets here: members, and the hosts to join by. And by which interface.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::Host;
use super::Peer;
use crate::config::Config;
use crate::control::api::Member;
use crate::core::{Request, Response};
use crate::underlay::Ways;

/// Hosts that are looked at; of a larger cluster the rest is left out, lowest addresses first.
const PEERS_MAX: usize = 1024;

/// How long names of hosts to join by may take, all of them.
const NAMES_WITHIN: Duration = Duration::from_secs(3);

/// How long the kernel may take for all routes.
const ROUTES_WITHIN: Duration = Duration::from_secs(3);

/// The other hosts, by address.
pub(super) async fn gather(host: &Host, config: &Config, own: Ipv4Addr) -> Vec<Peer> {
    let mut names: BTreeMap<Ipv4Addr, Option<String>> = BTreeMap::new();
    let seeds = tokio::time::timeout(NAMES_WITHIN, seeds(&config.join)).await;
    names.extend(seeds.unwrap_or_default().into_iter().map(|address| (address, None)));
    for member in members(host).await {
        names.insert(member.address, Some(member.name));
    }
    names.retain(|address, _| *address != own && !address.is_loopback());
    let mut peers: Vec<Peer> = names
        .into_iter()
        .take(PEERS_MAX)
        .map(|(address, name)| Peer { address, name, via: None })
        .collect();
    // Those whose route is not known in time are looked at without.
    let _ = tokio::time::timeout(ROUTES_WITHIN, find_routes(own, &mut peers)).await;
    peers
}

async fn members(host: &Host) -> Vec<Member> {
    let Ok(agent) = host.agent() else {
        return Vec::new();
    };
    match agent.ask(Request::Members).await {
        Ok(Response::Members(members)) => {
            members.into_iter().filter(|m| m.state != ovl_gossip::MemberState::Left).collect()
        }
        // Its hosts to join by are known anyway.
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// Addresses of the hosts to join by; of those whose names are not known, none.
async fn seeds(join: &[String]) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    // One after another: each takes a thread until the resolver answers, however long it was waited for.
    for seed in join {
        if let Ok(addresses) = tokio::net::lookup_host(seed.as_str()).await {
            found.extend(addresses);
        }
    }
    let ipv4 = |address: SocketAddr| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    found.into_iter().filter_map(ipv4).collect()
}

/// Asks the kernel for the way to each.
async fn find_routes(own: Ipv4Addr, peers: &mut [Peer]) {
    // Without, any interface may be theirs.
    let Ok(mut ways) = Ways::open(own).await else {
        return;
    };
    for peer in peers {
        peer.via = ways.to(peer.address).await;
    }
}
