mod model;

use super::*;

const WAIT: Duration = Duration::from_secs(10);

fn endpoint(container: &str, network: &str, endpoint: &str, names: &[&str]) -> ContainerEndpoint {
    ContainerEndpoint {
        container: container.into(),
        endpoint_id: endpoint.into(),
        network_id: network.into(),
        names: names.iter().map(ToString::to_string).collect(),
        sandbox: "/run/netns/x".into(),
    }
}

fn listed(id: &str, name: &str, endpoints: &[(&str, &str)]) -> Listed {
    let owned = |(n, e): &(&str, &str)| ((*n).to_owned(), (*e).to_owned());
    Listed { id: id.into(), name: name.into(), endpoints: endpoints.iter().map(owned).collect() }
}

fn listing(containers: &[Listed]) -> Listing {
    Listing {
        version: "20.10.24".into(),
        networks: ["ours".to_owned()].into(),
        containers: containers.to_vec(),
    }
}

fn connected(container: &str) -> Happening {
    Happening::Connected { container: container.into(), network: "ours".into() }
}

fn touched(container: &str) -> Happening {
    Happening::Touched { container: container.into() }
}

/// A tracker with a clock and what it told.
struct Lab {
    tracker: Tracker,
    now: Instant,
    told: Vec<EngineEvent>,
}

impl Lab {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the first one")]
    fn new() -> Self {
        Self { tracker: Tracker::new(), now: Instant::now(), told: Vec::new() }
    }

    /// After a first listing without containers.
    fn following() -> Self {
        let mut lab = Self::new();
        lab.list(&[]);
        lab.told();
        lab
    }

    fn list(&mut self, containers: &[Listed]) {
        self.tracker.handle_listing(listing(containers), self.now);
    }

    fn happens(&mut self, happening: Happening) {
        self.tracker.handle_happening(happening, self.now);
    }

    fn asked(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.tracker.poll_inspect(self.now)).collect()
    }

    fn answer(&mut self, id: &str, result: Inspected) {
        self.tracker.handle_inspected(id, result, self.now);
    }

    fn told(&mut self) -> Vec<EngineEvent> {
        assert_eq!(self.tracker.has_event(), {
            self.told.extend(std::iter::from_fn(|| self.tracker.poll_event()));
            !self.told.is_empty()
        });
        assert!(!self.tracker.has_event());
        std::mem::take(&mut self.told)
    }
}

fn is_connected() -> EngineEvent {
    EngineEvent::Connected { version: "20.10.24".into() }
}

fn gone(container: &str) -> EngineEvent {
    EngineEvent::Gone { container: container.into() }
}

#[test]
fn a_first_listing_is_told_as_a_whole_once_every_container_was_inspected() {
    let mut lab = Lab::new();
    let elsewhere = listed("c3", "c", &[("theirs", "e3")]);
    lab.list(&[
        listed("c1", "a", &[("ours", "e1")]),
        listed("c2", "b", &[("ours", "e2"), ("theirs", "e9")]),
        elsewhere,
    ]);
    assert_eq!(lab.told(), [is_connected()]);
    assert_eq!(lab.asked(), ["c1", "c2"]);
    let a = endpoint("c1", "ours", "e1", &["a"]);
    let b = endpoint("c2", "ours", "e2", &["b"]);
    let foreign = endpoint("c2", "theirs", "e9", &["b"]);
    lab.answer("c2", Inspected::Running(vec![foreign, b.clone()]));
    assert_eq!(lab.told(), []);
    lab.answer("c1", Inspected::Running(vec![a.clone()]));
    assert_eq!(lab.told(), [EngineEvent::Containers(vec![a, b])]);
}

#[test]
fn a_docker_without_containers_is_told_so() {
    let mut lab = Lab::new();
    lab.list(&[]);
    assert_eq!(lab.told(), [is_connected(), EngineEvent::Containers(vec![])]);
}

#[test]
fn an_absent_docker_is_told_once() {
    let mut lab = Lab::new();
    for why in ["no socket", "still no socket", "refused"] {
        lab.tracker.handle_lost(why.into());
    }
    let why = "no socket".to_owned();
    assert_eq!(lab.told(), [EngineEvent::Lost { why }]);
    lab.tracker.handle_lost("refused".into());
    assert_eq!(lab.told(), []);
}

#[test]
fn a_container_comes_changes_its_name_and_goes() {
    let mut lab = Lab::following();
    lab.happens(connected("c1"));
    assert_eq!(lab.asked(), ["c1"]);
    let before = endpoint("c1", "ours", "e1", &["a"]);
    lab.answer("c1", Inspected::Running(vec![before.clone()]));
    assert_eq!(lab.told(), [EngineEvent::Changed(vec![before])]);

    lab.happens(touched("c1"));
    assert_eq!(lab.asked(), ["c1"]);
    let after = endpoint("c1", "ours", "e1", &["b"]);
    lab.answer("c1", Inspected::Running(vec![after.clone()]));
    assert_eq!(lab.told(), [EngineEvent::Changed(vec![after])]);

    lab.happens(touched("c1"));
    assert_eq!(lab.asked(), ["c1"]);
    lab.answer("c1", Inspected::Gone);
    assert_eq!(lab.told(), [gone("c1")]);
    assert!(lab.tracker.containers.is_empty());
}

#[test]
fn events_during_an_inspect_lead_to_one_more() {
    let mut lab = Lab::following();
    lab.happens(connected("c1"));
    assert_eq!(lab.asked(), ["c1"]);
    for _ in 0..100 {
        lab.happens(touched("c1"));
    }
    assert_eq!(lab.asked(), Vec::<String>::new());
    lab.answer("c1", Inspected::Gone);
    assert_eq!(lab.asked(), ["c1"]);
    lab.answer("c1", Inspected::Gone);
    assert_eq!(lab.asked(), Vec::<String>::new());
    assert_eq!(lab.told(), []);
}

#[test]
fn what_did_not_change_is_not_told() {
    let mut lab = Lab::following();
    let known = endpoint("c1", "ours", "e1", &["a"]);
    for times in 0..3 {
        lab.happens(connected("c1"));
        assert_eq!(lab.asked(), ["c1"]);
        lab.answer("c1", Inspected::Running(vec![known.clone()]));
        assert_eq!(lab.told().len(), usize::from(times == 0));
    }
}

#[test]
fn a_change_that_was_not_taken_yet_is_told_as_it_is_by_then() {
    let mut lab = Lab::following();
    for name in ["a", "b", "c"] {
        lab.happens(connected("c1"));
        lab.asked();
        lab.answer("c1", Inspected::Running(vec![endpoint("c1", "ours", "e1", &[name])]));
    }
    let last = endpoint("c1", "ours", "e1", &["c"]);
    assert_eq!(lab.told(), [EngineEvent::Changed(vec![last])]);
}

#[test]
fn a_container_that_came_and_went_untold_is_never_told() {
    let mut lab = Lab::following();
    lab.happens(connected("c1"));
    lab.asked();
    lab.answer("c1", Inspected::Running(vec![endpoint("c1", "ours", "e1", &["a"])]));
    lab.happens(touched("c1"));
    lab.asked();
    lab.answer("c1", Inspected::Gone);
    assert_eq!(lab.told(), []);
    assert!(lab.tracker.containers.is_empty());
}

#[test]
fn a_starting_container_is_looked_at_again_when_it_runs() {
    let mut lab = Lab::following();
    lab.happens(connected("c1"));
    lab.asked();
    lab.answer("c1", Inspected::Gone);
    let container = "c1".to_owned();
    lab.happens(Happening::Started { container });
    assert_eq!(lab.asked(), ["c1"]);
}

#[test]
fn containers_of_other_networks_cost_one_inspect_and_are_forgotten() {
    let mut lab = Lab::following();
    let container = "c1".to_owned();
    lab.happens(Happening::Started { container });
    assert_eq!(lab.asked(), ["c1"]);
    lab.answer("c1", Inspected::Running(vec![endpoint("c1", "theirs", "e1", &["a"])]));
    lab.happens(touched("c1"));
    assert_eq!(lab.asked(), Vec::<String>::new());
    assert_eq!(lab.told(), []);
    assert!(lab.tracker.containers.is_empty());
}

#[test]
fn a_failed_inspect_is_tried_again_ever_more_seldom_and_keeps_what_was_known() {
    let mut lab = Lab::following();
    lab.happens(connected("c1"));
    lab.asked();
    let known = endpoint("c1", "ours", "e1", &["a"]);
    lab.answer("c1", Inspected::Running(vec![known]));
    lab.told();
    lab.happens(touched("c1"));
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(lab.asked(), ["c1"]);
        lab.now += WAIT;
        lab.answer("c1", Inspected::Failed("no answer".into()));
        assert_eq!(lab.asked(), Vec::<String>::new());
        let due = lab.tracker.poll_timeout().unwrap();
        pauses.push(due - lab.now);
        lab.now = due;
    }
    assert_eq!(pauses.first(), Some(&RETRY_MIN));
    assert_eq!(pauses.last(), Some(&RETRY_MAX));
    assert!(pauses.is_sorted());
    assert_eq!(lab.told(), []);
}

#[test]
fn an_event_ends_the_pause_after_a_failure() {
    let mut lab = Lab::following();
    lab.happens(connected("c1"));
    lab.asked();
    lab.answer("c1", Inspected::Failed("no answer".into()));
    assert_eq!(lab.asked(), Vec::<String>::new());
    lab.happens(touched("c1"));
    assert_eq!(lab.asked(), ["c1"]);
    assert!(lab.tracker.due.is_empty());
}

#[test]
fn a_container_that_cannot_be_inspected_does_not_hold_back_the_snapshot() {
    let mut lab = Lab::new();
    lab.list(&[listed("c1", "a", &[("ours", "e1")]), listed("c2", "b", &[("ours", "e2")])]);
    lab.told();
    lab.asked();
    lab.answer("c1", Inspected::Failed("no answer".into()));
    let b = endpoint("c2", "ours", "e2", &["b"]);
    lab.answer("c2", Inspected::Running(vec![b.clone()]));
    // It does run, so it is told with what the listing says.
    let mut as_listed = endpoint("c1", "ours", "e1", &["a", "c1"]);
    as_listed.sandbox = PathBuf::new();
    assert_eq!(lab.told(), [EngineEvent::Containers(vec![as_listed, b])]);
    lab.now += RETRY_MIN;
    assert_eq!(lab.asked(), ["c1"]);
    let a = endpoint("c1", "ours", "e1", &["a"]);
    lab.answer("c1", Inspected::Running(vec![a.clone()]));
    assert_eq!(lab.told(), [EngineEvent::Changed(vec![a])]);
}

#[test]
fn after_a_loss_all_is_listed_anew_and_what_went_meanwhile_is_not_in_it() {
    let mut lab = Lab::new();
    lab.list(&[listed("c1", "a", &[("ours", "e1")]), listed("c2", "b", &[("ours", "e2")])]);
    lab.asked();
    let a = endpoint("c1", "ours", "e1", &["a"]);
    let b = endpoint("c2", "ours", "e2", &["b"]);
    lab.answer("c1", Inspected::Running(vec![a.clone()]));
    lab.answer("c2", Inspected::Running(vec![b]));
    lab.told();
    lab.happens(touched("c1"));
    lab.asked();
    lab.tracker.handle_lost("it went".into());
    assert_eq!(lab.told(), [EngineEvent::Lost { why: "it went".into() }]);
    // Before the next listing nothing is asked: which networks count is not known.
    lab.happens(connected("c1"));
    assert_eq!(lab.asked(), Vec::<String>::new());
    assert_eq!(lab.tracker.poll_timeout(), None);

    lab.list(&[listed("c1", "a", &[("ours", "e1")])]);
    assert_eq!(lab.asked(), ["c1", "c2"]);
    lab.answer("c1", Inspected::Running(vec![a.clone()]));
    lab.answer("c2", Inspected::Gone);
    assert_eq!(lab.told(), [is_connected(), EngineEvent::Containers(vec![a])]);
    assert_eq!(lab.tracker.containers.len(), 1);
}

#[test]
fn a_container_marked_during_the_snapshot_is_in_it_as_it_is_after_the_mark() {
    let mut lab = Lab::new();
    lab.list(&[listed("c1", "a", &[("ours", "e1")])]);
    lab.told();
    lab.asked();
    lab.happens(touched("c1"));
    lab.answer("c1", Inspected::Running(vec![endpoint("c1", "ours", "e1", &["a"])]));
    assert_eq!(lab.told(), []);
    assert_eq!(lab.asked(), ["c1"]);
    let renamed = endpoint("c1", "ours", "e1", &["b"]);
    lab.answer("c1", Inspected::Running(vec![renamed.clone()]));
    assert_eq!(lab.told(), [EngineEvent::Containers(vec![renamed])]);
}

#[test]
fn an_audit_looks_at_what_is_not_as_known_and_at_nothing_else() {
    let mut lab = Lab::new();
    let containers: Vec<Listed> = ["c1", "c2", "c3", "c4"]
        .map(|id| listed(id, &format!("/{id}"), &[("ours", &format!("e-{id}"))]))
        .into();
    lab.list(&containers);
    for id in lab.asked() {
        let known = endpoint(&id, "ours", &format!("e-{id}"), &[&id]);
        lab.answer(&id, Inspected::Running(vec![known]));
    }
    lab.told();
    lab.list(&containers);
    assert_eq!(lab.asked(), Vec::<String>::new());
    // The second was renamed, the third restarted, the fourth stopped; a fifth is new.
    lab.list(&[
        containers[0].clone(),
        listed("c2", "/renamed", &[("ours", "e-c2")]),
        listed("c3", "/c3", &[("ours", "e-new")]),
        listed("c5", "/c5", &[("ours", "e-c5")]),
        listed("c6", "/c6", &[("theirs", "e-c6")]),
    ]);
    assert_eq!(lab.asked(), ["c2", "c3", "c4", "c5"]);
}

#[test]
fn a_network_made_after_the_listing_counts() {
    let mut lab = Lab::following();
    lab.happens(Happening::NetworkSeen { network: "new".into() });
    let container = "c1".to_owned();
    lab.happens(Happening::Started { container });
    lab.asked();
    let new = endpoint("c1", "new", "e1", &["a"]);
    lab.answer("c1", Inspected::Running(vec![new.clone()]));
    assert_eq!(lab.told(), [EngineEvent::Changed(vec![new])]);
    lab.happens(Happening::NetworkGone { network: "new".into() });
    assert!(!lab.tracker.networks.contains("new"));
}

#[test]
fn no_more_inspects_run_than_may_at_once() {
    let mut lab = Lab::following();
    let ids: Vec<String> = (0..3 * MAX_INSPECTS).map(|n| format!("c{n:04}")).collect();
    for id in &ids {
        lab.happens(connected(id));
    }
    let first = lab.asked();
    assert_eq!(first.len(), MAX_INSPECTS);
    assert_eq!(lab.tracker.poll_timeout(), None);
    lab.answer(&first[0], Inspected::Gone);
    assert_eq!(lab.asked().len(), 1);
}

#[test]
fn the_tables_are_bounded_and_take_new_ones_after_others_went() {
    let mut lab = Lab::following();
    for n in 0..MAX_CONTAINERS + 10 {
        lab.happens(connected(&format!("c{n:06}")));
    }
    assert_eq!(lab.tracker.containers.len(), MAX_CONTAINERS);
    let asked = lab.asked();
    lab.answer(&asked[0], Inspected::Gone);
    lab.happens(connected("new"));
    assert!(lab.tracker.containers.contains_key("new"));
    for n in 0..MAX_NETWORKS + 10 {
        lab.happens(Happening::NetworkSeen { network: format!("n{n:06}") });
    }
    assert_eq!(lab.tracker.networks.len(), MAX_NETWORKS);
}
