//! DNS inside the containers' namespaces: wanted against open, tried again until they agree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::core::{RESOLVER, Sandbox};
use crate::dns::{DnsError, Resolver, SandboxDns};

/// After this, a sandbox whose sockets could not be opened is tried again: at first, and at most.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Openings that ended and wait to be taken in; their tasks wait when it is full.
const OPENED_MAX: usize = 64;

/// Which namespace it is: device and inode.
type Id = (u64, u64);

/// Which sandboxes have a DNS server, and which should.
pub(super) struct Sandboxes {
    resolver: Resolver,
    wanted: BTreeMap<PathBuf, Wanted>,
    opened: mpsc::Receiver<Opened>,
    opened_in: mpsc::Sender<Opened>,
}

struct Wanted {
    scope: Vec<u64>,
    id: Option<Id>,
    state: State,
}

enum State {
    /// Since then, or from then on, it is to be opened.
    Due(Instant, Duration),
    Opening(Duration),
    Open(SandboxDns),
    Failed {
        again: Instant,
        pause: Duration,
        why: String,
    },
}

struct Opened {
    netns: PathBuf,
    id: Option<Id>,
    result: Result<SandboxDns, DnsError>,
}

impl Sandboxes {
    pub(super) fn new(resolver: Resolver) -> Sandboxes {
        let (opened_in, opened) = mpsc::channel(OPENED_MAX);
        Sandboxes { resolver, wanted: BTreeMap::new(), opened, opened_in }
    }

    /// Serve these networks in that sandbox; none: stop. Closing is at once, because an open socket
    /// keeps a namespace alive. A path that is another namespace by now is another sandbox.
    pub(super) fn want(&mut self, netns: PathBuf, scope: Vec<u64>) {
        if scope.is_empty() {
            self.wanted.remove(&netns);
            return;
        }
        let id = identify(&netns);
        if let Some(wanted) = self.wanted.get_mut(&netns).filter(|wanted| wanted.id == id) {
            if let State::Open(dns) = &wanted.state {
                dns.set_scope(scope.clone());
            }
            wanted.scope = scope;
            return;
        }
        let state = State::Due(Instant::now(), RETRY);
        self.wanted.insert(netns, Wanted { scope, id, state });
    }

    /// Opens what is due, each in a task of its own, and completes when one has ended; the answer
    /// says whether what [`Sandboxes::problems`] says may have changed. Cancel-safe.
    pub(super) async fn progress(&mut self) -> bool {
        self.start_due();
        let again = self.wanted.values().filter_map(|wanted| match &wanted.state {
            State::Due(at, _) | State::Failed { again: at, .. } => Some(*at),
            State::Opening(_) | State::Open(_) => None,
        });
        let again = again.min();
        tokio::select! {
            Some(opened) = self.opened.recv() => self.take(opened),
            () = async { match again { Some(at) => tokio::time::sleep_until(at).await, None => std::future::pending().await } } => false,
        }
    }

    /// Sandboxes without DNS, each as a sentence.
    pub(super) fn problems(&self) -> Vec<String> {
        let failed = self.wanted.iter().filter_map(|(netns, wanted)| match &wanted.state {
            State::Failed { why, .. } => Some(format!("no DNS in {}: {why}", netns.display())),
            State::Due(..) | State::Opening(_) | State::Open(_) => None,
        });
        failed.collect()
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for (netns, wanted) in &mut self.wanted {
            let pause = match &wanted.state {
                State::Due(at, pause) | State::Failed { again: at, pause, .. } if *at <= now => {
                    *pause
                }
                State::Due(..) | State::Failed { .. } | State::Opening(_) | State::Open(_) => {
                    continue;
                }
            };
            wanted.id = identify(netns);
            wanted.state = State::Opening(pause);
            let (resolver, scope) = (self.resolver.clone(), wanted.scope.clone());
            let (netns, id, opened) = (netns.clone(), wanted.id, self.opened_in.clone());
            tokio::spawn(async move {
                let result = SandboxDns::open(&resolver, &netns, RESOLVER, scope).await;
                // Dropped, and so closed, when nobody waits for it any more.
                let _ = opened.send(Opened { netns, id, result }).await;
            });
        }
    }

    fn take(&mut self, opened: Opened) -> bool {
        let wanted = self.wanted.get_mut(&opened.netns).filter(|wanted| wanted.id == opened.id);
        let Some(wanted) = wanted else {
            return false;
        };
        let State::Opening(pause) = wanted.state else {
            return false;
        };
        match opened.result {
            Ok(dns) => {
                dns.set_scope(wanted.scope.clone());
                wanted.state = State::Open(dns);
            }
            Err(error) => {
                let why = crate::chain(&error);
                if pause == RETRY {
                    tracing::warn!(netns = %opened.netns.display(), error = why, "no DNS in this sandbox; trying again");
                }
                let again = Instant::now() + pause;
                wanted.state = State::Failed { again, pause: (pause * 2).min(RETRY_MAX), why };
            }
        }
        true
    }
}

/// The sandbox is still the namespace that it was.
pub(super) fn there(sandbox: &Sandbox) -> bool {
    identify(&sandbox.netns).is_some_and(|id| sandbox.id.is_none_or(|known| known == id))
}

/// Device and inode of a network namespace; `None`: it is not there, or is none.
fn identify(netns: &Path) -> Option<Id> {
    let id = ovl_vxlan::netns::identify(netns).ok()?;
    Some((id.dev, id.ino))
}
