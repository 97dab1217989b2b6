//! One host after another, and what is said of each.

use super::super::told::told;
use super::*;

const ANSWERED: Reach = Reach::Answered { rtt_us: 400 };

fn open_path() -> Path {
    Path {
        tcp: ANSWERED,
        udp: ANSWERED,
        vxlan: ANSWERED,
        vxlan_full: ANSWERED,
        mtu: 1450,
        largest: None,
        nonce: "1".into(),
    }
}

fn fine(name: &str) -> Facts {
    Facts {
        name: name.into(),
        address: "10.0.0.2:7946".parse().unwrap(),
        has_left: false,
        clock: Ok(Offset { ahead_us: 40_000, within_us: 500 }),
        way: open_path(),
        loss: lost(0, None),
        way_out: None,
        back: Ok(open_path()),
        arrived: Some(1),
        came: 1,
        their_filter: Vec::new(),
    }
}

/// Of twenty frames, and of twenty echoes.
fn lost(vxlan: u32, underlay: Option<u32>) -> Loss {
    let series = |lost| Series { sent: 20, received: 20 - lost, ..Series::default() };
    Loss { vxlan: series(vxlan), underlay: underlay.map(series) }
}

fn silent_path() -> Path {
    let untried = Reach::Untried { why: "not even the smallest gets through".into() };
    Path {
        tcp: Reach::Silent,
        udp: Reach::Silent,
        vxlan: Reach::Silent,
        vxlan_full: untried,
        ..open_path()
    }
}

/// What is not fine: check, verdict and words.
fn bad(facts: &[Facts], own_filter: &[Finding]) -> Vec<(String, Verdict, String)> {
    let told = told(all(facts, own_filter));
    let bad = told.into_iter().filter(|f| f.verdict != Verdict::Ok);
    bad.map(|f| (f.check, f.verdict, f.summary)).collect()
}

/// The one failure, or warning, with its words.
fn only(facts: Facts) -> (String, String) {
    let mut bad = bad(&[facts], &[]);
    bad.retain(|(_, verdict, _)| *verdict > Verdict::Unchecked);
    assert_eq!(bad.len(), 1, "{bad:?}");
    let (check, _, words) = bad.remove(0);
    (check, words)
}

#[test]
fn of_hosts_that_are_fine_nothing_is_said_but_that() {
    let told = told(all(&[fine("a"), fine("b"), fine("c")], &[]));
    assert_eq!(told.len(), 7);
    assert!(
        told.iter().all(|f| f.verdict == Verdict::Ok && f.subject.as_deref() == Some("3 hosts"))
    );
    assert!(told.iter().any(|f| f.summary == "questions are answered by a, b and c"));
}

#[test]
fn each_fault_of_a_host_is_named_alone() {
    let unanswered = |why, way| Facts {
        clock: Err(why),
        way,
        back: Err("its agent was not asked".into()),
        arrived: None,
        came: 0,
        ..fine("b")
    };
    let no_connection = || NoAnswer::NoConnection("timed out".into());
    let refused = Path { tcp: Reach::Refused, udp: Reach::Refused, ..silent_path() };
    let large_lost = || Path { vxlan_full: Reach::Silent, largest: Some(1354), ..open_path() };
    let small_lost = || Path { vxlan: Reach::Silent, ..open_path() };
    let udp_lost = || Path { udp: Reach::Silent, ..open_path() };
    let faults = [
        (unanswered(NoAnswer::NoAgent, refused), "peer.agent", "no agent runs on b"),
        (unanswered(NoAnswer::Frozen, silent_path()), "peer.agent", "is there and does not answer"),
        (
            unanswered(NoAnswer::Older, silent_path()),
            "peer.agent",
            "of an older version, or was just stopped",
        ),
        (unanswered(no_connection(), silent_path()), "peer.agent", "no sign of life from b"),
        (
            Facts {
                way_out: Some(WayOut::Refused("invalid argument".into())),
                ..unanswered(no_connection(), silent_path())
            },
            "peer.agent",
            "this host has no way to b, 10.0.0.2: invalid argument",
        ),
        (
            Facts { way_out: Some(WayOut::Local), ..unanswered(NoAnswer::NoAgent, silent_path()) },
            "peer.agent",
            "this host has the address of b",
        ),
        (
            Facts {
                way_out: Some(WayOut::By { interface: "v0".into(), is_own: false }),
                ..unanswered(no_connection(), silent_path())
            },
            "peer.agent",
            "leave by v0, which has not this host's address",
        ),
        // It answers, by whatever way: nothing is wrong with that.
        (
            Facts {
                way_out: Some(WayOut::By { interface: "v0".into(), is_own: false }),
                ..unanswered(NoAnswer::NoAgent, silent_path())
            },
            "peer.agent",
            "no agent runs on b",
        ),
        (
            unanswered(no_connection(), Path { udp: ANSWERED, ..silent_path() }),
            "peer.tcp",
            "TCP 7946 of b is closed",
        ),
        (
            unanswered(no_connection(), Path { vxlan: ANSWERED, ..silent_path() }),
            "peer.tcp",
            "TCP and UDP 7946 of b are closed",
        ),
        (
            Facts { way: udp_lost(), ..fine("b") },
            "peer.udp",
            "UDP 7946 from this host does not arrive at b",
        ),
        (
            Facts { back: Ok(udp_lost()), ..fine("b") },
            "peer.udp",
            "UDP 7946 from b does not arrive at this host",
        ),
        (
            Facts { back: Ok(Path { tcp: Reach::Silent, ..open_path() }), ..fine("b") },
            "peer.tcp",
            "TCP 7946 from b does not arrive at this host",
        ),
        (
            Facts {
                way: small_lost(),
                back: Ok(small_lost()),
                arrived: Some(0),
                came: 3,
                ..fine("b")
            },
            "peer.vxlan",
            "VXLAN from this host does not arrive at b",
        ),
        (
            Facts {
                way: small_lost(),
                back: Ok(small_lost()),
                arrived: Some(3),
                came: 0,
                ..fine("b")
            },
            "peer.vxlan",
            "VXLAN from b does not arrive at this host",
        ),
        (
            Facts {
                way: small_lost(),
                back: Ok(small_lost()),
                arrived: Some(0),
                came: 0,
                ..fine("b")
            },
            "peer.vxlan",
            "VXLAN passes neither from this host to b nor back",
        ),
        (
            Facts { way: large_lost(), ..fine("b") },
            "peer.mtu",
            "packets of more than 1354 bytes inside VXLAN do not pass",
        ),
        (
            Facts { back: Ok(large_lost()), ..fine("b") },
            "peer.mtu",
            "packets of more than 1354 bytes inside VXLAN do not pass",
        ),
        (
            Facts { loss: lost(3, Some(0)), ..fine("b") },
            "peer.loss",
            "some VXLAN packets between this host and b are lost, and no others",
        ),
        (
            Facts { loss: lost(20, Some(0)), ..fine("b") },
            "peer.loss",
            "some VXLAN packets between this host and b are lost, and no others",
        ),
        // What is lost three times seems closed.
        (
            Facts { way: udp_lost(), loss: lost(12, Some(9)), ..fine("b") },
            "peer.loss",
            "some packets between this host and b are lost, in VXLAN and beside it",
        ),
        (
            Facts { way: udp_lost(), loss: lost(1, Some(1)), ..fine("b") },
            "peer.udp",
            "does not arrive at b",
        ),
        (
            Facts { clock: Ok(Offset { ahead_us: -10_000_000, within_us: 300 }), ..fine("b") },
            "peer.clock",
            "the clocks of this host and b differ by 10.0 s",
        ),
        (
            Facts { has_left: true, ..unanswered(NoAnswer::NoAgent, silent_path()) },
            "peer.agent",
            "the agent of b was stopped, and its host is up",
        ),
    ];
    for (facts, check, words) in faults {
        let (named, said) = only(facts);
        assert!(named == check && said.contains(words), "{check}, {words}: {named}, {said}");
    }
}

#[test]
fn of_several_clocks_the_one_that_is_off_is_named() {
    let at =
        |name, ahead_us| Facts { clock: Ok(Offset { ahead_us, within_us: 300 }), ..fine(name) };
    let theirs = bad(&[at("a", 0), at("b", 10_000_000), at("c", -1000)], &[]);
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    assert_eq!(theirs[0].2, "the clock of b is 10.0 s ahead of those of most other hosts");
    let ours = bad(&[at("a", 10_000_000), at("b", 10_000_400), at("c", 9_999_000)], &[]);
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert_eq!(
        ours[0].2,
        "this host's clock is 10.0 s behind those of most other hosts (a, b and c)"
    );
}

#[test]
fn what_a_packet_filter_does_is_told_once() {
    // Nobody answers whose answers are dropped here.
    let silent = Facts {
        clock: Err(NoAnswer::NoConnection("timed out".into())),
        way: silent_path(),
        ..fine("b")
    };
    let own = Finding::fail("firewall.gossip", "this host drops TCP 7946");
    let said = bad(std::slice::from_ref(&silent), std::slice::from_ref(&own));
    assert!(said.iter().all(|(_, verdict, _)| *verdict == Verdict::Unchecked), "{said:?}");
    let of_another = bad(&[silent], &[own.about("c")]);
    assert!(of_another.iter().any(|(_, verdict, _)| *verdict == Verdict::Fail), "{of_another:?}");

    let lost = Path { vxlan: Reach::Silent, ..open_path() };
    let facts = Facts { way: lost.clone(), back: Ok(lost), arrived: Some(0), came: 3, ..fine("b") };
    let rule = Finding::fail("firewall.vxlan", "rule 3 drops UDP 4789").mend("iptables -D INPUT 3");
    // Ours is a finding of its own.
    let said = bad(std::slice::from_ref(&facts), std::slice::from_ref(&rule));
    assert!(said.iter().all(|(_, verdict, _)| *verdict == Verdict::Unchecked), "{said:?}");
    // Theirs is evidence, and the fix.
    let told = told(all(&[Facts { their_filter: vec![rule], ..facts }], &[]));
    let vxlan = told.iter().find(|f| f.check == "peer.vxlan").unwrap();
    assert_eq!(vxlan.verdict, Verdict::Fail);
    assert!(vxlan.evidence.iter().any(|line| line == "on b: rule 3 drops UDP 4789"), "{vxlan:?}");
    assert_eq!(vxlan.fix.as_deref(), Some("on b, which advises: iptables -D INPUT 3"));
}
