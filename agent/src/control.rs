//! The control API: HTTP/1.1 and JSON on a unix socket, for root; a group may read ([`Access`]).

mod access;
pub mod api;
mod audit;
mod captures;
mod counters;
mod doctor;
mod events;
mod explain;
mod metrics;
pub(crate) mod paths;
mod peers;
#[cfg(test)]
mod tests;
mod trace;
mod turns;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use ovl_ipam::{Ipv6Spec, NetworkName, NetworkSpec};
use ovl_vxlan::IfName;
use serde::Deserialize;

pub use self::access::Access;
use self::access::{Peer, guard};
pub use self::peers::answer_peers;
use crate::core::{Refusal, RefusalKind, Request, Response, Sandbox, Target};
use crate::dns::Resolution;
use crate::driver::Agent;
use crate::unix_socket::{Limited, UnixSocket};

/// No request is larger; what is gets 413.
const BODY_MAX: usize = 64 * 1024;

/// Open connections. Further ones wait in the kernel's queue until one is closed.
const CONNECTIONS_MAX: usize = 128;

/// Of these, those of users who may only read. One more is closed.
const GUESTS_MAX: usize = 64;

/// A connection ends after this long; every request is answered sooner, those for other hosts too.
const CONNECTION_WITHIN: Duration = Duration::from_secs(120);

/// The API for users of this host. Each request must carry its connection's [`Peer`].
fn router(agent: Agent, access: Access) -> Router {
    routes(agent.clone())
        .layer(from_fn_with_state(agent, peers::forward))
        .layer(from_fn_with_state(access, guard))
}

/// The routes of the table in [`api`]. What reads is a GET, and nothing else is: who may read only
/// is told so by the method.
fn routes(agent: Agent) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/reload", post(reload))
        .route("/v1/leave", post(leave))
        .route("/v1/members", get(|agent| ask(agent, Request::Members)))
        .route("/v1/networks", get(|agent| ask(agent, Request::Networks)).post(create_network))
        .route("/v1/networks/{name}", get(network).delete(remove_network))
        .route("/v1/endpoints", get(endpoints).post(attach))
        .route("/v1/endpoints/{network}/{name}", delete(detach))
        .route("/v1/resolve", get(resolve))
        .merge(events::routes())
        .merge(counters::routes())
        .merge(explain::routes())
        .merge(metrics::routes())
        .merge(audit::routes())
        .merge(doctor::routes())
        .merge(paths::routes())
        .merge(trace::routes())
        .merge(captures::routes())
        .fallback(|| async { Refusal::not_found("there is no such path in this agent's API; are ovlctl and ovl-agent of one version?") })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(agent)
}

/// Serves the API until `stop` is done, then lets open requests end.
pub async fn serve(
    socket: UnixSocket,
    access: Access,
    agent: Agent,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let UnixSocket { listener, file } = socket;
    let stop = async move {
        stop.await;
        drop(file);
    };
    let limited = Limited::new(listener, CONNECTIONS_MAX)
        .with_guests(GUESTS_MAX)
        .ending_after(CONNECTION_WITHIN);
    // Accepting goes on whatever a connection does; the server itself has no error to give.
    let app = router(agent, access).into_make_service_with_connect_info::<Peer>();
    let _ = axum::serve(limited, app).with_graceful_shutdown(stop).await;
}

impl IntoResponse for Refusal {
    fn into_response(self) -> HttpResponse {
        let status = match self.kind {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(api::Error { error: self.message })).into_response()
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> HttpResponse {
        match self {
            Response::Status(status) => Json(status).into_response(),
            Response::Members(members) => Json(members).into_response(),
            Response::Networks(networks) => Json(networks).into_response(),
            Response::Network(network) => Json(network).into_response(),
            Response::Endpoints(endpoints) => Json(endpoints).into_response(),
            Response::Endpoint(endpoint) => Json(endpoint).into_response(),
            Response::Left(left) => Json(left).into_response(),
            Response::Audit(audit) => Json(audit).into_response(),
            // The others answer Docker's requests, which have a socket of their own, and the agent's own.
            Response::Done
            | Response::Diagnosis(_)
            | Response::Explained(_)
            | Response::Figures(_)
            | Response::NetworkId(_)
            | Response::TraceEnds(_)
            | Response::Pool(..)
            | Response::Address(_)
            | Response::Mac(_)
            | Response::Scope(_)
            | Response::Joined(_) => Json(serde_json::json!({})).into_response(),
        }
    }
}

async fn ask(State(agent): State<Agent>, request: Request) -> Result<Response, Refusal> {
    agent.ask(request).await
}

async fn status(State(agent): State<Agent>) -> Result<Response, Refusal> {
    let mut answer = agent.ask(Request::Status).await?;
    if let Response::Status(status) = &mut answer {
        status.store.url = agent.store_url().to_owned();
    }
    Ok(answer)
}

async fn reload(State(agent): State<Agent>) -> Result<Json<api::Reloaded>, Refusal> {
    agent.reload().await.map(Json)
}

async fn leave(
    State(agent): State<Agent>,
    body: Result<Json<api::Leave>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(api::Leave { force }) = body.map_err(|e| Refusal::invalid(e.body_text()))?;
    let mut answer = agent.ask(Request::LeaveCluster { force }).await?;
    if let Response::Left(left) = &mut answer {
        left.state_dir = agent.state_dir().to_owned();
    }
    Ok(answer)
}

async fn network(State(agent): State<Agent>, path: PathOf<String>) -> Result<Response, Refusal> {
    agent.ask(Request::Network(part(path)?)).await
}

async fn create_network(
    State(agent): State<Agent>,
    body: Result<Json<api::CreateNetwork>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(wanted) = body.map_err(|e| Refusal::invalid(e.body_text()))?;
    let ipv6 = wanted.ipv6 || wanted.subnet6.is_some();
    let spec = NetworkSpec {
        subnet: wanted.subnet,
        gateway: wanted.gateway,
        mtu: wanted.mtu,
        ipv6: ipv6.then_some(Ipv6Spec { subnet: wanted.subnet6, gateway: None, range: None }),
        internal: wanted.internal,
        ..NetworkSpec::named(network_name(&wanted.name)?)
    };
    agent.ask(Request::CreateNetwork(spec)).await
}

async fn remove_network(
    State(agent): State<Agent>,
    path: PathOf<String>,
) -> Result<Response, Refusal> {
    agent.ask(Request::RemoveNetwork(network_name(&part(path)?)?)).await
}

fn network_name(name: &str) -> Result<NetworkName, Refusal> {
    name.parse().map_err(|e| Refusal::invalid(crate::chain(&e)))
}

#[derive(Deserialize)]
struct Only {
    network: Option<String>,
}

async fn endpoints(State(agent): State<Agent>, only: QueryOf<Only>) -> Result<Response, Refusal> {
    let Query(only) = only.map_err(|e| Refusal::invalid(e.body_text()))?;
    agent.ask(Request::Endpoints(only.network)).await
}

async fn attach(
    State(agent): State<Agent>,
    body: Result<Json<api::AttachEndpoint>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(wanted) = body.map_err(|e| Refusal::invalid(e.body_text()))?;
    let names = Target::names(&wanted.name, &wanted.aliases)?;
    let (sandbox, taken) = look_into(wanted.netns).await?;
    let ifname = match wanted.ifname {
        Some(name) => name
            .parse()
            .map_err(|e| Refusal::invalid(format!("interface name: {}", crate::chain(&e))))?,
        None => free_name(&taken)?,
    };
    if taken.iter().any(|name| name == ifname.as_ref() as &str) {
        let netns = sandbox.netns.display();
        return Err(Refusal::conflict(format!(
            "{netns} has an interface {ifname} already; choose another with --ifname"
        )));
    }
    let target = Target {
        network: wanted.network,
        names,
        sandbox,
        address: wanted.address,
        ifname,
        id: rand::random(),
    };
    agent.ask(Request::Attach(target)).await
}

/// Which namespace it is, and the names of its interfaces.
async fn look_into(netns: PathBuf) -> Result<(Sandbox, Vec<String>), Refusal> {
    let look = move || {
        let refuse = |e: &ovl_vxlan::netns::NetnsError| Refusal::invalid(crate::chain(e));
        let id = ovl_vxlan::netns::identify(&netns).map_err(|e| refuse(&e))?;
        if own_namespace() == Some((id.dev, id.ino)) {
            return Err(Refusal::invalid(format!(
                "{} is the host's own network namespace",
                netns.display()
            )));
        }
        let names = ovl_vxlan::netns::run(&netns, interface_names).map_err(|e| refuse(&e))?;
        Ok((Sandbox { netns, id: Some((id.dev, id.ino)) }, names))
    };
    let failed = |_| Refusal::unavailable("the namespace could not be looked at");
    tokio::task::spawn_blocking(look).await.map_err(failed)?
}

fn own_namespace() -> Option<(u64, u64)> {
    let id = ovl_vxlan::netns::identify(Path::new("/proc/self/ns/net")).ok()?;
    Some((id.dev, id.ino))
}

fn interface_names() -> Vec<String> {
    let names = nix::net::if_::if_nameindex().ok();
    names
        .iter()
        .flatten()
        .map(|interface| interface.name().to_string_lossy().into_owned())
        .collect()
}

fn free_name(taken: &[String]) -> Result<IfName, Refusal> {
    let free = (0..taken.len() + 1).map(|n| format!("eth{n}")).find(|name| !taken.contains(name));
    let none = || Refusal::invalid("no interface name is free in the namespace");
    free.and_then(|name| name.parse().ok()).ok_or_else(none)
}

async fn detach(
    State(agent): State<Agent>,
    path: PathOf<(String, String)>,
) -> Result<Response, Refusal> {
    let (network, name) = part(path)?;
    agent.ask(Request::Detach { network, name }).await
}

#[derive(Deserialize)]
struct Resolve {
    name: String,
    network: Option<String>,
}

async fn resolve(
    State(agent): State<Agent>,
    query: QueryOf<Resolve>,
) -> Result<Json<Vec<IpAddr>>, Refusal> {
    let Query(Resolve { name, network }) = query.map_err(|e| Refusal::invalid(e.body_text()))?;
    addresses_of(&agent, &name, network).await.map(Json)
}

/// The addresses of a name, in one network or in all.
async fn addresses_of(
    agent: &Agent,
    name: &str,
    network: Option<String>,
) -> Result<Vec<IpAddr>, Refusal> {
    let scope = match &network {
        Some(network) => Some(vec![agent.network_id(network).await?]),
        None => None,
    };
    let names = agent.names().read().unwrap_or_else(std::sync::PoisonError::into_inner);
    match names.resolve(scope.as_deref(), name) {
        Resolution::Found(addresses) => Ok(addresses),
        Resolution::NoSuchName | Resolution::NotOurs => {
            let place =
                network.map_or_else(|| "any network".to_owned(), |n| format!("network {n}"));
            Err(Refusal::not_found(format!(
                "nothing on {place} is named \"{name}\"; see: ovlctl endpoint ls"
            )))
        }
    }
}

type QueryOf<T> = Result<Query<T>, QueryRejection>;

/// A path's parts, percent-decoded.
type PathOf<T> = Result<axum::extract::Path<T>, axum::extract::rejection::PathRejection>;

fn part<T>(path: PathOf<T>) -> Result<T, Refusal> {
    path.map(|axum::extract::Path(part)| part).map_err(|e| Refusal::invalid(e.body_text()))
}
