//! What a program in FROM is told of a name: the resolver that its `/etc/resolv.conf` names is asked from
//! inside.
//!
//! What the agent would answer is another question: a program asks whom its own files name, through its
//! own kernel's packet filter.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::facts::End;
use super::hops::{At, Judged, Verdicts};
use super::points::Names;
use crate::tool::quoted;

/// How long one try waits for its answer, and how many there are.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
const TRIES: usize = 2;

/// Bytes of a `resolv.conf` that are read; of an answer, more than are sent without EDNS (RFC 1035, section
/// 2.3.4).
const CONF_MAX: u64 = 64 << 10;
const ANSWER_MAX: usize = 4096;

const PORT: u16 = 53;

/// A name, as a program in FROM would look it up.
pub(super) struct OwnLookup {
    /// FROM's namespace, and a program that runs in it.
    pub(super) netns: PathBuf,
    pub(super) pid: u32,
    pub(super) name: String,
    /// One of the addresses that it has.
    pub(super) address: IpAddr,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) server: IpAddr,
    pub(super) pid: u32,
    pub(super) told: Told,
}

/// What a resolver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Addresses(Vec<IpAddr>),
    /// An answer without an address, with its code (RFC 1035, section 4.1.1).
    Nothing(String),
    /// No answer, or the kernel's words.
    Silent(Option<String>),
}

impl OwnLookup {
    /// Asks the first resolver of the file; `None`: it could not be tried.
    pub(super) async fn ask(self) -> Option<Looked> {
        let tried = tokio::task::spawn_blocking(move || {
            let conf = conf(self.pid)?;
            let server = server(&conf)?;
            let (netns, name, address) = (self.netns, self.name, self.address);
            let question = question(&name, address)?;
            let asked = move || ask(server, &question);
            let told = ovl_vxlan::netns::run(&netns, asked).ok()??;
            Some(Looked { server, pid: self.pid, told })
        });
        tried.await.ok().flatten()
    }
}

/// The file as the program sees it. Its links are followed inside its own root: what they lead to is the
/// container's to choose. `None`: there is none, or this kernel cannot look so (before Linux 5.6).
fn conf(pid: u32) -> Option<String> {
    let root = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(root.as_str(), flags, Mode::empty()).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&root, "etc/resolv.conf", how).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(CONF_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The first one that is named; without any it is this host (resolv.conf(5)). `None`: it is a link's own
/// address, which means nothing without the link.
fn server(conf: &str) -> Option<IpAddr> {
    let servers = conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    // `fe80::1%eth0`.
    let mut addresses = servers.filter_map(|word| word.split('%').next()?.parse().ok());
    let first = addresses.next().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let is_of_link = matches!(first, IpAddr::V6(address) if address.is_unicast_link_local());
    (!is_of_link).then_some(first)
}

fn question(name: &str, address: IpAddr) -> Option<(Vec<u8>, u16)> {
    let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let mut name = Name::from_utf8(name).ok()?;
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    let id = message.metadata.id;
    Some((message.to_vec().ok()?, id))
}

/// `None`: there is no socket to be had.
fn ask(server: IpAddr, (question, id): &(Vec<u8>, u16)) -> Option<Told> {
    let any: SocketAddr = match server {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    let mut refused = socket.connect((server, PORT)).err();
    for _ in 0..TRIES {
        if refused.is_some() {
            break;
        }
        let mut buffer = [0; ANSWER_MAX];
        let heard = socket.send(question).and_then(|_| socket.recv(&mut buffer));
        match heard {
            Ok(length) => {
                if let Some(told) = read(&buffer[..length], *id) {
                    return Some(told);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => refused = Some(error),
        }
    }
    Some(Told::Silent(refused.map(|error| error.to_string())))
}

fn read(bytes: &[u8], id: u16) -> Option<Told> {
    let message = Message::from_vec(bytes).ok()?;
    if message.metadata.id != id {
        return None;
    }
    let addresses: Vec<IpAddr> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .collect();
    Some(match (message.metadata.response_code, addresses) {
        (code, found) if found.is_empty() => Told::Nothing(
            if code == ResponseCode::NoError { "no address" } else { code.to_str() }.to_owned(),
        ),
        (_, found) => Told::Addresses(found),
    })
}

/// Adds the hop behind that of the name, which the agent answers right.
pub(super) fn settle(
    verdicts: &mut Verdicts,
    looked: &Looked,
    (text, address): (&str, IpAddr),
    near: &End,
    names: &Names<'_>,
) {
    let Some(at) = verdicts.hops.iter().position(|judged| judged.at == At::Name && judged.is_ok())
    else {
        return;
    };
    let (from, Looked { server, pid, told }) = (names.from, looked);
    let whose = format!("{from}'s own resolver {server} (its /etc/resolv.conf)");
    let hop = match told {
        Told::Addresses(found) if found.contains(&address) => {
            let says = format!("{whose} answers \"{text}\" with {address}, asked from inside");
            Judged::ok(At::FromResolver, names.near, says)
        }
        told => {
            let says = match told {
                Told::Addresses(found) => {
                    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
                    format!(
                        "{whose} answers \"{text}\" with {}, and not with {address}",
                        found.join(", ")
                    )
                }
                Told::Nothing(code) => {
                    format!("{whose} does not know \"{text}\" ({code}), which is {address}")
                }
                Told::Silent(None) => format!(
                    "{whose} does not answer: programs in {from} do not find \"{text}\" by its name"
                ),
                Told::Silent(Some(why)) => format!(
                    "{whose} cannot be asked from inside: {why}; programs in {from} do not find \"{text}\" by its name"
                ),
            };
            let netns = near.held.as_ref().and_then(|held| held.netns.as_ref());
            let netns = netns.map(|netns| quoted(&netns.display().to_string())).unwrap_or_default();
            let fix = format!(
                "on {}: cat /proc/{pid}/root/etc/resolv.conf; nsenter --net={netns} sh -c 'ip address show lo; ip route; nft list ruleset; iptables-save'",
                names.near
            );
            Judged::broken(At::FromResolver, names.near, says).fix(fix)
        }
    };
    verdicts.hops.insert(at + 1, hop);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_resolver_of_the_file_is_asked() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (conf, first) in [
            ("", "127.0.0.1"),
            (
                "# nameserver 9.9.9.9\nsearch a.b\n nameserver 10.0.0.1 \nnameserver 8.8.8.8\n",
                "10.0.0.1",
            ),
            ("nameserver\nnameserver x\nnameserver fd00::1\n", "fd00::1"),
            ("options ndots:0\nnameserver 127.0.0.11\n", "127.0.0.11"),
        ] {
            assert_eq!(server(conf), Some(ip(first)), "{conf:?}");
        }
        assert_eq!(server("nameserver fe80::1%eth0\n"), None);
    }

    #[test]
    fn an_answer_is_read_and_garbage_is_none() {
        let (bytes, id) = question("db", IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!(read(&bytes, id), Some(Told::Nothing("no address".into())));
        assert_eq!(read(&bytes, id.wrapping_add(1)), None);
        assert_eq!(read(&bytes[..5], id), None);
        assert!(question("a..b", IpAddr::V4(Ipv4Addr::LOCALHOST)).is_none());
    }

    #[test]
    fn links_in_a_container_do_not_lead_out_of_it() {
        // Its own root is this one: the file is read as it is, or there is none.
        let own = std::fs::read_to_string("/etc/resolv.conf").ok();
        let seen = conf(std::process::id());
        assert!(seen.is_none() || seen == own, "{seen:?}");
    }
}
