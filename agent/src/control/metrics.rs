//! `GET /v1/metrics`: what Prometheus gets, for those who have no port for it.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::core::Refusal;
use crate::driver::Agent;
use crate::metrics;

pub(super) fn routes() -> Router<Agent> {
    Router::new().route("/v1/metrics", get(text))
}

async fn text(State(agent): State<Agent>) -> Result<impl IntoResponse, Refusal> {
    let text = metrics::gather(&agent).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}
