//! The registry over its real stores: a Consul server of its own, SQLite files, and the store in
//! memory that can be told to fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
mod consul;
mod crashes;
mod dual_stack;
mod lives;
mod looks;
mod races;
mod secrets;
mod sqlite;
mod stores;
mod support;
