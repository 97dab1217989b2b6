//! Sees one end of a way on its own host. Nothing is changed, and no look waits for another's pass.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use ovl_vxlan::netns::{self, NetnsId};
use ovl_vxlan::{InterfaceKind, Lookup, Mac, Observer};

use super::facts::{
    Container, Device, End, Fdb, Held, Inside, Interface, Other, Outer, Route, Row, Rows, Seen,
    Vxlan,
};
use super::judge::own_address;
use super::select::name;
use crate::chain;
use crate::core::trace::{Ends, Here, Known, Place};
use crate::underlay;

/// How long one look may take: the kernel answers in milliseconds.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Programs of a namespace that are named; the others are counted.
const PROGRAMS_MAX: usize = 4;

/// Start of the alias of an endpoint's interface, before its id.
const ALIAS: &str = "ovl endpoint ";

/// The other end, as far as the host of this one has to know.
#[derive(Clone, Debug)]
pub(crate) struct Toward {
    pub(crate) address: IpAddr,
    pub(crate) mac: Mac,
    /// Where its packets go; none: it is on the same host.
    pub(crate) vtep: Option<Ipv4Addr>,
}

/// What the host holds of an endpoint, and of the way from it to the other one.
pub(crate) async fn end(ends: &Ends, own: Option<&Known>, toward: &Toward) -> End {
    let network = own.map(|own| &own.network).or(ends.around.first());
    let (vni, mtu) = network.map_or((0, 0), |network| (network.vni, network.mtu));
    let mut end = End {
        host: ends.node.clone(),
        version: crate::VERSION.to_owned(),
        vtep: ends.vtep,
        port: ends.vxlan_port,
        vni,
        mtu,
        held: own.and_then(held),
        troubles: ends.troubles.clone(),
        device: Err("it was not looked at".to_owned()),
        inside: None,
        rows: None,
        outer: None,
        other: other(ends, own, toward),
    };
    let device = in_time("the host's interfaces", host(&mut end, toward)).await;
    let index = match device {
        Ok(index) => index,
        Err(why) => {
            end.device = Err(why);
            None
        }
    };
    let here = own.and_then(|own| match &own.place {
        Place::Here(here) => Some((own, here)),
        Place::There(_) => None,
    });
    if let Some((own, here)) = here
        && let Some(netns) = &here.netns
    {
        let what = format!("the interfaces in {}", netns.display());
        end.inside = Some(in_time(&what, inside(own, here, netns, index, toward)).await);
    }
    end
}

async fn in_time<T>(what: &str, look: impl Future<Output = Seen<T>>) -> Seen<T> {
    tokio::time::timeout(LOOK_WITHIN, look).await.unwrap_or_else(|_| {
        Err(format!("{what} were not told by the kernel within {} s", LOOK_WITHIN.as_secs()))
    })
}

fn held(own: &Known) -> Option<Held> {
    let Place::Here(here) = &own.place else {
        return None;
    };
    let container = match (&here.container, here.docker, here.docker_heard) {
        (Some(id), _, _) => Container::Docker(id.clone()),
        (None, true, true) => Container::Gone,
        (None, true, false) => Container::Unheard,
        (None, false, _) => Container::Attached,
    };
    Some(Held {
        id: own.id.clone(),
        name: name(own).to_owned(),
        addresses: std::iter::once(own.ipv4.into()).chain(own.ipv6.map(IpAddr::V6)).collect(),
        mac: own.mac.to_string(),
        phase: here.phase.clone(),
        is_up: here.is_up,
        netns: here.netns.clone(),
        ifname: here.ifname.clone(),
        container,
    })
}

/// What this host knows of who holds the other address.
fn other(ends: &Ends, own: Option<&Known>, toward: &Toward) -> Option<Other> {
    let network = own.map(|own| own.network.id);
    let is_it = |known: &&Known| {
        network.is_none_or(|id| known.network.id == id)
            && own_address(known, toward.address) == Some(toward.address)
    };
    let known = ends.to.iter().filter(is_it).max_by_key(|known| known.generation)?;
    let there = match &known.place {
        Place::There(there) => Some(there),
        Place::Here(_) => None,
    };
    Some(Other {
        host: known.host.clone(),
        mac: known.mac.to_string(),
        vtep: there.map(|there| there.vtep),
        state: there.map(|there| super::judge::state(there).to_owned()),
        absence: there.map_or(super::facts::Absence::None, |there| there.absence.into()),
        heard: there.and_then(|there| there.heard).map(|heard| heard.as_secs()),
        rivals: known.rivals.iter().map(|(host, _)| host.clone()).collect(),
    })
}

/// Device, rows and underlay. The answer is the device's index.
async fn host(end: &mut End, toward: &Toward) -> Seen<Option<u32>> {
    let failed = |error: ovl_vxlan::ApplyError| chain(&error);
    let mut observer = Observer::open().map_err(|error| chain(&error))?;
    let interfaces = observer.interfaces().await.map_err(failed)?;
    let device_name = format!("ovl-{}", end.vni);
    let device = interfaces.iter().find(|interface| interface.name == device_name);
    end.device = Ok(device.map(device_of));
    if let Some(device) = device {
        end.rows = Some(rows(&mut observer, device.index, toward).await);
    }
    if let Some(vtep) = toward.vtep {
        end.outer = Some(outer(&mut observer, &interfaces, end.vtep, vtep).await);
    }
    Ok(device.map(|device| device.index))
}

fn device_of(interface: &ovl_vxlan::Interface) -> Device {
    let vxlan = match &interface.kind {
        InterfaceKind::Vxlan(vxlan) => Some(Vxlan {
            vni: vxlan.vni,
            port: vxlan.port,
            local: vxlan.local,
            proxy: vxlan.proxy,
            learning: vxlan.learning,
        }),
        InterfaceKind::Macvlan { .. } | InterfaceKind::Other => None,
    };
    Device { name: interface.name.clone(), up: interface.up, mtu: interface.mtu, vxlan }
}

async fn rows(observer: &mut Observer, device: u32, toward: &Toward) -> Seen<Rows> {
    let failed = |error: ovl_vxlan::ApplyError| chain(&error);
    let neighbour = observer.neighbour(device, toward.address).await.map_err(failed)?;
    let fdb = observer.fdb(device, toward.mac).await.map_err(failed)?;
    let fdb = fdb.into_iter().map(|row| Fdb { vtep: row.vtep, plain: row.plain }).collect();
    Ok(Rows { neighbour: neighbour.map(row), fdb })
}

fn row(row: ovl_vxlan::Neighbour) -> Row {
    Row { mac: row.mac.map(|mac| mac.to_string()), permanent: row.permanent, valid: row.valid }
}

async fn outer(
    observer: &mut Observer,
    interfaces: &[ovl_vxlan::Interface],
    own: Ipv4Addr,
    other: Ipv4Addr,
) -> Seen<Outer> {
    let failed = |error: ovl_vxlan::ApplyError| chain(&error);
    let holds = |interface: &&ovl_vxlan::Interface| {
        interface.addresses.iter().any(|net| net.addr() == IpAddr::V4(own))
    };
    let holder = interfaces.iter().find(holds).map(|interface| interface.name.clone());
    // As VXLAN looks it up: from the device's own source.
    let found = observer.route(other.into(), Some(own.into())).await.map_err(failed)?;
    let by = match &found {
        Lookup::Route(route) => interfaces.iter().find(|i| Some(i.index) == route.device),
        Lookup::Refused(_) => None,
    };
    let mut route = looked_up(found, interfaces);
    if let Ok(route) = &mut route {
        route.source = preferred(observer, other).await;
    }
    let (up, carrier) = by.map_or((true, true), |by| (by.up, by.carrier));
    let stub = underlay::holder(own).is_some_and(|holder| holder.is_stub);
    Ok(Outer { holder, stub, route, up, carrier })
}

/// The source of the host's own packets.
async fn preferred(observer: &mut Observer, to: Ipv4Addr) -> Option<IpAddr> {
    match observer.route(to.into(), None).await {
        Ok(Lookup::Route(route)) => route.source,
        Ok(Lookup::Refused(_)) | Err(_) => None,
    }
}

fn looked_up(found: Lookup, interfaces: &[ovl_vxlan::Interface]) -> Result<Route, String> {
    let route = match found {
        Lookup::Route(route) => route,
        Lookup::Refused(why) => return Err(why.to_string()),
    };
    let device = interfaces.iter().find(|interface| Some(interface.index) == route.device);
    let own = device.map_or(u32::MAX, |device| device.mtu);
    Ok(Route {
        is_local: route.is_local,
        device: device.map_or_else(|| "nowhere".to_owned(), |device| device.name.clone()),
        gateway: route.gateway,
        source: route.source,
        mtu: route.mtu.map_or(own, |mtu| mtu.min(own)),
    })
}

/// The namespace of an endpoint. `device`: index of its network's device.
async fn inside(
    own: &Known,
    here: &Here,
    netns: &Path,
    device: Option<u32>,
    toward: &Toward,
) -> Seen<Inside> {
    let failed = |error: ovl_vxlan::ApplyError| chain(&error);
    let id = netns::identify(netns).map_err(|error| chain(&error))?;
    let mut observer = Observer::open_in(netns).await.map_err(|error| chain(&error))?;
    let interfaces = observer.interfaces().await.map_err(failed)?;
    let found = observer.route(toward.address, None).await.map_err(failed)?;
    let interface = own_interface(own, here, device, &interfaces);
    let neighbour = match interface {
        Some(own) => observer.neighbour(own.index, toward.address).await.map_err(failed)?,
        None => None,
    };
    drop(observer);
    let same_address = interfaces.iter().filter_map(|interface| {
        let own = interface.addresses.iter().find(|net| net.addr() == toward.address)?;
        Some((interface.name.clone(), *own))
    });
    let same_address = same_address.collect();
    let (pids, programs) =
        tokio::task::spawn_blocking(move || programs(id)).await.unwrap_or_default();
    Ok(Inside {
        interface: interface.map(|interface| interface_of(interface, device)),
        same_address,
        route: looked_up(found, &interfaces),
        neighbour: neighbour.map(row),
        processes: pids.len(),
        first_pid: pids.first().copied(),
        programs,
    })
}

/// By the mark that the agent put on it; else by what it hangs on and its MAC; else by its name.
fn own_interface<'a>(
    own: &Known,
    here: &Here,
    device: Option<u32>,
    interfaces: &'a [ovl_vxlan::Interface],
) -> Option<&'a ovl_vxlan::Interface> {
    let is_marked = |i: &&ovl_vxlan::Interface| i.alias.strip_prefix(ALIAS) == Some(&own.id);
    let is_child = |i: &&ovl_vxlan::Interface| hangs_on(i, device) && i.mac == Some(own.mac);
    let is_named = |i: &&ovl_vxlan::Interface| here.ifname.as_ref() == Some(&i.name);
    interfaces
        .iter()
        .find(is_marked)
        .or_else(|| interfaces.iter().find(is_child))
        .or_else(|| interfaces.iter().find(is_named))
}

fn hangs_on(interface: &ovl_vxlan::Interface, device: Option<u32>) -> bool {
    match interface.kind {
        InterfaceKind::Macvlan { parent } => Some(parent) == device,
        InterfaceKind::Vxlan(_) | InterfaceKind::Other => false,
    }
}

fn interface_of(interface: &ovl_vxlan::Interface, device: Option<u32>) -> Interface {
    Interface {
        name: interface.name.clone(),
        up: interface.up,
        mtu: interface.mtu,
        mac: interface.mac.map(|mac| mac.to_string()),
        addresses: interface.addresses.clone(),
        on_device: hangs_on(interface, device),
    }
}

/// The programs that run in a network namespace, and the names of some.
fn programs(id: NetnsId) -> (Vec<u32>, Vec<String>) {
    let mut found = Vec::new();
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path();
        if netns::identify(&path.join("ns/net")).ok() != Some(id) {
            continue;
        }
        pids.push(pid);
        if found.len() < PROGRAMS_MAX {
            let command = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            found.push(format!("{} ({pid})", command.trim()));
        }
    }
    (pids, found)
}
