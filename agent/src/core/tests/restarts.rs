//! Containers that stop and start, alone or with dockerd and the host.

use super::*;

const POOL: &str = "10.88.0.0/16";

fn run(world: &mut World, endpoint: &str) -> String {
    docker_run(world, endpoint).unwrap();
    world.announced[endpoint].ipv4.to_string()
}

/// As dockerd does when a container ends.
fn stop(world: &mut World, endpoint: &str, address: &str) {
    world.get(Request::Leave(endpoint.into())).unwrap();
    world.get(Request::DeleteEndpoint(endpoint.into())).unwrap();
    world.get(Request::ReleaseAddress(POOL.into(), address.parse().unwrap())).unwrap();
}

fn with_network() -> World {
    let mut world = World::with_docker();
    world.docker.clear();
    docker_network(&mut world, "net1", POOL, "rethinkdb").unwrap();
    world
}

#[test]
fn docker_need_not_wait_for_the_kernel_to_remove_an_interface() {
    let mut world = with_network();
    let address = run(&mut world, "e1");
    world.kernel_waits = true;
    stop(&mut world, "e1", &address);
    assert_eq!(world.leases.len(), 1, "held until its interface is gone");
    // The same address is wanted again meanwhile.
    let wanted = ask_for(POOL.parse().unwrap(), Some(&address), false);
    let asked = world.ask(Request::Address(wanted));
    assert!(!world.replies.contains_key(&asked));
    world.kernel_waits = false;
    world.settle();
    assert!(world.replies.remove(&asked).unwrap().is_ok());
}

#[test]
fn a_network_is_removed_once_its_last_endpoint_is_gone() {
    let mut world = with_network();
    let address = run(&mut world, "e1");
    world.kernel_waits = true;
    stop(&mut world, "e1", &address);
    let asked = world.ask(Request::DeleteDockerNetwork("net1".into()));
    assert!(!world.replies.contains_key(&asked));
    world.kernel_waits = false;
    world.settle();
    assert_eq!(world.replies.remove(&asked), Some(Ok(Response::Done)));
}

#[test]
fn containers_that_stop_with_dockerd_get_their_addresses_again() {
    let mut world = with_network();
    run(&mut world, "e1");
    let address = run(&mut world, "e2");
    stop(&mut world, "e2", &address);
    world.event(Event::DockerHealth(Some("connection refused".into())));
    // Somebody else's is in between.
    world.leases.insert((1, "10.88.0.3".parse().unwrap()), "docker".into());
    world.leases.remove(&(1, address.parse().unwrap()));
    assert_eq!(run(&mut world, "e3"), address);
}

#[test]
fn they_get_them_also_when_the_store_was_away_for_long() {
    let mut world = with_network();
    run(&mut world, "e1");
    let address = run(&mut world, "e2");
    stop(&mut world, "e2", &address);
    world.event(Event::DockerHealth(Some("connection refused".into())));
    world.event(Event::StoreHealth(Some("no route".into())));
    world.pass(Duration::from_secs(600));
    world.event(Event::StoreHealth(None));
    world.leases.insert((1, "10.88.0.3".parse().unwrap()), "docker".into());
    world.leases.remove(&(1, address.parse().unwrap()));
    assert_eq!(run(&mut world, "e3"), address);
    // Not for ever, once it is back.
    assert_eq!(world.core.docker.returning.remembered().len(), 0);
}

#[test]
fn a_container_that_stops_alone_does_not_leave_its_address_to_the_next() {
    let mut world = with_network();
    let first = run(&mut world, "e1");
    stop(&mut world, "e1", &first);
    // Left to the store, which takes the longest unused.
    assert_eq!(world.core.docker.returning.remembered().len(), 1);
    let asked = ask_for(POOL.parse().unwrap(), None, false);
    world.core.handle(world.now, Event::Request(RequestId(9999), Request::Address(asked)));
    let call = std::iter::from_fn(|| world.core.poll_action()).find_map(|action| match action {
        Action::Store(_, StoreCall::Allocate { wanted, .. }) => Some(wanted),
        _ => None,
    });
    assert_eq!(call, Some(Wanted::V4));
}

#[test]
fn an_address_that_another_host_took_meanwhile_is_passed_over() {
    let mut world = with_network();
    let address = run(&mut world, "e1");
    stop(&mut world, "e1", &address);
    world.event(Event::DockerHealth(Some("connection refused".into())));
    world.leases.insert((1, address.parse().unwrap()), "somebody".into());
    assert_ne!(run(&mut world, "e2"), address);
}

#[test]
fn an_address_that_its_user_chose_is_left_to_its_container() {
    let mut world = with_network();
    let wanted = ask_for(POOL.parse().unwrap(), Some("10.88.0.2"), false);
    world.get(Request::Address(wanted)).unwrap();
    let create = CreateEndpoint {
        network: "net1".into(),
        endpoint: "e1".into(),
        address: Some("10.88.0.2/16".parse().unwrap()),
        address6: None,
        mac: None,
        options: BTreeMap::new(),
    };
    world.get(Request::CreateEndpoint(create)).unwrap();
    stop(&mut world, "e1", "10.88.0.2");
    assert!(world.core.docker.returning.remembered().is_empty());
}
