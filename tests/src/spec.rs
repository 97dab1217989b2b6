//! What a lab is to be made of.
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::LabError;

/// Names that the lab keeps for its own nodes and folders.
const RESERVED: [&str; 3] = ["underlay", "kvstore", "store"];
/// Most hosts of one lab: what one machine carries, and far below the /24 of the underlay.
const MOST_HOSTS: usize = 64;
/// Of the underlay, 192.168.77.0/24 in every lab: labs do not see each other. It is outside of what
/// overlay networks are cut from, and of what Docker's bridges take.
const UNDERLAY: [u8; 3] = [192, 168, 77];
/// Of the droplets' public side, 203.0.113.0/24 in every lab.
const PUBLIC: [u8; 3] = [203, 0, 113];
/// Where droplets ask who they are.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A lab's name: also a folder's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// A host's or a container's name: a DNS label, so that it can be a host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Where the agents keep networks and addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One file that all hosts of the lab see.
    #[default]
    Sqlite,
    /// A Consul server in a namespace of its own on the underlay.
    Consul,
}

/// What `up` builds.
#[derive(Clone, Debug)]
pub struct LabSpec {
    /// Its name.
    pub name: LabName,
    /// Its hosts, in the order of their addresses.
    pub hosts: Vec<NodeName>,
    /// The agents' store.
    pub store: StoreKind,
    /// Whether each host gets an agent at once.
    pub agents: bool,
    /// Whether the lab ends with this process: leftovers of such labs are swept.
    pub owned: bool,
}

impl LabSpec {
    /// A lab with agents, that stays until it is taken down.
    ///
    /// # Errors
    /// [`LabError::BadName`] for a host named twice, a reserved name, no host or too many.
    pub fn new(name: LabName, hosts: Vec<NodeName>, store: StoreKind) -> Result<Self, LabError> {
        let bad = |value: &str, expected| LabError::BadName {
            what: "host list",
            value: value.to_owned(),
            expected,
        };
        if hosts.is_empty() || hosts.len() > MOST_HOSTS {
            return Err(bad(&hosts.len().to_string(), "1 to 64 hosts"));
        }
        for (index, host) in hosts.iter().enumerate() {
            if RESERVED.contains(&host.as_str()) {
                return Err(bad(host.as_str(), "underlay, kvstore and store are the lab's own"));
            }
            if hosts[..index].contains(host) {
                return Err(bad(host.as_str(), "each host once"));
            }
        }
        Ok(Self { name, hosts, store, agents: true, owned: false })
    }
}

/// The underlay's address of the host at `index` (from 0) of the lab's list.
#[must_use]
pub fn host_address(index: usize) -> Ipv4Addr {
    let [a, b, c] = UNDERLAY;
    // LabSpec::new allows at most MOST_HOSTS hosts.
    Ipv4Addr::new(a, b, c, 11 + u8::try_from(index).unwrap_or(u8::MAX - 11))
}

/// The address of the underlay's own bridge: what is on it is on no host.
#[must_use]
pub fn bridge_address() -> Ipv4Addr {
    let [a, b, c] = UNDERLAY;
    Ipv4Addr::new(a, b, c, 1)
}

/// The public address of the droplet at `index`: of the block that is for documentation, which no
/// host of the underlay is in.
#[must_use]
pub fn public_address(index: usize) -> Ipv4Addr {
    let [a, b, c] = PUBLIC;
    Ipv4Addr::new(a, b, c, 11 + u8::try_from(index).unwrap_or(u8::MAX - 11))
}

/// The address of the public bridge: the droplets' gateway.
#[must_use]
pub fn public_gateway() -> Ipv4Addr {
    let [a, b, c] = PUBLIC;
    Ipv4Addr::new(a, b, c, 1)
}

/// The underlay's address of the Consul server.
#[must_use]
pub fn kvstore_address() -> Ipv4Addr {
    let [a, b, c] = UNDERLAY;
    Ipv4Addr::new(a, b, c, 2)
}

impl LabName {
    /// The demo's lab, which is not the user's.
    #[must_use]
    pub fn demo() -> Self {
        Self("demo".to_owned())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LabName {
    fn default() -> Self {
        Self("lab".to_owned())
    }
}

impl NodeName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabName {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        label("lab name", text).map(Self)
    }
}

impl FromStr for NodeName {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self, LabError> {
        label("host or container name", text).map(Self)
    }
}

impl TryFrom<String> for LabName {
    type Error = LabError;

    fn try_from(text: String) -> Result<Self, LabError> {
        text.parse()
    }
}

impl TryFrom<String> for NodeName {
    type Error = LabError;

    fn try_from(text: String) -> Result<Self, LabError> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Consul => "consul",
        })
    }
}

fn label(what: &'static str, text: &str) -> Result<String, LabError> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let bytes = text.as_bytes();
    let fits = bytes.len() <= 63
        && bytes.iter().copied().all(inner)
        && edge(bytes.first().copied())
        && edge(bytes.last().copied());
    if fits {
        return Ok(text.to_owned());
    }
    Err(LabError::BadName {
        what,
        value: text.to_owned(),
        expected: "1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "workerbee-1", "0x", &"a".repeat(63)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "..", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_and_double_hosts_are_refused() {
        for list in [&["a", "a"][..], &["kvstore"], &[]] {
            let hosts = list.iter().map(|host| host.parse().expect("a label")).collect();
            let spec = LabSpec::new(LabName::default(), hosts, StoreKind::Sqlite);
            assert!(spec.is_err(), "{list:?}");
        }
    }
}
