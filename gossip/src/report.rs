//! What the crate tells its user: members, endpoints, changes and counters.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::{Endpoint, NodeName};

/// How a member is seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It did not answer a probe, and has some seconds to refute that.
    Suspect,
    /// It did not refute; it is remembered, and asked again for a day.
    Down,
    /// It said that it stops.
    Left,
}

/// Another node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Where it listens (UDP and TCP); the IP is also its VTEP.
    pub address: SocketAddrV4,
    /// How it is seen from here.
    pub state: MemberState,
}

/// All endpoints of one node, as far as known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoints {
    /// The node, the only writer of this state.
    pub node: NodeName,
    /// Where VXLAN packets for the endpoints go: the IP of the node's newest known address.
    pub vtep: Ipv4Addr,
    /// The endpoints, ordered by id.
    pub endpoints: Vec<Endpoint>,
}

/// What changed since the last [`changes`](crate::Gossip::changes).
///
/// Coalesced, so bounded by the size of the tables: every entry is the state as of now, however
/// often it changed. To be applied in this order: `forgotten`, `members`, `nodes`.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Members forgotten (down or left for long): drop all that is held of them.
    pub forgotten: Vec<NodeName>,
    /// Each member that is new, moved or changed its state.
    pub members: Vec<Member>,
    /// The whole state of each node that changed (never our own).
    pub nodes: Vec<NodeEndpoints>,
    /// Another live host uses our name; its address. A level, not an edge: it stands in every batch
    /// while the conflict lasts, and its end makes a batch too.
    pub name_conflict: Option<SocketAddr>,
    /// A host speaks another version of the format: it is not heard, and does not hear us. Told at most
    /// every ten seconds while that lasts.
    pub other_format: Option<OtherFormat>,
    /// Somebody says what cannot be. Told now and then while that lasts.
    pub oddity: Option<Oddity>,
    /// True once: a first push-pull with a live peer has completed since the start.
    pub synced: bool,
}

/// A packet of another release of this gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherFormat {
    /// Who sent it, as far as the packet's source can be believed.
    pub from: Ipv4Addr,
    /// The version of its format.
    pub version: u8,
    /// Ours.
    pub known: u8,
}

/// A claim that harms nothing, and that no agent in order makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// An epoch that no clock can have given ([`EPOCHS_AHEAD`](crate::EPOCHS_AHEAD)). It was not believed.
    /// Told at most every ten seconds.
    Epoch {
        /// Who claimed it, as far as the packet's source can be believed.
        from: Ipv4Addr,
        /// Of which host; it may be this one.
        node: NodeName,
        /// The epoch.
        epoch: u64,
    },
    /// This host had just told that it lives, and was held for dead again. It waits the longer before it
    /// tells so once more.
    HeldForDead {
        /// How often it had to since its start.
        rejoins: u64,
    },
}

/// Counters since the start, and a few levels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Members that are alive or suspect, without ourselves.
    pub members_alive: u64,
    /// Members that are down or left, and still remembered.
    pub members_down: u64,
    /// Endpoints of other nodes in the table.
    pub endpoints: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams not received or not sent because the socket said no (no route, refused, full).
    pub datagram_errors: u64,
    /// Datagrams, streams and claims refused: malformed, of another version, from a wrong source, over a bound.
    pub rejected: u64,
    /// Endpoint changes of others that were new to us.
    pub deltas_in: u64,
    /// Our own endpoint changes.
    pub deltas_out: u64,
    /// Endpoint changes waiting to be sent again.
    pub backlog: u64,
    /// Endpoint changes given up because the backlog was full; push-pull carries them.
    pub backlog_dropped: u64,
    /// Membership updates waiting in SWIM's queue.
    pub swim_backlog: u64,
    /// Push-pulls that we began and that were completed.
    pub push_pulls_ok: u64,
    /// Push-pulls that we began and that failed.
    pub push_pulls_failed: u64,
    /// Push-pulls and pulls that others began and that we answered.
    pub answered: u64,
    /// States asked for because a change was missed, and received.
    pub pulls_ok: u64,
    /// The same, failed.
    pub pulls_failed: u64,
    /// Inbound streams refused because too many were open, of all or of one address.
    pub streams_refused: u64,
    /// Inbound streams closed because they did not begin a frame in time.
    pub streams_silent: u64,
    /// Claims that a member is down which were first put to the member itself.
    pub doubts: u64,
    /// Times this process was frozen or starved, and held its judgement on others.
    pub stalls: u64,
    /// Times we were held down though alive, and came back by ourselves.
    pub rejoins: u64,
}
