//! Who may do what with ovlctl, tried by real users.
use std::time::Duration;

use ovl_tests::{Host, Outcome, exec};

use crate::refusals::{NO, USAGE, agent};
use crate::support::{SPREAD, TestLab, ctl, eventually, one_sentence};

/// Made in the host's own /etc.
const GROUP: &str = "watchers";
const GID: &str = "4242";

/// How `setpriv` becomes each user.
const MEMBER: [&str; 4] = ["--reuid=1001", "--regid=1001", "--groups=4242", "--inh-caps=-all"];
const PRIMARY: [&str; 4] = ["--reuid=1002", "--regid=4242", "--clear-groups", "--inh-caps=-all"];
const FOREIGNER: [&str; 4] = ["--reuid=1003", "--regid=1003", "--groups=1004", "--inh-caps=-all"];

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_member_of_the_group_reads_and_a_foreign_user_is_refused() {
    let lab = TestLab::bare("access", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    furnish(&host);
    configure(&host, &format!("control-group = \"{GROUP}\"\n"));
    host.start_agent().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(socket(&host), format!("660 0 {GID}"));

    // The agent answers before it has heard of its store.
    eventually("the store", SPREAD, || {
        host.ctl_json(&["network", "create", "net"]).map_err(|error| error.chain())
    });
    for member in [MEMBER, PRIMARY] {
        for args in [&["status"][..], &["members"], &["network", "inspect", "net"]] {
            let read = as_user(&host, &member, args);
            assert_eq!(read.code, Some(0), "{args:?}: {}", read.stderr);
        }
        for args in [
            &["network", "create", "mine"][..],
            &["network", "rm", "net"],
            &["endpoint", "detach", "--network", "net", "x"],
            &["capture"],
        ] {
            let words = ["may only read", "root", "sudo", "group watchers"];
            one_sentence(&as_user(&host, &member, args), NO, &words);
        }
    }
    for args in [&["status"][..], &["network", "create", "mine"]] {
        let words = ["/run/ovl/ovl.sock is not open to this user", "sudo", "control-group"];
        one_sentence(&as_user(&host, &FOREIGNER, args), NO, &words);
    }
    let networks = ctl(&host, &["network", "ls"]);
    assert_eq!(networks.as_array().unwrap().len(), 1, "{networks}");
    assert_eq!(networks[0]["name"], "net");
    ctl(&host, &["network", "rm", "net"]);

    // Who was let in by a group is not when the group is gone from the settings.
    host.stop_agent().unwrap();
    configure(&host, "");
    host.start_agent().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(socket(&host), "600 0 0");
    one_sentence(&as_user(&host, &MEMBER, &["status"]), NO, &["not open to this user"]);
    // Were the socket opened to all by hand, the agent itself would still say no.
    host.sandbox().script("chmod 0666 /run/ovl/ovl.sock", &[]).unwrap();
    for args in [&["status"][..], &["network", "create", "mine"]] {
        let words = ["user 1003 may not use this agent", "root", "sudo", "control-group"];
        one_sentence(&as_user(&host, &FOREIGNER, args), NO, &words);
    }
}

#[test]
fn a_group_that_the_host_lacks_is_told_before_anything_is_bound() {
    let lab = TestLab::bare("group", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    let outcome = agent(&host, &[], &["--control-group", "watchers", "--advertise", "eth1"]);
    let words = ["--control-group", "watchers", "groupadd --system watchers"];
    one_sentence(&outcome, USAGE, &words);
    host.sandbox().script("test ! -e /run/ovl", &[]).unwrap();
}

/// A group, and ovlctl where every user may run it.
fn furnish(host: &Host) {
    let script = r#"groupadd --gid "$1" "$2"
        mkdir -p /run/everyone
        install -m 0755 "$(command -v ovlctl)" /run/everyone/ovlctl"#;
    host.sandbox().script(script, &[GID, GROUP]).unwrap();
}

fn configure(host: &Host, text: &str) {
    host.sandbox().script(r#"printf %s "$1" > /etc/ovl/agent.toml"#, &[text]).unwrap();
}

/// Mode, owner and group of the control socket.
fn socket(host: &Host) -> String {
    let stat = host.sandbox().script("stat -c '%a %u %g' /run/ovl/ovl.sock", &[]).unwrap();
    stat.trim().to_owned()
}

fn as_user(host: &Host, user: &[&str], args: &[&str]) -> Outcome {
    let mut command = host.command("setpriv");
    command.args(user).arg("/run/everyone/ovlctl").args(args);
    exec::run(&mut command, LIMIT).unwrap()
}
