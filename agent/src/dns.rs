//! Names for containers: a DNS server inside every attached sandbox.
//!
//! Each container asks 169.254.53.53, an address on its own `lo`. The socket behind it was made
//! inside that container's network namespace, so the socket itself tells who asks: an answer is
//! scoped to the networks the container is attached to, and no route, gateway or source address
//! is needed. What is ours is answered from memory at once; everything else goes to the host's
//! own resolvers, from the host's namespace.
//!
//! | file | what it does | IO |
//! |---|---|---|
//! | `names.rs` | the table: names to addresses and back, by network | none |
//! | `answer.rs`, `reply.rs` | a query in, a reply or "forward this" out | none |
//! | `wire.rs` | the few bytes of a message that are read or patched in place | none |
//! | `resolv_conf.rs` | the host's list of resolvers | none |
//! | `upstreams.rs` | those resolvers now, and which were silent of late | reads the file |
//! | `forward.rs` | which resolver, when, how often; coalescing | timers |
//! | `exchange.rs` | one question to one resolver, over UDP or TCP | sockets |
//! | `resolver.rs` | what all sandboxes share: table, forwarder, bounds, counters | none |
//! | `serve.rs` | the loops over a sandbox's UDP socket and TCP listener | sockets |
//!
//! # Why not `hickory-server`
//! Messages are read and written with `hickory-proto`. The server loops are our own, because
//! `hickory-server` 0.26 stands in the way of three things this server needs:
//! - a forwarded answer is relayed byte for byte, so that types nobody here knows survive; its
//!   response handler takes records only, which means decoding and encoding every foreign answer;
//! - its loops start a task for every datagram and connection, without any bound;
//! - its tasks hold the sockets until each has been cancelled. A socket keeps its namespace
//!   alive: here one future owns all of a sandbox's sockets, and they close when it goes.
//!
//! # Who owns what
//! The core writes the [`Names`] table; every sandbox reads it. The [`Resolver`] is what all
//! sandboxes share: table, upstreams, bounds, counters. A [`SandboxDns`] owns one task, and that
//! task owns the sockets, the open connections and the forwarded queries of one sandbox.
//!
//! There is no cache of foreign answers in this version: the host's resolver has one.
mod answer;
mod exchange;
mod forward;
mod names;
mod reply;
mod resolv_conf;
mod resolver;
mod serve;
#[cfg(test)]
mod tests;
mod upstreams;
mod wire;

pub use forward::Limits;
pub use names::{Names, Resolution, ReverseResolution};
pub use resolver::{Counts, Resolver};
pub use serve::{DnsError, SandboxDns};

use std::net::Ipv4Addr;

/// Where every container finds its resolver: an address on its own `lo`, link-local (RFC 3927)
/// so that it never clashes with an overlay, and never forwarded to (it would be a loop).
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);

/// How a message came: it decides how long an answer may be, and how it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// One message a datagram, cut at the client's advertised size.
    Udp,
    /// Messages of up to 65,535 bytes behind two length bytes (RFC 1035 §4.2.2).
    Tcp,
}
