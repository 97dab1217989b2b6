//! What goes, and what is not touched.
use std::io::Read as _;

use ovl_tests::digitalocean::{Activation, Fault, How, Retry, Settings};

use crate::rig::Rig;

#[test]
fn what_is_not_ours_is_not_touched() {
    let rig = Rig::new("strangers");
    rig.api.add_droplet("workerbee-1", &[]);
    rig.api.add_droplet("kvstore", &["ovl"]);
    rig.api.add_droplet("queenbee", &["ovl", "ovl:cluster:other"]);
    rig.create(&["--count", "1"]).fine();
    for name in ["kvstore", "queenbee"] {
        rig.run(&["rm", "--yes", name]).failed(1, &["no droplet", "one without it is not touched"]);
    }
    rig.run(&["rm", "--yes", "workerbee-1"]).fine();
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!(rig.names(), ["workerbee-1", "kvstore", "queenbee"]);
    assert!(rig.api.tags().iter().any(|tag| tag == "ovl"), "it is still in use");
    rig.all_was_proper();
}

#[test]
fn one_that_is_still_being_made_goes_once_it_can() {
    let settings = Settings {
        busy_while_new: true,
        activation: Activation::AfterReads(12),
        ..Settings::default()
    };
    let rig = Rig::with("busy-new", settings);
    rig.create(&["--name", "queenbee", "--wait", "1"])
        .failed(75, &["queenbee: DigitalOcean says after 1 s that it is new"]);
    rig.run(&["rm", "--yes", "queenbee"]).fine();
    assert_eq!(rig.names(), Vec::<String>::new());
    rig.all_was_proper();
}

#[test]
fn removal_asks_unless_it_is_told_not_to() {
    let rig = Rig::new("asks");
    rig.create(&["--name", "queenbee"]).fine();
    rig.run(&["rm", "queenbee"]).failed(64, &["repeat with --yes"]);
    rig.run(&["cluster", "down"]).failed(64, &["repeat with --yes"]);
    assert_eq!(rig.names(), ["queenbee"]);
}

#[test]
fn down_leaves_nothing_and_says_what_went() {
    let rig = Rig::new("down");
    rig.create(&["--count", "3"]).fine();
    rig.create(&["--name", "queenbee"]).fine();
    let said = rig.run(&["cluster", "down", "--yes"]).fine();
    for part in [
        "droplet queenbee",
        "droplet workerbee-3",
        "cloud firewall ovl-default",
        "tag ovl:cluster:default",
        "tag ovl\n",
        "SSH key",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(rig.names(), Vec::<String>::new());
    assert_eq!((rig.api.firewalls().len(), rig.api.keys().len()), (0, 0));
    assert_eq!(rig.api.tags(), Vec::<String>::new());
    assert_eq!(rig.files(), ["lock"]);
    assert_eq!(rig.listed(), []);
    assert_eq!(rig.run(&["cluster", "down", "--yes"]).fine(), "nothing was there to be removed\n");
    rig.all_was_proper();
}

#[test]
fn a_firewall_of_others_is_neither_changed_nor_removed() {
    let rig = Rig::new("walls");
    let id = rig.api.add_droplet("drone", &[]);
    rig.api.add_firewall("ovl-default", &["prod"], &[id]);
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!(rig.api.firewalls()[0].droplet_ids, [id]);
    rig.create(&[]).failed(1, &["a cloud firewall ovl-default that lacks the tag", "--cluster"]);
    assert_eq!(rig.names(), ["drone"]);
    rig.create(&["--cluster", "mine"]).fine();
    rig.run(&["cluster", "down", "--yes", "--cluster", "mine"]).fine();
    assert_eq!((rig.api.firewalls().len(), rig.names().len()), (1, 1));
    // One of ours that others have put to more use.
    rig.api.add_firewall("ovl-shared", &["ovl:cluster:shared"], &[id]);
    rig.create(&["--cluster", "shared"]).fine();
    rig.run(&["cluster", "down", "--yes", "--cluster", "shared"])
        .failed(1, &["ovl-shared is in front of other droplets, too, and stays"]);
    assert_eq!((rig.api.firewalls().len(), rig.names().len()), (2, 1));
    // It is still the cluster's: that does not end in a name that is taken.
    rig.create(&["--cluster", "shared"]).fine();
}

#[test]
fn files_that_are_not_ours_stay_where_they_are() {
    let rig = Rig::new("files");
    rig.create(&["--name", "queenbee"]).fine();
    let folder = rig.home().join(".local/state/ovl/default");
    std::fs::write(folder.join("inventory.ini"), "bees").unwrap();
    std::fs::create_dir(folder.join("known_hosts.d")).unwrap();
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!(rig.files(), ["inventory.ini", "known_hosts.d", "lock"]);
    rig.all_was_proper();
}

#[test]
fn the_last_one_takes_firewall_and_tags_with_it() {
    let rig = Rig::new("last");
    rig.create(&["--count", "2"]).fine();
    rig.run(&["rm", "--yes", "workerbee-1"]).fine();
    assert_eq!(rig.api.firewalls().len(), 1);
    rig.run(&["rm", "--yes", "workerbee-2"]).fine();
    assert_eq!((rig.api.firewalls().len(), rig.api.tags().len()), (0, 0));
    rig.all_was_proper();
}

#[test]
fn a_removal_that_fails_names_it_and_the_rest_goes() {
    let rig = Rig::new("stuck");
    rig.create(&["--count", "3"]).fine();
    let id = rig.api.droplet("workerbee-2").unwrap().order.id;
    rig.api.fail(Fault::once("DELETE", &format!("/v2/droplets/{id}"), How::Forbidden).times(100));
    rig.run(&["cluster", "down", "--yes"]).failed(1, &["workerbee-2: the token may not do DELETE"]);
    assert_eq!(rig.names(), ["workerbee-2"]);
    assert_eq!(rig.api.firewalls().len(), 1, "it stays as long as one droplet does");
    rig.api.mend();
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!((rig.names().len(), rig.api.firewalls().len()), (0, 0));
    rig.all_was_proper();
}

#[test]
fn one_that_has_lost_its_tag_is_named_and_not_touched() {
    let rig = Rig::new("untagged");
    rig.create(&["--name", "queenbee"]).fine();
    rig.api.untag(rig.api.droplet("queenbee").unwrap().order.id, "ovl:cluster:default");
    assert_eq!(rig.listed(), [("queenbee".to_owned(), "untagged".to_owned())]);
    let sentence = ["queenbee: droplet ", "has lost the tag ovl or ovl:cluster:default"];
    rig.create(&["--name", "queenbee"]).failed(1, &sentence);
    rig.run(&["cluster", "down", "--yes"]).failed(1, &sentence);
    assert_eq!((rig.names().len(), rig.api.firewalls().len()), (1, 1));
    let said = rig.run(&["rm", "--yes", "queenbee"]).fine();
    assert!(said.contains("is there still, and costs"), "{said}");
    assert_eq!((rig.names().len(), rig.api.firewalls().len()), (1, 0));
    assert_eq!(rig.listed(), []);
    rig.all_was_proper();
}

#[test]
fn one_that_has_lost_half_of_its_tags_is_named_until_somebody_decides() {
    let rig = Rig::new("half-tagged");
    rig.create(&["--name", "queenbee"]).fine();
    let id = rig.api.droplet("queenbee").unwrap().order.id;
    rig.api.untag(id, "ovl");
    rig.run(&["rm", "--yes", "queenbee"]).failed(1, &["lack the tag ovl", &id.to_string()]);
    rig.run(&["cluster", "down", "--yes"]).failed(1, &["lack the tag ovl", &id.to_string()]);
    assert_eq!((rig.names().len(), rig.api.firewalls().len()), (1, 1));
    rig.api.untag(id, "ovl:cluster:default");
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!((rig.names().len(), rig.api.firewalls().len()), (1, 0));
    rig.all_was_proper();
}

#[test]
fn a_name_that_is_not_there_does_not_keep_the_others() {
    let rig = Rig::new("typo");
    rig.create(&["--count", "2"]).fine();
    rig.run(&["rm", "--yes", "workerbee-1", "workerbee-9"])
        .failed(1, &["no droplet workerbee-9", "1 of 2 were done"]);
    assert_eq!(rig.names(), ["workerbee-2"]);
    rig.all_was_proper();
}

#[test]
fn a_name_that_is_not_there_does_not_keep_what_goes_with_the_last_ones() {
    let rig = Rig::new("typo-last");
    rig.create(&["--count", "2"]).fine();
    rig.run(&["rm", "--yes", "workerbee-1", "workerbee-2", "workerbee-9"])
        .failed(1, &["no droplet workerbee-9"]);
    assert_eq!((rig.names().len(), rig.api.firewalls().len(), rig.api.keys().len()), (0, 0, 0));
    assert_eq!(rig.api.tags(), Vec::<String>::new());
    assert_eq!(rig.files(), ["lock"]);
    rig.all_was_proper();
}

/// One of the name was made from another machine after this machine's own had lost its tags.
#[test]
fn what_is_recorded_of_one_that_lost_its_tags_outlives_another_of_its_name() {
    let ours = ["ovl", "ovl:cluster:default"];
    let rig = Rig::new("namesake");
    rig.create(&["--count", "1"]).fine();
    let lost = rig.api.droplet("workerbee-1").unwrap().order.id;
    let named = [("workerbee-1".to_owned(), "untagged".to_owned())];
    ours.iter().for_each(|tag| rig.api.untag(lost, tag));
    rig.api.add_droplet("workerbee-1", &ours);
    let said = rig.run(&["rm", "--yes", "workerbee-1"]).fine();
    assert!(!said.contains(&lost.to_string()) && !said.contains("firewall"), "{said}");
    assert_eq!((rig.names(), rig.listed()), (vec!["workerbee-1".to_owned()], named.to_vec()));
    // Nor does the record go over to a third one, or end with the cluster.
    let one = rig.api.add_droplet("workerbee-1", &ours);
    rig.api.add_droplet("workerbee-1", &ours);
    rig.run(&["rm", "--yes", &one.to_string()]).fine();
    let sentence = ["workerbee-1: droplet ", "has lost the tag ovl or"];
    rig.run(&["cluster", "down", "--yes"]).failed(1, &sentence);
    assert_eq!((rig.names().len(), rig.listed()), (1, named.to_vec()));
    let said = rig.run(&["rm", "--yes", "workerbee-1"]).fine();
    assert!(said.contains(&format!("droplet {lost} has lost the cluster's tags")), "{said}");
    assert_eq!(rig.listed(), []);
    rig.all_was_proper();
}

/// Stopped when the droplet is gone, and its tag is not.
#[test]
fn a_removal_that_was_interrupted_is_brought_to_its_end() {
    let rig = Rig::new("half");
    rig.create(&["--name", "queenbee"]).fine();
    rig.api.fail(Fault::once("GET", "/v2/tags", How::Hang));
    let mut child = rig.start(&["cluster", "down", "--yes"]);
    rig.wait_for_faults();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rig.names(), Vec::<String>::new());
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!((rig.api.tags().len(), rig.api.firewalls().len()), (0, 0));
    assert_eq!(rig.files(), ["lock"]);
    rig.all_was_proper();
}

#[test]
fn a_removal_that_may_go_better_later_says_so_by_its_exit_code() {
    let rig = Rig::new("later");
    rig.create(&["--count", "2"]).fine();
    let busy = How::TooMany(Retry::Reset(3000));
    rig.api.fail(Fault::once("DELETE", "/v2/droplets/*", busy));
    rig.run(&["cluster", "down", "--yes"])
        .failed(75, &["takes no more requests for now", "1 of 2 were done"]);
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!(rig.names(), Vec::<String>::new());
}

#[test]
fn one_that_was_only_asked_for_goes_as_well() {
    let rig = Rig::new("pending");
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Unprocessable("No.".to_owned())));
    rig.create(&["--name", "queenbee"]).failed(1, &["No"]);
    assert_eq!(rig.listed().len(), 1);
    let said = rig.run(&["rm", "--yes", "queenbee"]).fine();
    assert!(said.contains("the record of queenbee"), "{said}");
    assert_eq!(rig.listed(), []);
}

#[test]
fn a_token_is_in_no_process_list() {
    let rig = Rig::new("list");
    rig.api.fail(Fault::once("GET", "/v2/droplets", How::Hang));
    let mut child = rig.start(&["ls"]);
    while !rig.api.unspent().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut line = Vec::new();
    let path = format!("/proc/{}/cmdline", child.id());
    std::fs::File::open(path).unwrap().read_to_end(&mut line).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains(&rig.api.token()));
    child.kill().unwrap();
    child.wait().unwrap();
}
