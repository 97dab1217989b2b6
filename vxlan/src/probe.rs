//! Can this kernel do what the data plane asks of it? Tried with the messages that the data plane
//! itself sends, in a network namespace that is thrown away.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4},
};

use crate::{
    DesiredNetwork, Mac,
    error::NetlinkError,
    netlink::{Firewall, Kernel, NewChild, OwnedTable},
    netns::{self, NetnsError},
    nft_redirect, plan,
    rows::RowOp,
};

/// What came of it. Each `Err` is what the kernel said, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// A vxlan device as networks have it, and rows on it.
    pub vxlan: Result<(), String>,
    /// A macvlan child of it; `None`: there was no vxlan device to hang it on.
    pub macvlan: Option<Result<(), String>>,
    /// An IPv6 neighbour row on the vxlan device; `None`: there was none.
    pub ipv6: Option<Result<(), String>>,
    /// The nftables table that keeps overlay traffic out of the host's IP stack.
    pub nf_tables: Result<(), String>,
    /// The table that belongs to its socket and leads DNS of a container to the agent.
    pub owned_table: Result<(), String>,
    /// Dumps of one device's rows (`NETLINK_GET_STRICT_CHK`, Linux 4.20).
    pub strict_dumps: Result<(), String>,
}

/// Sockets in the namespace, which they keep alive.
struct Sockets {
    kernel: io::Result<Kernel>,
    firewall: io::Result<Firewall>,
    owned: io::Result<OwnedTable>,
    strict: Result<(), String>,
}

/// Tries everything. The kernel may load modules for it. Takes well below a second, some seconds at
/// most where the kernel does not answer; needs a tokio runtime with IO and time. Cancel-safe.
///
/// # Errors
/// There is no namespace to try it in; mostly for want of `CAP_SYS_ADMIN`.
pub async fn probe() -> Result<Probe, NetnsError> {
    let open = || Sockets {
        kernel: Kernel::open(),
        firewall: Firewall::open(),
        owned: OwnedTable::open(),
        strict: strict_dumps(),
    };
    let Sockets { kernel, firewall, owned, strict } = netns::in_fresh(open).await?;
    let mut probe = Probe {
        vxlan: Ok(()),
        macvlan: None,
        ipv6: None,
        nf_tables: nf_tables(firewall).await.map_err(said),
        owned_table: owned_table(owned).await.map_err(said),
        strict_dumps: strict,
    };
    match kernel {
        Ok(kernel) => devices(kernel, &mut probe).await,
        Err(error) => probe.vxlan = Err(said(NetlinkError::Socket(error))),
    }
    Ok(probe)
}

async fn devices(mut kernel: Kernel, probe: &mut Probe) {
    let index = match vxlan(&mut kernel).await {
        Ok(index) => index,
        Err(error) => {
            probe.vxlan = Err(said(error));
            return;
        }
    };
    let child = NewChild { ifname: "child", device: index, mac: mac(2), mtu: 1400 };
    probe.macvlan = Some(kernel.create_child(&child, "probe").await.map_err(said));
    probe.ipv6 = Some(row(&mut kernel, index, Ipv6Addr::LOCALHOST.into()).await.map_err(said));
    // With the namespace it would go, too, a moment later.
    let _ = kernel.delete_link(index).await;
}

/// Its index.
async fn vxlan(kernel: &mut Kernel) -> Result<u32, NetlinkError> {
    let network = DesiredNetwork {
        name: "probe".to_owned(),
        vni: 1,
        local: Ipv4Addr::LOCALHOST,
        port: 4789,
        mtu: 1400,
        endpoints: BTreeMap::new(),
        remotes: BTreeMap::new(),
        settled: true,
    };
    kernel.create_device(&network).await?;
    let made = kernel.link(&plan::device_name(network.vni)).await?;
    let index = made.map(|link| link.index).unwrap_or_default();
    let fdb = RowOp::SetFdb { mac: mac(3), vtep: Ipv4Addr::new(127, 0, 0, 2) };
    for result in kernel.change_rows(index, &[fdb]).await? {
        result?;
    }
    row(kernel, index, Ipv4Addr::new(127, 0, 0, 3).into()).await?;
    Ok(index)
}

async fn row(kernel: &mut Kernel, device: u32, address: IpAddr) -> Result<(), NetlinkError> {
    let row = RowOp::SetNeighbour { address, mac: mac(3) };
    for result in kernel.change_rows(device, &[row]).await? {
        result?;
    }
    Ok(())
}

async fn nf_tables(firewall: io::Result<Firewall>) -> Result<(), NetlinkError> {
    let mut firewall = firewall.map_err(NetlinkError::Socket)?;
    firewall.install().await
}

async fn owned_table(table: io::Result<OwnedTable>) -> Result<(), NetlinkError> {
    let mut table = table.map_err(NetlinkError::Socket)?;
    let (from, to) = (Ipv4Addr::new(127, 0, 0, 11), Ipv4Addr::new(127, 0, 0, 12));
    let messages = nft_redirect::install(SocketAddrV4::new(from, 53), SocketAddrV4::new(to, 54), 1);
    let installed = table.install(messages).await;
    // The kernel takes tens of milliseconds to take it out of use again.
    let _ = tokio::task::spawn_blocking(move || drop(table)).await;
    installed
}

fn strict_dumps() -> Result<(), String> {
    let opened = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE);
    let strict = opened.and_then(|socket| socket.set_netlink_get_strict_chk(true));
    strict.map_err(|error| error.to_string())
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn said(error: NetlinkError) -> String {
    match &error {
        NetlinkError::Socket(source) => format!("{error}: {source}"),
        NetlinkError::Kernel(_) | NetlinkError::Timeout(_) | NetlinkError::Interrupted(_) => {
            error.to_string()
        }
    }
}
