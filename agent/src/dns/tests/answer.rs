//! One message in, one verdict out.
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;

use super::super::answer::{Asker, Unanswered, Verdict, answer};
use super::super::reply::TTL;
use super::super::turns::Turns;
use super::super::{Names, Transport};

const ID: u16 = 0xbeef;

fn subnet6() -> ipnet::Ipv6Net {
    "fd00:0:0:88::/62".parse().unwrap()
}

fn ip6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0x88, 0, 0, 0, last)
}

/// The name of that address under `ip6.arpa`.
fn arpa(last: u16) -> String {
    let octets = ip6(last).octets();
    let nibbles = octets.iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
    nibbles.collect::<String>() + "ip6.arpa."
}

fn names() -> Names {
    let mut names = Names::default();
    names.set_network(1, "blue", "10.88.0.0/20".parse().unwrap(), Some(subnet6()));
    names.set_network(2, "red", "10.99.0.0/16".parse().unwrap(), None);
    let key = |id: usize| ("node".to_owned(), format!("e{id}"));
    let web = ["web".to_owned(), "w.1".to_owned()];
    names.set(1, key(1), Ipv4Addr::new(10, 88, 0, 2), Some(ip6(2)), &web);
    names.set(1, key(2), Ipv4Addr::new(10, 88, 0, 3), None, &["old".to_owned()]);
    for last in 1..=200 {
        let address = Ipv4Addr::new(10, 99, 0, last);
        names.set(2, key(last.into()), address, None, &["many".to_owned()]);
    }
    names
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = ID;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

fn verdict(message: &[u8], scope: &[u64], transport: Transport) -> Verdict {
    answer(&names(), Asker { scope, transport, turns: &Turns::starting_at(0) }, message)
}

fn bytes(message: &Message, scope: &[u64], transport: Transport) -> Vec<u8> {
    match verdict(&message.to_vec().unwrap(), scope, transport) {
        Verdict::Reply(reply) => reply,
        other => panic!("no reply to {message}: {other:?}"),
    }
}

fn reply(message: &Message) -> Message {
    Message::from_vec(&bytes(message, &[1, 2], Transport::Udp)).unwrap()
}

fn is_forwarded(message: &Message, scope: &[u64]) -> bool {
    let verdict = verdict(&message.to_vec().unwrap(), scope, Transport::Udp);
    matches!(verdict, Verdict::Forward(_))
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let address = |record: &hickory_proto::rr::Record| match record.data {
        RData::A(A(address)) => address,
        ref other => panic!("not an address: {other}"),
    };
    message.answers.iter().map(address).collect()
}

/// The zone in the SOA record of an empty answer.
fn denied_by(message: &Message) -> String {
    assert!(message.answers.is_empty(), "{message}");
    let [soa] = &message.authorities[..] else { panic!("one SOA: {message}") };
    let RData::SOA(data) = &soa.data else { panic!("a SOA: {soa}") };
    assert_eq!((soa.ttl, data.minimum), (TTL, TTL));
    soa.name.to_string()
}

#[test]
fn an_address_is_answered_with_authority_and_the_case_of_the_question() {
    let reply = reply(&query("wEb.", RecordType::A));
    let header = &reply.metadata;
    assert_eq!((header.id, header.response_code), (ID, ResponseCode::NoError));
    assert!(header.authoritative && header.recursion_available && header.recursion_desired);
    assert!(!header.truncation);
    assert_eq!(addresses(&reply), [Ipv4Addr::new(10, 88, 0, 2)]);
    assert_eq!(reply.queries[0].name().to_string(), "wEb.");
    assert_eq!((reply.answers[0].name.to_string().as_str(), reply.answers[0].ttl), ("wEb.", TTL));
}

#[test]
fn a_name_is_found_with_its_network_too() {
    for name in ["web.blue.", "w.1.", "w.1.blue."] {
        let a = reply(&query(name, RecordType::A));
        assert_eq!(addresses(&a), [Ipv4Addr::new(10, 88, 0, 2)], "{name}");
        let aaaa = reply(&query(name, RecordType::AAAA));
        assert_eq!(aaaa.answers.len(), 1, "{name}");
        assert_eq!(aaaa.answers[0].data, RData::AAAA(AAAA(ip6(2))), "{name}");
    }
}

#[test]
fn any_means_the_addresses_of_both_families() {
    let any = reply(&query("web.", RecordType::ANY));
    let data: Vec<&RData> = any.answers.iter().map(|record| &record.data).collect();
    assert_eq!(data, [&RData::A(A(Ipv4Addr::new(10, 88, 0, 2))), &RData::AAAA(AAAA(ip6(2)))]);
}

#[test]
fn a_family_that_a_name_has_no_address_of_is_empty_and_no_error() {
    let empty = reply(&query("old.", RecordType::AAAA));
    assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
    assert_eq!(denied_by(&empty), "old.");
    assert_eq!(denied_by(&reply(&query("old.blue.", RecordType::AAAA))), "blue.");
    assert_eq!(addresses(&reply(&query("old.", RecordType::A))).len(), 1);
}

#[test]
fn other_types_of_a_known_name_are_empty_and_no_error() {
    for kind in [
        RecordType::MX,
        RecordType::TXT,
        RecordType::HTTPS,
        RecordType::SRV,
        RecordType::NS,
        RecordType::Unknown(65280),
    ] {
        let single = reply(&query("Web.", kind));
        assert_eq!(single.metadata.response_code, ResponseCode::NoError, "{kind}");
        assert_eq!(denied_by(&single), "Web.");
        assert_eq!(denied_by(&reply(&query("web.Blue.", kind))), "Blue.");
    }
}

#[test]
fn what_a_network_of_ours_does_not_have_does_not_exist() {
    let reply = reply(&query("nobody.blue.", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert!(reply.metadata.authoritative);
    assert_eq!(denied_by(&reply), "blue.");
}

#[test]
fn what_is_not_ours_is_forwarded() {
    for name in ["example.com.", "nobody.", ".", "1.1.1.1.in-addr.arpa.", "web.blue.com."] {
        assert!(is_forwarded(&query(name, RecordType::A), &[1, 2]), "{name}");
    }
    assert!(is_forwarded(&query("web.", RecordType::A), &[2]));
    assert!(is_forwarded(&query("web.blue.", RecordType::A), &[2]));
    assert!(is_forwarded(&query("2.0.88.10.in-addr.arpa.", RecordType::PTR), &[2]));
}

#[test]
fn a_label_with_a_dot_in_it_is_not_two_labels() {
    let name = |labels: &[&[u8]]| Name::from_labels(labels.iter().copied()).unwrap();
    let mut message = query("x.", RecordType::A);
    message.queries[0].set_name(name(&[b"w.1"]));
    assert!(is_forwarded(&message, &[1]));
    message.queries[0].set_name(name(&[b"w.1", b"blue"]));
    assert_eq!(denied_by(&reply(&message)), "blue.");
}

#[test]
fn a_networks_own_name_exists_and_has_a_soa_and_a_name_server() {
    let soa = reply(&query("blue.", RecordType::SOA));
    assert!(matches!(&soa.answers[0].data, RData::SOA(soa) if soa.mname.to_string() == "blue."));
    let ns = reply(&query("blue.", RecordType::NS));
    assert!(matches!(&ns.answers[0].data, RData::NS(ns) if ns.0.to_string() == "blue."));
    let empty = reply(&query("blue.", RecordType::A));
    assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
    assert_eq!(denied_by(&empty), "blue.");
}

#[test]
fn an_address_leads_to_its_name_and_a_free_one_does_not_exist() {
    let ptr = reply(&query("2.0.88.10.IN-addr.arpa.", RecordType::PTR));
    assert!(matches!(&ptr.answers[0].data, RData::PTR(name) if name.0.to_string() == "web.blue."));
    let free = reply(&query("9.0.88.10.in-addr.arpa.", RecordType::PTR));
    assert_eq!(free.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(denied_by(&free), "0.88.10.in-addr.arpa.");
    let other = reply(&query("2.0.88.10.in-addr.arpa.", RecordType::A));
    assert_eq!(other.metadata.response_code, ResponseCode::NoError);
    let apex = reply(&query("99.10.in-addr.arpa.", RecordType::SOA));
    assert_eq!(apex.answers[0].name.to_string(), "99.10.in-addr.arpa.");
    assert!(is_forwarded(&query("10.in-addr.arpa.", RecordType::SOA), &[1, 2]));
}

#[test]
fn an_ipv6_address_leads_to_its_name_and_a_free_one_does_not_exist() {
    assert_eq!(arpa(2).len(), 73);
    let ptr = reply(&query(&arpa(2), RecordType::PTR));
    assert!(matches!(&ptr.answers[0].data, RData::PTR(name) if name.0.to_string() == "web.blue."));
    let upper = reply(&query(&arpa(2).to_uppercase(), RecordType::PTR));
    assert_eq!(upper.answers.len(), 1);
    let free = reply(&query(&arpa(9), RecordType::PTR));
    assert_eq!(free.metadata.response_code, ResponseCode::NXDomain);
    // A subnet that ends within a nibble: /62 is served as /64 of its own addresses.
    let zone = "8.8.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.";
    assert_eq!(denied_by(&free), zone);
    assert_eq!(reply(&query(zone, RecordType::SOA)).answers[0].name.to_string(), zone);
    for foreign in [&arpa(2)[2..], "d.f.ip6.arpa.", "ip6.arpa.", "x.d.f.ip6.arpa."] {
        let ours = foreign.len() > zone.len();
        assert_eq!(is_forwarded(&query(foreign, RecordType::PTR), &[1, 2]), !ours, "{foreign}");
    }
    assert!(is_forwarded(&query(&arpa(2), RecordType::PTR), &[2]));
    assert!(is_forwarded(&query(&format!("0.{}", arpa(2)), RecordType::PTR), &[1]));
}

#[test]
fn addresses_of_a_shared_name_take_turns() {
    let (names, turns) = (names(), Turns::starting_at(0));
    let message = query("many.", RecordType::A).to_vec().unwrap();
    let first: Vec<Ipv4Addr> = (0..201)
        .map(|_| {
            let asker = Asker { scope: &[2], transport: Transport::Tcp, turns: &turns };
            let Verdict::Reply(reply) = answer(&names, asker, &message) else { panic!("no reply") };
            let addresses = addresses(&Message::from_vec(&reply).unwrap());
            assert_eq!(addresses.len(), 200);
            addresses[0]
        })
        .collect();
    let expected: Vec<Ipv4Addr> =
        (1..=200).chain([1]).map(|last| Ipv4Addr::new(10, 99, 0, last)).collect();
    assert_eq!(first, expected);
}

#[test]
fn a_service_of_three_answers_all_of_both_families_in_turns() {
    let mut names = Names::default();
    names.set_network(1, "blue", "10.88.0.0/20".parse().unwrap(), Some(subnet6()));
    for last in 1..=3 {
        let key = ("node".to_owned(), last.to_string());
        let address = Ipv4Addr::new(10, 88, 0, last);
        names.set(1, key, address, Some(ip6(last.into())), &["web".to_owned()]);
    }
    let turns = Turns::starting_at(0);
    for turn in 0..6 {
        for kind in [RecordType::A, RecordType::AAAA] {
            let asker = Asker { scope: &[1], transport: Transport::Udp, turns: &turns };
            let message = query("web.", kind).to_vec().unwrap();
            let Verdict::Reply(reply) = answer(&names, asker, &message) else { panic!("no reply") };
            let reply = Message::from_vec(&reply).unwrap();
            assert!(!reply.metadata.truncation);
            let last = |record: &hickory_proto::rr::Record| match record.data {
                RData::A(A(address)) => usize::from(address.octets()[3]),
                RData::AAAA(AAAA(address)) => usize::from(address.octets()[15]),
                ref other => panic!("not an address: {other}"),
            };
            let lasts: Vec<usize> = reply.answers.iter().map(last).collect();
            let expected: Vec<usize> = (0..3).map(|at| (turn + at) % 3 + 1).collect();
            assert_eq!(lasts, expected, "{kind}");
        }
    }
}

#[test]
fn a_long_answer_is_cut_at_what_the_client_takes_over_udp_and_whole_over_tcp() {
    let plain = query("many.", RecordType::A);
    let cut = bytes(&plain, &[2], Transport::Udp);
    assert!(cut.len() <= 512 && cut.len() > 512 - 16, "{}", cut.len());
    assert!(Message::from_vec(&cut).unwrap().metadata.truncation);

    let wide = with_edns(plain.clone(), 1232);
    let cut = bytes(&wide, &[2], Transport::Udp);
    assert!(cut.len() <= 1232 && cut.len() > 1232 - 16, "{}", cut.len());
    let cut = Message::from_vec(&cut).unwrap();
    assert!(cut.metadata.truncation && cut.edns.is_some());

    let whole = Message::from_vec(&bytes(&plain, &[2], Transport::Tcp)).unwrap();
    assert_eq!((addresses(&whole).len(), whole.metadata.truncation), (200, false));
    let wide = with_edns(plain, 4096);
    let whole = Message::from_vec(&bytes(&wide, &[2], Transport::Udp)).unwrap();
    assert_eq!((addresses(&whole).len(), whole.metadata.truncation), (200, false));
}

#[test]
fn edns_is_answered_with_edns_and_an_unknown_version_is_refused() {
    let edns = reply(&with_edns(query("web.", RecordType::A), 1232)).edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert_eq!((edns.version(), edns.max_payload()), (0, 4096));
    assert!(reply(&query("web.", RecordType::A)).edns.is_none());
    let mut newer = with_edns(query("web.", RecordType::A), 1232);
    newer.edns.as_mut().unwrap().set_version(1);
    let reply = reply(&newer);
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert!(reply.answers.is_empty());
}

#[test]
fn what_we_do_not_do_is_refused() {
    let mut chaos = query("web.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut notify = query("web.", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    let mut two = query("web.", RecordType::A);
    two.add_query(two.queries[0].clone());
    let mut none = query("web.", RecordType::A);
    none.queries.clear();
    for (message, code) in [
        (chaos, ResponseCode::Refused),
        (notify, ResponseCode::NotImp),
        (two, ResponseCode::FormErr),
        (none, ResponseCode::FormErr),
        (query("blue.", RecordType::AXFR), ResponseCode::Refused),
        (query("example.com.", RecordType::IXFR), ResponseCode::Refused),
        (query("example.com.", RecordType::OPT), ResponseCode::FormErr),
    ] {
        let reply = reply(&message);
        assert_eq!(reply.metadata.response_code, code, "{message}");
        assert_eq!(reply.metadata.id, ID);
        assert!(!reply.metadata.authoritative);
    }
}

#[test]
fn junk_is_refused_or_ignored_and_a_response_never_answered() {
    let ignored =
        |message: &[u8]| matches!(verdict(message, &[1], Transport::Udp), Verdict::Ignore);
    let whole = query("web.", RecordType::A).to_vec().unwrap();
    for length in 0..12 {
        assert!(ignored(&whole[..length]));
    }
    for length in 12..whole.len() {
        let Verdict::Reply(reply) = verdict(&whole[..length], &[1], Transport::Udp) else {
            panic!("no reply to the first {length} bytes");
        };
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    }
    let mut response = whole;
    response[2] |= 0x80;
    assert!(ignored(&response));
}

#[test]
fn without_an_answer_from_elsewhere_the_client_hears_so_and_why() {
    let code = |name: &str, reason: Unanswered| {
        let message = with_edns(query(name, RecordType::A), 1232).to_vec().unwrap();
        let Verdict::Forward(query) = verdict(&message, &[1], Transport::Udp) else {
            panic!("{name} is ours");
        };
        let reply = Message::from_vec(&reason.reply(&query)).unwrap();
        assert!(!reply.metadata.authoritative);
        assert_eq!(reply.edns.unwrap().options().as_ref().len(), 1);
        reply.metadata.response_code
    };
    assert_eq!(code("nobody.", Unanswered::NoUpstream), ResponseCode::NXDomain);
    assert_eq!(code("example.com.", Unanswered::NoUpstream), ResponseCode::ServFail);
    assert_eq!(code("nobody.", Unanswered::Silence), ResponseCode::ServFail);
    assert_eq!(code("nobody.", Unanswered::Busy), ResponseCode::ServFail);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..600)) {
        verdict(&message, &[1, 2], Transport::Udp);
    }

    /// Starts from something that makes sense, so that the flips reach deeper.
    #[test]
    fn no_flipped_bytes_make_it_panic_and_every_reply_fits(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
        name in prop::sample::select(vec!["web.", "many.", "nobody.blue.", "2.0.88.10.in-addr.arpa."]),
    ) {
        let mut message = with_edns(query(name, RecordType::A), 1232).to_vec().unwrap();
        message.extend(tail);
        for (at, byte) in flips {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if let Verdict::Reply(reply) = verdict(&message, &[1, 2], Transport::Udp) {
            prop_assert!(reply.len() <= 4096);
            prop_assert_eq!(&reply[..2], &message[..2]);
            prop_assert!(Message::from_vec(&reply).is_ok());
        }
    }
}
