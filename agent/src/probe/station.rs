//! Who waits for an answer, and how many probes of which series were seen here.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use super::frame::{Kind, Probe};

/// Probes that may wait for an answer at one time. One more is refused.
const WAITING_MAX: usize = 4096;

/// Series of others that are counted; the oldest is forgotten for the next.
const SERIES_MAX: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Station {
    open: bool,
    waiting: BTreeMap<(u64, u32), oneshot::Sender<()>>,
    /// Nonces and how many probes of them came, the latest last.
    series: VecDeque<(u64, u32)>,
}

impl Station {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The device is there, or gone. Who waits for an answer over it waits in vain then.
    pub(super) fn open(&mut self, open: bool) {
        self.open = open;
    }

    /// False: too many wait.
    pub(super) fn expect(&mut self, nonce: u64, seq: u32, answered: oneshot::Sender<()>) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.insert((nonce, seq), answered);
        true
    }

    pub(super) fn forget(&mut self, nonce: u64, seq: u32) {
        self.waiting.remove(&(nonce, seq));
    }

    /// Takes in a probe; gives back what is to be answered.
    pub(super) fn heard(&mut self, probe: Probe) -> Option<Probe> {
        match probe.kind {
            Kind::Question => {
                self.count(probe.nonce);
                Some(Probe { kind: Kind::Answer, ..probe })
            }
            Kind::Answer => {
                if let Some(answered) = self.waiting.remove(&(probe.nonce, probe.seq)) {
                    // Who waited may just have given up.
                    let _ = answered.send(());
                }
                None
            }
        }
    }

    fn count(&mut self, nonce: u64) {
        if let Some((_, seen)) = self.series.iter_mut().rev().find(|(known, _)| *known == nonce) {
            *seen = seen.saturating_add(1);
            return;
        }
        if self.series.len() == SERIES_MAX {
            self.series.pop_front();
        }
        self.series.push_back((nonce, 1));
    }

    pub(super) fn seen(&self, nonce: u64) -> u32 {
        let found = self.series.iter().rev().find(|(known, _)| *known == nonce);
        found.map_or(0, |(_, seen)| *seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_answered_and_counted_and_answers_reach_who_waits() {
        let mut station = Station::default();
        let question = |seq| Probe { kind: Kind::Question, nonce: 9, seq };
        assert_eq!(station.heard(question(1)), Some(Probe { kind: Kind::Answer, ..question(1) }));
        station.heard(question(2));
        assert_eq!((station.seen(9), station.seen(8)), (2, 0));

        let (answered, mut answer) = oneshot::channel();
        assert!(station.expect(5, 1, answered));
        assert_eq!(station.heard(Probe { kind: Kind::Answer, nonce: 5, seq: 2 }), None);
        assert!(answer.try_recv().is_err());
        station.heard(Probe { kind: Kind::Answer, nonce: 5, seq: 1 });
        assert!(answer.try_recv().is_ok());
    }

    #[test]
    fn strangers_fill_no_more_than_their_place() {
        let mut station = Station::default();
        for nonce in 0..2_000 {
            station.heard(Probe { kind: Kind::Question, nonce, seq: 0 });
        }
        assert_eq!(station.series.len(), SERIES_MAX);
        assert_eq!((station.seen(0), station.seen(1_999)), (0, 1));
    }
}
