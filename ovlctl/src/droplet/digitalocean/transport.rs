//! A request over HTTPS: bounded in time and size, repeated where that is safe, pages followed.
//!
//! A request that would make two if it was done twice is repeated only if it was surely not done: the
//! connection was never made, or the provider said 429. Otherwise who asked has to look ([`ApiError::Unclear`]).
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use reqwest_011 as reqwest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ApiError, RequestId, bounded};
use super::retry::Retry;
use super::token::Token;

/// The provider's own.
pub(crate) const DEFAULT_URL: &str = "https://api.digitalocean.com";

/// For one try, from the connection to the last byte.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Of one answer, in bytes: a page of 200 droplets has some 600 kB.
const ANSWER_MAX: usize = 8 << 20;
/// Entries of a page that are asked for; the API gives no more.
const PER_PAGE: &str = "200";
/// Pages of a list: more is no list of anybody's.
const PAGES_MAX: u32 = 1000;

/// Is told of waits.
type Notice = Box<dyn Fn(&str) + Send + Sync>;

/// See the module.
pub(crate) struct Transport {
    client: reqwest::Client,
    base: Url,
    token: Token,
    notice: Notice,
}

/// Whether a request may be sent again when it is not known whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeatable {
    /// Done twice, it is done once, or refused the second time.
    Yes,
    /// Done twice, it makes two.
    No,
}

/// What came back, good or not.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Why there is no answer.
struct Lost {
    why: String,
    /// The request never left.
    unsent: bool,
}

impl Transport {
    /// `url`: the API's, without a path. `notice` is told when a request has to wait.
    ///
    /// # Errors
    /// [`ApiError::BadUrl`].
    pub(crate) fn new(url: &str, token: Token, notice: Notice) -> Result<Transport, ApiError> {
        let bad = |why: &str| ApiError::BadUrl { url: without_secrets(url), why: why.to_owned() };
        let base: Url = url.parse().map_err(|_| bad("it is no URL"))?;
        if !base.username().is_empty() || base.password().is_some() {
            return Err(bad("it holds a name or a password"));
        }
        match base.scheme() {
            "https" => {}
            "http" if is_loopback(&base) => {}
            "http" => return Err(bad("the token would be sent in clear text: use https")),
            _ => return Err(bad("it begins with neither https nor http")),
        }
        // A proxy would be sent what is meant for this machine alone.
        let builder = match base.scheme() {
            "http" => reqwest::Client::builder().no_proxy(),
            _ => reqwest::Client::builder(),
        };
        let client = builder
            .user_agent(concat!("ovlctl/", env!("CARGO_PKG_VERSION")))
            .timeout(PATIENCE)
            .connect_timeout(CONNECT_WITHIN)
            // The token goes where it was meant to go, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| bad(&error.to_string()))?;
        Ok(Transport { client, base, token, notice })
    }

    /// The value of `field` in the answer.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        field: &str,
    ) -> Result<T, ApiError> {
        let answer = self.request(Method::GET, path, query, None, Repeatable::Yes).await?;
        taken(&in_words(&Method::GET, path), &answer, field)
    }

    /// The entries of all pages.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        field: &str,
    ) -> Result<Vec<T>, ApiError> {
        let what = in_words(&Method::GET, path);
        let mut all = Vec::new();
        let mut page = 1;
        loop {
            let number = page.to_string();
            let paged = [query, &[("per_page", PER_PAGE), ("page", &number)]].concat();
            let answer = self.request(Method::GET, path, &paged, None, Repeatable::Yes).await?;
            all.extend(taken::<Vec<T>>(&what, &answer, field)?);
            let unreadable = || ApiError::Garbage {
                what: what.clone(),
                why: "its next page has no number".to_owned(),
            };
            match next_page(&answer).map_err(|()| unreadable())? {
                None => return Ok(all),
                Some(next) if next <= page || next > PAGES_MAX => {
                    return Err(ApiError::Garbage {
                        what,
                        why: format!("page {next} after {page}"),
                    });
                }
                Some(next) => page = next,
            }
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        field: &str,
        repeatable: Repeatable,
    ) -> Result<T, ApiError> {
        let what = in_words(&Method::POST, path);
        let body = encoded(&what, body)?;
        let answer = self.request(Method::POST, path, &[], Some(body), repeatable).await?;
        // It was done, but what came of it cannot be read.
        taken(&what, &answer, field).map_err(|error| match error {
            ApiError::Garbage { what, why } => ApiError::Unclear { what, why, at_work: false },
            other => other,
        })
    }

    /// May be repeated: it sets, it does not add.
    pub(super) async fn put(&self, path: &str, body: &impl Serialize) -> Result<(), ApiError> {
        let body = encoded(&in_words(&Method::PUT, path), body)?;
        self.request(Method::PUT, path, &[], Some(body), Repeatable::Yes).await.map(drop)
    }

    /// What is gone already is gone.
    pub(super) async fn delete(&self, path: &str) -> Result<(), ApiError> {
        match self.request(Method::DELETE, path, &[], None, Repeatable::Yes).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
        repeatable: Repeatable,
    ) -> Result<Value, ApiError> {
        let what = in_words(&method, path);
        let repeatable = repeatable == Repeatable::Yes;
        let mut retry = Retry::default();
        loop {
            let answer = self.once(method.clone(), path, query, body.clone()).await;
            let (error, wait) = match answer {
                Ok(answer) if answer.status.is_success() => return answer.json(&what),
                Ok(answer) => answer.refusal(&what, repeatable, &mut retry),
                Err(lost) => self.lost(&what, lost, repeatable, &mut retry),
            };
            let Some(wait) = wait else { return Err(error) };
            if wait >= Duration::from_secs(2) {
                (self.notice)(&format!("{error}; next try in {} s", wait.as_secs()));
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn lost(
        &self,
        what: &str,
        lost: Lost,
        repeatable: bool,
        retry: &mut Retry,
    ) -> (ApiError, Option<Duration>) {
        if !repeatable && !lost.unsent {
            let what = what.to_owned();
            return (ApiError::Unclear { what, why: lost.why, at_work: true }, None);
        }
        let wait = retry.after_failure(None);
        let base = self.base.as_str().trim_end_matches('/').to_owned();
        (ApiError::Unreachable { base, why: lost.why, tries: retry.failures() }, wait)
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Lost> {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request =
            self.client.request(method, url).header(AUTHORIZATION, self.token.header());
        if let Some(body) = body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(Lost::from)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Lost::from)? {
            if body.len() + chunk.len() > ANSWER_MAX {
                let why = format!("its answer is longer than {ANSWER_MAX} bytes");
                return Err(Lost { why, unsent: false });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }
}

/// A request in words.
fn in_words(method: &Method, path: &str) -> String {
    format!("{method} {path}")
}

impl Answer {
    fn json(&self, what: &str) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let (what, why) = (what.to_owned(), error.to_string());
            // A request that was done, if it did something.
            if what.starts_with("POST") {
                ApiError::Unclear { what, why, at_work: false }
            } else {
                ApiError::Garbage { what, why }
            }
        })
    }

    /// The error, and how long to wait before another try, if one makes sense.
    fn refusal(
        &self,
        what: &str,
        repeatable: bool,
        retry: &mut Retry,
    ) -> (ApiError, Option<Duration>) {
        let body: BTreeMap<String, Value> = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let header = self.headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let request = RequestId::new(text("request_id").or(header));
        // Some refusals have another form.
        let other = body.get("messages").and_then(|all| all.get(0)).and_then(Value::as_str);
        let message = text("message").or(other).unwrap_or_else(|| self.status.as_str());
        let message = bounded(message);
        let what = what.to_owned();
        match self.status.as_u16() {
            401 => (ApiError::TokenRefused { request }, None),
            403 => (ApiError::Forbidden { what, message, request }, None),
            404 => (ApiError::NotFound { what, message, request }, None),
            300..=399 => {
                let why = format!("it leads elsewhere ({})", self.status.as_u16());
                (ApiError::Garbage { what, why }, None)
            }
            429 => {
                let asked = asked_wait(&self.headers, seconds_now());
                let wait = retry.after_failure(asked);
                (ApiError::RateLimited { wait: asked, request }, wait)
            }
            status @ 500.. if repeatable => {
                let wait = retry.after_failure(asked_wait(&self.headers, seconds_now()));
                (ApiError::Broken { what, status, tries: retry.failures(), request }, wait)
            }
            status @ 500.. => {
                // Not the API's own word, but a gateway's, which did not wait for the end.
                let at_work = text("id").is_none() || matches!(status, 502 | 504);
                let why = format!("{status} {message}{request}");
                (ApiError::Unclear { what, why, at_work }, None)
            }
            _ => (ApiError::Unprocessable { what, message, request }, None),
        }
    }
}

impl From<reqwest::Error> for Lost {
    fn from(error: reqwest::Error) -> Lost {
        let unsent = error.is_connect();
        // The cause says more than the outermost error, which repeats the URL.
        let error = error.without_url();
        let mut why = error.to_string();
        let mut cause: Option<&(dyn std::error::Error + 'static)> =
            std::error::Error::source(&error);
        while let Some(inner) = cause {
            why = inner.to_string();
            cause = inner.source();
        }
        Lost { why: bounded(&why), unsent }
    }
}

fn encoded(what: &str, body: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let failed = |error: serde_json::Error| ApiError::Garbage {
        what: what.to_owned(),
        why: error.to_string(),
    };
    serde_json::to_vec(body).map_err(failed)
}

fn taken<T: DeserializeOwned>(what: &str, answer: &Value, field: &str) -> Result<T, ApiError> {
    let garbage = |why: String| ApiError::Garbage { what: what.to_owned(), why };
    let value = answer.get(field).ok_or_else(|| garbage(format!("it has no {field:?}")))?;
    T::deserialize(value).map_err(|error| garbage(format!("{field}: {error}")))
}

/// The number in `links.pages.next`. Only that: the token goes to no other address than ours.
fn next_page(answer: &Value) -> Result<Option<u32>, ()> {
    let Some(next) = answer.pointer("/links/pages/next").filter(|next| !next.is_null()) else {
        return Ok(None);
    };
    let url: Url = next.as_str().unwrap_or_default().parse().map_err(|_| ())?;
    let page = url.query_pairs().find(|(name, _)| name == "page");
    page.and_then(|(_, page)| page.parse().ok()).map(Some).ok_or(())
}

/// `Retry-After` in seconds (RFC 9110, section 10.2.3), or until `ratelimit-reset`, in seconds since 1970.
fn asked_wait(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let after = number(RETRY_AFTER.as_str());
    let used_up = number("ratelimit-remaining") == Some(0);
    let reset = number("ratelimit-reset").filter(|_| used_up).map(|at| at.saturating_sub(now));
    after.or(reset).map(Duration::from_secs)
}

#[expect(clippy::disallowed_methods, reason = "the provider says when its limit ends by the clock")]
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What stands before an `@` may be a password.
fn without_secrets(url: &str) -> String {
    let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    bounded(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn transport(url: &str) -> Result<Transport, String> {
        // Never sent.
        let token = Token::new_for_tests();
        Transport::new(url, token, Box::new(|_| ())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_not_sent_in_clear_text_to_other_machines() {
        for fine in [
            "https://api.digitalocean.com",
            "http://127.0.0.1:80",
            "http://[::1]:1",
            "http://localhost:2/",
        ] {
            assert!(transport(fine).is_ok(), "{fine}");
        }
        for (bad, part) in [
            ("http://10.0.0.1", "clear text"),
            ("ftp://x", "neither"),
            ("api", "no URL"),
            ("https://a:secret@b", "password"),
        ] {
            let error = transport(bad).err().unwrap();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_next_page_is_a_number_and_no_address() {
        let links = |next: &str| json!({ "links": { "pages": { "next": next } } });
        assert_eq!(
            next_page(&links("https://evil.example/v2/droplets?per_page=2&page=3")),
            Ok(Some(3))
        );
        assert_eq!(next_page(&links("https://api/v2/droplets?page=x")), Err(()));
        assert_eq!(next_page(&json!({ "links": {} })), Ok(None));
    }

    #[test]
    fn waits_are_read_from_either_header() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect()
        };
        let asked =
            |pairs: &[(&'static str, &str)]| asked_wait(&headers(pairs), 1000).map(|w| w.as_secs());
        assert_eq!(asked(&[("retry-after", "7")]), Some(7));
        assert_eq!(asked(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "1060")]), Some(60));
        assert_eq!(asked(&[("ratelimit-remaining", "9"), ("ratelimit-reset", "1060")]), None);
        assert_eq!(asked(&[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")]), None);
    }
}
