//! The machines themselves: what the other tests rely on.
use ovl_tests::machine::{CONTAINER_IMAGE, Image};
use ovl_tests::traffic;

use crate::support::{CONTAINERS, Site, address, newer};

#[test]
fn a_debian_12_boots_runs_containers_and_reboots() {
    boots_runs_containers_and_reboots("bookworm", Image::Bookworm);
}

#[test]
fn a_debian_13_boots_runs_containers_and_reboots() {
    boots_runs_containers_and_reboots("trixie", Image::Trixie);
}

fn boots_runs_containers_and_reboots(name: &str, image: Image) {
    let mut site = Site::up(name, &["ant"], image);
    let ant = &mut site[0];
    assert_eq!(ant.run(&["hostname"]).unwrap().stdout.trim(), "ant");
    let state = ant.run(&["systemctl", "is-system-running"]).unwrap();
    let failed = ant.run(&["systemctl", "--failed"]).unwrap();
    assert_eq!(state.stdout.trim(), "running", "{}", failed.stdout);
    ant.import_image().unwrap();
    let run = ["run", "-d", "--restart", "always", "--name", "sleeper", CONTAINER_IMAGE];
    let argv: Vec<&str> = run.into_iter().chain(["sleep", "1000"]).collect();
    ant.docker(&argv).unwrap().require().unwrap();
    let boot_id = ant.run(&["cat", "/proc/sys/kernel/random/boot_id"]).unwrap().stdout;
    ant.run(&["touch", "/run/gone", "/etc/stays"]).unwrap().require().unwrap();

    ant.reboot().unwrap();
    assert_ne!(ant.run(&["cat", "/proc/sys/kernel/random/boot_id"]).unwrap().stdout, boot_id);
    assert!(!ant.path("/run/gone").exists() && ant.path("/etc/stays").exists());
    assert_eq!(ant.inspect("sleeper", "{{.State.Running}}").unwrap(), "true");
    ant.run(&["ping", "-c", "1", "-W", "2", "192.168.77.2"]).unwrap().require().unwrap();

    ant.cut_power().unwrap();
    ant.boot().unwrap();
    ant.wait_booted().unwrap();
    assert_eq!(ant.inspect("sleeper", "{{.State.Running}}").unwrap(), "true");
}

#[test]
fn packets_and_names_that_are_lost_are_counted() {
    let site = Site::with_containers("counted", Image::Trixie, &newer());
    let streams = site.streams();
    let path = site[0].network_path_of_container(CONTAINERS[0]).unwrap();
    let lookups = traffic::lookups(&path, "nobody", address(&site[0], CONTAINERS[0])).unwrap();
    site.set_cable(1, false);
    let argv = ["exec", CONTAINERS[0], "ping", "-c", "1", "-W", "1", CONTAINERS[1]];
    assert!(!site[0].docker(&argv).unwrap().ok(), "a ping without a cable");
    site.set_cable(1, true);
    site.reach_each_other();
    for stream in streams {
        let packets = stream.finish().unwrap();
        assert!(0 < packets.received && packets.received < packets.sent, "{packets:?}");
    }
    let lookups = lookups.finish().unwrap();
    assert_eq!((lookups.answered, lookups.failures.len()), (0, lookups.asked as usize));
}
