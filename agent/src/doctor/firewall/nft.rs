//! Reads what `nft -j list ruleset` prints (libnftables-json(5)).
//!
//! The JSON does not hold a rule as people write it; that is taken from `nft -a list ruleset`, by
//! table, chain and handle. What is not understood becomes a match or a verdict that says so.

mod expression;
mod statement;
mod text;

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::expression::{elements, field, field_of_type};
use super::model::{Base, Chain, Element, Hook, Table, Tool};

/// Families whose rules see IPv4.
const FAMILIES: [&str; 3] = ["ip", "inet", "netdev"];

/// Family and name of a table, and the name of something in it.
type Key = (String, String, String);

/// Sets and maps that rules name.
#[derive(Default)]
struct Named {
    sets: HashMap<Key, Arc<[Vec<Element>]>>,
    /// Pairs of an element and a verdict.
    maps: HashMap<Key, Value>,
}

/// The answer, its objects unread: read all at once they take twenty times the room of their text.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    nftables: Vec<HashMap<String, &'a RawValue>>,
}

impl Answer<'_> {
    /// Those of a kind, read one by one.
    fn of_kind(&self, kind: &str) -> impl Iterator<Item = Value> {
        let texts = self.nftables.iter().filter_map(move |object| object.get(kind));
        texts.filter_map(|text| serde_json::from_str(text.get()).ok())
    }
}

/// The tables that see IPv4; `listing` is what `nft -a list ruleset` printed, for the rules' text.
///
/// # Errors
/// It is no JSON of nft; a sentence.
pub(super) fn parse(json: &str, listing: &str) -> Result<Vec<Table>, String> {
    let all: Answer<'_> = serde_json::from_str(json)
        .map_err(|error| format!("the answer of nft is not understood: {error}"))?;
    let mut tables: Vec<Table> = all.of_kind("table").filter_map(|object| table(&object)).collect();
    // Of what follows nft says in JSON less than in its listing, or each version something else.
    let devices = text::devices(listing);
    for chain in all.of_kind("chain") {
        if let Some(table) = of(&mut tables, &chain) {
            let name = word(&chain, "name");
            let mut base = base(&chain);
            if let (Some(base), Some(devices)) = (&mut base, devices.get(&key(&chain, name))) {
                base.devices.clone_from(devices);
            }
            table.chains.insert(name.to_owned(), Chain { base, rules: Vec::new() });
        }
    }
    // The kernel passes those by.
    let dormant = text::dormant(listing);
    tables.retain(|table| !dormant.contains(&(table.family.clone(), table.name.clone())));
    let mut named = Named::default();
    for set in all.of_kind("set") {
        named.sets.insert(key(&set, word(&set, "name")), set_elements(&set));
    }
    for mut map in all.of_kind("map") {
        named.maps.insert(key(&map, word(&map, "name")), map["elem"].take());
    }
    let texts = text::texts(listing);
    for rule in all.of_kind("rule") {
        if let Some(table) = of(&mut tables, &rule) {
            add_rule(table, &rule, &named, &texts);
        }
    }
    Ok(tables)
}

fn add_rule(table: &mut Table, rule: &Value, named: &Named, texts: &text::Texts) {
    let chain_name = word(rule, "chain");
    let handle = rule["handle"].as_u64();
    let at = (key(rule, chain_name), handle.unwrap_or_default());
    let text = texts.get(&at).cloned().unwrap_or_else(|| rule["expr"].to_string().into());
    let chain = table.chains.entry(chain_name.to_owned()).or_default();
    let number = chain.rules.last().map_or(1, |last| last.number + 1);
    for mut one in statement::rules(list(&rule["expr"]), &|name| key(rule, name), named) {
        (one.number, one.handle, one.text) = (number, handle, text.clone());
        chain.rules.push(one);
    }
}

fn table(table: &Value) -> Option<Table> {
    let (family, name) = (word(table, "family"), word(table, "name"));
    FAMILIES.contains(&family).then(|| Table {
        tool: Tool::Nft,
        family: family.to_owned(),
        name: name.to_owned(),
        chains: HashMap::new(),
    })
}

/// The table that something is of.
fn of<'t>(tables: &'t mut [Table], object: &Value) -> Option<&'t mut Table> {
    let (family, name) = (word(object, "family"), word(object, "table"));
    tables.iter_mut().find(|table| table.family == family && table.name == name)
}

fn base(chain: &Value) -> Option<Base> {
    let devices = match &chain["dev"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        name => name.as_str().map(str::to_owned).into_iter().collect(),
    };
    Some(Base {
        hook: Hook::named(word(chain, "hook"))?,
        priority: chain["prio"].as_i64().unwrap_or_default(),
        nat: word(chain, "type") == "nat",
        drops: word(chain, "policy") == "drop",
        devices,
    })
}

fn key(object: &Value, name: &str) -> Key {
    let table = word(object, "table");
    (word(object, "family").to_owned(), table.to_owned(), name.to_owned())
}

/// A set's elements, read by its type: names of types, or what it is the type of.
fn set_elements(set: &Value) -> Arc<[Vec<Element>]> {
    let fields = match &set["type"] {
        Value::Object(kind) => kind.get("typeof").map(|of| field(of).fields).unwrap_or_default(),
        Value::Array(types) => types.iter().filter_map(Value::as_str).map(field_of_type).collect(),
        one => one.as_str().map(field_of_type).into_iter().collect(),
    };
    elements(&fields, &set["elem"])
}

fn word<'v>(object: &'v Value, key: &str) -> &'v str {
    object[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
