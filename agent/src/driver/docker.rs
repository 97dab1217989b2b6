//! Docker's requests, as requests to the core, and the core's requests to Docker.

use std::net::IpAddr;

use async_trait::async_trait;
use ipnet::IpNet;
use tokio::sync::mpsc;

use super::Agent;
use crate::core::{DockerCall, DockerError, Event, Refusal, RefusalKind, Request, Response};
use crate::docker::{
    Backend, CreateEndpoint, CreateEndpointReply, CreateNetwork, Daemon, DaemonError, Join,
    JoinReply, PluginError, PoolReply, RequestAddress, RequestPool, Scope,
};

/// Name that the interfaces get in a container, before their number.
const IFNAME_PREFIX: &str = "eth";

impl From<Refusal> for PluginError {
    fn from(refusal: Refusal) -> PluginError {
        match refusal.kind {
            RefusalKind::Invalid => PluginError::invalid(refusal.message),
            RefusalKind::NotFound => PluginError::not_found(refusal.message),
            RefusalKind::Conflict => PluginError::conflict(refusal.message),
            RefusalKind::Unavailable => PluginError::unavailable(refusal.message),
        }
    }
}

#[async_trait]
impl Backend for Agent {
    async fn capabilities(&self, cluster_store: bool) -> Result<Scope, PluginError> {
        match self.ask(Request::Scope(cluster_store)).await? {
            Response::Scope(scope) => Ok(scope),
            other => Err(unexpected(&other)),
        }
    }

    async fn request_pool(&self, request: RequestPool) -> Result<PoolReply, PluginError> {
        match self.ask(Request::Pool(request)).await? {
            Response::Pool(pool) => Ok(PoolReply { pool_id: pool.to_string(), pool }),
            other => Err(unexpected(&other)),
        }
    }

    async fn release_pool(&self, pool_id: String) -> Result<(), PluginError> {
        done(self.ask(Request::ReleasePool(pool_id)).await?)
    }

    async fn request_address(&self, request: RequestAddress) -> Result<IpNet, PluginError> {
        match self.ask(Request::Address(request)).await? {
            Response::Address(address) => Ok(address),
            other => Err(unexpected(&other)),
        }
    }

    async fn release_address(&self, pool_id: String, address: IpAddr) -> Result<(), PluginError> {
        done(self.ask(Request::ReleaseAddress(pool_id, address)).await?)
    }

    async fn create_network(&self, request: CreateNetwork) -> Result<(), PluginError> {
        done(self.ask(Request::DockerNetwork(request)).await?)
    }

    async fn delete_network(&self, id: String) -> Result<(), PluginError> {
        done(self.ask(Request::DeleteDockerNetwork(id)).await?)
    }

    async fn create_endpoint(
        &self,
        request: CreateEndpoint,
    ) -> Result<CreateEndpointReply, PluginError> {
        match self.ask(Request::CreateEndpoint(request)).await? {
            Response::Mac(mac) => Ok(CreateEndpointReply { mac: Some(mac.0) }),
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_endpoint(&self, _network: String, endpoint: String) -> Result<(), PluginError> {
        done(self.ask(Request::DeleteEndpoint(endpoint)).await?)
    }

    async fn join(&self, request: Join) -> Result<JoinReply, PluginError> {
        match self.ask(Request::Join(request)).await? {
            Response::Joined(ifname) => Ok(JoinReply {
                src_name: ifname.to_string(),
                dst_prefix: IFNAME_PREFIX.to_owned(),
                disable_gateway_service: false,
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn leave(&self, _network: String, endpoint: String) -> Result<(), PluginError> {
        done(self.ask(Request::Leave(endpoint)).await?)
    }
}

fn done(response: Response) -> Result<(), PluginError> {
    match response {
        Response::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(other: &Response) -> PluginError {
    PluginError::internal(format!("the agent gave an answer to another question: {other:?}"))
}

/// Asks Docker in a task; the answer comes as [`Event::Docker`].
pub(super) fn call(daemon: &Daemon, call: DockerCall, events: mpsc::Sender<Event>) {
    let daemon = daemon.clone();
    tokio::spawn(async move {
        let answer = match &call {
            DockerCall::Create { config, .. } => daemon.create_network(config).await,
            DockerCall::Remove(id) => daemon.remove_network(id).await.map(|()| id.clone()),
        };
        let answer = answer.map_err(|error| match error {
            DaemonError::NameTaken { .. } => DockerError::NameTaken,
            DaemonError::NotFound { .. } => DockerError::NotFound,
            DaemonError::InUse { .. } => DockerError::InUse,
            other => DockerError::Failed(crate::chain(&other)),
        });
        // Nobody listens when the agent stops.
        let _ = events.send(Event::Docker(call, answer)).await;
    });
}
