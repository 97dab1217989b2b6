//! What goes into a bundle: the list of parts, and how each is had.
use std::path::PathBuf;
use std::time::Duration;

use ovl_agent::config::process::ENVIRONMENT_FILE;
use ovl_agent::control::api::Member;
use ovl_gossip::MemberState;

use super::here::Here;
use crate::client::path;

/// Lines of a log, the newest.
const LOG_LINES: &str = "5000";

/// Other hosts whose agents are asked how their hosts are; of more, the first ones by name.
const PEERS_MAX: usize = 64;

/// How long a part may take, unless it says otherwise.
const WITHIN: Duration = Duration::from_secs(10);

/// How long an examination may take: the agent gives up by itself before.
const DOCTOR_WITHIN: Duration = Duration::from_secs(40);

/// A file of the archive to be.
pub(super) struct Part {
    pub(super) path: String,
    pub(super) source: Source,
    pub(super) within: Duration,
}

/// How a part is had.
pub(super) enum Source {
    /// What a program prints.
    Program(Vec<&'static str>),
    File(PathBuf),
    /// Several files, one after the other, each with its name; those that are missing are left out.
    Files(Vec<PathBuf>),
    /// What an agent answers: this host's, or that of another one.
    Agent {
        target: String,
        host: Option<String>,
    },
    /// The examination of this host, without its agent if that does not answer.
    Doctor,
    /// It is known already.
    Text(String),
}

impl Part {
    fn new(path: impl Into<String>, source: Source) -> Part {
        Part { path: path.into(), source, within: WITHIN }
    }

    fn program<const N: usize>(path: &str, argv: [&'static str; N]) -> Part {
        Part::new(path, Source::Program(argv.to_vec()))
    }

    fn file(path: &str, file: impl Into<PathBuf>) -> Part {
        Part::new(path, Source::File(file.into()))
    }

    fn agent(path: &str, segments: &[&str]) -> Part {
        let target = self::path(segments);
        Part::new(path, Source::Agent { target, host: None })
    }
}

/// All parts about this host.
pub(super) fn of_host(here: &Here) -> Vec<Part> {
    [versions(), agent(here), settings(here), kernel(), filters(), logs()]
        .into_iter()
        .flatten()
        .collect()
}

/// What the agents of other hosts say of theirs.
pub(super) fn of_peers(members: &[Member], own: Option<&str>) -> Vec<Part> {
    // Nobody answers for the others, and to find that out takes as long as an answer.
    let there =
        |member: &&Member| matches!(member.state, MemberState::Alive | MemberState::Suspect);
    let mut names: Vec<&str> =
        members.iter().filter(there).map(|member| member.name.as_str()).collect();
    names.retain(|name| Some(*name) != own);
    names.sort_unstable();
    let peers = names.into_iter().take(PEERS_MAX);
    let part = |name: &str| Part {
        path: format!("doctor/of/{}.json", file_name(name)),
        source: Source::Agent { target: path(&["doctor"]), host: Some(name.to_owned()) },
        within: DOCTOR_WITHIN,
    };
    peers.map(part).collect()
}

/// Names of nodes are harmless; this one may come from elsewhere.
fn file_name(name: &str) -> String {
    let fit = |c: char| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' };
    name.chars().take(100).map(fit).collect()
}

fn versions() -> Vec<Part> {
    vec![
        Part::new("versions/ovlctl.txt", Source::Text(format!("{}\n", ovl_agent::VERSION))),
        Part::program("versions/ovl-agent.txt", ["ovl-agent", "--version"]),
        Part::program("versions/kernel.txt", ["uname", "-a"]),
        Part::file("versions/os-release", "/etc/os-release"),
        Part::program("versions/docker.txt", ["docker", "version"]),
        Part::program("versions/nft.txt", ["nft", "--version"]),
        Part::program("versions/iptables.txt", ["iptables", "--version"]),
        Part::program("versions/systemd.txt", ["systemctl", "--version"]),
    ]
}

fn agent(here: &Here) -> Vec<Part> {
    let words = here.argv.iter().map(|word| word.to_string_lossy().into_owned() + "\n");
    let command_line = match here.argv.is_empty() {
        true => "no agent answers\n".to_owned(),
        false => words.collect(),
    };
    let doctor =
        Part { within: DOCTOR_WITHIN, ..Part::new("doctor/this-host.json", Source::Doctor) };
    vec![
        doctor,
        Part::agent("agent/status.json", &["status"]),
        Part::agent("agent/members.json", &["members"]),
        Part::agent("agent/networks.json", &["networks"]),
        Part::agent("agent/endpoints.json", &["endpoints"]),
        Part::agent("agent/events.json", &["events"]),
        Part::agent("agent/audit.json", &["audit"]),
        Part::agent("agent/counters.json", &["counters"]),
        Part::new("agent/command-line.txt", Source::Text(command_line)),
        Part::file("agent/state.json", here.state_dir.join("state.json")),
    ]
}

fn settings(here: &Here) -> Vec<Part> {
    vec![
        Part::file("settings/agent.toml", &here.config_file),
        Part::file("settings/agent.env", ENVIRONMENT_FILE),
        Part::program("settings/unit.txt", ["systemctl", "cat", "ovl-agent.service"]),
        Part::program("settings/unit-state.txt", ["systemctl", "show", "ovl-agent.service"]),
        Part::file("settings/daemon.json", "/etc/docker/daemon.json"),
        Part::file("settings/resolv.conf", "/etc/resolv.conf"),
    ]
}

fn kernel() -> Vec<Part> {
    let mut parts = vec![
        Part::program("kernel/links.json", ["ip", "-d", "-s", "-j", "link", "show"]),
        Part::program("kernel/addresses.json", ["ip", "-j", "address", "show"]),
        Part::program("kernel/routes.json", ["ip", "-j", "route", "show", "table", "all"]),
        Part::program("kernel/rules.json", ["ip", "-j", "rule", "show"]),
        Part::program("kernel/neighbours.json", ["ip", "-s", "-j", "neighbour", "show"]),
        Part::program("kernel/neighbours6.json", ["ip", "-6", "-s", "-j", "neighbour", "show"]),
        Part::program("kernel/fdb.json", ["bridge", "-s", "-j", "fdb", "show"]),
        Part::new("kernel/sysctl.txt", Source::Files(sysctls())),
        Part::file("kernel/command-line.txt", "/proc/cmdline"),
        Part::file("kernel/modules.txt", "/proc/modules"),
    ];
    for name in ["dev", "softnet_stat", "snmp", "netstat", "udp", "sockstat"] {
        let file = format!("/proc/self/net/{name}");
        parts.push(Part::file(&format!("kernel/proc-net-{name}.txt"), file));
    }
    parts
}

/// Those that decide about packets between hosts and containers, below /proc/sys.
fn sysctls() -> Vec<PathBuf> {
    let net = "/proc/sys/net";
    let mut files: Vec<String> = [
        "bridge/bridge-nf-call-iptables",
        "bridge/bridge-nf-call-ip6tables",
        "core/netdev_max_backlog",
        "core/rmem_default",
        "core/rmem_max",
        "core/wmem_default",
        "core/wmem_max",
        "ipv4/ip_forward",
        "ipv4/ip_local_port_range",
        "ipv4/ip_no_pmtu_disc",
        "ipv4/neigh/default/gc_thresh1",
        "ipv4/neigh/default/gc_thresh2",
        "ipv4/neigh/default/gc_thresh3",
        "ipv4/udp_mem",
        "ipv6/neigh/default/gc_thresh3",
        "netfilter/nf_conntrack_count",
        "netfilter/nf_conntrack_max",
    ]
    .map(|name| format!("{net}/{name}"))
    .to_vec();
    let interfaces = std::fs::read_dir(format!("{net}/ipv4/conf")).into_iter().flatten().flatten();
    let mut interfaces: Vec<String> =
        interfaces.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    interfaces.sort_unstable();
    for interface in interfaces {
        for key in ["rp_filter", "forwarding", "arp_ignore", "accept_local"] {
            files.push(format!("{net}/ipv4/conf/{interface}/{key}"));
        }
        files.push(format!("{net}/ipv6/conf/{interface}/disable_ipv6"));
    }
    files.into_iter().map(PathBuf::from).collect()
}

fn filters() -> Vec<Part> {
    vec![
        Part::program("firewall/nft.txt", ["nft", "-a", "list", "ruleset"]),
        Part::program("firewall/iptables-nft.txt", ["iptables-nft-save", "-c"]),
        Part::program("firewall/iptables-legacy.txt", ["iptables-legacy-save", "-c"]),
        Part::program("firewall/iptables.txt", ["iptables-save", "-c"]),
        Part::file("firewall/legacy-tables.txt", "/proc/self/net/ip_tables_names"),
    ]
}

fn logs() -> Vec<Part> {
    let of = |unit: &'static str| {
        [
            "journalctl",
            "-u",
            unit,
            "-n",
            LOG_LINES,
            "--no-pager",
            "-o",
            "short-iso-precise",
            "--utc",
        ]
    };
    vec![
        Part::program("logs/ovl-agent.txt", of("ovl-agent.service")),
        Part::program("logs/docker.txt", of("docker.service")),
        Part::program(
            "logs/kernel.txt",
            ["journalctl", "-k", "-n", LOG_LINES, "--no-pager", "--utc"],
        ),
    ]
}
