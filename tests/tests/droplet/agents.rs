//! What agents get: their package, and their store.
use ovl_tests::digitalocean::{Fault, How};
use serde_json::{Value, json};

use crate::rig::Rig;

const DEB: &str = "https://example.com/ovl.deb";
const OWN: &str = "consul://10.9.9.9:8500";

fn user_data(rig: &Rig, name: &str) -> String {
    rig.api.droplet(name).unwrap().order.user_data.unwrap()
}

#[test]
fn droplets_that_are_made_later_get_what_the_first_ones_got() {
    let rig = Rig::new("later");
    rig.create(&["--name", "kvstore"]).fine();
    rig.create(&["--name", "queenbee", "--deb", DEB]).fine();
    rig.create(&[]).fine();
    let private = rig.run(&["ip", "--private", "kvstore"]).fine();
    let store = format!("consul://{}:8500", private.trim());
    for name in ["queenbee", "workerbee-1"] {
        let told = user_data(&rig, name);
        assert!(told.contains(DEB) && told.contains(&store), "{name}: {told}");
    }
    let other = ["--deb", "https://example.com/other.deb"];
    rig.create(&[&other[..], &["--name", "drone"]].concat()).fine();
    rig.run(&["cluster", "up", "--workers", "2", "--no-provision"]).fine();
    assert!(user_data(&rig, "drone").contains(other[1]));
    assert!(user_data(&rig, "workerbee-2").contains(DEB));
    rig.all_was_proper();
}

#[test]
fn what_was_begun_with_a_package_goes_on_with_it() {
    let rig = Rig::new("goes-on");
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Unprocessable("No.".to_owned())));
    let begin = ["--name", "drone", "--deb", DEB, "--store", OWN];
    rig.create(&begin).failed(1, &["drone: "]);
    rig.create(&["--name", "drone"]).fine();
    let told = user_data(&rig, "drone");
    assert!(told.contains(DEB) && told.contains(OWN), "{told}");
    rig.all_was_proper();
}

#[test]
fn a_first_store_that_was_wrong_is_not_the_clusters() {
    let rig = Rig::new("wrong-store");
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Unprocessable("No.".to_owned())));
    let queenbee = |store| ["--name", "queenbee", "--deb", DEB, "--store", store];
    rig.create(&queenbee("consul://10.0.0.1:8500")).failed(1, &["queenbee: "]);
    let done = rig.create(&queenbee(OWN));
    assert!(done.err.contains(&format!("the registry of cluster default is {OWN}")), "{done:?}");
    done.fine();
    rig.create(&[]).fine();
    assert!(user_data(&rig, "workerbee-1").contains(OWN));
    // From now on it is: another one is that droplet's own.
    let other = "consul://10.0.0.2:8500";
    rig.create(&["--name", "drone", "--store", other]).fine();
    assert!(user_data(&rig, "drone").contains(other));
    assert_eq!(rig.record()["store"], OWN);
    rig.create(&["--name", "kvstore", "--store", OWN]).failed(64, &["kvstore has none"]);
    rig.all_was_proper();
}

#[test]
fn what_is_not_made_yet_gets_what_all_get() {
    let rig = Rig::new("not-yet");
    rig.run(&["cluster", "up", "--no-provision", "--deb", DEB, "--workers", "1"]).fine();
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Unprocessable("No.".to_owned())));
    rig.create(&["--deb", "https://example.com/old.deb"]).failed(1, &["workerbee-2: "]);
    let new = "https://example.com/new.deb";
    let mut child = rig.start(&["provision", "--deb", new]);
    rig.wait_for_record(|record| record["package"]["url"]["url"] == new);
    child.kill().unwrap();
    child.wait().unwrap();
    rig.create(&[]).fine();
    assert!(user_data(&rig, "workerbee-2").contains(new));
    rig.all_was_proper();
}

#[test]
fn a_registry_of_ones_own_holds_from_then_on() {
    let rig = Rig::new("own");
    let up = ["cluster", "up", "--no-provision", "--deb", DEB, "--workers"];
    rig.run(&[&up[..], &["1"]].concat()).fine();
    // Its addresses lead nowhere: what it is to do is recorded before.
    let mut child = rig.start(&["provision", "--store", OWN]);
    rig.wait_for_record(|record| record["store"] == OWN);
    child.kill().unwrap();
    child.wait().unwrap();
    rig.run(&[&up[..], &["2"]].concat()).fine();
    let now = rig.record();
    assert_eq!(now["store"], OWN);
    for name in ["queenbee", "workerbee-1", "workerbee-2"] {
        assert_eq!(now["droplets"][name]["task"]["store"], Value::Null, "{name}");
    }
    assert!(user_data(&rig, "workerbee-2").contains(OWN));
    // Nobody needs the other one.
    rig.run(&["rm", "--yes", "kvstore"]).fine();
    rig.run(&[&up[..], &["2"]].concat()).fine();
    assert_eq!(rig.names(), ["queenbee", "workerbee-1", "workerbee-2"]);
    rig.all_was_proper();
}

#[test]
fn a_dry_run_names_what_would_be_made() {
    let rig = Rig::new("would");
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Hang));
    let mut child = rig.start(&["create", "--no-provision", "--count", "2", "--region", "fra1"]);
    rig.wait_for_faults();
    child.kill().unwrap();
    child.wait().unwrap();
    let would = rig.json(&["create", "--dry-run", "--count", "3"]);
    assert_eq!(would["names"], json!(["workerbee-1", "workerbee-2", "workerbee-3"]));
    assert_eq!(would["order"]["region"], "fra1");
    rig.create(&["--count", "3"]).fine();
    assert_eq!(rig.names(), ["workerbee-1", "workerbee-2", "workerbee-3"]);
    rig.all_was_proper();
}
