//! Are the ports ours to use?
//!
//! A VXLAN port that is taken may still be usable: the kernel holds one socket for all devices
//! of a port, and shares it among those whose options agree. So a taken port alone says
//! nothing; whose it is decides. The kernel's sockets stand in /proc/net/udp like any other, but
//! no process has them open.
use super::{Attempt, Facts, Outcome, Process, Protocol, Report, VxlanDevice};

const VXLAN: &str = "vxlan port";

pub(super) fn check_vxlan(facts: &Facts, report: &mut Report) {
    match &facts.vxlan.outcome {
        Outcome::Taken(processes) if processes.is_empty() => {
            check_sharing(facts, facts.vxlan.address.port(), report);
        }
        _ => check_holder(&facts.vxlan, report),
    }
}

/// Which process is in the way of the VXLAN port, or what else is; of the kernel's own sockets nothing
/// is said.
pub(super) fn check_holder(attempt: &Attempt, report: &mut Report) {
    let port = attempt.address.port();
    let other_port = "stop that, or set another --vxlan-port on every host";
    match &attempt.outcome {
        Outcome::Free => {}
        Outcome::Taken(processes) if processes.is_empty() => {}
        Outcome::Taken(processes) => {
            let seen = format!("UDP port {port} is taken by {}", names(processes));
            report.fail(VXLAN, seen, other_port);
        }
        Outcome::Denied => {
            let seen = format!("UDP port {port} may not be bound by this process");
            report.fail(VXLAN, seen, "run the agent as root, or set another --vxlan-port");
        }
        Outcome::NoSuchAddress => {
            let seen = format!("UDP port {port} cannot be bound: no such address");
            report.fail(VXLAN, seen, "see to it that the loopback interface is up");
        }
        Outcome::Other(error) => {
            let seen = format!("UDP port {port} cannot be bound: {error}");
            report.fail(VXLAN, seen, "see that error");
        }
    }
}

/// The port is taken, but by no process that can be seen.
fn check_sharing(facts: &Facts, port: u16, report: &mut Report) {
    let devices = match &facts.devices {
        Ok(devices) => devices,
        Err(error) => {
            let seen = format!(
                "UDP port {port} is taken, and the VXLAN devices cannot be listed: {error}"
            );
            report.warn(VXLAN, seen, "look for a foreign one with `ip -d link show type vxlan`");
            return;
        }
    };
    let holds = |device: &&VxlanDevice| device.up && !device.moved && device.port == port;
    let on_port = devices.iter().filter(holds);
    let (ours, foreign): (Vec<_>, Vec<_>) = on_port.partition(|device| is_ours(&device.name));
    if ours.is_empty() && foreign.is_empty() {
        let seen = format!("UDP port {port} is taken by something that cannot be seen from here");
        let todo = "if networks cannot be made: Docker's own overlay networks, and processes in \
                    other PID namespaces hold ports unseen; set another --vxlan-port on every host";
        report.warn(VXLAN, seen, todo);
    }
    for device in foreign {
        check_foreign(device, facts, report);
    }
}

fn check_foreign(device: &VxlanDevice, facts: &Facts, report: &mut Report) {
    let VxlanDevice { name, vni, port, .. } = device;
    if let Some(option) = device.alone {
        let seen = format!(
            "the VXLAN device `{name}` holds UDP port {port}, and with its option `{option}` \
             the kernel does not share it"
        );
        let todo = format!(
            "remove it with `ip link del {name}` if nobody needs it, or set another --vxlan-port \
             on every host"
        );
        report.fail(VXLAN, seen, todo);
    } else if (facts.vni_range.first.value()..=facts.vni_range.last.value()).contains(vni) {
        let seen = format!(
            "the VXLAN device `{name}` uses VNI {vni} on UDP port {port}, which a network of ours \
             may get"
        );
        let todo = "set a --vni-range without it, or another --vxlan-port, on every host";
        report.warn(VXLAN, seen, todo);
    }
}

/// Named by our data plane: `ovl-` and the VNI.
pub(crate) fn is_ours(name: &str) -> bool {
    let vni = name.strip_prefix("ovl-").unwrap_or_default();
    !vni.is_empty() && vni.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn check_gossip(attempt: &Attempt, report: &mut Report) {
    let check = match attempt.protocol {
        Protocol::Udp => "gossip port (UDP)",
        Protocol::Tcp => "gossip port (TCP)",
    };
    let address = attempt.address;
    let (seen, todo) = match &attempt.outcome {
        Outcome::Free => return,
        Outcome::Taken(processes) if processes.is_empty() => (
            format!("{address} is taken by something that cannot be seen from here"),
            "stop that (another ovl-agent?), or set another --gossip-port",
        ),
        Outcome::Taken(processes) => (
            format!("{address} is taken by {}", names(processes)),
            "stop that, or set another --gossip-port",
        ),
        Outcome::NoSuchAddress => (
            format!("{} is not an address of this host", address.ip()),
            "set --advertise to one of its addresses or interfaces",
        ),
        Outcome::Denied => (
            format!("{address} may not be bound by this process"),
            "run the agent as root, or set --gossip-port to 1024 or above",
        ),
        Outcome::Other(error) => (format!("{address} cannot be bound: {error}"), "see that error"),
    };
    report.fail(check, seen, todo);
}

fn names(processes: &[Process]) -> String {
    let names = processes.iter().map(|Process { pid, command }| {
        let command: String = command.chars().filter(|c| !c.is_control()).collect();
        format!("`{command}` (process {pid})")
    });
    names.collect::<Vec<_>>().join(", ")
}
