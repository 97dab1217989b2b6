//! What went through the devices, as the kernel counts it.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, Stats64},
};

use crate::{ApplyError, Dataplane, netlink::Kernel, observe::Link, plan};

/// Counters of one vxlan device of ours, since it was made (`IFLA_STATS64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// VNI of its network.
    pub vni: u32,
    /// Index of the device: one that was made anew has another.
    pub index: u32,
    /// What came out of the tunnel.
    pub received: Flow,
    /// What went into it.
    pub sent: Flow,
}

/// One direction. Bytes are those of the inner frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Frames that were not delivered or not sent: there was no row, no route or no room for them.
    pub dropped: u64,
    /// Frames that were broken, or that the underlay did not take.
    pub errors: u64,
}

impl Dataplane {
    /// The counters of all our devices.
    pub async fn traffic(&self) -> Result<Vec<Traffic>, ApplyError> {
        let mut kernel = self.kernel.lock().await;
        let read = ApplyError::netlink("read the counters of the devices");
        kernel.traffic().await.map_err(read)
    }
}

impl Kernel {
    async fn traffic(&mut self) -> Result<Vec<Traffic>, crate::error::NetlinkError> {
        let mut message = LinkMessage::default();
        let filter = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan)]);
        message.attributes.push(filter);
        let answers = self.socket.dump(RouteNetlinkMessage::GetLink(message)).await?;
        Ok(answers.into_iter().filter_map(read).collect())
    }
}

/// `None`: not a device of ours.
fn read(answer: RouteNetlinkMessage) -> Option<Traffic> {
    let RouteNetlinkMessage::NewLink(message) = &answer else {
        return None;
    };
    let counters = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(counters) => Some(*counters),
        _ => None,
    });
    let counters: Stats64 = counters?;
    let link = Link::read(answer)?;
    let received = Flow {
        packets: counters.rx_packets,
        bytes: counters.rx_bytes,
        dropped: counters.rx_dropped,
        errors: counters.rx_errors,
    };
    let sent = Flow {
        packets: counters.tx_packets,
        bytes: counters.tx_bytes,
        dropped: counters.tx_dropped,
        errors: counters.tx_errors,
    };
    Some(Traffic { vni: plan::owned_vni(&link)?, index: link.index, received, sent })
}
