//! `systemctl reload`: what is taken at once, what waits for a restart, what is refused.
use ovl_tests::machine::Image;

use crate::support::{
    READY, SETTINGS, Site, UNIT, configure, ctl, eventually, holds, links, members, newer, ok,
    settings, systemctl,
};

#[test]
fn a_reload_takes_what_it_can_and_names_what_waits_for_a_restart() {
    let site = Site::up("reload", &["ant", "bee"], Image::Bookworm);
    let alone = settings(&site).replace("join", "# join");
    for machine in &*site {
        crate::support::install(machine, &newer());
        configure(machine, &alone);
        systemctl(machine, &["restart", UNIT]);
        machine.wait_for_state(UNIT, "active", READY).unwrap();
        members(machine, 1);
    }
    let ant = &site[0];
    let pid = ant.main_pid(UNIT).unwrap();
    ok(ant, &["ovlctl", "network", "create", "web"]);

    configure(ant, &format!("{}log = \"debug\"\n", settings(&site)));
    systemctl(ant, &["reload", UNIT]);
    members(ant, 2);
    eventually("entries of the level that was asked for", READY, || {
        let log = ant.journal(UNIT).map_err(|error| error.chain())?;
        holds(log.iter().any(|entry| entry.field("PRIORITY") == "7"), log.len())
    });

    configure(ant, &format!("{}vxlan-port = 4790\n", settings(&site)));
    systemctl(ant, &["reload", UNIT]);
    eventually("vxlan-port named as waiting for a restart", READY, || {
        let status = ctl(ant, &["status"]).to_string();
        holds(status.contains("vxlan-port") && status.contains("restart"), status)
    });
    let ports: Vec<_> = links(ant)
        .iter()
        .map(|link| link["linkinfo"]["info_data"]["port"].clone())
        .filter(|port| !port.is_null())
        .collect();
    assert!(ports.iter().all(|port| port == 4789), "a port changed while it ran: {ports:?}");
    assert_eq!(ant.main_pid(UNIT).unwrap(), pid, "a reload started another agent");
}

#[test]
fn a_reload_of_a_broken_file_fails_with_its_mistakes_and_changes_nothing() {
    let site = Site::installed("broken", &["ant"], Image::Trixie, &newer());
    let ant = &site[0];
    let (pid, before) = (ant.main_pid(UNIT).unwrap(), ok(ant, &["ovl-agent", "--print-config"]));
    let status = ctl(ant, &["status"]);
    configure(ant, "advertise = \"eth1\"\nvxlan-port = \"many\"\nlgo = \"debug\"\n");
    let outcome = ant.run(&["systemctl", "reload", UNIT]).unwrap();
    assert!(!outcome.ok(), "a broken file was taken");
    let said: String =
        ant.journal(UNIT).unwrap().iter().map(|entry| entry.message().to_owned() + "\n").collect();
    for word in ["vxlan-port", "many", "lgo"] {
        assert!(said.contains(word), "{word} is not named: {said}");
    }
    let (state, line) = ant.state(UNIT).unwrap();
    assert_eq!((state.as_str(), ant.main_pid(UNIT).unwrap()), ("active", pid), "{line}");
    assert_eq!(ctl(ant, &["status"])["members"], status["members"]);

    configure(ant, &settings(&site));
    assert_eq!(ok(ant, &["ovl-agent", "--print-config"]), before, "{SETTINGS} is not as before");
    systemctl(ant, &["reload", UNIT]);
    assert_eq!(ant.main_pid(UNIT).unwrap(), pid, "a reload started another agent");
}

#[test]
fn a_wrong_file_keeps_the_agent_down_until_it_is_mended() {
    let site = Site::installed("wrong", &["ant"], Image::Bookworm, &newer());
    let ant = &site[0];
    configure(ant, "vxlan-port = \"many\"\n");
    let outcome = ant.run(&["systemctl", "restart", UNIT]).unwrap();
    assert!(!outcome.ok(), "it started");
    ant.wait_for_state(UNIT, "failed", READY).unwrap();
    assert_eq!(ant.property(UNIT, "ExecMainStatus").unwrap(), "64");
    let check = ant.run(&["ovl-agent", "--check-config"]).unwrap();
    assert_eq!(check.code, Some(64), "{}", check.stdout);
    assert!(check.stderr.contains("vxlan-port"), "{}", check.stderr);
    configure(ant, &settings(&site));
    assert!(ok(ant, &["ovl-agent", "--check-config"]).contains("configuration is fine"));
    systemctl(ant, &["start", UNIT]);
    ant.wait_for_state(UNIT, "active", READY).unwrap();
}
