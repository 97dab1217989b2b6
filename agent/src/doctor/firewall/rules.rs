//! Reads the rules of this host: the only part that runs anything.
//!
//! Each rule is read by the tool that made it, as only that one shows it in full: nft shows matches
//! of iptables by their name alone, and iptables shows no tables of nft. A tool that is missing
//! makes a gap only where there are rules that it alone can show.

use std::time::Duration;

use ovl_vxlan::{NftTable, nft_tables};
use tokio::sync::Semaphore;

use super::model::{Ruleset, Table, Tool};
use super::{Gap, Rules, iptables, nft};
use crate::tool::{self, Limits, Said, ToolError};

/// Limits of one tool. Rules of iptables come to about a megabyte for ten thousand; of more than this
/// nothing is read, and that is said.
const LIMITS: Limits = Limits { time: Duration::from_secs(6), output: 16 << 20 };

/// Tables that iptables has (iptables(8)).
const OF_IPTABLES: [&str; 5] = ["raw", "mangle", "nat", "filter", "security"];

/// Lists the tables of iptables-legacy, of this thread's network namespace.
const LEGACY: &str = "/proc/thread-self/net/ip_tables_names";

/// Of what is asked at the same time one reads, the others wait: tens of thousands of rules take tens of
/// megabytes while they are read.
static ONE: Semaphore = Semaphore::const_new(1);

/// All rules that can be read, and why others cannot.
pub(super) async fn gather() -> Rules {
    let _one = ONE.acquire().await;
    let mut gaps = Vec::new();
    let mut tables = legacy().await.unwrap_or_else(|gap| {
        gaps.push(gap);
        Vec::new()
    });
    tables.extend(nftables(&mut gaps).await);
    Rules { set: Ruleset { tables }.into(), gaps }
}

/// Tables of iptables-legacy, whose tool is asked only where the kernel has some.
async fn legacy() -> Result<Vec<Table>, Gap> {
    let names = std::fs::read_to_string(LEGACY).unwrap_or_default();
    if names.trim().is_empty() {
        return Ok(Vec::new());
    }
    let what = "the rules of iptables-legacy cannot be read";
    let (said, command) = match ask(&["iptables-legacy-save"]).await {
        Err(ToolError::Missing(_)) => (ask(&["iptables-save"]).await, "iptables"),
        said => (said, "iptables-legacy"),
    };
    let text = said.map_err(|error| gap(what, &error, "iptables"))?.text;
    if is_of_nft(&text) {
        let todo = Some("install the package iptables".to_owned());
        return Err(Gap { why: format!("{what}: there is no iptables-legacy-save"), todo });
    }
    parsed(move || iptables::parse(&text, Tool::Iptables(command)))
        .await
        .map_err(|why| Gap { why, todo: None })
}

/// Tables in nftables, made by nft or by iptables.
async fn nftables(gaps: &mut Vec<Gap>) -> Vec<Table> {
    let of_ipv4 = |table: &NftTable| ["ip", "inet", "netdev"].contains(&table.family.as_str());
    let names = match nft_tables().await {
        Ok(names) => names.into_iter().filter(of_ipv4).filter(|table| !table.is_ours()),
        Err(error) => {
            let why = format!("the tables of nftables are not known: {}", crate::chain(&error));
            gaps.push(Gap { why, todo: None });
            return Vec::new();
        }
    };
    let names: Vec<NftTable> = names.collect();
    let mut tables = Vec::new();
    if names.iter().any(|t| t.family == "ip" && OF_IPTABLES.contains(&t.name.as_str())) {
        tables = of_iptables().await;
    }
    let shown = |table: &NftTable| {
        tables.iter().any(|shown| shown.family == table.family && shown.name == table.name)
    };
    if names.iter().all(shown) {
        return tables;
    }
    match of_nft().await {
        Ok(of_nft) => {
            let rest = of_nft.into_iter().filter(|table| {
                let (family, name) = (table.family.clone(), table.name.clone());
                let table = NftTable { family, name };
                !table.is_ours() && !shown(&table)
            });
            let rest: Vec<Table> = rest.collect();
            tables.extend(rest);
        }
        Err(gap) => gaps.push(gap),
    }
    tables
}

/// Those that iptables keeps in nftables. Without its tool nft shows them, less exactly.
async fn of_iptables() -> Vec<Table> {
    for (save, command) in [("iptables-nft-save", "iptables-nft"), ("iptables-save", "iptables")] {
        if let Ok(said) = ask(&[save]).await
            && is_of_nft(&said.text)
        {
            let parse = move || iptables::parse(&said.text, Tool::Iptables(command));
            return parsed(parse).await.unwrap_or_default();
        }
    }
    Vec::new()
}

async fn of_nft() -> Result<Vec<Table>, Gap> {
    let what = "the rules of nftables cannot be read";
    let json = ask(&["nft", "-j", "list", "ruleset"]).await;
    let json = json.map_err(|error| gap(what, &error, "nftables"))?.text;
    // Without it rules are shown in JSON.
    let listing = ask(&["nft", "-a", "list", "ruleset"]).await.map(|said| said.text);
    let tables = parsed(move || nft::parse(&json, &listing.unwrap_or_default())).await;
    let failed = |why: String| Gap { why: format!("{what}: {why}"), todo: None };
    tables.map_err(failed)?.map_err(|why| failed(why.to_string()))
}

/// Megabytes of rules are read on a thread for that: the agent's own goes on.
async fn parsed<T: Send + 'static>(
    parse: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    crate::doctor::blocking(parse).await
}

async fn ask(argv: &[&str]) -> Result<Said, ToolError> {
    let said = tool::run(argv, LIMITS).await?;
    if said.cut {
        let why = format!("it printed more than {} MiB", LIMITS.output >> 20);
        return Err(ToolError::Refused {
            program: argv.join(" "),
            status: why,
            said: String::new(),
        });
    }
    Ok(said)
}

/// `iptables-save` of which kind wrote it: the first line says `iptables-nft-save`, `xtables-save`, or
/// a version with `(nf_tables)`.
fn is_of_nft(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| line.starts_with("# Generated by "));
    lines.next().is_some_and(|line| {
        ["iptables-nft-save", "xtables-save", "nf_tables"].iter().any(|mark| line.contains(mark))
    })
}

fn gap(what: &str, error: &ToolError, package: &str) -> Gap {
    let todo = match error {
        ToolError::Missing(_) => Some(format!("install the package {package}")),
        ToolError::Failed { .. } | ToolError::Late { .. } | ToolError::Refused { .. } => None,
    };
    Gap { why: format!("{what}: {error}"), todo }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_iptables_is_seen_by_what_it_prints() {
        assert!(is_of_nft(
            "# Warning: x\n# Generated by iptables-nft-save v1.8.9 (nf_tables) on\n"
        ));
        assert!(is_of_nft("# Generated by xtables-save v1.8.2 on Mon\n*filter\n"));
        assert!(!is_of_nft("# Generated by iptables-save v1.8.9 on Thu\n*filter\n"));
        assert!(!is_of_nft(""));
    }
}
