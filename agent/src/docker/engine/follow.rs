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
use super::said::{Inspected, Listing};
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

/// Follows `host` until the receiver of `events` is dropped.
pub(super) async fn run(host: String, driver: String, events: mpsc::Sender<EngineEvent>) {
    let mut tracker = Tracker::new();
    let mut pause = RETRY_MIN;
    loop {
        let mut session = Session::new(&mut tracker, &events);
        let Err(ended) = session.run(&host, &driver).await;
        if session.connected {
            pause = RETRY_MIN;
        }
        let Ended::Lost(why) = ended else { return };
        tracing::debug!(why, ?pause, "docker is not there");
        tracker.handle_lost(why);
        if idle(&mut tracker, &events, pause).await.is_err() {
            return;
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Tells what is still to be told, and waits at least for `pause`.
async fn idle(
    tracker: &mut Tracker,
    events: &mpsc::Sender<EngineEvent>,
    pause: Duration,
) -> Result<(), mpsc::error::SendError<()>> {
    let until = Instant::now() + pause;
    while tracker.has_event() {
        let place = events.reserve().await?;
        if let Some(event) = tracker.poll_event() {
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
    tracker: &'a mut Tracker,
    events: &'a mpsc::Sender<EngineEvent>,
    inspects: JoinSet<(String, Inspected)>,
    /// At most one.
    listings: JoinSet<Result<Listing, ClientError>>,
    connected: bool,
}

impl<'a> Session<'a> {
    fn new(tracker: &'a mut Tracker, events: &'a mpsc::Sender<EngineEvent>) -> Self {
        Self {
            tracker,
            events,
            inspects: JoinSet::new(),
            listings: JoinSet::new(),
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
            let due = self.tracker.poll_timeout().map(Instant::from_std);
            tokio::select! {
                happening = happenings.next() => match happening {
                    Some(Ok(Some(it))) => self.tracker.handle_happening(it, now()),
                    Some(Ok(None)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(Ended::Lost(format!("docker host {host:?}: it ended its events"))),
                },
                Some(listing) = self.listings.join_next() => self.take_listing(listing)?,
                Some(inspected) = self.inspects.join_next() => self.take_inspected(inspected)?,
                place = self.events.reserve(), if self.tracker.has_event() => {
                    let place = place.map_err(|_| Ended::Unheard)?;
                    if let Some(event) = self.tracker.poll_event() {
                        place.send(event);
                    }
                }
                () = self.events.closed() => return Err(Ended::Unheard),
                _ = audit.tick() => self.start_listing(&client),
                () = sleep_until(due), if due.is_some() => {}
            }
        }
    }

    fn start_inspects(&mut self, client: &Client) {
        while let Some(id) = self.tracker.poll_inspect(now()) {
            self.inspects.spawn(client.clone().inspect(id));
        }
    }

    fn start_listing(&mut self, client: &Client) {
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
        self.tracker.handle_listing(listing?, now());
        self.connected = true;
        Ok(())
    }

    fn take_inspected(
        &mut self,
        inspected: Result<(String, Inspected), tokio::task::JoinError>,
    ) -> Result<(), Ended> {
        // A new session asks again for what a broken task has lost.
        let (id, inspected) =
            inspected.map_err(|fault| Ended::Lost(format!("inspecting a container: {fault}")))?;
        self.tracker.handle_inspected(&id, inspected, now());
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
