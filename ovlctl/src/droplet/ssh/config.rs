//! A configuration of ssh for the droplets of a cluster, by their names: `ssh -F FILE queenbee`.
//!
//! One is for the user's own use: scp, rsync, Ansible. Each connection that is made here has one of its own,
//! which no other program changes. What it says comes first, what the user's and the system's own
//! configuration say holds for the rest.
use std::fmt::Write as _;
use std::iter::once;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::super::record::{Folder, RecordError};

/// Who to be where nobody says.
pub(crate) const USER: &str = "root";

/// A droplet, in a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// What ssh calls it.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) address: Ipv4Addr,
    /// The file that holds its host keys.
    pub(crate) known_hosts: PathBuf,
}

/// A droplet to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As in the configuration.
    pub(crate) name: String,
    /// The file that holds its host keys.
    pub(crate) known_hosts: PathBuf,
    folder: Folder,
    /// The droplet is in it, whatever else is.
    config: String,
}

impl Target {
    /// `others` may be on the way there. `user`: who to be where the user's own configuration does not say.
    pub(crate) fn new(folder: &Folder, place: Place, others: &[Place], user: &str) -> Target {
        // Of two with one name this one is reached.
        let others = others.iter().filter(|other| other.name != place.name);
        let config = text(once(&place).chain(others), user);
        let Place { name, known_hosts, .. } = place;
        Target { name, known_hosts, folder: folder.clone(), config }
    }

    /// The configuration, for one client as it begins.
    pub(crate) fn config(&self) -> Result<TempPath, RecordError> {
        self.folder.passing(&self.config)
    }

    /// The same for a client that takes the place of this program.
    pub(crate) fn left_config(&self) -> Result<PathBuf, RecordError> {
        self.folder.left(&self.config)
    }
}

/// The configuration's text. `user`: who to be where the user's own configuration does not say.
pub(crate) fn text<'a>(places: impl Iterator<Item = &'a Place> + Clone, user: &str) -> String {
    let mut text =
        "# Written by ovlctl, and written anew when droplets change: changes are lost.\n"
            .to_owned();
    for place in places.clone() {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\nHost {name}\n  HostName {address}\n  HostKeyAlias {name}\n  UserKnownHostsFile {known}\n  \
             GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  CheckHostIP no\n  \
             UpdateHostKeys no\n",
            name = place.name,
            address = place.address,
            known = quoted(&place.known_hosts),
        );
    }
    text += "\nMatch all\nInclude ~/.ssh/config\nMatch all\nInclude /etc/ssh/ssh_config\n";
    for place in places {
        let _ = write!(text, "\nHost {}\n  User {user}\n  SendEnv -*\n", place.name);
    }
    text
}

/// As ssh_config(5) reads an argument with spaces; `%` begins a token there.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%").replace('"', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Folder, name: &str, number: u8) -> Place {
        Place {
            name: name.into(),
            address: Ipv4Addr::new(192, 0, 2, number),
            known_hosts: folder.join(&format!("{name}.{number}")),
        }
    }

    fn read(config: &Path, name: &str) -> String {
        let mut ssh = std::process::Command::new("ssh");
        let said = ssh.arg("-G").arg("-F").arg(config).arg(name).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    }

    #[test]
    fn ssh_reads_it_as_it_is_meant() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("with space %h");
        let folder = Folder::of(&"default".parse().unwrap(), Some(&base)).unwrap();
        folder.make().unwrap();
        // Another one has its name, another one may be on the way.
        let others = [place(&folder, "queenbee", 6), place(&folder, "kvstore", 8)];
        let target = Target::new(&folder, place(&folder, "queenbee", 7), &others, "alice");
        let config = target.config().unwrap();
        let (said, other) = (read(&config, "queenbee"), read(&config, "kvstore"));
        for line in [
            "hostname 192.0.2.7",
            "user alice",
            "hostkeyalias queenbee",
            "stricthostkeychecking true",
        ] {
            assert!(said.lines().any(|one| one == line), "{line} in {said}");
        }
        let known_hosts =
            ["%%", "%"].map(|percent| format!("with space {percent}h/default/queenbee.7"));
        assert!(known_hosts.iter().any(|file| said.contains(file)), "{said}");
        assert!(
            other.contains("hostname 192.0.2.8\n") && other.contains("user alice\n"),
            "{other}"
        );
    }
}
