//! The text that Prometheus gets: complete, by its conventions, and bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ovl_vxlan::{LinkCounters, Passed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::*;
use crate::core::{Event, PoolUse};
use crate::driver::Agent;

fn everything(networks: usize) -> Everything {
    let pool = |n| PoolUse { network: format!("net-{n}"), used: 10, size: 1000 };
    Everything {
        core: Figures { pools: (0..networks).map(pool).collect(), ..Figures::default() },
        gossip: Stats::default(),
        dns: (Counts::default(), Durations::default()),
        events: (Kind::ALL.iter().map(|kind| (*kind, 1)).collect(), 0),
        devices: Some(Totals::default()),
        process: Some(Process::default()),
        captures: 0,
    }
}

fn told(networks: usize) -> String {
    text(&everything(networks), &Instruments::default())
}

/// Name and labels of every sample.
fn samples(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parsed = lines.map(|line| {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        };
        (name.to_owned(), labels.map(pair).collect())
    });
    parsed.collect()
}

/// Of a histogram's series, the family they belong to.
fn family_of(series: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| series.strip_suffix(part));
    parts
        .into_iter()
        .find(|name| Family::named(name).is_some_and(|family| family.kind == Type::Histogram))
        .unwrap_or(series)
}

#[test]
fn what_is_told_is_what_the_table_has_with_its_labels() {
    let text = told(3);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (series, labels) in samples(&text) {
        let names = found.entry(family_of(&series).to_owned()).or_default();
        names.extend(labels.into_iter().map(|(name, _)| name).filter(|name| name != "le"));
    }
    let labels = |family: &Family| family.labels.split_whitespace().map(str::to_owned).collect();
    let table: BTreeMap<String, BTreeSet<String>> =
        FAMILIES.iter().map(|family| (family.name.to_owned(), labels(family))).collect();
    assert_eq!(found, table);
    assert_eq!(table.len(), FAMILIES.len(), "a name stands twice in the table");
    for family in FAMILIES {
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)));
        let kind = format!("{:?}", family.kind).to_lowercase();
        assert!(text.contains(&format!("# TYPE {} {kind}\n", family.name)), "{}", family.name);
    }
}

#[test]
fn names_follow_the_conventions() {
    for Family { name, kind, help, .. } in FAMILIES {
        assert!(name.starts_with("ovl_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b"0123456789_".contains(&b)));
        assert_eq!(name.ends_with("_total"), *kind == Type::Counter, "{name}");
        assert!(*kind != Type::Histogram || name.ends_with("_seconds"), "{name}");
        assert!(help.ends_with('.') && help.is_ascii(), "{name}: {help}");
        for wrong in ["milli", "micro", "kilo", "_ms", "_kb", "percent"] {
            assert!(!name.contains(wrong), "{name}");
        }
    }
}

#[test]
fn a_large_cluster_has_no_more_series_than_a_middling_one() {
    let (many, more) = (samples(&told(NETWORKS_MAX + 1)), samples(&told(5000)));
    assert_eq!(many.len(), more.len());
    assert!(more.len() < 400, "{} series", more.len());
    let distinct: BTreeSet<_> = more.iter().collect();
    assert_eq!(distinct.len(), more.len(), "a series stands twice");
    let networks: BTreeSet<_> = more
        .iter()
        .flat_map(|(_, labels)| labels)
        .filter(|(name, _)| name == "network")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(networks.len(), NETWORKS_MAX + 1);
    assert!(networks.contains(OTHERS) && OTHERS.parse::<ovl_ipam::NetworkName>().is_err());
}

#[test]
fn networks_beyond_the_bound_are_summed_and_the_worst_is_of_all() {
    let mut everything = everything(NETWORKS_MAX + 2);
    everything.core.pools[NETWORKS_MAX + 1] =
        PoolUse { network: "full".into(), used: 90, size: 100 };
    let text = text(&everything, &Instruments::default());
    for line in [
        "ovl_network_addresses_used{network=\"net-0\"} 10",
        "ovl_network_addresses_used{network=\"(other)\"} 100",
        "ovl_network_addresses{network=\"(other)\"} 1100",
        "ovl_pool_used_max_ratio 0.9",
        "ovl_networks 52",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
    }
}

#[test]
fn what_is_counted_and_timed_is_told() {
    let instruments = Instruments::default();
    let second = Duration::from_secs(1);
    instruments.store_called(StoreCallKind::Allocate, Outcome::Failed, second);
    instruments.passed(true, false, second);
    instruments.write_failed();
    instruments.ready();
    let flow = Passed { packets: 3, bytes: 300, dropped: 1, errors: 2 };
    let device = LinkCounters { vni: Some(1), index: 1, rx: flow, ..LinkCounters::default() };
    let before = LinkCounters { rx: Passed::default(), ..device.clone() };
    instruments.tally(&[before]);
    let devices = Some(instruments.tally(&[device]));
    let text = text(&Everything { devices, ..everything(1) }, &instruments);
    for line in [
        "ovl_ready 1",
        "ovl_store_calls_total{call=\"allocate\",result=\"failed\"} 1",
        "ovl_store_calls_total{call=\"allocate\",result=\"ok\"} 0",
        "ovl_store_call_duration_seconds_bucket{le=\"0.5\"} 0",
        "ovl_store_call_duration_seconds_bucket{le=\"1\"} 1",
        "ovl_store_call_duration_seconds_bucket{le=\"+Inf\"} 1",
        "ovl_store_call_duration_seconds_sum 1",
        "ovl_kernel_pass_duration_seconds_count{kind=\"audit\"} 1",
        "ovl_kernel_pass_duration_seconds_count{kind=\"apply\"} 0",
        "ovl_kernel_pass_failures_total 1",
        "ovl_state_write_failures_total 1",
        "ovl_device_receive_bytes_total 300",
        "ovl_device_receive_errors_total 2",
        "ovl_device_transmit_packets_total 0",
        "ovl_devices 1",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in\n{text}");
    }
}

#[test]
fn a_kernel_that_does_not_tell_leaves_its_figures_out() {
    let text = text(&Everything { devices: None, ..everything(1) }, &Instruments::default());
    assert!(!text.contains("ovl_device") && text.contains("ovl_members"));
}

/// What an HTTP request to that address brings: the status, and all of the answer.
async fn ask(at: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = tokio::net::TcpStream::connect(at).await?;
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.unwrap_or_default(), answer))
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn eventually(at: SocketAddr, status: u16) {
    for _ in 0..500 {
        if ask(at, "GET /metrics").await.is_ok_and(|(found, _)| found == status) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {status} at {at}");
}

#[tokio::test]
async fn metrics_are_at_one_path_of_the_address_and_move_with_it() {
    let (first, second) = (free(), free());
    let (metrics, address) = Metrics::at(None);
    let (events, mut told) = mpsc::channel(8);
    let task = tokio::spawn(follow(Agent::ended(), address, events));
    assert!(ask(first, "GET /metrics").await.is_err(), "off unless set");
    metrics.move_to(Some(first));
    // An agent whose core has ended has none to give.
    eventually(first, 503).await;
    for (request, status) in [
        ("GET /", 404),
        ("GET /v1/status", 404),
        ("GET /metrics/", 404),
        ("POST /metrics", 405),
        ("DELETE /metrics", 405),
    ] {
        assert_eq!(ask(first, request).await.unwrap().0, status, "{request}");
    }
    metrics.move_to(Some(second));
    eventually(second, 503).await;
    assert!(ask(first, "GET /metrics").await.is_err(), "nothing is left at the former one");
    metrics.move_to(None);
    drop(metrics);
    task.await.unwrap();
    assert!(told.try_recv().is_err(), "nothing was wrong");
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_and_tried_again() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let (metrics, address) = Metrics::at(Some(at));
    let (events, mut told) = mpsc::channel(8);
    let task = tokio::spawn(follow(Agent::ended(), address, events));
    let Some(Event::MetricsHealth(Some(why))) = told.recv().await else { panic!() };
    for word in [at.to_string().as_str(), "metrics-address", "in use"] {
        assert!(why.contains(word), "{why}");
    }
    drop(taken);
    // Sooner than it would be tried again by itself.
    metrics.move_to(Some(at));
    let Some(Event::MetricsHealth(None)) = told.recv().await else { panic!() };
    eventually(at, 503).await;
    drop(metrics);
    task.await.unwrap();
}
