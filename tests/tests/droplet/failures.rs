//! What the provider refuses, and what breaks on the way.
use ovl_tests::digitalocean::{Fault, How, Retry, Settings};

use crate::rig::Rig;

#[test]
fn each_refusal_is_one_sentence_with_its_request() {
    let unprocessable = How::Unprocessable("Size is not available in this region.".to_owned());
    for (name, how, parts) in [
        (
            "401",
            How::Unauthorized,
            &["refuses the token", "DIGITALOCEAN_ACCESS_TOKEN", "(request "][..],
        ),
        ("403", How::Forbidden, &["the token may not POST /v2/droplets", "(request "]),
        ("404", How::NotFound, &["/v2/droplets", "(request "]),
        ("422", unprocessable, &["Size is not available in this region", "(request "]),
    ] {
        let rig = Rig::new(name);
        rig.api.fail(Fault::once("POST", "/v2/droplets", how));
        let done = rig.create(&["--count", "2"]);
        for droplet in ["workerbee-1: ", "workerbee-2: "] {
            assert!(done.err.contains(droplet), "{done:?}");
        }
        done.failed(1, parts);
        assert_eq!(rig.names(), Vec::<String>::new());
        assert!(rig.listed().iter().all(|(_, state)| state.starts_with("not made: ")));
        // Nothing stands in the way of another try.
        rig.create(&["--count", "2"]).fine();
        assert_eq!(rig.names(), ["workerbee-1", "workerbee-2"]);
        rig.all_was_proper();
    }
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
fn what_passes_is_waited_for() {
    for (name, path, how) in [
        ("busy", "/v2/droplets", How::TooMany(Retry::After(1))),
        ("hour", "/v2/droplets", How::TooMany(Retry::Reset(2))),
        ("500", "/v2/regions", How::ServerError),
        ("503", "/v2/account/keys", How::Unavailable),
        ("reset", "/v2/sizes", How::ResetBefore),
    ] {
        let rig = Rig::new(name);
        rig.api.fail(Fault::once("*", path, how).times(2));
        rig.create(&[]).fine();
        assert!(rig.api.unspent().is_empty(), "{name}");
        assert_eq!(rig.names(), ["workerbee-1"]);
        rig.all_was_proper();
    }
}

#[test]
fn what_does_not_pass_ends_after_a_while() {
    for (name, how, parts) in [
        ("always-500", How::ServerError, &["(500), 5 times", "status.digitalocean.com"][..]),
        ("always-reset", How::ResetBefore, &["does not answer at http://127.0.0.1"]),
        (
            "limit",
            How::TooMany(Retry::Reset(3000)),
            &["takes no more requests for now (for ", " min)"],
        ),
    ] {
        let rig = Rig::new(name);
        rig.api.fail(Fault::once("GET", "/v2/droplets", how).times(100));
        rig.create(&[]).failed(75, parts);
        assert_eq!(rig.names(), Vec::<String>::new());
    }
}

#[test]
fn answers_that_are_none_are_told_and_bounded() {
    for (name, how) in [("html", How::NotJson), ("huge", How::Huge(20 << 20))] {
        let rig = Rig::new(name);
        rig.api.fail(Fault::once("GET", "/v2/regions", how).times(100));
        let done = rig.create(&[]);
        assert!(done.code != Some(0) && done.err.trim().lines().count() <= 5, "{done:?}");
        assert_eq!(rig.names(), Vec::<String>::new());
    }
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
    let listed = rig.listed();
    assert!(listed[1].1.starts_with("new, but: "), "{listed:?}");
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
