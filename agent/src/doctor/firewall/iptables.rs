//! Reads what `iptables-save` prints, of iptables-legacy and of iptables-nft alike
//! (iptables-extensions(8) has the options).
//!
//! What is not understood becomes a match or a verdict that says so: nothing is refused.

mod value;

use std::collections::HashMap;
use std::iter::Peekable;

use self::value::{
    address, addresses, kinds, masked, ports, states, tcp_flags, vni_of_bpf, vni_of_u32,
};
use super::model::{
    ANOTHER_PROTOCOL, Base, Chain, Effect, Element, Field, Hook, Match, Rule, TCP, Table, Tool,
    UDP, Verdict,
};

/// The tables that a text of `iptables-save` shows.
pub(super) fn parse(text: &str, tool: Tool) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let (family, chains) = ("ip".to_owned(), HashMap::new());
            tables.push(Table { tool, family, name: name.trim().to_owned(), chains });
        } else if let Some(table) = tables.last_mut() {
            if let Some(chain) = line.strip_prefix(':') {
                add_chain(table, chain);
            } else if line.starts_with("-A ") {
                add_rule(table, line);
            }
        }
    }
    tables
}

/// `INPUT DROP [0:0]`, `name - [0:0]`.
fn add_chain(table: &mut Table, line: &str) {
    let mut words = line.split_ascii_whitespace();
    let (Some(name), policy) = (words.next(), words.next()) else {
        return;
    };
    let base = policy.filter(|policy| *policy != "-").and_then(|policy| {
        let hook = Hook::named(name)?;
        Some(Base {
            hook,
            priority: priority(&table.name, hook),
            nat: table.name == "nat",
            drops: policy == "DROP",
            devices: Vec::new(),
        })
    });
    table.chains.insert(name.to_owned(), Chain { base, rules: Vec::new() });
}

/// `NF_IP_PRI_*` (linux/netfilter_ipv4.h).
fn priority(table: &str, hook: Hook) -> i64 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting | Hook::Output) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    }
}

fn add_rule(table: &mut Table, line: &str) {
    let words = words(line);
    let Some(name) = words.get(1) else {
        return;
    };
    let mut draft = Draft::default();
    draft.read(&words[2..]);
    let verdict = draft.verdict(table);
    let chain = table.chains.entry(name.clone()).or_default();
    chain.rules.push(Rule {
        matches: draft.matches,
        effects: draft.effects,
        verdict,
        number: chain.rules.len() + 1,
        handle: None,
        text: line.into(),
    });
}

/// The words of a line; those in double quotes may hold spaces, and `\` before a quote or itself.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A rule that is being read.
#[derive(Default)]
struct Draft {
    matches: Vec<Match>,
    effects: Vec<Effect>,
    /// Name of the target, and whether it is gone to rather than jumped to.
    target: Option<(String, bool)>,
    /// Words of the target.
    options: Vec<String>,
    /// The module whose options follow.
    module: Option<String>,
    /// Of a module that is not understood: all that was said to it.
    other: Option<String>,
}

impl Draft {
    fn read(&mut self, words: &[String]) {
        let mut words = words.iter().map(String::as_str).peekable();
        let mut negated = false;
        while let Some(word) = words.next() {
            if self.target.is_some() {
                self.options.push(word.to_owned());
                continue;
            }
            match word {
                "!" => negated = true,
                "-m" => self.enter(words.next().unwrap_or_default()),
                "-j" | "-g" => {
                    self.leave();
                    let name = words.next().unwrap_or_default().to_owned();
                    self.target = Some((name, word == "-g"));
                }
                option => {
                    self.option(option, std::mem::take(&mut negated), &mut words);
                }
            }
        }
        self.leave();
    }

    /// A match module begins.
    fn enter(&mut self, module: &str) {
        self.leave();
        self.module = Some(module.to_owned());
        let understood = [
            "tcp",
            "udp",
            "multiport",
            "conntrack",
            "state",
            "comment",
            "mark",
            "addrtype",
            "iprange",
            "pkttype",
            "rpfilter",
            "u32",
            "bpf",
            "icmp",
        ];
        if !understood.contains(&module) {
            self.other = Some(format!("-m {module}"));
        }
    }

    /// Its options are over.
    fn leave(&mut self) {
        if let Some(text) = self.other.take() {
            self.matches.push(Match::other(&text));
        }
        if self.module.take().as_deref() == Some("rpfilter")
            && !self.matches.iter().any(|m| m.fields == [Field::PathBack])
        {
            self.path_back(false);
        }
    }

    fn path_back(&mut self, negated: bool) {
        self.push(Field::PathBack, vec![Element::is(1u64)], negated, "-m rpfilter");
    }

    fn push(&mut self, field: Field, elements: Vec<Element>, negated: bool, text: &str) {
        self.matches.push(Match::one(field, elements, negated, text));
    }

    /// One option with what it is given.
    fn option<'a>(
        &mut self,
        option: &'a str,
        negated: bool,
        words: &mut Peekable<impl Iterator<Item = &'a str>>,
    ) {
        let mut given = Vec::new();
        // A value never begins with a dash, but for what somebody wrote.
        if option == "--comment" {
            given.extend(words.next());
        }
        while let Some(value) = words.next_if(|word| !word.starts_with('-') && *word != "!") {
            given.push(value);
        }
        let not = if negated { "! " } else { "" };
        let text = format!("{not}{option} {}", given.join(" "));
        let text = text.trim_end();
        if let Some(other) = &mut self.other
            && !matches!(option, "-s" | "-d" | "-i" | "-o" | "-p" | "-f")
        {
            other.push(' ');
            other.push_str(text);
            return;
        }
        let value = given.first().copied().unwrap_or_default();
        let module = self.module.clone().unwrap_or_default();
        match understood(&module, option, value, &given) {
            Some(Meaning::Match(field, elements)) => self.push(field, elements, negated, text),
            Some(Meaning::Nothing) => {}
            Some(Meaning::EitherPort(elements)) if !negated => self.either_port(&elements, text),
            Some(Meaning::PathBack) => self.path_back(true),
            Some(Meaning::EitherPort(_)) | None => {
                let module = if module.is_empty() { module } else { format!("-m {module} ") };
                self.matches.push(Match::other(&format!("{module}{text}")));
            }
        }
    }

    /// `multiport --ports`: the source port or the destination port. Packets of ours have known
    /// destination ports and others that are unlike any service's, so the latter decides; a source
    /// port that is listed makes it uncertain at most.
    fn either_port(&mut self, elements: &[Element], text: &str) {
        let both = [Field::SourcePort, Field::DestinationPort];
        let any = Element::Range(0, u64::from(u16::MAX));
        let tuples = elements
            .iter()
            .flat_map(|port| [vec![port.clone(), any.clone()], vec![any.clone(), port.clone()]]);
        self.matches.push(Match {
            fields: both.to_vec(),
            elements: tuples.collect(),
            negated: false,
            text: text.into(),
        });
    }

    /// What its target comes to. Also puts down what the target changes.
    fn verdict(&mut self, table: &Table) -> Verdict {
        let Some((target, goes)) = self.target.take() else {
            return Verdict::Continue;
        };
        if table.chains.contains_key(&target) {
            return if goes { Verdict::Goto(target) } else { Verdict::Jump(target) };
        }
        match target.as_str() {
            // Translating the source is the end of the nat table, and nothing more.
            "ACCEPT" | "SNAT" | "MASQUERADE" => Verdict::Accept,
            "DROP" | "REJECT" | "TARPIT" | "STEAL" => Verdict::Drop,
            "RETURN" => Verdict::Return,
            "DNAT" | "REDIRECT" | "TPROXY" | "NETMAP" => Verdict::Divert,
            "NOTRACK" => self.effect(Effect::NoTrack),
            "CT" if self.options.iter().any(|option| option == "--notrack") => {
                self.effect(Effect::NoTrack)
            }
            "MARK" => {
                let effect = self.mark();
                self.effect(effect)
            }
            "CT" | "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT" | "CLASSIFY" | "TOS" | "DSCP"
            | "TTL" | "HL" | "ECN" | "TCPMSS" | "TCPOPTSTRIP" | "CHECKSUM" | "SET" | "SECMARK"
            | "CONNSECMARK" | "RATEEST" | "IDLETIMER" | "LED" | "TEE" => Verdict::Continue,
            // A new connection has mark 0, which is restored to what it is.
            "CONNMARK" => Verdict::Continue,
            "QUEUE" | "NFQUEUE" => {
                Verdict::Unclear(format!("-j {target}: a program decides about it"))
            }
            _ => Verdict::Unclear(format!("-j {target}")),
        }
    }

    fn effect(&mut self, effect: Effect) -> Verdict {
        self.effects.push(effect);
        Verdict::Continue
    }

    /// `--set-xmark 0x1/0xff`.
    fn mark(&self) -> Effect {
        let set = self.options.iter().position(|option| option == "--set-xmark");
        let value = set.and_then(|at| self.options.get(at + 1));
        let parts = value.and_then(|value| masked(value));
        match parts {
            Some((value, mask)) => Effect::Mark { value, mask },
            None => Effect::SomeMark,
        }
    }
}

/// What an option with its values says.
enum Meaning {
    Match(Field, Vec<Element>),
    /// The source or the destination port.
    EitherPort(Vec<Element>),
    /// The test of the path back, turned round.
    PathBack,
    /// It makes no difference here.
    Nothing,
}

/// None: it is not understood.
fn understood(module: &str, option: &str, value: &str, given: &[&str]) -> Option<Meaning> {
    let of = |field, elements| Some(Meaning::Match(field, elements));
    match (module, option) {
        (_, "-s") => of(Field::Source, vec![address(value)]),
        (_, "-d") => of(Field::Destination, vec![address(value)]),
        (_, "-i") => of(Field::InInterface, vec![Element::interface(value, '+')]),
        (_, "-o") => of(Field::OutInterface, vec![Element::interface(value, '+')]),
        (_, "-p") => protocol(value),
        (_, "-f") => of(Field::Fragment, vec![Element::is(1u64)]),
        ("tcpmss", "--mss") => of(Field::SegmentSize, ports(value)),
        ("comment", "--comment") | ("icmp", "--icmp-type") => Some(Meaning::Nothing),
        ("tcp" | "udp", "--sport") | ("multiport", "--sports") => {
            of(Field::SourcePort, ports(value))
        }
        ("tcp" | "udp", "--dport") | ("multiport", "--dports") => {
            of(Field::DestinationPort, ports(value))
        }
        ("multiport", "--ports") => Some(Meaning::EitherPort(ports(value))),
        ("tcp", "--tcp-flags") => {
            let (mask, set) = (tcp_flags(value)?, tcp_flags(given.get(1)?)?);
            of(Field::TcpFlags(mask), vec![Element::is(set)])
        }
        ("conntrack", "--ctstate") | ("state", "--state") => {
            let (fields, elements) = states(value)?;
            of(fields, elements)
        }
        ("mark", "--mark") => {
            let (mark, mask) = masked(value)?;
            of(Field::Mark(mask), vec![Element::is(mark & mask)])
        }
        ("addrtype", "--dst-type") => of(Field::DestinationType, kinds(value)),
        ("addrtype", "--src-type") => of(Field::SourceType, kinds(value)),
        ("iprange", "--src-range") => of(Field::Source, vec![addresses(value)]),
        ("iprange", "--dst-range") => of(Field::Destination, vec![addresses(value)]),
        ("pkttype", "--pkt-type") => of(Field::PacketType, kinds(value)),
        ("rpfilter", "--invert") => Some(Meaning::PathBack),
        // Stricter or looser, it is about packets that come by another interface.
        ("rpfilter", "--loose" | "--validmark" | "--accept-local") => Some(Meaning::Nothing),
        ("u32", "--u32") => of(Field::Vni, vec![Element::is(vni_of_u32(value)?)]),
        ("bpf", "--bytecode") => of(Field::Vni, vec![Element::is(vni_of_bpf(value)?)]),
        _ => None,
    }
}

fn protocol(name: &str) -> Option<Meaning> {
    let number = match name {
        "all" | "0" => return Some(Meaning::Nothing),
        "tcp" | "6" => TCP,
        "udp" | "17" => UDP,
        _ => ANOTHER_PROTOCOL,
    };
    Some(Meaning::Match(Field::Protocol, vec![Element::is(number)]))
}
