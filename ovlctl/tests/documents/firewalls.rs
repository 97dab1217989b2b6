//! Firewall rules are taken by the programs that they are for.
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::{documents, none_of};

#[test]
fn nft_takes_every_table() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for block in documents().iter().flat_map(|document| document.of_kind("nft")) {
        seen += 1;
        if let Err(why) = isolated(&["nft", "-c", "-f", "-"], &block.text) {
            complaints.push(format!("{}: {why}", block.at));
        }
    }
    assert!(seen > 0, "no table of nftables was found");
    none_of(complaints);
}

#[test]
fn iptables_takes_every_rule() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let rules = |text: &str| text.lines().all(|line| line.starts_with("iptables "));
        for block in document.scripts().filter(|block| rules(&block.text)) {
            seen += 1;
            if let Err(why) = isolated(&["sh", "-e"], &block.text) {
                complaints.push(format!("{}: {why}", block.at));
            }
        }
    }
    assert!(seen > 0, "no rules of iptables were found");
    none_of(complaints);
}

/// Runs a program in a network namespace that ends with it.
fn isolated(program: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new("unshare");
    command.arg("--net").args(program);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
