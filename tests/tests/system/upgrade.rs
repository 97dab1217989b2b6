//! From one version to another: nobody notices, and the way back is refused where it must be.
use std::time::Duration;

use ovl_tests::Machine;
use ovl_tests::machine::Image;
use serde_json::Value;

use crate::support::{
    READY, Site, UNIT, ctl, devices, eventually, every_name_found, holds, install, members, newer,
    nothing_lost, ok, older, systemctl,
};

#[test]
fn an_upgrade_of_one_host_after_the_other_loses_no_packet_and_no_name_on_debian_12() {
    upgrade_loses_nothing("upgrade12", Image::Bookworm);
}

#[test]
fn an_upgrade_of_one_host_after_the_other_loses_no_packet_and_no_name_on_debian_13() {
    upgrade_loses_nothing("upgrade13", Image::Trixie);
}

fn upgrade_loses_nothing(name: &str, image: Image) {
    let site = Site::with_containers(name, image, &older());
    let before: Vec<_> = site.iter().map(devices).collect();
    let versions: Vec<_> = site.iter().map(version).collect();
    let (streams, lookups) = (site.streams(), site.lookups());
    for (machine, old) in site.iter().zip(&versions) {
        install(machine, &newer());
        machine.wait_for_state(UNIT, "active", READY).unwrap();
        assert_ne!(&version(machine), old, "the old version is installed");
        // Old and new side by side, after the first.
        members(machine, 2);
    }
    let what = format!("an upgrade on {}", image.suite());
    nothing_lost(&what, streams);
    every_name_found(&what, lookups);
    assert_eq!(site.iter().map(devices).collect::<Vec<_>>(), before, "devices were made anew");
    for machine in &*site {
        let running = format!("/proc/{}/exe", machine.main_pid(UNIT).unwrap());
        let exe = ok(machine, &["readlink", &running]);
        assert_eq!(exe.trim(), "/usr/bin/ovl-agent", "the old program runs on");
    }
}

fn version(machine: &Machine) -> String {
    ok(machine, &["ovl-agent", "--version"])
}

#[test]
fn state_of_a_newer_version_is_refused_with_a_sentence_and_not_changed() {
    let site = Site::installed("newer", &["ant"], Image::Bookworm, &newer());
    let ant = &site[0];
    let path = "/var/lib/ovl/state.json";
    eventually("a state file", READY, || holds(ant.path(path).exists(), path));
    systemctl(ant, &["stop", UNIT]);
    let mut state: Value = serde_json::from_str(&ok(ant, &["cat", path])).unwrap();
    let format = state["format"].as_u64().unwrap();
    state["format"] = 99.into();
    let future = state.to_string();
    ant.write(path, &future).unwrap();
    let refused = ant.run(&["systemctl", "start", UNIT]).unwrap();
    assert!(!refused.ok(), "it was not refused");
    let words = ["newer ovl-agent", "format 99", &format!("up to {format}"), path];
    says(ant, "the refusal of newer state", &words);
    assert_eq!(ok(ant, &["cat", path]), future, "it was changed");

    systemctl(ant, &["stop", UNIT]);
    state["format"] = format.into();
    ant.write(path, &state.to_string()).unwrap();
    systemctl(ant, &["start", UNIT]);
    ant.wait_for_state(UNIT, "active", READY).unwrap();
}

#[test]
fn a_store_of_a_newer_version_is_refused_with_a_sentence_and_not_changed() {
    let site = Site::installed("newstore", &["ant"], Image::Bookworm, &newer());
    let ant = &site[0];
    ok(ant, &["ovlctl", "network", "create", "web"]);
    let key = network_document(&site);
    let document: Value = serde_json::from_str(&site.store().get(&key).unwrap()).unwrap();
    let format = document["format"].as_u64().unwrap();
    let mut future = document.clone();
    future["format"] = 99.into();
    site.store().put(&key, &future.to_string()).unwrap();
    eventually("a problem that names the store's format", READY, || {
        let problems = ctl(ant, &["status"])["problems"].to_string();
        holds(
            ["format 99", &format!("knows {format}"), "upgrade"]
                .iter()
                .all(|word| problems.contains(word)),
            problems,
        )
    });
    let outcome = ant.run(&["ovlctl", "network", "create", "late"]).unwrap();
    assert!(!outcome.ok(), "a newer store was written to");
    let said = &outcome.stderr;
    for word in ["format 99", &format!("knows {format}"), "upgrade"] {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert_eq!(said.trim().lines().count(), 1, "more than a sentence: {said}");
    assert_eq!(site.store().get(&key).unwrap(), future.to_string(), "it was changed");

    site.store().put(&key, &document.to_string()).unwrap();
    eventually("no problem any more", READY, || {
        let problems = ctl(ant, &["status"])["problems"].clone();
        holds(problems.as_array().is_some_and(Vec::is_empty), problems)
    });
}

/// The key of the document of all networks.
fn network_document(site: &Site) -> String {
    let keys: Vec<String> = serde_json::from_str(&site.store().keys("ovl/v1/").unwrap()).unwrap();
    let found = keys.iter().find(|key| key.ends_with("networks"));
    found.unwrap_or_else(|| panic!("no document of networks among {keys:?}")).clone()
}

/// Waits until the agent's journal has a line with all these words.
fn says(machine: &Machine, what: &str, words: &[&str]) {
    eventually(what, Duration::from_secs(10), || {
        let log = machine.journal(UNIT).map_err(|error| error.chain())?;
        let texts: Vec<String> = log
            .iter()
            .map(|entry| entry.names().map(|name| entry.field(name)).collect::<Vec<_>>().join(" "))
            .collect();
        let found = texts.iter().any(|text| words.iter().all(|word| text.contains(word)));
        holds(found, texts.last())
    });
}
