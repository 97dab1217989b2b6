//! One pass: look at the host's namespace, plan each network, carry the plans out.
//!
//! A failure costs its own network or endpoint; everything else goes on.

use std::collections::BTreeMap;

use netlink_packet_route::link::InfoKind;
use nix::errno::Errno;

use crate::{
    ApplyError, Desired, DesiredNetwork, Home, MAX_REMOTES, Report,
    dataplane::Memory,
    difference,
    error::NetlinkError,
    netlink::{Kernel, NewChild, Removal},
    observe::{Kind, Link},
    plan::{self, Have, Op, Setting},
    rows::{RowOp, Rows, WantedRows},
};

/// The parts of a dataplane that a pass works on, and its report.
pub(crate) struct Pass<'a> {
    pub(crate) kernel: &'a mut Kernel,
    pub(crate) memory: &'a mut Memory,
    pub(crate) report: Report,
    pub(crate) warnings: &'a mut Vec<String>,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        kernel: &'a mut Kernel,
        memory: &'a mut Memory,
        warnings: &'a mut Vec<String>,
    ) -> Self {
        Self { kernel, memory, report: Report::default(), warnings }
    }

    /// Removals first: they may free a MAC or a name that something desired needs.
    pub(crate) async fn run(mut self, desired: &Desired) -> Report {
        let mut host = match self.look().await {
            Ok(host) => host,
            Err(error) => {
                self.fail_all(desired, &error);
                return self.report;
            }
        };
        self.clear_sandboxes(desired).await;
        for (&vni, have) in &host {
            if !desired.networks.contains_key(&vni) {
                self.remove(vni, have).await;
            }
        }
        for (vni, want) in &desired.networks {
            let have = host.remove(vni).unwrap_or_default();
            self.network(want, have).await;
        }
        self.report
    }

    /// Our devices and their children in this namespace, by VNI.
    async fn look(&mut self) -> Result<BTreeMap<u32, Have>, NetlinkError> {
        let devices = self.kernel.links(Some(InfoKind::Vxlan)).await?;
        let children = self.kernel.links(Some(InfoKind::MacVlan)).await?;
        let host = owned(devices, &children);
        let is_there = |index: &u32| {
            let indexes = host.values().filter_map(|h| h.device.as_ref());
            indexes.into_iter().any(|d| d.index == *index)
        };
        self.memory.rows.retain(|index, _| is_there(index));
        Ok(host)
    }

    fn fail_all(&mut self, desired: &Desired, error: &NetlinkError) {
        tracing::warn!(%error, "could not read the interfaces of this host");
        for &vni in desired.networks.keys() {
            let failure = ApplyError::netlink("read the interfaces of this host")(error.clone());
            self.report.failed_networks.insert(vni, failure);
        }
        desired.networks.values().for_each(|network| self.fail_endpoints(network));
    }

    /// Rids the host of a network that is not desired, unless something hangs on its device.
    async fn remove(&mut self, vni: u32, have: &Have) {
        for op in plan::removal(have) {
            match self.removal(vni, have, &op).await {
                Ok(Removal::Done) => {
                    let mended = || difference::on_host(None, vni, have, &op);
                    self.report.count(op.kind(), mended);
                }
                Ok(Removal::InUse) => self.report.orphans.push(vni),
                Err(error) => self.fail_network(vni, error),
            }
        }
    }

    pub(crate) async fn removal(
        &mut self,
        vni: u32,
        have: &Have,
        op: &Op,
    ) -> Result<Removal, ApplyError> {
        let device = have.device.as_ref();
        match (op, device) {
            (Op::DeleteChild { index, ifname }, _) => self
                .kernel
                .delete_link(*index)
                .await
                .map(|()| Removal::Done)
                .map_err(ApplyError::netlink(format!("remove interface {ifname}"))),
            (Op::DeleteDevice | Op::ReplaceDevice, Some(device)) => self
                .kernel
                .delete_idle_device(vni, device.index)
                .await
                .map_err(ApplyError::netlink(format!("remove {}", device.name))),
            // Removals are nothing else.
            (_, _) => Ok(Removal::Done),
        }
    }

    async fn network(&mut self, want: &DesiredNetwork, mut have: Have) {
        let mut are_rows_known = self.recall_rows(want, &mut have).await;
        let mut ops = plan::network(want, &have);
        if ops == [Op::ReplaceDevice] {
            self.replace(want, &mut have).await;
            ops = plan::network(want, &have);
        }
        let mut device = have.device.clone();
        for group in ops.chunk_by(|a, b| matches!((a, b), (Op::Row(_), Op::Row(_)))) {
            if matches!(group, [Op::CreateDevice]) {
                device = self.create_device(want).await;
                (have.rows, are_rows_known) = (Rows::default(), true);
            }
            let Some(device) = &mut device else {
                return self.fail_endpoints(want);
            };
            match group {
                [Op::SetDevice(Setting::Ipv6)] => self.turn_ipv6_on(want, &have, device).await,
                [Op::Row(_), ..] => {
                    let rows = self.possible_rows(want, device, group).await;
                    are_rows_known &=
                        self.change_rows(want, device.index, &mut have.rows, &rows).await;
                }
                _ => self.carry_out(want, &have, device.index, group).await,
            }
        }
        self.check_bound(want);
        let Some(Link { index, .. }) = device else {
            return;
        };
        if are_rows_known {
            self.memory.rows.insert(index, have.rows);
        }
        self.sandboxes(want, index, &have.children).await;
    }

    async fn turn_ipv6_on(&mut self, want: &DesiredNetwork, have: &Have, device: &mut Link) {
        device.quiet.ipv6 = Some(self.enable_ipv6(want, device).await);
        if device.quiet.ipv6 == Some(true) {
            self.note(want, have, &Op::SetDevice(Setting::Ipv6), Ok(()));
        }
    }

    /// The changes of rows that the kernel can take: where it has no IPv6, those of IPv4. The others
    /// stay due, and the network is reported.
    async fn possible_rows(
        &mut self,
        want: &DesiredNetwork,
        device: &Link,
        group: &[Op],
    ) -> Vec<RowOp> {
        let mut rows: Vec<RowOp> = group.iter().filter_map(Op::row).collect();
        // `None`: it has none at all, and asking for it says why.
        let is_on = match device.quiet.ipv6 {
            Some(is_on) => is_on,
            None => !rows.iter().any(RowOp::is_ipv6) || self.enable_ipv6(want, device).await,
        };
        rows.retain(|row| is_on || !row.is_ipv6());
        rows
    }

    /// Enters the rows of the device, as remembered or else read. They are remembered again when
    /// all changes to them succeeded. False: they cannot be read.
    ///
    /// A device that was down has lost its rows, and so have its IPv6 rows where IPv6 was off.
    async fn recall_rows(&mut self, want: &DesiredNetwork, have: &mut Have) -> bool {
        let Some(device) = &have.device else {
            return true;
        };
        let is_intact = device.up && (device.quiet.ipv6 == Some(true) || !plan::wants_ipv6(want));
        let known = match self.memory.rows.remove(&device.index) {
            Some(rows) if is_intact => Ok(rows),
            Some(_) | None => self.kernel.rows(device.index).await,
        };
        match known {
            Ok(rows) => {
                have.rows = rows;
                true
            }
            Err(error) => {
                let what = format!("read the rows of {}", device.name);
                self.fail_network(want.vni, ApplyError::netlink(what)(error));
                false
            }
        }
    }

    /// Carries out operations on settings and children.
    async fn carry_out(&mut self, want: &DesiredNetwork, have: &Have, device: u32, group: &[Op]) {
        for op in group {
            match op {
                Op::SetDevice(setting) => self.set_device(want, have, *setting).await,
                Op::CreateChild { endpoint, ifname, mac } => {
                    let child = NewChild { ifname, device, mac: *mac, mtu: want.mtu };
                    if self.create_child(want, endpoint, &child).await {
                        self.note(want, have, op, Ok(()));
                    }
                }
                Op::SetChildMtu { index, ifname } => {
                    let failed = format!("set the MTU of {ifname} to {}", want.mtu);
                    let result = self.kernel.set_mtu(*index, want.mtu).await;
                    self.note(want, have, op, result.map_err(ApplyError::netlink(failed)));
                }
                Op::DeleteChild { index, ifname } => {
                    let failed = format!("remove interface {ifname}");
                    let result = self.kernel.delete_link(*index).await;
                    self.note(want, have, op, result.map_err(ApplyError::netlink(failed)));
                }
                // Carried out before, each in its own way.
                Op::CreateDevice | Op::ReplaceDevice | Op::DeleteDevice | Op::Row(_) => {}
            }
        }
    }

    pub(crate) fn note(
        &mut self,
        want: &DesiredNetwork,
        have: &Have,
        op: &Op,
        result: Result<(), ApplyError>,
    ) {
        let vni = want.vni;
        match result {
            Ok(()) => {
                let mended = || difference::on_host(Some(want), vni, have, op);
                self.report.count(op.kind(), mended);
            }
            Err(error) => self.fail_network(vni, error),
        }
    }

    /// Whether it is made.
    async fn create_child(
        &mut self,
        want: &DesiredNetwork,
        endpoint: &str,
        child: &NewChild<'_>,
    ) -> bool {
        let result = self.kernel.create_child(child, endpoint).await;
        match result {
            Ok(()) => true,
            Err(error) => {
                let error = match error.errno() {
                    Some(Errno::EEXIST) => ApplyError::NameTaken {
                        ifname: child.ifname.to_owned(),
                        place: "on this host".to_owned(),
                    },
                    _ => ApplyError::netlink(format!("create interface {}", child.ifname))(error),
                };
                self.fail_endpoint(want.vni, endpoint, error);
                false
            }
        }
    }

    /// Whether all went well; `known` then tells the rows as they are now.
    async fn change_rows(
        &mut self,
        want: &DesiredNetwork,
        device: u32,
        known: &mut Rows,
        rows: &[RowOp],
    ) -> bool {
        let name = plan::device_name(want.vni);
        let results = match self.kernel.change_rows(device, rows).await {
            Ok(results) => results,
            Err(error) => {
                let what = format!("change {} rows of {name}", rows.len());
                self.fail_network(want.vni, ApplyError::netlink(what)(error));
                return false;
            }
        };
        let mut are_all_done = true;
        // As the table was before; of thousands only as many as are named.
        let mut mended = difference::rows_of(want.vni, known, rows)
            .take(self.report.room())
            .collect::<Vec<_>>()
            .into_iter();
        for (row, result) in rows.iter().zip(results) {
            let mended = mended.next().flatten();
            match result {
                Ok(()) => {
                    match mended {
                        Some(mended) => self.report.count(row.kind(), || mended),
                        None => self.report.count_only(row.kind()),
                    }
                    known.record(row);
                }
                Err(error) => {
                    are_all_done = false;
                    let what = format!("change a row of {name} ({row:?})");
                    self.fail_network(want.vni, ApplyError::netlink(what)(error.into()));
                }
            }
        }
        are_all_done
    }

    fn check_bound(&mut self, want: &DesiredNetwork) {
        // Of both families together, so that only large networks are counted.
        if want.remotes.len() <= MAX_REMOTES {
            return;
        }
        let left_out = WantedRows::of(want).left_out;
        if left_out > 0 {
            let error = ApplyError::TooManyRemotes {
                network: want.name.clone(),
                left_out,
                max: MAX_REMOTES,
            };
            self.fail_network(want.vni, error);
        }
    }

    /// The first failure of a network is the one that tells.
    pub(crate) fn fail_network(&mut self, vni: u32, error: ApplyError) {
        self.report.failed_networks.entry(vni).or_insert(error);
    }

    pub(crate) fn fail_endpoint(&mut self, vni: u32, endpoint: &str, error: ApplyError) {
        let key = (vni, endpoint.to_owned());
        self.report.failed_endpoints.entry(key).or_insert(error);
    }

    /// Without a device there are no endpoints.
    fn fail_endpoints(&mut self, want: &DesiredNetwork) {
        for (id, endpoint) in &want.endpoints {
            if endpoint.home == Home::Transit {
                continue;
            }
            let error = ApplyError::NoDevice {
                device: plan::device_name(want.vni),
                network: want.name.clone(),
            };
            self.fail_endpoint(want.vni, id, error);
        }
    }
}

/// Our devices of a namespace and their children in it, by VNI.
pub(crate) fn owned(devices: Vec<Link>, children: &[Link]) -> BTreeMap<u32, Have> {
    let mut owned = BTreeMap::new();
    for device in devices {
        let Some(vni) = plan::owned_vni(&device) else {
            continue;
        };
        let parent = device.index;
        // This host may itself be a container on someone's ovl network.
        let is_child =
            |link: &&Link| link.kind == Kind::Macvlan { parent } && !link.parent_is_elsewhere;
        let have = Have {
            children: children.iter().filter(is_child).cloned().collect(),
            device: Some(device),
            ..Have::default()
        };
        owned.insert(vni, have);
    }
    owned
}
