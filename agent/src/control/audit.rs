//! `/v1/audit`: the kernel against what it should be; a POST puts it right.

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};

use super::access::Asker;
use super::ask;
use crate::core::Request;
use crate::driver::Agent;

pub(super) fn routes() -> Router<Agent> {
    let look = |agent| ask(agent, Request::Audit { repair: false });
    let repair = |agent: State<Agent>, Extension(asker): Extension<Asker>| {
        tracing::info!(%asker, "the kernel is put right, as asked");
        ask(agent, Request::Audit { repair: true })
    };
    Router::new().route("/v1/audit", get(look).post(repair))
}
