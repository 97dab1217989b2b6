//! What can only be read: the account, VPCs, regions, sizes and images.
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::catalogue::{self, IMAGES, Image, REGIONS, Region, SIZES, Size};
use super::paging;
use super::state::{State, Vpc};

/// `GET /v2/account`.
pub(super) fn account(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    Ok(Answer::ok(json!({ "account": {
        "droplet_limit": state.settings.droplet_limit, "floating_ip_limit": 3,
        "email": "keeper@apiary.example", "name": "Keeper",
        "uuid": "b6fc48dbf6d9156cace5f3c78dc9851d957381ef", "email_verified": true,
        "status": "active", "status_message": "",
        "team": { "uuid": state.settings.team, "name": "Apiary" },
    }})))
}

/// `GET /v2/vpcs`.
pub(super) fn vpcs(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page"])?;
    let all: Vec<Value> = state.vpcs.iter().map(Vpc::shown).collect();
    paging::listed(state, asked, "vpcs", &all)
}

/// `GET /v2/vpcs/{id}`.
pub(super) fn vpc(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let vpc = state.vpcs.iter().find(|vpc| vpc.id == id).ok_or_else(Refusal::not_found)?;
    Ok(Answer::ok(json!({ "vpc": vpc.shown() })))
}

/// `GET /v2/regions`.
pub(super) fn regions(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page"])?;
    let all: Vec<Value> = REGIONS.iter().map(Region::shown).collect();
    paging::listed(state, asked, "regions", &all)
}

/// `GET /v2/sizes`.
pub(super) fn sizes(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page"])?;
    let all: Vec<Value> = SIZES.iter().map(Size::shown).collect();
    paging::listed(state, asked, "sizes", &all)
}

/// `GET /v2/images`.
pub(super) fn images(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page", "type", "private", "tag_name"])?;
    let fits: fn(&Image) -> bool = match asked.parameter("type") {
        None => |_| true,
        Some("distribution") => |image| !image.application && image.slug.is_some(),
        Some("application") => |image| image.application,
        Some(_) => {
            let message = "type is neither distribution nor application";
            return Err(Refusal::new(400, message).breaking_rules());
        }
    };
    let private = match asked.parameter("private") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::new(400, "private is not a boolean").breaking_rules()),
    };
    // No image here has a tag.
    let untagged = asked.parameter("tag_name").is_none();
    let all = IMAGES.iter().filter(|i| untagged && fits(i) && (!private || i.slug.is_none()));
    let all: Vec<Value> = all.map(Image::shown).collect();
    paging::listed(state, asked, "images", &all)
}

/// `GET /v2/images/{slug or id}`.
pub(super) fn image(asked: &Asked, word: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let image = catalogue::imaged(word).ok_or_else(Refusal::not_found)?;
    Ok(Answer::ok(json!({ "image": image.shown() })))
}
