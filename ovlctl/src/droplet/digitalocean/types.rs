//! What is sent and what comes back, as far as it is used.
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `GET /v2/account`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Account {
    /// Droplets that it may have at once.
    pub(crate) droplet_limit: u64,
    uuid: String,
    #[serde(default)]
    team: Option<Team>,
}

/// Whom the droplets of a token belong to, if not to a person alone.
#[derive(Clone, Debug, Deserialize)]
struct Team {
    uuid: String,
}

impl Account {
    /// The same for all tokens that see the same droplets.
    pub(crate) fn owner(&self) -> &str {
        self.team.as_ref().map_or(&self.uuid, |team| &team.uuid)
    }
}

/// `GET /v2/regions`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Region {
    pub(crate) slug: String,
    pub(crate) available: bool,
}

/// `GET /v2/sizes`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Size {
    pub(crate) slug: String,
    pub(crate) available: bool,
    /// Slugs of those that have it.
    pub(crate) regions: Vec<String>,
    /// In GiB.
    pub(crate) disk: u64,
}

/// `GET /v2/images/…`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Image {
    #[serde(default)]
    pub(crate) distribution: Option<String>,
    pub(crate) regions: Vec<String>,
    /// In GiB.
    pub(crate) min_disk_size: u64,
}

/// `GET /v2/vpcs`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Vpc {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) region: String,
}

/// `GET /v2/account/keys`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SshKey {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) public_key: String,
}

/// `GET /v2/tags/…`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) resources: Resources,
}

/// What has a tag.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Resources {
    pub(crate) count: u64,
    #[serde(default)]
    pub(crate) droplets: Count,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Count {
    pub(crate) count: u64,
}

/// A droplet.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Droplet {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// `new`, `active`, `off` or `archive`.
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) networks: Networks,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    pub(crate) region: Slug,
    pub(crate) size_slug: String,
    #[serde(default)]
    pub(crate) vpc_uuid: Option<String>,
}

/// A thing of which only its short name is used.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Slug {
    pub(crate) slug: String,
}

/// Its interfaces.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Networks {
    #[serde(default)]
    v4: Vec<Interface>,
}

#[derive(Clone, Debug, Deserialize)]
struct Interface {
    ip_address: Ipv4Addr,
    #[serde(rename = "type")]
    kind: String,
}

impl Droplet {
    /// Reached from everywhere; none until it is active.
    pub(crate) fn public(&self) -> Option<Ipv4Addr> {
        self.address("public")
    }

    /// In its VPC.
    pub(crate) fn private(&self) -> Option<Ipv4Addr> {
        self.address("private")
    }

    fn address(&self, kind: &str) -> Option<Ipv4Addr> {
        self.networks.v4.iter().find(|one| one.kind == kind).map(|one| one.ip_address)
    }

    pub(crate) fn is_active(&self) -> bool {
        self.status == "active"
    }

    /// Tags are the same in capitals.
    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|one| one.eq_ignore_ascii_case(tag))
    }
}

/// What a droplet, or a whole account, was told to do.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Action {
    pub(crate) id: u64,
    /// `in-progress`, `completed` or `errored`.
    pub(crate) status: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// `POST /v2/droplets`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CreateDroplets {
    pub(crate) names: Vec<String>,
    pub(crate) region: String,
    pub(crate) size: String,
    pub(crate) image: KeyRef,
    pub(crate) ssh_keys: Vec<KeyRef>,
    pub(crate) tags: Vec<String>,
    pub(crate) user_data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vpc_uuid: Option<String>,
}

impl CreateDroplets {
    /// Names in one request.
    pub(crate) const MOST: usize = 10;
}

/// Something that has a number and a name: JSON knows which is meant by its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum KeyRef {
    Number(u64),
    Name(String),
}

impl From<&str> for KeyRef {
    fn from(text: &str) -> KeyRef {
        text.parse().map_or_else(|_| KeyRef::Name(text.to_owned()), KeyRef::Number)
    }
}

/// A rule for what comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// `tcp`, `udp` or `icmp`.
    pub(crate) protocol: String,
    /// One, a range, or `0` for all, as answers say; `0` for ICMP.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ports: String,
    pub(crate) sources: Peers,
}

/// Who is at the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peers {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) addresses: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) tags: BTreeSet<String>,
}

impl Peers {
    /// Everybody.
    pub(crate) fn anywhere() -> Peers {
        let addresses = ["0.0.0.0/0", "::/0"].map(str::to_owned).into();
        Peers { addresses, tags: BTreeSet::new() }
    }

    /// Droplets with a tag.
    pub(crate) fn tagged(tag: &str) -> Peers {
        Peers { addresses: BTreeSet::new(), tags: [tag.to_owned()].into() }
    }
}

/// `GET /v2/firewalls`: also all that others made of it, to be sent back as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Firewall {
    #[serde(skip_serializing)]
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(crate) tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(crate) droplet_ids: Vec<u64>,
    /// Each as a [`Rule`], or with sources that are none of ours.
    #[serde(default, deserialize_with = "null_is_none")]
    pub(crate) inbound_rules: Vec<Value>,
    #[serde(default, deserialize_with = "null_is_none")]
    pub(crate) outbound_rules: Vec<Value>,
}

fn null_is_none<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// `POST` of one. Everything may go out.
#[derive(Debug, Serialize)]
pub(super) struct FirewallRequest<'a> {
    name: &'a str,
    tags: [&'a str; 1],
    inbound_rules: &'a [Rule],
    outbound_rules: [Outbound; 3],
}

#[derive(Debug, Serialize)]
struct Outbound {
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<&'static str>,
    destinations: Peers,
}

impl<'a> FirewallRequest<'a> {
    pub(super) fn new(name: &'a str, tag: &'a str, inbound_rules: &'a [Rule]) -> Self {
        let outbound_rules = [("tcp", Some("all")), ("udp", Some("all")), ("icmp", None)]
            .map(|(protocol, ports)| Outbound { protocol, ports, destinations: Peers::anywhere() });
        FirewallRequest { name, tags: [tag], inbound_rules, outbound_rules }
    }
}

/// What can stand in a path as it is.
pub(super) fn is_slug(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !text.starts_with('.')
}
