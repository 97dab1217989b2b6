//! `ovlctl top`: rates of real traffic, and a real terminal that is given back.
use std::fs;

use ovl_tests::programs::Programs;
use ovl_tests::{Host, StoreKind};
use serde_json::Value;

use crate::support::{SPREAD, TestLab, ctl, eventually, holds, pings, text};

/// What a terminal is told at the end: back to the screen of before (xterm's private mode 1049).
const OTHER_SCREEN_LEFT: &str = "\u{1b}[?1049l";

#[test]
fn rates_and_round_trips_are_those_of_real_packets() {
    let lab = TestLab::up("toprates", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    ctl(&host, &["network", "create", "net"]);
    let one = lab.attach("bee-1", "net", "anna").unwrap();
    lab.attach("bee-2", "net", "bert").unwrap();
    pings(&one, "bert");
    let script = "ping -q -f -c 100000 -w 30 bert > /dev/null 2>&1 & echo started";
    one.run(&["sh", "-c", script]).unwrap().require().unwrap();
    let seen = eventually("a rate", SPREAD, || {
        let seen = ctl(&host, &["top"]);
        let of =
            |name: &str| seen["networks"].as_array()?.iter().find(|n| n["name"] == name).cloned();
        let rate = |name: &str, of_what: &str| of(name)?["per_second"][of_what].as_f64();
        let fine = ["rx_packets", "tx_bytes"].iter().all(|what| {
            rate("net", what).is_some_and(|rate| rate > 10.0)
                && rate("eth1", what) >= rate("net", what).map(|rate| rate / 2.0)
        });
        holds(fine, &seen).map(|()| seen.clone())
    });
    assert_eq!(seen["host"], "bee-1");
    let hosts = seen["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 2);
    let other = hosts.iter().find(|host| host["name"] == "bee-2").unwrap();
    assert_eq!((text(&other["state"]).as_str(), other["endpoints"].as_u64()), ("alive", Some(1)));
    assert!(other["round_trip_us"].as_u64().is_some_and(|micros| micros > 0), "{other}");
    let endpoints: Vec<String> =
        seen["endpoints"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    assert_eq!(endpoints, ["anna"], "of this host alone");
    // The same of the other host, through this one's agent.
    let other = ctl(&host, &["--host", "bee-2", "top"]);
    assert_eq!(
        (text(&other["host"]).as_str(), &other["problems"]),
        ("bee-2", &Value::Array(vec![]))
    );
}

#[test]
fn the_screen_says_when_the_agent_is_away_and_a_signal_gives_the_terminal_back() {
    let lab = TestLab::up("topscreen", &["bee-1"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    let typescript = host.folder().join("run/typescript");
    let shown = || fs::read_to_string(&typescript).unwrap_or_default();
    start(&host);
    let see = |what: &str| {
        eventually(what, SPREAD, || holds(shown().contains(what), shown()));
    };
    see("bee-1 (192.168.77.11)");
    host.stop_agent().unwrap();
    see("AWAY");
    host.start_agent().unwrap();
    // Only what changes is written: the new agent is younger.
    let before = shown().len();
    eventually("a new picture", SPREAD, || {
        holds(shown().len() > before && !shown().contains(OTHER_SCREEN_LEFT), before)
    });
    host.run(&["sh", "-c", "kill -TERM $(cat /run/top.pid)"]).unwrap().require().unwrap();
    see(OTHER_SCREEN_LEFT);
    see("ended with 0");
}

#[test]
fn without_a_terminal_there_is_a_sentence() {
    let lab = TestLab::bare("topless", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    crate::support::refused(&host, &["top"], 64, &["no terminal", "--json"]);
}

/// On a terminal of its own, of the size that terminals have.
fn start(host: &Host) {
    let ovlctl = Programs::find().unwrap().ovlctl().display().to_string();
    let inner = format!(
        "stty rows 24 cols 100; sh -c 'echo $$ > /run/top.pid; exec {ovlctl} top'; echo ended with $?"
    );
    let argv = ["env", "TERM=xterm", "script", "-qfec", &inner, "/run/typescript"];
    let (log, record) = (host.folder().join("top.log"), host.folder().join("top"));
    host.sandbox().spawn("a screen", &argv, &log, &record).unwrap();
}
