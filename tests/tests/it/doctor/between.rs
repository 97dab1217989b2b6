//! What is wrong between hosts: all of doctor is asked, on both ends, and the true cause is all that it
//! calls broken.
use ovl_tests::{Host, StoreKind, exec, underlay};

use super::{LACKING, Report};
use crate::support::{SPREAD, TestLab, eventually, holds};

const HOSTS: [&str; 2] = ["bee-1", "bee-2"];

/// A fault between bee-1 and bee-2.
struct Fault {
    what: &'static str,
    place: Place,
    make: &'static str,
    mend: &'static str,
    /// What bee-1 calls broken, with words that it says of it; and bee-2.
    told: [(&'static str, &'static [&'static str]); 2],
}

enum Place {
    /// In the packet filter or on an interface of bee-2.
    There,
    /// Between the two: neither of them has a rule, nor another MTU.
    Between,
}

use Place::{Between, There};

/// A rule on bee-2, and how it is taken out.
macro_rules! rule {
    ($rule:literal) => {
        (concat!("iptables -A ", $rule, " -j DROP"), concat!("iptables -D ", $rule, " -j DROP"))
    };
}

/// A filter between the hosts.
macro_rules! filtered {
    ($rule:literal) => {
        (
            concat!(
                "nft add table bridge f; nft add chain bridge f c '{ type filter hook forward priority 0; }'; \
                 nft add rule bridge f c ",
                $rule,
                " drop"
            ),
            "nft delete table bridge f",
        )
    };
}

const fn fault(
    what: &'static str,
    place: Place,
    (make, mend): (&'static str, &'static str),
    told: [(&'static str, &'static [&'static str]); 2],
) -> Fault {
    Fault { what, place, make, mend, told }
}

const FROM_HERE: &str = "from this host does not arrive at bee-2";
const FROM_BEE_2: &str = "from bee-2 does not arrive at this host";
const TO_BEE_1: &str = "from this host does not arrive at bee-1";

const FAULTS: &[Fault] = &[
    fault(
        "VXLAN that comes in at bee-2",
        There,
        rule!("INPUT -p udp --dport 4789"),
        [
            (
                "peer.vxlan (bee-2)",
                &[FROM_HERE, "on bee-2: rule 1 of chain INPUT", "which advises"],
            ),
            ("firewall.vxlan", &["drops UDP 4789 from bee-1", "rule 1 of chain INPUT"]),
        ],
    ),
    fault(
        "VXLAN that goes out of bee-2",
        There,
        rule!("OUTPUT -p udp --dport 4789"),
        [
            ("peer.vxlan (bee-2)", &[FROM_BEE_2]),
            ("firewall.vxlan", &["drops UDP 4789 to", "rule 1 of chain OUTPUT"]),
        ],
    ),
    fault(
        "gossip over UDP that comes in at bee-2",
        There,
        rule!("INPUT -p udp --dport 7946"),
        [
            ("peer.udp (bee-2)", &["UDP 7946", FROM_HERE]),
            ("firewall.gossip", &["drops UDP 7946 from", "rule 1 of chain INPUT"]),
        ],
    ),
    fault(
        "gossip over TCP that comes in at bee-2",
        There,
        rule!("INPUT -p tcp --dport 7946"),
        [
            ("peer.tcp (bee-2)", &["TCP 7946 of bee-2 is closed to this host"]),
            ("firewall.gossip", &["drops TCP 7946 from", "rule 1 of chain INPUT"]),
        ],
    ),
    fault(
        "gossip over TCP that bee-2 refuses",
        There,
        (
            "iptables -A INPUT -p tcp --dport 7946 -j REJECT --reject-with tcp-reset",
            "iptables -D INPUT -p tcp --dport 7946 -j REJECT --reject-with tcp-reset",
        ),
        [
            (
                "peer.tcp (bee-2)",
                &["TCP 7946 of bee-2 is closed to this host", "UDP to the same port"],
            ),
            ("firewall.gossip", &["drops TCP 7946 from", "rule 1 of chain INPUT"]),
        ],
    ),
    fault(
        "a limit of VXLAN packets on the way",
        Between,
        filtered!("udp dport 4789 limit rate over 1/second burst 1 packets"),
        [
            ("peer.loss (bee-2)", &["some VXLAN packets between this host and bee-2 are lost"]),
            ("peer.loss (bee-1)", &["some VXLAN packets between this host and bee-1 are lost"]),
        ],
    ),
    fault(
        "UDP 4789 on the way",
        Between,
        filtered!("udp dport 4789"),
        [
            ("peer.vxlan (bee-2)", &["passes neither from this host to bee-2 nor back"]),
            ("peer.vxlan (bee-1)", &["passes neither from this host to bee-1 nor back"]),
        ],
    ),
    fault(
        "UDP 4789 on the way from bee-2 alone",
        Between,
        filtered!("ip saddr 192.168.77.12 udp dport 4789"),
        [("peer.vxlan (bee-2)", &[FROM_BEE_2]), ("peer.vxlan (bee-1)", &[TO_BEE_1])],
    ),
    fault(
        "UDP 7946 on the way from bee-2 alone",
        Between,
        filtered!("ip saddr 192.168.77.12 udp dport 7946"),
        // Its answers do not come either, so that from here nothing is heard both ways.
        [("peer.udp (bee-2)", &["UDP 7946"]), ("peer.udp (bee-1)", &["UDP 7946"])],
    ),
    fault(
        "TCP 7946 on the way to bee-1 alone",
        Between,
        filtered!("ip saddr 192.168.77.12 tcp dport 7946"),
        [
            ("peer.tcp (bee-2)", &["TCP 7946", FROM_BEE_2]),
            ("peer.tcp (bee-1)", &["TCP 7946 of bee-1 is closed to this host"]),
        ],
    ),
    fault(
        "every third VXLAN packet on the way",
        Between,
        filtered!("udp dport 4789 numgen inc mod 3 == 0"),
        [
            ("peer.loss (bee-2)", &["some VXLAN packets between this host and bee-2 are lost"]),
            ("peer.loss (bee-1)", &["some VXLAN packets between this host and bee-1 are lost"]),
        ],
    ),
    fault(
        "an MTU on the way",
        Between,
        ("ip link set port1 mtu 1400", "ip link set port1 mtu 1500"),
        [
            ("peer.mtu (bee-2)", &["bytes inside VXLAN do not pass between this host and bee-2"]),
            ("peer.mtu (bee-1)", &["bytes inside VXLAN do not pass between this host and bee-1"]),
        ],
    ),
    fault(
        "an MTU of bee-2's interface",
        There,
        ("ip link set eth1 mtu 1400", "ip link set eth1 mtu 1500"),
        [("peer.mtu (bee-2)", &["--mtu"]), ("peer.mtu (bee-1)", &["--mtu"])],
    ),
];

#[test]
fn of_each_fault_between_hosts_the_cause_alone_is_called_broken() {
    let lab = TestLab::up("between", &HOSTS, StoreKind::Sqlite);
    let hosts = HOSTS.map(|host| lab.host(host).unwrap());
    hosts.iter().for_each(all_is_well);
    for Fault { what, place, make, mend, told } in FAULTS {
        let run = |script: &str| match place {
            There => drop(hosts[1].run(&["sh", "-ec", script]).unwrap().require().unwrap()),
            Between => {
                let underlay = underlay::Underlay::open(lab.folder()).unwrap();
                let mut command = underlay.sandbox().network_command("sh");
                exec::run_ok(command.args(["-ec", script])).unwrap();
            }
        };
        run(make);
        for (host, (check, words)) in hosts.iter().zip(told) {
            eprintln!("{what}, seen from {}", host.name());
            let report = Report::of(host, &[]);
            // Hosts that hear each other badly may suspect each other meanwhile.
            report.fails_only(&[check], &["cluster.members (bee-1)", "cluster.members (bee-2)"]);
            let id = check.split(' ').next().unwrap();
            report.says(id, words);
            let said = report.of_check(id);
            assert!(said["fix"].is_string(), "{said:#}");
        }
        run(mend);
        hosts.iter().for_each(all_is_well);
    }
}

fn all_is_well(host: &Host) {
    eventually(&format!("{} being fine", host.name()), SPREAD * 3, || {
        let report = Report::of(host, &[]);
        let amiss = ["fail", "warn", "unchecked"].map(|verdict| report.with(verdict));
        let fine = amiss[..2].iter().all(Vec::is_empty) && amiss[2] == LACKING;
        holds(fine, report.to_string())
    });
}

#[test]
fn a_host_that_is_cut_off_itself_does_not_blame_the_others() {
    let lab = TestLab::up("between-cut", &HOSTS, StoreKind::Sqlite);
    let [here, there] = HOSTS.map(|host| lab.host(host).unwrap());
    all_is_well(&here);
    let sh = |script: &str| here.sandbox().script(script, &[]).unwrap();
    let members = ["cluster.members (bee-2)", "agent.problems"];

    here.cut().unwrap();
    let cut = Report::of(&here, &[]);
    cut.fails_only(&["net.underlay (eth1)"], &members);
    cut.says("net.underlay", &["has no carrier", "192.168.77.11"]);
    Report::of(&there, &[]).fails_only(&["peer.agent (bee-1)"], &["cluster.members (bee-1)"]);
    let ways = there.ctl(&["ping"]).unwrap();
    assert_eq!(ways.code, Some(4), "{ways:?}");
    here.heal().unwrap();
    all_is_well(&here);

    sh("ip link set eth1 down");
    Report::of(&here, &[]).fails_only(&["net.underlay (eth1)"], &members);
    sh("ip link set eth1 up");
    all_is_well(&here);
    sh("ip address del 192.168.77.11/24 dev eth1");
    let lost = Report::of(&here, &[]);
    lost.fails_only(&["net.underlay"], &members);
    lost.says("net.underlay", &["no interface of this host has the address 192.168.77.11"]);
}

#[test]
fn a_route_of_this_host_that_leads_nowhere_is_not_looked_for_at_the_other() {
    let lab = TestLab::up("between-routes", &HOSTS, StoreKind::Sqlite);
    let [here, _there] = HOSTS.map(|host| lab.host(host).unwrap());
    all_is_well(&here);
    let sh = |script: &str| here.sandbox().script(script, &[]).unwrap();
    let members = ["cluster.members (bee-2)", "agent.problems"];
    for (route, words) in [
        ("blackhole 192.168.77.12/32", "this host has no way to bee-2"),
        ("local 192.168.77.12/32 dev lo", "this host has the address of bee-2"),
    ] {
        sh(&format!("ip route add {route}"));
        let report = Report::of(&here, &[]);
        report.fails_only(&["peer.agent (bee-2)"], &members);
        report.says("peer.agent", &[words, "ip "]);
        sh(&format!("ip route del {route}"));
        all_is_well(&here);
    }
}

#[test]
fn an_agent_elsewhere_that_is_frozen_is_all_that_is_told() {
    let lab = TestLab::up("between-agents", &HOSTS, StoreKind::Sqlite);
    let [here, there] = HOSTS.map(|host| lab.host(host).unwrap());
    all_is_well(&here);
    there.freeze_agent().unwrap();
    let frozen = Report::of(&here, &[]);
    frozen.fails_only(&["peer.agent (bee-2)"], &["cluster.members (bee-2)"]);
    frozen.says("peer.agent", &["is there and does not answer", "ps -o pid,stat"]);
    there.thaw_agent().unwrap();
    all_is_well(&here);
    there.kill_agent().unwrap();
    let killed = Report::of(&here, &[]);
    killed.fails_only(&["peer.agent (bee-2)"], &["cluster.members (bee-2)"]);
    killed.says("peer.agent", &["no agent runs on bee-2"]);
}
