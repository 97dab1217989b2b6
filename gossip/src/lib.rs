//! Who is alive, and who owns which endpoint: SWIM membership with foca, and the endpoint table on
//! top, on UDP and TCP port 7946.
//!
//! The core (`node`) is SANS-IO. The shell (`task`, `udp`, `tcp`) drives it in one tokio task
//! behind [`Gossip`]. The crate knows nothing of Docker, of kernels or of stores.
//!
//! - Membership: foca, fed by datagrams; a push-pull over TCP when joining, and now and then, carries
//!   what packets lost.
//! - Endpoints: each node writes its own (`endpoints`); changes go out at once on a channel of their
//!   own (`spread`), gaps are pulled over TCP (`pulls`).
//! - A name belongs to one live host (`rival`).
//! - Agents ask each other (`ask`): what is asked is their user's.
//!
//! Nothing on the wire is encrypted or authenticated yet: whoever reaches the port is believed. What
//! is checked is that packets keep every bound, come from where they say, and cannot be used to flood
//! others.

mod ask;
mod endpoint;
mod endpoints;
mod gossip;
mod identity;
mod members;
mod name;
mod node;
mod places;
mod pulls;
mod report;
mod rival;
mod seeds;
#[cfg(test)]
mod sim;
mod spread;
mod swim;
mod task;
mod tcp;
mod udp;
mod wire;

pub use ask::{ANSWER_WITHIN, Ask, AskError, MAX_ANSWER, MAX_QUESTION, echo};
pub use endpoint::{Endpoint, MAX_ENDPOINT_ID, MAX_ENDPOINT_NAME, MAX_ENDPOINT_NAMES};
pub use endpoints::{MAX_ENDPOINTS, MAX_ENDPOINTS_PER_NODE};
pub use gossip::{Config, EPOCHS_AHEAD, Gossip, StartError};
pub use members::{MAX_MEMBERS, REMEMBERED_FOR};
pub use name::{MAX_NODE_NAME, NameError, NodeName};
pub use report::{Changes, Member, MemberState, NodeEndpoints, Oddity, OtherFormat, Stats};
