//! Real rules in a host's packet filter, and what `ovlctl doctor` says of them.
use ovl_tests::{Host, StoreKind};
use serde_json::Value;

use crate::support::{THREE, TestLab, text};

/// What doctor exits with when something is broken.
const FAILED: i32 = 4;

#[test]
fn a_rule_of_iptables_is_named_and_the_command_given_mends_it() {
    let lab = TestLab::up("iptables", &THREE, StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    // The agent has its own nftables table by now.
    for host in lab.hosts().unwrap() {
        fine(&host);
    }
    for command in ["iptables-nft", "iptables-legacy"] {
        sh(&host, &format!("{command} -A INPUT -p udp --dport 4789 -j DROP"));
        let finding = broken(&host, "firewall.vxlan");
        assert_eq!(finding["subject"], Value::Null, "all hosts alike: {finding}");
        let rule = format!("rule 1 of chain INPUT (table filter, {command})");
        assert_eq!(
            text(&finding["summary"]),
            format!("this host drops UDP 4789 from every other host: {rule}")
        );
        assert_eq!(
            text(&finding["evidence"][0]),
            format!("{rule}: -A INPUT -p udp -m udp --dport 4789 -j DROP")
        );
        mend(&host, &finding);
        sh(&host, &format!("{command} -F"));

        // One that was put in before counts, and what is about another host does not.
        sh(&host, &format!("{command} -A INPUT -p udp --dport 4789 -j ACCEPT"));
        sh(&host, &format!("{command} -A INPUT -p udp -j DROP"));
        let finding = broken(&host, "firewall.gossip");
        assert!(text(&finding["summary"]).contains("UDP 7946 from every other host: rule 2"));
        sh(&host, &format!("{command} -F"));
        sh(&host, &format!("{command} -A INPUT -s 192.168.77.200 -j DROP"));
        fine(&host);
        let other = lab.host("bee-3").unwrap();
        sh(&host, &format!("{command} -A OUTPUT -d {} -j DROP", other.address()));
        let finding = broken(&host, "firewall.vxlan");
        assert_eq!(finding["subject"], "bee-3");
        assert!(text(&finding["summary"]).contains("UDP 4789 to bee-3"), "{finding}");
        sh(&host, &format!("{command} -F"));
    }
    fine(&host);
}

#[test]
fn a_chain_of_nftables_that_drops_by_default_is_named_and_mended() {
    let lab = TestLab::up("nftables", &THREE, StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    let chain = "add table inet fw\nadd chain inet fw in { type filter hook input priority filter; policy drop; }";
    nft(&host, chain);
    nft(&host, "add rule inet fw in ct state established,related accept");
    let finding = broken(&host, "firewall.gossip");
    assert_eq!(
        text(&finding["summary"]),
        "this host drops UDP and TCP 7946 from every other host: the policy of chain in (table inet fw, nftables)"
    );
    let gossip = text(&finding["fix"]);
    mend(&host, &broken(&host, "firewall.vxlan"));
    sh(&host, &gossip);
    fine(&host);

    // An accept in one table does not open what another one drops.
    nft(&host, "flush chain inet fw in\nadd chain inet fw in { policy accept; }");
    nft(&host, "add rule inet fw in udp dport { 4789, 7946 } accept");
    fine(&host);
    nft(&host, "add table ip late\nadd chain ip late in { type filter hook input priority 10; }");
    nft(&host, "add rule ip late in ip saddr 192.168.77.12 udp dport 4700-4800 counter drop");
    let finding = broken(&host, "firewall.vxlan");
    assert_eq!(finding["subject"], "bee-2");
    let evidence = text(&finding["evidence"][0]);
    assert!(evidence.starts_with("rule 1 of chain in (table ip late, nftables): "), "{evidence}");
    assert!(evidence.contains("ip saddr 192.168.77.12 udp dport 4700-4800 counter"), "{evidence}");
    mend(&host, &finding);

    // What cannot be told from here is a warning.
    nft(&host, "add rule ip late in udp dport 4789 meta length > 1000 drop");
    let (code, findings) = doctor(&host);
    assert_eq!(code, Some(3), "{findings:?}");
    let finding = findings.iter().find(|finding| finding["verdict"] == "warn").unwrap();
    assert!(text(&finding["summary"]).contains("may drop UDP 4789"), "{finding}");
}

/// Exit code and findings of `ovlctl doctor --only firewall`.
fn doctor(host: &Host) -> (Option<i32>, Vec<Value>) {
    let outcome = host.ctl(&["--json", "doctor", "--only", "firewall"]).unwrap();
    let findings = outcome.json().unwrap()["findings"].as_array().cloned().unwrap_or_default();
    (outcome.code, findings)
}

fn fine(host: &Host) {
    let (code, findings) = doctor(host);
    assert!(findings.iter().all(|finding| finding["verdict"] == "ok"), "{findings:#?}");
    assert_eq!((code, findings.len()), (Some(0), 2), "{findings:#?}");
}

/// The one finding of a check, which is that something is broken.
fn broken(host: &Host, check: &str) -> Value {
    let (code, findings) = doctor(host);
    let of_check: Vec<&Value> =
        findings.iter().filter(|finding| finding["check"] == check).collect();
    assert_eq!(code, Some(FAILED), "{findings:#?}");
    assert_eq!(of_check.len(), 1, "{findings:#?}");
    assert_eq!(of_check[0]["verdict"], "fail", "{findings:#?}");
    of_check[0].clone()
}

/// Does what the finding says; its check is fine then.
fn mend(host: &Host, finding: &Value) {
    sh(host, &text(&finding["fix"]));
    let (_, findings) = doctor(host);
    let same = findings.iter().filter(|other| other["check"] == finding["check"]);
    for other in same {
        assert_eq!(other["verdict"], "ok", "after {}: {other}", finding["fix"]);
    }
}

fn nft(host: &Host, commands: &str) {
    for command in commands.lines() {
        host.run(&["nft", command]).unwrap().require().unwrap();
    }
}

fn sh(host: &Host, script: &str) {
    host.run(&["sh", "-ec", script]).unwrap().require().unwrap();
}
