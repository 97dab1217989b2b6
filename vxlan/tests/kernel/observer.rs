//! What an observer tells is what `ip` and `bridge` would.

use std::{future::Future, net::IpAddr, path::PathBuf};

use ovl_vxlan::{Interface, InterfaceKind, Lookup, Mac, Observer, Route, netns};

use crate::lab::*;

/// Asks on a thread in a namespace, as the agent would there.
fn ask<T, F>(place: &Netns, question: impl FnOnce(Observer) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let asked = netns::run(&place.path(), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { question(Observer::open().unwrap()).await })
    });
    asked.unwrap()
}

fn interface(place: &Netns, name: &str) -> Interface {
    let all = ask(place, |mut observer| async move { observer.interfaces().await.unwrap() });
    all.into_iter().find(|i| i.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn route(place: &Netns, to: IpAddr, source: Option<IpAddr>) -> Lookup {
    ask(place, move |mut observer| async move { observer.route(to, source).await.unwrap() })
}

#[test]
fn a_device_its_rows_and_an_endpoint_are_seen_as_they_are() {
    let (host, _other) = two_hosts();
    let sandbox = Netns::new("box");
    let agent = Agent::start(&host);
    let mut network = network(VTEP_A);
    network.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    network.remotes.extend([remote(2, VTEP_B)]);
    agent.settle(&desired(&network));

    let device = interface(&host, DEVICE);
    let InterfaceKind::Vxlan(vxlan) = &device.kind else { panic!("{device:?}") };
    assert_eq!((vxlan.vni, vxlan.port, vxlan.local), (VNI, PORT, Some(VTEP_A)));
    assert!(device.up && vxlan.proxy && !vxlan.learning, "{device:?}");
    let inside = interface(&sandbox, "eth0");
    assert_eq!(inside.kind, InterfaceKind::Macvlan { parent: device.index });
    assert!(inside.up && inside.carrier && inside.alias.contains("e1"), "{inside:?}");
    assert!(inside.addresses.contains(&"10.88.0.1/16".parse().unwrap()), "{inside:?}");

    let index = device.index;
    let (mac, address) = (Mac::from_ipv4(address(2)), IpAddr::from(address(2)));
    let rows = move |host: &Netns| {
        ask(host, move |mut o| async move {
            (o.neighbour(index, address).await.unwrap(), o.fdb(index, mac).await.unwrap())
        })
    };
    let (neighbour, fdb) = rows(&host);
    let neighbour = neighbour.unwrap();
    assert!(neighbour.mac == Some(mac) && neighbour.permanent && neighbour.valid);
    assert!(fdb.len() == 1 && fdb[0].vtep == Some(VTEP_B) && fdb[0].plain, "{fdb:?}");
    host.sh(&format!("bridge fdb replace {mac} dev {DEVICE} dst 192.0.2.9 port 1"));
    host.sh(&format!("ip neigh del {address} dev {DEVICE}"));
    let (neighbour, fdb) = rows(&host);
    assert!(neighbour.is_none(), "{neighbour:?}");
    assert!(fdb.len() == 1 && !fdb[0].plain, "a port of its own: {fdb:?}");
    host.sh(&format!("bridge fdb del {mac} dev {DEVICE}"));
    assert_eq!(rows(&host).1, []);

    host.sh(&format!("ip link set {DEVICE} down"));
    assert!(!interface(&host, DEVICE).up);
}

#[test]
fn a_pulled_cable_is_seen() {
    let (host, other) = two_hosts();
    assert!(interface(&host, "u0").carrier);
    other.sh("ip link set u0 down");
    wait_until(std::time::Duration::from_secs(5), || !interface(&host, "u0").carrier);
    assert!(interface(&host, "u0").up);
}

#[test]
fn a_route_is_looked_up_as_the_kernel_would_for_a_packet() {
    let (host, _other) = two_hosts();
    let u0 = interface(&host, "u0").index;
    let on_link = Route {
        is_local: false,
        device: Some(u0),
        gateway: None,
        source: Some(VTEP_A.into()),
        mtu: None,
    };
    assert_eq!(route(&host, VTEP_B.into(), None), Lookup::Route(on_link));
    host.sh("ip route add 198.51.100.0/24 via 192.0.2.2 mtu 1300");
    host.sh("ip -6 address add 2001:db8::1/64 dev u0 nodad");
    let Lookup::Route(far) = route(&host, [198, 51, 100, 7].into(), Some(VTEP_A.into())) else {
        panic!("no route")
    };
    assert_eq!((far.gateway, far.mtu), (Some(VTEP_B.into()), Some(1300)));
    let Lookup::Route(own) = route(&host, VTEP_A.into(), None) else { panic!("no route") };
    assert!(own.is_local);
    let v6 = route(&host, "2001:db8::2".parse().unwrap(), None);
    assert!(matches!(&v6, Lookup::Route(r) if r.device == Some(u0)), "{v6:?}");
    for (to, source) in [
        // No route; a source that is not ours; a route that refuses.
        (IpAddr::from([203, 0, 113, 1]), None),
        (VTEP_B.into(), Some([192, 0, 2, 77].into())),
    ] {
        let refused = route(&host, to, source);
        assert!(matches!(refused, Lookup::Refused(_)), "{to} from {source:?}: {refused:?}");
    }
    host.sh("ip route add unreachable 203.0.113.0/24");
    let refused = route(&host, [203, 0, 113, 1].into(), None);
    assert!(
        matches!(&refused, Lookup::Refused(e) if e.to_string().contains("route")),
        "{refused:?}"
    );
}

#[test]
fn another_namespace_is_looked_into_by_its_path() {
    let sandbox = Netns::new("box");
    sandbox.sh("ip link set lo up");
    let look = |path: PathBuf| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut observer = Observer::open_in(&path).await?;
            Ok::<_, netns::NetnsError>(observer.interfaces().await.unwrap())
        })
    };
    let lo = look(sandbox.path()).unwrap().into_iter().find(|i| i.name == "lo").unwrap();
    assert!(lo.up && lo.addresses.contains(&"127.0.0.1/8".parse().unwrap()), "{lo:?}");
    assert!(look("/run/netns/no-such".into()).unwrap_err().is_gone());
}
