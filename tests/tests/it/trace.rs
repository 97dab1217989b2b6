//! `ovlctl trace` names the hop that is really broken, and none before it.
//!
//! Each fault is made for real. What the agent's audit repairs is broken again before each look: a look
//! may find the way repaired, but never another hop broken.
use std::time::Duration;

use ovl_tests::{Container, Host, Outcome, StoreKind, exec, underlay};
use serde_json::Value;

use crate::support::{
    SPREAD, TestLab, ctl, endpoint, eventually, fdb, holds, one_sentence, text, vni,
};

const HOSTS: [&str; 2] = ["bee-1", "bee-2"];
const NETWORK: &str = "blue";

/// How long a fault may take to be seen: the agent's audit mends some of them meanwhile.
const SEEN: Duration = Duration::from_secs(40);

/// Two hosts: web and cache on bee-1, db on bee-2.
struct Site {
    lab: TestLab,
    here: Host,
    there: Host,
    web: Container,
    cache: Container,
    db: Container,
    device: String,
}

impl Site {
    fn up(name: &str) -> Site {
        let lab = TestLab::up(name, &HOSTS, StoreKind::Sqlite);
        let (here, there) = (lab.host(HOSTS[0]).unwrap(), lab.host(HOSTS[1]).unwrap());
        ctl(&here, &["network", "create", NETWORK]);
        let attach =
            |host, name| lab.attach(host, NETWORK, name).unwrap_or_else(|error| panic!("{error}"));
        let (web, cache, db) =
            (attach(HOSTS[0], "web"), attach(HOSTS[0], "cache"), attach(HOSTS[1], "db"));
        let device = format!("ovl-{}", vni(&here, NETWORK));
        let site = Site { lab, here, there, web, cache, db, device };
        site.works(&["web", "db"]);
        site
    }

    /// The way is found in order, and packets are answered.
    fn works(&self, way: &[&str]) -> Value {
        eventually(&format!("trace of {way:?} finding nothing"), SEEN, || {
            let trace = trace(&self.here, way);
            holds(trace["verdict"] == "ok" && answered(&trace, "udp"), &trace).map(|()| trace)
        })
    }

    /// Breaks something until a trace names that hop.
    fn broken(&self, hop: &str, fault: impl Fn()) -> Value {
        self.broken_on(&self.here, &["web", "db"], hop, fault)
    }

    /// The same, and what the trace says to do mends it.
    fn broken_and_mended(&self, hop: &str, fault: impl Fn()) -> Value {
        let trace = self.broken(hop, fault);
        self.mend(&trace, &["web", "db"]);
        trace
    }

    /// Does what a trace says: `on HOST: COMMAND`.
    fn mend(&self, broken: &Value, way: &[&str]) {
        let fix = text(&broken["fix"]);
        let (host, command) = fix.strip_prefix("on ").unwrap().split_once(": ").unwrap();
        let outcome = self.lab.host(host).unwrap().run(&["sh", "-ec", command]).unwrap();
        // The audit may have been faster.
        let mended = outcome.ok() || trace(&self.here, way)["verdict"] == "ok";
        assert!(mended, "`{command}`: {}", outcome.stderr);
        self.works(way);
    }

    fn broken_on(&self, host: &Host, way: &[&str], hop: &str, fault: impl Fn()) -> Value {
        eventually(&format!("trace of {way:?} naming {hop}"), SEEN, || {
            fault();
            let trace = trace(host, way);
            let found = &trace["broken"];
            assert!(found == hop || found.is_null(), "not {hop}: {trace:#}");
            let hops = trace["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
            let others = hops.iter().filter(|one| one["verdict"] == "broken" && one["hop"] != hop);
            assert_eq!(others.count(), 0, "{hop}, and others: {trace:#}");
            holds(found == hop, &trace["conclusion"]).map(|()| trace)
        })
    }
}

/// What `ovlctl --json trace` answers; its exit code says the verdict.
fn trace(host: &Host, way: &[&str]) -> Value {
    let argv: Vec<&str> = ["--json", "trace"].iter().chain(way).copied().collect();
    let outcome = host.ctl(&argv).unwrap();
    let trace = outcome.json().unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr));
    let code = match trace["verdict"].as_str() {
        Some("ok") => 0,
        Some("unknown") => 2,
        Some("broken") => 4,
        _ => panic!("{trace:#}"),
    };
    assert_eq!(outcome.code, Some(code), "{trace:#}");
    trace
}

fn hop<'a>(trace: &'a Value, id: &str) -> &'a Value {
    let hops = trace["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    hops.iter().find(|hop| hop["hop"] == id).unwrap_or_else(|| panic!("no {id} in {trace:#}"))
}

fn probe<'a>(trace: &'a Value, kind: &str) -> &'a Value {
    let probes = trace["probes"].as_array().map(Vec::as_slice).unwrap_or_default();
    probes.iter().find(|probe| probe["probe"] == kind).unwrap_or(&Value::Null)
}

fn answered(trace: &Value, kind: &str) -> bool {
    probe(trace, kind)["answered"].as_u64().is_some_and(|answered| answered > 0)
}

/// How many were seen at a point: `bee-1 eth1 out there`.
fn seen(trace: &Value, kind: &str, point: &str) -> Option<u64> {
    let points = probe(trace, kind)["points"].as_array().cloned().unwrap_or_default();
    let name =
        |p: &Value| ["host", "interface", "direction", "way"].map(|key| text(&p[key])).join(" ");
    let found = points.iter().find(|p| name(p) == point && p["container"].is_null());
    found.unwrap_or_else(|| panic!("no {point} in {trace:#}"))["seen"].as_u64()
}

/// The broken hop's words hold all of these.
fn says(trace: &Value, words: &[&str]) {
    let hop = hop(trace, trace["broken"].as_str().unwrap());
    let all = hop.to_string();
    assert!(words.iter().all(|word| all.contains(word)), "{words:?} in {hop:#}");
    assert!(hop["fix"].is_string(), "nothing to do: {hop:#}");
}

fn run(host: &Host, argv: &[&str]) {
    host.run(argv).unwrap().require().unwrap_or_else(|error| panic!("{error}"));
}

fn inside(container: &Container, argv: &[&str]) -> Outcome {
    container.run(argv).unwrap()
}

fn set(container: &Container, argv: &[&str]) {
    inside(container, argv).require().unwrap_or_else(|error| panic!("{error}"));
}

fn address(site: &Site, name: &str) -> String {
    text(&endpoint(&site.here, name)["ipv4"])
}

fn mac(site: &Site, name: &str) -> String {
    text(&endpoint(&site.here, name)["mac"])
}

#[test]
fn rows_and_devices_that_are_gone_are_named() {
    let site = Site::up("trace-rows");
    let (device, db, web) = (site.device.as_str(), mac(&site, "db"), mac(&site, "web"));
    let (to, from) = (address(&site, "db"), address(&site, "web"));
    let gone = |host: &Host, row: &[&str]| run(host, &[row, &["dev", device]].concat());

    let trace = site.broken_and_mended("fdb", || gone(&site.here, &["bridge", "fdb", "del", &db]));
    says(&trace, &[&db, "no FDB row"]);
    assert_eq!(seen(&trace, "echo", &format!("bee-1 {device} out there")), Some(3), "{trace:#}");
    assert_eq!(seen(&trace, "echo", "bee-1 eth1 out there"), Some(0), "{trace:#}");
    let elsewhere = ["bridge", "fdb", "replace", &db, "dst", "192.168.77.99"];
    let trace = site.broken_and_mended("fdb", || gone(&site.here, &elsewhere));
    says(&trace, &["192.168.77.99", "bee-2"]);

    let row = ["ip", "neigh", "del", &to];
    let trace = site.broken_and_mended("neighbour", || gone(&site.here, &row));
    says(&trace, &[&to, "no neighbour row"]);
    assert_eq!(probe(&trace, "arp")["answered"], 0, "{trace:#}");
    let wrong = ["ip", "neigh", "replace", &to, "lladdr", "02:00:00:00:00:99", "nud", "permanent"];
    let trace = site.broken_and_mended("neighbour", || gone(&site.here, &wrong));
    says(&trace, &["02:00:00:00:00:99", &db]);

    // The way back.
    let row = ["bridge", "fdb", "del", &web];
    let trace = site.broken_and_mended("back.fdb", || gone(&site.there, &row));
    says(&trace, &[&web, "bee-2"]);
    let row = ["ip", "neigh", "del", &from];
    let trace = site.broken_and_mended("back.neighbour", || gone(&site.there, &row));
    says(&trace, &[&from, "bee-2"]);

    let down = ["ip", "link", "set", device, "down"];
    let trace = site.broken_and_mended("device", || run(&site.here, &down));
    says(&trace, &[device, "is down"]);
    assert_eq!(hop(&trace, "fdb")["verdict"], "unknown", "it follows: {trace:#}");
    let trace = site.broken_and_mended("peer.device", || run(&site.there, &down));
    says(&trace, &[device, "is down", "bee-2"]);
    let trace = site.broken("device", || run(&site.here, &["ip", "link", "del", device]));
    says(&trace, &["has no device"]);
    assert_ne!(hop(&trace, "from.interface")["verdict"], "broken", "it follows: {trace:#}");
    site.works(&["web", "db"]);
    assert!(!fdb(&site.here, device).is_empty());
}

#[test]
fn what_was_changed_inside_a_container_is_named() {
    let site = Site::up("trace-inside");
    let (to, from) = (address(&site, "db"), address(&site, "web"));

    let down = ["ip", "link", "set", "eth0", "down"];
    let trace = site.broken_and_mended("to.interface", || set(&site.db, &down));
    says(&trace, &["is down", "bee-2"]);
    let trace = site.broken_and_mended("from.interface", || set(&site.web, &down));
    says(&trace, &["is down", "bee-1"]);
    assert!(trace["unprobed"].is_string(), "{trace:#}");
    let mac = ["ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"];
    let trace = site.broken_and_mended("to.interface", || set(&site.db, &mac));
    says(&trace, &["02:00:00:00:00:99", &self::mac(&site, "db")]);
    let mtu = ["ip", "link", "set", "eth0", "mtu", "1300"];
    let trace = site.broken_and_mended("from.interface", || set(&site.web, &mtu));
    says(&trace, &["1300", "1450"]);

    let flush = ["ip", "address", "flush", "dev", "eth0"];
    let trace = site.broken_and_mended("to.interface", || set(&site.db, &flush));
    says(&trace, &[&to, "does not have the address"]);
    let moved = ["sh", "-c", "ip address flush dev eth0; ip address add 10.64.77.77/16 dev eth0"];
    let trace = site.broken_and_mended("to.interface", || set(&site.db, &moved));
    says(&trace, &["10.64.77.77", &to]);
    // The right one goes with it, being its second; the agent puts it back.
    set(&site.db, &["ip", "address", "del", "10.64.77.77/16", "dev", "eth0"]);
    site.works(&["web", "db"]);
    let trace = site.broken_and_mended("from.interface", || set(&site.web, &flush));
    says(&trace, &[&from, "does not have the address"]);

    // Its own packet filter.
    let drop_all =
        "add table ip f; add chain ip f in { type filter hook input priority 0; policy drop; }";
    set(&site.db, &["nft", drop_all]);
    let trace = site.broken("to.container", || {});
    says(&trace, &["was seen at eth0 of db, and not answered"]);
    set(&site.db, &["nft", "delete table ip f"]);
    site.works(&["web", "db"]);
    let reject = |how: &str| {
        ["iptables", how, "INPUT", "-j", "REJECT", "--reject-with", "icmp-admin-prohibited"]
            .map(str::to_owned)
    };
    set(&site.db, &reject("-A").each_ref().map(String::as_str));
    let trace = site.broken("to.container", || {});
    says(&trace, &["was seen at eth0 of db, and refused: unreachable, code 13"]);
    set(&site.db, &reject("-D").each_ref().map(String::as_str));
    site.works(&["web", "db"]);

    // In the container where the way begins: its interface's frames are answered, its programs' are not.
    for (chain, way, words) in [
        ("OUTPUT", "-d", "did not let a program send it"),
        ("INPUT", "-s", "did not let the answer in"),
    ] {
        set(&site.web, &["iptables", "-A", chain, way, &to, "-j", "DROP"]);
        let trace = site.broken("from.route", || {});
        says(&trace, &["web's own kernel", words, "packet filter"]);
        assert!(answered(&trace, "echo"), "{trace:#}");
        set(&site.web, &["iptables", "-F"]);
        site.works(&["web", "db"]);
    }
    let trace = site.works(&["web", "db"]);
    assert!(hop(&trace, "from.route").to_string().contains("came up to a program"), "{trace:#}");

    // The way back: a route that leads elsewhere.
    let route = format!("{from}/32");
    set(&site.db, &["ip", "route", "add", &route, "dev", "lo"]);
    let trace = site.broken("back.route", || {});
    says(&trace, &["leave by lo", "not straight by eth0"]);
    set(&site.db, &["ip", "route", "del", &route]);
    site.works(&["web", "db"]);
}

/// Packets pass, and the name is not found: it is a program in the container that is not answered.
#[test]
fn a_resolver_that_does_not_work_inside_a_container_is_named() {
    let site = Site::up("trace-resolver");
    let trace = site.works(&["web", "db"]);
    let own = hop(&trace, "from.resolver");
    assert!(own["says"].as_str().unwrap().contains("169.254.53.53"), "{own:#}");

    let resolver = |to: &str| {
        set(&site.web, &["sh", "-c", &format!("echo nameserver {to} > /etc/resolv.conf")]);
    };
    resolver("10.255.255.1");
    let trace = site.broken("from.resolver", || {});
    says(
        &trace,
        &["web's own resolver 10.255.255.1", "programs in web do not find", "resolv.conf"],
    );
    assert!(answered(&trace, "udp"), "{trace:#}");
    resolver("169.254.53.53");
    site.works(&["web", "db"]);

    // By its address nobody is asked.
    let filter = ["OUTPUT", "-p", "udp", "--dport", "53", "-j", "DROP"];
    set(&site.web, &[["iptables", "-A"].as_slice(), &filter].concat());
    let trace = site.broken("from.resolver", || {});
    says(&trace, &["169.254.53.53", "programs in web do not find"]);
    let by_address = site.works(&["web", &address(&site, "db")]);
    assert!(by_address["hops"].as_array().unwrap().iter().all(|hop| hop["hop"] != "from.resolver"));
    set(&site.web, &["iptables", "-F"]);
    site.works(&["web", "db"]);
}

#[test]
fn an_address_that_was_taken_by_hand_is_named() {
    let site = Site::up("trace-taken");
    let to = address(&site, "db");
    let own = format!("{to}/32");
    // In the container where the way begins.
    let trace = site.broken_and_mended("from.route", || {
        drop(inside(&site.web, &["ip", "address", "add", &own, "dev", "eth0"]));
    });
    says(&trace, &[&to, "is set in web itself"]);
    // In its neighbour on the host, which answers ARP beside the device.
    set(&site.cache, &["ip", "address", "add", &own, "dev", "eth0"]);
    let forget = ["ip", "neigh", "flush", "dev", "eth0"];
    let trace = site.broken("neighbour", || set(&site.web, &forget));
    says(&trace, &["cache on bee-1", "set there by hand", &mac(&site, "cache")]);
    set(&site.cache, &["ip", "address", "del", &own, "dev", "eth0"]);
    set(&site.web, &forget);
    site.works(&["web", "db"]);

    // What the container itself has learned, and a route of its own.
    let entry = ["ip", "neigh", "replace", &to, "lladdr", "02:00:00:00:00:99", "dev", "eth0"];
    let trace = site.broken_and_mended("from.route", || set(&site.web, &entry));
    says(&trace, &["has learned", "02:00:00:00:00:99"]);
    set(&site.web, &["ip", "route", "add", &own, "dev", "lo"]);
    let trace = site.broken("from.route", || {});
    says(&trace, &["leave by lo"]);
    set(&site.web, &["ip", "route", "del", &own]);
    site.works(&["web", "db"]);
}

#[test]
fn packets_that_get_lost_between_the_hosts_are_named_where_they_do() {
    let site = Site::up("trace-wire");
    let filter = |hook: &str| {
        format!(
            "add table ip f; add chain ip f c {{ type filter hook {hook} priority 0; }}; add rule ip f c udp dport 4789 drop"
        )
    };
    let open = ["nft", "delete table ip f"];

    run(&site.there, &["nft", &filter("input")]);
    let trace = site.broken("peer.device", || {});
    says(&trace, &["bee-2 drops UDP 4789 from", "rule 1 of chain c"]);
    assert!(text(&trace["fix"]).contains("nft"), "the rule is not named: {trace:#}");
    assert_eq!(seen(&trace, "echo", "bee-2 eth1 in there"), Some(3), "{trace:#}");
    let device = format!("bee-2 {} in there", site.device);
    assert_eq!(seen(&trace, "echo", &device), Some(0), "{trace:#}");
    run(&site.there, &open);

    run(&site.here, &["iptables", "-A", "OUTPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"]);
    let trace = site.broken("underlay", || {});
    says(&trace, &["bee-1 drops UDP 4789 to", "chain OUTPUT"]);
    run(&site.here, &["iptables", "-D", "OUTPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"]);

    run(&site.here, &["nft", &filter("input")]);
    let trace = site.broken("back.device", || {});
    says(&trace, &["bee-1 drops UDP 4789 from", "rule 1 of chain c"]);
    run(&site.here, &open);
    run(&site.there, &["nft", &filter("output")]);
    let trace = site.broken("back.underlay", || {});
    says(&trace, &["bee-2 drops UDP 4789 to", "rule 1 of chain c"]);
    run(&site.there, &open);

    // Between the hosts: a firewall, and one that lets only one direction through.
    let bridge = |rule: &str| {
        format!(
            "add table bridge f; add chain bridge f c {{ type filter hook forward priority 0; }}; add rule bridge f c {rule}"
        )
    };
    let close = |rule: &str| underlay_run(&site, &["nft", &bridge(rule)]);
    let open = || underlay_run(&site, &["nft", "delete table bridge f"]);
    close("udp dport 4789 drop");
    let trace = site.broken("wire", || {});
    says(&trace, &["UDP 4789 is filtered on the way from bee-1 to bee-2"]);
    assert_eq!(seen(&trace, "udp", "bee-1 eth1 out there"), Some(3), "{trace:#}");
    open();
    close("ip saddr 192.168.77.12 udp dport 4789 drop");
    let trace = site.broken("back.wire", || {});
    says(&trace, &["UDP 4789 is filtered on the way from bee-2 to bee-1"]);
    open();

    // An MTU that is too small, somewhere in between: only large packets are lost.
    let mtu = |port: &str, mtu: &str| underlay_run(&site, &["ip", "link", "set", port, "mtu", mtu]);
    mtu("port1", "1400");
    let trace = site.broken("wire", || {});
    says(&trace, &["loses large ones", "1500 bytes"]);
    assert!(answered(&trace, "echo") && !answered(&trace, "udp"), "{trace:#}");
    assert_eq!(site.works(&["web", "db", "--size", "1300"])["verdict"], "ok");
    mtu("port1", "1500");
    site.works(&["web", "db"]);

    // On the host itself: the kernel sends fragments, which arrive.
    run(&site.here, &["ip", "link", "set", "eth1", "mtu", "1400"]);
    let trace = site.works(&["web", "db"]);
    assert!(hop(&trace, "underlay").to_string().contains("fragments"), "{trace:#}");
    let trace = self::trace(&site.here, &["web", "db", "--no-probe"]);
    assert_eq!(trace["broken"], "underlay", "{trace:#}");
    run(&site.here, &["ip", "link", "set", "eth1", "mtu", "1500"]);
    let trace = self::trace(&site.here, &["web", "db", "--no-probe"]);
    assert_eq!(trace["verdict"], "ok", "{trace:#}");
    assert_eq!(trace["probes"], Value::Array(Vec::new()), "{trace:#}");

    // The VTEP is gone; the cable is pulled.
    run(&site.here, &["ip", "address", "del", "192.168.77.11/24", "dev", "eth1"]);
    let trace = site.broken("underlay", || {});
    says(&trace, &["192.168.77.11", "VTEP"]);
    run(&site.here, &["ip", "address", "add", "192.168.77.11/24", "dev", "eth1"]);
    site.here.cut().unwrap();
    let trace = site.broken("underlay", || {});
    says(&trace, &["no carrier"]);
}

fn underlay_run(site: &Site, argv: &[&str]) {
    let underlay = underlay::Underlay::open(site.lab.folder()).unwrap();
    let mut command = underlay.sandbox().network_command(argv[0]);
    exec::run_ok(command.args(&argv[1..])).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_agent_that_does_not_answer_is_told_from_a_way_that_is_broken() {
    let site = Site::up("trace-agents");
    let works_but_for_the_agent = |way: &[&str]| {
        let trace = trace(&site.here, way);
        assert_eq!(trace["verdict"], "ok", "{trace:#}");
        assert_eq!(hop(&trace, "peer")["verdict"], "unknown", "{trace:#}");
        assert_eq!(hop(&trace, "to.interface")["verdict"], "unknown", "{trace:#}");
        assert_eq!(hop(&trace, "wire")["verdict"], "ok", "{trace:#}");
        assert!(answered(&trace, "echo"), "{trace:#}");
        let conclusion = text(&trace["conclusion"]);
        assert!(
            conclusion.contains("works") && conclusion.contains("agent of bee-2"),
            "{conclusion}"
        );
    };
    site.there.freeze_agent().unwrap();
    works_but_for_the_agent(&["web", "db"]);

    // With the way broken as well, the loss is not put on the agent.
    run(&site.there, &["iptables", "-A", "INPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"]);
    let trace = trace(&site.here, &["web", "db"]);
    assert_eq!(trace["broken"], "wire", "{trace:#}");
    says(&trace, &["nobody watched", "bee-2's agent does not answer"]);
    run(&site.there, &["iptables", "-D", "INPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"]);
    site.there.thaw_agent().unwrap();
    site.works(&["web", "db"]);

    // The way from a container of that host.
    site.there.freeze_agent().unwrap();
    let outcome = site.here.ctl(&["trace", "db", "web"]).unwrap();
    one_sentence(&outcome, 75, &["db", "bee-2", "from the other end"]);
    site.there.thaw_agent().unwrap();
    eventually("the way from there", SPREAD, || {
        let trace = self::trace(&site.here, &["db", "web"]);
        holds(trace["verdict"] == "ok" && trace["from"]["host"] == "bee-2", &trace)
    });

    site.there.stop_agent().unwrap();
    works_but_for_the_agent(&[&address(&site, "web"), &address_of_db(&site)]);
    // Names of a host whose agent stays away are not answered any more; the address goes on.
    let trace = site.broken("name", || {});
    says(&trace, &["agent of bee-2 is away", "systemctl start ovl-agent"]);
    works_but_for_the_agent(&["web", &address_of_db(&site)]);
}

fn address_of_db(site: &Site) -> String {
    let addresses = inside(&site.db, &["ip", "-4", "-j", "address", "show", "dev", "eth0"]).json();
    text(&addresses.unwrap()[0]["addr_info"][0]["local"])
}

#[test]
fn names_and_addresses_are_followed_to_whose_they_are() {
    let site = Site::up("trace-names");
    let trace = site.works(&["web", "cache"]);
    assert_eq!(hop(&trace, "sibling")["verdict"], "ok", "{trace:#}");
    let trace = site.works(&["web.blue", &address(&site, "db")]);
    assert_eq!(trace["to"]["name"], "db", "{trace:#}");
    let bee_2 = hop(&trace, "name").to_string();
    assert!(bee_2.contains("announced by bee-2"), "{bee_2}");

    for (to, words) in [
        ("nobody", &["no endpoint of any host is called"][..]),
        ("10.64.0.99", &["no endpoint of any host holds 10.64.0.99"]),
        ("10.64.0.1", &["is the gateway of network blue"]),
        ("198.51.100.1", &["lies in no network of the cluster"]),
    ] {
        let trace = self::trace(&site.here, &["web", to]);
        assert_eq!(trace["broken"], "name", "{trace:#}");
        says(&trace, words);
    }
    ctl(&site.here, &["network", "create", "green"]);
    let other =
        site.lab.attach("bee-2", "green", "other").unwrap_or_else(|error| panic!("{error}"));
    eventually("the other network's endpoint", SPREAD, || {
        let trace = self::trace(&site.here, &["web", "other"]);
        let name = hop(&trace, "name").to_string();
        holds(trace["broken"] == "name" && name.contains("is on another network"), &trace)
    });
    drop(other);
    let outcome = site.here.ctl(&["trace", "nobody", "web"]).unwrap();
    one_sentence(&outcome, 1, &["nobody", "ovlctl endpoint ls"]);
    let outcome = site.here.ctl(&["trace", "web", "web"]).unwrap();
    one_sentence(&outcome, 1, &["two different ends"]);

    // On the host's own device a row for the neighbour, whom it does not concern.
    let (sibling, device) = (address(&site, "cache"), site.device.as_str());
    let row = [
        "ip",
        "neigh",
        "replace",
        &sibling,
        "lladdr",
        "02:00:00:00:00:99",
        "dev",
        device,
        "nud",
        "permanent",
    ];
    let trace = site.broken_on(&site.here, &["web", "cache"], "sibling", || run(&site.here, &row));
    says(&trace, &[&sibling, "02:00:00:00:00:99"]);
    site.mend(&trace, &["web", "cache"]);

    let net = ["ip", "link", "set", "eth0", "down"];
    let trace =
        site.broken_on(&site.here, &["web", "cache"], "to.interface", || set(&site.cache, &net));
    says(&trace, &["is down", "cache"]);
}

#[test]
fn a_way_over_ipv6_is_followed_and_probed() {
    let site = Site::up("trace-six");
    ctl(&site.here, &["network", "create", "--ipv6", "six"]);
    let attach = |host, name: &str| {
        site.lab.attach(host, "six", name).unwrap_or_else(|error| panic!("{error}"))
    };
    let (_one, two) = (attach(HOSTS[0], "one"), attach(HOSTS[1], "two"));
    let to = eventually("the IPv6 address of two", SPREAD, || {
        let all = ctl(&site.here, &["endpoint", "ls", "--network", "six"]);
        let all = all.as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|endpoint| endpoint["name"] == "two");
        found.map(|endpoint| text(&endpoint["ipv6"])).ok_or_else(|| format!("{all:?}"))
    });
    let trace = site.works(&["one", &to]);
    assert_eq!(trace["to"]["address"], to.as_str(), "{trace:#}");
    assert!(answered(&trace, "arp") && answered(&trace, "echo"), "{trace:#}");
    let device = format!("ovl-{}", vni(&site.here, "six"));
    let row = ["ip", "-6", "neigh", "del", &to, "dev", &device];
    let way = ["one", to.as_str()];
    let trace = site.broken_on(&site.here, &way, "neighbour", || run(&site.here, &row));
    site.mend(&trace, &way);
    let down = ["ip", "link", "set", "eth0", "down"];
    let trace = site.broken_on(&site.here, &way, "to.interface", || set(&two, &down));
    says(&trace, &["is down", "bee-2"]);
}
