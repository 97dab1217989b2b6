//! ovl as it is installed: packages, units and reboots, in machines with a real systemd.
//!
//! Each test makes machines of its own, and takes them down, also when it fails. Needs root, the
//! roots of `scripts/tools system`, and packages (`scripts/test-system` does all that).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod boot;
mod cloud;
mod doctor;
mod droplet;
mod leave;
mod machine;
mod package;
mod reload;
mod running;
mod support;
mod unit;
mod upgrade;
