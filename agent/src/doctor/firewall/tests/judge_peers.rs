//! Findings: of which hosts, how sure, and what is not known.

use super::*;

const DROP: &str = "-A INPUT -p udp -m udp --dport 4789 -j DROP";

#[test]
fn a_host_without_rules_is_fine() {
    for check in [GOSSIP, VXLAN] {
        let finding = only(check, &facts(Vec::new()));
        assert_eq!(finding.verdict, Verdict::Ok);
        assert!(finding.summary.contains("from or to the 2 other hosts"), "{}", finding.summary);
    }
}

#[test]
fn the_rule_is_named_word_for_word_with_the_command_that_lets_the_hosts_pass() {
    let finding = only(VXLAN, &saved(DROP));
    assert_eq!(finding.verdict, Verdict::Fail);
    assert_eq!(finding.subject, None, "all hosts alike");
    assert_eq!(
        finding.summary,
        "this host drops UDP 4789 from every other host: rule 1 of chain INPUT (table filter, iptables)"
    );
    assert_eq!(
        finding.evidence,
        [format!("rule 1 of chain INPUT (table filter, iptables): {DROP}")]
    );
    assert_eq!(
        finding.fix.as_deref(),
        Some(
            "iptables -I INPUT 1 -s 192.168.77.12,192.168.77.13 -p udp --dport 4789 -j ACCEPT # until the next boot; put it where your rules are kept, too"
        )
    );
    assert_eq!(only(GOSSIP, &saved(DROP)).verdict, Verdict::Ok);
}

#[test]
fn a_rule_about_one_host_is_told_of_that_one() {
    let rule = DROP.replace("-A INPUT", "-A INPUT -s 192.168.77.13/32");
    let finding = only(VXLAN, &saved(&rule));
    assert_eq!(finding.subject.as_deref(), Some("bee-3"));
    assert!(finding.summary.contains("from bee-3 (192.168.77.13)"), "{}", finding.summary);
    assert!(finding.fix.unwrap().contains("-s 192.168.77.13 "));
}

#[test]
fn an_accept_before_it_counts() {
    let accept = "-A INPUT -s 192.168.77.0/24 -p udp -m udp --dport 4789 -j ACCEPT";
    assert_eq!(only(VXLAN, &saved(&format!("{accept}\n{DROP}"))).verdict, Verdict::Ok);
    assert_eq!(only(VXLAN, &saved(&format!("{DROP}\n{accept}"))).verdict, Verdict::Fail);
}

#[test]
fn one_rule_for_all_ports_is_one_finding_of_each_check() {
    let facts = saved("*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n");
    let gossip = only(GOSSIP, &facts);
    assert_eq!(
        gossip.summary,
        "this host drops UDP and TCP 7946 from every other host: the policy of chain INPUT (table filter, iptables)"
    );
    assert!(only(VXLAN, &facts).summary.contains("UDP 4789 from every other host"));
}

#[test]
fn what_depends_on_an_unknown_match_is_a_warning_that_names_it() {
    let finding = only(VXLAN, &saved("-A INPUT -m set --match-set bad src -j DROP"));
    assert_eq!(finding.verdict, Verdict::Warn);
    assert!(finding.summary.contains("may drop UDP 4789"), "{}", finding.summary);
    assert!(finding.summary.contains("`-m set --match-set bad src`"), "{}", finding.summary);
}

#[test]
fn without_known_hosts_the_network_is_asked_for_as_a_whole() {
    let alone = |rule: &str| Facts { peers: Vec::new(), ..saved(rule) };
    assert_eq!(only(VXLAN, &alone(DROP)).verdict, Verdict::Fail);
    let within = "-A INPUT -s 192.168.77.0/25 -p udp -m udp --dport 4789 -j DROP";
    assert_eq!(only(VXLAN, &alone(within)).verdict, Verdict::Unchecked);
    let elsewhere = "-A INPUT -s 10.0.0.0/8 -p udp -m udp --dport 4789 -j DROP";
    assert_eq!(only(VXLAN, &alone(elsewhere)).verdict, Verdict::Ok);
}

#[test]
fn what_cannot_be_read_is_said_unless_a_rule_was_found() {
    let gap =
        Gap { why: "no nft".to_owned(), todo: Some("install the package nftables".to_owned()) };
    let blind = Facts { gaps: vec![gap.clone()], ..facts(Vec::new()) };
    let finding = only(VXLAN, &blind);
    assert_eq!(finding.verdict, Verdict::Unchecked);
    assert!(finding.summary.contains("no nft"));
    assert_eq!(finding.fix.as_deref(), Some("install the package nftables"));
    let found = Facts { gaps: vec![gap], ..saved(DROP) };
    assert_eq!(only(VXLAN, &found).verdict, Verdict::Fail);
}

#[test]
fn hosts_on_other_interfaces_are_looked_at_there() {
    let mut facts = saved("-A OUTPUT -o wg0 -j DROP");
    assert_eq!(only(VXLAN, &facts).verdict, Verdict::Ok);
    facts.peers[1].via = Some("wg0".to_owned());
    let finding = only(VXLAN, &facts);
    assert_eq!(finding.subject.as_deref(), Some("bee-3"));
    assert!(finding.fix.unwrap().contains("-d 192.168.77.13 -p udp --dport 4789"));
}

#[test]
fn a_thousand_hosts_are_grouped_and_the_command_stays_short() {
    let mut facts = saved("-A INPUT -p udp -m udp --dport 4789 -m limit --limit 1/sec -j DROP");
    facts.network = Some("10.0.0.0/8".parse().unwrap());
    let peer = |n: u32| Peer {
        address: (0x0a00_0000 + n).into(),
        name: None,
        via: Some("eth1".to_owned()),
    };
    facts.peers = (1..=1000).map(peer).collect();
    let finding = only(VXLAN, &facts);
    assert!(finding.summary.contains("every other host"));
    assert!(finding.fix.unwrap().contains("-s 10.0.0.0/8 "));
}

#[test]
fn of_more_rules_than_are_followed_it_says_so() {
    let jumps = "-A INPUT -j many\n".repeat(310);
    let many = "-A many -p udp -m udp --dport 53 -j DROP\n".repeat(1000);
    let rules = format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:many - [0:0]\n{jumps}{many}COMMIT\n"
    );
    for check in [GOSSIP, VXLAN] {
        let finding = only(check, &saved(&rules));
        assert_eq!(finding.verdict, Verdict::Unchecked, "{finding:?}");
        assert!(finding.summary.contains("more rules than are looked at"), "{}", finding.summary);
    }
}

#[test]
fn a_thousand_hosts_under_thousands_of_rules_are_looked_at_or_told_of() {
    let address = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n);
    let drops: String = (0..3000)
        .map(|n| format!("-A INPUT -s {}/32 -p udp -m udp --dport 4789 -j DROP\n", address(n * 7)))
        .collect();
    let rules = format!("*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{drops}COMMIT\n");
    let mut facts = saved(&rules);
    facts.peers = (1..=1000)
        .map(|n| Peer { address: address(n), name: Some(format!("bee-{n}")), via: None })
        .collect();
    let findings = found(VXLAN, &facts);
    assert!(findings.iter().all(|finding| finding.verdict != Verdict::Ok), "{findings:?}");
    // The first ones are named before the budget ends.
    assert!(findings.iter().any(|finding| finding.verdict == Verdict::Fail), "{findings:?}");
    assert_eq!(only(GOSSIP, &facts).verdict, Verdict::Ok);
}
