//! Where the kernel is not what it should be, in words: each planned operation says what it would
//! mend. Pure, like [`crate::plan`].

use std::{fmt, path::PathBuf};

use crate::{
    DesiredNetwork, Home, LocalEndpoint,
    observe::{Inside, Kind, Link, Vxlan},
    plan::{self, Have, NO_ARP_REPLY, Op, Setting},
    plan_inside::SandboxOp,
    rows::{RowOp, Rows},
};

/// Somewhere the kernel is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing differs.
    pub kind: DifferenceKind,
    /// VNI of the network; none: it concerns the whole host.
    pub vni: Option<u32>,
    /// The endpoint's id, if it concerns one of this host.
    pub endpoint: Option<String>,
    /// The network namespace's file; none: the host's own.
    pub netns: Option<PathBuf>,
    /// The interface, or the nftables table.
    pub device: String,
    /// The attribute, address or MAC; empty where the device itself is meant.
    pub what: String,
    /// As it should be; none: it should not be there.
    pub want: Option<String>,
    /// As it is; none: it is not there.
    pub have: Option<String>,
}

/// What kind of thing differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// A network's vxlan device is not there, and so neither are its rows and interfaces.
    DeviceMissing,
    /// The vxlan device has another setting.
    DeviceSetting,
    /// A vxlan device of ours for a network that has no endpoint here.
    DeviceLeftOver,
    /// A MAC's VTEP is not in the forwarding table.
    FdbMissing,
    /// Another VTEP stands there, or a row that is not one permanent row to one VTEP.
    FdbWrong,
    /// A MAC stands there that no endpoint has.
    FdbForeign,
    /// An address is not in the neighbour table, or not permanently.
    NeighbourMissing,
    /// Another MAC stands there.
    NeighbourWrong,
    /// An address stands there that no endpoint has.
    NeighbourForeign,
    /// An endpoint's interface is not where it should be.
    InterfaceMissing,
    /// An endpoint's interface, or `lo` beside it, has another setting.
    InterfaceSetting,
    /// An endpoint's interface that no endpoint has a use for.
    InterfaceLeftOver,
    /// An endpoint's interface, or `lo` beside it, lacks an address.
    AddressMissing,
    /// It has an address that it had before.
    AddressLeftOver,
    /// The nftables table that keeps overlay traffic out of the host's IP stack.
    FirewallMissing,
    /// It could not be looked at; `have` says why.
    Unreadable,
}

impl DifferenceKind {
    /// Every kind.
    pub const ALL: [DifferenceKind; 16] = [
        DifferenceKind::DeviceMissing,
        DifferenceKind::DeviceSetting,
        DifferenceKind::DeviceLeftOver,
        DifferenceKind::FdbMissing,
        DifferenceKind::FdbWrong,
        DifferenceKind::FdbForeign,
        DifferenceKind::NeighbourMissing,
        DifferenceKind::NeighbourWrong,
        DifferenceKind::NeighbourForeign,
        DifferenceKind::InterfaceMissing,
        DifferenceKind::InterfaceSetting,
        DifferenceKind::InterfaceLeftOver,
        DifferenceKind::AddressMissing,
        DifferenceKind::AddressLeftOver,
        DifferenceKind::FirewallMissing,
        DifferenceKind::Unreadable,
    ];

    /// As programs are told: `fdb-missing`.
    pub const fn name(self) -> &'static str {
        match self {
            DifferenceKind::DeviceMissing => "device-missing",
            DifferenceKind::DeviceSetting => "device-setting",
            DifferenceKind::DeviceLeftOver => "device-left-over",
            DifferenceKind::FdbMissing => "fdb-missing",
            DifferenceKind::FdbWrong => "fdb-wrong",
            DifferenceKind::FdbForeign => "fdb-foreign",
            DifferenceKind::NeighbourMissing => "neighbour-missing",
            DifferenceKind::NeighbourWrong => "neighbour-wrong",
            DifferenceKind::NeighbourForeign => "neighbour-foreign",
            DifferenceKind::InterfaceMissing => "interface-missing",
            DifferenceKind::InterfaceSetting => "interface-setting",
            DifferenceKind::InterfaceLeftOver => "interface-left-over",
            DifferenceKind::AddressMissing => "address-missing",
            DifferenceKind::AddressLeftOver => "address-left-over",
            DifferenceKind::FirewallMissing => "firewall-missing",
            DifferenceKind::Unreadable => "unreadable",
        }
    }
}

impl Difference {
    /// On the host, of no network.
    pub(crate) fn of_host(kind: DifferenceKind, device: impl Into<String>) -> Difference {
        Difference {
            kind,
            vni: None,
            endpoint: None,
            netns: None,
            device: device.into(),
            what: String::new(),
            want: None,
            have: None,
        }
    }

    /// Of a network's device.
    pub(crate) fn of_device(kind: DifferenceKind, vni: u32) -> Difference {
        Difference { vni: Some(vni), ..Difference::of_host(kind, plan::device_name(vni)) }
    }

    pub(crate) fn what(self, what: impl ToString) -> Difference {
        Difference { what: what.to_string(), ..self }
    }

    pub(crate) fn want(self, want: impl ToString) -> Difference {
        Difference { want: Some(want.to_string()), ..self }
    }

    pub(crate) fn have(self, have: impl ToString) -> Difference {
        Difference { have: Some(have.to_string()), ..self }
    }

    fn have_if(self, have: Option<impl ToString>) -> Difference {
        Difference { have: have.map(|have| have.to_string()), ..self }
    }
}

impl fmt::Display for Difference {
    /// `ovl-4097: fdb-missing 02:42:0a:58:00:09: want 10.0.0.2, have nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.device)?;
        if let Some(netns) = &self.netns {
            write!(f, " in {}", netns.display())?;
        }
        write!(f, ": {}", self.kind.name())?;
        if !self.what.is_empty() {
            write!(f, " {}", self.what)?;
        }
        let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".into());
        match (&self.want, &self.have) {
            (None, None) => Ok(()),
            (want, have) => write!(f, ": want {}, have {}", or_nothing(want), or_nothing(have)),
        }
    }
}

/// What an operation of [`plan::network`] or [`plan::removal`] mends.
pub(crate) fn on_host(want: Option<&DesiredNetwork>, vni: u32, have: &Have, op: &Op) -> Difference {
    use DifferenceKind as K;
    match op {
        Op::CreateDevice => Difference::of_device(K::DeviceMissing, vni),
        Op::DeleteDevice => Difference::of_device(K::DeviceLeftOver, vni),
        Op::ReplaceDevice => lasting(want, vni, have),
        Op::SetDevice(setting) => set(want, vni, have, *setting),
        Op::Row(row) => row_of(vni, &have.rows, row),
        Op::CreateChild { endpoint, ifname, .. } => Difference {
            endpoint: Some(endpoint.clone()),
            device: ifname.clone(),
            ..Difference::of_device(K::InterfaceMissing, vni)
        },
        Op::SetChildMtu { index, ifname } => {
            let there = have.children.iter().find(|child| child.index == *index);
            let differs = Difference {
                device: ifname.clone(),
                ..Difference::of_device(K::InterfaceSetting, vni).what("mtu")
            };
            let differs = differs.have_if(there.map(|child| child.mtu));
            Difference { want: want.map(|want| want.mtu.to_string()), ..differs }
        }
        Op::DeleteChild { ifname, .. } => Difference {
            device: ifname.clone(),
            ..Difference::of_device(K::InterfaceLeftOver, vni)
        },
    }
}

/// A setting for whose sake the device is made anew.
fn lasting(want: Option<&DesiredNetwork>, vni: u32, have: &Have) -> Difference {
    let differs = Difference::of_device(DifferenceKind::DeviceSetting, vni);
    let port = want.map_or(0, |want| want.port);
    match have.device.as_ref().map(|device| &device.kind) {
        Some(Kind::Vxlan(vxlan)) if vxlan.port != port => {
            differs.what("port").want(port).have(vxlan.port)
        }
        Some(Kind::Vxlan(vxlan)) if !vxlan.proxy => differs.what("proxy").want("on").have("off"),
        Some(Kind::Vxlan(_)) => differs.what("external").want("off").have("on"),
        Some(Kind::Macvlan { .. } | Kind::Other) | None => {
            differs.what("type").want("vxlan").have("another")
        }
    }
}

fn set(want: Option<&DesiredNetwork>, vni: u32, have: &Have, setting: Setting) -> Difference {
    let device = have.device.clone().unwrap_or_default();
    let vxlan = match &device.kind {
        Kind::Vxlan(vxlan) => vxlan.clone(),
        Kind::Macvlan { .. } | Kind::Other => Vxlan::default(),
    };
    let (quiet, differs) =
        (device.quiet, Difference::of_device(DifferenceKind::DeviceSetting, vni));
    match (setting, want) {
        (Setting::Alias, Some(want)) => {
            let alias = Some(device.alias).filter(|alias| !alias.is_empty());
            differs.what("alias").want(plan::device_alias(want)).have_if(alias)
        }
        (Setting::Local, Some(want)) => differs.what("local").want(want.local).have_if(vxlan.local),
        (Setting::Mtu, Some(want)) => differs.what("mtu").want(want.mtu).have(device.mtu),
        (Setting::Alias, None) => differs.what("alias"),
        (Setting::Local, None) => differs.what("local"),
        (Setting::Mtu, None) => differs.what("mtu"),
        (Setting::NoLearning, _) => differs.what("learning").want("off").have("on"),
        (Setting::NoIpv6Address, _) => differs.what("addrgenmode").want("none").have("another"),
        (Setting::NoRouterAdvertisement, _) => {
            differs.what("accept_ra").want(0).have_if(quiet.accept_ra)
        }
        (Setting::NoArpReply, _) => {
            differs.what("arp_ignore").want(NO_ARP_REPLY).have_if(quiet.arp_ignore)
        }
        (Setting::Arp, _) => differs.what("arp").want("on").have("off"),
        (Setting::Ipv6, _) => differs.what("disable_ipv6").want(0).have(1),
        (Setting::Up, _) => differs.what("state").want("up").have("down"),
    }
}

/// What each of these changes mends, in a table that holds these rows. A row that is taken away to be
/// set anew is one difference, told with the second.
pub(crate) fn rows_of(
    vni: u32,
    have: &Rows,
    rows: &[RowOp],
) -> impl Iterator<Item = Option<Difference>> {
    let is_first = |at: usize| match (rows.get(at), rows.get(at + 1)) {
        (Some(RowOp::DeleteFdb { mac: gone }), Some(RowOp::SetFdb { mac, .. })) => gone == mac,
        _ => false,
    };
    let differs = move |(at, row)| (!is_first(at)).then(|| row_of(vni, have, row));
    rows.iter().enumerate().map(differs)
}

/// What a change of a row mends.
fn row_of(vni: u32, rows: &Rows, row: &RowOp) -> Difference {
    use DifferenceKind as K;
    let differs = |kind| Difference::of_device(kind, vni);
    let several = || "another kind of row than one permanent one to one VTEP".to_owned();
    let vtep = |mac| rows.fdb.get(mac).map(|vtep| vtep.map_or_else(several, |v| v.to_string()));
    match row {
        RowOp::SetFdb { mac, vtep: wanted } => {
            let have = vtep(mac);
            let kind = if have.is_some() { K::FdbWrong } else { K::FdbMissing };
            differs(kind).what(mac).want(wanted).have_if(have)
        }
        RowOp::DeleteFdb { mac } => differs(K::FdbForeign).what(mac).have_if(vtep(mac)),
        RowOp::SetNeighbour { address, mac } => {
            let have = rows.neighbours.get(address);
            let kind = if have.is_some() { K::NeighbourWrong } else { K::NeighbourMissing };
            differs(kind).what(address).want(mac).have_if(have)
        }
        RowOp::DeleteNeighbour { address } => {
            let have = rows.neighbours.get(address);
            differs(K::NeighbourForeign).what(address).have_if(have)
        }
    }
}

/// What an operation of [`crate::plan_inside::sandbox`] mends. `child`: the endpoint's interface, if
/// it is there.
pub(crate) fn in_sandbox(
    (vni, mtu): (u32, u16),
    (id, endpoint): (&str, &LocalEndpoint),
    inside: &Inside,
    child: Option<&Link>,
    op: &SandboxOp,
) -> Difference {
    use DifferenceKind as K;
    let (netns, wanted) = match &endpoint.home {
        Home::Sandbox { netns, ifname, .. } => (Some(netns.clone()), ifname.to_string()),
        Home::Handover { ifname } => (None, ifname.to_string()),
        Home::Transit => (None, String::new()),
    };
    let differs = |kind, device: String| Difference {
        endpoint: Some(id.to_owned()),
        netns: netns.clone(),
        device,
        ..Difference::of_device(kind, vni)
    };
    let own = || child.map_or_else(|| wanted.clone(), |child| child.name.clone());
    let lo = || inside.loopback().map_or_else(|| "lo".to_owned(), |lo| lo.name.clone());
    match op {
        SandboxOp::LoopbackUp => {
            differs(K::InterfaceSetting, lo()).what("state").want("up").have("down")
        }
        SandboxOp::AddResolver(address) => {
            differs(K::AddressMissing, lo()).what(address).want(address)
        }
        SandboxOp::CreateChild => differs(K::InterfaceMissing, own()),
        SandboxOp::Alias => {
            let alias = child.map(|child| child.alias.clone()).filter(|alias| !alias.is_empty());
            let differs = differs(K::InterfaceSetting, own()).what("alias");
            differs.want(plan::endpoint_alias(id)).have_if(alias)
        }
        SandboxOp::SetMac(mac) => {
            let differs = differs(K::InterfaceSetting, own()).what("mac").want(mac);
            differs.have_if(child.and_then(|child| child.mac))
        }
        SandboxOp::SetMtu => {
            let differs = differs(K::InterfaceSetting, own()).what("mtu").want(mtu);
            differs.have_if(child.map(|child| child.mtu))
        }
        SandboxOp::AddAddress(address) => {
            differs(K::AddressMissing, own()).what(address).want(address)
        }
        SandboxOp::DeleteAddress(address) => {
            differs(K::AddressLeftOver, own()).what(address).have(address)
        }
        SandboxOp::ChildUp => {
            differs(K::InterfaceSetting, own()).what("state").want("up").have("down")
        }
        SandboxOp::Ipv6 => differs(K::InterfaceSetting, own()).what("disable_ipv6").want(0).have(1),
    }
}
