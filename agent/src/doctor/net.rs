//! Settings of the kernel's network that break overlays, and what of them matters here.

mod judge;

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use ovl_gossip::MemberState;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{NeighbourMessage, NeighbourState};

use self::judge::{BridgeFilter, Forward, Neighbours, ReversePath, Route};
use super::{Check, Group, Host, Look};
use crate::config::Config;
use crate::control::api::Member;
use crate::control::api::doctor::Finding;
use crate::underlay::{self, Holder, Ways};

pub(super) const UNDERLAY: &str = "net.underlay";
const FORWARD: &str = "net.forward";
const BRIDGE_NF: &str = "net.bridge-nf";
const RP_FILTER: &str = "net.rp-filter";
const NEIGHBOURS: &str = "net.neighbours";

/// Hosts whose routes are looked up; further ones are taken for fine.
const ROUTES_MAX: usize = 512;

pub(super) const GROUP: Group = Group {
    checks: &[
        Check {
            id: UNDERLAY,
            title: "underlay",
            looks_at: "the interface with the advertised address: whether it is there, up, and has a carrier",
            why: "without it this host is cut off, and every other one looks dead from here",
        },
        Check {
            id: FORWARD,
            title: "forwarding",
            looks_at: "net.ipv4.ip_forward, and the rules for what is forwarded",
            why: "published ports and the way out need it; packets of the overlay do not meet it",
        },
        Check {
            id: BRIDGE_NF,
            title: "bridge-nf-call",
            looks_at: "net.bridge.bridge-nf-call-iptables, and whether the underlay is a bridge",
            why: "with it, guests behind a bridge of this host meet FORWARD; the overlay crosses no bridge",
        },
        Check {
            id: RP_FILTER,
            title: "reverse path filter",
            looks_at: "rp_filter of the underlay's interface, and the routes to all hosts",
            why: "where a host is routed over another interface, its packets are dropped without a word",
        },
        Check {
            id: NEIGHBOURS,
            title: "neighbour table",
            looks_at: "entries against gc_thresh3, and how often the table was full",
            why: "a full table loses new neighbours; rows of the overlay count before Linux 5.0 only",
        },
    ],
    within: Duration::from_secs(15),
    look: Look::Settings(|host, config| Box::pin(look(host, config))),
};

async fn look(host: Host, config: Arc<Config>) -> Vec<Finding> {
    let mut findings = vec![own_interface(&host).await];
    let rules = host.rules().await.forwarding();
    let docker = config.docker_host.strip_prefix("unix://");
    let forward = Forward {
        ip_forward: number("net/ipv4/ip_forward").map(|value| value > 0),
        docker: docker.is_some_and(|socket| fs::exists(socket).unwrap_or(false)),
        rules,
    };
    findings.push(judge::forward(&forward));
    let (connection, handle, _) = match rtnetlink::new_connection() {
        Ok(opened) => opened,
        Err(error) => {
            let why = format!("there is no netlink socket: {error}");
            findings.extend(
                [BRIDGE_NF, RP_FILTER, NEIGHBOURS].map(|id| Finding::unchecked(id, why.clone())),
            );
            return findings;
        }
    };
    let task = tokio::spawn(connection);
    match underlay(&host).await {
        Ok((address, underlay)) => {
            let filter = BridgeFilter {
                on: number("net/bridge/bridge-nf-call-iptables").map(|value| value > 0),
                is_bridge: is_bridge(&handle, &underlay.name).await,
                underlay: underlay.name.clone(),
                drops: forward.rules.drops.first().map(|closed| closed.chain.clone()),
            };
            findings.push(judge::bridge_filter(&filter));
            findings.push(judge::reverse_path(&reverse_path(&host, address, underlay).await));
        }
        Err(why) => {
            findings.push(Finding::unchecked(BRIDGE_NF, &why));
            findings.push(Finding::unchecked(RP_FILTER, &why));
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        findings.push(judge::neighbours(&neighbours(&host, &handle, family).await));
    }
    task.abort();
    findings
}

async fn own_interface(host: &Host) -> Finding {
    let address = match host.address() {
        Ok(address) => address,
        Err(why) => return Finding::unchecked(UNDERLAY, why),
    };
    match underlay::fault(address).await {
        None => Finding::ok(UNDERLAY, format!("the interface with {address} is up")),
        Some((interface, why, fix)) => {
            let finding = Finding::fail(UNDERLAY, why).mend(fix);
            interface.into_iter().fold(finding, Finding::about)
        }
    }
}

/// A number below `/proc/sys`; none: there is no such setting.
fn number(key: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{key}")).ok()?.trim().parse().ok()
}

/// The advertised address, and the interface with it.
async fn underlay(host: &Host) -> Result<(Ipv4Addr, Holder), String> {
    let address = host.address()?;
    let holder = super::blocking(move || underlay::holder(address)).await?;
    Ok((address, holder.ok_or_else(|| format!("no interface of this host has {address}"))?))
}

async fn is_bridge(handle: &Handle, interface: &str) -> bool {
    let links = handle.link().get().match_name(interface.to_owned()).execute();
    let links: Vec<_> = links.try_collect().await.unwrap_or_default();
    links.iter().flat_map(|link| &link.attributes).any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)))
        }
        _ => false,
    })
}

async fn reverse_path(host: &Host, address: Ipv4Addr, underlay: Holder) -> ReversePath {
    let own = |interface: &str| number(&format!("net/ipv4/conf/{interface}/rp_filter"));
    let members = host.diagnosis().await.map(|d| d.members.clone()).unwrap_or_default();
    let is_another =
        |member: &Member| member.address != address && member.state != MemberState::Left;
    let mut routes = Vec::new();
    // Without, no route is known to be another.
    if let Ok(mut ways) = Ways::open(address).await {
        for member in members.into_iter().filter(is_another).take(ROUTES_MAX) {
            let by = ways.to(member.address).await;
            routes.push(Route { host: member.name, address: member.address, by });
        }
    }
    ReversePath {
        // The kernel takes the larger of the two (ip-sysctl.rst).
        filter: own("all").max(own(&underlay.name)),
        is_stub: underlay.is_stub,
        interface: underlay.name,
        routes,
    }
}

async fn neighbours(host: &Host, handle: &Handle, family: AddressFamily) -> Neighbours {
    let (name, folder, statistics) = match family {
        AddressFamily::Inet6 => ("IPv6", "ipv6", "/proc/net/stat/ndisc_cache"),
        _ => ("IPv4", "ipv4", "/proc/net/stat/arp_cache"),
    };
    let listed = handle.neighbours().get().set_address_family(family).execute();
    let listed: Option<Vec<NeighbourMessage>> = listed.try_collect().await.ok();
    let is_permanent = |n: &&NeighbourMessage| n.header.state == NeighbourState::Permanent;
    let is_held = |n: &&NeighbourMessage| n.header.state != NeighbourState::Noarp;
    let count = |list: &Vec<NeighbourMessage>| {
        let permanent = list.iter().filter(is_permanent).count();
        (permanent, list.iter().filter(is_held).count() - permanent)
    };
    let release = nix::sys::utsname::uname().map(|name| name.release().to_owned());
    Neighbours {
        family: name,
        folder,
        limit: number(&format!("net/{folder}/neigh/default/gc_thresh3")),
        counted: listed.as_ref().map(count),
        to_come: host.diagnosis().await.map_or(0, |d| d.remote_addresses),
        full: fs::read_to_string(statistics).ok().and_then(|text| judge::times_full(&text)),
        release: release.unwrap_or_default().to_string_lossy().into_owned(),
    }
}
