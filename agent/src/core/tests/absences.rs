//! What goes on while somebody is away, slow or dead: networks and addresses stay what they were.

use super::*;

const POOL: &str = "10.88.0.0/16";

fn spins(world: &mut World, why: &str) {
    for _ in 0..20 {
        world.now = world.now.max(world.core.poll_timeout());
        world.event(Event::Timeout);
    }
    assert!(world.core.poll_timeout() > world.now, "{why}: the timeout is for ever in the past");
}

#[test]
fn a_failure_over_a_network_that_is_gone_is_forgotten() {
    let mut world = World::with_docker();
    let call = world.is_told_to_make_blue();
    world.event(Event::Docker(call, Err(DockerError::NameTaken)));
    world.store.retain(|n| n.id.0 != 2);
    world.publish_networks();
    world.docker_waits = false;
    spins(&mut world, "name taken, then removed");
}

#[test]
fn an_answer_of_a_docker_that_is_gone_by_now_wakes_nobody() {
    let mut world = World::with_docker();
    let call = world.is_told_to_make_blue();
    world.event(Event::DockerHealth(Some("gone".into())));
    world.event(Event::Docker(call, Err(DockerError::Failed("connection reset".into()))));
    spins(&mut world, "docker gone");
}

#[test]
fn a_network_that_another_host_recorded_is_not_recorded_again() {
    let mut world = World::with_docker();
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    world.docker.push(docker_has("d1", "blue", pool));
    world.store_down = true;
    world.list_docker();
    world.store_down = false;
    // The other host recorded it first.
    world.store.push(network(2, "blue", &pool.to_string()));
    world.pass(Duration::from_secs(1));
    world.publish_networks();
    world.now += Duration::from_secs(6);
    world.event(Event::Timeout);
    spins(&mut world, "recording");
}

#[test]
fn a_removal_that_docker_refuses_does_not_bring_a_network_back() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker_waits = true;
    world.store.retain(|n| n.name.as_ref() as &str != "blue");
    world.publish_networks();
    let call = world.docker_calls.pop().unwrap();
    assert!(matches!(&call, DockerCall::Remove(id) if id == "d1"));
    world.event(Event::Docker(call, Err(DockerError::InUse)));
    world.list_docker();
    world.now += Duration::from_secs(6);
    world.event(Event::Timeout);
    assert_eq!(world.stored(), ["rethinkdb"], "it was removed from the cluster");
}

#[test]
fn an_agent_that_dies_in_a_removal_does_not_bring_a_network_back() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker_waits = true;
    world.store.retain(|n| n.name.as_ref() as &str != "blue");
    world.publish_networks();
    let (docker, state) = (world.docker.clone(), world.core.state());
    let mut restarted = World::new(state, false);
    restarted.docker = docker;
    restarted.next_network = world.next_network;
    restarted.event(Event::DockerHealth(None));
    restarted.list_docker();
    restarted.publish_networks();
    assert_eq!(restarted.stored(), ["rethinkdb"], "it was removed from the cluster");
}

#[test]
fn a_dockerd_that_restarts_in_a_removal_does_not_bring_a_network_back() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    world.docker_waits = true;
    world.store.retain(|n| n.name.as_ref() as &str != "blue");
    world.publish_networks();
    let call = world.docker_calls.pop().unwrap();
    world.event(Event::Docker(call, Err(DockerError::Failed("connection reset".into()))));
    world.event(Event::DockerHealth(Some("gone".into())));
    world.event(Event::DockerHealth(None));
    world.docker_waits = false;
    world.list_docker();
    assert_eq!(world.stored(), ["rethinkdb"], "it was removed from the cluster");
}

#[test]
fn a_network_removed_while_docker_makes_it_stays_removed() {
    let mut world = World::with_docker();
    world.docker_waits = true;
    world.store.push(network(2, "blue", "10.99.0.0/16"));
    world.publish_networks();
    let Some(call @ DockerCall::Create { .. }) = world.docker_calls.pop() else { panic!() };
    // another host's user removes it before our Docker has come to it
    world.store.retain(|n| n.id.0 != 2);
    world.publish_networks();
    world.docker_waits = false;
    world.docker_does(call);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.stored(), ["rethinkdb"], "it was removed from the cluster");
}

/// Only what the store lists says whether it is to be made again.
#[test]
fn a_network_that_docker_lost_while_the_store_is_silent_wakes_nobody() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    let mut restarted = World::new(world.core.state(), false);
    restarted.store_down = true;
    restarted.event(Event::DockerHealth(None));
    restarted.list_docker();
    restarted.now += Duration::from_secs(60);
    spins(&mut restarted, "a network is missing");
}

/// Nothing came of it: it is not kept in mind for ever, nor over a restart.
#[test]
fn a_network_that_was_not_made_is_doubted_for_a_minute() {
    let mut world = World::with_docker();
    let call = world.is_told_to_make_blue();
    docker_create(&mut world, "d9", Some("10.99.0.0/16"), None).unwrap();
    world.event(Event::Docker(call, Err(DockerError::Failed("no answer".into()))));
    let knows = |world: &World| world.core.docker.networks().contains_key("d9");
    world.list_docker();
    assert!(knows(&world));
    world.docker_waits = false;
    world.pass(Duration::from_secs(61));
    assert!(!knows(&world));
    assert_eq!(world.docker_names(), ["blue", "rethinkdb"], "it is made");
}

/// It was made, and Docker was gone before it was listed, or before Docker had said so.
#[test]
fn a_network_that_nobody_saw_listed_does_not_come_back() {
    for answered in [None, Some(Ok("d9".to_owned())), Some(Err("connection reset"))] {
        let mut world = World::with_docker();
        let call = world.is_told_to_make_blue();
        let (_, pool) = docker_create(&mut world, "d9", Some("10.99.0.0/16"), None).unwrap();
        world.docker.push(docker_has("d9", "blue", pool));
        let answered =
            answered.map(|answer| answer.map_err(|why| DockerError::Failed(why.to_owned())));
        if let Some(answer) = answered.clone() {
            world.event(Event::Docker(call, answer));
        }
        world.event(Event::DockerHealth(Some("gone".into())));
        // another host's user removes it
        world.store.retain(|n| n.id.0 != 2);
        world.publish_networks();
        world.docker_waits = false;
        world.event(Event::DockerHealth(None));
        world.list_docker();
        assert_eq!(world.stored(), ["rethinkdb"], "{answered:?}: it was removed from the cluster");
        assert_eq!(world.docker_names(), ["rethinkdb"], "{answered:?}");
    }
}

/// Docker goes on making it, although it was not waited for any longer.
#[test]
fn a_network_that_docker_makes_late_does_not_come_back() {
    let mut world = World::with_docker();
    let call = world.is_told_to_make_blue();
    let (_, pool) = docker_create(&mut world, "d9", Some("10.99.0.0/16"), None).unwrap();
    let silent = DockerError::Failed("no answer within 30s".into());
    world.event(Event::Docker(call, Err(silent)));
    world.list_docker();
    world.store.retain(|n| n.id.0 != 2);
    world.publish_networks();
    world.docker_waits = false;
    world.pass(Duration::from_secs(10));
    world.docker.push(docker_has("d9", "blue", pool));
    world.list_docker();
    assert_eq!(world.stored(), ["rethinkdb"], "it was removed from the cluster");
    assert_eq!(world.docker_names(), ["rethinkdb"]);
}

#[test]
fn a_removal_while_the_store_records_waits_and_then_removes() {
    let mut world = World::with_docker();
    let (_, pool) = docker_create(&mut world, "d1", None, None).unwrap();
    world.docker.push(docker_has("d1", "blue", pool));
    let list = world.docker.clone();
    world.core.handle(world.now, Event::DockerNetworks(list));
    let actions: Vec<_> = std::iter::from_fn(|| world.core.poll_action()).collect();
    let call = actions
        .into_iter()
        .find_map(|a| match a {
            Action::Store(id, call @ StoreCall::EnsureNetwork(_)) => Some((id, call)),
            _ => None,
        })
        .unwrap();
    // docker network rm, while the store writes
    let asked = world.ask(Request::DeleteDockerNetwork("d1".into()));
    assert!(!world.replies.contains_key(&asked));
    world.docker.retain(|n| n.id != "d1");
    let answer = world.store(call.1);
    world.event(Event::Store(call.0, answer));
    assert_eq!(world.replies.remove(&asked), Some(Ok(Response::Done)));
    world.list_docker();
    assert_eq!(world.docker_names(), ["rethinkdb"], "removed by the user with success");
}

#[test]
fn an_address_is_not_asked_for_while_it_is_being_given_back() {
    let mut world = with_network();
    docker_run(&mut world, "e1").unwrap();
    let address = world.announced["e1"].ipv4.to_string();
    world.kernel_waits = true;
    world.get(Request::Leave("e1".into())).unwrap();
    world.get(Request::DeleteEndpoint("e1".into())).unwrap();
    world.get(Request::ReleaseAddress(POOL.into(), address.parse().unwrap())).unwrap();
    let wanted = ask_for(POOL.parse().unwrap(), Some(&address), false);
    let asked = world.ask(Request::Address(wanted));
    assert!(!world.replies.contains_key(&asked));
    let version = world.core.desired_version();
    let report = Report::default();
    world.core.handle(world.now, Event::Applied { version, audit: false, report });
    let calls: Vec<_> = std::iter::from_fn(|| world.core.poll_action())
        .filter_map(|a| match a {
            Action::Store(id, call) => Some((id, call)),
            _ => None,
        })
        .collect();
    println!("{calls:?}");
    let both = calls.iter().any(|(_, c)| matches!(c, StoreCall::Release { .. }))
        && calls.iter().any(|(_, c)| matches!(c, StoreCall::Allocate { .. }));
    // Each is a task of its own: any order may be.
    for (id, call) in calls.into_iter().rev() {
        let answer = world.store(call);
        world.event(Event::Store(id, answer));
    }
    assert!(world.replies.remove(&asked).unwrap().is_ok());
    assert_eq!(world.leases.len(), 1, "answered to Docker, and not held; both in flight: {both}");
}

fn with_network() -> World {
    let mut world = World::with_docker();
    world.docker.clear();
    docker_network(&mut world, "net1", POOL, "rethinkdb").unwrap();
    world
}

fn stop(world: &mut World, endpoint: &str, address: &str) {
    world.get(Request::Leave(endpoint.into())).unwrap();
    world.get(Request::DeleteEndpoint(endpoint.into())).unwrap();
    world.get(Request::ReleaseAddress(POOL.into(), address.parse().unwrap())).unwrap();
}

#[test]
fn an_address_that_runs_is_not_given_out_after_a_restart_of_the_agent() {
    let mut world = with_network();
    docker_run(&mut world, "e1").unwrap();
    let address = world.announced["e1"].ipv4.to_string();
    stop(&mut world, "e1", &address);
    // Later another container gets it.
    world.now += Duration::from_secs(3600);
    docker_run(&mut world, "e2").unwrap();
    assert_eq!(world.announced["e2"].ipv4.to_string(), address);
    world.event(Event::Moved { endpoint: "e2".into(), ifname: Some("eth0".parse().unwrap()) });
    let state = world.core.state();
    println!("returning on disk: {:?}", state.returning);
    let mut restarted = World::new(state, false);
    restarted.leases = world.leases.clone();
    restarted.publish_networks();
    restarted.event(Event::StoreHealth(None));
    docker_run(&mut restarted, "e3").expect("a container starts after the agent's restart");
}

#[test]
fn a_fixed_address_is_not_given_to_another_after_a_restart_of_dockerd() {
    let mut world = with_network();
    let fixed = "10.88.0.200";
    let run_fixed = |world: &mut World, e: &str| {
        let wanted = ask_for(POOL.parse().unwrap(), Some(fixed), false);
        let Response::Address(IpNet::V4(address)) = world.get(Request::Address(wanted))? else {
            panic!()
        };
        world.get(Request::CreateEndpoint(CreateEndpoint {
            network: "net1".into(),
            endpoint: e.into(),
            address: Some(address),
            address6: None,
            mac: None,
            options: BTreeMap::new(),
        }))?;
        world.get(Request::Join(Join {
            network: "net1".into(),
            endpoint: e.into(),
            sandbox_key: "/run/x".into(),
        }))
    };
    run_fixed(&mut world, "f1").unwrap();
    docker_run(&mut world, "e1").unwrap();
    let dynamic = world.announced["e1"].ipv4.to_string();
    stop(&mut world, "f1", fixed);
    stop(&mut world, "e1", &dynamic);
    world.event(Event::DockerHealth(Some("gone".into())));
    world.event(Event::DockerHealth(None));
    run_fixed(&mut world, "f2").expect("the fixed one starts first");
    docker_run(&mut world, "e2").expect("then the dynamic one");
}

#[test]
fn no_two_containers_of_a_host_have_one_ipv6_address() {
    let mut world = World::with_docker();
    let net = NetworkId(1);
    let _ = net;
    world.docker.clear();
    docker_network(&mut world, "net1", POOL, "rethinkdb").unwrap();
    world.store[0].ipv6 = Some(ovl_ipam::Ipv6 {
        subnet: "fd00:1::/64".parse().unwrap(),
        gateway: "fd00:1::1".parse().unwrap(),
        range: None,
    });
    world.publish_networks();
    let pool6: IpNet = "fd00:1::/64".parse().unwrap();
    let run = |world: &mut World, e: &str, v4: &str| {
        let wanted = ask_for(POOL.parse().unwrap(), Some(v4), false);
        let Response::Address(IpNet::V4(address)) = world.get(Request::Address(wanted)).unwrap()
        else {
            panic!()
        };
        let Response::Address(IpNet::V6(address6)) =
            world.get(Request::Address(ask_for(pool6, None, false))).unwrap()
        else {
            panic!()
        };
        world
            .get(Request::CreateEndpoint(CreateEndpoint {
                network: "net1".into(),
                endpoint: e.into(),
                address: Some(address),
                address6: Some(address6),
                mac: None,
                options: BTreeMap::new(),
            }))
            .unwrap();
        world
            .get(Request::Join(Join {
                network: "net1".into(),
                endpoint: e.into(),
                sandbox_key: format!("/run/{e}").into(),
            }))
            .unwrap();
        world.event(Event::Moved { endpoint: e.into(), ifname: Some("eth0".parse().unwrap()) });
        address6.addr()
    };
    let a = run(&mut world, "e1", "10.88.0.50");
    stop(&mut world, "e1", "10.88.0.50");
    world.get(Request::ReleaseAddress(pool6.to_string(), a.into())).unwrap();
    world.now += Duration::from_secs(3600);
    let b = run(&mut world, "e2", "10.88.0.51");
    let state = world.core.state();
    let mut restarted = World::new(state, false);
    restarted.leases = world.leases.clone();
    restarted.store = world.store.clone();
    restarted.publish_networks();
    restarted.event(Event::StoreHealth(None));
    let c = run(&mut restarted, "e3", "10.88.0.52");
    assert_ne!(b, c, "two running containers with one IPv6 address");
}

#[test]
fn ids_of_a_store_that_was_made_anew_are_not_taken_for_the_old_ones() {
    let mut world = World::with_docker();
    world.create("d1", "blue", None).unwrap();
    let id = world.core.state().docker_networks["d1"];
    world.store.clear();
    world.store.push(network(id, "other", "10.120.0.0/16"));
    world.next_network = id + 1;
    world.revision = 0;
    world.publish_networks();
    world.list_docker();
    println!("{:?}", world.core.state().docker_networks);
    println!("{:?} {:?} {:?}", world.docker_names(), world.stored(), world.problems());
    assert_ne!(
        world.core.state().docker_networks.get("d1"),
        Some(&id),
        "Docker's blue is the cluster's other"
    );
}

#[test]
fn a_host_that_is_down_is_a_problem_and_one_that_said_good_bye_is_none() {
    let mut world = World::with_docker();
    world.member("workerbee", MemberState::Left);
    assert_eq!(world.problems(), [""; 0]);
    world.member("workerbee", MemberState::Down);
    let problems = world.problems();
    assert!(problems[0].starts_with("no agent answers on workerbee;"), "{problems:?}");
    assert!(problems[0].contains("7946"), "{problems:?}");
    world.member("workerbee", MemberState::Alive);
    assert_eq!(world.problems(), [""; 0]);
}
