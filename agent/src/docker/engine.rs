//! Which container has which endpoint, and which names: followed over Docker's Engine API.
//!
//! A driver is told ids only; names, aliases and host names are known to the Engine API alone. This
//! part follows it for as long as it lives: Docker's events say which container to look at, an
//! inspect says what is true, and a listing every minute finds what no event told. So what is
//! told is level-triggered: a missed, doubled or reordered event changes nothing in the end.
//!
//! - `tracker` decides (SANS-IO): what to inspect, when again, what to tell of containers.
//! - `networks` decides when to list the driver's networks, and when to tell them; `network` reads
//!   them.
//! - `names` makes DNS names of what Docker calls a container.
//! - `daemon` has Docker make and remove networks.
//! - `client` asks, each time within a limit; `said` reads the answers; `follow` drives.
//!
//! Docker being absent is no error: it is told once, and tried again for ever.
mod client;
mod daemon;
mod follow;
mod names;
mod network;
mod networks;
mod said;
mod tracker;

use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub use daemon::{About, Daemon, DaemonError};
pub use names::{MAX_NAME, MAX_NAMES};
pub use network::{DockerNetwork, NetworkConfig, PoolConfig};
pub use tracker::{MAX_CONTAINERS, MAX_INSPECTS, MAX_NETWORKS};

/// Events that wait for the receiver. When they are full, what changes meanwhile is collected, and
/// told as the state it has by then.
pub const EVENTS: usize = 64;

/// What became known of Docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// Docker answers; [`Networks`](Self::Networks) and then [`Containers`](Self::Containers)
    /// follow.
    Connected {
        /// Docker's version, as in `20.10.24`.
        version: String,
    },
    /// Docker does not answer, at the start or any more; told once. What was told of containers
    /// may still be true: with live restore they outlive dockerd.
    Lost {
        /// What was tried, and what came of it.
        why: String,
    },
    /// All networks of this driver that Docker has, sorted by id; what is not in it is gone. Told
    /// once Docker answers, after each event of a network of this driver, and when a listing found
    /// a difference. While it waits for the receiver, a newer one takes its place.
    ///
    /// A setting that cannot be read is left out, with a warning.
    Networks(Vec<DockerNetwork>),
    /// The endpoints of all running containers; who is not in it has none.
    Containers(Vec<ContainerEndpoint>),
    /// All endpoints of one container, at least one; they replace what was told of it before.
    Changed(Vec<ContainerEndpoint>),
    /// A container has no endpoint any more: it was stopped, removed or disconnected.
    Gone {
        /// Docker's id of the container.
        container: String,
    },
}

/// An endpoint of a running container, on a network of this driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEndpoint {
    /// Docker's id of the container.
    pub container: String,
    /// The id that the driver was given, new at each start of the container.
    pub endpoint_id: String,
    /// The id that the driver was given.
    pub network_id: String,
    /// The container's name first, then its aliases on this network, its host name if the user
    /// set one, and its short id last: valid DNS names of one or more labels, in lower case, each
    /// once; at most [`MAX_NAMES`] of at most [`MAX_NAME`] bytes.
    pub names: Vec<String>,
    /// The container's network namespace; empty while Docker lists the container but does not
    /// let it be inspected, when of its names only the first and the last are known.
    pub sandbox: PathBuf,
}

/// The task that follows Docker. It ends when this is dropped.
#[derive(Debug)]
pub struct Engine {
    task: AbortHandle,
    daemon: Daemon,
}

impl Engine {
    /// Follows the Docker at `docker_host`, as in `unix:///var/run/docker.sock`; other schemes are
    /// told as [`EngineEvent::Lost`]. Only networks whose driver is `driver` count.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn follow(docker_host: String, driver: &str) -> (Self, mpsc::Receiver<EngineEvent>) {
        let daemon = Daemon::new(&docker_host, driver);
        let (events, receiver) = mpsc::channel(EVENTS);
        let task = tokio::spawn(follow::run(docker_host, driver.to_owned(), events));
        let task = task.abort_handle();
        (Self { task, daemon }, receiver)
    }

    /// The same Docker, to make and remove networks of this driver. Outlives this.
    pub fn daemon(&self) -> Daemon {
        self.daemon.clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_scheme_than_unix_is_told_with_what_to_give_instead() {
        let (_engine, mut events) = Engine::follow("tcp://127.0.0.1:2375".into(), "ovl");
        let Some(EngineEvent::Lost { why }) = events.recv().await else {
            panic!("not lost");
        };
        assert!(why.contains("unix:///var/run/docker.sock"), "{why}");
    }

    #[tokio::test]
    async fn the_task_ends_when_its_handle_is_dropped() {
        let (engine, mut events) = Engine::follow("unix:///nowhere/docker.sock".into(), "ovl");
        assert!(matches!(events.recv().await, Some(EngineEvent::Lost { .. })));
        drop(engine);
        assert_eq!(events.recv().await, None);
    }
}
