//! VXLAN devices of others, on our port or with our VNIs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ovl_ipam::VniRange;
use ovl_vxlan::netns::{self, NetnsId};

use super::{Check, Group, Host, Look, blocking};
use crate::config::Config;
use crate::control::api::doctor::Finding;
use crate::core::Topic;
use crate::preflight::{VxlanDevice, is_ours, vxlan_devices};

const FOREIGN: &str = "vxlan.foreign";

/// Where namespaces of others have names.
const FOLDERS: [&str; 2] = ["/run/docker/netns", "/run/netns"];

/// Namespaces that are looked into; further ones are left out, and the finding says so.
const NAMESPACES_MAX: usize = 128;

pub(super) const GROUP: Group = Group {
    checks: &[Check {
        id: FOREIGN,
        title: "foreign VXLAN devices",
        looks_at: "VXLAN devices on our UDP port, here and in /run/docker/netns and /run/netns",
        why: "two devices cannot share a VNI, and some do not share their port: Swarm, flannel, Calico",
    }],
    within: Duration::from_secs(15),
    look: Look::Settings(|host, config| Box::pin(look(host, config))),
};

/// A device, and where it was seen.
#[derive(Clone, Debug)]
struct Seen {
    device: VxlanDevice,
    /// None: in the host's own namespace.
    namespace: Option<PathBuf>,
}

/// What was seen, and what it is held against.
struct Facts {
    devices: Vec<Seen>,
    port: u16,
    range: VniRange,
    /// Networks of the cluster, where an agent runs: VNI and name.
    networks: Vec<(u32, String)>,
    /// What the kernel refused to the agent for their sake.
    refused: Vec<String>,
    /// Namespaces that were not looked into.
    left_out: usize,
}

async fn look(host: Host, config: Arc<Config>) -> Vec<Finding> {
    let here = match vxlan_devices().await {
        Ok(devices) => devices.into_iter().map(|device| Seen { device, namespace: None }),
        Err(why) => {
            let why = format!("the devices of this host cannot be listed: {why}");
            return vec![Finding::unchecked(FOREIGN, why)];
        }
    };
    let (elsewhere, left_out) = blocking(elsewhere).await.unwrap_or_default();
    let diagnosis = host.diagnosis().await;
    let networks = diagnosis.iter().flat_map(|d| &d.networks);
    let facts = Facts {
        devices: here.chain(elsewhere).collect(),
        port: config.vxlan_port,
        range: config.vni_range,
        networks: networks.map(|network| (network.vni, network.name.clone())).collect(),
        refused: diagnosis.iter().flat_map(|d| d.texts(Topic::Device)).collect(),
        left_out,
    };
    judge(&facts)
}

/// Devices that were moved into a namespace that can be found, and how many could not be looked into.
fn elsewhere() -> (Vec<Seen>, usize) {
    let mut known: BTreeSet<NetnsId> = BTreeSet::new();
    known.extend(netns::identify("/proc/thread-self/ns/net".as_ref()).ok());
    let entries = FOLDERS.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| netns::identify(path).is_ok_and(|id| known.insert(id))).collect();
    // Swarm's have devices of others; those of containers hardly ever, and there may be thousands.
    paths.sort_by_key(|path| is_containers(path));
    let left_out = paths.iter().skip(NAMESPACES_MAX).filter(|path| !is_containers(path)).count();
    paths.truncate(NAMESPACES_MAX);
    let devices = paths.into_iter().flat_map(|path| {
        // One that ended meanwhile, or cannot be entered, is nobody's trouble.
        let listed = netns::run(&path, listed).unwrap_or_default();
        let moved = listed.into_iter().filter(|device| device.moved);
        moved.map(move |device| Seen { device, namespace: Some(path.clone()) }).collect::<Vec<_>>()
    });
    (devices.collect(), left_out)
}

/// Docker calls the namespace of a container by twelve digits of an id, and those of Swarm's networks
/// `1-abc…`, `lb_abc…`, `ingress_sbox`.
fn is_containers(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.starts_with("/run/docker")
        && name.len() == 12
        && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The devices of the calling thread's namespace.
fn listed() -> Vec<VxlanDevice> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let listed = runtime.map(|runtime| runtime.block_on(vxlan_devices()));
    listed.ok().and_then(Result::ok).unwrap_or_default()
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let foreign = facts.devices.iter().filter(|seen| {
        seen.device.port == facts.port && !(seen.namespace.is_none() && is_ours(&seen.device.name))
    });
    let mut findings: Vec<Finding> = foreign.filter_map(|seen| judge_one(seen, facts)).collect();
    if findings.is_empty() && !facts.refused.is_empty() {
        let summary =
            "a VXLAN device that cannot be seen from here has the VNI or the port of a network";
        let finding = Finding::fail(FOREIGN, summary).all_seen(facts.refused.iter().cloned());
        findings.push(finding.mend(
            "find it with: ip -all netns exec ip -d link show type vxlan; remove it, or set another \
             --vxlan-port on every host",
        ));
    }
    if findings.is_empty() {
        let count = facts.devices.iter().filter(|seen| !is_ours(&seen.device.name)).count();
        let summary = match count {
            0 => format!("no other VXLAN device is on UDP port {}", facts.port),
            count => format!("{count} VXLAN devices of others are not in the way"),
        };
        findings.push(Finding::ok(FOREIGN, summary).all_seen(facts.devices.iter().map(described)));
    }
    if facts.left_out > 0 {
        let why = format!("{} more network namespaces were not looked into", facts.left_out);
        findings.push(Finding::unchecked(FOREIGN, why));
    }
    findings
}

/// None: it is in nobody's way.
fn judge_one(seen: &Seen, facts: &Facts) -> Option<Finding> {
    let Seen { device, .. } = seen;
    let VxlanDevice { name, vni, port, .. } = device;
    let who = whose(seen);
    let finding = if let (Some(option), true, false) = (device.alone, device.up, device.moved) {
        Finding::fail(
            FOREIGN,
            format!(
                "{who} has UDP port {port} for itself (option `{option}`): no overlay network can be made"
            ),
        )
    } else if let Some((_, network)) = facts.networks.iter().find(|(of, _)| of == vni) {
        Finding::fail(
            FOREIGN,
            format!(
                "{who} has VNI {vni} on UDP port {port}, as network {network} has: this host cannot take part in it"
            ),
        )
    } else if (facts.range.first.value()..=facts.range.last.value()).contains(vni) {
        Finding::warn(
            FOREIGN,
            format!("{who} has VNI {vni} on UDP port {port}, which a new network may get"),
        )
    } else {
        return None;
    };
    let finding = finding.about(name).seen(described(seen));
    Some(
        finding
            .all_seen(facts.refused.iter().filter(|text| text.contains(name.as_str())).cloned())
            .mend(fix(seen)),
    )
}

fn described(seen: &Seen) -> String {
    let VxlanDevice { name, vni, port, up, .. } = &seen.device;
    let state = if *up { "up" } else { "down" };
    let place = match &seen.namespace {
        Some(path) => format!(", moved to {}", path.display()),
        None => String::new(),
    };
    format!("{name}: VNI {vni}, UDP port {port}, {state}{place}")
}

fn fix(seen: &Seen) -> String {
    let name = &seen.device.name;
    let other = "or set another --vxlan-port on every host";
    match (&seen.namespace, maker(seen)) {
        (_, Some(maker)) => format!("{}, {other}", maker.remove),
        (None, None) => format!(
            "ip link del {name}; if somebody needs it, set another --vxlan-port on every host"
        ),
        (Some(path), None) => {
            format!("nsenter --net={} ip link del {name}, {other}", path.display())
        }
    }
}

/// Who makes devices of such names.
struct Maker {
    who: &'static str,
    remove: &'static str,
}

fn maker(seen: &Seen) -> Option<Maker> {
    let name = seen.device.name.as_str();
    let in_docker = seen.namespace.as_ref().is_some_and(|path| path.starts_with("/run/docker"));
    let (who, remove) = match name {
        _ if in_docker || name.starts_with("vx-") => (
            "an overlay network of Docker Swarm",
            "remove that network (docker network ls --filter driver=overlay)",
        ),
        _ if name.starts_with("flannel.") => ("flannel", "give flannel another Port"),
        "vxlan.calico" => ("Calico", "give Calico another vxlanPort"),
        "cilium_vxlan" => ("Cilium", "give Cilium another tunnel-port"),
        _ if name.starts_with("vxlan_sys_") => ("Open vSwitch", "give its tunnel another dst_port"),
        _ if name.starts_with("antrea") => ("Antrea", "give Antrea another tunnelPort"),
        _ => return None,
    };
    Some(Maker { who, remove })
}

fn whose(seen: &Seen) -> String {
    let name = &seen.device.name;
    match maker(seen) {
        Some(Maker { who, .. }) => format!("the VXLAN device {name} ({who})"),
        None => format!("the VXLAN device {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::doctor::Verdict;

    fn seen(name: &str, vni: u32, port: u16) -> Seen {
        let device =
            VxlanDevice { name: name.into(), vni, port, up: true, moved: false, alone: None };
        Seen { device, namespace: None }
    }

    fn moved(seen: Seen, to: &str) -> Seen {
        Seen { device: VxlanDevice { moved: true, ..seen.device }, namespace: Some(to.into()) }
    }

    fn facts(devices: Vec<Seen>) -> Facts {
        Facts {
            devices,
            port: 4789,
            range: "1000-2000".parse().unwrap(),
            networks: vec![(1500, "blue".into())],
            refused: Vec::new(),
            left_out: 0,
        }
    }

    #[test]
    fn only_a_device_on_our_port_with_one_of_our_vnis_is_in_the_way() {
        let alone = |mut seen: Seen| {
            seen.device.alone = Some("external");
            seen
        };
        let down = |mut seen: Seen| {
            seen.device.up = false;
            seen
        };
        for (seen, verdict) in [
            (seen("ovl-1500", 1500, 4789), Verdict::Ok),
            (seen("flannel.1", 1, 8472), Verdict::Ok),
            (seen("flannel.1", 1, 4789), Verdict::Ok),
            (seen("vx0", 1500, 4790), Verdict::Ok),
            (seen("vx0", 1001, 4789), Verdict::Warn),
            (seen("vx0", 1500, 4789), Verdict::Fail),
            (alone(seen("cilium_vxlan", 0, 4789)), Verdict::Fail),
            (down(alone(seen("cilium_vxlan", 0, 4789))), Verdict::Ok),
            (moved(seen("vxlan0", 1500, 4789), "/run/docker/netns/1-abc"), Verdict::Fail),
            // Two that are moved to one namespace may be called as ours is.
            (moved(seen("ovl-1500", 1500, 4789), "/run/netns/x"), Verdict::Fail),
        ] {
            let found = judge(&facts(vec![seen.clone()]));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].verdict, verdict, "{seen:?}: {found:?}");
        }
    }

    #[test]
    fn makers_are_known_by_their_names_and_places() {
        for (seen, who) in [
            (seen("vx-001000-abcde", 1500, 4789), "Docker Swarm"),
            (moved(seen("vxlan0", 1500, 4789), "/run/docker/netns/1-abc"), "Docker Swarm"),
            (seen("flannel.1500", 1500, 4789), "flannel"),
            (seen("vxlan.calico", 1500, 4789), "Calico"),
            (seen("vx0", 1500, 4789), "device vx0 has VNI 1500"),
        ] {
            let found = judge(&facts(vec![seen]));
            assert!(found[0].summary.contains(who), "{found:?}");
            assert!(found[0].summary.contains("network blue"), "{found:?}");
        }
    }

    #[test]
    fn what_the_kernel_refused_is_evidence_and_told_when_nothing_else_is() {
        let refused = || vec!["VNI 1500: interface vx0 has VNI 1500".to_owned()];
        let seen = Facts { refused: refused(), ..facts(vec![seen("vx0", 1500, 4789)]) };
        let found = judge(&seen);
        assert_eq!((found.len(), found[0].evidence.len()), (1, 2), "{found:?}");
        let unseen = judge(&Facts { refused: refused(), ..facts(Vec::new()) });
        assert_eq!((unseen.len(), unseen[0].verdict), (1, Verdict::Fail), "{unseen:?}");
    }
}
