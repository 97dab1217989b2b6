//! Firewalls: their rules, and what they are applied to.
use serde_json::{Value, json};

use super::super::Settings;
use super::started;

fn firewall(inbound: Value) -> Value {
    let everywhere = json!({ "addresses": ["0.0.0.0/0", "::/0"] });
    json!({
        "name": "apiary", "inbound_rules": [inbound], "tags": ["ovl"],
        "outbound_rules": [{ "protocol": "icmp", "destinations": everywhere }],
    })
}

fn ssh() -> Value {
    json!({ "protocol": "tcp", "ports": "22", "sources": { "addresses": ["1.2.3.4"] } })
}

#[test]
fn a_firewall_is_made_replaced_applied_and_deleted() {
    let (server, client) = started(Settings::default());
    assert_eq!(client.post("/v2/firewalls", firewall(ssh())).status, 422);
    let id = server.add_droplet("workerbee-1", &["ovl"]);
    let made = client.post("/v2/firewalls", firewall(ssh()));
    assert_eq!(made.status, 202);
    let made = made.json()["firewall"].clone();
    assert_eq!(
        made["pending_changes"],
        json!([{ "droplet_id": id, "removing": false, "status": "waiting" }])
    );
    assert_eq!(made["outbound_rules"][0]["ports"], "0");
    let twin = client.post("/v2/firewalls", firewall(ssh()));
    assert_eq!((twin.status, twin.message().as_str()), (409, "duplicate name"));
    let path = format!("/v2/firewalls/{}", made["id"].as_str().unwrap());
    assert_eq!(client.get(&path).json()["firewall"]["status"], "waiting");
    assert_eq!(client.get(&path).json()["firewall"]["status"], "succeeded");
    let all = json!({ "protocol": "udp", "ports": "all", "sources": { "tags": ["ovl"], "droplet_ids": [id] } });
    let mut other = firewall(all);
    other.as_object_mut().unwrap().remove("tags");
    let put = client.put(&path, other).json()["firewall"].clone();
    assert_eq!((&put["inbound_rules"][0]["ports"], &put["tags"]), (&json!("0"), &json!([])));
    assert_eq!(put["created_at"], made["created_at"]);
    let tags = json!({ "tags": ["ovl"] });
    assert_eq!(client.post(&format!("{path}/tags"), tags.clone()).status, 204);
    assert_eq!(server.firewalls()[0].tags, ["ovl"]);
    assert_eq!(client.ask("DELETE", &format!("{path}/tags"), Some(tags)).unwrap().status, 204);
    assert_eq!(client.delete(&path).status, 204);
    assert_eq!(client.get(&path).status, 404);
    assert_eq!(server.violations(), [""; 0]);
}

#[test]
fn a_rule_out_of_form_is_a_violation() {
    let (server, client) = started(Settings::default());
    server.add_tag("ovl");
    let sources = json!({ "addresses": ["0.0.0.0/0"] });
    let bad = [
        json!({ "protocol": "tcp", "sources": sources }),
        json!({ "protocol": "tcp", "ports": 22, "sources": sources }),
        json!({ "protocol": "tcp", "ports": "9000-8000", "sources": sources }),
        json!({ "protocol": "tcp", "ports": "70000", "sources": sources }),
        json!({ "protocol": "gre", "ports": "all", "sources": sources }),
        json!({ "protocol": "tcp", "ports": "22" }),
        json!({ "protocol": "tcp", "ports": "22", "destinations": sources }),
        json!({ "protocol": "tcp", "ports": "22", "sources": {} }),
        json!({ "protocol": "tcp", "ports": "22", "sources": { "addresses": ["hive"] } }),
        json!({ "protocol": "tcp", "ports": "22", "sources": { "hosts": ["1.2.3.4"] } }),
        json!({ "protocol": "icmp", "ports": "8", "sources": sources }),
    ];
    let count = bad.len();
    for rule in bad {
        assert_eq!(client.post("/v2/firewalls", firewall(rule.clone())).status, 422, "{rule}");
    }
    let many: Vec<Value> = (0..51).map(|_| ssh()).collect();
    let many = json!({ "name": "apiary", "inbound_rules": many });
    assert_eq!(client.post("/v2/firewalls", many).status, 422);
    assert_eq!(client.post("/v2/firewalls", json!({ "name": "apiary" })).status, 422);
    assert_eq!(server.violations().len(), count + 2);
    assert!(server.firewalls().is_empty());
}
