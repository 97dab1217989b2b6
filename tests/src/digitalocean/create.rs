//! `POST /v2/droplets`: an order, checked as DigitalOcean checks it.
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::catalogue::{self, REGIONS, Region};
use super::droplet::Droplet;
use super::fields::Fields;
use super::fleet::Order;
use super::state::{State, Vpc};
use super::tags;

/// How many droplets one request may order.
const MOST_NAMES: usize = 10;
/// How large user data may be.
const MOST_USER_DATA: usize = 64 * 1024;
/// How long a name may be.
const LONGEST_NAME: usize = 255;

/// `POST /v2/droplets`.
pub(super) fn create(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    let mut fields = asked.fields()?;
    let several = fields.has("names");
    let names = names(&mut fields, several)?;
    let order = order(state, &mut fields)?;
    fields.end()?;
    if state.living().count() + names.len() > state.settings.droplet_limit {
        let message = "creating this/these droplet(s) will exceed your droplet limit";
        return Err(Refusal::unprocessable(message));
    }
    let (mut droplets, mut actions) = (Vec::new(), Vec::new());
    for name in names {
        let id = state.place(Order { name, ..order.clone() });
        let action = state.start(id, "create");
        actions.push(json!({
            "id": action, "rel": "create", "href": format!("{}/v2/actions/{action}", state.url),
        }));
        droplets.extend(state.droplets.get(&id).map(Droplet::shown));
    }
    let links = json!({ "actions": actions });
    let body = match (several, droplets.pop()) {
        (false, Some(only)) => json!({ "droplet": only, "links": links }),
        (true, last) => {
            droplets.extend(last);
            json!({ "droplets": droplets, "links": links })
        }
        (false, None) => return Err(Refusal::broken("name is required")),
    };
    Ok(Answer::new(202, body))
}

impl State {
    /// Puts a droplet of this order there, under a number of its own.
    pub(super) fn place(&mut self, mut order: Order) -> u64 {
        let id = self.number();
        order.id = id;
        self.make_tags(&order.tags);
        self.fleet.create(&order);
        self.droplets.insert(id, Droplet::new(order, self.settings.late_lists));
        id
    }

    /// The VPC of a region that is taken if none is named.
    pub(super) fn default_vpc(&self, region: &str) -> Option<&Vpc> {
        self.vpcs.iter().find(|vpc| vpc.region == region && vpc.default)
    }
}

fn names(fields: &mut Fields, several: bool) -> Result<Vec<String>, Refusal> {
    if several && fields.has("name") {
        return Err(Refusal::broken("name and names are both given"));
    }
    let names = match several {
        true => fields.texts("names")?.unwrap_or_default(),
        false => vec![fields.need_text("name")?],
    };
    if names.is_empty() || names.len() > MOST_NAMES {
        return Err(Refusal::broken(format!("names has {} entries, not 1 to 10", names.len())));
    }
    match names.iter().find(|name| !is_hostname(name)) {
        Some(_) => {
            let message = "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)";
            Err(Refusal::broken(message))
        }
        None => Ok(names),
    }
}

/// The documented pattern: letters, digits, dots and dashes, with a letter or digit at the end.
fn is_hostname(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    name.len() <= LONGEST_NAME
        && name.bytes().all(inside)
        && name.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// The order that all the names share; its own name and number are still missing.
fn order(state: &State, fields: &mut Fields) -> Result<Order, Refusal> {
    if fields.has("private_networking") {
        return Err(Refusal::broken("private_networking is deprecated: vpc_uuid takes its place"));
    }
    let region = region(fields.text("region")?)?;
    let size = size(&fields.need_text("size")?, region)?;
    let image = image(fields.any("image"), region, size.disk)?;
    let vpc = vpc(state, fields.text("vpc_uuid")?, region)?;
    let ipv6 = fields.flag("ipv6")?.unwrap_or(false);
    let public = fields.flag("public_networking")?.unwrap_or(true);
    if ipv6 && !public {
        return Err(Refusal::broken("without public_networking there is no ipv6"));
    }
    Ok(Order {
        id: 0,
        name: String::new(),
        region: region.slug.to_owned(),
        size: size.slug.to_owned(),
        image,
        tags: tags::checked(fields.texts("tags")?.unwrap_or_default())?,
        user_data: user_data(fields)?,
        ssh_keys: keys(state, fields)?,
        vpc_uuid: vpc.id.clone(),
        vpc_range: vpc.range,
        ipv6,
        backups: fields.flag("backups")?.unwrap_or(false),
        monitoring: fields.flag("monitoring")?.unwrap_or(false),
        with_droplet_agent: fields.flag("with_droplet_agent")?,
    })
}

/// A slug, the beginning of one, or any region at all.
fn region(slug: Option<String>) -> Result<&'static Region, Refusal> {
    let slug = slug.unwrap_or_default();
    let exact = catalogue::region(&slug);
    let of_prefix = || REGIONS.iter().find(|r| r.available && r.slug.starts_with(&slug));
    match exact.or_else(of_prefix) {
        Some(region) if region.available => Ok(region),
        Some(_) => Err(Refusal::unprocessable("Region is not available")),
        None => {
            let message = "You specified an invalid region for Droplet creation.";
            Err(Refusal::unprocessable(message))
        }
    }
}

fn size(slug: &str, region: &Region) -> Result<&'static catalogue::Size, Refusal> {
    let invalid = || Refusal::unprocessable("You specified an invalid size for Droplet creation.");
    let size = catalogue::sized(slug).ok_or_else(invalid)?;
    if size.available && size.regions.contains(&region.slug) {
        Ok(size)
    } else {
        Err(Refusal::unprocessable("Size is not available in this region."))
    }
}

fn image(given: Option<Value>, region: &Region, disk: u32) -> Result<String, Refusal> {
    let word = match given {
        Some(Value::String(slug)) => slug,
        Some(Value::Number(id)) if id.is_u64() => id.to_string(),
        Some(_) => return Err(Refusal::broken("body: image is neither a string nor an integer")),
        None => return Err(Refusal::broken("body: image is required")),
    };
    let Some(image) = catalogue::imaged(&word) else {
        let message = "You specified an invalid image for Droplet creation.";
        return Err(Refusal::unprocessable(message));
    };
    if !image.regions.contains(&region.slug) {
        return Err(Refusal::unprocessable(
            "The image you specified is not available in the selected region, you can transfer \
             it to this region from the images pages.",
        ));
    }
    if image.min_disk > disk {
        let message = "The image you specified requires a larger disk than this size has.";
        return Err(Refusal::unprocessable(message));
    }
    Ok(image.slug.map_or(word, str::to_owned))
}

fn vpc<'a>(state: &'a State, id: Option<String>, region: &Region) -> Result<&'a Vpc, Refusal> {
    let Some(id) = id else {
        let none = || Refusal::unprocessable("There is no default VPC in this region.");
        return state.default_vpc(region.slug).ok_or_else(none);
    };
    let found = state.vpcs.iter().find(|vpc| vpc.id == id);
    found.filter(|vpc| vpc.region == region.slug).ok_or_else(|| {
        Refusal::unprocessable("You specified an invalid VPC for the region of this Droplet.")
    })
}

fn user_data(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    let user_data = fields.text("user_data")?;
    match user_data.as_ref().map(|data| (data.len(), data.contains('\0'))) {
        Some((size, _)) if size > MOST_USER_DATA => {
            Err(Refusal::broken(format!("user_data has {size} bytes: 64 KiB are the most")))
        }
        Some((_, true)) => Err(Refusal::broken("user_data is not plain text")),
        Some(_) | None => Ok(user_data),
    }
}

/// The public keys of the numbers and fingerprints that were given.
fn keys(state: &State, fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for given in fields.list("ssh_keys")?.unwrap_or_default() {
        let word = match &given {
            Value::String(word) => word.clone(),
            Value::Number(id) if id.is_u64() => id.to_string(),
            _ => return Err(Refusal::broken("body: ssh_keys has other than ids and fingerprints")),
        };
        match state.key(&word) {
            Some(key) => found.push(key.public_key.clone()),
            None => unknown.push(word),
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let unknown = unknown.join(", ");
    let message = format!("{unknown} are invalid key identifiers for Droplet creation.");
    Err(Refusal::unprocessable(message))
}
