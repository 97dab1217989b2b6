//! The server in real namespaces, asked by a real `dig`.
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::super::{DnsError, Names, RESOLVER_ADDRESS, Resolver, SandboxDns};
use super::netns::{SandboxNetns, eventually, on_a_host, run};
use super::upstream::{Upstream, resolv_conf};

/// `web.` and class IN, type A, behind a header with id 7.
const WEB_QUERY: &[u8] =
    b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01";

/// Network 1, blue: `web`. Network 2, red: `web` and `many`.
fn names() -> Arc<RwLock<Names>> {
    let mut names = Names::default();
    names.set_network(1, "blue", "10.88.0.0/16".parse().unwrap(), None);
    names.set_network(2, "red", "10.99.0.0/16".parse().unwrap(), None);
    let key = |id: &str| ("node".to_owned(), id.to_owned());
    names.set(1, key("b"), Ipv4Addr::new(10, 88, 0, 2), None, &["web".to_owned()]);
    names.set(2, key("r"), Ipv4Addr::new(10, 99, 1, 2), None, &["web".to_owned()]);
    for last in 1..=200 {
        let address = Ipv4Addr::new(10, 99, 0, last);
        names.set(2, key(&last.to_string()), address, None, &["many".to_owned()]);
    }
    Arc::new(RwLock::new(names))
}

fn lonely_resolver() -> Resolver {
    Resolver::new(names(), PathBuf::from("/nonexistent/resolv.conf"))
}

async fn open(resolver: &Resolver, netns: &SandboxNetns, scope: &[u64]) -> SandboxDns {
    let path = netns.path();
    SandboxDns::open(resolver, &path, RESOLVER_ADDRESS, scope.to_vec(), None).await.unwrap()
}

fn one(line: &str) -> std::collections::BTreeSet<String> {
    [line.to_owned()].into()
}

async fn ask(stream: &mut TcpStream, query: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_u16(query.len().try_into().unwrap()).await?;
    stream.write_all(query).await?;
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

#[test]
fn a_container_finds_its_peers_by_name_over_udp_and_tcp() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let _dns = open(&lonely_resolver(), &netns, &[1]).await;
        for words in ["web A", "web.blue A", "WeB.bLuE. A", "+tcp web A", "+noedns web A"] {
            assert_eq!(netns.dig_short(words).await, one("10.88.0.2"), "{words}");
        }
        assert_eq!(netns.dig_short("-x 10.88.0.2").await, one("web.blue."));
        let full = netns.dig("web A").await;
        assert!(full.contains("status: NOERROR") && full.contains("flags: qr aa rd ra;"), "{full}");
    });
}

#[test]
fn a_name_without_an_ipv6_address_is_empty_and_no_error() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let _dns = open(&lonely_resolver(), &netns, &[1]).await;
        for words in ["web AAAA", "web.blue MX", "web TXT", "web HTTPS", "web TYPE65280"] {
            let reply = netns.dig(words).await;
            assert!(reply.contains("status: NOERROR"), "{reply}");
            assert!(reply.contains("ANSWER: 0, AUTHORITY: 1"), "{reply}");
            assert!(reply.contains("\tSOA\t"), "{reply}");
        }
    });
}

#[test]
fn a_container_sees_only_the_networks_it_is_attached_to() {
    on_a_host(async || {
        let resolver = lonely_resolver();
        let (blue, red) = (SandboxNetns::new(), SandboxNetns::new());
        let blue_dns = open(&resolver, &blue, &[1]).await;
        let _red_dns = open(&resolver, &red, &[2]).await;
        assert_eq!(blue.dig_short("web A").await, one("10.88.0.2"));
        assert_eq!(red.dig_short("web A").await, one("10.99.1.2"));
        assert!(red.dig("web.blue A").await.contains("status: SERVFAIL"));
        blue_dns.set_scope(vec![1, 2]);
        assert_eq!(blue.dig_short("web A").await.len(), 2);
        blue_dns.set_scope(vec![]);
        assert!(blue.dig("web A").await.contains("status: NXDOMAIN"));
    });
}

#[test]
fn a_change_of_the_table_is_seen_by_the_next_query() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let names = names();
        let resolver = Resolver::new(names.clone(), PathBuf::from("/nonexistent/resolv.conf"));
        let _dns = open(&resolver, &netns, &[1]).await;
        let key = ("node".to_owned(), "b".to_owned());
        names.write().unwrap().set(
            1,
            key.clone(),
            Ipv4Addr::new(10, 88, 0, 9),
            None,
            &["web".to_owned()],
        );
        assert_eq!(netns.dig_short("web A").await, one("10.88.0.9"));
        names.write().unwrap().remove(1, &key);
        assert!(netns.dig("web.blue A").await.contains("status: NXDOMAIN"));
    });
}

#[test]
fn what_nobody_has_is_denied_at_once() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let _dns = open(&lonely_resolver(), &netns, &[1]).await;
        let before = Instant::now();
        for (words, status) in [
            ("nobody.blue A", "NXDOMAIN"),
            ("-x 10.88.0.77", "NXDOMAIN"),
            ("nobody A", "NXDOMAIN"),
            ("example.com A", "SERVFAIL"),
            ("web CH TXT", "REFUSED"),
        ] {
            let reply = netns.dig(words).await;
            assert!(reply.contains(&format!("status: {status}")), "{words}: {reply}");
        }
        assert!(before.elapsed() < Duration::from_secs(3));
    });
}

#[test]
fn two_hundred_addresses_of_one_name_come_over_tcp() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let resolver = lonely_resolver();
        let _dns = open(&resolver, &netns, &[2]).await;
        let cut = netns.dig("+ignore +notcp many A").await;
        assert!(cut.contains("flags: qr aa tc rd ra;"), "{cut}");
        assert!(cut.contains("OPT PSEUDOSECTION"), "{cut}");
        let whole = netns.dig("many A").await;
        assert!(whole.contains("Truncated, retrying in TCP mode."), "{whole}");
        assert_eq!(netns.dig_short("many A").await.len(), 200);
        assert_eq!(netns.dig_short("+notcp +bufsize=4096 many A").await.len(), 200);
    });
}

#[test]
fn one_connection_carries_several_queries() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let _dns = open(&lonely_resolver(), &netns, &[1]).await;
        let mut stream = netns.tcp();
        for _ in 0..3 {
            let reply = ask(&mut stream, WEB_QUERY).await.unwrap();
            assert_eq!(&reply[..2], b"\x00\x07");
            assert!(reply.ends_with(&[10, 88, 0, 2]));
        }
        let both = [&[0, 21][..], WEB_QUERY, &[0, 21], WEB_QUERY].concat();
        stream.write_all(&both).await.unwrap();
        for _ in 0..2 {
            let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut reply).await.unwrap();
            assert!(reply.ends_with(&[10, 88, 0, 2]));
        }
    });
}

#[test]
fn connections_over_the_bound_wait_for_others_to_end() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let resolver = lonely_resolver();
        let _dns = open(&resolver, &netns, &[1]).await;
        let mut streams: Vec<TcpStream> =
            (0..resolver.limits().connections_per_sandbox).map(|_| netns.tcp()).collect();
        for stream in &mut streams {
            ask(stream, WEB_QUERY).await.unwrap();
        }
        let mut late = netns.tcp();
        let short = Duration::from_millis(300);
        assert!(timeout(short, ask(&mut late, WEB_QUERY)).await.is_err());
        assert_eq!(netns.dig_short("+notcp web A").await, one("10.88.0.2"));
        drop(streams);
        let mut reply = vec![0; late.read_u16().await.unwrap().into()];
        late.read_exact(&mut reply).await.unwrap();
        assert!(reply.ends_with(&[10, 88, 0, 2]));
    });
}

#[test]
fn a_connection_that_says_nothing_is_closed_after_ten_seconds() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let _dns = open(&lonely_resolver(), &netns, &[1]).await;
        let (mut idle, mut half) = (netns.tcp(), netns.tcp());
        half.write_all(&[0, 21, 0, 7]).await.unwrap();
        let before = Instant::now();
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(half.read(&mut [0; 1]).await.unwrap(), 0);
        let took = before.elapsed();
        assert!((Duration::from_secs(9)..Duration::from_secs(13)).contains(&took), "{took:?}");
    });
}

#[test]
fn junk_does_not_disturb_it() {
    on_a_host(async || {
        let netns = SandboxNetns::new();
        let resolver = lonely_resolver();
        let _dns = open(&resolver, &netns, &[1]).await;
        let socket = netns.udp();
        for length in (0..600).chain([5_000, 60_000]) {
            let junk: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
            let _full = socket.send(&junk).await;
        }
        let mut endless = netns.tcp();
        endless.write_all(&[0xff; 64]).await.unwrap();
        let ended = endless.read(&mut [0; 1]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let mut response = WEB_QUERY.to_vec();
        response[2] |= 0x80;
        assert!(ask(&mut netns.tcp(), &response).await.is_err());
        assert_eq!(netns.dig_short("web A").await, one("10.88.0.2"));
        assert!(resolver.counts().ignored > 12);
    });
}

#[test]
fn a_sandbox_ends_with_its_last_process_once_its_server_is_gone() {
    on_a_host(async || {
        let silent = Ipv4Addr::new(127, 0, 0, 9);
        let upstream = Upstream::silent(silent).await;
        let (_dir, path) = resolv_conf(&[silent]);
        for close in [true, false] {
            let netns = SandboxNetns::new();
            let (host_end, name) = ("ovl-dns-veth", netns.name());
            let peer =
                ["link", "add", host_end, "type", "veth", "peer", "name", "v", "netns", name];
            run("ip", &peer);
            let dns = open(&Resolver::new(names(), path.clone()), &netns, &[1]).await;
            let (socket, mut stream) = (netns.udp(), netns.tcp());
            let asked = upstream.asked();
            let query = [&WEB_QUERY[..13], b"xyz", &WEB_QUERY[16..]].concat();
            socket.send(&query).await.unwrap();
            ask(&mut stream, WEB_QUERY).await.unwrap();
            eventually("the query is forwarded", || upstream.asked() > asked).await;
            drop((socket, stream, netns));
            let there = || run("ip", &["link"]).contains(host_end);
            assert!(there(), "the server's sockets hold the namespace");
            if close {
                dns.close().await;
            } else {
                drop(dns);
            }
            eventually("the namespace is gone, and its veth with it", || !there()).await;
        }
    });
}

#[test]
fn a_server_that_cannot_be_opened_says_why() {
    on_a_host(async || {
        let resolver = lonely_resolver();
        let missing = PathBuf::from("/run/netns/ovl-dns-no-such-namespace");
        let opened = SandboxDns::open(&resolver, &missing, RESOLVER_ADDRESS, vec![], None).await;
        assert!(matches!(opened, Err(DnsError::Namespace { .. })), "{opened:?}");

        let bare = SandboxNetns::without_address();
        let opened =
            SandboxDns::open(&resolver, &bare.path(), RESOLVER_ADDRESS, vec![], None).await;
        assert!(matches!(opened, Err(DnsError::Bind { protocol: "udp", .. })), "{opened:?}");

        let netns = SandboxNetns::new();
        let _first = open(&resolver, &netns, &[1]).await;
        let second =
            SandboxDns::open(&resolver, &netns.path(), RESOLVER_ADDRESS, vec![], None).await;
        let message = second.unwrap_err().to_string();
        assert!(message.contains("udp 169.254.53.53:53") && message.contains(netns.name()));
        assert_eq!(netns.dig_short("web A").await, one("10.88.0.2"));
    });
}

#[test]
fn a_server_can_be_opened_again_after_it_was_closed() {
    on_a_host(async || {
        let resolver = lonely_resolver();
        let netns = SandboxNetns::new();
        for _ in 0..3 {
            let dns = open(&resolver, &netns, &[1]).await;
            assert_eq!(netns.dig_short("+tcp web A").await, one("10.88.0.2"));
            dns.close().await;
        }
    });
}
