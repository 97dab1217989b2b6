//! Follows a way: asks the core, the kernel and the other host's agent, has it judged, sends probes.
//!
//! Every wait has a bound; all together they take some seconds at most.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::PoisonError;

use super::answer::answer;
use super::blame::Blamed;
use super::conclude::conclude;
use super::facts::End;
use super::gather::{self, Toward};
use super::hops::{At, Verdicts};
use super::judge::{self, Asked, Facts, Far, own_address};
use super::points::{Names, Outcome};
use super::probe::Volley;
use super::remote;
use super::resolver::{self, Looked, OwnLookup};
use super::select::{self, Target, Way, name};
use super::tried::Tried;
use super::watch::{Places, Report, Wanted, Watch};
use super::{arp, blame, filters};
use crate::control::api::trace::{ProbeKind, Trace, TraceWay};
use crate::core::trace::{Ends, Here, Known, Place, Question};
use crate::core::{Refusal, Request, Response};
use crate::dns::Resolution;
use crate::driver::Agent;

/// The destination of UDP probes: the first port of traceroute, which hardly any program listens at.
pub(super) const UDP_PORT: u16 = 33434;

/// Source ports of UDP probes, and numbers of echoes, are from here on.
const SOURCE_PORTS: std::ops::Range<u16> = 40_000..60_000;

/// Follows the way that is asked for.
///
/// # Errors
/// What is asked for is nobody, or more than one; or the agent of the host where the way begins does
/// not answer.
pub(crate) async fn follow(agent: &Agent, wanted: &TraceWay) -> Result<Trace, Refusal> {
    let question = Question {
        from: wanted.from.clone(),
        to: wanted.to.clone(),
        network: wanted.network.clone(),
    };
    let ends = ends(agent, question).await?;
    match select::way(&wanted.from, &wanted.to, &ends)? {
        Way::Elsewhere(from) if wanted.relayed => Err(Refusal::conflict(format!(
            "{} is on host {} and not on {}: the hosts have heard different things of it; try again in some seconds",
            name(&from),
            from.host,
            ends.node
        ))),
        Way::Elsewhere(from) => remote::relay(agent, &from, wanted).await,
        Way::Here { from, here, to } => {
            let facts = facts(agent, &ends, wanted, *from, &here, *to).await;
            Ok(traced(agent, wanted, &here, facts).await)
        }
    }
}

/// What this host's core knows of two ends.
pub(crate) async fn ends(agent: &Agent, question: Question) -> Result<Ends, Refusal> {
    match agent.ask(Request::TraceEnds(question)).await? {
        Response::TraceEnds(ends) => Ok(*ends),
        other => Err(Refusal::unavailable(format!(
            "the agent gave an answer to another question: {other:?}"
        ))),
    }
}

async fn facts(
    agent: &Agent,
    ends: &Ends,
    wanted: &TraceWay,
    from: Known,
    here: &Here,
    target: Target,
) -> Facts {
    let asked = asked(agent, ends, wanted, here, &from);
    let toward = toward(&from, &target);
    let (near, far) = match &target {
        Target::Endpoint { known, address, .. } => {
            let near = gather::end(ends, Some(&from), &toward);
            let far = far(agent, ends, &from, known, *address);
            tokio::join!(near, far)
        }
        Target::OtherNetwork(_) | Target::Nobody { .. } => {
            (gather::end(ends, Some(&from), &toward).await, Far::Nowhere)
        }
    };
    Facts { from, asked, target, near, far }
}

/// What DNS in the sandbox answers.
fn asked(agent: &Agent, ends: &Ends, wanted: &TraceWay, here: &Here, from: &Known) -> Asked {
    let is_address = wanted.to.parse::<IpAddr>().is_ok();
    let answer = (!is_address).then(|| resolved(agent, here, &wanted.to));
    let known = ends.from.iter().chain(&ends.to).map(|known| &known.network);
    let in_scope: BTreeMap<u64, &str> = known
        .chain([&from.network])
        .filter(|network| here.scope.contains(&network.id))
        .map(|network| (network.id, network.name.as_str()))
        .collect();
    Asked {
        text: wanted.to.clone(),
        answer,
        scope: in_scope.into_values().map(str::to_owned).collect(),
        siblings: ends.siblings.iter().map(|(mac, name)| (mac.to_string(), name.clone())).collect(),
    }
}

fn resolved(agent: &Agent, here: &Here, text: &str) -> Vec<IpAddr> {
    let names = agent.names().read().unwrap_or_else(PoisonError::into_inner);
    match names.resolve(Some(&here.scope), text) {
        Resolution::Found(addresses) => addresses,
        Resolution::NoSuchName | Resolution::NotOurs => Vec::new(),
    }
}

fn toward(from: &Known, target: &Target) -> Toward {
    match target {
        Target::Endpoint { known, address, .. } => Toward {
            address: *address,
            mac: known.mac,
            vtep: match &known.place {
                Place::There(there) => Some(there.vtep),
                Place::Here(_) => None,
            },
        },
        // Nothing is looked up for it.
        Target::OtherNetwork(_) | Target::Nobody { .. } => {
            Toward { address: from.ipv4.into(), mac: from.mac, vtep: None }
        }
    }
}

async fn far(agent: &Agent, ends: &Ends, from: &Known, to: &Known, address: IpAddr) -> Far {
    let own = own_address(from, address).unwrap_or(IpAddr::V4(from.ipv4));
    match &to.place {
        Place::Here(_) => {
            let back = Toward { address: own, mac: from.mac, vtep: None };
            Far::Same(Box::new(gather::end(ends, Some(to), &back).await))
        }
        Place::There(_) => {
            let back = Toward { address: own, mac: from.mac, vtep: Some(ends.vtep) };
            Far::Other(remote::end(agent, to, &back).await.map(Box::new))
        }
    }
}

/// Judges, sends, and concludes.
async fn traced(agent: &Agent, wanted: &TraceWay, here: &Here, facts: Facts) -> Trace {
    let mut verdicts = judge::hops(&facts);
    let mut tried = Tried::default();
    let unprobed = match volley(wanted, &facts, &verdicts) {
        Ok((volley, to)) => probe(agent, &facts, &to, &volley, &mut tried).await.err(),
        Err(why) => Some(why),
    };
    let (from, to) = (name(&facts.from).to_owned(), to_name(&facts));
    let interfaces = tried.interfaces();
    let far = match &facts.target {
        Target::Endpoint { known, .. } => known.host.as_str(),
        Target::OtherNetwork(_) | Target::Nobody { .. } => "",
    };
    let names = Names {
        from: &from,
        to: &to,
        near: &facts.near.host,
        far,
        interfaces: &interfaces,
        port: facts.near.port,
        mtu: facts.near.mtu.into(),
    };
    let outcomes = tried.outcomes(matches!(facts.far, Far::Same(_)));
    let lost = settle(&mut verdicts, &facts, &tried.near, &outcomes, &names);
    if let Some(own) = &tried.own {
        blame::settle_own(&mut verdicts, own, &facts.near, &names);
    }
    if let Some((looked, address)) = own_lookup(agent, wanted, here, &facts).await {
        resolver::settle(&mut verdicts, &looked, (&wanted.to, address), &facts.near, &names);
    }
    if let Some(lost) = lost
        && let Some(is_far) = filters::is_far(lost.spot)
        && let Some(finding) = filters::examine(agent, is_far.then_some(far)).await
        && let Some(judged) = verdicts.hop(lost.at)
    {
        filters::name(judged, &lost.place, if is_far { far } else { names.near }, finding);
    }
    let conclusion =
        conclude((&from, &to), &verdicts, &outcomes, unprobed.as_deref(), wanted.probe);
    answer(&facts, verdicts, conclusion, &outcomes, &names, unprobed, &tried)
}

/// Looks the name up as a program in FROM does, where one runs, and the agent itself answers that name.
async fn own_lookup(
    agent: &Agent,
    wanted: &TraceWay,
    here: &Here,
    facts: &Facts,
) -> Option<(Looked, IpAddr)> {
    let Target::Endpoint { address, .. } = &facts.target else {
        return None;
    };
    let is_answered = facts.asked.answer.as_ref().is_some_and(|answer| answer.contains(address));
    let inside = facts.near.inside.as_ref()?.as_ref().ok()?;
    let (pid, netns) = (inside.first_pid?, facts.near.held.as_ref()?.netns.clone()?);
    if !wanted.probe || !is_answered {
        return None;
    }
    let lookup = OwnLookup { netns, pid, name: wanted.to.clone(), address: *address };
    let looked = lookup.ask().await?;
    // A name that went meanwhile is no resolver's fault.
    let stays = resolved(agent, here, &wanted.to).contains(address);
    stays.then_some((looked, *address))
}

fn settle(
    verdicts: &mut Verdicts,
    facts: &Facts,
    near: &Report,
    outcomes: &[Outcome],
    names: &Names<'_>,
) -> Option<Blamed> {
    if let (Target::Endpoint { known, address, .. }, Some(outcome)) =
        (&facts.target, outcomes.iter().find(|outcome| outcome.kind == ProbeKind::Arp))
    {
        let answers = arp::Answers {
            macs: &near.macs,
            expected: &known.mac.to_string(),
            siblings: &facts.asked.siblings,
            address: *address,
        };
        arp::settle(verdicts, outcome, &answers, names);
    }
    blame::settle(verdicts, outcomes, names)
}

fn to_name(facts: &Facts) -> String {
    match &facts.target {
        Target::Endpoint { known, .. } => name(known).to_owned(),
        Target::OtherNetwork(_) | Target::Nobody { .. } => facts.asked.text.clone(),
    }
}

/// What to send; or why nothing, as a sentence.
fn volley(
    wanted: &TraceWay,
    facts: &Facts,
    verdicts: &Verdicts,
) -> Result<(Volley, Known), String> {
    if !wanted.probe {
        return Err("nothing was sent, as was asked for".to_owned());
    }
    let Target::Endpoint { known, address, .. } = &facts.target else {
        return Err("nothing was sent: there is nobody to send to".to_owned());
    };
    for at in [At::FromInterface, At::Device] {
        if let Some(judged) = verdicts.hops.iter().find(|judged| judged.at == at && !judged.is_ok())
            && !can_send(&facts.near)
        {
            return Err(format!("nothing was sent: {}", judged.hop.says));
        }
    }
    let places = Places::of(&facts.near);
    let (Some((netns, interface)), Some(own)) =
        (places.endpoint, own_address(&facts.from, *address))
    else {
        return Err(format!(
            "nothing was sent: {} has no interface to send from",
            name(&facts.from)
        ));
    };
    let volley = Volley {
        netns,
        interface,
        from: (own, facts.from.mac),
        to: (*address, known.mac),
        size: wanted.size.unwrap_or(facts.near.mtu).into(),
        wanted: Wanted {
            run: rand::random(),
            from: own,
            to: *address,
            source_port: rand::random_range(SOURCE_PORTS),
            destination_port: UDP_PORT,
            vxlan_port: facts.near.port,
            vni: facts.near.vni,
        },
    };
    Ok((volley, Known::clone(known)))
}

/// The interface and its device are there, and up.
fn can_send(near: &End) -> bool {
    let inside = near.inside.as_ref().and_then(|inside| inside.as_ref().ok());
    let interface = inside.and_then(|inside| inside.interface.as_ref());
    let device = near.device.as_ref().ok().and_then(Option::as_ref);
    interface.is_some_and(|interface| interface.up) && device.is_some_and(|device| device.up)
}

async fn probe(
    agent: &Agent,
    facts: &Facts,
    to: &Known,
    volley: &Volley,
    tried: &mut Tried,
) -> Result<(), String> {
    let wanted = volley.wanted;
    let mut near_places = Places::of(&facts.near);
    let far_watch = match &facts.far {
        Far::Same(far) => {
            // Frames between the two do not pass the device as VXLAN's do.
            (near_places.device, near_places.underlay) = (None, None);
            let places = Places { endpoint: Places::of(far).endpoint, ..Places::default() };
            Ok(FarWatch::Here(Watch::begin(wanted, places, true).await))
        }
        Far::Other(Ok(_)) => remote::begin_watch(agent, to, &back(facts, wanted.from), &wanted)
            .await
            .map(FarWatch::There),
        Far::Other(Err(why)) => Err(why.clone()),
        Far::Nowhere => Err("there is no other end".to_owned()),
    };
    let watch = Watch::begin(wanted, near_places, false).await;
    let sent = volley.send(&watch).await;
    tried.near = watch.report();
    match far_watch {
        Ok(FarWatch::Here(watch)) => tried.far = Some(watch.report()),
        Ok(FarWatch::There(id)) => match remote::end_watch(agent, to, id).await {
            Ok(report) => tried.far = Some(report),
            Err(why) => tried.far_trouble = Some(why),
        },
        Err(why) => tried.far_trouble = Some(why),
    }
    tried.sent = sent?;
    // Where not even a frame comes back, this tells nothing more.
    if tried.near.is_answered(ProbeKind::Echo)
        && let Some(echo) = volley.own_echo()
    {
        tried.own = echo.send().await.transpose();
    }
    Ok(())
}

/// The way back, for the other host.
fn back(facts: &Facts, address: IpAddr) -> Toward {
    Toward { address, mac: facts.from.mac, vtep: Some(facts.near.vtep) }
}

enum FarWatch {
    Here(Watch),
    There(u64),
}
