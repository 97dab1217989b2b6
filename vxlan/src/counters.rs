//! What passed through the devices of this host: read only, for those who want to see it live.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, Stats64},
};

use crate::{ApplyError, OpenError, netlink::Kernel, observe::Link, plan};

/// Counters of one interface since it was made (`IFLA_STATS64`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Its index: one that was made anew has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Of a device of ours: its VXLAN network identifier.
    pub vni: Option<u32>,
    /// What came in: on a vxlan device, from other hosts to containers here.
    pub rx: Passed,
    /// What went out.
    pub tx: Passed,
}

/// What passed one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// In packets.
    pub packets: u64,
    /// In bytes: of a vxlan device those of the inner frames.
    pub bytes: u64,
    /// Packets that were broken, or could not be sent.
    pub errors: u64,
    /// Packets for which there was no room or no way.
    pub dropped: u64,
}

/// Counters of the devices of ours, and of the interface `underlay` if it is there, in the network
/// namespace of the calling thread. Needs a tokio runtime with IO and time, and `CAP_NET_ADMIN`.
///
/// # Errors
/// The kernel cannot be asked, or does not answer.
pub async fn link_counters(underlay: Option<&str>) -> Result<Vec<LinkCounters>, CountersError> {
    let mut kernel = Kernel::open().map_err(OpenError::from)?;
    let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let read = ApplyError::netlink("read the counters of interfaces");
    let answers = kernel.socket.dump(all).await.map_err(read)?;
    let found = answers.into_iter().filter_map(|answer| counters(answer, underlay));
    Ok(found.collect())
}

/// Why there are no counters.
#[derive(Debug, thiserror::Error)]
pub enum CountersError {
    /// There is no netlink socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel refused.
    #[error(transparent)]
    Read(#[from] ApplyError),
}

fn counters(answer: RouteNetlinkMessage, underlay: Option<&str>) -> Option<LinkCounters> {
    let RouteNetlinkMessage::NewLink(message) = &answer else {
        return None;
    };
    let stats = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(*stats),
        _ => None,
    })?;
    let link = Link::read(answer)?;
    let vni = plan::owned_vni(&link);
    let wanted = vni.is_some() || underlay == Some(link.name.as_str());
    let (index, name, rx, tx) = (link.index, link.name, received(&stats), sent(&stats));
    wanted.then_some(LinkCounters { index, name, vni, rx, tx })
}

fn received(stats: &Stats64) -> Passed {
    let Stats64 { rx_packets, rx_bytes, rx_errors, rx_dropped, .. } = *stats;
    Passed { packets: rx_packets, bytes: rx_bytes, errors: rx_errors, dropped: rx_dropped }
}

fn sent(stats: &Stats64) -> Passed {
    let Stats64 { tx_packets, tx_bytes, tx_errors, tx_dropped, .. } = *stats;
    Passed { packets: tx_packets, bytes: tx_bytes, errors: tx_errors, dropped: tx_dropped }
}
