//! Which request is answered by whom.
use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::state::State;
use super::{actions, create, droplets, firewalls, keys, places, tags};

/// Does what was asked.
pub(super) fn answer(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.authorized(&state.settings.token)?;
    let unknown = || Refusal::not_found().breaking_rules();
    let path = asked.request.path.strip_prefix("/v2/").ok_or_else(unknown)?;
    let parts: Vec<&str> = path.split('/').collect();
    let method = asked.request.method.as_str();
    match parts.as_slice() {
        ["droplets" | "actions", ..] => machines(state, asked, method, &parts),
        ["firewalls" | "tags", ..] => labels(state, asked, method, &parts),
        ["account", ..] => account(state, asked, method, &parts),
        _ => offers(state, asked, method, &parts),
    }
}

fn machines(s: &mut State, a: &Asked, method: &str, parts: &[&str]) -> Result<Answer, Refusal> {
    match (method, parts) {
        ("GET", ["droplets"]) => droplets::list(s, a),
        ("POST", ["droplets"]) => create::create(s, a),
        ("GET", ["droplets", id]) => droplets::show(s, a, id),
        ("DELETE", ["droplets", id]) => droplets::delete(s, a, id),
        ("GET", ["droplets", id, "actions"]) => actions::list(s, a, id),
        ("POST", ["droplets", id, "actions"]) => actions::start(s, a, id),
        ("GET", ["actions", id]) => actions::show(s, a, id),
        (_, ["droplets"] | ["droplets", _] | ["droplets", _, "actions"] | ["actions", _]) => {
            Err(wrong_method(method))
        }
        _ => Err(Refusal::not_found().breaking_rules()),
    }
}

fn labels(s: &mut State, a: &Asked, method: &str, parts: &[&str]) -> Result<Answer, Refusal> {
    match (method, parts) {
        ("GET", ["tags"]) => tags::list(s, a),
        ("POST", ["tags"]) => tags::create(s, a),
        ("GET", ["tags", name]) => tags::show(s, a, name),
        ("DELETE", ["tags", name]) => tags::delete(s, a, name),
        ("POST", ["tags", name, "resources"]) => tags::carry(s, a, name, true),
        ("DELETE", ["tags", name, "resources"]) => tags::carry(s, a, name, false),
        ("GET", ["firewalls"]) => firewalls::list(s, a),
        ("POST", ["firewalls"]) => firewalls::create(s, a),
        ("GET", ["firewalls", id]) => firewalls::show(s, a, id),
        ("PUT", ["firewalls", id]) => firewalls::replace(s, a, id),
        ("DELETE", ["firewalls", id]) => firewalls::delete(s, a, id),
        ("POST", ["firewalls", id, "tags"]) => firewalls::apply(s, a, id, true),
        ("DELETE", ["firewalls", id, "tags"]) => firewalls::apply(s, a, id, false),
        (_, [_] | [_, _] | ["tags", _, "resources"] | ["firewalls", _, "tags"]) => {
            Err(wrong_method(method))
        }
        _ => Err(Refusal::not_found().breaking_rules()),
    }
}

fn account(s: &mut State, a: &Asked, method: &str, parts: &[&str]) -> Result<Answer, Refusal> {
    match (method, parts) {
        ("GET", ["account"]) => places::account(s, a),
        ("GET", ["account", "keys"]) => keys::list(s, a),
        ("POST", ["account", "keys"]) => keys::create(s, a),
        ("GET", ["account", "keys", word]) => keys::show(s, a, word),
        ("DELETE", ["account", "keys", word]) => keys::delete(s, a, word),
        (_, ["account"] | ["account", "keys"] | ["account", "keys", _]) => {
            Err(wrong_method(method))
        }
        _ => Err(Refusal::not_found().breaking_rules()),
    }
}

fn offers(s: &mut State, a: &Asked, method: &str, parts: &[&str]) -> Result<Answer, Refusal> {
    match (method, parts) {
        ("GET", ["vpcs"]) => places::vpcs(s, a),
        ("GET", ["vpcs", id]) => places::vpc(s, a, id),
        ("GET", ["regions"]) => places::regions(s, a),
        ("GET", ["sizes"]) => places::sizes(s, a),
        ("GET", ["images"]) => places::images(s, a),
        ("GET", ["images", word]) => places::image(a, word),
        (_, ["vpcs" | "regions" | "sizes" | "images"] | ["vpcs" | "images", _]) => {
            Err(wrong_method(method))
        }
        _ => Err(Refusal::not_found().breaking_rules()),
    }
}

/// The method is not one of this server's, though the API may have it.
fn wrong_method(method: &str) -> Refusal {
    Refusal::new(405, format!("method {method} is not known here")).breaking_rules()
}
