//! Foreign names: real sandboxes, real resolvers on the host's loopback.
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, NULL, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::super::reply::soa;
use super::super::{Limits, Names, RESOLVER_ADDRESS, Resolver, SandboxDns, Transport};
use super::netns::{SandboxNetns, eventually, on_a_host};
use super::upstream::{Upstream, answered, lines, one, reply, resolv_conf};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// One sandbox on network `blue`, and the resolver behind it.
struct Rig {
    netns: SandboxNetns,
    resolver: Resolver,
    _dns: SandboxDns,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new(servers: &[Ipv4Addr]) -> Rig {
        Rig::with_limits(servers, Limits::default()).await
    }

    async fn with_limits(servers: &[Ipv4Addr], limits: Limits) -> Rig {
        let mut names = Names::default();
        names.set_network(1, "blue", "10.88.0.0/16".parse().unwrap(), None);
        let key = ("node".to_owned(), "e".to_owned());
        names.set(1, key, Ipv4Addr::new(10, 88, 0, 2), None, &["web".to_owned()]);
        let (dir, path) = resolv_conf(servers);
        let resolver = Resolver::with_limits(Arc::new(RwLock::new(names)), path, limits);
        let netns = SandboxNetns::new();
        let path = netns.path();
        let dns =
            SandboxDns::open(&resolver, &path, RESOLVER_ADDRESS, vec![1], None).await.unwrap();
        Rig { netns, resolver, _dns: dns, _dir: dir }
    }

    async fn status(&self, words: &str) -> String {
        let reply = self.netns.dig(words).await;
        let (_, rest) = reply.split_once("status: ").unwrap_or_else(|| panic!("{reply}"));
        rest.split(',').next().unwrap().to_owned()
    }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn receive(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 4096];
    let received = timeout(Duration::from_secs(8), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.expect("a reply in time").unwrap()]).unwrap()
}

fn address(query: &[u8], _: Transport) -> Vec<Vec<u8>> {
    one(&answered(query, vec![RData::A(A(ADDRESS))]))
}

#[test]
fn foreign_names_are_answered_by_the_hosts_resolver_over_udp_and_tcp() {
    on_a_host(async || {
        let upstream = Upstream::start(FIRST, address).await;
        let rig = Rig::new(&[FIRST]).await;
        for words in ["example.com A", "+tcp example.com A", "single A", "-x 192.0.2.1"] {
            assert_eq!(rig.status(words).await, "NOERROR", "{words}");
        }
        assert_eq!(upstream.asked(), 4);
        assert_eq!(rig.status("web A").await, "NOERROR");
        assert_eq!(rig.status("nobody.blue A").await, "NXDOMAIN");
        assert_eq!(upstream.asked(), 4, "our own names never leave the host");
        assert_eq!(rig.resolver.counts().forwarded, 4);
    });
}

#[test]
fn an_answer_is_relayed_byte_for_byte() {
    on_a_host(async || {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let keep = sent.clone();
        let _upstream = Upstream::start(FIRST, move |query, _| {
            let unknown = NULL::with(vec![1, 2, 3, 4]);
            let code = RecordType::Unknown(65280);
            let mut reply = answered(
                query,
                vec![
                    RData::Unknown { code, rdata: unknown },
                    RData::TXT(TXT::new(vec!["some text".to_owned()])),
                ],
            );
            reply.metadata.authentic_data = true;
            let mut bytes = reply.to_vec().unwrap();
            bytes.extend_from_slice(b"what follows the message");
            keep.lock().unwrap().clone_from(&bytes);
            vec![bytes]
        })
        .await;
        let rig = Rig::new(&[FIRST]).await;
        let socket = rig.netns.udp();
        socket.send(&query(0x1234, "Example.COM.")).await.unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..2], [0x12, 0x34]);
        assert_eq!(buffer[2..length], sent.lock().unwrap()[2..]);
        let shown = rig.netns.dig_short("example.com TYPE65280").await;
        assert!(shown.contains("\\# 4 01020304") && shown.contains("\"some text\""), "{shown:?}");
    });
}

#[test]
fn a_name_that_does_not_exist_out_there_is_passed_on_with_its_soa() {
    on_a_host(async || {
        let _upstream = Upstream::start(FIRST, |query, _| {
            let zone = Name::from_ascii("example.com.").unwrap();
            let mut reply = reply(query, ResponseCode::NXDomain);
            reply.add_authority(Record::from_rdata(zone.clone(), 77, RData::SOA(soa(zone, 5))));
            one(&reply)
        })
        .await;
        let second = Upstream::start(SECOND, address).await;
        let rig = Rig::new(&[FIRST, SECOND]).await;
        let reply = rig.netns.dig("nobody.example.com A").await;
        assert!(reply.contains("status: NXDOMAIN"), "{reply}");
        assert!(reply.contains("example.com.\t\t77\tIN\tSOA"), "{reply}");
        assert_eq!(second.asked(), 0, "no such name is an answer");
    });
}

#[test]
fn a_resolver_that_never_answers_costs_four_seconds_and_ends_in_servfail() {
    on_a_host(async || {
        let upstream = Upstream::silent(FIRST).await;
        let rig = Rig::new(&[FIRST]).await;
        let socket = rig.netns.udp();
        let before = Instant::now();
        socket.send(&query(1, "example.com.")).await.unwrap();
        let reply = receive(&socket).await;
        let took = before.elapsed();
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert!((Duration::from_millis(3_900)..Duration::from_secs(6)).contains(&took));
        assert_eq!(upstream.asked(), 3, "one lost packet is no outage");
        assert_eq!(rig.resolver.counts().unanswered, 1);
    });
}

#[test]
fn a_resolver_that_is_not_there_costs_nothing() {
    on_a_host(async || {
        let _second = Upstream::start(SECOND, address).await;
        let rig = Rig::new(&[FIRST, SECOND]).await;
        let socket = rig.netns.udp();
        let before = Instant::now();
        socket.send(&query(1, "example.com.")).await.unwrap();
        assert_eq!(receive(&socket).await.answers.len(), 1);
        assert!(before.elapsed() < Duration::from_millis(1_400), "refused, not silent");
    });
}

#[test]
fn a_silent_resolver_is_remembered_and_not_every_query_pays_for_it() {
    on_a_host(async || {
        let first = Upstream::silent(FIRST).await;
        let second = Upstream::start(SECOND, address).await;
        let rig = Rig::new(&[FIRST, SECOND]).await;
        assert_eq!(rig.status("one.example A").await, "NOERROR");
        assert_eq!((first.asked(), second.asked()), (1, 1));
        assert_eq!(rig.status("two.example A").await, "NOERROR");
        assert_eq!((first.asked(), second.asked()), (1, 2));
    });
}

#[test]
fn a_resolver_that_refuses_leads_to_the_next_and_its_refusal_is_the_last_word() {
    on_a_host(async || {
        let refused = |query: &[u8], _| one(&reply(query, ResponseCode::Refused));
        let _first = Upstream::start(FIRST, refused).await;
        let second = Upstream::start(SECOND, |query: &[u8], transport| {
            let name = Message::from_vec(query).unwrap().queries[0].name().to_string();
            match name.as_str() {
                "known.example." => address(query, transport),
                _ => one(&reply(query, ResponseCode::ServFail)),
            }
        })
        .await;
        let rig = Rig::new(&[FIRST, SECOND]).await;
        assert_eq!(rig.status("known.example A").await, "NOERROR");
        assert_eq!(second.asked(), 1);
        assert_eq!(rig.status("unknown.example A").await, "SERVFAIL");
        assert_eq!(second.asked(), 2, "who has refused is not asked again");
    });
}

#[test]
fn an_answer_with_another_id_or_question_is_passed_over() {
    on_a_host(async || {
        let _upstream = Upstream::start(FIRST, |query, _| {
            let right = answered(query, vec![RData::A(A(ADDRESS))]);
            let forged = answered(query, vec![RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))]);
            let mut other_id = forged.clone();
            other_id.metadata.id ^= 1;
            let mut other_name = forged.clone();
            other_name.queries[0].set_name(Name::from_ascii("example.org.").unwrap());
            let mut other_type = forged.clone();
            other_type.queries[0].set_query_type(RecordType::AAAA);
            let mut a_query = forged;
            a_query.metadata.message_type = hickory_proto::op::MessageType::Query;
            let mut messages: Vec<Vec<u8>> = vec![b"junk".to_vec(), Vec::new()];
            for message in [other_id, other_name, other_type, a_query, right] {
                messages.push(message.to_vec().unwrap());
            }
            messages
        })
        .await;
        let rig = Rig::new(&[FIRST]).await;
        assert_eq!(rig.netns.dig_short("+notcp example.com A").await, [ADDRESS.to_string()].into());
    });
}

/// Cuts over UDP, whatever the client takes.
fn cuts(query: &[u8], transport: Transport) -> Vec<Vec<u8>> {
    let addresses = (1..=120).map(|last| RData::A(A(Ipv4Addr::new(192, 0, 2, last)))).collect();
    let whole = answered(query, addresses);
    match transport {
        Transport::Udp => one(&whole.truncate()),
        Transport::Tcp => one(&whole),
    }
}

#[test]
fn a_cut_answer_leads_to_the_whole_one_over_tcp() {
    on_a_host(async || {
        let upstream = Upstream::start(FIRST, cuts).await;
        let rig = Rig::new(&[FIRST]).await;
        let reply = rig.netns.dig("+bufsize=1232 example.com A").await;
        assert!(reply.contains("Truncated, retrying in TCP mode."), "{reply}");
        assert!(reply.contains("ANSWER: 120"), "{reply}");
        assert_eq!(upstream.asked(), 2);
        let wide = rig.netns.dig("+notcp +ignore +bufsize=4096 example.com A").await;
        assert!(wide.contains("ANSWER: 120") && !wide.contains(" tc "), "{wide}");
    });
}

#[test]
fn an_answer_that_is_longer_than_the_client_takes_is_cut_here() {
    on_a_host(async || {
        let _upstream = Upstream::start(FIRST, |query, _| cuts(query, Transport::Tcp)).await;
        let rig = Rig::new(&[FIRST]).await;
        let reply = rig.netns.dig("+notcp +ignore +noedns example.com A").await;
        assert!(reply.contains("flags: qr tc rd ra;"), "{reply}");
        assert_eq!(rig.netns.dig_short("example.com A").await.len(), 120);
    });
}

#[test]
fn queries_over_the_bound_get_servfail_at_once_and_are_counted() {
    on_a_host(async || {
        let _upstream = Upstream::silent(FIRST).await;
        let limits = Limits { in_flight_per_sandbox: 2, ..Limits::default() };
        let rig = Rig::with_limits(&[FIRST], limits).await;
        let socket = rig.netns.udp();
        for id in 1..=5 {
            socket.send(&query(id, &format!("n{id}.example."))).await.unwrap();
        }
        let before = Instant::now();
        for id in 3..=5 {
            let reply = receive(&socket).await;
            assert_eq!(reply.metadata.id, id);
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        }
        assert!(before.elapsed() < Duration::from_secs(1));
        assert_eq!(rig.resolver.counts().busy, 3);
        socket.send(&query(6, "web.")).await.unwrap();
        assert_eq!(receive(&socket).await.answers.len(), 1, "our own names are not held up");
        for _ in 0..2 {
            receive(&socket).await;
        }
        socket.send(&query(7, "n7.example.")).await.unwrap();
        assert_eq!(rig.resolver.counts().busy, 3, "there is room again");
    });
}

#[test]
fn the_bound_of_all_sandboxes_holds_too() {
    on_a_host(async || {
        let _upstream = Upstream::silent(FIRST).await;
        let limits = Limits { in_flight: 1, ..Limits::default() };
        let rig = Rig::with_limits(&[FIRST], limits).await;
        let socket = rig.netns.udp();
        socket.send(&query(1, "one.example.")).await.unwrap();
        socket.send(&query(2, "two.example.")).await.unwrap();
        assert_eq!(receive(&socket).await.metadata.id, 2);
        assert_eq!(rig.resolver.counts().busy, 1);
    });
}

#[test]
fn equal_questions_in_flight_are_one() {
    on_a_host(async || {
        let upstream = Upstream::start(FIRST, address).await;
        let rig = Rig::new(&[FIRST]).await;
        let socket = rig.netns.udp();
        for id in 1..=5 {
            socket.send(&query(id, "example.com.")).await.unwrap();
        }
        let mut ids = Vec::new();
        for _ in 0..5 {
            let reply = receive(&socket).await;
            assert_eq!(reply.answers.len(), 1);
            ids.push(reply.metadata.id);
        }
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        assert_eq!(upstream.asked(), 1);
        socket.send(&query(6, "example.com.")).await.unwrap();
        receive(&socket).await;
        assert_eq!(upstream.asked(), 2, "nothing is cached");
        assert_eq!(rig.resolver.forwarder().flights(), 0);
    });
}

#[test]
fn a_sandbox_that_ends_takes_its_queries_with_it() {
    on_a_host(async || {
        let upstream = Upstream::silent(FIRST).await;
        let Rig { netns, resolver, _dns: dns, _dir } = Rig::new(&[FIRST]).await;
        let socket = netns.udp();
        for id in 1..=5 {
            socket.send(&query(id, &format!("n{}.example.", id / 2))).await.unwrap();
        }
        eventually("three different queries are sent", || upstream.asked() == 3).await;
        assert_eq!(resolver.forwarder().flights(), 3);
        dns.close().await;
        assert_eq!(resolver.forwarder().flights(), 0);
    });
}

#[test]
fn a_new_resolv_conf_is_followed() {
    on_a_host(async || {
        let first = Upstream::start(FIRST, address).await;
        let second = Upstream::start(SECOND, address).await;
        let rig = Rig::new(&[FIRST]).await;
        assert_eq!(rig.status("example.com A").await, "NOERROR");
        assert_eq!((first.asked(), second.asked()), (1, 0));
        let path = rig._dir.path().join("resolv.conf");
        std::fs::write(path, lines(&[SECOND])).unwrap();
        let socket = rig.netns.udp();
        eventually("the new resolver is asked", || {
            let _full = socket.try_send(&query(1, "example.com."));
            second.asked() > 0
        })
        .await;
    });
}

#[test]
fn our_own_address_in_resolv_conf_makes_no_loop() {
    on_a_host(async || {
        let rig = Rig::new(&[RESOLVER_ADDRESS]).await;
        let before = Instant::now();
        assert_eq!(rig.status("example.com A").await, "SERVFAIL");
        assert_eq!(rig.status("single A").await, "NXDOMAIN");
        assert!(before.elapsed() < Duration::from_secs(3));
        assert_eq!(rig.resolver.counts().unanswered, 2);
    });
}
