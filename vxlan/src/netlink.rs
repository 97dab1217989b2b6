//! The one place that changes kernel network state: each operation of a plan becomes its messages
//! here, and nothing is sent to change anything from elsewhere.

use std::{io, os::fd::BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_route::{RouteNetlinkMessage, link::MacVlanMode};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use rtnetlink::{LinkMacVlan, LinkUnspec, LinkVxlan};

use crate::{
    DesiredNetwork, Mac,
    error::{KernelError, NetlinkError},
    message::{
        address_message, child_message, conf_key, new_link, row_request, set_link, setting_request,
    },
    netns::{Namespace, NetnsError},
    nft,
    observe::Kind,
    plan::{self, Setting},
    rows::RowOp,
    socket::{Netlink, Request},
};

/// One network namespace, for reading and for changing it.
pub(crate) struct Kernel {
    pub(crate) socket: Netlink,
}

/// Where a new macvlan is to be.
#[derive(Debug)]
pub(crate) struct NewChild<'a> {
    pub(crate) ifname: &'a str,
    /// Index of the device it hangs on, in the namespace of the [`Kernel`].
    pub(crate) device: u32,
    pub(crate) mac: Mac,
    pub(crate) mtu: u16,
}

/// Whether a device could be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Done,
    /// Something hangs on it, in this namespace or in another.
    InUse,
}

impl Kernel {
    /// In the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Netlink::open(NETLINK_ROUTE)?;
        Ok(Self { socket })
    }

    /// In another namespace. The socket keeps it alive: to be dropped soon.
    pub(crate) async fn open_in(namespace: &Namespace) -> Result<Self, NetnsError> {
        let opened = namespace.inside(Self::open).await?;
        opened.map_err(|source| NetnsError::Enter { path: namespace.path().to_owned(), source })
    }

    // ---- devices ----

    /// Makes a network's device, down.
    pub(crate) async fn create_device(
        &mut self,
        network: &DesiredNetwork,
    ) -> Result<(), NetlinkError> {
        let name = plan::device_name(network.vni);
        let create = LinkVxlan::new(&name, network.vni)
            .address(plan::device_mac(network.local).0.to_vec())
            .mtu(network.mtu.into())
            .local(network.local)
            .port(network.port)
            .learning(false)
            .proxy(true)
            .build();
        self.socket.request(new_link(create)).await?;
        // Not in one write with it: had the kernel refused, they would change another's device.
        let settings = [Setting::Alias, Setting::NoArpReply, Setting::NoIpv6Address];
        let settings = settings.into_iter();
        let requests = settings.filter_map(|s| setting_request(s, network));
        let results = self.socket.batch(requests.collect()).await?;
        let mut results = results.into_iter();
        Ok(results.try_for_each(|result| result.or_else(ignore_no_ipv6))?)
    }

    /// Changes a setting of a network's device.
    pub(crate) async fn set_device(
        &mut self,
        setting: Setting,
        network: &DesiredNetwork,
    ) -> Result<(), NetlinkError> {
        if let Some(key) = conf_key(setting) {
            let name = plan::device_name(network.vni);
            return clear_ipv6_conf(&name, key).map_err(NetlinkError::Socket);
        }
        let Some(request) = setting_request(setting, network) else {
            return Ok(());
        };
        match self.socket.request(request).await {
            Err(NetlinkError::Kernel(refused)) => Ok(ignore_no_ipv6(refused)?),
            result => result,
        }
    }

    /// Removes a device, unless anything hangs on it.
    ///
    /// Children in other namespaces cannot be seen from here. But the kernel refuses a passthru
    /// macvlan (EINVAL) on a device that has any macvlan, wherever that one is, and refuses other
    /// macvlans while there is one: so it tells, and then guards the device until it is removed,
    /// which takes it along. A bridge port or another user of the device's frames is told by EBUSY.
    pub(crate) async fn delete_idle_device(
        &mut self,
        vni: u32,
        index: u32,
    ) -> Result<Removal, NetlinkError> {
        let name = plan::probe_name(vni);
        // A pass that was cut off may have left its probe behind, which would be in the way.
        if let Some(left) = self.link(&name).await?
            && left.kind == (Kind::Macvlan { parent: index })
        {
            self.delete_link(left.index).await?;
        }
        let probe = LinkMacVlan::new(&name, index, MacVlanMode::Passthrough).build();
        match self.socket.request(new_link(probe)).await {
            Ok(()) => {}
            Err(e) => match e.errno() {
                Some(Errno::EINVAL | Errno::EBUSY) => return Ok(Removal::InUse),
                Some(Errno::ENODEV) => return Ok(Removal::Done),
                _ => return Err(e),
            },
        }
        self.delete_link(index).await?;
        Ok(Removal::Done)
    }

    // ---- rows ----

    /// Changes rows in order. The result has one entry for each.
    pub(crate) async fn change_rows(
        &mut self,
        device: u32,
        rows: &[RowOp],
    ) -> Result<Vec<Result<(), KernelError>>, NetlinkError> {
        let requests = rows.iter().map(|row| row_request(device, row)).collect();
        let mut results = self.socket.batch(requests).await?;
        for (row, result) in rows.iter().zip(&mut results) {
            let is_removal = matches!(row, RowOp::DeleteFdb { .. } | RowOp::DeleteNeighbour { .. });
            if is_removal && matches!(result, Err(e) if e.errno == Errno::ENOENT) {
                *result = Ok(());
            }
        }
        Ok(results)
    }

    // ---- interfaces of endpoints ----

    /// Makes a macvlan in this namespace, with the alias of its endpoint.
    pub(crate) async fn create_child(
        &mut self,
        child: &NewChild<'_>,
        endpoint: &str,
    ) -> Result<(), NetlinkError> {
        let message = child_message(child).build();
        self.socket.request(new_link(message)).await?;
        let alias = plan::endpoint_alias(endpoint);
        let link = LinkUnspec::new_with_name(child.ifname).alias(alias);
        self.socket.request(set_link(link.build())).await
    }

    /// Makes a macvlan in another namespace.
    pub(crate) async fn create_child_in(
        &mut self,
        child: &NewChild<'_>,
        namespace: &Namespace,
    ) -> Result<(), NetlinkError> {
        let message = child_message(child).setns_by_fd(namespace.raw_fd()).build();
        self.socket.request(new_link(message)).await
    }

    /// Names the endpoint that an interface serves.
    pub(crate) async fn set_alias(
        &mut self,
        index: u32,
        endpoint: &str,
    ) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(index).alias(plan::endpoint_alias(endpoint));
        self.socket.request(set_link(link.build())).await
    }

    /// Also on an interface that is up: a macvlan allows it.
    pub(crate) async fn set_mac(&mut self, index: u32, mac: Mac) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(index).address(mac.0.to_vec());
        self.socket.request(set_link(link.build())).await
    }

    pub(crate) async fn set_mtu(&mut self, index: u32, mtu: u16) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(index).mtu(mtu.into());
        self.socket.request(set_link(link.build())).await
    }

    pub(crate) async fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let link = LinkUnspec::new_with_index(index).up();
        self.socket.request(set_link(link.build())).await
    }

    /// Turns IPv6 on on an interface in another namespace.
    pub(crate) async fn enable_ipv6_in(
        namespace: &Namespace,
        ifname: String,
    ) -> Result<io::Result<()>, NetnsError> {
        namespace.inside(move || clear_ipv6_conf(&ifname, "disable_ipv6")).await
    }

    /// Removes an interface; that it is gone already is fine.
    pub(crate) async fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).build();
        let request = Request::new(RouteNetlinkMessage::DelLink(message), 0);
        ignore(Errno::ENODEV, self.socket.request(request).await)
    }

    /// Adds an address; that it is there already is fine.
    pub(crate) async fn add_address(
        &mut self,
        index: u32,
        address: IpNet,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
        let request = Request::new(message, NLM_F_CREATE | NLM_F_EXCL);
        ignore(Errno::EEXIST, self.socket.request(request).await)
    }

    /// Removes an address; that it is gone already is fine.
    pub(crate) async fn delete_address(
        &mut self,
        index: u32,
        address: IpNet,
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, address));
        let result = self.socket.request(Request::new(message, 0)).await;
        ignore(Errno::EADDRNOTAVAIL, result)
    }
}

/// The table that keeps overlay traffic out of the host's IP stack, in the namespace of the
/// calling thread.
pub(crate) struct Firewall {
    socket: Netlink,
}

impl Firewall {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Netlink::open(NETLINK_NETFILTER)?;
        Ok(Self { socket })
    }

    /// Puts the table in place, at once and whatever is there.
    pub(crate) async fn install(&mut self) -> Result<(), NetlinkError> {
        self.socket.transaction(nft::install()).await
    }

    /// Takes the table away.
    pub(crate) async fn remove(&mut self) -> Result<(), NetlinkError> {
        self.socket.transaction(nft::remove()).await
    }

    /// Whether the table is there, with its rule.
    pub(crate) async fn is_installed(&mut self) -> Result<bool, NetlinkError> {
        match self.socket.dump(nft::question()).await {
            Ok(rules) => Ok(rules.iter().any(nft::is_our_rule)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An nftables table that goes with the socket that made it, in the namespace of the thread that
/// opened it.
pub(crate) struct OwnedTable {
    socket: Netlink,
}

impl OwnedTable {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Netlink::open(NETLINK_NETFILTER)?;
        Ok(Self { socket })
    }

    /// Puts the table in place, all at once or nothing.
    pub(crate) async fn install(
        &mut self,
        messages: Vec<nft::Message>,
    ) -> Result<(), NetlinkError> {
        self.socket.transaction(messages).await?;
        self.socket.rest();
        Ok(())
    }

    /// The socket itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The netlink port that owns the table which is asked for; `None`: no table, or nobody owns it.
    pub(crate) async fn owner(
        &mut self,
        question: NetfilterMessage,
    ) -> Result<Option<u32>, NetlinkError> {
        let found = self.socket.get(question).await?;
        Ok(found.as_ref().and_then(nft::owner))
    }
}

/// There is no netlink message for it. The file belongs to the namespace of the calling thread.
fn clear_ipv6_conf(ifname: &str, key: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{ifname}/{key}"), "0")
}

/// Where IPv6 is off there is nothing to be silenced.
fn ignore_no_ipv6(refused: KernelError) -> Result<(), KernelError> {
    match refused.errno {
        Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => Ok(()),
        _ => Err(refused),
    }
}

fn ignore(errno: Errno, result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(e) if e.errno() == Some(errno) => Ok(()),
        result => result,
    }
}
