//! A way that is in order, and one fault at a time: the hop that is named first.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::control::api::trace::Verdict;
use crate::core::Absence as Away;
use crate::trace::facts::*;
use crate::trace::tests::{here, network, there};

const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const WEB: &str = "02:42:0a:58:00:02";
const DB: &str = "02:42:0a:58:00:03";

fn row(mac: &str) -> Row {
    Row { mac: Some(mac.into()), permanent: true, valid: true }
}

fn route(device: &str, mtu: u32) -> Route {
    Route { is_local: false, device: device.into(), gateway: None, source: None, mtu }
}

/// One end in order: `own` and `other` are (last byte of the address, MAC).
fn end(host: &str, vtep: Ipv4Addr, own: (u8, &str), other: (u8, &str, Ipv4Addr)) -> End {
    let address = |last| IpAddr::from([10, 88, 0, last]);
    End {
        host: host.into(),
        version: "0.1.0".into(),
        vtep,
        port: 4789,
        vni: 4097,
        mtu: 1450,
        held: Some(Held {
            id: "id".into(),
            name: "name".into(),
            addresses: vec![address(own.0)],
            mac: own.1.into(),
            phase: "up".into(),
            is_up: true,
            netns: Some("/run/netns/x".into()),
            ifname: Some("eth0".into()),
            container: Container::Attached,
        }),
        troubles: Vec::new(),
        device: Ok(Some(Device {
            name: "ovl-4097".into(),
            up: true,
            mtu: 1450,
            vxlan: Some(Vxlan {
                vni: 4097,
                port: 4789,
                local: Some(vtep),
                proxy: true,
                learning: false,
            }),
        })),
        inside: Some(Ok(Inside {
            interface: Some(Interface {
                name: "eth0".into(),
                up: true,
                mtu: 1450,
                mac: Some(own.1.into()),
                addresses: vec![format!("{}/24", address(own.0)).parse().unwrap()],
                on_device: true,
            }),
            same_address: Vec::new(),
            route: Ok(route("eth0", 1450)),
            neighbour: None,
            processes: 1,
            first_pid: Some(7),
            programs: vec!["sleep (7)".into()],
        })),
        rows: Some(Ok(Rows {
            neighbour: Some(row(other.1)),
            fdb: vec![Fdb { vtep: Some(other.2), plain: true }],
        })),
        outer: Some(Ok(Outer {
            stub: false,
            holder: Some("eth1".into()),
            route: Ok(route("eth1", 1500)),
            up: true,
            carrier: true,
        })),
        other: Some(Other {
            host: "the other".into(),
            mac: other.1.into(),
            vtep: Some(other.2),
            state: Some("alive".into()),
            absence: Absence::None,
            heard: Some(3),
            rivals: Vec::new(),
        }),
    }
}

/// From web on bee-1 to db on bee-2, all in order.
fn facts() -> Facts {
    let address = IpAddr::from([10, 88, 0, 3]);
    Facts {
        from: here("web", 1),
        asked: Asked {
            text: "db".into(),
            answer: Some(vec![address]),
            scope: vec!["net-1".into()],
            siblings: vec![("02:42:0a:58:00:09".into(), "cache".into())],
        },
        target: Target::Endpoint {
            known: Box::new(there("db", 1, "bee-2")),
            address,
            also: Vec::new(),
        },
        near: end("bee-1", NEAR, (2, WEB), (3, DB, FAR)),
        far: Far::Other(Ok(Box::new(end("bee-2", FAR, (3, DB), (2, WEB, NEAR))))),
    }
}

fn far(facts: &mut Facts) -> &mut End {
    match &mut facts.far {
        Far::Other(Ok(far)) | Far::Same(far) => far,
        Far::Other(Err(_)) | Far::Nowhere => panic!("no other end"),
    }
}

fn inside(end: &mut End) -> &mut Inside {
    end.inside.as_mut().unwrap().as_mut().unwrap()
}

fn interface(end: &mut End) -> &mut Interface {
    inside(end).interface.as_mut().unwrap()
}

fn device(end: &mut End) -> &mut Device {
    end.device.as_mut().unwrap().as_mut().unwrap()
}

fn rows(end: &mut End) -> &mut Rows {
    end.rows.as_mut().unwrap().as_mut().unwrap()
}

fn outer(end: &mut End) -> &mut Outer {
    end.outer.as_mut().unwrap().as_mut().unwrap()
}

fn known(facts: &mut Facts) -> &mut Known {
    match &mut facts.target {
        Target::Endpoint { known, .. } => known,
        Target::OtherNetwork(_) | Target::Nobody { .. } => panic!("no endpoint"),
    }
}

fn away(facts: &mut Facts, absence: Away) {
    let Place::There(there) = &mut known(facts).place else { panic!("it is here") };
    there.absence = absence;
}

fn broken(facts: &Facts) -> Vec<&'static str> {
    let verdicts = hops(facts);
    for judged in verdicts.hops.iter().filter(|judged| judged.is_broken()) {
        assert!(judged.hop.fix.is_some(), "nothing to do: {judged:?}");
        assert!(!judged.hop.says.ends_with('.') && judged.hop.says.len() > 20, "{judged:?}");
    }
    verdicts.hops.iter().filter(|j| j.is_broken()).map(|j| j.at.id()).collect()
}

#[test]
fn a_way_in_order_has_no_broken_hop_and_all_hops_in_order() {
    let verdicts = hops(&facts());
    let only_probes_tell = [At::Wire, At::BackWire, At::BackDevice];
    for judged in &verdicts.hops {
        let expected = match only_probes_tell.contains(&judged.at) {
            true => Verdict::Unknown,
            false => Verdict::Ok,
        };
        assert_eq!(judged.hop.verdict, expected, "{judged:?}");
    }
    let ids: Vec<At> = verdicts.hops.iter().map(|judged| judged.at).collect();
    assert!(ids.is_sorted() && ids.len() == 19, "{ids:?}");
    assert_eq!(verdicts.doubts, []);
}

/// A fault, and the hops that are broken by it.
type Fault = (&'static str, fn(&mut Facts), &'static [&'static str]);

const FAULTS: &[Fault] = &[
    ("FROM is not up", |f| f.near.held.as_mut().unwrap().is_up = false, &["from"]),
    ("the name is not answered", |f| f.asked.answer = Some(vec![]), &["name"]),
    ("the name is another's", |f| f.asked.answer = Some(vec![[10, 88, 0, 9].into()]), &["name"]),
    (
        "its network is not served",
        |f| (f.asked.scope, f.asked.answer) = (vec![], Some(vec![])),
        &["name"],
    ),
    ("its host is silent", |f| away(f, Away::Silent), &["name"]),
    ("its agent is long away", |f| away(f, Away::Nameless), &["name"]),
    ("two hosts hold it", |f| known(f).rivals = vec![("bee-3".into(), 6)], &["name"]),
    ("no interface", |f| inside(&mut f.near).interface = None, &["from.interface"]),
    ("FROM's is down", |f| interface(&mut f.near).up = false, &["from.interface"]),
    ("another MAC", |f| interface(&mut f.near).mac = None, &["from.interface"]),
    ("no address", |f| interface(&mut f.near).addresses.clear(), &["from.interface"]),
    ("another MTU", |f| interface(&mut f.near).mtu = 1300, &["from.interface"]),
    ("no child", |f| interface(&mut f.near).on_device = false, &["from.interface"]),
    ("no namespace", |f| f.near.inside = Some(Err("gone".into())), &["from.interface"]),
    ("no route", |f| inside(&mut f.near).route = Err("unreachable".into()), &["from.route"]),
    ("through another", |f| inside(&mut f.near).route = Ok(route("eth1", 1500)), &["from.route"]),
    (
        "by a gateway",
        |f| inside(&mut f.near).route.as_mut().unwrap().gateway = Some([10, 88, 0, 1].into()),
        &["from.route"],
    ),
    (
        "TO's address in FROM",
        |f| inside(&mut f.near).same_address = vec![("lo".into(), "10.88.0.3/32".parse().unwrap())],
        &["from.route"],
    ),
    ("learned wrong", |f| inside(&mut f.near).neighbour = Some(row(WEB)), &["from.route"]),
    ("no device", |f| (f.near.device, f.near.rows) = (Ok(None), None), &["device"]),
    ("device down", |f| (device(&mut f.near).up, f.near.rows) = (false, None), &["device"]),
    ("no vxlan", |f| device(&mut f.near).vxlan = None, &["device"]),
    ("its VNI", |f| device(&mut f.near).vxlan.as_mut().unwrap().vni = 7, &["device"]),
    ("its port", |f| device(&mut f.near).vxlan.as_mut().unwrap().port = 8472, &["device"]),
    ("its source", |f| device(&mut f.near).vxlan.as_mut().unwrap().local = None, &["device"]),
    ("no proxy", |f| device(&mut f.near).vxlan.as_mut().unwrap().proxy = false, &["device"]),
    ("no neighbour row", |f| rows(&mut f.near).neighbour = None, &["neighbour"]),
    ("a wrong one", |f| rows(&mut f.near).neighbour = Some(row(WEB)), &["neighbour"]),
    (
        "a failed one",
        |f| rows(&mut f.near).neighbour.as_mut().unwrap().valid = false,
        &["neighbour"],
    ),
    ("no FDB row", |f| rows(&mut f.near).fdb.clear(), &["fdb"]),
    ("a wrong one", |f| rows(&mut f.near).fdb[0].vtep = Some(NEAR), &["fdb"]),
    ("one with a port", |f| rows(&mut f.near).fdb[0].plain = false, &["fdb"]),
    ("the VTEP is gone", |f| outer(&mut f.near).holder = None, &["underlay"]),
    ("no outer route", |f| outer(&mut f.near).route = Err("unreachable".into()), &["underlay"]),
    ("to itself", |f| outer(&mut f.near).route.as_mut().unwrap().is_local = true, &["underlay"]),
    ("underlay down", |f| outer(&mut f.near).up = false, &["underlay"]),
    ("no carrier", |f| outer(&mut f.near).carrier = false, &["underlay"]),
    ("its agent hangs", |f| f.far = Far::Other(Err("bee-2 did not answer".into())), &[]),
    ("another port there", |f| far(f).port = 8472, &["peer.device"]),
    ("device down there", |f| device(far(f)).up = false, &["peer.device"]),
    (
        "no device there",
        |f| {
            let far = far(f);
            (far.device, far.rows) = (Ok(None), None);
            inside(far).interface = None;
        },
        &["peer.device"],
    ),
    ("no such endpoint there", |f| (far(f).held, far(f).inside) = (None, None), &["to.interface"]),
    ("TO's is down", |f| interface(far(f)).up = false, &["to.interface"]),
    ("TO's address", |f| interface(far(f)).addresses.clear(), &["to.interface"]),
    (
        "it does not run",
        |f| far(f).held.as_mut().unwrap().container = Container::Gone,
        &["to.container"],
    ),
    ("no way back", |f| inside(far(f)).route = Err("unreachable".into()), &["back.route"]),
    ("FROM unknown there", |f| far(f).other = None, &["back.neighbour"]),
    (
        "FROM dead there",
        |f| far(f).other.as_mut().unwrap().absence = Absence::Silent,
        &["back.neighbour"],
    ),
    ("no neighbour row there", |f| rows(far(f)).neighbour = None, &["back.neighbour"]),
    ("no FDB row there", |f| rows(far(f)).fdb.clear(), &["back.fdb"]),
    ("underlay down there", |f| outer(far(f)).up = false, &["back.underlay"]),
];

#[test]
fn one_fault_breaks_one_hop() {
    for (fault, make, expected) in FAULTS {
        let mut facts = facts();
        make(&mut facts);
        assert_eq!(broken(&facts), *expected, "{fault}: {:#?}", hops(&facts).hops);
    }
}

#[test]
fn what_follows_from_another_hop_is_unknown() {
    let mut facts = facts();
    (facts.near.device, facts.near.rows) = (Ok(None), None);
    inside(&mut facts.near).interface = None;
    inside(&mut facts.near).route = Err("unreachable".into());
    assert_eq!(broken(&facts), ["device"]);
}

#[test]
fn too_small_an_mtu_is_only_a_doubt() {
    let faults: [fn(&mut Facts); 3] = [
        |f| outer(&mut f.near).route = Ok(route("eth1", 1400)),
        |f| outer(far(f)).route = Ok(route("eth1", 1400)),
        |f| far(f).mtu = 1400,
    ];
    let mut of_device = facts();
    device(&mut of_device.near).mtu = 1400;
    interface(&mut of_device.near).mtu = 1400;
    assert_eq!(broken(&of_device), ["device"], "the interface follows it");
    for (index, make) in faults.iter().enumerate() {
        let mut facts = facts();
        make(&mut facts);
        if index == 2 {
            interface(far(&mut facts)).mtu = 1400;
        }
        let verdicts = hops(&facts);
        assert!(verdicts.first_broken().is_none(), "{index}: {verdicts:#?}");
        assert_eq!(verdicts.doubts.len(), 1, "{index}: {:?}", verdicts.doubts);
    }
}

#[test]
fn on_one_host_nothing_of_the_underlay_counts() {
    let mut facts = facts();
    let mut to = here("db", 1);
    (to.ipv4, to.mac) = ([10, 88, 0, 3].into(), DB.parse().unwrap());
    facts.target =
        Target::Endpoint { known: Box::new(to), address: [10, 88, 0, 3].into(), also: vec![] };
    let mut far_end = end("bee-1", NEAR, (3, DB), (2, WEB, NEAR));
    far_end.outer = None;
    facts.far = Far::Same(Box::new(far_end));
    facts.near.outer = None;
    *rows(&mut facts.near) = Rows { neighbour: None, fdb: vec![] };
    assert_eq!(broken(&facts), [""; 0]);
    let ids: Vec<_> = hops(&facts).hops.iter().map(|judged| judged.at.id()).collect();
    let expected = [
        "from",
        "name",
        "from.interface",
        "from.route",
        "device",
        "sibling",
        "to.interface",
        "to.container",
        "back.route",
    ];
    assert_eq!(ids, expected);
    rows(&mut facts.near).neighbour = Some(row(WEB));
    assert_eq!(broken(&facts), ["sibling"]);
}

#[test]
fn a_way_to_nobody_ends_with_the_name() {
    let targets = [
        Target::OtherNetwork(vec![there("db", 2, "bee-2")]),
        Target::Nobody { address: None, around: vec![] },
        Target::Nobody { address: Some([10, 88, 0, 77].into()), around: vec![network(1)] },
        Target::Nobody { address: Some([10, 88, 0, 1].into()), around: vec![network(1)] },
        Target::Nobody { address: Some([10, 88, 0, 1].into()), around: vec![network(2)] },
        Target::Nobody { address: Some([8, 8, 8, 8].into()), around: vec![] },
    ];
    let mut sentences = std::collections::BTreeSet::new();
    let count = targets.len();
    for target in targets {
        let facts = Facts { target, far: Far::Nowhere, ..facts() };
        assert_eq!(broken(&facts), ["name"]);
        sentences.extend(hops(&facts).first_broken().map(|judged| judged.hop.says.clone()));
    }
    assert_eq!(sentences.len(), count, "each has its own words: {sentences:#?}");
}
