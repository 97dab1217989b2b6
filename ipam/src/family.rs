//! IPv4 and IPv6 addresses as numbers, so that one piece of code serves both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Which of the two an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The address of that number; a number beyond IPv4's 32 bits is its last address.
    pub(crate) fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

/// The address as a number, its first byte the highest.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The numbers of the first and the last address of a subnet.
pub(crate) fn bounds(subnet: IpNet) -> (u128, u128) {
    (number(subnet.network()), number(subnet.broadcast()))
}

/// Whether an address is in both.
pub(crate) fn overlap(a: impl Into<IpNet>, b: impl Into<IpNet>) -> bool {
    let (a, b) = (a.into(), b.into());
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_number_and_back() {
        for text in ["0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "fd00::1", "ff02::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Family::of(address).address(number(address)), address);
        }
    }

    #[test]
    fn subnets_of_different_families_never_overlap() {
        let (all, all6): (IpNet, IpNet) = ("0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap());
        assert!(overlap(all, all) && overlap(all6, all6));
        assert!(!overlap(all, all6) && !overlap(all6, all));
    }
}
