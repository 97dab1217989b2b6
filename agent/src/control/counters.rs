//! `GET /v1/counters`: what passed through the devices of this host.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Instant;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use ovl_vxlan::{LinkCounters, link_counters};

use super::api::counters::{Counters, Device, Passed};
use crate::core::{Refusal, Request, Response};
use crate::driver::Agent;

/// Where the clock of counters begins.
static BEGINNING: LazyLock<Instant> = LazyLock::new(now);

pub(super) fn routes() -> Router<Agent> {
    Router::new().route("/v1/counters", get(counters))
}

async fn counters(State(agent): State<Agent>) -> Result<Json<Counters>, Refusal> {
    let Response::Status(status) = agent.ask(Request::Status).await? else {
        return Err(Refusal::unavailable("the agent does not say how it is"));
    };
    let networks = match agent.ask(Request::Networks).await? {
        Response::Networks(networks) => networks,
        _ => Vec::new(),
    };
    let names: BTreeMap<u32, String> = networks.into_iter().map(|n| (n.vni, n.name)).collect();
    let underlay = agent.peers().underlay().await;
    let beginning = *BEGINNING;
    let read = link_counters(underlay.as_deref()).await;
    let at = now().duration_since(beginning);
    let read = read.map_err(|error| Refusal::unavailable(crate::chain(&error)))?;
    Ok(Json(Counters {
        host: status.node,
        at_micros: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
        devices: read.into_iter().map(|one| device(one, &names)).collect(),
    }))
}

#[expect(clippy::disallowed_methods, reason = "a shell: counters are told with their time")]
fn now() -> Instant {
    Instant::now()
}

fn device(one: LinkCounters, names: &BTreeMap<u32, String>) -> Device {
    let LinkCounters { name, vni, rx, tx, .. } = one;
    let network = vni.and_then(|vni| names.get(&vni).cloned());
    Device { device: name, vni, network, rx: passed(rx), tx: passed(tx) }
}

fn passed(way: ovl_vxlan::Passed) -> Passed {
    let ovl_vxlan::Passed { packets, bytes, errors, dropped } = way;
    Passed { packets, bytes, errors, dropped }
}
