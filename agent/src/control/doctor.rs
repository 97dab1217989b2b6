//! `GET /v1/doctor`: the examination of this host.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;

use super::access::Asker;
use super::turns::Turns;
use super::{QueryOf, api};
use crate::core::Refusal;
use crate::doctor;
use crate::driver::Agent;

/// Examinations at once for users of this host; who asks for one more waits for a turn.
const AT_ONCE: usize = 4;

/// The same for other hosts together, and for each of them: a host that examines us may find a way closed
/// meanwhile, and ask for our packet filter.
const OF_OTHERS: usize = 3;
const OF_EACH: usize = 2;

/// How long: a host that finds a way closed asks the other one for its packet filter, and waits no longer.
const TURN_WITHIN: Duration = Duration::from_secs(6);

static TURNS: Turns = Turns::new(AT_ONCE, OF_OTHERS, OF_EACH);

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
    Extension(asker): Extension<Asker>,
    query: QueryOf<Wanted>,
) -> Result<Json<api::doctor::Examination>, Refusal> {
    let Query(Wanted { only }) = query.map_err(|e| Refusal::invalid(e.body_text()))?;
    let only = doctor::Only::named(only.split(',')).map_err(|e| Refusal::invalid(e.to_string()))?;
    let Some(_turn) = TURNS.take(&asker, TURN_WITHIN).await else {
        return Err(Refusal::unavailable(
            "as many examinations of this host as may be are under way; try again when they are done",
        ));
    };
    doctor::examine(&agent, &only).await.map(Json)
}
