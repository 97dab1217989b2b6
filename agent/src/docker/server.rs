//! The plugin socket's server: HTTP in, calls to the backend, HTTP out.
//!
//! Owns the socket file and the connections. dockerd sends POST with neither a `Content-Type` nor,
//! before 23.0, a `Host`; its v1 plugins have no reply timeout, and its idle connections are kept
//! open for as long as it likes: to close one first would cost a request its body.
//!
//! Cancel-safety: a call that was read completely runs on a task of its own, to its end, whether
//! the connection lives or not.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use axum::serve::IncomingStream;
use http_body_util::{BodyExt, LengthLimitError, Limited as LimitedBody};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::{debug, warn};

use super::plugin::{self, Backend, PluginError};
use super::wire::Call;
use crate::unix_socket::{BindError, Limited, UnixSocket};

/// Largest body of a request, in bytes. A larger one is answered with 413 and not read further.
pub const MAX_BODY: usize = 1 << 20;

/// Calls that run at the same time. Further ones wait for their turn, as dockerd does anyway.
pub const MAX_CALLS: u32 = 512;

/// Open connections. Further ones wait in the kernel's queue until one is closed.
pub const MAX_CONNECTIONS: usize = 1024;

/// How long a stopping server waits for the calls and connections it still has.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Longest part of a path that is looked at, in characters; the longest method has 41.
const MAX_METHOD: usize = 80;

/// What dockerd sends as `Accept`.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// The plugin's server, bound but not yet serving.
#[derive(Debug)]
pub struct PluginServer {
    socket: UnixSocket,
}

impl PluginServer {
    /// Makes the socket at `path`, its directory too, so that only root can connect. A stale
    /// socket is replaced; one that another process serves is refused.
    ///
    /// From here on dockerd's connections wait for [`serve`](Self::serve).
    pub async fn bind(path: &Path) -> Result<Self, BindError> {
        let socket = UnixSocket::bind(path, None).await?;
        Ok(Self { socket })
    }

    /// Serves until `stop` is done; then takes no more connections, waits at most twice [`DRAIN`]
    /// for what is under way, and removes the socket file.
    pub async fn serve(
        self,
        backend: Arc<dyn Backend>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        let UnixSocket { listener, file } = self.socket;
        let calls = Arc::new(Semaphore::new(MAX_CALLS as usize));
        let shared = Shared { backend, calls: calls.clone() };
        let app = Router::new().fallback(handle).with_state(shared);
        let app = app.into_make_service_with_connect_info::<Peer>();
        let listener = Limited::new(listener, MAX_CONNECTIONS);
        let (stopped, stopping) = oneshot::channel();
        let stop = async move {
            stop.await;
            drop(file);
            let _ = stopped.send(());
        };
        let connections = axum::serve(listener, app).with_graceful_shutdown(stop);
        let overdue = async {
            let _ = stopping.await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            _ = connections => {}
            () = overdue => warn!("plugin connections are still open after {DRAIN:?}: leaving them"),
        }
        drain(&calls).await;
    }
}

async fn drain(calls: &Semaphore) {
    let all = calls.acquire_many(MAX_CALLS);
    if tokio::time::timeout(DRAIN, all).await.is_err() {
        warn!("plugin calls are still running after {DRAIN:?}: leaving them");
    }
}

#[derive(Clone)]
struct Shared {
    backend: Arc<dyn Backend>,
    calls: Arc<Semaphore>,
}

/// The process at the other end of a connection, if it is seen from here.
#[derive(Clone, Copy)]
struct Peer(Option<i32>);

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Self(stream.io().peer())
    }
}

async fn handle(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let method: String = path.chars().take(MAX_METHOD).collect();
    match answer(shared, &method, peer, request).await {
        Ok(value) => response(StatusCode::OK, &value),
        Err(error) => refusal(&method, &error),
    }
}

async fn answer(
    shared: Shared,
    method: &str,
    peer: Peer,
    request: Request,
) -> Result<Value, PluginError> {
    let call = read(method, request).await.inspect_err(|error| {
        warn!(method, status = error.status.as_u16(), %error, "plugin request refused");
    })?;
    debug!(method, call = %call, "plugin request");
    let permit = shared.calls.clone().acquire_owned().await;
    let permit = permit.map_err(|_| PluginError::unavailable("the agent is stopping"))?;
    let task = tokio::spawn(run(shared.backend, method.to_owned(), call, peer, permit));
    task.await.unwrap_or_else(|fault| {
        warn!(method, %fault, "plugin request broke the agent's own code");
        Err(PluginError::internal(format!(
            "{method}: the agent failed in an unforeseen way; its log says where"
        )))
    })
}

async fn run(
    backend: Arc<dyn Backend>,
    method: String,
    call: Call,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
) -> Result<Value, PluginError> {
    let ids = call.to_string();
    let result = plugin::answer(&*backend, call, peer.0).await;
    match &result {
        Ok(_) => debug!(method, call = ids, "plugin request done"),
        Err(error) => {
            warn!(method, call = ids, status = error.status.as_u16(), %error, "plugin request failed");
        }
    }
    result
}

async fn read(method: &str, request: Request) -> Result<Call, PluginError> {
    if request.method() != Method::POST {
        return Err(PluginError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{} /{method}: the plugin protocol only knows POST", request.method()),
        ));
    }
    let body = bytes(request.into_body()).await?;
    Call::decode(method, &body).map_err(PluginError::from)
}

async fn bytes(body: Body) -> Result<Bytes, PluginError> {
    let read = LimitedBody::new(body, MAX_BODY).collect().await;
    read.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the body is larger than {MAX_BODY} bytes");
            PluginError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
        } else {
            PluginError::invalid(format!("the body did not arrive: {error}"))
        }
    })
}

/// The network driver's side of dockerd reads `Err`, the IPAM driver's side `Error`.
fn refusal(method: &str, error: &PluginError) -> Response {
    let mut body = json!({"Err": error.message});
    if method.starts_with("IpamDriver.") {
        body["Error"] = Value::from(error.message.as_str());
    }
    let failed = error.status.is_client_error() || error.status.is_server_error();
    let status = if failed { error.status } else { StatusCode::INTERNAL_SERVER_ERROR };
    response(status, &body)
}

fn response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests;
