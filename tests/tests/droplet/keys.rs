//! Which SSH keys are let in.
use ovl_tests::digitalocean::{Fault, How};

use crate::rig::Rig;

#[test]
fn the_users_own_key_is_added_once_and_taken_away_with_the_cluster() {
    let rig = Rig::new("own");
    rig.create(&[]).fine();
    rig.create(&["--count", "2"]).fine();
    let keys = rig.api.keys();
    assert_eq!((keys.len(), keys[0].name.as_str()), (1, "ovl-id_ed25519"));
    assert!(
        rig.api.droplets().iter().all(|one| one.order.ssh_keys == [keys[0].public_key.clone()])
    );
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert!(rig.api.keys().is_empty());
    rig.all_was_proper();
}

/// Stopped when the key was added and its number is not known yet.
#[test]
fn a_key_whose_number_was_never_heard_goes_with_the_cluster_as_well() {
    let rig = Rig::new("unheard");
    rig.api.fail(Fault::once("POST", "/v2/account/keys", How::ResetAfter));
    rig.api.fail(Fault::once("GET", "/v2/account/keys", How::Hang).skip(1));
    let mut child = rig.start(&["create", "--no-provision"]);
    rig.wait_for_faults();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(rig.api.keys().len(), 1);
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert!(rig.api.keys().is_empty());
    rig.all_was_proper();
}

#[test]
fn a_key_that_the_account_has_is_used_and_stays() {
    let rig = Rig::new("has");
    let own = std::fs::read_to_string(rig.home().join(".ssh/id_ed25519.pub")).unwrap();
    rig.api.add_key("mine", &own).unwrap().unwrap();
    rig.create(&[]).fine();
    rig.run(&["cluster", "down", "--yes"]).fine();
    assert_eq!(rig.api.keys().len(), 1);
    rig.all_was_proper();
}

#[test]
fn keys_are_named_by_number_name_or_file() {
    let rig = Rig::new("named");
    let other = rig.new_key("other");
    let id = rig.api.add_key("work laptop", &other).unwrap().unwrap();
    let third = rig.new_key("third");
    let file = rig.home().join(".ssh/third.pub").display().to_string();
    // Named twice, it is let in once.
    rig.create(&["--ssh-key", "work laptop", "--ssh-key", &file, "--ssh-key", &file]).fine();
    let keys = &rig.api.droplets()[0].order.ssh_keys;
    assert_eq!(keys.iter().map(|key| key.trim()).collect::<Vec<_>>(), [other.trim(), third.trim()]);
    rig.create(&["--name", "queenbee", "--ssh-key", &id.to_string()]).fine();
    rig.create(&["--name", "drone", "--ssh-key", "nobody's"])
        .failed(1, &["no SSH key \"nobody's\"", "work laptop"]);
    let private = rig.home().join(".ssh/third").display().to_string();
    rig.create(&["--name", "drone", "--ssh-key", &private])
        .failed(1, &["holds no public SSH key", ".pub"]);
    rig.all_was_proper();
}

#[test]
fn without_any_key_it_is_said_how_to_make_one() {
    let rig = Rig::new("none");
    std::fs::remove_file(rig.home().join(".ssh/id_ed25519.pub")).unwrap();
    rig.create(&[]).failed(1, &["no SSH key to let in: make one with ssh-keygen"]);
    assert_eq!(rig.names(), Vec::<String>::new());
}
