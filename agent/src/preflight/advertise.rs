//! Which address of this host the others are told.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

use super::Failure;
use crate::config::Advertise;

/// The address to advertise. Connecting a UDP socket sends nothing: it asks the routes. Whether an address
/// that was given is this host's shows when it is bound: see [`is_here`].
///
/// # Errors
/// There is none.
pub fn address(advertise: &Advertise) -> Result<Ipv4Addr, Failure> {
    match advertise {
        Advertise::Address(address) => Ok(*address),
        Advertise::Interface(name) => interface_address(name),
        Advertise::Auto => {
            // An address of TEST-NET-1 (RFC 5737): reached by the default route, and by nothing else.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
            let local = socket.and_then(|s| {
                s.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| s.local_addr())
            });
            match local.map(|address| address.ip()) {
                Ok(IpAddr::V4(address)) => Ok(address),
                Ok(IpAddr::V6(_)) => Err(no_address("this host has no IPv4 address".into())),
                Err(error) => Err(no_address(format!("this host has no default route ({error})"))),
            }
        }
    }
}

/// The first IPv4 address of an interface.
fn interface_address(name: &str) -> Result<Ipv4Addr, Failure> {
    let interfaces =
        getifaddrs().map_err(|e| no_address(format!("interfaces cannot be listed ({e})")))?;
    let named: Vec<_> = interfaces.filter(|interface| interface.interface_name == name).collect();
    if named.is_empty() {
        return Err(no_address(format!("there is no interface {name}")));
    }
    let address = |i: &InterfaceAddress| Some(i.address.as_ref()?.as_sockaddr_in()?.ip());
    named
        .iter()
        .find_map(address)
        .ok_or_else(|| no_address(format!("interface {name} has no IPv4 address")))
}

fn no_address(seen: String) -> Failure {
    let todo =
        "give --advertise an IPv4 address of this host, or an interface that has one".to_owned();
    Failure { check: "address to advertise", seen, todo }
}

/// Why nothing could be advertised by this setting now; `None`: it could, or only the routes know.
pub(crate) fn is_here(advertise: &Advertise) -> Option<String> {
    match advertise {
        Advertise::Auto => None,
        Advertise::Interface(name) => interface_address(name).err().map(|failure| failure.seen),
        Advertise::Address(address) => {
            let of = |i: InterfaceAddress| Some(i.address?.as_sockaddr_in()?.ip());
            // Where they cannot be listed, nothing is known against it.
            let here = getifaddrs().ok()?.filter_map(of).any(|own| own == *address);
            (!here).then(|| format!("{address} is not an address of this host"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_lacks_is_named() {
        assert_eq!(is_here(&Advertise::Address(Ipv4Addr::LOCALHOST)), None);
        assert_eq!(is_here(&Advertise::Interface("lo".into())), None);
        let of_nobody = Advertise::Address(Ipv4Addr::new(192, 0, 2, 77));
        assert_eq!(
            is_here(&of_nobody).as_deref(),
            Some("192.0.2.77 is not an address of this host")
        );
        let missing = Advertise::Interface("no-such-eth".into());
        assert_eq!(is_here(&missing).as_deref(), Some("there is no interface no-such-eth"));
    }
}
