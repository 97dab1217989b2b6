//! Answers and refusals, before they are HTTP.
use serde_json::{Value, json};

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The body; a 204 has none.
    pub(super) body: Option<Value>,
    /// Headers besides those of every answer.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// An answer with a body.
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), headers: Vec::new() }
    }

    /// 200.
    pub(super) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    /// 204.
    pub(super) fn done() -> Self {
        Self { status: 204, body: None, headers: Vec::new() }
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    message: String,
    /// Whether the client broke the API's rules, rather than met a state that it could not know.
    pub(super) violation: bool,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// A refusal that a client may well meet.
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), violation: false, body: None, headers: Vec::new() }
    }

    /// 422 that a client may well meet.
    pub(super) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, message)
    }

    /// 404.
    pub(super) fn not_found() -> Self {
        Self::new(404, "The resource you were accessing could not be found.")
    }

    /// 422 for what the documentation forbids.
    pub(super) fn broken(message: impl Into<String>) -> Self {
        Self::new(422, message).breaking_rules()
    }

    /// The same, and a violation.
    pub(super) fn breaking_rules(mut self) -> Self {
        self.violation = true;
        self
    }

    /// The same with a body of its own.
    pub(super) fn with_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// The same with a header more.
    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// What was wrong.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The answer that says so.
    pub(super) fn into_answer(self, request_id: &str) -> Answer {
        let id = match self.status {
            400 => "bad_request",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            405 => "method_not_allowed",
            409 => "conflict",
            413 => "request_entity_too_large",
            415 => "unsupported_media_type",
            422 => "unprocessable_entity",
            429 => "too_many_requests",
            503 => "service_unavailable",
            _ => "server_error",
        };
        let usual = json!({ "id": id, "message": self.message, "request_id": request_id });
        Answer { status: self.status, body: self.body.or(Some(usual)), headers: self.headers }
    }
}
