//! Packet formats, and the checks on everything that arrives.
//!
//! A datagram, and the content of a TCP frame, begins with four bytes: the magic `OV`, the version of
//! the format and the kind. A postcard body follows. On TCP each frame is preceded by its length,
//! `u32` in network byte order. Unknown versions and kinds are an error to the reader, which counts
//! and ignores them. No input panics, and what is decoded keeps every bound of the crate.

use foca::{Header, Member, Message};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::NodeName;
use crate::endpoints::{Change, Delta, MAX_ENDPOINTS_PER_NODE, State, Version};
use crate::identity::Identity;

/// Largest datagram sent or taken, in bytes, our header included: fits every common path unfragmented.
pub(crate) const MAX_DATAGRAM: usize = 1400;
/// Bytes before the body.
pub(crate) const HEADER: usize = 4;
/// Largest first frame of a stream in bytes: a digest and a member list of the largest cluster.
pub(crate) const MAX_REQUEST: usize = 1 << 20;
/// Largest answering frame in bytes: the state budget, one more state, and the lists.
pub(crate) const MAX_FRAME: usize = 8 << 20;
/// Bytes of endpoint states in one frame, unless the first state alone is larger. The rest is left
/// for the next exchange, which follows at once.
pub(crate) const STATE_BUDGET: usize = 2 << 20;

const MAGIC: [u8; 2] = *b"OV";
pub(crate) const VERSION: u8 = 2;

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Datagram: foca's own format.
    Swim = 1,
    /// Datagram: one [`Item`] after another.
    Items = 2,
    /// Datagram: a [`Beat`].
    Beat = 3,
    /// Datagram: a [`NameCheck`], to be answered by a `NameReply`.
    NameCheck = 4,
    /// Datagram: a [`NameCheck`] about the answering node.
    NameReply = 5,
    /// Datagram: a [`Nonce`](crate::ask::Nonce), sent back as an `EchoReply`.
    Echo = 6,
    /// Datagram: the nonce of an `Echo`.
    EchoReply = 7,
    /// Stream, first frame: a [`PushPull`].
    PushPull = 16,
    /// Stream, answer to it: an [`Answer`].
    Answer = 17,
    /// Stream, last frame of a push-pull: a [`Closing`].
    Closing = 18,
    /// Stream, first frame: a [`Pull`].
    Pull = 19,
    /// Stream, answer to it: a [`States`].
    States = 20,
    /// Stream, first frame: a question of another agent; the body is its user's.
    Ask = 21,
    /// Stream, answer to it; the body is its user's.
    Told = 22,
    /// Stream, in place of an answer: a [`NotTold`](crate::ask::NotTold).
    NotTold = 23,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Swim,
        Self::Items,
        Self::Beat,
        Self::NameCheck,
        Self::NameReply,
        Self::Echo,
        Self::EchoReply,
        Self::PushPull,
        Self::Answer,
        Self::Closing,
        Self::Pull,
        Self::States,
        Self::Ask,
        Self::Told,
        Self::NotTold,
    ];
}

/// Endpoint news that is told on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Item {
    /// The next change of a node.
    Delta(Delta),
    /// A node's whole state, small enough for a datagram.
    State(State),
    /// A node has a new state that does not fit a datagram.
    Version { origin: NodeName, version: Version },
}

/// "My endpoints are at this version", or, sent back to its origin, "you told us of this one".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    pub(crate) origin: NodeName,
    pub(crate) version: Version,
}

/// "I am this node; who are you?", and the answer, of about the same size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameCheck {
    /// Chosen by the asker, repeated in the answer.
    pub(crate) nonce: u64,
    pub(crate) from: Identity,
    /// Whether `from` is a member, or still joins.
    pub(crate) introduced: bool,
}

/// A row of a membership list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) member: Member<Identity>,
    /// Seconds since it was found down; 0 for the living. Keeps the dead from being handed round
    /// for ever.
    pub(crate) down_secs: u32,
}

/// The first frame of a push-pull: all we know, endpoints as versions only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PushPull {
    pub(crate) from: Identity,
    /// False while the sender does not know yet whether its name is free.
    pub(crate) introduced: bool,
    pub(crate) members: Vec<Row>,
    pub(crate) digest: Vec<(NodeName, Version)>,
}

/// The answer: only what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) from: Identity,
    pub(crate) introduced: bool,
    pub(crate) members: Vec<Row>,
    pub(crate) states: Vec<State>,
    /// Nodes of which the asker holds a newer state.
    pub(crate) want: Vec<NodeName>,
    /// True where more states differ than one frame takes.
    pub(crate) more: bool,
}

/// The last frame: the states that were wanted, and the asker as a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closing {
    pub(crate) from: Identity,
    pub(crate) states: Vec<State>,
}

/// Asks for states newer than the given versions (`None`: any).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pull {
    pub(crate) want: Vec<(NodeName, Option<Version>)>,
}

/// The states that were newer, as far as one frame takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct States {
    pub(crate) states: Vec<State>,
}

/// A packet that was not understood; it is dropped and counted, nothing else changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// It does not begin as ours do.
    #[error("no packet of this protocol")]
    Foreign,
    /// A later or earlier format: the sender runs another release.
    #[error("packet format {0} is not known here")]
    Version(u8),
    /// A kind of a later release.
    #[error("packet kind {0} is not known here")]
    Kind(u8),
    /// The body does not decode, or breaks a bound.
    #[error("malformed body")]
    Body,
}

/// Kind and body of a packet.
pub(crate) fn open(packet: &[u8]) -> Result<(Kind, &[u8]), WireError> {
    let [m0, m1, version, kind, body @ ..] = packet else {
        return Err(WireError::Foreign);
    };
    if [*m0, *m1] != MAGIC {
        return Err(WireError::Foreign);
    }
    if *version != VERSION {
        return Err(WireError::Version(*version));
    }
    let known = Kind::ALL.into_iter().find(|known| *known as u8 == *kind);
    Ok((known.ok_or(WireError::Kind(*kind))?, body))
}

/// The header of a packet, to be followed by its body.
pub(crate) fn header(kind: Kind) -> Vec<u8> {
    vec![MAGIC[0], MAGIC[1], VERSION, kind as u8]
}

/// A whole packet.
pub(crate) fn seal<T: Serialize>(kind: Kind, body: &T) -> Vec<u8> {
    append(header(kind), body)
}

/// An item as it stands in a datagram.
pub(crate) fn item_bytes(item: &Item) -> Vec<u8> {
    append(Vec::new(), item)
}

fn append<T: Serialize>(bytes: Vec<u8>, body: &T) -> Vec<u8> {
    // Writing these types to memory cannot fail: all lengths are known and no map or custom error is
    // among them.
    postcard::to_extend(body, bytes).unwrap_or_default()
}

/// A body that is nothing but `T`.
pub(crate) fn parse<T: DeserializeOwned + Checked>(body: &[u8]) -> Result<T, WireError> {
    let (value, rest) = postcard::take_from_bytes::<T>(body).map_err(|_| WireError::Body)?;
    if rest.is_empty() && value.keeps_bounds() { Ok(value) } else { Err(WireError::Body) }
}

/// The items of a datagram; all or none.
pub(crate) fn parse_items(mut body: &[u8]) -> Result<Vec<Item>, WireError> {
    let mut items = Vec::new();
    while !body.is_empty() {
        let (item, rest) = postcard::take_from_bytes::<Item>(body).map_err(|_| WireError::Body)?;
        if !item.keeps_bounds() {
            return Err(WireError::Body);
        }
        items.push(item);
        body = rest;
    }
    Ok(items)
}

/// A datagram of foca, read before foca does so that its claims can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SwimPacket {
    pub(crate) header: Header<Identity>,
    pub(crate) updates: Vec<Member<Identity>>,
}

impl SwimPacket {
    /// Reads foca's format: header, a `u16` count in network byte order, updates. Custom broadcasts
    /// are not used here, so anything behind is refused.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let (header, rest) =
            postcard::take_from_bytes::<Header<Identity>>(body).map_err(|_| WireError::Body)?;
        if header.message == Message::Broadcast {
            return Err(WireError::Body);
        }
        let mut updates = Vec::new();
        if let [high, low, members @ ..] = rest {
            let mut rest = members;
            for _ in 0..u16::from_be_bytes([*high, *low]) {
                let (update, tail) =
                    postcard::take_from_bytes(rest).map_err(|_| WireError::Body)?;
                updates.push(update);
                rest = tail;
            }
            if !rest.is_empty() {
                return Err(WireError::Body);
            }
        } else if !rest.is_empty() {
            return Err(WireError::Body);
        }
        Ok(Self { header, updates })
    }

    /// Tells a member that others hold it for dead.
    pub(crate) fn turn_undead(src: Identity, dst: Identity) -> Self {
        let header = Header {
            src,
            // foca does not tell ours; the lowest changes nothing at the reader.
            src_incarnation: 0,
            dst,
            message: Message::TurnUndead,
        };
        let updates = Vec::new();
        Self { header, updates }
    }

    /// The packet with our header before it.
    pub(crate) fn sealed(&self) -> Vec<u8> {
        let mut packet = header(Kind::Swim);
        packet.extend(self.bytes());
        packet
    }

    /// The packet in foca's format again.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = append(Vec::new(), &self.header);
        if self.header.message != Message::Announce && self.header.message != Message::TurnUndead {
            let count = u16::try_from(self.updates.len()).unwrap_or(u16::MAX);
            bytes.extend(count.to_be_bytes());
            for update in self.updates.iter().take(count.into()) {
                bytes = append(bytes, update);
            }
        }
        bytes
    }
}

/// Bounds that the type alone does not keep.
pub(crate) trait Checked {
    /// True where every bound is kept.
    fn keeps_bounds(&self) -> bool;
}

impl Checked for Delta {
    fn keeps_bounds(&self) -> bool {
        match &self.change {
            Change::Upsert(endpoint) => endpoint.is_valid(),
            Change::Remove(id) => id.len() <= crate::MAX_ENDPOINT_ID,
            Change::Leaving => true,
        }
    }
}

impl Checked for State {
    fn keeps_bounds(&self) -> bool {
        self.endpoints.len() <= MAX_ENDPOINTS_PER_NODE
            && self.endpoints.iter().all(crate::Endpoint::is_valid)
    }
}

impl Checked for Item {
    fn keeps_bounds(&self) -> bool {
        match self {
            Self::Delta(delta) => delta.keeps_bounds(),
            Self::State(state) => state.keeps_bounds(),
            Self::Version { .. } => true,
        }
    }
}

impl Checked for Answer {
    fn keeps_bounds(&self) -> bool {
        self.states.iter().all(State::keeps_bounds)
    }
}

impl Checked for Closing {
    fn keeps_bounds(&self) -> bool {
        self.states.iter().all(State::keeps_bounds)
    }
}

impl Checked for States {
    fn keeps_bounds(&self) -> bool {
        self.states.iter().all(State::keeps_bounds)
    }
}

impl Checked for Beat {
    fn keeps_bounds(&self) -> bool {
        true
    }
}

impl Checked for NameCheck {
    fn keeps_bounds(&self) -> bool {
        true
    }
}

impl Checked for crate::ask::Nonce {
    fn keeps_bounds(&self) -> bool {
        true
    }
}

impl Checked for crate::ask::NotTold {
    fn keeps_bounds(&self) -> bool {
        true
    }
}

impl Checked for PushPull {
    fn keeps_bounds(&self) -> bool {
        true
    }
}

impl Checked for Pull {
    fn keeps_bounds(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
