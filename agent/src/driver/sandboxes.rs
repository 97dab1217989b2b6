//! DNS inside the containers' namespaces: wanted against open, tried again until they agree.
//!
//! In a sandbox of Docker's, what the container asks of Docker's own resolver is led to ours first,
//! by a kernel rule that lives exactly as long as this process holds it: containers need no
//! setting, and when the agent goes, Docker's resolver is asked as if nothing had been there.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ovl_vxlan::{DnsRedirect, RedirectError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dataplane::Preparer;
use crate::core::{RESOLVER, Sandbox};
use crate::dns::{
    DnsError, EMBEDDED_RESOLVER, Embedded, PASS_MARK, REDIRECT_PORT, Resolver, SandboxDns,
};

/// After this, a sandbox whose sockets could not be opened is tried again: at first, and at most.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Openings that ended and wait to be taken in; their tasks wait when it is full.
const OPENED_MAX: usize = 64;

/// A rule of ours that was just given up takes the kernel some tens of milliseconds to remove.
const REDIRECT_TRIES: u32 = 10;
const REDIRECT_PAUSE: Duration = Duration::from_millis(20);

/// Which namespace it is: device and inode.
type Id = (u64, u64);

/// Which sandboxes have a DNS server, and which should.
pub(super) struct Sandboxes {
    resolver: Resolver,
    preparer: Preparer,
    wanted: BTreeMap<PathBuf, Wanted>,
    opened: mpsc::Receiver<Opened>,
    opened_in: mpsc::Sender<Opened>,
    /// Why containers of this host ask Docker's resolver first, if they do.
    unled: Option<String>,
}

struct Wanted {
    scope: Vec<u64>,
    /// Docker's resolver is there.
    embedded: bool,
    id: Option<Id>,
    state: State,
}

enum State {
    /// Since then, or from then on, it is to be opened.
    Due(Instant, Duration),
    Opening(Duration),
    Open(Open),
    Failed {
        again: Instant,
        pause: Duration,
        why: String,
    },
}

/// What serves one sandbox. The rule goes first: it must never lead to a closed socket.
struct Open {
    _redirect: Option<DnsRedirect>,
    dns: SandboxDns,
}

struct Opened {
    netns: PathBuf,
    id: Option<Id>,
    result: Result<Open, String>,
    /// This kernel cannot lead the queries.
    unled: Option<String>,
}

impl Sandboxes {
    pub(super) fn new(resolver: Resolver, preparer: Preparer) -> Sandboxes {
        let (opened_in, opened) = mpsc::channel(OPENED_MAX);
        let wanted = BTreeMap::new();
        Sandboxes { resolver, preparer, wanted, opened, opened_in, unled: None }
    }

    /// Serve these networks in that sandbox; none: stop. Closing is at once, because an open socket
    /// keeps a namespace alive. A path that is another namespace by now is another sandbox.
    /// `embedded`: Docker's own resolver is there.
    pub(super) fn want(&mut self, netns: PathBuf, scope: Vec<u64>, embedded: bool) {
        if scope.is_empty() {
            self.wanted.remove(&netns);
            return;
        }
        let id = identify(&netns);
        let same = |wanted: &&mut Wanted| wanted.id == id && wanted.embedded == embedded;
        if let Some(wanted) = self.wanted.get_mut(&netns).filter(same) {
            if let State::Open(open) = &wanted.state {
                open.dns.set_scope(scope.clone());
            }
            wanted.scope = scope;
            return;
        }
        let state = State::Due(Instant::now(), RETRY);
        self.wanted.insert(netns, Wanted { scope, embedded, id, state });
    }

    /// The same for a sandbox that Docker may not have made yet: then nothing is done, and it is
    /// wanted again when the interface is in it. Since Docker 28 it is there, and its container's
    /// process starts so soon after its interface that DNS must be there before.
    pub(super) fn want_early(&mut self, netns: PathBuf, scope: Vec<u64>) {
        if identify(&netns).is_some() {
            self.want(netns, scope, true);
        }
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

    /// Sandboxes without DNS, each as a sentence, and what keeps containers from needing no setting.
    pub(super) fn problems(&self) -> Vec<String> {
        let failed = self.wanted.iter().filter_map(|(netns, wanted)| match &wanted.state {
            State::Failed { why, .. } => Some(format!("no DNS in {}: {why}", netns.display())),
            State::Due(..) | State::Opening(_) | State::Open(_) => None,
        });
        failed.chain(self.unled.clone()).collect()
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
            let preparer = wanted.embedded.then(|| self.preparer.clone());
            tokio::spawn(async move {
                let (result, unled) = match open(&resolver, &netns, scope, preparer).await {
                    Ok((open, unled)) => (Ok(open), unled),
                    Err(why) => (Err(why), None),
                };
                // Dropped, and so closed, when nobody waits for it any more.
                let _ = opened.send(Opened { netns, id, result, unled }).await;
            });
        }
    }

    fn take(&mut self, opened: Opened) -> bool {
        if opened.unled.is_some() && self.unled.is_none() {
            tracing::warn!("{}", opened.unled.as_deref().unwrap_or_default());
            self.unled = opened.unled;
        }
        let wanted = self.wanted.get_mut(&opened.netns).filter(|wanted| wanted.id == opened.id);
        let Some(wanted) = wanted else {
            return false;
        };
        let State::Opening(pause) = wanted.state else {
            return false;
        };
        match opened.result {
            Ok(open) => {
                open.dns.set_scope(wanted.scope.clone());
                wanted.state = State::Open(open);
            }
            Err(why) => {
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

/// In a sandbox of Docker's (`docker`) the sockets first, then the rule that leads to them. A kernel that has no such rules is no
/// failure: the second answer says what is missing then.
async fn open(
    resolver: &Resolver,
    netns: &Path,
    scope: Vec<u64>,
    docker: Option<Preparer>,
) -> Result<(Open, Option<String>), String> {
    let chain = |error: DnsError| crate::chain(&error);
    let Some(preparer) = docker else {
        let dns = SandboxDns::open(resolver, netns, RESOLVER, scope, None).await.map_err(chain)?;
        return Ok((Open { _redirect: None, dns }, None));
    };
    preparer.prepare(netns).await?;
    let embedded = Some(Embedded::default());
    let dns = SandboxDns::open(resolver, netns, RESOLVER, scope, embedded).await.map_err(chain)?;
    match redirect(netns).await {
        Ok(redirect) => Ok((Open { _redirect: Some(redirect), dns }, None)),
        Err(error @ RedirectError::Unsupported { .. }) => {
            let unled = format!(
                "containers of Docker do not find names of other hosts by themselves on this kernel; start them with --dns {RESOLVER}, or set \"dns\": [\"{RESOLVER}\"] in /etc/docker/daemon.json ({})",
                crate::chain(&error)
            );
            Ok((Open { _redirect: None, dns }, Some(unled)))
        }
        Err(error) => Err(crate::chain(&error)),
    }
}

async fn redirect(netns: &Path) -> Result<DnsRedirect, RedirectError> {
    let to = SocketAddrV4::new(RESOLVER, REDIRECT_PORT);
    let mut tries = REDIRECT_TRIES;
    loop {
        match DnsRedirect::open(netns, EMBEDDED_RESOLVER, to, PASS_MARK).await {
            Err(RedirectError::Owned { .. }) if tries > 0 => {
                tries -= 1;
                tokio::time::sleep(REDIRECT_PAUSE).await;
            }
            answer => return answer,
        }
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
