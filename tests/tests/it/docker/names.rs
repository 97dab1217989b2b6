//! Under which names containers find each other, wherever they run.
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use ovl_tests::Host;
use ovl_tests::docker::IMAGE;

use super::rig::{NAMED, NET, Rig};
use crate::support::{eventually, holds};

#[test]
fn every_name_of_a_container_is_known_on_both_hosts() {
    let rig = Rig::up("names");
    rig.network(NET, &[]);
    let more = ["--network-alias", "primary", "--network-alias", "main", "--hostname", "queen"];
    rig.run(0, "leader", &more);
    rig.run(0, "near", &[]);
    rig.run(1, "far", &[]);
    let address = rig.address(0, "leader");
    let id = rig.field(0, "leader", "{{.Id}}")[..12].to_owned();
    let full = format!("leader.{NET}");
    for (at, from) in [(0, "near"), (1, "far")] {
        for name in ["leader", "primary", "main", "queen", &id, &full] {
            rig.resolves(at, from, name, &[&address]);
        }
        rig.reaches(at, from, "leader");
    }
    rig.ok(0, &["rm", "-f", "leader"]);
    for (at, from) in [(0, "near"), (1, "far")] {
        rig.forgets(at, from, "leader");
        rig.forgets(at, from, "primary");
    }
}

#[test]
fn an_alias_on_two_hosts_is_all_its_addresses_everywhere() {
    let rig = Rig::up("alias");
    rig.network(NET, &[]);
    let places = [(0, "db-1"), (0, "db-2"), (1, "db-3")];
    for (at, name) in places {
        rig.run(at, name, &["--network-alias", "db"]);
    }
    let all: Vec<_> = places.iter().map(|&(at, name)| rig.address(at, name)).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    rig.run(0, "near", &[]);
    rig.run(1, "far", &[]);
    for (at, from) in [(0, "near"), (1, "far"), (0, "db-1"), (1, "db-3")] {
        rig.resolves(at, from, "db", &all);
    }
    rig.ok(0, &["rm", "-f", "db-1"]);
    for (at, from) in [(0, "near"), (1, "far")] {
        rig.resolves(at, from, "db", &all[1..]);
    }
}

#[test]
fn a_renamed_container_is_found_by_its_new_name() {
    let rig = Rig::up("rename");
    rig.network(NET, &[]);
    rig.run(0, "first", &[]);
    rig.run(0, "near", &[]);
    rig.run(1, "far", &[]);
    rig.reaches(1, "far", "first");
    rig.ok(0, &["rename", "first", "second"]);
    let address = rig.address(0, "second");
    for (at, from) in [(0, "near"), (1, "far")] {
        rig.resolves(at, from, "second", &[&address]);
        rig.forgets(at, from, "first");
    }
}

#[test]
fn connecting_and_disconnecting_shows_at_once() {
    let rig = Rig::up("connect");
    rig.network(NET, &[]);
    rig.run(1, "far", &[]);
    rig.ok(0, &["run", "-d", "--name", "guest", IMAGE, "sleep", "3600"]);
    for _ in 0..2 {
        rig.ok(0, &["network", "connect", "--alias", "visitor", NET, "guest"]);
        let address = rig.address(0, "guest");
        for name in ["guest", "visitor"] {
            rig.resolves(1, "far", name, &[&address]);
        }
        rig.reaches(1, "far", "guest");
        rig.reaches(0, "guest", "far");
        rig.ok(0, &["network", "disconnect", NET, "guest"]);
        rig.forgets(1, "far", "guest");
        rig.forgets(1, "far", "visitor");
    }
}

#[test]
fn a_container_on_two_networks_sees_both_and_others_only_their_own() {
    let rig = Rig::up("two-nets");
    rig.network(NET, &[]);
    rig.network("second", &[]);
    rig.run(0, "both", &[]);
    rig.ok(0, &["network", "connect", "second", "both"]);
    rig.run(1, "one", &[]);
    rig.run_on(1, "second", "two", &[]);
    for name in ["one", "two", &format!("one.{NET}"), "two.second"] {
        rig.reaches(0, "both", name);
    }
    // Each is told the address on its own network.
    rig.resolves(1, "one", "both", &[&rig.on_network(0, "both", NET, "IPAddress")]);
    rig.resolves(1, "two", "both", &[&rig.on_network(0, "both", "second", "IPAddress")]);
    rig.forgets(1, "one", "two");
    rig.forgets(1, "two", "one");
}

#[test]
fn published_ports_and_the_way_out_work() {
    let rig = Rig::up("ports");
    rig.network(NET, &[]);
    let serve = "mkdir /www && echo hello > /www/index.html && httpd -f -p 80 -h /www";
    let run = ["run", "-d", "--net", NET, "--name", "web", "-p", "8080:80", IMAGE];
    rig.ok(0, &[&run[..], &["sh", "-c", serve]].concat());
    let (here, there) = (rig.hosts[0].address(), rig.hosts[1].address());
    eventually("the page from the other host", NAMED, || {
        let page = get(&rig.hosts[1], here).map_err(|error| error.to_string())?;
        holds(page.contains("hello"), page)
    });
    rig.run(1, "far", &[]);
    rig.reaches(1, "far", "web");
    let by_name = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 web 80";
    let page = rig.exec(1, "far", &["sh", "-c", by_name]);
    assert!(page.stdout.contains("hello"), "by name: {page:?}");
    rig.reaches(0, "web", &there.to_string());
}

/// The page that a host publishes, asked for from another.
fn get(from: &Host, address: Ipv4Addr) -> io::Result<String> {
    from.sandbox().inside_network(|| {
        let mut stream = TcpStream::connect((address, 8080))?;
        stream.set_read_timeout(Some(NAMED))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page).map(|_| page)
    })
}
