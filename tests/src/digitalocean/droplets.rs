//! Droplets: listed, shown and deleted.
use serde_json::json;

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::droplet::{Droplet, Status};
use super::paging::Page;
use super::state::State;

/// `GET /v2/droplets`.
pub(super) fn list(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page", "tag_name", "name", "type"])?;
    let (tag, name) = (asked.parameter("tag_name"), asked.parameter("name"));
    let kind = asked.parameter("type");
    if tag.is_some() && (name.is_some() || kind.is_some()) {
        let message = "tag_name cannot be combined with name or type";
        return Err(Refusal::new(400, message).breaking_rules());
    }
    if kind.is_some_and(|kind| !["droplets", "gpus"].contains(&kind)) {
        return Err(Refusal::new(400, "type is neither droplets nor gpus").breaking_rules());
    }
    let fits = |d: &Droplet| {
        tag.is_none_or(|tag| d.tags.iter().any(|t| t == tag))
            && name.is_none_or(|name| d.order.name.eq_ignore_ascii_case(name))
            && kind != Some("gpus")
    };
    let shown = state.droplets.values().filter(|d| d.in_lists() && fits(d));
    let ids: Vec<u64> = shown.map(|d| d.order.id).collect();
    state.droplets.values_mut().filter(|d| fits(d)).for_each(Droplet::pass_list);
    let page = Page::of(state, asked, ids.len())?;
    let shown = page.cut(&ids).iter().filter_map(|id| state.listed(*id)).collect();
    Ok(page.answer("droplets", shown))
}

/// `GET /v2/droplets/{id}`.
pub(super) fn show(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let id = find(state, id)?.order.id;
    state.read(id);
    let droplet = state.droplets.get(&id).ok_or_else(Refusal::not_found)?;
    Ok(Answer::ok(json!({ "droplet": droplet.shown() })))
}

/// `DELETE /v2/droplets/{id}`.
pub(super) fn delete(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let droplet = find(state, id)?;
    if state.settings.busy_while_new && droplet.status == Status::New {
        return Err(Refusal::unprocessable("Droplet already has a pending event."));
    }
    let (id, lingers) = (droplet.order.id, state.settings.linger_lists);
    if let Some(droplet) = state.droplets.get_mut(&id) {
        droplet.delete(lingers);
    }
    for firewall in &mut state.firewalls {
        firewall.droplet_ids.retain(|other| *other != id);
    }
    state.fleet.delete(id);
    Ok(Answer::done())
}

/// The droplet of a number in a path, if it was not deleted.
pub(super) fn find<'a>(state: &'a State, id: &str) -> Result<&'a Droplet, Refusal> {
    let number: u64 = id.parse().map_err(|_| Refusal::not_found().breaking_rules())?;
    state.droplets.get(&number).filter(|d| !d.deleted).ok_or_else(Refusal::not_found)
}
