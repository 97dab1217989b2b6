//! Docker's networks against the cluster's.

use super::*;

const FAR: Duration = Duration::from_secs(60);

#[test]
fn a_network_that_docker_made_is_recorded_with_all_it_was_given() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    assert_eq!(world.stored(), ["blue", "rethinkdb"]);
    let blue = world.store.iter().find(|n| n.name.as_ref() as &str == "blue").unwrap();
    assert_eq!(blue.subnet.to_string(), "10.64.0.0/16");
    assert_eq!(blue.docker.labels["team"], "bees");
}

#[test]
fn a_network_of_the_cluster_is_made_in_docker_and_goes_with_it() {
    let mut world = World::with_docker();
    assert_eq!(world.docker_names(), ["rethinkdb"], "it was there before Docker");
    world.store.push(network(2, "blue", "10.99.0.0/16"));
    world.publish_networks();
    assert_eq!(world.docker_names(), ["blue", "rethinkdb"]);
    world.store.retain(|n| n.id.0 != 2);
    world.publish_networks();
    assert_eq!(world.docker_names(), ["rethinkdb"]);
    assert_eq!(world.stored(), ["rethinkdb"], "its removal in Docker removes nothing else");
}

#[test]
fn a_removal_by_dockers_user_removes_it_from_the_cluster() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.remove("d1").unwrap();
    assert_eq!(world.stored(), ["rethinkdb"]);
    assert_eq!(world.docker_names(), ["rethinkdb"]);
}

#[test]
fn a_network_in_use_elsewhere_is_made_again_and_status_says_where() {
    let mut world = World::with_docker();
    world.member("workerbee-1", MemberState::Alive);
    world.endpoints_of("workerbee-1", vec![remote("a", "10.88.0.2", 3, "leader")]);
    let refusal = world.remove("made-1").unwrap_err();
    assert!(refusal.message.contains("leader on workerbee-1"), "{}", refusal.message);
    assert_eq!(world.docker_names(), ["rethinkdb"], "made again");
    let problems = world.problems();
    assert!(problems.iter().any(|p| p.contains("leader on workerbee-1")), "{problems:?}");
    world.endpoints_of("workerbee-1", Vec::new());
    assert!(world.problems().iter().all(|p| !p.contains("leader on workerbee-1")), "it is over");
}

#[test]
fn one_name_made_on_two_hosts_at_once_is_one_network() {
    let mut world = World::with_docker();
    // The other host recorded it between our request and Docker's list.
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    world.store.push(network(2, "blue", &pool.to_string()));
    world.docker.push(docker_has("d1", "blue", pool));
    world.list_docker();
    assert_eq!(world.stored(), ["blue", "rethinkdb"]);
    assert_eq!(world.docker_names(), ["blue", "rethinkdb"]);
    assert_eq!(world.core.state().docker_networks["d1"], 2);
}

#[test]
fn the_loser_of_a_race_gets_the_winners_subnet() {
    let mut world = World::with_docker();
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    world.store.push(network(2, "blue", "10.99.0.0/16"));
    world.docker.push(docker_has("d1", "blue", pool));
    world.list_docker();
    world.publish_networks();
    let blue: Vec<_> = world.docker.iter().filter(|n| n.config.name == "blue").collect();
    assert_eq!(blue.len(), 1);
    assert_eq!(blue[0].config.pools[0].subnet.to_string(), "10.99.0.0/16");
}

#[test]
fn two_names_with_one_picked_subnet_both_live() {
    let mut world = World::with_docker();
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    world.store.push(network(2, "green", &pool.to_string()));
    world.docker.push(docker_has("d1", "blue", pool));
    world.list_docker();
    world.publish_networks();
    world.pass(FAR);
    assert_eq!(world.stored(), ["blue", "green", "rethinkdb"]);
    assert_eq!(world.docker_names(), ["blue", "green", "rethinkdb"]);
}

#[test]
fn a_container_that_is_quicker_than_the_name_waits_for_it() {
    let mut world = World::with_docker();
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    let asked = world.ask(Request::Address(ask_for(pool, None, false)));
    assert!(!world.replies.contains_key(&asked));
    world.docker.push(docker_has("d1", "blue", pool));
    world.list_docker();
    let Ok(Response::Address(address)) = world.replies.remove(&asked).unwrap() else {
        panic!("no address")
    };
    assert_eq!(address.to_string(), "10.64.0.2/16");
    // And it does not wait for ever.
    let (_, pool) = docker_create(&mut world, "d2", None, None).unwrap();
    let asked = world.ask(Request::Address(ask_for(pool, None, false)));
    world.pass(FAR);
    let refusal = world.replies.remove(&asked).unwrap().unwrap_err();
    assert!(refusal.message.contains("Engine API"), "{}", refusal.message);
}

#[test]
fn what_docker_takes_back_is_not_removed_from_the_cluster() {
    let mut world = World::with_docker();
    world.docker_waits = true;
    world.store.push(network(2, "blue", "10.99.0.0/16"));
    world.publish_networks();
    let Some(call @ DockerCall::Create { .. }) = world.docker_calls.pop() else {
        panic!("not told to make it")
    };
    docker_create(&mut world, "d9", Some("10.99.0.0/16"), None).unwrap();
    world.get(Request::DeleteDockerNetwork("d9".into())).unwrap();
    assert_eq!(world.stored(), ["blue", "rethinkdb"]);
    let failed = DockerError::Failed("no space left on device".into());
    world.event(Event::Docker(call, Err(failed)));
    assert!(world.problems().iter().any(|p| p.contains("no space left")), "status says so");
    world.docker_waits = false;
    world.pass(Duration::from_secs(6));
    assert_eq!(world.docker_names(), ["blue", "rethinkdb"], "tried again");
}

#[test]
fn a_network_that_vanished_while_nobody_listened_is_made_again() {
    let mut world = World::with_docker();
    world.event(Event::DockerHealth(Some("no socket".into())));
    world.docker.clear();
    world.event(Event::DockerHealth(None));
    world.list_docker();
    world.pass(Duration::from_secs(16));
    assert!(world.docker.is_empty(), "Docker may still be telling of its removal");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.docker_names(), ["rethinkdb"]);
    assert_eq!(world.stored(), ["rethinkdb"]);
    assert!(world.problems().iter().any(|p| p.contains("remove it once more")));
}

#[test]
fn a_network_removed_elsewhere_while_the_agent_was_away_goes() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    let (docker, state) = (world.docker.clone(), world.core.state());
    let mut restarted = World::new(state, false);
    restarted.docker = docker;
    restarted.next_network = world.next_network;
    restarted.event(Event::DockerHealth(None));
    restarted.list_docker();
    assert_eq!(restarted.docker_names(), ["blue", "rethinkdb"], "before the store was heard");
    restarted.publish_networks();
    assert_eq!(restarted.docker_names(), ["rethinkdb"]);
    assert_eq!(restarted.stored(), ["rethinkdb"], "and is not recorded anew");
}

#[test]
fn a_store_that_lost_its_memory_takes_no_network_from_docker() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.event(Event::Networks(Networks { revision: 1, list: Vec::new(), next_id: 0 }));
    assert_eq!(world.docker_names(), ["blue", "rethinkdb"]);
}

#[test]
fn where_docker_shares_networks_itself_none_is_made_for_it() {
    let mut world = World::ready();
    world.get(Request::Scope(true)).unwrap();
    world.event(Event::DockerHealth(None));
    world.list_docker();
    assert!(world.docker.is_empty());
    // Another host's, seen here only by its endpoint.
    let pool: IpNet = "10.88.0.0/16".parse().unwrap();
    let Ok(Response::Address(IpNet::V4(address))) =
        world.get(Request::Address(ask_for(pool, None, false)))
    else {
        panic!("no address")
    };
    let create = CreateEndpoint {
        network: "shared".into(),
        endpoint: "e1".into(),
        address: Some(address),
        address6: None,
        mac: None,
        options: BTreeMap::new(),
    };
    assert!(world.get(Request::CreateEndpoint(create)).is_ok());
    assert_eq!(world.core.state().docker_networks["shared"], 1);
}

#[test]
fn a_scope_that_is_configured_is_told_whatever_docker_has() {
    let me = Identity { docker_scope: Some(Scope::Local), ..identity(false) };
    let mut world = World::ready();
    world.core = Core::new(me, State::default(), true, world.now);
    assert_eq!(world.get(Request::Scope(true)), Ok(Response::Scope(Scope::Local)));
    assert!(!world.core.state().docker_global);
}

#[test]
fn a_network_of_another_driver_with_the_name_is_named_in_status() {
    let mut world = World::with_docker();
    let call = world.is_told_to_make_blue();
    world.event(Event::Docker(call, Err(DockerError::NameTaken)));
    assert!(world.problems().iter().any(|p| p.contains("another network there has the name")));
}

#[test]
fn a_network_that_docker_was_making_when_it_died_is_made_when_it_is_back() {
    let mut world = World::with_docker();
    world.docker_waits = true;
    world.store.push(network(2, "blue", "10.99.0.0/16"));
    world.publish_networks();
    docker_create(&mut world, "d9", Some("10.99.0.0/16"), None).unwrap();
    world.event(Event::DockerHealth(Some("connection refused".into())));
    world.docker_waits = false;
    world.event(Event::DockerHealth(None));
    world.list_docker();
    assert_eq!(world.docker_names(), ["blue", "rethinkdb"]);
}

#[test]
fn a_network_that_cannot_be_recorded_says_why_to_its_first_container() {
    let mut world = World::with_docker();
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    world.store_down = true;
    world.docker.push(docker_has("d1", "blue", pool));
    world.list_docker();
    let refusal = world.get(Request::Address(ask_for(pool, None, false))).unwrap_err();
    assert!(refusal.message.contains("store down"), "{}", refusal.message);
    world.store_down = false;
    world.pass(Duration::from_secs(6));
    assert_eq!(world.stored(), ["blue", "rethinkdb"]);
}

#[test]
fn a_network_that_docker_lists_no_more_before_it_says_so_is_removed_all_the_same() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker.retain(|n| n.id != "d1");
    world.list_docker();
    assert_eq!(world.docker_names(), ["rethinkdb"], "not made again at once");
    assert_eq!(world.get(Request::DeleteDockerNetwork("d1".into())), Ok(Response::Done));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.stored(), ["rethinkdb"]);
    assert_eq!(world.docker_names(), ["rethinkdb"]);
}

#[test]
fn the_loser_of_a_subnet_gets_its_network_however_slow_the_store_is() {
    let mut world = World::with_docker();
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    world.store.push(network(2, "green", &pool.to_string()));
    world.publish_networks();
    world.docker.push(docker_has("d1", "blue", pool));
    let list = world.docker.clone();
    world.core.handle(world.now, Event::DockerNetworks(list));
    let mut waiting = None;
    while let Some(action) = world.core.poll_action() {
        match action {
            Action::Store(id, call @ StoreCall::EnsureNetwork(_)) => waiting = Some((id, call)),
            action => world.act(action),
        }
    }
    assert!(!world.docker.iter().any(|n| n.id == "d1"), "Docker removed its own first");
    let (id, call) = waiting.expect("it is recorded");
    let answer = world.store(call);
    world.event(Event::Store(id, answer));
    world.pass(FAR);
    assert_eq!(world.docker_names(), ["blue", "green", "rethinkdb"]);
}

#[test]
fn a_network_that_can_never_be_is_refused_by_the_command_that_makes_it() {
    let mut world = World::with_docker();
    for (subnet, gateway, mtu) in [
        ("127.0.0.0/8", "127.0.0.1", "1400"),
        ("169.254.0.0/16", "169.254.0.1", "1400"),
        ("10.9.0.0/24", "10.9.0.255", "1400"),
        ("10.9.0.0/24", "10.9.0.1", "100"),
    ] {
        let subnet: IpNet = subnet.parse().unwrap();
        let create = CreateNetwork {
            id: "d1".into(),
            options: BTreeMap::from([("com.docker.network.driver.mtu".into(), mtu.into())]),
            internal: false,
            enable_ipv6: false,
            ipv4: vec![IpamData {
                address_space: LOCAL_ADDRESS_SPACE.into(),
                pool: subnet,
                gateway: Some(IpNet::new(gateway.parse().unwrap(), subnet.prefix_len()).unwrap()),
                aux: BTreeMap::new(),
            }],
            ipv6: Vec::new(),
        };
        let refusal = world.get(Request::DockerNetwork(create)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Invalid, "{subnet} {gateway} {mtu}: {refusal:?}");
    }
}
