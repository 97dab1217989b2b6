//! The dataplane against the real kernel, in network namespaces of its own. Needs root.
//!
//! What the kernel holds is asserted with `ip`, `bridge`, `nft` and packets, not with this crate.

#![allow(clippy::unwrap_used, reason = "tests")]

mod adoption;
mod compare;
mod device;
mod host;
mod ipv6;
mod lab;
mod observer;
mod ownership;
mod probe;
mod purge;
mod redirect;
mod rows;
mod sandbox;
mod traffic;
