//! What foca takes a node for.
//!
//! foca's "address" of an identity is the node's *name*, so that one host is one row whatever its
//! epoch and IP address: a node that restarts, or comes back elsewhere, replaces its former self at
//! once instead of standing beside it until that one is found dead. Of two identities with one name
//! the higher (epoch, bump, address) wins everywhere, so that two live hosts with one name cannot
//! make the cluster flap; finding out that they are two is the task of [`crate::rival`].

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::NodeName;

/// One life of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Claimed")]
pub(crate) struct Identity {
    /// The node's name.
    pub(crate) name: NodeName,
    /// Where it listens, UDP and TCP.
    pub(crate) address: SocketAddrV4,
    /// Higher at every start of the node.
    pub(crate) epoch: u64,
    /// Higher each time the node was held down though it lived (`Identity::renew`).
    pub(crate) bump: u32,
}

impl Identity {
    /// The order in which identities of one name replace each other.
    fn rank(&self) -> (u64, u32, SocketAddrV4) {
        (self.epoch, self.bump, self.address)
    }

    /// True where this identity replaces `other` of the same name.
    pub(crate) fn beats(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }
}

impl foca::Identity for Identity {
    type Addr = NodeName;

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.checked_add(1)?, ..self.clone() })
    }

    fn addr(&self) -> NodeName {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.beats(adversary)
    }
}

/// An identity as a peer wrote it, before its address is believed to be one.
#[derive(Deserialize)]
struct Claimed {
    name: NodeName,
    address: SocketAddrV4,
    epoch: u64,
    bump: u32,
}

impl TryFrom<Claimed> for Identity {
    type Error = BadAddress;

    fn try_from(claimed: Claimed) -> Result<Self, BadAddress> {
        if !is_unicast(*claimed.address.ip()) || claimed.address.port() == 0 {
            return Err(BadAddress(claimed.address));
        }
        Ok(Self {
            name: claimed.name,
            address: claimed.address,
            epoch: claimed.epoch,
            bump: claimed.bump,
        })
    }
}

/// A peer claims to be at an address where no node can be.
#[derive(Debug, thiserror::Error)]
#[error("address {0} is not a unicast address with a port")]
struct BadAddress(SocketAddrV4);

/// True for addresses that one host can have.
pub(crate) fn is_unicast(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use foca::Identity as _;

    use super::*;

    fn identity(epoch: u64, address: &str) -> Identity {
        Identity { name: "a".parse().unwrap(), address: address.parse().unwrap(), epoch, bump: 0 }
    }

    #[test]
    fn a_restart_and_a_renewal_beat_what_was_before_even_from_another_address() {
        let old = identity(1, "10.0.0.9:7946");
        let renewed = old.renew().unwrap();
        let restarted = identity(2, "10.0.0.1:7946");
        assert!(renewed.win_addr_conflict(&old));
        assert!(restarted.win_addr_conflict(&renewed));
        assert!(!old.win_addr_conflict(&restarted));
    }

    #[test]
    fn an_address_where_no_node_can_be_is_refused_on_arrival() {
        for address in ["0.0.0.0:7946", "224.0.0.1:7946", "10.0.0.1:0"] {
            let bytes = postcard::to_stdvec(&identity(1, address)).unwrap();
            assert!(postcard::from_bytes::<Identity>(&bytes).is_err());
        }
    }
}
