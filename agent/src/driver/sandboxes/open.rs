//! Opens DNS in one sandbox, or goes on with the sockets of the agent before this one.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ovl_vxlan::netns::NetnsId;
use ovl_vxlan::{DnsRedirect, RedirectError};

use super::Id;
use crate::core::RESOLVER;
use crate::dns::{
    DnsError, EMBEDDED_RESOLVER, Embedded, KeptSockets, PASS_MARK, REDIRECT_PORT, Resolver,
    SandboxDns, Sockets,
};
use crate::driver::dataplane::Preparer;
use crate::systemd::{KEPT_MAX, Kept, Manager, kept_name};

/// What was just given up takes a moment to go: the kernel needs some tens of milliseconds for a rule, the
/// service manager has copies of the sockets to close.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// What every sandbox is opened with.
#[derive(Clone)]
pub(super) struct Opener {
    resolver: Resolver,
    preparer: Preparer,
    manager: Manager,
    /// How often sockets were kept.
    turns: Arc<AtomicU64>,
    /// How many descriptors are kept.
    kept: Arc<AtomicUsize>,
}

/// What serves one sandbox. The rule goes first: it must never lead to a closed socket.
pub(super) struct Open {
    _redirect: Option<DnsRedirect>,
    dns: SandboxDns,
    kept: Option<KeptOpen>,
}

/// The service manager's copies of a sandbox's sockets, closed with this.
struct KeptOpen {
    manager: Manager,
    name: String,
    count: usize,
    kept: Arc<AtomicUsize>,
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        self.manager.forget(&self.name);
        self.kept.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Open {
    pub(super) fn set_scope(&self, scope: Vec<u64>) {
        self.dns.set_scope(scope);
    }

    /// The service manager's copies outlive this.
    pub(super) fn hand_over(&mut self) {
        std::mem::forget(self.kept.take());
    }
}

impl Opener {
    pub(super) fn new(resolver: Resolver, preparer: Preparer, manager: Manager) -> Opener {
        Opener { resolver, preparer, manager, turns: Arc::default(), kept: Arc::default() }
    }

    /// Has the service manager keep for the next agent what this one did not come to.
    pub(super) fn keep_again(&self, unclaimed: Kept) {
        for (inode, fds) in unclaimed {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            std::mem::forget(self.keep(inode, &fds));
        }
    }

    /// All of a sandbox's, or none. Without a service manager nothing is kept, and nothing counted.
    fn keep(&self, inode: u64, fds: &[BorrowedFd<'_>]) -> Option<KeptOpen> {
        if !self.manager.listens() {
            return None;
        }
        let count = fds.len();
        let before = self.kept.fetch_add(count, Ordering::Relaxed);
        if before + count > KEPT_MAX {
            self.kept.fetch_sub(count, Ordering::Relaxed);
            tracing::warn!(
                limit = KEPT_MAX,
                "so many sockets are kept already: what this container asks during a restart is lost"
            );
            return None;
        }
        let name = kept_name(inode, self.turns.fetch_add(1, Ordering::Relaxed));
        self.manager.keep(&name, fds);
        Some(KeptOpen { manager: self.manager, name, count, kept: self.kept.clone() })
    }

    /// In a sandbox of Docker's (`docker`) the sockets first, then the rule that leads to them. A kernel
    /// that has no such rules is no failure: the second answer says what is missing then.
    pub(super) async fn open(
        &self,
        netns: &Path,
        id: Option<Id>,
        scope: Vec<u64>,
        docker: bool,
        kept: Option<Vec<OwnedFd>>,
    ) -> Result<(Open, Option<String>), String> {
        if let (Some(fds), Some(id)) = (kept, id)
            && let Some((sockets, redirect)) = adopt(netns, id, docker, fds).await
        {
            return Ok((self.serve(Some(id), scope, sockets, redirect), None));
        }
        if docker {
            self.preparer.prepare(netns).await?;
        }
        let embedded = docker.then(Embedded::default);
        let sockets = sockets(netns, embedded).await.map_err(|error| crate::chain(&error))?;
        if !docker {
            return Ok((self.serve(id, scope, sockets, None), None));
        }
        match redirect(netns).await {
            Ok(redirect) => Ok((self.serve(id, scope, sockets, Some(redirect)), None)),
            Err(error @ RedirectError::Unsupported { .. }) => {
                let unled = format!(
                    "containers of Docker do not find names of other hosts by themselves on this kernel; start them with --dns {RESOLVER}, or set \"dns\": [\"{RESOLVER}\"] in /etc/docker/daemon.json ({})",
                    crate::chain(&error)
                );
                Ok((self.serve(None, scope, sockets, None), Some(unled)))
            }
            Err(error) => Err(crate::chain(&error)),
        }
    }

    fn serve(
        &self,
        id: Option<Id>,
        scope: Vec<u64>,
        sockets: Sockets,
        redirect: Option<DnsRedirect>,
    ) -> Open {
        let mut fds = sockets.listening();
        fds.extend(redirect.as_ref().and_then(DnsRedirect::as_fd));
        let kept = id.and_then(|(_, inode)| self.keep(inode, &fds));
        let dns = SandboxDns::serve(&self.resolver, RESOLVER, scope, sockets);
        Open { _redirect: redirect, dns, kept }
    }
}

/// What cannot be gone on with is closed, and opened anew.
async fn adopt(
    netns: &Path,
    (dev, ino): Id,
    docker: bool,
    fds: Vec<OwnedFd>,
) -> Option<(Sockets, Option<DnsRedirect>)> {
    let mut kept = KeptSockets::sort(fds, RESOLVER)?;
    let redirect = kept.owner.take().map(DnsRedirect::adopt);
    if redirect.is_some() != docker {
        return None;
    }
    let id = NetnsId { dev, ino };
    match Sockets::adopt(kept, netns, id, Embedded::default()).await {
        Ok(sockets) => Some((sockets, redirect)),
        Err(error) => {
            tracing::warn!(error = crate::chain(&error), "kept sockets are opened anew");
            None
        }
    }
}

async fn sockets(netns: &Path, embedded: Option<Embedded>) -> Result<Sockets, DnsError> {
    let mut tries = TRIES;
    loop {
        match Sockets::open(netns, RESOLVER, embedded).await {
            Err(DnsError::Bind { source, .. })
                if tries > 0 && source.kind() == io::ErrorKind::AddrInUse => {}
            answer => return answer,
        }
        tries -= 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn redirect(netns: &Path) -> Result<DnsRedirect, RedirectError> {
    let to = SocketAddrV4::new(RESOLVER, REDIRECT_PORT);
    let mut tries = TRIES;
    loop {
        match DnsRedirect::open(netns, EMBEDDED_RESOLVER, to, PASS_MARK).await {
            Err(RedirectError::Owned { .. }) if tries > 0 => {
                tries -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}
