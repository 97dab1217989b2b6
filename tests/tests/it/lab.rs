//! The lab itself, with a stand-in where agents would be: what it starts, it ends.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use ovl_tests::leftovers;

use crate::support::{SPREAD, eventually, holds, take_turn, unique};

/// Answers as an agent does that sees all hosts of the lab.
const AGENT: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 0.1; done\n";
const CTL: &str = r#"#!/bin/sh
case "$*" in
*status*) echo "{\"members\":{\"alive\":$(grep -c '^192\.168\.' /etc/hosts)}}" ;;
*nowhere*) echo "ovlctl: no network nowhere" >&2; exit 1 ;;
esac
"#;

/// A lab's name, with the stand-in; taken down at the end of the test.
struct Bench {
    name: String,
    programs: PathBuf,
    _turn: fs::File,
}

impl Bench {
    fn new(name: &str) -> Self {
        let turn = take_turn();
        let name = unique(name).to_string();
        let programs = std::env::temp_dir().join(&name);
        fs::create_dir_all(&programs).unwrap();
        for (program, text) in [("ovl-agent", AGENT), ("ovlctl", CTL)] {
            let path = programs.join(program);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { name, programs, _turn: turn }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(["--name", &self.name]).args(args).env("OVL_BIN_DIR", &self.programs);
        command.stdin(Stdio::null());
        command
    }

    fn lab(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.lab(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "lab {args:?}: {stdout}{stderr}");
        stdout
    }

    /// The one sentence of a refusal.
    fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.lab(args);
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(output.status.code(), Some(code), "lab {args:?}: {stderr}");
        stderr
    }

    fn left(&self) -> Vec<String> {
        left_of(&self.name)
    }
}

/// What is left of a lab: its folder, mounts, and processes that name it.
pub(crate) fn left_of(name: &str) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    let folder = format!("/run/ovl-lab/{name}");
    if fs::exists(&folder).unwrap() {
        left.push(folder.clone());
    }
    for mount in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
        if mount.contains(name) {
            left.push(mount.to_owned());
        }
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let text = [environment, command].concat();
        let text = String::from_utf8_lossy(&text);
        if text.contains(&folder) {
            left.push(format!("{}: {text}", path.display()));
        }
    }
    left
}

impl Drop for Bench {
    fn drop(&mut self) {
        let down = self.lab(&["down"]);
        let _ = fs::remove_dir_all(&self.programs);
        if !thread::panicking() {
            assert!(down.status.success(), "{down:?}");
        }
    }
}

#[test]
fn a_lab_that_is_taken_down_leaves_nothing() {
    let bench = Bench::new("clean");
    bench.ok(&["up", "--hosts", "a,b"]);
    bench.ok(&["attach", "a", "net", "c1"]);
    bench.ok(&["attach", "a", "net", "c2"]);
    assert!(!bench.left().is_empty(), "the lab is up");
    bench.ok(&["detach", "c1"]);
    bench.ok(&["down"]);
    assert_eq!(bench.left(), [""; 0]);
    assert!(bench.ok(&["down"]).contains("was not up"), "a second down is fine");
}

#[test]
fn an_up_that_was_killed_at_any_moment_is_repaired_by_the_next() {
    let bench = Bench::new("killed-up");
    for milliseconds in [5, 20, 40, 80, 120, 160, 240] {
        let mut up = bench.command(&["up"]).stdout(Stdio::null()).spawn().unwrap();
        // Not a wait for a condition: the moment itself is what varies.
        thread::sleep(Duration::from_millis(milliseconds));
        up.kill().unwrap();
        up.wait().unwrap();
    }
    bench.ok(&["up", "--hosts", "a"]);
    bench.ok(&["run", "a", "--", "true"]);
    bench.ok(&["up", "--hosts", "a"]);
    bench.ok(&["down"]);
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn a_lab_whose_owner_was_killed_is_swept_by_the_next_run() {
    let bench = Bench::new("swept");
    bench.ok(&["up", "--hosts", "a"]);
    leftovers::sweep().unwrap();
    assert!(!bench.left().is_empty(), "a lab without an owner stays");
    let file = format!("/run/ovl-lab/{}/lab.json", bench.name);
    let record = fs::read_to_string(&file).unwrap();
    // Process 1 started at the first tick, not at the last: this owner is gone.
    let orphaned = record.replace("\"owner\": null", &format!("\"owner\": [1, {}]", u64::MAX));
    assert_ne!(record, orphaned, "the record names its owner: {record}");
    fs::write(&file, orphaned).unwrap();
    leftovers::sweep().unwrap();
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn commands_pass_their_exit_codes_and_output_through() {
    let bench = Bench::new("codes");
    bench.ok(&["up", "--hosts", "a,b"]);
    assert_eq!(bench.lab(&["run", "a", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(bench.ok(&["run", "b", "--", "hostname"]).trim(), "b");
    bench.ok(&["run", "a", "--", "ping", "-c", "1", "-W", "2", "b"]);
    bench.ok(&["attach", "b", "net", "c1"]);
    assert_eq!(bench.ok(&["in", "c1", "--", "hostname"]).trim(), "c1");
    let resolver = bench.ok(&["in", "c1", "--", "cat", "/etc/resolv.conf"]);
    assert_eq!(resolver, "nameserver 169.254.53.53\n");
    assert_eq!(bench.lab(&["in", "c1", "--", "sh", "-c", "exit 9"]).status.code(), Some(9));
}

#[test]
fn refusals_are_one_sentence_with_an_exit_code() {
    let bench = Bench::new("refused");
    assert!(bench.refused(&["status"], 1).contains("is not up"));
    bench.ok(&["up", "--hosts", "a"]);
    bench.ok(&["attach", "a", "net", "c1"]);
    for (args, code, word) in [
        (&["run", "b", "--", "true"][..], 1, "no host b"),
        (&["in", "c2", "--", "true"], 1, "no container c2"),
        (&["attach", "a", "net", "c1"], 1, "in host a already"),
        (&["attach", "a", "nowhere", "c2"], 1, "no network nowhere"),
        (&["attach", "a", "net", "No"], 64, "not valid"),
        (&["stop", "kvstore"], 1, "no kvstore"),
        (&["up", "--hosts", "a,a"], 64, "each host once"),
        (&["up", "--store", "etcd"], 64, "sqlite or consul"),
        (&["fly"], 64, "fly"),
    ] {
        let said = bench.refused(args, code);
        assert!(said.contains(word), "lab {args:?}: {said}");
    }
    let containers = bench.ok(&["status", "--json"]);
    assert!(containers.contains("c1") && !containers.contains("c2"), "{containers}");
}

#[test]
fn agents_and_cables_do_as_they_are_told() {
    let bench = Bench::new("agents");
    bench.ok(&["up", "--hosts", "a,b"]);
    let shows = |word: &str| {
        let table = bench.ok(&["status"]);
        let row = table.lines().find(|row| row.starts_with("a ")).unwrap_or_default();
        assert!(row.contains(word), "a is not {word}: {table}");
    };
    let ping = ["run", "a", "--", "ping", "-c", "1", "-W", "1", "b"];
    for (command, state) in [
        ("freeze", "frozen"),
        ("thaw", "running"),
        ("stop", "stopped"),
        ("start", "running"),
        ("kill", "stopped"),
        ("start", "running"),
        ("cut", "cut"),
    ] {
        bench.ok(&[command, "a"]);
        shows(state);
    }
    assert!(!bench.lab(&ping).status.success(), "a's cable is cut");
    bench.ok(&["heal", "a"]);
    shows("up");
    eventually("an answer over the cable", SPREAD, || {
        let answer = bench.lab(&ping);
        holds(answer.status.success(), String::from_utf8_lossy(&answer.stdout))
    });
}
