//! What happened is told, and goes on to be told over a restart of the agent.
use ovl_tests::programs::Programs;
use ovl_tests::{Host, StoreKind};
use serde_json::Value;

use crate::support::{FAILURE, SPREAD, TestLab, ctl, endpoint, eventually, holds, text, vni};

#[test]
fn what_happens_is_followed_over_a_restart_of_the_agent() {
    let lab = TestLab::up("events", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    let follower = Follower::start(&hosts[0], &["events", "--json", "-f", "--since", "1h"]);
    follower.sees("bee-2 joining", |e| e["kind"] == "host-joined" && e["host"] == "bee-2");
    ctl(&hosts[0], &["network", "create", "net"]);
    follower.sees("the network", |e| e["kind"] == "network-created" && e["network"] == "net");
    let one = lab.attach("bee-1", "net", "one").unwrap();
    let two = lab.attach("bee-2", "net", "two").unwrap();
    for (name, host) in [("one", "bee-1"), ("two", "bee-2")] {
        follower.sees(name, |e| {
            (&e["kind"], &e["endpoint"], &e["host"])
                == (&"endpoint-attached".into(), &name.into(), &host.into())
        });
    }

    a_repair_names_the_row(&hosts[0], &follower);
    names_are_explained(&hosts[0]);

    hosts[1].stop_agent().unwrap();
    follower.sees("bee-2 leaving", |e| e["kind"] == "host-left" && e["host"] == "bee-2");
    hosts[1].start_agent().unwrap();
    follower.sees("bee-2 being back", |e| e["kind"] == "host-back" && e["host"] == "bee-2");

    hosts[0].stop_agent().unwrap();
    follower.sees("the agent stopping", |e| e["kind"] == "agent-stopping");
    hosts[0].start_agent().unwrap();
    follower
        .sees("its start", |e| e["kind"] == "agent-started" && text(&e["reason"]).contains('1'));
    follower.says("the agent was restarted at ");
    one.detach().unwrap();
    follower.sees("one going", |e| e["kind"] == "endpoint-detached" && e["endpoint"] == "one");
    two.detach().unwrap();
    follower.sees("two going", |e| e["kind"] == "endpoint-detached" && e["endpoint"] == "two");

    // What is told to people, and of what kinds.
    let told = hosts[0].ctl(&["events", "--kind", "agent"]).unwrap().require().unwrap().stdout;
    assert!(told.lines().next().unwrap().contains("  agent-started  "), "{told}");
    assert!(told.lines().all(|line| line.contains("  agent-")), "{told}");
    // Another host's, asked through our own agent.
    let there = hosts[0].ctl(&["--host", "bee-2", "events", "--json"]).unwrap();
    let first = there.require().unwrap().stdout.lines().next().map(str::to_owned).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((first["seq"].as_u64(), text(&first["host"]).as_str()), (Some(1), "bee-2"));
}

#[test]
fn hosts_that_hang_and_endpoints_that_move_are_told() {
    let lab = TestLab::up("moves", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    let follower = Follower::start(&hosts[0], &["events", "--json", "-f", "--since", "1h"]);
    ctl(&hosts[0], &["network", "create", "net"]);
    let here = lab.attach("bee-1", "net", "one").unwrap();
    let from = text(&endpoint(&hosts[0], "one")["ipv4"]);
    here.detach().unwrap();
    lab.attach("bee-2", "net", "one").unwrap();
    follower.sees("the move", |e| {
        let summary = text(&e["summary"]);
        e["kind"] == "endpoint-moved"
            && (&e["host"], &e["endpoint"]) == (&"bee-2".into(), &"one".into())
            && summary.contains(&format!("moved from {from} on host bee-1"))
    });
    hosts[1].freeze_agent().unwrap();
    for kind in ["host-suspected", "host-down"] {
        eventually(kind, FAILURE, || {
            follower.has(|e| e["kind"] == kind && e["host"] == "bee-2" && e["summary"].is_string())
        });
    }
    hosts[1].thaw_agent().unwrap();
    eventually("its return", FAILURE, || {
        follower.has(|e| e["kind"] == "host-back" && e["host"] == "bee-2")
    });
}

/// Who answers to a name, to whom, and what may have been meant.
fn names_are_explained(host: &Host) {
    let told = ctl(host, &["resolve", "two", "--from", "one"]);
    let record = &told["records"][0];
    let seen = (text(&told["outcome"]), text(&record["host"]), record["answers"].as_bool());
    assert_eq!(seen, ("found".into(), "bee-2".into(), Some(true)), "{told}");
    assert_eq!(told["addresses"][0], endpoint(host, "two")["ipv4"], "{told}");
    assert_eq!(told["asker"]["networks"], serde_json::json!(["net"]), "{told}");
    let missed = host.ctl(&["resolve", "--explain", "twoo.net"]).unwrap();
    assert_eq!(missed.code, Some(1));
    assert!(missed.stdout.contains("did you mean: two.net?"), "{}", missed.stdout);
    assert!(missed.stderr.contains("does not exist (NXDOMAIN)"), "{}", missed.stderr);
    let foreign = host.ctl(&["resolve", "--explain", "example.org"]).unwrap();
    assert!(foreign.stderr.contains("the host has none"), "{}", foreign.stderr);
}

/// Somebody removes a row; the agent's audit finds it missing within ten seconds or so. A pass that
/// comes for another reason at that moment may mend it in silence: so it is removed again.
fn a_repair_names_the_row(host: &Host, follower: &Follower) {
    let device = format!("ovl-{}", vni(host, "net"));
    let mac = text(&endpoint(host, "two")["mac"]);
    eventually("a repair being told", FAILURE, || {
        host.run(&["bridge", "fdb", "del", &mac, "dev", &device]).map_err(|e| e.chain())?;
        let names_row = |e: &Value| {
            let details = e["details"].as_array();
            let row = |detail: &Value| {
                let detail = text(detail);
                detail.contains("fdb-missing") && detail.contains(&mac)
            };
            e["kind"] == "kernel-repaired" && details.is_some_and(|list| list.iter().any(row))
        };
        follower.has(names_row)
    });
}

/// An `ovlctl events -f` in a host, which ends with it.
struct Follower {
    log: std::path::PathBuf,
}

impl Follower {
    fn start(host: &Host, args: &[&str]) -> Follower {
        let program = Programs::find().unwrap().ovlctl().display().to_string();
        let (log, record) = (host.folder().join("events.log"), host.folder().join("events"));
        let argv: Vec<&str> = [program.as_str()].into_iter().chain(args.iter().copied()).collect();
        host.sandbox().spawn("ovlctl events", &argv, &log, &record).unwrap();
        Follower { log }
    }

    /// It has printed an event that is meant.
    fn has(&self, is_meant: impl Fn(&Value) -> bool) -> Result<(), String> {
        let printed = std::fs::read_to_string(&self.log).map_err(|e| e.to_string())?;
        let mut events = printed.lines().filter_map(|line| serde_json::from_str(line).ok());
        holds(events.any(|event: Value| is_meant(&event)), &printed)
    }

    fn sees(&self, what: &str, is_meant: impl Fn(&Value) -> bool) {
        eventually(what, SPREAD, || self.has(&is_meant));
    }

    fn says(&self, words: &str) {
        eventually(words, SPREAD, || {
            let printed = std::fs::read_to_string(&self.log).map_err(|e| e.to_string())?;
            holds(printed.contains(words), &printed)
        });
    }
}
