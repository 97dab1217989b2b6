//! What the provider refuses, and what breaks on the way.
use ovl_tests::digitalocean::{Fault, How, Retry, Settings};

use crate::rig::{Rig, each};

#[test]
fn each_refusal_is_one_sentence_with_its_request() {
    let unprocessable = How::Unprocessable("Size is not available in this region.".to_owned());
    each(
        [
            (
                "401",
                How::Unauthorized,
                &["refuses the token", "DIGITALOCEAN_ACCESS_TOKEN", "(request "][..],
            ),
            ("403", How::Forbidden, &["the token may not do POST /v2/droplets", "(request "]),
            ("404", How::NotFound, &["/v2/droplets", "(request "]),
            ("422", unprocessable, &["Size is not available in this region", "(request "]),
        ],
        |(name, how, parts)| {
            let rig = Rig::new(name);
            rig.api.fail(Fault::once("POST", "/v2/droplets", how));
            let done = rig.create(&["--count", "2"]);
            for droplet in ["workerbee-1: ", "workerbee-2: "] {
                assert!(done.err.contains(droplet), "{done:?}");
            }
            done.failed(1, parts);
            assert_eq!(rig.names(), Vec::<String>::new());
            assert!(rig.listed().iter().all(|(_, state)| state == "not made"));
            assert!(rig.run(&["ls"]).fine().contains("\nworkerbee-2: "));
            // Nothing stands in the way of another try.
            rig.create(&["--count", "2"]).fine();
            assert_eq!(rig.names(), ["workerbee-1", "workerbee-2"]);
            rig.all_was_proper();
        },
    );
}

#[test]
fn a_wrong_token_is_one_sentence_and_changes_nothing() {
    let rig = Rig::new("wrong");
    let secret = "dop_v1_0123456789";
    let output =
        rig.command(&["create"]).env("DIGITALOCEAN_ACCESS_TOKEN", secret).output().unwrap();
    let done = rig.done(output);
    assert!(!done.err.contains(secret) && done.err.trim().lines().count() == 1, "{done:?}");
    done.failed(1, &["refuses the token in DIGITALOCEAN_ACCESS_TOKEN"]);
    assert_eq!(rig.names(), Vec::<String>::new());
}

#[test]
fn a_token_of_another_account_finds_nothing_gone() {
    let rig = Rig::new("account");
    rig.create(&["--name", "queenbee"]).fine();
    rig.api.adjust(|settings| settings.team = "0ther".to_owned());
    let sentence = ["is of another account than the one that cluster default was made in"];
    for command in [
        &["ls"][..],
        &["ip", "queenbee"],
        &["create"],
        &["rm", "--yes", "queenbee"],
        &["cluster", "down", "--yes"],
        &["provision"],
    ] {
        rig.run(command).failed(1, &sentence);
    }
    assert_eq!((rig.names().len(), rig.api.keys().len()), (1, 1));
    rig.create(&["--cluster", "other"]).fine();
    rig.api.fail(Fault::once("GET", "/v2/account", How::Forbidden).times(100));
    rig.run(&["cluster", "down", "--yes"]).failed(1, &["the token may not do GET /v2/account"]);
    assert_eq!(rig.names().len(), 2);
    // Where nothing is known of its owner, a token that may not say it may do the rest.
    rig.create(&["--cluster", "third"]).fine();
    assert_eq!(rig.json(&["--cluster", "third", "ls"]).as_array().unwrap().len(), 1);
    // One that shows none of them may be of another.
    let elsewhere = Rig::new("elsewhere");
    for command in [&["ls"][..], &["create", "--no-provision"], &["cluster", "down", "--yes"]] {
        for may_say in [true, false] {
            elsewhere.api.adjust(|settings| settings.team = "0ther".to_owned());
            if !may_say {
                elsewhere.api.fail(Fault::once("GET", "/v2/account", How::Forbidden));
            }
            let mut there = rig.command(&[&["--cluster", "third"], command].concat());
            there.env("DIGITALOCEAN_ACCESS_TOKEN", elsewhere.api.token());
            there.env("DIGITALOCEAN_API_URL", elsewhere.api.url());
            let said = ["DIGITALOCEAN_ACCESS_TOKEN shows none", "third/record.json"];
            rig.done(there.output().unwrap()).failed(1, &said);
        }
    }
    rig.run(&["--cluster", "third", "cluster", "down", "--yes"]).fine();
    rig.all_was_proper();
}

/// Where the account is not known, those that are left say that it is the right one.
#[test]
fn a_removal_that_was_broken_off_goes_on_without_knowing_the_account() {
    let rig = Rig::new("broken-off");
    rig.api.fail(Fault::once("GET", "/v2/account", How::Forbidden).times(100));
    rig.create(&["--count", "2"]).fine();
    let last = rig.api.droplet("workerbee-2").unwrap().order.id;
    rig.api.fail(Fault::once("DELETE", &format!("/v2/droplets/{last}"), How::Hang));
    let mut child = rig.start(&["cluster", "down", "--yes"]);
    rig.wait_for_record(|record| record["droplets"].as_object().unwrap().len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!((rig.names().len(), rig.api.keys().len(), rig.api.tags().len()), (0, 0, 0));
    rig.all_was_proper();
}

#[test]
fn what_passes_is_waited_for() {
    each(
        [
            ("busy", "/v2/droplets", How::TooMany(Retry::After(1))),
            ("hour", "/v2/droplets", How::TooMany(Retry::Reset(2))),
            ("500", "/v2/regions", How::ServerError),
            ("503", "/v2/account/keys", How::Unavailable),
            ("reset", "/v2/sizes", How::ResetBefore),
        ],
        |(name, path, how)| {
            let rig = Rig::new(name);
            rig.api.fail(Fault::once("*", path, how).times(2));
            rig.create(&[]).fine();
            assert!(rig.api.unspent().is_empty(), "{name}");
            assert_eq!(rig.names(), ["workerbee-1"]);
            rig.all_was_proper();
        },
    );
}

#[test]
fn a_pipe_in_place_of_the_record_is_not_waited_for() {
    let rig = Rig::new("pipe");
    let folder = rig.home().join(".local/state/ovl/default");
    std::fs::create_dir_all(&folder).unwrap();
    nix::unistd::mkfifo(&folder.join("record.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for command in ["ls", "create"] {
        rig.run(&[command]).failed(1, &["record.json is not understood: it is no regular file"]);
    }
}

#[test]
fn what_does_not_pass_ends_after_a_while() {
    each(
        [
            ("always-500", How::ServerError, &["(500), 5 times", "status.digitalocean.com"][..]),
            ("always-reset", How::ResetBefore, &["does not answer at http://127.0.0.1"]),
            (
                "limit",
                How::TooMany(Retry::Reset(3000)),
                &["takes no more requests for now (for ", " min)"],
            ),
        ],
        |(name, how, parts)| {
            let rig = Rig::new(name);
            rig.api.fail(Fault::once("GET", "/v2/droplets", how).times(100));
            rig.create(&[]).failed(75, parts);
            assert_eq!(rig.names(), Vec::<String>::new());
        },
    );
}

#[test]
fn answers_that_are_none_are_told_and_bounded() {
    each([("html", How::NotJson), ("huge", How::Huge(20 << 20))], |(name, how)| {
        let rig = Rig::new(name);
        rig.api.fail(Fault::once("GET", "/v2/regions", how).times(100));
        let done = rig.create(&[]);
        assert!(done.code != Some(0) && done.err.trim().lines().count() <= 5, "{done:?}");
        assert_eq!(rig.names(), Vec::<String>::new());
    });
}

#[test]
fn one_that_never_runs_does_not_hold_up_the_others() {
    let rig = Rig::with("never", Settings::default().never_active("workerbee-2"));
    let done = rig.create(&["--count", "3", "--wait", "3"]);
    assert!(done.out.contains("workerbee-1") && done.out.contains("workerbee-3"), "{done:?}");
    assert!(!done.out.contains("not made"), "it is made: {done:?}");
    done.failed(
        75,
        &["workerbee-2: DigitalOcean says after 3 s that it is new", "2 of 3 were done"],
    );
    assert_eq!(rig.listed()[1].1, "new, not set up");
    let failure = rig.json(&["ls"])[1]["failure"].as_str().unwrap().to_owned();
    assert!(failure.contains("says after 3 s that it is new"), "{failure}");
    rig.all_was_proper();
}

#[test]
fn what_was_made_before_a_failure_is_not_forgotten_by_it() {
    let rig = Rig::new("second");
    rig.api.fail(Fault::once("POST", "/v2/droplets", How::Forbidden).skip(1));
    let done = rig.create(&["--count", "12"]);
    assert!(!done.err.contains("ovlctl: workerbee-10: "), "{done:?}");
    done.failed(1, &["workerbee-11: the token", "workerbee-12: the token", "10 of 12 were done"]);
    assert_eq!(rig.names().len(), 10);
    // The answer of the second is lost, and so is what would tell what came of it.
    let lost = Fault::once("POST", "/v2/droplets", How::ResetAfter);
    let blind = Fault::once("GET", "/v2/droplets", How::TooMany(Retry::Reset(3000)));
    rig.api.fail(lost);
    // Five pages of two, looked at twice before the order.
    rig.api.fail(blind.skip(10));
    rig.create(&["--count", "12"]).failed(75, &["workerbee-11: ", "workerbee-12: "]);
    assert!(rig.api.unspent().is_empty(), "{:?}", rig.api.unspent());
    rig.create(&["--count", "12"]).fine();
    assert_eq!(rig.names().len(), 12);
    rig.all_was_proper();
}

#[test]
fn a_look_that_fails_while_they_boot_is_repeated() {
    let rig = Rig::new("boot-look");
    let fault = Fault::once("GET", "/v2/droplets", How::TooMany(Retry::Reset(3000)));
    rig.api.fail(fault.skip(3));
    rig.create(&["--name", "queenbee"]).fine();
    assert!(rig.api.unspent().is_empty());
    rig.all_was_proper();
}

#[test]
fn a_quota_is_said_for_each_and_before_anything_is_made_where_it_can_be_known() {
    let rig = Rig::with("quota", Settings { droplet_limit: 3, ..Settings::default() });
    rig.create(&["--count", "5"]).failed(1, &["the account may have 3 droplets, and 5 more"]);
    rig.create(&["--count", "2"]).fine();
    rig.create(&["--count", "2"]).failed(1, &["workerbee-3: ", "workerbee-4: ", "droplet limit"]);
    assert_eq!(rig.names().len(), 2);
    rig.all_was_proper();
}
