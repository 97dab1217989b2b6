//! What every command of `ovlctl` has in common, held against each of them on a real cluster.
mod shape;

use std::process::Stdio;
use std::time::Duration;

use ovl_tests::{Host, Outcome, StoreKind, exec, process};
use serde_json::Value;

use self::shape::Shape;
use crate::support::{SPREAD, TestLab, ctl, eventually, holds, one_sentence, pings, refused, text};

/// Long enough for the slowest of them.
const LIMIT: Duration = Duration::from_secs(60);

/// Commands that look at something, with what they need.
const LOOKS: [&[&str]; 13] = [
    &["status"],
    &["members"],
    &["ping", "--count", "1"],
    &["top"],
    &["trace", "db", "web"],
    &["audit"],
    &["events"],
    &["doctor", "--only", "kernel,cluster"],
    &["resolve", "db"],
    &["resolve", "--explain", "db"],
    &["network", "ls"],
    &["network", "inspect", "blue"],
    &["endpoint", "ls"],
];

/// Two hosts with a container each, which see each other.
fn cluster(name: &str) -> (TestLab, Host, Host) {
    let lab = TestLab::up(name, &["bee-1", "bee-2"], StoreKind::Sqlite);
    let [here, there] = ["bee-1", "bee-2"].map(|host| lab.host(host).unwrap());
    ctl(&here, &["network", "create", "blue"]);
    lab.attach("bee-1", "blue", "web").unwrap();
    let db = lab.attach("bee-2", "blue", "db").unwrap();
    pings(&db, "web");
    eventually("the way between the hosts", SPREAD, || {
        let ways = here.ctl(&["ping", "--count", "1"]).map_err(|error| error.chain())?;
        holds(ways.code == Some(0), ways)
    });
    (lab, here, there)
}

#[test]
fn each_answers_in_the_shape_that_its_help_shows() {
    let (lab, here, _there) = cluster("shapes");
    let archive = here.folder().join("run/b.tgz").display().to_string();
    let bundle = ["bundle", "--no-peers", "-o", &archive];
    let repair = ["audit", "--repair"];
    let list = ["doctor", "--list"];
    let others: [&[&str]; 8] = [
        &bundle,
        &repair,
        &list,
        &["reload"],
        &["network", "create", "green"],
        &["network", "rm", "green"],
        &["doctor"],
        &["trace", "web", "db"],
    ];
    for argv in LOOKS.iter().chain(&others) {
        conforms(&here, argv);
    }
    // Packets come while they are asked for.
    let web = lab.container("web").unwrap();
    web.run(&["sh", "-c", "ping -q -i 0.2 -w 20 db >/dev/null 2>&1 & echo started"]).unwrap();
    conforms(&here, &["capture", "-c", "2"]);
    ctl(&here, &["network", "create", "red"]);
    here.run(&["ip", "netns", "add", "by-hand"]).unwrap().require().unwrap();
    let attach =
        ["endpoint", "attach", "--network", "red", "--name", "x", "--netns", "/run/netns/by-hand"];
    conforms(&here, &attach);
    conforms(&here, &["endpoint", "detach", "--network", "red", "x"]);
    here.run(&["ip", "netns", "del", "by-hand"]).unwrap().require().unwrap();
    conforms(&here, &["leave", "--force"]);
}

/// The answer has the keys that the help names, and no others.
fn conforms(host: &Host, argv: &[&str]) {
    let is_word = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
    let of_command = if ["network", "endpoint"].contains(&argv[0]) { 2 } else { 1 };
    let command: Vec<&str> = argv.iter().filter(is_word).take(of_command).copied().collect();
    let help = host.ctl_ok(&[command.as_slice(), &["--help"]].concat()).unwrap().stdout;
    let flag = argv.iter().find(|word| ["--explain", "--list"].contains(word));
    let shape = Shape::of_help(&help, flag.copied())
        .unwrap_or_else(|| panic!("the help of {command:?} shows no JSON: {help}"));
    let outcome = host.ctl(&[&["--json"], argv].concat()).unwrap();
    let lines = ["events", "capture"].contains(&argv[0]);
    let texts: Vec<&str> =
        if lines { outcome.stdout.lines().collect() } else { vec![&outcome.stdout] };
    assert!(!texts.is_empty(), "{argv:?}: {outcome:?}");
    for text in texts {
        let value: Value =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("{argv:?}: {e}: {outcome:?}"));
        if let Err(why) = shape.takes(&value) {
            panic!("{argv:?}: {why}\n{shape:?}\n{value:#}");
        }
    }
}

#[test]
fn each_that_looks_is_answered_by_another_host_and_none_that_changes_takes_this_one_for_it() {
    let (lab, here, there) = cluster("hosts");
    for argv in LOOKS {
        let own = ctl_any(&there, argv);
        let through = ctl_any(&here, &[&["--host", "bee-2"], argv].concat());
        assert_eq!(through.code, own.code, "{argv:?}: {through:?}");
        let (own, through) = (own.json().ok(), through.json().ok());
        let who = |answer: &Option<Value>| {
            let answer = answer.as_ref()?;
            ["node", "host"].iter().find_map(|key| answer[*key].as_str().map(str::to_owned))
        };
        assert_eq!(who(&through), who(&own), "{argv:?}");
    }
    // Each way is measured by the host that it begins at.
    let ways = ctl(&here, &["--host", "bee-2", "ping", "--count", "1"]);
    let ways: Vec<(String, String)> =
        ways.as_array().unwrap().iter().map(|w| (text(&w["from"]), text(&w["host"]))).collect();
    let expected = [("bee-1", "bee-2"), ("bee-2", "bee-1")];
    assert_eq!(ways, expected.map(|(from, to)| (from.to_owned(), to.to_owned())));
    refused(&here, &["ping", "bee-1"], 64, &["bee-1 is the host that pings"]);

    // Packets are another matter, and need another setting there.
    let db = lab.container("db").unwrap();
    db.run(&["sh", "-c", "ping -q -i 0.2 -w 60 web >/dev/null 2>&1 & echo started"]).unwrap();
    refused(&here, &["--host", "bee-2", "capture", "-c", "1"], 1, &["answer-peers", "bee-2"]);
    let script = "mkdir -p /etc/ovl; echo 'answer-peers = \"all\"' > /etc/ovl/agent.toml";
    there.sandbox().script(script, &[]).unwrap();
    ctl(&there, &["reload"]);
    let seen = here.ctl(&["--host", "bee-2", "capture", "-c", "2"]).unwrap();
    assert_eq!((seen.code, seen.stdout.lines().count()), (Some(0), 2), "{seen:?}");
    assert!(seen.stdout.contains("db > web") && seen.stderr.contains("of bee-2"), "{seen:?}");
    let log = there.run(&["cat", &there.agent_log().display().to_string()]).unwrap().stdout;
    assert!(log.contains("asker=\"the agent of 192.168.77.11\""), "{log}");

    // With no agent here, --purge would take everything of this host.
    here.kill_agent().unwrap();
    for argv in [&["leave", "--purge", "--yes"][..], &["leave"], &["reload"], &["bundle"]] {
        let all = [&["--host", "bee-2"], argv].concat();
        refused(&here, &all, 64, &["on its own host", "bee-2"]);
    }
    let devices = here.run(&["ip", "-o", "link", "show", "type", "vxlan"]).unwrap().stdout;
    assert!(devices.contains("ovl-"), "the devices are gone: {devices:?}");
}

fn ctl_any(host: &Host, argv: &[&str]) -> Outcome {
    host.ctl(&[&["--json"], argv].concat()).unwrap()
}

#[test]
fn each_says_in_a_sentence_that_the_agent_is_away_or_hangs() {
    let (_lab, here, _there) = cluster("away");
    let changes: [&[&str]; 4] =
        [&["reload"], &["network", "create", "x"], &["network", "rm", "blue"], &["capture"]];
    // The examination is made without an agent as well.
    let all = || LOOKS.iter().chain(&changes).filter(|argv| argv[0] != "doctor");
    here.freeze_agent().unwrap();
    for argv in all() {
        // The screen needs a terminal.
        let json: &[&str] = if argv[0] == "top" { &["--json"] } else { &[] };
        let outcome = here.ctl(&[json, &["--timeout", "0.3"], *argv].concat()).unwrap();
        // What takes an agent longer is waited for longer.
        one_sentence(&outcome, 69, &["did not answer within"]);
    }
    here.thaw_agent().unwrap();
    here.kill_agent().unwrap();
    for argv in all() {
        let json: &[&str] = if argv[0] == "top" { &["--json"] } else { &[] };
        let outcome = here.ctl(&[json, *argv].concat()).unwrap();
        one_sentence(&outcome, 69, &["no agent answers on"]);
    }
}

#[test]
fn each_ends_quietly_when_nobody_reads_it() {
    let (_lab, here, _there) = cluster("pipes");
    for argv in LOOKS {
        for json in [false, true] {
            let mut command = here.ctl_command().unwrap();
            if json || argv[0] == "top" {
                command.arg("--json");
            }
            command.args(argv).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            drop(child.stdout.take());
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.code().is_some_and(|code| code < 5), "{argv:?}: {ended:?}");
            assert_eq!(said, "", "{argv:?}");
        }
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (_lab, here, _there) = cluster("colours");
    let ovlctl = here.ctl_command().unwrap();
    let ovlctl = ovlctl.get_args().last().unwrap().to_string_lossy().into_owned();
    for argv in ["doctor", "trace web db", "ping --count 1"] {
        // On a terminal, with and without the variable (https://no-color.org).
        let on_a_terminal = |variables: &str| {
            let line = format!("env {variables} {ovlctl} {argv}");
            let script = ["script", "-qec", line.as_str(), "/dev/null"];
            here.run(&script).unwrap().stdout
        };
        let [coloured, plain, dumb] =
            ["TERM=xterm -u NO_COLOR", "TERM=xterm NO_COLOR=1", "TERM=dumb -u NO_COLOR"]
                .map(|variables| on_a_terminal(&order(variables)));
        assert!(coloured.contains("\u{1b}["), "{argv}: {coloured:?}");
        assert!(!plain.contains('\u{1b}') && !plain.is_empty(), "{argv}: {plain:?}");
        assert!(!dumb.contains('\u{1b}'), "{argv}: {dumb:?}");
    }
}

/// env(1) wants flags before variables.
fn order(variables: &str) -> String {
    let (flags, set): (Vec<&str>, Vec<&str>) =
        variables.split(' ').partition(|word| !word.contains('='));
    [flags, set].concat().join(" ")
}

#[test]
fn a_ping_that_goes_on_ends_with_ctrl_c_and_outlives_the_agent() {
    let (_lab, here, _there) = cluster("watch");
    let mut command = here.ctl_command().unwrap();
    command.args(["--json", "ping", "bee-2", "--count", "1", "--interval", "20", "--watch", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut round = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(round().as_array().unwrap().len(), 2);
    here.kill_agent().unwrap();
    here.start_agent().unwrap_or_else(|error| panic!("{error}"));
    eventually("a round with the new agent", LIMIT, || {
        let ways = round();
        let open = ways.as_array().unwrap().iter().all(|way| way["vxlan"]["received"] == 1);
        holds(open, ways)
    });
    let pid = i32::try_from(child.id()).unwrap();
    for ovlctl in process::children_of(pid) {
        ovlctl.signal(nix::sys::signal::Signal::SIGINT).unwrap();
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.lines().all(|line| line.ends_with("waiting for it")), "{said}");
    // All ways of a round, also those without loss.
    let folded = exec::run(here.ctl_command().unwrap().args(["ping", "--all"]), LIMIT).unwrap();
    assert_eq!(folded.stdout.lines().count(), 3, "{folded:?}");
}
