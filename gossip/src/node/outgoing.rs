//! The node and what it says: endpoint news to others, changes to its user.

use std::time::Instant;

use super::Node;
use crate::endpoints::{Change, State};
use crate::spread::TICK;
use crate::wire::{self, Item};
use crate::{Changes, Member, MemberState, NodeEndpoints, NodeName};

/// A whole state up to so many bytes is told in datagrams; a larger one is only named, and pulled.
const SMALL_STATE: usize = 1200;
/// Most members that are told directly that we stop. The others hear it from them.
const MAX_GOODBYES: usize = 1024;

impl Node {
    /// Makes a change of our own endpoints, and tells it.
    pub(super) fn change(&mut self, change: Change) {
        if let Some(delta) = self.table.change(change) {
            self.stats.deltas_out += 1;
            self.spread_on(&Item::Delta(delta));
        }
    }

    /// Says good-bye: to all that can be told directly, and through foca.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.note(now);
        if self.leaving {
            return;
        }
        self.change(Change::Leaving);
        self.leaving = true;
        let others = self.members.active().len();
        if !self.rivals.is_muted() {
            let audience = self.some_members(MAX_GOODBYES);
            let packets = self.spread.everything();
            self.tell(&audience, &packets);
        }
        tracing::debug!(others, "leaving");
        self.swim.leave(now);
        self.settle();
    }

    /// Queues an item to be told on, unless there is nobody.
    pub(super) fn spread_on(&mut self, item: &Item) {
        let others = self.members.active().len();
        if others > 0 && !self.rivals.is_muted() {
            self.spread.push(item, others);
            let at = self.now + TICK;
            self.schedule.tick.get_or_insert(at);
        }
    }

    /// Tells our whole state: it is new, not led to by a change.
    pub(super) fn tell_own_state(&mut self) {
        self.tell_state(self.table.own_state());
    }

    /// Tells a whole state, or, where it is large, only its version.
    pub(super) fn tell_state(&mut self, state: State) {
        let item = Item::State(state);
        if wire::item_bytes(&item).len() <= SMALL_STATE {
            self.spread_on(&item);
        } else if let Item::State(State { origin, version, .. }) = item {
            self.spread_on(&Item::Version { origin, version });
        }
    }

    /// Tells our version, so that who holds less pulls.
    pub(super) fn tell_own_version(&mut self) {
        self.spread_on(&Item::Version {
            origin: self.own.clone(),
            version: self.table.own_version(),
        });
    }

    /// Tells a few members what nobody was told yet.
    pub(super) fn tell_fresh(&mut self) {
        if self.spread.has_fresh() {
            let audience = self.audience();
            let packets = self.spread.fresh(audience.len());
            self.tell(&audience, &packets);
        }
    }

    /// A further round of all news.
    pub(super) fn tell_again(&mut self) {
        let audience = self.audience();
        if audience.is_empty() {
            self.spread.clear();
            return;
        }
        let packets = self.spread.tick(audience.len());
        self.tell(&audience, &packets);
        if !self.spread.is_empty() {
            self.schedule.tick = Some(self.now + TICK);
        }
    }

    fn tell(&mut self, audience: &[std::net::SocketAddrV4], packets: &[Vec<u8>]) {
        for packet in packets {
            for peer in audience {
                self.send(*peer, packet.clone());
            }
        }
    }

    /// True once after [`members`](Self::members) changed.
    pub(crate) fn members_changed(&mut self) -> bool {
        std::mem::take(&mut self.members_changed)
    }

    /// True where [`poll_changes`](Self::poll_changes) has something.
    pub(crate) fn has_changes(&self) -> bool {
        let news = &self.news;
        news.conflict
            || news.synced
            || news.other_format.is_some()
            || news.oddity.is_some()
            || !(news.members.is_empty() && news.nodes.is_empty() && news.forgotten.is_empty())
    }

    /// What changed since the last call.
    pub(crate) fn poll_changes(&mut self) -> Option<Changes> {
        if !self.has_changes() {
            return None;
        }
        let news = std::mem::take(&mut self.news);
        Some(Changes {
            forgotten: news.forgotten.into_iter().collect(),
            members: news.members.iter().filter_map(|name| self.member(name)).collect(),
            nodes: news.nodes.into_iter().filter_map(|name| self.node_endpoints(name)).collect(),
            name_conflict: self.conflict(),
            other_format: news.other_format,
            oddity: news.oddity,
            synced: news.synced,
        })
    }

    /// A member as its user sees it.
    pub(super) fn member(&self, name: &NodeName) -> Option<Member> {
        let known = self.members.known(name)?;
        let state = match known.state {
            foca::State::Alive => MemberState::Alive,
            foca::State::Suspect => MemberState::Suspect,
            foca::State::Down if self.table.has_left(name, known.identity.epoch) => {
                MemberState::Left
            }
            foca::State::Down => MemberState::Down,
        };
        Some(Member { name: name.clone(), address: known.identity.address, state })
    }

    /// Our own endpoints, ordered by id.
    #[cfg(test)]
    pub(crate) fn own_endpoints(&self) -> Vec<crate::Endpoint> {
        self.table.own_state().endpoints
    }

    fn node_endpoints(&self, node: NodeName) -> Option<NodeEndpoints> {
        let vtep = *self.members.known(&node)?.identity.address.ip();
        let endpoints = self.table.endpoints(&node)?;
        Some(NodeEndpoints { node, vtep, endpoints })
    }
}
