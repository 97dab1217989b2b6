//! The whole of ovl as its users meet it: real agents on hosts of a lab, a real Consul, a real
//! dockerd, and what the kernel and packets say.
//!
//! Each test builds a lab of its own, and takes it down, also when it fails. Needs root, the
//! programs of `scripts/tools`, and `ovl-agent` and `ovlctl` built (`scripts/test` does all that).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod audit;
mod bundle;
mod capture;
mod cluster;
mod crash;
mod demo;
mod docker;
mod doctor;
mod events;
mod everything;
mod firewall;
mod journal;
mod lab;
mod leave;
mod metrics;
mod outage;
mod peers;
mod ping;
mod race;
mod refusals;
mod reload;
mod restart;
mod secrets;
mod support;
mod top;
mod trace;
