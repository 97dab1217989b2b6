//! What a network and IPAM driver must be able to do, and the answers that need no decision.
//!
//! dockerd loads a driver lazily and never asks its capabilities again while it lives, so what is
//! answered here must stay true over a restart of the agent:
//!
//! - `Scope` is the backend's to say ([`Backend::capabilities`]), as it depends on the dockerd that
//!   asks: a driver of global scope is refused outside of Swarm mode before 24.0 unless that dockerd
//!   has a cluster store, and as a v1 plugin within Swarm mode. `ConnectivityScope` is `global`: the
//!   network does reach other hosts.
//! - `RequiresMACAddress` is false: an address does not depend on the MAC.
//! - `RequiresRequestReplay` is false: the store is durable, so dockerd need not tell it again at
//!   each start what is held. A replayed request also could not be told from a new `--ip` of the
//!   same address: it says nothing of the endpoint that holds it, and accepting it would give one
//!   address to two endpoints.
//! - The gateway check of Docker 28 is not asked for: a network's gateway stays reserved on every
//!   version of Docker alike.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use axum::http::StatusCode;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use super::daemon;
use super::fields::shown;
use super::wire::{self, Call};

/// The address space of networks whose addresses come from the IPAM driver of this agent.
///
/// A network whose [`IpamData::address_space`] is neither this nor [`GLOBAL_ADDRESS_SPACE`] was
/// created without `--ipam-driver` of ours: each host would give out the same addresses.
pub const LOCAL_ADDRESS_SPACE: &str = "ovl-local";

/// As [`LOCAL_ADDRESS_SPACE`], for networks of global scope; dockerd asks for both names.
pub const GLOBAL_ADDRESS_SPACE: &str = "ovl-global";

/// The driver's side of the plugin protocol: what dockerd asks, typed and checked.
///
/// Calls run on tasks of their own: a call ends even when dockerd drops the connection meanwhile,
/// and dockerd may then ask the same again. `RequestAddress` and `CreateEndpoint` are serialised
/// per network by dockerd; everything else may run at the same time. dockerd waits without limit
/// and holds the container's lock while it does: every call must answer within a bounded time.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Which scope the networks have for the dockerd that asks. It asks once, when it loads the
    /// driver; after an error it cannot use the driver until it is started again.
    ///
    /// `cluster_store`: that dockerd was started with `--cluster-store`, as far as can be seen.
    async fn capabilities(&self, cluster_store: bool) -> Result<Scope, PluginError>;
    /// Reserves a pool. The same request again gives the same pool, counted once more.
    async fn request_pool(&self, request: RequestPool) -> Result<PoolReply, PluginError>;
    /// Gives a pool back. Errors are only logged by dockerd: a repeat must be harmless.
    async fn release_pool(&self, pool_id: String) -> Result<(), PluginError>;
    /// Reserves an address; the reply carries the pool's prefix length.
    async fn request_address(&self, request: RequestAddress) -> Result<IpNet, PluginError>;
    /// Gives an address back. Errors are only logged by dockerd: a repeat must be harmless.
    async fn release_address(&self, pool_id: String, address: IpAddr) -> Result<(), PluginError>;
    /// Makes a network known. After an error dockerd releases pool and gateway by itself.
    async fn create_network(&self, request: CreateNetwork) -> Result<(), PluginError>;
    /// Forgets a network. It disappears from Docker whatever the answer is.
    async fn delete_network(&self, id: String) -> Result<(), PluginError>;
    /// Makes an endpoint. After an error dockerd does not ask for its deletion.
    async fn create_endpoint(
        &self,
        request: CreateEndpoint,
    ) -> Result<CreateEndpointReply, PluginError>;
    /// Removes an endpoint and its link. Errors are only logged by dockerd.
    async fn delete_endpoint(&self, network: String, endpoint: String) -> Result<(), PluginError>;
    /// Prepares the link of a starting container; dockerd moves it there afterwards.
    async fn join(&self, request: Join) -> Result<JoinReply, PluginError>;
    /// A container stops: its link is still inside, and comes back after this call.
    async fn leave(&self, network: String, endpoint: String) -> Result<(), PluginError>;
}

/// Where Docker keeps the networks of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each host has its own, under an id of its own.
    Local,
    /// They are in Docker's cluster store (or, from 24.0 on, only called global), so that all
    /// hosts have them under one id.
    Global,
}

/// `IpamDriver.RequestPool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPool {
    /// `docker network create --subnet`, without host bits; None: pick a free one. dockerd asks
    /// again, still holding the first, when a picked one overlaps a route of the host.
    pub pool: Option<IpNet>,
    /// `--ip-range`, without host bits: the part of the pool that endpoints get addresses from.
    pub sub_pool: Option<IpNet>,
    /// `--ipam-opt`.
    pub options: BTreeMap<String, String>,
    /// The family that is asked for; `pool` and `sub_pool` are of it.
    pub v6: bool,
    /// One of the two address spaces of this driver.
    pub address_space: String,
}

/// The reserved pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReply {
    /// Names the pool in every later request; opaque to dockerd.
    pub pool_id: String,
    /// The whole subnet, also when only a part of it is given out.
    pub pool: IpNet,
}

/// `IpamDriver.RequestAddress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAddress {
    /// As answered to `RequestPool`.
    pub pool_id: String,
    /// `--ip`, `--gateway` or `--aux-address`; None: pick a free one.
    pub address: Option<IpAddr>,
    /// For the network's gateway, not for an endpoint.
    pub gateway: bool,
    /// The endpoint's MAC, when Docker knows it by now.
    pub mac: Option<[u8; 6]>,
    /// The container's name, from Docker 29.0 on; for words to people only. A name that is longer
    /// than [`MAX_ENDPOINT_NAME`](super::MAX_ENDPOINT_NAME) is left out.
    pub endpoint_name: Option<String>,
}

/// `NetworkDriver.CreateNetwork`. The network's name is not sent by dockerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNetwork {
    /// Docker's id of the network; another one on each host.
    pub id: String,
    /// `docker network create -o`.
    pub options: BTreeMap<String, String>,
    /// `--internal`.
    pub internal: bool,
    /// `--ipv6`.
    pub enable_ipv6: bool,
    /// One for each IPv4 `--subnet`, all of that family; none with `--ipv4=false`.
    pub ipv4: Vec<IpamData>,
    /// One for each IPv6 `--subnet`, all of that family.
    pub ipv6: Vec<IpamData>,
}

/// What the IPAM driver gave for one subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpamData {
    /// Tells which IPAM driver it was.
    pub address_space: String,
    /// The subnet, without host bits; `0.0.0.0/0` with `--ipam-driver null`.
    pub pool: IpNet,
    /// The gateway's address with the subnet's prefix length.
    pub gateway: Option<IpNet>,
    /// `--aux-address`, by name.
    pub aux: BTreeMap<String, IpNet>,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateEndpoint {
    /// Docker's id of the network.
    pub network: String,
    /// Docker's id of the endpoint, new at each start of a container.
    pub endpoint: String,
    /// As answered to `RequestAddress`; None with `--ipam-driver null`.
    pub address: Option<Ipv4Net>,
    /// The same of IPv6.
    pub address6: Option<Ipv6Net>,
    /// `--mac-address`.
    pub mac: Option<[u8; 6]>,
    /// `--driver-opt` of the connection, and what else of the options is text.
    pub options: BTreeMap<String, String>,
}

/// The endpoint that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateEndpointReply {
    /// The MAC that Docker is to set and show. Not sent when the request had one: dockerd takes
    /// even the same one as an attempt to change it, and fails.
    pub mac: Option<[u8; 6]>,
}

/// `NetworkDriver.Join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Docker's id of the network.
    pub network: String,
    /// Docker's id of the endpoint.
    pub endpoint: String,
    /// The container's network namespace; before Docker 28 it does not exist yet when a
    /// container starts.
    pub sandbox_key: PathBuf,
}

/// The link that goes into the container. There is no gateway in it, on purpose: dockerd then
/// supplies the way out and published ports by its `docker_gwbridge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// The link's name in dockerd's namespace, at most 15 bytes.
    pub src_name: String,
    /// The link's name inside, to which dockerd appends a number.
    pub dst_prefix: String,
    /// No `docker_gwbridge` for the sake of this endpoint.
    pub disable_gateway_service: bool,
}

/// Why a call failed: Docker shows the message to who typed the command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginError {
    /// For the plugin socket; dockerd treats everything else than 200 alike.
    pub status: StatusCode,
    /// What happened, to what, why, and what to do next.
    pub message: String,
}

impl PluginError {
    /// The request is wrong: it will fail again as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such network, endpoint or pool.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Taken, overlapping, or still in use.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// The store or the kernel did not do it in time: it may work later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// A fault of the agent.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }
}

/// Answers a call, by itself or by the backend. The value is the reply's body. `peer` is the id of
/// the process that asks.
pub(super) async fn answer(
    backend: &dyn Backend,
    call: Call,
    peer: Option<i32>,
) -> Result<Value, PluginError> {
    match call {
        Call::Activate => Ok(json!({"Implements": ["NetworkDriver", "IpamDriver"]})),
        Call::NetworkCapabilities => capabilities(backend, peer).await,
        Call::GwAllocCheck => Ok(json!({"SkipIPv4": false, "SkipIPv6": false})),
        Call::AllocateNetwork { options, .. } => Ok(json!({"Options": options})),
        Call::EndpointOperInfo { .. } => Ok(json!({"Value": {}})),
        Call::FreeNetwork { .. }
        | Call::ProgramExternal { .. }
        | Call::RevokeExternal { .. }
        | Call::Discover => Ok(json!({})),
        Call::IpamCapabilities => {
            Ok(json!({"RequiresMACAddress": false, "RequiresRequestReplay": false}))
        }
        Call::AddressSpaces => Ok(json!({
            "LocalDefaultAddressSpace": LOCAL_ADDRESS_SPACE,
            "GlobalDefaultAddressSpace": GLOBAL_ADDRESS_SPACE,
        })),
        Call::RequestPool(request) => request_pool(backend, request).await,
        Call::ReleasePool { pool } => empty(backend.release_pool(pool).await),
        Call::RequestAddress(request) => {
            let address = backend.request_address(request).await?;
            Ok(json!({"Address": address.to_string(), "Data": {}}))
        }
        Call::ReleaseAddress { pool, address } => {
            empty(backend.release_address(pool, address).await)
        }
        Call::CreateNetwork(request) => empty(backend.create_network(request).await),
        Call::DeleteNetwork { network } => empty(backend.delete_network(network).await),
        Call::CreateEndpoint(request) => create_endpoint(backend, request).await,
        Call::DeleteEndpoint { network, endpoint } => {
            empty(backend.delete_endpoint(network, endpoint).await)
        }
        Call::Join(request) => join(backend, request).await,
        Call::Leave { network, endpoint } => empty(backend.leave(network, endpoint).await),
    }
}

fn empty(result: Result<(), PluginError>) -> Result<Value, PluginError> {
    result.map(|()| json!({}))
}

async fn capabilities(backend: &dyn Backend, peer: Option<i32>) -> Result<Value, PluginError> {
    let scope = match backend.capabilities(daemon::has_cluster_store(peer).await).await? {
        Scope::Local => "local",
        Scope::Global => "global",
    };
    Ok(json!({"Scope": scope, "ConnectivityScope": "global"}))
}

async fn request_pool(backend: &dyn Backend, request: RequestPool) -> Result<Value, PluginError> {
    if ![LOCAL_ADDRESS_SPACE, GLOBAL_ADDRESS_SPACE].contains(&request.address_space.as_str()) {
        return Err(PluginError::invalid(format!(
            "AddressSpace: {:?} is not one of this driver ({LOCAL_ADDRESS_SPACE}, \
             {GLOBAL_ADDRESS_SPACE})",
            shown(&request.address_space)
        )));
    }
    let PoolReply { pool_id, pool } = backend.request_pool(request).await?;
    Ok(json!({"PoolID": pool_id, "Pool": pool.to_string(), "Data": {}}))
}

async fn create_endpoint(
    backend: &dyn Backend,
    request: CreateEndpoint,
) -> Result<Value, PluginError> {
    let given = request.mac.is_some();
    let reply = backend.create_endpoint(request).await?;
    Ok(match reply.mac {
        Some(mac) if !given => json!({"Interface": {"MacAddress": wire::mac_text(mac)}}),
        Some(_) | None => json!({"Interface": {}}),
    })
}

async fn join(backend: &dyn Backend, request: Join) -> Result<Value, PluginError> {
    let reply = backend.join(request).await?;
    Ok(json!({
        "InterfaceName": {"SrcName": reply.src_name, "DstPrefix": reply.dst_prefix},
        "DisableGatewayService": reply.disable_gateway_service,
    }))
}
