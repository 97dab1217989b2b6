//! DNS of a container, led to the agent and back to Docker.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
};
use ovl_vxlan::{DnsRedirect, RedirectError, netns};

use crate::lab::*;

const ASKED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);
const DOCKERS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 40000);
const OURS: SocketAddrV4 = SocketAddrV4::new(RESOLVER, 54);
const MARK: u32 = 0x6f_766c;

/// Makes this binary the child process of [`Holder`]: the namespace to hold a redirect in.
const HOLD: &str = "OVL_TEST_HOLD_REDIRECT";

/// A container as Docker makes it, with two resolvers: Docker's and the agent's.
struct Container {
    servers: Vec<thread::JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    netns: Netns,
}

impl Container {
    fn new() -> Self {
        let netns = Netns::new("box");
        netns.sh("ip link set lo up");
        netns.sh(&format!("ip address add {RESOLVER}/32 dev lo"));
        for protocol in ["udp", "tcp"] {
            netns.sh(&format!(
                "iptables -t nat -A OUTPUT -d 127.0.0.11/32 -p {protocol} --dport 53 -j DNAT --to {DOCKERS}"
            ));
            netns.sh(&format!(
                "iptables -t nat -A POSTROUTING -s 127.0.0.11/32 -p {protocol} --sport 40000 -j SNAT --to-source :53"
            ));
        }
        let mut container = Self { servers: Vec::new(), is_over: Arc::default(), netns };
        container.serve(DOCKERS, "docker");
        container.serve(OURS, "ours");
        container
    }

    /// Answers each datagram and each connection with `name`.
    fn serve(&mut self, at: SocketAddrV4, name: &'static str) {
        let bind = move || (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
        let (udp, tcp) = netns::run(&self.netns.path(), bind).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let is_over = Arc::clone(&self.is_over);
        self.servers.push(thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((_, from)) = udp.recv_from(&mut [0; 100]) {
                    udp.send_to(name.as_bytes(), from).unwrap();
                }
                if let Ok((mut stream, _)) = tcp.accept() {
                    stream.write_all(name.as_bytes()).unwrap();
                }
            }
        }));
    }

    /// Who answers by UDP and by TCP, asked with this mark.
    fn asks(&self, mark: u32) -> [String; 2] {
        let ask = move || [ask_udp(mark), ask_tcp(mark)];
        netns::run(&self.netns.path(), ask).unwrap()
    }

    fn ruleset(&self) -> String {
        self.netns.sh("nft list tables ip")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            let result = server.join();
            assert!(thread::panicking() || result.is_ok());
        }
    }
}

/// A socket that takes answers from nobody but whom it asks.
fn connected(kind: SockType, mark: u32) -> OwnedFd {
    let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::Mark, &mark).unwrap();
    connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(ASKED)).unwrap();
    socket
}

fn ask_udp(mark: u32) -> String {
    let socket = UdpSocket::from(connected(SockType::Datagram, mark));
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send(b"who").unwrap();
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn ask_tcp(mark: u32) -> String {
    let mut stream = TcpStream::from(connected(SockType::Stream, mark));
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn open(netns: &Netns) -> Result<DnsRedirect, RedirectError> {
    runtime().block_on(DnsRedirect::open(&netns.path(), ASKED, OURS, MARK))
}

fn close(redirect: DnsRedirect) {
    runtime().block_on(redirect.close());
}

const OURS_ANSWERS: [&str; 2] = ["ours", "ours"];
const DOCKER_ANSWERS: [&str; 2] = ["docker", "docker"];

#[test]
fn queries_come_to_us_while_the_redirect_is_open_and_to_docker_before_and_after() {
    let container = Container::new();
    assert_eq!(container.asks(0), DOCKER_ANSWERS);
    let redirect = open(&container.netns).unwrap();
    assert_eq!(container.asks(0), OURS_ANSWERS);
    assert_eq!(container.asks(1), OURS_ANSWERS);
    assert_eq!(container.asks(MARK), DOCKER_ANSWERS);
    // Nobody takes it away by accident, and nothing that is started inherits it.
    container.netns.sh("nft flush ruleset ip");
    assert_eq!(container.asks(0), OURS_ANSWERS);
    let mut heir = Command::new("sleep").arg("60").spawn().unwrap();
    close(redirect);
    // Not by a query: the flush took Docker's rules.
    let tables = container.ruleset();
    heir.kill().unwrap();
    heir.wait().unwrap();
    assert!(!tables.contains("table ip ovl"), "{tables}");
}

#[test]
fn a_redirect_that_is_closed_or_dropped_leaves_all_to_docker() {
    let container = Container::new();
    let before = container.ruleset();
    for _ in 0..2 {
        let redirect = open(&container.netns).unwrap();
        assert_eq!(container.asks(0), OURS_ANSWERS);
        close(redirect);
        assert_eq!(container.asks(0), DOCKER_ANSWERS);
        assert_eq!(container.ruleset(), before);
    }
    drop(open(&container.netns).unwrap());
    wait_until(Duration::from_secs(5), || container.ruleset() == before);
    assert_eq!(container.asks(0), DOCKER_ANSWERS);
}

/// A process of its own with a redirect.
struct Holder(Child);

impl Holder {
    fn start(netns: &Netns) -> Self {
        let this_test = "redirect::a_redirect_is_one_table_that_belongs_to_its_process";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", this_test, "--nocapture"])
            .env(HOLD, netns.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let holder = Self(child);
        assert!(lines.any(|line| line.unwrap() == "open"), "the child did not open it");
        holder
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child's side, which ends with its parent.
fn hold(name: &str) {
    let path = std::path::Path::new("/run/netns").join(name);
    let redirect = runtime().block_on(DnsRedirect::open(&path, ASKED, OURS, MARK)).unwrap();
    println!("\nopen");
    let _ = std::io::stdin().read(&mut [0]);
    drop(redirect);
}

#[test]
fn a_redirect_is_one_table_that_belongs_to_its_process() {
    if let Ok(name) = std::env::var(HOLD) {
        return hold(&name);
    }
    let netns = Netns::new("box");
    let _redirect = open(&netns).unwrap();
    let ruleset = netns.sh("nft list ruleset");
    let lines: Vec<&str> = ruleset.lines().map(str::trim).collect();
    let rule = |protocol| {
        format!(
            "ip daddr 127.0.0.11 {protocol} dport 53 meta mark != 0x006f766c dnat to 169.254.53.53:54"
        )
    };
    assert!(lines[0].starts_with("table ip ovl {"), "{ruleset}");
    let expected = [
        "flags owner",
        "",
        "chain out {",
        "type nat hook output priority -110; policy accept;",
        &rule("udp"),
        &rule("tcp"),
        "}",
        "}",
    ];
    assert_eq!(lines[1..], expected);
}

#[test]
fn a_process_that_is_killed_leaves_all_to_docker() {
    let container = Container::new();
    let mut holder = Holder::start(&container.netns);
    assert_eq!(container.asks(0), OURS_ANSWERS);
    assert_eq!(container.asks(MARK), DOCKER_ANSWERS);
    holder.kill();
    assert_eq!(container.asks(0), DOCKER_ANSWERS);
    // The next process has a free hand.
    let _redirect = open(&container.netns).unwrap();
    assert_eq!(container.asks(0), OURS_ANSWERS);
}

#[test]
fn a_table_that_another_process_owns_is_left_and_named() {
    let container = Container::new();
    let holder = Holder::start(&container.netns);
    let error = open(&container.netns).err().unwrap();
    let pid = holder.0.id();
    assert!(matches!(error, RedirectError::Owned { owner, .. } if owner == pid), "{error}");
    let text = error.to_string();
    assert!(text.contains(container.netns.name()) && text.contains(&pid.to_string()), "{text}");
    assert_eq!(container.asks(0), OURS_ANSWERS);
}

#[test]
fn a_table_that_nobody_owns_is_replaced() {
    let container = Container::new();
    container.netns.sh("nft add table ip ovl");
    container.netns.sh("nft add chain ip ovl out '{ type filter hook output priority 0; }'");
    container.netns.sh("nft add rule ip ovl out udp dport 53 drop");
    let redirect = open(&container.netns).unwrap();
    assert_eq!(container.asks(0), OURS_ANSWERS);
    close(redirect);
    assert!(!container.ruleset().contains("table ip ovl"));
}

#[test]
fn a_namespace_that_is_gone_is_told_as_such() {
    let gone = Netns::new("gone");
    sh(&format!("ip netns del {}", gone.name()));
    let error = open(&gone).err().unwrap();
    assert!(matches!(&error, RedirectError::Netns(e) if e.is_gone()), "{error}");
}
