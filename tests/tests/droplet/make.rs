//! What is made, and that it is made once.
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovl_tests::digitalocean::{Fault, How, Settings};
use serde_json::json;

use crate::rig::{Rig, each};

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
    each(
        [
            ("reset-after", How::ResetAfter),
            ("reset-before", How::ResetBefore),
            ("error-after", How::ServerErrorAfter),
            ("error", How::ServerError),
            ("not-json", How::NotJson),
            ("truncated", How::Truncated),
        ],
        |(name, how)| {
            let rig = Rig::new(name);
            rig.api.fail(Fault::once("POST", "/v2/droplets", how));
            if name == "reset-before" {
                // Nobody has said that nothing was done.
                rig.create(&["--count", "2"]).failed(75, &["is not known"]);
            }
            rig.create(&["--count", "2"]).fine();
            assert_eq!(rig.names(), ["workerbee-1", "workerbee-2"], "{name}");
            rig.all_was_proper();
        },
    );
}

#[test]
fn what_lists_show_late_is_made_once() {
    each([("late", None), ("late-lost", Some(How::ResetAfter))], |(name, how)| {
        let rig = Rig::with(name, Settings { late_lists: 3, ..Settings::default() });
        if let Some(how) = how {
            rig.api.fail(Fault::once("POST", "/v2/droplets", how));
        }
        rig.create(&["--count", "2"]).fine();
        assert_eq!(rig.names(), ["workerbee-1", "workerbee-2"], "{name}");
        rig.api.adjust(|settings| settings.late_lists = 100);
        rig.create(&["--name", "queenbee"]).fine();
        rig.create(&["--name", "queenbee"]).fine();
        assert_eq!(rig.names().len(), 3, "{name}");
        assert_eq!(rig.listed()[0], ("queenbee".to_owned(), "active, not set up".to_owned()));
        rig.run(&["cluster", "down", "--yes"]).fine();
        assert_eq!((rig.names().len(), rig.api.tags().len()), (0, 0), "{name}");
        rig.all_was_proper();
    });
}

/// The provider is still at work on it when its gateway has lost patience.
#[test]
fn what_is_made_late_is_not_asked_for_again() {
    let rig = Rig::new("gateway");
    let how = How::GatewayTimeout(Duration::from_secs(12));
    rig.api.fail(Fault::once("POST", "/v2/droplets", how));
    rig.create(&["--count", "2"]).fine();
    assert_eq!(rig.names(), ["workerbee-1", "workerbee-2"]);
    rig.all_was_proper();
}

/// The answer is lost, and lists do not show for long what was made.
#[test]
fn what_is_counted_and_not_listed_is_not_asked_for_again() {
    let rig = Rig::with("counted", Settings { late_lists: 1000, ..Settings::default() });
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::ResetAfter));
    let counted = ["queenbee: DigitalOcean counts a droplet", "does not list it yet"];
    rig.create(&["--name", "queenbee"]).failed(75, &counted);
    assert_eq!(rig.listed(), [("queenbee".to_owned(), "asked for".to_owned())]);
    rig.run(&["cluster", "down", "--yes"]).failed(75, &counted);
    rig.create(&["--name", "queenbee"]).failed(75, &counted);
    assert_eq!((rig.names().len(), rig.api.firewalls().len()), (1, 1));
    rig.api.show(rig.api.droplet("queenbee").unwrap().order.id);
    rig.create(&["--name", "queenbee"]).fine();
    assert_eq!(rig.names(), ["queenbee"]);
    rig.all_was_proper();
}

/// One of an order that is not recorded any more, and that lists do not show.
#[test]
fn the_firewall_stays_as_long_as_droplets_are_counted() {
    let rig = Rig::new("unrecorded");
    rig.create(&["--name", "queenbee"]).fine();
    rig.api.adjust(|settings| settings.late_lists = 1000);
    let other = rig.api.add_droplet("drone", &["ovl", "ovl:cluster:default"]);
    rig.run(&["cluster", "down", "--yes"])
        .failed(75, &["counts 1 more with the tag ovl:cluster:default", "firewall stays"]);
    assert_eq!((rig.names(), rig.api.firewalls().len()), (vec!["drone".to_owned()], 1));
    rig.api.show(other);
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!((rig.names().len(), rig.api.firewalls().len(), rig.api.tags().len()), (0, 0, 0));
    rig.all_was_proper();
}

#[test]
fn two_of_one_name_are_told_apart() {
    let rig = Rig::new("twins");
    rig.create(&["--name", "queenbee", "--region", "fra1"]).fine();
    rig.api.add_droplet("queenbee", &["ovl", "ovl:cluster:default"]);
    rig.create(&["--name", "queenbee"]).failed(1, &["there are two droplets queenbee"]);
    let ids: Vec<String> = rig.api.droplets().iter().map(|one| one.order.id.to_string()).collect();
    assert_eq!(ids.len(), 2);
    for command in ["rm", "ip", "restart"] {
        let yes = if command == "rm" { &["--yes"][..] } else { &[] };
        let args = [&[command], yes, &["queenbee"]].concat();
        rig.run(&args).failed(1, &["there are ", " droplets queenbee", &ids[0], &ids[1]]);
    }
    rig.run(&["rm", "--yes", &ids[0]]).fine();
    // What is recorded of the name holds for the other one.
    assert_eq!(rig.listed(), [("queenbee".to_owned(), "active, not set up".to_owned())]);
    rig.create(&["--name", "queenbee"]).fine();
    assert_eq!(rig.names(), ["queenbee"]);
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!((rig.names().len(), rig.api.tags().len()), (0, 0));
    rig.all_was_proper();
}

#[test]
fn what_a_list_still_shows_after_its_end_is_made_anew() {
    let rig = Rig::with("ghost", Settings { linger_lists: 20, ..Settings::default() });
    rig.create(&["--count", "2"]).fine();
    rig.run(&["rm", "--yes", "workerbee-1"]).fine();
    rig.create(&["--name", "workerbee-1"]).fine();
    assert_eq!(rig.names(), ["workerbee-2", "workerbee-1"]);
    rig.all_was_proper();
}

/// As a loop in a shell would do it.
#[test]
fn the_same_command_after_a_failure_makes_no_more_than_it_said() {
    let rig = Rig::with("same", Settings::default().never_active("workerbee-2"));
    let command = ["--count", "3", "--wait", "2"];
    rig.create(&command).failed(75, &["workerbee-2: "]);
    rig.create(&command).failed(75, &["workerbee-2: ", "2 of 3 were done"]);
    assert_eq!(rig.names().len(), 3);
    rig.api.adjust(|settings| settings.never_active.clear());
    rig.create(&command).fine();
    assert_eq!(rig.names().len(), 3);
    // That command is over: the next one makes others.
    rig.create(&command).fine();
    assert_eq!(rig.names().len(), 6);
    rig.all_was_proper();
}

#[test]
fn what_one_command_has_begun_is_no_matter_of_another() {
    let rig = Rig::with("begun", Settings { droplet_limit: 3, ..Settings::default() });
    rig.api.add_droplet("drone", &[]);
    rig.create(&["--count", "3"]).failed(1, &["workerbee-1: ", "droplet limit"]);
    rig.create(&["--name", "db-{n}"]).fine();
    rig.create(&["--name", "db-{n}"]).fine();
    assert_eq!(rig.names(), ["drone", "db-1", "db-2"]);
    rig.api.adjust(|settings| settings.droplet_limit = 25);
    rig.create(&["--count", "3"]).fine();
    rig.run(&["cluster", "up", "--workers", "4", "--no-provision"]).fine();
    assert_eq!(rig.names().len(), 9);
    // None of them was begun by this command.
    rig.create(&[]).fine();
    assert_eq!(rig.names().last().unwrap(), "workerbee-5");
    rig.all_was_proper();
}

#[test]
fn a_smaller_cluster_makes_none_of_those_that_were_removed() {
    let rig = Rig::new("smaller");
    let up = ["cluster", "up", "--no-provision", "--workers"];
    rig.run(&[&up[..], &["3"]].concat()).fine();
    rig.run(&["rm", "--yes", "workerbee-2"]).fine();
    let done = rig.run(&[&up[..], &["1"]].concat());
    assert!(done.err.contains("workerbee-3 is there, and stays"), "{done:?}");
    done.fine();
    rig.run(&["rm", "--yes", "workerbee-3"]).fine();
    rig.run(&up[..3]).fine();
    assert_eq!(rig.names(), ["kvstore", "queenbee", "workerbee-1"]);
    rig.all_was_proper();
}

#[test]
fn what_was_only_asked_for_says_where_the_cluster_is() {
    let rig = Rig::new("where");
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Hang));
    let mut child = rig.start(&["create", "--no-provision", "--region", "fra1"]);
    rig.wait_for_faults();
    child.kill().unwrap();
    child.wait().unwrap();
    rig.create(&["--region", "nyc3"]).failed(1, &["workerbee-1 is in fra1"]);
    rig.create(&[]).fine();
    assert_eq!(rig.api.droplets()[0].order.region, "fra1");
    rig.all_was_proper();
}

#[test]
fn an_order_that_is_sent_again_is_the_one_that_was_asked_for_last() {
    let rig = Rig::new("order");
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Unprocessable("No.".to_owned())));
    rig.create(&["--name", "queenbee"]).failed(1, &["queenbee: "]);
    rig.create(&["--name", "queenbee", "--size", "s-2vcpu-4gb"]).fine();
    assert_eq!(rig.api.droplet("queenbee").unwrap().order.size, "s-2vcpu-4gb");
    rig.all_was_proper();
}

#[test]
fn one_that_was_renamed_elsewhere_is_who_it_was() {
    let rig = Rig::new("renamed");
    rig.create(&["--count", "2"]).fine();
    let id = rig.api.droplet("workerbee-1").unwrap().order.id;
    rig.api.rename(id, "Some other name");
    let names: Vec<String> = rig.listed().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["workerbee-1", "workerbee-2"]);
    rig.create(&["--name", "workerbee-1"]).fine();
    assert_eq!(rig.api.droplets().len(), 2);
    rig.run(&["rm", "--yes", "workerbee-1"]).fine();
    assert_eq!(rig.names(), ["workerbee-2"]);
    rig.all_was_proper();
}

#[test]
fn more_droplets_are_made_where_the_others_are() {
    let rig = Rig::new("beside");
    rig.create(&["--name", "queenbee", "--region", "fra1", "--vpc", "apiary"]).fine();
    rig.create(&[]).fine();
    let order = rig.api.droplet("workerbee-1").unwrap().order;
    let first = rig.api.droplet("queenbee").unwrap().order;
    assert_eq!((order.region.as_str(), &order.vpc_uuid), ("fra1", &first.vpc_uuid));
    rig.create(&["--region", "nyc3"])
        .failed(1, &["queenbee is in fra1", "does not reach from there to nyc3", "--cluster"]);
    rig.create(&["--vpc", "default-fra1"]).failed(1, &["queenbee is in VPC ", "--cluster"]);
    assert_eq!(rig.names().len(), 2);
    rig.create(&["--region", "nyc3", "--cluster", "other"]).fine();
    rig.all_was_proper();
}

#[test]
fn lost_answers_of_everything_else_make_nothing_twice_either() {
    let rig = Rig::new("lost");
    for path in ["/v2/account/keys", "/v2/tags", "/v2/firewalls"] {
        rig.api.fail(Fault::once("POST", path, How::ResetAfter));
        rig.api.fail(Fault::once("POST", path, How::Unavailable));
    }
    rig.create(&["--name", "queenbee"]).fine();
    assert_eq!((rig.names().len(), rig.api.firewalls().len(), rig.api.keys().len()), (1, 1, 1));
    assert!(rig.api.unspent().is_empty());
    rig.all_was_proper();
}

/// Stopped in the middle of the order, once before it was carried out and once after.
#[test]
fn ctrl_c_leaves_what_ls_shows_and_the_same_command_goes_on() {
    each(
        [("before", "/v2/droplets", false), ("after", "/v2/droplets?*", true)],
        |(name, path, done)| {
            let rig = Rig::new(&format!("ctrl-c-{name}"));
            let (method, path) = match done {
                // The order itself hangs, undone; or it is done, and what follows hangs.
                false => ("POST", path),
                true => ("GET", "/v2/droplets"),
            };
            let fault = Fault::once(method, path, How::Hang);
            rig.api.fail(if done { fault.skip(2) } else { fault });
            let child = rig.start(&["create", "--no-provision", "--count", "2"]);
            rig.wait_for_faults();
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
        },
    );
}

#[test]
fn two_at_once_do_not_work_on_one_cluster() {
    let rig = Rig::new("two");
    rig.api.fail(Fault::once("GET", "/v2/regions", How::Hang));
    let mut child = rig.start(&["create", "--no-provision"]);
    rig.wait_for_faults();
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
    assert_eq!(rig.listed(), [("queenbee".to_owned(), "removed elsewhere".to_owned())]);
    rig.create(&["--name", "queenbee"]).fine();
    assert_ne!(rig.api.droplet("queenbee").unwrap().order.id, first);
    rig.all_was_proper();
}
