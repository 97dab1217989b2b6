//! The words of ufw and firewalld, for their own rules.

use super::*;

const UFW: &str = include_str!("ufw.save");
const UFW_OPEN: &str = include_str!("ufw-open.save");
const UFW_DENY: &str = include_str!("ufw-deny.save");
const FIREWALLD: [&str; 2] = [include_str!("firewalld.json"), include_str!("firewalld.txt")];
const DENIED: [&str; 2] = [include_str!("firewalld-deny.json"), include_str!("firewalld-deny.txt")];
const MENDED: [&str; 2] =
    [include_str!("firewalld-mended.json"), include_str!("firewalld-mended.txt")];

#[test]
fn ufw_as_installed_denies_what_comes_in() {
    let finding = only(VXLAN, &saved(UFW));
    assert_eq!(finding.verdict, Verdict::Fail);
    assert!(finding.summary.contains("the policy of chain INPUT"), "{}", finding.summary);
    assert_eq!(
        finding.fix.as_deref(),
        Some(
            "ufw allow from 192.168.77.12 to any port 4789 proto udp && ufw allow from 192.168.77.13 \
             to any port 4789 proto udp"
        )
    );
    let gossip = only(GOSSIP, &saved(UFW));
    let fix = gossip.fix.unwrap();
    assert!(fix.contains("ufw allow from 192.168.77.13 to any port 7946 proto tcp"), "{fix}");
    assert!(fix.contains("ufw allow from 192.168.77.12 to any port 7946 proto udp"), "{fix}");
}

#[test]
fn what_was_allowed_in_ufw_passes() {
    let facts = saved(UFW_OPEN);
    assert_eq!(only(GOSSIP, &facts).verdict, Verdict::Ok);
    // 4789 was opened for bee-2 only.
    assert_eq!(only(VXLAN, &facts).subject.as_deref(), Some("bee-3"));
}

#[test]
fn a_deny_of_ufws_user_is_told_and_ours_goes_before_it() {
    let findings = found(VXLAN, &saved(UFW_DENY));
    let inbound = findings.iter().find(|finding| finding.summary.contains("from")).unwrap();
    assert_eq!(inbound.subject.as_deref(), Some("bee-3"));
    assert!(inbound.evidence[0].contains("chain ufw-user-input"), "{inbound:?}");
    assert!(inbound.evidence[0].ends_with("-p udp -m udp --dport 4789 -j DROP"), "{inbound:?}");
    assert_eq!(
        inbound.fix.as_deref(),
        Some("ufw prepend allow from 192.168.77.13 to any port 4789 proto udp")
    );
    // Its default for what goes out is deny, too.
    let outbound = findings.iter().find(|finding| !finding.summary.contains("from")).unwrap();
    assert_eq!(outbound.fix.as_deref(), Some("ufw allow out to 192.168.77.13 port 4789 proto udp"));
}

#[test]
fn a_rule_beside_ufws_is_not_ufws() {
    let beside = UFW_OPEN.replace(
        "-A INPUT -j ufw-before-logging-input",
        "-A INPUT -p udp -j DROP\n-A INPUT -j ufw-before-logging-input",
    );
    let fix = only(VXLAN, &saved(&beside)).fix.unwrap();
    assert!(fix.starts_with("iptables -I INPUT 1 "), "{fix}");
}

#[test]
fn firewalld_is_told_in_its_own_words_and_by_zone() {
    let finding = only(VXLAN, &of_nft(FIREWALLD[0], FIREWALLD[1]));
    assert_eq!(finding.verdict, Verdict::Fail);
    assert_eq!(
        finding.evidence,
        [
            "rule 9 of chain filter_IN_internal (table inet firewalld, nftables): reject with icmpx admin-prohibited"
        ]
    );
    let fix = finding.fix.unwrap();
    assert!(fix.starts_with("firewall-cmd --permanent --zone=internal --add-rich-rule='rule priority=\"-1\" family=\"ipv4\" source address=\"192.168.77.12\" port port=\"4789\" protocol=\"udp\" accept'"), "{fix}");
    assert!(fix.ends_with("&& firewall-cmd --reload"), "{fix}");
    // A deny of the user's comes before what is allowed, unless that has a priority.
    let denied = only(VXLAN, &of_nft(DENIED[0], DENIED[1]));
    assert!(denied.evidence[0].ends_with("meta nfproto ipv4 udp dport 4789 drop"), "{denied:?}");
    assert!(denied.fix.unwrap().contains("--zone=internal"));
    for check in [GOSSIP, VXLAN] {
        assert_eq!(only(check, &of_nft(MENDED[0], MENDED[1])).verdict, Verdict::Ok);
    }
}

#[test]
fn a_command_of_firewalld_for_many_hosts_is_not_cut_off() {
    let mut facts = of_nft(FIREWALLD[0], FIREWALLD[1]);
    facts.network = None;
    let peer = |last: u8| Peer {
        address: [192, 168, 177, last].into(),
        name: None,
        via: Some("eth1".to_owned()),
    };
    facts.peers = (101..120).map(peer).collect();
    for check in [GOSSIP, VXLAN] {
        let fix = only(check, &facts).fix.unwrap();
        assert!(fix.contains("firewall-cmd --reload"), "{fix}");
        assert!(fix.contains("more hosts"), "{fix}");
        assert!(!fix.ends_with('…'), "{fix}");
    }
}

#[test]
fn nft_rules_are_put_before_the_one_that_drops() {
    let json = r#"{"nftables": [
        {"table": {"family": "inet", "name": "fw"}},
        {"chain": {"family": "inet", "table": "fw", "name": "in", "type": "filter", "hook": "input",
                   "prio": 0, "policy": "drop"}},
        {"chain": {"family": "inet", "table": "fw", "name": "out", "type": "filter", "hook": "output",
                   "prio": 0, "policy": "accept"}},
        {"rule": {"family": "inet", "table": "fw", "chain": "out", "handle": 7, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 4789}},
            {"drop": null}]}}]}"#;
    let facts = of_nft(json, "");
    let fixes: Vec<String> = found(VXLAN, &facts).into_iter().filter_map(|f| f.fix).collect();
    assert_eq!(
        fixes,
        [
            "nft 'add rule inet fw in ip saddr { 192.168.77.12, 192.168.77.13 } udp dport 4789 accept' # until the next boot; put it where your rules are kept, too",
            "nft 'insert rule inet fw out handle 7 ip daddr { 192.168.77.12, 192.168.77.13 } udp dport 4789 accept' # until the next boot; put it where your rules are kept, too"
        ]
    );
}

#[test]
fn chains_that_a_program_keeps_are_changed_in_its_settings() {
    let rules = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:cali-INPUT - [0:0]\n-A INPUT -j \
                 cali-INPUT\n-A cali-INPUT -p udp -m udp --dport 4789 -j DROP\nCOMMIT\n";
    let facts = saved(rules);
    let fix = only(VXLAN, &facts).fix.unwrap();
    assert!(fix.contains("in the settings of Calico, which keeps chain cali-INPUT"), "{fix}");
}

#[test]
fn of_a_certain_and_an_uncertain_drop_the_certain_one_is_named() {
    let rules = "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -m set --match-set bad src -j \
                 DROP\nCOMMIT\n";
    let finding = only(VXLAN, &saved(rules));
    assert_eq!(finding.verdict, Verdict::Fail);
    assert!(finding.summary.contains("the policy of chain INPUT"), "{}", finding.summary);
    // A program that decides may let it through.
    let queue = rules.replace("-m set --match-set bad src -j DROP", "-j NFQUEUE --queue-num 0");
    assert_eq!(only(VXLAN, &saved(&queue)).verdict, Verdict::Warn);
}

/// What mends a chain that drops all, typed as it is told, leaves nothing to tell.
#[test]
fn answers_are_let_through_by_the_state_of_their_connection() {
    let closed = "*filter\n:INPUT DROP [0:0]\n:OUTPUT DROP [0:0]\nCOMMIT\n";
    // iptables makes a rule of each address of several.
    let to_one = |text: &str| {
        let mut facts = saved(text);
        facts.peers.truncate(1);
        facts
    };
    let facts = to_one(closed);
    let mut rules = String::new();
    for finding in found(GOSSIP, &facts).into_iter().chain(found(VXLAN, &facts)) {
        let fix = finding.fix.unwrap();
        let commands = fix.split(" # ").next().unwrap().split(" && ");
        for command in commands {
            rules += &format!("{}\n", command.strip_prefix("iptables ").unwrap());
        }
    }
    // As they are shown once they are there.
    let rules = rules.replace("-p udp", "-p udp -m udp").replace("-p tcp", "-p tcp -m tcp");
    let established = "-m conntrack --ctstate ESTABLISHED -j ACCEPT";
    assert_eq!(rules.lines().filter(|rule| rule.ends_with(established)).count(), 2, "{rules}");
    assert!(!rules.contains("--sport"), "{rules}");
    let mended = to_one(&closed.replace("COMMIT", &format!("{rules}COMMIT")));
    for check in [GOSSIP, VXLAN] {
        assert_eq!(only(check, &mended).verdict, Verdict::Ok);
    }
    // Before connections are known there is no state to go by.
    let raw = "*raw\n:PREROUTING DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    let fix = only(GOSSIP, &to_one(raw)).fix.unwrap();
    assert!(fix.contains("-p tcp --sport 7946 -j ACCEPT"), "{fix}");
}
