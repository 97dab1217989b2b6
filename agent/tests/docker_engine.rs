//! The plugin server and the follower of the Engine API, with a real dockerd between them.
#![allow(clippy::unwrap_used)]
mod docker_lab;

use docker_lab::{Lab, Told};
use ovl_agent::docker::EngineEvent;

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
