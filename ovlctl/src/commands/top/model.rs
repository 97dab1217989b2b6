//! Readings in, rows out. Pure: time is what the agent's counters were read at.
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ovl_agent::control::api::counters::{Counters, Device};
use ovl_agent::control::api::paths::Ping;
use ovl_agent::control::api::{Endpoint, Member, Network, Status};
use serde::Serialize;

use super::view::{EndpointOrder, HostOrder, NetworkOrder};

/// One reading of an agent.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) status: Status,
    pub(super) members: Vec<Member>,
    pub(super) networks: Vec<Network>,
    pub(super) endpoints: Vec<Endpoint>,
    /// Or why there are none: an older agent.
    pub(super) counters: Result<Counters, String>,
}

/// All that is known, and what it is known from.
#[derive(Debug, Default)]
pub(super) struct Model {
    latest: Option<Sample>,
    /// Endpoints by host; by network, on this host and on all.
    on_hosts: BTreeMap<String, usize>,
    on_networks: BTreeMap<String, (usize, usize)>,
    /// By device.
    rates: BTreeMap<String, Rate>,
    /// Round trips by host, in microseconds; None: no answer.
    pings: BTreeMap<String, Option<u64>>,
    /// Why the agent does not answer now.
    away: Option<String>,
}

/// What passes a device each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rate {
    pub(super) rx_bytes: f64,
    pub(super) tx_bytes: f64,
    pub(super) rx_packets: f64,
    pub(super) tx_packets: f64,
    /// Packets dropped or broken, both ways.
    pub(super) drops: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct HostRow {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) state: ovl_gossip::MemberState,
    /// Over the underlay; none: this host, or not measured, or no answer.
    pub(super) round_trip_us: Option<u64>,
    pub(super) endpoints: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct NetworkRow {
    /// The network's; of the underlay its interface's, of a device without a network the device's.
    pub(super) name: String,
    /// None: the underlay.
    pub(super) vni: Option<u32>,
    /// On this host, and on all.
    pub(super) endpoints_here: usize,
    pub(super) endpoints: usize,
    /// A second; none: no device here, or not known yet.
    #[serde(rename = "per_second")]
    pub(super) rate: Option<Rate>,
    /// Packets dropped or broken since the device was made.
    pub(super) drops: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct EndpointRow {
    pub(super) name: String,
    pub(super) network: String,
    pub(super) ipv4: Ipv4Addr,
    /// Without the first one.
    pub(super) aliases: Vec<String>,
}

impl Model {
    /// A reading; the agent answers.
    pub(super) fn handle_sample(&mut self, sample: Sample) {
        let before = self.latest.as_ref().and_then(|sample| sample.counters.as_ref().ok());
        self.rates = match (before, &sample.counters) {
            (Some(before), Ok(now)) => rates(before, now),
            _ => BTreeMap::new(),
        };
        let names: Vec<&str> = sample.members.iter().map(|member| member.name.as_str()).collect();
        self.pings.retain(|host, _| names.contains(&host.as_str()));
        self.count(&sample);
        self.latest = Some(sample);
        self.away = None;
    }

    fn count(&mut self, sample: &Sample) {
        self.on_hosts.clear();
        self.on_networks.clear();
        for endpoint in &sample.endpoints {
            *self.on_hosts.entry(endpoint.host.clone()).or_default() += 1;
            let (here, all) = self.on_networks.entry(endpoint.network.clone()).or_default();
            *here += usize::from(endpoint.host == sample.status.node);
            *all += 1;
        }
    }

    /// Round trips to other hosts.
    pub(super) fn handle_pings(&mut self, pings: Vec<Ping>) {
        self.pings = pings.into_iter().map(|ping| (ping.host, ping.underlay.avg_us)).collect();
    }

    /// The agent does not answer; what is known of it stays.
    pub(super) fn handle_away(&mut self, why: String) {
        self.away = Some(why);
    }

    pub(super) fn status(&self) -> Option<&Status> {
        self.latest.as_ref().map(|sample| &sample.status)
    }

    pub(super) fn away(&self) -> Option<&str> {
        self.away.as_deref()
    }

    pub(super) fn hosts(&self, order: HostOrder) -> Vec<HostRow> {
        let Some(sample) = &self.latest else {
            return Vec::new();
        };
        let row = |member: &Member| HostRow {
            name: member.name.clone(),
            address: member.address,
            state: member.state,
            round_trip_us: self.pings.get(&member.name).copied().flatten(),
            endpoints: self.on_hosts.get(&member.name).copied().unwrap_or_default(),
        };
        let mut rows: Vec<HostRow> = sample.members.iter().map(row).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        match order {
            HostOrder::Name => {}
            // The worst first.
            HostOrder::State => rows.sort_by_key(|row| Reverse(badness(row.state))),
            HostOrder::RoundTrip => rows.sort_by_key(|row| Reverse(row.round_trip_us)),
            HostOrder::Endpoints => rows.sort_by_key(|row| Reverse(row.endpoints)),
        }
        rows
    }

    pub(super) fn networks(&self, order: NetworkOrder) -> Vec<NetworkRow> {
        let Some(sample) = &self.latest else {
            return Vec::new();
        };
        let devices: &[Device] = sample.counters.as_ref().map_or(&[], |c| c.devices.as_slice());
        let known = |device: &Device| sample.networks.iter().any(|n| Some(n.vni) == device.vni);
        let network = |network: &Network| {
            let device = devices.iter().find(|device| device.vni == Some(network.vni));
            self.network(&network.name, Some(network.vni), device)
        };
        let mut rows: Vec<NetworkRow> = sample.networks.iter().map(network).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let by = |of: fn(Rate) -> f64| {
            move |a: &NetworkRow, b: &NetworkRow| {
                let value = |row: &NetworkRow| row.rate.map_or(-1.0, of);
                value(b).total_cmp(&value(a))
            }
        };
        match order {
            NetworkOrder::Name => {}
            NetworkOrder::Received => rows.sort_by(by(|rate| rate.rx_bytes)),
            NetworkOrder::Sent => rows.sort_by(by(|rate| rate.tx_bytes)),
            NetworkOrder::Drops => rows.sort_by_key(|row| Reverse(row.drops)),
            NetworkOrder::Endpoints => rows.sort_by_key(|row| Reverse(row.endpoints)),
        }
        // Whatever the order, what is no network stands before them.
        let others = devices.iter().filter(|device| !known(device));
        let mut all: Vec<NetworkRow> =
            others.map(|device| self.network(&device.device, device.vni, Some(device))).collect();
        all.extend(rows);
        all
    }

    fn network(&self, name: &str, vni: Option<u32>, device: Option<&Device>) -> NetworkRow {
        let (here, all) = self.on_networks.get(name).copied().unwrap_or_default();
        NetworkRow {
            name: name.to_owned(),
            vni,
            endpoints_here: here,
            endpoints: all,
            rate: device.and_then(|device| self.rates.get(&device.device).copied()),
            drops: device.map_or(0, drops),
        }
    }

    pub(super) fn endpoints(&self, order: EndpointOrder) -> Vec<EndpointRow> {
        let Some(sample) = &self.latest else {
            return Vec::new();
        };
        let here = sample.endpoints.iter().filter(|one| one.host == sample.status.node);
        let row = |endpoint: &Endpoint| EndpointRow {
            name: endpoint.name.clone(),
            network: endpoint.network.clone(),
            ipv4: endpoint.ipv4,
            aliases: endpoint
                .names
                .iter()
                .filter(|name| **name != endpoint.name)
                .cloned()
                .collect(),
        };
        let mut rows: Vec<EndpointRow> = here.map(row).collect();
        rows.sort_by(|a, b| (&a.name, &a.network).cmp(&(&b.name, &b.network)));
        match order {
            EndpointOrder::Name => {}
            EndpointOrder::Network => rows.sort_by(|a, b| a.network.cmp(&b.network)),
            EndpointOrder::Address => rows.sort_by_key(|row| row.ipv4),
        }
        rows
    }

    /// What is wrong, a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let Some(sample) = &self.latest else {
            return Vec::new();
        };
        let rates = sample.counters.as_ref().err().map(|why| format!("there are no rates: {why}"));
        sample.status.problems.iter().cloned().chain(rates).collect()
    }
}

/// How much somebody has to look at it.
fn badness(state: ovl_gossip::MemberState) -> u8 {
    match state {
        ovl_gossip::MemberState::Down => 3,
        ovl_gossip::MemberState::Suspect => 2,
        ovl_gossip::MemberState::Left => 1,
        ovl_gossip::MemberState::Alive => 0,
    }
}

fn drops(device: &Device) -> u64 {
    let of =
        |way: &ovl_agent::control::api::counters::Passed| way.dropped.saturating_add(way.errors);
    of(&device.rx).saturating_add(of(&device.tx))
}

/// Of devices that are in both readings. One that counts less than before was made anew, and a clock
/// that goes back is that of another agent: then there are none until the next reading.
fn rates(before: &Counters, now: &Counters) -> BTreeMap<String, Rate> {
    let Some(micros) = now.at_micros.checked_sub(before.at_micros).filter(|micros| *micros > 0)
    else {
        return BTreeMap::new();
    };
    let pairs = now.devices.iter().filter_map(|device| {
        let same = |other: &&Device| other.device == device.device && other.vni == device.vni;
        Some((before.devices.iter().find(same)?, device))
    });
    pairs.filter_map(|(old, new)| Some((new.device.clone(), rate(old, new, micros)?))).collect()
}

fn rate(old: &Device, new: &Device, micros: u64) -> Option<Rate> {
    let grown = |of: fn(&Device) -> u64| {
        // Exact below 2^53, and of more nobody sees the last digits.
        of(new).checked_sub(of(old)).map(|grown| grown as f64 * 1e6 / micros as f64)
    };
    Some(Rate {
        rx_bytes: grown(|device| device.rx.bytes)?,
        tx_bytes: grown(|device| device.tx.bytes)?,
        rx_packets: grown(|device| device.rx.packets)?,
        tx_packets: grown(|device| device.tx.packets)?,
        drops: grown(drops)?,
    })
}
