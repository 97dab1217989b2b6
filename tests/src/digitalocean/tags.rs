//! Tags, and what carries them.
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::droplet::Droplet;
use super::fields::Fields;
use super::paging;
use super::state::State;

/// How long a tag may be.
const LONGEST: usize = 255;

/// `GET /v2/tags`.
pub(super) fn list(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page"])?;
    let all: Vec<Value> = state.tags.iter().map(|tag| shown(state, tag)).collect();
    paging::listed(state, asked, "tags", &all)
}

/// `POST /v2/tags`; a tag that is there already is shown as if it were new.
pub(super) fn create(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    let mut fields = asked.fields()?;
    let name = fields.need_text("name")?;
    fields.end()?;
    let tags = checked(vec![name.clone()])?;
    state.make_tags(&tags);
    Ok(Answer::new(201, json!({ "tag": shown(state, &name) })))
}

/// `GET /v2/tags/{name}`.
pub(super) fn show(state: &mut State, asked: &Asked, name: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    exists(state, name)?;
    Ok(Answer::ok(json!({ "tag": shown(state, name) })))
}

/// `DELETE /v2/tags/{name}`: it goes from whatever carries it.
pub(super) fn delete(state: &mut State, asked: &Asked, name: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    exists(state, name)?;
    state.tags.retain(|tag| tag != name);
    for droplet in state.droplets.values_mut() {
        droplet.tags.retain(|tag| tag != name);
    }
    for firewall in &mut state.firewalls {
        firewall.tags.retain(|tag| tag != name);
    }
    Ok(Answer::done())
}

/// `POST` and `DELETE /v2/tags/{name}/resources`.
pub(super) fn carry(
    state: &mut State,
    asked: &Asked,
    name: &str,
    on: bool,
) -> Result<Answer, Refusal> {
    let mut fields = asked.fields()?;
    let resources = fields.list("resources")?.unwrap_or_default();
    fields.end()?;
    if resources.is_empty() {
        return Err(Refusal::broken("resources is required"));
    }
    let ids = resources.into_iter().map(resource).collect::<Result<Vec<u64>, Refusal>>()?;
    exists(state, name)?;
    if ids.iter().any(|id| !state.living().any(|droplet| droplet.order.id == *id)) {
        return Err(Refusal::not_found());
    }
    for id in ids {
        let Some(droplet) = state.droplets.get_mut(&id) else { continue };
        droplet.tags.retain(|tag| tag != name);
        if on {
            droplet.tags.push(name.to_owned());
        }
    }
    Ok(Answer::done())
}

/// The number of a droplet out of an entry of `resources`.
fn resource(entry: Value) -> Result<u64, Refusal> {
    let mut fields = Fields::of(entry, "resources[]")?;
    let (id, kind) = (fields.need_text("resource_id")?, fields.need_text("resource_type")?);
    fields.end()?;
    match (kind.as_str(), id.parse()) {
        ("droplet", Ok(id)) => Ok(id),
        ("droplet", Err(_)) => Err(Refusal::not_found()),
        _ => Err(Refusal::broken(format!("resource_type {kind:?} is not one of this server's"))),
    }
}

/// Tags of the documented form.
pub(super) fn checked(tags: Vec<String>) -> Result<Vec<String>, Refusal> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte);
    let good = |tag: &str| (1..=LONGEST).contains(&tag.len()) && tag.bytes().all(inside);
    let Some(bad) = tags.iter().find(|tag| !good(tag)) else { return Ok(tags) };
    let message = format!("Error validating resource tag: {bad:?} contains invalid characters");
    let cause = format!("rpc error: code = InvalidArgument desc = {message}");
    let body = json!({ "error": message, "messages": null, "root_causes": [cause] });
    Err(Refusal::new(400, message).breaking_rules().with_body(body))
}

/// A tag has to exist before it is named.
pub(super) fn exists(state: &State, name: &str) -> Result<(), Refusal> {
    match state.tags.iter().any(|tag| tag == name) {
        true => Ok(()),
        false => Err(Refusal::not_found()),
    }
}

fn shown(state: &State, name: &str) -> Value {
    let of_it = |droplet: &&Droplet| droplet.tags.iter().any(|tag| tag == name);
    let ids: Vec<u64> = state.living().filter(of_it).map(|droplet| droplet.order.id).collect();
    let mut counted = json!({ "count": ids.len() });
    if let Some(last) = ids.last() {
        counted["last_tagged_uri"] = format!("{}/v2/droplets/{last}", state.url).into();
    }
    let mut resources = counted.clone();
    resources["droplets"] = counted;
    for none in ["images", "volumes", "volume_snapshots", "databases"] {
        resources[none] = json!({ "count": 0 });
    }
    json!({ "name": name, "resources": resources })
}
