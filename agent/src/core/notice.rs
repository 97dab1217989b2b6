//! What the core tells of: one thing that happened, for people and programs to read afterwards.

use std::net::IpAddr;

/// Longest reason that is kept, in characters; what is over is cut.
const REASON_MAX: usize = 300;

/// Most details of one notice; what is over is only counted.
pub(super) const DETAILS_MAX: usize = 8;

/// One thing that happened. When, and in which order, is the driver's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What kind of thing.
    pub kind: Kind,
    /// One sentence without its reason, lowercase, no full stop.
    pub summary: String,
    /// The host that it happened to, or on.
    pub host: Option<String>,
    /// The network's name.
    pub network: Option<String>,
    /// The endpoint's first name; one that has none yet: the first 12 characters of its id.
    pub endpoint: Option<String>,
    /// Of the endpoint, the host, or what is held twice.
    pub address: Option<IpAddr>,
    /// Where one notice stands for several: how many things happened.
    pub count: Option<usize>,
    /// Why, as far as it is known.
    pub reason: Option<String>,
    /// What else there is to say, a line each; at most eight.
    pub details: Vec<String>,
}

impl Notice {
    /// One without subjects.
    pub(crate) fn new(kind: Kind, summary: impl Into<String>) -> Notice {
        Notice {
            kind,
            summary: summary.into(),
            host: None,
            network: None,
            endpoint: None,
            address: None,
            count: None,
            reason: None,
            details: Vec::new(),
        }
    }

    pub(crate) fn host(self, host: impl ToString) -> Notice {
        Notice { host: Some(host.to_string()), ..self }
    }

    pub(crate) fn network(self, network: impl ToString) -> Notice {
        Notice { network: Some(network.to_string()), ..self }
    }

    pub(crate) fn endpoint(self, endpoint: impl ToString) -> Notice {
        Notice { endpoint: Some(endpoint.to_string()), ..self }
    }

    pub(crate) fn address(self, address: impl Into<IpAddr>) -> Notice {
        Notice { address: Some(address.into()), ..self }
    }

    pub(crate) fn count(self, count: usize) -> Notice {
        Notice { count: Some(count), ..self }
    }

    /// What is not known is given as an empty text.
    pub(crate) fn because(self, reason: impl AsRef<str>) -> Notice {
        let reason: String = reason.as_ref().chars().take(REASON_MAX).collect();
        Notice { reason: (!reason.is_empty()).then_some(reason), ..self }
    }

    /// The first [`DETAILS_MAX`] of them, and how many more there are.
    pub(crate) fn details(self, all: impl IntoIterator<Item = String>) -> Notice {
        let mut all = all.into_iter();
        let mut details: Vec<String> = all.by_ref().take(DETAILS_MAX).collect();
        let more = all.count();
        if more > 0
            && let Some(last) = details.last_mut()
        {
            *last = format!("and {} more", more + 1);
        }
        Notice { details, ..self }
    }
}

/// How much the log wants to know of a kind of notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// Each.
    Info,
    /// Only for who looks closely: a busy cluster has thousands.
    Debug,
    /// Nothing: where it happens it is logged already.
    Elsewhere,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:literal $several:literal $log:ident)+) => {
        /// What kind of thing happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];

            /// As it is written in JSON, on the command line and in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)+
                }
            }

            /// How much the log wants to know of it.
            pub(crate) const fn log(self) -> Log {
                match self {
                    $(Kind::$kind => Log::$log,)+
                }
            }

            /// Behind a number: what happened that often.
            pub(super) const fn several(self) -> &'static str {
                match self {
                    $(Kind::$kind => $several,)+
                }
            }
        }
    };
}

kinds! {
    /// This agent started, and took over what ran.
    AgentStarted "agent-started" "agents started" Elsewhere
    /// It is ready: the service manager was told so.
    AgentReady "agent-ready" "times this agent was ready" Elsewhere
    /// It stops; endpoints stay.
    AgentStopping "agent-stopping" "times this agent stopped" Elsewhere
    /// This host begins to leave the cluster.
    Leaving "leaving" "times this host began to leave" Elsewhere
    /// It stays after all.
    Staying "staying" "times this host stayed" Elsewhere
    /// The configuration was read again.
    Reloaded "reloaded" "reloads" Elsewhere
    /// It has mistakes, and nothing was taken.
    ReloadRefused "reload-refused" "reloads refused" Elsewhere
    /// A host is new in the cluster.
    HostJoined "host-joined" "hosts joined" Info
    /// A host did not answer a probe.
    HostSuspected "host-suspected" "hosts are suspected" Info
    /// A host's agent was given up.
    HostDown "host-down" "hosts are down" Info
    /// A host's agent stopped in order.
    HostLeft "host-left" "hosts left" Info
    /// A host's agent answers again.
    HostBack "host-back" "hosts are back" Info
    /// A host has another address.
    HostMoved "host-moved" "hosts moved" Info
    /// A host whose agent is away gives no sign of life: its endpoints are withdrawn.
    HostSilent "host-silent" "hosts are silent" Info
    /// It gives signs of life again: its endpoints are back.
    HostAnswers "host-answers" "hosts answer again" Info
    /// A host was away for so long that nothing is remembered of it.
    HostForgotten "host-forgotten" "hosts were forgotten" Info
    /// Names of a host whose agent is away are not answered any more.
    NamesWithheld "names-withheld" "hosts' names are not answered any more" Info
    /// Another host uses this host's name.
    NameConflict "name-conflict" "times another host had this host's name" Info
    /// It does not any more.
    NameConflictOver "name-conflict-over" "conflicts over this host's name ended" Info
    /// A host runs a release that is not understood.
    OtherFormat "other-format" "hosts of another release were heard" Elsewhere
    /// Somebody told by the gossip what cannot be.
    OddClaim "odd-claim" "things that cannot be were claimed" Elsewhere
    /// An endpoint is on a network.
    EndpointAttached "endpoint-attached" "endpoints were attached" Debug
    /// An endpoint is not there any more.
    EndpointDetached "endpoint-detached" "endpoints were detached" Debug
    /// An endpoint is on another host, or has another address.
    EndpointMoved "endpoint-moved" "endpoints moved" Debug
    /// An endpoint has other names.
    EndpointRenamed "endpoint-renamed" "endpoints got other names" Debug
    /// A network is in the store.
    NetworkCreated "network-created" "networks were created" Info
    /// A network is not in the store any more.
    NetworkRemoved "network-removed" "networks were removed" Info
    /// The store forgot a network that is in use here.
    NetworkOrphaned "network-orphaned" "networks are not known to the store any more" Info
    /// An address is held by two endpoints.
    AddressConflict "address-conflict" "addresses are held twice" Info
    /// It is not any more.
    AddressConflictOver "address-conflict-over" "addresses are not held twice any more" Info
    /// The kernel was not what it should be, and was put right.
    KernelRepaired "kernel-repaired" "times the kernel was put right" Elsewhere
    /// The kernel did not take what it should hold.
    KernelFailed "kernel-failed" "things were not taken by the kernel" Info
    /// It holds all that it should.
    KernelBack "kernel-back" "times the kernel took all again" Info
    /// The store does not answer.
    StoreLost "store-lost" "times the store was lost" Elsewhere
    /// The store answers.
    StoreBack "store-back" "times the store was back" Elsewhere
    /// Docker's engine is not connected.
    DockerLost "docker-lost" "times Docker was lost" Info
    /// Docker's engine is connected.
    DockerBack "docker-back" "times Docker was back" Elsewhere
    /// Containers without DNS of ours.
    DnsLost "dns-lost" "times DNS was lost" Info
    /// DNS is served in every container.
    DnsBack "dns-back" "times DNS was back" Info
    /// Metrics are not served where they should be.
    MetricsLost "metrics-lost" "times metrics could not be served" Info
    /// They are.
    MetricsBack "metrics-back" "times metrics were served again" Info
    /// The agent's state cannot be written.
    StateLost "state-lost" "times the state could not be written" Elsewhere
    /// It is written again.
    StateBack "state-back" "times the state was written again" Info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_that_differ_and_that_a_label_can_hold() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let plain = |name: &&&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert_eq!(names.iter().filter(plain).count(), names.len());
    }

    #[test]
    fn a_notice_is_bounded_and_says_what_was_left_out() {
        let notice = Notice::new(Kind::Reloaded, "x").because("é".repeat(1000));
        assert_eq!(notice.reason.unwrap().chars().count(), REASON_MAX);
        let notice = Notice::new(Kind::Reloaded, "x").details((0..20).map(|n| n.to_string()));
        assert_eq!(notice.details.len(), DETAILS_MAX);
        assert_eq!(notice.details.last().unwrap(), "and 13 more");
    }
}
