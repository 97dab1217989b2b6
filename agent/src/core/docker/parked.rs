//! Requests of Docker that wait for something that is about to be known.

use std::time::{Duration, Instant};

use super::super::{Core, Refusal, Request, RequestId};

/// How long one waits. Docker lists a network within milliseconds after it made it, and an
/// interface is removed as quickly; the limit is for an Engine API that is not there.
const WAIT: Duration = Duration::from_secs(8);

/// A request that waits.
#[derive(Debug)]
pub(in crate::core) struct Parked {
    request: Request,
    until: Instant,
    /// What it waits for, for the refusal.
    what: String,
}

impl Parked {
    pub(super) fn request(&self) -> &Request {
        &self.request
    }
}

impl Core {
    pub(super) fn park(&mut self, id: RequestId, request: Request, what: String) {
        self.docker.parked.insert(id, Parked { request, until: self.now + WAIT, what });
    }

    /// Something changed: those that wait are asked again.
    pub(in crate::core) fn unpark(&mut self) {
        for (id, parked) in std::mem::take(&mut self.docker.parked) {
            self.docker_request(id, parked.request, true);
            if let Some(again) = self.docker.parked.get_mut(&id) {
                again.until = parked.until;
            }
        }
    }

    pub(in crate::core) fn refuse_overdue(&mut self) {
        let now = self.now;
        let overdue: Vec<RequestId> =
            self.docker.parked.iter().filter(|(_, p)| p.until <= now).map(|(id, _)| *id).collect();
        for id in overdue {
            if let Some(parked) = self.docker.parked.remove(&id) {
                if let Request::DeleteDockerNetwork(_) = parked.request {
                    self.not_removed(None, &Refusal::unavailable(parked.what.clone()));
                }
                self.reply(id, Err(Refusal::unavailable(parked.what)));
            }
        }
    }

    pub(in crate::core) fn next_overdue(&self) -> Option<Instant> {
        self.docker.parked.values().map(|parked| parked.until).min()
    }
}
