//! Making and removing Docker's networks of this driver.
//!
//! Asked without the client library: its request to create a network lacks `CheckDuplicate`, without
//! which Docker before 25.0 makes a second network of the same name. There is no version in the
//! path, so Docker reads the request in its newest one.
//!
//! Cancel-safety: a request that was sent is carried out by Docker, whether its answer is waited
//! for or not.
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::network::{self, NetworkConfig};

/// Longest wait for an answer: Docker calls the driver back in between, which may have to wait for
/// the store.
const LIMIT: Duration = Duration::from_secs(30);

/// Longest wait for what Docker says of itself, for which it calls nobody.
const ABOUT_WITHIN: Duration = Duration::from_secs(5);

/// Largest answer that is read, in bytes: what Docker says of itself is longest, with the nodes of a swarm.
const MAX_ANSWER: usize = 1 << 20;

/// Longest message of Docker's that is repeated, in characters.
const MAX_MESSAGE: usize = 500;

/// The only scheme that is known.
const SCHEME: &str = "unix://";

/// Docker, to be told what networks of this driver it is to have. It may be absent: each request
/// tries anew. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Daemon {
    host: Arc<str>,
    driver: Arc<str>,
    limit: Duration,
}

/// What Docker says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// As in `20.10.24`.
    pub version: String,
    /// Containers go on while dockerd is away.
    pub live_restore: bool,
}

/// Why Docker did not do it.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Docker has another network of this name, of whichever driver. Nothing changed.
    #[error(
        "docker network {name:?}: Docker has another network of this name; remove that one, or \
         give one of the two another name"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// Docker has no network of this id. Nothing changed.
    #[error("docker network {id:?}: Docker has no such network")]
    NotFound {
        /// The id.
        id: String,
    },
    /// Containers are connected to it. Nothing changed.
    #[error(
        "docker network {id:?}: containers are connected to it; stop or disconnect them first \
         ({message})"
    )]
    InUse {
        /// The id.
        id: String,
        /// Docker's words.
        message: String,
    },
    /// Docker cannot be reached, or broke the connection: then it may have done it nevertheless.
    #[error("docker host {host:?}: does not answer; check that Docker runs")]
    Unreachable {
        /// The host as given.
        host: String,
        /// What came of the connection.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No answer in time: whether Docker did it, or will yet, is not known.
    #[error(
        "docker host {host:?}: no answer within {limit:?} to a request to {what} network \
         {network:?}; see with docker network ls what came of it"
    )]
    Silent {
        /// The host as given.
        host: String,
        /// What was asked for.
        what: &'static str,
        /// The network's name or id.
        network: String,
        /// How long the answer was waited for.
        limit: Duration,
    },
    /// Docker refused for another reason, for example one of the driver's own. Nothing changed.
    #[error("docker network {network:?}: Docker did not {what} it: {message}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The network's name or id.
        network: String,
        /// Docker's words.
        message: String,
    },
}

/// What Docker answered.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    /// Null when it is not JSON.
    body: Value,
}

impl Answer {
    fn is_in_use(&self) -> bool {
        self.body["message"].as_str().is_some_and(|message| message.contains("active endpoints"))
    }

    /// Docker's words, or its status where it has none.
    fn message(&self) -> String {
        match self.body["message"].as_str() {
            Some(message) => message.chars().take(MAX_MESSAGE).collect(),
            None => format!("HTTP status {}", self.status),
        }
    }
}

impl Daemon {
    /// The Docker at `host`, as in `unix:///var/run/docker.sock`; nothing is asked yet.
    pub(crate) fn new(host: &str, driver: &str) -> Self {
        Self { host: host.into(), driver: driver.into(), limit: LIMIT }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// [`DaemonError::Unreachable`], also when it does not answer in time.
    pub async fn about(&self) -> Result<About, DaemonError> {
        let asked = self.ask(Method::GET, "/info", String::new());
        let silent = |_| format!("no answer within {} s", ABOUT_WITHIN.as_secs()).into();
        let answer = tokio::time::timeout(ABOUT_WITHIN, asked).await.map_err(silent);
        let unreachable = |source| DaemonError::Unreachable { host: self.host.to_string(), source };
        let answer = answer.and_then(|answer| answer).map_err(unreachable)?;
        match answer.body["ServerVersion"].as_str() {
            Some(version) => Ok(About {
                version: version.chars().take(MAX_MESSAGE).collect(),
                live_restore: answer.body["LiveRestoreEnabled"].as_bool().unwrap_or(false),
            }),
            None => Err(unreachable(answer.message().into())),
        }
    }

    /// `docker network create` with the driver of this agent; Docker's id of the network.
    ///
    /// Docker calls the driver while this waits. After [`Unreachable`](DaemonError::Unreachable)
    /// and [`Silent`](DaemonError::Silent) the network may exist.
    pub async fn create_network(&self, config: &NetworkConfig) -> Result<String, DaemonError> {
        let body = network::creation(&self.driver, config).to_string();
        let asked = self.ask(Method::POST, "/networks/create", body);
        let answer = self.within("create", &config.name, asked).await?;
        let id = answer.body["Id"].as_str().filter(|id| !id.is_empty());
        match (answer.status, id) {
            (StatusCode::CREATED, Some(id)) => Ok(id.to_owned()),
            (StatusCode::CONFLICT, _) => Err(DaemonError::NameTaken { name: config.name.clone() }),
            _ => Err(refused("create", &config.name, &answer)),
        }
    }

    /// `docker network rm`.
    ///
    /// After [`Unreachable`](DaemonError::Unreachable) and [`Silent`](DaemonError::Silent) the
    /// network may be gone.
    pub async fn remove_network(&self, id: &str) -> Result<(), DaemonError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(plain) {
            return Err(DaemonError::NotFound { id: id.to_owned() });
        }
        let path = format!("/networks/{id}");
        let asked = self.ask(Method::DELETE, &path, String::new());
        let answer = self.within("remove", id, asked).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Err(DaemonError::NotFound { id: id.to_owned() }),
            StatusCode::FORBIDDEN | StatusCode::CONFLICT if answer.is_in_use() => {
                Err(DaemonError::InUse { id: id.to_owned(), message: answer.message() })
            }
            _ => Err(refused("remove", id, &answer)),
        }
    }

    async fn within(
        &self,
        what: &'static str,
        network: &str,
        asked: impl Future<Output = Result<Answer, Box<dyn Error + Send + Sync>>>,
    ) -> Result<Answer, DaemonError> {
        let host = self.host.to_string();
        match tokio::time::timeout(self.limit, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(DaemonError::Unreachable { host, source }),
            Err(_) => {
                let network = network.to_owned();
                Err(DaemonError::Silent { host, what, network, limit: self.limit })
            }
        }
    }

    /// One request on a connection of its own.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let socket = self.host.strip_prefix(SCHEME).ok_or("only unix:// is known")?;
        let stream = TokioIo::new(UnixStream::connect(socket).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let request = Request::builder().method(method).uri(path).header(header::HOST, "docker");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(Bytes::from(body)))?;
        let answer = async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
            Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
        };
        let (mut answer, mut connection) = (pin!(answer), pin!(connection));
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // It may have ended with all that belongs to the answer.
            _ = &mut connection => answer.await,
        }
    }
}

fn refused(what: &'static str, network: &str, answer: &Answer) -> DaemonError {
    DaemonError::Refused { what, network: network.to_owned(), message: answer.message() }
}

#[cfg(test)]
mod tests;
