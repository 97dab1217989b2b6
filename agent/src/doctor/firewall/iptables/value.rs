//! Values of options: addresses, ports, states, marks, flags.

use super::super::model::{ESTABLISHED, Element, Field, INVALID, NEW, RELATED, UNTRACKED, network};

/// `10.0.0.0/8`, `10.0.0.0/255.0.0.0`.
pub(super) fn address(text: &str) -> Element {
    let (address, mask) = text.split_once('/').unwrap_or((text, "32"));
    let length = mask.parse().ok().or_else(|| {
        let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
        let length = mask.leading_ones();
        // One with holes is no network.
        (mask.count_ones() == length).then_some(length)
    });
    length.and_then(|length| network(address, Some(length))).unwrap_or(Element::Unknown)
}

/// `10.0.0.1-10.0.0.9`.
pub(super) fn addresses(text: &str) -> Element {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (network(first, None), network(last, None)) {
        (Some(Element::Range(first, _)), Some(Element::Range(_, last))) => {
            Element::Range(first, last)
        }
        _ => Element::Unknown,
    }
}

/// `22,7946:7950`.
pub(super) fn ports(text: &str) -> Vec<Element> {
    let port = |text: &str| text.parse::<u16>().ok().map(u64::from);
    let element = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) => Element::Range(first, last),
            _ => Element::Unknown,
        }
    };
    text.split(',').map(element).collect()
}

/// `RELATED,ESTABLISHED`; the kinds of translation stand in the same list, but never among others.
pub(super) fn states(text: &str) -> Option<(Field, Vec<Element>)> {
    if text.split(',').all(|name| matches!(name, "DNAT" | "SNAT")) {
        return Some((Field::Status, kinds(text)));
    }
    let bit = |name: &str| match name {
        "INVALID" => Some(INVALID),
        "ESTABLISHED" => Some(ESTABLISHED),
        "RELATED" => Some(RELATED),
        "NEW" => Some(NEW),
        "UNTRACKED" => Some(UNTRACKED),
        // Connections of packets between hosts are not translated.
        "DNAT" | "SNAT" => Some(0),
        _ => None,
    };
    let bits: Option<Vec<u64>> = text.split(',').map(bit).collect();
    Some((Field::State, bits?.into_iter().map(Element::is).collect()))
}

/// `LOCAL,BROADCAST`.
pub(super) fn kinds(text: &str) -> Vec<Element> {
    text.split(',').map(|kind| Element::Name(kind.to_ascii_lowercase())).collect()
}

/// `0x1/0xff`, `0x1`.
pub(super) fn masked(text: &str) -> Option<(u32, u32)> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Some((number(value)?, number(mask)?))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `FIN,SYN,RST,ACK`, `NONE`, `ALL`.
pub(super) fn tcp_flags(text: &str) -> Option<u8> {
    let bit = |name: &str| match name {
        "NONE" => Some(0),
        "FIN" => Some(0x01),
        "SYN" => Some(0x02),
        "RST" => Some(0x04),
        "PSH" => Some(0x08),
        "ACK" => Some(0x10),
        "URG" => Some(0x20),
        "ALL" => Some(0x3f),
        _ => None,
    };
    text.split(',').try_fold(0, |flags, name| Some(flags | bit(name)?))
}

/// The VNI that Docker's encrypted overlay networks look for, in both forms it has written its
/// rules: the upper 24 bits of the second word of the VXLAN header.
pub(super) fn vni_of_u32(text: &str) -> Option<u32> {
    let text = text.strip_prefix("0x0>>0x16&0x3c@0xc&0xffffff00=")?;
    Some(number(text)? >> 8)
}

/// `6,177 0 0 0,64 0 0 12,84 0 0 4294967040,21 0 1 1048832,6 0 0 4294967295,6 0 0 0`: length of the
/// IPv4 header, the word behind it at 12, its upper 24 bits, equal.
pub(super) fn vni_of_bpf(text: &str) -> Option<u32> {
    let rest = text.strip_prefix("6,177 0 0 0,64 0 0 12,84 0 0 4294967040,21 0 1 ")?;
    let (word, _) = rest.split_once(',')?;
    Some(number(word)? >> 8)
}
