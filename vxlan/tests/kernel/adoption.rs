//! A restarted agent, and a device that was taken away.

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    process::{Child, Command, Stdio},
    task::Poll,
    time::Duration,
};

use ovl_vxlan::{Desired, DesiredNetwork};

use crate::lab::*;

/// A container on each of two hosts, that can reach each other.
struct Pair {
    hosts: [Netns; 2],
    boxes: [Netns; 2],
    networks: [DesiredNetwork; 2],
}

impl Pair {
    fn new() -> Self {
        let (a, b) = two_hosts();
        let boxes = [Netns::new("box"), Netns::new("box")];
        let mut networks = [network(VTEP_A), network(VTEP_B)];
        networks[0].endpoints.insert("e1".into(), in_sandbox(1, &boxes[0]));
        networks[1].endpoints.insert("e2".into(), in_sandbox(2, &boxes[1]));
        networks[0].remotes.extend([remote(2, VTEP_B)]);
        networks[1].remotes.extend([remote(1, VTEP_A)]);
        Self { hosts: [a, b], boxes, networks }
    }

    fn agents(&self) -> [Agent; 2] {
        let agents = [Agent::start(&self.hosts[0]), Agent::start(&self.hosts[1])];
        for (agent, network) in agents.iter().zip(&self.networks) {
            agent.settle(&desired(network));
        }
        agents
    }
}

/// A ping in the background that ends by itself, and tells what it lost.
struct Ping(Child);

impl Ping {
    fn start(from: &Netns, to: &str, count: u32) -> Self {
        let path = format!("--net=/run/netns/{}", from.name());
        let count = count.to_string();
        let child = Command::new("nsenter")
            .args([path.as_str(), "ping", "-q", "-i", "0.01", "-W", "2", "-c", &count, to])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn summary(mut self) -> String {
        wait_until(Duration::from_secs(20), || !self.is_running());
        let mut text = String::new();
        let mut stdout = self.0.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        text
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_restarted_agent_adopts_everything_and_no_packet_is_lost() {
    let pair = Pair::new();
    let agents = pair.agents();
    let look = || {
        let [host, _] = &pair.hosts;
        let [sandbox, _] = &pair.boxes;
        (host.ifindex(DEVICE), sandbox.ifindex("eth0"), host.fdb(DEVICE), host.neighbours(DEVICE))
    };
    let before = look();
    assert!(pair.boxes[0].pings("10.88.0.2"));
    let mut ping = Ping::start(&pair.boxes[0], "10.88.0.2", 150);

    drop(agents);
    let mut restarts = 0;
    while ping.is_running() {
        for (host, network) in pair.hosts.iter().zip(&pair.networks) {
            restart(host, network);
        }
        restarts += u32::from(ping.is_running());
    }
    assert!(restarts > 0, "no restart was seen by the ping");
    assert_eq!(look(), before);
    let summary = ping.summary();
    assert!(summary.contains("150 packets transmitted, 150 received, 0% packet loss"), "{summary}");
}

/// First without knowledge of the cluster, then with it: there is nothing to do in both.
fn restart(host: &Netns, network: &DesiredNetwork) {
    let mut early = network.clone();
    early.settled = false;
    early.remotes.clear();
    let agent = Agent::start(host);
    for wanted in [&early, network] {
        let report = agent.settle(&desired(wanted));
        assert!(report.changes.is_empty(), "{report:#?}");
    }
}

#[test]
fn a_device_that_was_deleted_comes_back_with_its_endpoints_inside_the_containers() {
    let pair = Pair::new();
    let agents = pair.agents();
    assert!(pair.boxes[0].pings("10.88.0.2"));
    pair.hosts[0].sh("ip link del ovl-5000");
    assert_eq!(pair.boxes[0].names(), [""; 0]);

    // Without an audit: interfaces are looked at in each pass.
    agents[0].settle(&desired(&pair.networks[0]));
    let link = pair.boxes[0].link("eth0");
    assert_eq!(link["address"], mac(1));
    assert_eq!(pair.boxes[0].addresses("eth0"), ["10.88.0.1/16"]);
    assert_eq!(pair.hosts[0].fdb(DEVICE), [(mac(2), "192.0.2.2".into())]);
    assert!(pair.boxes[0].pings("10.88.0.2"));
    assert!(pair.boxes[1].pings("10.88.0.1"));
}

#[test]
fn a_row_that_was_deleted_comes_back_with_an_audit() {
    let pair = Pair::new();
    let agents = pair.agents();
    pair.hosts[0].sh(&format!("bridge fdb del {} dev ovl-5000", mac(2)));
    assert!(!pair.boxes[0].succeeds("ping -q -c 1 -W 1 10.88.0.2"));
    let report = agents[0].audit(&desired(&pair.networks[0]));
    assert_eq!(report.changes.into_iter().collect::<Vec<_>>(), [("fdb_set", 1)]);
    assert!(pair.boxes[0].pings("10.88.0.2"));
}

/// Polls a future some times at most, then drops it.
async fn poll_times<T>(times: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    for _ in 0..times {
        let once = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx)));
        if let Poll::Ready(done) = once.await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[test]
fn a_pass_that_is_dropped_at_any_point_is_taken_up_by_the_next() {
    let (host, sandbox) = (Netns::new("host"), Netns::new("box"));
    let agent = Agent::start(&host);
    let mut full = network(VTEP_A);
    full.endpoints.insert("e1".into(), in_sandbox(1, &sandbox));
    full.endpoints.insert("e2".into(), handover(2, "ovlh2"));
    full.remotes.extend((10..400).map(|n| remote(n, VTEP_B)));
    let mut other = full.clone();
    other.port = 4791;
    other.remotes.retain(|a, _| matches!(a, IpAddr::V4(a) if a.octets()[3] % 2 == 0));
    other.endpoints = [("e1".into(), in_sandbox(3, &sandbox))].into();
    for times in (1..8).chain((8..).step_by(4)) {
        let mut was_cut = false;
        for wanted in [desired(&full), Desired::default(), desired(&other), Desired::default()] {
            let cut = wanted.clone();
            was_cut |= agent.call(move |d| {
                Box::pin(async move { poll_times(times, d.apply(&cut)).await.is_none() })
            });
            let report = agent.settle(&wanted);
            assert_eq!(report.orphans, [0; 0]);
            let clean = agent.audit(&wanted);
            assert!(clean.is_ok() && clean.changes.is_empty(), "{times}: {clean:#?}");
        }
        assert_eq!((host.names(), sandbox.names()), (vec![], vec![]), "{times}");
        if !was_cut {
            assert!(times > 3);
            return;
        }
    }
}
