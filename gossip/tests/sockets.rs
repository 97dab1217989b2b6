//! Real sockets on loopback addresses, through the public interface only.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use ovl_gossip::{Changes, Config, Endpoint, Gossip, MemberState, NodeName, StartError};
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(20);

/// A node and what it has seen.
struct Peer {
    gossip: Gossip,
    members: BTreeMap<NodeName, MemberState>,
    endpoints: BTreeMap<NodeName, Vec<Endpoint>>,
    last: Changes,
}

impl Peer {
    async fn start(config: Config) -> Self {
        Self {
            gossip: Gossip::start(config).await.expect("loopback can be bound"),
            members: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            last: Changes::default(),
        }
    }

    /// Reads changes until `done`, or fails; returns how long that took.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        let wait = async {
            while !done(self) {
                let changes = self.gossip.changes().await;
                for member in &changes.members {
                    self.members.insert(member.name.clone(), member.state);
                }
                for node in &changes.nodes {
                    self.endpoints.insert(node.node.clone(), node.endpoints.clone());
                }
                self.last = changes;
            }
        };
        let within = timeout(DEADLINE, wait).await;
        assert!(within.is_ok(), "not within {DEADLINE:?}: {what}");
        begun.elapsed()
    }

    async fn sees(&mut self, other: &str, state: MemberState) -> Duration {
        let name = name(other);
        let what = format!("{other} {state:?}");
        self.until(&what, |peer| peer.members.get(&name) == Some(&state)).await
    }

    async fn has(&mut self, other: &str, ids: &[&str]) -> Duration {
        let name = name(other);
        let what = format!("{other} with {ids:?}");
        self.until(&what, |peer| {
            peer.endpoints
                .get(&name)
                .is_some_and(|has| has.iter().map(|e| e.id.as_str()).eq(ids.iter().copied()))
        })
        .await
    }
}

/// The task of a dropped node closes its sockets when it next runs.
async fn start_when_free(config: Config) -> Gossip {
    loop {
        match Gossip::start(config.clone()).await {
            Ok(gossip) => return gossip,
            Err(StartError::Bind { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a valid name")
}

/// The addresses of a test: the same port on several loopback IPs, in a net of its own.
fn address(net: u8, host: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, net, host), 7946)
}

fn config(net: u8, host: u8, name: &str) -> Config {
    Config {
        name: self::name(name),
        advertise: address(net, host),
        seeds: vec![format!("127.0.{net}.1")],
        known: Vec::new(),
        epoch: 1,
        endpoints: vec![endpoint(&format!("{name}-first"))],
    }
}

fn endpoint(id: &str) -> Endpoint {
    Endpoint {
        id: id.into(),
        network: 1,
        ipv4: Ipv4Addr::new(10, 0, 0, 1),
        ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        mac: [2, 0, 0, 0, 0, 1],
        names: vec![format!("{id}.name")],
        generation: 1,
    }
}

/// Three nodes that know each other.
async fn three(net: u8) -> [Peer; 3] {
    let mut a = Peer::start(config(net, 1, "a")).await;
    let mut b = Peer::start(config(net, 2, "b")).await;
    let mut c = Peer::start(config(net, 3, "c")).await;
    for (peer, others) in [(&mut a, ["b", "c"]), (&mut b, ["a", "c"]), (&mut c, ["a", "b"])] {
        for other in others {
            peer.sees(other, MemberState::Alive).await;
            peer.has(other, &[&format!("{other}-first")]).await;
        }
    }
    [a, b, c]
}

#[tokio::test]
async fn nodes_join_by_a_seed_and_an_announcement_is_seen_by_all() {
    let begun = Instant::now();
    let [mut a, b, mut c] = three(7).await;
    eprintln!("three nodes joined after {:?}", begun.elapsed());
    for round in 0..10 {
        let id = format!("b-{round}");
        let begun = Instant::now();
        b.gossip.announce(endpoint(&id)).await;
        a.has("b", &[&id, "b-first"]).await;
        let first = begun.elapsed();
        c.has("b", &[&id, "b-first"]).await;
        eprintln!("announcement seen after {first:?} and {:?}", begun.elapsed());
        b.gossip.withdraw(id).await;
        a.has("b", &["b-first"]).await;
        c.has("b", &["b-first"]).await;
    }
    assert!(a.gossip.stats().deltas_in >= 20 && b.gossip.stats().deltas_out == 20);
    let members = b.gossip.members();
    assert_eq!(members.len(), 2);
    assert_eq!(members[0].address, address(7, 1));
}

#[tokio::test]
async fn many_endpoints_announced_at_once_arrive_everywhere() {
    let [mut a, b, mut c] = three(8).await;
    for i in 0..1000 {
        b.gossip.announce(endpoint(&format!("b-{i:04}"))).await;
    }
    let begun = Instant::now();
    let all = |peer: &Peer| peer.endpoints[&name("b")].len() == 1001;
    a.until("1001 endpoints", all).await;
    c.until("1001 endpoints", all).await;
    eprintln!("1000 endpoints seen after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_node_that_is_gone_is_down_and_one_that_said_good_bye_is_left() {
    let [mut a, b, mut c] = three(9).await;
    let begun = Instant::now();
    b.gossip.leave(Duration::from_secs(2)).await;
    eprintln!("leave took {:?}", begun.elapsed());
    a.sees("b", MemberState::Left).await;
    c.sees("b", MemberState::Left).await;
    UdpSocket::bind(address(9, 2)).expect("the socket of a node that left is free");
    drop(c);
    let took = a.sees("c", MemberState::Down).await;
    eprintln!("death seen after {took:?}");
    assert!(took < Duration::from_secs(8));
    assert_eq!(a.members[&name("b")], MemberState::Left);
    assert_eq!(a.endpoints[&name("c")].len(), 1, "the agent decides what of the dead goes");
}

#[tokio::test]
async fn a_node_that_starts_again_replaces_its_whole_state_and_was_never_empty() {
    let [mut a, b, _c] = three(10).await;
    b.gossip.announce(endpoint("b-second")).await;
    a.has("b", &["b-first", "b-second"]).await;
    drop(b);
    let mut again = config(10, 2, "b");
    again.epoch = 2;
    again.endpoints.push(endpoint("b-third"));
    let b = timeout(DEADLINE, start_when_free(again)).await.expect("the port is freed");
    let emptied = |peer: &Peer| peer.last.nodes.iter().any(|node| node.endpoints.is_empty());
    a.until("new state", |peer| {
        assert!(!emptied(peer));
        peer.endpoints[&name("b")].iter().any(|e| e.id == "b-third")
    })
    .await;
    assert_eq!(a.endpoints[&name("b")].len(), 2);
    assert!(b.stats().push_pulls_ok > 0);
}

#[tokio::test]
async fn junk_on_both_ports_is_counted_and_harms_nothing() {
    let [mut a, b, _c] = three(11).await;
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 11, 99), 0)).unwrap();
    let mut junk = b"OV".to_vec();
    for length in 0..1500_u32 {
        junk.push((length * 31 % 251) as u8);
        socket.send_to(&junk, address(11, 1)).unwrap();
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 4, b'O', b'V', 9, 9]] {
        let mut stream = TcpStream::connect(address(11, 1)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let read = tokio::task::spawn_blocking(move || {
            // Closed or reset, but not answered.
            stream.read_to_end(&mut answer).ok();
            answer
        });
        assert!(read.await.unwrap().is_empty());
    }
    // Streams that never say anything take no place from others for long, and none from members.
    let silent: Vec<_> = (0..100).filter_map(|_| TcpStream::connect(address(11, 1)).ok()).collect();
    b.gossip.announce(endpoint("b-second")).await;
    a.has("b", &["b-first", "b-second"]).await;
    let counted = || a.gossip.stats().rejected > 0 && a.gossip.stats().streams_refused > 0;
    let wait = async {
        while !counted() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, wait).await.expect("junk is counted");
    assert_eq!(a.members[&name("b")], MemberState::Alive);
    drop(silent);
}

#[tokio::test]
async fn a_taken_port_is_said_with_the_protocol_and_the_address() {
    let _first = Gossip::start(config(12, 1, "a")).await.unwrap();
    let error = Gossip::start(config(12, 1, "b")).await.unwrap_err();
    assert!(error.to_string().contains("udp 127.0.12.1:7946"), "{error}");
    let mut nowhere = config(12, 2, "c");
    nowhere.advertise.set_ip(Ipv4Addr::UNSPECIFIED);
    let error = Gossip::start(nowhere).await.unwrap_err();
    assert!(matches!(error, StartError::Advertise { .. }), "{error}");
}

#[tokio::test]
async fn two_nodes_with_one_name_are_told_so_on_both_sides() {
    let mut a = Peer::start(config(13, 1, "a")).await;
    let mut twin = Peer::start(config(13, 2, "a")).await;
    let told = |peer: &Peer| peer.last.name_conflict.is_some();
    a.until("conflict", told).await;
    twin.until("conflict", told).await;
    assert_eq!(a.last.name_conflict, Some(address(13, 2).into()));
}
