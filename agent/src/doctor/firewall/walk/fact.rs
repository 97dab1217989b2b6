//! What is known of a packet's fields, and whether it is among what a match asks for.
//!
//! True, false, or may be: the logic of Kleene.

use std::net::Ipv4Addr;

use super::super::model::{Element, Field, IPV4, TCP, UDP};
use super::{Direction, Packet, Protocol, State};

/// From 0x02 on: SYN, and SYN with ACK (RFC 9293, section 3.1).
const SYN: u64 = 0x02;
const SYN_ACK: u64 = 0x12;

/// What is known of one field of a packet, of whose connection and mark this is known.
pub(super) fn fact<'a>(packet: &'a Packet, field: Field, state: State) -> Fact<'a> {
    let inbound = packet.direction == Direction::In;
    match field {
        Field::Family => Fact::is(IPV4),
        Field::Protocol => Fact::is(packet.protocol_number()),
        Field::Source => Fact::addresses(&packet.sources),
        Field::Destination => Fact::addresses(&packet.destinations),
        Field::SourcePort => Fact::ports(packet.source_ports),
        Field::DestinationPort => Fact::ports(packet.destination_ports),
        Field::InInterface if inbound => Fact::name(packet.interface.as_deref()),
        Field::OutInterface if !inbound => Fact::name(packet.interface.as_deref()),
        Field::InInterface | Field::OutInterface => Fact::Name(""),
        Field::State => Fact::bits(state.tracking),
        Field::Status => Fact::Name(""),
        Field::Mark(mask) => {
            state.mark.map_or(Fact::Unknown, |mark| Fact::is(u64::from(mark & mask)))
        }
        Field::DestinationType => Fact::Name(if inbound { "local" } else { "unicast" }),
        Field::SourceType => Fact::Name(if inbound { "unicast" } else { "local" }),
        Field::PacketType if inbound => Fact::Name("unicast"),
        Field::PathBack if inbound => {
            packet.path_back.map_or(Fact::Unknown, |back| Fact::is(u64::from(back)))
        }
        Field::TcpFlags(mask) => {
            let flags = if packet.answers { SYN_ACK } else { SYN };
            Fact::is(flags & u64::from(mask))
        }
        Field::Fragment => Fact::is(0u64),
        // No link of a host is smaller than what all must take (RFC 9293, section 3.7.1).
        Field::SegmentSize => Fact::Ranges(vec![(536, 65_495)]),
        Field::Vni => match packet.vnis {
            Some((first, last)) => Fact::Ranges(vec![(first.into(), last.into())]),
            // Not VXLAN.
            None => Fact::Name(""),
        },
        Field::PacketType | Field::PathBack | Field::Other => Fact::Unknown,
    }
}

impl Packet {
    fn protocol_number(&self) -> u64 {
        match self.protocol {
            Protocol::Udp => UDP,
            Protocol::Tcp => TCP,
        }
    }
}

/// What is known of a field.
pub(super) enum Fact<'a> {
    /// Any of these numbers, first to last.
    Ranges(Vec<(u64, u64)>),
    /// This name; an empty one: none.
    Name(&'a str),
    Unknown,
}

impl<'a> Fact<'a> {
    fn is(number: impl Into<u64>) -> Self {
        let number = number.into();
        Fact::Ranges(vec![(number, number)])
    }

    fn name(name: Option<&'a str>) -> Self {
        name.map_or(Fact::Unknown, Fact::Name)
    }

    fn ports((first, last): (u16, u16)) -> Self {
        Fact::Ranges(vec![(first.into(), last.into())])
    }

    fn addresses(ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Self {
        let number = |address: Ipv4Addr| u64::from(u32::from(address));
        Fact::Ranges(ranges.iter().map(|(a, b)| (number(*a), number(*b))).collect())
    }

    /// Each bit that is set, as a number that it may be.
    fn bits(bits: u64) -> Self {
        let single = (0..8).map(|bit| 1 << bit).filter(|bit| bits & bit != 0);
        Fact::Ranges(single.map(|bit| (bit, bit)).collect())
    }

    /// Whether it is one of the elements; None: it may be.
    pub(super) fn among<'e>(
        &self,
        elements: impl IntoIterator<Item = &'e Element> + Clone,
    ) -> Option<bool> {
        match self {
            // Nothing is among nothing.
            Fact::Unknown if elements.clone().into_iter().next().is_none() => Some(false),
            Fact::Unknown => None,
            Fact::Name(name) => any(elements.into_iter().map(|element| match element {
                Element::Name(other) => Some(other == name),
                Element::Prefix(prefix) => Some(!name.is_empty() && name.starts_with(prefix)),
                Element::Range(..) => Some(false),
                Element::Unknown => None,
            })),
            Fact::Ranges(ranges) => {
                let mut each = ranges.iter().map(|range| covered(*range, elements.clone()));
                let first = each.next()?;
                // All within, all without, or it depends on which one it is.
                each.all(|other| other == first).then_some(first)?
            }
        }
    }
}

/// Whether all numbers of a range are in the elements; None: some, or it cannot be told.
fn covered<'e>(
    (first, last): (u64, u64),
    elements: impl IntoIterator<Item = &'e Element>,
) -> Option<bool> {
    let mut parts = Vec::new();
    let mut unknown = false;
    for element in elements {
        match element {
            Element::Range(from, to) if *from <= last && *to >= first => parts.push((*from, *to)),
            Element::Range(..) | Element::Name(_) | Element::Prefix(_) => {}
            Element::Unknown => unknown = true,
        }
    }
    if parts.is_empty() {
        return if unknown { None } else { Some(false) };
    }
    parts.sort_unstable();
    let mut next = first;
    for (from, to) in parts {
        if from > next {
            return None;
        }
        match to.checked_add(1) {
            Some(after) if to < last => next = next.max(after),
            _ => return Some(true),
        }
    }
    None
}

/// Kleene's or.
pub(super) fn any(values: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(false);
    for value in values {
        match value {
            Some(true) => return Some(true),
            Some(false) => {}
            None => result = None,
        }
    }
    result
}

/// Kleene's and.
pub(super) fn all(values: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    any(values.into_iter().map(|value| value.map(|value| !value))).map(|value| !value)
}
