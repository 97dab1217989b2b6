//! Firewalls, and the tags and droplets that they are applied to.
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::clock;
use super::paging::Page;
use super::rules::{self, Way};
use super::state::State;

/// How many rules a firewall may have, both ways together.
const MOST_RULES: usize = 50;
/// How many droplets may be named by a firewall.
const MOST_DROPLETS: usize = 10;
/// How many tags a firewall may be applied to.
const MOST_TAGS: usize = 5;

/// A firewall.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// Its UUID.
    pub id: String,
    /// Its name; no other has it.
    pub name: String,
    /// Its rules for packets to the droplets, as the API shows them.
    pub inbound_rules: Vec<Value>,
    /// Its rules for packets from the droplets, as the API shows them.
    pub outbound_rules: Vec<Value>,
    /// The numbers of the droplets that it was applied to.
    pub droplet_ids: Vec<u64>,
    /// The tags that it was applied to.
    pub tags: Vec<String>,
    created: i64,
    /// Whether it is not in force yet.
    waiting: bool,
}

impl Firewall {
    /// One that is in force, and lets nothing through.
    pub(super) fn new(id: String, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            inbound_rules: Vec::new(),
            outbound_rules: Vec::new(),
            droplet_ids: Vec::new(),
            tags: Vec::new(),
            created: clock::now(),
            waiting: false,
        }
    }

    fn shown(&self, state: &State) -> Value {
        let covered = |tags: &[String]| self.tags.iter().any(|tag| tags.contains(tag));
        let behind = state.living().filter(|d| {
            self.waiting && (self.droplet_ids.contains(&d.order.id) || covered(&d.tags))
        });
        let change = |id: u64| json!({ "droplet_id": id, "removing": false, "status": "waiting" });
        let pending: Vec<Value> = behind.map(|d| change(d.order.id)).collect();
        json!({
            "id": self.id, "name": self.name, "created_at": clock::written(self.created),
            "status": if self.waiting { "waiting" } else { "succeeded" },
            "inbound_rules": self.inbound_rules, "outbound_rules": self.outbound_rules,
            "droplet_ids": self.droplet_ids, "tags": self.tags, "pending_changes": pending,
        })
    }
}

/// `GET /v2/firewalls`.
pub(super) fn list(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page"])?;
    let ids: Vec<String> = state.firewalls.iter().map(|firewall| firewall.id.clone()).collect();
    let page = Page::of(state, asked, ids.len())?;
    let shown = page.cut(&ids).iter().filter_map(|id| look(state, id)).collect();
    Ok(page.answer("firewalls", shown))
}

/// `GET /v2/firewalls/{id}`.
pub(super) fn show(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let shown = look(state, id).ok_or_else(Refusal::not_found)?;
    Ok(Answer::ok(json!({ "firewall": shown })))
}

/// `POST /v2/firewalls`.
pub(super) fn create(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    let firewall = sent(state, asked, "")?;
    let id = state.uuid();
    let firewall = Firewall { id, created: clock::now(), ..firewall };
    let shown = firewall.shown(state);
    state.firewalls.push(firewall);
    Ok(Answer::new(202, json!({ "firewall": shown })))
}

/// `PUT /v2/firewalls/{id}`: what is not sent goes back to its default.
pub(super) fn replace(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    let created = find(state, id)?.created;
    let firewall = Firewall { id: id.to_owned(), created, ..sent(state, asked, id)? };
    let shown = firewall.shown(state);
    *find(state, id)? = firewall;
    Ok(Answer::ok(json!({ "firewall": shown })))
}

/// `DELETE /v2/firewalls/{id}`.
pub(super) fn delete(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    find(state, id)?;
    state.firewalls.retain(|firewall| firewall.id != id);
    Ok(Answer::done())
}

/// `POST` and `DELETE /v2/firewalls/{id}/tags`.
pub(super) fn apply(
    state: &mut State,
    asked: &Asked,
    id: &str,
    on: bool,
) -> Result<Answer, Refusal> {
    let mut fields = asked.fields()?;
    let tags = fields.texts("tags")?.filter(|tags| !tags.is_empty());
    fields.end()?;
    let tags = tags.ok_or_else(|| Refusal::broken("body: tags is required"))?;
    rules::known_tags(state, &tags)?;
    let firewall = find(state, id)?;
    let mut all = firewall.tags.clone();
    all.retain(|tag| !tags.contains(tag));
    if on {
        all.extend(tags);
    }
    few(all.len(), MOST_TAGS, "tags")?;
    firewall.tags = all;
    firewall.waiting = true;
    Ok(Answer::done())
}

fn find<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Firewall, Refusal> {
    let mut all = state.firewalls.iter_mut();
    all.find(|firewall| firewall.id == id).ok_or_else(Refusal::not_found)
}

/// Shows a firewall, which is in force from the second look on.
fn look(state: &mut State, id: &str) -> Option<Value> {
    let shown = state.firewalls.iter().find(|firewall| firewall.id == id)?.shown(state);
    find(state, id).ok()?.waiting = false;
    Some(shown)
}

/// The firewall that a request describes; `own` is its number if it is there already.
fn sent(state: &State, asked: &Asked, own: &str) -> Result<Firewall, Refusal> {
    let mut fields = asked.fields()?;
    let name = fields.need_text("name")?;
    let mut rules_of = |way: Way| {
        let sent = fields.list_or_null(way.field())?.unwrap_or_default();
        sent.into_iter().map(|rule| rules::checked(state, way, rule)).collect::<Result<Vec<_>, _>>()
    };
    let (inbound_rules, outbound_rules) = (rules_of(Way::Inbound)?, rules_of(Way::Outbound)?);
    let droplet_ids = fields.numbers("droplet_ids")?.unwrap_or_default();
    let tags = fields.texts("tags")?.unwrap_or_default();
    fields.end()?;
    if !is_name(&name) {
        return Err(Refusal::broken(format!("name {name:?} is not valid")));
    }
    if inbound_rules.is_empty() && outbound_rules.is_empty() {
        return Err(Refusal::broken("must have at least one rule"));
    }
    few(inbound_rules.len() + outbound_rules.len(), MOST_RULES, "rules")?;
    few(droplet_ids.len(), MOST_DROPLETS, "droplets")?;
    few(tags.len(), MOST_TAGS, "tags")?;
    rules::known_droplets(state, &droplet_ids)?;
    rules::known_tags(state, &tags)?;
    if state.firewalls.iter().any(|other| other.name == name && other.id != own) {
        return Err(Refusal::new(409, "duplicate name"));
    }
    let (id, created, waiting) = (String::new(), 0, true);
    Ok(Firewall { id, name, inbound_rules, outbound_rules, droplet_ids, tags, created, waiting })
}

fn few(count: usize, most: usize, what: &str) -> Result<(), Refusal> {
    match count <= most {
        true => Ok(()),
        false => Err(Refusal::broken(format!("{count} {what}: a firewall has {most} at most"))),
    }
}

/// The documented pattern: two characters or more, a letter or digit first.
fn is_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    name.len() > 1
        && name.bytes().all(inside)
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}
