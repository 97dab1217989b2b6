//! Captures. Reading one shows packets, so that it is for root, too: a POST.

use std::net::IpAddr;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::routing::{delete, post};
use axum::{Extension, Json, Router};

use super::access::Asker;
use super::api::captures::{Batch, Capture, ReadCapture, StartCapture};
use super::{PathOf, addresses_of, part};
use crate::capture::Wanted;
use crate::core::{Refusal, Request, Response};
use crate::driver::Agent;

pub(super) fn routes() -> Router<Agent> {
    Router::new()
        .route("/v1/captures", post(start))
        .route("/v1/captures/{id}", delete(end))
        .route("/v1/captures/{id}/read", post(read))
}

async fn start(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<StartCapture>, JsonRejection>,
) -> Result<Json<Capture>, Refusal> {
    let Json(asked) = body.map_err(|e| Refusal::invalid(e.body_text()))?;
    let network = match &asked.network {
        Some(name) => Some((name.clone(), vni(&agent, name).await?)),
        None => None,
    };
    let addresses = match &asked.name {
        None => Vec::new(),
        Some(name) => match name.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => addresses_of(&agent, name, asked.network).await?,
        },
    };
    let wanted = Wanted { network, addresses, snaplen: asked.snaplen, buffer: asked.buffer };
    let peers = agent.peers();
    let interface = peers.underlay().await.ok_or_else(|| {
        Refusal::conflict(format!("no interface of this host has {} now", peers.vtep))
    })?;
    agent.captures().start(&interface, &wanted, &asker.to_string()).map(Json)
}

async fn vni(agent: &Agent, network: &str) -> Result<u32, Refusal> {
    match agent.ask(Request::Network(network.to_owned())).await? {
        Response::Network(detail) => Ok(detail.network.vni),
        other => Err(Refusal::unavailable(format!(
            "the agent gave an answer to another question: {other:?}"
        ))),
    }
}

async fn read(
    State(agent): State<Agent>,
    path: PathOf<String>,
    query: Result<Query<ReadCapture>, QueryRejection>,
) -> Result<Json<Batch>, Refusal> {
    let Query(read) = query.map_err(|e| Refusal::invalid(e.body_text()))?;
    agent.captures().read(&part(path)?, read).await.map(Json)
}

async fn end(
    State(agent): State<Agent>,
    path: PathOf<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    agent.captures().end(&part(path)?)?;
    Ok(Json(serde_json::json!({})))
}
