//! `GET /metrics` for Prometheus, on a TCP port of its own, and nothing else there.
//!
//! Whoever reaches the port may read: figures, names of networks, the version. So it is off unless a
//! configuration names an address. An address that cannot be bound, yet or any more, is tried again, and
//! stands among the problems: the agent's own work does not depend on it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ovl_vxlan::{LinkCounters, link_counters};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::{CONTENT_TYPE, Everything, Process, text};
use crate::core::{Event, Refusal, Request, Response as Answer};
use crate::driver::Agent;
use crate::unix_socket::Limited;

/// Connections at a time; further ones wait in the kernel's queue until one ends.
const CONNECTIONS_MAX: usize = 16;

/// A connection ends after this long: a scraper that is slower is gone.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);

/// How long the core may take: a scraper waits ten seconds by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Between two tries to bind an address.
const RETRY: Duration = Duration::from_secs(5);

/// Where metrics are served; none: nowhere.
#[derive(Debug)]
pub(crate) struct Metrics {
    address: watch::Sender<Option<SocketAddr>>,
}

impl Metrics {
    /// Nowhere yet, or at that address; and what [`follow`] follows.
    pub(crate) fn at(
        address: Option<SocketAddr>,
    ) -> (Metrics, watch::Receiver<Option<SocketAddr>>) {
        let (address, followed) = watch::channel(address);
        (Metrics { address }, followed)
    }

    /// There from now on.
    pub(crate) fn move_to(&self, address: Option<SocketAddr>) {
        self.address.send_replace(address);
    }
}

/// Serves at the address, and moves with it, until its sender is gone. What keeps it from serving is told
/// as [`Event::MetricsHealth`].
pub(crate) async fn follow(
    agent: Agent,
    mut address: watch::Receiver<Option<SocketAddr>>,
    events: mpsc::Sender<Event>,
) {
    let mut failing = false;
    // What devices had counted before is of an earlier run.
    if let Some(devices) = devices().await {
        agent.instruments().tally(&devices);
    }
    loop {
        let at = *address.borrow_and_update();
        let bound = match at {
            Some(at) => Some(TcpListener::bind(at).await.map_err(|error| cannot(at, &error))),
            None => None,
        };
        let health = bound.as_ref().and_then(|bound| bound.as_ref().err()).cloned();
        if health.is_some() || failing {
            failing = health.is_some();
            if events.send(Event::MetricsHealth(health)).await.is_err() {
                return;
            }
        }
        let moved = match bound {
            Some(Ok(listener)) => {
                tracing::info!(address = ?listener.local_addr().ok(), "serving metrics");
                serve(listener, agent.clone(), &mut address).await
            }
            Some(Err(_)) => tokio::select! {
                moved = address.changed() => moved,
                () = tokio::time::sleep(RETRY) => Ok(()),
            },
            None => address.changed().await,
        };
        if moved.is_err() {
            return;
        }
    }
}

fn cannot(at: SocketAddr, error: &std::io::Error) -> String {
    format!(
        "metrics are not served at {at}: {error}; set metrics-address to an address of this host and a port that is free"
    )
}

/// Until the address changes, or nobody changes it any more.
async fn serve(
    listener: TcpListener,
    agent: Agent,
    address: &mut watch::Receiver<Option<SocketAddr>>,
) -> Result<(), watch::error::RecvError> {
    let limited = Limited::new(listener, CONNECTIONS_MAX).ending_after(CONNECTION_WITHIN);
    let server = axum::serve(limited, router(agent));
    tokio::select! {
        moved = address.changed() => moved,
        // It ends with its connections only when it is told to.
        _ended = server.into_future() => Ok(()),
    }
}

fn router(agent: Agent) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "metrics are at /metrics\n") })
        .with_state(agent)
}

async fn metrics(State(agent): State<Agent>) -> Response {
    match gather(&agent).await {
        Ok(text) => ([(CONTENT_TYPE_HEADER, CONTENT_TYPE)], text).into_response(),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, refusal.message + "\n").into_response(),
    }
}

/// Counters of all devices of ours; `None`: the kernel does not tell.
async fn devices() -> Option<Vec<LinkCounters>> {
    let read = link_counters(None).await;
    let read = read.inspect_err(|error| {
        tracing::debug!(error = crate::chain(error), "the devices' counters cannot be read");
    });
    read.ok()
}

/// All figures as text.
///
/// # Errors
/// The agent's core does not answer in time.
pub(crate) async fn gather(agent: &Agent) -> Result<String, Refusal> {
    let late = |_| Refusal::unavailable("the agent's core does not answer in time");
    let asked = tokio::time::timeout(ANSWER_WITHIN, agent.ask(Request::Figures));
    let (core, devices) = tokio::join!(asked, devices());
    let Answer::Figures(core) = core.map_err(late)?? else {
        return Err(Refusal::unavailable("the agent gave an answer to another question"));
    };
    let instruments = agent.instruments();
    let everything = Everything {
        core: *core,
        gossip: agent.peers().gossip.stats(),
        dns: agent.dns_figures(),
        events: agent.log().counts(),
        devices: devices.map(|devices| instruments.tally(&devices)),
        process: Process::read(agent.log().started()),
        captures: agent.captures().count(),
    };
    Ok(text(&everything, instruments))
}
