//! What the unit lets the agent do, and what it writes to the journal.
use ovl_tests::machine::Image;

use crate::support::{Site, UNIT, newer, ok};

/// Of `systemd-analyze security`: 0 is best, 10 worst.
const EXPOSURE: f64 = 4.0;
/// Bits of capabilities (capability.h) that the agent may have at most, each with its reason in
/// the unit: CHOWN, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_PTRACE, SYS_ADMIN.
const CAPABILITIES: u64 = 1 << 0 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 19 | 1 << 21;

#[test]
fn an_agent_has_no_more_rights_than_it_needs_on_debian_12() {
    has_no_more_rights_than_it_needs("rights12", Image::Bookworm);
}

#[test]
fn an_agent_has_no_more_rights_than_it_needs_on_debian_13() {
    has_no_more_rights_than_it_needs("rights13", Image::Trixie);
}

fn has_no_more_rights_than_it_needs(name: &str, image: Image) {
    let site = Site::installed(name, &["ant"], image, &newer());
    let ant = &site[0];
    let pid = ant.main_pid(UNIT).unwrap().to_string();
    let status = ok(ant, &["cat", &format!("/proc/{pid}/status")]);
    let field = |name: &str| -> String {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let has = u64::from_str_radix(&field(set), 16).unwrap();
        assert_eq!(has & !CAPABILITIES, 0, "{set} has more than is named: {has:x}");
    }
    let own_root = format!("/proc/{pid}/root");
    let writable = |path: &str| {
        let inside = format!("{path}/.probe");
        let argv = ["nsenter", "-t", &pid, "-m", "touch", &inside];
        ant.run(&argv).unwrap()
    };
    for path in ["/usr", "/etc", "/etc/ovl", "/boot", "/var/lib"] {
        let outcome = writable(path);
        assert!(!outcome.ok(), "{path} can be written, in {own_root}");
        assert!(outcome.stderr.contains("Read-only"), "{path}: {}", outcome.stderr);
    }
    for path in ["/var/lib/ovl", "/run/ovl", "/run/docker/plugins"] {
        let outcome = writable(path);
        assert!(outcome.ok(), "{path} cannot be written: {}", outcome.stderr);
    }
    // Raw packets are granted, as captures need them.
    let capture = ant.run(&["ovlctl", "capture", "--duration", "1"]).unwrap();
    assert!(capture.ok(), "{}", capture.stderr);
    let analysis = ok(ant, &["systemd-analyze", "security", "--no-pager", UNIT]);
    let last = analysis.lines().last().unwrap_or_default();
    // → Overall exposure level for ovl-agent.service: 3.1 OK :-)
    let score = last.rsplit_once(": ").and_then(|(_, rest)| rest.split(' ').next());
    let score: f64 = score.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{last}"));
    println!("{}: {last}", image.suite());
    assert!(score <= EXPOSURE, "{analysis}");
}

#[test]
fn the_rules_of_every_packet_filter_are_read_from_within_the_unit() {
    let site = Site::installed("filters", &["ant"], Image::Trixie, &newer());
    let ant = &site[0];
    ok(ant, &["iptables-legacy", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP"]);
    ok(ant, &["iptables-nft", "-A", "INPUT", "-s", "192.0.2.2", "-j", "DROP"]);
    ok(ant, &["nft", "add table inet own"]);
    let doctor = ["ovlctl", "--json", "doctor", "--only", "firewall.vxlan"];
    let seen: serde_json::Value = serde_json::from_str(&ok(ant, &doctor)).unwrap();
    let evidence = seen["findings"][0]["evidence"].to_string();
    for table in [
        "ip filter (iptables-legacy): 1 rules",
        "ip filter (iptables-nft): ",
        "inet own (nftables)",
    ] {
        assert!(evidence.contains(table), "no {table}: {seen}");
    }
}

#[test]
fn entries_of_the_journal_have_fields() {
    let site = Site::installed("journal", &["ant", "bee"], Image::Trixie, &newer());
    let log = site[0].journal(UNIT).unwrap();
    let own: Vec<_> = log
        .iter()
        .filter(|entry| entry.field("_COMM") == "ovl-agent" && entry.has("PRIORITY"))
        .collect();
    assert!(!own.is_empty(), "the agent wrote nothing to the journal");
    let fields = own.iter().flat_map(|entry| entry.names()).filter(|name| name.starts_with("OVL_"));
    let fields: std::collections::BTreeSet<_> = fields.collect();
    assert!(!fields.is_empty(), "no entry has a field of ovl: {:?}", own.last());
    println!("fields: {fields:?}");
    // An entry is found by a field, as an operator would look.
    let name = fields.iter().next().unwrap();
    let value = own.iter().find(|entry| entry.has(name)).unwrap().field(name);
    let found = ok(&site[0], &["journalctl", "-q", "-o", "cat", &format!("{name}={value}")]);
    assert!(!found.is_empty(), "{name}={value} finds nothing");
}
