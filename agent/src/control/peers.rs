//! Requests for other hosts' agents, and theirs for ours.
//!
//! A request with the header `ovl-host: NAME` is handed to the agent of that host, which runs it through
//! the same routes. Only what [`OPEN`] lists is answered to other hosts.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use ovl_gossip::{ANSWER_WITHIN, MAX_ANSWER};
use tower::ServiceExt as _;

use super::access::Asker;
use super::{BODY_MAX, api, routes};
use crate::config::AnswerPeers;
use crate::core::Refusal;
use crate::driver::Agent;
use crate::peers::{Answer, Question};

/// Names the host whose agent is asked.
pub(super) const HOST: &str = "ovl-host";
/// How long its answer is waited for, in seconds.
const WITHIN: &str = "ovl-within";
/// How long if the header is not there.
const USUAL_WITHIN: Duration = Duration::from_secs(10);
/// Left of the largest answer for what stands around a body, and for its escapes.
const BODY_ANSWER_MAX: usize = MAX_ANSWER / 2;

/// What agents of other hosts may ask for: from which setting of `answer-peers` on, the method, and the
/// path; one that ends in `/` with all below it.
const OPEN: &[(AnswerPeers, Method, &str)] = &[
    (AnswerPeers::Read, Method::GET, "/v1/status"),
    (AnswerPeers::Read, Method::GET, "/v1/members"),
    (AnswerPeers::Read, Method::GET, "/v1/networks"),
    (AnswerPeers::Read, Method::GET, "/v1/networks/"),
    (AnswerPeers::Read, Method::GET, "/v1/endpoints"),
    (AnswerPeers::Read, Method::GET, "/v1/resolve"),
    (AnswerPeers::Read, Method::GET, "/v1/resolve/"),
    (AnswerPeers::Read, Method::GET, "/v1/events"),
    (AnswerPeers::Read, Method::GET, "/v1/audit"),
    (AnswerPeers::Read, Method::POST, "/v1/audit"),
    (AnswerPeers::Read, Method::GET, "/v1/metrics"),
    (AnswerPeers::Read, Method::GET, "/v1/counters"),
    (AnswerPeers::Read, Method::GET, "/v1/doctor"),
    (AnswerPeers::Read, Method::POST, "/v1/ping"),
    (AnswerPeers::Read, Method::POST, "/v1/paths"),
    (AnswerPeers::Read, Method::GET, "/v1/probes/"),
    (AnswerPeers::Read, Method::GET, "/v1/clock"),
    (AnswerPeers::Read, Method::GET, "/v1/trace/"),
    (AnswerPeers::Read, Method::POST, "/v1/trace"),
    (AnswerPeers::Read, Method::POST, "/v1/watch"),
    (AnswerPeers::Read, Method::POST, "/v1/watch/"),
    (AnswerPeers::All, Method::POST, "/v1/captures"),
    (AnswerPeers::All, Method::POST, "/v1/captures/"),
    (AnswerPeers::All, Method::DELETE, "/v1/captures/"),
];

/// Hands on what is for another host; all else goes its way.
pub(super) async fn forward(State(agent): State<Agent>, request: Request, next: Next) -> Response {
    let Some(host) = request.headers().get(HOST) else {
        return next.run(request).await;
    };
    let Ok(host) = host.to_str().map(str::to_owned) else {
        return Refusal::invalid("the name of a host is printable ASCII").into_response();
    };
    if host == agent.peers().node.as_ref() as &str {
        return next.run(request).await;
    }
    handed_on(agent, host, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn handed_on(agent: Agent, host: String, request: Request) -> Result<Response, Refusal> {
    let within = within(request.headers())?;
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let body = to_bytes(body, BODY_MAX).await;
    let body = body.map_err(|_| Refusal::invalid("the body is too large, or did not arrive"))?;
    let body = String::from_utf8(body.into());
    let body = body.map_err(|_| Refusal::invalid("the body is no text"))?;
    let question = Question { host, method: parts.method.to_string(), target, body };
    let answer = agent.peers().exchange(&question, within).await?;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let json = [("content-type", "application/json")];
    Ok((status, json, answer.body).into_response())
}

fn within(headers: &HeaderMap) -> Result<Duration, Refusal> {
    let Some(given) = headers.get(WITHIN) else {
        return Ok(USUAL_WITHIN);
    };
    let seconds = given.to_str().ok().and_then(|text| text.parse::<f64>().ok());
    let seconds = seconds.filter(|seconds| (0.1..=ANSWER_WITHIN.as_secs_f64()).contains(seconds));
    let bad = || Refusal::invalid(format!("{WITHIN} is a number of seconds, at most 90"));
    seconds.map(Duration::from_secs_f64).ok_or_else(bad)
}

/// Answers the agents of other hosts, as long as the agent runs.
pub async fn answer_peers(agent: Agent) {
    let routes = routes(agent.clone());
    loop {
        // As many at a time as the gossip lets in.
        let ask = agent.peers().gossip.asked().await;
        let (agent, routes) = (agent.clone(), routes.clone());
        tokio::spawn(async move {
            // Who asked may go away, and then nobody waits: the work ends with the place that it holds.
            let question = ask.body.clone();
            let work = answered(&agent, routes, ask.from, &question);
            ask.answer_with(async {
                // Text, numbers: this cannot fail.
                serde_json::to_vec(&work.await).unwrap_or_default()
            })
            .await;
        });
    }
}

async fn answered(agent: &Agent, routes: Router, from: Ipv4Addr, question: &[u8]) -> Answer {
    let response = match serde_json::from_slice::<Question>(question) {
        Ok(question) => run(agent, routes, from, question).await,
        Err(error) => {
            Refusal::invalid(format!("not a question of an agent: {error}")).into_response()
        }
    };
    let mut status = response.status();
    let body = to_bytes(response.into_body(), BODY_ANSWER_MAX).await;
    let body =
        body.ok().and_then(|body| String::from_utf8(body.into()).ok()).unwrap_or_else(|| {
            status = StatusCode::PAYLOAD_TOO_LARGE;
            let why =
                "the answer is too large to be handed on: ask for less, or on that host itself";
            serde_json::json!({ "error": why }).to_string()
        });
    let host = agent.peers().node.to_string();
    Answer { host, version: crate::VERSION.to_owned(), status: status.as_u16(), body }
}

async fn run(agent: &Agent, routes: Router, from: Ipv4Addr, question: Question) -> Response {
    let Question { host, method, target, body } = question;
    let me = &agent.peers().node;
    if host != me.as_ref() as &str {
        return Refusal::not_found(format!("this is host {me}, and not {host}")).into_response();
    }
    let request = Request::builder()
        .method(method.as_str())
        .uri(&target)
        .header("content-type", "application/json")
        .extension(Asker::Host(from))
        .body(Body::from(body));
    let Ok(request) = request else {
        return Refusal::invalid("not a request of the control API").into_response();
    };
    let path = request.uri().path();
    let set = agent.config().answer_peers;
    let denied = match opened_by(request.method(), path) {
        Some(needed) if needed <= set => None,
        Some(_) => Some((
            StatusCode::FORBIDDEN,
            format!(
                "{me} does not answer that to other hosts, by its setting answer-peers: run it on {me} itself"
            ),
        )),
        None => Some((
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "{method} {path} is not open to other hosts: run it on {me} itself, or upgrade the older of the two agents"
            ),
        )),
    };
    if let Some((status, error)) = denied {
        return (status, Json(api::Error { error })).into_response();
    }
    routes.oneshot(request).await.into_response()
}

/// The setting that it takes; none: it is not for other hosts.
fn opened_by(method: &Method, path: &str) -> Option<AnswerPeers> {
    let found = OPEN.iter().find(|(_, open, prefix)| {
        open == method && (path == *prefix || (prefix.ends_with('/') && path.starts_with(prefix)))
    });
    found.map(|(setting, _, _)| *setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_read_and_change_nothing() {
        for (method, path, open) in [
            (Method::GET, "/v1/status", true),
            (Method::GET, "/v1/networks/blue", true),
            (Method::GET, "/v1/statusquo", false),
            (Method::POST, "/v1/networks", false),
            (Method::DELETE, "/v1/networks/blue", false),
            (Method::POST, "/v1/endpoints", false),
            (Method::POST, "/v1/leave", false),
            (Method::POST, "/v1/reload", false),
        ] {
            assert_eq!(opened_by(&method, path).is_some(), open, "{method} {path}");
        }
    }
}
