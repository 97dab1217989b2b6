//! What becomes of a program whose terminal, or whose reader, is gone or stalls.
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// How long an end may take: less than passes between two drawings of `top`.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(10);

#[track_caller]
fn ended(child: &mut Child) -> Option<i32> {
    for _ in 0..ENDS_WITHIN.as_millis() / STEP.as_millis() {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(STEP);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it goes on");
}

fn signalled(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// An agent whose captures have many packets with each answer.
fn busy() -> StandIn {
    StandIn::new(|request| match request.line.split_once("?after=") {
        Some((_, after)) => {
            let after: u64 = after.split('&').next().unwrap().parse().unwrap();
            let frame = |number: u64| json!({"number": number, "at": 1, "direction": "in", "length": 1500, "bytes": "AAAA"});
            let frames: Vec<Value> = (1..=500).map(|n| frame(after + n)).collect();
            Answer::Json(200, json!({"frames": frames, "dropped": 7}))
        }
        None if request.line == "POST /v1/captures" => Answer::Json(
            200,
            json!({
                "id": "f00", "host": "queenbee", "interface": "eth1", "vxlan_port": 4789, "snaplen": 256,
                "filter": "all",
            }),
        ),
        None => Answer::Json(200, answer(&request.line)),
    })
}

/// Until it asks for nothing any more, after so many questions: its reader has stalled.
fn stalled(agent: &StandIn, least: usize) {
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = asked(agent).len();
        if now == before && now >= least {
            return;
        }
        before = now;
    }
}

#[test]
fn a_capture_whose_reader_stalls_ends_by_the_first_signal() {
    for (args, signal) in [
        (&["capture"][..], Signal::SIGINT),
        (&["capture", "--json"], Signal::SIGTERM),
        (&["capture", "-w", "-"], Signal::SIGHUP),
    ] {
        let agent = busy();
        let mut command = command(&agent.socket());
        let mut child =
            command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        stalled(&agent, 6);
        signalled(&child, signal);
        assert_eq!(ended(&mut child), Some(0), "{args:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let last = said.lines().last().unwrap();
        assert!(
            last.contains(" captured, 7 dropped by the kernel; 500 more packets had come"),
            "{said}"
        );
        assert_eq!(asked(&agent).last().unwrap(), "DELETE /v1/captures/f00");
    }
}

#[test]
fn a_capture_ends_also_when_nobody_reads_what_it_says() {
    let agent = busy();
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut command = command(&agent.socket());
    command.arg("capture").stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    stalled(&agent, 6);
    signalled(&child, Signal::SIGTERM);
    assert_eq!(ended(&mut child), Some(0));
}

#[test]
fn a_ping_whose_reader_stalls_ends_by_a_signal() {
    let agent = StandIn::new(|request| match request.line.as_str() {
        "POST /v1/ping" => {
            let series = json!({"sent": 1, "received": 1, "avg_us": 1, "max_us": 1});
            let ping = json!({
                "host": "x".repeat(1000), "address": "10.77.0.3", "state": "alive", "underlay": series, "vxlan": series
            });
            Answer::Json(200, json!(vec![ping; 500]))
        }
        line => Answer::Json(200, answer(line)),
    });
    let mut command = command(&agent.socket());
    command.args(["ping", "--all", "--watch", "1"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    stalled(&agent, 4);
    signalled(&child, Signal::SIGINT);
    assert_eq!(ended(&mut child), Some(0));
}

#[test]
fn what_goes_on_ends_quietly_when_its_reader_is_gone() {
    let agent = StandIn::new(|request| match request.line.starts_with("GET /v1/events") {
        true => {
            let event = json!({"seq": 1, "at": "x", "kind": "host-down", "summary": "x"});
            Answer::Json(200, json!({"events": [event], "next": 1, "lost": 0, "started": "x"}))
        }
        false if request.line == "POST /v1/ping" => Answer::Json(200, json!([])),
        false => Answer::Json(200, answer(&request.line)),
    });
    for args in
        [&["events", "--follow"][..], &["ping", "--watch", "1"], &["--json", "ping", "--watch"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(&agent.socket());
        let mut child = command.args(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        assert_eq!(ended(&mut child), Some(0), "{args:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn top_ends_with_its_terminal_also_without_a_signal() {
    let nowhere = Path::new("/nowhere/ovl.sock");
    let size = nix::pty::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = nix::pty::openpty(Some(&size), None).unwrap();
    // The program itself must not hold its other end open.
    fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let mut command = command(nowhere);
    command.args(["top", "--interval", "60"]).env("TERM", "xterm");
    command.stdin(slave(&terminal.slave)).stdout(slave(&terminal.slave)).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop((command, terminal.slave));
    let mut screen = File::from(terminal.master);
    let mut shown = String::new();
    // It says that no agent answers, and has nothing more to draw for seconds.
    while !shown.contains("no agent answers") {
        let mut bytes = [0; 4096];
        let count = screen.read(&mut bytes).unwrap();
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    drop(screen);
    assert_eq!(ended(&mut child), Some(0));
}
