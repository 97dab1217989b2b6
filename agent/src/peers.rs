//! Asking the agents of other hosts: a request of the control API, carried by the gossip's port.
//!
//! What may be asked of another host is a list in [`control::peers`](crate::control); it reads, measures
//! and repairs, and attaches, detaches and removes nothing.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use ovl_gossip::{AskError, Gossip, Member, MemberState, NodeName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::control::api;
use crate::core::{Refusal, RefusalKind};
use crate::driver::Agent;
use crate::underlay;

/// Names of other hosts that a message lists.
const NAMES_SHOWN: usize = 10;

/// A request for another host's agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Whom it is for: an address may have become another host's.
    pub(crate) host: String,
    /// `GET`, `POST`, `DELETE`.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// JSON, or nothing.
    pub(crate) body: String,
}

/// What it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Who answers.
    pub(crate) host: String,
    /// Of its agent.
    pub(crate) version: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// What the control API answers there.
    pub(crate) body: String,
}

/// Why another host's agent gave no answer, or not a good one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// No member has the name.
    #[error("no host of this cluster is named \"{name}\"; there are: {there}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        there: String,
    },
    /// It did not answer.
    #[error("host {host} ({}) was not reached", state_in_words(*state))]
    Unreached {
        /// Who was asked.
        host: String,
        /// How the gossip sees it.
        state: MemberState,
        /// What happened.
        #[source]
        source: AskError,
    },
    /// What it says is not what this version understands.
    #[error("the answer of host {host} (version {version}) is not understood: {why}")]
    Garbage {
        /// Who answered.
        host: String,
        /// Its version, as far as it said so.
        version: String,
        /// Why.
        why: String,
    },
    /// It said no.
    #[error("host {host} says: {sentence}")]
    Refused {
        /// Who said it.
        host: String,
        /// HTTP status of its answer.
        status: StatusCode,
        /// Its own words.
        sentence: String,
    },
}

impl PeerError {
    /// The host took a connection, and its agent said nothing: it is frozen, or overloaded.
    pub fn is_silence(&self) -> bool {
        matches!(self, PeerError::Unreached { source: AskError::Silent { .. }, .. })
    }

    /// Its agent does not know what was asked for.
    pub fn is_older(&self) -> bool {
        match self {
            PeerError::Unreached { source, .. } => matches!(source, AskError::Older { .. }),
            PeerError::Refused { status, .. } => *status == StatusCode::NOT_IMPLEMENTED,
            PeerError::Unknown { .. } | PeerError::Garbage { .. } => false,
        }
    }
}

impl From<PeerError> for Refusal {
    fn from(error: PeerError) -> Refusal {
        let kind = match &error {
            PeerError::Unknown { .. } => RefusalKind::NotFound,
            PeerError::Refused { status, .. } => match *status {
                StatusCode::NOT_FOUND => RefusalKind::NotFound,
                StatusCode::CONFLICT => RefusalKind::Conflict,
                StatusCode::BAD_REQUEST => RefusalKind::Invalid,
                _ => RefusalKind::Unavailable,
            },
            PeerError::Unreached { .. } | PeerError::Garbage { .. } => RefusalKind::Unavailable,
        };
        Refusal { kind, message: crate::chain(&error) }
    }
}

fn state_in_words(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive, says the gossip",
        MemberState::Suspect => "suspect, says the gossip",
        MemberState::Down => "down, says the gossip",
        MemberState::Left => "it has left the cluster",
    }
}

/// What an agent needs to ask others.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(crate) gossip: Gossip,
    pub(crate) node: NodeName,
    pub(crate) vtep: Ipv4Addr,
    /// The largest packet inside VXLAN that this host's underlay takes, in bytes.
    pub(crate) vxlan_mtu: u16,
}

/// How long is waited before a busy agent is asked once more, on average.
const BUSY_PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(600), Duration::from_millis(1200)];

impl Peers {
    /// The interface by which this host reaches the others; none: it has lost its address.
    pub(crate) async fn underlay(&self) -> Option<String> {
        let others: Vec<Ipv4Addr> = self.gossip.members().iter().map(|m| *m.address.ip()).collect();
        underlay::facing(self.vtep, &others).await
    }

    /// Of a host without a cluster, and without a gossip.
    #[cfg(test)]
    pub(crate) fn alone() -> Peers {
        let node = "alone".parse().expect("a name");
        Peers { gossip: Gossip::ended(), node, vtep: Ipv4Addr::LOCALHOST, vxlan_mtu: 1450 }
    }

    /// A member by its name.
    pub(crate) fn find(&self, name: &str) -> Result<Member, PeerError> {
        let members = self.gossip.members();
        let found = members.iter().find(|m| m.name.as_ref() as &str == name);
        found.cloned().ok_or_else(|| {
            let mut there: Vec<String> =
                members.iter().take(NAMES_SHOWN).map(|m| m.name.to_string()).collect();
            there.insert(0, format!("{} (this host)", self.node));
            let more = members.len().saturating_sub(NAMES_SHOWN);
            if more > 0 {
                there.push(format!("{more} more, see ovlctl members"));
            }
            PeerError::Unknown { name: name.to_owned(), there: there.join(", ") }
        })
    }

    /// Asks; of one that is busy with the questions of others, a few times: when all hosts are examined at
    /// once, each is asked by all.
    async fn ask(
        &self,
        to: SocketAddrV4,
        body: &[u8],
        within: Duration,
    ) -> Result<Vec<u8>, AskError> {
        let until = Instant::now() + within;
        for pause in BUSY_PAUSES {
            match self.gossip.ask(to, body, until - Instant::now()).await {
                Err(AskError::Busy { .. }) => {}
                told => return told,
            }
            // Not all at the same moment again.
            let pause = pause.mul_f64(rand::random_range(0.5..1.5));
            if until.saturating_duration_since(Instant::now()) < 2 * pause {
                return Err(AskError::Busy { to });
            }
            tokio::time::sleep(pause).await;
        }
        self.gossip.ask(to, body, until - Instant::now()).await
    }

    /// Asks, and gives back whatever it says.
    pub(crate) async fn exchange(
        &self,
        question: &Question,
        within: Duration,
    ) -> Result<Answer, PeerError> {
        let member = self.find(&question.host)?;
        // Strings alone: this cannot fail.
        let body = serde_json::to_vec(question).unwrap_or_default();
        let told = self.ask(member.address, &body, within).await;
        let told = told.map_err(|source| PeerError::Unreached {
            host: question.host.clone(),
            state: member.state,
            source,
        })?;
        let answer: Answer = serde_json::from_slice(&told).map_err(|error| PeerError::Garbage {
            host: question.host.clone(),
            version: "unknown".into(),
            why: error.to_string(),
        })?;
        if answer.host == question.host {
            return Ok(answer);
        }
        Err(PeerError::Garbage {
            host: question.host.clone(),
            version: answer.version,
            why: format!("at {} there is host {}", member.address, answer.host),
        })
    }
}

impl Agent {
    /// Asks the agent of another host by `GET`; `target` is path and query, percent-encoded.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn peer_get<T: DeserializeOwned>(
        &self,
        host: &str,
        target: &str,
        within: Duration,
    ) -> Result<T, PeerError> {
        self.peer(host, Method::GET, target, String::new(), within).await
    }

    /// The same by `POST`.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn peer_post<B: Serialize, T: DeserializeOwned>(
        &self,
        host: &str,
        target: &str,
        body: &B,
        within: Duration,
    ) -> Result<T, PeerError> {
        let body = serde_json::to_string(body).unwrap_or_default();
        self.peer(host, Method::POST, target, body, within).await
    }

    async fn peer<T: DeserializeOwned>(
        &self,
        host: &str,
        method: Method,
        target: &str,
        body: String,
        within: Duration,
    ) -> Result<T, PeerError> {
        let question = Question {
            host: host.to_owned(),
            method: method.to_string(),
            target: target.to_owned(),
            body,
        };
        let answer = self.peers().exchange(&question, within).await?;
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let garbage = |error: serde_json::Error| PeerError::Garbage {
            host: host.to_owned(),
            version: answer.version.clone(),
            why: error.to_string(),
        };
        if status == StatusCode::OK {
            return serde_json::from_str(&answer.body).map_err(garbage);
        }
        let said = serde_json::from_str::<api::Error>(&answer.body).map_err(garbage)?;
        Err(PeerError::Refused { host: host.to_owned(), status, sentence: said.error })
    }
}
