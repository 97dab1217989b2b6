//! Which subnets a network may have.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::family::{bounds, overlap};

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

/// The same of IPv6 (RFC 4291, sections 2.4 and 4).
const SPECIAL6: [(Ipv6Net, &str); 3] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 8), "unspecified, loopback and IPv4 in IPv6"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), "link-local"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), "multicast"),
];

/// Prefix of a subnet that is picked: what SLAAC and most tools expect (RFC 4291, section 2.5.1).
pub(crate) const PREFIX6: u8 = 64;

/// Why a subnet cannot be a network's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// The address part names a host.
    #[error("subnet {given} has host bits set: write {right}")]
    HostBits {
        /// As asked for.
        given: IpNet,
        /// The subnet it lies in.
        right: IpNet,
    },
    /// Too large to be meant, or too small for a gateway and an endpoint.
    #[error("subnet {subnet} has an unusable size: take a prefix from /{largest} to /{smallest}")]
    Prefix {
        /// As asked for.
        subnet: IpNet,
        /// Prefix of the largest subnet of that family.
        largest: u8,
        /// Prefix of the smallest one.
        smallest: u8,
    },
    /// It holds addresses that no endpoint can have.
    #[error("subnet {subnet} overlaps {special} ({kind}): take a private one, as in {private}", private = private(.subnet))]
    Special {
        /// As asked for.
        subnet: IpNet,
        /// What it overlaps.
        special: IpNet,
        /// What that is for.
        kind: &'static str,
    },
}

/// Says what is wrong with `subnet`, whatever other networks there are.
pub(crate) fn check(subnet: impl Into<IpNet>) -> Result<(), SubnetError> {
    let subnet = subnet.into();
    if subnet.trunc() != subnet {
        let right = subnet.trunc();
        return Err(SubnetError::HostBits { given: subnet, right });
    }
    // An IPv6 subnet has its network address (the routers' anycast address, RFC 4291, section
    // 2.6.1) but no broadcast address: in a /126 two endpoints fit beside the gateway.
    let (largest, smallest) = match subnet {
        IpNet::V4(_) => (8, 30),
        IpNet::V6(_) => (48, 126),
    };
    if !(largest..=smallest).contains(&subnet.prefix_len()) {
        return Err(SubnetError::Prefix { subnet, largest, smallest });
    }
    let special = SPECIAL.map(|(net, kind)| (IpNet::V4(net), kind));
    let special6 = SPECIAL6.map(|(net, kind)| (IpNet::V6(net), kind));
    let mut all = special.into_iter().chain(special6);
    match all.find(|(special, _)| overlap(subnet, *special)) {
        Some((special, kind)) => Err(SubnetError::Special { subnet, special, kind }),
        None => Ok(()),
    }
}

/// The lowest subnet of `prefix_len` in `pool` that overlaps none of `taken`.
pub(crate) fn lowest_free(
    pool: Ipv4Net,
    prefix_len: u8,
    taken: impl IntoIterator<Item = Ipv4Net>,
) -> Option<Ipv4Net> {
    let taken = taken.into_iter().map(|t| bounds(t.into())).collect();
    let spare = u32::from(32u8.checked_sub(prefix_len)?);
    let start = lowest(bounds(pool.into()), 1u128 << spare, taken)?;
    Ipv4Net::new(u32::try_from(start).ok()?.into(), prefix_len).ok()
}

/// The lowest subnet of [`PREFIX6`] in `pool` that overlaps none of `taken`.
pub(crate) fn lowest_free6(
    pool: Ipv6Net,
    taken: impl IntoIterator<Item = Ipv6Net>,
) -> Option<Ipv6Net> {
    let taken = taken.into_iter().map(|t| bounds(t.into())).collect();
    let start = lowest(bounds(pool.into()), 1u128 << (128 - PREFIX6), taken)?;
    Ipv6Net::new(start.into(), PREFIX6).ok()
}

/// The first prefix for unique-local networks that `random` names: fd00::/8 and 40 of its bits
/// (RFC 4193, section 3.1), a /48.
pub(crate) fn unique_local(random: u64) -> Ipv6Net {
    let global_id = u128::from(random >> 24);
    Ipv6Net::new_assert(Ipv6Addr::from(0xfd << 120 | global_id << 80), 48)
}

/// Whether it is such a prefix.
pub(crate) fn is_unique_local(prefix: Ipv6Net) -> bool {
    prefix.prefix_len() == 48 && prefix.trunc() == prefix && prefix.addr().octets()[0] == 0xfd
}

/// Where in `pool` (first and last number) the lowest block of `size` (a power of two) begins
/// that meets none of `taken`.
fn lowest(pool: (u128, u128), size: u128, mut taken: Vec<(u128, u128)>) -> Option<u128> {
    taken.sort_unstable();
    let mut start = pool.0.checked_next_multiple_of(size)?;
    for (first, last) in taken {
        if first > start.checked_add(size - 1)? {
            break;
        }
        if last >= start {
            start = last.checked_add(1)?.checked_next_multiple_of(size)?;
        }
    }
    (start.checked_add(size - 1)? <= pool.1).then_some(start)
}

fn private(subnet: &IpNet) -> &'static str {
    match subnet {
        IpNet::V4(_) => "10.0.0.0/8",
        IpNet::V6(_) => "fd00::/8",
    }
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
    fn an_ipv6_subnet_is_unicast_and_of_a_usable_size() {
        let net = |text: &str| text.parse::<Ipv6Net>().unwrap();
        for good in ["fd00:1:2::/48", "2001:db8:0:7::/64", "fd00::/126"] {
            assert_eq!(check(net(good)), Ok(()), "{good}");
        }
        for bad in ["fd00::/47", "fd00::/127", "fd00::1/128", "::/0", "fd00::1/64"] {
            assert!(check(net(bad)).is_err(), "{bad}");
        }
        for special in ["::/64", "::/126", "::ffff:0:0/96", "fe80::/64", "febf:1::/48", "ff02::/64"]
        {
            assert!(matches!(check(net(special)), Err(SubnetError::Special { .. })), "{special}");
        }
        let words = check(net("fe80::/64")).unwrap_err().to_string();
        assert!(words.contains("as in fd00::/8"), "{words}");
        let words = check(net("fd00::/40")).unwrap_err().to_string();
        assert!(words.contains("from /48 to /126"), "{words}");
    }

    #[test]
    fn a_unique_local_prefix_has_40_random_bits() {
        for random in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert!(is_unique_local(unique_local(random)), "{random}");
        }
        assert_eq!(unique_local(u64::MAX), "fdff:ffff:ffff::/48".parse().unwrap());
        assert_eq!(unique_local(0x0123_4567_89ab_cdef), "fd01:2345:6789::/48".parse().unwrap());
        for other in ["fd00::/64", "fc00::/48", "2001:db8::/48", "fd00::1/48"] {
            assert!(!is_unique_local(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn the_lowest_free_ipv6_subnet_is_a_64_beside_those_taken() {
        let pool = "fd01:2345:6789::/48".parse().unwrap();
        let free = |taken: &[&str]| {
            lowest_free6(pool, taken.iter().map(|t| t.parse().unwrap())).map(|net| net.to_string())
        };
        assert_eq!(free(&[]).unwrap(), "fd01:2345:6789::/64");
        let taken = ["fd01:2345:6789::7:0/112", "2001:db8::/48", "fd01:2345:6789:2::/63"];
        assert_eq!(free(&taken).unwrap(), "fd01:2345:6789:1::/64");
        assert_eq!(free(&["fd01:2345:6789::/49"]).unwrap(), "fd01:2345:6789:8000::/64");
        for all in ["fd01:2345:6789::/48", "::/0", "ffff::/0"] {
            assert_eq!(free(&[all]), None);
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
