//! Sandboxes of Docker's: a stand-in for its resolver behind its rules, and the rule that leads
//! the container's queries to us.
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Duration, Instant, timeout};

use super::super::{
    DnsError, EMBEDDED_RESOLVER, Embedded, Limits, Names, PASS_MARK, REDIRECT_PORT,
    RESOLVER_ADDRESS, Resolver, SandboxDns, Transport,
};
use super::netns::{SandboxNetns, eventually, on_a_host, run};
use super::upstream::{Upstream, answered, one, resolv_conf};

/// A resolver of the host.
const HOSTS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 21);

/// What Docker's resolver answers, and what the host's does.
pub(super) const DOCKERS_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const HOSTS_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 21);

/// A container of Docker's on network `blue`, where `web` is, and its server.
pub(super) struct Container {
    pub(super) netns: SandboxNetns,
    pub(super) resolver: Resolver,
    pub(super) dns: SandboxDns,
    _dir: tempfile::TempDir,
}

impl Container {
    pub(super) async fn new() -> Container {
        Container::with_limits(Limits::default()).await
    }

    pub(super) async fn with_limits(limits: Limits) -> Container {
        let mut names = Names::default();
        names.set_network(1, "blue", "10.88.0.0/16".parse().unwrap(), None);
        let key = ("node".to_owned(), "e".to_owned());
        names.set(1, key, Ipv4Addr::new(10, 88, 0, 2), None, &["web".to_owned()]);
        let (dir, path) = resolv_conf(&[HOSTS]);
        let resolver = Resolver::with_limits(Arc::new(RwLock::new(names)), path, limits);
        let netns = SandboxNetns::new();
        redirect(&netns);
        let dns = open(&resolver, &netns).await.unwrap();
        Container { netns, resolver, dns, _dir: dir }
    }

    /// The status and the addresses that `dig` hears from 127.0.0.11.
    pub(super) async fn ask(&self, words: &str) -> (String, usize) {
        let reply = self.netns.dig_at(*EMBEDDED_RESOLVER.ip(), words).await;
        let (_, rest) = reply.split_once("status: ").unwrap_or_else(|| panic!("{reply}"));
        let answers = reply.lines().filter(|line| line.contains("\tA\t")).count();
        (rest.split(',').next().unwrap().to_owned(), answers)
    }

    /// A client's socket, towards what it takes for Docker's resolver.
    pub(super) fn client(&self) -> UdpSocket {
        self.netns.udp_to(*EMBEDDED_RESOLVER.ip())
    }
}

async fn open(resolver: &Resolver, netns: &SandboxNetns) -> Result<SandboxDns, DnsError> {
    let embedded = Some(Embedded::default());
    SandboxDns::open(resolver, &netns.path(), RESOLVER_ADDRESS, vec![1], embedded).await
}

/// The rule that leads queries for Docker's resolver to ours, but for our own.
fn redirect(netns: &SandboxNetns) {
    netns.run("nft add table ip ovl");
    netns.run("nft add chain ip ovl out { type nat hook output priority -110; }");
    let to = format!("{RESOLVER_ADDRESS}:{REDIRECT_PORT}");
    for protocol in ["udp", "tcp"] {
        netns.run(&format!(
            "nft add rule ip ovl out ip daddr 127.0.0.11 meta mark != {PASS_MARK:#x} {protocol} \
             dport 53 dnat to {to}"
        ));
    }
}

/// Docker's rules, as dockerd makes them when it starts, for a resolver on that port.
pub(super) fn dockers_rules(netns: &SandboxNetns, port: u16) {
    netns.run("iptables -w -t nat -F");
    for protocol in ["udp", "tcp"] {
        netns.run(&format!(
            "iptables -w -t nat -A OUTPUT -d 127.0.0.11/32 -p {protocol} --dport 53 -j DNAT \
             --to-destination 127.0.0.11:{port}"
        ));
        netns.run(&format!(
            "iptables -w -t nat -A POSTROUTING -s 127.0.0.11/32 -p {protocol} --sport {port} \
             -j SNAT --to-source :53"
        ));
    }
}

/// A stand-in for Docker's resolver on that port of 127.0.0.11, inside.
pub(super) fn docker(
    netns: &SandboxNetns,
    port: u16,
    behaviour: impl Fn(&[u8], Transport) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> Upstream {
    let (udp, tcp) = netns.inside(move || {
        let address = SocketAddrV4::new(*EMBEDDED_RESOLVER.ip(), port);
        let udp = std::net::UdpSocket::bind(address).unwrap();
        udp.set_nonblocking(true).unwrap();
        let tcp = std::net::TcpListener::bind(address).unwrap();
        tcp.set_nonblocking(true).unwrap();
        (udp, tcp)
    });
    let (udp, tcp) = (UdpSocket::from_std(udp).unwrap(), TcpListener::from_std(tcp).unwrap());
    Upstream::over(udp, tcp, behaviour)
}

pub(super) fn dockers(query: &[u8], _: Transport) -> Vec<Vec<u8>> {
    one(&answered(query, vec![RData::A(A(DOCKERS_ADDRESS))]))
}

fn hosts(query: &[u8], _: Transport) -> Vec<Vec<u8>> {
    one(&answered(query, vec![RData::A(A(HOSTS_ADDRESS))]))
}

pub(super) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

pub(super) async fn receive(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 4096];
    let received = timeout(Duration::from_secs(15), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.expect("a reply in time").unwrap()]).unwrap()
}

fn ok(answers: usize) -> (String, usize) {
    ("NOERROR".to_owned(), answers)
}

#[test]
fn our_names_are_answered_and_dockers_go_through_over_udp_and_tcp() {
    on_a_host(async || {
        let container = Container::new().await;
        let netns = &container.netns;
        dockers_rules(netns, 40_000);
        let docker = docker(netns, 40_000, dockers);
        let host = Upstream::start(HOSTS, hosts).await;
        for words in ["web A", "+tcp web A", "web.blue A"] {
            assert_eq!(container.ask(words).await, ok(1), "{words}");
        }
        assert_eq!(container.ask("web AAAA").await, ok(0));
        assert_eq!(container.ask("nobody.blue A").await.0, "NXDOMAIN");
        assert_eq!(docker.asked(), 0, "our own names never reach Docker");
        let theirs = format!("\t{DOCKERS_ADDRESS}");
        for (count, words) in ["alias A", "+tcp alias A", "example.com A"].iter().enumerate() {
            let reply = netns.dig_at(*EMBEDDED_RESOLVER.ip(), words).await;
            assert!(reply.contains(&theirs), "{reply}");
            assert!(reply.contains("SERVER: 127.0.0.11#53"), "{reply}");
            assert_eq!(docker.asked(), count + 1);
        }
        assert_eq!(host.asked(), 0);
        assert!(netns.dig("alias A").await.contains(&format!("\t{HOSTS_ADDRESS}")));
        assert_eq!((docker.asked(), host.asked()), (3, 1), "port 53 leads to the host's resolver");
        assert_eq!(container.resolver.counts().forwarded, 4);
    });
}

/// A container that was started with `--dns 169.254.53.53` besides.
#[test]
fn dockers_resolver_may_ask_us_and_there_is_no_loop() {
    on_a_host(async || {
        let container = Container::new().await;
        let netns = &container.netns;
        dockers_rules(netns, 40_000);
        let front = netns.inside(|| {
            let socket = std::net::UdpSocket::bind((*EMBEDDED_RESOLVER.ip(), 40_000)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let (front, back) = (UdpSocket::from_std(front).unwrap(), netns.udp());
        let passes_on = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = front.recv_from(&mut buffer).await.unwrap();
                back.send(&buffer[..length]).await.unwrap();
                let length = back.recv(&mut buffer).await.unwrap();
                front.send_to(&buffer[..length], client).await.unwrap();
            }
        });
        let host = Upstream::start(HOSTS, hosts).await;
        assert_eq!(container.ask("example.com A").await, ok(1));
        assert_eq!(host.asked(), 1);
        passes_on.abort();
    });
}

#[test]
fn a_cut_answer_is_passed_on_and_the_whole_one_comes_over_tcp() {
    on_a_host(async || {
        let container = Container::new().await;
        dockers_rules(&container.netns, 40_000);
        let _docker = docker(&container.netns, 40_000, |query, transport| {
            let addresses: Vec<RData> =
                (1..=120).map(|last| RData::A(A(Ipv4Addr::new(192, 0, 2, last)))).collect();
            let whole = answered(query, addresses);
            match transport {
                Transport::Udp => one(&whole.truncate()),
                Transport::Tcp => one(&whole),
            }
        });
        let server = *EMBEDDED_RESOLVER.ip();
        let cut = container.netns.dig_at(server, "+notcp +ignore alias A").await;
        assert!(cut.contains("flags: qr tc"), "{cut}");
        let whole = container.netns.dig_at(server, "alias A").await;
        assert!(whole.contains("Truncated, retrying in TCP mode."), "{whole}");
        assert!(whole.contains("ANSWER: 120"), "{whole}");
    });
}

#[test]
fn a_sandbox_of_dockers_ends_with_its_last_process_too() {
    on_a_host(async || {
        for transport in ["udp", "tcp"] {
            let Container { netns, resolver, dns, _dir } = Container::new().await;
            dockers_rules(&netns, 40_000);
            let name = netns.name();
            let host_end = "ovl-dns-veth";
            run(
                "ip",
                &["link", "add", host_end, "type", "veth", "peer", "name", "v", "netns", name],
            );
            let docker = docker(&netns, 40_000, |_, _| Vec::new());
            let client = netns.udp_to(*EMBEDDED_RESOLVER.ip());
            let mut stream = None;
            if transport == "udp" {
                client.send(&query(1, "alias.")).await.unwrap();
            } else {
                let asking = stream.insert(netns.tcp_to(*EMBEDDED_RESOLVER.ip()));
                let framed = [&[0, 23][..], &query(1, "alias.")].concat();
                tokio::io::AsyncWriteExt::write_all(asking, &framed).await.unwrap();
            }
            eventually("the query has arrived", || docker.asked() > 0).await;
            docker.stop().await;
            drop((client, stream, netns));
            let there = || run("ip", &["link"]).contains(host_end);
            assert!(there(), "the server's sockets hold the namespace");
            dns.close().await;
            eventually("the namespace is gone, and its veth with it", || !there()).await;
            drop(resolver);
        }
    });
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it_and_nothing_stays_open() {
    on_a_host(async || {
        let resolver = Resolver::new(Arc::default(), PathBuf::from("/nonexistent/resolv.conf"));
        let netns = SandboxNetns::new();
        let holder = netns.inside(|| std::net::TcpListener::bind((RESOLVER_ADDRESS, 54)).unwrap());
        let error = open(&resolver, &netns).await.unwrap_err();
        assert!(matches!(error, DnsError::Bind { protocol: "tcp", .. }), "{error:?}");
        assert!(error.to_string().contains("tcp 169.254.53.53:54"), "{error}");
        drop(holder);
        open(&resolver, &netns).await.unwrap().close().await;
        let before = Instant::now();
        open(&resolver, &netns).await.unwrap();
        assert!(before.elapsed() < Duration::from_secs(2));
    });
}
