//! Docker's Engine API over its unix socket: every question has a limit of time.
//!
//! The client library asks without a version in the path, so Docker answers in its newest one;
//! what is read here has stood in all of them since API 1.24.
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bollard::errors::Error as ApiError;
use bollard::query_parameters::{
    EventsOptions, EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    ListNetworksOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::{Stream, StreamExt};

use super::network::{self, Networks};
use super::said::{self, Happening, Inspected, Listing};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Longest wait for an inspect, which Docker holds back while the container starts or stops, and
/// so for a call of ours. Given up early: the first snapshot waits for it.
const INSPECT: Duration = Duration::from_secs(3);

/// How far back events are asked for: whatever happened between the request for them and the
/// listing is told, if need be twice.
const OVERLAP: Duration = Duration::from_secs(3);

/// Why Docker could not be asked. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Another scheme than `unix://`, or none.
    #[error(
        "docker host {host:?}: only unix:// is followed; give one such as unix:///var/run/docker.sock"
    )]
    Scheme {
        /// The host as given.
        host: String,
    },
    /// No socket, no answer that makes sense, or an error of Docker's own.
    #[error("docker host {host:?}: cannot {what}")]
    Api {
        /// The host as given.
        host: String,
        /// What was asked.
        what: &'static str,
        /// What came of it; boxed for its size.
        source: Box<ApiError>,
    },
    /// No answer in time.
    #[error("docker host {host:?}: cannot {what}: no answer within {limit:?}")]
    Silent {
        /// The host as given.
        host: String,
        /// What was asked.
        what: &'static str,
        /// How long the answer was waited for.
        limit: Duration,
    },
}

/// A Docker to ask. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    host: String,
    driver: String,
    docker: Docker,
}

impl Client {
    /// Checks the host and that its socket exists; asks nothing yet.
    pub(super) fn new(host: &str, driver: &str) -> Result<Self, ClientError> {
        if !host.starts_with("unix://") {
            return Err(ClientError::Scheme { host: host.into() });
        }
        let docker = Docker::connect_with_unix(host, ANSWER.as_secs(), API_DEFAULT_VERSION);
        let docker = docker.map_err(|source| ClientError::Api {
            host: host.into(),
            what: "connect",
            source: source.into(),
        })?;
        Ok(Self { host: host.into(), driver: driver.into(), docker })
    }

    /// The networks of the driver, and all running containers.
    pub(super) async fn list(self) -> Result<Listing, ClientError> {
        let version = self.ask("ask for the version", self.docker.version()).await?;
        let networks = self.clone().networks().await?.networks;
        // Without a filter of its own: those that run.
        let options = ListContainersOptionsBuilder::default().build();
        let containers = self.docker.list_containers(Some(options));
        let containers = self.ask("list the containers", containers).await?;
        Ok(Listing {
            version: version.version.unwrap_or_default(),
            networks: networks.into_iter().map(|network| network.id).collect(),
            containers: containers.into_iter().filter_map(said::listed).collect(),
        })
    }

    /// The networks of the driver.
    pub(super) async fn networks(self) -> Result<Networks, ClientError> {
        let drivers = HashMap::from([("driver", vec![self.driver.as_str()])]);
        let options = ListNetworksOptionsBuilder::default().filters(&drivers).build();
        let networks = self.docker.list_networks(Some(options));
        let networks = self.ask("list the networks", networks).await?;
        Ok(network::listed(&self.driver, networks))
    }

    /// What one container has now.
    pub(super) async fn inspect(self, id: String) -> (String, Inspected) {
        let asked = self.docker.inspect_container(&id, None::<InspectContainerOptions>);
        let asked = self.ask_within(INSPECT, "inspect the container", asked);
        let inspected = match asked.await {
            Ok(container) => said::inspected(&id, container),
            Err(ClientError::Api { source, .. }) if is_not_found(&source) => Inspected::Gone,
            Err(error) => Inspected::Failed(crate::chain(&error)),
        };
        (id, inspected)
    }

    /// Docker's events from a moment ago on, for as long as the connection lasts.
    pub(super) fn events(
        &self,
    ) -> impl Stream<Item = Result<Option<Happening>, ClientError>> + use<> {
        let (host, driver) = (self.host.clone(), self.driver.clone());
        // Boxed by the client: it may be dropped at any time.
        self.docker.events(Some(event_options())).map(move |event| match event {
            Ok(event) => Ok(said::happening(&driver, event)),
            Err(source) => Err(ClientError::Api {
                host: host.clone(),
                what: "follow the events",
                source: source.into(),
            }),
        })
    }

    async fn ask<T>(
        &self,
        what: &'static str,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ClientError> {
        self.ask_within(ANSWER, what, answer).await
    }

    async fn ask_within<T>(
        &self,
        limit: Duration,
        what: &'static str,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ClientError> {
        let host = || self.host.clone();
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(ClientError::Api { host: host(), what, source: source.into() }),
            Err(_) => Err(ClientError::Silent { host: host(), what, limit }),
        }
    }
}

/// Those events that [`said::happening`] reads, from a moment ago on.
fn event_options() -> EventsOptions {
    let actions =
        ["create", "connect", "disconnect", "remove", "start", "rename", "die", "destroy"];
    let filters =
        HashMap::from([("type", vec!["container", "network"]), ("event", actions.to_vec())]);
    let options = EventsOptionsBuilder::default();
    options.since(&moment_ago()).filters(&filters).build()
}

/// Seconds since 1970, as Docker takes them.
#[expect(clippy::disallowed_methods, reason = "a shell: Docker wants the time of day")]
fn moment_ago() -> String {
    let now = SystemTime::now();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(OVERLAP).as_secs().to_string()
}

fn is_not_found(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code: 404, .. })
}
