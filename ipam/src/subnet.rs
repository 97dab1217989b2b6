//! Which subnets a network may have.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Addresses that are no host's own, and where they are from: no network may overlap them.
const SPECIAL: [(Ipv4Net, &str); 4] = [
    (Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8), "\"this\" network"),
    (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback"),
    (
        Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
        "link-local, where the resolver of the containers is",
    ),
    (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3), "multicast and reserved"),
];

/// Why a subnet cannot be a network's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// The address part names a host.
    #[error("subnet {given} has host bits set: write {right}")]
    HostBits {
        /// As asked for.
        given: Ipv4Net,
        /// The subnet it lies in.
        right: Ipv4Net,
    },
    /// Too large to be meant, or too small for a gateway and an endpoint.
    #[error("subnet {0} has an unusable size: take a prefix from /8 to /30")]
    Prefix(Ipv4Net),
    /// It holds addresses that no endpoint can have.
    #[error("subnet {subnet} overlaps {special} ({kind}): take a private one, as in 10.0.0.0/8")]
    Special {
        /// As asked for.
        subnet: Ipv4Net,
        /// What it overlaps.
        special: Ipv4Net,
        /// What that is for.
        kind: &'static str,
    },
}

/// Says what is wrong with `subnet`, whatever other networks there are.
pub(crate) fn check(subnet: Ipv4Net) -> Result<(), SubnetError> {
    if subnet.trunc() != subnet {
        let right = subnet.trunc();
        return Err(SubnetError::HostBits { given: subnet, right });
    }
    if !(8..=30).contains(&subnet.prefix_len()) {
        return Err(SubnetError::Prefix(subnet));
    }
    match SPECIAL.iter().find(|(special, _)| overlap(subnet, *special)) {
        Some(&(special, kind)) => Err(SubnetError::Special { subnet, special, kind }),
        None => Ok(()),
    }
}

/// Whether an address is in both.
pub(crate) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The lowest subnet of `prefix_len` in `pool` that overlaps none of `taken`.
pub(crate) fn lowest_free(
    pool: Ipv4Net,
    prefix_len: u8,
    mut taken: Vec<Ipv4Net>,
) -> Option<Ipv4Net> {
    if prefix_len < pool.prefix_len() || prefix_len > 32 {
        return None;
    }
    taken.sort_unstable_by_key(Ipv4Net::network);
    let size = 1u64 << (32 - prefix_len);
    let mut start = number(pool.network());
    for subnet in taken {
        if number(subnet.network()) >= start + size {
            break;
        }
        if number(subnet.broadcast()) >= start {
            start = (number(subnet.broadcast()) + 1).next_multiple_of(size);
        }
    }
    if start + size - 1 > number(pool.broadcast()) {
        return None;
    }
    Ipv4Net::new(u32::try_from(start).ok()?.into(), prefix_len).ok()
}

fn number(address: Ipv4Addr) -> u64 {
    u64::from(u32::from(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_refused_with_the_right_subnet() {
        let error = check(net("10.1.2.3/16")).unwrap_err();
        assert!(error.to_string().ends_with("write 10.1.0.0/16"), "{error}");
    }

    #[test]
    fn a_subnet_is_unicast_and_of_a_usable_size() {
        for good in ["10.0.0.0/8", "10.88.0.0/16", "192.168.7.0/30", "100.64.0.0/10"] {
            assert_eq!(check(net(good)), Ok(()), "{good}");
        }
        for bad in ["10.0.0.0/7", "10.0.0.0/31", "10.0.0.1/32", "0.0.0.0/0"] {
            assert!(check(net(bad)).is_err(), "{bad}");
        }
        for special in ["0.0.0.0/8", "127.0.0.0/24", "169.254.53.0/24", "169.0.0.0/8"] {
            assert!(matches!(check(net(special)), Err(SubnetError::Special { .. })), "{special}");
        }
        for special in ["224.0.0.0/24", "239.1.0.0/16", "240.0.0.0/8", "255.255.255.0/24"] {
            assert!(matches!(check(net(special)), Err(SubnetError::Special { .. })), "{special}");
        }
    }

    #[test]
    fn a_default_route_or_a_pool_at_the_end_of_the_world_does_not_overflow() {
        assert_eq!(lowest_free(net("0.0.0.0/0"), 8, vec![net("0.0.0.0/0")]), None);
        let pool = net("255.255.255.0/24");
        assert_eq!(lowest_free(pool, 24, vec![]), Some(pool));
        assert_eq!(lowest_free(pool, 24, vec![pool]), None);
        assert_eq!(lowest_free(pool, 16, vec![]), None);
    }

    proptest! {
        #[test]
        fn the_lowest_free_subnet_is_the_one_that_a_plain_search_finds(
            taken in prop::collection::vec((any::<u32>(), 10u8..=32), 0..40),
        ) {
            let pool = net("10.64.0.0/10");
            let taken: Vec<Ipv4Net> = taken
                .into_iter()
                .map(|(bits, len)| Ipv4Net::new(((bits >> 10) | 0x0a40_0000).into(), len).unwrap())
                .collect();
            let plain = pool
                .subnets(16)
                .unwrap()
                .find(|s| !taken.iter().any(|t| overlap(*s, *t)));
            prop_assert_eq!(lowest_free(pool, 16, taken), plain);
        }
    }
}
