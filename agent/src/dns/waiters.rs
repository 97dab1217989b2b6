//! Who waits for which answer when many queries share one socket. No IO, no clock.
//!
//! Each query goes out under an id that is free at that moment; an answer belongs to whoever
//! waits under its id and asked its question, and to nobody otherwise.
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::wire;

/// The queries that are out over one socket; `T`: what hands an answer to whoever waits for it.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    by_id: HashMap<u16, Waiting<T>>,
    limit: usize,
    issued: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    /// Header and question as they went out.
    question: Box<[u8]>,
    ticket: Ticket,
    answer_to: T,
}

/// One wait; ids are given out again, tickets are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    id: u16,
    serial: u64,
}

impl<T> Waiters<T> {
    /// `limit`: waits at the same time, below 65,536; one more is refused.
    pub(crate) fn new(limit: usize) -> Waiters<T> {
        Waiters { by_id: HashMap::new(), limit: limit.min(usize::from(u16::MAX)), issued: 0 }
    }

    /// Puts a free id into `message`, whose question section ends at `question_end`, and waits for
    /// its answer. `draw` is a random number: the id is it, or the next free one.
    ///
    /// `None`: too many wait already.
    pub(crate) fn add(
        &mut self,
        message: &mut [u8],
        question_end: usize,
        draw: u16,
        answer_to: T,
    ) -> Option<Ticket> {
        if self.by_id.len() >= self.limit {
            return None;
        }
        let mut ids = (0..=u16::MAX).map(|step| draw.wrapping_add(step));
        let id = ids.find(|id| !self.by_id.contains_key(id))?;
        wire::set_id(message, id);
        self.issued += 1;
        let ticket = Ticket { id, serial: self.issued };
        let question = message.get(..question_end).unwrap_or(message).into();
        self.by_id.insert(id, Waiting { question, ticket, answer_to });
        Some(ticket)
    }

    /// Ends the wait that `response` answers; `None`: it is late, or somebody else's.
    pub(crate) fn take(&mut self, response: &[u8]) -> Option<T> {
        let Entry::Occupied(entry) = self.by_id.entry(wire::id(response)) else {
            return None;
        };
        let question = &entry.get().question;
        wire::answers(question, question.len(), response).then(|| entry.remove().answer_to)
    }

    /// Gives up one wait, if it has not ended yet.
    pub(crate) fn give_up(&mut self, ticket: Ticket) {
        if let Entry::Occupied(entry) = self.by_id.entry(ticket.id)
            && entry.get().ticket == ticket
        {
            entry.remove();
        }
    }

    /// Ends all waits without an answer.
    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::wire::{HEADER_LENGTH, Request, id};

    /// `web.`, class IN, type A, behind a header with id 7.
    const QUERY: &[u8] =
        b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01";

    struct Rig {
        waiters: Waiters<u32>,
        end: usize,
    }

    impl Rig {
        fn new(limit: usize) -> Rig {
            let end = Request::read(QUERY).unwrap().question_end;
            Rig { waiters: Waiters::new(limit), end }
        }

        /// The ticket, and the answer to what went out.
        fn add(&mut self, draw: u16, who: u32) -> Option<(Ticket, Vec<u8>)> {
            let mut message = QUERY.to_vec();
            let ticket = self.waiters.add(&mut message, self.end, draw, who)?;
            message[2] |= 0x80;
            Some((ticket, message))
        }
    }

    #[test]
    fn an_answer_goes_to_whoever_asked_and_only_once() {
        let mut rig = Rig::new(8);
        let (_, first) = rig.add(500, 1).unwrap();
        let (_, second) = rig.add(500, 2).unwrap();
        let (_, third) = rig.add(u16::MAX, 3).unwrap();
        let (_, fourth) = rig.add(u16::MAX, 4).unwrap();
        assert_eq!([&first, &second, &third, &fourth].map(|m| id(m)), [500, 501, u16::MAX, 0]);
        assert_eq!(rig.waiters.take(&second), Some(2));
        assert_eq!(rig.waiters.take(&second), None, "a repeated answer is late");
        assert_eq!(rig.waiters.take(&fourth), Some(4));
        assert_eq!(rig.waiters.take(&first), Some(1));
        assert_eq!(rig.waiters.take(&third), Some(3));
    }

    #[test]
    fn a_foreign_answer_does_not_end_a_wait() {
        let mut rig = Rig::new(8);
        let (_, answer) = rig.add(500, 1).unwrap();
        let mut other_name = answer.clone();
        other_name[HEADER_LENGTH + 1] = b'x';
        let mut a_query = answer.clone();
        a_query[2] &= 0x7f;
        let mut other_id = answer.clone();
        wire::set_id(&mut other_id, 501);
        for foreign in [&other_name[..], &a_query, &other_id, &answer[..11], &[]] {
            assert_eq!(rig.waiters.take(foreign), None, "{foreign:?}");
        }
        assert_eq!(rig.waiters.take(&answer), Some(1));
    }

    #[test]
    fn over_the_bound_nobody_waits_until_another_has_given_up() {
        let mut rig = Rig::new(2);
        let (first, _) = rig.add(1, 1).unwrap();
        rig.add(1, 2).unwrap();
        assert!(rig.add(1, 3).is_none());
        rig.waiters.give_up(first);
        assert!(rig.add(1, 3).is_some());
    }

    #[test]
    fn who_gives_up_late_does_not_end_anothers_wait_under_the_same_id() {
        let mut rig = Rig::new(8);
        let (first, _) = rig.add(1, 1).unwrap();
        rig.waiters.clear();
        let (_, answer) = rig.add(1, 2).unwrap();
        rig.waiters.give_up(first);
        assert_eq!(rig.waiters.take(&answer), Some(2));
    }
}
