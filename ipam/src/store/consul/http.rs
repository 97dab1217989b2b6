//! What carries a request to Consul: bounded in time and size, and silent about the token.
//!
//! The token is a default header marked sensitive, and no field of anything that is printed. The
//! crates below log each failure as an error of their own, with the URL: they are called with
//! no subscriber, as what is worth saying is in the error.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use consulrs::api::{EndpointMiddleware, Features};
use http_02::{Request, Response};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest_011 as reqwest;
use rustify::Endpoint;
use rustify::client::Client;
use rustify::errors::ClientError;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::files::{certificates, token, unusable};
use crate::errors::OpenError;
use crate::store::StoreError;
use crate::url::{StoreUrl, bracketed};

/// Bytes that are read of an answer; a longer one is an error. The largest is the list of a
/// network's leases: 65,536 of them, each some 350 bytes with Consul's own fields around it, and
/// not above 950 with the longest names that are taken.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Bytes of the store's own words that are repeated in an error.
const MAX_REASON: usize = 200;

/// Finds a server that went away while a watch waits for it.
const KEEPALIVE: Duration = Duration::from_secs(30);

const INDEX_HEADER: &str = "X-Consul-Index";

const POLICY: &str = "give the agent a token whose policy has write on the key prefix \"ovl/v1/\", by token-file= in the store's URL or by CONSUL_HTTP_TOKEN";

/// A Consul server or agent, and how to talk to it.
pub(super) struct Http {
    client: reqwest::Client,
    /// With scheme and port, as a client needs it.
    base: String,
    /// As configured; for errors.
    url: String,
    /// To take it out of what the server says.
    token: Option<String>,
}

/// An answer with any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Of `X-Consul-Index`.
    pub(super) index: Option<u64>,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {MAX_ANSWER} bytes")]
struct AnswerTooLarge;

impl Http {
    /// `variable`: in place of the environment's `CONSUL_HTTP_TOKEN`.
    pub(super) fn new(
        url: &StoreUrl,
        deadline: Duration,
        variable: Option<&str>,
    ) -> Result<Http, OpenError> {
        let StoreUrl::Consul { tls, host, port, token_file, ca_file } = url else {
            let what = url.to_string();
            return Err(OpenError::Unusable { what, why: "it is no URL of a Consul server" });
        };
        let token = token(token_file.as_deref(), variable)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &token {
            headers.insert("x-consul-token", sensitive(token, token_file.as_deref())?);
        }
        let builder = reqwest::Client::builder()
            .use_rustls_tls()
            .connect_timeout(deadline)
            .tcp_keepalive(KEEPALIVE)
            // A token goes to no other host than the one that was named.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .default_headers(headers);
        let certificates = ca_file.as_deref().map_or(Ok(Vec::new()), certificates)?;
        let builder =
            certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        let failed =
            |e: reqwest::Error| OpenError::Client { store: url.to_string(), source: e.into() };
        let client = builder.build().map_err(failed)?;
        let scheme = if *tls { "https" } else { "http" };
        let base = format!("{scheme}://{}:{port}", bracketed(host));
        Ok(Http { client, base, url: url.to_string(), token })
    }

    /// Sends `endpoint` and reads the answer, in `limit` altogether.
    pub(super) async fn call<E: Endpoint>(
        &self,
        doing: &'static str,
        endpoint: E,
        features: Option<Features>,
        limit: Duration,
    ) -> Result<Answer, StoreError> {
        let middleware = EndpointMiddleware { features, token: None, version: "v1".into() };
        let endpoint = endpoint.with_middleware(&middleware);
        let asked = endpoint.exec(self).with_subscriber(NoSubscriber::default());
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(result)) => Ok(answer(result.response)),
            Ok(Err(error)) => Err(self.broken(doing, error)),
            Err(_) => Err(StoreError::Timeout { store: self.url.clone(), doing, after: limit }),
        }
    }

    /// What an answer that is not the wanted one means.
    pub(super) fn refusal(&self, doing: &'static str, answer: &Answer) -> StoreError {
        let store = self.url.clone();
        let text = String::from_utf8_lossy(&answer.body);
        let denied = text.contains("ermission denied") || text.contains("ACL not found");
        let reason = self.reason(answer.status, &text);
        match answer.status {
            401 | 403 => StoreError::Refused { store, doing, reason, advice: POLICY },
            _ if denied => StoreError::Refused { store, doing, reason, advice: POLICY },
            413 => self.too_large("a transaction", reason),
            _ => StoreError::Failed { store, doing, reason },
        }
    }

    pub(super) fn too_large(&self, what: &'static str, bound: String) -> StoreError {
        StoreError::TooLarge { store: self.url.clone(), what, bound }
    }

    /// The server's words on one line, without the token, should it repeat it.
    fn reason(&self, status: u16, text: &str) -> String {
        let text = match &self.token {
            Some(token) => text.replace(token, "(token)"),
            None => text.to_owned(),
        };
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let words: String = words.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
        format!("status {status}: {words}")
    }

    fn broken(&self, doing: &'static str, error: ClientError) -> StoreError {
        if let ClientError::ResponseError { source } = &error
            && source.downcast_ref::<AnswerTooLarge>().is_some()
        {
            return self.too_large("an answer", format!("{MAX_ANSWER} bytes"));
        }
        StoreError::Unreachable { store: self.url.clone(), doing, source: Box::new(error) }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("url", &self.url).finish_non_exhaustive()
    }
}

#[async_trait]
impl Client for Http {
    fn base(&self) -> &str {
        &self.base
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        let (method, url) = (request.method().to_string(), request.uri().to_string());
        let request = reqwest::Request::try_from(request)
            .map_err(|source| ClientError::ReqwestBuildError { source })?;
        let sent = self.client.execute(request).await;
        let failed =
            |e: reqwest::Error| ClientError::RequestError { source: e.into(), url, method };
        let mut response = sent.map_err(failed)?;
        let broken = |e: reqwest::Error| ClientError::ResponseError { source: e.into() };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(ClientError::ResponseError { source: AnswerTooLarge.into() });
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = Response::new(body);
        *answer.status_mut() = response.status();
        if let Some(index) = response.headers().get(INDEX_HEADER) {
            answer.headers_mut().insert(INDEX_HEADER, index.clone());
        }
        Ok(answer)
    }

    /// Without rustify's own reading of the status: 404 and 409 are answers here.
    async fn execute(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.send(request).await
    }
}

fn answer(response: Response<Vec<u8>>) -> Answer {
    let index = response.headers().get(INDEX_HEADER);
    let index = index.and_then(|i| i.to_str().ok()).and_then(|i| i.parse().ok());
    Answer { status: response.status().as_u16(), index, body: response.into_body() }
}

pub(super) fn sensitive(token: &str, file: Option<&Path>) -> Result<HeaderValue, OpenError> {
    let mut value = HeaderValue::from_str(token).map_err(|_| unusable(file))?;
    value.set_sensitive(true);
    Ok(value)
}
