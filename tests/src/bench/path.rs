//! TCP throughput and round trip between two containers on two hosts, against the underlay path.
//!
//! Both ends are pinned to one core with a fixed window: with two cores the figure flips between
//! two states, and waking the other core hides the round trip.

use std::time::Duration;

use super::{Plan, median, missing};
use crate::sandbox::Sandbox;
use crate::{Lab, LabError, table};

/// One way between the two hosts: a server's sandbox and address, and a client's sandbox.
struct Path {
    name: &'static str,
    server: Sandbox,
    client: Sandbox,
    address: String,
    bandwidth: Vec<f64>,
    latency: Vec<f64>,
}

const SECONDS: &str = "2";
const LIMIT: Duration = Duration::from_secs(30);
pub(super) const THROUGHPUT_PORT: &str = "5201";
const LATENCY_PORT: &str = "11111";

pub(super) fn measure(lab: &Lab, plan: Plan) -> Result<(), LabError> {
    let (near, far) = (lab.host("queenbee")?, lab.host("workerbee-1")?);
    let client = lab.attach("queenbee", "bench", "client")?;
    let server = lab.attach("workerbee-1", "bench", "server")?;
    let (address, _) = crate::names::resolve(&client, "server").map_err(|e| {
        LabError::BadAnswer { command: "resolve server".into(), answer: e.to_string() }
    })?;
    let path = |name, server: &Sandbox, client: &Sandbox, address: String| Path {
        name,
        server: *server,
        client: *client,
        address,
        bandwidth: Vec::new(),
        latency: Vec::new(),
    };
    let mut paths = [
        path("underlay", far.sandbox(), near.sandbox(), far.address().to_string()),
        path("overlay", server.sandbox(), client.sandbox(), address.to_string()),
    ];
    for path in &paths {
        serve(lab, path)?;
    }
    for round in 0..plan.rounds {
        eprintln!("path: round {} of {}", round + 1, plan.rounds);
        for at in 0..paths.len() {
            // Who goes first changes with the round.
            let at = (at + round) % paths.len();
            let (bandwidth, latency) = (bandwidth(&paths[at])?, latency(&paths[at])?);
            paths[at].bandwidth.push(bandwidth);
            paths[at].latency.push(latency);
        }
    }
    show(&mut paths);
    Ok(())
}

/// Both servers end with the lab.
fn serve(lab: &Lab, path: &Path) -> Result<(), LabError> {
    let servers: [(&str, &[&str]); 2] = [
        ("iperf3", &["iperf3", "-s", "-p", THROUGHPUT_PORT]),
        ("sockperf", &["sockperf", "server", "--tcp", "-p", LATENCY_PORT]),
    ];
    for (name, argv) in servers {
        let pinned = [&["taskset", "-c", "0"], argv].concat();
        let record = lab.folder().join(format!("{name}-{}.daemon", path.name));
        path.server.spawn(name, &pinned, "/dev/null".as_ref(), &record)?;
    }
    for port in [5201, 11111] {
        path.server.wait_for_port("the measuring server", port, LIMIT)?;
    }
    Ok(())
}

fn bandwidth(path: &Path) -> Result<f64, LabError> {
    throughput(&path.client, &path.address)
}

/// Bits a second, from a client to the server at an address.
pub(super) fn throughput(client: &Sandbox, address: &str) -> Result<f64, LabError> {
    let argv = [
        "taskset",
        "-c",
        "0",
        "iperf3",
        "-c",
        address,
        "-p",
        THROUGHPUT_PORT,
        "-t",
        SECONDS,
        "-w",
        "400K",
        "-J",
    ];
    let outcome = client.run(&argv, LIMIT)?.require()?;
    let value = outcome.json()?["end"]["sum_received"]["bits_per_second"].as_f64();
    value.ok_or_else(|| missing("bits_per_second", &outcome))
}

/// Microseconds of a round trip, median.
fn latency(path: &Path) -> Result<f64, LabError> {
    let argv = [
        "taskset",
        "-c",
        "0",
        "sockperf",
        "ping-pong",
        "--tcp",
        "-i",
        &path.address,
        "-p",
        LATENCY_PORT,
        "-t",
        SECONDS,
        "--full-rtt",
    ];
    let outcome = path.client.run(&argv, LIMIT)?.require()?;
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    let line = text.lines().find(|line| line.contains("percentile 50.000"));
    let value = line.and_then(|line| line.rsplit('=').next()?.trim().parse().ok());
    value.ok_or_else(|| missing("median", &outcome))
}

fn show(paths: &mut [Path; 2]) {
    let medians = paths
        .each_mut()
        .map(|path| (path.name, median(&mut path.bandwidth), median(&mut path.latency)));
    let (_, bandwidth, latency) = medians[0];
    let row = |&(name, b, l): &(&str, f64, f64)| {
        let cells = [
            format!("{:.2}", b / 1e9),
            format!("{:.2}", b / bandwidth),
            format!("{l:.1}"),
            format!("{:.2}", l / latency),
        ];
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    let rows: Vec<_> = medians.iter().map(row).collect();
    println!(
        "{}",
        table::render(
            &["path", "TCP Gbit/s", "of underlay", "round trip µs", "of underlay"],
            &rows
        )
    );
}
