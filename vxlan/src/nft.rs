//! The nftables messages of the one rule that keeps overlay traffic out of the host's IP stack.
//! Pure: they are sent elsewhere.
//!
//! A vxlan device hands frames to the macvlan children by their MAC. What it does not hand over
//! (unknown MACs) and what it also hands up (broadcast, multicast) would reach the host's own
//! sockets. It is dropped where it enters the IP stack:
//!
//! ```text
//! table inet ovl {
//!     chain from-overlay {
//!         type filter hook prerouting priority raw; policy accept;
//!         iifname "ovl-*" counter drop
//!     }
//! }
//! ```
//!
//! Not at the ingress hook: that one comes before macvlan and would drop everything.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, Immediate,
        InetHookNumber, Meta, MetaKey, NfTablesMessage, Operator, Register, RuleAttribute,
        RuleMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
    },
    none::ControlMessage,
};

use crate::socket::Request;

pub(crate) const TABLE: &str = "ovl";
const CHAIN: &str = "from-overlay";

/// All our devices, as the kernel compares it: the bytes without the trailing NULs.
const IFNAME_PREFIX: &[u8] = b"ovl-";

/// `NF_IP_PRI_RAW`: before connection tracking, which is so spared the packets too.
const PRIORITY_RAW: i32 = -300;

/// `NFNL_SUBSYS_NFTABLES`: the subsystem of a batch.
const SUBSYSTEM: u16 = 10;

const NF_DROP: u32 = 0;
pub(crate) const NF_ACCEPT: u32 = 1;

/// Registers hold 16 bytes, as an interface name does.
const REGISTER: Register = Register::Reg1;

pub(crate) type Message = Request<NetfilterMessage>;

/// Puts the table in place, whatever stood in it: the kernel takes all of it at once, or nothing.
/// Adding it first makes the removal find something.
pub(crate) fn install() -> Vec<Message> {
    vec![
        control(ControlMessage::BatchBegin),
        about(NLM_F_CREATE, NfTablesMessage::NewTable(table())),
        about(0, NfTablesMessage::DeleteTable(table())),
        about(NLM_F_CREATE, NfTablesMessage::NewTable(table())),
        about(NLM_F_CREATE, NfTablesMessage::NewChain(chain())),
        about(NLM_F_CREATE | NLM_F_APPEND, NfTablesMessage::NewRule(rule())),
        control(ControlMessage::BatchEnd),
    ]
}

/// Takes the table away.
pub(crate) fn remove() -> Vec<Message> {
    vec![
        control(ControlMessage::BatchBegin),
        about(0, NfTablesMessage::DeleteTable(table())),
        control(ControlMessage::BatchEnd),
    ]
}

/// Asks for the rules of the chain: another program may have flushed the table, or the whole ruleset.
pub(crate) fn question() -> NetfilterMessage {
    let chain = RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(CHAIN.to_owned()),
        ],
    };
    about(0, NfTablesMessage::GetRule(chain)).message
}

/// An answer is about a rule of that chain: kernels before 4.7 tell of all there are.
pub(crate) fn is_our_rule(answer: &NetfilterMessage) -> bool {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = &answer.inner else {
        return false;
    };
    let has = |wanted: RuleAttribute| rule.attributes.contains(&wanted);
    has(RuleAttribute::Table(TABLE.to_owned())) && has(RuleAttribute::Chain(CHAIN.to_owned()))
}

/// Asks for every table of every family.
pub(crate) fn every_table() -> NetfilterMessage {
    let table = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
    message(NetfilterProtoFamily::Unspec, 0, table).message
}

fn about(flags: u16, inner: NfTablesMessage) -> Message {
    message(NetfilterProtoFamily::Inet, flags, inner)
}

/// The mark at the start or the end of what the kernel takes all at once.
pub(crate) fn control(inner: ControlMessage) -> Message {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
    Request::new(NetfilterMessage::new(header, inner), 0)
}

/// A message about a table of a family.
pub(crate) fn message(family: NetfilterProtoFamily, flags: u16, inner: NfTablesMessage) -> Message {
    let header = NetfilterHeader::new(family, 0, 0);
    Request::new(NetfilterMessage::new(header, inner), flags)
}

/// The port of the socket that owns the table in an answer of the kernel.
pub(crate) fn owner(answer: &NetfilterMessage) -> Option<u32> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = &answer.inner else {
        return None;
    };
    table.attributes.iter().find_map(|attribute| match attribute {
        TableAttribute::Owner(port) => Some(*port),
        _ => None,
    })
}

fn table() -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] }
}

fn chain() -> ChainMessage {
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(CHAIN.to_owned()),
            ChainAttribute::Hook(vec![
                Hook::Number(InetHookNumber::PreRouting.into()),
                Hook::Priority(PRIORITY_RAW as u32),
            ]),
            ChainAttribute::Policy(NF_ACCEPT),
            ChainAttribute::Type("filter".to_owned()),
        ],
    }
}

fn rule() -> RuleMessage {
    let name =
        Expressions::Meta(vec![Meta::Key(MetaKey::Iifname), Meta::DestinationRegister(REGISTER)]);
    let ours = Expressions::Cmp(vec![
        Cmp::SourceRegister(REGISTER),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(IFNAME_PREFIX.to_vec())),
    ]);
    let counter =
        Expressions::Other { expression_type: "counter".to_owned(), attributes: Vec::new() };
    let drop = Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(
            NF_DROP,
        ))])),
    ]);
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(CHAIN.to_owned()),
            RuleAttribute::Expressions(vec![name.into(), ours.into(), counter.into(), drop.into()]),
        ],
    }
}
