//! The other hosts, and the ways to and from each: what is sent is sent for real, and its answer awaited.
//!
//! This agent looks at the way to each host, and asks the agent there to look at the way back: both
//! send what is new to the other's packet filter. `judge` is pure; `told` puts alike findings of several
//! hosts into one.

mod judge;
mod told;

use std::time::Duration;

use axum::http::StatusCode;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use ovl_gossip::{AskError, Member, MemberState};

use self::judge::{Facts, NoAnswer};
use super::subject::Host;
use super::{Check, Group, Look, firewall, net};
use crate::control::api::doctor::{Examination, Finding, Verdict};
use crate::control::api::paths::{Clock, LookAtPath, Path, Seen};
use crate::control::paths::now_us;
use crate::driver::Agent;
use crate::peers::PeerError;
use crate::probe::paths;
use crate::underlay;

/// Hosts that are looked at together.
const AT_ONCE: usize = 32;
/// How long all hosts together may take.
const GATHER_WITHIN: Duration = Duration::from_secs(19);
/// Hosts that are named of those for which there was no time.
const NAMED_MAX: usize = 10;
/// How long the agent of another host may take for what it can say at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// A thousand years, in microseconds.
const OFF_MAX_US: i128 = 1000 * 365 * 86_400 * 1_000_000;
/// How long for what it has to measure.
const MEASURE_WITHIN: Duration = Duration::from_secs(12);

const CHECKS: [Check; 7] = [
    Check {
        id: "peer.agent",
        title: "agents of other hosts",
        looks_at: "whether the agent of each other host answers a question over TCP",
        why: "an agent that is down, frozen or cut off follows no change, and its names go",
    },
    Check {
        id: "peer.clock",
        title: "clocks",
        looks_at: "the difference between this host's clock and those of the others",
        why: "logs and events of hosts cannot be put in order, certificates and tokens fail",
    },
    Check {
        id: "peer.tcp",
        title: "TCP between gossip ports",
        looks_at: "a connection to each other host's gossip port, and one from there to ours",
        why: "a host that joins, or missed something, gets the cluster's state by TCP",
    },
    Check {
        id: "peer.udp",
        title: "UDP between gossip ports",
        looks_at: "an echo from each other host's gossip port, and one from ours to there",
        why: "without it hosts take each other for down, and changes spread slowly",
    },
    Check {
        id: "peer.vxlan",
        title: "VXLAN between hosts",
        looks_at: "frames through the VXLAN devices of this host and each other one, both ways",
        why: "all that containers send to other hosts goes this way",
    },
    Check {
        id: "peer.loss",
        title: "packets lost between hosts",
        looks_at: "how many of 20 small frames through VXLAN come back from each other host, and of as many \
                   echoes by UDP where some do not",
        why: "a way that loses some packets works, slowly, and nobody finds out why",
    },
    Check {
        id: "peer.mtu",
        title: "size of packets between hosts",
        looks_at: "whether VXLAN takes a packet of the network's full size to each other host and back",
        why: "small packets pass, and transfers hang: the fault that is looked for longest",
    },
];

pub(super) const GROUP: Group =
    Group { checks: &CHECKS, within: Duration::from_secs(22), look: Look::Agent(look) };

fn look(host: Host, agent: Agent) -> BoxFuture<'static, Vec<Finding>> {
    Box::pin(async move {
        let mut others = agent.peers().gossip.members();
        // Who is gone is asked last: it takes the longest, and there may be many.
        others.sort_by_key(|member| {
            !matches!(member.state, MemberState::Alive | MemberState::Suspect)
        });
        let until = host.until(GATHER_WITHIN);
        if others.is_empty() {
            let alone = "this host knows no other host of the cluster";
            return CHECKS.iter().map(|check| Finding::ok(check.id, alone)).collect();
        }
        let names: Vec<String> = others.iter().map(|member| member.name.to_string()).collect();
        let facts = futures::stream::iter(others)
            .map(|member| gather(&agent, member))
            .buffer_unordered(AT_ONCE)
            // What is known by then is told.
            .take_until(tokio::time::sleep_until(until))
            .collect::<Vec<Facts>>();
        let own_filter = tokio::time::timeout_at(until, own_filter(&host, &agent));
        let (own_filter, facts) = tokio::join!(own_filter, facts);
        let own_filter = own_filter.unwrap_or_default();
        let mut said = judge::all(&facts, &own_filter);
        if underlay::fault(agent.peers().vtep).await.is_some() {
            judge::refer(&mut said, net::UNDERLAY);
        }
        let mut findings = told::told(said);
        let late = names.iter().filter(|name| !facts.iter().any(|known| known.name == **name));
        let late: Vec<&str> = late.map(String::as_str).collect();
        if !late.is_empty() {
            let why = format!("there was no time left for {} hosts", late.len());
            let named = late.iter().take(NAMED_MAX).map(|name| (*name).to_owned());
            findings.push(Finding::unchecked("peer.agent", why).all_seen(named));
        }
        findings
    })
}

/// What this host's own packet filter does to others' packets, as far as that is told anyway.
async fn own_filter(host: &Host, agent: &Agent) -> Vec<Finding> {
    let told = |id: &str| host.only.wants(id);
    if !told("firewall.gossip") && !told("firewall.vxlan") {
        return Vec::new();
    }
    let mut findings = firewall::look(host.clone(), agent.config()).await;
    findings.retain(|finding| told(&finding.check));
    findings
}

async fn gather(agent: &Agent, member: Member) -> Facts {
    let name = member.name.to_string();
    let me = agent.peers().node.to_string();
    let (clock, way, loss) = tokio::join!(
        clock(agent, &name),
        paths::look(agent.peers(), agent.prober(), member.address),
        paths::loss(agent.peers(), agent.prober(), member.address)
    );
    let mut facts = Facts {
        name: name.clone(),
        address: member.address,
        has_left: member.state == MemberState::Left,
        clock,
        back: Err("its agent was not asked".into()),
        arrived: None,
        came: 0,
        their_filter: Vec::new(),
        way,
        loss,
        way_out: None,
    };
    // Its agent answered by another way: what refuses is no closed port.
    if facts.clock == Err(NoAnswer::NoAgent)
        && (facts.way.udp.is_answered() || facts.way.vxlan.is_answered())
    {
        facts.clock =
            Err(NoAnswer::NoConnection("its host refuses TCP, and its agent answers".into()));
    }
    if facts.clock.is_err() {
        facts.way_out = underlay::way_out(agent.peers().vtep, *member.address.ip()).await;
        return facts;
    }
    let ask = LookAtPath { to: me };
    let back = agent.peer_post::<_, Path>(&name, "/v1/paths", &ask, MEASURE_WITHIN).await;
    facts.back = back.map_err(|error| crate::chain(&error));
    let nonce = format!("/v1/probes/{}", facts.way.nonce);
    let arrived = agent.peer_get::<Seen>(&name, &nonce, ANSWER_WITHIN).await;
    facts.arrived = arrived.ok().map(|seen| seen.seen);
    if let Ok(back) = &facts.back {
        let nonce = u64::from_str_radix(&back.nonce, 16).unwrap_or_default();
        facts.came = agent.prober().seen(nonce);
    }
    if judge::is_blocked(&facts) {
        let their =
            agent.peer_get::<Examination>(&name, "/v1/doctor?only=firewall", MEASURE_WITHIN).await;
        let findings = their.map(|their| their.findings).unwrap_or_default();
        facts.their_filter =
            findings.into_iter().filter(|f| f.verdict > Verdict::Unchecked).collect();
    }
    facts
}

/// How far its clock is ahead of ours, in microseconds, within half the round trip.
async fn clock(agent: &Agent, name: &str) -> Result<judge::Offset, NoAnswer> {
    let before = now_us();
    match agent.peer_get::<Clock>(name, "/v1/clock", ANSWER_WITHIN).await {
        Ok(Clock { unix_us }) => {
            let after = now_us();
            let middle = before / 2 + after / 2;
            // What another host says is bounded: no clock is a thousand years off.
            let ahead_us = i128::from(unix_us) - i128::from(middle);
            let ahead_us = ahead_us.clamp(-OFF_MAX_US, OFF_MAX_US);
            let within_us = after.saturating_sub(before) / 2;
            Ok(judge::Offset { ahead_us: i64::try_from(ahead_us).unwrap_or_default(), within_us })
        }
        Err(error) => Err(no_answer(&error)),
    }
}

fn no_answer(error: &PeerError) -> NoAnswer {
    let said = crate::chain(error);
    match error {
        PeerError::Unreached { source: AskError::Silent { .. }, .. } => NoAnswer::Frozen,
        PeerError::Unreached { source: AskError::Older { .. }, .. } => NoAnswer::Older,
        PeerError::Unreached { source: AskError::Connect { source, .. }, .. } => {
            match source.kind() {
                std::io::ErrorKind::ConnectionRefused => NoAnswer::NoAgent,
                _ => NoAnswer::NoConnection(said),
            }
        }
        PeerError::Refused { status, .. } if *status == StatusCode::NOT_IMPLEMENTED => {
            NoAnswer::Older
        }
        _ => NoAnswer::Other(said),
    }
}
