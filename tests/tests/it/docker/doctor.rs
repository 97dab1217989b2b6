//! What can be wrong with Docker, as `ovlctl doctor` names it.
use std::process::Command;

use ovl_tests::docker::Options;
use ovl_tests::exec;

use super::rig::{NET, Rig};
use crate::doctor::Report;
use crate::support::{SPREAD, eventually, holds};

#[test]
fn what_is_wrong_with_docker_is_named() {
    let rig = Rig::prepared("doctor", |host| {
        if host.name() == "bee-2" {
            // What older kernels need, and this one does not.
            let script = "mkdir -p /etc/docker; echo '{\"dns\": [\"169.254.53.53\"]}' > /etc/docker/daemon.json";
            host.sandbox().script(script, &[]).unwrap();
        }
        Options::default()
    });
    rig.network(NET, &[]);
    rig.run(0, "one", &[]);
    rig.run(1, "two", &[]);
    rig.reaches(0, "one", "two");
    let report = |at: usize| Report::of(&rig.hosts[at], &[]);
    let healthy = report(0);
    assert_eq!((healthy.with("fail"), healthy.with("warn")), (vec![], vec![]), "{healthy}");
    for check in ["docker.version", "docker.dns", "docker.live-restore", "docker.plugin"] {
        assert!(healthy.with("ok").contains(&check.to_owned()), "{check}: {healthy}");
    }
    let set = report(1);
    assert_eq!(
        (set.with("fail"), set.with("warn")),
        (vec![], vec!["docker.dns".to_owned()]),
        "{set}"
    );
    set.says("docker.dns", &["169.254.53.53", "docker build", "daemon.json"]);

    // Packets of the overlay go on; what Docker forwards does not.
    let flush = "iptables -P FORWARD DROP; iptables -F FORWARD";
    rig.hosts[0].sandbox().script(flush, &[]).unwrap();
    let flushed = report(0);
    assert_eq!(flushed.with("warn"), ["net.forward"], "{flushed}");
    assert_eq!(flushed.with("fail"), [""; 0], "{flushed}");
    rig.reaches(0, "one", "two");
    rig.hosts[0]
        .sandbox()
        .script("iptables -P FORWARD ACCEPT; sysctl -qw net.ipv4.ip_forward=0", &[])
        .unwrap();
    let forwarding = report(0);
    forwarding.says("net.forward", &["net.ipv4.ip_forward = 0"]);
    assert_eq!(forwarding.with("fail"), [""; 0], "{forwarding}");
    rig.hosts[0].sandbox().script("sysctl -qw net.ipv4.ip_forward=1", &[]).unwrap();

    rig.hosts[0].sandbox().script("rm /run/docker/plugins/ovl.sock", &[]).unwrap();
    let unplugged = report(0);
    unplugged.fails_only(&["docker.plugin"], &[]);
    unplugged.says("docker.plugin", &["was removed", "restart ovl-agent"]);
    rig.hosts[0].stop_agent().unwrap();
    rig.hosts[0].start_agent().unwrap_or_else(|error| panic!("{error}"));

    rig.dockers[1].kill().unwrap();
    eventually("Docker's end being told", SPREAD, || {
        let gone = report(1);
        holds(gone.with("fail") == ["docker.version"], gone.to_string())
    });
}

/// A library that is loaded before all others, with which a program finds a kernel without nf_tables: no
/// netlink socket of that protocol (NETLINK_NETFILTER, 12), as where it was not built in.
const WITHOUT_NFTABLES: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
int socket(int domain, int type, int protocol) {
    if (domain == AF_NETLINK && protocol == 12) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    return ((int (*)(int, int, int))dlsym(RTLD_NEXT, "socket"))(domain, type, protocol);
}
"#;

#[test]
fn a_dockerd_without_the_setting_that_an_old_kernel_needs_is_named() {
    let mut rig = Rig::up("dns-setting");
    let host = rig.hosts[0].clone();
    let (source, library) =
        (host.folder().join("run/without.c"), host.folder().join("run/without.so"));
    std::fs::write(&source, WITHOUT_NFTABLES).unwrap();
    exec::run_ok(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source))
        .unwrap();
    host.stop_agent().unwrap();
    host.spawn_agent_under(&["env", "LD_PRELOAD=/run/without.so"]).unwrap();
    eventually("an answer", SPREAD, || host.agent_answer().map(drop));
    rig.network(NET, &[]);
    rig.run(0, "one", &[]);
    let lacking = Report::of(&host, &[]);
    lacking.fails_only(&["docker.dns"], &["kernel.feature (nf_tables)", "agent.problems"]);
    lacking
        .says("docker.dns", &["do not find names of other hosts", "\"dns\\\": [", "169.254.53.53"]);

    // With it, containers find names here as well.
    let script =
        "mkdir -p /etc/docker; echo '{\"dns\": [\"169.254.53.53\"]}' > /etc/docker/daemon.json";
    host.sandbox().script(script, &[]).unwrap();
    rig.dockers[0].stop().unwrap();
    rig.dockers[0].start_again(&rig.hosts[0]).unwrap_or_else(|error| panic!("{}", error.chain()));
    eventually("the setting being seen", SPREAD, || {
        let report = Report::of(&host, &["--only", "docker"]);
        let fine = report.with("ok").contains(&"docker.dns".to_owned());
        holds(fine && report.with("fail").is_empty(), report.to_string())
    });
}
