//! From HTTP to the API and back, with the faults in between.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State as Shared};
use axum::http::{Request as HttpRequest, Response, header};

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::fault::{self, How, Retry};
use super::line::Switch;
use super::state::State;
use super::{api, clock};

/// No request has a larger body: the largest that the API takes is some 64 KiB of user data.
const LARGEST_BODY: usize = 1024 * 1024;

/// The state, whatever a thread that held it came to.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request.
pub(super) async fn handle(
    Shared(state): Shared<Arc<Mutex<State>>>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    request: HttpRequest<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, LARGEST_BODY).await else {
        lock(&state).violations.push(format!("{} {}: no whole body", head.method, head.uri));
        let refusal = Refusal::new(413, "the body is too large, or was cut off");
        return response(refusal.into_answer(""), None);
    };
    let uri = (head.uri.path(), head.uri.query().unwrap_or_default());
    let asked = Asked::new(head.method.as_str(), uri, head.headers, bytes.to_vec());
    let fault = taken(&mut lock(&state), &asked);
    if matches!(fault, Some(How::Hang)) {
        std::future::pending::<()>().await;
    }
    let answer = answered(&mut lock(&state), &asked, fault.as_ref());
    match fault {
        Some(How::ResetBefore | How::ResetAfter) => switch.reset(),
        Some(How::Truncated) => switch.cut(),
        Some(How::GatewayTimeout(later)) => {
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                answered(&mut lock(&state), &asked, None);
            });
        }
        _ => {}
    }
    response(answer, fault)
}

/// Writes a request down, and says what befalls it.
fn taken(state: &mut State, asked: &Asked) -> Option<How> {
    state.requests.push(asked.request.clone());
    let (method, path) = (&asked.request.method, &asked.request.path);
    if asked.tells(&state.settings.token) {
        state.violations.push(format!("{method} {path}: the token is in the address or the body"));
    }
    fault::strike(&mut state.faults, method, path)
}

/// Does what was asked, or what the fault says in its place.
fn answered(state: &mut State, asked: &Asked, fault: Option<&How>) -> Answer {
    let request_id = state.uuid();
    let mut headers = state.headers(&request_id);
    let mut answer = match fault.and_then(instead) {
        Some(refusal) => refusal.into_answer(&request_id),
        None => api::answer(state, asked).unwrap_or_else(|refusal| {
            if refusal.violation {
                let Asked { request, .. } = asked;
                let (method, path) = (&request.method, &request.path);
                state.violations.push(format!("{method} {path}: {}", refusal.message()));
            }
            refusal.into_answer(&request_id)
        }),
    };
    if matches!(fault, Some(How::ServerErrorAfter)) {
        answer = Refusal::new(500, "Unexpected server-side error").into_answer(&request_id);
    }
    headers.retain(|(name, _)| answer.headers.iter().all(|(other, _)| other != name));
    answer.headers.extend(headers);
    answer
}

/// The refusal that stands in place of what was asked, if the fault is of that kind.
fn instead(how: &How) -> Option<Refusal> {
    Some(match how {
        How::Unauthorized => Refusal::new(401, "Unable to authenticate you"),
        How::Forbidden => Refusal::new(403, "You are not authorized to perform this operation"),
        How::NotFound => Refusal::not_found(),
        How::Unprocessable(message) => Refusal::unprocessable(message),
        How::TooMany(retry) => too_many(*retry),
        How::ServerError | How::ResetBefore => Refusal::new(500, "Unexpected server-side error"),
        How::Unavailable => Refusal::new(503, "Service is not available"),
        How::GatewayTimeout(_) => Refusal::new(504, "Gateway time-out"),
        How::ResetAfter
        | How::ServerErrorAfter
        | How::Hang
        | How::NotJson
        | How::Huge(_)
        | How::Truncated => return None,
    })
}

fn too_many(retry: Retry) -> Refusal {
    let refusal = Refusal::new(429, "API rate limit exceeded.").with("ratelimit-remaining", 0);
    match retry {
        Retry::After(seconds) => refusal.with("retry-after", seconds),
        Retry::Reset(seconds) => {
            let at = clock::now().saturating_add_unsigned(seconds);
            refusal.with("ratelimit-reset", at)
        }
    }
}

fn response(answer: Answer, fault: Option<How>) -> Response<Body> {
    let (status, kind, body) = match fault {
        Some(How::NotJson) => {
            (200, "text/html", b"<html><body>Checking\xff</body></html>".to_vec())
        }
        Some(How::Huge(size)) => (200, "application/json", huge(size)),
        _ => {
            let body = answer.body.map(|body| body.to_string().into_bytes());
            (answer.status, "application/json; charset=utf-8", body.unwrap_or_default())
        }
    };
    let mut response = Response::builder().status(status);
    if status != 204 {
        response = response.header(header::CONTENT_TYPE, kind);
    }
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap_or_default()
}

/// Valid JSON of a size.
fn huge(size: usize) -> Vec<u8> {
    let mut body = b"{\"droplets\":[],\"links\":{},\"meta\":{\"total\":0},\"padding\":\"".to_vec();
    body.resize(body.len() + size, b'x');
    body.extend_from_slice(b"\"}");
    body
}
