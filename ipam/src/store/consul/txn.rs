//! Consul's transactions: `PUT /v1/txn`, all operations or none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};

use crate::store::{Operation, Outcome};

/// The request; consulrs has none.
#[derive(Debug, Endpoint)]
#[endpoint(path = "txn", method = "PUT", response = "serde_json::Value")]
pub(super) struct TransactionRequest {
    #[endpoint(raw)]
    body: Vec<u8>,
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(rename = "KV")]
    kv: Verb<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verb<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Done {
    #[serde(default)]
    results: Option<Vec<DoneStep>>,
}

#[derive(Deserialize)]
struct DoneStep {
    #[serde(rename = "KV")]
    kv: Option<DoneKey>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DoneKey {
    modify_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RolledBack {
    errors: Option<Vec<Objection>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Objection {
    what: String,
}

pub(super) fn request(operations: &[Operation]) -> TransactionRequest {
    let steps: Vec<Step<'_>> = operations.iter().flat_map(steps).collect();
    // Strings and numbers only: this cannot fail, and an empty body is refused by Consul.
    let body = serde_json::to_vec(&steps).unwrap_or_default();
    TransactionRequest { body }
}

/// Every key that was put has the index of the transaction; those only checked have lower ones.
pub(super) fn committed(body: &[u8]) -> Result<Outcome, serde_json::Error> {
    let done: Done = serde_json::from_slice(body)?;
    let results = done.results.unwrap_or_default();
    let indexes = results.into_iter().filter_map(|r| Some(r.kv?.modify_index));
    Ok(Outcome::Committed { revision: indexes.max().unwrap_or(0) })
}

/// Consul answers 409 for a key that is not at its index, and for a token that may not: only the
/// first goes away by reading again.
pub(super) fn is_conflict(body: &[u8]) -> bool {
    let Ok(RolledBack { errors: Some(errors) }) = serde_json::from_slice(body) else {
        return false;
    };
    let lasting = |what: &str| what.contains("ermission denied") || what.contains("ACL not found");
    !errors.is_empty() && !errors.iter().any(|e| lasting(&e.what))
}

fn steps(operation: &Operation) -> Vec<Step<'_>> {
    let key = operation.key();
    let step = |verb, index, value: Option<&[u8]>| {
        let value = value.map(|v| STANDARD.encode(v));
        Step { kv: Verb { verb, key, index, value } }
    };
    match operation {
        Operation::Check { revision: 0, .. } => vec![step("check-not-exists", None, None)],
        Operation::Check { revision, .. } => vec![step("check-index", Some(*revision), None)],
        Operation::Put { revision, value, .. } => vec![step("cas", Some(*revision), Some(value))],
        Operation::Set { value, .. } => vec![step("set", None, Some(value))],
        // Deleting by index alone takes an absent key for done.
        Operation::Delete { revision, .. } => vec![
            step("check-index", Some(*revision), None),
            step("delete-cas", Some(*revision), None),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_written_as_consul_reads_it() {
        let key = || "ovl/v1/a".to_owned();
        let request = request(&[
            Operation::Check { key: key(), revision: 0 },
            Operation::Check { key: key(), revision: 7 },
            Operation::Put { key: key(), revision: 0, value: b"x".to_vec() },
            Operation::Set { key: key(), value: b"y".to_vec() },
            Operation::Delete { key: key(), revision: 9 },
        ]);
        let expected = [
            r#"[{"KV":{"Verb":"check-not-exists","Key":"ovl/v1/a"}}"#,
            r#"{"KV":{"Verb":"check-index","Key":"ovl/v1/a","Index":7}}"#,
            r#"{"KV":{"Verb":"cas","Key":"ovl/v1/a","Index":0,"Value":"eA=="}}"#,
            r#"{"KV":{"Verb":"set","Key":"ovl/v1/a","Value":"eQ=="}}"#,
            r#"{"KV":{"Verb":"check-index","Key":"ovl/v1/a","Index":9}}"#,
            r#"{"KV":{"Verb":"delete-cas","Key":"ovl/v1/a","Index":9}}]"#,
        ];
        assert_eq!(String::from_utf8(request.body).unwrap(), expected.join(","));
    }

    #[test]
    fn a_refusal_is_no_conflict() {
        let stale = br#"{"Results":null,"Errors":[{"OpIndex":0,"What":"failed to set key \"a\", index is stale"}]}"#;
        let denied = br#"{"Results":null,"Errors":[{"OpIndex":0,"What":"Permission denied"}]}"#;
        assert!(is_conflict(stale));
        assert!(!is_conflict(denied));
        for other in [&b""[..], b"{}", b"[]", b"conflict", br#"{"Errors":[]}"#, b"\xff"] {
            assert!(!is_conflict(other));
        }
    }

    #[test]
    fn an_answer_from_anywhere_never_panics() {
        for body in
            [&b""[..], b"{}", b"[1]", br#"{"Results":[{"KV":{"ModifyIndex":-1}}]}"#, b"\xff"]
        {
            let _ = committed(body);
        }
    }
}
