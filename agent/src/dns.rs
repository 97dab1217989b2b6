//! Names for containers: a DNS server inside every attached sandbox.
//!
//! Each container asks 169.254.53.53, an address on its own `lo`. The socket behind it was made
//! inside that container's network namespace, so the socket itself tells who asks: an answer is
//! scoped to the networks the container is attached to, and no route, gateway or source address
//! is needed. What is ours is answered from memory at once; everything else goes to the host's
//! own resolvers, from the host's namespace.
//!
//! Docker gives its containers a resolver of its own, 127.0.0.11, which knows names that nobody
//! else knows. In such a sandbox a kernel rule leads the queries for it to [`REDIRECT_PORT`] of our
//! address, and what is not ours goes on to Docker's resolver, from inside the sandbox and marked
//! with [`PASS_MARK`], so that the rule lets it pass. Which port a query came to decides where it
//! goes: Docker's resolver may itself ask us at port 53, and there is no loop.
//!
//! | file | what it does | IO |
//! |---|---|---|
//! | `names.rs`, `network.rs` | the table: names to addresses and back, by network | none |
//! | `answer.rs`, `reply.rs` | a query in, a reply or "forward this" out | none |
//! | `turns.rs` | who comes first when several share a name | none |
//! | `wire.rs` | the few bytes of a message that are read or patched in place | none |
//! | `resolv_conf.rs` | the host's list of resolvers | none |
//! | `upstreams.rs` | those resolvers now, and which were silent of late | reads the file |
//! | `forward.rs` | which resolver, when, how often; coalescing | timers |
//! | `exchange.rs` | one question to one resolver, over UDP or TCP | sockets |
//! | `resolver.rs` | what all sandboxes share: table, forwarder, bounds, counters | none |
//! | `waiters.rs` | who waits for which answer of Docker's resolver | none |
//! | `embedded.rs` | Docker's resolver in the sandbox, asked over one shared socket | sockets |
//! | `sockets.rs` | a sandbox's sockets, made inside its namespace | sockets |
//! | `serve.rs` | the loops over a sandbox's UDP sockets and TCP listeners | sockets |
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
mod embedded;
mod exchange;
mod forward;
mod names;
mod network;
mod reply;
mod resolv_conf;
mod resolver;
mod serve;
mod sockets;
#[cfg(test)]
mod tests;
mod turns;
mod upstreams;
mod waiters;
mod wire;

pub use embedded::Embedded;
pub use forward::Limits;
pub use names::{Names, Resolution, ReverseResolution};
pub use reply::TTL;
pub use resolver::{Counts, Durations, Resolver};
pub use serve::SandboxDns;
pub use sockets::{DnsError, KeptSockets, Sockets};

use std::net::{Ipv4Addr, SocketAddrV4};

/// Where every container finds its resolver: an address on its own `lo`, link-local (RFC 3927)
/// so that it never clashes with an overlay, and never forwarded to (it would be a loop).
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);

/// Port of [`RESOLVER_ADDRESS`], UDP and TCP, to which a kernel rule in a sandbox of Docker's leads
/// what the container asks of [`EMBEDDED_RESOLVER`].
pub const REDIRECT_PORT: u16 = 54;

/// Docker's own resolver, as every container on a network made by a user sees it.
pub const EMBEDDED_RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);

/// `SO_MARK` of our own queries to [`EMBEDDED_RESOLVER`]: the kernel rule lets them pass.
pub const PASS_MARK: u32 = 0x006f_766c;

/// How a message came: it decides how long an answer may be, and how it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// One message a datagram, cut at the client's advertised size.
    Udp,
    /// Messages of up to 65,535 bytes behind two length bytes (RFC 1035 §4.2.2).
    Tcp,
}
