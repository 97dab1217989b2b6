//! The keys in the store, and what they hold.
//!
//! | key | value |
//! |---|---|
//! | `ovl/v1/networks` | every network: one JSON document, so that one compare-and-swap guards names, VNIs and subnets at once, and one watch sees every change |
//! | `ovl/v1/pools/<network id>` | what giving out addresses needs to know of the network; it exists exactly while addresses may be given out |
//! | `ovl/v1/leases/<network id>/<address>` | who holds the address, in its canonical text (RFC 5952); created only where absent, so that two hosts can never hold one |
//! | `ovl/v1/leases/<network id>/last` | the IPv4 address given out automatically last, held or free by now |
//! | `ovl/v1/leases/<network id>/last6` | the same for IPv6 |
//!
//! All are safe in the path of a URL as they are: letters, digits, `.`, `:` and `/`.

use std::net::IpAddr;

use crate::family::Family;
use crate::ids::NetworkId;

/// Ends of the keys that name the address given out automatically last.
pub(crate) const LAST: &str = "last";
pub(crate) const LAST6: &str = "last6";

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
pub(crate) fn lease(network: NetworkId, address: IpAddr) -> String {
    format!("{PREFIX}leases/{network}/{address}")
}

/// The address of that family that was given out automatically last.
pub(crate) fn last(network: NetworkId, family: Family) -> String {
    let leaf = match family {
        Family::V4 => LAST,
        Family::V6 => LAST6,
    };
    format!("{PREFIX}leases/{network}/{leaf}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_of_network_1_are_not_those_of_network_12() {
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        assert!(lease(NetworkId(1), address).starts_with(&leases(NetworkId(1))));
        assert!(!lease(NetworkId(12), address).starts_with(&leases(NetworkId(1))));
    }

    #[test]
    fn an_ipv6_address_has_one_key_however_it_was_written() {
        for text in ["fd00:0:0:1:0:0:0:a", "FD00::1:0:0:0:A", "fd00:0:0:1::a"] {
            let key = lease(NetworkId(1), text.parse().unwrap());
            assert_eq!(key, "ovl/v1/leases/1/fd00:0:0:1::a");
        }
    }
}
