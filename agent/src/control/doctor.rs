//! `GET /v1/doctor`: the examination of this host.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{QueryOf, api};
use crate::core::Refusal;
use crate::doctor;
use crate::driver::Agent;

/// Examinations at once; who asks for one more waits for a turn.
const AT_ONCE: usize = 2;

/// How long: a host that finds a way closed asks the other one for its packet filter, and waits no longer.
const TURN_WITHIN: Duration = Duration::from_secs(6);

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

pub(super) fn routes() -> Router<Agent> {
    Router::new().route("/v1/doctor", get(examine))
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    only: String,
}

async fn examine(
    State(agent): State<Agent>,
    query: QueryOf<Wanted>,
) -> Result<Json<api::doctor::Examination>, Refusal> {
    let Query(Wanted { only }) = query.map_err(|e| Refusal::invalid(e.body_text()))?;
    let only = doctor::Only::named(only.split(',')).map_err(|e| Refusal::invalid(e.to_string()))?;
    let Ok(_turn) = timeout(TURN_WITHIN, TURNS.acquire()).await else {
        return Err(Refusal::unavailable(format!(
            "{AT_ONCE} examinations of this host are under way; try again when they are done"
        )));
    };
    doctor::examine(&agent, &only).await.map(Json)
}
