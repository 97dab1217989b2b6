//! `events`, `resolve --explain` and `audit`: what is printed, and how it ends.
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn event(seq: u64, kind: &str) -> Value {
    json!({
        "seq": seq, "at": "2026-11-26T18:47:01.500Z", "kind": kind, "summary": format!("it was {kind}"),
        "reason": "because", "details": ["a row"],
    })
}

fn page(started: &str, events: &[Value], next: u64) -> Answer {
    Answer::Json(200, json!({"events": events, "next": next, "lost": 0, "started": started}))
}

/// Two events, and no more.
fn two_events() -> StandIn {
    StandIn::new(|request| match request.line.contains("after=0") {
        true => page("A", &[event(1, "host-down"), event(2, "store-back")], 2),
        false => page("A", &[], 2),
    })
}

#[test]
fn events_are_a_line_each_with_their_reason_and_details() {
    let agent = two_events();
    let shown = ovlctl(&agent.socket(), &["events", "--kind", "host"]).fine();
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].ends_with("  host-down             it was host-down: because"), "{shown}");
    assert_eq!(lines[1..], ["    - a row"]);
    let shown = ovlctl(&agent.socket(), &["--json", "events", "--since", "10m"]).fine();
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [event(1, "host-down"), event(2, "store-back")]);
    assert!(asked(&agent).iter().any(|line| line.contains("since=600")), "{:?}", asked(&agent));
    ovlctl(&agent.socket(), &["events", "--kind", "hosts"]).failed_with_usage();
    ovlctl(&agent.socket(), &["events", "--since", "yesterday"]).failed_with_usage();
}

impl Done {
    #[track_caller]
    fn failed_with_usage(self) {
        assert_eq!((self.code, self.out.as_str()), (Some(64), ""), "{self:?}");
    }
}

#[test]
fn an_agent_that_is_restarted_is_followed_and_said() {
    let turn = AtomicUsize::new(0);
    let agent = StandIn::new(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        0 => page("A", &[event(1, "host-down"), event(2, "host-back")], 2),
        1 => page("A", &[], 2),
        // It went, and was not there for a moment.
        2 => Answer::Raw(Vec::new()),
        3 => page("2026-11-26T18:50:00Z", &[event(3, "host-left")], 3),
        4 => page("2026-11-26T18:50:00Z", &[event(1, "agent-started"), event(2, "host-left")], 2),
        _ => Answer::Silence,
    });
    let mut child = command(&agent.socket())
        .args(["--json", "events", "-f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let kinds: Vec<String> = lines
        .take(4)
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["kind"].to_string())
        .collect();
    child.kill().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(kinds, ["\"host-down\"", "\"host-back\"", "\"agent-started\"", "\"host-left\""]);
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].ends_with("; waiting for it"), "{said:?}");
    assert!(said[1].contains("the agent was restarted at 2026-11-26 "), "{said:?}");
}

#[test]
fn following_begins_with_an_agent_that_answers_and_ends_with_its_reader() {
    let nowhere = tempfile::tempdir().unwrap();
    let socket = nowhere.path().join("ovl.sock");
    ovlctl(&socket, &["events", "-f"]).failed(69, &["no agent answers"]);
    let agent = two_events();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command(&agent.socket())
        .args(["events", "-f"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn();
    let done = Done::from(child.unwrap().wait_with_output().unwrap());
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
}

fn explanation(outcome: &str) -> Value {
    json!({
        "name": "web", "asker": {"endpoint": "db", "host": "bee-1", "networks": ["blue"]},
        "outcome": outcome, "addresses": ["10.88.0.9", "fd00::9"], "ttl_seconds": 5,
        "records": [{
            "endpoint": "web", "names": ["web"], "addresses": ["10.88.0.9", "fd00::9"],
            "network": "blue", "host": "bee-2", "matched": "web", "generation": 7,
            "known_seconds": 62, "answers": true, "why": "it does",
        }],
        "left_out": 3, "near": ["webb"], "summary": "in one sentence",
    })
}

#[test]
fn an_explanation_is_a_table_and_its_sentence_is_the_failure() {
    let agent = StandIn::new(|_| Answer::Json(200, explanation("found")));
    let shown = ovlctl(&agent.socket(), &["resolve", "web", "--from", "db"]).fine();
    for line in [
        "in one sentence",
        "clients keep the answer for 5 s",
        "db on host bee-1 asks, which is on: blue",
        "yes      web       10.88.0.9, fd00::9  blue     bee-2  1 min 2 s  it does",
        "and 3 more",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
    assert_eq!(asked(&agent), ["GET /v1/resolve/explain?name=web&from=db"]);
    let agent = StandIn::new(|_| Answer::Json(200, explanation("no-such-name")));
    let done = ovlctl(&agent.socket(), &["resolve", "--explain", "web"]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), "ovlctl: in one sentence\n"), "{done:?}");
    assert!(done.out.contains("did you mean: webb?"), "{done:?}");
}

#[test]
fn a_name_with_addresses_of_both_families_is_shown() {
    let agent = StandIn::new(|_| Answer::Json(200, json!(["10.88.0.9", "fd00::9"])));
    assert_eq!(ovlctl(&agent.socket(), &["resolve", "web"]).fine(), "10.88.0.9\nfd00::9\n");
}

fn audit(left: Option<usize>, found: usize) -> Value {
    let one = json!({
        "kind": "fdb-missing", "network": "blue", "vni": 4097, "device": "ovl-4097",
        "what": "02:42:0a:58:00:09", "want": "10.132.0.12",
    });
    let mut audit = json!({
        "networks": 1, "rows": 14, "endpoints": 3, "differences": vec![one.clone(); found], "left_out": 0,
    });
    if let Some(left) = left {
        let (done, left) = (found - left, vec![one; left]);
        audit["repair"] = json!({"done": done, "failures": ["it said no"], "left": left});
    }
    audit
}

#[test]
fn an_audit_lists_what_differs_and_its_exit_code_says_whether_anything_is_left() {
    for (args, told, code, sentence) in [
        (&["audit"][..], audit(None, 0), 0, ""),
        (&["audit"], audit(None, 1), 4, "differs in 1 thing from"),
        (&["audit", "--repair"], audit(Some(0), 2), 0, ""),
        (&["audit", "--repair"], audit(Some(1), 2), 4, "still differs in 1 thing from"),
    ] {
        let agent = StandIn::new({
            let told = told.clone();
            move |_| Answer::Json(200, told.clone())
        });
        let done = ovlctl(&agent.socket(), args);
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.err.contains(sentence), "{done:?}");
        let method = if args.len() > 1 { "POST /v1/audit" } else { "GET /v1/audit" };
        assert_eq!(asked(&agent), [method]);
        let found = told["differences"].as_array().unwrap().len();
        let line = format!("1 networks, 14 rows and 3 endpoints checked, {found} found");
        assert!(done.out.lines().any(|shown| shown == line), "{done:?}");
        let row = "blue     ovl-4097  fdb-missing  02:42:0a:58:00:09  10.132.0.12  -";
        assert_eq!(done.out.contains(row), found > 0, "{done:?}");
    }
}
