//! Requests that the documentation does not provide for.
use serde_json::{Value, json};

use super::super::Settings;
use super::{order, started};

#[test]
fn a_field_that_is_wrong_is_refused_and_written_down() {
    let (server, client) = started(Settings::default());
    let long = "x".repeat(64 * 1024 + 1);
    let wrong: [(&str, Value); 15] = [
        ("nmae", json!("x")),
        ("name", json!("under_score")),
        ("name", json!("")),
        ("name", json!("x".repeat(256))),
        ("name", json!(1)),
        ("names", json!(["workerbee-1"])),
        ("image", json!(true)),
        ("ssh_keys", json!("12")),
        ("ssh_keys", json!([{}])),
        ("tags", json!(["white space"])),
        ("ipv6", json!("yes")),
        ("user_data", json!(long)),
        ("user_data", json!(null)),
        ("private_networking", json!(true)),
        ("vpc_uuid", json!(7)),
    ];
    for (at, (field, value)) in wrong.iter().enumerate() {
        let mut order = order("workerbee-1");
        order[*field] = value.clone();
        let got = client.post("/v2/droplets", order);
        assert!([400, 422].contains(&got.status), "{field}: {}", got.status);
        assert_eq!(server.violations().len(), at + 1, "{field}: {:?}", server.violations().last());
    }
    let eleven: Vec<String> = (0..11).map(|number| format!("workerbee-{number}")).collect();
    let mut several = order("");
    several.as_object_mut().unwrap().remove("name");
    several["names"] = json!(eleven);
    assert_eq!(client.post("/v2/droplets", several).status, 422);
    assert!(server.droplets().is_empty());
}

#[test]
fn a_request_that_is_wrong_is_refused_and_written_down() {
    let (server, client) = started(Settings::default());
    let wrong = [
        ("GET", "/v2/droplets?per_page=201", 400),
        ("GET", "/v2/droplets?page=0", 400),
        ("GET", "/v2/droplets?tag=ovl", 400),
        ("GET", "/v2/droplets?page=1&page=2", 400),
        ("GET", "/v2/droplets?tag_name=ovl&name=x", 400),
        ("GET", "/v2/regions?type=all", 400),
        ("GET", "/v2/droplets/queenbee", 404),
        ("GET", "/v2/droplets/", 404),
        ("GET", "/v1/droplets", 404),
        ("DELETE", "/v2/droplets?tag_name=ovl", 405),
        ("PATCH", "/v2/tags/ovl", 405),
        ("POST", "/v2/droplets", 415),
    ];
    for (at, (method, path, status)) in wrong.into_iter().enumerate() {
        assert_eq!(client.ask(method, path, None).unwrap().status, status, "{method} {path}");
        assert_eq!(server.violations().len(), at + 1, "{method} {path}");
    }
    let body = client.ask("GET", "/v2/droplets", Some(json!({}))).unwrap();
    assert_eq!((body.status, server.violations().len()), (400, 13));
}

#[test]
fn who_may_not_ask_is_told_so_in_the_documented_form() {
    let (server, mut client) = started(Settings::default());
    let right = client.authorization.clone();
    for wrong in ["", "Authorization: Bearer other\r\n", &right.replace("Bearer", "Token")] {
        client.authorization = wrong.to_owned();
        let got = client.get("/v2/account");
        assert_eq!((got.status, &got.json()["id"]), (401, &json!("unauthorized")));
        assert_eq!(got.json()["request_id"].as_str(), got.header("x-request-id").as_deref());
    }
    assert_eq!(server.violations().len(), 3);
    client.authorization = right;
    assert_eq!(client.get("/v2/droplets/7").status, 404);
    assert_eq!(server.violations().len(), 3);
    client.content_type = "text/plain";
    assert_eq!(client.post("/v2/tags", json!({ "name": "ovl" })).status, 415);
}

#[test]
fn everything_is_recorded_and_a_token_out_of_its_place_is_a_violation() {
    let (server, client) = started(Settings::default());
    client.get("/v2/images?type=distribution&page=1");
    let request = server.requests().pop().unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/v2/images"));
    assert_eq!(request.query[0], ("type".to_owned(), "distribution".to_owned()));
    assert_eq!(request.user_agent.as_deref(), Some("bee/1"));
    let got = client.get("/v2/account");
    assert_eq!(got.header("ratelimit-limit").as_deref(), Some("5000"));
    assert_eq!(got.header("ratelimit-remaining").as_deref(), Some("4998"));
    assert!(got.header("ratelimit-reset").is_some());
    let mut order = order("queenbee");
    order["user_data"] = format!("#!/bin/sh\nexport TOKEN={}\n", server.token()).into();
    assert_eq!(client.post("/v2/droplets", order.clone()).status, 202);
    assert_eq!(server.requests().pop().unwrap().body, Some(order));
    assert!(server.violations()[0].contains("token"));
    server.forget();
    assert!(server.requests().is_empty() && server.violations().is_empty());
}
