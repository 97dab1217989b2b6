//! Which address of this host the others are told.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::Failure;
use crate::config::Advertise;
use crate::underlay;

/// The address to advertise. Connecting a UDP socket sends nothing: it asks the routes. Whether an address
/// that was given is this host's shows when it is bound.
///
/// # Errors
/// There is none.
pub fn address(advertise: &Advertise) -> Result<Ipv4Addr, Failure> {
    match advertise {
        Advertise::Address(address) => Ok(*address),
        Advertise::Interface(name) => underlay::address_of(name).map_err(no_address),
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

fn no_address(seen: String) -> Failure {
    let todo =
        "give --advertise an IPv4 address of this host, or an interface that has one".to_owned();
    Failure { check: "address to advertise", seen, todo }
}
