//! Ethernet addresses.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A 48-bit Ethernet address (EUI-48), in transmission order.
///
/// Displayed and parsed as six colon-separated octets: `02:42:0a:58:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address an endpoint has by convention: `02:42` (locally administered) and the four
    /// bytes of its IPv4 address, so that an address that is given out again keeps its MAC.
    pub const fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// Whether a frame to it means one station: not multicast, not broadcast, not all zeroes.
    ///
    /// The all-zero address matters here: in a vxlan device's FDB it is the default destination,
    /// where every frame without a row is flooded to.
    pub const fn is_unicast(self) -> bool {
        let multicast = self.0[0] & 1 == 1;
        let [a, b, c, d, e, f] = self.0;
        let zero = a | b | c | d | e | f == 0;
        !multicast && !zero
    }

    /// Reads the hardware address of a netlink attribute; `None` when it is not six bytes long.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseMacError { value: text.to_owned() })
    }
}

/// The text is not an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a MAC address, give six octets like 02:42:0a:58:00:02")]
pub struct ParseMacError {
    value: String,
}

fn parse(text: &str) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next()?;
        let is_hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        *octet = is_hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()?;
    }
    parts.next().is_none().then_some(Mac(octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_conventional_mac_of_an_address_carries_its_four_bytes() {
        let mac = Mac::from_ipv4(Ipv4Addr::new(10, 88, 0, 2));
        assert_eq!(mac.to_string(), "02:42:0a:58:00:02");
        assert!(mac.is_unicast());
    }

    #[test]
    fn what_is_not_six_octets_is_refused() {
        for text in [
            "",
            "02:42:0a:58:00",
            "02:42:0a:58:00:02:01",
            "2:42:0a:58:00:02",
            "02-42-0a-58-00-02",
            "02:42:0a:58:00:+2",
            "02:42:0a:58:00:0g",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn zero_broadcast_and_multicast_are_not_unicast() {
        assert!(!Mac([0; 6]).is_unicast());
        assert!(!Mac([0xff; 6]).is_unicast());
        assert!(!Mac([0x01, 0x00, 0x5e, 0, 0, 1]).is_unicast());
    }

    proptest! {
        #[test]
        fn a_mac_reads_back_what_it_prints(octets: [u8; 6]) {
            prop_assert_eq!(Mac(octets).to_string().parse(), Ok(Mac(octets)));
            prop_assert_eq!(Mac(octets).to_string().to_uppercase().parse(), Ok(Mac(octets)));
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_panic(text: String) {
            let _ = text.parse::<Mac>();
        }
    }
}
