//! Droplets from order to deletion.
use std::sync::{Arc, Mutex};

use ipnet::Ipv4Net;
use serde_json::json;

use super::super::{
    Activation, Address, Addresses, DigitalOcean, Fleet, Order, Power, Settings, Status,
};
use super::client::Client;
use super::{order, public_key, started};

#[test]
fn a_droplet_is_new_without_networks_and_then_active_with_them() {
    let (server, client) = started(Settings::default());
    let made = client.post("/v2/droplets", order("workerbee-1"));
    assert_eq!(made.status, 202);
    let made = made.json();
    let id = made["droplet"]["id"].as_u64().unwrap();
    assert_eq!(made["droplet"]["status"], "new");
    assert_eq!(made["droplet"]["networks"]["v4"], json!([]));
    assert_eq!(made["links"]["actions"][0]["rel"], "create");
    let path = format!("/v2/droplets/{id}");
    for _ in 0..2 {
        assert_eq!(client.get(&path).json()["droplet"]["status"], "new");
    }
    let droplet = client.get(&path).json()["droplet"].clone();
    assert_eq!(
        (droplet["status"].as_str(), droplet["memory"].as_u64()),
        (Some("active"), Some(1024))
    );
    let of = |kind: &str| {
        let networks = droplet["networks"]["v4"].as_array().unwrap();
        networks.iter().find(|network| network["type"] == kind).unwrap().clone()
    };
    assert_eq!(of("public")["netmask"], "255.255.255.0");
    assert_eq!(of("public")["gateway"], "203.0.113.1");
    let vpc = client.get(&format!("/v2/vpcs/{}", droplet["vpc_uuid"].as_str().unwrap())).json();
    let range: Ipv4Net = vpc["vpc"]["ip_range"].as_str().unwrap().parse().unwrap();
    assert!(range.contains(
        &of("private")["ip_address"].as_str().unwrap().parse::<std::net::Ipv4Addr>().unwrap()
    ));
    assert_eq!(of("private")["netmask"], range.netmask().to_string());
    let action = made["links"]["actions"][0]["href"].as_str().unwrap();
    let action = client.get(action.strip_prefix(server.url()).unwrap()).json();
    assert_eq!(action["action"]["status"], "completed");
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn several_are_made_at_once_up_to_the_limit() {
    let (server, client) = started(Settings { droplet_limit: 3, ..Settings::default() });
    let mut several = order("");
    several.as_object_mut().unwrap().remove("name");
    several["names"] = json!(["workerbee-1", "workerbee-2"]);
    several["tags"] = json!(["ovl", "apiary:test"]);
    let made = client.post("/v2/droplets", several.clone()).json();
    assert_eq!(made["droplets"].as_array().unwrap().len(), 2);
    assert_eq!(made["links"]["actions"].as_array().unwrap().len(), 2);
    assert_eq!(server.tags(), ["ovl", "apiary:test"]);
    let refused = client.post("/v2/droplets", several);
    assert_eq!(refused.status, 422);
    assert_eq!(refused.message(), "creating this/these droplet(s) will exceed your droplet limit");
    assert_eq!(server.droplets().len(), 2);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn region_size_and_image_have_to_go_together() {
    let (server, client) = started(Settings::default());
    let refused = |field: &str, value: &str| {
        let mut order = order("workerbee-1");
        order[field] = value.into();
        let got = client.post("/v2/droplets", order);
        assert_eq!(got.status, 422, "{field} {value}");
        got.message()
    };
    assert_eq!(refused("region", "nyc2"), "Region is not available");
    assert!(refused("region", "mars1").contains("invalid region"));
    assert!(refused("size", "8xl").contains("invalid size"));
    assert!(refused("size", "m-2vcpu-16gb").contains("not available in this region"));
    assert!(refused("image", "debian-2-x64").contains("invalid image"));
    assert!(refused("vpc_uuid", "nowhere").contains("invalid VPC"));
    let mut order = order("workerbee-1");
    order["image"] = "docker-20-04".into();
    order["size"] = "s-1vcpu-512mb-10gb".into();
    assert!(client.post("/v2/droplets", order).message().contains("larger disk"));
    assert!(server.droplets().is_empty());
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn a_key_is_known_by_number_and_fingerprint_and_reaches_the_machine() {
    let (server, client) = started(Settings::default());
    let key = public_key();
    let made = client.post("/v2/account/keys", json!({ "name": "keeper", "public_key": key }));
    assert_eq!(made.status, 201);
    let made = made.json()["ssh_key"].clone();
    let fingerprint = made["fingerprint"].as_str().unwrap();
    assert_eq!(fingerprint.split(':').count(), 16);
    let again = client.post("/v2/account/keys", json!({ "name": "keeper", "public_key": key }));
    assert_eq!(
        (again.status, again.message().as_str()),
        (422, "SSH Key is already in use on your account")
    );
    for word in [fingerprint.replace(':', "%3A"), fingerprint.to_owned(), made["id"].to_string()] {
        assert_eq!(client.get(&format!("/v2/account/keys/{word}")).json()["ssh_key"], made);
    }
    let mut ordered = order("workerbee-1");
    ordered["ssh_keys"] = json!([made["id"], fingerprint]);
    assert_eq!(client.post("/v2/droplets", ordered.clone()).status, 202);
    assert_eq!(server.droplets()[0].order.ssh_keys, [key.as_str(), key.as_str()]);
    ordered["ssh_keys"] = json!(["00:11"]);
    assert_eq!(
        client.post("/v2/droplets", ordered).message(),
        "00:11 are invalid key identifiers for Droplet creation."
    );
    let bad =
        client.post("/v2/account/keys", json!({ "name": "x", "public_key": "ssh-ed25519 AAAA" }));
    assert_eq!(bad.status, 422);
    assert_eq!(client.delete(&format!("/v2/account/keys/{fingerprint}")).status, 204);
    assert!(server.keys().is_empty());
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn a_deleted_droplet_lingers_in_one_list_and_is_gone() {
    let (server, client) = started(Settings::default());
    let id = server.add_droplet("workerbee-1", &["ovl"]);
    assert_eq!(client.delete(&format!("/v2/droplets/{id}")).status, 204);
    assert_eq!(client.get(&format!("/v2/droplets/{id}")).status, 404);
    assert_eq!(client.delete(&format!("/v2/droplets/{id}")).status, 404);
    assert_eq!(client.get("/v2/droplets?tag_name=ovl").json()["meta"]["total"], 1);
    assert_eq!(client.get("/v2/droplets?tag_name=ovl").json()["meta"]["total"], 0);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn an_action_is_in_progress_and_then_done() {
    let (server, client) = started(Settings::default());
    let id = server.add_droplet("workerbee-1", &[]);
    let path = format!("/v2/droplets/{id}/actions");
    let got = client.post(&path, json!({ "type": "power_off" }));
    assert_eq!((got.status, &got.json()["action"]["status"]), (201, &json!("in-progress")));
    let busy = client.post(&path, json!({ "type": "reboot" }));
    assert_eq!(
        (busy.status, busy.message().as_str()),
        (422, "Droplet already has a pending event.")
    );
    let action = format!("/v2/actions/{}", got.json()["action"]["id"]);
    assert_eq!(client.get(&action).json()["action"]["status"], "in-progress");
    assert_eq!(client.get(&path).json()["actions"][0]["status"], "completed");
    assert_eq!(server.droplet("workerbee-1").unwrap().status, Status::Off);
    assert_eq!(client.post(&path, json!({ "type": "power_on" })).status, 201);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn some_never_become_active_and_some_err() {
    let (server, client) = started(Settings {
        activation: Activation::AfterReads(0),
        ..Settings::default().never_active("slow").erring("broken")
    });
    let action = |name: &str| {
        let made = client.post("/v2/droplets", order(name)).json();
        format!("/v2/actions/{}", made["links"]["actions"][0]["id"])
    };
    let (slow, broken, fine) = (action("slow"), action("broken"), action("fine"));
    let last = |path: &str| {
        client.get(path);
        client.get(path).json()["action"]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (last(&slow), last(&broken), last(&fine)),
        ("in-progress".into(), "errored".into(), "completed".into())
    );
    assert_eq!(server.droplet("slow").unwrap().status, Status::New);
}

/// A fleet that notes what it is told.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<(Vec<String>, Option<Addresses>)>>);

impl Fleet for Noted {
    fn create(&self, order: &Order) {
        let user_data = order.user_data.clone().unwrap_or_default();
        self.0.lock().unwrap().0.push(format!("create {} {user_data}", order.name));
    }
    fn addresses(&self, _id: u64) -> Option<Addresses> {
        self.0.lock().unwrap().1
    }
    fn power(&self, _id: u64, power: Power) {
        self.0.lock().unwrap().0.push(format!("{power:?}"));
    }
    fn delete(&self, _id: u64) {
        self.0.lock().unwrap().0.push("delete".to_owned());
    }
}

#[test]
fn a_fleet_is_told_and_says_when_a_droplet_is_active() {
    let fleet = Noted::default();
    let settings = Settings { activation: Activation::AfterReads(0), ..Settings::default() };
    let server = DigitalOcean::with_fleet(settings, Box::new(fleet.clone())).unwrap();
    let client = Client::of(&server);
    let mut ordered = order("queenbee");
    ordered["user_data"] = "#cloud-config\n".into();
    let id = client.post("/v2/droplets", ordered).json()["droplet"]["id"].clone();
    let path = format!("/v2/droplets/{id}");
    assert_eq!(client.get(&path).json()["droplet"]["status"], "new");
    let ip = "192.168.77.11".parse().unwrap();
    let public = Some(Address { ip, prefix: 24, gateway: None });
    fleet.0.lock().unwrap().1 = Some(Addresses { public, private: None });
    let v4 = client.get(&path).json()["droplet"]["networks"]["v4"].clone();
    assert_eq!(
        v4,
        json!([{ "ip_address": "192.168.77.11", "netmask": "255.255.255.0", "gateway": null, "type": "public" }])
    );
    assert_eq!(client.post(&format!("{path}/actions"), json!({ "type": "reboot" })).status, 201);
    assert_eq!(client.delete(&path).status, 204);
    assert_eq!(fleet.0.lock().unwrap().0, ["create queenbee #cloud-config\n", "Reboot", "delete"]);
}

#[test]
fn a_test_reaches_into_the_account() {
    let (server, client) = started(Settings { busy_while_new: true, ..Settings::default() });
    let id = client.post("/v2/droplets", order("workerbee-1")).json()["droplet"]["id"].clone();
    let path = format!("/v2/droplets/{id}");
    let busy = client.delete(&path);
    assert_eq!(
        (busy.status, busy.message().as_str()),
        (422, "Droplet already has a pending event.")
    );
    let private = Some(Address { ip: [10, 1, 2, 3].into(), prefix: 16, gateway: None });
    let id = id.as_u64().unwrap();
    server.set_addresses(id, Addresses { public: None, private });
    server.adjust(|settings| settings.activation = Activation::AfterReads(0));
    let v4 = client.get(&path).json()["droplet"]["networks"]["v4"].clone();
    assert_eq!((&v4[0]["netmask"], v4.as_array().unwrap().len()), (&json!("255.255.0.0"), 1));
    server.set_status(id, Status::Off);
    assert_eq!(client.get(&path).json()["droplet"]["status"], "off");
    server.remove_droplet(id);
    assert_eq!(client.get("/v2/droplets").json()["meta"]["total"], 0);
    let key = server.add_key("keeper", &public_key()).unwrap().unwrap();
    assert_eq!(client.get(&format!("/v2/account/keys/{key}")).status, 200);
    assert_eq!(server.add_key("keeper", "no key").unwrap(), None);
    assert_eq!(server.violations(), [""; 0]);
}
