//! The socket towards Docker's resolver, which all queries of a sandbox share: many at once, and
//! what becomes of it when Docker's resolver goes, moves or is silent.
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, NULL};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Duration, Instant};

use super::super::{EMBEDDED_RESOLVER, Limits};
use super::embedded::{Container, DOCKERS_ADDRESS, docker, dockers, dockers_rules, query, receive};
use super::netns::{eventually, on_a_host};
use super::upstream::answered;

/// Queries, all at once.
const MANY: u8 = 100;

/// What one query is answered with.
async fn code(client: &UdpSocket, name: &str) -> ResponseCode {
    client.send(&query(1, name)).await.unwrap();
    receive(client).await.metadata.response_code
}

/// Asks until Docker answers; how often that took.
async fn asks_until_answered(client: &UdpSocket) -> usize {
    let deadline = Instant::now() + Duration::from_secs(8);
    for asked in 1.. {
        if code(client, "alias.").await == ResponseCode::NoError {
            return asked;
        }
        assert!(Instant::now() < deadline, "Docker is there again, and is never asked");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unreachable!()
}

#[test]
fn a_hundred_queries_at_once_each_get_their_own_answer() {
    on_a_host(async || {
        let container = Container::new().await;
        dockers_rules(&container.netns, 40_000);
        // Answers when all have come, the last first; the address tells the name.
        let held = Mutex::new(Vec::new());
        let _docker = docker(&container.netns, 40_000, move |query, _| {
            let name = Message::from_vec(query).unwrap().queries[0].name().to_string();
            let last = name.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
            let reply = answered(query, vec![RData::A(A(Ipv4Addr::new(192, 0, 2, last)))]);
            let mut held = held.lock().unwrap();
            held.push(reply.to_vec().unwrap());
            if held.len() < MANY.into() { Vec::new() } else { held.drain(..).rev().collect() }
        });
        let client = container.client();
        for number in 0..MANY {
            // Every id twice: to us, ids of clients mean nothing.
            client.send(&query((number / 2).into(), &format!("n{number}.example."))).await.unwrap();
        }
        let mut got = BTreeMap::new();
        for _ in 0..MANY {
            let reply = receive(&client).await;
            let name = reply.queries[0].name().to_string();
            got.insert(name, (reply.metadata.id, reply.answers[0].data.clone()));
        }
        for number in 0..MANY {
            let address = RData::A(A(Ipv4Addr::new(192, 0, 2, number)));
            assert_eq!(got[&format!("n{number}.example.")], ((number / 2).into(), address));
        }
        assert_eq!(container.resolver.counts().forwarded, u64::from(MANY));
    });
}

#[test]
fn what_docker_says_is_relayed_byte_for_byte() {
    on_a_host(async || {
        let container = Container::new().await;
        dockers_rules(&container.netns, 40_000);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let keep = sent.clone();
        let _docker = docker(&container.netns, 40_000, move |query, _| {
            let (code, rdata) = (RecordType::Unknown(65280), NULL::with(vec![1, 2, 3, 4]));
            let mut bytes = answered(query, vec![RData::Unknown { code, rdata }]).to_vec().unwrap();
            bytes.extend_from_slice(b"what follows the message");
            keep.lock().unwrap().clone_from(&bytes);
            vec![bytes]
        });
        let client = container.client();
        client.send(&query(0x1234, "Alias.COM.")).await.unwrap();
        let mut buffer = [0; 4096];
        let length = client.recv(&mut buffer).await.unwrap();
        assert_eq!(buffer[..2], [0x12, 0x34]);
        assert_eq!(buffer[2..length], sent.lock().unwrap()[2..]);
    });
}

#[test]
fn late_and_foreign_answers_are_passed_over() {
    on_a_host(async || {
        let container = Container::new().await;
        dockers_rules(&container.netns, 40_000);
        let _docker = docker(&container.netns, 40_000, |query, _| {
            let right = answered(query, vec![RData::A(A(DOCKERS_ADDRESS))]);
            let forged = answered(query, vec![RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))]);
            let mut other_id = forged.clone();
            other_id.metadata.id ^= 1;
            let mut other_name = forged.clone();
            other_name.queries[0].set_name(Name::from_ascii("example.org.").unwrap());
            let mut a_query = forged.clone();
            a_query.metadata.message_type = MessageType::Query;
            let mut messages: Vec<Vec<u8>> = vec![b"junk".to_vec(), Vec::new()];
            for message in [other_id, other_name, a_query, right, forged] {
                messages.push(message.to_vec().unwrap());
            }
            messages
        });
        let client = container.client();
        for id in 1..=3 {
            client.send(&query(id, "alias.")).await.unwrap();
            let reply = receive(&client).await;
            assert_eq!(reply.metadata.id, id);
            assert_eq!(reply.answers[0].data, RData::A(A(DOCKERS_ADDRESS)));
        }
    });
}

#[test]
fn a_restart_of_docker_on_another_port_costs_nobody_an_answer() {
    on_a_host(async || {
        let container = Container::new().await;
        let netns = &container.netns;
        dockers_rules(netns, 40_000);
        let before = docker(netns, 40_000, dockers);
        let client = container.client();
        assert_eq!(code(&client, "alias.").await, ResponseCode::NoError);
        before.stop().await;
        dockers_rules(netns, 41_000);
        let after = docker(netns, 41_000, dockers);
        for id in 1..=5 {
            client.send(&query(id, &format!("n{id}.example."))).await.unwrap();
        }
        for _ in 1..=5 {
            assert_eq!(receive(&client).await.metadata.response_code, ResponseCode::NoError);
        }
        assert!(after.asked() >= 5);
        assert_eq!(container.ask("+tcp alias A").await.0, "NOERROR");
    });
}

#[test]
fn without_dockers_resolver_the_answer_is_servfail_at_once_until_it_is_there() {
    on_a_host(async || {
        let container = Container::new().await;
        let netns = &container.netns;
        let client = container.client();
        let before = Instant::now();
        for _ in 0..50 {
            assert_eq!(code(&client, "alias.").await, ResponseCode::ServFail);
        }
        assert_eq!(container.ask("+tcp alias A").await.0, "SERVFAIL");
        let why = container.netns.dig_at(*EMBEDDED_RESOLVER.ip(), "alias A").await;
        assert!(why.contains("docker's resolver in this container cannot be reached"), "{why}");
        assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
        assert_eq!(container.ask("web A").await, ("NOERROR".to_owned(), 1));
        dockers_rules(netns, 40_000);
        let docker = docker(netns, 40_000, dockers);
        let asked = asks_until_answered(&client).await;
        assert!(asked < 30, "{asked}");
        assert_eq!(docker.asked(), 1);
    });
}

#[test]
fn a_silent_docker_costs_ten_seconds_and_its_return_elsewhere_is_seen() {
    on_a_host(async || {
        let container = Container::new().await;
        let netns = &container.netns;
        dockers_rules(netns, 40_000);
        let silent = docker(netns, 40_000, |_, _| Vec::new());
        let client = container.client();
        let before = Instant::now();
        client.send(&query(1, "alias.")).await.unwrap();
        eventually("the query has arrived", || silent.asked() == 1).await;
        assert_eq!(container.ask("web A").await.0, "NOERROR", "our own names are not held up");
        // The old port stays open and silent: only silence tells.
        dockers_rules(netns, 41_000);
        let _answers = docker(netns, 41_000, dockers);
        assert_eq!(receive(&client).await.metadata.response_code, ResponseCode::ServFail);
        let took = before.elapsed();
        assert!(
            (Duration::from_millis(9_900)..Duration::from_secs(12)).contains(&took),
            "{took:?}"
        );
        assert_eq!(container.resolver.counts().unanswered, 1);
        assert_eq!(code(&client, "alias.").await, ResponseCode::NoError);
    });
}

#[test]
fn a_slow_answer_comes_through_and_is_no_reason_for_another_socket() {
    on_a_host(async || {
        let container = Container::new().await;
        dockers_rules(&container.netns, 40_000);
        // What was asked first is answered with the second query.
        let held = Mutex::new(Vec::new());
        let docker = docker(&container.netns, 40_000, move |query, transport| {
            let mut held = held.lock().unwrap();
            held.extend(dockers(query, transport));
            if held.len() < 2 { Vec::new() } else { std::mem::take(&mut held) }
        });
        let client = container.client();
        client.send(&query(1, "slow.")).await.unwrap();
        eventually("the query has arrived", || docker.asked() == 1).await;
        client.send(&query(2, "fast.")).await.unwrap();
        assert_eq!(receive(&client).await.metadata.id, 1);
        assert_eq!(receive(&client).await.metadata.id, 2);
    });
}

#[test]
fn over_the_bound_of_one_sandbox_queries_get_servfail_at_once() {
    on_a_host(async || {
        let limits = Limits { waiting_per_sandbox: 2, ..Limits::default() };
        let container = Container::with_limits(limits).await;
        dockers_rules(&container.netns, 40_000);
        let docker = docker(&container.netns, 40_000, |_, _| Vec::new());
        let client = container.client();
        for id in 1..=5 {
            client.send(&query(id, &format!("n{id}.example."))).await.unwrap();
        }
        for id in 3..=5 {
            let reply = receive(&client).await;
            assert_eq!(reply.metadata.id, id);
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        }
        assert_eq!(container.resolver.counts().busy, 3);
        assert_eq!(code(&client, "web.").await, ResponseCode::NoError);
        eventually("the first two have arrived", || docker.asked() == 2).await;
    });
}

/// Docker gives out a sandbox's path again.
#[test]
fn no_socket_is_made_in_another_namespace_at_the_same_path() {
    on_a_host(async || {
        let container = Container::new().await;
        let client = container.client();
        assert_eq!(code(&client, "alias.").await, ResponseCode::ServFail);
        let other = container.netns.replaced();
        let docker = docker(&other, EMBEDDED_RESOLVER.port(), dockers);
        let deadline = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < deadline {
            assert_eq!(code(&client, "alias.").await, ResponseCode::ServFail);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(docker.asked(), 0);
    });
}
