//! What the service manager is told: ready, what is awaited, that the agent is alive.
//!
//! Said from the core's own loop: an agent whose loop stands still falls silent, and is started anew.

use std::time::{Duration, Instant};

use crate::core::{Core, Kind, Notice};
use crate::systemd::Manager;

/// The status line is renewed at most this often.
const RENEW: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(super) struct Readiness {
    manager: Manager,
    /// How often the manager wants to hear that we are alive.
    beat: Option<Duration>,
    beaten: Option<Instant>,
    renewed: Option<Instant>,
    line: String,
    ready: bool,
}

impl Readiness {
    pub(super) fn new(manager: Manager) -> Readiness {
        let beat = manager.watchdog();
        Readiness { manager, beat, beaten: None, renewed: None, line: String::new(), ready: false }
    }

    /// To be called again and again, at least every two seconds. `serving`: every container that is
    /// known has its DNS server, or was refused one. Gives back what is to be told when it is ready, once.
    pub(super) fn tell(&mut self, now: Instant, core: &Core, serving: bool) -> Option<Notice> {
        if self.beat.is_some_and(|beat| is_over(self.beaten, beat / 2, now)) {
            self.beaten = Some(now);
            self.manager.alive();
        }
        if self.ready {
            if is_over(self.renewed, RENEW, now) {
                self.renewed = Some(now);
                self.renew(core.summary(now));
            }
            return None;
        }
        let awaited = core.awaited(now, serving);
        if !awaited.is_empty() {
            self.renew(format!("waiting for {}", awaited.join(", ")));
            return None;
        }
        self.ready = true;
        self.line = core.summary(now);
        tracing::info!(status = self.line, "ready");
        self.manager.ready(&self.line);
        Some(Notice::new(Kind::AgentReady, format!("this agent is ready: {}", self.line)))
    }

    fn renew(&mut self, line: String) {
        if line != self.line {
            self.manager.status(&line);
            self.line = line;
        }
    }
}

fn is_over(last: Option<Instant>, pause: Duration, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= pause)
}
