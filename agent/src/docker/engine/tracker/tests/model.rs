//! A model of Docker and of the receiver, in any order of events, answers and losses.
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Run(u8),
    Rename(u8, u8),
    Remove(u8),
    /// The inspect that waits longest, or the one that was asked last, is answered.
    Answer {
        newest: bool,
        fails: bool,
    },
    /// The connection breaks, and Docker is listed anew.
    Reconnect,
    /// The receiver takes an event.
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4_u8).prop_map(Step::Run),
        3 => (0..4_u8, 0..3_u8).prop_map(|(container, name)| Step::Rename(container, name)),
        2 => (0..4_u8).prop_map(Step::Remove),
        4 => (any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(newest, fails)| Step::Answer { newest, fails }),
        1 => Just(Step::Reconnect),
        2 => Just(Step::Take),
    ]
}

/// Docker, the tracker and its receiver.
struct World {
    lab: Lab,
    /// Container → name; only those that run.
    docker: BTreeMap<String, String>,
    /// Container → name, as the receiver was told.
    seen: BTreeMap<String, String>,
    /// Inspects under way, with what Docker had when they were asked.
    asked: Vec<(String, Inspected)>,
}

impl World {
    fn new() -> Self {
        Self {
            lab: Lab::following(),
            docker: BTreeMap::new(),
            seen: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    /// Carries out a step; a change is followed by its event, unless that gets lost.
    fn carry_out(&mut self, step: Step, event_lost: bool) {
        match step {
            Step::Run(container) => {
                let id = format!("c{container}");
                self.docker.entry(id.clone()).or_insert_with(|| "first".into());
                self.tell(event_lost, connected(&id));
            }
            Step::Rename(container, name) => {
                let id = format!("c{container}");
                if let Some(now) = self.docker.get_mut(&id) {
                    *now = format!("n{name}");
                }
                self.tell(event_lost, touched(&id));
            }
            Step::Remove(container) => {
                let id = format!("c{container}");
                self.docker.remove(&id);
                self.tell(event_lost, touched(&id));
            }
            Step::Answer { newest, fails } => self.answer(newest, fails),
            Step::Reconnect => {
                self.lab.tracker.handle_lost("it went".into());
                self.asked.clear();
                self.list();
            }
            Step::Take => self.take(),
        }
        self.lab.now += Duration::from_millis(100);
        self.ask();
    }

    fn tell(&mut self, lost: bool, happening: Happening) {
        if !lost {
            self.lab.happens(happening);
        }
    }

    fn list(&mut self) {
        let listed = |(id, name): (&String, &String)| listed(id, name, &[("ours", id)]);
        let all: Vec<Listed> = self.docker.iter().map(listed).collect();
        self.lab.list(&all);
    }

    fn ask(&mut self) {
        for id in self.lab.asked() {
            let result = match self.docker.get(&id) {
                Some(name) => Inspected::Running(vec![endpoint(&id, "ours", &id, &[name])]),
                None => Inspected::Gone,
            };
            self.asked.push((id, result));
        }
    }

    fn answer(&mut self, newest: bool, fails: bool) {
        let Some(last) = self.asked.len().checked_sub(1) else {
            return;
        };
        let (id, result) = self.asked.remove(if newest { last } else { 0 });
        let failed = || Inspected::Failed("no answer".into());
        self.lab.answer(&id, if fails { failed() } else { result });
    }

    fn take(&mut self) {
        let first = |endpoints: &[ContainerEndpoint]| {
            (endpoints[0].container.clone(), endpoints[0].names[0].clone())
        };
        match self.lab.tracker.poll_event() {
            Some(EngineEvent::Changed(endpoints)) => {
                self.seen.extend([first(&endpoints)]);
            }
            Some(EngineEvent::Gone { container }) => {
                assert!(self.seen.remove(&container).is_some(), "was never told");
            }
            Some(EngineEvent::Containers(all)) => {
                self.seen = all.chunks(1).map(first).collect();
            }
            Some(EngineEvent::Networks(_)) => panic!("not the tracker's to tell"),
            Some(EngineEvent::Connected { .. } | EngineEvent::Lost { .. }) | None => {}
        }
    }

    /// No more changes: all that was begun is answered and told.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.lab.now += RETRY_MAX;
            self.ask();
            while !self.asked.is_empty() {
                self.answer(false, false);
            }
        }
        while self.lab.tracker.has_event() {
            self.take();
        }
    }

    fn check(&self) {
        assert_eq!(self.seen, self.docker);
        let tracker = &self.lab.tracker;
        assert_eq!(tracker.inspecting, 0);
        assert!(tracker.due.is_empty() && tracker.changed.is_empty());
        assert_eq!(tracker.containers.len(), self.docker.len());
    }
}

proptest! {
    #[test]
    fn when_no_event_is_lost_what_is_told_in_the_end_is_what_docker_has(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.carry_out(step, false);
        }
        world.settle();
        world.check();
    }

    #[test]
    fn whatever_events_are_lost_the_next_listing_makes_up_for_them(
        steps in prop::collection::vec((step(), any::<bool>()), 0..80),
    ) {
        let mut world = World::new();
        for (step, lost) in steps {
            world.carry_out(step, lost);
        }
        world.settle();
        world.list();
        world.settle();
        world.check();
    }
}
