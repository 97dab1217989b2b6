//! `nft -j list ruleset`, with rules of most kinds.

use serde_json::json;

use super::*;

const JSON: &str = include_str!("nft.json");
const TEXT: &str = include_str!("nft.txt");

#[test]
fn every_rule_has_its_words_handle_and_place() {
    let facts = of_nft(JSON, TEXT);
    let table = &facts.rules.tables[0];
    assert_eq!((table.family.as_str(), table.name.as_str()), ("inet", "fw"));
    let rules = &table.chains["input"].rules;
    let last = rules.last().unwrap();
    assert_eq!((last.number, last.handle), (20, Some(34)));
    assert_eq!(&*last.text, "reject with icmpx admin-prohibited");
    let many = rules.iter().find(|rule| rule.handle == Some(23)).unwrap();
    assert!(many.text.ends_with("udp dport 4789 accept comment \"many\""), "{}", many.text);
    // Rules of IPv6 alone are no tables of ours.
    assert!(facts.rules.tables.iter().all(|table| table.family != "ip6"));
    // Without a listing the JSON stands for the words.
    let bare = of_nft(JSON, "");
    assert!(bare.rules.tables[0].chains["vxlan"].rules[0].text.contains("192.168.77.13"));
}

#[test]
fn sets_maps_and_concatenations_decide() {
    let facts = of_nft(JSON, TEXT);
    let fates = fates(&facts);
    let of = |what: &str| fates.iter().find(|(name, _)| name == what).unwrap().1.clone();
    // By the set of pairs.
    assert_eq!(of("vxlan in"), Fate::Accepted);
    // By the set of hosts.
    assert_eq!(of("udp in"), Fate::Accepted);
    assert_eq!(of("tcp in"), Fate::Accepted);
    // By the map of states.
    assert_eq!(of("tcp answers in"), Fate::Accepted);
    assert_eq!(of("vxlan out"), Fate::Accepted);
    // bee-3 is led to a chain that drops it, by the map of ports.
    let findings = found(VXLAN, &facts);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].subject.as_deref(), Some("bee-3"));
    assert_eq!(
        findings[0].evidence,
        ["rule 1 of chain vxlan (table inet fw, nftables): ip saddr 192.168.77.13 drop"]
    );
}

/// The table `inet t` with one chain at a hook, and its rules as lists of statements.
fn table(hook: &str, policy: &str, rules: &[serde_json::Value]) -> Facts {
    let mut objects = vec![
        json!({"table": {"family": "inet", "name": "t", "handle": 1}}),
        json!({"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter",
                         "hook": hook, "prio": 0, "policy": policy}}),
        json!({"chain": {"family": "inet", "table": "t", "name": "other"}}),
        json!({"rule": {"family": "inet", "table": "t", "chain": "other", "handle": 99,
                        "expr": [{"return": null}]}}),
        json!({"set": {"family": "inet", "table": "t", "name": "typed", "elem": [4789],
                       "type": {"typeof": {"payload": {"protocol": "udp", "field": "dport"}}}}}),
    ];
    objects.extend(rules.iter().zip(1..).map(|(rule, handle)| {
        json!({"rule": {"family": "inet", "table": "t", "chain": "c", "handle": handle, "expr": rule}})
    }));
    of_nft(&json!({ "nftables": objects }).to_string(), "")
}

/// Whether statements before a `drop` let VXLAN from bee-2 come to it: surely, or perhaps.
#[track_caller]
fn holds(statements: serde_json::Value, expected: Option<bool>) {
    let mut rule = statements.as_array().unwrap().clone();
    rule.push(json!({"drop": null}));
    let facts = table("input", "accept", &[rule.into()]);
    let fate = fates(&facts).into_iter().find(|(what, _)| what == "vxlan in").unwrap().1;
    let seen = match fate {
        Fate::Accepted => Some(false),
        Fate::Dropped(_) => Some(true),
        Fate::MayDrop(..) => None,
        Fate::TooFar => panic!("{fate:?}"),
    };
    assert_eq!(seen, expected, "{statements}");
}

#[test]
fn each_expression_is_taken_as_the_kernel_takes_it() {
    let is = |left: serde_json::Value, op: &str, right: serde_json::Value| json!([{"match": {"op": op, "left": left, "right": right}}]);
    let payload =
        |protocol: &str, field: &str| json!({"payload": {"protocol": protocol, "field": field}});
    let meta = |key: &str| json!({"meta": {"key": key}});
    let ct = |key: &str| json!({"ct": {"key": key}});
    let (yes, no) = (Some(true), Some(false));
    for (expected, left, op, right) in [
        (yes, payload("udp", "dport"), "==", json!(4789)),
        (no, payload("udp", "dport"), "!=", json!(4789)),
        (no, payload("tcp", "dport"), "==", json!(4789)),
        (no, payload("tcp", "dport"), "!=", json!(1)),
        (yes, payload("th", "dport"), ">", json!(4788)),
        (no, payload("th", "dport"), "<", json!(4789)),
        (yes, payload("th", "dport"), "<=", json!(4789)),
        (yes, payload("th", "dport"), "==", json!({"range": [4000, 5000]})),
        (yes, payload("udp", "dport"), "==", json!("@typed")),
        (None, payload("udp", "dport"), "==", json!("@no-such-set")),
        (None, payload("udp", "sport"), "==", json!(40000)),
        (yes, payload("udp", "sport"), ">=", json!(1024)),
        (yes, payload("ip", "saddr"), "==", json!({"prefix": {"addr": "192.168.77.0", "len": 24}})),
        (yes, payload("ip", "saddr"), "==", json!({"set": ["10.0.0.1", "192.168.77.12"]})),
        (
            no,
            payload("ip", "saddr"),
            "==",
            json!({"set": [{"elem": {"val": "10.0.0.1", "timeout": 9}}]}),
        ),
        (no, payload("ip6", "saddr"), "!=", json!("::1")),
        (no, payload("icmpv6", "type"), "==", json!("echo-request")),
        (no, payload("icmp", "type"), "==", json!("echo-request")),
        (None, payload("ether", "saddr"), "==", json!("02:00:00:00:00:01")),
        (yes, payload("ip", "protocol"), "==", json!("udp")),
        (None, payload("ip", "ttl"), "==", json!(1)),
        (yes, meta("l4proto"), "==", json!({"set": ["tcp", "udp"]})),
        (no, meta("l4proto"), "==", json!("vrrp")),
        (yes, meta("nfproto"), "==", json!("ipv4")),
        (no, meta("nfproto"), "==", json!("ipv6")),
        (yes, meta("protocol"), "==", json!("ip")),
        (yes, meta("iifname"), "==", json!("eth*")),
        (no, meta("iifname"), "==", json!("lo")),
        (no, meta("oifname"), "==", json!("eth1")),
        (yes, meta("pkttype"), "==", json!("host")),
        (no, meta("pkttype"), "==", json!({"set": ["broadcast", "multicast"]})),
        (None, meta("length"), ">", json!(1000)),
        (yes, meta("mark"), "==", json!(0)),
        (no, json!({"&": [meta("mark"), 255]}), "!=", json!(0)),
        (yes, ct("state"), "in", json!("new")),
        (yes, ct("state"), "in", json!(["new", "invalid"])),
        (no, ct("state"), "in", json!(["established", "related"])),
        (yes, ct("state"), "!", json!("invalid")),
        (no, ct("state"), "!", json!(["new", "invalid"])),
        (no, json!({"&": [payload("ip", "frag-off"), 8191]}), "!=", json!(0)),
        (None, json!({"&": [payload("ip", "frag-off"), 16384]}), "!=", json!(0)),
        (no, json!({"tcp option": {"name": "maxseg", "field": "size"}}), "==", json!(9)),
        (no, payload("ether", "saddr"), "==", json!({"set": []})),
        (no, ct("status"), "in", json!("dnat")),
        (None, ct("mark"), "==", json!(1)),
        (yes, json!({"fib": {"result": "type", "flags": ["daddr"]}}), "==", json!("local")),
        (no, json!({"fib": {"result": "type", "flags": "daddr"}}), "==", json!("broadcast")),
        (
            no,
            json!({"fib": {"result": "oif", "flags": ["saddr", "mark", "iif"]}}),
            "==",
            json!(false),
        ),
        (no, json!({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}), "==", json!(0)),
        (None, json!({"numgen": {"mode": "random", "mod": 2}}), "==", json!(1)),
        (None, json!({"payload": {"base": "th", "offset": 64, "len": 16}}), "==", json!(1)),
        (
            no,
            json!({"payload": {"tunnel": "vxlan", "protocol": "vxlan", "field": "vni"}}),
            "==",
            json!(5),
        ),
    ] {
        holds(is(left, op, right), expected);
    }
    let pair = json!({"concat": [payload("ip", "saddr"), payload("udp", "dport")]});
    let set = json!({"set": [{"concat": ["10.0.0.1", 4789]}, {"concat": ["192.168.77.12", {"range": [1, 5000]}]}]});
    holds(is(pair.clone(), "==", set), yes);
    let set = json!({"set": [{"concat": ["10.0.0.1", 4789]}, {"concat": ["192.168.77.12", 1]}]});
    holds(is(pair, "==", set), no);
    for statement in [
        json!({"limit": {"rate": 3, "per": "minute"}}),
        json!({"ct count": {"val": 3}}),
        json!({"xt": {"type": "match", "name": "u32"}}),
        json!({"set": {"op": "add", "elem": "x", "set": "@x", "stmt": [{"limit": {}}]}}),
        json!({"statement-of-tomorrow": null}),
        // What it has no JSON for, it prints as text.
        json!("reset something"),
    ] {
        holds(json!([statement]), None);
    }
    for statement in [
        json!({"counter": null}),
        json!({"log": {"prefix": "x"}}),
        json!({"set": {"op": "add", "elem": "x", "set": "@x"}}),
        json!({"mangle": {"key": {"ct": {"key": "mark"}}, "value": 1}}),
    ] {
        holds(json!([statement]), yes);
    }
}

#[test]
fn a_chain_without_a_name_may_let_packets_through() {
    let chain = json!([json!("jump {\n\tudp dport 4789 accept\n}")]);
    let facts = table("input", "drop", &[chain]);
    let fates = fates(&facts);
    assert!(fates.iter().all(|(_, fate)| !matches!(fate, Fate::Dropped(_))), "{fates:?}");
    let of = |what: &str| doubtful(&facts).into_iter().find(|line| line.starts_with(what));
    assert!(of("vxlan in").unwrap().contains("jump { udp dport 4789 accept }"));
}

#[test]
fn a_table_that_is_switched_off_drops_nothing() {
    let objects = json!({"nftables": [
        {"table": {"family": "inet", "name": "t", "handle": 1}},
        {"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "input",
                   "prio": 0, "policy": "drop"}},
    ]});
    let listing = |flags: &str| {
        format!(
            "table inet t {{ # handle 1\n{flags}\tchain c {{ # handle 1\n\t\ttype filter hook input \
             priority filter; policy drop;\n\t}}\n}}\n"
        )
    };
    assert!(!dropped(&of_nft(&objects.to_string(), &listing(""))).is_empty());
    let dormant = of_nft(&objects.to_string(), &listing("\tflags dormant\n\n"));
    assert_eq!(dropped(&dormant), [""; 0]);
}

#[test]
fn small_segments_that_are_dropped_are_not_ours() {
    let size = json!({"tcp option": {"name": "maxseg", "field": "size"}});
    for (right, drops) in
        [(json!({"range": [1, 535]}), false), (json!({"range": [1, 65535]}), true)]
    {
        let rule = json!([{"match": {"op": "==", "left": size, "right": right}}, {"drop": null}]);
        let facts = table("input", "accept", std::slice::from_ref(&rule));
        let seen = dropped(&facts).iter().any(|line| line.starts_with("tcp in"));
        assert_eq!((seen, doubtful(&facts).is_empty()), (drops, true), "{rule}");
    }
}

#[test]
fn flags_of_tcp_are_those_of_a_first_packet() {
    let flags = json!({"payload": {"protocol": "tcp", "field": "flags"}});
    let masked = json!({"&": [flags, ["fin", "syn", "rst", "ack"]]});
    for (drops, left, op, right) in [
        (true, &masked, "==", json!("syn")),
        (false, &masked, "!=", json!("syn")),
        (false, &masked, "==", json!(["syn", "ack"])),
        (true, &masked, "!=", json!({"|": ["syn", "ack"]})),
        (true, &flags, "in", json!("syn")),
        (true, &flags, "in", json!(["syn", "fin"])),
        (false, &flags, "in", json!(["ack", "fin"])),
    ] {
        let rule = json!([{"match": {"op": op, "left": left, "right": right}}, {"drop": null}]);
        let seen = dropped(&table("input", "accept", std::slice::from_ref(&rule)));
        assert_eq!(seen.iter().any(|line| line.starts_with("tcp in")), drops, "{rule}");
    }
}

#[test]
fn verdict_maps_with_a_rest_and_without() {
    let map = |data: serde_json::Value| json!([{"vmap": {"key": {"payload": {"protocol": "udp", "field": "dport"}}, "data": data}}]);
    for (drops, data) in [
        (true, json!({"set": [[4789, {"drop": null}], ["*", {"accept": null}]]})),
        (false, json!({"set": [[4789, {"accept": null}], ["*", {"drop": null}]]})),
        (true, json!({"set": [[1, {"accept": null}], [{"elem": {"val": "*"}}, {"drop": null}]]})),
        // What comes back from a chain does not come to the rest.
        (false, json!({"set": [[4789, {"jump": {"target": "other"}}], ["*", {"drop": null}]]})),
        (false, json!({"set": []})),
        (false, json!("@no-such-map")),
    ] {
        let facts = table("input", "accept", &[map(data.clone())]);
        let dropped = dropped(&facts).iter().any(|line| line.starts_with("vxlan in"));
        assert_eq!(dropped, drops, "{data}");
    }
}

#[test]
fn hooks_of_the_way_count_and_others_do_not() {
    let drop = [json!([{"drop": null}])];
    for (hook, ways) in [
        ("prerouting", "in"),
        ("input", "in"),
        ("output", "out"),
        ("postrouting", "out"),
        ("forward", "no"),
        ("hook-of-tomorrow", "no"),
    ] {
        let dropped = dropped(&table(hook, "accept", &drop));
        assert!(
            dropped.iter().all(|line| line.contains(&format!(" {ways}:"))),
            "{hook} {dropped:?}"
        );
        assert_eq!(dropped.is_empty(), ways == "no", "{hook}");
    }
    assert_eq!(dropped(&table("input", "drop", &[])).len(), 4);
}

#[test]
fn an_ingress_chain_counts_on_its_device_alone() {
    let of = |device: serde_json::Value| {
        let json = json!({"nftables": [
            {"table": {"family": "netdev", "name": "n"}},
            {"chain": {"family": "netdev", "table": "n", "name": "c", "type": "filter", "dev": device,
                       "hook": "ingress", "prio": 0, "policy": "drop"}},
        ]});
        dropped(&of_nft(&json.to_string(), "")).len()
    };
    assert_eq!((of(json!("eth1")), of(json!("eth0"))), (4, 0));
    assert_eq!((of(json!(["eth0", "eth1"])), of(json!([]))), (4, 0));
    // Before 1.0.9 nft names it in its listing alone.
    let listed = |device: &str| {
        let json = json!({"nftables": [
            {"table": {"family": "netdev", "name": "n"}},
            {"chain": {"family": "netdev", "table": "n", "name": "c", "type": "filter",
                       "hook": "ingress", "prio": 0, "policy": "drop"}},
        ]});
        let listing = format!(
            "table netdev n {{ # handle 1\n\tchain c {{ # handle 1\n\t\ttype filter hook ingress {device} priority filter; policy drop;\n\t}}\n}}\n"
        );
        dropped(&of_nft(&json.to_string(), &listing)).len()
    };
    assert_eq!((listed("device \"eth1\""), listed("device \"eth0\"")), (4, 0));
    assert_eq!(
        (listed("devices = { \"eth0\", \"eth1\" }"), listed("devices = { eth1, eth0 }")),
        (4, 4)
    );
    assert_eq!(listed("devices = { \"eth0\" }"), 0);
}
