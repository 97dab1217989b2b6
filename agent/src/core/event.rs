//! What the core hears and says: events, requests and their answers, actions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ovl_gossip::{Changes, Endpoint, NodeName};
use ovl_ipam::{Lease, Network, NetworkId, NetworkName, NetworkSpec, Networks, Wanted};
use ovl_vxlan::{IfName, Mac, Report};

use super::{Asked, Diagnosis, Explained, Figures, Inspection, Notice, Sandbox, Target, trace};
use crate::control::api;
use crate::docker::{DockerNetwork, NetworkConfig, Scope};

/// Ties a request to its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Ties a call on the store to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// Somebody asks for something; answered by exactly one [`Action::Reply`].
    Request(RequestId, Request),
    /// The store answered.
    Store(CallId, Result<StoreAnswer, Refusal>),
    /// The store's list of networks, after a change or afresh.
    Networks(Networks),
    /// The store did not answer, or answers again (`None`).
    StoreHealth(Option<String>),
    /// The gossip moved.
    Gossip(Changes),
    /// The kernel was brought to the desired state of that version; `audit`: after reading it afresh.
    Applied {
        /// Version of the desired state that was applied.
        version: u64,
        /// True for [`Action::Audit`].
        audit: bool,
        /// What was done, and what failed.
        report: Report,
    },
    /// To [`Action::Inspect`].
    Inspected(RequestId, Result<Inspection, Refusal>),
    /// Docker moved an endpoint's interface into its sandbox, where it has this name.
    Moved {
        /// The endpoint.
        endpoint: String,
        /// The interface's name in there; `None`: it did not arrive in time.
        ifname: Option<IfName>,
    },
    /// Whether a host whose agent is away still answers (a TCP reset is an answer).
    Probed {
        /// The host.
        node: NodeName,
        /// It answers.
        answers: bool,
    },
    /// Endpoints whose sandbox is not there any more.
    SandboxesGone(Vec<String>),
    /// The configuration was read again.
    Reconfigured {
        /// What is allowed in it, but likely not meant, or not in force yet.
        warnings: Vec<String>,
        /// What changed, each as a sentence; `Err`: its mistakes, and nothing was taken.
        changes: Result<Vec<String>, String>,
    },
    /// What Docker's engine says of one container's endpoints, or of all.
    Containers {
        /// They are all there are: what is missing here is not running.
        complete: bool,
        /// The endpoints.
        list: Vec<crate::docker::ContainerEndpoint>,
    },
    /// Docker does not run that container any more, or not on a network of ours.
    ContainerGone(String),
    /// All networks of our driver that Docker has.
    DockerNetworks(Vec<DockerNetwork>),
    /// Docker answered: with the id of the network that it made or removed.
    Docker(DockerCall, Result<String, DockerError>),
    /// The state file is written (`None`), or why not.
    DiskHealth(Option<String>),
    /// Metrics are served where they should be (`None`), or why not.
    MetricsHealth(Option<String>),
    /// What is wrong with DNS in sandboxes, each as a sentence.
    DnsHealth(Vec<String>),
    /// Docker's engine is connected (`None`), or why not.
    DockerHealth(Option<String>),
    /// The time of [`Core::poll_timeout`](super::Core::poll_timeout) has come.
    Timeout,
}

/// What is asked of the agent.
#[derive(Clone, Debug)]
pub enum Request {
    /// `GET /v1/status`
    Status,
    /// What is wrong, for `GET /v1/doctor`.
    Diagnose,
    /// `GET /v1/members`
    Members,
    /// `GET /v1/networks`
    Networks,
    /// `GET /v1/networks/{name}`
    Network(String),
    /// A network's id, for `GET /v1/resolve`.
    NetworkId(String),
    /// What is known of the ends of a way, for `POST /v1/trace`.
    TraceEnds(trace::Question),
    /// `POST /v1/networks`
    CreateNetwork(NetworkSpec),
    /// `DELETE /v1/networks/{name}`
    RemoveNetwork(NetworkName),
    /// `POST /v1/leave`: take this host out of the cluster; `force`: with endpoints, and without the
    /// store.
    LeaveCluster {
        /// See there.
        force: bool,
    },
    /// Levels and counters, for `GET /metrics`.
    Figures,
    /// `GET /v1/resolve/explain`
    Explain(Asked),
    /// `GET /v1/audit`; `repair`: `POST`, put right what differs.
    Audit {
        /// See there.
        repair: bool,
    },
    /// `GET /v1/endpoints`, of one network or all.
    Endpoints(Option<String>),
    /// `POST /v1/endpoints`, the namespace already identified.
    Attach(Target),
    /// `DELETE /v1/endpoints/{network}/{name}`
    Detach {
        /// The network's name.
        network: String,
        /// One of the endpoint's names.
        name: String,
    },
    /// `NetworkDriver.GetCapabilities`, and whether that dockerd shares networks by a cluster store.
    Scope(bool),
    /// `IpamDriver.RequestPool`
    Pool(crate::docker::RequestPool),
    /// `IpamDriver.ReleasePool`
    ReleasePool(String),
    /// `IpamDriver.RequestAddress`
    Address(crate::docker::RequestAddress),
    /// `IpamDriver.ReleaseAddress`: pool and address.
    ReleaseAddress(String, IpAddr),
    /// `NetworkDriver.CreateNetwork`
    DockerNetwork(crate::docker::CreateNetwork),
    /// `NetworkDriver.DeleteNetwork`
    DeleteDockerNetwork(String),
    /// `NetworkDriver.CreateEndpoint`
    CreateEndpoint(crate::docker::CreateEndpoint),
    /// `NetworkDriver.DeleteEndpoint`: Docker's endpoint id.
    DeleteEndpoint(String),
    /// `NetworkDriver.Join`
    Join(crate::docker::Join),
    /// `NetworkDriver.Leave`: Docker's endpoint id.
    Leave(String),
}

/// The good answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Done; there is nothing to say.
    Done,
    /// To `Status`.
    Status(Box<api::Status>),
    /// To `Diagnose`.
    Diagnosis(Box<Diagnosis>),
    /// To `Members`.
    Members(Vec<api::Member>),
    /// To `Networks`.
    Networks(Vec<api::Network>),
    /// To `Network` and `CreateNetwork`.
    Network(api::NetworkDetail),
    /// To `NetworkId`.
    NetworkId(u64),
    /// To `TraceEnds`.
    TraceEnds(Box<trace::Ends>),
    /// To `Endpoints`.
    Endpoints(Vec<api::Endpoint>),
    /// To `Attach`.
    Endpoint(api::Endpoint),
    /// To `Figures`.
    Figures(Box<Figures>),
    /// To `Explain`.
    Explained(Box<Explained>),
    /// To `Audit`.
    Audit(api::audit::Audit),
    /// To `LeaveCluster`: the agent ends now.
    Left(api::Left),
    /// To `Scope`.
    Scope(Scope),
    /// To `Pool`: the subnet, which is also the pool's id.
    Pool(IpNet),
    /// To `Address`.
    Address(IpNet),
    /// To `CreateEndpoint`.
    Mac(Mac),
    /// To `Join`: the interface to take.
    Joined(IfName),
}

impl Request {
    /// It makes something that was not there before.
    pub(crate) fn begins_something(&self) -> bool {
        match self {
            Request::CreateNetwork(_)
            | Request::RemoveNetwork(_)
            | Request::Attach(_)
            | Request::Pool(_)
            | Request::Address(_)
            | Request::DockerNetwork(_)
            | Request::CreateEndpoint(_)
            | Request::Join(_) => true,
            Request::Status
            | Request::Diagnose
            | Request::Members
            | Request::Networks
            | Request::Network(_)
            | Request::NetworkId(_)
            | Request::TraceEnds(_)
            | Request::LeaveCluster { .. }
            | Request::Audit { .. }
            | Request::Explain(_)
            | Request::Figures
            | Request::Endpoints(_)
            | Request::Detach { .. }
            | Request::Scope(_)
            | Request::ReleasePool(_)
            | Request::ReleaseAddress(..)
            | Request::DeleteDockerNetwork(_)
            | Request::DeleteEndpoint(_)
            | Request::Leave(_) => false,
        }
    }

    /// It makes or ends something that a restarted agent must know.
    pub(crate) fn needs_memory(&self) -> bool {
        matches!(
            self,
            Request::Attach(_)
                | Request::Detach { .. }
                | Request::LeaveCluster { .. }
                | Request::Scope(_)
                | Request::DockerNetwork(_)
                | Request::CreateEndpoint(_)
                | Request::Join(_)
        )
    }
}

impl Action {
    /// It says that something is held, or gives something away: a restarted agent must know.
    pub(crate) fn needs_memory(&self) -> bool {
        match self {
            Action::Reply(_, Ok(answer)) => matches!(
                answer,
                Response::Done
                    | Response::Endpoint(_)
                    | Response::Mac(_)
                    | Response::Joined(_)
                    | Response::Scope(_)
            ),
            Action::Store(_, call) => {
                // `ReleaseNode` waits for nobody: held back, it would come after the leave was called off.
                matches!(call, StoreCall::Release { .. } | StoreCall::ReleaseLease(_))
            }
            Action::Announce(_) | Action::Withdraw(_) => true,
            Action::Reply(_, Err(_))
            | Action::Docker(_)
            | Action::DnsEarly { .. }
            | Action::Names(_)
            | Action::Dns { .. }
            | Action::AwaitMove { .. }
            | Action::Probe { .. }
            | Action::Audit
            | Action::Inspect { .. }
            | Action::CheckSandboxes(_)
            | Action::Tell(_)
            | Action::End => false,
        }
    }
}

/// What kind of no it is; the control API makes HTTP statuses of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong.
    Invalid,
    /// It names something that does not exist.
    NotFound,
    /// It is at odds with what exists.
    Conflict,
    /// The store or the kernel did not do it; it can be tried again.
    Unavailable,
}

/// The answer no, as a sentence for a person. Nothing was changed, unless the sentence says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// What happened, to what, why, what to do.
    pub message: String,
}

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal { kind: RefusalKind::Invalid, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal { kind: RefusalKind::NotFound, message: message.into() }
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Refusal {
        Refusal { kind: RefusalKind::Conflict, message: message.into() }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal { kind: RefusalKind::Unavailable, message: message.into() }
    }
}

/// What Docker is to do.
#[derive(Clone, Debug)]
pub enum DockerCall {
    /// Make a network of the cluster.
    Create {
        /// Its id in the cluster.
        network: u64,
        /// What it is to be.
        config: NetworkConfig,
    },
    /// Remove a network, by Docker's id.
    Remove(String),
}

/// Why Docker did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerError {
    /// A network of another driver has the name.
    NameTaken,
    /// There is no such network.
    NotFound,
    /// Containers use it.
    InUse,
    /// Something else, as a sentence.
    Failed(String),
}

/// A call on the registry.
#[derive(Clone, Debug)]
pub enum StoreCall {
    /// The list of networks, afresh.
    Networks,
    /// A new network.
    CreateNetwork(NetworkSpec),
    /// The network of that name and subnet, made if there is none.
    EnsureNetwork(NetworkSpec),
    /// Take a network away.
    RemoveNetwork(NetworkName),
    /// A free subnet that overlaps none of these.
    ProposeSubnet(Vec<Ipv4Net>),
    /// The same for IPv6.
    ProposeSubnet6(Vec<Ipv6Net>),
    /// An address for an endpoint.
    Allocate {
        /// In which network.
        network: NetworkId,
        /// Which one.
        wanted: Wanted,
        /// Who will hold it on this host.
        endpoint: String,
    },
    /// Give an address back.
    Release {
        /// In which network.
        network: NetworkId,
        /// The address.
        address: IpAddr,
    },
    /// Give every address of this host back.
    ReleaseNode,
    /// Give an address back, unless it was given out anew since this lease was read.
    ReleaseLease(Lease),
    /// All addresses of a network that are held.
    Leases(NetworkId),
}

/// The registry's good answer.
#[derive(Clone, Debug)]
pub enum StoreAnswer {
    /// To `Networks`.
    Networks(Networks),
    /// To `CreateNetwork`, `EnsureNetwork`, `RemoveNetwork`.
    Network(Network),
    /// To `ProposeSubnet` and `ProposeSubnet6`.
    Subnet(IpNet),
    /// To `Allocate`.
    Lease(Lease),
    /// To `Leases`.
    Leases(Vec<Lease>),
    /// To `ReleaseNode`: how many those were.
    Released(usize),
    /// To `Release` and `ReleaseLease`.
    Done,
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Action {
    /// Answer a request.
    Reply(RequestId, Result<Response, Refusal>),
    /// Call the store; answered by [`Event::Store`].
    Store(CallId, StoreCall),
    /// Tell the cluster of an endpoint of ours.
    Announce(Endpoint),
    /// Tell the cluster that it is gone.
    Withdraw(String),
    /// Change the names table.
    Names(NamesChange),
    /// Ask Docker for something; answered by [`Event::Docker`].
    Docker(DockerCall),
    /// The same as [`Action::Dns`] for a sandbox of Docker's to which an interface is on its way: if
    /// it is there already.
    DnsEarly {
        /// The sandbox.
        netns: PathBuf,
        /// Networks that it is or will be attached to.
        scope: Vec<u64>,
    },
    /// Serve DNS in this sandbox, for these networks; an empty list: stop, and close every socket.
    Dns {
        /// The sandbox.
        netns: PathBuf,
        /// Networks that it is attached to.
        scope: Vec<u64>,
        /// Docker's own resolver is there: what it is asked, we are asked first.
        embedded: bool,
    },
    /// Find the interface with this MAC in a sandbox that may not exist yet; answered by [`Event::Moved`].
    AwaitMove {
        /// The endpoint.
        endpoint: String,
        /// The sandbox to come.
        netns: PathBuf,
        /// The interface.
        mac: Mac,
    },
    /// Ask whether a host answers; answered by [`Event::Probed`].
    Probe {
        /// Which host.
        node: NodeName,
        /// Where.
        address: std::net::SocketAddrV4,
    },
    /// Read the kernel afresh, and put right what differs from [`Core::desired`](super::Core::desired).
    Audit,
    /// The same for whoever asks, or, without `repair`, only the look at it; answered by
    /// [`Event::Inspected`].
    Inspect {
        /// Who asks.
        request: RequestId,
        /// Put right what differs.
        repair: bool,
    },
    /// See which of these sandboxes still are what they were; answered by [`Event::SandboxesGone`].
    CheckSandboxes(Vec<(String, Sandbox)>),
    /// Keep for whoever asks what happened.
    Tell(Notice),
    /// This host has left the cluster: the agent ends.
    End,
}

/// A change of the names table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamesChange {
    /// A network and its subnets.
    Network(u64, String, Ipv4Net, Option<Ipv6Net>),
    /// A network is gone.
    NoNetwork(u64),
    /// An endpoint has these names and no others.
    Set {
        /// The network's id.
        network: u64,
        /// Host and endpoint id.
        key: (String, String),
        /// The address.
        ipv4: Ipv4Addr,
        /// Its IPv6 address, on a network that has them.
        ipv6: Option<Ipv6Addr>,
        /// All names.
        names: Vec<String>,
    },
    /// An endpoint has no names any more.
    Remove(u64, (String, String)),
}
