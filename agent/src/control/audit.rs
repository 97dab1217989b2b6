//! `/v1/audit`: the kernel against what it should be; a POST puts it right.

use axum::Router;
use axum::routing::get;

use super::ask;
use crate::core::Request;
use crate::driver::Agent;

pub(super) fn routes() -> Router<Agent> {
    let look = |agent| ask(agent, Request::Audit { repair: false });
    let repair = |agent| ask(agent, Request::Audit { repair: true });
    Router::new().route("/v1/audit", get(look).post(repair))
}
