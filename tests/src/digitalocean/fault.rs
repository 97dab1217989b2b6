//! What a test tells the server to do wrong.
use std::time::Duration;

/// A fault, and the requests that it befalls.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The method, or `*` for any.
    pub method: String,
    /// The path without its query; each `*` stands for any characters.
    pub path: String,
    /// How many requests that fit are let through before.
    pub skip: u32,
    /// How many requests it befalls after that.
    pub times: u32,
    /// What happens to them.
    pub how: How,
}

/// What a 429 says of when to come back.
#[derive(Debug, Clone, Copy)]
pub enum Retry {
    /// The burst limit: `retry-after`, in seconds.
    After(u64),
    /// The limit of an hour: only `ratelimit-reset`, so many seconds ahead.
    Reset(u64),
}

/// What happens to a request.
///
/// What changes the answer alone (`ResetAfter`, `ServerErrorAfter`, `NotJson`, `Huge`,
/// `Truncated`) comes after the request took effect; everything else comes in its place.
#[derive(Debug, Clone)]
pub enum How {
    /// 401: the token is not known.
    Unauthorized,
    /// 403: the token lacks a scope.
    Forbidden,
    /// 404.
    NotFound,
    /// 422 with this message.
    Unprocessable(String),
    /// 429.
    TooMany(Retry),
    /// 500.
    ServerError,
    /// 503.
    Unavailable,
    /// The connection is reset, and nothing was done.
    ResetBefore,
    /// The connection is reset, and everything was done.
    ResetAfter,
    /// 500, though everything was done.
    ServerErrorAfter,
    /// 504, and it is done so much later all the same.
    GatewayTimeout(Duration),
    /// No answer ever comes.
    Hang,
    /// 200 with a page of HTML, as a proxy would answer.
    NotJson,
    /// 200 with valid JSON of at least so many bytes.
    Huge(usize),
    /// The right answer, cut off in the middle of its body.
    Truncated,
}

impl Fault {
    /// A fault that befalls the next request that fits.
    #[must_use]
    pub fn once(method: &str, path: &str, how: How) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), skip: 0, times: 1, how }
    }

    /// The same, so many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The same, after so many requests that fit were let through.
    #[must_use]
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Counts a request that fits, and says whether it is befallen.
    fn strikes(&mut self, method: &str, path: &str) -> bool {
        let fits = self.times > 0
            && (self.method == "*" || self.method == method)
            && fits(&self.path, path);
        if !fits {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// The first fault that befalls a request. Each is counted once for it, up to that one.
pub(super) fn strike(faults: &mut [Fault], method: &str, path: &str) -> Option<How> {
    faults.iter_mut().find_map(|f| f.strikes(method, path).then(|| f.how.clone()))
}

/// Whether a pattern with stars fits the whole path.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, rest)) => path.strip_prefix(head).is_some_and(|tail| {
            tail.char_indices()
                .map(|(at, _)| at)
                .chain([tail.len()])
                .any(|at| fits(rest, &tail[at..]))
        }),
    }
}
