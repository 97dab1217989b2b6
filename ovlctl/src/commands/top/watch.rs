//! Asks the agent again and again.
use std::time::Duration;

use ovl_agent::control::api::Endpoint;
use ovl_agent::control::api::paths::{INTERVAL_MIN_MS, Ping, PingHosts};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::model::Sample;
use crate::client::{Client, path};
use crate::error::Error;

/// Between two round trips to every host.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How long endpoints count as known: in a large cluster they are the most of a reading.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(5);

/// News that wait for the screen; who has more waits with it.
const NEWS_MAX: usize = 2;

/// What came of asking.
pub(super) enum News {
    Sample(Box<Sample>),
    Pings(Vec<Ping>),
    /// The agent does not answer; a sentence.
    Away(String),
}

/// Ends when it is dropped.
pub(super) struct Watch {
    news: mpsc::Receiver<News>,
    _tasks: JoinSet<()>,
}

impl Watch {
    pub(super) fn start(client: &Client, every: Duration) -> Watch {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(samples(client.clone(), every, sender.clone()));
        tasks.spawn(round_trips(client.clone(), sender));
        Watch { news, _tasks: tasks }
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

async fn samples(client: Client, every: Duration, news: mpsc::Sender<News>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Option<Vec<Endpoint>> = None;
    let mut age = Duration::ZERO;
    loop {
        ticks.tick().await;
        let told = match sample(&client, known.take()).await {
            Ok(sample) => {
                age += every;
                known = (age < ENDPOINTS_EVERY).then(|| sample.endpoints.clone());
                if known.is_none() {
                    age = Duration::ZERO;
                }
                News::Sample(Box::new(sample))
            }
            Err(error) => News::Away(error.to_string()),
        };
        if news.send(told).await.is_err() {
            return;
        }
    }
}

async fn round_trips(client: Client, news: mpsc::Sender<News>) {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Not every user may ping, and whether the agent answers shows by the samples.
        let pings = pings(&client).await.unwrap_or_default();
        if news.send(News::Pings(pings)).await.is_err() {
            return;
        }
    }
}

/// One reading, of several questions at once. Endpoints that are known are not asked for.
pub(super) async fn sample(client: &Client, known: Option<Vec<Endpoint>>) -> Result<Sample, Error> {
    let paths =
        ["status", "members", "networks", "endpoints", "counters"].map(|name| path(&[name]));
    let [status, members, networks, endpoints, counters] = &paths;
    let endpoints = async {
        match known {
            Some(known) => Ok(known),
            None => client.get(endpoints).await,
        }
    };
    let (status, members, networks, endpoints, counters) = tokio::join!(
        client.get(status),
        client.get(members),
        client.get(networks),
        endpoints,
        client.get(counters),
    );
    Ok(Sample {
        status: status?,
        members: members?,
        networks: networks?,
        endpoints: endpoints?,
        counters: counters.map_err(|error: Error| error.to_string()),
    })
}

/// Round trips from the agent's host to all others.
pub(super) async fn pings(client: &Client) -> Result<Vec<Ping>, Error> {
    let wanted =
        PingHosts { hosts: Vec::new(), count: 1, interval_ms: INTERVAL_MIN_MS, size: None };
    client.post(&path(&["ping"]), &wanted).await
}
