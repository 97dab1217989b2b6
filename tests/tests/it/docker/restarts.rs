//! Agents, dockerds and hosts that end and come back.
use std::time::Duration;

use ovl_tests::Host;
use ovl_tests::docker::{IMAGE, Options};

use super::rig::{BACK, NET, Rig, at_once};
use crate::ping::Ping;
use crate::support::{devices, endpoint_names, eventually, holds};

/// Docker tries for 15 s for each thing that it asks of a driver that is not there.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
/// How often an agent is ended and started again under pings.
const ROUNDS: usize = 3;

#[test]
fn a_stopped_agent_comes_back_and_no_packet_is_lost() {
    an_agent_comes_back("agent-stop", |host| host.stop_agent().unwrap());
}

#[test]
fn a_killed_agent_comes_back_and_no_packet_is_lost() {
    an_agent_comes_back("agent-kill", |host| host.kill_agent().unwrap());
}

fn an_agent_comes_back(name: &str, end: impl Fn(&Host)) {
    let rig = pair(name, false);
    no_packet_is_lost(&rig, || {
        for host in rig.hosts.iter().cycle().take(ROUNDS * rig.hosts.len()) {
            end(host);
            host.start_agent().unwrap_or_else(|error| panic!("{error}"));
        }
    });
    each_reaches_the_other(&rig);
    // What ran before is Docker's and the agent's to remove.
    all_is_gone_after_removal(&rig);
}

#[test]
fn a_dockerd_with_live_restore_comes_back_and_no_packet_is_lost() {
    let mut rig = pair("live-restore", true);
    let there = rig.ping(0, "one", &rig.address(1, "two"));
    for kill in [false, true] {
        dockerd_comes_back(&mut rig, kill);
    }
    lossless(there);
    each_reaches_the_other(&rig);
    all_is_gone_after_removal(&rig);
}

#[test]
fn a_dockerd_without_live_restore_brings_its_containers_back() {
    let mut rig = pair("no-restore", false);
    for kill in [false, true] {
        dockerd_comes_back(&mut rig, kill);
        is_back(&rig);
    }
    all_is_gone_after_removal(&rig);
}

/// Ends the second host's dockerd, kindly or not, and starts it again.
fn dockerd_comes_back(rig: &mut Rig, kill: bool) {
    let docker = &mut rig.dockers[1];
    let ended = if kill { docker.kill() } else { docker.stop() };
    ended.unwrap_or_else(|error| panic!("{error}"));
    docker.start_again(&rig.hosts[1]).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_rebooted_host_gets_its_containers_back() {
    let mut rig = pair("reboot", false);
    let addresses = [rig.address(0, "one"), rig.address(1, "two")];
    rig.hosts[1] = rig.hosts[1].reboot().unwrap_or_else(|error| panic!("{}", error.chain()));
    // Whichever is first: Docker waits for the agent some seconds.
    rig.dockers[1].spawn_again(&rig.hosts[1]).unwrap();
    rig.hosts[1].start_agent().unwrap_or_else(|error| panic!("{error}"));
    rig.dockers[1].wait_for_answer().unwrap_or_else(|error| panic!("{error}"));
    is_back(&rig);
    assert_eq!([rig.address(0, "one"), rig.address(1, "two")], addresses);
    all_is_gone_after_removal(&rig);
}

#[test]
fn all_hosts_rebooted_get_their_containers_back() {
    let mut rig = pair("reboot-all", false);
    let addresses = [rig.address(0, "one"), rig.address(1, "two")];
    for at in [0, 1] {
        rig.hosts[at] = rig.hosts[at].reboot().unwrap_or_else(|e| panic!("{}", e.chain()));
    }
    for at in [0, 1] {
        rig.hosts[at].spawn_agent().unwrap();
        rig.dockers[at].spawn_again(&rig.hosts[at]).unwrap();
    }
    for docker in &rig.dockers {
        docker.wait_for_answer().unwrap_or_else(|error| panic!("{error}"));
    }
    is_back(&rig);
    assert_eq!([rig.address(0, "one"), rig.address(1, "two")], addresses);
    all_is_gone_after_removal(&rig);
}

#[test]
fn without_an_agent_run_fails_in_time_and_says_why() {
    let rig = pair("no-agent", false);
    rig.hosts[0].stop_agent().unwrap();
    let outcome = rig.docker(0, &["run", "--rm", "--net", NET, IMAGE, "true"]);
    assert!(!outcome.ok(), "nobody gave it an address");
    assert!(outcome.took < REFUSED_WITHIN, "it took {:?}", outcome.took);
    assert!(outcome.stderr.contains("ovl"), "it does not say what is away: {}", outcome.stderr);
    rig.hosts[0].start_agent().unwrap_or_else(|error| panic!("{error}"));
    rig.run(0, "late", &[]);
    rig.reaches(0, "late", "two");
    rig.ok(0, &["rm", "-f", "late"]);
    all_is_gone_after_removal(&rig);
}

#[test]
fn a_container_removed_while_it_attaches_leaves_nothing() {
    let rig = pair("rm-early", false);
    for round in 0..5 {
        let names: Vec<_> = (0..4).map(|number| format!("brief-{round}-{number}")).collect();
        at_once(&names, |name| {
            at_once([true, false], |run| {
                if run {
                    let args = ["run", "-d", "--net", NET, "--name", name, IMAGE, "sleep", "60"];
                    // It may be removed before it runs.
                    return drop(rig.docker(0, &args));
                }
                // Until there is something to remove.
                for _ in 0..20 {
                    rig.docker(0, &["rm", "-f", name]);
                }
            });
            rig.docker(0, &["rm", "-f", name]);
        });
    }
    for host in &rig.hosts {
        eventually("the two old endpoints alone being left", BACK, || {
            let names = endpoint_names(host);
            holds(names == ["one", "two"], names)
        });
    }
    each_reaches_the_other(&rig);
    all_is_gone_after_removal(&rig);
}

/// Container `one` on the first host and `two` on the second, that Docker starts again.
fn pair(name: &str, live_restore: bool) -> Rig {
    let rig = Rig::prepared(name, |_| Options { live_restore, ..Options::default() });
    rig.network(NET, &[]);
    rig.run(0, "one", &["--restart", "always"]);
    rig.run(1, "two", &["--restart", "always"]);
    each_reaches_the_other(&rig);
    rig
}

fn each_reaches_the_other(rig: &Rig) {
    rig.reaches_within(0, "one", "two", BACK);
    rig.reaches_within(1, "two", "one", BACK);
}

/// Both containers run, and reach each other.
fn is_back(rig: &Rig) {
    for (at, name) in [(0, "one"), (1, "two")] {
        eventually(&format!("{name} running again"), BACK, || {
            let running = rig.field(at, name, "{{.State.Running}} {{.State.Error}}");
            holds(running.trim() == "true", running)
        });
    }
    each_reaches_the_other(rig);
}

fn no_packet_is_lost(rig: &Rig, work: impl FnOnce()) {
    let there = rig.ping(0, "one", &rig.address(1, "two"));
    let back = rig.ping(1, "two", &rig.address(0, "one"));
    work();
    each_reaches_the_other(rig);
    for ping in [there, back] {
        lossless(ping);
    }
}

fn lossless(ping: Ping) {
    let answers = ping.end();
    assert!(answers.count() > 20, "the ping did not run: {answers:?}");
    assert_eq!(answers.lost(), [0; 0], "packets were lost");
}

fn all_is_gone_after_removal(rig: &Rig) {
    rig.ok(0, &["rm", "-f", "one"]);
    rig.ok(1, &["rm", "-f", "two"]);
    rig.ok(0, &["network", "rm", NET]);
    for (at, host) in rig.hosts.iter().enumerate() {
        rig.lists_no(at, NET);
        eventually("no endpoint and no device being left", BACK, || {
            let names = endpoint_names(host);
            holds(names.is_empty(), names)?;
            let mut left = devices(host);
            left.retain(|device| device.starts_with("ovl"));
            holds(left.is_empty(), left)
        });
    }
}
