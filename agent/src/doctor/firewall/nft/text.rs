//! The words of each rule, and what JSON leaves out, out of `nft -a list ruleset`.

use std::collections::HashMap;
use std::sync::Arc;

use super::Key;

/// By chain and handle.
pub(super) type Texts = HashMap<(Key, u64), Arc<str>>;

const MARK: &str = " # handle ";

/// Family and name of the tables that are switched off.
pub(super) fn dormant(listing: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut table = (String::new(), String::new());
    for line in listing.lines() {
        match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
            ["table", family, name, ..] if !line.starts_with('\t') => {
                table = ((*family).to_owned(), (*name).to_owned());
            }
            ["flags", flags @ ..]
                if line.starts_with("\tflags")
                    && flags.iter().any(|flag| flag.trim_matches([',', ';']) == "dormant") =>
            {
                found.push(table.clone());
            }
            _ => {}
        }
    }
    found
}

/// The interfaces of chains that have some: `device "eth0"` or `devices = { "eth0", "eth1" }`.
pub(super) fn devices(listing: &str) -> HashMap<Key, Vec<String>> {
    let mut found = HashMap::new();
    let (mut table, mut chain) = ((String::new(), String::new()), String::new());
    for line in listing.lines() {
        match line.split_ascii_whitespace().collect::<Vec<_>>().as_slice() {
            ["table", family, name, ..] if !line.starts_with('\t') => {
                table = ((*family).to_owned(), (*name).to_owned());
            }
            ["chain", name, ..] if !line.starts_with("\t\t") => (*name).clone_into(&mut chain),
            ["type", _, "hook", _, "device", name, ..] => {
                let key = (table.0.clone(), table.1.clone(), chain.clone());
                found.insert(key, vec![bare(name)]);
            }
            ["type", _, "hook", _, "devices", "=", "{", names @ ..] => {
                let key = (table.0.clone(), table.1.clone(), chain.clone());
                let names = names.iter().take_while(|name| **name != "}");
                found.insert(key, names.map(|name| bare(name)).collect());
            }
            _ => {}
        }
    }
    found
}

/// Without quotes and the comma behind it.
fn bare(name: &str) -> String {
    name.trim_end_matches(',').trim_matches('"').to_owned()
}

/// The rules of a listing. A rule that goes over several lines becomes one.
pub(super) fn texts(listing: &str) -> Texts {
    let mut texts = Texts::new();
    let (mut table, mut chain) = ((String::new(), String::new()), None);
    let mut pending = String::new();
    for line in listing.lines() {
        let depth = line.chars().take_while(|c| *c == '\t').count();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match (depth, words.as_slice()) {
            (0, ["table", family, name, ..]) => table = ((*family).into(), (*name).into()),
            (1, ["chain", name, ..]) => chain = Some((*name).to_owned()),
            (0 | 1, _) => chain = None,
            _ => {
                let Some(chain) = &chain else {
                    continue;
                };
                let (text, handle) = line.rsplit_once(MARK).unwrap_or((line, ""));
                if !pending.is_empty() {
                    pending.push(' ');
                }
                pending.push_str(text.trim());
                if let Ok(handle) = handle.trim().parse() {
                    let key = (table.0.clone(), table.1.clone(), chain.clone());
                    texts.insert((key, handle), std::mem::take(&mut pending).into());
                } else if pending.ends_with(';') {
                    // What the chain is, not a rule.
                    pending.clear();
                }
            }
        }
    }
    texts
}
