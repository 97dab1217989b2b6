//! Plans carried out on a model of the kernel, which refuses what the kernel refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use proptest::prelude::*;

use super::*;
use crate::{Remote, observe::Quiet};

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
            let ops = sandbox(endpoint, want.mtu, device, &inside, before.get(id));
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
        let device = device(want, self.index());
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
        let is_it = |l: &&mut Link| match is_loopback {
            true => l.name == "lo",
            false => l.mac == Some(endpoint.mac) && l.kind == Kind::Macvlan { parent },
        };
        let link = inside.links.iter_mut().find(is_it).unwrap();
        let addresses = inside.addresses.entry(link.index).or_default();
        match op {
            SandboxOp::CreateChild => {}
            SandboxOp::LoopbackUp | SandboxOp::ChildUp => link.up = true,
            SandboxOp::AddResolver(address) => {
                addresses.insert(Ipv4Net::from(*address));
            }
            SandboxOp::Alias => link.alias = endpoint_alias(id),
            SandboxOp::SetMtu => {
                assert!(u32::from(want.mtu) <= limit);
                link.mtu = want.mtu.into();
            }
            SandboxOp::AddAddress(address) => {
                addresses.insert(*address);
            }
            // With the first of a subnet the kernel removes the others.
            SandboxOp::DeleteAddress(address) => {
                addresses.retain(|a| a.trunc() != address.trunc());
            }
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
        (homes(n), addresses()).prop_map(move |(home, address)| {
            let endpoint = LocalEndpoint {
                mac: Mac([2, 0, 0, 0, 0, n]),
                address: Ipv4Net::new(address, 16).unwrap(),
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
            addresses(), (macs(), vteps()).prop_map(|(mac, vtep)| Remote { mac, vtep }), 0..6
        ),
        settled: bool,
    ) -> DesiredNetwork {
        DesiredNetwork {
            name: "n".into(), vni: VNI, local, port, mtu, endpoints, remotes, settled,
        }
    }
}

fn empty_model() -> Model {
    let lo = Link { index: 1, name: "lo".into(), ..Link::default() };
    let inside = Inside { links: vec![lo], ..Inside::default() };
    Model {
        sandboxes: (0..3).map(|n| (sandbox_path(n), inside.clone())).collect(),
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
                let child = inside.child(device.index, endpoint.mac).unwrap();
                assert!(child.up && child.mtu == u32::from(want.mtu), "{id}");
                assert!(inside.has_address(child.index, endpoint.address), "{id}");
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
        steps in proptest::collection::vec(networks(), 1..5)
    ) {
        let mut model = empty_model();
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
        let mut model = empty_model();
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
        neighbours in proptest::collection::btree_map(addresses(), macs(), 0..6),
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
    let want = plain_network();
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
    other.quiet = Quiet { makes_addresses: Some(true), accept_ra: Some(1), arp_ignore: Some(0) };
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
            (address, Remote { mac, vtep })
        })
        .collect();
    let rows = WantedRows::of(&want);
    assert_eq!(rows.neighbours.len(), crate::MAX_REMOTES);
    assert_eq!(rows.left_out, 3);
}

#[test]
fn a_long_name_is_cut_to_what_an_alias_holds() {
    let mut want = plain_network();
    want.name = "ü".repeat(300);
    let alias = device_alias(&want);
    assert!(alias.len() <= MAX_ALIAS && alias.len() > MAX_ALIAS - 2);
}
