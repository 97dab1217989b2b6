//! What stands behind the droplets: real machines, or addresses that are made up.
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use ipnet::Ipv4Net;

/// One droplet as it was ordered.
#[derive(Debug, Clone)]
pub struct Order {
    /// The droplet's number.
    pub id: u64,
    /// Its name, and its hostname.
    pub name: String,
    /// The slug of the region that it is in.
    pub region: String,
    /// The slug of its size.
    pub size: String,
    /// The slug of its image, or the number of an image without one.
    pub image: String,
    /// The tags that it was ordered with.
    pub tags: Vec<String>,
    /// What its first boot is to do.
    pub user_data: Option<String>,
    /// Root's public keys, each as it was uploaded.
    pub ssh_keys: Vec<String>,
    /// The VPC that it is in.
    pub vpc_uuid: String,
    /// The range of that VPC; the private address is out of it.
    pub vpc_range: Ipv4Net,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether it is backed up.
    pub backups: bool,
    /// Whether the agent for metrics is on it.
    pub monitoring: bool,
    /// What was said of the agent for the web console.
    pub with_droplet_agent: Option<bool>,
}

/// An address as the API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// The length of its network's prefix; the API shows it as a netmask.
    pub prefix: u8,
    /// The gateway; private networks have none.
    pub gateway: Option<Ipv4Addr>,
}

/// The addresses of a droplet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Where the world reaches it.
    pub public: Option<Address>,
    /// Where its neighbours in the VPC reach it.
    pub private: Option<Address>,
}

/// What is done to a droplet's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The system is asked to restart.
    Reboot,
    /// The power goes off and on.
    Cycle,
    /// The system is asked to stop.
    Shutdown,
    /// The power goes on.
    On,
    /// The power goes off.
    Off,
}

/// The machines behind the droplets.
///
/// The server calls these while it holds its state: each returns at once, and none calls the
/// server. A machine is booted on a thread of the fleet's own.
pub trait Fleet: Send {
    /// A droplet was ordered.
    fn create(&self, order: &Order);
    /// The droplet's addresses, as soon as it may show as active. `None` keeps it new.
    fn addresses(&self, id: u64) -> Option<Addresses>;
    /// An action on the droplet's power was started.
    fn power(&self, id: u64, power: Power);
    /// The droplet was deleted.
    fn delete(&self, id: u64);
}

/// Droplets without machines: their addresses lead nowhere.
#[derive(Debug, Default)]
pub struct MadeUp {
    known: Mutex<BTreeMap<u64, Addresses>>,
}

impl Fleet for MadeUp {
    fn create(&self, order: &Order) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let number = known.len() + 1;
        let last = u8::try_from(number % 250).unwrap_or(0) + 2;
        let public = Address {
            ip: Ipv4Addr::new(203, 0, 113, last),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(203, 0, 113, 1)),
        };
        let private = order.vpc_range.hosts().nth(number).map(|ip| Address {
            ip,
            prefix: order.vpc_range.prefix_len(),
            gateway: None,
        });
        known.insert(order.id, Addresses { public: Some(public), private });
    }

    fn addresses(&self, id: u64) -> Option<Addresses> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    fn power(&self, _id: u64, _power: Power) {}

    fn delete(&self, _id: u64) {}
}
