//! One endpoint as its host announces it, and the bounds that every announcement keeps.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::identity::is_unicast;

/// Longest endpoint id in bytes. A longer one is refused on arrival, and not announced.
pub const MAX_ENDPOINT_ID: usize = 64;
/// Most names of one endpoint. More are refused on arrival; of our own, the first ones are announced.
pub const MAX_ENDPOINT_NAMES: usize = 16;
/// Longest name of an endpoint in bytes (one DNS label). Longer ones are refused on arrival, and of
/// our own left out.
pub const MAX_ENDPOINT_NAME: usize = 63;

/// One endpoint as its host announces it.
///
/// Bounds, checked on arrival: the id has 1 to [`MAX_ENDPOINT_ID`] bytes; at most
/// [`MAX_ENDPOINT_NAMES`] names of 1 to [`MAX_ENDPOINT_NAME`] bytes; ids and names are printable
/// ASCII without spaces; the addresses and the MAC belong to one host. So an endpoint always fits one
/// datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Unique on its host; announcing the same id again replaces the endpoint.
    pub id: String,
    /// The overlay network's id.
    pub network: u64,
    /// The address inside the overlay network.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address inside the overlay network, where the network has IPv6. Refused on arrival:
    /// one that is not of one station in the whole network (multicast, loopback, link-local,
    /// IPv4-mapped).
    pub ipv6: Option<Ipv6Addr>,
    /// The MAC address inside the overlay network, in transmission order.
    pub mac: [u8; 6],
    /// The names under which it is looked up.
    pub names: Vec<String>,
    /// Of two claims on one address of one network the higher generation is true.
    pub generation: u64,
}

impl Endpoint {
    /// True where the endpoint keeps every bound above.
    pub(crate) fn is_valid(&self) -> bool {
        is_token(&self.id, MAX_ENDPOINT_ID)
            && self.names.len() <= MAX_ENDPOINT_NAMES
            && self.names.iter().all(|name| is_token(name, MAX_ENDPOINT_NAME))
            && is_unicast(self.ipv4)
            && self.ipv6.is_none_or(is_station)
            && self.mac[0] & 1 == 0
            && self.mac != [0; 6]
    }

    /// The endpoint without the names that could not be announced, and whether some were left out.
    pub(crate) fn trimmed(mut self) -> (Self, bool) {
        let before = self.names.len();
        self.names.retain(|name| is_token(name, MAX_ENDPOINT_NAME));
        self.names.truncate(MAX_ENDPOINT_NAMES);
        let left_out = self.names.len() < before;
        (self, left_out)
    }
}

/// True where the address means one and the same station to all of a network (RFC 4291, section 2.4).
/// A link-local one is chosen by each host for itself, so nobody else can speak for it.
fn is_station(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some())
}

/// True for 1 to `longest` bytes of printable ASCII without spaces.
fn is_token(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An endpoint that keeps every bound.
    pub(crate) fn endpoint(id: &str, generation: u64) -> Endpoint {
        Endpoint {
            id: id.into(),
            network: 7,
            ipv4: Ipv4Addr::new(10, 0, 0, 1),
            ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
            mac: [2, 0, 0, 0, 0, 1],
            names: vec![format!("name-of-{id}")],
            generation,
        }
    }

    #[test]
    fn what_breaks_a_bound_is_found() {
        let good = endpoint("e", 1);
        assert!(good.is_valid());
        assert!(Endpoint { ipv6: None, ..good.clone() }.is_valid());
        let broken: [fn(&mut Endpoint); 7] = [
            |e| e.id = String::new(),
            |e| e.id = "x".repeat(MAX_ENDPOINT_ID + 1),
            |e| e.names = vec!["n".into(); MAX_ENDPOINT_NAMES + 1],
            |e| e.names = vec!["a b".into()],
            |e| e.ipv4 = Ipv4Addr::new(224, 0, 0, 1),
            |e| e.mac = [0; 6],
            |e| e.mac = [1, 0, 0, 0, 0, 1],
        ];
        for spoil in broken {
            let mut endpoint = good.clone();
            spoil(&mut endpoint);
            assert!(!endpoint.is_valid(), "{endpoint:?}");
        }
    }

    #[test]
    fn an_ipv6_address_that_is_not_of_one_station_is_found() {
        for address in ["::", "::1", "ff02::1", "ff0e::1", "fe80::1", "febf::1", "::ffff:10.0.0.1"]
        {
            let ipv6 = Some(address.parse().unwrap());
            assert!(!Endpoint { ipv6, ..endpoint("e", 1) }.is_valid(), "{address}");
        }
        for address in ["fd12:3456:789a::1", "2001:db8::1", "fec0::1"] {
            let ipv6 = Some(address.parse().unwrap());
            assert!(Endpoint { ipv6, ..endpoint("e", 1) }.is_valid(), "{address}");
        }
    }

    #[test]
    fn names_that_cannot_be_announced_do_not_keep_an_endpoint_from_being_announced() {
        let mut odd = endpoint("e", 1);
        odd.names.push("naïve".into());
        let (trimmed, left_out) = odd.trimmed();
        assert!(left_out && trimmed.is_valid());
        assert_eq!(trimmed, endpoint("e", 1));
    }
}
