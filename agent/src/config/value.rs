//! One function for each kind of value: text in, the value or more about why not out.
//!
//! What is expected in general stands in the key's words; an error here only adds to it and may
//! be empty.
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::Ipv4Net;
use ovl_ipam::VniRange;
use tracing_subscriber::EnvFilter;

use super::{Advertise, AnswerPeers, Group};
use crate::docker::Scope;
use crate::probe::PROBE_VNI;

/// `sockaddr_un.sun_path` has 108 bytes, the last one for the NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// `IFNAMSIZ` less the NUL.
const LONGEST_INTERFACE: usize = 15;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn port(text: &str) -> Result<u16, String> {
    // `+80` would parse too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if port > 0 && digits => Ok(port),
        Ok(_) | Err(_) => Err(String::new()),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    let ends_well = text.starts_with('/') && !text.contains('\0');
    ends_well.then(|| PathBuf::from(text)).ok_or_else(String::new)
}

pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > LONGEST_SOCKET_PATH {
        return Err(format!("it has {}", text.len()));
    }
    if text.ends_with('/') {
        return Err("it names a directory".to_owned());
    }
    path(text)
}

/// No text is no group. `number` finds a name's number on this host.
pub(super) fn group(
    text: &str,
    number: impl FnOnce(&str) -> io::Result<Option<u32>>,
) -> Result<Option<Group>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let odd = |c: char| c.is_control() || c == ':' || c == ',';
    if text.contains(odd) || text.trim() != text || text.starts_with('-') {
        return Err(String::new());
    }
    let gid = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The last one means "leave it" to chown(2).
        text.parse().ok().filter(|gid| *gid != u32::MAX).ok_or("this number is none")?
    } else {
        let found = number(text).map_err(|e| format!("the groups cannot be read: {e}"))?;
        found.ok_or_else(|| {
            format!("there is no such group; make it with `groupadd --system {text}`")
        })?
    };
    Ok(Some(Group { name: text.to_owned(), gid }))
}

/// No text is no address.
pub(super) fn metrics_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr = text.parse().map_err(|_| String::new())?;
    match address.port() {
        0 => Err("the port cannot be 0".to_owned()),
        _ if address.ip().is_multicast() => Err("this is not the address of one host".to_owned()),
        _ => Ok(Some(address)),
    }
}

pub(super) fn advertise(text: &str) -> Result<Advertise, String> {
    if text == "auto" {
        return Ok(Advertise::Auto);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return unicast(address).map(Advertise::Address);
    }
    if text.contains(':') {
        return Err("neither a port nor IPv6 can be given here".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'/') {
        return Err("this is neither".to_owned());
    }
    let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if text.len() > LONGEST_INTERFACE || text.contains(odd) {
        return Err("the name of an interface has at most 15 bytes, no `/`, no spaces".to_owned());
    }
    Ok(Advertise::Interface(text.to_owned()))
}

fn unicast(address: Ipv4Addr) -> Result<Ipv4Addr, String> {
    let of_one_host = !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_broadcast()
        && address.octets()[0] < 240;
    of_one_host.then_some(address).ok_or_else(|| "not the address of one host".to_owned())
}

/// Entries as written; [`with_port`] completes them.
pub(super) fn join(text: &str) -> Result<Vec<String>, String> {
    let entries = text.split(|c: char| c == ',' || c.is_whitespace());
    let entries: Vec<&str> = entries.filter(|entry| !entry.is_empty()).collect();
    match entries.iter().find(|entry| !is_host_port(entry)) {
        Some(wrong) => Err(format!("`{wrong}` is none")),
        None => Ok(entries.into_iter().map(str::to_owned).collect()),
    }
}

/// Every entry as `host:port`, without repeats, in the order given.
pub(super) fn with_port(entries: Vec<String>, default: u16) -> Vec<String> {
    let mut seeds: Vec<String> = Vec::new();
    for entry in entries {
        let seed = if entry.contains(':') { entry } else { format!("{entry}:{default}") };
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
    seeds
}

fn is_host_port(entry: &str) -> bool {
    let (host, port_ok) = match entry.split_once(':') {
        Some((host, text)) => (host, port(text).is_ok()),
        None => (entry, true),
    };
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let host_ok = if numeric {
        host.parse().is_ok_and(|address| unicast(address).is_ok())
    } else {
        is_host_name(host)
    };
    host_ok && port_ok
}

/// RFC 1123, section 2.1, and `_`, which is met in practice.
fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(label_ok)
}

pub(super) fn pool(text: &str) -> Result<Ipv4Net, String> {
    let Ok(pool) = text.parse::<Ipv4Net>() else {
        return Err(String::new());
    };
    if pool.addr() != pool.network() {
        return Err(format!("did you mean {}?", pool.trunc()));
    }
    if !(8..=30).contains(&pool.prefix_len()) {
        return Err(String::new());
    }
    let (first, last) = (pool.network(), pool.broadcast());
    let reserved = |a: Ipv4Addr| a.octets()[0] == 0 || a.is_loopback() || a.octets()[0] >= 224;
    let link_local = Ipv4Addr::new(169, 254, 0, 0);
    if reserved(first) || reserved(last) || pool.contains(&link_local) || first.is_link_local() {
        return Err("these addresses are reserved, see RFC 6890".to_owned());
    }
    Ok(pool)
}

pub(super) fn docker_host(text: &str) -> Result<String, String> {
    match text.strip_prefix("unix://") {
        Some(rest) => socket_path(rest).map(|_| text.to_owned()),
        None if text.starts_with('/') => Err(format!("did you mean unix://{text}?")),
        None => Err("the engine must be on this host".to_owned()),
    }
}

pub(super) fn docker_scope(text: &str) -> Result<Option<Scope>, String> {
    match text {
        "auto" => Ok(None),
        "local" => Ok(Some(Scope::Local)),
        "global" => Ok(Some(Scope::Global)),
        _ => Err(String::new()),
    }
}

/// The last VNI is the agents' own.
pub(super) fn vni_range(text: &str) -> Result<VniRange, String> {
    let range: VniRange = text.parse().map_err(|_| String::new())?;
    if range.last.value() >= PROBE_VNI {
        return Err(format!("agents probe the ways between hosts over VNI {PROBE_VNI}"));
    }
    Ok(range)
}

pub(super) fn answer_peers(text: &str) -> Result<AnswerPeers, String> {
    match text {
        "all" => Ok(AnswerPeers::All),
        "read" => Ok(AnswerPeers::Read),
        "none" => Ok(AnswerPeers::None),
        _ => Err(String::new()),
    }
}

pub(super) fn log(text: &str) -> Result<String, String> {
    for directive in text.split(',') {
        // The filter would take an unknown level for the name of a part, and log all of it.
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            return Err(format!("`{level}` is no level"));
        }
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A value without what may be a secret in a URL: the user part, and the value of `token`.
pub(super) fn without_secrets(text: &str) -> String {
    let mut out = text.to_owned();
    if let (Some(from), Some(at)) = (out.find("://"), out.rfind('@'))
        && from + 3 <= at
    {
        out.replace_range(from + 3..at, "***");
    }
    if let Some(at) = out.find("token=") {
        let from = at + "token=".len();
        let end = out[from..].find('&').map_or(out.len(), |end| from + end);
        out.replace_range(from..end, "***");
    }
    out
}
