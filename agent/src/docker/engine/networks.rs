//! When to list the driver's networks, and when to tell them: the part that decides. SANS-IO.
//!
//! The order of calls: after every `handle_*` the shell asks [`poll_list`](Networks::poll_list),
//! lists if it says so, and gives the result back by [`handle_listed`](Networks::handle_listed).
//! No two listings run at the same time, so that no older one ever follows a newer one; what
//! happens during a listing leads to one more. [`poll_networks`](Networks::poll_networks) gives what
//! is to be told: only the latest waits.
use super::said::Happening;
use super::tracker::MAX_NETWORKS;
use super::{DockerNetwork, network};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Networks {
    wanted: Option<Reason>,
    /// The listing under way, and why.
    listing: Option<Reason>,
    /// Sorted by id; what was listed last, even before a loss.
    latest: Vec<DockerNetwork>,
    due: bool,
    /// Told since the connection was made.
    told: bool,
    /// What was complained of.
    left_out: Vec<String>,
}

/// Why networks are listed; what weighs more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// To be told if it differs.
    Audit,
    /// To be told in any case.
    Event,
}

impl Networks {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Docker does not answer. A listing under way is taken for abandoned.
    pub(super) fn handle_lost(&mut self) {
        self.wanted = None;
        self.listing = None;
        self.due = false;
        self.told = false;
    }

    /// Time to see whether the networks are as they were told; the first time since a loss, too.
    pub(super) fn handle_audit(&mut self) {
        self.want(Reason::Audit);
    }

    /// One of Docker's events.
    pub(super) fn handle_happening(&mut self, happening: &Happening) {
        match happening {
            Happening::NetworkSeen { .. } | Happening::NetworkGone { .. } => {
                self.want(Reason::Event);
            }
            // With a cluster store, another host's network is met first when it is used.
            Happening::Connected { network, .. } if !self.knows(network) => {
                self.want(Reason::Audit);
            }
            Happening::Connected { .. } | Happening::Started { .. } | Happening::Touched { .. } => {
            }
        }
    }

    /// Whether to list the networks now.
    pub(super) fn poll_list(&mut self) -> bool {
        if self.listing.is_some() {
            return false;
        }
        self.listing = self.wanted.take();
        self.listing.is_some()
    }

    /// The listing that [`poll_list`](Self::poll_list) asked for.
    pub(super) fn handle_listed(&mut self, listed: network::Networks) {
        let reason = self.listing.take();
        self.complain(listed.left_out);
        let networks = self.bounded(listed.networks);
        let changed = networks != self.latest;
        self.latest = networks;
        self.due |= changed || !self.told || reason == Some(Reason::Event);
    }

    /// Whether [`poll_networks`](Self::poll_networks) has something.
    pub(super) fn has_networks(&self) -> bool {
        self.due
    }

    /// All networks as they are now, if they are to be told.
    pub(super) fn poll_networks(&mut self) -> Option<Vec<DockerNetwork>> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        self.told = true;
        Some(self.latest.clone())
    }

    /// Whether the networks were told since the connection was made.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    fn want(&mut self, reason: Reason) {
        self.wanted = self.wanted.max(Some(reason));
    }

    fn knows(&self, id: &str) -> bool {
        self.latest.binary_search_by(|known| known.id.as_str().cmp(id)).is_ok()
    }

    /// At the bound those stay that were told before: they must not look as if they were removed.
    fn bounded(&self, mut networks: Vec<DockerNetwork>) -> Vec<DockerNetwork> {
        if networks.len() > MAX_NETWORKS {
            let all = networks.len();
            tracing::warn!(all, "more than {MAX_NETWORKS} networks: the others are left out");
            networks.sort_by_cached_key(|network| (!self.knows(&network.id), network.id.clone()));
            networks.truncate(MAX_NETWORKS);
        }
        networks.sort_by(|a, b| a.id.cmp(&b.id));
        networks
    }

    fn complain(&mut self, left_out: Vec<String>) {
        for what in left_out.iter().filter(|what| !self.left_out.contains(what)) {
            tracing::warn!("docker: {what}");
        }
        self.left_out = left_out;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(id: &str) -> DockerNetwork {
        DockerNetwork { id: id.into(), global: false, config: Default::default() }
    }

    fn listed(ids: &[&str]) -> network::Networks {
        let networks = ids.iter().map(|id| network(id)).collect();
        network::Networks { networks, left_out: vec![] }
    }

    fn seen(network: &str) -> Happening {
        Happening::NetworkSeen { network: network.into() }
    }

    fn told(networks: &mut Networks) -> Option<Vec<String>> {
        assert_eq!(networks.has_networks(), networks.due);
        networks.poll_networks().map(|all| all.into_iter().map(|network| network.id).collect())
    }

    /// After a first listing of no networks.
    fn following() -> Networks {
        let mut networks = Networks::new();
        networks.handle_audit();
        assert!(networks.poll_list() && !networks.is_told());
        networks.handle_listed(listed(&[]));
        assert_eq!(told(&mut networks), Some(vec![]));
        assert!(networks.is_told());
        networks
    }

    #[test]
    fn every_event_of_a_network_is_followed_by_all_of_them() {
        let mut networks = following();
        let gone = Happening::NetworkGone { network: "b".into() };
        for (happening, ids) in [(seen("b"), &["b", "a"][..]), (gone, &["a"]), (seen("x"), &["a"])]
        {
            networks.handle_happening(&happening);
            assert!(networks.poll_list());
            networks.handle_listed(listed(ids));
            let mut sorted = ids.to_vec();
            sorted.sort_unstable();
            assert_eq!(told(&mut networks).unwrap(), sorted);
            assert!(!networks.poll_list());
        }
    }

    #[test]
    fn an_audit_tells_what_differs_and_nothing_else() {
        let mut networks = following();
        for (ids, is_told) in [(&[][..], false), (&["a"], true), (&["a"], false), (&[], true)] {
            networks.handle_audit();
            assert!(networks.poll_list());
            networks.handle_listed(listed(ids));
            assert_eq!(told(&mut networks).is_some(), is_told, "{ids:?}");
        }
    }

    #[test]
    fn events_during_a_listing_lead_to_one_more_and_only_the_latest_waits() {
        let mut networks = following();
        networks.handle_happening(&seen("a"));
        assert!(networks.poll_list());
        for _ in 0..100 {
            networks.handle_happening(&seen("b"));
            assert!(!networks.poll_list());
        }
        networks.handle_listed(listed(&["a"]));
        assert!(networks.poll_list());
        networks.handle_listed(listed(&["a", "b"]));
        assert_eq!(told(&mut networks).unwrap(), ["a", "b"]);
        assert!(!networks.poll_list() && told(&mut networks).is_none());
    }

    #[test]
    fn a_network_that_is_met_when_it_is_used_is_looked_for_once() {
        let mut networks = following();
        let connected =
            |network: &str| Happening::Connected { container: "c".into(), network: network.into() };
        networks.handle_happening(&connected("a"));
        assert!(networks.poll_list());
        networks.handle_listed(listed(&["a"]));
        assert_eq!(told(&mut networks).unwrap(), ["a"]);
        networks.handle_happening(&connected("a"));
        networks.handle_happening(&Happening::Started { container: "c".into() });
        networks.handle_happening(&Happening::Touched { container: "c".into() });
        assert!(!networks.poll_list());
    }

    #[test]
    fn after_a_loss_all_are_told_again() {
        let mut networks = following();
        networks.handle_happening(&seen("a"));
        assert!(networks.poll_list());
        networks.handle_lost();
        assert!(!networks.is_told() && !networks.poll_list() && !networks.has_networks());
        networks.handle_audit();
        assert!(networks.poll_list());
        networks.handle_listed(listed(&[]));
        assert_eq!(told(&mut networks), Some(vec![]));
    }

    #[test]
    fn at_the_bound_those_stay_that_were_told() {
        let mut networks = following();
        let ids = |range: std::ops::Range<usize>| range.map(|n| network(&format!("n{n:06}")));
        let list = |networks: Vec<_>| network::Networks { networks, left_out: vec![] };
        networks.handle_listed(list(ids(10..MAX_NETWORKS + 5).collect()));
        assert_eq!(told(&mut networks).unwrap().len(), MAX_NETWORKS - 5);
        networks.handle_listed(list(ids(0..MAX_NETWORKS + 5).collect()));
        let all = told(&mut networks).unwrap();
        assert_eq!((all.len(), all.is_sorted()), (MAX_NETWORKS, true));
        assert!(all.contains(&format!("n{:06}", MAX_NETWORKS + 4)));
    }

    proptest! {
        /// A model of Docker: networks come and go, each with an event that may come late.
        #[test]
        fn what_is_told_in_the_end_is_what_docker_has(
            steps in prop::collection::vec((0..6_u8, 0..4_u8), 0..60),
        ) {
            let mut networks = following();
            let mut docker = std::collections::BTreeSet::new();
            let (mut events, mut asked, mut receiver) = (vec![], None, vec![]);
            let list = |docker: &std::collections::BTreeSet<String>| {
                docker.iter().cloned().collect::<Vec<String>>()
            };
            let settle = std::iter::repeat_n([(2, 0), (3, 0), (4, 0)], 70).flatten();
            for (step, id) in steps.into_iter().chain(settle) {
                let id = format!("n{id}");
                match step {
                    0 if docker.insert(id.clone()) => events.push(seen(&id)),
                    1 if docker.remove(&id) => events.push(Happening::NetworkGone { network: id }),
                    2 if !events.is_empty() => networks.handle_happening(&events.remove(0)),
                    3 => if let Some(ids) = asked.take() {
                        let ids: Vec<String> = ids;
                        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                        networks.handle_listed(listed(&ids));
                    },
                    4 => receiver = told(&mut networks).unwrap_or(receiver),
                    _ => {}
                }
                if networks.poll_list() {
                    asked = Some(list(&docker));
                }
            }
            assert_eq!(receiver, list(&docker));
        }
    }
}
