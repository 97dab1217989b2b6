//! What the user's ssh is asked to do. In its place stands a program that writes that down and connects to nobody.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovl_tests::digitalocean::{Fault, How, Retry};
use ovl_tests::wait;

use crate::rig::Rig;

/// In the user's home: `asked` has the arguments of each client that would connect, `told` the configuration of
/// the last one. With `learns` it learns that key, with `denied` it is not let in with these words, and with
/// `broken` a connection stands no more.
const SSH: &str = r#"#!/bin/sh
for word; do
  case $before in
    -F) config=$word ;;
    -E) log=$word ;;
  esac
  before=$word
done
case " $* " in
  *" -O check "*) rm "$HOME/broken" 2>/dev/null && exit 255; exit 0 ;;
  *" -M "*) ;;
  *" -S "*) exit 0 ;;
esac
cp "$config" "$HOME/told"
if [ -e "$HOME/learns" ]; then
  known=$(sed -n 's/^ *UserKnownHostsFile "\(.*\)"$/\1/p' "$config" | head -n 1)
  cat "$HOME/learns" > "$known"
fi
echo "$*" >> "$HOME/asked"
case " $* " in
  *" -M "*)
    if [ -e "$HOME/denied" ]; then
      cat "$HOME/denied" > "$log"
      exit 255
    fi ;;
esac
"#;

const OURS: [&str; 2] = ["ovl", "ovl:cluster:default"];

/// With a droplet `drone` that was made elsewhere.
fn rig(name: &str) -> (Rig, u64) {
    let rig = Rig::new(name);
    let id = rig.api.add_droplet("drone", &OURS);
    let folder = rig.home().join("bin");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("ssh"), SSH).unwrap();
    fs::set_permissions(folder.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    (rig, id)
}

fn command(rig: &Rig, args: &[&str]) -> Command {
    let mut command = rig.command(args);
    let path = format!("{}:{}", rig.home().join("bin").display(), std::env::var("PATH").unwrap());
    command.env("PATH", path);
    command
}

fn file(rig: &Rig, name: &str) -> PathBuf {
    rig.home().join(".local/state/ovl/default").join(name)
}

fn text(rig: &Rig, name: &str) -> String {
    fs::read_to_string(rig.home().join(name)).unwrap_or_default()
}

/// The last client's arguments.
fn asked(rig: &Rig) -> String {
    text(rig, "asked").lines().last().unwrap_or_default().to_owned()
}

fn learns(rig: &Rig) {
    let key = text(rig, ".ssh/id_ed25519.pub");
    fs::write(rig.home().join("learns"), format!("drone {key}")).unwrap();
}

#[test]
fn one_command_does_not_say_who_others_are() {
    let (rig, _) = rig("who");
    learns(&rig);
    let args = ["ssh", "--ssh-user", "alice", "drone", "--", "true"];
    rig.done(command(&rig, &args).output().unwrap()).fine();
    let (told, shared) =
        (text(&rig, "told"), fs::read_to_string(file(&rig, "ssh_config")).unwrap());
    assert!(told.contains("User alice\n") && told.contains("Include ~/.ssh/config\n"), "{told}");
    assert!(shared.contains("User root\n") && !shared.contains("alice"), "{shared}");
    assert_eq!(told.replace("alice", "root"), shared);
    rig.all_was_proper();
}

#[test]
fn what_others_wrote_meanwhile_stays() {
    let (rig, _) = rig("meanwhile");
    learns(&rig);
    rig.api.fail(Fault::once("GET", "/v2/droplets", How::TooMany(Retry::After(3))));
    let ssh = command(&rig, &["ssh", "drone", "--", "true"]).spawn().unwrap();
    rig.wait_for_faults();
    fs::create_dir_all(file(&rig, "")).unwrap();
    fs::write(file(&rig, "ssh_config"), "Host queenbee\n").unwrap();
    rig.done(ssh.wait_with_output().unwrap()).fine();
    assert_eq!(fs::read_to_string(file(&rig, "ssh_config")).unwrap(), "Host queenbee\n");
    assert!(text(&rig, "told").contains("Host drone\n"));
}

#[test]
fn a_tunnel_leads_again_to_where_it_led_and_to_nobody_else() {
    let (rig, id) = rig("tunnel");
    learns(&rig);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let args = ["tunnel", "drone", &format!("{port}:localhost:80")];
    let tunnel = command(&rig, &args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    connected(&rig, 1);
    let first = text(&rig, "told");
    assert!(first.contains("Host drone\n  HostName "), "{first}");
    fs::write(file(&rig, "ssh_config"), "").unwrap();
    fs::remove_file(rig.home().join("learns")).unwrap();
    fs::write(rig.home().join("broken"), "").unwrap();
    connected(&rig, 2);
    assert_eq!(text(&rig, "told"), first);
    assert!(asked(&rig).contains("StrictHostKeyChecking=yes"), "{}", asked(&rig));
    // As of a droplet that is removed: whoever has its address now is not trusted.
    fs::remove_file(file(&rig, &format!("known_hosts.drone.{id}"))).unwrap();
    fs::write(rig.home().join("broken"), "").unwrap();
    let done = rig.done(ended(tunnel));
    assert_eq!(text(&rig, "asked").lines().count(), 2, "{done:?}");
    done.failed(1, &["drone is not known any more"]);
}

fn connected(rig: &Rig, times: usize) {
    wait::until("a connection", Duration::from_secs(30), || {
        match text(rig, "asked").lines().count() {
            count if count == times => Ok(()),
            count => Err(format!("{count} of {times}")),
        }
    })
    .unwrap();
}

/// It ends by itself, or it is ended.
fn ended(mut child: Child) -> Output {
    let by_itself = wait::until("an end", Duration::from_secs(30), || match child.try_wait() {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    if by_itself.is_err() {
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_key_that_a_jump_host_kept_from_us_is_trusted_once_by_the_users_client() {
    let (rig, _) = rig("jump");
    let denied = "bee@jump: Permission denied (publickey).\n";
    fs::write(rig.home().join("denied"), denied).unwrap();
    let ssh = || rig.done(command(&rig, &["ssh", "drone", "--", "true"]).output().unwrap());
    let trusting = "StrictHostKeyChecking=accept-new";
    let done = ssh();
    assert!(
        done.err.contains("trusted this once") && done.err.contains("ssh-keygen -l"),
        "{done:?}"
    );
    done.fine();
    assert!(!asked(&rig).contains(" -M ") && asked(&rig).contains(trusting), "{}", asked(&rig));
    // The droplet itself is known, and lets nobody in.
    learns(&rig);
    let done = ssh();
    assert!(done.err.contains("SHA256:"), "{done:?}");
    done.fine();
    assert!(!asked(&rig).contains(" -M ") && !asked(&rig).contains(trusting), "{}", asked(&rig));
    assert!(text(&rig, "told").contains("StrictHostKeyChecking yes\n"));
}

#[test]
fn what_is_missing_is_named() {
    let (rig, _) = rig("missing");
    let failed = |name: &str, value: &str, part: &str| {
        let mut command = command(&rig, &["ssh", "drone", "--", "true"]);
        rig.done(command.env(name, value).output().unwrap()).failed(1, &[part]);
    };
    failed("TMPDIR", "/gone", "/gone/");
    failed("PATH", "/gone", "there is no ssh client here");
    assert_eq!(text(&rig, "asked"), "");
    // Nothing is left of what they were to be told.
    assert_eq!(rig.files(), ["ssh_config"]);
}
