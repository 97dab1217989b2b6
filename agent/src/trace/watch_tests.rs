//! Probes are told from all else, and counted where they are seen.

use std::net::{Ipv4Addr, Ipv6Addr};

use ovl_packet::MacAddr;
use ovl_packet::build::{self, Addresses, Ends};
use proptest::prelude::*;

use super::*;

const FROM: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const TO: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 3);
const MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 3);

fn wanted() -> Wanted {
    Wanted {
        run: 7,
        from: FROM.into(),
        to: TO.into(),
        source_port: 40_000,
        destination_port: 33_434,
        vxlan_port: 4789,
        vni: 4097,
    }
}

fn ends(source: Ipv4Addr, destination: Ipv4Addr) -> Ends {
    let addresses = Addresses::V4(source, destination);
    Ends { source_mac: MAC, destination_mac: MAC, addresses }
}

fn mark(kind: ProbeKind) -> Marker {
    marker(7, kind, 1)
}

#[test]
fn probes_and_their_answers_are_known() {
    let echo = build::echo_request(&ends(FROM, TO), 1, 1, 84, mark(ProbeKind::Echo));
    let seen = known(&echo, &wanted()).unwrap();
    assert_eq!((seen.way, seen.kind, seen.attempt), (Way::There, ProbeKind::Echo, 1));
    // An echo reply has type 0.
    let mut reply = build::echo_request(&ends(TO, FROM), 1, 1, 84, mark(ProbeKind::Echo));
    reply[34] = 0;
    let seen = known(&reply, &wanted()).unwrap();
    assert_eq!((seen.way, seen.answer.as_deref()), (Way::Back, Some("echo reply")));

    let udp = build::udp(&ends(FROM, TO), 40_000, 33_434, 1450, mark(ProbeKind::Udp));
    assert_eq!(known(&udp, &wanted()).unwrap().kind, ProbeKind::Udp);
    // Port unreachable: type 3, code 3, and what it quotes behind eight bytes.
    let mut quote = build::echo_request(&ends(TO, FROM), 0, 0, 120, marker(8, ProbeKind::Echo, 0));
    quote[34..36].copy_from_slice(&[3, 3]);
    quote.truncate(42);
    quote.extend(&udp[14..106]);
    let seen = known(&quote, &wanted()).unwrap();
    assert_eq!((seen.way, seen.kind), (Way::Back, ProbeKind::Udp));
    assert_eq!(seen.answer.as_deref(), Some("port unreachable"));
    // Something listens there after all.
    let answer = build::udp(&ends(TO, FROM), 33_434, 40_000, 60, marker(8, ProbeKind::Udp, 0));
    let seen = known(&answer, &wanted()).unwrap();
    assert_eq!((seen.way, seen.kind), (Way::Back, ProbeKind::Udp));
}

#[test]
fn who_has_the_address_is_told_by_the_answer() {
    let asked = build::arp_request(MAC, FROM, TO, mark(ProbeKind::Arp));
    assert_eq!(known(&asked, &wanted()).unwrap().way, Way::There);
    let mut answer = build::arp_request(MAC, TO, FROM, marker(8, ProbeKind::Arp, 0));
    answer[21] = 2;
    let seen = known(&answer, &wanted()).unwrap();
    assert_eq!((seen.way, seen.mac.as_deref()), (Way::Back, Some("02:00:00:00:00:03")));
    // The other end asks for us, by itself.
    let asks = build::arp_request(MAC, TO, FROM, marker(8, ProbeKind::Arp, 0));
    assert_eq!(known(&asks, &wanted()), None);
    // Over IPv6.
    let (from, to) = (Ipv6Addr::LOCALHOST, Ipv6Addr::from(3));
    let wanted = Wanted { from: from.into(), to: to.into(), ..wanted() };
    let asked = build::neighbour_solicitation(MAC, from, to, mark(ProbeKind::Arp));
    assert_eq!(known(&asked, &wanted).unwrap().way, Way::There);
    let mut answer = build::neighbour_solicitation(MAC, to, to, marker(8, ProbeKind::Arp, 0));
    answer[54] = 136;
    assert_eq!(known(&answer, &wanted).unwrap().mac.as_deref(), Some("02:00:00:00:00:03"));
}

#[test]
fn packets_of_others_are_nothing() {
    for (ends, marker) in [
        (ends(FROM, TO), marker(8, ProbeKind::Udp, 0)),
        (ends(FROM, TO), Marker { run: 7, sequence: 0x0900 }),
        (ends(FROM, TO), marker(7, ProbeKind::Udp, ATTEMPTS_MAX)),
    ] {
        let frame = build::udp(&ends, 1, 2, 100, marker);
        assert_eq!(known(&frame, &wanted()), None, "{marker:?}");
    }
}

#[test]
fn sightings_are_counted_by_place_and_way() {
    let mut report = Report::default();
    report.watched.insert(Place::Endpoint, "eth0".into());
    let sent = |attempt| Known { kind: ProbeKind::Echo, attempt, ..Known::THERE };
    report.add(Place::Endpoint, sent(0), 100);
    report.add(Place::Endpoint, sent(1), 500);
    report.add(Place::Endpoint, sent(1), 510);
    let back = Known { way: Way::Back, answer: Some("echo reply".into()), ..sent(1) };
    report.add(Place::Endpoint, back.clone(), 620);
    assert_eq!(report.count(Place::Endpoint, Way::There, ProbeKind::Echo), Some(3));
    assert_eq!(report.count(Place::Endpoint, Way::Back, ProbeKind::Echo), Some(1));
    assert_eq!(report.count(Place::Device, Way::There, ProbeKind::Echo), None, "nobody watched");
    assert!(report.is_answered(ProbeKind::Echo) && !report.is_answered(ProbeKind::Udp));
    assert_eq!(report.rtt_us(ProbeKind::Echo), Some(120), "of the try that was answered");
    assert_eq!(report.answers[&ProbeKind::Echo], "echo reply");
    for n in 0..100 {
        let mac = Some(format!("02:00:00:00:00:{n:02x}"));
        report.add(Place::Endpoint, Known { mac, kind: ProbeKind::Arp, ..back.clone() }, 0);
    }
    assert_eq!(report.macs.len(), MACS_MAX);
    // A filter that rejects is no answer, and is not seen on any way.
    let error = Some("unreachable, code 13".to_owned());
    let rejected = Known { answer: error, is_error: true, ..Known::back(ProbeKind::Udp, 0) };
    report.add(Place::Endpoint, rejected, 700);
    assert!(!report.is_answered(ProbeKind::Udp));
    assert_eq!(report.errors[&ProbeKind::Udp], "unreachable, code 13");
}

proptest! {
    #[test]
    fn any_frame_can_be_looked_at(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = known(&frame, &wanted());
    }
}
