//! Who gets through to the agent; one that has ended answers 503 to all that does.

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::access::Peer;
use super::*;
use crate::config::Group;

const ROOT: Option<u32> = Some(0);
const MEMBER: Option<u32> = Some(1001);

fn watchers() -> Access {
    Access::of(Some(&Group { name: "watchers".into(), gid: 50 }))
}

/// What a user's request comes to: the status, and the sentence.
async fn ask(
    access: Access,
    user: Option<u32>,
    method: &Method,
    path: &str,
    body: &str,
) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        // What a request says of itself counts for nothing.
        .header("x-forwarded-for", "root")
        .header("authorization", "Basic cm9vdDo=")
        .extension(ConnectInfo(Peer(user)))
        .body(Body::from(body.to_owned()))
        .unwrap();
    let answer = router(Agent::ended(), access).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let error = serde_json::from_slice::<api::Error>(&body);
    (status, error.map(|error| error.error).unwrap_or_default())
}

/// Every route that reads, and every one that changes something.
const READS: &[&str] = &[
    "/v1/metrics",
    "/v1/resolve/explain?name=a",
    "/v1/audit",
    "/v1/status",
    "/v1/members",
    "/v1/networks",
    "/v1/networks/blue",
    "/v1/endpoints",
    "/v1/resolve?name=a&network=n",
    "/v1/doctor",
    "/v1/counters",
    "/v1/trace/end?network=n&id=a&address=10.0.0.1&mac=02:00:00:00:00:01&vtep=192.0.2.1",
];
/// The same of what the agent answers without its core.
const READS_AT_ONCE: [&str; 1] = ["/v1/events"];
const CHANGES: &[(Method, &str, &str)] = &[
    (Method::POST, "/v1/audit", ""),
    (Method::POST, "/v1/networks", r#"{"name":"blue"}"#),
    (Method::DELETE, "/v1/networks/blue", ""),
    (Method::POST, "/v1/endpoints", r#"{"network":"n","name":"a","netns":"/nowhere"}"#),
    (Method::DELETE, "/v1/endpoints/n/a", ""),
    // Reading a capture shows packets.
    (Method::POST, "/v1/captures", r#"{"network":"n"}"#),
    (Method::POST, "/v1/captures/0/read?after=0&wait=0", ""),
    (Method::DELETE, "/v1/captures/0", ""),
    // It sends packets, and watches for them.
    (Method::POST, "/v1/trace", r#"{"from":"a","to":"b"}"#),
    (Method::POST, "/v1/watch", "{}"),
    (Method::POST, "/v1/watch/0", ""),
];

#[tokio::test]
async fn a_member_of_the_group_reads_and_changes_nothing() {
    for &path in READS {
        let (status, _) = ask(watchers(), MEMBER, &Method::GET, path, "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    for path in READS_AT_ONCE {
        let (status, _) = ask(watchers(), MEMBER, &Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let (status, _) = ask(watchers(), MEMBER, &Method::HEAD, "/v1/status", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    for (method, path, body) in CHANGES {
        let (status, told) = ask(watchers(), MEMBER, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
        for word in ["user 1001", "root", "sudo", "group watchers"] {
            assert!(told.contains(word), "{word} in {told}");
        }
    }
}

#[tokio::test]
async fn no_other_method_and_no_other_path_leads_past() {
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BOGUS"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let reads = READS.iter().copied().chain(READS_AT_ONCE);
        for path in reads.chain(CHANGES.iter().map(|c| c.1)).chain(["/", "/v1//"]) {
            let (status, _) = ask(watchers(), MEMBER, &method, path, "").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn root_and_the_agents_user_may_do_all() {
    let me = Some(nix::unistd::geteuid().as_raw());
    for user in [ROOT, me] {
        for access in [watchers(), Access::of(None)] {
            for (method, path, body) in CHANGES {
                let (status, _) = ask(access.clone(), user, method, path, body).await;
                assert_ne!(status, StatusCode::FORBIDDEN, "{method} {path}");
            }
            let (status, _) = ask(access, user, &Method::GET, "/v1/status", "").await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}

#[tokio::test]
async fn without_a_group_or_without_a_name_nobody_else_gets_in() {
    for (access, user) in [(Access::of(None), MEMBER), (watchers(), None), (Access::of(None), None)]
    {
        for (method, path) in [(Method::GET, "/v1/status"), (Method::DELETE, "/v1/networks/blue")] {
            let (status, told) = ask(access.clone(), user, &method, path, "").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{user:?} {method} {path}");
            assert!(told.contains("root") && told.contains("sudo"), "{told}");
        }
    }
}
