//! ICMP (RFC 792) and ICMPv6 (RFC 4443), with neighbour discovery (RFC 4861).
//!
//! Read by hand from the header's second word on: the messages are small, and pnet's reader of
//! neighbour discovery's options can panic.

use std::net::Ipv6Addr;

use pnet_base::MacAddr;

/// A message of ICMP or ICMPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// A ping.
    EchoRequest {
        /// Of the program that pings.
        identifier: u16,
        /// Counts its pings.
        sequence: u16,
    },
    /// The answer to a ping.
    EchoReply {
        /// As in the request.
        identifier: u16,
        /// As in the request.
        sequence: u16,
    },
    /// A packet did not reach its destination.
    Unreachable {
        /// Why: numbers differ between ICMP and ICMPv6.
        code: u8,
    },
    /// A packet is too large for the way and may not be fragmented.
    TooBig {
        /// The largest packet that fits, in bytes; 0: not told.
        mtu: u32,
    },
    /// Asks for the station of an address, as ARP does for IPv4.
    NeighbourSolicitation(Neighbour),
    /// Says the station of an address.
    NeighbourAdvertisement(Neighbour),
    /// Another message.
    Other {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

/// What neighbour discovery asks for, or says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub target: Ipv6Addr,
    /// The option with a station's address: of who asks, or of the target.
    pub station: Option<MacAddr>,
}

pub(super) fn v4(bytes: &[u8]) -> Option<Icmp> {
    let (kind, code, [a, b, c, d]) = header(bytes)?;
    Some(match (kind, code) {
        (8, _) => Icmp::EchoRequest { identifier: pair(a, b), sequence: pair(c, d) },
        (0, _) => Icmp::EchoReply { identifier: pair(a, b), sequence: pair(c, d) },
        // RFC 1191, section 4.
        (3, 4) => Icmp::TooBig { mtu: pair(c, d).into() },
        (3, code) => Icmp::Unreachable { code },
        (kind, code) => Icmp::Other { kind, code },
    })
}

pub(super) fn v6(bytes: &[u8]) -> Option<Icmp> {
    let (kind, code, [a, b, c, d]) = header(bytes)?;
    Some(match kind {
        128 => Icmp::EchoRequest { identifier: pair(a, b), sequence: pair(c, d) },
        129 => Icmp::EchoReply { identifier: pair(a, b), sequence: pair(c, d) },
        1 => Icmp::Unreachable { code },
        2 => Icmp::TooBig { mtu: u32::from_be_bytes([a, b, c, d]) },
        135 => Icmp::NeighbourSolicitation(neighbour(bytes, 1)?),
        136 => Icmp::NeighbourAdvertisement(neighbour(bytes, 2)?),
        kind => Icmp::Other { kind, code },
    })
}

/// Type, code, and the word behind the checksum.
fn header(bytes: &[u8]) -> Option<(u8, u8, [u8; 4])> {
    let [kind, code, _, _, word @ ..] = bytes else { return None };
    Some((*kind, *code, *word.first_chunk()?))
}

fn pair(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

/// `wanted`: type of the option that has the station's address.
fn neighbour(bytes: &[u8], wanted: u8) -> Option<Neighbour> {
    let target: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
    let mut options = bytes.get(24..).unwrap_or_default();
    let mut station = None;
    // Each option says its length in units of eight bytes; with 0 the packet is invalid.
    while let [kind, eights, ..] = options {
        if *eights == 0 {
            break;
        }
        if let (true, Some([_, _, mac @ ..])) = (*kind == wanted, options.first_chunk::<8>()) {
            station = Some(MacAddr::from(*mac));
        }
        options = options.get(8 * usize::from(*eights)..).unwrap_or_default();
    }
    Some(Neighbour { target: target.into(), station })
}
