//! DNS inside the containers' namespaces: wanted against open, tried again until they agree.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::{RESOLVER, Sandbox};
use crate::dns::{Resolver, SandboxDns};

/// After this, a sandbox whose sockets could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Which sandboxes have a DNS server, and which should.
pub(super) struct Sandboxes {
    resolver: Resolver,
    wanted: HashMap<PathBuf, Vec<u64>>,
    open: HashMap<PathBuf, SandboxDns>,
    /// When to look again; none: wanted and open agree.
    due: Option<tokio::time::Instant>,
}

impl Sandboxes {
    pub(super) fn new(resolver: Resolver) -> Sandboxes {
        Sandboxes { resolver, wanted: HashMap::new(), open: HashMap::new(), due: None }
    }

    /// Serve these networks in that sandbox; none: stop. Closing is at once, because an open socket
    /// keeps a namespace alive; opening comes with [`Sandboxes::open_wanted`].
    pub(super) fn want(&mut self, netns: PathBuf, scope: Vec<u64>) {
        if scope.is_empty() {
            self.open.remove(&netns);
            self.wanted.remove(&netns);
            return;
        }
        if let Some(dns) = self.open.get(&netns) {
            dns.set_scope(scope.clone());
        } else {
            self.due = Some(tokio::time::Instant::now());
        }
        self.wanted.insert(netns, scope);
    }

    /// Completes when [`Sandboxes::open_wanted`] is due. Cancel-safe.
    pub(super) async fn retry(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Opens what is wanted and not open.
    pub(super) async fn open_wanted(&mut self) {
        self.due = None;
        let missing = self.wanted.iter().filter(|(netns, _)| !self.open.contains_key(*netns));
        for (netns, scope) in missing.map(|(n, s)| (n.clone(), s.clone())).collect::<Vec<_>>() {
            match SandboxDns::open(&self.resolver, &netns, RESOLVER, scope).await {
                Ok(dns) => {
                    self.open.insert(netns, dns);
                }
                Err(error) => {
                    tracing::warn!(netns = %netns.display(), error = crate::chain(&error), "no DNS in this sandbox yet");
                    self.due = Some(tokio::time::Instant::now() + RETRY);
                }
            }
        }
    }
}

/// The sandbox is still the namespace that it was.
pub(super) fn there(sandbox: &Sandbox) -> bool {
    identify(&sandbox.netns).is_some_and(|id| sandbox.id.is_none_or(|known| known == id))
}

/// Device and inode of a network namespace; `None`: it is not there, or is none.
pub(super) fn identify(netns: &Path) -> Option<(u64, u64)> {
    let id = ovl_vxlan::netns::identify(netns).ok()?;
    Some((id.dev, id.ino))
}
