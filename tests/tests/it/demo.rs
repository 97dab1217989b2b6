//! `lab demo`, as scripts/demo runs it.
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::left_of;
use crate::support::{eventually, holds, take_turn, unique};

/// A demo takes some seconds.
const LIMIT: Duration = Duration::from_secs(120);

fn demo(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["demo", "--name", name]).stdin(Stdio::null());
    command
}

fn shown(output: &Output) -> String {
    let streams = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&streams).into_owned()
}

#[test]
fn the_demo_shows_three_followers_and_leaves_nothing() {
    let _turn = take_turn();
    let name = unique("demo").to_string();
    let output = demo(&name).output().unwrap();
    let shown = shown(&output);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("connected_slaves:3"), "{shown}");
    assert!(shown.contains("read from follower-3: hello"), "{shown}");
    assert!(!shown.contains("not reached"), "{shown}");
    assert_eq!(left_of(&name), [""; 0]);
}

#[test]
fn an_interrupted_demo_leaves_nothing_and_a_killed_one_is_cleaned_by_the_next() {
    let _turn = take_turn();
    let name = unique("demo-ends").to_string();
    let mut killed = demo(&name).stdout(Stdio::null()).spawn().unwrap();
    wait_until_built(&name);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!left_of(&name).is_empty(), "a killed demo cannot clean up");

    let mut next = demo(&name);
    let next = next.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = i32::try_from(next.id()).unwrap();
    // Its own record, not that of the demo before.
    eventually("the next demo having built its hosts", LIMIT, || {
        let owner = record(&name);
        holds(owner.contains(&pid.to_string()) && is_built(&name), owner)
    });
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    let output = next.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", shown(&output));
    assert_eq!(left_of(&name), [""; 0]);
}

fn wait_until_built(name: &str) {
    eventually("the demo having built its hosts", LIMIT, || holds(is_built(name), record(name)));
}

/// Whether the last of its hosts has an agent.
fn is_built(name: &str) -> bool {
    std::fs::exists(format!("/run/ovl-lab/{name}/workerbee-3/agent")).unwrap()
}

fn record(name: &str) -> String {
    std::fs::read_to_string(format!("/run/ovl-lab/{name}/lab.json")).unwrap_or_default()
}
