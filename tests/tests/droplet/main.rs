//! `ovlctl droplet` as it is run, against a server of the provider's API: what is asked, what is made, and what
//! happens when something fails. What is done over ssh is tested on machines, in `tests/system`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod agents;
mod failures;
mod keys;
mod make;
mod remove;
mod rig;
mod ssh;
mod usage;
