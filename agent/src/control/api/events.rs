//! What happened, as `GET /v1/events` tells it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A part of what this agent keeps of what happened, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Those after the given number, as many as fit one answer.
    pub events: Vec<Event>,
    /// What to give as `after` to go on behind them.
    pub next: u64,
    /// How many after the given number are not kept any more.
    pub lost: u64,
    /// When this agent started, RFC 3339 in UTC. Numbers begin anew with each start: another time
    /// than before means that the agent was restarted.
    pub started: String,
}

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: 1 for the first one since this agent's start, then one more each.
    pub seq: u64,
    /// When this agent noticed it, RFC 3339 in UTC, to the millisecond.
    pub at: String,
    /// What kind of thing: `host-down`, `endpoint-attached` and so on.
    pub kind: String,
    /// One sentence, without its reason.
    pub summary: String,
    /// The host that it happened to, or on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The endpoint's first name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Of the endpoint or the host, as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Where one event stands for several: how many things happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Why, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What else there is to say: what was repaired, which endpoints those are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}
