//! The script in cloud-init's user data.
use std::fmt::Write as _;

use thiserror::Error;

use super::{HostKey, quote};

/// What the provider takes.
const LONGEST: usize = 64 * 1024;

/// Not in /run/ovl: that is the agent's, and goes when the agent stops.
const SCRIPT: &str = "/run/ovl-provision.sh";

/// User data that the provider would not take. Shorten the list of hosts to join.
#[derive(Debug, Error)]
#[error("the user data has {bytes} bytes, and at most {LONGEST} are taken")]
pub(crate) struct TooLong {
    bytes: usize,
}

/// The mark that the restart asks for is the script's, and lies where a boot removes it. cloud-init
/// does all of this once in a droplet's life, so there is one restart at most.
const BEGIN: &str = "\
#cloud-config
# Made by ovlctl droplet. It runs once, at the first boot; what it said stands in
# /var/log/cloud-init-output.log.
ssh_pwauth: false
disable_root: false
package_update: true
packages: [ca-certificates, curl]
power_state:
  mode: reboot
  message: the kernel is to account for memory
  condition: test -e /run/ovl-provision.restart
";

/// Of a script and sshd's host key; without one the droplet makes its own.
pub(super) fn of(script: &str, host_key: Option<&HostKey>) -> Result<String, TooLong> {
    let mut text = BEGIN.to_owned();
    if let Some(key) = host_key {
        text += &keys(key);
    }
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "runcmd:\n  - [sh, {SCRIPT}]\nwrite_files:\n  - path: {SCRIPT}\n    permissions: '0700'\n    \
         content: {}\n",
        quote::yaml(script, 6)
    );
    if text.len() > LONGEST {
        return Err(TooLong { bytes: text.len() });
    }
    Ok(text)
}

/// Those of the image go, and no others are made.
fn keys(key: &HostKey) -> String {
    let private = format!("{}\n", key.private.trim_end());
    format!(
        "ssh_deletekeys: true\nssh_keys:\n  ed25519_private: {}\n  ed25519_public: {}\n",
        quote::yaml(&private, 4),
        quote::yaml(key.public.trim(), 4)
    )
}
