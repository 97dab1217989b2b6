//! Docker: the plugin socket that dockerd calls, and what its Engine API tells.
//!
//! Two halves that never wait for each other:
//! - [`plugin`] says what the agent must be able to do for a network and an IPAM driver
//!   ([`Backend`]), and answers by itself what needs no decision; [`server`] listens on the
//!   socket, `wire` reads what arrives there (`fields`).
//! - [`engine`] follows the Engine API, from which the names of containers come: dockerd never
//!   tells them to a driver.
//!
//! The Engine API is never asked from within a plugin call: dockerd holds the container's lock
//! during `RequestAddress`, `CreateEndpoint`, `Join`, `Leave` and `DeleteEndpoint`, and an inspect
//! of that container would wait for the very call that asks.
mod daemon;
pub mod engine;
mod fields;
pub mod plugin;
pub mod server;
mod wire;

pub(crate) use daemon::name_servers;
pub use engine::{
    About, ContainerEndpoint, Daemon, DaemonError, DockerNetwork, Engine, EngineEvent,
    NetworkConfig, PoolConfig,
};
pub use plugin::{
    Backend, CreateEndpoint, CreateEndpointReply, CreateNetwork, GLOBAL_ADDRESS_SPACE, IpamData,
    Join, JoinReply, LOCAL_ADDRESS_SPACE, PluginError, PoolReply, RequestAddress, RequestPool,
    Scope,
};
pub use server::PluginServer;
pub use wire::MAX_ENDPOINT_NAME;
