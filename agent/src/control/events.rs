//! `GET /v1/events`: what happened, with long polling.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::{QueryOf, api};
use crate::core::Refusal;
use crate::driver::{Agent, wall_clock};
use crate::events::Wanted;

pub(super) fn routes() -> Router<Agent> {
    Router::new().route("/v1/events", get(events))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Only those with a higher number.
    #[serde(default)]
    after: u64,
    /// Seconds to wait for one.
    #[serde(default)]
    wait: u64,
    limit: Option<usize>,
    /// In seconds, by this host's clock.
    since: Option<u64>,
}

async fn events(
    State(agent): State<Agent>,
    query: QueryOf<Asked>,
) -> Result<Json<api::events::Events>, Refusal> {
    let Query(asked) = query.map_err(|e| Refusal::invalid(e.body_text()))?;
    let since = asked.since.map(Duration::from_secs);
    let wanted = Wanted { after: asked.after, since, limit: asked.limit };
    let log = agent.log();
    if asked.wait > 0 {
        log.wait(wanted, Duration::from_secs(asked.wait)).await;
    }
    Ok(Json(log.page(wall_clock(), wanted)))
}
