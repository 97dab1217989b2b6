//! Many hosts at once, on real stores.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use ovl_ipam::{
    AllocateError, CreateNetworkError, Lease, NetworkId, Registry, RemoveNetworkError, Wanted,
};

use crate::support::{Consul, at, holder, network, spec, spec6, sqlite};

/// Each racer takes addresses until there are none; nothing was given twice, nothing was left.
async fn racers_share_a_subnet(registries: Vec<Registry>) {
    let id = network(&registries[0], "blue", "10.1.0.0/26").await.id;
    let racers = registries.into_iter().enumerate().map(|(n, registry)| {
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                match registry.allocate(id, Wanted::V4, holder(&format!("n{n}"), "e")).await {
                    Ok(lease) => held.push(lease),
                    Err(AllocateError::Exhausted { size: 61, used: 61, .. }) => return held,
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    let mut held: Vec<Lease> = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        held.extend(racer.await.unwrap());
    }
    let different: BTreeSet<_> = held.iter().map(|l| l.address).collect();
    assert_eq!((held.len(), different.len()), (61, 61));
    let generations: BTreeSet<_> = held.iter().map(|l| l.generation).collect();
    assert_eq!(generations.len(), 61, "each lease has a generation of its own");
}

/// One address: exactly one racer gets it.
async fn racers_for_one_address_have_one_winner(registries: Vec<Registry>) {
    let id = network(&registries[0], "red", "10.2.0.0/24").await.id;
    for address in [Wanted::V4, at("10.2.0.9")] {
        let id = match address {
            Wanted::V4 => network(&registries[0], "tiny", "10.3.0.0/30").await.id,
            Wanted::V6 | Wanted::Address(_) => id,
        };
        let racers: Vec<_> = registries
            .iter()
            .cloned()
            .enumerate()
            .map(|(n, registry)| {
                tokio::spawn(async move {
                    registry.allocate(id, address, holder(&format!("n{n}"), "e")).await
                })
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            match racer.await.unwrap() {
                Ok(_) => winners += 1,
                Err(AllocateError::Exhausted { .. } | AllocateError::Taken { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners, 1);
    }
}

/// Whoever allocates and whoever removes: a lease and its network live and go together.
async fn removal_never_takes_a_network_from_under_a_lease(registries: Vec<Registry>) {
    for round in 0..20 {
        let name = format!("round-{round}");
        let wanted = spec6(&name, Some("10.5.0.0/24"), None);
        let blue = registries[0].create_network(wanted).await.unwrap();
        let family = if round % 2 == 0 { Wanted::V4 } else { Wanted::V6 };
        let removal = {
            let (registry, name) = (registries[0].clone(), blue.name.clone());
            tokio::spawn(async move { registry.remove_network(&name).await })
        };
        let allocations: Vec<_> = registries[1..]
            .iter()
            .cloned()
            .map(|registry| {
                tokio::spawn(
                    async move { registry.allocate(blue.id, family, holder("n", "e")).await },
                )
            })
            .collect();
        let mut held = Vec::new();
        for allocation in allocations {
            match allocation.await.unwrap() {
                Ok(lease) => held.push(lease),
                Err(AllocateError::NotFound(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        match removal.await.unwrap() {
            Ok(_) => assert_eq!(held, [], "in round {round}"),
            Err(RemoveNetworkError::InUse { .. }) => assert!(!held.is_empty(), "in round {round}"),
            Err(other) => panic!("{other}"),
        }
        let left = registries[0].leases(blue.id).await.unwrap();
        assert_eq!(left.len(), held.len());
        for lease in left {
            assert!(registries[0].release_lease(&lease).await.unwrap());
        }
        match registries[0].remove_network(&blue.name).await {
            Ok(_) | Err(RemoveNetworkError::NotFound(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Every host creates networks at once: names, subnets and VNIs stay unique, no network is lost,
/// and of one name there is one network, which every other host is told of.
async fn hosts_that_change_the_list_at_once_lose_nothing(registries: Vec<Registry>) {
    let count = registries.len();
    let hosts = registries.iter().cloned().enumerate().map(|(n, registry)| {
        tokio::spawn(async move {
            registry.create_network(spec6(&format!("own-{n}"), None, None)).await.unwrap();
            match registry.create_network(spec("same", None)).await {
                Ok(network) => (1, network),
                Err(CreateNetworkError::NameTaken { existing, .. }) => (0, *existing),
                Err(other) => panic!("{other}"),
            }
        })
    });
    let (mut created, mut seen) = (0, Vec::new());
    for host in hosts.collect::<Vec<_>>() {
        let (own, network) = host.await.unwrap();
        created += own;
        seen.push(network);
    }
    assert_eq!(created, 1, "one host created the network of the one name");
    let list = registries[0].networks().await.unwrap().list;
    let same = list.iter().find(|n| n.name.as_str() == "same").unwrap();
    assert!(seen.iter().all(|network| network == same), "{seen:?}");
    let own: Vec<_> = list.iter().filter(|n| n.name.as_str().starts_with("own-")).collect();
    assert_eq!(own.len(), count);
    assert_eq!(own.iter().map(|n| n.vni).collect::<BTreeSet<_>>().len(), count);
    assert_eq!(own.iter().map(|n| n.subnet).collect::<BTreeSet<_>>().len(), count);
    let subnets6: BTreeSet<_> = own.iter().map(|n| n.ipv6.unwrap().subnet).collect();
    assert_eq!(subnets6.len(), count);
    let prefixes: BTreeSet<_> =
        subnets6.iter().map(|s| ipnet::Ipv6Net::new(s.network(), 48).unwrap().trunc()).collect();
    assert_eq!(prefixes.len(), 1, "the cluster has one prefix: {prefixes:?}");
}

/// A node is taken for dead while it goes on: what it is told it holds, it holds, or it was
/// given back as a whole, and nobody else loses anything.
async fn releasing_a_node_that_lives_harms_no_other(registries: Vec<Registry>) {
    let id = network(&registries[0], "alive", "10.7.0.0/24").await.id;
    let other = registries[1].allocate(id, Wanted::V4, holder("other", "e")).await.unwrap();
    let node = registries[0].clone();
    let allocations = tokio::spawn(async move {
        let mut held = Vec::new();
        for _ in 0..60 {
            held.push(node.allocate(id, Wanted::V4, holder("node", "e")).await.unwrap());
        }
        held
    });
    let mut released = 0;
    while !allocations.is_finished() {
        released += registries[1].release_node("node").await.unwrap();
    }
    let held = allocations.await.unwrap();
    let left = registries[0].leases(id).await.unwrap();
    assert!(left.contains(&other));
    assert_eq!(left.len() - 1 + released, held.len());
    assert!(left.iter().all(|lease| *lease == other || held.contains(lease)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_hosts_race_on_consul() {
    let consul = Consul::start();
    let mut registries = Vec::new();
    for _ in 0..16 {
        registries.push(consul.registry().await);
    }
    racers_share_a_subnet(registries.clone()).await;
    racers_for_one_address_have_one_winner(registries.clone()).await;
    removal_never_takes_a_network_from_under_a_lease(registries[..4].to_vec()).await;
    releasing_a_node_that_lives_harms_no_other(registries.clone()).await;
    hosts_that_change_the_list_at_once_lose_nothing(registries).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_handles_race_on_one_sqlite_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    // Opened at once too: one of them makes the schema.
    let opening = (0..8).map(|_| {
        let path = path.clone();
        tokio::spawn(async move { sqlite(&path).await })
    });
    let mut registries = Vec::new();
    for opened in opening.collect::<Vec<_>>() {
        registries.push(opened.await.unwrap());
    }
    racers_share_a_subnet(registries.clone()).await;
    racers_for_one_address_have_one_winner(registries.clone()).await;
    removal_never_takes_a_network_from_under_a_lease(registries[..4].to_vec()).await;
    releasing_a_node_that_lives_harms_no_other(registries.clone()).await;
    hosts_that_change_the_list_at_once_lose_nothing(registries).await;
}

const FILE: &str = "OVL_IPAM_TEST_FILE";
const TAKEN_EACH: usize = 60;

/// The other processes are this test too, told by a variable what to take part in.
#[tokio::test]
async fn processes_that_share_a_file_never_share_an_address() {
    if let Some(path) = std::env::var_os(FILE) {
        let registry = sqlite(path.as_ref()).await;
        let node = std::process::id().to_string();
        for _ in 0..TAKEN_EACH {
            registry.allocate(NetworkId(1), Wanted::V4, holder(&node, "e")).await.unwrap();
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let registry = sqlite(&path).await;
    let revision = registry.networks().await.unwrap().revision;
    let id = network(&registry, "blue", "10.1.0.0/24").await.id;
    assert_eq!(id, NetworkId(1));
    let me = std::env::current_exe().unwrap();
    let start = |_| {
        let mut command = Command::new(&me);
        command
            .args(["--exact", "races::processes_that_share_a_file_never_share_an_address"])
            .env(FILE, &path);
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..4).map(start).collect();
    let mut nodes = BTreeSet::new();
    for mut process in processes {
        nodes.insert(process.id().to_string());
        assert!(process.wait().unwrap().success());
    }
    let leases = registry.leases(id).await.unwrap();
    assert_eq!(leases.len(), 4 * TAKEN_EACH);
    assert_eq!(leases.iter().map(|l| l.holder.node.clone()).collect::<BTreeSet<_>>(), nodes);
    let generations: BTreeSet<_> = leases.iter().map(|l| l.generation).collect();
    assert_eq!(generations.len(), leases.len());
    let seen = registry.watch_networks(revision, Duration::from_secs(10)).await.unwrap();
    assert_eq!(seen.list.len(), 1);
}
