//! `GET /v1/doctor`: the examination of this host.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{QueryOf, api};
use crate::core::Refusal;
use crate::doctor;
use crate::driver::Agent;

/// Examinations at once; who asks for one more is told to wait.
const AT_ONCE: usize = 2;

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
    let Ok(_turn) = TURNS.try_acquire() else {
        return Err(Refusal::unavailable(format!(
            "{AT_ONCE} examinations of this host are under way; try again when they are done"
        )));
    };
    doctor::examine(&agent, &only).await.map(Json)
}
