//! A configuration of ssh for the droplets of a cluster, by their names: `ssh -F FILE queenbee`.
//!
//! It is also for the user's own use: scp, rsync, Ansible. What it says comes first, what the user's and
//! the system's own configuration say holds for the rest.
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// A droplet, for ssh.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As in the configuration.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) address: Ipv4Addr,
    /// The file that holds its host keys.
    pub(crate) known_hosts: PathBuf,
    /// The configuration.
    pub(crate) config: PathBuf,
}

/// The configuration's text. `user`: who to be where the user's own configuration does not say.
pub(crate) fn text<'a>(targets: impl Iterator<Item = &'a Target> + Clone, user: &str) -> String {
    let mut text =
        "# Written by ovlctl, and written anew when droplets change: changes are lost.\n"
            .to_owned();
    for target in targets.clone() {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\nHost {name}\n  HostName {address}\n  HostKeyAlias {name}\n  UserKnownHostsFile {known}\n  \
             GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  CheckHostIP no\n  \
             UpdateHostKeys no\n",
            name = target.name,
            address = target.address,
            known = quoted(&target.known_hosts),
        );
    }
    text += "\nMatch all\nInclude ~/.ssh/config\nMatch all\nInclude /etc/ssh/ssh_config\n";
    for target in targets {
        let _ = write!(text, "\nHost {}\n  User {user}\n  SendEnv -*\n", target.name);
    }
    text
}

/// As ssh_config(5) reads an argument with spaces; `%` begins a token there.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%").replace('"', ""))
}

#[cfg(test)]
mod tests {
    use super::super::super::record::CONFIG;
    use super::*;

    #[test]
    fn ssh_reads_it_as_it_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("with space %h");
        std::fs::create_dir(&config).unwrap();
        let config = config.join(CONFIG);
        let target = Target {
            name: "queenbee".into(),
            address: Ipv4Addr::new(192, 0, 2, 7),
            known_hosts: config.with_file_name("queenbee.1"),
            config: config.clone(),
        };
        std::fs::write(&config, text([&target].into_iter(), "root")).unwrap();
        let said = std::process::Command::new("ssh")
            .arg("-G")
            .arg("-F")
            .arg(&config)
            .arg("queenbee")
            .output();
        let said = String::from_utf8(said.unwrap().stdout).unwrap();
        for line in [
            "hostname 192.0.2.7",
            "user root",
            "hostkeyalias queenbee",
            "stricthostkeychecking true",
        ] {
            assert!(said.lines().any(|one| one == line), "{line} in {said}");
        }
        assert!(
            said.contains("with space %%h/queenbee.1") || said.contains("with space %h/queenbee.1"),
            "{said}"
        );
    }
}
