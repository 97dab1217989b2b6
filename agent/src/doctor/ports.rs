//! Are the ports free, or the agent's own?

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use super::{Check, Group, Host, Look, blocking};
use crate::config::Config;
use crate::control::api::doctor::{Finding, Verdict};
use crate::core::Topic;
use crate::preflight::{
    self, Attempt, Outcome, Process, Protocol, VxlanDevice, is_ours, vxlan_devices,
};

const GOSSIP_UDP: &str = "ports.gossip-udp";
const GOSSIP_TCP: &str = "ports.gossip-tcp";
const VXLAN: &str = "ports.vxlan";

pub(super) const GROUP: Group = Group {
    checks: &[
        Check {
            id: GOSSIP_UDP,
            title: "gossip port, UDP",
            looks_at: "UDP port 7946 (gossip-port) of the advertised address: free, or the agent's",
            why: "hosts that are not heard here count as down",
        },
        Check {
            id: GOSSIP_TCP,
            title: "gossip port, TCP",
            looks_at: "TCP port 7946 (gossip-port) of the advertised address: free, or the agent's",
            why: "hosts exchange all they know over it when they meet",
        },
        Check {
            id: VXLAN,
            title: "VXLAN port",
            looks_at: "UDP port 4789 (vxlan-port): free, or the kernel's for VXLAN devices",
            why: "no packet of containers arrives without it",
        },
    ],
    within: Duration::from_secs(15),
    look: Look::Settings(|host, config| Box::pin(look(host, config))),
};

/// What was seen.
struct Facts {
    /// Of the gossip port, UDP and TCP; else why it cannot be tried.
    gossip: Result<[Attempt; 2], preflight::Failure>,
    vxlan: Attempt,
    devices: Result<Vec<VxlanDevice>, String>,
    /// Processes that are the agent of this host.
    own: Vec<u32>,
    /// What the kernel refused to the agent, as the VXLAN port is in use.
    refused: Vec<String>,
}

async fn look(host: Host, config: Arc<Config>) -> Vec<Finding> {
    let devices = vxlan_devices().await;
    let diagnosis = host.diagnosis().await;
    let refused = diagnosis.iter().flat_map(|d| d.texts(Topic::Port)).collect();
    let gathered = blocking(move || gather(&host, &config));
    match gathered.await {
        Ok((gossip, vxlan, own)) => judge(&Facts { gossip, vxlan, devices, own, refused }),
        Err(why) => [GOSSIP_UDP, GOSSIP_TCP, VXLAN].map(|id| Finding::unchecked(id, &why)).to_vec(),
    }
}

type Gathered = (Result<[Attempt; 2], preflight::Failure>, Attempt, Vec<u32>);

/// With an agent nothing is bound: that could be in its way for a moment.
fn gather(host: &Host, config: &Config) -> Gathered {
    let attempt = if host.status().is_some() { preflight::seen } else { preflight::attempt };
    let address = match host.status() {
        Some(status) => Ok(status.address),
        None => preflight::address(&config.advertise),
    };
    let gossip = address.map(|address| {
        let address = SocketAddrV4::new(address, config.gossip_port);
        [Protocol::Udp, Protocol::Tcp].map(|protocol| attempt(protocol, address))
    });
    let anywhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, config.vxlan_port);
    (gossip, attempt(Protocol::Udp, anywhere), host.own_processes())
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.gossip {
        Ok([udp, tcp]) => {
            findings.push(gossip(GOSSIP_UDP, udp, &facts.own));
            let same = udp.outcome == tcp.outcome && findings[0].verdict == Verdict::Fail;
            findings.push(match same {
                true => Finding::unchecked(GOSSIP_TCP, format!("the same as {GOSSIP_UDP}")),
                false => gossip(GOSSIP_TCP, tcp, &facts.own),
            });
        }
        Err(failure) => {
            let summary = format!("there is no address to advertise: {}", failure.seen);
            findings.push(Finding::fail(GOSSIP_UDP, summary).mend(&failure.todo));
            let why = format!("there is no address to try it on: see {GOSSIP_UDP}");
            findings.push(Finding::unchecked(GOSSIP_TCP, why));
        }
    }
    let vxlan = vxlan(facts);
    findings.push(match facts.refused.as_slice() {
        [] => vxlan,
        _ if vxlan.verdict == Verdict::Fail => vxlan.all_seen(facts.refused.iter().cloned()),
        refused => {
            let port = facts.vxlan.address.port();
            let summary = format!("UDP port {port} is in use by something that cannot be seen");
            let fix =
                format!("see ss -lunp sport = :{port}; or set another --vxlan-port on every host");
            Finding::fail(VXLAN, summary).all_seen(refused.iter().cloned()).mend(fix)
        }
    });
    findings
}

fn gossip(check: &str, attempt: &Attempt, own: &[u32]) -> Finding {
    let address = attempt.address;
    let others = match &attempt.outcome {
        Outcome::Free => return Finding::ok(check, format!("{address} is free")),
        Outcome::Taken(processes) if processes.is_empty() && !own.is_empty() => {
            let why = format!("{address} is taken, and by whom cannot be seen");
            return Finding::unchecked(check, why).mend("run it as root");
        }
        Outcome::Taken(processes) => others(processes, own),
        Outcome::NoSuchAddress | Outcome::Denied | Outcome::Other(_) => Vec::new(),
    };
    let is_own = |process: &Process| own.contains(&process.pid);
    match &attempt.outcome {
        Outcome::Taken(processes) if others.is_empty() && processes.iter().any(is_own) => {
            Finding::ok(check, format!("{address} is the agent's own"))
        }
        Outcome::Taken(processes) if processes.iter().any(is_own) => {
            let summary = format!(
                "{address} is the agent's, and {} takes packets away from it",
                named(&others)
            );
            Finding::fail(check, summary).mend("stop that, or set another --gossip-port")
        }
        _ => failed(check, preflight::judge_gossip(attempt)),
    }
}

fn vxlan(facts: &Facts) -> Finding {
    let port = facts.vxlan.address.port();
    let kernel = matches!(&facts.vxlan.outcome, Outcome::Taken(processes) if processes.is_empty());
    if !kernel {
        return match facts.vxlan.outcome {
            Outcome::Free => Finding::ok(VXLAN, format!("UDP port {port} is free")),
            _ => failed(VXLAN, preflight::judge_vxlan(&facts.vxlan)),
        };
    }
    let devices = match &facts.devices {
        Ok(devices) => devices,
        Err(why) => {
            let why =
                format!("UDP port {port} is taken, and VXLAN devices cannot be listed: {why}");
            return Finding::unchecked(VXLAN, why);
        }
    };
    let holds = |device: &&VxlanDevice| device.up && !device.moved && device.port == port;
    let holders: Vec<_> = devices.iter().filter(holds).collect();
    if let Some(alone) = holders.iter().find(|device| device.alone.is_some()) {
        let name = &alone.name;
        let why = format!("the device {name} has UDP port {port} for itself: see vxlan.foreign");
        return Finding::unchecked(VXLAN, why);
    }
    match holders.iter().find(|device| is_ours(&device.name)).or(holders.first()) {
        Some(device) => {
            let summary =
                format!("UDP port {port} is the kernel's, for {} and others like it", device.name);
            Finding::ok(VXLAN, summary)
        }
        None => {
            let summary =
                format!("UDP port {port} is taken by something that cannot be seen from here");
            Finding::warn(VXLAN, summary).mend(
                "if networks cannot be made: Docker's own overlay networks, and processes in other \
                 PID namespaces, hold ports unseen; set another --vxlan-port on every host",
            )
        }
    }
}

fn failed(check: &str, report: preflight::Report) -> Finding {
    let failure = report.failures.into_iter().next();
    match failure {
        Some(failure) => Finding::fail(check, failure.seen).mend(failure.todo),
        None => Finding::ok(check, "it is free"),
    }
}

fn others<'a>(processes: &'a [Process], own: &[u32]) -> Vec<&'a Process> {
    processes.iter().filter(|process| !own.contains(&process.pid)).collect()
}

fn named(processes: &[&Process]) -> String {
    let name = |process: &&Process| format!("`{}` (process {})", process.command, process.pid);
    processes.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 7;

    fn process(pid: u32) -> Process {
        Process { pid, command: format!("p{pid}") }
    }

    fn taken(pids: &[u32]) -> Outcome {
        Outcome::Taken(pids.iter().copied().map(process).collect())
    }

    fn facts(udp: Outcome, tcp: Outcome, vxlan: Outcome, devices: Vec<VxlanDevice>) -> Facts {
        let address = "10.0.0.1:7946".parse().unwrap();
        let attempt = |protocol, outcome| Attempt { protocol, address, outcome };
        Facts {
            gossip: Ok([attempt(Protocol::Udp, udp), attempt(Protocol::Tcp, tcp)]),
            vxlan: Attempt {
                protocol: Protocol::Udp,
                address: "0.0.0.0:4789".parse().unwrap(),
                outcome: vxlan,
            },
            devices: Ok(devices),
            own: vec![OWN],
            refused: Vec::new(),
        }
    }

    fn device(name: &str, alone: Option<&'static str>) -> VxlanDevice {
        VxlanDevice { name: name.into(), vni: 1, port: 4789, up: true, moved: false, alone }
    }

    fn verdicts(facts: &Facts) -> [Verdict; 3] {
        let findings = judge(facts);
        let ids: Vec<_> = findings.iter().map(|finding| finding.check.as_str()).collect();
        assert_eq!(ids, [GOSSIP_UDP, GOSSIP_TCP, VXLAN]);
        [findings[0].verdict, findings[1].verdict, findings[2].verdict]
    }

    #[test]
    fn free_and_own_ports_are_fine_and_one_holder_of_several_is_told_once() {
        use Verdict::{Fail, Ok as Fine, Unchecked, Warn};
        let (free, ours) = (|| Outcome::Free, || taken(&[OWN]));
        let kernels = || Outcome::Taken(Vec::new());
        for (facts, expected) in [
            (facts(free(), free(), free(), vec![]), [Fine, Fine, Fine]),
            (facts(ours(), ours(), free(), vec![]), [Fine, Fine, Fine]),
            (facts(taken(&[9]), free(), free(), vec![]), [Fail, Fine, Fine]),
            (facts(free(), taken(&[9]), free(), vec![]), [Fine, Fail, Fine]),
            (facts(taken(&[9]), taken(&[9]), free(), vec![]), [Fail, Unchecked, Fine]),
            (facts(taken(&[9]), taken(&[8]), free(), vec![]), [Fail, Fail, Fine]),
            (facts(taken(&[OWN, 9]), ours(), free(), vec![]), [Fail, Fine, Fine]),
            (facts(kernels(), ours(), free(), vec![]), [Unchecked, Fine, Fine]),
            (
                facts(Outcome::NoSuchAddress, Outcome::NoSuchAddress, free(), vec![]),
                [Fail, Unchecked, Fine],
            ),
            (facts(free(), free(), taken(&[9]), vec![]), [Fine, Fine, Fail]),
            (facts(free(), free(), kernels(), vec![]), [Fine, Fine, Warn]),
            (facts(free(), free(), kernels(), vec![device("ovl-1", None)]), [Fine, Fine, Fine]),
            (facts(free(), free(), kernels(), vec![device("vx0", None)]), [Fine, Fine, Fine]),
            (
                facts(free(), free(), kernels(), vec![device("cilium_vxlan", Some("external"))]),
                [Fine, Fine, Unchecked],
            ),
        ] {
            assert_eq!(verdicts(&facts), expected);
        }
    }

    #[test]
    fn without_an_address_it_is_told_once() {
        let failure = preflight::Failure {
            check: "address to advertise",
            seen: "there is no interface eth9".into(),
            todo: "give --advertise another".into(),
        };
        let facts = Facts {
            gossip: Err(failure),
            ..facts(Outcome::Free, Outcome::Free, Outcome::Free, vec![])
        };
        assert_eq!(verdicts(&facts), [Verdict::Fail, Verdict::Unchecked, Verdict::Ok]);
        assert!(judge(&facts)[0].summary.contains("eth9"));
    }

    #[test]
    fn who_holds_a_port_is_named_with_its_process() {
        let found = &judge(&facts(taken(&[9]), Outcome::Free, Outcome::Free, vec![]))[0];
        assert!(found.summary.contains("10.0.0.1:7946 is taken by `p9` (process 9)"), "{found:?}");
        let shared = &judge(&facts(taken(&[OWN, 9]), Outcome::Free, Outcome::Free, vec![]))[0];
        assert!(shared.summary.contains("`p9` (process 9) takes packets"), "{shared:?}");
    }
}
