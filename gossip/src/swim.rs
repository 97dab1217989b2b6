//! foca, with its timers and its tuning.
//!
//! foca decides who is a member; this module gives it time and a configuration that follows the size
//! of the cluster. Its timers can be put off as a whole: a process that was frozen or starved must
//! not hold others for dead because it did not listen (Lifeguard calls this local health).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{
    AccumulatingRuntime, Config, Foca, Member, NoCustomBroadcast, OwnedNotification,
    PeriodicParams, PostcardCodec, Timer,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use crate::identity::Identity;
use crate::wire;

/// How long a suspect may refute, per factor of ten in the size of the cluster. With a probe a second
/// a crashed host is down everywhere within about 6 s at 10 members, and 13 s at 1,000.
const SUSPICION: f64 = 3.0;
/// How often a member passes one update on, per natural logarithm of the size of the cluster. foca's own
/// formula leaves one of some thousand uninformed, and a small cluster no room for loss.
const TRANSMISSIONS: f64 = 3.0;

/// Members that are told directly of a new identity of ours.
const INTRODUCTIONS: usize = 32;

/// What foca said since the last look.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The active members are others now.
    pub(crate) changed: bool,
    /// We were held down, and came back with a new identity.
    pub(crate) rejoined: bool,
}

/// foca and its timers.
pub(crate) struct Swim {
    foca: Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    /// Orders timers of one instant.
    sequence: u64,
    size: NonZeroU32,
    rng: StdRng,
}

impl Swim {
    pub(crate) fn new(identity: Identity, seed: u64) -> Self {
        let size = NonZeroU32::MIN;
        let mut rng = StdRng::seed_from_u64(seed);
        let own = StdRng::from_rng(&mut rng);
        Self {
            foca: Foca::new(identity, config(size), own, PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            sequence: 0,
            size,
            rng,
        }
    }

    /// Who we are now.
    pub(crate) fn identity(&self) -> &Identity {
        self.foca.identity()
    }

    /// All members that foca holds, the dead too, and possibly a former self of ours.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member<Identity>> {
        self.foca.iter_membership_state()
    }

    /// Membership updates that wait to be sent.
    pub(crate) fn backlog(&self) -> usize {
        self.foca.updates_backlog()
    }

    /// Takes in a packet in foca's format; false where foca refused it.
    pub(crate) fn packet(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let taken = self.foca.handle_data(bytes, &mut self.runtime);
        self.done(now, taken)
    }

    /// Takes in what is known from elsewhere. `tell`: pass on what is news.
    pub(crate) fn apply(&mut self, now: Instant, updates: Vec<Member<Identity>>, tell: bool) {
        let taken = self.foca.apply_many(updates.into_iter(), tell, &mut self.runtime);
        self.done(now, taken);
    }

    /// Tells some members what there is to tell, and thereby that we are here.
    pub(crate) fn gossip(&mut self, now: Instant) {
        let taken = self.foca.gossip(&mut self.runtime);
        self.done(now, taken);
    }

    /// Takes another identity of our own.
    pub(crate) fn become_identity(&mut self, now: Instant, identity: Identity) {
        let taken = self.foca.change_identity(identity, &mut self.runtime);
        self.done(now, taken);
        self.introduce(now);
    }

    /// Tells some members of a new identity of ours. What they still send to the former one is lost, and
    /// many may change theirs at once, so they are told by announcements: these are taken whatever the
    /// identity they are addressed to, and answered.
    pub(crate) fn introduce(&mut self, now: Instant) {
        // Without this foca would wait, idle, for somebody to speak to the new identity.
        self.apply(now, Vec::new(), false);
        let active = self.foca.iter_members().map(|member| member.id().clone());
        for member in active.sample(&mut self.rng, INTRODUCTIONS) {
            let taken = self.foca.announce(member, &mut self.runtime);
            self.done(now, taken);
        }
    }

    /// Tells some members that we stop; foca is silent from then on.
    pub(crate) fn leave(&mut self, now: Instant) {
        let taken = self.foca.leave_cluster(&mut self.runtime);
        self.done(now, taken);
    }

    /// Drops a member that is down.
    pub(crate) fn forget(&mut self, now: Instant, identity: Identity) {
        let removal = Timer::RemoveDown(identity);
        let taken = self.foca.handle_timer(removal, &mut self.runtime);
        self.done(now, taken);
    }

    /// Fires all timers that are due; true where there was one.
    pub(crate) fn fire(&mut self, now: Instant) -> bool {
        let mut fired = false;
        while let Some(due) = self.timers.first_entry().filter(|due| due.key().0 <= now) {
            let taken = self.foca.handle_timer(due.remove(), &mut self.runtime);
            self.done(now, taken);
            fired = true;
        }
        fired
    }

    /// When the next timer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Puts all timers off.
    pub(crate) fn put_off(&mut self, by: Duration) {
        let timers = std::mem::take(&mut self.timers);
        let later =
            timers.into_iter().map(|((due, sequence), timer)| ((due + by, sequence), timer));
        self.timers = later.collect();
    }

    /// A packet to send, without our header.
    pub(crate) fn poll_send(&mut self) -> Option<(SocketAddrV4, impl AsRef<[u8]> + use<>)> {
        let (to, bytes) = self.runtime.to_send()?;
        Some((to.address, bytes))
    }

    /// What foca said since the last call.
    pub(crate) fn heard(&mut self) -> Heard {
        let mut heard = Heard::default();
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(_)
                | OwnedNotification::MemberDown(_)
                | OwnedNotification::Rename(_, _)
                | OwnedNotification::Active
                | OwnedNotification::Idle
                | OwnedNotification::Defunct => heard.changed = true,
                OwnedNotification::Rejoin(_) => heard.rejoined = true,
            }
        }
        heard
    }

    /// How long a suspect may refute, at the size of the cluster.
    pub(crate) fn suspicion(&self) -> Duration {
        suspicion(self.size)
    }

    /// Tunes foca to a cluster of `others` active members and ourselves.
    pub(crate) fn resize(&mut self, others: usize) {
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let size = NonZeroU32::MIN.saturating_add(others);
        if size != self.size && self.foca.set_config(config(size)).is_ok() {
            self.size = size;
        }
    }

    fn done(&mut self, now: Instant, result: Result<(), foca::Error>) -> bool {
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.sequence += 1;
            self.timers.insert((now + after, self.sequence), timer);
        }
        if let Err(error) = &result {
            tracing::trace!(%error, "membership input not taken");
        }
        result.is_ok()
    }
}

/// foca's LAN tuning, with the changes that its simulation asked for.
fn config(size: NonZeroU32) -> Config {
    let mut config = Config::new_lan(size);
    config.max_packet_size =
        NonZeroUsize::new(wire::MAX_DATAGRAM - wire::HEADER).unwrap_or(NonZeroUsize::MIN);
    // Between 4 and 67, so the cast cuts off the fraction only.
    let transmissions = TRANSMISSIONS * (f64::from(size.get()) + 3.0).ln();
    config.max_transmissions = NonZeroU8::new(transmissions as u8).unwrap_or(NonZeroU8::MIN);
    config.suspect_to_down_after = suspicion(size);
    // The dead are forgotten by `Members`, which knows since when they are dead.
    config.remove_down_after = None;
    config.notify_down_members = true;
    // Any one of the living that reaches any one of the dead begins to heal a split, so a large
    // cluster need not ask as often.
    config.periodic_announce_to_down_members = Some(PeriodicParams {
        frequency: Duration::from_secs(u64::from(size.get()).clamp(10, 60)),
        num_members: NonZeroUsize::MIN.saturating_add(1),
    });
    config
}

fn suspicion(size: NonZeroU32) -> Duration {
    let decades = f64::from(size.get()).log10().max(1.0);
    Duration::from_secs_f64(SUSPICION * decades)
}
