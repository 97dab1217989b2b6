//! The VXLAN devices of this network namespace, read over rtnetlink.
use std::time::Duration;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{
    InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::VxlanDevice;

/// Longest wait for the kernel's answer; it takes milliseconds with thousands of links.
const PATIENCE: Duration = Duration::from_secs(3);

/// Lists them; the error is a sentence for people. Needs a tokio runtime with IO and time.
pub(crate) async fn vxlan_devices() -> Result<Vec<VxlanDevice>, String> {
    let opened = rtnetlink::new_connection();
    let (connection, handle, _) = opened.map_err(|error| format!("no netlink socket: {error}"))?;
    let task = tokio::spawn(connection);
    let links = handle.link().get().execute().try_collect::<Vec<LinkMessage>>();
    let links = tokio::time::timeout(PATIENCE, links).await;
    task.abort();
    match links {
        Ok(Ok(links)) => Ok(links.iter().filter_map(device).collect()),
        Ok(Err(error)) => Err(format!("netlink: {error}")),
        Err(_) => Err("the kernel did not answer in time".to_owned()),
    }
}

/// None: not a VXLAN device.
fn device(link: &LinkMessage) -> Option<VxlanDevice> {
    let options = link.attributes.iter().find_map(vxlan_options)?;
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let up = link.header.flags.contains(LinkFlags::Up);
    let moved = link.attributes.iter().any(|a| matches!(a, LinkAttribute::LinkNetNsId(_)));
    let mut device = VxlanDevice { name, vni: 0, port: 0, up, moved, alone: None };
    for option in options {
        match option {
            InfoVxlan::Id(vni) => device.vni = *vni,
            InfoVxlan::Port(port) => device.port = *port,
            other => device.alone = device.alone.or(keeps_alone(other)),
        }
    }
    Some(device)
}

fn vxlan_options(attribute: &LinkAttribute) -> Option<&Vec<InfoVxlan>> {
    let LinkAttribute::LinkInfo(infos) = attribute else {
        return None;
    };
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(options)) => Some(options),
        _ => None,
    })
}

/// The options that must agree among devices that share a socket: `VXLAN_F_RCV_FLAGS` of the
/// kernel's net/vxlan.h. Ours have none of them.
fn keeps_alone(option: &InfoVxlan) -> Option<&'static str> {
    match option {
        InfoVxlan::CollectMetadata(true) => Some("external"),
        InfoVxlan::Vnifilter(true) => Some("vnifilter"),
        InfoVxlan::Gbp => Some("gbp"),
        InfoVxlan::Gpe => Some("gpe"),
        InfoVxlan::UDPZeroCsumRX(true) => Some("udp6zerocsumrx"),
        InfoVxlan::RemCsumRX(true) => Some("remcsumrx"),
        _ => None,
    }
}
