//! What a match looks at, and what it compares it with.

use std::sync::Arc;

use serde_json::Value;

use super::super::model::{
    ANOTHER_PROTOCOL, ESTABLISHED, Element, Field, INVALID, IPV4, IPV6, Match, NEW, RELATED, TCP,
    UDP, UNTRACKED, network,
};
use super::{list, word};

/// The left side of a match: fields, and what must be so for the packet to have them.
pub(super) struct Left {
    pub(super) fields: Vec<Field>,
    pub(super) implied: Vec<Match>,
}

/// What stands on the left; several for a concatenation.
pub(super) fn field(left: &Value) -> Left {
    if let Some(parts) = left.get("concat") {
        let parts = list(parts).iter().map(field);
        return parts.fold(Left { fields: Vec::new(), implied: Vec::new() }, |mut all, part| {
            all.fields.extend(part.fields);
            all.implied.extend(part.implied);
            all
        });
    }
    let mut implied = Vec::new();
    let field = single(left, &mut implied);
    Left { fields: vec![field], implied }
}

fn single(left: &Value, implied: &mut Vec<Match>) -> Field {
    if let Some(meta) = left.get("meta") {
        return of_meta(word(meta, "key"));
    }
    if let Some(payload) = left.get("payload") {
        return of_payload(payload, implied);
    }
    if let Some(ct) = left.get("ct") {
        return match word(ct, "key") {
            "state" => Field::State,
            "status" => Field::Status,
            _ => Field::Other,
        };
    }
    if let Some(option) = left.get("tcp option") {
        implied.push(Match::protocol(TCP));
        let of_size = (word(option, "name"), word(option, "field")) == ("maxseg", "size");
        return if of_size { Field::SegmentSize } else { Field::Other };
    }
    if let Some(fib) = left.get("fib") {
        return of_fib(fib);
    }
    match list(&left["&"]) {
        [inner, mask] if is_fragment_offset(inner) => match mask.as_u64() {
            // Of what is not in fragments, offset and "more" are 0.
            Some(mask) if mask & !FRAGMENT == 0 => Field::Fragment,
            Some(_) | None => Field::Other,
        },
        [inner, mask] => match single(inner, implied) {
            Field::Mark(_) => {
                mask.as_u64().and_then(|m| u32::try_from(m).ok()).map_or(Field::Other, Field::Mark)
            }
            Field::TcpFlags(_) => flags(mask).map_or(Field::Other, Field::TcpFlags),
            _ => Field::Other,
        },
        _ => Field::Other,
    }
}

/// "More fragments", and the offset (RFC 791, section 3.1).
const FRAGMENT: u64 = 0x3fff;

fn is_fragment_offset(left: &Value) -> bool {
    let payload = &left["payload"];
    (word(payload, "protocol"), word(payload, "field")) == ("ip", "frag-off")
}

fn of_meta(key: &str) -> Field {
    match key {
        "l4proto" => Field::Protocol,
        "nfproto" | "protocol" => Field::Family,
        "iifname" | "iif" => Field::InInterface,
        "oifname" | "oif" => Field::OutInterface,
        "mark" => Field::Mark(u32::MAX),
        "pkttype" => Field::PacketType,
        _ => Field::Other,
    }
}

fn of_payload(payload: &Value, implied: &mut Vec<Match>) -> Field {
    let field = word(payload, "field");
    // Of the packet inside a tunnel, which begins with the tunnel's own header.
    if let Some(tunnel) = payload.get("tunnel") {
        let of_vxlan = tunnel == "vxlan" && word(payload, "protocol") == "vxlan";
        return if of_vxlan && field == "vni" { Field::Vni } else { Field::Other };
    }
    match (word(payload, "protocol"), field) {
        ("ip", "saddr") => Field::Source,
        ("ip", "daddr") => Field::Destination,
        ("ip", "protocol") => Field::Protocol,
        ("th", "sport") => Field::SourcePort,
        ("th", "dport") => Field::DestinationPort,
        ("vxlan", "vni") => Field::Vni,
        ("ip" | "th" | "ether" | "vlan" | "vxlan" | "", _) => Field::Other,
        ("ip6" | "arp" | "icmpv6", _) => {
            implied.push(Match::family(IPV6));
            Field::Other
        }
        (protocol, field) => {
            implied.push(Match::protocol(protocol_number(protocol)));
            match field {
                "sport" => Field::SourcePort,
                "dport" => Field::DestinationPort,
                "flags" => Field::TcpFlags(u8::MAX),
                _ => Field::Other,
            }
        }
    }
}

fn of_fib(fib: &Value) -> Field {
    let flags: Vec<&str> = match &fib["flags"] {
        Value::String(flag) => vec![flag.as_str()],
        flags => list(flags).iter().filter_map(Value::as_str).collect(),
    };
    let source = flags.contains(&"saddr");
    match word(fib, "result") {
        "type" if source => Field::SourceType,
        "type" => Field::DestinationType,
        "oif" | "oifname" if source && flags.contains(&"iif") => Field::PathBack,
        _ => Field::Other,
    }
}

/// What a set's type (nft(8), "DATA TYPES") is compared with. Source or destination makes no
/// difference to the elements' form.
pub(super) fn field_of_type(name: &str) -> Field {
    match name {
        "ipv4_addr" => Field::Source,
        "inet_service" => Field::DestinationPort,
        "inet_proto" => Field::Protocol,
        "nf_proto" => Field::Family,
        "ifname" | "iface_index" => Field::InInterface,
        "mark" => Field::Mark(u32::MAX),
        "ct_state" => Field::State,
        "fib_addrtype" => Field::DestinationType,
        "pkt_type" => Field::PacketType,
        _ => Field::Other,
    }
}

/// What the fields, as one, are compared with. What can be no field of an IPv4 packet is left out.
pub(super) fn elements(fields: &[Field], right: &Value) -> Arc<[Vec<Element>]> {
    flat(right).into_iter().filter_map(|value| tuple(fields, value)).collect()
}

/// The values that a set, or a list of states, stands for.
fn flat(right: &Value) -> Vec<&Value> {
    match (right, right.get("set")) {
        (_, Some(set)) => flat(set),
        (Value::Array(values), _) => values.iter().flat_map(flat).collect(),
        (Value::Null, _) => Vec::new(),
        (one, None) => vec![one.get("elem").map_or(one, |elem| elem.get("val").unwrap_or(elem))],
    }
}

/// One element, of as many parts as there are fields.
pub(super) fn tuple(fields: &[Field], value: &Value) -> Option<Vec<Element>> {
    let value = value.get("elem").map_or(value, |elem| elem.get("val").unwrap_or(elem));
    match (fields, value.get("concat")) {
        ([field], _) => Some(vec![element(*field, value)?]),
        (fields, Some(parts)) if list(parts).len() == fields.len() => {
            fields.iter().zip(list(parts)).map(|(field, part)| element(*field, part)).collect()
        }
        (fields, _) => Some(vec![Element::Unknown; fields.len()]),
    }
}

/// None: it can be nothing that an IPv4 packet has.
fn element(field: Field, value: &Value) -> Option<Element> {
    if let Some(prefix) = value.get("prefix") {
        let address = word(prefix, "addr");
        let length = prefix["len"].as_u64().and_then(|length| u32::try_from(length).ok());
        return if address.contains(':') {
            None
        } else {
            Some(network(address, length).unwrap_or(Element::Unknown))
        };
    }
    if let [first, last] = list(&value["range"]) {
        return match (element(field, first)?, element(field, last)?) {
            (Element::Range(first, _), Element::Range(_, last)) => {
                Some(Element::Range(first, last))
            }
            _ => Some(Element::Unknown),
        };
    }
    match value {
        Value::Number(number) => Some(number.as_u64().map_or(Element::Unknown, Element::is)),
        Value::Bool(value) => Some(Element::is(u64::from(*value))),
        Value::String(text) => of_text(field, text),
        Value::Object(_) => Some(flags(value).map_or(Element::Unknown, Element::is)),
        Value::Null | Value::Array(_) => Some(Element::Unknown),
    }
}

fn of_text(field: Field, text: &str) -> Option<Element> {
    let known = |number: Option<u64>| Some(number.map_or(Element::Unknown, Element::is));
    match field {
        Field::Source | Field::Destination => match text.split_once('/') {
            _ if text.contains(':') => None,
            Some((address, length)) => {
                Some(network(address, length.parse().ok()).unwrap_or(Element::Unknown))
            }
            None => Some(network(text, None).unwrap_or(Element::Unknown)),
        },
        Field::Protocol => known(Some(protocol_number(text))),
        Field::Family => known(Some(if matches!(text, "ipv4" | "ip") { IPV4 } else { IPV6 })),
        Field::State => known(state(text)),
        Field::InInterface | Field::OutInterface => Some(Element::interface(text, '*')),
        Field::PacketType if text == "host" => Some(Element::Name("unicast".to_owned())),
        Field::SourceType | Field::DestinationType | Field::PacketType | Field::Status => {
            Some(Element::Name(text.to_owned()))
        }
        Field::TcpFlags(_) => known(tcp_flag(text).map(u64::from)),
        Field::SourcePort
        | Field::DestinationPort
        | Field::Mark(_)
        | Field::PathBack
        | Field::Fragment
        | Field::SegmentSize
        | Field::Vni
        | Field::Other => Some(Element::Unknown),
    }
}

/// Flags of TCP, together: a name, a list, or `{"|": […]}`.
pub(super) fn flags(value: &Value) -> Option<u8> {
    let together =
        |values: &[Value]| values.iter().try_fold(0, |sum, value| Some(sum | flags(value)?));
    match value {
        Value::String(name) => tcp_flag(name),
        Value::Number(number) => number.as_u64().and_then(|number| u8::try_from(number).ok()),
        Value::Array(values) => together(values),
        Value::Object(_) => value.get("|").and_then(Value::as_array).and_then(|v| together(v)),
        Value::Null | Value::Bool(_) => None,
    }
}

fn tcp_flag(name: &str) -> Option<u8> {
    Some(match name {
        "fin" => 0x01,
        "syn" => 0x02,
        "rst" => 0x04,
        "psh" => 0x08,
        "ack" => 0x10,
        "urg" => 0x20,
        "ecn" => 0x40,
        "cwr" => 0x80,
        _ => return None,
    })
}

fn state(name: &str) -> Option<u64> {
    Some(match name {
        "invalid" => INVALID,
        "established" => ESTABLISHED,
        "related" => RELATED,
        "new" => NEW,
        "untracked" => UNTRACKED,
        _ => return None,
    })
}

fn protocol_number(name: &str) -> u64 {
    match name {
        "tcp" => TCP,
        "udp" => UDP,
        _ => ANOTHER_PROTOCOL,
    }
}
