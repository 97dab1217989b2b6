//! `POST /v1/trace`, and what agents ask of each other for it.

use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::Value;

use super::access::Asker;
use super::turns::Turns;
use super::{PathOf, QueryOf, api, part};
use crate::core::Refusal;
use crate::driver::Agent;
use crate::trace::{self, AskEnd, AskWatch};

/// Traces at once for users of this host; who asks for one more is told to wait.
const AT_ONCE: usize = 4;

/// The same for other hosts together, and for each of them.
const OF_OTHERS: usize = 3;
const OF_EACH: usize = 2;

/// Smallest and largest UDP probe, in bytes with its IP header: all of its headers and its mark; what
/// the network card of an overlay may carry.
const SIZES: std::ops::RangeInclusive<u16> = 64..=65_000;

static TURNS: Turns = Turns::new(AT_ONCE, OF_OTHERS, OF_EACH);

type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) fn routes() -> Router<Agent> {
    Router::new()
        .route("/v1/trace", post(follow))
        .route("/v1/trace/end", get(end))
        .route("/v1/watch", post(begin_watch))
        .route("/v1/watch/{id}", post(end_watch))
}

async fn follow(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Body<api::trace::TraceWay>,
) -> Result<Json<api::trace::Trace>, Refusal> {
    let wanted = read(body)?;
    if wanted.size.is_some_and(|size| !SIZES.contains(&size)) {
        return Err(Refusal::invalid(format!(
            "a probe has {} to {} bytes",
            SIZES.start(),
            SIZES.end()
        )));
    }
    let Some(_turn) = TURNS.take(&asker, Duration::ZERO).await else {
        return Err(Refusal::unavailable(
            "as many traces as may be are under way on this host; try again when they are done",
        ));
    };
    trace::follow(&agent, &wanted).await.map(Json)
}

async fn end(State(agent): State<Agent>, query: QueryOf<AskEnd>) -> Result<Json<Value>, Refusal> {
    let Query(ask) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
    told(&trace::look(&agent, &ask).await?)
}

async fn begin_watch(
    State(agent): State<Agent>,
    body: Body<AskWatch>,
) -> Result<Json<Value>, Refusal> {
    let begun = agent.watches().begin(&agent, &read(body)?).await?;
    told(&begun)
}

async fn end_watch(State(agent): State<Agent>, path: PathOf<u64>) -> Result<Json<Value>, Refusal> {
    let report = agent.watches().end(part(path)?)?;
    told(&report)
}

fn read<T>(body: Body<T>) -> Result<T, Refusal> {
    body.map(|Json(body)| body).map_err(|error| Refusal::invalid(error.body_text()))
}

/// What agents tell each other has no type in the API.
fn told(answer: &impl serde::Serialize) -> Result<Json<Value>, Refusal> {
    let value = serde_json::to_value(answer);
    value.map(Json).map_err(|error| Refusal::unavailable(error.to_string()))
}
