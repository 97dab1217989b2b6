//! Two real dockerd, each in a host of a lab, on one overlay network.
use std::time::Duration;

use ovl_tests::docker::{Dockerd, IMAGE};
use ovl_tests::{Host, StoreKind};

use crate::support::{TestLab, ctl, devices, endpoint_names, eventually, holds};

const NETWORK: &str = "rethinkdb";
const SUBNET: &str = "10.44.0.0/16";
const LEADER: &str = "rethinkleader";
/// How long a name may take after `docker run` returned: it comes from Docker's events.
const NAMED: Duration = Duration::from_secs(10);

#[test]
fn containers_of_two_dockers_reach_each_other_by_name() {
    let lab = TestLab::up("docker", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    let dockers: Vec<_> =
        hosts.iter().map(|host| Dockerd::start(host).unwrap_or_else(|e| panic!("{e}"))).collect();
    let before: Vec<_> = hosts.iter().map(devices).collect();
    for docker in &dockers {
        create_network(docker);
    }
    run(&dockers[0], LEADER, &["--network-alias", "primary"]);
    run(&dockers[1], "follower", &[]);
    reaches(&dockers[1], "follower", LEADER);
    reaches(&dockers[1], "follower", "primary");
    reaches(&dockers[1], "follower", &format!("{LEADER}.{NETWORK}"));
    reaches(&dockers[0], LEADER, "follower");
    hosts_know_both(&hosts);

    a_restarted_agent_keeps_containers(&hosts[0], &dockers);
    a_renamed_container_is_found(&dockers);
    removing_leaves_nothing(&hosts, &dockers, &before);
    for docker in &dockers {
        docker.stop().unwrap();
    }
}

#[test]
fn a_dockerd_of_a_lab_leaves_nothing_behind() {
    let lab = TestLab::bare("dockerd", &["bee-1"]);
    let docker = Dockerd::start(&lab.host("bee-1").unwrap()).unwrap_or_else(|e| panic!("{e}"));
    ok(&docker, &["run", "-d", "--name", "one", IMAGE, "sleep", "3600"]);
    assert_eq!(
        ok(&docker, &["exec", "one", "cat", "/etc/resolv.conf"]),
        "nameserver 169.254.53.53"
    );
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

fn create_network(docker: &Dockerd) {
    ok(
        docker,
        &[
            "network",
            "create",
            "-d",
            "ovl",
            "--ipam-driver",
            "ovl",
            "-o",
            &format!("ovl.network={NETWORK}"),
            "--ipam-opt",
            &format!("ovl.network={NETWORK}"),
            "--subnet",
            SUBNET,
            NETWORK,
        ],
    );
}

fn run(docker: &Dockerd, name: &str, more: &[&str]) {
    let mut args = vec!["run", "-d", "--net", NETWORK, "--name", name];
    args.extend(more);
    args.extend([IMAGE, "sleep", "3600"]);
    ok(docker, &args);
}

fn reaches(docker: &Dockerd, from: &str, name: &str) {
    eventually(&format!("{from} reaching {name}"), NAMED, || {
        let args = ["exec", from, "ping", "-c", "1", "-W", "1", name];
        let outcome = docker.docker(&args).map_err(|error| error.chain())?;
        holds(outcome.ok(), format!("{} {}", outcome.stdout, outcome.stderr))
    });
}

fn hosts_know_both(hosts: &[Host]) {
    for host in hosts {
        eventually(&format!("{} listing both containers", host.name()), NAMED, || {
            let names = endpoint_names(host);
            holds(names == ["follower", LEADER], names)
        });
    }
}

fn a_restarted_agent_keeps_containers(host: &Host, dockers: &[Dockerd]) {
    host.kill_agent().unwrap();
    host.start_agent().unwrap_or_else(|error| panic!("{error}"));
    reaches(&dockers[1], "follower", LEADER);
    reaches(&dockers[0], LEADER, "follower");
}

fn a_renamed_container_is_found(dockers: &[Dockerd]) {
    ok(&dockers[1], &["rename", "follower", "second"]);
    reaches(&dockers[0], LEADER, "second");
}

fn removing_leaves_nothing(hosts: &[Host], dockers: &[Dockerd], before: &[Vec<String>]) {
    ok(&dockers[0], &["rm", "-f", LEADER]);
    ok(&dockers[1], &["rm", "-f", "second"]);
    for docker in dockers {
        ok(docker, &["network", "rm", NETWORK]);
    }
    for (host, before) in hosts.iter().zip(before) {
        eventually(&format!("{} without endpoints", host.name()), NAMED, || {
            let names = endpoint_names(host);
            holds(names.is_empty(), names)
        });
        eventually(&format!("{} without devices", host.name()), NAMED, || {
            // docker_gwbridge is Docker's own, made with the first container and kept.
            let mut left = devices(host);
            left.retain(|device| !before.contains(device) && device != "docker_gwbridge");
            holds(left.is_empty(), left)
        });
        let status = ctl(host, &["status"]);
        assert_eq!(status["dataplane"]["errors"], serde_json::json!([]), "{status}");
    }
}

fn ok(docker: &Dockerd, args: &[&str]) -> String {
    let outcome = docker.docker(args).unwrap();
    let outcome = outcome.require().unwrap_or_else(|error| panic!("{error}"));
    outcome.stdout.trim().to_owned()
}
