//! Hosts that come, go, are doubted and move.

use std::mem::discriminant;
use std::net::Ipv4Addr;
use std::time::Instant;

use ovl_gossip::{Member, MemberState, NodeName, Oddity, OtherFormat};

use crate::core::Core;
use crate::core::notice::{Kind, Notice};
use crate::core::remote::NAMES_HELD;
use crate::core::view::{ODDITY_FOR, odd_in_words};

impl Core {
    /// A member as it is now; `before`: its state and address until now, if it was known.
    pub(in crate::core) fn tell_member(
        &mut self,
        member: &Member,
        before: Option<(MemberState, Ipv4Addr)>,
    ) {
        let (name, address) = (&member.name, *member.address.ip());
        let state = before.map(|(state, _)| state);
        if let Some((_, was)) = before.filter(|(_, was)| *was != address) {
            let summary = format!("host {name} moved from {was} to {address}");
            self.tell(Notice::new(Kind::HostMoved, summary).host(name).address(address));
        }
        let Some((kind, what, why)) = change(state, member.state) else {
            return;
        };
        self.tell_of(kind, 1, || {
            let summary = format!("host {name} ({address}) {what}");
            Notice::new(kind, summary).host(name).address(address).because(why)
        });
    }

    pub(in crate::core) fn tell_nameless(&mut self, node: &NodeName) {
        let summary = format!("names of endpoints on host {node} are not answered any more");
        let why = format!(
            "its agent has been away for {} s, so nobody vouches for them; packets still reach them",
            NAMES_HELD.as_secs()
        );
        self.tell(Notice::new(Kind::NamesWithheld, summary).host(node).because(why));
    }

    pub(in crate::core) fn tell_format(&mut self, other: OtherFormat) {
        let OtherFormat { from, version, known } = other;
        let summary = format!("the agent at {from} runs another release, and is not understood");
        let why = format!("it speaks format {version} of the gossip, this one {known}");
        self.tell(Notice::new(Kind::OtherFormat, summary).address(from).because(why));
    }

    /// Somebody told what cannot be. Of one kind it is told once, until it is forgotten.
    pub(in crate::core) fn odd(&mut self, now: Instant, odd: Oddity) {
        let kind = discriminant(&odd);
        let oddities = &mut self.health.oddities;
        oddities.retain(|(at, _)| *at + ODDITY_FOR > now);
        let known = oddities.len();
        oddities.retain(|(_, known)| discriminant(known) != kind);
        let told = oddities.len() < known;
        oddities.push((now, odd.clone()));
        if !told {
            let words = odd_in_words(&odd);
            tracing::warn!("{words}");
            let notice = Notice::new(Kind::OddClaim, words);
            self.tell(match &odd {
                Oddity::Epoch { from, node, .. } => notice.host(node).address(*from),
                Oddity::HeldForDead { .. } => notice.host(&self.me.node),
            });
        }
    }
}

/// What a change of state is told as, and why it came about; `None`: nothing to tell.
fn change(
    before: Option<MemberState>,
    now: MemberState,
) -> Option<(Kind, &'static str, &'static str)> {
    use MemberState::{Alive, Down, Left, Suspect};
    let doubted = "it did not answer a probe, and has some seconds to say that it is alive";
    let given_up = "it answered no probe, and did not say that it is alive";
    Some(match (before, now) {
        (None, Alive | Suspect) => (Kind::HostJoined, "joined", ""),
        (None, Down) => (Kind::HostDown, "is down", "others say so; it was not met"),
        (None, Left) => (Kind::HostLeft, "has left", "others say so; it was not met"),
        (Some(Suspect), Alive) => (Kind::HostBack, "answers again", "it was suspected"),
        (Some(Down), Alive | Suspect) => (Kind::HostBack, "is back", "it was down"),
        (Some(Left), Alive | Suspect) => (Kind::HostBack, "is back", "it had left"),
        (Some(Alive), Suspect) => (Kind::HostSuspected, "is suspected", doubted),
        (Some(Alive | Suspect | Left), Down) => (Kind::HostDown, "is down", given_up),
        (Some(Alive | Suspect | Down), Left) => {
            (Kind::HostLeft, "left", "its agent said that it stops")
        }
        (Some(Alive), Alive) | (Some(Suspect), Suspect) => return None,
        (Some(Down), Down) | (Some(Left), Left) => return None,
    })
}
