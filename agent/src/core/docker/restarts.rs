//! Addresses over a restart of dockerd or of the host.
//!
//! Docker gives every address back when a container stops, also when dockerd itself stops, and asks
//! for a new one when it starts the container again, without a word of which container it is
//! (before Docker 29). So that a host that comes back has the addresses that it had, those given
//! back shortly before dockerd went are tried first for a while: a container that is alone on its
//! network gets its own again, several may change places. They are not held meanwhile: another host
//! may have one by then.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::super::Core;

/// An address given back within this time before dockerd went was given back because of that.
const STOPPING: Duration = Duration::from_secs(20);

/// How long after the start, or after dockerd is back, they are tried first.
const RETURNING: Duration = Duration::from_secs(90);

/// Addresses that are remembered; of more, the earliest go.
const REMEMBERED_MAX: usize = 1024;

/// What containers had, in the order in which it was given back.
#[derive(Debug, Default)]
pub(in crate::core) struct Returning {
    /// Given back just now; it may be that dockerd is stopping.
    recent: Vec<(Instant, Had)>,
    /// Given back because dockerd stopped.
    waiting: Vec<Had>,
    until: Option<Instant>,
}

/// An address of a container that may come back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Had {
    pub(in crate::core) network: u64,
    pub(in crate::core) address: IpAddr,
    pub(in crate::core) name: Option<String>,
}

impl Returning {
    /// From the last run: the host, or at least the agent, was restarted.
    pub(in crate::core) fn restored(waiting: Vec<Had>, now: Instant) -> Returning {
        Returning { recent: Vec::new(), waiting, until: Some(now + RETURNING) }
    }

    /// What a restart should know.
    pub(in crate::core) fn remembered(&self) -> Vec<Had> {
        let recent = self.recent.iter().map(|(_, had)| had);
        self.waiting.iter().chain(recent).cloned().collect()
    }

    /// Nothing comes back while no address can be given out: the time for it begins anew.
    pub(in crate::core) fn hold(&mut self, now: Instant) {
        if let Some(until) = &mut self.until {
            *until = now + RETURNING;
        }
    }

    /// Somebody has the address again.
    pub(super) fn taken(&mut self, network: u64, address: IpAddr) {
        let other = |had: &Had| (had.network, had.address) != (network, address);
        self.recent.retain(|(_, had)| other(had));
        self.waiting.retain(other);
    }

    /// When something is to be forgotten.
    pub(in crate::core) fn next_expiry(&self) -> Option<Instant> {
        let recent = self.recent.first().map(|(at, _)| *at + STOPPING);
        recent.into_iter().chain(self.until).min()
    }

    /// Forgets what is too old; true when there was something.
    pub(in crate::core) fn expire(&mut self, now: Instant) -> bool {
        let before = self.recent.len() + self.waiting.len();
        self.recent.retain(|(at, _)| *at + STOPPING > now);
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            self.waiting.clear();
        }
        before != self.recent.len() + self.waiting.len()
    }

    fn push(&mut self, now: Instant, had: Had) {
        self.recent.retain(|(at, old)| *at + STOPPING > now && old.address != had.address);
        self.waiting.retain(|old| old.address != had.address);
        if self.recent.len() >= REMEMBERED_MAX {
            self.recent.remove(0);
        }
        self.recent.push((now, had));
    }

    fn take(
        &mut self,
        now: Instant,
        network: u64,
        pool: IpNet,
        name: Option<&str>,
    ) -> Option<IpAddr> {
        if self.until.is_none_or(|until| until <= now) {
            return None;
        }
        let fits = |had: &Had| had.network == network && pool.contains(&had.address);
        let same = |had: &Had| fits(had) && name.is_some() && had.name.as_deref() == name;
        // A name that is known to be another's is left to that one.
        let free = |had: &Had| fits(had) && (name.is_none() || had.name.is_none());
        let at =
            self.waiting.iter().position(same).or_else(|| self.waiting.iter().position(free))?;
        Some(self.waiting.remove(at).address)
    }
}

impl Core {
    /// An endpoint of Docker's goes.
    pub(in crate::core) fn remember(&mut self, endpoint: &str) {
        // Who was given a fixed one asks for it again.
        let Some(local) = self.local.get(endpoint).filter(|local| !local.fixed) else {
            return;
        };
        let (network, name) = (local.network, local.names.first().cloned());
        let v4 = local.address.map(|a| IpAddr::V4(a.addr()));
        let v6 = local.address6.map(|a| IpAddr::V6(a.addr()));
        for address in v4.into_iter().chain(v6) {
            let had = Had { network, address, name: name.clone() };
            self.docker.returning.push(self.now, had);
        }
    }

    /// dockerd went.
    pub(super) fn docker_lost(&mut self) {
        let now = self.now;
        let returning = &mut self.docker.returning;
        let recent = std::mem::take(&mut returning.recent);
        let recent = recent.into_iter().filter(|(at, _)| *at + STOPPING > now);
        returning.waiting.extend(recent.map(|(_, had)| had));
        let over = returning.waiting.len().saturating_sub(REMEMBERED_MAX);
        returning.waiting.drain(..over);
        returning.until = Some(now + RETURNING);
        self.touch_state();
    }

    /// dockerd is back: its containers start now, or have started just before.
    pub(super) fn docker_back(&mut self) {
        if self.docker.returning.until.is_some() {
            self.docker.returning.until = Some(self.now + RETURNING);
        }
    }

    /// The address that a container which starts may have had before.
    pub(super) fn returning(
        &mut self,
        network: u64,
        pool: IpNet,
        name: Option<&str>,
    ) -> Option<IpAddr> {
        self.docker.returning.take(self.now, network, pool, name)
    }
}
