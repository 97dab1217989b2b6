use axum::body::{self, Body};
use axum::extract::Request as Asked;
use axum::response::Response;
use axum::{Router, serve};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::*;

/// A Docker that gives one answer to everything, and tells what it was asked.
struct Fake {
    _directory: tempfile::TempDir,
    daemon: Daemon,
    asked: mpsc::UnboundedReceiver<(String, Value)>,
}

fn fake(status: u16, answer: impl Into<String>) -> Fake {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (asking, asked) = mpsc::unbounded_channel();
    let answer: String = answer.into();
    let app = Router::new().fallback(move |request: Asked| async move {
        let line = format!("{} {}", request.method(), request.uri());
        let body = body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        asking.send((line, serde_json::from_slice(&body).unwrap_or_default())).unwrap();
        Response::builder().status(status).body(Body::from(answer)).unwrap()
    });
    tokio::spawn(async move { serve(listener, app).await });
    let daemon = Daemon::new(&format!("unix://{}", socket.display()), "ovl");
    Fake { _directory: directory, daemon, asked }
}

fn config() -> NetworkConfig {
    NetworkConfig { name: "blue".into(), ipam_driver: "ovl".into(), ..NetworkConfig::default() }
}

#[tokio::test]
async fn a_network_is_made_with_our_driver_and_a_name_of_its_own() {
    let mut fake = fake(201, r#"{"Id":"n1","Warning":""}"#);
    assert_eq!(fake.daemon.create_network(&config()).await.unwrap(), "n1");
    let (line, body) = fake.asked.recv().await.unwrap();
    assert_eq!(line, "POST /networks/create");
    assert_eq!((&body["Driver"], &body["CheckDuplicate"]), (&"ovl".into(), &true.into()));
}

#[tokio::test]
async fn a_network_is_removed_by_its_id() {
    let mut fake = fake(204, "");
    fake.daemon.remove_network("n1").await.unwrap();
    assert_eq!(fake.asked.recv().await.unwrap().0, "DELETE /networks/n1");
}

#[tokio::test]
async fn what_is_no_id_is_not_asked_for() {
    let fake = fake(204, "");
    for id in ["", ".", "..", "../containers/x", "a b", "a?x", "ä", "a\r\nb", "a%2fb"] {
        let error = fake.daemon.remove_network(id).await.unwrap_err();
        assert!(matches!(error, DaemonError::NotFound { .. }), "{error}");
    }
    let mut asked = fake.asked;
    asked.try_recv().unwrap_err();
}

#[tokio::test]
async fn refusals_are_told_apart_and_repeat_the_words_of_docker() {
    let words = r#"{"message":"the words of Docker"}"#;
    let create = async |status, answer: &str| {
        fake(status, answer).daemon.create_network(&config()).await.unwrap_err()
    };
    assert!(matches!(create(409, words).await, DaemonError::NameTaken { .. }));
    for status in [400, 403, 404, 500, 503] {
        let error = create(status, words).await;
        assert!(matches!(error, DaemonError::Refused { .. }), "{error}");
        assert!(error.to_string().ends_with("create it: the words of Docker"), "{error}");
    }
    for (status, answer) in [(500, ""), (200, "{}"), (201, "{}"), (201, r#"{"Id":""}"#)] {
        let error = create(status, answer).await.to_string();
        assert!(error.contains(&format!("HTTP status {status}")), "{error}");
    }

    let remove = async |status, answer: &str| {
        fake(status, answer).daemon.remove_network("n1").await.unwrap_err()
    };
    assert!(matches!(remove(404, words).await, DaemonError::NotFound { .. }));
    let in_use = r#"{"message":"network blue has active endpoints (name:\"web\")"}"#;
    for status in [403, 409] {
        let error = remove(status, in_use).await;
        assert!(matches!(error, DaemonError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("web"), "{error}");
        assert!(matches!(remove(status, words).await, DaemonError::Refused { .. }));
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let error = fake(500, "x".repeat(MAX_ANSWER + 1)).daemon.remove_network("n1").await;
    assert!(matches!(error, Err(DaemonError::Unreachable { .. })), "{error:?}");
    let long = format!(r#"{{"message":"{}"}}"#, "ä".repeat(10_000));
    let error = fake(500, long).daemon.remove_network("n1").await.unwrap_err().to_string();
    assert!(error.chars().count() < MAX_MESSAGE + 100, "{error}");
}

#[tokio::test]
async fn a_docker_that_is_away_is_told_with_what_to_do() {
    for host in ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:2375", ""] {
        let daemon = Daemon::new(host, "ovl");
        let error = daemon.remove_network("n1").await.unwrap_err();
        assert!(matches!(error, DaemonError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("check that Docker runs"), "{error}");
    }
}

#[tokio::test]
async fn a_silent_docker_is_not_waited_for_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    // It takes connections, but nothing answers.
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut daemon = Daemon::new(&format!("unix://{}", socket.display()), "ovl");
    assert_eq!(daemon.limit, LIMIT);
    daemon.limit = Duration::from_millis(20);
    let error = daemon.create_network(&config()).await.unwrap_err();
    assert!(matches!(error, DaemonError::Silent { .. }), "{error}");
}
