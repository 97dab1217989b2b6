//! Desired against kernel, row by row, without changing anything: observe, plan, and say what the
//! plan would mend.
//!
//! One cause is one difference: without a device nothing is said of its rows and interfaces, and
//! without an interface nothing of its addresses.

use netlink_packet_route::link::InfoKind;

use crate::{
    ApplyError, Dataplane, Desired, DesiredNetwork, Difference, DifferenceKind, Home,
    dataplane::Memory,
    difference,
    netlink::Kernel,
    netns::Namespace,
    observe::Inside,
    pass,
    plan::{self, Have, Op},
    plan_inside::{self, SandboxOp},
    rows::WantedRows,
};

/// Most differences that are told; of more, only how many there are.
pub const MAX_DIFFERENCES: usize = 1000;

/// What was found by [`Dataplane::compare`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Networks that should have a device here.
    pub networks: usize,
    /// FDB and neighbour rows that should be there.
    pub rows: usize,
    /// Endpoints of this host whose interfaces were looked at.
    pub endpoints: usize,
    /// Where the kernel is not what it should be; at most [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub left_out: usize,
}

impl Comparison {
    fn push(&mut self, difference: Difference) {
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(difference);
        } else {
            self.left_out += 1;
        }
    }

    fn unreadable(&mut self, vni: u32, what: &str, error: &ApplyError) {
        let why = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
        let why: Vec<String> = why.map(ToString::to_string).collect();
        let differs = Difference::of_device(DifferenceKind::Unreadable, vni);
        self.push(differs.what(what).have(why.join(": ")));
    }
}

impl Dataplane {
    /// Holds the kernel against `desired`, and changes nothing. Everything is read afresh.
    pub async fn compare(&mut self, desired: &Desired) -> Comparison {
        let mut found = Comparison { networks: desired.networks.len(), ..Comparison::default() };
        let table = crate::nft::TABLE;
        match self.lacks_firewall().await {
            Ok(false) => {}
            Ok(true) => found.push(Difference::of_host(DifferenceKind::FirewallMissing, table)),
            Err(error) => {
                let differs = Difference::of_host(DifferenceKind::Unreadable, table);
                found.push(differs.have(error.to_string()));
            }
        }
        let memory = &self.memory;
        let kernel = self.kernel.get_mut();
        let mut host = match look(kernel).await {
            Ok(host) => host,
            Err(error) => {
                for vni in desired.networks.keys() {
                    found.unreadable(*vni, "interfaces", &error);
                }
                return found;
            }
        };
        for (&vni, have) in &host {
            if !desired.networks.contains_key(&vni) {
                let left_over = plan::removal(have);
                let tell = |op| difference::on_host(None, vni, have, op);
                left_over.iter().map(tell).for_each(|differs| found.push(differs));
            }
        }
        for (vni, want) in &desired.networks {
            let have = host.remove(vni).unwrap_or_default();
            network(kernel, memory, want, have, &mut found).await;
        }
        found
    }
}

async fn look(kernel: &mut Kernel) -> Result<std::collections::BTreeMap<u32, Have>, ApplyError> {
    let read = || ApplyError::netlink("read the interfaces of this host");
    let devices = kernel.links(Some(InfoKind::Vxlan)).await.map_err(read())?;
    let children = kernel.links(Some(InfoKind::MacVlan)).await.map_err(read())?;
    Ok(pass::owned(devices, &children))
}

async fn network(
    kernel: &mut Kernel,
    memory: &Memory,
    want: &DesiredNetwork,
    mut have: Have,
    found: &mut Comparison,
) {
    let wanted = WantedRows::of(want);
    found.rows += wanted.fdb.len() + wanted.neighbours.len();
    found.endpoints += want.endpoints.len();
    let Some(device) = have.device.as_ref().map(|device| device.index) else {
        return found.push(difference::on_host(Some(want), want.vni, &have, &Op::CreateDevice));
    };
    match kernel.rows(device).await {
        Ok(rows) => have.rows = rows,
        Err(error) => {
            let error = ApplyError::netlink("read the rows of the device")(error);
            return found.unreadable(want.vni, "rows", &error);
        }
    }
    let mut ops = plan::network(want, &have);
    if ops == [Op::ReplaceDevice] {
        found.push(difference::on_host(Some(want), want.vni, &have, &Op::ReplaceDevice));
        have.pinned = true;
        ops = plan::network(want, &have);
    }
    let rows: Vec<_> = ops.iter().filter_map(Op::row).collect();
    let others = ops.iter().filter(|op| op.row().is_none());
    let others = others.map(|op| difference::on_host(Some(want), want.vni, &have, op));
    let rows = difference::rows_of(want.vni, &have.rows, &rows).flatten();
    others.chain(rows).for_each(|differs| found.push(differs));
    sandboxes(memory, want, device, found).await;
}

async fn sandboxes(memory: &Memory, want: &DesiredNetwork, device: u32, found: &mut Comparison) {
    for (id, endpoint) in &want.endpoints {
        let Home::Sandbox { netns, .. } = &endpoint.home else {
            continue;
        };
        let inside = match inside(netns).await {
            Ok(inside) => inside,
            // That it ended is a fact which the passes tell; it is no difference.
            Err(ApplyError::Netns(error)) if error.is_gone() => continue,
            Err(error) => {
                found.unreadable(want.vni, &format!("namespace {}", netns.display()), &error);
                continue;
            }
        };
        let before = memory.sandboxes.get(&(want.vni, id.clone())).map(|known| &known.endpoint);
        let ops = plan_inside::sandbox(id, endpoint, want.mtu, device, &inside, before);
        let child = inside.child(device, id, endpoint.mac);
        let on_child =
            |op: &SandboxOp| !matches!(op, SandboxOp::LoopbackUp | SandboxOp::AddResolver(_));
        for op in &ops {
            if child.is_none() && on_child(op) && *op != SandboxOp::CreateChild {
                continue;
            }
            let place = (want.vni, want.mtu);
            found.push(difference::in_sandbox(place, (id, endpoint), &inside, child, op));
        }
    }
}

async fn inside(netns: &std::path::Path) -> Result<Inside, ApplyError> {
    let namespace = Namespace::open(netns)?;
    let mut kernel = Kernel::open_in(&namespace).await?;
    let read = ApplyError::netlink(format!("read the interfaces in {}", netns.display()));
    kernel.inside().await.map_err(read)
}
