//! Rules as real tools print them (files beside this one), and what is said of them.

use super::model::{Ruleset, Table, Tool};
use super::walk::{Fate, fate};
use super::{Facts, GOSSIP, Gap, Peer, VXLAN, iptables, judge, nft, traffic};
use crate::control::api::doctor::{Finding, Verdict};

mod advice;
mod hostile;
mod judge_peers;
mod of_iptables;
mod of_nft;

/// A host with two others, on eth1.
fn facts(tables: Vec<Table>) -> Facts {
    let peer = |name: &str, last: u8| Peer {
        address: [192, 168, 77, last].into(),
        name: Some(name.to_owned()),
        via: Some("eth1".to_owned()),
    };
    Facts {
        rules: Ruleset { tables }.into(),
        gaps: Vec::new(),
        address: [192, 168, 77, 11].into(),
        interface: Some("eth1".to_owned()),
        network: Some("192.168.77.0/24".parse().unwrap()),
        peers: vec![peer("bee-2", 12), peer("bee-3", 13)],
        gossip_port: 7946,
        vxlan_port: 4789,
        vnis: (65_536, 131_071),
    }
}

/// Of a text of `iptables-save`, which may be rules of the filter table only.
fn saved(text: &str) -> Facts {
    let whole = match text.starts_with("-A") {
        true => format!("*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{text}\nCOMMIT\n"),
        false => text.to_owned(),
    };
    facts(iptables::parse(&whole, Tool::Iptables("iptables")))
}

fn of_nft(json: &str, listing: &str) -> Facts {
    facts(nft::parse(json, listing).unwrap())
}

/// What becomes of each kind of packets from or to bee-2: `vxlan in`, `tcp answers out`, …
fn fates(facts: &Facts) -> Vec<(String, Fate)> {
    let peer: std::net::Ipv4Addr = [192, 168, 77, 12].into();
    traffic::all(facts)
        .into_iter()
        .map(|one| {
            let what = match (one.check, one.tcp, one.answers) {
                (VXLAN, ..) => "vxlan",
                (_, false, _) => "udp",
                (_, true, false) => "tcp",
                (_, true, true) => "tcp answers",
            };
            let way = if one.inbound { "in" } else { "out" };
            let packet = one.packet(facts, vec![(peer, peer)], Some("eth1"));
            (format!("{what} {way}"), fate(&facts.rules, &packet))
        })
        .collect()
}

/// Those that are surely dropped, and by which rule.
fn dropped(facts: &Facts) -> Vec<String> {
    let drop = |(what, fate)| match fate {
        Fate::Dropped(culprit) => Some(format!("{what}: {culprit}")),
        Fate::Accepted | Fate::MayDrop(..) | Fate::TooFar => None,
    };
    fates(facts).into_iter().filter_map(drop).collect()
}

/// Those that may be dropped, and what it depends on.
fn doubtful(facts: &Facts) -> Vec<String> {
    let may = |(what, fate)| match fate {
        Fate::MayDrop(culprit, doubt) => Some(format!("{what}: {culprit}: {doubt:?}")),
        Fate::Accepted | Fate::Dropped(_) | Fate::TooFar => None,
    };
    fates(facts).into_iter().filter_map(may).collect()
}

/// The findings of one check.
fn found(check: &str, facts: &Facts) -> Vec<Finding> {
    judge::judge(facts).into_iter().filter(|finding| finding.check == check).collect()
}

/// The one finding of a check.
fn only(check: &str, facts: &Facts) -> Finding {
    let mut findings = found(check, facts);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.remove(0)
}
