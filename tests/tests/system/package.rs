//! The package: what is there after an installation, an upgrade, a removal and a purge.
use std::time::Duration;

use ovl_tests::Machine;
use ovl_tests::machine::Image;

use crate::support::{
    NETWORK, READY, SETTINGS, Site, UNIT, configure, copy_package, devices, docker, eventually,
    holds, install, newer, nothing_lost, ok, older, run_container, settings, systemctl,
};

/// A line that a person may have added.
const CHANGED: &str = "# Added by hand.\nlog = \"debug\"\n";
/// In place of a program that a maintainer script or dpkg calls: ends dpkg as a power cut would.
/// Programs of /usr/local come first in the PATH of both.
const KILLER: &str = "#!/bin/sh\nkill -KILL $(pidof dpkg)\nkill -KILL $PPID\n";

#[test]
fn a_package_starts_its_agent_and_goes_without_a_trace_on_debian_12() {
    starts_its_agent_and_goes_without_a_trace("package12", Image::Bookworm);
}

#[test]
fn a_package_starts_its_agent_and_goes_without_a_trace_on_debian_13() {
    starts_its_agent_and_goes_without_a_trace("package13", Image::Trixie);
}

fn starts_its_agent_and_goes_without_a_trace(name: &str, image: Image) {
    let site = Site::up(name, &["ant"], image);
    let ant = &site[0];
    install(ant, &older());
    is_installed_and_runs(ant);
    let text = format!("{CHANGED}{}", settings(&site));
    configure(ant, &text);
    systemctl(ant, &["restart", UNIT]);
    let before = ant.main_pid(UNIT).unwrap();

    install(ant, &newer());
    is_installed_and_runs(ant);
    assert_ne!(ant.main_pid(UNIT).unwrap(), before, "the old agent runs on");
    assert_eq!(ok(ant, &["cat", SETTINGS]), text, "an upgrade changed the settings");

    leave_tracks(ant);
    ok(ant, &["apt-get", "remove", "-y", "ovl"]);
    is_gone(ant);
    assert_eq!(ok(ant, &["cat", SETTINGS]), text, "a removal changed the settings");

    install(ant, &newer());
    is_installed_and_runs(ant);
    assert_eq!(ok(ant, &["cat", SETTINGS]), text, "a reinstallation changed the settings");

    leave_tracks(ant);
    ok(ant, &["apt-get", "purge", "-y", "ovl"]);
    is_gone(ant);
    is_forgotten(ant);
}

/// Has the agent make all that it makes in a kernel, and ends what uses it.
fn leave_tracks(ant: &Machine) {
    ant.import_image().unwrap();
    docker(ant, &["network", "create", "-d", "ovl", "--ipam-driver", "ovl", NETWORK]);
    run_container(ant, "anna", &[]);
    assert!(!devices(ant).is_empty(), "a network without a device");
    docker(ant, &["rm", "-f", "anna"]);
    docker(ant, &["network", "rm", NETWORK]);
}

fn is_installed_and_runs(ant: &Machine) {
    ant.wait_for_state(UNIT, "active", READY).unwrap();
    assert_eq!(systemctl(ant, &["is-enabled", UNIT]).trim(), "enabled");
    let (_, line) = ant.state(UNIT).unwrap();
    assert!(!line.is_empty(), "the unit has no status line");
    let dpkg = ok(ant, &["dpkg", "-s", "ovl"]);
    assert!(dpkg.contains("\nStatus: install ok installed\n"), "{dpkg}");
    let audit = ok(ant, &["dpkg", "--audit"]);
    assert!(audit.is_empty(), "{audit}");
    ok(ant, &["ovlctl", "status"]);
    ok(ant, &["getent", "group", "ovl"]);
    assert_eq!(ok(ant, &["systemctl", "is-system-running"]).trim(), "running");
}

/// No process, device, table, socket, program or unit of ovl.
fn is_gone(ant: &Machine) {
    let runs = ant.run(&["pidof", "ovl-agent"]).unwrap();
    assert_eq!(runs.code, Some(1), "an agent runs: {}", runs.stdout);
    assert!(devices(ant).is_empty(), "{:?}", devices(ant));
    let tables = ok(ant, &["nft", "list", "tables"]);
    assert!(!tables.contains("ovl"), "{tables}");
    let paths =
        ["/run/ovl", "/run/docker/plugins/ovl.sock", "/usr/bin/ovl-agent", "/usr/bin/ovlctl"];
    for path in paths {
        assert!(!ant.path(path).exists(), "{path} is there");
    }
    let unit = ant.path("/usr/lib/systemd/system/ovl-agent.service");
    assert!(!unit.exists(), "the unit is there");
    let states = ["LoadState", "ActiveState"].map(|state| ant.property(UNIT, state).unwrap());
    assert_eq!(states, ["not-found", "inactive"]);
}

/// Nor a file, where no test put one.
fn is_forgotten(ant: &Machine) {
    let find = "find / -xdev -iname '*ovl*' -not -path '/root/*' -not -path '/var/log/*' \
                -not -path '/proc/*' -not -path '/sys/*' -not -path '/var/cache/*'";
    let found = ok(ant, &["sh", "-c", find]);
    assert_eq!(found, "", "files are left");
    let dpkg = ant.run(&["dpkg", "-s", "ovl"]).unwrap();
    assert_eq!(dpkg.code, Some(1), "dpkg knows it: {}", dpkg.stdout);
    let known = ant.run(&["systemctl", "list-units", "--all", "--no-legend", "ovl*"]).unwrap();
    assert_eq!(known.stdout, "", "systemd knows it");
    let state = "grep -rl ovl-agent /var/lib/systemd /etc/systemd || true";
    assert_eq!(ok(ant, &["sh", "-c", state]), "", "systemd's helper knows it");
}

#[test]
fn a_removal_leaves_containers_talking_and_an_installation_takes_them_over() {
    let site = Site::with_containers("removal", Image::Bookworm, &newer());
    let (bee, before, streams) = (&site[1], devices(&site[1]), site.streams());
    let said = ok(bee, &["apt-get", "remove", "-y", "ovl"]);
    assert!(said.contains("bert"), "it is not said what stays: {said}");
    assert_eq!(devices(bee), before, "devices of containers that run have changed");
    install(bee, &newer());
    bee.wait_for_state(UNIT, "active", READY).unwrap();
    assert_eq!(devices(bee), before, "devices were made anew");
    site.reach_each_other();
    nothing_lost("a removal and an installation", streams);
}

#[test]
fn an_installation_that_was_killed_is_mended_by_dpkg() {
    let site = Site::up("mended", &["ant"], Image::Bookworm);
    let ant = &site[0];
    let (old, new) = (copy_package(ant, &older()), copy_package(ant, &newer()));
    killed_by(ant, "systemd-sysusers", &["dpkg", "-i", &old]);
    ok(ant, &["dpkg", "--configure", "-a"]);
    is_installed_and_runs(ant);

    // At the start of the configuration of an upgrade: the old agent runs until it is mended.
    let before = ant.main_pid(UNIT).unwrap();
    killed_by(ant, "systemd-sysusers", &["dpkg", "-i", &new]);
    assert_eq!(ant.main_pid(UNIT).unwrap(), before, "the agent did not survive dpkg");
    ok(ant, &["dpkg", "--configure", "-a"]);
    is_installed_and_runs(ant);
    assert_ne!(ant.main_pid(UNIT).unwrap(), before, "the old agent runs on");
}

#[test]
fn an_upgrade_that_was_killed_while_it_unpacked_is_mended_by_another() {
    let mut site = Site::up("unpacking", &["ant"], Image::Bookworm);
    let new = copy_package(&site[0], &newer());
    install(&site[0], &older());
    is_installed_and_runs(&site[0]);
    // dpkg starts dpkg-deb for the files of the package, after the old one's prerm.
    let half = "#!/bin/sh\ncase $1 in --fsys-tarfile) ;; *) exec /usr/bin/dpkg-deb \"$@\" ;; esac\n\
                /usr/bin/dpkg-deb \"$@\" | head -c 3000000\nkill -KILL $PPID\n";
    site[0].write("/usr/local/bin/dpkg-deb", half).unwrap();
    ok(&site[0], &["chmod", "755", "/usr/local/bin/dpkg-deb"]);
    let outcome = site[0].run(&["dpkg", "-i", &new]).unwrap();
    assert_ne!(outcome.code, Some(0), "dpkg was not killed: {}", outcome.stdout);
    ok(&site[0], &["rm", "/usr/local/bin/dpkg-deb"]);
    site[0].wait_for_state(UNIT, "active", READY).unwrap();

    // A power cut is worse: nothing that ran is left.
    site[0].cut_power().unwrap();
    site[0].boot().unwrap();
    site[0].wait_booted().unwrap();
    site[0].wait_for_state(UNIT, "active", READY).unwrap();
    ok(&site[0], &["dpkg", "--configure", "-a"]);
    ok(&site[0], &["apt-get", "install", "-y", "--reinstall", &new]);
    is_installed_and_runs(&site[0]);
}

/// Runs dpkg, which is killed when `program` is called.
fn killed_by(ant: &Machine, program: &str, argv: &[&str]) {
    let path = format!("/usr/local/bin/{program}");
    ant.write(&path, KILLER).unwrap();
    ok(ant, &["chmod", "755", &path]);
    let outcome = ant.run(argv).unwrap();
    assert_ne!(outcome.code, Some(0), "dpkg was not killed: {}", outcome.stdout);
    ok(ant, &["rm", &path]);
    eventually("the end of dpkg's children", Duration::from_secs(10), || {
        let left = ant.run(&["pidof", "-x", "dpkg", "ovl.postinst"]).unwrap();
        holds(!left.ok(), left.stdout)
    });
    let dpkg = ok(ant, &["dpkg", "-s", "ovl"]);
    assert!(!dpkg.contains("\nStatus: install ok installed\n"), "it was not interrupted: {dpkg}");
}
