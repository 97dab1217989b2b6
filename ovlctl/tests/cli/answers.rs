//! What is asked, and how answers are shown.
use std::process::Stdio;

use super::*;

#[test]
fn json_has_the_documented_shapes() {
    let agent = agent();
    for (args, line) in [
        (&["status"][..], "GET /v1/status"),
        (&["members"], "GET /v1/members"),
        (&["network", "ls"], "GET /v1/networks"),
        (&["network", "inspect", "rethinkdb"], "GET /v1/networks/rethinkdb"),
        (&["network", "create", "rethinkdb"], "POST /v1/networks"),
        (&["endpoint", "ls"], "GET /v1/endpoints"),
        (
            &["endpoint", "attach", "--network=n", "--name=x", "--netns=/run/netns/x"],
            "POST /v1/endpoints",
        ),
        (&["resolve", "leader"], "GET /v1/resolve"),
    ] {
        let shown = ovlctl(&agent.socket(), &[args, &["--json"]].concat()).json();
        assert_eq!(shown, answer(line), "{args:?}");
    }
    let removed = ovlctl(&agent.socket(), &["--json", "network", "rm", "a", "b"]).json();
    assert_eq!(removed, json!(["a", "b"]));
    let args = ["--json", "endpoint", "detach", "leader"];
    let detached = ovlctl(&agent.socket(), &args).json();
    assert_eq!(detached, json!({"network": "rethinkdb", "name": "leader"}));
}

#[test]
fn people_get_tables() {
    let agent = agent();
    let shown = |args: &[&str]| ovlctl(&agent.socket(), args).fine();
    assert_eq!(
        shown(&["members"]),
        "NAME         ADDRESS    STATE\n\
         queenbee     10.77.0.2  alive\n\
         workerbee-1  10.77.0.3  suspect\n"
    );
    assert_eq!(
        shown(&["network", "ls"]),
        "NAME       VNI    SUBNET        MTU\n\
         rethinkdb  70000  10.88.0.0/16  1450\n"
    );
    let endpoints = shown(&["endpoint", "ls"]);
    assert!(endpoints.starts_with("NETWORK    NAME    ADDRESS    MAC"), "{endpoints}");
    assert_eq!(endpoints.lines().count(), 4);
    assert_eq!(shown(&["resolve", "leader"]), "10.88.0.2\n10.88.0.3\n");
    assert_eq!(
        shown(&["network", "create", "rethinkdb"]),
        "created network rethinkdb: 10.88.0.0/16, VNI 70000, MTU 1450\n"
    );
    assert_eq!(shown(&["network", "rm", "a", "b"]), "removed network a\nremoved network b\n");
    assert_eq!(
        shown(&["endpoint", "detach", "leader"]),
        "detached leader from network rethinkdb\n"
    );
    let inspected = shown(&["network", "inspect", "rethinkdb"]);
    assert!(inspected.contains("device     ovl-70000\n"), "{inspected}");
}

#[test]
fn status_says_how_the_agent_is_and_what_is_wrong() {
    let shown = ovlctl(&agent().socket(), &["status"]).fine();
    for line in [
        "host       queenbee (10.77.0.2)",
        "agent      0.1.0, up 1 h 1 min",
        "store      consul://10.77.0.9:8500, answers",
        "members    3 alive, 1 down",
        "endpoints  1 here, 3 in all",
        "kernel     as wanted; 2 changes by others put right",
        "docker     connected",
        "- the moon is full: wait",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
}

#[test]
fn requests_carry_all_that_was_given() {
    let agent = agent();
    let create = [
        "network",
        "create",
        "n",
        "--subnet=10.1.0.0/16",
        "--gateway=10.1.0.9",
        "--mtu=1400",
        "--subnet6=fd00:1::/64",
        "--internal",
    ];
    ovlctl(&agent.socket(), &create).fine();
    let attach = [
        "endpoint",
        "attach",
        "--network=n",
        "--name=x",
        "--netns=/run/netns/x",
        "--address=10.1.0.7",
        "--alias=a",
        "--alias=b",
        "--ifname=ovl0",
    ];
    ovlctl(&agent.socket(), &attach).fine();
    ovlctl(&agent.socket(), &["resolve", "a b&c", "--network", "n/m"]).fine();
    ovlctl(&agent.socket(), &["endpoint", "ls", "--network", "n"]).fine();
    ovlctl(&agent.socket(), &["endpoint", "detach", "--network=n/m", "x y"]).fine();
    let requests = agent.requests();
    assert_eq!(
        requests[0].body,
        json!({
            "name": "n", "subnet": "10.1.0.0/16", "gateway": "10.1.0.9", "mtu": 1400,
            "ipv6": false, "subnet6": "fd00:1::/64", "internal": true
        })
    );
    assert_eq!(
        requests[1].body,
        json!({"network": "n", "name": "x", "aliases": ["a", "b"], "netns": "/run/netns/x",
            "address": "10.1.0.7", "ifname": "ovl0"})
    );
    assert_eq!(
        asked(&agent)[2..],
        [
            "GET /v1/resolve?name=a%20b%26c&network=n%2Fm",
            "GET /v1/endpoints?network=n",
            "DELETE /v1/endpoints/n%2Fm/x%20y",
        ]
    );
}

#[test]
fn a_namespace_is_named_by_process_or_by_file() {
    let agent = agent();
    let pid = std::process::id().to_string();
    let base = ["endpoint", "attach", "--network=n", "--name=x"];
    ovlctl(&agent.socket(), &[&base[..], &["--pid", &pid]].concat()).fine();
    let relative =
        command(&agent.socket()).args(base).args(["--netns", "ns"]).current_dir("/tmp").output();
    Done::from(relative.unwrap()).fine();
    let requests = agent.requests();
    assert_eq!(requests[0].body["netns"], json!(format!("/proc/{pid}/ns/net")));
    assert_eq!(requests[1].body["netns"], json!("/tmp/ns"));
}

#[test]
fn an_empty_list_gives_people_a_hint_and_programs_an_empty_list() {
    let agent = StandIn::new(|_| Answer::Json(200, json!([])));
    for args in [&["network", "ls"][..], &["endpoint", "ls"], &["members"]] {
        let shown = ovlctl(&agent.socket(), args);
        assert_eq!((shown.code, shown.out.as_str()), (Some(0), ""), "{shown:?}");
        assert!(shown.err.starts_with("no "), "{shown:?}");
        let shown = ovlctl(&agent.socket(), &[args, &["--json"]].concat());
        assert_eq!(shown.fine(), "[]\n");
    }
    let shown = ovlctl(&agent.socket(), &["network", "ls"]);
    assert_eq!(shown.err, "no networks yet: `ovlctl network create NAME` makes one\n");
}

#[test]
fn an_endpoint_is_detached_without_its_network_only_when_that_is_clear() {
    let agent = agent();
    ovlctl(&agent.socket(), &["endpoint", "detach", "leader"]).fine();
    assert_eq!(asked(&agent).last().unwrap(), "DELETE /v1/endpoints/rethinkdb/leader");
    let parts =
        ["several networks", "--network", "other (host queenbee), rethinkdb (host queenbee)"];
    ovlctl(&agent.socket(), &["endpoint", "detach", "twin"]).failed(1, &parts);
    ovlctl(&agent.socket(), &["endpoint", "detach", "db"]).failed(1, &["no network", "`db`"]);
    let deletes = asked(&agent).iter().filter(|line| line.starts_with("DELETE")).count();
    assert_eq!(deletes, 1);
}

#[test]
fn the_socket_may_come_from_the_environment() {
    let agent = agent();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ovlctl"));
    let output = command.env("OVL_CONTROL_SOCKET", agent.socket()).arg("members").output();
    Done::from(output.unwrap()).fine();
}

#[test]
fn what_the_agent_says_cannot_steer_the_terminal() {
    let evil = "a\u{1b}]0;x\u{7}\nb";
    let agent = StandIn::new(move |request| match request.line.starts_with("GET /v1/members") {
        true => Answer::Json(200, json!([{"name": evil, "address": "1.2.3.4", "state": "alive"}])),
        false => Answer::Json(404, json!({"error": evil})),
    });
    let shown = ovlctl(&agent.socket(), &["members"]).fine();
    assert_eq!(shown.lines().count(), 2);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    let failed = ovlctl(&agent.socket(), &["status"]);
    assert!(!failed.err.contains('\u{1b}'), "{failed:?}");
    failed.failed(1, &["a ]0;x  b"]);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let agent = agent();
    for args in [&["members"][..], &["--json", "status"], &["--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(&agent.socket());
        let child = command.args(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let done = Done::from(child.wait_with_output().unwrap());
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}: {done:?}");
    }
}
