//! Pings, the ways to other hosts, and the clock: what hosts measure of each other.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::StreamExt as _;
use ovl_gossip::{Member, MemberState};

use super::access::Asker;
use super::turns::Turns;
use super::{PathOf, part};
use crate::control::api::paths::{
    AT_ONCE, Clock, INTERVAL_MAX_MS, INTERVAL_MIN_MS, LookAtPath, Path, Ping, PingHosts, Seen,
};
use crate::core::Refusal;
use crate::driver::Agent;
use crate::probe::paths;

/// Who pings all hosts has the others wait, as one question makes many packets: one user of this host at a
/// time, and one other host.
static TURN: Turns = Turns::new(1, 1, 1);

/// How long.
const TURN_WITHIN: Duration = Duration::from_secs(4);

pub(super) fn routes() -> Router<Agent> {
    Router::new()
        .route("/v1/ping", post(ping))
        .route("/v1/paths", post(look))
        .route("/v1/probes/{nonce}", get(seen))
        .route("/v1/clock", get(clock))
}

async fn ping(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<PingHosts>, JsonRejection>,
) -> Result<Json<Vec<Ping>>, Refusal> {
    let Json(wanted) = body.map_err(|e| Refusal::invalid(e.body_text()))?;
    let intervals = INTERVAL_MIN_MS..=INTERVAL_MAX_MS;
    if !(1..=20).contains(&wanted.count) || !intervals.contains(&wanted.interval_ms) {
        return Err(Refusal::invalid("1 to 20 probes, with 20 to 1000 ms between them"));
    }
    if wanted.size.is_some_and(|size| !(20..=9000).contains(&size)) {
        return Err(Refusal::invalid("a probe's packet has 20 to 9000 bytes"));
    }
    let peers = agent.peers();
    let hosts: Vec<Member> = match wanted.hosts.as_slice() {
        [] => peers.gossip.members().into_iter().filter(is_there).collect(),
        // Each once, and so no more than there are members.
        names => {
            let names: BTreeSet<&String> = names.iter().collect();
            names.into_iter().map(|name| peers.find(name)).collect::<Result<_, _>>()?
        }
    };
    let (interval, packet) =
        (Duration::from_millis(wanted.interval_ms.into()), wanted.size.unwrap_or_default());
    let Some(_turn) = TURN.take(&asker, TURN_WITHIN).await else {
        return Err(Refusal::unavailable(
            "this host pings for somebody else; try again in a moment",
        ));
    };
    let pings = hosts.into_iter().map(|Member { name, address, state }| {
        let prober = agent.prober();
        async move {
            let (underlay, vxlan) =
                paths::ping(peers, prober, address, wanted.count, interval, packet).await;
            Ping { host: name.to_string(), address: *address.ip(), state, underlay, vxlan }
        }
    });
    let pings = futures::stream::iter(pings).buffered(AT_ONCE).collect().await;
    Ok(Json(pings))
}

fn is_there(member: &Member) -> bool {
    matches!(member.state, MemberState::Alive | MemberState::Suspect)
}

async fn look(
    State(agent): State<Agent>,
    body: Result<Json<LookAtPath>, JsonRejection>,
) -> Result<Json<Path>, Refusal> {
    let Json(LookAtPath { to }) = body.map_err(|e| Refusal::invalid(e.body_text()))?;
    let member = agent.peers().find(&to)?;
    Ok(Json(paths::look(agent.peers(), agent.prober(), member.address).await))
}

async fn seen(State(agent): State<Agent>, path: PathOf<String>) -> Result<Json<Seen>, Refusal> {
    let nonce = u64::from_str_radix(&part(path)?, 16);
    let nonce = nonce.map_err(|_| Refusal::invalid("a nonce is a hexadecimal number"))?;
    Ok(Json(Seen { seen: agent.prober().seen(nonce) }))
}

async fn clock() -> Json<Clock> {
    Json(Clock { unix_us: now_us() })
}

#[expect(clippy::disallowed_methods, reason = "what it says is what is asked for")]
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
