//! What is made, and that it is made once.
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovl_tests::digitalocean::{Fault, How};
use ovl_tests::wait;
use serde_json::json;

use crate::rig::Rig;

#[test]
fn a_droplet_is_made_behind_its_firewall_with_tags_and_user_data() {
    let rig = Rig::new("one");
    rig.create(&["--name", "queenbee", "--tag", "honey", "--open", "80", "--region", "nyc3"])
        .fine();
    let queenbee = rig.api.droplet("queenbee").unwrap();
    assert_eq!(queenbee.order.region, "nyc3");
    assert_eq!(queenbee.order.image, "debian-12-x64");
    assert_eq!(&queenbee.tags[..3], ["ovl", "ovl:cluster:default", "honey"]);
    assert!(queenbee.tags[3].starts_with("ovl:request:"));
    let user_data = queenbee.order.user_data.unwrap();
    assert!(user_data.starts_with("#cloud-config\n"), "{user_data}");
    assert!(user_data.contains("ssh_keys:") && user_data.contains("docker.io"), "{user_data}");
    let firewall = &rig.api.firewalls()[0];
    assert_eq!(
        (firewall.name.as_str(), &firewall.tags[..]),
        ("ovl-default", &["ovl:cluster:default".to_owned()][..])
    );
    let anywhere: Vec<&str> = firewall
        .inbound_rules
        .iter()
        .filter(|rule| rule["sources"]["addresses"].as_array().is_some_and(|all| !all.is_empty()))
        .map(|rule| rule["ports"].as_str().unwrap())
        .collect();
    assert_eq!(anywhere, ["22", "80"]);
    let id = queenbee.order.id;
    let list = rig.json(&["ls"]);
    assert_eq!(list[0]["id"], json!(id));
    assert_eq!(list[0]["state"], json!("active, not set up"));
    let public = rig.run(&["ip", "queenbee"]).fine();
    let private = rig.run(&["ip", "--private", "queenbee"]).fine();
    let addresses = queenbee.addresses.unwrap();
    assert_eq!(public.trim(), addresses.public.unwrap().ip.to_string());
    assert_eq!(private.trim(), addresses.private.unwrap().ip.to_string());
    rig.all_was_proper();
}

#[test]
fn many_are_made_in_few_requests_and_listed_over_many_pages() {
    let rig = Rig::new("many");
    rig.create(&["--count", "12"]).fine();
    assert_eq!(rig.names().len(), 12);
    let orders: Vec<usize> = rig
        .api
        .requests()
        .iter()
        .filter(|one| one.method == "POST" && one.path == "/v2/droplets")
        .map(|one| one.body.as_ref().unwrap()["names"].as_array().unwrap().len())
        .collect();
    assert_eq!(orders, [10, 2]);
    let listed = rig.listed();
    assert_eq!(listed.len(), 12);
    assert_eq!(listed[11].0, "workerbee-12");
    // More are others.
    rig.create(&["--count", "1"]).fine();
    assert_eq!(rig.names().last().unwrap(), "workerbee-13");
    rig.all_was_proper();
}

#[test]
fn what_is_there_is_not_made_again() {
    let rig = Rig::new("again");
    rig.create(&["--name", "queenbee"]).fine();
    rig.create(&["--name", "queenbee"]).fine();
    assert_eq!(rig.names(), ["queenbee"]);
    assert_eq!(rig.api.firewalls().len(), 1);
    assert_eq!(rig.api.keys().len(), 1);
    rig.all_was_proper();
}

#[test]
fn a_lost_answer_makes_nothing_twice_and_loses_nothing() {
    for (name, how) in [
        ("reset-after", How::ResetAfter),
        ("reset-before", How::ResetBefore),
        ("error-after", How::ServerErrorAfter),
        ("error", How::ServerError),
        ("not-json", How::NotJson),
        ("truncated", How::Truncated),
    ] {
        let rig = Rig::new(name);
        rig.api.fail(Fault::once("POST", "/v2/droplets", how));
        rig.create(&["--count", "2"]).fine();
        assert_eq!(rig.names(), ["workerbee-1", "workerbee-2"], "{name}");
        rig.all_was_proper();
    }
}

#[test]
fn lost_answers_of_everything_else_make_nothing_twice_either() {
    let rig = Rig::new("lost");
    for path in ["/v2/account/keys", "/v2/tags", "/v2/firewalls"] {
        rig.api.fail(Fault::once("POST", path, How::ResetAfter));
    }
    rig.create(&["--name", "queenbee"]).fine();
    assert_eq!((rig.names().len(), rig.api.firewalls().len(), rig.api.keys().len()), (1, 1, 1));
    assert!(rig.api.unspent().is_empty());
    rig.all_was_proper();
}

/// Stopped in the middle of the order, once before it was carried out and once after.
#[test]
fn ctrl_c_leaves_what_ls_shows_and_the_same_command_goes_on() {
    for (name, path, done) in [("before", "/v2/droplets", false), ("after", "/v2/droplets?*", true)]
    {
        let rig = Rig::new(&format!("ctrl-c-{name}"));
        let (method, path) = match done {
            // The order itself hangs, undone; or it is done, and what follows hangs.
            false => ("POST", path),
            true => ("GET", "/v2/droplets"),
        };
        let fault = Fault::once(method, path, How::Hang);
        rig.api.fail(if done { fault.skip(2) } else { fault });
        let child = rig.start(&["create", "--no-provision", "--count", "2"]);
        wait::until("the request that hangs", Duration::from_secs(20), || {
            if rig.api.unspent().is_empty() {
                Ok(())
            } else {
                Err(format!("{:?}", rig.api.unspent()))
            }
        })
        .unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        rig.done(child.wait_with_output().unwrap())
            .failed(130, &["interrupted", "ovlctl droplet ls"]);
        let listed = rig.listed();
        assert_eq!(listed.len(), 2, "{listed:?}");
        if !done {
            assert!(listed.iter().all(|(_, state)| state == "asked for"), "{listed:?}");
        }
        rig.create(&["--count", "2"]).fine();
        assert_eq!(rig.names(), ["workerbee-1", "workerbee-2"], "{name}");
        rig.all_was_proper();
    }
}

#[test]
fn two_at_once_do_not_work_on_one_cluster() {
    let rig = Rig::new("two");
    rig.api.fail(Fault::once("GET", "/v2/regions", How::Hang));
    let mut child = rig.start(&["create", "--no-provision"]);
    wait::until("the request that hangs", Duration::from_secs(20), || {
        if rig.api.unspent().is_empty() { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .unwrap();
    rig.create(&[]).failed(75, &["another ovlctl is at work on cluster default"]);
    // Another cluster is another matter, and looking is free.
    rig.create(&["--cluster", "other"]).fine();
    assert_eq!(rig.listed(), []);
    child.kill().unwrap();
    child.wait().unwrap();
    rig.create(&[]).fine();
    assert_eq!(rig.names(), ["workerbee-1", "workerbee-1"]);
    rig.all_was_proper();
}

#[test]
fn what_was_removed_elsewhere_is_shown_and_made_again() {
    let rig = Rig::new("elsewhere");
    rig.create(&["--name", "queenbee"]).fine();
    let first = rig.api.droplet("queenbee").unwrap().order.id;
    rig.api.remove_droplet(first);
    assert_eq!(rig.listed(), [("queenbee".to_owned(), "gone: removed elsewhere".to_owned())]);
    rig.create(&["--name", "queenbee"]).fine();
    assert_ne!(rig.api.droplet("queenbee").unwrap().order.id, first);
    rig.all_was_proper();
}
