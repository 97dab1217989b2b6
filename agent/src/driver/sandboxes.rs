//! DNS inside the containers' namespaces: wanted against open, tried again until they agree.
//!
//! In a sandbox of Docker's, what the container asks of Docker's own resolver is led to ours first,
//! by a kernel rule that lives exactly as long as this process holds it: containers need no
//! setting, and when the agent goes, Docker's resolver is asked as if nothing had been there.
//!
//! Over a restart the service manager holds the sockets and the rule (see [`crate::systemd`]): the next
//! agent goes on with them. Nothing is served before the names of other hosts are known, so that no
//! query meets an empty table: what arrives before waits in the sockets.

mod open;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ovl_vxlan::netns::{NetnsError, NetnsId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::open::{Open, Opener};
use super::dataplane::Preparer;
use crate::core::Sandbox;
use crate::dns::Resolver;
use crate::systemd::{Kept, Manager};

/// After this, a sandbox whose sockets could not be opened is tried again: at first, and at most.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Openings that ended and wait to be taken in; their tasks wait when it is full.
const OPENED_MAX: usize = 64;

/// How long kept sockets may wait for their sandbox to be wanted again, once names are known.
const KEPT_WITHIN: Duration = Duration::from_secs(10);

/// Which namespace it is: device and inode.
pub(super) type Id = (u64, u64);

/// Which sandboxes have a DNS server, and which should.
pub(super) struct Sandboxes {
    opener: Opener,
    /// Of the agent before this one, until their sandboxes are wanted.
    kept: Kept,
    /// When the rest of those is closed; `None`: names are not known yet, and nothing is opened.
    kept_until: Option<Instant>,
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

struct Opened {
    netns: PathBuf,
    id: Option<Id>,
    result: Result<Open, String>,
    /// This kernel cannot lead the queries.
    unled: Option<String>,
}

impl Sandboxes {
    pub(super) fn new(
        resolver: Resolver,
        preparer: Preparer,
        manager: Manager,
        kept: Kept,
    ) -> Sandboxes {
        let (opened_in, opened) = mpsc::channel(OPENED_MAX);
        let opener = Opener::new(resolver, preparer, manager);
        let wanted = BTreeMap::new();
        Sandboxes { opener, kept, kept_until: None, wanted, opened, opened_in, unled: None }
    }

    /// The names of other hosts are known, as far as they will be soon: serve.
    pub(super) fn begin(&mut self) {
        self.kept_until.get_or_insert(Instant::now() + KEPT_WITHIN);
    }

    /// Every sandbox that is wanted has been opened, or at least tried.
    pub(super) fn settled(&self) -> bool {
        self.kept_until.is_some()
            && !self.wanted.values().any(|w| matches!(w.state, State::Due(..) | State::Opening(_)))
    }

    /// The agent ends: what the service manager keeps stays open for the next one.
    pub(super) fn hand_over(mut self) {
        for wanted in self.wanted.values_mut() {
            if let State::Open(open) = &mut wanted.state {
                open.hand_over();
            }
        }
        // Told to be forgotten at the start, and not claimed yet.
        self.opener.keep_again(self.kept);
    }

    /// Serve these networks in that sandbox; none: stop. Closing is at once, because an open socket
    /// keeps a namespace alive. A path that is another namespace by now is another sandbox.
    /// `embedded`: Docker's own resolver is there.
    pub(super) fn want(&mut self, netns: PathBuf, scope: Vec<u64>, embedded: bool) {
        if scope.is_empty() {
            self.wanted.remove(&netns);
            return;
        }
        let known = self.wanted.get(&netns).and_then(|wanted| wanted.id);
        let id = match look(&netns) {
            Presence::There(id) => Some(id),
            Presence::Gone => None,
            Presence::Unknown => known,
        };
        let same = |wanted: &&mut Wanted| wanted.id == id && wanted.embedded == embedded;
        if let Some(wanted) = self.wanted.get_mut(&netns).filter(same) {
            if let State::Open(open) = &wanted.state {
                open.set_scope(scope.clone());
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
        if matches!(look(&netns), Presence::There(_)) {
            self.want(netns, scope, true);
        }
    }

    /// Opens what is due, each in a task of its own, and completes when one has ended; the answer
    /// says whether what [`Sandboxes::problems`] says may have changed. Cancel-safe.
    pub(super) async fn progress(&mut self) -> bool {
        self.start_due();
        let again = self.next_due();
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

    /// When something is to be done; `None`: not before something happens.
    fn next_due(&self) -> Option<Instant> {
        let kept_until = self.kept_until?;
        let due = self.wanted.values().filter_map(|wanted| match &wanted.state {
            State::Due(at, _) | State::Failed { again: at, .. } => Some(*at),
            State::Opening(_) | State::Open(_) => None,
        });
        due.chain((!self.kept.is_empty()).then_some(kept_until)).min()
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let Some(kept_until) = self.kept_until else {
            return;
        };
        if kept_until <= now {
            self.kept.clear();
        }
        for (netns, wanted) in &mut self.wanted {
            let pause = match &wanted.state {
                State::Due(at, pause) | State::Failed { again: at, pause, .. } if *at <= now => {
                    *pause
                }
                State::Due(..) | State::Failed { .. } | State::Opening(_) | State::Open(_) => {
                    continue;
                }
            };
            wanted.id = match look(netns) {
                Presence::There(id) => Some(id),
                Presence::Gone | Presence::Unknown => None,
            };
            wanted.state = State::Opening(pause);
            let kept = wanted.id.and_then(|(_, inode)| self.kept.remove(&inode));
            let (opener, scope, docker) =
                (self.opener.clone(), wanted.scope.clone(), wanted.embedded);
            let (netns, id, opened) = (netns.clone(), wanted.id, self.opened_in.clone());
            tokio::spawn(async move {
                let (result, unled) = match opener.open(&netns, id, scope, docker, kept).await {
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
                open.set_scope(wanted.scope.clone());
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

/// Whether a namespace is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presence {
    There(Id),
    /// Nothing is at its path, or something else.
    Gone,
    /// It cannot be looked at now, for example because all file descriptors are in use. Nobody may lose
    /// their network for that.
    Unknown,
}

/// Whether the sandbox's namespace still is the one that it was.
pub(super) fn presence(sandbox: &Sandbox) -> Presence {
    match look(&sandbox.netns) {
        Presence::There(id) if sandbox.id.is_some_and(|known| known != id) => Presence::Gone,
        found => found,
    }
}

fn look(netns: &Path) -> Presence {
    judge(ovl_vxlan::netns::identify(netns))
}

fn judge(found: Result<NetnsId, NetnsError>) -> Presence {
    match found {
        Ok(id) => Presence::There((id.dev, id.ino)),
        Err(error) if error.is_gone() => Presence::Gone,
        Err(_) => Presence::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_sandbox_that_cannot_be_looked_at_is_not_gone() {
        let path = PathBuf::from("/run/netns/x");
        let id = NetnsId { dev: 4, ino: 7 };
        let busy = io::Error::from_raw_os_error(nix::libc::EMFILE);
        assert_eq!(judge(Ok(id)), Presence::There((4, 7)));
        assert_eq!(
            judge(Err(NetnsError::Open { path: path.clone(), source: busy })),
            Presence::Unknown
        );
        for gone in [NetnsError::Missing { path: path.clone() }, NetnsError::NotANamespace { path }]
        {
            assert_eq!(judge(Err(gone)), Presence::Gone);
        }
    }

    #[test]
    fn a_path_that_leads_to_another_namespace_is_another_sandbox() {
        let netns = PathBuf::from("/proc/self/ns/net");
        let Presence::There(id) = look(&netns) else { panic!("this process is in one") };
        for (known, expected) in [
            (None, Presence::There(id)),
            (Some(id), Presence::There(id)),
            (Some((id.0, id.1 + 1)), Presence::Gone),
        ] {
            let sandbox = Sandbox { netns: netns.clone(), id: known };
            assert_eq!(presence(&sandbox), expected);
        }
    }
}
