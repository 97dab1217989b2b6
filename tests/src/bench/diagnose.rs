//! What finding a fault takes: how long each command is at it, and what looking on costs those who send.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::path::{THROUGHPUT_PORT, throughput};
use super::{Plan, median, ms, quantile};
use crate::process::Process;
use crate::{Host, Lab, LabError, table, wait};

const ENDPOINTS: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

/// Each with its name in the table; they see a cluster of four hosts in which all is well.
const COMMANDS: [(&str, &[&str]); 8] = [
    ("status", &["status"]),
    ("doctor, this host alone", &["doctor", "--only", "kernel,ports,firewall,vxlan,net,store"]),
    ("doctor, with the ways to three hosts", &["doctor"]),
    ("trace to another host", &["trace", "e0", "e1"]),
    ("trace --no-probe", &["trace", "--no-probe", "e0", "e1"]),
    ("ping, all pairs", &["ping", "--interval", "20"]),
    ("audit", &["audit"]),
    ("resolve --explain", &["resolve", "--explain", "e1"]),
];

/// What looks on while packets flow.
const ONLOOKERS: [(&str, &[&str]); 4] = [
    ("nobody", &[]),
    (
        "ovlctl capture of another endpoint",
        &["ovlctl", "capture", "--name", "e2", "-w", "/dev/null"],
    ),
    ("ovlctl capture of all", &["ovlctl", "capture", "--snaplen", "256", "-w", "/dev/null"]),
    ("tcpdump of all", &["tcpdump", "-i", "eth1", "-s", "256", "-w", "/dev/null", "udp port 4789"]),
];

pub(super) fn measure(lab: &Lab, plan: Plan) -> Result<(), LabError> {
    let hosts = lab.hosts()?;
    for number in 0..ENDPOINTS {
        lab.attach(hosts[number % hosts.len()].name(), "bench", &format!("e{number}"))?;
    }
    let host = &hosts[0];
    wait::until(&format!("{} knowing all endpoints", host.name()), LIMIT, || {
        let total = host.agent_answer()?["endpoints"]["total"].clone();
        if total == ENDPOINTS { Ok(()) } else { Err(total.to_string()) }
    })?;
    let before = resident(host);
    times(host, plan)?;
    println!("agent's memory, MB: before {before:.1}, after all of these {:.1}\n", resident(host));
    onlookers(lab, host, plan)
}

fn times(host: &Host, plan: Plan) -> Result<(), LabError> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); COMMANDS.len()];
    for round in 0..plan.runs {
        eprintln!("diagnose: round {} of {}", round + 1, plan.runs);
        for at in 0..COMMANDS.len() {
            let at = (at + round) % COMMANDS.len();
            let outcome = host.ctl(COMMANDS[at].1)?;
            times[at].push(outcome.took.as_secs_f64() * 1000.0);
        }
    }
    let rows: Vec<Vec<String>> = COMMANDS
        .iter()
        .zip(&mut times)
        .map(|((name, _), times)| {
            let quantiles = [quantile(times, 0.05), quantile(times, 0.95)].map(ms);
            [vec![(*name).to_owned(), ms(median(times))], quantiles.to_vec()].concat()
        })
        .collect();
    println!("{}", table::render(&["command, ms", "median", "p5", "p95"], &rows));
    Ok(())
}

/// Megabytes.
fn resident(host: &Host) -> f64 {
    let status = host.agent().map(|agent| format!("/proc/{}/status", agent.pid()));
    let status = status.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    super::memory::kilobytes(&status, "VmRSS:") * 1024.0 / 1e6
}

/// TCP between two containers, with each of them in turn.
fn onlookers(lab: &Lab, host: &Host, plan: Plan) -> Result<(), LabError> {
    let (client, server) = (lab.container("e0")?, lab.container("e1")?);
    let (address, _) = crate::names::resolve(&client, "e1").map_err(|error| {
        LabError::BadAnswer { command: "resolve e1".into(), answer: error.to_string() }
    })?;
    let serve = ["taskset", "-c", "0", "iperf3", "-s", "-p", THROUGHPUT_PORT];
    let record = lab.folder().join("iperf3-diagnose.daemon");
    server.sandbox().spawn("iperf3", &serve, "/dev/null".as_ref(), &record)?;
    server.sandbox().wait_for_port("the measuring server", 5201, LIMIT)?;
    let mut bandwidths: Vec<Vec<f64>> = vec![Vec::new(); ONLOOKERS.len()];
    for round in 0..plan.rounds {
        eprintln!("capture: round {} of {}", round + 1, plan.rounds);
        for at in 0..ONLOOKERS.len() {
            let at = (at + round) % ONLOOKERS.len();
            let onlooker = start(lab, host, ONLOOKERS[at].1)?;
            bandwidths[at].push(throughput(client.sandbox(), &address.to_string())?);
            if let Some(onlooker) = onlooker {
                onlooker.signal(Signal::SIGKILL)?;
            }
        }
    }
    let alone = median(&mut bandwidths[0]);
    let rows: Vec<Vec<String>> = ONLOOKERS
        .iter()
        .zip(&mut bandwidths)
        .map(|((name, _), bandwidths)| {
            let bandwidth = median(bandwidths);
            let part = format!("{:.2}", bandwidth / alone);
            vec![(*name).to_owned(), format!("{:.2}", bandwidth / 1e9), part]
        })
        .collect();
    println!("{}", table::render(&["who looks on", "TCP Gbit/s", "of nobody"], &rows));
    Ok(())
}

/// On the same core as the flow, as the other one is the server's.
fn start(lab: &Lab, host: &Host, argv: &[&str]) -> Result<Option<Process>, LabError> {
    let Some((program, args)) = argv.split_first() else {
        return Ok(None);
    };
    let ovlctl = crate::programs::Programs::find()?.ovlctl().display().to_string();
    let program = if *program == "ovlctl" { ovlctl.as_str() } else { program };
    let argv = [&[program], args].concat();
    let (log, record) = (lab.folder().join("onlooker.log"), lab.folder().join("onlooker.daemon"));
    let process = host.sandbox().spawn("an onlooker", &argv, &log, &record)?;
    wait::until("the onlooker being ready", LIMIT, || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let ready = ["capturing on", "listening on"].iter().any(|words| said.contains(words));
        if ready { Ok(()) } else { Err(said) }
    })?;
    Ok(Some(process))
}
