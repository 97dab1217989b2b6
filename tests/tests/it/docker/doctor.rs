//! What can be wrong with Docker, as `ovlctl doctor` names it.
use ovl_tests::docker::Options;

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
