//! What goes wrong, and how that is told: one sentence and an exit code.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use super::*;

const STATUS: [&str; 1] = ["status"];

#[test]
fn the_agents_refusals_are_its_own_words_and_a_code() {
    for (status, code) in [(400, 1), (403, 1), (404, 1), (409, 1), (500, 1), (503, 75)] {
        let agent = StandIn::new(move |_| Answer::Json(status, json!({"error": "no: because"})));
        let done = ovlctl(&agent.socket(), &STATUS);
        assert_eq!(done.err, "ovlctl: no: because\n", "{status}");
        done.failed(code, &[]);
    }
}

#[test]
fn of_several_removals_each_refusal_is_told_and_the_rest_is_done() {
    let agent = StandIn::new(|request| match request.line.ends_with("/bad") {
        true => Answer::Json(409, json!({"error": "in use"})),
        false => Answer::Json(200, json!({})),
    });
    let done = ovlctl(&agent.socket(), &["network", "rm", "a", "bad", "c"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(done.out, "removed network a\nremoved network c\n");
    assert_eq!(done.err, "ovlctl: network `bad`: in use\novlctl: 2 of 3 were done\n");
    ovlctl(&agent.socket(), &["network", "rm", "bad"]).failed(1, &["in use"]);
}

#[test]
fn without_an_agent_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("ovl.sock");
    ovlctl(&socket, &STATUS).failed(69, &["no agent answers", "no such socket", "start ovl-agent"]);
    ovlctl(&socket, &["network", "rm", "a", "b"]).failed(69, &["no such socket"]);
    drop(UnixListener::bind(&socket).unwrap());
    ovlctl(&socket, &STATUS).failed(69, &["no agent answers", "stopped", "start ovl-agent"]);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    ovlctl(&socket, &STATUS).failed(69, &["no agent answers"]);
}

#[test]
fn without_permission_it_says_so() {
    let agent = agent();
    // The tests run as root; this user may run the program, but not reach the socket.
    let nobody = 65_534;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("ovlctl");
    fs::copy(env!("CARGO_BIN_EXE_ovlctl"), &program).unwrap();
    let mut command = Command::new(program);
    command.current_dir("/").arg("--socket").arg(agent.socket()).arg("status");
    let output = command.uid(nobody).gid(nobody).output().unwrap();
    Done::from(output).failed(1, &["not open to this user", "sudo", "control-group"]);
}

#[test]
fn a_path_that_cannot_be_a_socket_is_wrong_usage() {
    let long = format!("/{}", "x".repeat(200));
    ovlctl(Path::new(&long), &STATUS).failed(64, &["cannot be a socket"]);
}

#[test]
fn answers_that_no_agent_gives_are_told_as_such() {
    let of_type = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    };
    for bytes in [
        b"\x00\xff\x16\x03 not http".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        of_type("<html>"),
        of_type("{}"),
        of_type("\u{0}\u{1b}[2J"),
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\n\x1b[2J!".to_vec(),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let agent = StandIn::new(move |_| Answer::Raw(bytes.clone()));
        let done = ovlctl(&agent.socket(), &STATUS);
        assert!(!done.err.contains('\u{1b}'), "{done:?}");
        assert!(done.err.contains("is not understood"), "{shown}: {done:?}");
        done.failed(69, &["ovl-agent"]);
    }
}

#[test]
fn an_agent_that_hangs_up_is_told_as_such() {
    let agent = StandIn::new(|_| Answer::Raw(Vec::new()));
    ovlctl(&agent.socket(), &STATUS).failed(69, &["hung up", "log"]);
}

#[test]
fn an_endless_answer_is_refused() {
    let agent = StandIn::new(|_| Answer::Flood);
    ovlctl(&agent.socket(), &STATUS).failed(69, &["not understood", "limit"]);
}

#[test]
fn a_slow_agent_is_waited_for_only_so_long() {
    for answer in [|| Answer::Silence, || Answer::Trickle] {
        let agent = StandIn::new(move |_| answer());
        let began = now();
        let done = ovlctl(&agent.socket(), &["--timeout", "0.3", "status"]);
        done.failed(69, &["did not answer within 0.3 s"]);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    }
}

#[expect(clippy::disallowed_methods, reason = "measures the wait of another process")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_process_that_is_gone_is_told_before_the_agent_is_asked() {
    let agent = agent();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let pid = gone.id().to_string();
    let args = ["endpoint", "attach", "--network=n", "--name=x", "--pid", &pid];
    ovlctl(&agent.socket(), &args).failed(1, &["no process", &pid]);
    assert!(agent.requests().is_empty());
}

#[test]
fn a_name_that_nothing_has_fails() {
    let agent = StandIn::new(|_| Answer::Json(200, json!([])));
    ovlctl(&agent.socket(), &["resolve", "x", "--network", "n"]).failed(1, &["`x` on network `n`"]);
}

#[test]
fn wrong_usage_ends_before_anything_is_asked() {
    let agent = agent();
    for args in [
        &[][..],
        &["bogus"],
        &["network"],
        &["network", "create"],
        &["network", "create", ""],
        &["network", "create", "n", "--subnet", "10.0.0.0"],
        &["network", "create", "n", "--mtu", "70000"],
        &["network", "rm"],
        &["endpoint", "attach", "--network=n", "--name=x"],
        &["endpoint", "attach", "--network=n", "--name=x", "--pid=1", "--netns=/x"],
        &["endpoint", "attach", "--network=n", "--name=x", "--pid=0"],
        &["endpoint", "detach"],
        &["resolve"],
        &["status", "--timeout", "0"],
        &["status", "--bogus"],
    ] {
        let done = ovlctl(&agent.socket(), args);
        assert_eq!((done.code, done.out.as_str()), (Some(64), ""), "{args:?}: {done:?}");
        assert!(!done.err.is_empty(), "{args:?}");
    }
    assert!(agent.requests().is_empty());
}

#[test]
fn help_is_no_failure_and_names_the_exit_codes() {
    for args in [&["--help"][..], &["-h"], &["network", "create", "--help"]] {
        let done = ovlctl(Path::new("/nowhere"), args);
        let help = done.fine();
        assert!(help.contains("Usage: ovlctl"), "{help}");
    }
    let help = ovlctl(Path::new("/nowhere"), &["--help"]).fine();
    for part in ["  69  ", "  75  ", "OVL_CONTROL_SOCKET", "/run/ovl/ovl.sock", "[default: 10]"] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

#[test]
fn a_bundle_is_of_this_host_and_goes_into_a_file_of_its_own() {
    let agent = agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("precious");
    fs::write(&file, "x").unwrap();
    let args = |more: &[&str]| -> Vec<String> {
        let file = file.display().to_string();
        let all = more.iter().copied().chain(["bundle", "-o", &file]);
        all.map(str::to_owned).collect()
    };
    ovlctl(&agent.socket(), &args(&["--host", "bee-2"])).failed(64, &["bee-2", "without --host"]);
    ovlctl(&agent.socket(), &args(&[])).failed(64, &["precious", "exists already"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
}

#[test]
fn a_bundle_does_not_wait_for_what_is_no_regular_file() {
    let dir = tempfile::tempdir().unwrap();
    let [fifo, state, archive] =
        ["fifo", "state.json", "b.tar.gz"].map(|name| dir.path().join(name));
    for path in [&fifo, &state] {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    }
    // The agent's settings and its token as well.
    for (name, value) in [("OVL_CONFIG", &fifo), ("OVL_STATE_DIR", &dir.path().to_owned())] {
        let _ = fs::remove_file(&archive);
        let store = format!("consul://127.0.0.1:1?token-file={}", fifo.display());
        let mut command = command(&dir.path().join("no-agent.sock"));
        command.args(["--json", "bundle", "-o"]).arg(&archive).env(name, value);
        let done = Done::from(command.env("OVL_STORE", store).output().unwrap());
        let part = if name == "OVL_CONFIG" { "settings/agent.toml" } else { "agent/state.json" };
        let written = done.json();
        let parts = written["parts"].as_array().unwrap();
        let missing = parts.iter().find(|entry| entry["path"] == format!("{part}.missing.txt"));
        let why = missing.unwrap()["error"].as_str().unwrap();
        assert!(why.ends_with("it is not a regular file"), "{why}");
    }
}

#[test]
fn top_needs_a_terminal() {
    ovlctl(&agent().socket(), &["top"]).failed(64, &["no terminal", "--json"]);
}
