//! Judgements over made facts, and over facts of real kernels in namespaces of their own.
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::mpsc;

use nix::sched::{CloneFlags, unshare};

use super::*;

fn fine() -> Facts {
    let gossip = |protocol| Attempt {
        protocol,
        address: "10.0.0.1:7946".parse().unwrap(),
        outcome: Outcome::Free,
    };
    Facts {
        kernel_release: "6.1.0-18-amd64".into(),
        capabilities: Some(u64::MAX),
        vxlan: Attempt {
            protocol: Protocol::Udp,
            address: "0.0.0.0:4789".parse().unwrap(),
            outcome: Outcome::Free,
        },
        devices: Ok(Vec::new()),
        vni_range: "1000-2000".parse().unwrap(),
        gossip: vec![gossip(Protocol::Udp), gossip(Protocol::Tcp)],
    }
}

fn taken(devices: Vec<VxlanDevice>) -> Facts {
    let mut facts = fine();
    facts.vxlan.outcome = Outcome::Taken(Vec::new());
    facts.devices = Ok(devices);
    facts
}

fn device(name: &str, vni: u32, port: u16) -> VxlanDevice {
    VxlanDevice { name: name.into(), vni, port, up: true, moved: false, alone: None }
}

fn nc() -> Process {
    Process { pid: 42, command: "nc".into() }
}

#[test]
fn a_host_that_is_fine_has_no_findings() {
    assert_eq!(run(&fine()), Report::default());
}

#[test]
fn all_failures_are_told_at_once() {
    let mut facts = fine();
    facts.kernel_release = "2.6.32".into();
    facts.capabilities = Some(1 << 13);
    facts.vxlan.outcome = Outcome::Taken(vec![nc()]);
    facts.gossip[0].outcome = Outcome::Taken(vec![nc()]);
    facts.gossip[1].outcome = Outcome::NoSuchAddress;
    let report = run(&facts);
    let text: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "kernel: this is Linux 2.6.32; run Linux 3.16 or later",
            "privileges: this process lacks CAP_NET_ADMIN (to make network devices) and \
             CAP_SYS_ADMIN (to enter the namespaces of containers); run the agent as root, or \
             grant these capabilities",
            "vxlan port: UDP port 4789 is taken by `nc` (process 42); stop that, or set another \
             --vxlan-port on every host",
            "gossip port (UDP): 10.0.0.1:7946 is taken by `nc` (process 42); stop that, or set \
             another --gossip-port",
            "gossip port (TCP): 10.0.0.1 is not an address of this host; set --advertise to one \
             of its addresses or interfaces",
        ]
    );
    assert!(report.warnings.is_empty());
}

#[test]
fn a_port_held_by_our_own_devices_is_fine() {
    assert_eq!(run(&taken(vec![device("ovl-1500", 1500, 4789)])), Report::default());
}

#[test]
fn a_foreign_device_that_shares_the_port_only_matters_when_its_vni_is_in_our_range() {
    assert_eq!(run(&taken(vec![device("flannel.1", 1, 4789)])), Report::default());
    let report = run(&taken(vec![device("vx0", 1500, 4789)]));
    assert!(report.failures.is_empty(), "{report:?}");
    assert!(report.warnings[0].seen.contains("`vx0` uses VNI 1500"), "{report:?}");
}

#[test]
fn a_foreign_device_that_does_not_share_the_port_fails_by_name() {
    let alone = VxlanDevice { alone: Some("external"), ..device("cilium_vxlan", 0, 4789) };
    let report = run(&taken(vec![device("ovl-1", 1, 4789), alone.clone()]));
    assert!(report.failures[0].seen.contains("`cilium_vxlan`"), "{report:?}");
    assert!(report.failures[0].todo.contains("ip link del cilium_vxlan"), "{report:?}");
    for harmless in
        [VxlanDevice { up: false, ..alone.clone() }, VxlanDevice { port: 8472, ..alone }]
    {
        assert_eq!(run(&taken(vec![device("ovl-1", 1, 4789), harmless])), Report::default());
    }
}

#[test]
fn a_device_that_is_only_named_a_bit_like_ours_is_foreign() {
    for name in ["ovl-", "ovl-x", "ovl-1x", "ovl1"] {
        let alone = VxlanDevice { alone: Some("gbp"), ..device(name, 1, 4789) };
        assert_eq!(run(&taken(vec![alone])).failures.len(), 1, "{name}");
    }
}

#[test]
fn what_cannot_be_seen_only_warns_for_vxlan() {
    let unseen = taken(Vec::new());
    let unlisted = Facts { devices: Err("no netlink".into()), ..unseen.clone() };
    for facts in [unseen, unlisted] {
        let report = run(&facts);
        assert_eq!((report.failures.len(), report.warnings.len()), (0, 1), "{report:?}");
    }
}

#[test]
fn every_other_outcome_of_a_port_fails() {
    for outcome in [Outcome::Denied, Outcome::NoSuchAddress, Outcome::Other("odd".into())] {
        let mut facts = fine();
        facts.vxlan.outcome = outcome.clone();
        facts.gossip[0].outcome = outcome.clone();
        assert_eq!(run(&facts).failures.len(), 2, "{outcome:?}");
    }
    let mut facts = fine();
    facts.gossip[1].outcome = Outcome::Taken(Vec::new());
    assert_eq!(run(&facts).failures.len(), 1);
}

/// Runs `test` on a thread in a network namespace of its own, with `lo` up.
fn in_own_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

fn look(advertise: Ipv4Addr) -> Report {
    let wanted = Wanted {
        advertise,
        gossip_port: 7946,
        vxlan_port: 4789,
        vni_range: "1000-2000".parse().unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    run(&runtime.block_on(Facts::gather(wanted)))
}

#[test]
fn a_fresh_namespace_is_fine_and_so_is_a_second_look() {
    in_own_namespace(|| {
        assert_eq!(look(Ipv4Addr::LOCALHOST), Report::default());
        assert_eq!(look(Ipv4Addr::LOCALHOST), Report::default());
    });
}

#[test]
fn our_own_device_is_recognised_in_a_real_kernel() {
    in_own_namespace(|| {
        ip("link add ovl-1001 type vxlan id 1001 dstport 4789 local 127.0.0.1 nolearning proxy");
        ip("link set ovl-1001 up");
        assert_eq!(look(Ipv4Addr::LOCALHOST), Report::default());
    });
}

#[test]
fn foreign_devices_are_recognised_in_a_real_kernel() {
    for (options, alone) in [
        ("id 1500", None),
        ("id 7 gbp", Some("`gbp`")),
        ("id 7 udp6zerocsumrx", Some("`udp6zerocsumrx`")),
        ("external", Some("`external`")),
        ("external gpe", Some("`external`")),
    ] {
        in_own_namespace(move || {
            ip(&format!("link add vx0 type vxlan {options} dstport 4789"));
            ip("link set vx0 up");
            let report = look(Ipv4Addr::LOCALHOST);
            let failures = report.failures.iter().map(ToString::to_string);
            let told: Vec<String> =
                failures.chain(report.warnings.iter().map(ToString::to_string)).collect();
            assert_eq!(told.len(), 1, "{options}: {report:?}");
            assert!(told[0].contains(alone.unwrap_or("VNI 1500")), "{options}: {report:?}");
            assert_eq!(report.failures.is_empty(), alone.is_none(), "{options}: {report:?}");
            // The kernel is of the same opinion.
            ip("link add ovl-9 type vxlan id 9 dstport 4789");
            let up = Command::new("ip").args(["link", "set", "ovl-9", "up"]).output().unwrap();
            assert_eq!(up.status.success(), alone.is_none(), "{options}: {up:?}");
        });
    }
}

#[test]
fn a_process_on_a_port_is_named_in_a_real_kernel() {
    in_own_namespace(|| {
        let _vxlan = UdpSocket::bind("127.0.0.1:4789").unwrap();
        let _gossip = TcpListener::bind("127.0.0.1:7946").unwrap();
        let report = look(Ipv4Addr::LOCALHOST);
        let me = format!("(process {})", std::process::id());
        let checks: Vec<&str> = report.failures.iter().map(|failure| failure.check).collect();
        assert_eq!(checks, ["vxlan port", "gossip port (TCP)"], "{report:?}");
        assert!(report.failures.iter().all(|failure| failure.seen.contains(&me)), "{report:?}");
    });
}

#[test]
fn an_address_of_no_interface_is_told_for_both_protocols() {
    in_own_namespace(|| {
        let report = look(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(report.failures.len(), 2, "{report:?}");
        assert!(report.failures[0].seen.contains("192.0.2.1 is not an address of this host"));
    });
}

#[test]
fn a_tunnel_whose_device_is_elsewhere_only_warns() {
    let (tell_thread, thread_id) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let elsewhere = std::thread::spawn(move || {
        in_own_namespace(move || {
            tell_thread.send(nix::unistd::gettid()).unwrap();
            ended.recv().unwrap_err();
        });
    });
    let thread_id = thread_id.recv().unwrap();
    in_own_namespace(move || {
        // The socket belongs to the namespace of the device's birth, and comes up there.
        ip("link add vx0 type vxlan id 5 dstport 4789");
        ip(&format!("link set vx0 netns {thread_id}"));
        let enter = format!("--net=/proc/{thread_id}/ns/net");
        let up = Command::new("nsenter").args([&enter, "ip", "link", "set", "vx0", "up"]).status();
        assert!(up.unwrap().success());
        let report = look(Ipv4Addr::LOCALHOST);
        assert!(report.failures.is_empty(), "{report:?}");
        assert_eq!(report.warnings.len(), 1, "{report:?}");
    });
    drop(end);
    elsewhere.join().unwrap();
}
