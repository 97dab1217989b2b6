//! The packet filter of a host, whichever tool made it: tables, chains, rules.
//!
//! Only what may be decided about the packets between hosts is kept apart; every other match of a
//! rule is [`Field::Other`], which nobody can tell. Everything that a packet is compared by is a
//! number or a name: addresses are their 32 bits, states of a connection the kernel's bits.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// `IP_CT_*` as nftables numbers them (`NF_CT_STATE_BIT`): states of a connection.
pub(super) const INVALID: u64 = 1;
pub(super) const ESTABLISHED: u64 = 2;
pub(super) const RELATED: u64 = 4;
pub(super) const NEW: u64 = 8;
pub(super) const UNTRACKED: u64 = 64;

/// Numbers of protocols (RFC 5237).
pub(super) const TCP: u64 = 6;
pub(super) const UDP: u64 = 17;
/// A protocol that is neither: which one makes no difference here.
pub(super) const ANOTHER_PROTOCOL: u64 = 256;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const IPV4: u64 = 2;
pub(super) const IPV6: u64 = 10;

/// All rules of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) tables: Vec<Table>,
}

/// A table: chains that may jump to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) tool: Tool,
    /// `ip`, `inet` or `netdev`: of the others no rule sees IPv4.
    pub(super) family: String,
    pub(super) name: String,
    pub(super) chains: HashMap<String, Chain>,
}

/// What a table is shown and changed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tool {
    /// `nft`.
    Nft,
    /// `iptables` under this name.
    Iptables(&'static str),
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tool::Nft => "nftables",
            Tool::Iptables(command) => command,
        })
    }
}

/// Rules in order, and where packets enter, if not by a jump only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// A chain that the kernel calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) hook: Hook,
    /// Chains of a hook are called in rising order.
    pub(super) priority: i64,
    /// It sees the first packet of a connection only.
    pub(super) nat: bool,
    /// What becomes of packets that no rule decides about.
    pub(super) drops: bool,
    /// The interfaces of an ingress or egress chain.
    pub(super) devices: Vec<String>,
}

/// Where in the kernel, in the order in which packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hook {
    Ingress,
    Prerouting,
    Input,
    /// Packets that are none of the host's own.
    Forward,
    Output,
    Postrouting,
    Egress,
}

impl Hook {
    /// As iptables (`INPUT`) and nftables (`input`) name it.
    pub(super) fn named(name: &str) -> Option<Hook> {
        Some(match name.to_ascii_lowercase().as_str() {
            "ingress" => Hook::Ingress,
            "prerouting" => Hook::Prerouting,
            "input" => Hook::Input,
            "forward" => Hook::Forward,
            "output" => Hook::Output,
            "postrouting" => Hook::Postrouting,
            "egress" => Hook::Egress,
            _ => return None,
        })
    }
}

/// All matches must hold; then the effects come about, and the verdict counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) matches: Vec<Match>,
    pub(super) effects: Vec<Effect>,
    pub(super) verdict: Verdict,
    /// Its place in the chain, from 1.
    pub(super) number: usize,
    /// nftables: what it is addressed by.
    pub(super) handle: Option<u64>,
    /// Word for word, as its tool shows it.
    pub(super) text: Arc<str>,
}

/// What a rule does to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the next rule.
    Continue,
    /// It leaves this base chain.
    Accept,
    /// Also with an answer to the sender.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    Jump(String),
    Goto(String),
    /// It goes to another port or host (DNAT, REDIRECT).
    Divert,
    /// Something else decides, named here.
    Unclear(String),
}

/// What a rule changes about a packet that later rules see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Its connection is not tracked.
    NoTrack,
    /// `mark = (mark & !mask) ^ value`.
    Mark { value: u32, mask: u32 },
    /// Some mark.
    SomeMark,
}

/// One condition: the fields, as one, are among the elements. Or, negated, not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) fields: Vec<Field>,
    /// Each as long as `fields`.
    pub(super) elements: Arc<[Vec<Element>]>,
    pub(super) negated: bool,
    /// In the tool's words, for what cannot be told.
    pub(super) text: Arc<str>,
}

impl Match {
    /// One field among some elements.
    pub(super) fn one(
        field: Field,
        elements: impl IntoIterator<Item = Element>,
        negated: bool,
        text: &str,
    ) -> Match {
        let elements = elements.into_iter().map(|element| vec![element]).collect();
        Match { fields: vec![field], elements, negated, text: text.into() }
    }

    /// Nobody can tell.
    pub(super) fn other(text: &str) -> Match {
        Match::one(Field::Other, [Element::Unknown], false, text)
    }

    /// Only of this protocol.
    pub(super) fn protocol(number: u64) -> Match {
        Match::one(Field::Protocol, [Element::is(number)], false, "protocol")
    }

    /// Only of this family.
    pub(super) fn family(number: u64) -> Match {
        Match::one(Field::Family, [Element::is(number)], false, "family")
    }
}

/// Something about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Family,
    Protocol,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    InInterface,
    OutInterface,
    /// Of its connection.
    State,
    /// What was translated of its connection: nothing.
    Status,
    /// Its mark, of which these bits.
    Mark(u32),
    /// Kind of the source (`local`, `unicast`, …).
    SourceType,
    /// Kind of the destination.
    DestinationType,
    /// Whom the frame was for (`host`, `unicast`).
    PacketType,
    /// 1: an answer would leave by the interface that it came in by; 0: not.
    PathBack,
    /// Flags of TCP (RFC 9293, section 3.1), of which these bits.
    TcpFlags(u8),
    /// Is it a fragment beyond the first one?
    Fragment,
    /// Largest segment of TCP that the sender takes (RFC 9293, section 3.7.1).
    SegmentSize,
    /// VXLAN network identifier (RFC 7348, section 5).
    Vni,
    /// What is not looked at here.
    Other,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// A number from the first to the second one.
    Range(u64, u64),
    Name(String),
    /// A name that begins so.
    Prefix(String),
    /// Not understood.
    Unknown,
}

impl Element {
    pub(super) fn is(number: impl Into<u64>) -> Element {
        let number = number.into();
        Element::Range(number, number)
    }

    /// Of an interface's name; `wildcard` at its end stands for any rest.
    pub(super) fn interface(name: &str, wildcard: char) -> Element {
        match name.strip_suffix(wildcard) {
            Some(prefix) => Element::Prefix(prefix.to_owned()),
            None => Element::Name(name.to_owned()),
        }
    }
}

/// An IPv4 network's first and last address, as an element; None: it is not one.
pub(super) fn network(address: &str, length: Option<u32>) -> Option<Element> {
    let address = u32::from(address.parse::<std::net::Ipv4Addr>().ok()?);
    let length = length.unwrap_or(32);
    if length > 32 {
        return None;
    }
    let host = u32::MAX.checked_shr(length).unwrap_or(0);
    Some(Element::Range((address & !host).into(), (address | host).into()))
}
