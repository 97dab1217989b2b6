//! Who may use the control socket.
use ovl_tests::machine::Image;
use ovl_tests::{Machine, Outcome};

use crate::support::{READY, Site, UNIT, configure, newer, ok, settings, systemctl};

const SOCKET: &str = "/run/ovl/ovl.sock";

#[test]
fn a_user_of_the_group_reads_and_does_not_write_and_a_foreign_user_is_refused() {
    let site = Site::installed("access", &["ant"], Image::Bookworm, &newer());
    let ant = &site[0];
    ok(ant, &["useradd", "reader"]);
    ok(ant, &["useradd", "stranger"]);
    ok(ant, &["usermod", "-a", "-G", "ovl", "reader"]);
    assert_eq!(mode(ant), "600 root:root");
    is_refused(&as_user(ant, "reader", &["ovlctl", "status"]));

    configure(ant, &format!("{}control-group = \"ovl\"\n", settings(&site)));
    systemctl(ant, &["restart", UNIT]);
    ant.wait_for_state(UNIT, "active", READY).unwrap();
    assert_eq!(mode(ant), "660 root:ovl");
    for command in ["status", "members"] {
        let outcome = as_user(ant, "reader", &["ovlctl", command]);
        assert!(outcome.ok(), "{}", outcome.stderr);
    }
    let write = ["ovlctl", "network", "create", "web"];
    is_refused(&as_user(ant, "reader", &write));
    is_refused(&as_user(ant, "reader", &["ovlctl", "reload"]));
    is_refused(&as_user(ant, "stranger", &["ovlctl", "status"]));
    is_refused(&as_user(ant, "stranger", &write));
    assert!(!ok(ant, &["ovlctl", "network", "ls"]).contains("web"), "somebody wrote");
    ok(ant, &write);
}

fn mode(ant: &Machine) -> String {
    ok(ant, &["stat", "-c", "%a %U:%G", SOCKET]).trim().to_owned()
}

fn as_user(ant: &Machine, user: &str, argv: &[&str]) -> Outcome {
    let setpriv = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"];
    ant.run(&setpriv.iter().chain(argv).copied().collect::<Vec<_>>()).unwrap()
}

/// It failed, with a sentence.
fn is_refused(outcome: &Outcome) {
    let (command, said) = (&outcome.command, outcome.stderr.trim());
    assert!(!outcome.ok(), "`{command}` was not refused: {}", outcome.stdout);
    assert!(said.lines().count() == 1 && !said.contains("panicked"), "`{command}` said {said:?}");
}
