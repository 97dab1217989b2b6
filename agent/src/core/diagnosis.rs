//! What the agent knows to be wrong, sorted by what it is of, so that an examination of the host says
//! each thing once.

use std::time::{Duration, Instant};

use ovl_gossip::MemberState;
use ovl_vxlan::ApplyError;

use super::Core;
use crate::control::api;

/// What a problem is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The configuration: allowed, but likely not meant, or not in force yet.
    Settings,
    /// No host to join by has answered.
    Joining,
    /// Hosts of another release are not understood.
    Release,
    /// Somebody told by the gossip what cannot be.
    Claims,
    /// Hosts that should be there are not.
    Hosts,
    /// Another host has this host's name.
    Name,
    /// An address is held more than once.
    Address,
    /// The store does not answer.
    Store,
    /// What the store says cannot be.
    Foreign,
    /// Docker's networks against those of the cluster.
    Docker,
    /// DNS in containers.
    Dns,
    /// The agent's memory on disk.
    Disk,
    /// The kernel refused something.
    Kernel,
    /// In the kernel, a foreign vxlan device is in the way.
    Device,
    /// Another program has the VXLAN port.
    Port,
    /// It follows from another problem, which is told as well.
    Consequence,
    /// Addresses wait for the store to take them back.
    GiveBack,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is of.
    pub topic: Topic,
    /// A sentence that says what to do.
    pub text: String,
}

impl Problem {
    pub(super) fn new(topic: Topic, text: impl Into<String>) -> Problem {
        Problem { topic, text: text.into() }
    }
}

/// What the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) text: String,
    pub(super) topic: Topic,
}

impl Trouble {
    pub(super) fn of(what: String, error: &ApplyError) -> Trouble {
        let topic = match error {
            error if error.is_foreign_device() => Topic::Device,
            error if error.is_port_in_use() => Topic::Port,
            error if error.is_consequence() => Topic::Consequence,
            _ => Topic::Kernel,
        };
        Trouble { text: format!("{what}: {}", crate::chain(error)), topic }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// All that is wrong now.
    pub problems: Vec<Problem>,
    /// The hosts of the cluster, this one included.
    pub members: Vec<api::Member>,
    /// The cluster's networks.
    pub networks: Vec<api::Network>,
    /// Addresses of endpoints on other hosts.
    pub remote_addresses: usize,
    /// Things that audits found changed by others, and put right, since the start.
    pub repaired: u64,
    /// How long ago the last one of them was.
    pub repaired_ago: Option<Duration>,
}

impl Core {
    pub(super) fn diagnosis(&self, now: Instant) -> Diagnosis {
        Diagnosis {
            problems: self.problems(now),
            members: self.members(),
            networks: self.network_list(),
            remote_addresses: self
                .remotes
                .visible()
                .map(|(_, e)| 1 + usize::from(e.ipv6.is_some()))
                .sum(),
            repaired: self.health.repaired,
            repaired_ago: self.health.repaired_at.map(|at| now.saturating_duration_since(at)),
        }
    }
}

impl Diagnosis {
    /// The sentences of one topic.
    pub fn texts(&self, topic: Topic) -> impl Iterator<Item = String> {
        self.problems.iter().filter(move |p| p.topic == topic).map(|problem| problem.text.clone())
    }

    /// The hosts in that state, by name.
    pub fn in_state(&self, state: MemberState) -> impl Iterator<Item = &api::Member> {
        self.members.iter().filter(move |member| member.state == state)
    }
}
