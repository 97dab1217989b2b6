//! Taps at real interfaces, in a network namespace of each test's own; as root.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sched::{CloneFlags, unshare};
use ovl_packet::build::{self, Addresses, Ends};
use ovl_packet::{ADDRESSES_MAX, Direction, Filter, Frame, MacAddr, Marker, RawTap, Tap, TapError};

/// The longest wait for a frame.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a test in a network namespace with two interfaces, `end-a` and `end-b`, that are each other's end of
/// a cable. The namespace ends with the test's thread.
fn with_a_cable<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make network namespaces");
    ip("link add end-a type veth peer name end-b");
    for end in ["end-a", "end-b"] {
        // The kernel itself sends nothing.
        ip(&format!("link set {end} up arp off addrgenmode none mtu 1500"));
    }
    // Until the kernel has noticed that the cable is plugged in, it drops what is sent, without a word.
    for end in ["end-a", "end-b"] {
        ip_until(end, "state UP");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(test());
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(status.success(), "ip {arguments}");
}

/// Waits until `ip link show` of an interface has the word.
fn ip_until(interface: &str, word: &str) {
    let step = Duration::from_millis(5);
    for _ in 0..DEADLINE.as_millis() / step.as_millis() {
        let shown = Command::new("ip").args(["link", "show", interface]).output().expect("ip runs");
        if String::from_utf8_lossy(&shown.stdout).contains(word) {
            return;
        }
        std::thread::sleep(step);
    }
    panic!("{interface} has no {word} after {DEADLINE:?}");
}

async fn next(tap: &Tap) -> Frame {
    tokio::time::timeout(DEADLINE, tap.recv())
        .await
        .expect("a frame arrives")
        .expect("the tap works")
}

fn probe(sequence: u16, size: usize) -> Vec<u8> {
    let ends = Ends {
        source_mac: MacAddr(2, 0, 0, 0, 0, 1),
        destination_mac: MacAddr::broadcast(),
        addresses: Addresses::V4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
    };
    build::udp(&ends, 1, 2, size, Marker { run: 1, sequence })
}

fn arp() -> Vec<u8> {
    let (mac, address) = (MacAddr(2, 0, 0, 0, 0, 1), Ipv4Addr::LOCALHOST);
    build::arp_request(mac, address, address, Marker { run: 1, sequence: 0 })
}

#[test]
fn a_frame_is_seen_where_it_leaves_and_where_it_arrives() {
    with_a_cable(|| async {
        let sender = Tap::open("end-a", &Filter::everything(), 2048).unwrap();
        let beside = Tap::open("end-a", &Filter::everything(), 2048).unwrap();
        let receiver = Tap::open("end-b", &Filter::everything(), 2048).unwrap();
        let frame = probe(0, 100);
        #[expect(
            clippy::disallowed_methods,
            reason = "a test that holds the kernel's clock against it"
        )]
        let before = SystemTime::now();
        sender.send(&frame).await.unwrap();
        let (left, arrived) = (next(&beside).await, next(&receiver).await);
        assert_eq!((left.direction, arrived.direction), (Direction::Out, Direction::In));
        for seen in [left, arrived] {
            assert_eq!(seen.bytes, frame);
            assert_eq!(seen.length, frame.len());
            // The clock may be set while tests run, but not by a minute.
            assert!(seen.at + Duration::from_secs(60) > before);
        }
        // What a tap sends itself it does not see: the next frame is another's.
        beside.send(&probe(1, 100)).await.unwrap();
        assert_eq!(next(&sender).await.bytes, probe(1, 100));
        assert_eq!(sender.dropped(), 0);
    });
}

#[test]
fn a_long_frame_is_cut_and_its_length_is_known() {
    with_a_cable(|| async {
        let sender = Tap::open("end-a", &Filter::everything(), 64).unwrap();
        let receiver = Tap::open("end-b", &Filter::everything(), 64).unwrap();
        let frame = probe(0, 1500);
        sender.send(&frame).await.unwrap();
        let seen = next(&receiver).await;
        assert_eq!(seen.bytes, frame[..64]);
        assert_eq!(seen.length, 1514);
        assert_eq!(Marker::find(&seen.bytes), Some(Marker { run: 1, sequence: 0 }));
    });
}

#[test]
fn the_kernel_filters() {
    with_a_cable(|| async {
        let sender = Tap::open("end-a", &Filter::everything(), 2048).unwrap();
        let receiver = Tap::open("end-b", &Filter::ethertype(0x0806), 2048).unwrap();
        sender.send(&probe(0, 100)).await.unwrap();
        sender.send(&arp()).await.unwrap();
        assert_eq!(next(&receiver).await.bytes, arp());
    });
}

#[test]
fn the_kernel_takes_the_largest_filter() {
    with_a_cable(|| async {
        let bound = std::fs::read_to_string("/proc/sys/net/core/optmem_max").unwrap();
        let addresses: Vec<IpAddr> = (0..ADDRESSES_MAX)
            .map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::try_from(n).unwrap()]))
            .collect();
        let filter = Filter::vxlan(4789, Some(4096), &addresses).unwrap();
        let tap = RawTap::open("end-a", &filter, 2048);
        assert!(tap.is_ok(), "{tap:?} with {bound}");
    });
}

#[test]
fn what_does_not_fit_is_counted() {
    const SENT: u64 = 2000;
    with_a_cable(|| async {
        let sender = Tap::open("end-a", &Filter::everything(), 64).unwrap();
        let raw = RawTap::open("end-b", &Filter::everything(), 64).unwrap();
        raw.set_buffer(4096).unwrap();
        let receiver = raw.register().unwrap();
        for sequence in 0..SENT {
            sender.send(&probe(u16::try_from(sequence).unwrap(), 1000)).await.unwrap();
        }
        let mut seen = 0;
        // One that comes when there is room again tells of those that were dropped before it.
        let last = Marker { run: 1, sequence: u16::MAX };
        loop {
            sender.send(&probe(u16::MAX, 1000)).await.unwrap();
            let frame = next(&receiver).await;
            if Marker::find(&frame.bytes) == Some(last) {
                break;
            }
            seen += 1;
        }
        assert!(seen < SENT);
        assert!(receiver.dropped() >= SENT - seen, "{seen} seen, {} dropped", receiver.dropped());
    });
}

#[test]
fn what_cannot_be_tapped_is_named() {
    with_a_cable(|| async {
        let missing = RawTap::open("no-such-one", &Filter::everything(), 64).unwrap_err();
        assert!(matches!(missing, TapError::NoInterface(_)), "{missing:?}");
        assert!(missing.to_string().contains("no-such-one"));
    });
}

#[test]
fn an_interface_that_goes_is_told_to_who_waits_for_its_frames() {
    with_a_cable(|| async {
        let tap = Tap::open("end-a", &Filter::everything(), 64).unwrap();
        let (waiting, ()) = tokio::join!(
            tokio::time::timeout(DEADLINE, tap.recv()),
            // Once it is waited for.
            async {
                tokio::task::yield_now().await;
                ip("link del end-a");
            }
        );
        let error = waiting.expect("it is told").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENETDOWN), "{error}");
    });
}
