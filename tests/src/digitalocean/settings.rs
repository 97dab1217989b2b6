//! How the server behaves, and what the account may do.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::Ipv4Net;

/// When a new droplet becomes active. Its fleet must know its addresses by then, or it stays new.
#[derive(Debug, Clone, Copy)]
pub enum Activation {
    /// After it was shown as new so many times, alone, in a list or by its action of creation.
    AfterReads(u32),
    /// After so much time.
    After(Duration),
}

/// How the server behaves. A running server's are changed with
/// [`adjust`](super::DigitalOcean::adjust).
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only token that is let in.
    pub token: String,
    /// The UUID of the team that the account is of.
    pub team: String,
    /// No page has more entries than this, whatever `per_page` asks for.
    pub page_size: usize,
    /// How many droplets the account may have.
    pub droplet_limit: usize,
    /// When a new droplet becomes active.
    pub activation: Activation,
    /// How many reads show an action as in progress, except that of a creation.
    pub action_reads: u32,
    /// In how many lists a droplet still shows after its deletion.
    pub linger_lists: u32,
    /// In how many lists a new droplet does not show yet.
    pub late_lists: u32,
    /// Whether a droplet that is still new refuses its deletion with 422.
    pub busy_while_new: bool,
    /// How many lists of SSH keys a minute may bring; DigitalOcean lets 10. `None`: any number.
    pub key_lists_per_minute: Option<usize>,
    /// Names of droplets that stay new for ever.
    pub never_active: BTreeSet<String>,
    /// Names of droplets whose actions, that of their creation included, end as errored.
    pub erring: BTreeSet<String>,
    /// By region, the range of its default VPC in place of the usual one.
    pub vpc_ranges: BTreeMap<String, Ipv4Net>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            token: format!("dop_v1_{}", "5ec7e7".repeat(10)),
            team: "5df3e3004a17e242b7c20ca6c9fc25b701a47ece".to_owned(),
            page_size: 2,
            droplet_limit: 25,
            activation: Activation::AfterReads(2),
            action_reads: 1,
            linger_lists: 1,
            late_lists: 0,
            busy_while_new: false,
            key_lists_per_minute: None,
            never_active: BTreeSet::new(),
            erring: BTreeSet::new(),
            vpc_ranges: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// A droplet of this name never becomes active.
    #[must_use]
    pub fn never_active(mut self, name: &str) -> Self {
        self.never_active.insert(name.to_owned());
        self
    }

    /// The actions of a droplet of this name err.
    #[must_use]
    pub fn erring(mut self, name: &str) -> Self {
        self.erring.insert(name.to_owned());
        self
    }
}
