//! What a droplet is to be: the script that makes it so, and cloud-init's user data.
//!
//! One script does it all. It runs at the first boot, by cloud-init, with what is known then, and
//! over ssh, with everything known; run again it changes nothing. It talks in lines, see [`Line`].
//!
//! | file | task |
//! |---|---|
//! | `host/provision.sh` | the script without its settings |
//! | `host/quote.rs` | texts as words of a shell, of TOML and of YAML |
//! | `host/user_data.rs` | the script in cloud-init's user data |
//! | `host/line.rs` | what the script says |

mod line;
mod quote;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
mod tests;
mod user_data;

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;

pub(crate) use self::line::Line;
pub(crate) use self::user_data::TooLong;

/// Functions, and one call of them in the last line. Its settings are variables.
const PROVISION: &str = include_str!("host/provision.sh");
const FIRST_LINE: &str = "#!/bin/sh\n";

/// A droplet as it is to be.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) role: Role,
    /// Its address between the hosts; without one the droplet asks the provider's metadata service.
    pub(crate) private: Option<Ipv4Addr>,
}

#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// Consul and nothing else, on the private address only.
    Kvstore,
    /// Docker, and the agent if it is known already what it needs.
    Node { agent: Option<Agent> },
}

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) package: Package,
    /// As in `agent.toml`: `consul://10.1.2.3:8500`.
    pub(crate) store: String,
    /// Hosts to join by; their order does not matter, and the host itself may be among them.
    pub(crate) join: Vec<String>,
}

/// Where the agent is from. A package of the version that is installed changes nothing.
#[derive(Clone, Debug)]
pub(crate) enum Package {
    /// Fetched by the droplet: over https, or over http as well if its SHA-256 is known.
    Url { url: String, sha256: Option<String> },
    /// Where it was put on the droplet. It is left there.
    File(String),
    /// The agent stays as it is. Without one the script fails.
    Installed,
}

/// A host key for sshd (ed25519), so that the first connection can be checked.
///
/// What is in user data can be read by whatever runs on the droplet and reaches the metadata
/// service, containers included.
#[derive(Clone)]
pub(crate) struct HostKey {
    /// As `ssh-keygen` writes it, of several lines.
    pub(crate) private: String,
    /// The line of the file with `.pub`.
    pub(crate) public: String,
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Host {
    /// The whole script, to be run as root by `sh`, from a file or from standard input.
    pub(crate) fn script(&self) -> String {
        let mut text = FIRST_LINE.to_owned();
        for (name, value) in self.settings() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}={}", quote::shell(&value));
        }
        text + PROVISION.trim_start_matches(FIRST_LINE)
    }

    /// cloud-init's user data, which a person can read as well.
    ///
    /// # Errors
    /// [`TooLong`] if the provider would not take it.
    pub(crate) fn user_data(&self, host_key: Option<&HostKey>) -> Result<String, TooLong> {
        user_data::of(&self.script(), host_key)
    }

    /// The script's variables. Each is set, so that none comes from where the script is run.
    fn settings(&self) -> [(&'static str, String); 6] {
        let (role, agent) = match &self.role {
            Role::Kvstore => ("kvstore", None),
            Role::Node { agent } => ("node", agent.as_ref()),
        };
        let private = self.private.map_or_else(String::new, |address| address.to_string());
        let (kind, from, sha256) = agent.map_or(("", "", ""), |agent| agent.package.settings());
        [
            ("HOST_ROLE", role.to_owned()),
            ("HOST_PRIVATE", private),
            ("HOST_PACKAGE", kind.to_owned()),
            ("HOST_PACKAGE_FROM", from.to_owned()),
            ("HOST_SHA256", sha256.to_ascii_lowercase()),
            ("HOST_SETTINGS", agent.map_or_else(String::new, Agent::toml)),
        ]
    }
}

impl Agent {
    /// Lines of `agent.toml`, without the one that only the droplet can tell. The same hosts in
    /// another order are the same text.
    fn toml(&self) -> String {
        let mut join: Vec<_> = self.join.iter().map(|host| quote::toml(host)).collect();
        join.sort_unstable();
        join.dedup();
        format!("store = {}\njoin = [{}]", quote::toml(&self.store), join.join(", "))
    }
}

impl Package {
    /// How the script calls its kind, where it is from, and its hash.
    fn settings(&self) -> (&'static str, &str, &str) {
        match self {
            Self::Url { url, sha256 } => ("url", url, sha256.as_deref().unwrap_or_default()),
            Self::File(path) => ("file", path, ""),
            Self::Installed => ("installed", "", ""),
        }
    }
}
