//! The loop that follows Docker: waits, asks, tells. It ends when nobody listens.
//!
//! Cancel-safety: the task may be dropped at any await; questions under way go with it.
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::EngineEvent;
use super::client::{Client, ClientError};
use super::network;
use super::networks::Networks;
use super::said::{Happening, Inspected, Listing};
use super::tracker::Tracker;

/// Pause before Docker is tried again, doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// Longest pause before Docker is tried again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How often containers are listed to find what no event told.
const AUDIT: Duration = Duration::from_secs(60);

/// Why a session ended.
enum Ended {
    /// Docker went: to be tried again.
    Lost(String),
    /// The receiver was dropped.
    Unheard,
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Lost(crate::chain(&error))
    }
}

/// What is known of Docker, and what of it is to be told: the network's part before the
/// containers' part, since those are of networks.
struct Known {
    tracker: Tracker,
    networks: Networks,
}

impl Known {
    fn handle_lost(&mut self, why: String) {
        self.tracker.handle_lost(why);
        self.networks.handle_lost();
    }

    fn handle_happening(&mut self, happening: Happening) {
        self.networks.handle_happening(&happening);
        self.tracker.handle_happening(happening, now());
    }

    fn has_event(&self) -> bool {
        if !self.tracker.is_connected() {
            return self.tracker.has_link();
        }
        let containers = self.networks.is_told() && self.tracker.has_event();
        self.tracker.has_link() || self.networks.has_networks() || containers
    }

    fn poll_event(&mut self) -> Option<EngineEvent> {
        if !self.tracker.is_connected() || self.tracker.has_link() {
            return self.tracker.poll_event();
        }
        let networks = self.networks.poll_networks().map(EngineEvent::Networks);
        match networks {
            None if self.networks.is_told() => self.tracker.poll_event(),
            networks => networks,
        }
    }
}

/// Follows `host` until the receiver of `events` is dropped.
pub(super) async fn run(host: String, driver: String, events: mpsc::Sender<EngineEvent>) {
    let mut known = Known { tracker: Tracker::new(), networks: Networks::new() };
    let mut pause = RETRY_MIN;
    loop {
        let mut session = Session::new(&mut known, &events);
        let Err(ended) = session.run(&host, &driver).await;
        if session.connected {
            pause = RETRY_MIN;
        }
        let Ended::Lost(why) = ended else { return };
        tracing::debug!(why, ?pause, "docker is not there");
        known.handle_lost(why);
        if idle(&mut known, &events, pause).await.is_err() {
            return;
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Tells what is still to be told, and waits at least for `pause`.
async fn idle(
    known: &mut Known,
    events: &mpsc::Sender<EngineEvent>,
    pause: Duration,
) -> Result<(), mpsc::error::SendError<()>> {
    let until = Instant::now() + pause;
    while known.has_event() {
        let place = events.reserve().await?;
        if let Some(event) = known.poll_event() {
            place.send(event);
        }
    }
    tokio::select! {
        () = events.closed() => Err(mpsc::error::SendError(())),
        () = tokio::time::sleep_until(until) => Ok(()),
    }
}

/// One connection to Docker, from the first listing to the end of its events.
struct Session<'a> {
    known: &'a mut Known,
    events: &'a mpsc::Sender<EngineEvent>,
    inspects: JoinSet<(String, Inspected)>,
    /// At most one.
    listings: JoinSet<Result<Listing, ClientError>>,
    /// At most one.
    network_listings: JoinSet<Result<network::Networks, ClientError>>,
    connected: bool,
}

impl<'a> Session<'a> {
    fn new(known: &'a mut Known, events: &'a mpsc::Sender<EngineEvent>) -> Self {
        Self {
            known,
            events,
            inspects: JoinSet::new(),
            listings: JoinSet::new(),
            network_listings: JoinSet::new(),
            connected: false,
        }
    }

    async fn run(&mut self, host: &str, driver: &str) -> Result<Infallible, Ended> {
        let client = Client::new(host, driver)?;
        let mut happenings = pin!(client.events());
        let mut audit = tokio::time::interval(AUDIT);
        audit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_inspects(&client);
            self.start_network_listing(&client);
            let due = self.known.tracker.poll_timeout().map(Instant::from_std);
            tokio::select! {
                happening = happenings.next() => match happening {
                    Some(Ok(Some(it))) => self.known.handle_happening(it),
                    Some(Ok(None)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(Ended::Lost(format!("docker host {host:?}: it ended its events"))),
                },
                Some(listing) = self.listings.join_next() => self.take_listing(listing)?,
                Some(listed) = self.network_listings.join_next() => self.take_networks(listed)?,
                Some(inspected) = self.inspects.join_next() => self.take_inspected(inspected)?,
                place = self.events.reserve(), if self.known.has_event() => {
                    let place = place.map_err(|_| Ended::Unheard)?;
                    if let Some(event) = self.known.poll_event() {
                        place.send(event);
                    }
                }
                () = self.events.closed() => return Err(Ended::Unheard),
                _ = audit.tick() => self.audit(&client),
                () = sleep_until(due), if due.is_some() => {}
            }
        }
    }

    fn start_inspects(&mut self, client: &Client) {
        while let Some(id) = self.known.tracker.poll_inspect(now()) {
            self.inspects.spawn(client.clone().inspect(id));
        }
    }

    fn start_network_listing(&mut self, client: &Client) {
        if self.known.networks.poll_list() {
            self.network_listings.spawn(client.clone().networks());
        }
    }

    fn audit(&mut self, client: &Client) {
        self.known.networks.handle_audit();
        if self.listings.is_empty() {
            self.listings.spawn(client.clone().list());
        }
    }

    fn take_listing(
        &mut self,
        listing: Result<Result<Listing, ClientError>, tokio::task::JoinError>,
    ) -> Result<(), Ended> {
        let listing =
            listing.map_err(|fault| Ended::Lost(format!("listing containers: {fault}")))?;
        self.known.tracker.handle_listing(listing?, now());
        self.connected = true;
        Ok(())
    }

    fn take_networks(
        &mut self,
        listed: Result<Result<network::Networks, ClientError>, tokio::task::JoinError>,
    ) -> Result<(), Ended> {
        let listed = listed.map_err(|fault| Ended::Lost(format!("listing networks: {fault}")))?;
        self.known.networks.handle_listed(listed?);
        Ok(())
    }

    fn take_inspected(
        &mut self,
        inspected: Result<(String, Inspected), tokio::task::JoinError>,
    ) -> Result<(), Ended> {
        // A new session asks again for what a broken task has lost.
        let (id, inspected) =
            inspected.map_err(|fault| Ended::Lost(format!("inspecting a container: {fault}")))?;
        self.known.tracker.handle_inspected(&id, inspected, now());
        Ok(())
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}
