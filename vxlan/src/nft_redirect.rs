//! The nftables messages of the table that leads a container's DNS to the agent. Pure: they are sent
//! elsewhere, by the socket that is to own the table.
//!
//! ```text
//! table ip ovl {
//!     flags owner
//!     chain out {
//!         type nat hook output priority -110; policy accept;
//!         ip daddr 127.0.0.11 udp dport 53 meta mark != 0x6f766c dnat to 169.254.53.53:54
//!         ip daddr 127.0.0.11 tcp dport 53 meta mark != 0x6f766c dnat to 169.254.53.53:54
//!     }
//! }
//! ```
//!
//! The first chain that decides where a connection goes is the one that counts; those of iptables,
//! where Docker's rules are, have priority -100 (`NF_IP_PRI_NAT_DST`).

use std::net::SocketAddrV4;

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, Immediate,
        InetHookNumber, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
        RuleMessage, TableAttribute, TableFlags, TableMessage,
    },
    none::ControlMessage,
};

use crate::nft::{self, Message, NF_ACCEPT};

const TABLE: &str = "ovl";
const CHAIN: &str = "out";

/// Before iptables.
const PRIORITY: i32 = -110;

/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`: what an offset counts from.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// Offset of the destination in an IPv4 header (RFC 791, section 3.1).
const DESTINATION_ADDRESS: u32 = 16;
/// Offset of the destination port in a UDP or TCP header (RFC 768; RFC 9293, section 3.1).
const DESTINATION_PORT: u32 = 2;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

/// Attributes of the nat expression (`NFTA_NAT_*`, `linux/netfilter/nf_tables.h`), each a `u32` in
/// network byte order.
const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_REG_ADDR_MIN: u16 = 3;
const NAT_REG_PROTO_MIN: u16 = 5;
/// `NFT_NAT_DNAT`.
const DNAT: u32 = 1;
/// `NFPROTO_IPV4`.
const IPV4: u32 = 2;

/// Puts the table in place, owned by the socket that sends this. One of this name that nobody owns is
/// replaced; adding it first makes the removal find something.
pub(crate) fn install(from: SocketAddrV4, to: SocketAddrV4, pass_mark: u32) -> Vec<Message> {
    let new_table = |table| message(NLM_F_CREATE, NfTablesMessage::NewTable(table));
    let new_rule = |protocol| {
        let rule = rule(protocol, from, to, pass_mark);
        message(NLM_F_CREATE | NLM_F_APPEND, NfTablesMessage::NewRule(rule))
    };
    vec![
        nft::control(ControlMessage::BatchBegin),
        new_table(table()),
        message(0, NfTablesMessage::DeleteTable(table())),
        new_table(owned_table()),
        message(NLM_F_CREATE, NfTablesMessage::NewChain(chain())),
        new_rule(IPPROTO_UDP),
        new_rule(IPPROTO_TCP),
        nft::control(ControlMessage::BatchEnd),
    ]
}

/// Asks for the table; [`nft::owner`] reads the answer.
pub(crate) fn question() -> NetfilterMessage {
    message(0, NfTablesMessage::GetTable(table())).message
}

fn message(flags: u16, inner: NfTablesMessage) -> Message {
    nft::message(NetfilterProtoFamily::IPv4, flags, inner)
}

fn table() -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] }
}

fn owned_table() -> TableMessage {
    let mut table = table();
    table.attributes.push(TableAttribute::Flags(TableFlags::Owner));
    table
}

fn chain() -> ChainMessage {
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(CHAIN.to_owned()),
            ChainAttribute::Hook(vec![
                Hook::Number(InetHookNumber::LocalOut.into()),
                Hook::Priority(PRIORITY as u32),
            ]),
            ChainAttribute::Policy(NF_ACCEPT),
            ChainAttribute::Type("nat".to_owned()),
        ],
    }
}

fn rule(protocol: u8, from: SocketAddrV4, to: SocketAddrV4, pass_mark: u32) -> RuleMessage {
    let expressions = [
        packet(NETWORK_HEADER, DESTINATION_ADDRESS, 4),
        compare(Operator::Equal, &from.ip().octets()),
        meta(MetaKey::L4Proto),
        compare(Operator::Equal, &[protocol]),
        packet(TRANSPORT_HEADER, DESTINATION_PORT, 2),
        compare(Operator::Equal, &from.port().to_be_bytes()),
        // The kernel's own number, not one of the wire.
        meta(MetaKey::Mark),
        compare(Operator::NotEqual, &pass_mark.to_ne_bytes()),
        load(Register::Reg1, &to.ip().octets()),
        load(Register::Reg2, &to.port().to_be_bytes()),
        dnat(Register::Reg1, Register::Reg2),
    ];
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(CHAIN.to_owned()),
            RuleAttribute::Expressions(expressions.into_iter().map(Into::into).collect()),
        ],
    }
}

/// Loads bytes of the packet.
fn packet(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn meta(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)])
}

/// Ends the rule where what was loaded does not compare.
fn compare(operator: Operator, to: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(to.to_vec())),
    ])
}

fn load(register: Register, value: &[u8]) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(register),
        Immediate::Data(DataAttribute::Value(value.to_vec())),
    ])
}

fn dnat(address: Register, port: Register) -> Expressions {
    let number = |kind, value: u32| DefaultNla::new(kind, value.to_be_bytes().to_vec());
    Expressions::Other {
        expression_type: "nat".to_owned(),
        attributes: vec![
            number(NAT_TYPE, DNAT),
            number(NAT_FAMILY, IPV4),
            number(NAT_REG_ADDR_MIN, address.into()),
            number(NAT_REG_PROTO_MIN, port.into()),
        ],
    }
}
