//! Names what drops a packet as its tool does, and says the command that lets the packet through.
//!
//! What is advised is to accept the packets of the hosts just before the rule that drops them, never
//! to remove that rule: it is there to keep others out.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::model::{Hook, Table, Tool};
use super::traffic::{self, Traffic};
use super::walk::Culprit;
use super::{Facts, Peer};

/// Addresses in a command; of more hosts, their network is taken if all are in it, else these and the
/// number of the others. So long that a command of firewalld for both protocols is not cut off.
const ADDRESSES_MAX: usize = 2;

/// Said behind a command whose effect does not last: to a shell it is a comment.
const NOT_KEPT: &str = " # until the next boot; put it where your rules are kept, too";

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = self.chain();
        let table = match self.tool {
            Tool::Nft => format!("table {} {}, nftables", self.family, self.table),
            Tool::Iptables(command) => format!("table {}, {command}", self.table),
        };
        match &self.rule {
            None => write!(f, "the policy of chain {chain} ({table})"),
            Some(rule) => write!(f, "rule {} of chain {chain} ({table})", rule.number),
        }
    }
}

/// The culprit with its own words.
pub(super) fn quote(culprit: &Culprit) -> String {
    match &culprit.rule {
        Some(rule) => format!("{culprit}: {}", rule.text),
        None => format!("{culprit}: drop"),
    }
}

/// Who manages the rules in which the culprit stands.
enum Manager {
    Ufw,
    /// With the zone, if it is one's.
    Firewalld(Option<String>),
    /// A program that writes these chains anew whenever it likes.
    Program(&'static str),
    /// Nobody known: the tool itself.
    None,
}

/// How the chains of programs begin, which keep them as they want them.
const PROGRAMS: [(&str, &str); 7] = [
    ("cali-", "Calico"),
    ("CILIUM_", "Cilium"),
    ("KUBE-", "Kubernetes"),
    ("f2b-", "fail2ban"),
    ("crowdsec", "CrowdSec"),
    ("CROWDSEC", "CrowdSec"),
    ("LIBVIRT_", "libvirt"),
];

fn program(culprit: &Culprit) -> Option<&'static str> {
    let names = || std::iter::once(&culprit.table).chain(&culprit.path);
    let of = |(prefix, _): &&(&str, &str)| names().any(|name| name.starts_with(prefix));
    PROGRAMS.iter().find(of).map(|(_, program)| *program)
}

/// The table that the culprit stands in.
fn table<'a>(facts: &'a Facts, culprit: &Culprit) -> Option<&'a Table> {
    facts.rules.tables.iter().find(|table| {
        (table.tool, &table.family, &table.name) == (culprit.tool, &culprit.family, &culprit.table)
    })
}

fn manager(facts: &Facts, culprit: &Culprit) -> Manager {
    let table = table(facts, culprit);
    let chains = || table.into_iter().flat_map(|table| table.chains.keys());
    let of_firewalld = culprit.tool == Tool::Nft && culprit.table == "firewalld"
        || chains().any(|chain| chain == "INPUT_ZONES");
    // Its rules may stand beside others, in chains that are not its own; the policy is its.
    let of_ufw = chains().any(|chain| chain == "ufw-user-input")
        && (culprit.rule.is_none() || culprit.path.iter().any(|chain| chain.starts_with("ufw-")));
    if let Some(program) = program(culprit) {
        Manager::Program(program)
    } else if of_ufw {
        Manager::Ufw
    } else if of_firewalld {
        Manager::Firewalld(culprit.path.iter().find_map(|chain| zone(chain)))
    } else {
        Manager::None
    }
}

/// `filter_IN_public_deny`, `IN_public`: zone `public`.
fn zone(chain: &str) -> Option<String> {
    let name = chain.strip_prefix("filter_IN_").or_else(|| chain.strip_prefix("IN_"))?;
    let parts = ["_pre", "_log", "_deny", "_allow", "_post"];
    let name = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
    (!name.starts_with("policy_")).then(|| name.to_owned())
}

/// The command that lets these packets pass the culprit.
pub(super) fn fix(
    facts: &Facts,
    culprit: &Culprit,
    traffic: &[Traffic],
    peers: &[&Peer],
) -> String {
    let (hosts, more) = hosts(facts, peers);
    let inbound = traffic.iter().any(|one| one.inbound);
    let command = match (manager(facts, culprit), culprit.tool) {
        (Manager::Ufw, _) => ufw(culprit, traffic, &hosts),
        (Manager::Firewalld(Some(zone)), _) if inbound => firewalld(&zone, traffic, &hosts),
        (Manager::Firewalld(_), _) => format!(
            "let these packets pass in the policy of firewalld that chain {} is made from: \
             firewall-cmd --list-all-policies",
            culprit.chain()
        ),
        (Manager::Program(program), _) => format!(
            "let {} pass in the settings of {program}, which keeps chain {}: it would take another rule out again",
            traffic::ports(traffic),
            culprit.chain()
        ),
        (Manager::None, Tool::Nft) => nft(facts, culprit, traffic, &hosts) + NOT_KEPT,
        (Manager::None, Tool::Iptables(command)) => {
            iptables(facts, command, culprit, traffic, &hosts) + NOT_KEPT
        }
    };
    match more {
        0 => command,
        more => format!("{command} # and the same for {more} more hosts"),
    }
}

/// As few as possible for a command that one can read, and how many hosts they leave out.
fn hosts(facts: &Facts, peers: &[&Peer]) -> (Vec<Ipv4Net>, usize) {
    let within = |network: &Ipv4Net| peers.iter().all(|peer| network.contains(&peer.address));
    match facts.network.filter(within) {
        Some(network) if peers.is_empty() || peers.len() > ADDRESSES_MAX => (vec![network], 0),
        _ => {
            let some = peers.iter().take(ADDRESSES_MAX).map(|peer| Ipv4Net::from(peer.address));
            (some.collect(), peers.len().saturating_sub(ADDRESSES_MAX))
        }
    }
}

fn shown(network: &Ipv4Net) -> String {
    match network.prefix_len() {
        32 => Ipv4Addr::to_string(&network.addr()),
        _ => network.to_string(),
    }
}

fn joined(hosts: &[Ipv4Net], separator: &str) -> String {
    hosts.iter().map(shown).collect::<Vec<_>>().join(separator)
}

/// A command for each kind of packets, one after the other.
fn each(traffic: &[Traffic], command: impl Fn(&Traffic) -> String) -> String {
    let mut commands: Vec<String> = Vec::new();
    for one in traffic {
        let command = command(one);
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands.join(" && ")
}

fn protocol(traffic: &Traffic) -> &'static str {
    if traffic.tcp { "tcp" } else { "udp" }
}

/// Behind `NF_IP_PRI_CONNTRACK` connections are known: what let answers pass by their state lets those of
/// every protocol pass, and nobody else who sends from that port.
fn knows_connections(facts: &Facts, culprit: &Culprit) -> bool {
    const CONNTRACK: i64 = -200;
    let chain = table(facts, culprit).and_then(|table| table.chains.get(culprit.path.first()?));
    let base = chain.and_then(|chain| chain.base.as_ref());
    base.is_some_and(|base| {
        !matches!(base.hook, Hook::Ingress | Hook::Egress) && base.priority > CONNTRACK
    })
}

fn iptables(
    facts: &Facts,
    command: &str,
    culprit: &Culprit,
    traffic: &[Traffic],
    hosts: &[Ipv4Net],
) -> String {
    let table = match culprit.table.as_str() {
        "filter" => String::new(),
        table => format!("-t {table} "),
    };
    let chain = culprit.chain();
    let place = match &culprit.rule {
        Some(rule) => format!("-I {chain} {}", rule.number),
        None => format!("-A {chain}"),
    };
    each(traffic, |one| {
        let whom = match hosts {
            [] => String::new(),
            hosts => format!("-{} {} ", if one.inbound { 's' } else { 'd' }, joined(hosts, ",")),
        };
        let (protocol, number) = (protocol(one), one.port);
        let what = match one.answers {
            true if knows_connections(facts, culprit) => {
                "-m conntrack --ctstate ESTABLISHED".to_owned()
            }
            true => format!("-p {protocol} --sport {number}"),
            false => format!("-p {protocol} --dport {number}"),
        };
        format!("{command} {table}{place} {whom}{what} -j ACCEPT")
    })
}

fn nft(facts: &Facts, culprit: &Culprit, traffic: &[Traffic], hosts: &[Ipv4Net]) -> String {
    let Culprit { family, table, .. } = culprit;
    let chain = culprit.chain();
    let handle = culprit.rule.as_ref().and_then(|rule| rule.handle);
    let place = match handle {
        Some(handle) => format!("insert rule {family} {table} {chain} handle {handle}"),
        None => format!("add rule {family} {table} {chain}"),
    };
    each(traffic, |one| {
        let field = if one.inbound { "saddr" } else { "daddr" };
        let whom = match hosts {
            [] => String::new(),
            [only] => format!("ip {field} {} ", shown(only)),
            hosts => format!("ip {field} {{ {} }} ", joined(hosts, ", ")),
        };
        let what = match one.answers {
            true if knows_connections(facts, culprit) => "ct state established".to_owned(),
            true => format!("{} sport {}", protocol(one), one.port),
            false => format!("{} dport {}", protocol(one), one.port),
        };
        format!("nft '{place} {whom}{what} accept'")
    })
}

/// ufw takes one address a rule, and lets answers through by itself.
fn ufw(culprit: &Culprit, traffic: &[Traffic], hosts: &[Ipv4Net]) -> String {
    // Its own rules of users come in their order, before what it does by default.
    let verb =
        if culprit.chain().starts_with("ufw-user-") { "ufw prepend allow" } else { "ufw allow" };
    let all = [Ipv4Net::default()];
    let hosts = if hosts.is_empty() { &all } else { hosts };
    each(traffic, |one| {
        let (port, protocol) = (one.port, protocol(one));
        let commands = hosts.iter().map(|host| match one.inbound {
            true => format!("{verb} from {} to any port {port} proto {protocol}", shown(host)),
            false => {
                let verb = verb.replace("allow", "allow out");
                format!("{verb} to {} port {port} proto {protocol}", shown(host))
            }
        });
        commands.collect::<Vec<_>>().join(" && ")
    })
}

/// Before whatever the zone denies.
fn firewalld(zone: &str, traffic: &[Traffic], hosts: &[Ipv4Net]) -> String {
    let all = [Ipv4Net::default()];
    let hosts = if hosts.is_empty() { &all } else { hosts };
    let mut rules: Vec<String> = Vec::new();
    for one in traffic {
        for host in hosts {
            let rule = format!(
                "--add-rich-rule='rule priority=\"-1\" family=\"ipv4\" source address=\"{}\" port \
                 port=\"{}\" protocol=\"{}\" accept'",
                shown(host),
                one.port,
                protocol(one)
            );
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    let rules = rules.join(" ");
    format!("firewall-cmd --permanent --zone={zone} {rules} && firewall-cmd --reload")
}
