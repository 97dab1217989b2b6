//! Answers that no agent gives: they may come from another host, whose agent is asked through this one's.
use super::*;

/// Colours, a window's title, a bell, C1's CSI, text that runs backwards, lines of its own.
const EVIL: &str = "a\u{1b}[31m\u{1b}]0;x\u{7}\u{9b}2J\u{202e}b\u{2066}\u{200f}\u{7f}\r\nc";

/// An agent of an evil host.
fn evil() -> StandIn {
    StandIn::new(|request| match request.line.split('?').next().unwrap() {
        "POST /v1/captures/f00/read" => {
            Answer::Json(200, json!({"frames": [], "dropped": 0, "ended": EVIL}))
        }
        line if line.contains("refused") => Answer::Json(400, json!({"error": EVIL})),
        line => Answer::Json(200, answered(line)),
    })
}

fn answered(line: &str) -> Value {
    let network = json!({"name": EVIL, "vni": 70000, "subnet": "10.88.0.0/16", "subnet6": null, "internal": false, "mtu": 1450});
    let endpoint = json!({
        "network": EVIL, "name": EVIL, "names": [EVIL, format!("x{EVIL}")], "ipv4": "10.88.0.2", "ipv6": null,
        "mac": EVIL, "host": EVIL,
    });
    let difference = json!({"kind": EVIL, "network": EVIL, "endpoint": EVIL, "device": EVIL, "what": EVIL, "want": EVIL, "have": EVIL});
    let series = json!({"sent": 4_294_967_295_u32, "received": 0, "error": EVIL, "avg_us": u64::MAX, "max_us": u64::MAX});
    let point = json!({"host": EVIL, "container": EVIL, "interface": EVIL, "direction": "out", "way": "there", "seen": 1});
    match line {
        "GET /v1/status" => {
            let mut status = status();
            for key in ["version", "node", "docker"] {
                status[key] = json!(EVIL);
            }
            status["uptime_seconds"] = json!(u64::MAX);
            status["store"] = json!({"url": EVIL, "error": EVIL});
            status["dataplane"]["errors"] = json!([EVIL]);
            status["problems"] = json!([EVIL]);
            status
        }
        "GET /v1/members" => json!([
            {"name": EVIL, "address": "10.77.0.2", "state": "alive"},
            {"name": format!("x{EVIL}"), "address": "10.77.0.3", "state": "down"},
        ]),
        "GET /v1/networks" => json!([network]),
        "GET /v1/networks/n" | "POST /v1/networks" => {
            let mut detail = network;
            detail["gateway"] = json!("10.88.0.1");
            detail["device"] = json!(EVIL);
            detail["endpoints"] = json!([endpoint]);
            detail
        }
        "GET /v1/endpoints" => json!([endpoint]),
        "POST /v1/endpoints" => endpoint,
        "GET /v1/resolve/explain" => json!({
            "name": EVIL, "asker": {"endpoint": EVIL, "host": EVIL, "networks": [EVIL]}, "outcome": "no-such-name",
            "addresses": [], "records": [{
                "endpoint": EVIL, "names": [EVIL], "addresses": ["10.88.0.2"], "network": EVIL, "host": EVIL,
                "matched": EVIL, "generation": 1, "known_seconds": u64::MAX, "answers": false, "why": EVIL,
            }], "left_out": usize::MAX, "near": [EVIL], "summary": EVIL,
        }),
        "GET /v1/audit" | "POST /v1/audit" => json!({
            "networks": usize::MAX, "rows": 1, "endpoints": 1, "differences": [difference], "left_out": usize::MAX,
            "repair": {"done": 1, "failures": [EVIL], "left": [difference]},
        }),
        "GET /v1/events" => json!({
            "events": [{"seq": 1, "at": EVIL, "kind": EVIL, "summary": EVIL, "reason": EVIL, "details": [EVIL]}],
            "next": 1, "lost": 0, "started": EVIL,
        }),
        "GET /v1/doctor" => json!({"host": EVIL, "version": EVIL, "at": EVIL, "findings": [{
            "check": EVIL, "subject": EVIL, "verdict": "fail", "summary": EVIL, "evidence": [EVIL], "fix": EVIL,
        }]}),
        "POST /v1/trace" => json!({
            "from": {"name": EVIL, "host": EVIL, "address": null, "mac": null},
            "to": {"name": EVIL, "host": EVIL, "address": null, "mac": null},
            "network": {"name": EVIL, "vni": 1, "mtu": 1}, "verdict": "broken", "broken": EVIL, "conclusion": EVIL,
            "fix": EVIL, "unprobed": EVIL, "unwatched": [EVIL],
            "hops": [{"hop": EVIL, "host": EVIL, "verdict": "broken", "says": EVIL, "evidence": [EVIL], "fix": EVIL}],
            "probes": [{
                "probe": "echo", "bytes": usize::MAX, "sent": 1, "answered": 1, "answer": EVIL, "rtt_us": u64::MAX,
                "points": [point],
            }],
        }),
        "POST /v1/ping" => {
            json!([{"host": EVIL, "address": "10.77.0.3", "state": "alive", "underlay": series, "vxlan": series}])
        }
        "GET /v1/counters" => json!({"host": EVIL, "at_micros": 1, "devices": []}),
        "POST /v1/reload" => json!({
            "changes": [{"key": EVIL, "from": EVIL, "to": EVIL, "in_force": true}], "warnings": [EVIL],
        }),
        "POST /v1/captures" => json!({
            "id": "f00", "host": EVIL, "interface": EVIL, "vxlan_port": 4789, "snaplen": 256, "filter": EVIL,
        }),
        line if line.starts_with("DELETE /v1/") => json!({}),
        other => panic!("the agent has no {other}"),
    }
}

fn steers(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[test]
fn no_command_lets_an_answer_steer_the_terminal() {
    let agent = evil();
    for args in [
        &["status"][..],
        &["members"],
        &["network", "ls"],
        &["network", "inspect", "n"],
        &["network", "inspect", "refused"],
        &["network", "create", "n"],
        &["network", "rm", "refused", "b"],
        &["endpoint", "ls"],
        &["endpoint", "attach", "--network=n", "--name=x", "--netns=/x"],
        &["endpoint", "detach", EVIL],
        &["endpoint", "detach", "x"],
        &["resolve", "x", "--explain"],
        &["audit"],
        &["audit", "--repair"],
        &["events"],
        &["doctor", "-v"],
        &["trace", "-v", "a", "b"],
        &["ping"],
        &["capture", "-c", "1"],
        &["reload"],
        &["--json", "top"],
    ] {
        for more in [&[][..], &["--json"]] {
            // Twice is not taken.
            if args.contains(&"--json") && !more.is_empty() {
                continue;
            }
            let done = ovlctl(&agent.socket(), &[more, args].concat());
            // An end by a panic would be 101.
            assert!(matches!(done.code, Some(0..=4 | 69)), "{args:?}: {done:?}");
            assert!(!done.out.contains(steers), "{args:?}: {done:?}");
            assert!(!done.err.contains(steers), "{args:?}: {done:?}");
        }
    }
}

#[test]
fn what_is_nested_or_long_beyond_reason_is_refused_or_cut() {
    let deep = "[".repeat(1 << 20);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", deep.len());
    let bytes = [head.as_bytes(), deep.as_bytes()].concat();
    let agent = StandIn::new(move |_| Answer::Raw(bytes.clone()));
    for args in [&["members"][..], &["status"], &["events"], &["network", "rm", "x"]] {
        ovlctl(&agent.socket(), args).failed(69, &["is not understood"]);
    }

    let long = "x".repeat(1 << 20);
    let agent = StandIn::new(move |request| match request.line.as_str() {
        "GET /v1/status" => Answer::Json(400, json!({"error": long})),
        // Where a number should be: it is named in the message.
        "GET /v1/networks" => Answer::Json(200, json!([{"name": "n", "vni": long}])),
        _ => {
            let member =
                |name: &str| json!({"name": name, "address": "10.77.0.2", "state": "alive"});
            let rows: Vec<Value> = (0..1000).map(|_| member("x")).chain([member(&long)]).collect();
            Answer::Json(200, json!(rows))
        }
    });
    for (args, code) in [(&["status"][..], 1), (&["network", "ls"], 69), (&["members"], 0)] {
        let done = ovlctl(&agent.socket(), args);
        assert_eq!(done.code, Some(code), "{args:?}");
        assert!(done.err.len() < 20_000 && done.out.len() < 5 << 20, "{args:?}");
    }
}

#[test]
fn events_that_go_on_for_ever_are_not_read_for_ever() {
    let agent = StandIn::new(|_| {
        let event = json!({"seq": 1, "at": "x", "kind": "host-down", "summary": "x"});
        let events = vec![event; 500];
        Answer::Json(200, json!({"events": events, "next": 1, "lost": 0, "started": "x"}))
    });
    assert_eq!(ovlctl(&agent.socket(), &["events"]).fine().lines().count(), 4500);
}
