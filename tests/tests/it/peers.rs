//! What is wrong between hosts, made for real, and what doctor, ping and `--host` say of it.
use ovl_tests::{Host, StoreKind};
use serde_json::Value;

use crate::support::{
    SPREAD, THREE, TestLab, ctl, eventually, findings, holds, refused, text, troubles,
};

/// The one thing that is wrong with the others, as this host sees it.
fn the_one_trouble(host: &Host, check: &str, words: &str) -> Value {
    let found = troubles(host, "peer");
    let (first, more) = found.split_first().unwrap_or_else(|| panic!("nothing is said of {words}"));
    assert!(more.is_empty(), "more than one thing is said of {words}: {found:#?}");
    assert_eq!(first["check"], check, "{first:#}");
    assert!(text(&first["summary"]).contains(words), "{words}: {first:#}");
    first.clone()
}

fn nothing_is_wrong(host: &Host) {
    eventually("nothing wrong between the hosts", SPREAD, || {
        let found = findings(host, "peer");
        let bad: Vec<_> = found.iter().filter(|f| f["verdict"] != "ok").collect();
        holds(bad.is_empty() && found.len() >= 6, bad)
    });
}

#[test]
fn an_agent_that_is_frozen_stopped_or_cut_off_is_told_apart() {
    let lab = TestLab::up("away", &THREE, StoreKind::Sqlite);
    let [here, there] = [lab.host("bee-1").unwrap(), lab.host("bee-2").unwrap()];
    nothing_is_wrong(&here);

    there.freeze_agent().unwrap();
    the_one_trouble(&here, "peer.agent", "the agent of bee-2 is there and does not answer");
    refused(&here, &["--host", "bee-2", "--timeout", "2", "status"], 75, &["bee-2", "no answer"]);
    there.thaw_agent().unwrap();
    nothing_is_wrong(&here);

    there.kill_agent().unwrap();
    the_one_trouble(&here, "peer.agent", "no agent runs on bee-2");
    refused(&here, &["--host", "bee-2", "status"], 75, &["bee-2", "refused"]);
    there.start_agent().unwrap();
    nothing_is_wrong(&here);

    there.stop_agent().unwrap();
    eventually("the good-bye", SPREAD, || {
        let members = ctl(&here, &["members"]);
        let left = members
            .as_array()
            .is_some_and(|all| all.iter().any(|m| m["name"] == "bee-2" && m["state"] == "left"));
        holds(left, members)
    });
    the_one_trouble(&here, "peer.agent", "the agent of bee-2 was stopped, and its host is up");
    there.start_agent().unwrap();
    nothing_is_wrong(&here);

    there.cut().unwrap();
    the_one_trouble(&here, "peer.agent", "no sign of life from bee-2");
    there.heal().unwrap();
    nothing_is_wrong(&here);
}

#[test]
fn a_clock_that_is_off_is_named_and_whose_it_is() {
    let lab = TestLab::up("clock", &THREE, StoreKind::Sqlite);
    let [here, there] = [lab.host("bee-1").unwrap(), lab.host("bee-2").unwrap()];
    nothing_is_wrong(&here);
    there.stop_agent().unwrap();
    let preload = format!("LD_PRELOAD={}", faketime());
    let wrapper = ["env", &preload, "FAKETIME=+10s", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    there.spawn_agent_under(&wrapper).unwrap();
    eventually("a finding about the clock", SPREAD, || {
        let found = troubles(&here, "peer");
        let words = "the clock of bee-2 is 10.0 s ahead of those of most other hosts";
        let named = found.len() == 1 && found[0]["summary"] == words;
        holds(named && found[0]["verdict"] == "warn", found)
    });
    eventually("the same, seen from the host itself", SPREAD, || {
        let found = troubles(&there, "peer");
        let words = "this host's clock is 10.0 s ahead of those of most other hosts";
        holds(found.len() == 1 && text(&found[0]["summary"]).starts_with(words), found)
    });
}

/// Debian's libfaketime, of whichever architecture.
fn faketime() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let libraries = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let found = libraries.into_iter().find(|library| library.exists());
    found.expect("the package faketime is installed").display().to_string()
}

#[test]
fn ping_measures_all_ways_and_other_hosts_answer_through_ours() {
    let lab = TestLab::up("ways", &THREE, StoreKind::Sqlite);
    let [here, there] = [lab.host("bee-1").unwrap(), lab.host("bee-2").unwrap()];
    nothing_is_wrong(&here);
    let ways = ctl(&here, &["ping"]);
    let ways = ways.as_array().unwrap();
    assert_eq!(ways.len(), 6, "{ways:#?}");
    for way in ways {
        for kind in ["underlay", "vxlan"] {
            assert_eq!(
                (&way[kind]["sent"], &way[kind]["received"]),
                (&3.into(), &3.into()),
                "{way:#}"
            );
            assert!(way[kind]["avg_us"].as_u64().is_some_and(|us| us > 0), "{way:#}");
        }
    }
    let text = here.ctl_ok(&["ping", "bee-2"]).unwrap().stdout;
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains('\u{1b}'), "no colours into a pipe: {text:?}");

    assert_eq!(ctl(&here, &["--host", "bee-2", "status"])["node"], "bee-2");
    assert_eq!(ctl(&here, &["--host", "bee-1", "status"])["node"], "bee-1");
    refused(
        &here,
        &["--host", "bee-9", "status"],
        1,
        &["bee-9", "bee-1 (this host), bee-2, bee-3"],
    );
    refused(&here, &["--host", "bee-2", "network", "create", "x"], 1, &["not open to other hosts"]);

    here.run(&[
        "sh",
        "-c",
        "mkdir -p /etc/ovl && echo 'answer-peers = \"none\"' > /etc/ovl/agent.toml",
    ])
    .unwrap()
    .require()
    .unwrap();
    ctl(&here, &["reload"]);
    refused(&there, &["--host", "bee-1", "status"], 1, &["bee-1", "answer-peers"]);
    here.run(&["rm", "/etc/ovl/agent.toml"]).unwrap().require().unwrap();
    ctl(&here, &["reload"]);
    ctl(&there, &["--host", "bee-1", "status"]);

    // Larger than the underlay takes: only VXLAN loses it.
    let outcome = here.ctl(&["--json", "ping", "bee-2", "--size", "1600"]).unwrap();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    let ways = outcome.json().unwrap();
    let lost = |way: &Value| way["vxlan"]["received"] == 0 && way["underlay"]["received"] == 3;
    assert!(ways.as_array().unwrap().iter().all(lost), "{ways:#}");

    // A way that loses every second packet.
    let script = "nft add table ip f; nft add chain ip f c '{ type filter hook input priority 0; }'; \
                  nft add rule ip f c udp dport 4789 numgen inc mod 2 0 drop";
    there.sandbox().script(script, &[]).unwrap();
    let outcome = here.ctl(&["ping", "bee-2", "--count", "8", "--interval", "20"]).unwrap();
    there.sandbox().script("nft delete table ip f", &[]).unwrap();
    assert_eq!(outcome.code, Some(0), "not closed: {outcome:?}");
    let loss: Vec<&str> =
        outcome.stdout.split_whitespace().filter(|w| w.parse::<u32>().is_ok()).collect();
    assert!(loss.contains(&"50"), "{}", outcome.stdout);

    there.freeze_agent().unwrap();
    let outcome = here.ctl(&["ping", "bee-2", "--count", "1"]).unwrap();
    there.thaw_agent().unwrap();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("not asked"), "{}", outcome.stdout);
}

#[test]
fn the_tab_key_knows_hosts_networks_and_endpoints() {
    let lab = TestLab::up("tab", &THREE, StoreKind::Sqlite);
    let here = lab.host("bee-1").unwrap();
    nothing_is_wrong(&here);
    ctl(&here, &["network", "create", "blue"]);
    lab.attach("bee-2", "blue", "web-1").unwrap();
    eventually("the endpoint on the other host", SPREAD, || {
        let offered = offers(&here, &["ovlctl", "resolve", "we"]);
        holds(offered == "web-1", offered)
    });
    assert_eq!(offers(&here, &["ovlctl", "ping", "bee-"]), "bee-1,bee-2,bee-3");
    assert_eq!(offers(&here, &["ovlctl", "status", "--host", "bee-2"]), "bee-2");
    assert_eq!(offers(&here, &["ovlctl", "network", "inspect", "b"]), "blue");
    assert_eq!(offers(&here, &["ovlctl", "network", "ins"]), "inspect");
    assert_eq!(offers(&here, &["ovlctl", "trace", "we"]), "web-1");
    assert_eq!(offers(&here, &["ovlctl", "trace", "x", "we"]), "web-1");
    assert_eq!(offers(&here, &["ovlctl", "capture", "--network", "b"]), "blue");
    assert_eq!(offers(&here, &["ovlctl", "capture", "--name", "w"]), "web-1");
    assert_eq!(offers(&here, &["ovlctl", "--socket", "/nowhere", "ping", "bee-"]), "");
    here.kill_agent().unwrap();
    assert_eq!(offers(&here, &["ovlctl", "network", "inspect", "b"]), "", "no agent, no words");
}

/// What the shell is offered for the last of these words.
fn offers(host: &Host, words: &[&str]) -> String {
    let command = host.ctl_command().unwrap();
    let ovlctl = command.get_args().last().unwrap().to_string_lossy().into_owned();
    let index = format!("_CLAP_COMPLETE_INDEX={}", words.len() - 1);
    let asked = ["env", "OVLCTL_COMPLETE=bash", "_CLAP_IFS=,", &index, &ovlctl, "--"];
    let asked: Vec<&str> = asked.into_iter().chain(words.iter().copied()).collect();
    host.run(&asked).unwrap().require().unwrap().stdout
}
