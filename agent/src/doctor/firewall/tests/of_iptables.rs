//! `iptables-save`, rule by rule.

use super::*;

/// The rule decides about VXLAN from bee-2, and this is how.
#[track_caller]
fn decides(rule: &str, expected: Verdict) {
    let facts = saved(rule);
    let vxlan: Vec<Fate> =
        fates(&facts).into_iter().filter(|(what, _)| what == "vxlan in").map(|(_, f)| f).collect();
    let verdict = match &vxlan[0] {
        Fate::Accepted => Verdict::Ok,
        Fate::Dropped(_) => Verdict::Fail,
        Fate::MayDrop(..) => Verdict::Warn,
        Fate::TooFar => Verdict::Unchecked,
    };
    assert_eq!(verdict, expected, "{rule}: {vxlan:?}");
}

#[test]
fn each_match_is_taken_as_the_kernel_takes_it() {
    for (drops, rule) in [
        (true, "-p udp -m udp --dport 4789"),
        (true, "-p udp -m udp --dport 4000:5000"),
        (false, "-p udp -m udp ! --dport 4789"),
        (false, "-p udp -m udp --dport 4790"),
        (false, "-p tcp -m tcp --dport 4789"),
        (true, "-p udp"),
        (false, "-p icmp"),
        (true, "! -p icmp"),
        (true, "-s 192.168.77.12/32"),
        (true, "-s 192.168.77.0/255.255.255.0"),
        (true, "-s 0.0.0.0/0"),
        (false, "! -s 192.168.77.0/24"),
        (false, "-s 192.168.77.13/32"),
        (true, "-d 192.168.77.11/32"),
        (false, "-d 192.168.77.12/32"),
        (true, "-i eth1"),
        (true, "-i eth+"),
        (true, "-i +"),
        (false, "-i lo"),
        (true, "! -i lo"),
        (false, "-i eth10"),
        (false, "-o eth1"),
        (true, "-m conntrack --ctstate NEW"),
        (true, "-m conntrack --ctstate INVALID,NEW"),
        (false, "-m conntrack --ctstate INVALID"),
        (true, "-m conntrack ! --ctstate RELATED,ESTABLISHED"),
        (false, "-m conntrack --ctstate DNAT"),
        (true, "-m state --state NEW"),
        (true, "-p udp -m multiport --dports 22,4789,7946:7950"),
        (false, "-p udp -m multiport --dports 22,7946:7950"),
        (true, "-p udp -m multiport ! --dports 22,7946:7950"),
        (true, "-p udp -m multiport --ports 22,4789"),
        (false, "-p udp -m multiport --ports 22,23"),
        (true, "-p udp -m multiport --sports 32768:60999"),
        (false, "-p udp -m udp --sport 53"),
        (true, "-m iprange --src-range 192.168.77.1-192.168.77.20"),
        (false, "-m iprange --src-range 192.168.77.1-192.168.77.11"),
        (true, "-m iprange ! --dst-range 10.0.0.1-10.0.0.2"),
        (true, "-m addrtype --dst-type LOCAL"),
        (false, "-m addrtype --dst-type MULTICAST,BROADCAST"),
        (true, "-m pkttype --pkt-type unicast"),
        (false, "-m pkttype --pkt-type broadcast"),
        (false, "-m mark --mark 0x1"),
        (true, "-m mark --mark 0x0/0xff"),
        (true, "-m mark ! --mark 0x8000/0x8000"),
        (false, "-f"),
        (true, "! -f"),
        (false, "-m rpfilter --invert"),
        (true, "-m rpfilter"),
        (true, "-m comment --comment \"--dport 1 \\\"-j ACCEPT\\\" ! -s\""),
        (true, ""),
    ] {
        let expected = if drops { Verdict::Fail } else { Verdict::Ok };
        decides(&format!("-A INPUT {rule} -j DROP"), expected);
    }
}

#[test]
fn what_cannot_be_told_from_here_may_hold() {
    for rule in [
        "-m limit --limit 3/min",
        "-m recent --update --seconds 30 --hitcount 6 --name X --rsource",
        "-m set --match-set bad src",
        "-m set ! --match-set good src",
        "-p udp -m udp --sport 40000",
        "-m length --length 1000:65535",
        "-m u32 --u32 \"0x0=0x1\"",
        "-m statistic --mode random --probability 0.5",
        "-m string --string \"-x\" --algo bm",
        "-m some-module-of-tomorrow --an-option 1 2 3",
        "-p udp --an-option-of-tomorrow",
    ] {
        decides(&format!("-A INPUT {rule} -j DROP"), Verdict::Warn);
        // Where something else rules the packet out, it cannot.
        decides(&format!("-A INPUT -i eth0 {rule} -j DROP"), Verdict::Ok);
    }
    decides("-A INPUT -j NFQUEUE --queue-num 0", Verdict::Warn);
    decides("-A INPUT -j TARGET-OF-TOMORROW --x y", Verdict::Warn);
}

#[test]
fn the_way_through_chains_is_the_kernels() {
    let chains = "*filter\n:INPUT ACCEPT [0:0]\n:one - [0:0]\n:two - [0:0]\n";
    for (drops, rules) in [
        (true, "-A INPUT -j one\n-A one -j RETURN\n-A INPUT -j DROP"),
        (false, "-A INPUT -j one\n-A one -j ACCEPT\n-A INPUT -j DROP"),
        (true, "-A INPUT -j one\n-A one -s 10.0.0.1/32 -j ACCEPT\n-A INPUT -j DROP"),
        // A goto does not come back to the chain that it was made from.
        (false, "-A INPUT -j one\n-A one -g two\n-A one -j DROP\n-A INPUT -j ACCEPT"),
        (true, "-A INPUT -j one\n-A one -g two\n-A one -j ACCEPT\n-A INPUT -j DROP"),
        (true, "-A INPUT -j one\n-A one -j two\n-A two -j DROP"),
        (false, "-A INPUT -j LOG --log-prefix \"-j DROP \"\n-A INPUT"),
        (false, "-A INPUT -j MARK --set-xmark 0x1/0xff\n-A INPUT -m mark --mark 0x2/0xff -j DROP"),
        (true, "-A INPUT -j MARK --set-xmark 0x1/0xff\n-A INPUT -m mark --mark 0x1/0x1 -j DROP"),
        (true, "-A INPUT -j REJECT --reject-with icmp-port-unreachable"),
        (true, "-P\n-A OUTPUT -j ACCEPT\n-A INPUT -j STEAL"),
    ] {
        let expected = if drops { Verdict::Fail } else { Verdict::Ok };
        decides(&format!("{chains}{rules}\nCOMMIT\n"), expected);
    }
    // A loop, which the kernel would not take.
    decides(&format!("{chains}-A INPUT -j one\n-A one -j one\n"), Verdict::Ok);
}

#[test]
fn an_uncertain_accept_makes_the_drop_behind_it_uncertain() {
    let facts = saved(
        "-A INPUT -p udp -m udp --dport 4789 -m set --match-set hosts src -j ACCEPT\n\
         -A INPUT -p udp -m udp --dport 4789 -j DROP",
    );
    let doubtful = doubtful(&facts);
    assert_eq!(doubtful.len(), 1, "{doubtful:?}");
    assert!(doubtful[0].starts_with("vxlan in: rule 2 of chain INPUT"), "{doubtful:?}");
    assert!(doubtful[0].contains("-m set --match-set hosts src"), "{doubtful:?}");
    assert!(doubtful[0].contains("rule 1 of chain INPUT"), "{doubtful:?}");
}

#[test]
fn tables_are_passed_in_the_order_of_the_kernel() {
    let text = "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\nCOMMIT\n\
                *raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j DROP\nCOMMIT\n\
                *filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    assert_eq!(
        dropped(&saved(text)),
        [
            "vxlan in: rule 1 of chain PREROUTING (table raw, iptables)",
            "udp in: rule 1 of chain PREROUTING (table raw, iptables)",
            "tcp in: rule 1 of chain PREROUTING (table mangle, iptables)",
            "tcp answers in: rule 1 of chain PREROUTING (table mangle, iptables)",
        ]
    );
    // Accepted in one table, a packet still comes to the next.
    let text = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\nCOMMIT\n\
                *filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -j DROP\nCOMMIT\n";
    assert_eq!(dropped(&saved(text)).len(), 2);
}

#[test]
fn a_connection_that_is_not_tracked_is_not_new() {
    let untracked = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp --dport 4789 -j CT --notrack\n\
                     COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n";
    // `iptables-save` always says `-m udp` before the port; without it the option is not known.
    let untracked = untracked.replace("-p udp --dport", "-p udp -m udp --dport");
    for (drops, rule) in [(false, "NEW"), (false, "INVALID"), (true, "UNTRACKED")] {
        let rule = format!("-A INPUT -m conntrack --ctstate {rule} -j DROP");
        let expected = if drops { Verdict::Fail } else { Verdict::Ok };
        decides(&format!("{untracked}{rule}\n"), expected);
    }
}

#[test]
fn answers_pass_where_connections_are_followed() {
    let strict = "*filter\n:INPUT DROP [0:0]\n:OUTPUT DROP [0:0]\n\
                  -A INPUT -p tcp -m tcp --dport 7946 -j ACCEPT\n\
                  -A OUTPUT -p tcp -m tcp --dport 7946 -j ACCEPT\n";
    let without: Vec<String> =
        dropped(&saved(strict)).into_iter().filter(|line| line.starts_with("tcp")).collect();
    assert_eq!(
        without,
        [
            "tcp answers in: the policy of chain INPUT (table filter, iptables)",
            "tcp answers out: the policy of chain OUTPUT (table filter, iptables)"
        ]
    );
    let followed = "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n\
                    -A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    let with = dropped(&saved(&format!("{strict}{followed}")));
    assert!(!with.iter().any(|line| line.starts_with("tcp")), "{with:?}");
}

#[test]
fn a_port_that_is_led_elsewhere_does_not_arrive() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m udp --dport 4789 -j REDIRECT --to-ports 5000\n";
    let finding = only(VXLAN, &saved(text));
    assert_eq!(finding.verdict, Verdict::Fail);
    assert!(
        finding.summary.starts_with("this host leads elsewhere UDP 4789 from every other host")
    );
    assert_eq!(
        finding.fix.as_deref(),
        Some(
            "iptables -t nat -I PREROUTING 1 -s 192.168.77.12,192.168.77.13 -p udp --dport 4789 -j ACCEPT # until the next boot; put it where your rules are kept, too"
        )
    );
}

#[test]
fn dockers_rules_are_in_nobodys_way() {
    let docker = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
        :DOCKER - [0:0]\n\
        -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
        -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
        -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n\
        -A DOCKER -i docker0 -j RETURN\n\
        -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n\
        COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
        :DOCKER-USER - [0:0]\n:DOCKER-ISOLATION-STAGE-1 - [0:0]\n\
        -A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j DROP\n\
        -A INPUT -p udp -m udp --dport 4789 -m u32 --u32 \"0x0>>0x16&0x3c@0xc&0xffffff00=0x100100\" -m policy --dir in --pol none -j DROP\n\
        -A INPUT -p udp -m policy --dir in --pol none -m udp --dport 4789 -m bpf --bytecode \"6,177 0 0 0,64 0 0 12,84 0 0 4294967040,21 0 1 1048832,6 0 0 4294967295,6 0 0 0\" -j DROP\n\
        COMMIT\n";
    let facts = saved(docker);
    assert!(fates(&facts).iter().all(|(_, fate)| *fate == Fate::Accepted), "{:?}", fates(&facts));
    // An encrypted network of Docker Swarm that has a VNI of ours is another matter.
    let ours = Facts { vnis: (4097, 4097), ..facts };
    assert_eq!(only(VXLAN, &ours).verdict, Verdict::Warn);
}
