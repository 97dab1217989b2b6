//! This host on its way out of the cluster: `ovlctl leave`.
//!
//! Level-triggered, after every event: first no endpoint is left here, then no network of ours in this
//! host's Docker, then every address of this host is given back; then the agent ends. What does not
//! come about in time is either waited for no longer (`force`), or called off with the reason.

use std::time::{Duration, Instant};

use super::local::Phase;
use super::store::Continuation;
use super::view::listed;
use super::{
    Action, Core, Kind, Notice, Refusal, Request, RequestId, Response, StoreAnswer, StoreCall,
};
use crate::control::api;

/// How long endpoints and Docker's networks may take to go, and then the store to answer; together less
/// than a request is waited for.
const GO_WITHIN: Duration = Duration::from_secs(12);
const STORE_WITHIN: Duration = Duration::from_secs(7);

/// Endpoints that a refusal names.
const NAMED_MAX: usize = 8;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Leaving {
    request: RequestId,
    force: bool,
    until: Instant,
    /// The store was asked to take everything back.
    asked: bool,
}

impl Core {
    pub(super) fn leave_cluster(&mut self, id: RequestId, force: bool) -> Result<(), Refusal> {
        if self.leaving.is_some() {
            return Err(Refusal::conflict("this host is leaving the cluster already"));
        }
        self.refuse_rival()?;
        if let (Some(users), false) = (self.users_here(), force) {
            return Err(Refusal::conflict(format!(
                "endpoints run on this host: {users}; stop their containers or detach them first, or repeat with --force: they lose their network then"
            )));
        }
        if let (Some(error), false) = (&self.health.store, force) {
            return Err(Refusal::unavailable(format!(
                "the addresses of this host cannot be given back: {error}; try again, or repeat with --force to leave without that"
            )));
        }
        tracing::info!(force, "leaving the cluster");
        let summary = format!("this host, {}, leaves the cluster", self.me.node);
        self.tell(Notice::new(Kind::Leaving, summary).host(&self.me.node));
        let until = self.now + GO_WITHIN;
        self.leaving = Some(Leaving { request: id, force, until, asked: false });
        Ok(())
    }

    /// While the host leaves, nothing new begins.
    pub(super) fn refuse_leaving(&self, request: &Request) -> Result<(), Refusal> {
        let begins = request.begins_something();
        if self.leaving.is_some() && begins {
            return Err(Refusal::unavailable("this host is leaving the cluster"));
        }
        Ok(())
    }

    pub(super) fn leaving_timeout(&self) -> Option<Instant> {
        Some(self.leaving.as_ref()?.until)
    }

    /// The next step, if it is due.
    pub(super) fn go_on_leaving(&mut self) {
        let Some(Leaving { request, force, until, asked }) = self.leaving else {
            return;
        };
        let over = until <= self.now;
        if asked {
            if over {
                self.end_leaving(Err("the store did not answer in time".to_owned()));
            }
            return;
        }
        let waits_for = self
            .remove_endpoints()
            .or_else(|| self.await_addresses())
            .or_else(|| self.remove_from_docker());
        match (waits_for, over) {
            (Some(_), false) => {}
            (Some(what), true) if !force => self.call_off(&what),
            (Some(_), true) | (None, _) => {
                if let Some(leaving) = &mut self.leaving {
                    leaving.asked = true;
                    leaving.until = self.now + STORE_WITHIN;
                }
                self.call(StoreCall::ReleaseNode, Continuation::NodeReleased(request));
            }
        }
    }

    /// What is still to go, if anything.
    fn remove_endpoints(&mut self) -> Option<String> {
        let idle = self
            .local
            .values()
            .filter(|l| matches!(l.phase, Phase::Up | Phase::Created | Phase::Clearing(_)));
        for id in idle.map(|l| l.id.clone()).collect::<Vec<_>>() {
            self.forsake(&id, "this host leaves the cluster");
        }
        let left = self.local.len();
        (left > 0).then(|| format!("{left} endpoints are still in the kernel"))
    }

    /// What the store is just giving out would not be given back.
    fn await_addresses(&self) -> Option<String> {
        let left = self.calls.values().filter(|then| then.awaits_address()).count();
        (left > 0).then(|| format!("{left} addresses are just being given out"))
    }

    /// Docker would wait for a driver that is not there whenever somebody touches such a network.
    fn remove_from_docker(&mut self) -> Option<String> {
        if self.health.docker.is_some() || self.docker.global {
            return None;
        }
        self.discard_all();
        let left = self.docker.being_discarded();
        (left > 0).then(|| format!("{left} networks are still in this host's Docker"))
    }

    pub(super) fn node_released(
        &mut self,
        request: RequestId,
        answer: Result<StoreAnswer, Refusal>,
    ) {
        // An answer to a leave that was called off is not one to the next.
        if self.leaving.as_ref().is_none_or(|leaving| leaving.request != request) {
            return;
        }
        match answer {
            Ok(StoreAnswer::Released(count)) => self.end_leaving(Ok(count)),
            Ok(other) => self.end_leaving(Err(format!("the store gave another answer: {other:?}"))),
            Err(refusal) => self.end_leaving(Err(refusal.message)),
        }
    }

    fn end_leaving(&mut self, released: Result<usize, String>) {
        let Some(Leaving { request, force, .. }) = self.leaving else {
            return;
        };
        let (notes, state_dir) = (self.docker_leftovers(), std::path::PathBuf::new());
        let mut left = api::Left { addresses: 0, notes, state_dir };
        match released {
            Ok(count) => left.addresses = count,
            Err(why) if force => left.notes.push(format!(
                "addresses of this host stay taken, because they could not be given back: {why}"
            )),
            Err(why) => return self.call_off(&why),
        }
        self.releases.clear();
        self.touch_state();
        self.reply(request, Ok(Response::Left(left)));
        self.actions.push_back(Action::End);
    }

    fn call_off(&mut self, why: &str) {
        let Some(leaving) = self.leaving.take() else {
            return;
        };
        tracing::warn!(why, "not left the cluster");
        let summary = format!("this host, {}, did not leave the cluster", self.me.node);
        self.tell(Notice::new(Kind::Staying, summary).host(&self.me.node).because(why));
        let why = format!(
            "this host is still in the cluster: {why}; try again, or repeat with --force to leave without that"
        );
        self.reply(leaving.request, Err(Refusal::unavailable(why)));
        self.discard_no_more();
        self.match_networks();
    }

    /// Who is on the networks here; `None`: nobody.
    fn users_here(&self) -> Option<String> {
        let users = self
            .local
            .values()
            .filter(|l| {
                l.sandbox.is_some() && !matches!(l.phase, Phase::Leaving(..) | Phase::Clearing(_))
            })
            .map(|l| {
                let network = self.networks.get(&l.network).map_or("?", |n| n.name.as_ref());
                let name =
                    l.names.first().map_or_else(|| l.id.chars().take(12).collect(), Clone::clone);
                format!("{name} on {network}")
            })
            .collect();
        listed(users, NAMED_MAX)
    }
}
