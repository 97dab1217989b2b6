//! Why a name has the addresses that it has, as `GET /v1/resolve/explain` tells it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What is answered to whoever asks for a name, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The name as it was asked for.
    pub name: String,
    /// Who asks.
    pub asker: Asker,
    /// What comes of it.
    pub outcome: Outcome,
    /// The addresses that are answered, IPv4 first; of a shared name they take turns.
    pub addresses: Vec<IpAddr>,
    /// How long a client may keep the answer, in seconds; none: it is another's answer.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
    /// Every endpoint that has the name, here or on a network that the asker is not on; those that are
    /// answered first. At most 64.
    pub records: Vec<Record>,
    /// How many more there are.
    pub left_out: usize,
    /// Names that are nearly the same, as they would have to be asked for; at most 5.
    pub near: Vec<String>,
    /// Who is asked instead; none: it is ours to answer.
    #[serde(default)]
    pub elsewhere: Option<Elsewhere>,
    /// All of that in one sentence.
    pub summary: String,
}

/// Who asks for a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// An endpoint's name; none: nobody in particular.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The host it is on.
    #[serde(default)]
    pub host: Option<String>,
    /// The networks that it is on, and that are looked in; none: all.
    #[serde(default)]
    pub networks: Option<Vec<String>>,
    /// Whether it is a container of Docker, if that is known here.
    #[serde(default)]
    pub docker: Option<bool>,
}

/// What comes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There are addresses.
    Found,
    /// It lies under the name of a network, and nothing there is called so: NXDOMAIN.
    NoSuchName,
    /// Nothing here is called so, and another resolver is asked.
    Elsewhere,
}

/// An endpoint that has the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its first name.
    pub endpoint: String,
    /// All its names.
    pub names: Vec<String>,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Its network.
    pub network: String,
    /// The host that announces it.
    pub host: String,
    /// What of the question it answers to: the whole name, or what stands before the network's name.
    pub matched: String,
    /// The store's revision at which its address was given out: of two claims on one address the higher
    /// one is true.
    pub generation: u64,
    /// For how long this agent has known it as it is now, in seconds.
    pub known_seconds: u64,
    /// Its addresses are among those answered.
    pub answers: bool,
    /// Why, or why not, as a sentence.
    pub why: String,
}

/// Who is asked for what is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// `docker`: the container's resolver of Docker; `host`: the host's resolvers; `either`: it depends
    /// on the container.
    pub resolver: String,
    /// The host's resolvers in the order in which they are asked now; empty: there are none. Of
    /// Docker's own, what it asks in turn is for dockerd to say.
    pub servers: Vec<SocketAddr>,
}
