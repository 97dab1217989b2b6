//! The rules of a firewall, as they are sent and as they are shown.
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::answer::Refusal;
use super::fields::Fields;
use super::state::State;
use super::tags;

/// How many entries the sources or destinations of one rule may have.
const MOST_ENTRIES: usize = 1000;

/// Which way a rule's packets go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// To the droplets.
    Inbound,
    /// From them.
    Outbound,
}

impl Way {
    /// The field of a firewall's rules of this way.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Inbound => "inbound_rules",
            Self::Outbound => "outbound_rules",
        }
    }

    fn peers(self) -> &'static str {
        match self {
            Self::Inbound => "sources",
            Self::Outbound => "destinations",
        }
    }
}

/// Checks one rule, and gives it as the API shows it: all ports are `"0"`.
pub(super) fn checked(state: &State, way: Way, rule: Value) -> Result<Value, Refusal> {
    let mut fields = Fields::of(rule, format!("{}[]", way.field()))?;
    let protocol = fields.need_text("protocol")?;
    let ports = fields.text("ports")?;
    let peers = fields.any(way.peers());
    fields.end()?;
    let ports = match (protocol.as_str(), ports) {
        ("tcp" | "udp", Some(ports)) => checked_ports(&ports)?,
        ("tcp" | "udp", None) => {
            return Err(Refusal::broken(format!("{protocol}: ports is required")));
        }
        ("icmp", None) => "0".to_owned(),
        ("icmp", Some(ports)) if ["", "0", "all"].contains(&ports.as_str()) => "0".to_owned(),
        ("icmp", Some(ports)) => {
            return Err(Refusal::broken(format!("icmp has no ports {ports:?}")));
        }
        (other, _) => {
            return Err(Refusal::broken(format!("protocol {other:?} is not tcp, udp or icmp")));
        }
    };
    let none = || Refusal::broken(format!("{} is required", way.peers()));
    let peers = checked_peers(state, way.peers(), peers.ok_or_else(none)?)?;
    Ok(json!({ "protocol": protocol, "ports": ports, way.peers(): peers }))
}

/// One port, a range, or all.
fn checked_ports(ports: &str) -> Result<String, Refusal> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let good = match ports.split_once('-') {
        _ if ["0", "all"].contains(&ports) => return Ok("0".to_owned()),
        None => port(ports).is_some(),
        Some((low, high)) => port(low).zip(port(high)).is_some_and(|(low, high)| low <= high),
    };
    match good {
        true => Ok(ports.to_owned()),
        false => Err(Refusal::broken(format!("ports {ports:?} is no port, range or \"all\""))),
    }
}

/// Sources or destinations: only what was given is shown.
fn checked_peers(state: &State, place: &str, peers: Value) -> Result<Value, Refusal> {
    let mut fields = Fields::of(peers, place)?;
    let mut shown = Map::new();
    let mut entries = 0;
    for name in ["addresses", "load_balancer_uids", "kubernetes_ids", "tags"] {
        let Some(texts) = fields.texts(name)?.filter(|texts| !texts.is_empty()) else { continue };
        match name {
            "addresses" => addresses(&texts)?,
            "tags" => known_tags(state, &texts)?,
            _ => {}
        }
        entries += texts.len();
        shown.insert(name.to_owned(), texts.into());
    }
    if let Some(ids) = fields.numbers("droplet_ids")?.filter(|ids| !ids.is_empty()) {
        known_droplets(state, &ids)?;
        entries += ids.len();
        shown.insert("droplet_ids".to_owned(), ids.into());
    }
    fields.end()?;
    match entries {
        0 => Err(Refusal::broken(format!("{place} has no entry"))),
        1..=MOST_ENTRIES => Ok(Value::Object(shown)),
        _ => Err(Refusal::broken(format!("{place} has {entries} entries, not up to 1000"))),
    }
}

fn addresses(texts: &[String]) -> Result<(), Refusal> {
    let good = |text: &&String| text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    match texts.iter().find(|text| !good(text)) {
        None => Ok(()),
        Some(_) => Err(Refusal::broken("invalid address")),
    }
}

/// Tags have to exist before a firewall names them.
pub(super) fn known_tags(state: &State, names: &[String]) -> Result<(), Refusal> {
    match names.iter().find(|name| tags::exists(state, name).is_err()) {
        None => Ok(()),
        Some(name) => Err(Refusal::unprocessable(format!("tag {name:?} does not exist"))),
    }
}

/// Droplets have to exist before a firewall names them.
pub(super) fn known_droplets(state: &State, ids: &[u64]) -> Result<(), Refusal> {
    match ids.iter().find(|id| !state.living().any(|droplet| droplet.order.id == **id)) {
        None => Ok(()),
        Some(id) => Err(Refusal::unprocessable(format!("droplet {id} does not exist"))),
    }
}
