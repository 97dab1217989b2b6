//! A request, taken apart and checked for what every request must have.
use axum::http::{HeaderMap, header};
use serde_json::Value;

use super::answer::Refusal;
use super::fields::Fields;

/// A request as it came, for tests to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path, decoded.
    pub path: String,
    /// The query's pairs, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The body, if it was JSON.
    pub body: Option<Value>,
    /// Who asked, in its own words.
    pub user_agent: Option<String>,
}

/// A request on its way through the server.
#[derive(Debug)]
pub(super) struct Asked {
    /// What is kept of it.
    pub(super) request: Request,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Asked {
    /// Takes a request apart.
    pub(super) fn new(method: &str, uri: (&str, &str), headers: HeaderMap, bytes: Vec<u8>) -> Self {
        let (path, query) = uri;
        let user_agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        let request = Request {
            method: method.to_owned(),
            path: decoded(path, false),
            query: pairs(query),
            body: serde_json::from_slice(&bytes).ok(),
            user_agent: user_agent.map(str::to_owned),
        };
        Self { request, headers, bytes }
    }

    /// Whether a word that must not be told stands in the address or in the body.
    pub(super) fn tells(&self, secret: &str) -> bool {
        let r = &self.request;
        let in_query = r.query.iter().any(|(k, v)| k.contains(secret) || v.contains(secret));
        r.path.contains(secret) || in_query || String::from_utf8_lossy(&self.bytes).contains(secret)
    }

    /// The token has to be the right one.
    pub(super) fn authorized(&self, token: &str) -> Result<(), Refusal> {
        let given = self.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        match given.and_then(|v| v.strip_prefix("Bearer ")) {
            Some(given) if given == token => Ok(()),
            Some(_) | None => Err(Refusal::new(401, "Unable to authenticate you").breaking_rules()),
        }
    }

    /// A request without a body, and with no parameters but these.
    pub(super) fn bare(&self, known: &[&str]) -> Result<(), Refusal> {
        if !self.bytes.is_empty() {
            return Err(Refusal::new(400, "this request takes no body").breaking_rules());
        }
        self.parameters(known)
    }

    /// The fields of a request with a body.
    pub(super) fn fields(&self) -> Result<Fields, Refusal> {
        self.parameters(&[])?;
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let message = format!("Content-Type is {kind:?}, not application/json");
            return Err(Refusal::new(415, message).breaking_rules());
        }
        let unread = || Refusal::new(400, "error parsing request body").breaking_rules();
        Fields::of(self.request.body.clone().ok_or_else(unread)?, "body")
    }

    /// A parameter's value.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is a number from 1 to `most`.
    pub(super) fn number(&self, name: &str, most: usize) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        match text.parse::<usize>() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => {
                let message = format!("parameter {name}={text} is not a number from 1 to {most}");
                Err(Refusal::new(400, message).breaking_rules())
            }
        }
    }

    fn parameters(&self, known: &[&str]) -> Result<(), Refusal> {
        let query = &self.request.query;
        for (at, (key, _)) in query.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(Refusal::new(400, format!("unknown parameter {key}")).breaking_rules());
            }
            if query[..at].iter().any(|(other, _)| other == key) {
                return Err(Refusal::new(400, format!("parameter {key} is twice")).breaking_rules());
            }
        }
        Ok(())
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(key, true), decoded(value, true))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Text without its percent signs; in a query, a plus is a space.
fn decoded(text: &str, query: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) if query => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Text as it stands in a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
