//! A host on its way out of the cluster.

use super::*;
use crate::control::api;

const LEAVE: Request = Request::LeaveCluster { force: false };
const FORCED: Request = Request::LeaveCluster { force: true };

fn attached() -> World {
    let mut world = World::ready();
    assert!(matches!(world.get(Request::Attach(target("web"))), Ok(Response::Endpoint(_))));
    world
}

fn left(answer: Result<Response, Refusal>) -> api::Left {
    let Ok(Response::Left(left)) = answer else { panic!("not left: {answer:?}") };
    left
}

#[test]
fn a_host_without_endpoints_gives_everything_back_and_ends() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    // A lease that nobody knows of any more.
    world.leases.insert((1, "10.88.0.77".parse().unwrap()), "lost".into());
    let left = left(world.get(LEAVE));
    assert_eq!(left.notes, [""; 0]);
    assert!(left.addresses >= 1);
    assert!(world.leases.is_empty() && world.ended);
    // Its Docker is rid of the networks, the cluster still has them.
    assert_eq!(world.docker_names(), [""; 0]);
    assert_eq!(world.stored(), ["blue", "rethinkdb"]);
}

#[test]
fn a_host_with_endpoints_stays_and_says_who_they_are() {
    let mut world = attached();
    let refusal = world.get(LEAVE).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert!(refusal.message.contains("web on rethinkdb"), "{}", refusal.message);
    assert!(!world.ended && world.announced.len() == 1);
    assert!(world.get(Request::Attach(target("more"))).is_ok());
}

#[test]
fn with_force_endpoints_go_before_their_addresses_do() {
    let mut world = attached();
    world.log.clear();
    world.kernel_waits = true;
    let id = world.ask(FORCED);
    assert!(!world.replies.contains_key(&id) && !world.leases.is_empty());
    // Nobody hears of it any more, and nothing new begins.
    assert!(world.announced.is_empty() && world.names.is_empty());
    let refusal = world.get(Request::Attach(target("late"))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    world.kernel_waits = false;
    world.settle();
    left(world.replies.remove(&id).unwrap());
    assert!(world.leases.is_empty() && world.ended);
    assert!(world.core.desired().networks.is_empty());
}

#[test]
fn without_the_store_a_host_stays_unless_it_is_forced() {
    let mut world = World::ready();
    world.leases.insert((1, "10.88.0.77".parse().unwrap()), "lost".into());
    world.store_down = true;
    let refusal = world.get(LEAVE).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert!(refusal.message.contains("store down"), "{}", refusal.message);
    assert!(!world.ended);
    let left = left(world.get(FORCED));
    assert!(left.notes[0].contains("stay taken"), "{:?}", left.notes);
    assert!(world.ended);
}

#[test]
fn a_docker_that_does_not_answer_is_waited_for_a_bounded_time() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker_waits = true;
    let id = world.ask(LEAVE);
    assert!(!world.replies.contains_key(&id));
    world.pass(Duration::from_secs(19));
    let refusal = world.replies.remove(&id).unwrap().unwrap_err();
    assert!(refusal.message.contains("Docker"), "{}", refusal.message);
    assert!(!world.ended);
}

#[test]
fn a_network_that_docker_keeps_is_named() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker_waits = true;
    let id = world.ask(LEAVE);
    for call in std::mem::take(&mut world.docker_calls) {
        world.event(Event::Docker(call, Err(DockerError::InUse)));
    }
    let left = left(world.replies.remove(&id).unwrap());
    assert!(left.notes.iter().any(|note| note.contains("network blue")), "{:?}", left.notes);
    assert!(world.ended);
}

#[test]
fn a_second_request_to_leave_is_refused() {
    let mut world = attached();
    world.kernel_waits = true;
    world.ask(FORCED);
    assert_eq!(world.get(FORCED).unwrap_err().kind, RefusalKind::Conflict);
}

/// Delivers everything but the store's calls, which are given back.
fn hold_store(world: &mut World, request: Request) -> Vec<(CallId, StoreCall)> {
    let mut held = Vec::new();
    world.core.handle(world.now, Event::Request(RequestId(900), request));
    while let Some(action) = world.core.poll_action() {
        match action {
            Action::Store(id, call) => held.push((id, call)),
            other => world.act(other),
        }
    }
    assert_eq!(held.len(), 1, "{held:?}");
    held
}

fn deliver(world: &mut World, held: Vec<(CallId, StoreCall)>) {
    for (id, call) in held {
        let answer = world.store(call);
        world.core.handle(world.now, Event::Store(id, answer));
    }
    world.settle();
}

#[test]
fn an_address_that_is_just_being_given_out_is_waited_for_and_given_back() {
    let mut world = World::ready();
    docker_network(&mut world, "net1", "10.88.0.0/16", "rethinkdb").unwrap();
    let wanted = ask_for("10.88.0.0/16".parse().unwrap(), None, false);
    let held = hold_store(&mut world, Request::Address(wanted));
    let id = world.ask(LEAVE);
    assert!(!world.ended && !world.replies.contains_key(&id));
    deliver(&mut world, held);
    left(world.replies.remove(&id).unwrap());
    assert!(world.ended && world.leases.is_empty());
}

#[test]
fn a_late_answer_to_a_former_leave_does_not_end_the_next_one() {
    let mut world = World::ready();
    let held = hold_store(&mut world, LEAVE);
    world.pass(Duration::from_secs(8));
    assert!(world.replies.remove(&RequestId(900)).unwrap().is_err());
    assert!(world.get(Request::Attach(target("web"))).is_ok());
    world.kernel_waits = true;
    let id = world.ask(FORCED);
    assert!(!world.replies.contains_key(&id));
    deliver(&mut world, held);
    assert!(!world.ended, "ended with an endpoint in the kernel");
}

#[test]
fn with_a_full_disk_a_host_stays_and_nothing_of_it_waits_for_the_disk() {
    let mut world = World::ready();
    world.event(Event::DiskHealth(Some("no room".into())));
    assert_eq!(world.get(FORCED).unwrap_err().kind, RefusalKind::Unavailable);
    assert!(!Action::Store(CallId(1), StoreCall::ReleaseNode).needs_memory());
}

/// A host that was to leave and stays, because its Docker does not answer in time.
fn called_off() -> World {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker_waits = true;
    let id = world.ask(LEAVE);
    world.pass(Duration::from_secs(13));
    assert!(world.replies.remove(&id).unwrap().is_err());
    for call in std::mem::take(&mut world.docker_calls) {
        world.event(Event::Docker(call, Err(DockerError::Failed("it was too late".into()))));
    }
    world.docker_waits = false;
    world
}

#[test]
fn a_host_that_stays_after_all_is_as_it_was() {
    let mut world = called_off();
    // `pass` fails where the core would be woken without end.
    world.pass(Duration::from_secs(600));
    assert_eq!(world.problems(), [""; 0]);
    assert!(world.docker_names().contains(&"blue".to_owned()));
    world.remove("d1").unwrap();
    assert_eq!(world.stored(), ["rethinkdb"]);
}

#[test]
fn a_network_that_docker_removed_too_late_is_made_again() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker_waits = true;
    let id = world.ask(LEAVE);
    world.pass(Duration::from_secs(13));
    assert!(world.replies.remove(&id).unwrap().is_err());
    world.docker_waits = false;
    for call in std::mem::take(&mut world.docker_calls) {
        world.docker_does(call);
    }
    world.pass(Duration::from_secs(60));
    assert_eq!(world.stored(), ["blue", "rethinkdb"]);
    assert!(world.docker_names().contains(&"blue".to_owned()), "{:?}", world.docker_names());
}

#[test]
fn one_network_that_stays_does_not_keep_the_agent_busy_while_another_goes() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.create("d2", "red", None).unwrap();
    world.docker_waits = true;
    world.ask(LEAVE);
    let call = world.docker_calls.remove(0);
    world.event(Event::Docker(call, Err(DockerError::InUse)));
    world.pass(Duration::from_secs(11));
}
