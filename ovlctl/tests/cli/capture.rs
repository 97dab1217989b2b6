//! Which requests a capture makes, however it ends; what is shown is tested in the lab, on real packets.
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use super::*;

const BEGUN: [&str; 4] =
    ["GET /v1/endpoints", "GET /v1/members", "GET /v1/networks", "POST /v1/captures"];

/// Thirty bytes that are no VXLAN.
const FRAME: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// An agent whose captures have two packets at once and then what `more` says.
fn capturing(mut more: impl FnMut() -> Answer + Send + 'static) -> StandIn {
    StandIn::new(move |request| match request.line.as_str() {
        "POST /v1/captures" => Answer::Json(
            200,
            json!({
                "id": "f00", "host": "queenbee", "interface": "eth1", "vxlan_port": 4789, "snaplen": 256,
                "filter": "all",
            }),
        ),
        "POST /v1/captures/f00/read?after=0&wait=5" => {
            let frame = |number: u64| {
                json!({
                    "number": number, "at": 1, "direction": "in", "length": 1500, "bytes": FRAME,
                })
            };
            Answer::Json(200, json!({"frames": [frame(1), frame(2)], "dropped": 7}))
        }
        read if read.starts_with("POST /v1/captures/f00/read") => more(),
        other => Answer::Json(200, answer(other)),
    })
}

fn nothing() -> Answer {
    Answer::Json(200, json!({"frames": [], "dropped": 7}))
}

#[test]
fn a_capture_that_is_asked_for_so_many_packets_shows_no_more_and_ends() {
    let agent = capturing(nothing);
    let args = ["capture", "-c", "1", "--network", "n", "--name", "é", "--buffer", "16", "--json"];
    let done = ovlctl(&agent.socket(), &args);
    assert_eq!(done.code, Some(0), "{done:?}");
    let shown: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(shown["time"], "1970-01-01T00:00:00.000000001Z");
    assert_eq!((&shown["length"], &shown["outer"]), (&json!(1500), &Value::Null));
    assert_eq!(
        done.err,
        "capturing on eth1 of queenbee: all; Ctrl-C ends it\n\
         1 packet captured, 7 dropped by the kernel; a larger --buffer, or a narrower capture, drops fewer\n"
    );
    let asked = asked(&agent);
    assert_eq!(asked[..4], BEGUN);
    assert_eq!(
        asked[4..],
        ["POST /v1/captures/f00/read?after=0&wait=5", "DELETE /v1/captures/f00"]
    );
    let body = agent.requests()[3].body.clone();
    let expected = json!({"network": "n", "name": "é", "snaplen": 256, "buffer": 16384});
    assert_eq!(body, expected);
}

#[test]
fn an_end_that_the_agent_tells_is_a_sentence() {
    let agent = capturing(|| Answer::Json(200, json!({"frames": [], "dropped": 7, "ended": "so"})));
    let done = ovlctl(&agent.socket(), &["capture"]);
    assert_eq!(done.code, Some(69), "{done:?}");
    assert_eq!(done.out.lines().count(), 2, "what came before is shown: {done:?}");
    assert!(done.err.ends_with("\novlctl: the capture ended: so\n"), "{done:?}");
    let agent = capturing(|| Answer::Raw(Vec::new()));
    let done = ovlctl(&agent.socket(), &["capture"]);
    assert_eq!(done.code, Some(69), "{done:?}");
    assert!(done.err.contains("\novlctl: the capture ended: no agent answers on"), "{done:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_nothing_goes_on() {
    let agent = capturing(nothing);
    ovlctl(&agent.socket(), &["capture", "-w", "/no/such/folder/x"])
        .failed(1, &["/no/such/folder/x"]);
    assert_eq!(asked(&agent), [""; 0], "nothing was begun");
}

#[test]
fn a_capture_that_does_not_begin_leaves_the_file_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let nobody = folder.path().join("no-agent.sock");
    ovlctl(&nobody, &["capture", "-w", file.to_str().unwrap()]).failed(69, &["no agent answers"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_takes_the_place_of_another_and_leaves_what_that_one_led_to() {
    use std::os::unix::fs::{MetadataExt as _, symlink};
    let agent = capturing(|| Answer::Json(200, json!({"frames": [], "dropped": 0, "ended": "so"})));
    let folder = tempfile::tempdir().unwrap();
    let [precious, linked, file] =
        ["precious", "linked", "file"].map(|name| folder.path().join(name));
    std::fs::write(&precious, "precious").unwrap();
    symlink(&precious, &linked).unwrap();
    std::fs::hard_link(&precious, &file).unwrap();
    for target in [&linked, &file] {
        ovlctl(&agent.socket(), &["capture", "-w", target.to_str().unwrap()]);
        let made = std::fs::symlink_metadata(target).unwrap();
        assert!(made.is_file() && made.mode() & 0o777 == 0o600, "{made:?}");
        // A section header of pcapng.
        assert_eq!(std::fs::read(target).unwrap()[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    }
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 3, "nothing is left beside them");
}

#[test]
fn a_signal_or_a_closed_pipe_ends_it_quietly() {
    for signal in [true, false] {
        // Packets for ever, or none any more.
        let agent = if signal { capturing(nothing) } else { endless() };
        let mut command = command(&agent.socket());
        command.arg("capture").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        if signal {
            let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        } else {
            drop(out);
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(said.lines().count(), 2, "{said}");
        assert_eq!(asked(&agent).last().unwrap(), "DELETE /v1/captures/f00");
    }
}

/// An agent whose captures have two packets with each answer.
fn endless() -> StandIn {
    let mut next = 2;
    capturing(move || {
        let frames = [next + 1, next + 2].map(|number| {
            json!({"number": number, "at": 1, "direction": "in", "length": 1500, "bytes": FRAME})
        });
        next += 2;
        Answer::Json(200, json!({"frames": frames, "dropped": 0}))
    })
}

#[test]
fn packets_that_cannot_be_are_refused() {
    let frame = |number: u64, length: u64, bytes: &str| json!({"number": number, "at": u64::MAX, "direction": "in", "length": length, "bytes": bytes});
    let long = "A".repeat(400);
    for (frames, why) in [
        (json!([frame(2, 1500, FRAME)]), "packet 2 comes after packet 2"),
        (json!([frame(7, 1500, FRAME), frame(6, 1500, FRAME)]), "packet 6 comes after packet 7"),
        (json!([frame(3, 29, FRAME)]), "of packet 3 there are 30 bytes, and not 29"),
        (json!([frame(3, 1500, &long)]), "of packet 3 there are 300 bytes, and not 256"),
        (json!([frame(3, 1 << 40, FRAME)]), "expected u32"),
        (json!([frame(3, 1500, "not base64")]), "nvalid"),
        (json!({"version": 2}), "invalid type: map"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.pcapng");
        let agent =
            capturing(move || Answer::Json(200, json!({"frames": frames, "dropped": u64::MAX})));
        let done = ovlctl(&agent.socket(), &["capture", "-w", file.to_str().unwrap()]);
        assert_eq!(done.code, Some(69), "{done:?}");
        let last = done.err.lines().last().unwrap();
        assert!(last.starts_with("ovlctl: the capture ended: the answer on "), "{done:?}");
        assert!(last.contains(why), "{why}: {done:?}");
        assert_eq!(asked(&agent).last().unwrap(), "DELETE /v1/captures/f00");
    }
}

#[test]
fn an_absurd_count_of_dropped_packets_is_no_more_than_a_number() {
    let agent =
        capturing(|| Answer::Json(200, json!({"frames": [], "dropped": u64::MAX, "ended": "so"})));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let done = ovlctl(&agent.socket(), &["capture", "-w", file.to_str().unwrap()]);
    assert!(done.err.contains(&u64::MAX.to_string()) && done.code == Some(69), "{done:?}");
}
