//! Settings of the kernel's network that break overlays, and what of them matters here.

mod judge;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use nix::ifaddrs::getifaddrs;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::RouteAttribute;
use rtnetlink::packet_route::{AddressFamily, route::RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use self::judge::{BridgeFilter, Forward, Neighbours, ReversePath, Route};
use super::{Check, Group, Host, Look};
use crate::config::Config;
use crate::control::api::doctor::Finding;
use crate::tool::{self, Limits, ToolError};

const FORWARD: &str = "net.forward";
const BRIDGE_NF: &str = "net.bridge-nf";
const RP_FILTER: &str = "net.rp-filter";
const NEIGHBOURS: &str = "net.neighbours";

/// Hosts whose routes are looked up; further ones are taken for fine.
const ROUTES_MAX: usize = 512;

/// How long `iptables` may take.
const IPTABLES: Limits = Limits { time: Duration::from_secs(5), output: 1 << 20 };

pub(super) const GROUP: Group = Group {
    checks: &[
        Check {
            id: FORWARD,
            title: "forwarding",
            looks_at: "net.ipv4.ip_forward and the chain FORWARD of iptables",
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
    let mut findings = Vec::new();
    let (forward, underlay) = tokio::join!(forward(&config), Underlay::find(&host));
    findings.push(judge::forward(&forward));
    let netlink = rtnetlink::new_connection();
    let (connection, handle, _) = match netlink {
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
    match &underlay {
        Ok(underlay) => {
            let filter = BridgeFilter {
                on: number("net/bridge/bridge-nf-call-iptables").map(|value| value > 0),
                underlay: underlay.interface.clone(),
                is_bridge: is_bridge(&handle, &underlay.interface).await,
                drops: forward.drops(),
            };
            findings.push(judge::bridge_filter(&filter));
            findings.push(judge::reverse_path(&reverse_path(&host, &handle, underlay).await));
        }
        Err(why) => {
            findings.push(Finding::unchecked(BRIDGE_NF, why));
            findings.push(Finding::unchecked(RP_FILTER, why));
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        findings.push(judge::neighbours(&neighbours(&host, &handle, family).await));
    }
    task.abort();
    findings
}

/// A number below `/proc/sys`; none: there is no such setting.
fn number(key: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{key}")).ok()?.trim().parse().ok()
}

async fn forward(config: &Config) -> Forward {
    let rules = match tool::run(&["iptables", "-w", "2", "-S", "FORWARD"], IPTABLES).await {
        Ok(said) => Ok(said.text.lines().map(str::to_owned).collect::<Vec<_>>()),
        // No iptables, no policy of it.
        Err(ToolError::Missing(_)) => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    };
    let docker = config.docker_host.strip_prefix("unix://");
    Forward {
        ip_forward: number("net/ipv4/ip_forward").map(|value| value > 0),
        rules,
        docker: docker.is_some_and(|socket| fs::exists(socket).unwrap_or(false)),
    }
}

/// The interface with the advertised address.
struct Underlay {
    address: Ipv4Addr,
    interface: String,
}

impl Underlay {
    async fn find(host: &Host) -> Result<Underlay, String> {
        let address = host.address()?;
        let interfaces = getifaddrs().map_err(|e| format!("interfaces cannot be listed: {e}"))?;
        let mut interfaces = interfaces.filter(|interface| {
            let held = interface.address.as_ref().and_then(|a| a.as_sockaddr_in());
            held.is_some_and(|held| held.ip() == address)
        });
        let interface = interfaces.next().map(|interface| interface.interface_name);
        let interface =
            interface.ok_or_else(|| format!("no interface of this host has {address}"))?;
        Ok(Underlay { address, interface })
    }
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

async fn reverse_path(host: &Host, handle: &Handle, underlay: &Underlay) -> ReversePath {
    let own = |interface: &str| number(&format!("net/ipv4/conf/{interface}/rp_filter"));
    let members = host.diagnosis().await.map(|d| d.members.clone()).unwrap_or_default();
    let others = members.into_iter().filter(|member| member.address != underlay.address);
    let names = interface_names();
    let mut routes = Vec::new();
    for member in others.take(ROUTES_MAX) {
        let index = route_to(handle, underlay.address, member.address).await;
        let by = index.and_then(|index| names.get(&index).cloned());
        routes.push(Route { host: member.name, address: member.address, by });
    }
    ReversePath {
        interface: underlay.interface.clone(),
        // The kernel takes the larger of the two (ip-sysctl.rst).
        filter: own("all").max(own(&underlay.interface)),
        routes,
    }
}

fn interface_names() -> BTreeMap<u32, String> {
    let interfaces = nix::net::if_::if_nameindex().ok();
    let named = interfaces.iter().flatten();
    named.map(|i| (i.index(), i.name().to_string_lossy().into_owned())).collect()
}

/// The index of the interface by which packets from one address to the other leave; rules by source are
/// asked, too, as the filter asks them.
async fn route_to(handle: &Handle, from: Ipv4Addr, to: Ipv4Addr) -> Option<u32> {
    let message = RouteMessageBuilder::<Ipv4Addr>::new();
    let message = message.source_prefix(from, 32).destination_prefix(to, 32).build();
    let found: Vec<RouteMessage> =
        handle.route().get(message).execute().try_collect().await.ok()?;
    found.first()?.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
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
