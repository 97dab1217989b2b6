//! The other host's part: what its agent sees of its end, and its watch over probes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{End, Seen};
use super::gather::{self, Toward};
use super::run;
use super::select::name;
use super::watch::{Places, Report, Wanted, Watch};
use crate::chain;
use crate::control::api::encoded;
use crate::control::api::trace::{Trace, TraceWay};
use crate::core::Refusal;
use crate::core::trace::{Ends, Known, Place, Question};
use crate::driver::Agent;

/// How long another agent is waited for: for what it looks up, and for a whole trace.
const ASK_WITHIN: Duration = Duration::from_secs(4);
const TRACE_WITHIN: Duration = Duration::from_secs(15);

/// How long a watch for another agent lasts, at most.
const WATCH_FOR: Duration = Duration::from_secs(5);

/// How long after that its report is kept for whoever began it.
const REPORT_FOR: Duration = Duration::from_secs(10);

/// Watches at one time; one more is refused.
pub(crate) const WATCHES_MAX: usize = 8;

/// Reports that are kept for who began them; of more, the next watch is refused.
const REPORTS_MAX: usize = 64;

/// Asks for one end: the query of `GET /v1/trace/end`, as other agents ask it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskEnd {
    /// The network's name.
    network: String,
    /// The endpoint's id.
    id: String,
    /// Of the other end.
    address: IpAddr,
    mac: String,
    vtep: std::net::Ipv4Addr,
}

/// Asks to watch: `POST /v1/watch`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskWatch {
    end: AskEnd,
    wanted: Wanted,
}

impl AskWatch {
    /// It is for what probes from the other end to this endpoint, and their answers, look like: no other
    /// traffic can be counted by it.
    fn is_of_probes(&self, own: &Known) -> bool {
        let Wanted { from, to, destination_port, .. } = self.wanted;
        let to_own = to == IpAddr::V4(own.ipv4) || own.ipv6.is_some_and(|ipv6| to == ipv6);
        from == self.end.address && to_own && destination_port == run::UDP_PORT
    }
}

/// A watch that has begun.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) id: u64,
}

/// Has the agent of the host where a way begins follow it.
pub(super) async fn relay(
    agent: &Agent,
    from: &Known,
    wanted: &TraceWay,
) -> Result<Trace, Refusal> {
    let wanted = TraceWay {
        from: from.ipv4.to_string(),
        network: Some(from.network.name.clone()),
        relayed: true,
        ..wanted.clone()
    };
    let trace = agent.peer_post(&from.host, "/v1/trace", &wanted, TRACE_WITHIN).await;
    trace.map_err(|error| {
        let mut refusal = Refusal::from(error);
        refusal.message = format!(
            "the way begins at {} on host {}, whose agent has to follow it: {}; the way from {} to {} can be followed from the other end",
            name(from), from.host, refusal.message, wanted.to, name(from)
        );
        refusal
    })
}

/// What the agent of the other host sees of its end.
pub(super) async fn end(agent: &Agent, to: &Known, back: &Toward) -> Seen<End> {
    let Some(ask) = ask(to, back) else {
        return Err("its host is not known".to_owned());
    };
    let end: Result<End, _> = agent.peer_get(&to.host, &ask.target(), ASK_WITHIN).await;
    // Whose it is, is known here; the rest is its own words.
    end.map(|end| End { host: to.host.clone(), ..end }).map_err(|error| chain(&error))
}

impl AskEnd {
    fn target(&self) -> String {
        let AskEnd { network, id, address, mac, vtep } = self;
        let (network, id) = (encoded(network), encoded(id));
        // Neither addresses nor MACs hold what has a meaning in a query.
        format!("/v1/trace/end?network={network}&id={id}&address={address}&mac={mac}&vtep={vtep}")
    }
}

fn ask(to: &Known, back: &Toward) -> Option<AskEnd> {
    Some(AskEnd {
        network: to.network.name.clone(),
        id: to.id.clone(),
        address: back.address,
        mac: back.mac.to_string(),
        vtep: back.vtep?,
    })
}

/// Has the agent of the other host watch for probes.
pub(super) async fn begin_watch(
    agent: &Agent,
    to: &Known,
    back: &Toward,
    wanted: &Wanted,
) -> Seen<u64> {
    let Some(end) = ask(to, back) else {
        return Err("its host is not known".to_owned());
    };
    let ask = AskWatch { end, wanted: *wanted };
    let begun: Result<Begun, _> = agent.peer_post(&to.host, "/v1/watch", &ask, ASK_WITHIN).await;
    begun.map(|begun| begun.id).map_err(|error| chain(&error))
}

/// What it has seen; the watch ends.
pub(super) async fn end_watch(agent: &Agent, to: &Known, id: u64) -> Seen<Report> {
    let target = format!("/v1/watch/{id}");
    let report = agent.peer_post(&to.host, &target, &(), ASK_WITHIN).await;
    report.map_err(|error| chain(&error))
}

/// Answers [`AskEnd`].
///
/// # Errors
/// There is no such network; the agent is stopping.
pub(crate) async fn look(agent: &Agent, ask: &AskEnd) -> Result<End, Refusal> {
    let toward = toward(ask)?;
    let ends = run::ends(agent, question(ask)).await?;
    Ok(gather::end(&ends, own(&ends, &ask.id), &toward).await)
}

fn question(ask: &AskEnd) -> Question {
    Question {
        from: ask.id.clone(),
        to: ask.address.to_string(),
        network: Some(ask.network.clone()),
    }
}

fn toward(ask: &AskEnd) -> Result<Toward, Refusal> {
    let mac = ask.mac.parse().map_err(|error| Refusal::invalid(format!("{error}")))?;
    Ok(Toward { address: ask.address, mac, vtep: Some(ask.vtep) })
}

fn own<'a>(ends: &'a Ends, id: &str) -> Option<&'a Known> {
    ends.from.iter().find(|known| known.id == id && matches!(known.place, Place::Here(_)))
}

/// Watches for other agents.
#[derive(Clone, Default)]
pub(crate) struct Watches(Arc<Mutex<Begins>>);

#[derive(Default)]
struct Begins {
    kept: BTreeMap<u64, Kept>,
}

impl Begins {
    fn is_full(&self) -> bool {
        let watching = self.kept.values().filter(|kept| matches!(kept, Kept::Watching(_)));
        watching.count() >= WATCHES_MAX || self.kept.len() >= WATCHES_MAX + REPORTS_MAX
    }
}

enum Kept {
    Watching(Watch),
    Ended(Report),
}

impl Watches {
    /// Answers [`AskWatch`].
    ///
    /// # Errors
    /// As [`look`]; also when there are too many.
    pub(crate) async fn begin(&self, agent: &Agent, ask: &AskWatch) -> Result<Begun, Refusal> {
        if self.lock().is_full() {
            return Err(too_many());
        }
        let toward = toward(&ask.end)?;
        let ends = run::ends(agent, question(&ask.end)).await?;
        let own = own(&ends, &ask.end.id);
        if !own.is_some_and(|own| ask.is_of_probes(own)) {
            return Err(Refusal::invalid("watched are probes from FROM to TO, and nothing else"));
        }
        let end = gather::end(&ends, own, &toward).await;
        let watch = Watch::begin(ask.wanted, Places::of(&end), true).await;
        let id = self.keep(watch)?;
        let watches = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WATCH_FOR).await;
            watches.stop(id);
            tokio::time::sleep(REPORT_FOR).await;
            watches.lock().kept.remove(&id);
        });
        Ok(Begun { id })
    }

    /// Ends a watch, and says what it saw.
    ///
    /// # Errors
    /// There is none of this number (any more).
    pub(crate) fn end(&self, id: u64) -> Result<Report, Refusal> {
        match self.lock().kept.remove(&id) {
            Some(Kept::Watching(watch)) => Ok(watch.report()),
            Some(Kept::Ended(report)) => Ok(report),
            None => Err(Refusal::not_found(format!("there is no watch {id} (any more)"))),
        }
    }

    fn keep(&self, watch: Watch) -> Result<u64, Refusal> {
        let mut begins = self.lock();
        if begins.is_full() {
            return Err(too_many());
        }
        // Not to be guessed: who has it may end it.
        let id = rand::random();
        begins.kept.insert(id, Kept::Watching(watch));
        Ok(id)
    }

    fn stop(&self, id: u64) {
        if let Some(kept) = self.lock().kept.get_mut(&id)
            && let Kept::Watching(watch) = kept
        {
            *kept = Kept::Ended(watch.report());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Begins> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many() -> Refusal {
    Refusal::unavailable(format!(
        "{WATCHES_MAX} traces are watched for here; try again in some seconds"
    ))
}
