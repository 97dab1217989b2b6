//! `ovlctl trace` between containers of Docker.
use serde_json::Value;

use super::rig::{NAMED, NET, Rig};
use crate::support::{eventually, holds, text};

#[test]
fn the_way_between_containers_of_docker_is_followed() {
    let rig = Rig::up("trace");
    rig.network(NET, &[]);
    rig.run(0, "web", &[]);
    rig.run(0, "near", &[]);
    rig.run(1, "db", &["--network-alias", "store"]);
    let id = rig.field(1, "db", "{{.Id}}");
    for to in ["db", "store", &id[..12], &id, "near"] {
        works(&rig, to);
    }
    let trace = works(&rig, "db");
    let container = hop(&trace, "to.container");
    assert!(container.contains(&id[..12]) && container.contains("sleep"), "{container}");

    rig.ok(1, &["stop", "-t", "0", "db"]);
    eventually("the trace to a stopped container", NAMED, || {
        let trace = self::trace(&rig, "db");
        holds(trace["broken"] == "name", &trace)
    });
    rig.ok(1, &["start", "db"]);
    works(&rig, "db");
}

fn trace(rig: &Rig, to: &str) -> Value {
    rig.hosts[0].ctl(&["--json", "trace", "web", to]).unwrap().json().unwrap()
}

fn works(rig: &Rig, to: &str) -> Value {
    eventually(&format!("the way from web to {to}"), NAMED, || {
        let trace = trace(rig, to);
        let unknown = trace["hops"]
            .as_array()
            .is_none_or(|hops| hops.iter().any(|hop| hop["verdict"] != "ok"));
        holds(trace["verdict"] == "ok" && !unknown, &trace).map(|()| trace)
    })
}

fn hop(trace: &Value, id: &str) -> String {
    let hops = trace["hops"].as_array().cloned().unwrap_or_default();
    let found = hops.iter().find(|hop| hop["hop"] == id);
    found.map(|hop| format!("{} {}", text(&hop["says"]), hop["evidence"])).unwrap_or_default()
}
