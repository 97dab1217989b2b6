//! Reboots: what comes back, in which order, and what does not hang on what is missing.
use std::time::Duration;

use ovl_tests::Machine;
use ovl_tests::machine::Image;
use serde_json::Value;

use crate::support::{
    CONTAINERS, NETWORK, PROBES, READY, SPREAD, Site, UNIT, docker, endpoints, eventually, holds,
    members, newer, ok, run_container,
};

/// How long Docker's start may hang on a store that does not answer.
const STORE_BOUND: Duration = Duration::from_secs(75);
/// Message ids of systemd: a unit began to stop, and has stopped.
const STOPPING: &str = "de5b426a63be47a7b6ac3eaac82e2f6f";
const STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";

#[test]
fn after_a_reboot_containers_are_back_with_names_and_addresses_on_debian_12() {
    containers_are_back_with_names_and_addresses("reboot12", Image::Bookworm);
}

#[test]
fn after_a_reboot_containers_are_back_with_names_and_addresses_on_debian_13() {
    containers_are_back_with_names_and_addresses("reboot13", Image::Trixie);
}

fn containers_are_back_with_names_and_addresses(name: &str, image: Image) {
    let mut site = Site::with_containers(name, image, &newer());
    // A second one that comes back, and one that does not.
    run_container(&site[0], "amy", &["--restart", "always"]);
    run_container(&site[0], "mayfly", &[]);
    let all = ["amy", "anna", "bert", "mayfly"];
    for machine in &*site {
        eventually("all endpoints everywhere", SPREAD, || {
            let seen = endpoints(machine);
            holds(seen == all, seen)
        });
    }
    let held = addresses_of_first(&site[0]);

    site[0].cut_power().unwrap();
    site[0].boot().unwrap();
    site[0].wait_booted().unwrap();
    comes_up_in_order(&site[0]);
    is_back(&site, &held);

    site[1].reboot().unwrap();
    comes_up_in_order(&site[1]);
    went_down_in_order(&site[1]);
    is_back(&site, &held);
}

/// What runs again has names and the addresses that the host had; of what does not run, nothing is
/// left, on this host or another.
fn is_back(site: &Site, held: &[String]) {
    for machine in &**site {
        machine.wait_for_state(UNIT, "active", READY).unwrap();
        members(machine, 2);
        eventually("the endpoints that run, and no other", SPREAD, || {
            let seen = endpoints(machine);
            holds(seen == ["amy", "anna", "bert"], seen)
        });
    }
    site.reach_each_other();
    let (mut had, mut has) = (held.to_vec(), addresses_of_first(&site[0]));
    (had.sort(), has.sort());
    assert!(has.iter().all(|one| had.contains(one)), "{has:?} are none of {had:?}");
    assert_eq!(site[0].inspect("mayfly", "{{.State.Running}}").unwrap(), "false");
    let lookup = site[1].docker(&["exec", CONTAINERS[1], "nslookup", "mayfly"]).unwrap();
    assert!(!lookup.ok(), "a name of what does not run: {}", lookup.stdout);
    // Addresses may change places, and MACs go with them: a row must be of what runs now.
    let live: Vec<String> = ["anna", "amy"].iter().map(|name| mac(&site[0], name)).collect();
    let rows: Value = serde_json::from_str(&ok(&site[1], &["bridge", "-j", "fdb"])).unwrap();
    let of_network = |name: &str| name.starts_with("ovl") && name != PROBES;
    let remote =
        |row: &&Value| of_network(row["ifname"].as_str().unwrap()) && row["dst"].is_string();
    for row in rows.as_array().unwrap().iter().filter(remote) {
        assert!(live.iter().any(|mac| row["mac"] == *mac), "a row of what does not run: {row}");
    }
}

/// Addresses of the containers that are to come back on the first machine.
fn addresses_of_first(ant: &Machine) -> Vec<String> {
    ["anna", "amy", "mayfly"]
        .iter()
        .map(|container| ant.address_of(container, NETWORK).unwrap())
        .filter(|address| !address.is_empty())
        .collect()
}

fn mac(machine: &Machine, container: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks {NETWORK:?}).MacAddress}}}}");
    machine.inspect(container, &format).unwrap()
}

/// The agent was ready before dockerd was started.
fn comes_up_in_order(machine: &Machine) {
    let at = |unit: &str, property: &str| -> u64 {
        machine.property(unit, property).unwrap().parse().unwrap()
    };
    let ready = at(UNIT, "ActiveEnterTimestampMonotonic");
    let docker = at("docker", "ExecMainStartTimestampMonotonic");
    assert!(
        ready > 0 && ready < docker,
        "the agent was ready at {ready} us, dockerd began at {docker}"
    );
}

/// In the boot before, the agent began to stop after docker had stopped.
fn went_down_in_order(machine: &Machine) {
    let at = |unit: &str, id: &str| -> u64 {
        let (unit, id) = (format!("UNIT={unit}.service"), format!("MESSAGE_ID={id}"));
        let argv = ["journalctl", "-b", "-1", "-o", "json", "-n", "1", &unit, &id];
        let text = ok(machine, &argv);
        let entry: Value = serde_json::from_str(text.lines().last().unwrap_or("null")).unwrap();
        let at = entry["__MONOTONIC_TIMESTAMP"].as_str();
        at.unwrap_or_else(|| panic!("no entry of {unit} {id}: {text}")).parse().unwrap()
    };
    let (docker, agent) = (at("docker", STOPPED), at(UNIT, STOPPING));
    assert!(docker <= agent, "dockerd had stopped at {docker} us, the agent began to at {agent}");
}

#[test]
fn a_store_that_is_down_at_boot_is_named_and_does_not_hold_docker_for_ever() {
    let mut site = Site::with_containers("nostore", Image::Bookworm, &newer());
    site.store().stop().unwrap();
    site[0].power_off().unwrap();
    site[0].boot().unwrap();
    let ant = &site[0];
    eventually("a status line that names the store", READY, || {
        let (state, line) = ant.state(UNIT).unwrap();
        assert_ne!(state, "active", "ready without a store: {line}");
        holds(state == "activating" && line.contains("store"), (state, line))
    });
    assert_eq!(ant.property("docker", "ActiveState").unwrap(), "inactive");
    ant.wait_for_state("docker", "active", STORE_BOUND).unwrap();
    let (state, line) = ant.state(UNIT).unwrap();
    assert_eq!(state, "active", "{line}");
    assert!(line.contains("store"), "the line does not say what is missing: {line}");

    site.store().start().unwrap();
    eventually("a status line without the store", READY, || {
        let (_, line) = ant.state(UNIT).unwrap();
        holds(!line.contains("store"), line)
    });
    // What needed the store to start was refused, and dockerd does not try again by itself.
    docker(ant, &["start", "anna"]);
    site.reach_each_other();
}

#[test]
fn a_store_that_comes_back_ends_the_wait_for_it() {
    let mut site = Site::installed("storeback", &["ant"], Image::Trixie, &newer());
    site.store().stop().unwrap();
    site[0].power_off().unwrap();
    site[0].boot().unwrap();
    eventually("a wait for the store", READY, || {
        let (state, line) = site[0].state(UNIT).unwrap();
        holds(state == "activating" && line.contains("store"), (state, line))
    });
    site.store().start().unwrap();
    site[0].wait_for_state(UNIT, "active", READY).unwrap();
    site[0].wait_booted().unwrap();
    comes_up_in_order(&site[0]);
}
