//! Settings that are checked without a start, and the token that is nowhere to be seen.
use std::fs;

use ovl_tests::Host;
use ovl_tests::programs::Programs;
use serde_json::Value;

use crate::refusals::{USAGE, agent};
use crate::support::{SPREAD, TestLab, ctl, eventually};

const TOKEN: &str = "c0ffee00-0000-4000-8000-000000000002";
const OTHER: &str = "facade00-0000-4000-8000-000000000004";

/// Nobody listens there.
const STORE: &str = "consul://127.0.0.1:1?token-file=/etc/ovl/token";

#[test]
fn settings_are_checked_with_the_files_they_name_and_nothing_is_touched() {
    let lab = TestLab::bare("check", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    let check = |more: &[&str]| agent(&host, &[], &[&["--check-config"], more].concat());
    let fine = check(&["--advertise", "eth1"]);
    assert_eq!((fine.code, fine.stdout.as_str()), (Some(0), "configuration is fine\n"));

    put_token(&host, "0644");
    let wrong = check(&["--store", STORE, "--gossip-port", "0", "--control-group", "nobodys"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(USAGE), ""), "{wrong:?}");
    for word in ["gossip-port", "nobodys", "chmod 0600 /etc/ovl/token"] {
        assert!(wrong.stderr.contains(word), "{word} in {}", wrong.stderr);
    }
    assert_eq!(wrong.stderr.lines().count(), 3, "{}", wrong.stderr);
    put_token(&host, "0400");
    host.sandbox()
        .script("echo > /etc/ovl/agent.toml; chmod 0666 /etc/ovl/agent.toml", &[])
        .unwrap();
    let warned = check(&["--store", STORE]);
    assert_eq!(warned.code, Some(0), "{warned:?}");
    for word in ["warning: the file /etc/ovl/agent.toml", "\nconfiguration is fine\n"] {
        assert!(warned.stdout.contains(word), "{word} in {}", warned.stdout);
    }
    let nothing = "test ! -e /run/ovl; test ! -e /run/docker; test -z \"$(ls -A /var/lib/ovl)\"";
    host.sandbox().script(nothing, &[]).unwrap();
}

#[test]
fn the_token_is_in_no_command_line_no_log_and_no_status() {
    let lab = TestLab::bare("token", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    put_token(&host, "0644");
    let log = host.folder().join("run/token.log");
    let program = Programs::find().unwrap().agent().display().to_string();
    // Of the two the file's counts; neither is shown.
    let variable = format!("CONSUL_HTTP_TOKEN={OTHER}");
    let argv = ["env", &variable, &program, "--advertise=eth1", "--store", STORE, "--log=trace"];
    let record = host.folder().join("token");
    let agent = host.sandbox().spawn("an agent", &argv, &log, &record).unwrap();
    let problem = |word: &str| {
        eventually(&format!("status telling of {word}"), SPREAD, || {
            let status: Value = host.ctl_json(&["status"]).map_err(|error| error.chain())?;
            let text = status.to_string();
            if text.contains(word) { Ok(text) } else { Err(text) }
        })
    };
    let mut seen = vec![problem("chmod 0600 /etc/ovl/token")];
    // The store is tried again: no restart is needed.
    put_token(&host, "0600");
    seen.push(problem("refused"));
    seen.push(ctl(&host, &["status"]).to_string());
    let proc = format!("/proc/{}/cmdline", agent.pid());
    seen.push(fs::read_to_string(proc).unwrap().replace('\0', " "));
    seen.push(fs::read_to_string(&log).unwrap());
    let shown = ["env", &variable, &program, "--print-config", "--store", STORE];
    seen.push(host.run(&shown).unwrap().stdout);
    for text in &seen {
        for token in [TOKEN, OTHER] {
            assert!(!text.contains(token), "the token is in: {text}");
        }
    }
    assert!(seen[3].contains("--store"), "{}", seen[3]);
    assert!(seen[4].contains("TRACE"), "{}", seen[4]);
}

/// A file with the token in the host's /etc.
fn put_token(host: &Host, mode: &str) {
    let script = r#"printf '%s\n' "$1" > /etc/ovl/token; chmod "$2" /etc/ovl/token"#;
    host.sandbox().script(script, &[TOKEN, mode]).unwrap();
}
