//! The part of a pass that makes and changes a network's device, and says what stands in its way.

use std::io;

use netlink_packet_route::link::InfoKind;
use nix::errno::Errno;

use crate::{
    ApplyError, DesiredNetwork, difference,
    error::NetlinkError,
    netlink::Removal,
    observe::{Kind, Link},
    pass::Pass,
    plan::{self, Have, Op, Setting},
};

impl Pass<'_> {
    /// Either the device is gone afterwards, or it is marked as one that has to stay.
    pub(crate) async fn replace(&mut self, want: &DesiredNetwork, have: &mut Have) {
        let result = self.removal(want.vni, have, &Op::ReplaceDevice).await;
        match result {
            Ok(Removal::Done) => {
                let op = Op::ReplaceDevice;
                let mended = || difference::on_host(Some(want), want.vni, have, &op);
                self.report.count(op.kind(), mended);
                *have = Have::default();
            }
            Ok(Removal::InUse) => {
                have.pinned = true;
                self.fail_network(want.vni, in_use(want, have.device.as_ref()));
            }
            Err(error) => {
                have.pinned = true;
                self.fail_network(want.vni, error);
            }
        }
    }

    /// The new device; `None` when it failed.
    pub(crate) async fn create_device(&mut self, want: &DesiredNetwork) -> Option<Link> {
        match self.try_create_device(want).await {
            Ok(link) => {
                let device = plan::device_name(want.vni);
                tracing::info!(%device, network = %want.name, "device created");
                self.note(want, &Have::default(), &Op::CreateDevice, Ok(()));
                Some(link)
            }
            Err(error) => {
                self.fail_network(want.vni, error);
                None
            }
        }
    }

    async fn try_create_device(&mut self, want: &DesiredNetwork) -> Result<Link, ApplyError> {
        let name = plan::device_name(want.vni);
        if let Err(error) = self.kernel.create_device(want).await {
            return Err(self.explain(want, error).await);
        }
        let find = ApplyError::netlink(format!("find {name} after it was created"));
        let device = self.kernel.link(&name).await.map_err(find)?;
        let Some(mut device) = device else {
            return Err(ApplyError::NoSuchInterface(name));
        };
        self.refuse_advertisements(want).await;
        if plan::wants_ipv6(want) {
            device.quiet.ipv6 = Some(self.enable_ipv6(want, &device).await);
        }
        if let Err(error) = self.kernel.set_device(Setting::Up, want).await {
            let explained = self.explain(want, error).await;
            // New, so nothing hangs on it.
            let _ = self.kernel.delete_link(device.index).await;
            return Err(explained);
        }
        Ok(device)
    }

    pub(crate) async fn set_device(
        &mut self,
        want: &DesiredNetwork,
        have: &Have,
        setting: Setting,
    ) {
        let op = Op::SetDevice(setting);
        if setting == Setting::NoRouterAdvertisement {
            if self.refuse_advertisements(want).await {
                self.note(want, have, &op, Ok(()));
            }
            return;
        }
        let what = format!("change {setting:?} of {}", plan::device_name(want.vni));
        let result = self.kernel.set_device(setting, want).await;
        self.note(want, have, &op, result.map_err(ApplyError::netlink(what)));
    }

    /// Whether the device takes IPv6 rows afterwards. If not, the network is reported; the rest of it
    /// goes on.
    pub(crate) async fn enable_ipv6(&mut self, want: &DesiredNetwork, device: &Link) -> bool {
        if device.quiet.ipv6 == Some(true) {
            return true;
        }
        let Err(error) = self.kernel.set_device(Setting::Ipv6, want).await else {
            return true;
        };
        let (ifname, place) = (device.name.clone(), "on this host".to_owned());
        let error = match error {
            NetlinkError::Socket(source) => ApplyError::no_ipv6(ifname, place, want.mtu, source),
            error => ApplyError::netlink(format!("turn IPv6 on on {ifname}"))(error),
        };
        self.fail_network(want.vni, error);
        false
    }

    /// Not worth a failure: the nftables rule drops router advertisements too. False: /proc/sys is
    /// read-only here, or IPv6 is off.
    async fn refuse_advertisements(&mut self, want: &DesiredNetwork) -> bool {
        let setting = Setting::NoRouterAdvertisement;
        let Err(error) = self.kernel.set_device(setting, want).await else {
            return true;
        };
        let is_off =
            matches!(&error, NetlinkError::Socket(e) if e.kind() == io::ErrorKind::NotFound);
        let warning = "could not set accept_ra of ovl-* to 0 in /proc/sys/net/ipv6/conf: make it writable for the agent";
        if !is_off && !self.warnings.iter().any(|w| w == warning) {
            self.warnings.push(warning.to_owned());
        }
        false
    }

    /// Names what is in the way of a device.
    async fn explain(&mut self, want: &DesiredNetwork, error: NetlinkError) -> ApplyError {
        let device = plan::device_name(want.vni);
        let is_there = match error.errno() {
            Some(Errno::EEXIST) => matches!(self.kernel.link(&device).await, Ok(Some(_))),
            Some(Errno::EADDRINUSE) => false,
            _ => return ApplyError::netlink(format!("create {device}"))(error),
        };
        if is_there {
            let place = "on this host".to_owned();
            return ApplyError::NameTaken { ifname: device, place };
        }
        let all = self.kernel.links(Some(InfoKind::Vxlan)).await;
        let mut others = all.unwrap_or_default();
        others.retain(|link| link.name != device);
        obstacle(want, &others, error.errno() == Some(Errno::EEXIST))
    }
}

/// What of `others` keeps a device from being made (`exists`), or its port from being bound.
fn obstacle(want: &DesiredNetwork, others: &[Link], exists: bool) -> ApplyError {
    let device = plan::device_name(want.vni);
    let (vni, port) = (want.vni, want.port);
    let find = |external: bool| {
        others.iter().find(|link| match &link.kind {
            Kind::Vxlan(v) => {
                v.port == port && v.external == external && (external || v.vni == vni)
            }
            Kind::Macvlan { .. } | Kind::Other => false,
        })
    };
    match (find(false), find(true), exists) {
        (Some(other), _, _) => {
            ApplyError::VniTaken { foreign: other.name.clone(), device, vni, port }
        }
        (None, Some(other), _) => {
            ApplyError::PortTaken { foreign: other.name.clone(), device, port }
        }
        (None, None, true) => ApplyError::VniTakenElsewhere { device, vni, port },
        (None, None, false) => ApplyError::PortInUse { device, port },
    }
}

fn in_use(want: &DesiredNetwork, device: Option<&Link>) -> ApplyError {
    let have = match device.map(|d| &d.kind) {
        Some(Kind::Vxlan(vxlan)) => vxlan.port,
        _ => 0,
    };
    ApplyError::DeviceInUse { device: plan::device_name(want.vni), have, want: want.port }
}
