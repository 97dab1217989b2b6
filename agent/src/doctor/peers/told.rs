//! Alike findings of several hosts as one.

use std::collections::BTreeMap;

use super::judge::Said;
use crate::control::api::doctor::{Finding, Verdict};

/// Hosts that a sentence names.
const NAMED_MAX: usize = 5;

/// One finding for each check and what is said of it, with the names of all hosts it is said of.
pub(super) fn told(said: Vec<Said>) -> Vec<Finding> {
    let mut alike: BTreeMap<(&'static str, Verdict, String, Option<String>), Vec<Said>> =
        BTreeMap::new();
    for said in said {
        let key = (said.check, said.verdict, said.words.clone(), said.fix.clone());
        alike.entry(key).or_default().push(said);
    }
    alike
        .into_iter()
        .map(|((check, verdict, words, fix), mut said)| {
            said.sort_by(|a, b| a.host.cmp(&b.host));
            let names = names(&said);
            let with_names = |text: String| text.replace("{host}", &names);
            let finding = Finding { verdict, ..Finding::ok(check, with_names(words)) };
            let finding = match said.as_slice() {
                [one] => finding.about(one.host.clone()),
                _ => finding.about(format!("{} hosts", said.len())),
            };
            let finding = finding.all_seen(said.into_iter().flat_map(|said| said.evidence));
            match fix {
                Some(fix) => finding.mend(with_names(fix)),
                None => finding,
            }
        })
        .collect()
}

fn names(said: &[Said]) -> String {
    let named: Vec<&str> = said.iter().take(NAMED_MAX).map(|said| said.host.as_str()).collect();
    match (said.len().saturating_sub(NAMED_MAX), named.as_slice()) {
        (0, [one]) => (*one).to_owned(),
        (0, [all @ .., last]) => format!("{} and {last}", all.join(", ")),
        (more, named) => format!("{} and {more} more", named.join(", ")),
    }
}
