//! The keys in the store, and what they hold.
//!
//! | key | value |
//! |---|---|
//! | `ovl/v1/networks` | every network: one JSON document, so that one compare-and-swap guards names, VNIs and subnets at once, and one watch sees every change |
//! | `ovl/v1/pools/<network id>` | what giving out addresses needs to know of the network; it exists exactly while addresses may be given out |
//! | `ovl/v1/leases/<network id>/<address>` | who holds the address; created only where absent, so that two hosts can never hold one |
//! | `ovl/v1/leases/<network id>/last` | the address given out automatically last, held or free by now |
//!
//! All are safe in a URL as they are: letters, digits, `.` and `/`.

use std::net::Ipv4Addr;

use crate::ids::NetworkId;

/// Every key begins with it: what a token's policy must grant.
pub(crate) const PREFIX: &str = "ovl/v1/";

/// The document of all networks.
pub(crate) const NETWORKS: &str = "ovl/v1/networks";

/// Never written: reading it costs a round trip and nothing else.
pub(crate) const PING: &str = "ovl/v1/ping";

/// Exists while the network gives out addresses.
pub(crate) fn pool(network: NetworkId) -> String {
    format!("{PREFIX}pools/{network}")
}

/// Every lease of the network begins with it.
pub(crate) fn leases(network: NetworkId) -> String {
    format!("{PREFIX}leases/{network}/")
}

/// Exists while the address is held.
pub(crate) fn lease(network: NetworkId, address: Ipv4Addr) -> String {
    format!("{PREFIX}leases/{network}/{address}")
}

/// The address that was given out automatically last.
pub(crate) fn last(network: NetworkId) -> String {
    format!("{PREFIX}leases/{network}/last")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_of_network_1_are_not_those_of_network_12() {
        let address = Ipv4Addr::new(10, 0, 0, 2);
        assert!(lease(NetworkId(1), address).starts_with(&leases(NetworkId(1))));
        assert!(!lease(NetworkId(12), address).starts_with(&leases(NetworkId(1))));
    }
}
