//! A query in; out comes a reply, or the advice to forward it. No IO, no clock.
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use ipnet::IpNet;
use std::net::IpAddr;

use super::Transport;
use super::names::{Names, Resolution, ReverseResolution};
use super::reply::{Note, Reply, soa};
use super::turns::Turns;
use super::wire::{self, Request, Unreadable};

/// Addresses in one answer; of a name that has more, each answer holds others. It keeps an answer
/// well below the 65,535 bytes that TCP can carry.
const MAX_ADDRESSES: usize = 2_000;

/// Bytes of an A record whose name is a pointer to the question (RFC 1035 §3.2.1, §4.1.4); an AAAA
/// record has 12 more.
const ADDRESS_RECORD: usize = 16;

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing: junk, or a response.
    Ignore,
    /// Send this back.
    Reply(Vec<u8>),
    /// Not ours: pass it to a resolver of the host, or to Docker's.
    Forward(Foreign),
}

/// A query for somebody else's name, as it came.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// What was read of it.
    pub(crate) request: Request,
    /// All its bytes.
    pub(crate) message: Vec<u8>,
    /// How it came.
    pub(crate) transport: Transport,
}

impl Foreign {
    /// The longest reply the client takes, in bytes.
    pub(crate) fn limit(&self) -> usize {
        limit(&self.request, self.transport)
    }

    /// A reply of our own.
    pub(crate) fn reply(&self, reply: Reply) -> Vec<u8> {
        reply.encode(&self.message, self.limit())
    }

    /// What another resolver answered, for this client: a reply that is longer than the client can
    /// take is cut.
    pub(crate) fn relayed(&self, mut reply: Vec<u8>) -> Vec<u8> {
        wire::set_id(&mut reply, wire::id(&self.message));
        if reply.len() <= self.limit() {
            return reply;
        }
        self.reply(Reply::new(&self.request, ResponseCode::NoError).truncated())
    }
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// Ids of the networks its container is attached to.
    pub(crate) scope: &'a [u64],
    /// Sets the limit of a reply.
    pub(crate) transport: Transport,
    /// Who of those that share a name comes first.
    pub(crate) turns: &'a Turns,
}

/// Answers `message` from `names`. Never panics, whatever the bytes.
pub(crate) fn answer(names: &Names, asker: Asker<'_>, message: &[u8]) -> Verdict {
    let request = match Request::read(message) {
        Ok(request) => request,
        Err(Unreadable::Ignore) => return Verdict::Ignore,
        Err(Unreadable::Refuse(code)) => return Verdict::Reply(wire::bare_reply(message, code)),
    };
    let reply = refused(&request).or_else(|| Lookup { names, asker, request: &request }.reply());
    match reply {
        Some(reply) => Verdict::Reply(reply.encode(message, limit(&request, asker.transport))),
        None => {
            let message = message.to_vec();
            Verdict::Forward(Foreign { request, message, transport: asker.transport })
        }
    }
}

/// The longest reply over this transport, in bytes.
fn limit(request: &Request, transport: Transport) -> usize {
    match transport {
        Transport::Udp => request.udp_limit(),
        Transport::Tcp => u16::MAX.into(),
    }
}

/// What no server of ours does, whatever the name.
fn refused(request: &Request) -> Option<Reply> {
    if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Some(Reply::new(request, ResponseCode::BADVERS));
    }
    if request.question.query_class() != DNSClass::IN {
        return Some(Reply::new(request, ResponseCode::Refused));
    }
    match request.question.query_type() {
        // RFC 6895 §3.1: OPT is never asked for. A transfer is no single answer to relay.
        RecordType::OPT => Some(Reply::new(request, ResponseCode::FormErr)),
        RecordType::AXFR | RecordType::IXFR => Some(Reply::new(request, ResponseCode::Refused)),
        _ => None,
    }
}

/// One question against the table.
struct Lookup<'a> {
    names: &'a Names,
    asker: Asker<'a>,
    request: &'a Request,
}

impl Lookup<'_> {
    /// None: not ours.
    fn reply(&self) -> Option<Reply> {
        if let Ok(range) = self.name().parse_arpa_name() {
            return self.reverse(range);
        }
        let text = text(self.name());
        match self.names.resolve(self.scope(), &text) {
            Resolution::Found(addresses) => Some(self.found(addresses, &text)),
            Resolution::NoSuchName => {
                let zone = self.name().trim_to(self.names.zone_labels(self.scope(), &text)?);
                Some(self.missing(ResponseCode::NXDomain, zone))
            }
            Resolution::NotOurs => self.apex(&text),
        }
    }

    /// A family that the name has no address of is empty and no error: the name exists.
    fn found(&self, mut addresses: Vec<IpAddr>, text: &str) -> Reply {
        match self.kind() {
            RecordType::A => addresses.retain(IpAddr::is_ipv4),
            RecordType::AAAA => addresses.retain(IpAddr::is_ipv6),
            RecordType::ANY => {}
            _ => addresses.clear(),
        }
        if addresses.is_empty() {
            // A single name is a zone of its own: "." is not ours to speak for.
            let labels = self.names.zone_labels(self.scope(), text).unwrap_or(usize::MAX);
            return self.missing(ResponseCode::NoError, self.name().trim_to(labels));
        }
        let addresses = self.selected(addresses, text).map(|address| match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        });
        self.ours(ResponseCode::NoError).answers(addresses)
    }

    /// Rotated, so that clients which take the first address share the load; and no more than
    /// one too many for the reply, which is then cut.
    fn selected(
        &self,
        mut addresses: Vec<IpAddr>,
        text: &str,
    ) -> impl Iterator<Item = IpAddr> + use<> {
        if addresses.len() > 1 {
            let turn = self.asker.turns.next(text, self.kind());
            let by = turn.checked_rem(addresses.len()).unwrap_or(0);
            addresses.rotate_left(by);
        }
        let room = limit(self.request, self.asker.transport) / ADDRESS_RECORD + 1;
        addresses.into_iter().take(room.min(MAX_ADDRESSES))
    }

    /// The name of a network itself. It exists, or everything under it would not (RFC 8020).
    fn apex(&self, text: &str) -> Option<Reply> {
        let labels = self.names.zone_labels(self.scope(), text)?;
        (labels == usize::from(self.name().num_labels())).then(|| self.zone(self.name().clone()))
    }

    /// `4.3.2.1.in-addr.arpa` (RFC 1035 §3.5), 32 nibbles under `ip6.arpa` (RFC 3596 §2.5) and,
    /// with fewer labels, the zones above them.
    fn reverse(&self, range: IpNet) -> Option<Reply> {
        if range.prefix_len() < range.max_prefix_len() {
            self.names.subnet_around(self.scope(), range)?;
            return Some(self.zone(self.name().clone()));
        }
        let zone = || {
            let subnet = self.names.subnet_around(self.scope(), range).unwrap_or(range);
            self.name().trim_to(usize::from(labels_of(subnet)) + 2)
        };
        match self.names.reverse(self.scope(), range.addr()) {
            ReverseResolution::NotOurs => None,
            ReverseResolution::NoSuchName => Some(self.missing(ResponseCode::NXDomain, zone())),
            ReverseResolution::Found(names) => match self.kind() {
                RecordType::PTR | RecordType::ANY => {
                    let names = names.iter().filter_map(|name| name_of(name));
                    let data = names.map(|name| RData::PTR(PTR(name)));
                    Some(self.ours(ResponseCode::NoError).answers(data))
                }
                _ => Some(self.missing(ResponseCode::NoError, zone())),
            },
        }
    }

    /// The apex of a zone of ours: it has a SOA and an NS record, and nothing else.
    fn zone(&self, zone: Name) -> Reply {
        let reply = self.ours(ResponseCode::NoError);
        match self.kind() {
            RecordType::SOA => reply.answers([RData::SOA(soa(zone, self.names.serial()))]),
            RecordType::NS => reply.answers([RData::NS(NS(zone))]),
            _ => self.missing(ResponseCode::NoError, zone),
        }
    }

    fn ours(&self, code: ResponseCode) -> Reply {
        Reply::new(self.request, code).authoritative()
    }

    fn missing(&self, code: ResponseCode, zone: Name) -> Reply {
        self.ours(code).denied_by(zone, self.names.serial())
    }

    fn name(&self) -> &Name {
        self.request.question.name()
    }

    fn kind(&self) -> RecordType {
        self.request.question.query_type()
    }

    fn scope(&self) -> Option<&[u64]> {
        Some(self.asker.scope)
    }
}

/// Why a query that is not ours has no answer from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The host has no resolver that could be asked.
    #[error("the host has no resolver to forward to")]
    NoUpstream,
    /// None of them answered in time.
    #[error("no resolver of the host answered in time")]
    Silence,
    /// Docker's resolver did not answer in time.
    #[error("docker's resolver did not answer in time")]
    DockerSilent,
    /// Docker's resolver cannot be reached.
    #[error("docker's resolver cannot be reached")]
    DockerGone,
    /// Too many queries are on their way already.
    #[error("too many forwarded queries are in flight")]
    Busy,
}

impl Unanswered {
    /// What the client gets: SERVFAIL with the reason; but a single name that no resolver can
    /// know, because there is none, does not exist.
    pub(crate) fn reply(self, query: &Foreign) -> Vec<u8> {
        let single = query.request.question.name().num_labels() == 1;
        let code = match self {
            Unanswered::NoUpstream if single => ResponseCode::NXDomain,
            Unanswered::NoUpstream
            | Unanswered::Silence
            | Unanswered::DockerSilent
            | Unanswered::DockerGone
            | Unanswered::Busy => ResponseCode::ServFail,
        };
        query.reply(Reply::new(&query.request, code).note(self.note()))
    }

    /// Info codes of RFC 8914 §4: 14 not ready, 22 no reachable authority, 23 network error, 0 other.
    fn note(self) -> Note {
        match self {
            Unanswered::NoUpstream => {
                Note { code: 14, text: "the host's resolv.conf names no resolver to forward to" }
            }
            Unanswered::Silence => {
                Note { code: 22, text: "no resolver of the host answered in time" }
            }
            Unanswered::DockerSilent => {
                Note { code: 22, text: "docker's resolver did not answer in time" }
            }
            Unanswered::DockerGone => {
                Note { code: 23, text: "docker's resolver in this container cannot be reached" }
            }
            Unanswered::Busy => {
                Note { code: 0, text: "too many forwarded queries in flight, try again" }
            }
        }
    }
}

/// Labels of a subnet's reverse zone before `in-addr.arpa` or `ip6.arpa`. A subnet that ends within
/// a label is several zones, each with one more label than what is whole of the subnet.
fn labels_of(subnet: IpNet) -> u8 {
    let bits = match subnet {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 4,
    };
    subnet.prefix_len().div_ceil(bits).max(1)
}

/// The name as the table writes it. A label with a dot, a backslash or bytes that are no text in
/// it cannot be there: its backslash makes sure that it is not found.
fn text(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        match std::str::from_utf8(label) {
            Ok(label) if !label.contains('.') => text.push_str(label),
            Ok(_) | Err(_) => text.push('\\'),
        }
    }
    text
}

/// `None`: too long for a name.
fn name_of(text: &str) -> Option<Name> {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.').map(str::as_bytes);
    Name::from_labels(labels).ok()
}
