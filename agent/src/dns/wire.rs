//! The few bytes of a DNS message that are read or patched in place (RFC 1035 §4.1).
//!
//! A forwarded message is never decoded and encoded again: only its id changes, so that record
//! types and EDNS options that nobody here knows pass as they are.
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::op::{Header, HeaderCounts};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

/// Length of the header in bytes.
pub(crate) const HEADER_LENGTH: usize = 12;

/// What a client can take over UDP when it does not say (RFC 1035 §2.3.4).
const CLASSIC_UDP_LIMIT: u16 = 512;

/// The longest datagram we send, and the size we advertise. Client and server share a `lo` with
/// an MTU of 64 KiB, so nothing is ever fragmented; this keeps one buffer small.
pub(crate) const MAX_UDP: u16 = 4096;

/// A query that was read and makes sense: opcode QUERY, exactly one question.
#[derive(Debug)]
pub(crate) struct Request {
    /// Id, flags and opcode as they came.
    pub(crate) metadata: Metadata,
    /// The question, its case kept (0x20).
    pub(crate) question: Query,
    /// Where the question section ends, in bytes from the start of the message.
    pub(crate) question_end: usize,
    /// The OPT record, when the client speaks EDNS (RFC 6891).
    pub(crate) edns: Option<Edns>,
}

/// Why a message is not a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Too short for a header, or itself a response: answering could start an endless exchange.
    Ignore,
    /// The client is told with this code.
    Refuse(ResponseCode),
}

impl Request {
    /// Reads a query. Never panics, whatever the bytes.
    pub(crate) fn read(message: &[u8]) -> Result<Request, Unreadable> {
        let mut decoder = BinDecoder::new(message);
        let header = Header::read(&mut decoder).map_err(|_| Unreadable::Ignore)?;
        if header.metadata.message_type == MessageType::Response {
            return Err(Unreadable::Ignore);
        }
        if header.metadata.op_code != OpCode::Query {
            return Err(Unreadable::Refuse(ResponseCode::NotImp));
        }
        if header.counts.queries != 1 {
            return Err(Unreadable::Refuse(ResponseCode::FormErr));
        }
        Self::read_body(&mut decoder, header)
            .ok()
            .filter(Self::is_plain)
            .ok_or(Unreadable::Refuse(ResponseCode::FormErr))
    }

    /// The longest reply the client takes over UDP, in bytes.
    pub(crate) fn udp_limit(&self) -> usize {
        let advertised = self.edns.as_ref().map_or(CLASSIC_UDP_LIMIT, Edns::max_payload);
        advertised.clamp(CLASSIC_UDP_LIMIT, MAX_UDP).into()
    }

    fn read_body(decoder: &mut BinDecoder<'_>, header: Header) -> Result<Request, DecodeError> {
        let Header { metadata, counts } = header;
        let question = Query::read(decoder)?;
        let question_end = decoder.index();
        let HeaderCounts { answers, authorities, additionals, .. } = counts;
        Message::read_records(decoder, answers.into(), false, metadata.op_code)?;
        Message::read_records(decoder, authorities.into(), false, metadata.op_code)?;
        let (_, edns, _) =
            Message::read_records(decoder, additionals.into(), true, metadata.op_code)?;
        Ok(Request { metadata, question, question_end, edns })
    }

    /// The question's name is written out, without a compression pointer: the question can then
    /// be compared with an echo byte by byte.
    fn is_plain(&self) -> bool {
        let labels: usize = self.question.name().iter().map(|label| 1 + label.len()).sum();
        self.question_end == HEADER_LENGTH + labels + 1 + 4
    }
}

/// The id, the first two bytes. Zero for a message too short to have one.
pub(crate) fn id(message: &[u8]) -> u16 {
    message.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// Puts another id.
pub(crate) fn set_id(message: &mut [u8], id: u16) {
    if let Some(bytes) = message.first_chunk_mut() {
        *bytes = id.to_be_bytes();
    }
}

/// The TC flag: the message was cut.
pub(crate) fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0b10 != 0)
}

/// The low four bits of the response code, as a number.
pub(crate) fn response_code(message: &[u8]) -> u16 {
    message.get(3).map_or(0, |flags| (flags & 0x0f).into())
}

/// Whether `response` answers `query`, whose question section ends at `question_end`: same id, a
/// response, the same question (the name in any case). A server that refuses a message may leave
/// the question out.
pub(crate) fn answers(query: &[u8], question_end: usize, response: &[u8]) -> bool {
    let is_response = response.get(2).is_some_and(|flags| flags & 0x80 != 0);
    if response.len() < HEADER_LENGTH || !is_response || id(query) != id(response) {
        return false;
    }
    match u16::from_be_bytes([response[4], response[5]]) {
        0 => response_code(response) != u16::from(ResponseCode::NoError),
        1 => same_question(query, response, question_end),
        _ => false,
    }
}

/// Length bytes of labels are below 64, so they have no case; type and class must be equal as
/// numbers: 65 (HTTPS) is an `A`.
fn same_question(query: &[u8], response: &[u8], end: usize) -> bool {
    let name_end = end.saturating_sub(4).max(HEADER_LENGTH);
    let parts = |message: &'_ [u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        let name = message.get(HEADER_LENGTH..name_end)?.to_ascii_lowercase();
        Some((name, message.get(name_end..end)?.to_vec()))
    };
    parts(query).is_some_and(|asked| parts(response) == Some(asked))
}

/// A reply of twelve bytes to a message that has at least a header: its id, opcode and RD, the
/// code (below 16), no sections.
pub(crate) fn bare_reply(query: &[u8], code: ResponseCode) -> Vec<u8> {
    const RESPONSE: u8 = 0x80;
    const OPCODE_AND_RD: u8 = 0b0111_1001;
    const RECURSION_AVAILABLE: u8 = 0x80;
    let mut reply = vec![0; HEADER_LENGTH];
    set_id(&mut reply, id(query));
    reply[2] = RESPONSE | (query.get(2).copied().unwrap_or(0) & OPCODE_AND_RD);
    reply[3] = RECURSION_AVAILABLE | code.low();
    reply
}
