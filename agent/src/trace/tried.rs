//! What was sent along a way, and where it was seen. Pure.

use std::collections::BTreeMap;

use super::points::{Outcome, Spot};
use super::probe::Sent;
use super::watch::{Place as Watched, Report};
use crate::control::api::trace::{ProbeKind, Way as Direction};

/// What was sent, and what was seen of it at both ends.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) sent: Vec<Sent>,
    pub(super) near: Report,
    /// None: nobody watched there.
    pub(super) far: Option<Report>,
    pub(super) far_trouble: Option<String>,
    /// What became of the echo that FROM's own kernel sent; none: it was not tried.
    pub(super) own: Option<Result<(), String>>,
}

impl Tried {
    pub(super) fn interfaces(&self) -> BTreeMap<Spot, String> {
        let spots = Spot::BETWEEN_HOSTS.into_iter();
        spots
            .filter_map(|spot| Some((spot, self.report(spot)?.watched.get(&place(spot))?.clone())))
            .collect()
    }

    fn report(&self, spot: Spot) -> Option<&Report> {
        if spot.is_far() { self.far.as_ref() } else { Some(&self.near) }
    }

    pub(super) fn outcomes(&self, one_host: bool) -> Vec<Outcome> {
        self.sent.iter().map(|sent| self.outcome(sent, one_host)).collect()
    }

    fn outcome(&self, sent: &Sent, one_host: bool) -> Outcome {
        let spots: &[Spot] = match (one_host, sent.kind) {
            (true, _) => &Spot::ON_ONE_HOST,
            (false, ProbeKind::Arp) => &Spot::OF_PROXY,
            (false, ProbeKind::Echo | ProbeKind::Udp) => &Spot::BETWEEN_HOSTS,
        };
        let count = |spot: Spot| self.report(spot)?.count(place(spot), spot.way(), sent.kind);
        let answered = self.near.count(Watched::Endpoint, Direction::Back, sent.kind);
        Outcome {
            kind: sent.kind,
            bytes: sent.bytes,
            sent: sent.count,
            answered: answered.unwrap_or_default(),
            answer: self.near.answers.get(&sent.kind).cloned(),
            refused: sent.refused.clone(),
            error: self.near.errors.get(&sent.kind).cloned(),
            rtt_us: self.near.rtt_us(sent.kind),
            seen: spots.iter().map(|spot| (*spot, count(*spot))).collect(),
        }
    }

    pub(super) fn unwatched(&self, far: &str) -> Vec<String> {
        let there = self.far.iter().flat_map(|report| &report.troubles);
        let there = there.map(|trouble| format!("on {far}: {trouble}"));
        self.near.troubles.iter().cloned().chain(there).chain(self.far_trouble.clone()).collect()
    }
}

pub(super) fn place(spot: Spot) -> Watched {
    match spot {
        Spot::FromOut | Spot::ToIn | Spot::ToOut | Spot::FromIn => Watched::Endpoint,
        Spot::DeviceOut | Spot::FarDeviceIn | Spot::FarDeviceOut | Spot::DeviceIn => {
            Watched::Device
        }
        Spot::UnderlayOut | Spot::FarUnderlayIn | Spot::FarUnderlayOut | Spot::UnderlayIn => {
            Watched::Underlay
        }
    }
}
