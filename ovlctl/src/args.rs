//! What can be asked.
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::commands::capture::Capture;
use crate::commands::{Doctor, Droplets};
use crate::commands::{audit, events, resolve};
use crate::complete;

const AFTER_HELP: &str = "\
Exit codes:
  0   done
  1   the agent said no, this user may not, or there is no such thing
  2   not all could be looked at (doctor, trace)
  3   it works, and there is a warning (doctor)
  4   what was looked at is not as it should be (ping, audit, doctor, trace)
  64  wrong usage
  69  the agent does not answer, or not in a way that is understood
  75  not now: the store, the kernel, another host or DigitalOcean did not do it in time; try again later
  130 interrupted, where the same command goes on (droplet)";

/// Flags that go with every command.
const GLOBAL: &str = "Options of every command";

/// Where an agent has its control socket unless told otherwise.
pub(crate) const SOCKET: &str = "/run/ovl/ovl.sock";

/// The shortest and longest `--timeout`, in seconds.
const TIMEOUTS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// Shows and changes the overlay networks of this cluster, through the agent on this host
#[derive(Debug, Parser)]
#[command(name = "ovlctl", version = ovl_agent::VERSION, max_term_width = 100, after_help = AFTER_HELP)]
#[command(infer_long_args = false, propagate_version = false)]
pub(crate) struct Args {
    /// The agent's control socket
    ///
    /// A unix socket; the agent's own setting of that name says where it is.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "PATH", env = "OVL_CONTROL_SOCKET")]
    #[arg(default_value = SOCKET)]
    pub(crate) socket: PathBuf,

    /// Print JSON, for programs
    ///
    /// One JSON value on standard output: a list (`[]` when empty) or an object; of what goes on, and of
    /// events, one a line. Failures are still one sentence on standard error and an exit code.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    /// Longest wait for one answer of the agent, in seconds
    ///
    /// From 0.1 to 3600. When it is over the exit code is 69, and what was asked for may still
    /// be done.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Ask the agent of another host, through the one of this host
    ///
    /// A name that `ovlctl members` lists. For commands that read, measure or repair; what changes
    /// networks, endpoints and agents is done on the host itself.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "HOST", value_parser = NonEmptyStringValueParser::new(), add = complete::hosts())]
    pub(crate) host: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how this host's agent is, and what is wrong
    ///
    /// JSON: {version, node, address, uptime_seconds, store: {url, error}, members: {alive, suspect, down,
    /// left}, networks, endpoints: {local, total, held}, dataplane: {repaired, errors}, docker, problems}; an
    /// error that is null is none.
    Status,
    /// List the hosts of the cluster, as this host sees them
    ///
    /// JSON: [{name, address, state}], the state being alive, suspect, down or left.
    Members,
    /// Measure the ways between hosts: the underlay, and VXLAN over it
    ///
    /// Agents send each other UDP packets, and frames through their VXLAN devices; each has 0.6 s to be
    /// answered. Exit code 4 when a way is closed, or a host could not be asked. JSON: [{from, host,
    /// address, state, underlay: {sent, received, min_us, avg_us, max_us, error}, vxlan: {…}}], the
    /// times in microseconds, or {from, host, error} where the agent of `from` could not be asked.
    Ping(crate::commands::ping::Args),
    /// Show hosts, networks, endpoints and problems, live
    ///
    /// A screen with the state of hosts and the round trip to each, the rates and drops of each network
    /// on this host, its endpoints and what is wrong. Keys: ? lists them. JSON: {host, hosts: [{name,
    /// address, state, round_trip_us, endpoints}], networks: [{name, vni, endpoints_here, endpoints,
    /// per_second: {rx_bytes, tx_bytes, rx_packets, tx_packets, drops}, drops}], endpoints: [{name,
    /// network, ipv4, aliases}], problems}, from two readings a second apart; the network without a VNI
    /// is the underlay's interface.
    Top(crate::commands::top::Args),
    /// Follow the way from one container to another, and say where it is broken
    ///
    /// Looks at both hosts what their kernels would do with a packet and with its answer, marks the first
    /// hop that is broken, and says what mends it. Then sends probes out of the first container's own
    /// interface (ARP, an echo, UDP that must not be fragmented), and shows at which points they were
    /// seen. Needs root. Exit code 0: the way works; 4: it is broken; 2: that could not be told. JSON:
    /// {from, to: {name, host, address, mac}, network: {name, vni, mtu}, verdict, broken, conclusion,
    /// fix, hops: [{hop, host, verdict, says, evidence, fix}], probes: [{probe, bytes, sent, answered,
    /// answer, rtt_us, points: [{host, container, interface, direction, way, seen}]}], unprobed,
    /// unwatched}; a verdict is ok, unknown or broken.
    Trace(crate::commands::trace::Args),
    /// Hold the kernel of this host against what it should be, row by row
    ///
    /// Changes nothing without --repair. Exit code 4 when something differs; with --repair, when something
    /// is left. JSON: {networks, rows, endpoints, differences: [{kind, network, vni, endpoint, netns,
    /// device, what, want, have}], left_out, repair: {done, failures, left: [{…}]}}.
    Audit(audit::Ask),
    /// Put all that is known of this host into one archive, for a bug report
    ///
    /// Versions, settings, state, logs, kernel tables, firewall rules, and what doctor says of this
    /// host and of the others. Secrets are taken out, names and addresses are not. Works without an
    /// agent, too; what cannot be had is named. JSON: {file, bytes, parts: [{path, bytes, error, cut}]}.
    Bundle(crate::commands::bundle::Args),
    /// Show what happened on this host and in its cluster
    ///
    /// Hosts that joined, left, were suspected or down; endpoints that came, went or moved; networks,
    /// repairs of the kernel, addresses held twice, the store, Docker, DNS. JSON: one object a line,
    /// {seq, at, kind, summary}, and where it applies host, network, endpoint, address, count, reason,
    /// details; docs/events.md lists the kinds.
    Events(events::Events),
    /// Look for everything that is known to break an overlay on this host
    ///
    /// Each check has a verdict: ok, unchecked (with why), warn or fail; what was seen; and what mends it.
    /// Where no agent answers, this program looks itself, as far as it can be seen from outside. Nothing is
    /// changed. Exit codes: 0 all is fine, 2 something could not be checked, 3 a warning, 4 a failure; the
    /// worst one counts. JSON: {host, version, at, findings: [{check, subject, verdict, summary, evidence,
    /// fix}]}; with --list [{id, title, looks_at, why}].
    Doctor(Doctor),
    /// Let the agent read its configuration again
    ///
    /// Says which settings differ, and which of them are in force only after a restart. A
    /// configuration with mistakes changes nothing; they are listed. JSON: {changes: [{key, from, to,
    /// in_force}], warnings}.
    Reload,
    /// Take this host out of the cluster, and end its agent
    ///
    /// Every address of this host is given back, networks of ovl go from its Docker, the other hosts are
    /// told, and systemd does not start the agent again before the next boot (`systemctl disable
    /// ovl-agent`: not then either). An agent that is started joins again. JSON: {left: {addresses, notes,
    /// state_dir}, purged: {devices, in_use, firewall, files}}.
    Leave(Leave),
    /// Create, list, inspect and remove networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Attach, detach and list endpoints
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Show the addresses that a name has
    ///
    /// As containers are answered: an endpoint's name or alias, or NAME.NETWORK. JSON:
    /// [address, …]. Exit code 1 when there is none.
    Resolve(resolve::Resolve),
    /// Show packets of the overlay as they go between hosts
    ///
    /// What this host sends to others and gets from them over VXLAN, outside and inside, with names in place
    /// of addresses, until Ctrl-C. The kernel picks the packets that are asked for; at the end it is said how
    /// many it had to drop. Packets between containers of one host never reach the interface between the
    /// hosts, and are not seen. For root only. JSON, an object a line: {time, direction, length, outer:
    /// {source, source_host, source_port, destination, destination_host, ttl, vni, network}, inner:
    /// {source_mac, destination_mac, vlan, protocol, source, source_name, source_port, destination,
    /// destination_name, destination_port, summary}}; what is not known is null.
    Capture(Capture),
    /// Make and care for hosts on DigitalOcean
    ///
    /// From a token in DIGITALOCEAN_ACCESS_TOKEN to a running cluster. Needs no agent on this machine; ssh is
    /// your own, with your keys.
    Droplet(Box<Droplets>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Leave {
    /// Also when endpoints run here, or the store does not answer
    ///
    /// Endpoints lose their network. Addresses that the store does not take back stay taken.
    #[arg(long)]
    pub(crate) force: bool,

    /// Remove every device, table and row from the kernel as well, and the agent's state
    ///
    /// Also when no agent runs. Devices that containers use stay, unless --force is given. Asks first.
    #[arg(long)]
    pub(crate) purge: bool,

    /// Do not ask
    ///
    /// Only --purge asks.
    #[arg(long)]
    pub(crate) yes: bool,

    /// Where the agent's state is, when no agent runs
    ///
    /// A running agent says it itself.
    #[arg(long, value_name = "DIR", env = "OVL_STATE_DIR", default_value = "/var/lib/ovl")]
    pub(crate) state_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Create a network, on every host at once, in its Docker as well
    ///
    /// JSON: {name, vni, subnet, subnet6, internal, mtu, gateway, device, endpoints}.
    Create(Create),
    /// List all networks
    ///
    /// JSON: [{name, vni, subnet, subnet6, internal, mtu}].
    #[command(visible_alias = "list")]
    Ls,
    /// Show one network and its endpoints on every host
    ///
    /// JSON: {name, vni, subnet, subnet6, internal, mtu, gateway, device, endpoints}.
    Inspect {
        /// Its name
        #[arg(value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
        name: String,
    },
    /// Remove networks that have no endpoints
    ///
    /// JSON: [name, …] of those removed. After a failure the others are still removed.
    #[command(visible_alias = "remove")]
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
        names: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name: 1 to 63 letters, digits, `_`, `.` or `-`
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,

    /// Where its addresses come from, in CIDR form
    ///
    /// No other network may overlap it. Without it a free one is picked from the agents' default
    /// pool.
    #[arg(long, value_name = "SUBNET")]
    pub(crate) subnet: Option<Ipv4Net>,

    /// An address of the subnet that no endpoint gets
    ///
    /// Kept for a way out. Without it the subnet's first address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Option<Ipv4Addr>,

    /// Largest packet on the network, in bytes
    ///
    /// Without it each host's underlay decides: its MTU less the 50 bytes of VXLAN.
    #[arg(long, value_name = "BYTES")]
    pub(crate) mtu: Option<u16>,

    /// IPv6 addresses beside IPv4 ones
    ///
    /// From a unique local subnet of the cluster (RFC 4193), unless --subnet6 gives another.
    #[arg(long)]
    pub(crate) ipv6: bool,

    /// Where its IPv6 addresses come from, in CIDR form; implies --ipv6
    ///
    /// No other network may overlap it.
    #[arg(long, value_name = "SUBNET")]
    pub(crate) subnet6: Option<Ipv6Net>,

    /// No way out, and no published ports, for containers of Docker
    ///
    /// As `docker network create --internal`.
    #[arg(long)]
    pub(crate) internal: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Put an interface on a network into a network namespace of this host
    ///
    /// JSON: {network, name, names, ipv4, ipv6, mac, host}.
    Attach(Attach),
    /// Take an endpoint of this host off its network
    ///
    /// JSON: {network, name}.
    Detach {
        /// The endpoint's name
        #[arg(value_parser = NonEmptyStringValueParser::new(), add = complete::endpoints())]
        name: String,

        /// The network it is on
        ///
        /// May be left out when no other network has an endpoint of this name.
        #[arg(long, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
        network: Option<String>,
    },
    /// List the endpoints of every host
    ///
    /// JSON: [{network, name, names, ipv4, ipv6, mac, host}].
    #[command(visible_alias = "list")]
    Ls {
        /// Of this network only
        ///
        /// Without it, of all networks.
        #[arg(long, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
        network: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Attach {
    /// The network to be on
    ///
    /// It must exist: `ovlctl network create` makes one.
    #[arg(long, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
    pub(crate) network: String,

    /// The endpoint's name
    ///
    /// Other endpoints reach it by this name; no other one on the network may have it.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) sandbox: Sandbox,

    /// The address to have
    ///
    /// Without it the next free one of the network.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<Ipv4Addr>,

    /// Another name that it answers to; may be repeated
    ///
    /// Several endpoints may share an alias: look-ups give all their addresses.
    #[arg(long = "alias", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) aliases: Vec<String>,

    /// Name of the interface inside
    ///
    /// At most 15 bytes. Without it the first free one of eth0, eth1 and so on.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) ifname: Option<String>,
}

/// Which network namespace.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Sandbox {
    /// The network namespace, as a file
    ///
    /// As the agent sees the path: /run/netns/NAME for one made by `ip netns add`.
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: Option<PathBuf>,

    /// The network namespace of this process
    ///
    /// A process ID as the agent sees it, for the process's life only.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| TIMEOUTS.contains(seconds));
    let seconds = seconds.ok_or("expected a number of seconds from 0.1 to 3600")?;
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_has_short_and_long_help() {
        fn check(command: &Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                let name = format!("{} {}", command.get_name(), arg.get_id());
                assert!(arg.get_help().is_some(), "{name} has no help");
                let long = arg.is_positional() || arg.get_long_help().is_some();
                assert!(long, "{name} has no long help");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn timeouts_are_bounded() {
        for (text, fine) in [
            ("10", true),
            ("0.5", true),
            ("0", false),
            ("inf", false),
            ("NaN", false),
            ("x", false),
        ] {
            assert_eq!(seconds(text).is_ok(), fine, "{text}");
        }
    }
}
