//! The statements of a rule: matches, what they do to a packet, and the verdict.

use std::sync::Arc;

use serde_json::Value;

use super::super::model::{Effect, Element, Field, Match, Rule, Verdict};
use super::expression::{self, Left, elements, field, tuple};
use super::{Key, Named, list, word};

/// Characters of a statement that is not understood, in a message.
const QUOTE_MAX: usize = 120;

/// One rule; several where a verdict map is in it, which is the same as a rule for each of its
/// elements, as no two of them hold for one packet. Number, handle and text are left open.
pub(super) fn rules(statements: &[Value], key: &impl Fn(&str) -> Key, named: &Named) -> Vec<Rule> {
    let mut draft = Draft { rule: empty(), choices: Vec::new() };
    for statement in statements {
        match statement.as_object().and_then(|object| object.iter().next()) {
            Some((kind, value)) => draft.read(kind, value, key, named),
            None => draft.read_text(statement),
        }
    }
    if draft.choices.is_empty() {
        return vec![draft.rule];
    }
    let rule = draft.rule;
    let with = |(choice, verdict): (Match, Verdict)| {
        let mut one = rule.clone();
        one.matches.push(choice);
        Rule { verdict, ..one }
    };
    draft.choices.into_iter().map(with).collect()
}

fn empty() -> Rule {
    Rule {
        matches: Vec::new(),
        effects: Vec::new(),
        verdict: Verdict::Continue,
        number: 0,
        handle: None,
        text: Arc::from(""),
    }
}

struct Draft {
    rule: Rule,
    /// Of a verdict map.
    choices: Vec<(Match, Verdict)>,
}

impl Draft {
    fn read(&mut self, kind: &str, value: &Value, key: &impl Fn(&str) -> Key, named: &Named) {
        if let Some(verdict) = verdict(kind, value) {
            self.rule.verdict = verdict;
            return;
        }
        match kind {
            "match" => self.rule.matches.extend(matches(value, key, named)),
            "vmap" => self.choose(value, key, named),
            "notrack" => self.rule.effects.push(Effect::NoTrack),
            "mangle" => self.rule.effects.extend(mark(value)),
            "counter" | "log" | "last" | "comment" | "dup" | "ct helper" | "ct timeout"
            | "ct expectation" | "secmark" | "flow" | "map" => {}
            // An element is put into a set, which may hold only so often.
            "set" if !is_limited(value) => {}
            _ => self.rule.matches.push(Match::other(&quote(kind, value))),
        }
    }

    /// What nft has no JSON for stands there in its words: a chain without a name, and some matches.
    fn read_text(&mut self, statement: &Value) {
        let text = statement.as_str().unwrap_or_default();
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        if text.starts_with("jump") || text.starts_with("goto") {
            self.rule.verdict = Verdict::Unclear(short(&text));
        } else {
            self.rule.matches.push(Match::other(&short(&text)));
        }
    }

    fn choose(&mut self, vmap: &Value, key: &impl Fn(&str) -> Key, named: &Named) {
        let Left { fields, implied } = field(&vmap["key"]);
        self.rule.matches.extend(implied);
        let pairs = match &vmap["data"] {
            Value::String(name) => named.maps.get(&key(name.trim_start_matches('@'))).map(list),
            data => data["set"].as_array().map(Vec::as_slice),
        };
        let text: Arc<str> = quote("vmap", &vmap["key"]).into();
        let mut special: Vec<Vec<Element>> = Vec::new();
        let mut rest = None;
        for pair in pairs.unwrap_or_default() {
            let [element, verdict] = list(pair) else {
                continue;
            };
            let verdict = one_verdict(verdict);
            let value = element.get("elem").and_then(|elem| elem.get("val")).unwrap_or(element);
            if value == "*" {
                rest = Some(verdict);
            } else if let Some(tuple) = tuple(&fields, element) {
                special.push(tuple.clone());
                let elements = [tuple].into();
                let fields = fields.clone();
                let choice = Match { fields, elements, negated: false, text: text.clone() };
                self.choices.push((choice, verdict));
            }
        }
        let elements = special.into();
        if let Some(verdict) = rest {
            self.choices.push((Match { fields, elements, negated: true, text }, verdict));
        } else if self.choices.is_empty() {
            // No element: it never decides.
            self.choices
                .push((Match { fields, elements, negated: false, text }, Verdict::Continue));
        }
    }
}

fn one_verdict(value: &Value) -> Verdict {
    let known = value.as_object().and_then(|object| object.iter().next());
    let known = known.and_then(|(kind, value)| verdict(kind, value));
    known.unwrap_or_else(|| Verdict::Unclear(quote("verdict", value)))
}

fn verdict(kind: &str, value: &Value) -> Option<Verdict> {
    Some(match kind {
        // Translating the source is the end of a nat chain, and nothing more.
        "accept" | "snat" | "masquerade" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "continue" => Verdict::Continue,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(word(value, "target").to_owned()),
        "goto" => Verdict::Goto(word(value, "target").to_owned()),
        "dnat" | "redirect" | "tproxy" | "fwd" if value.to_string().contains("\"map\"") => {
            Verdict::Unclear(quote(kind, value))
        }
        "dnat" | "redirect" | "tproxy" | "fwd" => Verdict::Divert,
        "queue" => Verdict::Unclear("queue: a program decides about it".to_owned()),
        "synproxy" => Verdict::Unclear(kind.to_owned()),
        "xt" if value["type"] == "target" => {
            Verdict::Unclear(format!("-j {}", word(value, "name")))
        }
        _ => return None,
    })
}

fn matches(value: &Value, key: &impl Fn(&str) -> Key, named: &Named) -> Vec<Match> {
    let Left { fields, implied: mut all } = field(&value["left"]);
    let text = quote("match", value);
    let right = &value["right"];
    let op = word(value, "op");
    let flags = match fields.as_slice() {
        [Field::TcpFlags(mask)] if op == "in" => expression::flags(right).map(|all| all & mask),
        _ => None,
    };
    // `tcp flags syn`: any of these is set.
    if let Some(flags) = flags {
        all.push(Match::one(Field::TcpFlags(flags), [Element::is(0u64)], true, &text));
        return all;
    }
    let elements = match (fields.as_slice(), right) {
        (_, Value::String(name)) if name.starts_with('@') => {
            let set = named.sets.get(&key(name.trim_start_matches('@'))).cloned();
            set.unwrap_or_else(|| [vec![Element::Unknown; fields.len()]].into())
        }
        // A list is all of these flags together, not one of them.
        ([Field::TcpFlags(_)], Value::Array(_)) => {
            [vec![expression::flags(right).map_or(Element::Unknown, Element::is)]].into()
        }
        _ => elements(&fields, right),
    };
    let elements = match op {
        "==" | "!=" | "!" | "in" => elements,
        op => compared(op, &elements),
    };
    all.push(Match { fields, elements, negated: matches!(op, "!=" | "!"), text: text.into() });
    all
}

/// `<`, `>`, `<=`, `>=`: a range up to a number, or from it on.
fn compared(op: &str, elements: &[Vec<Element>]) -> Arc<[Vec<Element>]> {
    let element = match (op, elements) {
        ("<", [one]) => bound(one).and_then(|n| Some(Element::Range(0, n.checked_sub(1)?))),
        ("<=", [one]) => bound(one).map(|n| Element::Range(0, n)),
        (">", [one]) => bound(one).and_then(|n| Some(Element::Range(n.checked_add(1)?, u64::MAX))),
        (">=", [one]) => bound(one).map(|n| Element::Range(n, u64::MAX)),
        _ => None,
    };
    [vec![element.unwrap_or(Element::Unknown)]].into()
}

fn bound(one: &[Element]) -> Option<u64> {
    match one {
        [Element::Range(number, last)] if number == last => Some(*number),
        _ => None,
    }
}

/// `meta mark set …`; None: it changes nothing that matters here.
fn mark(value: &Value) -> Option<Effect> {
    if word(&value["key"]["meta"], "key") != "mark" {
        return None;
    }
    let number = value["value"].as_u64().and_then(|number| u32::try_from(number).ok());
    Some(number.map_or(Effect::SomeMark, |value| Effect::Mark { value, mask: u32::MAX }))
}

fn is_limited(set: &Value) -> bool {
    let text = set.to_string();
    ["\"limit\"", "\"ct count\"", "\"quota\""].iter().any(|word| text.contains(word))
}

fn quote(kind: &str, value: &Value) -> String {
    let text = if value.is_null() { kind.to_owned() } else { format!("{kind} {value}") };
    short(&text)
}

fn short(text: &str) -> String {
    text.chars().take(QUOTE_MAX).collect()
}
