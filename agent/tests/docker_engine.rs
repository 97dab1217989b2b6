//! The plugin server and the follower of the Engine API, with a real dockerd between them.
#![allow(clippy::unwrap_used)]
mod docker_lab;

use std::collections::BTreeMap;
use std::time::Duration;

use docker_lab::{Lab, Told};
use ovl_agent::docker::{DaemonError, DockerNetwork, EngineEvent, NetworkConfig, PoolConfig};

const NETWORK: [&str; 7] =
    ["network", "create", "-d", "ovl", "--ipam-driver", "ovl", "--subnet=10.77.1.0/24"];

async fn network(lab: &Lab, name: &str) -> String {
    lab.docker(&[&NETWORK[..], &["-o", "ovl.name=blue", name]].concat()).await
}

async fn lab() -> Lab {
    let mut lab = Lab::new().await;
    lab.start_dockerd().await;
    lab.import_image().await;
    lab
}

fn is_lost(event: &EngineEvent) -> bool {
    matches!(event, EngineEvent::Lost { .. })
}

#[tokio::test]
async fn a_container_is_followed_from_its_start_to_its_end() {
    let mut lab = Lab::new().await;
    let mut told = Told::follow(lab.host());
    told.until("that there is no Docker", |told| told.links.iter().any(is_lost)).await;
    lab.start_dockerd().await;
    told.until("an empty Docker", |told| told.snapshots == 1).await;
    let version = lab.docker(&["version", "-f", "{{.Server.Version}}"]).await;
    assert_eq!(told.links[1..], [EngineEvent::Connected { version }], "lost is told once");
    assert!(told.containers.is_empty());

    lab.import_image().await;
    let net = network(&lab, "blue").await;
    {
        let networks = lab.driver.networks.lock().unwrap();
        let [created] = networks.as_slice() else { panic!("{networks:?}") };
        assert_eq!((&created.id, created.options["ovl.name"].as_str()), (&net, "blue"));
    }
    // Of a network of another driver nothing is told.
    lab.sleeper(&["--name", "elsewhere", "--net", "none"]).await;
    let id = lab
        .sleeper(&[
            "--name",
            "Leader",
            "--net",
            "blue",
            "--network-alias",
            "db",
            "--hostname",
            "box.lan",
        ])
        .await;
    let short = &id[..12];
    told.until("a container", |told| told.names(&id).is_some()).await;
    let names = told.names(&id).unwrap();
    assert_eq!((names[0], names[names.len() - 1]), ("leader", short));
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let mut expected = ["box.lan", "db", "leader", short];
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    let endpoint = told.containers[&id][0].clone();
    let joined = lab.driver.joined.lock().unwrap().clone();
    assert_eq!(joined, [(endpoint.endpoint_id.clone(), net.clone())].into());
    assert_eq!(endpoint.network_id, net);
    assert!(lab.exists(&endpoint.sandbox), "{:?}", endpoint.sandbox);

    lab.docker(&["rename", "Leader", "follower"]).await;
    told.until("the new name", |told| told.names(&id).is_some_and(|names| names[0] == "follower"))
        .await;

    lab.docker(&[&NETWORK[..6], &["--subnet=10.77.2.0/24", "green"]].concat()).await;
    lab.docker(&["network", "connect", "--alias", "extra", "green", "follower"]).await;
    told.until("a second endpoint", |told| told.containers[&id].len() == 2).await;
    let second = told.containers[&id].iter().find(|it| it.network_id != net).unwrap();
    assert!(second.names.contains(&"extra".to_owned()), "{:?}", second.names);
    lab.docker(&["network", "disconnect", "blue", "follower"]).await;
    told.until("the end of the first", |told| told.containers[&id].len() == 1).await;
    assert_ne!(told.containers[&id][0].network_id, net);

    lab.docker(&["stop", "-t", "0", "follower"]).await;
    told.until("a stopped container", |told| told.containers.is_empty()).await;
    lab.docker(&["start", "follower"]).await;
    told.until("a started container", |told| told.containers.contains_key(&id)).await;
    assert_ne!(told.containers[&id][0].endpoint_id, endpoint.endpoint_id);
    lab.docker(&["rm", "-f", "follower"]).await;
    told.until("a removed container", |told| told.containers.is_empty()).await;
    assert!(lab.driver.joined.lock().unwrap().is_empty());
}

#[tokio::test]
async fn after_a_restart_of_docker_all_is_told_again_as_it_is_then() {
    let mut lab = lab().await;
    network(&lab, "blue").await;
    let stays = lab.sleeper(&["--name", "stays", "--net", "blue"]).await;
    let goes = lab.sleeper(&["--name", "goes", "--net", "blue"]).await;
    let mut told = Told::follow(lab.host());
    told.until("both containers", |told| told.containers.len() == 2).await;
    assert_eq!(told.snapshots, 1, "what runs already is told at once");

    lab.stop_dockerd().await;
    told.until("that Docker went", |told| told.links.last().is_some_and(is_lost)).await;
    lab.start_dockerd().await;
    lab.docker(&["rm", "-f", "goes"]).await;
    told.until("that Docker is back", |told| told.snapshots == 2).await;
    told.until("who is left", |told| told.containers.len() == 1).await;
    assert_eq!(told.names(&stays).unwrap(), ["stays", &stays[..12]]);
    assert!(!told.containers.contains_key(&goes));
    let lost = told.links.iter().filter(|link| is_lost(link)).count();
    assert_eq!((lost, told.links.len()), (1, 3), "{:#?}", told.links);
}

#[tokio::test]
async fn a_container_that_hangs_in_the_driver_holds_up_no_other() {
    let lab = lab().await;
    network(&lab, "blue").await;
    let mut told = Told::follow(lab.host());
    let stuck = lab.sleeper(&["--name", "stuck", "--net", "blue"]).await;
    told.until("the first container", |told| told.containers.contains_key(&stuck)).await;

    // It stops, and dockerd holds its lock until the driver has let it go: an inspect waits too.
    lab.driver.leaving.send_replace(false);
    let stop = ["stop", "-t", "0", "stuck"];
    let stop = lab.run(&stop);
    tokio::pin!(stop);
    let others = async {
        lab.driver.hung.subscribe().wait_for(|hung| *hung > 0).await.unwrap();
        let other = lab.sleeper(&["--name", "other", "--net", "blue"]).await;
        told.until("the second container", |told| told.names(&other).is_some()).await;
        // Who begins to follow now is told as well, although one cannot be inspected.
        let mut fresh = Told::follow(lab.host());
        fresh.until("the second container", |told| told.names(&other).is_some()).await;
    };
    tokio::select! {
        result = &mut stop => panic!("stopped while the driver holds it: {result:?}"),
        () = others => {}
    }
    lab.driver.leaving.send_replace(true);
    stop.await.unwrap();
    told.until("the end of the first", |told| !told.containers.contains_key(&stuck)).await;
}

#[tokio::test]
async fn of_many_starts_at_once_none_is_lost() {
    let lab = lab().await;
    network(&lab, "blue").await;
    let mut told = Told::follow(lab.host());
    told.until("an empty Docker", |told| told.snapshots == 1).await;
    let names: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    let starts =
        names.iter().map(|name| {
            let lab = &lab;
            async move {
                lab.sleeper(&["--name", name, "--net", "blue", "--network-alias", "all"]).await
            }
        });
    let ids = futures::future::join_all(starts).await;
    told.until("all of them", |told| told.containers.len() == ids.len()).await;
    for (id, name) in ids.iter().zip(&names) {
        assert_eq!(told.names(id).unwrap(), [name, "all", &id[..12]]);
    }
    lab.docker(&[vec!["rm", "-f"], names.iter().map(String::as_str).collect()].concat()).await;
    told.until("that all went", |told| told.containers.is_empty()).await;
}

#[tokio::test]
async fn networks_are_told_as_they_are_made_and_removed() {
    let lab = lab().await;
    lab.docker(&["network", "create", "--config-only", "elsewhere"]).await;
    let mut told = Told::follow(lab.host());
    told.until("an empty Docker", |told| told.snapshots == 1).await;
    assert!(told.networks.is_empty());

    let create = [
        &NETWORK[..6],
        &["--subnet=10.77.1.0/24", "--ip-range=10.77.1.128/25", "--gateway=10.77.1.1"],
        &["--aux-address=printer=10.77.1.9", "--subnet=fd77:1::/64", "--gateway=fd77:1::1"],
        &["--ipv6", "--internal", "--attachable", "-o", "ovl.name=blue", "--label", "team=a"],
        &["--label", "bare", "--ipam-opt", "x=y", "blue"],
    ]
    .concat();
    let id = lab.docker(&create).await;
    told.until("a network", |told| !told.networks.is_empty()).await;
    let expected = DockerNetwork { id: id.clone(), global: false, config: blue() };
    assert_eq!(told.networks, [("blue".to_owned(), expected)].into());

    let green = [&NETWORK[..6], &["--subnet=10.77.2.0/24", "green"]].concat();
    lab.docker(&green).await;
    told.until("a second network", |told| told.networks.len() == 2).await;
    let pools = &told.networks["green"].config.pools;
    assert_eq!(pools[0].subnet, "10.77.2.0/24".parse().unwrap());

    // Who begins to follow now is told all of it, before any container.
    let mut fresh = Told::follow(lab.host());
    fresh.until("both networks", |told| told.snapshots == 1).await;
    assert_eq!(fresh.networks, told.networks);

    lab.docker(&["network", "rm", "blue"]).await;
    told.until("that it went", |told| !told.networks.contains_key("blue")).await;
    lab.docker(&["network", "rm", "green"]).await;
    told.until("that both went", |told| told.networks.is_empty()).await;
}

/// The settings of the network `blue`.
fn blue() -> NetworkConfig {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let v4 = PoolConfig {
        subnet: "10.77.1.0/24".parse().unwrap(),
        range: Some("10.77.1.128/25".parse().unwrap()),
        gateway: Some("10.77.1.1".parse().unwrap()),
        aux: [("printer".to_owned(), "10.77.1.9".parse().unwrap())].into(),
    };
    let v6 = PoolConfig {
        subnet: "fd77:1::/64".parse().unwrap(),
        range: None,
        gateway: Some("fd77:1::1".parse().unwrap()),
        aux: BTreeMap::new(),
    };
    NetworkConfig {
        name: "blue".into(),
        internal: true,
        attachable: true,
        ipv6: true,
        options: pairs(&[("ovl.name", "blue")]),
        labels: pairs(&[("team", "a"), ("bare", "")]),
        ipam_driver: "ovl".into(),
        ipam_options: pairs(&[("x", "y")]),
        pools: vec![v4, v6],
    }
}

#[tokio::test]
async fn a_network_that_is_made_here_is_told_as_it_was_asked_for_and_removed_again() {
    let mut lab = Lab::new().await;
    let mut told = Told::follow(lab.host());
    let daemon = told.engine.daemon();
    let error = daemon.create_network(&blue()).await.unwrap_err();
    assert!(matches!(error, DaemonError::Unreachable { .. }), "{error}");
    lab.start_dockerd().await;
    lab.import_image().await;
    told.until("an empty Docker", |told| told.snapshots == 1).await;

    let id = daemon.create_network(&blue()).await.unwrap();
    // By its event: the minute's listing would come later.
    let soon = told.until("the network", |told| told.networks.contains_key("blue"));
    tokio::time::timeout(Duration::from_secs(5), soon).await.unwrap();
    let expected = DockerNetwork { id: id.clone(), global: false, config: blue() };
    assert_eq!(told.networks["blue"], expected);
    {
        let networks = lab.driver.networks.lock().unwrap();
        let [created] = networks.as_slice() else { panic!("{networks:?}") };
        assert_eq!((&created.id, created.internal, created.enable_ipv6), (&id, true, true));
        assert_eq!((created.ipv4.len(), created.ipv6.len()), (1, 1));
        assert_eq!(created.ipv4[0].aux["printer"], "10.77.1.9/24".parse().unwrap());
    }

    // Also a network of another driver takes a name.
    lab.docker(&["network", "create", "--config-only", "elsewhere"]).await;
    for name in ["blue", "elsewhere"] {
        let config = NetworkConfig { name: name.into(), ..green() };
        let error = daemon.create_network(&config).await.unwrap_err();
        assert!(matches!(error, DaemonError::NameTaken { .. }), "{error:?}");
    }
    let mut refused = green();
    refused.ipam_driver = "default".into();
    let error = daemon.create_network(&refused).await.unwrap_err();
    assert!(matches!(error, DaemonError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("add --ipam-driver ovl"), "the driver's words: {error}");

    lab.sleeper(&["--name", "web", "--net", "blue"]).await;
    let error = daemon.remove_network(&id).await.unwrap_err();
    assert!(matches!(error, DaemonError::InUse { .. }), "{error:?}");
    assert!(told.networks.contains_key("blue"));
    lab.docker(&["rm", "-f", "web"]).await;
    daemon.remove_network(&id).await.unwrap();
    told.until("that it went", |told| told.networks.is_empty()).await;
    let error = daemon.remove_network(&id).await.unwrap_err();
    assert!(matches!(error, DaemonError::NotFound { .. }), "{error:?}");

    lab.stop_dockerd().await;
    let error = daemon.remove_network(&id).await.unwrap_err();
    assert!(matches!(error, DaemonError::Unreachable { .. }), "{error:?}");
}

fn green() -> NetworkConfig {
    let pool = PoolConfig {
        subnet: "10.77.2.0/24".parse().unwrap(),
        range: None,
        gateway: None,
        aux: BTreeMap::new(),
    };
    NetworkConfig {
        name: "green".into(),
        ipam_driver: "ovl".into(),
        pools: vec![pool],
        ..NetworkConfig::default()
    }
}

#[tokio::test]
async fn of_many_networks_made_at_once_none_is_lost() {
    let lab = lab().await;
    let mut told = Told::follow(lab.host());
    told.until("an empty Docker", |told| told.snapshots == 1).await;
    let daemon = told.engine.daemon();
    let configs: Vec<NetworkConfig> = (0..12)
        .map(|n| {
            let mut config = NetworkConfig { name: format!("n{n}"), ..green() };
            config.pools[0].subnet = format!("10.77.{n}.0/24").parse().unwrap();
            config
        })
        .collect();
    let made = configs.iter().map(|config| daemon.create_network(config));
    let made = futures::future::try_join_all(made).await.unwrap();
    told.until("all of them", |told| told.networks.len() == made.len()).await;
    for (id, config) in made.iter().zip(&configs) {
        assert_eq!((&told.networks[&config.name].id, &config.name), (id, &config.name));
    }
    let removed = made.iter().map(|id| daemon.remove_network(id));
    futures::future::try_join_all(removed).await.unwrap();
    told.until("that all went", |told| told.networks.is_empty()).await;
}

#[tokio::test]
async fn the_driver_is_told_whether_docker_has_a_cluster_store() {
    let mut lab = lab().await;
    let version = lab.docker(&["version", "-f", "{{.Server.Version}}"]).await;
    let file = lab.write("daemon.json", r#"{"debug": false}"#);
    let file = format!("--config-file={file}");
    let mut cases = vec![(vec![], false), (vec![file.as_str()], false)];
    // 23.0 and later have no cluster store, and do not start with one. This one is away; its kind
    // is one that Debian's Docker is built with.
    let stored = lab.write("stored.json", r#"{"cluster-store": "etcd://127.0.0.1:1"}"#);
    if version.starts_with("20.") {
        cases.push((vec!["--config-file", &stored], true));
        cases.push((vec!["--cluster-store=etcd://127.0.0.1:1"], true));
        cases.push((vec!["--cluster-store", "etcd://127.0.0.1:1"], true));
    }
    for (arguments, store) in cases {
        lab.stop_dockerd().await;
        lab.start_dockerd_with(&arguments).await;
        // The driver is loaded when it is needed first.
        network(&lab, "blue").await;
        let told = std::mem::take(&mut *lab.driver.cluster_stores.lock().unwrap());
        assert_eq!(told, [store], "{arguments:?}");
        lab.docker(&["network", "rm", "blue"]).await;
    }
}
