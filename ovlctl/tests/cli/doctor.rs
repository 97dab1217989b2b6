//! `ovlctl doctor`: by the agent, and by itself where no agent answers.

use serde_json::{Value, json};

use crate::stand_in::{Answer, StandIn};
use crate::{command, ovlctl, status};

fn finding(check: &str, verdict: &str) -> Value {
    json!({
        "check": check, "subject": null, "verdict": verdict, "summary": format!("{check} it is"),
        "evidence": ["seen \u{1b}[31mso"], "fix": "mend it",
    })
}

/// An agent whose host has these findings.
fn agent(findings: &[(&str, &str)]) -> StandIn {
    let findings: Vec<Value> = findings.iter().map(|(c, v)| finding(c, v)).collect();
    let examination = json!({"host": "bee-1", "version": "0.1.0", "at": "2026-11-26T18:46:27Z", "findings": findings});
    StandIn::new(move |request| match request.line.as_str() {
        "GET /v1/status" => Answer::Json(200, status()),
        line if line.starts_with("GET /v1/doctor") => Answer::Json(200, examination.clone()),
        other => panic!("the agent has no {other}"),
    })
}

#[test]
fn the_worst_verdict_is_the_exit_code() {
    for (verdicts, code) in [
        (&["ok", "ok"][..], 0),
        (&["ok", "unchecked"], 2),
        (&["warn", "unchecked"], 3),
        (&["warn", "fail", "ok"], 4),
    ] {
        let findings: Vec<_> = verdicts.iter().map(|verdict| ("a.b", *verdict)).collect();
        let agent = agent(&findings);
        for args in [&["doctor"][..], &["doctor", "--json"]] {
            let done = ovlctl(&agent.socket(), args);
            assert_eq!((done.code, done.err.as_str()), (Some(code), ""), "{done:?}");
        }
    }
}

#[test]
fn people_get_lines_and_programs_get_all_of_it() {
    let agent = agent(&[("b.fine", "ok"), ("a.broken", "fail")]);
    let told = ovlctl(&agent.socket(), &["doctor"]);
    assert_eq!(
        told.out,
        "FAIL  a.broken: a.broken it is\n      - seen  [31mso\n      fix: mend it\n\
         ok    1 finding is fine\nhost bee-1: 1 failure\n"
    );
    let json: Value =
        serde_json::from_str(&ovlctl(&agent.socket(), &["doctor", "--json"]).out).unwrap();
    assert_eq!(json["findings"][0], finding("b.fine", "ok"));
    assert_eq!(json["at"], "2026-11-26T18:46:27Z");
}

#[test]
fn checks_are_asked_for_by_name_and_an_unknown_one_is_wrong_usage() {
    let agent = agent(&[("kernel.version", "ok")]);
    ovlctl(&agent.socket(), &["doctor", "--only", "kernel.version,ports"]).fine();
    let lines: Vec<_> = agent.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /v1/status", "GET /v1/doctor?only=kernel.version%2Cports"]);
    ovlctl(&agent.socket(), &["doctor", "--only", "nonsense"])
        .failed(64, &["nonsense", "kernel.version, "]);
}

#[test]
fn the_list_needs_no_agent() {
    let nowhere = std::path::Path::new("/nowhere/ovl.sock");
    let list = ovlctl(nowhere, &["doctor", "--list", "--only", "kernel"]).fine();
    assert!(list.starts_with("kernel.version ") && !list.contains("ports."), "{list}");
    let list = ovlctl(nowhere, &["doctor", "--list", "--json"]).json();
    for check in list.as_array().unwrap() {
        for key in ["id", "title", "looks_at", "why"] {
            assert!(check[key].is_string(), "{check}");
        }
    }
}

#[test]
fn without_an_agent_this_program_looks_itself_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let silent = StandIn::new(|_| Answer::Silence);
    for socket in [dir.path().join("ovl.sock"), silent.socket()] {
        let done = crate::Done::from(
            command(&socket)
                .args(["--timeout", "1", "--json", "doctor", "--only", "agent,kernel.version"])
                .output()
                .unwrap(),
        );
        let found: Value = serde_json::from_str(&done.out).unwrap();
        let running = &found["findings"][0];
        assert_eq!(running["check"], "agent.running", "{found}");
        assert_eq!(running["verdict"], "fail", "{found}");
        assert_eq!(found["findings"][1]["verdict"], "ok", "{found}");
        assert_eq!(done.code, Some(4), "{done:?}");
    }
}

#[test]
fn an_agent_of_another_release_is_a_sentence() {
    let old = StandIn::new(|request| match request.line.as_str() {
        "GET /v1/status" => Answer::Json(200, status()),
        _ => Answer::Json(404, json!({"error": "there is no such path in this agent's API"})),
    });
    ovlctl(&old.socket(), &["doctor"]).failed(1, &["no such path"]);
}

#[test]
fn a_closed_pipe_and_no_color_change_nothing() {
    let agent = agent(&[("a.broken", "fail")]);
    let plain = ovlctl(&agent.socket(), &["doctor"]).out;
    let without = command(&agent.socket()).arg("doctor").env("NO_COLOR", "1").output().unwrap();
    assert_eq!(String::from_utf8(without.stdout).unwrap(), plain);
    assert!(!plain.contains('\u{1b}'), "{plain}");
}
