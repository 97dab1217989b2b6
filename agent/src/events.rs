//! What happened on this host and in its cluster, kept in memory for whoever asks later.
//!
//! A ring: the newest [`EVENTS_KEPT`] stay. Each has a number, so that who follows sees what fell out
//! meanwhile. Nothing is written to disk: the log of the agent has most of it for longer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::control::api::events::{Event, Events};
use crate::core::{Kind, Notice};

/// Events that are kept. With one more the oldest falls out, and is counted for those who have not
/// read it.
pub const EVENTS_KEPT: usize = 4096;

/// Most events of one answer; the next answer goes on behind them.
pub const PAGE_MAX: usize = 1000;

/// Largest sum of texts in one answer, in bytes; the same beyond it.
const PAGE_BYTES: usize = 256 * 1024;

/// Longest wait for an event.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// See the module's documentation.
#[derive(Debug)]
pub struct Log {
    ring: Mutex<Ring>,
    /// The newest number; `None`: the agent stops, and nobody should wait any more.
    newest: watch::Sender<Option<u64>>,
    started: Timestamp,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<(Timestamp, u64, Notice)>,
    newest: u64,
    counts: BTreeMap<Kind, u64>,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Those with a higher number.
    pub after: u64,
    /// Those that are not older than this.
    pub since: Option<Duration>,
    /// At most so many, and at most [`PAGE_MAX`].
    pub limit: Option<usize>,
}

impl Log {
    /// An empty one, of an agent that started at that time.
    pub fn new(started: Timestamp) -> Log {
        let (newest, _) = watch::channel(Some(0));
        Log { ring: Mutex::default(), newest, started }
    }

    /// When this agent started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// Keeps one more.
    pub fn push(&self, now: Timestamp, notice: Notice) {
        let newest = self.ring().push(now, notice);
        self.newest.send_modify(|known| *known = known.and(Some(newest)));
    }

    /// Whoever waits is answered now, and nobody waits any more.
    pub fn close(&self) {
        self.newest.send_replace(None);
    }

    /// How many of each kind there were since the start, of every kind, and how many of them are
    /// not kept any more.
    pub fn counts(&self) -> (Vec<(Kind, u64)>, u64) {
        let ring = self.ring();
        let count = |kind: &Kind| (*kind, ring.counts.get(kind).copied().unwrap_or_default());
        (Kind::ALL.iter().map(count).collect(), ring.newest - ring.kept.len() as u64)
    }

    /// What is kept of what is wanted.
    pub fn page(&self, now: Timestamp, wanted: Wanted) -> Events {
        let page = self.ring().page(now, wanted);
        Events { started: text(self.started), ..page }
    }

    /// The same, once there is something, or after that time, at most [`WAIT_MAX`]. Cancel-safe.
    pub async fn wait(&self, wanted: Wanted, within: Duration) {
        let mut newest = self.newest.subscribe();
        // A number of an agent before this one is not waited for.
        let there = |newest: &Option<u64>| newest.is_none_or(|newest| newest != wanted.after);
        let _ = tokio::time::timeout(within.min(WAIT_MAX), newest.wait_for(there)).await;
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, now: Timestamp, notice: Notice) -> u64 {
        if self.kept.len() >= EVENTS_KEPT {
            self.kept.pop_front();
        }
        self.newest += 1;
        *self.counts.entry(notice.kind).or_default() += 1;
        self.kept.push_back((now, self.newest, notice));
        self.newest
    }

    fn page(&self, now: Timestamp, wanted: Wanted) -> Events {
        // A higher number than any is one of an agent before this one.
        let after = if wanted.after > self.newest { 0 } else { wanted.after };
        let fell_out = self.newest - self.kept.len() as u64;
        let skipped = usize::try_from(after.saturating_sub(fell_out)).unwrap_or(usize::MAX);
        let oldest = wanted.since.and_then(|since| now.checked_sub(since).ok());
        let limit = wanted.limit.map_or(PAGE_MAX, |limit| limit.clamp(1, PAGE_MAX));
        let mut page = Events { lost: fell_out.saturating_sub(after), ..Events::default() };
        let mut bytes = 0;
        page.next = self.newest;
        for (at, seq, notice) in self.kept.iter().skip(skipped) {
            if oldest.is_some_and(|oldest| *at < oldest) {
                continue;
            }
            bytes += size(notice);
            if page.events.len() == limit || (bytes > PAGE_BYTES && !page.events.is_empty()) {
                page.next = seq - 1;
                break;
            }
            page.events.push(event(*at, *seq, notice));
        }
        page
    }
}

fn size(notice: &Notice) -> usize {
    let details: usize = notice.details.iter().map(String::len).sum();
    notice.summary.len() + notice.reason.as_ref().map_or(0, String::len) + details
}

fn event(at: Timestamp, seq: u64, notice: &Notice) -> Event {
    let Notice { kind, summary, host, network, endpoint, address, count, reason, details } =
        notice.clone();
    let (at, kind) = (text(at), kind.name().to_owned());
    Event { seq, at, kind, summary, host, network, endpoint, address, count, reason, details }
}

/// RFC 3339, to the millisecond.
fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn notice(text: &str) -> Notice {
        Notice::new(Kind::HostJoined, text)
    }

    fn log(events: u64) -> Log {
        let log = Log::new(at(0));
        for n in 1..=events {
            log.push(at(i64::try_from(n).unwrap()), notice(&n.to_string()));
        }
        log
    }

    fn after(after: u64) -> Wanted {
        Wanted { after, ..Wanted::default() }
    }

    fn seqs(events: &Events) -> Vec<u64> {
        events.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let log = log(2500);
        let (mut next, mut seen) = (0, Vec::new());
        loop {
            let page = log.page(at(9999), after(next));
            if page.events.is_empty() {
                break;
            }
            assert!(page.events.len() <= PAGE_MAX);
            (next, seen) = (page.next, [seen, seqs(&page)].concat());
        }
        assert_eq!((next, seen), (2500, (1..=2500).collect()));
        let page = log.page(at(9999), Wanted { limit: Some(2), ..after(7) });
        assert_eq!((seqs(&page), page.next), (vec![8, 9], 9));
        assert_eq!(page.events[0].at, "2023-11-14T22:13:28.000Z");
    }

    #[test]
    fn the_oldest_fall_out_and_are_counted_for_who_has_not_read_them() {
        let log = log(EVENTS_KEPT as u64 + 10);
        let page = log.page(at(0), after(0));
        assert_eq!((page.lost, page.events[0].seq), (10, 11));
        assert_eq!(log.page(at(0), after(4)).lost, 6);
        assert_eq!(log.page(at(0), after(11)).lost, 0);
        let (counts, lost) = log.counts();
        assert_eq!((counts.len(), lost), (Kind::ALL.len(), 10));
        assert!(counts.contains(&(Kind::HostJoined, EVENTS_KEPT as u64 + 10)));
    }

    #[test]
    fn a_number_of_an_agent_before_this_one_brings_all_that_is_kept() {
        let page = log(3).page(at(0), after(77));
        assert_eq!((seqs(&page), page.lost), (vec![1, 2, 3], 0));
    }

    #[test]
    fn old_ones_can_be_left_out() {
        let wanted = Wanted { since: Some(Duration::from_secs(3)), ..Wanted::default() };
        let page = log(10).page(at(10), wanted);
        assert_eq!((seqs(&page), page.next), (vec![7, 8, 9, 10], 10));
    }

    #[test]
    fn an_answer_is_bounded_in_bytes_and_goes_on() {
        let log = Log::new(at(0));
        for _ in 0..10 {
            log.push(at(0), notice(&"x".repeat(PAGE_BYTES / 2)));
        }
        let page = log.page(at(0), after(0));
        assert_eq!((seqs(&page), page.next), (vec![1, 2], 2));
        log.push(at(0), notice(&"x".repeat(PAGE_BYTES * 2)));
        assert_eq!(log.page(at(0), after(10)).events.len(), 1, "one is always told");
    }

    #[tokio::test]
    async fn a_wait_ends_with_news_with_its_time_and_with_the_agent() {
        let log = std::sync::Arc::new(log(3));
        let at_once = |after| {
            let log = log.clone();
            async move { tokio::time::timeout(WAIT_MAX / 2, log.wait(after, WAIT_MAX)).await }
        };
        assert!(at_once(after(2)).await.is_ok(), "there is something already");
        assert!(at_once(after(99)).await.is_ok(), "of an agent before this one");
        log.wait(after(3), Duration::from_millis(5)).await;
        let (waited, ()) = tokio::join!(at_once(after(3)), async {
            tokio::task::yield_now().await;
            log.push(at(0), notice("news"));
        });
        assert!(waited.is_ok());
        let (waited, ()) = tokio::join!(at_once(after(4)), async {
            tokio::task::yield_now().await;
            log.close();
        });
        assert!(waited.is_ok());
        log.push(at(0), notice("last words"));
        assert!(at_once(after(5)).await.is_ok());
    }
}
