//! One HTTP request over the agent's unix socket, bounded in time and size.
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ovl_agent::control::api::{self, encoded};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::error::Error;

/// Largest answer that is read, in bytes: some hundred thousand endpoints. A larger one is
/// refused.
const LARGEST_ANSWER: usize = 64 << 20;

/// Shortest and longest wait for another host's agent that can be asked for.
const PEER_WITHIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(90));

/// Longest text of an answer that a message repeats, in characters.
const LONGEST_QUOTE: usize = 200;

/// Talks to one agent; every call opens a connection of its own.
#[derive(Clone)]
pub(crate) struct Client {
    socket: PathBuf,
    patience: Duration,
    /// Another host, whose agent is asked through this one.
    host: Option<String>,
}

impl Client {
    /// `patience` bounds each call, from connecting to the last byte.
    pub(crate) fn new(socket: PathBuf, patience: Duration) -> Client {
        Client { socket, patience, host: None }
    }

    /// The agent of that host, asked through this one; `None`: this one.
    pub(crate) fn to(&self, host: Option<&str>) -> Client {
        Client { host: host.map(str::to_owned), ..self.clone() }
    }

    /// The other host whose agent is asked; `None`: this one's.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The control socket of this host's agent.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The same agent, for what takes it longer; never less patient than this.
    pub(crate) fn patient(&self, patience: Duration) -> Client {
        Client { patience: patience.max(self.patience), ..self.clone() }
    }

    /// The same agent, for what it does at once; never more patient than this.
    pub(crate) fn hasty(&self, patience: Duration) -> Client {
        Client { patience: patience.min(self.patience), ..self.clone() }
    }

    /// Somebody accepts connections.
    pub(crate) async fn is_answered(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Error> {
        self.call(Method::GET, target, Bytes::new()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| self.garbage(error.to_string()))?;
        self.call(Method::POST, target, body.into()).await
    }

    /// The answer to a removal says nothing.
    pub(crate) async fn delete(&self, target: &str) -> Result<(), Error> {
        let _: serde::de::IgnoredAny = self.call(Method::DELETE, target, Bytes::new()).await?;
        Ok(())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, Error> {
        let exchange = tokio::time::timeout(self.patience, self.exchange(method, target, body));
        let Ok(answer) = exchange.await else {
            return Err(Error::Slow { socket: self.socket.clone(), patience: self.patience });
        };
        let (status, body) = answer?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.garbage(error.to_string()));
        }
        Err(self.refusal(status, &body))
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(hyper::header::HOST, "ovl-agent")
            .header(hyper::header::CONTENT_TYPE, "application/json");
        if let Some(host) = &self.host {
            // Our agent gives up first, and says why.
            let within = (self.patience.mul_f64(0.9)).clamp(PEER_WITHIN.0, PEER_WITHIN.1);
            request = request
                .header("ovl-host", host)
                .header("ovl-within", format!("{:.1}", within.as_secs_f64()));
        }
        let request =
            request.body(Full::new(body)).map_err(|error| self.garbage(error.to_string()))?;
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.unreached(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with this call: nothing is left to wait for when the runtime goes.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| self.garbage(causes(error.as_ref())))?;
        Ok((status, body.to_bytes()))
    }

    fn unreached(&self, error: &io::Error) -> Error {
        let socket = self.socket.clone();
        let why = match error.kind() {
            io::ErrorKind::InvalidInput => {
                return Error::BadSocket { socket, why: error.to_string() };
            }
            io::ErrorKind::NotFound => {
                "there is no such socket; start ovl-agent, or set --socket to the path it has"
                    .to_owned()
            }
            io::ErrorKind::ConnectionRefused => {
                "it has stopped without removing its socket; start ovl-agent".to_owned()
            }
            io::ErrorKind::PermissionDenied => return Error::Closed { socket },
            _ => error.to_string(),
        };
        Error::NoAgent { socket, why, kind: error.kind() }
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        if error.is_parse() {
            return self.garbage(causes(error));
        }
        let why = format!("it hung up before it answered, look at its log: {}", causes(error));
        Error::NoAgent { socket: self.socket.clone(), why, kind: io::ErrorKind::Other }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Error {
        match serde_json::from_slice::<api::Error>(body) {
            Ok(api::Error { error: sentence }) => {
                Error::Refused { sentence, later: status == StatusCode::SERVICE_UNAVAILABLE }
            }
            Err(_) => {
                let text: String =
                    String::from_utf8_lossy(body).chars().take(LONGEST_QUOTE).collect();
                self.garbage(format!("status {status}, {:?}", text.trim()))
            }
        }
    }

    /// An answer that is well-formed, and yet cannot be an agent's.
    pub(crate) fn misunderstood(&self, why: String) -> Error {
        self.garbage(why)
    }

    fn garbage(&self, why: String) -> Error {
        Error::Garbage { socket: self.socket.clone(), why }
    }
}

/// An error with its causes, `what: why: why`.
fn causes(error: &dyn std::error::Error) -> String {
    ovl_agent::chain(error)
}

/// `/v1/…` with each segment percent-encoded (RFC 3986, section 2.1).
pub(crate) fn path(segments: &[&str]) -> String {
    let encoded = segments.iter().map(|segment| format!("/{}", encoded(segment)));
    format!("/v1{}", encoded.collect::<String>())
}

/// Adds the parameters that are given.
pub(crate) fn with_query(path: String, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let given: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if given.is_empty() { path } else { format!("{path}?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(path(&["networks", "a/b ?&é%"]), "/v1/networks/a%2Fb%20%3F%26%C3%A9%25");
        assert_eq!(path(&["status"]), "/v1/status");
    }

    #[test]
    fn only_given_parameters_are_sent() {
        let query =
            |network| with_query(path(&["x"]), &[("name", Some("a&b")), ("network", network)]);
        assert_eq!(query(None), "/v1/x?name=a%26b");
        assert_eq!(query(Some("n")), "/v1/x?name=a%26b&network=n");
        assert_eq!(with_query(path(&["x"]), &[("network", None)]), "/v1/x");
    }
}
