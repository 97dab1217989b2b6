//! The server fails where it is told to, and nowhere else.
use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;

use super::super::{Fault, How, Retry, Settings};
use super::{order, started};

#[test]
fn an_error_comes_as_often_as_it_was_told_and_does_nothing() {
    let (server, client) = started(Settings::default());
    let faults = [
        (How::Unauthorized, 401),
        (How::Forbidden, 403),
        (How::NotFound, 404),
        (How::Unprocessable("no".to_owned()), 422),
        (How::TooMany(Retry::After(3)), 429),
        (How::ServerError, 500),
        (How::Unavailable, 503),
    ];
    for (how, status) in faults {
        server.fail(Fault::once("POST", "/v2/droplets", how).times(2));
        for _ in 0..2 {
            let got = client.post("/v2/droplets", order("workerbee-1"));
            assert_eq!(got.status, status);
            assert!(got.json()["id"].is_string());
        }
    }
    assert!(server.droplets().is_empty());
    assert_eq!(client.post("/v2/droplets", order("workerbee-1")).status, 202);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn a_fault_fits_by_pattern_and_after_others() {
    let (server, client) = started(Settings::default());
    let id = server.add_droplet("workerbee-1", &[]);
    server.fail(Fault::once("*", "/v2/droplets/*/actions", How::ServerError).skip(1));
    let path = format!("/v2/droplets/{id}/actions");
    assert_eq!(client.get(&format!("/v2/droplets/{id}")).status, 200);
    let statuses = [(); 3].map(|()| client.get(&path).status);
    assert_eq!(statuses, [200, 500, 200]);
    assert!(server.unspent().is_empty());
    server.fail(Fault::once("GET", "/v2/*", How::ServerErrorAfter));
    assert_eq!(server.unspent().len(), 1);
    server.mend();
    assert_eq!(client.get(&path).status, 200);
}

#[test]
fn too_many_requests_say_when_to_come_back_in_either_way() {
    let (server, client) = started(Settings::default());
    server.fail(Fault::once("GET", "*", How::TooMany(Retry::After(29))));
    let got = client.get("/v2/account");
    assert_eq!(got.header("retry-after").as_deref(), Some("29"));
    assert_eq!(got.header("ratelimit-remaining").as_deref(), Some("0"));
    server.fail(Fault::once("GET", "*", How::TooMany(Retry::Reset(2))));
    let got = client.get("/v2/account");
    assert_eq!(got.header("retry-after"), None);
    let reset: i64 = got.header("ratelimit-reset").unwrap().parse().unwrap();
    let ahead = reset - super::super::clock::now();
    assert!((0..=2).contains(&ahead), "{ahead}");
}

#[test]
fn a_connection_is_reset_before_or_after_the_deed() {
    let (server, client) = started(Settings::default());
    for (how, made) in [(How::ResetBefore, 0), (How::ResetAfter, 1)] {
        server.fail(Fault::once("POST", "/v2/droplets", how));
        let got = client.ask("POST", "/v2/droplets", Some(order("workerbee-1")));
        assert_eq!(got.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(server.droplets().len(), made);
    }
    assert_eq!(client.get("/v2/droplets").json()["meta"]["total"], 1);
}

#[test]
fn an_answer_is_missing_mangled_or_cut() {
    let (server, client) = started(Settings::default());
    server.fail(Fault::once("GET", "/v2/account", How::NotJson));
    let got = client.get("/v2/account");
    assert_eq!((got.status, got.header("content-type").as_deref()), (200, Some("text/html")));
    server.fail(Fault::once("GET", "/v2/droplets", How::Huge(9 << 20)));
    assert!(client.get("/v2/droplets").body.len() > 9 << 20);
    server.fail(Fault::once("GET", "/v2/regions", How::Truncated));
    let got = client.get("/v2/regions");
    let told: usize = got.header("content-length").unwrap().parse().unwrap();
    assert!(!got.body.is_empty() && got.body.len() < told, "{} of {told}", got.body.len());
    server.fail(Fault::once("POST", "/v2/tags", How::ServerErrorAfter));
    assert_eq!(client.post("/v2/tags", json!({ "name": "ovl" })).status, 500);
    assert_eq!(server.tags(), ["ovl"]);
}

#[test]
fn an_answer_that_never_comes_holds_up_nobody_else_and_ends_with_the_server() {
    let (server, client) = started(Settings::default());
    server.fail(Fault::once("GET", "/v2/account", How::Hang));
    let request = format!("GET /v2/account HTTP/1.1\r\nHost: x\r\n{}\r\n", client.authorization);
    let got = client.send(request.as_bytes(), Duration::from_millis(200));
    let kind = got.unwrap_err().kind();
    assert!([ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&kind), "{kind}");
    assert_eq!(client.get("/v2/account").status, 200);
    server.fail(Fault::once("GET", "/v2/account", How::Hang));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.send(request.as_bytes(), Duration::from_secs(20)));
        while server.requests().len() < 3 {
            std::thread::yield_now();
        }
        drop(server);
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    });
    assert!(client.send(request.as_bytes(), Duration::from_secs(1)).is_err());
}
