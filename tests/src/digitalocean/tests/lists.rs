//! Pages, filters, tags and the catalogue.
use serde_json::json;

use super::super::Settings;
use super::started;

#[test]
fn a_list_is_followed_by_its_links_whatever_is_asked_for() {
    let (server, client) = started(Settings::default());
    for number in 1..=5 {
        server.add_droplet(&format!("workerbee-{number}"), &["apiary:test"]);
    }
    let mut next = Some("/v2/droplets?tag_name=apiary%3Atest&per_page=200".to_owned());
    let (mut names, mut pages) = (Vec::new(), 0);
    while let Some(path) = next {
        let got = client.get(&path).json();
        assert_eq!(got["meta"]["total"], 5);
        assert_eq!(got["links"]["pages"]["first"].is_null(), pages == 0);
        let shown = got["droplets"].as_array().unwrap();
        names.extend(shown.iter().map(|d| d["name"].as_str().unwrap().to_owned()));
        next = got["links"]["pages"]["next"]
            .as_str()
            .map(|to| to.strip_prefix(server.url()).unwrap().to_owned());
        pages += 1;
    }
    assert_eq!((pages, names.len()), (3, 5));
    assert_eq!(client.get("/v2/droplets?name=WORKERBEE-3").json()["links"], json!({}));
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn tags_are_put_on_and_taken_off() {
    let (server, client) = started(Settings::default());
    let id = server.add_droplet("workerbee-1", &[]).to_string();
    assert_eq!(client.post("/v2/tags", json!({ "name": "ovl" })).status, 201);
    let resources = json!({ "resources": [{ "resource_id": id, "resource_type": "droplet" }] });
    assert_eq!(client.post("/v2/tags/ovl/resources", resources.clone()).status, 204);
    let tag = client.get("/v2/tags/ovl").json();
    assert_eq!(tag["tag"]["resources"]["droplets"]["count"], 1);
    assert_eq!(server.droplets()[0].tags, ["ovl"]);
    let off = client.ask("DELETE", "/v2/tags/ovl/resources", Some(resources.clone())).unwrap();
    assert_eq!((off.status, server.droplets()[0].tags.len()), (204, 0));
    assert_eq!(client.delete("/v2/tags/ovl").status, 204);
    assert_eq!(client.get("/v2/tags/ovl").status, 404);
    assert_eq!(client.post("/v2/tags/ovl/resources", resources).status, 404);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn what_there_is_can_be_looked_up() {
    let (server, client) = started(Settings { page_size: 200, ..Settings::default() });
    assert_eq!(client.get("/v2/account").json()["account"]["droplet_limit"], 25);
    let regions = client.get("/v2/regions").json();
    let closed = regions["regions"].as_array().unwrap().iter().filter(|r| r["available"] == false);
    assert_eq!(closed.count(), 1);
    assert!(client.get("/v2/sizes?per_page=200").json()["sizes"].as_array().unwrap().len() > 3);
    assert_eq!(client.get("/v2/images?type=distribution").json()["meta"]["total"], 3);
    assert_eq!(client.get("/v2/images?private=true").json()["images"][0]["slug"], json!(null));
    assert_eq!(client.get("/v2/images/debian-13-x64").json()["image"]["id"], 153_000_013);
    assert_eq!(client.get("/v2/images/153000013").json()["image"]["slug"], "debian-13-x64");
    assert_eq!(client.get("/v2/images/plan-9").status, 404);
    let vpcs = client.get("/v2/vpcs").json();
    let defaults = vpcs["vpcs"].as_array().unwrap().iter().filter(|vpc| vpc["default"] == true);
    assert_eq!(defaults.count(), 4);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn lists_of_keys_have_a_limit_of_their_own_if_wanted() {
    let (_server, client) =
        started(Settings { key_lists_per_minute: Some(2), ..Settings::default() });
    assert_eq!(
        [client.get("/v2/account/keys").status, client.get("/v2/account/keys").status],
        [200; 2]
    );
    let got = client.get("/v2/account/keys");
    assert_eq!(got.status, 429);
    assert!(got.header("retry-after").unwrap().parse::<u64>().unwrap() <= 61);
}
