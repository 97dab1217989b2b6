//! One packet, for programs and for people.
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use jiff::{Timestamp, tz::TimeZone};
use ovl_agent::control::api::captures::{CapturedFrame, Direction};
use ovl_packet::decode::{self, Arp, Ethernet, Icmp, Ip, Payload, Transport};
use serde::Serialize;

use super::directory::Directory;
use crate::output::{printable, word};

/// What was captured, decoded. What is not known, or was cut off, is null.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    /// RFC 3339, in UTC, with nanoseconds.
    #[serde(serialize_with = "nanoseconds")]
    time: Timestamp,
    direction: Direction,
    /// Of the whole frame, in bytes.
    length: u32,
    outer: Option<Outer>,
    inner: Option<Inner>,
}

/// Between hosts.
#[derive(Debug, Serialize)]
struct Outer {
    source: Ipv4Addr,
    source_host: Option<String>,
    source_port: u16,
    destination: Ipv4Addr,
    destination_host: Option<String>,
    ttl: u8,
    vni: u32,
    network: Option<String>,
}

/// Between endpoints.
#[derive(Debug, Serialize)]
struct Inner {
    source_mac: String,
    destination_mac: String,
    vlan: Option<u16>,
    /// `ARP`, `ICMP`, `ICMPv6`, `UDP`, `TCP`, `IP protocol N` or `EtherType 0xNNNN`.
    protocol: String,
    source: Option<IpAddr>,
    source_name: Option<String>,
    source_port: Option<u16>,
    destination: Option<IpAddr>,
    destination_name: Option<String>,
    destination_port: Option<u16>,
    /// What it says, in words.
    summary: String,
}

impl Record {
    pub(super) fn new(frame: &CapturedFrame, vxlan_port: u16, directory: &Directory) -> Record {
        let tunnel = decode::vxlan(&frame.bytes, vxlan_port);
        let inner = tunnel.as_ref().and_then(|tunnel| tunnel.inner.as_ref());
        Record {
            time: Timestamp::from_nanosecond(frame.at.into()).unwrap_or(Timestamp::UNIX_EPOCH),
            direction: frame.direction,
            length: frame.length,
            inner: inner.map(|inner| Inner::new(inner, directory)),
            outer: tunnel.as_ref().map(|tunnel| Outer::new(tunnel, directory)),
        }
    }

    /// Something has no name, and a directory read anew may have it.
    pub(super) fn lacks_names(&self) -> bool {
        let outer = self.outer.as_ref().is_some_and(|outer| {
            outer.source_host.is_none()
                || outer.destination_host.is_none()
                || outer.network.is_none()
        });
        let lacks = |address: Option<IpAddr>, name: &Option<String>| {
            // Nobody is called by the others.
            let of_one = |address: IpAddr| match address {
                IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified()),
                IpAddr::V6(v6) => {
                    !(v6.is_multicast() || v6.is_unspecified() || v6.is_unicast_link_local())
                }
            };
            name.is_none() && address.is_some_and(of_one)
        };
        let inner = self.inner.as_ref().is_some_and(|inner| {
            lacks(inner.source, &inner.source_name)
                || lacks(inner.destination, &inner.destination_name)
        });
        outer || inner
    }

    /// One line, with the time of day at `zone`.
    pub(super) fn line(&self, zone: &TimeZone) -> String {
        let time = self.time.to_zoned(zone.clone()).strftime("%H:%M:%S.%6f");
        let mut line = format!("{time} {:<3}", word(&self.direction));
        match &self.outer {
            Some(outer) => outer.write(&mut line),
            None => write_to(&mut line, format_args!(" {} bytes, cut off", self.length)),
        }
        match (&self.outer, &self.inner) {
            (_, Some(inner)) => inner.write(&mut line),
            (Some(_), None) => line.push_str(" cut off"),
            (None, None) => {}
        }
        printable(&line) + "\n"
    }
}

impl Outer {
    fn new(tunnel: &decode::Vxlan, directory: &Directory) -> Outer {
        let host = |address| directory.host(address).map(str::to_owned);
        Outer {
            source: tunnel.source,
            source_host: host(tunnel.source),
            source_port: tunnel.source_port,
            destination: tunnel.destination,
            destination_host: host(tunnel.destination),
            ttl: tunnel.ttl,
            vni: tunnel.vni,
            network: directory.network(tunnel.vni).map(str::to_owned),
        }
    }

    /// ` bee-1 > bee-2 net:`
    fn write(&self, line: &mut String) {
        let from = named(self.source_host.as_deref(), self.source);
        let to = named(self.destination_host.as_deref(), self.destination);
        let network = named(self.network.as_deref(), format_args!("VNI {}", self.vni));
        write_to(line, format_args!(" {from} > {to} {network}:"));
    }
}

impl Inner {
    fn new(frame: &Ethernet, directory: &Directory) -> Inner {
        let (protocol, ends, ports, summary) = match &frame.payload {
            Payload::Arp(arp) => (
                "ARP".to_owned(),
                Some((arp.sender.into(), arp.target.into())),
                None,
                arp_words(arp, directory),
            ),
            Payload::Ip(ip) => (
                protocol(ip),
                Some((ip.source, ip.destination)),
                ports(ip),
                ip_words(ip, directory),
            ),
            Payload::Other { ethertype } => (other(*ethertype), None, None, String::new()),
            Payload::Cut { ethertype } => (other(*ethertype), None, None, "cut off".to_owned()),
        };
        let (source, destination): (Option<IpAddr>, Option<IpAddr>) = ends.unzip();
        let (source_port, destination_port) = ports.unzip();
        let name = |address| directory.endpoint(address).map(str::to_owned);
        Inner {
            source_mac: frame.source.to_string(),
            destination_mac: frame.destination.to_string(),
            vlan: frame.vlan,
            protocol,
            source,
            source_name: source.and_then(name),
            source_port,
            destination,
            destination_name: destination.and_then(name),
            destination_port,
            summary,
        }
    }

    /// ` web:40000 > db:80 TCP SYN, …`
    fn write(&self, line: &mut String) {
        if let Some(vlan) = self.vlan {
            write_to(line, format_args!(" VLAN {vlan}"));
        }
        let from =
            end(self.source, self.source_name.as_deref(), self.source_port, &self.source_mac);
        let to = end(
            self.destination,
            self.destination_name.as_deref(),
            self.destination_port,
            &self.destination_mac,
        );
        write_to(line, format_args!(" {from} > {to} {}", self.protocol));
        if !self.summary.is_empty() {
            write_to(line, format_args!(" {}", self.summary));
        }
    }
}

fn nanoseconds<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.9}"))
}

fn end(address: Option<IpAddr>, name: Option<&str>, port: Option<u16>, mac: &str) -> String {
    let Some(address) = address else { return mac.to_owned() };
    match (name, port, address) {
        (Some(name), Some(port), _) => format!("{name}:{port}"),
        (None, Some(port), IpAddr::V6(address)) => format!("[{address}]:{port}"),
        (None, Some(port), IpAddr::V4(address)) => format!("{address}:{port}"),
        (name, None, address) => named(name, address),
    }
}

/// The name, or what it is the name of.
fn named(name: Option<&str>, of: impl std::fmt::Display) -> String {
    name.map_or_else(|| of.to_string(), str::to_owned)
}

fn write_to(line: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = line.write_fmt(text);
}

fn other(ethertype: u16) -> String {
    match ethertype {
        0x0806 => "ARP".to_owned(),
        0x0800 => "IPv4".to_owned(),
        0x86dd => "IPv6".to_owned(),
        _ => format!("EtherType {ethertype:#06x}"),
    }
}

fn protocol(ip: &Ip) -> String {
    match ip.protocol {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        number => format!("IP protocol {number}"),
    }
}

fn ports(ip: &Ip) -> Option<(u16, u16)> {
    match ip.transport {
        Transport::Udp { source, destination, .. } | Transport::Tcp { source, destination, .. } => {
            Some((source, destination))
        }
        Transport::Icmp(_) | Transport::LaterFragment | Transport::Other | Transport::Cut => None,
    }
}

fn arp_words(arp: &Arp, directory: &Directory) -> String {
    let name = |address: Ipv4Addr| named(directory.endpoint(address.into()), address);
    match arp.operation {
        1 => format!("who has {}?", name(arp.target)),
        2 => format!("{} is at {}", name(arp.sender), arp.sender_mac),
        operation => format!("operation {operation}"),
    }
}

fn ip_words(ip: &Ip, directory: &Directory) -> String {
    let words = match &ip.transport {
        Transport::Udp { length, .. } => format!("payload {length}"),
        Transport::Tcp { flags, sequence, acknowledgement, window, length, .. } => {
            let names: Vec<&str> = flags.names().collect();
            let acknowledges = match names.contains(&"ACK") {
                true => format!(", acknowledges {acknowledgement}"),
                false => String::new(),
            };
            let names = names.join(" ");
            format!("{names}, sequence {sequence}{acknowledges}, window {window}, payload {length}")
        }
        Transport::Icmp(icmp) => format!("{}, {} bytes", icmp_words(icmp, directory), ip.length),
        Transport::LaterFragment | Transport::Other => format!("{} bytes", ip.length),
        Transport::Cut => "cut off".to_owned(),
    };
    match ip.fragment {
        None => words,
        Some(part) => {
            let more = if part.more { ", more follow" } else { "" };
            format!("{words}, fragment {} at {}{more}", part.id, part.offset)
        }
    }
}

fn icmp_words(icmp: &Icmp, directory: &Directory) -> String {
    match icmp {
        Icmp::EchoRequest { identifier, sequence } => {
            format!("echo request {identifier}, sequence {sequence}")
        }
        Icmp::EchoReply { identifier, sequence } => {
            format!("echo reply {identifier}, sequence {sequence}")
        }
        Icmp::Unreachable { code } => format!("destination unreachable, code {code}"),
        Icmp::TooBig { mtu } => format!("packet too big, MTU {mtu}"),
        Icmp::NeighbourSolicitation(neighbour) => {
            let target = IpAddr::from(neighbour.target);
            format!("who has {}?", named(directory.endpoint(target), target))
        }
        Icmp::NeighbourAdvertisement(neighbour) => {
            let target = IpAddr::from(neighbour.target);
            let name = named(directory.endpoint(target), target);
            match neighbour.station {
                Some(station) => format!("{name} is at {station}"),
                None => format!("{name} is there"),
            }
        }
        Icmp::Other { kind, code } => format!("type {kind}, code {code}"),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
