//! What a lab's Docker leaves on the machine.
use ovl_tests::docker::{Dockerd, IMAGE};

use crate::support::TestLab;

#[test]
fn a_dockerd_of_a_lab_leaves_nothing_behind() {
    let lab = TestLab::bare("dockerd", &["bee-1"]);
    let docker = Dockerd::start(&lab.host("bee-1").unwrap()).unwrap_or_else(|e| panic!("{e}"));
    let run = docker.docker(&["run", "-d", IMAGE, "sleep", "3600"]).unwrap();
    run.require().unwrap_or_else(|e| panic!("{e}"));
    let name = lab.name().to_string();
    assert!(!control_groups(&name).is_empty(), "the container has control groups");
    drop(lab);
    assert_eq!(control_groups(&name), [""; 0]);
    assert!(!docker.process().is_alive());
}

/// Control groups of the lab's containers.
fn control_groups(lab: &str) -> Vec<String> {
    let argv = ["/sys/fs/cgroup", "-type", "d", "-name", &format!("*{lab}*")];
    let found = std::process::Command::new("find").args(argv).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}
