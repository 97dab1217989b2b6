//! Plans carried out on a model of the kernel, which refuses what the kernel refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::*;
use crate::{
    LocalEndpoint, Remote,
    observe::{Inside, Quiet},
    plan_inside::{SandboxOp, sandbox},
};

const VNI: u32 = 5000;

/// One host with one network and some sandboxes.
#[derive(Clone, Debug, Default)]
struct Model {
    device: Option<Link>,
    rows: Rows,
    /// Macvlans in the host's namespace.
    host: Vec<Link>,
    sandboxes: BTreeMap<PathBuf, Inside>,
    next_index: u32,
    /// Whether IPv6 is on on new interfaces.
    default_ipv6: bool,
}

impl Model {
    fn index(&mut self) -> u32 {
        self.next_index += 1;
        1000 + self.next_index
    }

    fn is_child(&self, link: &Link) -> bool {
        let parent = self.device.as_ref().map(|d| d.index);
        parent.is_some_and(|parent| link.kind == Kind::Macvlan { parent })
    }

    fn everywhere(&self) -> impl Iterator<Item = &Link> {
        let inside = self.sandboxes.values().flat_map(|s| &s.links);
        self.host.iter().chain(inside)
    }

    fn is_in_use(&self) -> bool {
        self.everywhere().any(|link| self.is_child(link))
    }

    fn have(&self) -> Have {
        let children = self.host.iter().filter(|l| self.is_child(l));
        Have {
            device: self.device.clone(),
            pinned: false,
            rows: self.rows.clone(),
            children: children.cloned().collect(),
        }
    }

    /// One pass, as the shell does it. Answers how much there was to do.
    fn pass(&mut self, want: &DesiredNetwork, before: &BTreeMap<String, LocalEndpoint>) -> usize {
        let mut have = self.have();
        let mut ops = network(want, &have);
        let mut count = 0;
        if ops == [Op::ReplaceDevice] {
            if self.is_in_use() {
                have.pinned = true;
            } else {
                self.delete_device();
                have = self.have();
                count += 1;
            }
            ops = network(want, &have);
        }
        for op in &ops {
            self.apply(want, op);
        }
        count + ops.len() + self.sandbox_pass(want, before)
    }

    fn sandbox_pass(
        &mut self,
        want: &DesiredNetwork,
        before: &BTreeMap<String, LocalEndpoint>,
    ) -> usize {
        let device = self.device.as_ref().unwrap().index;
        let mut count = 0;
        for (id, endpoint) in &want.endpoints {
            let Home::Sandbox { netns, .. } = &endpoint.home else {
                continue;
            };
            let inside = self.sandboxes[netns].clone();
            let ops = sandbox(id, endpoint, want.mtu, device, &inside, before.get(id));
            if ops.contains(&SandboxOp::CreateChild) {
                self.host.retain(|l| l.mac != Some(endpoint.mac));
            }
            for op in &ops {
                self.apply_inside(want, id, op);
            }
            count += ops.len();
        }
        count
    }

    fn apply(&mut self, want: &DesiredNetwork, op: &Op) {
        match op {
            Op::CreateDevice => self.create_device(want),
            Op::ReplaceDevice => panic!("stands alone"),
            Op::DeleteDevice if !self.is_in_use() => self.delete_device(),
            Op::DeleteDevice => {}
            Op::SetDevice(setting) => self.set_device(want, *setting),
            Op::Row(row) => {
                let device = self.device.as_ref().unwrap();
                assert!(!row.is_ipv6() || device.quiet.ipv6 == Some(true), "IPv6 is off");
                self.assert_order(want, row);
                self.rows.record(row);
            }
            Op::CreateChild { endpoint, ifname, mac } => {
                assert!(self.host.iter().all(|l| l.name != *ifname), "{ifname} is taken");
                let mut child = self.child(ifname, *mac, want.mtu);
                child.alias = endpoint_alias(endpoint);
                self.host.push(child);
            }
            Op::SetChildMtu { index, .. } => {
                let child = self.host.iter_mut().find(|l| l.index == *index).unwrap();
                child.mtu = want.mtu.into();
            }
            Op::DeleteChild { index, .. } => self.host.retain(|l| l.index != *index),
        }
    }

    fn child(&mut self, name: &str, mac: Mac, mtu: u16) -> Link {
        let device = self.device.as_ref().unwrap();
        assert!(u32::from(mtu) <= device.mtu, "larger than its device");
        Link {
            name: name.to_owned(),
            mac: Some(mac),
            mtu: mtu.into(),
            kind: Kind::Macvlan { parent: device.index },
            quiet: Quiet { ipv6: Some(self.default_ipv6), ..Quiet::default() },
            index: self.index(),
            ..Link::default()
        }
    }

    /// An address that stays must lead somewhere at each step.
    fn assert_order(&self, want: &DesiredNetwork, row: &RowOp) {
        match *row {
            RowOp::SetNeighbour { mac, .. } => {
                assert!(matches!(self.rows.fdb.get(&mac), Some(Some(_))), "before its FDB row");
            }
            RowOp::DeleteFdb { mac } => {
                let wanted = WantedRows::of(want);
                let is_odd = self.rows.fdb.get(&mac) == Some(&None);
                assert!(is_odd || !wanted.fdb.contains_key(&mac), "still wanted");
                let is_used = self.rows.neighbours.values().any(|m| *m == mac);
                assert!(is_odd || !is_used, "before its neighbour rows");
            }
            RowOp::SetFdb { .. } | RowOp::DeleteNeighbour { .. } => {}
        }
    }

    fn create_device(&mut self, want: &DesiredNetwork) {
        assert_eq!(self.device, None);
        let mut device = device(want, self.index());
        // The shell turns it on at once where it is needed.
        device.quiet.ipv6 = Some(self.default_ipv6 || wants_ipv6(want));
        self.device = Some(device);
        self.rows = Rows::default();
    }

    fn delete_device(&mut self) {
        assert!(!self.is_in_use(), "children would go with it");
        self.device = None;
        self.rows = Rows::default();
    }

    fn set_device(&mut self, want: &DesiredNetwork, setting: Setting) {
        let good = device(want, 0);
        let device = self.device.as_mut().unwrap();
        let (Kind::Vxlan(vxlan), Kind::Vxlan(good_vxlan)) = (&mut device.kind, good.kind) else {
            panic!("not a vxlan device");
        };
        match setting {
            Setting::Alias => device.alias = good.alias,
            Setting::Local => vxlan.local = good_vxlan.local,
            Setting::NoLearning => vxlan.learning = false,
            Setting::Mtu => {
                device.mtu = good.mtu;
                let inside = self.sandboxes.values_mut().flat_map(|s| &mut s.links);
                for child in self.host.iter_mut().chain(inside) {
                    child.mtu = child.mtu.min(good.mtu);
                }
            }
            Setting::NoIpv6Address => device.quiet.makes_addresses = Some(false),
            Setting::NoRouterAdvertisement => device.quiet.accept_ra = Some(0),
            Setting::NoArpReply => device.quiet.arp_ignore = Some(NO_ARP_REPLY),
            Setting::Arp => device.noarp = false,
            Setting::Ipv6 => device.quiet.ipv6 = Some(true),
            Setting::Up => device.up = true,
        }
    }

    fn apply_inside(&mut self, want: &DesiredNetwork, id: &str, op: &SandboxOp) {
        let endpoint = &want.endpoints[id];
        let Home::Sandbox { netns, ifname, .. } = &endpoint.home else {
            panic!("not in a sandbox");
        };
        if *op == SandboxOp::CreateChild {
            let child = self.child(ifname.as_ref(), endpoint.mac, want.mtu);
            let inside = self.sandboxes.get_mut(netns).unwrap();
            inside.links.push(child);
            return;
        }
        let parent = self.device.as_ref().unwrap().index;
        let limit = self.device.as_ref().unwrap().mtu;
        let inside = self.sandboxes.get_mut(netns).unwrap();
        let is_loopback = matches!(op, SandboxOp::LoopbackUp | SandboxOp::AddResolver(_));
        let child = inside.child(parent, id, endpoint.mac).map(|l| l.index);
        let is_it = |l: &&mut Link| match is_loopback {
            true => l.name == "lo",
            false => Some(l.index) == child,
        };
        let link = inside.links.iter_mut().find(is_it).unwrap();
        let addresses = inside.addresses.entry(link.index).or_default();
        match op {
            SandboxOp::CreateChild => {}
            SandboxOp::LoopbackUp | SandboxOp::ChildUp => link.up = true,
            SandboxOp::AddResolver(address) => {
                addresses.insert(Ipv4Net::from(*address).into());
            }
            SandboxOp::Alias => link.alias = endpoint_alias(id),
            SandboxOp::SetMac(mac) => link.mac = Some(*mac),
            SandboxOp::SetMtu => {
                assert!(u32::from(want.mtu) <= limit);
                link.mtu = want.mtu.into();
            }
            SandboxOp::Ipv6 => link.quiet.ipv6 = Some(true),
            SandboxOp::AddAddress(address) => {
                let is_ipv4 = matches!(address, IpNet::V4(_));
                assert!(is_ipv4 || link.quiet.ipv6 == Some(true), "IPv6 is off");
                addresses.insert(*address);
            }
            // With the first of an IPv4 subnet the kernel removes the others.
            SandboxOp::DeleteAddress(address) => match address {
                IpNet::V4(_) => addresses.retain(|a| a.trunc() != address.trunc()),
                IpNet::V6(_) => addresses.retain(|a| a != address),
            },
        }
    }
}

fn device(want: &DesiredNetwork, index: u32) -> Link {
    Link {
        index,
        name: device_name(want.vni),
        mac: Some(device_mac(want.local)),
        mtu: want.mtu.into(),
        up: true,
        noarp: false,
        carrier: true,
        alias: device_alias(want),
        kind: Kind::Vxlan(Vxlan {
            vni: want.vni,
            port: want.port,
            local: Some(want.local),
            learning: false,
            proxy: true,
            external: false,
        }),
        quiet: Quiet {
            makes_addresses: Some(false),
            accept_ra: Some(0),
            arp_ignore: Some(NO_ARP_REPLY),
            ipv6: Some(true),
        },
        parent_is_elsewhere: false,
    }
}

// ---- generated worlds: few values, so that they meet ----

fn macs() -> impl Strategy<Value = Mac> {
    (0..6u8).prop_map(|n| Mac([2, 0, 0, 0, 0, n]))
}

fn addresses() -> impl Strategy<Value = Ipv4Addr> {
    (1..9u8).prop_map(|n| Ipv4Addr::new(10, 88, 0, n))
}

fn addresses6() -> impl Strategy<Value = Ipv6Addr> {
    (1..9u16).prop_map(|n| Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, n))
}

fn any_addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![addresses().prop_map(IpAddr::V4), addresses6().prop_map(IpAddr::V6)]
}

fn vteps() -> impl Strategy<Value = Ipv4Addr> {
    (1..4u8).prop_map(|n| Ipv4Addr::new(192, 0, 2, n))
}

fn sandbox_path(n: u8) -> PathBuf {
    PathBuf::from(format!("/run/netns/{n}"))
}

fn homes(n: u8) -> impl Strategy<Value = Home> {
    let name = |n: u8| format!("ovlh{n}").parse().unwrap();
    prop_oneof![
        Just(Home::Transit),
        (0..3u8).prop_map(move |m| Home::Handover { ifname: name(n * 3 + m) }),
        (0..3u8, any::<bool>()).prop_map(move |(m, dns)| Home::Sandbox {
            netns: sandbox_path(m),
            ifname: name(n),
            resolver: dns.then_some(Ipv4Addr::new(169, 254, 53, 53)),
        }),
    ]
}

/// Endpoint `n` has MAC `n`: unique, as the agent guarantees.
fn endpoints() -> impl Strategy<Value = BTreeMap<String, LocalEndpoint>> {
    let endpoint = |n: u8| {
        let six = proptest::option::of(addresses6());
        (homes(n), addresses(), six).prop_map(move |(home, address, six)| {
            let endpoint = LocalEndpoint {
                mac: Mac([2, 0, 0, 0, 0, n]),
                address: Ipv4Net::new(address, 16).unwrap(),
                address6: six.map(|address| Ipv6Net::new(address, 64).unwrap()),
                home,
            };
            (format!("e{n}"), endpoint)
        })
    };
    let some = |n| proptest::option::of(endpoint(n));
    (some(0), some(1), some(2)).prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect())
}

prop_compose! {
    fn networks()(
        local in vteps(),
        port in 4789..4791u16,
        mtu in 1400..1402u16,
        endpoints in endpoints(),
        remotes in proptest::collection::btree_map(
            any_addresses(), (macs(), vteps()).prop_map(|(mac, vtep)| Remote { mac, vtep }), 0..6
        ),
        settled: bool,
    ) -> DesiredNetwork {
        DesiredNetwork {
            name: "n".into(), vni: VNI, local, port, mtu, endpoints, remotes, settled,
        }
    }
}

fn empty_model(default_ipv6: bool) -> Model {
    let lo = Link { index: 1, name: "lo".into(), ..Link::default() };
    let inside = Inside { links: vec![lo], ..Inside::default() };
    Model {
        sandboxes: (0..3).map(|n| (sandbox_path(n), inside.clone())).collect(),
        default_ipv6,
        ..Model::default()
    }
}

/// What is wrong with the model, seen from the desired state alone.
fn assert_reached(model: &Model, want: &DesiredNetwork) {
    let device = model.device.as_ref().unwrap();
    assert!(settings(want, device).is_empty());
    for (id, endpoint) in &want.endpoints {
        match &endpoint.home {
            Home::Transit => {}
            Home::Handover { ifname } => {
                let found = model.host.iter().filter(|l| l.mac == Some(endpoint.mac));
                let names: Vec<_> = found.map(|l| l.name.as_str()).collect();
                assert_eq!(names, [ifname.as_ref()], "{id}");
            }
            Home::Sandbox { netns, .. } => {
                let inside = &model.sandboxes[netns];
                let child = inside.child(device.index, id, endpoint.mac).unwrap();
                assert!(child.up && child.mtu == u32::from(want.mtu), "{id}");
                assert!(inside.has_address(child.index, endpoint.address), "{id}");
                let six = endpoint.address6;
                assert!(six.is_none_or(|a| inside.has_address(child.index, a)), "{id}");
            }
        }
    }
    let rows = WantedRows::of(want);
    for (mac, vtep) in &rows.fdb {
        assert_eq!(model.rows.fdb.get(mac), Some(&Some(*vtep)));
    }
    for (address, mac) in &rows.neighbours {
        assert_eq!(model.rows.neighbours.get(address), Some(mac));
    }
    if want.settled {
        assert_eq!(model.rows.fdb.len(), rows.fdb.len());
        assert_eq!(model.rows.neighbours.len(), rows.neighbours.len());
    }
}

/// The MACs and indexes of children that stand where they are wanted.
fn wanted_children(model: &Model, want: &DesiredNetwork) -> BTreeSet<(Mac, u32)> {
    let is_wanted = |link: &&Link| {
        let mut endpoints = want.endpoints.values();
        endpoints.any(|e| match &e.home {
            Home::Transit => link.mac == Some(e.mac),
            Home::Handover { ifname } => {
                let is_on_host = model.host.iter().any(|l| l.index == link.index);
                link.mac == Some(e.mac) && link.name == ifname.as_ref() && is_on_host
            }
            Home::Sandbox { netns, .. } => {
                let inside = &model.sandboxes[netns].links;
                link.mac == Some(e.mac) && inside.iter().any(|l| l.index == link.index)
            }
        })
    };
    let children = model.everywhere().filter(|l| model.is_child(l));
    let wanted = children.filter(is_wanted);
    wanted.map(|l| (l.mac.unwrap(), l.index)).collect()
}

/// Sandbox children of the step before that have no place in this one: the shell clears them by
/// memory before it plans.
fn clear(model: &mut Model, before: &DesiredNetwork, want: &DesiredNetwork) {
    for (id, endpoint) in &before.endpoints {
        let Home::Sandbox { netns, .. } = &endpoint.home else {
            continue;
        };
        let stays = match want.endpoints.get(id).map(|e| &e.home) {
            Some(Home::Sandbox { netns: now, .. }) => now == netns,
            Some(Home::Transit) => true,
            Some(Home::Handover { .. }) | None => false,
        };
        if !stays {
            let inside = model.sandboxes.get_mut(netns).unwrap();
            inside.links.retain(|l| l.mac != Some(endpoint.mac));
        }
    }
}

proptest! {
    #[test]
    fn each_plan_reaches_what_is_desired_and_the_next_one_is_empty(
        steps in proptest::collection::vec(networks(), 1..5),
        default_ipv6: bool,
    ) {
        let mut model = empty_model(default_ipv6);
        let mut last: Option<DesiredNetwork> = None;
        for mut want in steps {
            // A port cannot change under children; that case has its own test.
            if let Some(last) = &last {
                if model.is_in_use() {
                    want.port = last.port;
                }
                clear(&mut model, last, &want);
            }
            let before = last.map(|l| l.endpoints).unwrap_or_default();
            let kept = wanted_children(&model, &want);
            model.pass(&want, &before);
            assert_reached(&model, &want);
            prop_assert!(wanted_children(&model, &want).is_superset(&kept));
            prop_assert_eq!(model.pass(&want, &want.endpoints), 0);
            last = Some(want);
        }
    }

    #[test]
    fn a_removal_never_takes_what_hangs_on_the_device(want in networks()) {
        let mut model = empty_model(true);
        model.pass(&want, &BTreeMap::new());
        let ours: Vec<_> = model.sandboxes.values().map(|s| s.links.len()).collect();
        for op in removal(&model.have()) {
            model.apply(&want, &op);
        }
        let still: Vec<_> = model.sandboxes.values().map(|s| s.links.len()).collect();
        prop_assert_eq!(ours, still);
        prop_assert_eq!(model.device.is_some(), model.is_in_use());
        prop_assert!(model.host.is_empty());
    }

    #[test]
    fn any_rows_become_the_wanted_ones(
        want in networks(),
        fdb in proptest::collection::btree_map(macs(), proptest::option::of(vteps()), 0..6),
        neighbours in proptest::collection::btree_map(any_addresses(), macs(), 0..6),
    ) {
        let wanted = WantedRows::of(&want);
        let mut rows = Rows { fdb, neighbours };
        for op in wanted.changes(&rows, true) {
            rows.record(&op);
        }
        let fdb: BTreeMap<_, _> = wanted.fdb.iter().map(|(m, v)| (*m, Some(*v))).collect();
        prop_assert_eq!(&rows.fdb, &fdb);
        prop_assert_eq!(&rows.neighbours, &wanted.neighbours);
        prop_assert_eq!(wanted.changes(&rows, true), []);
    }
}

fn plain_network() -> DesiredNetwork {
    DesiredNetwork {
        name: "n".into(),
        vni: VNI,
        local: Ipv4Addr::new(192, 0, 2, 1),
        port: 4789,
        mtu: 1450,
        endpoints: BTreeMap::new(),
        remotes: BTreeMap::new(),
        settled: true,
    }
}

fn have(device: Link) -> Have {
    Have { device: Some(device), ..Have::default() }
}

#[test]
fn what_the_kernel_cannot_change_asks_for_a_replacement_alone() {
    let mut want = plain_network();
    let there = device(&want, 7);
    assert_eq!(network(&want, &have(there.clone())), []);
    want.port = 4790;
    assert_eq!(network(&want, &have(there.clone())), [Op::ReplaceDevice]);
    want.port = 4789;
    for change in [|v: &mut Vxlan| v.proxy = false, |v: &mut Vxlan| v.external = true] {
        let mut other = there.clone();
        if let Kind::Vxlan(vxlan) = &mut other.kind {
            change(vxlan);
        }
        assert_eq!(network(&want, &have(other)), [Op::ReplaceDevice]);
    }
}

#[test]
fn a_pinned_device_is_changed_in_place_as_far_as_possible() {
    let mut want = plain_network();
    let mut have = have(device(&want, 7));
    have.pinned = true;
    want.port = 4790;
    want.mtu = 1400;
    assert_eq!(network(&want, &have), [Op::SetDevice(Setting::Mtu)]);
}

#[test]
fn every_setting_that_is_off_is_set_and_up_comes_last() {
    let mut want = plain_network();
    let mut other = device(&want, 7);
    other.alias = "ovl network old".into();
    other.mtu = 1500;
    other.up = false;
    other.kind = Kind::Vxlan(Vxlan {
        local: None,
        learning: true,
        port: 4789,
        proxy: true,
        vni: VNI,
        external: false,
    });
    other.quiet = Quiet {
        makes_addresses: Some(true),
        accept_ra: Some(1),
        arp_ignore: Some(0),
        ipv6: Some(false),
    };
    let all = [
        Setting::Alias,
        Setting::Local,
        Setting::NoLearning,
        Setting::Mtu,
        Setting::NoIpv6Address,
        Setting::NoRouterAdvertisement,
        Setting::NoArpReply,
        Setting::Up,
    ];
    assert_eq!(network(&want, &have(other.clone())), all.map(Op::SetDevice));
    // IPv6 is turned on where there are rows for it: last before the device goes up.
    let vtep = Ipv4Addr::new(192, 0, 2, 2);
    let remote = Remote { mac: Mac([2, 0, 0, 0, 0, 9]), vtep };
    want.remotes.insert(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9).into(), remote);
    let ops = network(&want, &have(other.clone()));
    assert_eq!(ops[7..9], [Setting::Ipv6, Setting::Up].map(Op::SetDevice));
    want.remotes.clear();
    // Where the kernel tells nothing of IPv6, nothing is set.
    other = device(&want, 7);
    other.quiet = Quiet::default();
    assert_eq!(network(&want, &have(other)), []);
}

#[test]
fn ours_is_what_has_the_name_and_a_mark() {
    let want = plain_network();
    let ours = device(&want, 7);
    assert_eq!(owned_vni(&ours), Some(VNI));
    let with = |change: fn(&mut Link)| {
        let mut link = ours.clone();
        change(&mut link);
        owned_vni(&link)
    };
    assert_eq!(with(|l| l.alias.clear()), Some(VNI));
    assert_eq!(with(|l| l.mac = None), Some(VNI));
    let unmarked = |l: &mut Link| {
        l.alias.clear();
        l.mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    };
    assert_eq!(with(unmarked), None);
    assert_eq!(with(|l| l.name = "vx5000".into()), None);
    assert_eq!(with(|l| l.name = "ovl-5001".into()), None);
    assert_eq!(with(|l| l.kind = Kind::Other), None);
}

#[test]
fn remotes_beyond_the_bound_get_no_rows_and_are_counted() {
    let mut want = plain_network();
    let vtep = Ipv4Addr::new(192, 0, 2, 2);
    let first = u32::from(Ipv4Addr::new(10, 88, 0, 0));
    let count = u32::try_from(crate::MAX_REMOTES).unwrap() + 3;
    want.remotes = (0..count)
        .map(|n| Ipv4Addr::from(first + n))
        .map(|address| {
            let mac = Mac::from_ipv4(address);
            (IpAddr::V4(address), Remote { mac, vtep })
        })
        .collect();
    let rows = WantedRows::of(&want);
    assert_eq!(rows.neighbours.len(), crate::MAX_REMOTES);
    assert_eq!(rows.left_out, 3);

    // Each family has its own bound: those of IPv4 take no room from IPv6.
    let six = |n: u32| Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n));
    want.remotes.extend((0..count).map(|n| {
        let mac = Mac::from_ipv4(Ipv4Addr::from(first + n));
        (IpAddr::V6(six(n)), Remote { mac, vtep })
    }));
    let rows = WantedRows::of(&want);
    assert_eq!((rows.neighbours.len(), rows.left_out), (2 * crate::MAX_REMOTES, 6));
    assert!(rows.neighbours.contains_key(&IpAddr::V6(six(0))));
}

#[test]
fn both_families_of_an_endpoint_share_its_fdb_row() {
    let mut want = plain_network();
    let remote = Remote { mac: Mac([2, 0, 0, 0, 0, 9]), vtep: Ipv4Addr::new(192, 0, 2, 2) };
    let six = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
    want.remotes.insert(Ipv4Addr::new(10, 88, 0, 9).into(), remote);
    want.remotes.insert(six.into(), remote);
    let rows = WantedRows::of(&want);
    assert_eq!((rows.fdb.len(), rows.neighbours.len()), (1, 2));
    want.remotes.remove(&IpAddr::V4(Ipv4Addr::new(10, 88, 0, 9)));
    let rows = WantedRows::of(&want);
    assert_eq!((rows.fdb.len(), rows.neighbours.len()), (1, 1));
}

#[test]
fn no_row_speaks_for_an_address_that_each_host_has_for_itself() {
    let mut want = plain_network();
    let remote = Remote { mac: Mac([2, 0, 0, 0, 0, 9]), vtep: Ipv4Addr::new(192, 0, 2, 2) };
    for address in ["::", "::1", "ff02::1", "fe80::9"] {
        want.remotes.insert(address.parse().unwrap(), remote);
    }
    assert_eq!(network(&want, &have(device(&want, 7))), []);
}

#[test]
fn an_ipv6_address_that_is_not_wanted_any_more_is_removed_and_others_stay() {
    let address6 = |n| Some(Ipv6Net::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n), 64).unwrap());
    let home =
        Home::Sandbox { netns: sandbox_path(0), ifname: "eth0".parse().unwrap(), resolver: None };
    let before = LocalEndpoint {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        address: "10.88.0.1/16".parse().unwrap(),
        address6: address6(1),
        home,
    };
    let child = Link {
        index: 5,
        mac: Some(before.mac),
        mtu: 1400,
        up: true,
        alias: endpoint_alias("e"),
        kind: Kind::Macvlan { parent: 7 },
        quiet: Quiet { ipv6: Some(true), ..Quiet::default() },
        ..Link::default()
    };
    let theirs = address6(7).unwrap().into();
    let held = [before.address.into(), address6(1).unwrap().into(), theirs];
    let inside = Inside { links: vec![child], addresses: [(5, held.into())].into() };
    let plan = |want: &LocalEndpoint| sandbox("e", want, 1400, 7, &inside, Some(&before));
    assert_eq!(plan(&before), []);
    // Known by its alias: whoever changed its MAC inside changed nothing else.
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    assert_eq!(plan(&LocalEndpoint { mac, ..before.clone() }), [SandboxOp::SetMac(mac)]);
    let delete = SandboxOp::DeleteAddress(address6(1).unwrap().into());
    assert_eq!(plan(&LocalEndpoint { address6: None, ..before.clone() }), vec![delete.clone()]);
    let add = SandboxOp::AddAddress(address6(2).unwrap().into());
    assert_eq!(plan(&LocalEndpoint { address6: address6(2), ..before.clone() }), [delete, add]);
}

#[test]
fn a_long_name_is_cut_to_what_an_alias_holds() {
    let mut want = plain_network();
    want.name = "ü".repeat(300);
    let alias = device_alias(&want);
    assert!(alias.len() <= MAX_ALIAS && alias.len() > MAX_ALIAS - 2);
}
