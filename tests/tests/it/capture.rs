//! `ovlctl capture`: what hosts send each other, seen on the wire and in files that tshark opens.
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use ovl_tests::programs::Programs;
use ovl_tests::{Container, Host, Outcome, StoreKind, exec, process};
use serde_json::Value;

use crate::support::{
    PROBES, SPREAD, TestLab, address_of, ctl, eventually, holds, link, pings, vni,
};

const HOSTS: [&str; 2] = ["bee-1", "bee-2"];

/// Exit code when the agent does not answer any more.
const UNAVAILABLE: i32 = 69;

/// A capture that nobody reads ends after 15 s, or 15 s after its last read would have.
const UNREAD: Duration = Duration::from_secs(40);

/// No capture of these tests takes longer.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn packets_between_hosts_are_shown_with_names() {
    let lab = TestLab::up("capture", &HOSTS, StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    ctl(&host, &["network", "create", "net", "--ipv6"]);
    let leader = lab.attach("bee-1", "net", "leader").unwrap();
    let follower = lab.attach("bee-2", "net", "follower").unwrap();
    let local = lab.attach("bee-1", "net", "local").unwrap();
    pings(&leader, "follower");

    let capture = Capture::start(&host, &["--network", "net", "-c", "4"]);
    // Between two containers of one host nothing is to be seen on the wire.
    ping(&leader, &address_of(&leader, "local"), 2);
    ping(&leader, &address_of(&leader, "follower"), 2);
    let outcome = capture.wait();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let (there, back) =
        ("out bee-1 > bee-2 net: leader > follower ICMP echo request", "ICMP echo reply");
    for pair in lines.chunks(2) {
        assert!(pair[0].contains(there) && pair[1].contains(back), "{lines:?}");
        assert!(pair[1].contains("in  bee-2 > bee-1 net: follower > leader"), "{lines:?}");
    }
    assert!(!outcome.stdout.contains('\u{1b}'), "no colours in a pipe: {lines:?}");
    assert!(outcome.stderr.contains("capturing on eth1 of bee-1: VXLAN"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("4 packets captured, 0 dropped"), "{}", outcome.stderr);

    names_in_json(&host, &leader, &follower);
    only_of_the_endpoint(&host, &leader, &local, &follower);
}

fn names_in_json(host: &Host, leader: &Container, follower: &Container) {
    let address = leader.run(&["getent", "ahostsv6", "follower"]).unwrap().stdout;
    let ipv6 = address.split_whitespace().next().unwrap_or_default().to_owned();
    assert!(ipv6.starts_with("fd"), "{address:?}");
    let capture = Capture::start(host, &["--json", "--name", "follower", "-c", "2"]);
    ping(leader, &ipv6, 1);
    let outcome = capture.wait();
    let records: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [request, reply] = records.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(request["inner"]["protocol"], "ICMPv6");
    assert_eq!(request["inner"]["destination"], ipv6);
    assert_eq!(request["inner"]["destination_name"], follower.name());
    assert_eq!(reply["inner"]["source_name"], follower.name());
    assert_eq!(reply["outer"]["source_host"], "bee-2");
    assert_eq!(reply["direction"], "in");
}

/// Both containers of bee-1 ping the other host; only one was asked for.
fn only_of_the_endpoint(host: &Host, leader: &Container, local: &Container, follower: &Container) {
    let there = address_of(leader, follower.name());
    let capture = Capture::start(host, &["--name", "local.net", "-c", "4"]);
    ping(leader, &there, 2);
    ping(local, &there, 2);
    let outcome = capture.wait();
    assert_eq!(outcome.stdout.lines().count(), 4);
    assert!(!outcome.stdout.contains("leader"), "{}", outcome.stdout);
    assert_eq!(outcome.stdout.matches("local").count(), 4, "{}", outcome.stdout);
}

#[test]
fn a_file_opens_in_tshark_and_holds_one_network_only() {
    let lab = TestLab::up("capture-w", &HOSTS, StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    for network in ["net", "other"] {
        ctl(&host, &["network", "create", network]);
    }
    let (leader, _follower) =
        (lab.attach("bee-1", "net", "leader"), lab.attach("bee-2", "net", "follower"));
    let (fox, _hare) = (lab.attach("bee-1", "other", "fox"), lab.attach("bee-2", "other", "hare"));
    let (leader, fox) = (leader.unwrap(), fox.unwrap());
    pings(&leader, "follower");
    pings(&fox, "hare");

    let files = ["net", "all"].map(|name| lab.folder().join(format!("{name}.pcapng")));
    let [one, all] = files.each_ref().map(|file| file.display().to_string());
    let captures = [
        Capture::start(&host, &["--network", "net", "-w", &one]),
        Capture::start(&host, &["-w", &all]),
    ];
    ping(&fox, &address_of(&fox, "hare"), 3);
    ping(&leader, &address_of(&leader, "follower"), 3);
    let [of_one, of_all] = captures.map(Capture::interrupt);
    assert_eq!(taps(&host), 0, "both are over with Ctrl-C");
    assert!(of_one.stderr.contains("6 packets captured, 0 dropped"), "{of_one:?}");
    assert!(of_all.stderr.contains("12 packets captured, 0 dropped"), "{of_all:?}");
    assert_eq!(of_one.stdout, "");

    let (mine, others) = (vni(&host, "net").to_string(), vni(&host, "other").to_string());
    let fields = ["frame.interface_name", "frame.time_epoch", "vxlan.vni", "ip.src", "icmp.type"];
    let [of_net, of_all] = files.each_ref().map(|file| tshark(file, &fields));
    assert_eq!(of_net.len(), 6);
    let came_from = |row: &[String]| row[3].split(',').map(str::to_owned).collect::<Vec<_>>();
    for row in &of_net {
        assert_eq!((row[0].as_str(), &row[2]), ("eth1", &mine), "{row:?}");
        // Nine digits: nanoseconds.
        assert_eq!(row[1].split('.').nth(1).map(str::len), Some(9), "{row:?}");
        assert_eq!(came_from(row).len(), 2, "outside and inside: {row:?}");
    }
    let types: Vec<&str> = of_net.iter().map(|row| row[4].as_str()).collect();
    assert_eq!(types, ["8", "0", "8", "0", "8", "0"]);
    assert_eq!(of_all.iter().filter(|row| row[2] == others).count(), 6);
    assert_eq!(of_all.iter().filter(|row| row[2] == mine).count(), 6);
    let names = tshark(&files[0], &["ip.src_host"]);
    assert_eq!(names[0], ["bee-1,leader.net"]);
    assert_eq!(names[1], ["bee-2,follower.net"]);
    goes_through_a_pipe(&host, &leader);
    is_cut_and_ends_by_itself(&host, &leader, &lab.folder().join("short.pcapng"));
}

fn is_cut_and_ends_by_itself(host: &Host, leader: &Container, file: &Path) {
    let name = file.display().to_string();
    let capture = Capture::start(host, &["--duration", "2", "--snaplen", "100", "-w", &name]);
    ping(leader, &address_of(leader, "follower"), 1);
    let outcome = capture.wait();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let rows = tshark(file, &["frame.cap_len", "frame.len"]);
    // An echo of 98 bytes in its frame, and 50 of VXLAN around it.
    assert_eq!(rows, [["100", "148"], ["100", "148"]]);
}

fn goes_through_a_pipe(host: &Host, leader: &Container) {
    let script = r#""$1" capture -c 2 -w - | tshark -r - -T fields -e icmp.type 2>/dev/null"#;
    let ovlctl = Programs::find().unwrap().ovlctl().display().to_string();
    let mut command = host.command("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", script, "sh", &ovlctl]);
    let capture = Capture::spawn(command);
    ping(leader, &address_of(leader, "follower"), 1);
    let outcome = capture.wait();
    assert_eq!(outcome.stdout, "8\n0\n", "{outcome:?}");
}

#[test]
fn what_a_flood_makes_the_kernel_drop_is_counted() {
    const SENT: u64 = 5000;
    let lab = TestLab::up("capture-flood", &HOSTS, StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    ctl(&host, &["network", "create", "net"]);
    let leader = lab.attach("bee-1", "net", "leader").unwrap();
    let _follower = lab.attach("bee-2", "net", "follower").unwrap();
    pings(&leader, "follower");
    let there = address_of(&leader, "follower");

    let file = lab.folder().join("flood.pcapng").display().to_string();
    let capture = Capture::start(&host, &["--network", "net", "--buffer", "16", "-w", &file]);
    let count = SENT.to_string();
    let argv = ["ping", "-n", "-q", "-f", "-l", "50", "-s", "1400", "-c", &count, &there];
    let flood = leader.run_within(&argv, LIMIT).unwrap();
    assert!(flood.stdout.contains(&format!("{SENT} packets transmitted")), "{flood:?}");
    // With the next packet that finds room it is known how many were dropped before.
    eventually("room in the kernel's buffer", SPREAD, || {
        let waiting = waiting(&host);
        holds(waiting == ["0"], waiting)
    });
    ping(&leader, &there, 1);
    let outcome = capture.interrupt();
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let numbers: Vec<u64> = last.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [captured, dropped] = numbers[..] else { panic!("{outcome:?}") };
    assert!(dropped > 0 && captured > 0, "{last}");
    assert!(last.contains("--buffer"), "{last}");
    let all = captured + dropped;
    assert!((2 * SENT..=2 * SENT + 2).contains(&all), "{last}");
    assert_eq!(tshark(&PathBuf::from(&file), &["frame.number"]).len() as u64, captured);
}

#[test]
fn a_capture_without_a_reader_ends_by_itself() {
    let lab = TestLab::up("capture-idle", &HOSTS[..1], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    let capture = Capture::start(&host, &[]);
    assert_eq!(taps(&host), 1);
    capture.signal(Signal::SIGKILL);
    drop(capture);
    eventually("the end of the capture", UNREAD, || {
        let taps = taps(&host);
        holds(taps == 0, taps)
    });
}

#[test]
fn an_agent_that_ends_or_restarts_ends_a_capture_with_a_sentence() {
    let lab = TestLab::up("capture-end", &HOSTS[..1], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    // Between two questions it hears of the end from the next agent.
    let next = "there is no such capture (any more)";
    for (end, words) in [
        // On a busy machine the agent may be gone before its last answer is out.
        (
            Host::stop_agent as fn(&Host) -> _,
            ["the agent of its host was stopped", "hung up", next],
        ),
        (Host::kill_agent, ["it hung up before it answered", "no agent answers", next]),
    ] {
        let capture = Capture::start(&host, &[]);
        end(&host).unwrap();
        host.start_agent().unwrap_or_else(|error| panic!("{error}"));
        let outcome = capture.wait();
        assert_eq!(outcome.code, Some(UNAVAILABLE), "{outcome:?}");
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        let [_, counts, sentence] = lines[..] else { panic!("{outcome:?}") };
        assert!(counts.starts_with("0 packets captured, 0 dropped"), "{counts}");
        assert!(sentence.starts_with("ovlctl: the capture ended: "), "{sentence}");
        assert!(words.iter().any(|words| sentence.contains(words)), "{sentence}");
    }
}

/// A capture that runs.
struct Capture {
    nsenter: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Capture {
    /// Starts `ovlctl capture`, and waits until it captures.
    fn start(host: &Host, args: &[&str]) -> Capture {
        let mut command = host.command("setpriv");
        let ovlctl = Programs::find().unwrap().ovlctl();
        // Nothing of it is left if the test is killed: it ends with its nsenter.
        command.args(["--pdeathsig", "KILL"]).arg(ovlctl).arg("capture").args(args);
        Capture::spawn(command)
    }

    fn spawn(mut command: std::process::Command) -> Capture {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut nsenter = command.spawn().unwrap();
        let mut stderr = BufReader::new(nsenter.stderr.take().unwrap());
        let mut said = String::new();
        stderr.read_line(&mut said).unwrap();
        assert!(said.starts_with("capturing on "), "{said}");
        Capture { nsenter, stderr, said }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.nsenter.id()).unwrap();
        for child in process::children_of(pid) {
            child.signal(signal).unwrap();
        }
    }

    /// Ends it as Ctrl-C does; it must have been content.
    fn interrupt(self) -> Outcome {
        self.signal(Signal::SIGINT);
        let outcome = self.wait();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome
    }

    /// Waits for its end.
    fn wait(mut self) -> Outcome {
        let code = eventually("the end of a capture", LIMIT, || {
            let status = self.nsenter.try_wait().unwrap();
            status.map(|status| status.code()).ok_or_else(|| "it runs".to_owned())
        });
        let mut stdout = String::new();
        self.nsenter.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let mut stderr = std::mem::take(&mut self.said);
        self.stderr.read_to_string(&mut stderr).unwrap();
        let command = "ovlctl capture".to_owned();
        Outcome { command, code, stdout, stderr, took: Duration::ZERO }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.nsenter.kill();
        let _ = self.nsenter.wait();
    }
}

fn ping(from: &Container, address: &str, count: u32) {
    let count = count.to_string();
    let argv = ["ping", "-n", "-c", &count, "-i", "0.05", "-W", "2", address];
    from.run(&argv).unwrap().require().unwrap_or_else(|error| panic!("{error}"));
}

/// How many packet sockets a host has.
fn taps(host: &Host) -> usize {
    waiting(host).len()
}

/// The bytes that wait in each packet socket of a host, but for the agent's own at the device for probes.
fn waiting(host: &Host) -> Vec<String> {
    let table = host.run(&["cat", "/proc/net/packet"]).unwrap().require().unwrap().stdout;
    let probes = link(host, PROBES).map(|device| device["ifindex"].to_string());
    // sk RefCnt Type Proto Iface R Rmem User Inode
    let rows = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let others = fields.get(4).map(|index| (*index).to_owned()) != probes;
        fields.get(6).filter(|_| others).map(|bytes| (*bytes).to_owned())
    });
    rows.collect()
}

/// The fields of each packet of a file, as tshark reads them, with the file's names.
fn tshark(file: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = std::process::Command::new("tshark");
    command.args([
        "-N",
        "n",
        "-o",
        "nameres.use_external_name_resolver:FALSE",
        "-T",
        "fields",
        "-r",
    ]);
    command.arg(file);
    for field in fields {
        command.args(["-e", field]);
    }
    let outcome = exec::run(&mut command, LIMIT).unwrap().require();
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
    outcome.stdout.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
