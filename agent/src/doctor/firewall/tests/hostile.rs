//! Output of tools is not trusted: nothing in it makes the check panic or go on without end.

use proptest::prelude::*;

use super::*;

const SAVED: &str = include_str!("ufw-deny.save");
const JSON: &str = include_str!("nft.json");
const TEXT: &str = include_str!("nft.txt");

proptest! {
    #[test]
    fn rules_of_iptables_with_anything_in_them(line in ".{0,80}", cut in 0..SAVED.len()) {
        let text = format!("*filter\n:INPUT DROP [0:0]\n-A INPUT {line} -j DROP\n{}", head(SAVED, cut));
        judge::judge(&saved(&text));
    }

    #[test]
    fn listings_of_nft_with_holes(from in 0..JSON.len(), length in 0..200usize, with in ".{0,8}") {
        let json = format!("{}{with}{}", head(JSON, from), tail(JSON, from + length));
        if let Ok(tables) = nft::parse(&json, head(TEXT, from % TEXT.len())) {
            judge::judge(&facts(tables));
        }
    }

    #[test]
    fn values_of_nft_of_another_kind(
        at in 0..1000usize,
        with in prop_oneof![Just("null"), Just("[]"), Just("{}"), Just("-1"), Just("\"@\""), Just("1e99")],
    ) {
        let mut seen = 0;
        let json: String = JSON.split(": ").map(|part| {
            seen += 1;
            match part.split_once([',', '}']) {
                Some((_, rest)) if seen == at => format!(": {with},{rest}"),
                _ => format!(": {part}"),
            }
        }).collect();
        if let Ok(tables) = nft::parse(json.trim_start_matches(": "), TEXT) {
            judge::judge(&facts(tables));
        }
    }
}

#[test]
fn chains_that_call_each_other_without_end_are_given_up() {
    let mut text = "*filter\n:INPUT ACCEPT [0:0]\n".to_owned();
    for chain in 0..30 {
        text.push_str(&format!(":c{chain} - [0:0]\n"));
    }
    text.push_str("-A INPUT -j c0\n");
    for chain in 0..29 {
        let rule = format!("-A c{chain} -j c{}\n", chain + 1);
        text.push_str(&rule.repeat(4));
    }
    let findings = judge::judge(&saved(&text));
    assert!(findings.iter().all(|finding| finding.verdict == Verdict::Unchecked), "{findings:?}");
}

fn head(text: &str, end: usize) -> &str {
    let end = (0..=end.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn tail(text: &str, start: usize) -> &str {
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at));
    &text[start.unwrap_or(text.len())..]
}
