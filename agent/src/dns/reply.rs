//! Replies of our own: sections, flags, EDNS, and the cut when they are too long.
use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, ResponseCode, emit_message_parts};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::wire::{self, MAX_UDP, Request};

/// How long a client may keep what we say, in seconds.
///
/// A record lives as long as its endpoint, and a container that is replaced has another address
/// at once; asking again costs microseconds, for the server is on the client's own `lo`. So it is
/// short; but not 0, which some resolvers take as an error. "There is no such name" lives as
/// long (RFC 2308 §5), or a client that came a moment too early would wait for its peer.
pub const TTL: u32 = 5;

/// Length of an OPT record without options (RFC 6891 §6.1.2).
const OPT_LENGTH: u16 = 11;

/// Option code of an extended error (RFC 8914 §2).
const EXTENDED_ERROR: u16 = 15;

/// Why an answer is what it is, for people who look at it with `dig` (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Info code of the registry, for example 22: no reachable authority.
    pub(crate) code: u16,
    /// One sentence.
    pub(crate) text: &'static str,
}

/// A reply in the making.
#[derive(Debug)]
pub(crate) struct Reply {
    message: Message,
}

impl Reply {
    /// Echoes the question; RA is set, for what is not ours is forwarded.
    pub(crate) fn new(request: &Request, code: ResponseCode) -> Reply {
        let asked = &request.metadata;
        let mut message = Message::response(asked.id, asked.op_code);
        message.metadata.recursion_desired = asked.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = asked.checking_disabled;
        message.metadata.response_code = code;
        message.add_query(request.question.clone());
        if let Some(asked) = &request.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP);
            // RFC 3225 §3: the DO bit is copied.
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            message.set_edns(edns);
        }
        Reply { message }
    }

    /// Marks the reply as ours to give (AA).
    pub(crate) fn authoritative(mut self) -> Reply {
        self.message.metadata.authoritative = true;
        self
    }

    /// Marks the reply as cut (TC): the client comes again over TCP.
    pub(crate) fn truncated(mut self) -> Reply {
        self.message.metadata.truncation = true;
        self
    }

    /// Adds answers that belong to the question's own name.
    pub(crate) fn answers(mut self, answers: impl IntoIterator<Item = RData>) -> Reply {
        let name =
            self.message.queries.first().map_or_else(Name::root, |query| query.name().clone());
        let records = answers.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data));
        self.message.add_answers(records);
        self
    }

    /// Says which zone the "no" comes from, and how long it holds (RFC 2308 §3).
    pub(crate) fn denied_by(mut self, zone: Name, serial: u32) -> Reply {
        let soa = Record::from_rdata(zone.clone(), TTL, RData::SOA(soa(zone, serial)));
        self.message.add_authority(soa);
        self
    }

    /// Adds the reason, when the client speaks EDNS.
    pub(crate) fn note(mut self, note: Note) -> Reply {
        if let Some(edns) = &mut self.message.edns {
            let mut payload = note.code.to_be_bytes().to_vec();
            payload.extend_from_slice(note.text.as_bytes());
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, payload));
        }
        self
    }

    /// The bytes, `limit` at most: as many records as fit, and TC when some do not.
    ///
    /// `query` is the message this replies to, for the case that nothing can be encoded: it is
    /// then SERVFAIL alone.
    pub(crate) fn encode(self, query: &[u8], limit: usize) -> Vec<u8> {
        let limit = u16::try_from(limit).unwrap_or(u16::MAX);
        encode(&self.message, limit).unwrap_or_else(|error| {
            tracing::warn!(%error, "a dns reply cannot be encoded; the client gets SERVFAIL");
            wire::bare_reply(query, ResponseCode::ServFail)
        })
    }
}

/// The SOA record of a zone that is served locally, after the pattern of RFC 6303 §3: the zone
/// names itself as its server, and nobody is responsible.
pub(crate) fn soa(zone: Name, serial: u32) -> SOA {
    const REFRESH: i32 = 3600;
    const RETRY: i32 = 1200;
    const EXPIRE: i32 = 604_800;
    let nobody = Name::from_labels([&b"nobody"[..], b"invalid"]).unwrap_or_else(|_| Name::root());
    SOA::new(zone, nobody, serial, REFRESH, RETRY, EXPIRE, TTL)
}

/// The OPT record must stand even in a reply that is cut (RFC 6891 §7), so its place is kept.
fn encode(message: &Message, limit: u16) -> Result<Vec<u8>, ProtoError> {
    let reserved = message.edns.as_ref().map_or(0, opt_length);
    let mut buffer = Vec::new();
    let mut encoder = BinEncoder::new(&mut buffer);
    encoder.set_max_size(limit.saturating_sub(reserved));
    emit_message_parts(
        &message.metadata,
        &mut message.queries.iter(),
        &mut message.answers.iter(),
        &mut message.authorities.iter(),
        &mut std::iter::empty::<&Record>(),
        None,
        None,
        &mut encoder,
    )?;
    encoder.trim();
    if let Some(mut edns) = message.edns.clone() {
        edns.set_rcode_high(message.metadata.response_code.high());
        encoder.set_max_size(limit);
        edns.emit(&mut encoder)?;
        count_one_additional(&mut buffer);
    }
    Ok(buffer)
}

fn opt_length(edns: &Edns) -> u16 {
    let options: u16 = edns.options().as_ref().iter().map(|(_, option)| 4 + option.len()).sum();
    OPT_LENGTH + options
}

/// ARCOUNT, the last two bytes of the header (RFC 1035 §4.1.1).
fn count_one_additional(message: &mut [u8]) {
    if let Some(count) = message.get_mut(10..12) {
        count.copy_from_slice(&1u16.to_be_bytes());
    }
}
