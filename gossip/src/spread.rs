//! The queue of endpoint news to be told on. SANS-IO.
//!
//! News goes out at once to a few random members, and again on a tick for some rounds; so do those
//! who hear it first. Many items share a datagram. This is a channel of its own, so that membership
//! and endpoints do not wait for each other.

use std::collections::VecDeque;
use std::time::Duration;

use crate::NodeName;
use crate::endpoints::Version;
use crate::wire::{self, Item, Kind};

/// Most items that wait. At the bound the oldest is dropped and counted; push-pull repairs.
pub(crate) const MAX_BACKLOG: usize = 4096;
/// Time between two rounds.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Most datagrams of one tick, all targets counted. What is left waits for the next tick.
pub(crate) const MAX_DATAGRAMS_A_TICK: usize = 256;
/// Up to so many members everybody is told at once.
const SMALL_CLUSTER: usize = 8;
/// Members told at once, and in each round, in larger ones.
const FAN_OUT: usize = 4;

#[derive(Debug)]
struct Entry {
    origin: NodeName,
    version: Version,
    is_delta: bool,
    bytes: Vec<u8>,
    /// Not told to anybody yet.
    fresh: bool,
    rounds: u32,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Spread {
    entries: VecDeque<Entry>,
    /// Datagrams left in this tick.
    budget: usize,
    dropped: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { entries: VecDeque::new(), budget: MAX_DATAGRAMS_A_TICK, dropped: 0 }
    }
}

impl Spread {
    /// Queues an item, which makes older states of its origin needless. `others`: active members.
    pub(crate) fn push(&mut self, item: &Item, others: usize) {
        let (origin, version, is_delta) = match item {
            Item::Delta(delta) => (&delta.origin, delta.version, true),
            Item::State(state) => (&state.origin, state.version, false),
            Item::Version { origin, version } => (origin, *version, false),
        };
        let bytes = wire::item_bytes(item);
        if bytes.len() > wire::MAX_DATAGRAM - wire::HEADER {
            return;
        }
        if !is_delta || self.entries.iter().any(|entry| !entry.is_delta) {
            self.entries.retain(|entry| {
                entry.origin != *origin || entry.version > version || (is_delta && entry.is_delta)
            });
        }
        if self.entries.len() >= MAX_BACKLOG {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(Entry {
            origin: origin.clone(),
            version,
            is_delta,
            bytes,
            fresh: true,
            rounds: rounds(others),
        });
    }

    /// Packets with what nobody was told yet, each for all of `targets` members.
    pub(crate) fn fresh(&mut self, targets: usize) -> Vec<Vec<u8>> {
        self.pack(targets, |entry| entry.fresh)
    }

    /// Packets of the next round, and a new budget.
    pub(crate) fn tick(&mut self, targets: usize) -> Vec<Vec<u8>> {
        self.budget = MAX_DATAGRAMS_A_TICK;
        self.pack(targets, |_| true)
    }

    /// Packets with all news, outside rounds and budget: for the good-bye.
    pub(crate) fn everything(&self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut affordable = MAX_DATAGRAMS_A_TICK;
        for entry in &self.entries {
            place(&mut packets, &entry.bytes, &mut affordable);
        }
        packets
    }

    /// Forgets everything: there is nobody to tell.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn has_fresh(&self) -> bool {
        // Fresh entries are behind all others, except those that a spent budget left waiting.
        self.budget > 0 && self.entries.iter().rev().any(|entry| entry.fresh)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Items given up at the bound since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn pack(&mut self, targets: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Vec<u8>> {
        let mut packets: Vec<Vec<u8>> = Vec::new();
        let mut affordable = self.budget / targets.max(1);
        let mut rest = VecDeque::with_capacity(self.entries.len());
        let mut sent = VecDeque::new();
        while let Some(mut entry) = self.entries.pop_front() {
            if !wanted(&entry) || !place(&mut packets, &entry.bytes, &mut affordable) {
                rest.push_back(entry);
                continue;
            }
            if entry.fresh {
                entry.fresh = false;
            } else {
                entry.rounds -= 1;
            }
            if entry.rounds > 0 {
                sent.push_back(entry);
            }
        }
        // What was told goes behind what still waits, so that a spent budget starves nobody.
        rest.append(&mut sent);
        self.entries = rest;
        self.budget = self.budget.saturating_sub(packets.len() * targets);
        packets
    }
}

/// How many members are told at once.
pub(crate) fn fan_out(others: usize) -> usize {
    if others <= SMALL_CLUSTER { others } else { FAN_OUT }
}

/// Rounds after the first telling: grows with the logarithm of the cluster.
fn rounds(others: usize) -> u32 {
    2 + (others + 1).ilog10()
}

/// Appends to the last packet, or to a new one if there may be one.
fn place(packets: &mut Vec<Vec<u8>>, bytes: &[u8], affordable: &mut usize) -> bool {
    if let Some(last) = packets.last_mut()
        && last.len() + bytes.len() <= wire::MAX_DATAGRAM
    {
        last.extend_from_slice(bytes);
        return true;
    }
    if *affordable == 0 {
        return false;
    }
    *affordable -= 1;
    let mut packet = wire::header(Kind::Items);
    packet.extend_from_slice(bytes);
    packets.push(packet);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::tests::endpoint;
    use crate::endpoints::{Change, Delta, State};

    fn delta(seq: u64) -> Item {
        Item::Delta(Delta {
            origin: "a".parse().unwrap(),
            version: Version { epoch: 1, seq },
            change: Change::Upsert(endpoint("e", seq)),
        })
    }

    #[test]
    fn many_items_share_a_datagram_and_go_out_at_once() {
        let mut spread = Spread::default();
        for seq in 1..=50 {
            spread.push(&delta(seq), 3);
        }
        let packets = spread.fresh(3);
        assert!(packets.len() < 10);
        assert!(packets.iter().all(|p| p.len() <= wire::MAX_DATAGRAM));
        let items: usize = packets
            .iter()
            .map(|packet| wire::parse_items(wire::open(packet).unwrap().1).unwrap().len())
            .sum();
        assert_eq!(items, 50);
        assert!(!spread.has_fresh());
    }

    #[test]
    fn an_item_is_told_in_a_few_rounds_and_then_dropped() {
        let mut spread = Spread::default();
        spread.push(&delta(1), 3);
        spread.fresh(3);
        let rounds = std::iter::from_fn(|| (!spread.is_empty()).then(|| spread.tick(3)));
        assert_eq!(rounds.count(), 2);
    }

    #[test]
    fn a_whole_state_makes_older_news_of_its_node_needless() {
        let mut spread = Spread::default();
        spread.push(&delta(1), 3);
        spread.push(&delta(2), 3);
        let state = State {
            origin: "a".parse().unwrap(),
            version: Version { epoch: 2, seq: 0 },
            leaving: false,
            endpoints: Vec::new(),
        };
        spread.push(&Item::State(state), 3);
        assert_eq!(spread.len(), 1);
    }

    #[test]
    fn at_the_bound_the_oldest_is_dropped_and_counted() {
        let mut spread = Spread::default();
        for seq in 1..=MAX_BACKLOG as u64 + 5 {
            spread.push(&delta(seq), 3);
        }
        assert_eq!((spread.len(), spread.dropped()), (MAX_BACKLOG, 5));
    }

    #[test]
    fn a_storm_is_spread_over_ticks_and_nothing_is_lost_by_that() {
        let mut spread = Spread::default();
        for seq in 1..=4000 {
            spread.push(&delta(seq), 100);
        }
        let mut told = 0;
        let mut count = |packets: Vec<Vec<u8>>| {
            assert!(packets.len() * 4 <= MAX_DATAGRAMS_A_TICK);
            for packet in &packets {
                told += wire::parse_items(wire::open(packet).unwrap().1).unwrap().len();
            }
        };
        count(spread.fresh(4));
        assert!(!spread.has_fresh());
        while !spread.is_empty() {
            count(spread.tick(4));
        }
        assert_eq!(told, 4000 * 5);
    }
}
