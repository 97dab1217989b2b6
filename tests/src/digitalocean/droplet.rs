//! One droplet: its life, and how the API shows it.
use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::fleet::{Address, Addresses, Order};
use super::settings::Activation;
use super::state::State;
use super::{catalogue, clock};

/// How a droplet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being made.
    New,
    /// It runs.
    Active,
    /// It does not run.
    Off,
}

impl Status {
    /// The API's word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Off => "off",
        }
    }
}

/// A droplet.
#[derive(Debug, Clone)]
pub struct Droplet {
    /// As it was ordered.
    pub order: Order,
    /// The tags that it has now.
    pub tags: Vec<String>,
    /// How it is.
    pub status: Status,
    /// Its addresses, once they are known; it shows them from when it is active.
    pub addresses: Option<Addresses>,
    /// Whether it was deleted; it may show in lists a little longer.
    pub deleted: bool,
    created: i64,
    born: Instant,
    reads: u32,
    lingers: u32,
    late: u32,
}

impl Droplet {
    /// A droplet that is being made; so many lists do not show it yet.
    pub(super) fn new(order: Order, late: u32) -> Self {
        Self {
            tags: order.tags.clone(),
            order,
            status: Status::New,
            addresses: None,
            deleted: false,
            created: clock::now(),
            born: clock::tick(),
            reads: 0,
            lingers: 0,
            late,
        }
    }

    /// Deletes it; so many lists show it still.
    pub(super) fn delete(&mut self, lingers: u32) {
        self.deleted = true;
        self.lingers = lingers;
    }

    /// Whether lists show it.
    pub(super) fn in_lists(&self) -> bool {
        self.late == 0 && (!self.deleted || self.lingers > 0)
    }

    /// Lists show it from now on.
    pub(super) fn show(&mut self) {
        self.late = 0;
    }

    /// Counts a list that would show it.
    pub(super) fn pass_list(&mut self) {
        self.late = self.late.saturating_sub(1);
    }

    fn is_due(&self, activation: Activation) -> bool {
        match activation {
            Activation::AfterReads(reads) => self.reads > reads,
            Activation::After(delay) => self.born.elapsed() >= delay,
        }
    }

    /// As the API shows it.
    pub(super) fn shown(&self) -> Value {
        let size = catalogue::sized(&self.order.size);
        let mut shown = json!({
            "id": self.order.id, "name": self.order.name, "locked": false, "kernel": null,
            "status": self.status.word(), "created_at": clock::written(self.created),
            "features": self.features(), "backup_ids": [], "next_backup_window": null,
            "snapshot_ids": [], "volume_ids": [], "tags": self.tags,
            "image": catalogue::imaged(&self.order.image).map(catalogue::Image::shown),
            "size": size.map(catalogue::Size::shown), "size_slug": self.order.size,
            "region": catalogue::region(&self.order.region).map(catalogue::Region::shown),
            "networks": self.networks(), "vpc_uuid": self.order.vpc_uuid,
        });
        for (name, value) in size.into_iter().flat_map(catalogue::Size::of_droplet) {
            shown[name] = value;
        }
        shown
    }

    fn features(&self) -> Vec<&'static str> {
        let features = [
            ("backups", self.order.backups),
            ("ipv6", self.order.ipv6),
            ("monitoring", self.order.monitoring),
            ("droplet_agent", self.order.with_droplet_agent.unwrap_or(true)),
            ("private_networking", true),
        ];
        features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }

    /// The networks; which kind comes first is not promised, and differs from droplet to droplet.
    fn networks(&self) -> Value {
        let Some(addresses) = self.addresses.filter(|_| self.status != Status::New) else {
            return json!({ "v4": [], "v6": [] });
        };
        let mut v4: Vec<Value> = [(addresses.private, "private"), (addresses.public, "public")]
            .into_iter()
            .filter_map(|(address, kind)| address.map(|address| network(address, kind)))
            .collect();
        if self.order.id.is_multiple_of(2) {
            v4.reverse();
        }
        let six = json!({
            "ip_address": format!("2001:db8::{:x}", self.order.id), "netmask": 64,
            "gateway": "2001:db8::1", "type": "public",
        });
        json!({ "v4": v4, "v6": if self.order.ipv6 { vec![six] } else { vec![] } })
    }
}

fn network(address: Address, kind: &str) -> Value {
    let netmask =
        Ipv4Net::new(address.ip, address.prefix).map_or(Ipv4Addr::BROADCAST, |n| n.netmask());
    let (ip, gateway) = (address.ip, address.gateway);
    json!({ "ip_address": ip, "netmask": netmask, "gateway": gateway, "type": kind })
}

impl State {
    /// Counts a read of a droplet, which may become active by it.
    pub(super) fn read(&mut self, id: u64) {
        let Some(droplet) = self.droplets.get_mut(&id) else { return };
        droplet.reads = droplet.reads.saturating_add(1);
        let name = &droplet.order.name;
        let held = self.settings.never_active.contains(name) || self.settings.erring.contains(name);
        if droplet.status != Status::New || held || !droplet.is_due(self.settings.activation) {
            return;
        }
        let Some(addresses) = droplet.addresses.or_else(|| self.fleet.addresses(id)) else {
            return;
        };
        droplet.addresses = Some(addresses);
        droplet.status = Status::Active;
        self.complete_creation(id);
    }

    /// Counts that a list showed a droplet, and gives what it showed.
    pub(super) fn listed(&mut self, id: u64) -> Option<Value> {
        self.read(id);
        let droplet = self.droplets.get_mut(&id)?;
        let shown = droplet.shown();
        if droplet.deleted {
            droplet.lingers = droplet.lingers.saturating_sub(1);
        }
        Some(shown)
    }
}
