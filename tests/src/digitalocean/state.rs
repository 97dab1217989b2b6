//! Everything that the server knows.
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::actions::Action;
use super::asked::Request;
use super::droplet::Droplet;
use super::fault::Fault;
use super::firewalls::Firewall;
use super::fleet::Fleet;
use super::keys::Key;
use super::settings::Settings;
use super::{catalogue, clock};

/// A VPC.
#[derive(Debug, Clone)]
pub struct Vpc {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The slug of its region.
    pub region: String,
    /// Where its addresses are from.
    pub range: Ipv4Net,
    /// Whether it is its region's default.
    pub default: bool,
}

impl Vpc {
    /// As the API shows it.
    pub(super) fn shown(&self) -> Value {
        json!({
            "id": self.id, "urn": format!("do:vpc:{}", self.id), "name": self.name,
            "description": "", "region": self.region, "ip_range": self.range.to_string(),
            "created_at": "2026-01-02T03:04:05Z", "default": self.default,
        })
    }
}

/// The account, its resources, and what was asked of them.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) url: String,
    pub(super) fleet: Box<dyn Fleet>,
    pub(super) requests: Vec<Request>,
    pub(super) violations: Vec<String>,
    pub(super) faults: Vec<Fault>,
    pub(super) droplets: BTreeMap<u64, Droplet>,
    pub(super) actions: BTreeMap<u64, Action>,
    pub(super) tags: Vec<String>,
    pub(super) keys: Vec<Key>,
    pub(super) firewalls: Vec<Firewall>,
    pub(super) vpcs: Vec<Vpc>,
    /// When SSH keys were listed, in the last minute.
    pub(super) key_lists: VecDeque<Instant>,
    /// How many requests were answered, and so the hour's limit came down.
    pub(super) served: u64,
    given: u64,
}

impl State {
    /// An account with its default VPCs, and one more in Frankfurt.
    pub(super) fn new(settings: Settings, url: String, fleet: Box<dyn Fleet>) -> Self {
        let mut state = Self {
            settings,
            url,
            fleet,
            requests: Vec::new(),
            violations: Vec::new(),
            faults: Vec::new(),
            droplets: BTreeMap::new(),
            actions: BTreeMap::new(),
            tags: Vec::new(),
            keys: Vec::new(),
            firewalls: Vec::new(),
            vpcs: Vec::new(),
            key_lists: VecDeque::new(),
            served: 0,
            given: 0,
        };
        for (third, region) in (0u8..).zip(catalogue::REGIONS) {
            let usual = Ipv4Net::new_assert([10, 124, third * 16, 0].into(), 20);
            let range = state.settings.vpc_ranges.get(region.slug).copied().unwrap_or(usual);
            state.add_vpc(format!("default-{}", region.slug), region.slug, range, true);
        }
        let range = Ipv4Net::new_assert([10, 20, 0, 0].into(), 24);
        state.add_vpc("apiary".to_owned(), "fra1", range, false);
        state
    }

    fn add_vpc(&mut self, name: String, region: &str, range: Ipv4Net, default: bool) {
        let id = self.uuid();
        self.vpcs.push(Vpc { id, name, region: region.to_owned(), range, default });
    }

    /// A number that nothing else has.
    pub(super) fn number(&mut self) -> u64 {
        self.given += 1;
        412_000_000 + self.given * 7
    }

    /// A UUID that nothing else has.
    pub(super) fn uuid(&mut self) -> String {
        self.given += 1;
        format!("5a4981aa-9653-4bd1-bef5-{:012x}", 0x0e6b_fff5_2042_u64 + self.given)
    }

    /// The droplets that are there.
    pub(super) fn living(&self) -> impl Iterator<Item = &Droplet> {
        self.droplets.values().filter(|droplet| !droplet.deleted)
    }

    /// Makes tags that are not there yet.
    pub(super) fn make_tags(&mut self, tags: &[String]) {
        for tag in tags {
            if !self.tags.contains(tag) {
                self.tags.push(tag.clone());
            }
        }
    }

    /// The headers of every answer.
    pub(super) fn headers(&mut self, request_id: &str) -> Vec<(&'static str, String)> {
        self.served += 1;
        vec![
            ("ratelimit-limit", "5000".to_owned()),
            ("ratelimit-remaining", 5000_u64.saturating_sub(self.served).to_string()),
            ("ratelimit-reset", (clock::now() + 3600).to_string()),
            ("x-request-id", request_id.to_owned()),
        ]
    }
}
