//! A ping that runs in the background while something happens, and tells what was lost.
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use ovl_tests::{Container, process};

/// A running ping of one container to an address, a hundred packets a second.
pub(crate) struct Ping {
    nsenter: Child,
}

/// The sequence numbers of the answers.
#[derive(Debug)]
pub(crate) struct Answers(BTreeSet<u32>);

impl Ping {
    pub(crate) fn start(from: &Container, address: &str) -> Self {
        Self::spawn(from.command("setpriv"), address)
    }

    /// The same; `setpriv` is an nsenter to where the ping is to run, and setpriv.
    pub(crate) fn spawn(setpriv: Command, address: &str) -> Self {
        // Nothing of it is left if the test is killed: ping ends with its nsenter.
        let mut command = setpriv;
        command.args(["--pdeathsig", "KILL", "ping", "-n", "-i", "0.01", "-W", "1", address]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let nsenter = command.spawn().unwrap();
        Self { nsenter }
    }

    /// Ends it as Ctrl-C does, and tells what was answered.
    pub(crate) fn end(mut self) -> Answers {
        let pid = i32::try_from(self.nsenter.id()).unwrap();
        for ping in process::children_of(pid) {
            ping.signal(Signal::SIGINT).unwrap();
        }
        let mut text = String::new();
        let mut stdout = self.nsenter.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        Answers::parse(&text)
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        let _ = self.nsenter.kill();
        let _ = self.nsenter.wait();
    }
}

impl Answers {
    fn parse(text: &str) -> Self {
        let numbers = text.lines().filter_map(|line| line.split_once("icmp_seq="));
        let numbers = numbers.filter_map(|(_, rest)| rest.split_once(' '));
        Self(numbers.filter_map(|(number, _)| number.parse().ok()).collect())
    }

    /// How many packets were answered.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Packets before the last answer that had none.
    pub(crate) fn lost(&self) -> Vec<u32> {
        let last = self.0.last().copied().unwrap_or_default();
        (1..=last).filter(|number| !self.0.contains(number)).collect()
    }
}

#[test]
fn a_gap_in_the_answers_is_a_loss() {
    let text = "64 bytes from a: icmp_seq=1 ttl=64 time=1 ms\n64 bytes from a: icmp_seq=3 ttl=64";
    let answers = Answers::parse(text);
    assert_eq!((answers.count(), answers.lost()), (2, vec![2]));
}
