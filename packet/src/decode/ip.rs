//! IPv4 (RFC 791), IPv6 (RFC 8200) and what they carry.

use std::net::{IpAddr, Ipv4Addr};

use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::TcpPacket;
use pnet_packet::udp::UdpPacket;

use super::icmp::{self, Icmp};
use crate::filter::{ICMPV6, UDP};

/// Protocol numbers of IP (IANA).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers of one IPv6 packet that are read; what is behind more counts as another protocol.
const EXTENSIONS_MAX: usize = 8;

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom it goes.
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// The packet's length in bytes with its header, as the header says; 0 when it is too large to say.
    pub length: usize,
    /// "Don't fragment" (IPv4 only).
    pub dont_fragment: bool,
    /// Set when it is a part of a larger packet.
    pub fragment: Option<Fragment>,
    /// The number of what it carries, behind extension headers.
    pub protocol: u8,
    /// What it carries.
    pub transport: Transport,
}

/// Which part of a larger packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Equal in all parts.
    pub id: u32,
    /// Where it belongs, in bytes.
    pub offset: u16,
    /// Whether more parts follow.
    pub more: bool,
}

/// What an IP packet carries. Lengths are of the payload, in bytes, as the headers say, whether it
/// was kept or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP (RFC 768).
    Udp {
        /// Port of the sender.
        source: u16,
        /// Port of the receiver.
        destination: u16,
        /// Length of the payload.
        length: usize,
    },
    /// TCP (RFC 9293).
    Tcp {
        /// Port of the sender.
        source: u16,
        /// Port of the receiver.
        destination: u16,
        /// What the segment does.
        flags: TcpFlags,
        /// Sequence number of the first byte.
        sequence: u32,
        /// The next byte that is expected, when `flags` has ACK.
        acknowledgement: u32,
        /// The window, not scaled.
        window: u16,
        /// Length of the payload.
        length: usize,
    },
    /// ICMP (RFC 792) or ICMPv6 (RFC 4443).
    Icmp(Icmp),
    /// Not the first part of a larger packet: it has no header of its own.
    LaterFragment,
    /// Something else; the packet says its number.
    Other,
    /// The packet, or what was kept of it, ends before this header does.
    Cut,
}

/// The flags of TCP, in the header's order of bits (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// Names of those that are set: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        all.into_iter().enumerate().filter(move |(bit, _)| self.0 & 1 << bit != 0).map(|(_, n)| n)
    }
}

/// What matters of an IPv4 header.
pub(super) struct HeaderV4 {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    length: usize,
    header_length: usize,
    dont_fragment: bool,
    fragment: Option<Fragment>,
}

impl HeaderV4 {
    pub(super) fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset > 0)
    }
}

/// The header, and all that is behind it, padding included; `None`: cut off, or no IPv4.
pub(super) fn v4_header(bytes: &[u8]) -> Option<(HeaderV4, &[u8])> {
    let ip = Ipv4Packet::new(bytes).filter(|ip| ip.get_version() == 4)?;
    let header_length = usize::from(ip.get_header_length()) * 4;
    if header_length < Ipv4Packet::minimum_packet_size() {
        return None;
    }
    let payload = bytes.get(header_length..)?;
    let (flags, offset) = (ip.get_flags(), ip.get_fragment_offset() * 8);
    let more = flags & 0b001 != 0;
    let fragment =
        (more || offset > 0).then(|| Fragment { id: ip.get_identification().into(), offset, more });
    let header = HeaderV4 {
        source: ip.get_source(),
        destination: ip.get_destination(),
        ttl: ip.get_ttl(),
        protocol: ip.get_next_level_protocol().0,
        length: ip.get_total_length().into(),
        header_length,
        dont_fragment: flags & 0b010 != 0,
        fragment,
    };
    Some((header, payload))
}

pub(super) fn v4(bytes: &[u8]) -> Option<Ip> {
    let (header, payload) = v4_header(bytes)?;
    let length = match header.length {
        0 => payload.len(),
        said => said.saturating_sub(header.header_length),
    };
    let transport = match header.is_later_fragment() {
        true => Transport::LaterFragment,
        false => transport(header.protocol, payload, length),
    };
    Some(Ip {
        source: header.source.into(),
        destination: header.destination.into(),
        ttl: header.ttl,
        length: header.length,
        dont_fragment: header.dont_fragment,
        fragment: header.fragment,
        protocol: header.protocol,
        transport,
    })
}

pub(super) fn v6(bytes: &[u8]) -> Option<Ip> {
    let ip = Ipv6Packet::new(bytes).filter(|ip| ip.get_version() == 6)?;
    let payload = bytes.get(Ipv6Packet::minimum_packet_size()..)?;
    let said = usize::from(ip.get_payload_length());
    let chain = extensions(ip.get_next_header().0, payload);
    let (protocol, fragment) = (chain.protocol, chain.fragment);
    let length = match said {
        0 => chain.rest.map_or(0, <[u8]>::len),
        said => said.saturating_sub(chain.skipped),
    };
    let later = fragment.is_some_and(|fragment| fragment.offset > 0);
    let transport = match chain.rest {
        _ if later => Transport::LaterFragment,
        Some(rest) => transport(protocol, rest, length),
        None => Transport::Cut,
    };
    Some(Ip {
        source: ip.get_source().into(),
        destination: ip.get_destination().into(),
        ttl: ip.get_hop_limit(),
        length: if said == 0 { 0 } else { said + Ipv6Packet::minimum_packet_size() },
        dont_fragment: false,
        fragment,
        protocol,
        transport,
    })
}

/// What is behind the extension headers.
struct Chain<'a> {
    protocol: u8,
    fragment: Option<Fragment>,
    /// Bytes of extension headers.
    skipped: usize,
    /// `None`: cut off.
    rest: Option<&'a [u8]>,
}

fn extensions(first: u8, payload: &[u8]) -> Chain<'_> {
    let mut chain = Chain { protocol: first, fragment: None, skipped: 0, rest: Some(payload) };
    for _ in 0..EXTENSIONS_MAX {
        let Some(rest) = chain.rest else { break };
        let length = match (chain.protocol, rest) {
            (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS, [_, eights, ..]) => {
                8 + 8 * usize::from(*eights)
            }
            (FRAGMENT, [_, _, a, b, id @ ..]) => {
                let field = u16::from_be_bytes([*a, *b]);
                let id = id.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
                chain.fragment = Some(Fragment { id, offset: field & !7, more: field & 1 != 0 });
                8
            }
            (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT, _) => {
                chain.rest = None;
                break;
            }
            _ => break,
        };
        chain.protocol = rest.first().copied().unwrap_or_default();
        chain.skipped += length;
        chain.rest = rest.get(length..);
        if chain.fragment.is_some_and(|fragment| fragment.offset > 0) {
            break;
        }
    }
    chain
}

/// `length`: bytes that the packet carries, whether they were kept or not.
fn transport(protocol: u8, bytes: &[u8], length: usize) -> Transport {
    // Behind the packet's end there may be padding.
    let bytes = bytes.get(..length).unwrap_or(bytes);
    let read = match protocol {
        UDP => udp(bytes),
        TCP => tcp(bytes, length),
        ICMP => icmp::v4(bytes).map(Transport::Icmp),
        ICMPV6 => icmp::v6(bytes).map(Transport::Icmp),
        _ => Some(Transport::Other),
    };
    read.unwrap_or(Transport::Cut)
}

fn udp(bytes: &[u8]) -> Option<Transport> {
    let udp = UdpPacket::new(bytes)?;
    Some(Transport::Udp {
        source: udp.get_source(),
        destination: udp.get_destination(),
        length: usize::from(udp.get_length()).saturating_sub(UdpPacket::minimum_packet_size()),
    })
}

fn tcp(bytes: &[u8], length: usize) -> Option<Transport> {
    let tcp = TcpPacket::new(bytes)?;
    Some(Transport::Tcp {
        source: tcp.get_source(),
        destination: tcp.get_destination(),
        flags: TcpFlags(tcp.get_flags()),
        sequence: tcp.get_sequence(),
        acknowledgement: tcp.get_acknowledgement(),
        window: tcp.get_window(),
        length: length.saturating_sub(usize::from(tcp.get_data_offset()) * 4),
    })
}
