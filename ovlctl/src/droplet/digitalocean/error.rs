//! Why a request failed: one sentence each, and what the provider itself called it.
use std::time::Duration;

/// Characters of a message of the provider's that are repeated.
const MESSAGE_MAX: usize = 300;

/// Where to get a token.
const TOKENS: &str = "https://cloud.digitalocean.com/account/api/tokens";

/// Nothing was changed, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Not set, or empty.
    #[error("no token: set DIGITALOCEAN_ACCESS_TOKEN to one that may read and write ({TOKENS})")]
    NoToken,
    /// Characters that no token has; what it is is not said.
    #[error(
        "DIGITALOCEAN_ACCESS_TOKEN holds characters that no token has: is there a space or a line break in it?"
    )]
    BadToken,
    /// `DIGITALOCEAN_API_URL`.
    #[error("{url} is no address of an API: {why}")]
    BadUrl { url: String, why: String },
    /// 401.
    #[error(
        "DigitalOcean refuses the token in DIGITALOCEAN_ACCESS_TOKEN: it is wrong, ended or revoked; make another one at {TOKENS}{request}"
    )]
    TokenRefused { request: RequestId },
    /// 403.
    #[error(
        "the token may not do {what}: {message}; give it that scope, or use one that may read and write{request}"
    )]
    Forbidden { what: String, message: String, request: RequestId },
    /// 404.
    #[error("DigitalOcean knows nothing at {what}: {message}{request}")]
    NotFound { what: String, message: String, request: RequestId },
    /// 422, or another refusal of what was asked.
    #[error("DigitalOcean refuses {what}: {message}{request}")]
    Unprocessable { what: String, message: String, request: RequestId },
    /// 429, longer than is waited.
    #[error("DigitalOcean takes no more requests for now{}: try again later{request}", again(.wait))]
    RateLimited { wait: Option<Duration>, request: RequestId },
    /// 5xx, each time.
    #[error(
        "DigitalOcean failed at {what} ({status}), {tries} times: try again later, https://status.digitalocean.com says more{request}"
    )]
    Broken { what: String, status: u16, tries: u32, request: RequestId },
    /// No answer, each time.
    #[error("DigitalOcean's API does not answer at {base}: {why} ({tries} tries)")]
    Unreachable { base: String, why: String, tries: u32 },
    /// It may have been done: the answer was lost, or says that something broke.
    #[error("whether DigitalOcean did what {what} asked for is not known: {why}")]
    Unclear {
        what: String,
        why: String,
        /// It did not say itself that it came to an end: it may still be at work on it.
        at_work: bool,
    },
    /// Not as documented.
    #[error("the answer to {what} is not understood: {why}; is DIGITALOCEAN_API_URL right?")]
    Garbage { what: String, why: String },
}

impl ApiError {
    /// It may go better later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            ApiError::RateLimited { .. }
            | ApiError::Broken { .. }
            | ApiError::Unreachable { .. }
            | ApiError::Unclear { .. } => true,
            ApiError::NoToken
            | ApiError::BadToken
            | ApiError::BadUrl { .. }
            | ApiError::TokenRefused { .. }
            | ApiError::Forbidden { .. }
            | ApiError::NotFound { .. }
            | ApiError::Unprocessable { .. }
            | ApiError::Garbage { .. } => false,
        }
    }
}

fn again(wait: &Option<Duration>) -> String {
    match wait.map(|wait| wait.as_secs()) {
        None => String::new(),
        Some(seconds @ 0..120) => format!(" (for {seconds} s)"),
        Some(seconds) => format!(" (for {} min)", seconds.div_ceil(60)),
    }
}

/// What the provider's support asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestId(Option<String>);

impl RequestId {
    /// What is no id is left out.
    pub(super) fn new(text: Option<&str>) -> RequestId {
        let plain = |text: &&str| {
            (1..=80).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        RequestId(text.filter(plain).map(str::to_owned))
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |id| write!(out, " (request {id})"))
    }
}

/// On one line, and not long.
pub(super) fn bounded(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}
