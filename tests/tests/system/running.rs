//! Containers do not notice what becomes of their agent.
use std::time::Duration;

use nix::sys::signal::Signal;
use ovl_tests::machine::Image;

use crate::support::{
    READY, SPREAD, Site, UNIT, devices, docker, eventually, every_name_found, holds, newer,
    nothing_lost, run_container, systemctl,
};

/// Of the shipped unit.
const WATCHDOG: &str = "30s";
/// Here: a test need not wait longer.
const SHORT_WATCHDOG: &str = "[Service]\nWatchdogSec=4s\n";
/// The watchdog, the time to abort, the pause before a start, and some.
const RESTARTED: Duration = Duration::from_secs(30);

#[test]
fn an_agent_that_hangs_or_dies_is_started_again_and_no_packet_is_lost() {
    let site = Site::with_containers("watchdog", Image::Bookworm, &newer());
    let bee = &site[1];
    assert_eq!(bee.property(UNIT, "WatchdogUSec").unwrap(), WATCHDOG);
    bee.write("/etc/systemd/system/ovl-agent.service.d/short.conf", SHORT_WATCHDOG).unwrap();
    systemctl(bee, &["daemon-reload"]);
    systemctl(bee, &["restart", UNIT]);
    bee.wait_for_state(UNIT, "active", READY).unwrap();

    let (streams, before) = (site.streams(), devices(bee));
    let frozen = bee.main_pid(UNIT).unwrap();
    bee.process(frozen).unwrap().signal(Signal::SIGSTOP).unwrap();
    started_anew(&site, frozen);
    let log = bee.journal(UNIT).unwrap();
    let said = log.iter().any(|entry| entry.message().to_lowercase().contains("watchdog timeout"));
    assert!(said, "it was not the watchdog");

    let killed = bee.main_pid(UNIT).unwrap();
    bee.process(killed).unwrap().signal(Signal::SIGKILL).unwrap();
    started_anew(&site, killed);
    nothing_lost("a frozen and a killed agent", streams);
    assert_eq!(devices(bee), before, "devices were made anew");
    site.reach_each_other();
}

fn started_anew(site: &Site, pid: i32) {
    let bee = &site[1];
    eventually("another agent", RESTARTED, || {
        let (state, line) = bee.state(UNIT).map_err(|error| error.chain())?;
        let now = bee.property(UNIT, "MainPID").map_err(|error| error.chain())?;
        holds(state == "active" && now != pid.to_string() && now != "0", (state, line, now))
    });
}

#[test]
fn a_stop_with_traffic_loses_no_packet_and_a_start_adopts_what_is_there() {
    let site = Site::with_containers("stop", Image::Trixie, &newer());
    let (bee, streams) = (&site[1], site.streams());
    let before = devices(bee);
    systemctl(bee, &["stop", UNIT]);
    assert_eq!(bee.state(UNIT).unwrap().0, "inactive");
    assert_eq!(bee.property(UNIT, "Result").unwrap(), "success");
    assert_eq!(devices(bee), before, "a stop changed devices");
    systemctl(bee, &["start", UNIT]);
    bee.wait_for_state(UNIT, "active", READY).unwrap();
    assert_eq!(devices(bee), before, "devices were made anew");
    site.reach_each_other();
    nothing_lost("a stop and a start", streams);
}

#[test]
fn a_restart_loses_no_name() {
    let site = Site::with_containers("names", Image::Trixie, &newer());
    let (streams, lookups) = (site.streams(), site.lookups());
    for machine in &*site {
        systemctl(machine, &["restart", UNIT]);
        machine.wait_for_state(UNIT, "active", READY).unwrap();
    }
    nothing_lost("restarts", streams);
    every_name_found("restarts", lookups);
}

#[test]
fn systemd_holds_sockets_of_containers_that_run_and_of_no_other() {
    let site = Site::with_containers("kept", Image::Bookworm, &newer());
    let ant = &site[0];
    held(&site, EACH);
    systemctl(ant, &["restart", UNIT]);
    held(&site, EACH);
    docker(ant, &["rm", "-f", "anna"]);
    held(&site, 0);
    // What has ended before another agent looks is not held either.
    run_container(ant, "late", &[]);
    held(&site, EACH);
    let agent = ant.process(ant.main_pid(UNIT).unwrap()).unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    let ended = ant.run(&["pkill", "-KILL", "-f", "sleep 1000000"]).unwrap();
    assert!(ended.ok(), "{ended:?}");
    agent.signal(Signal::SIGKILL).unwrap();
    held(&site, 0);
}

/// UDP and TCP at two ports, and the owner of the rule.
const EACH: usize = 5;

fn held(site: &Site, count: usize) {
    eventually("what systemd holds for the agent", SPREAD, || {
        let held = site[0].property(UNIT, "NFileDescriptorStore").map_err(|e| e.chain())?;
        holds(held == count.to_string(), held)
    });
}
