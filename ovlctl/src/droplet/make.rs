//! From orders to droplets that run: each is made once, whatever breaks in between.
//!
//! An order is recorded with a tag of its own before it is sent. If the answer is lost, by the network or by the
//! end of this program, the tag says later what came of it: what has it was made, and is taken; if nothing
//! has it after a while, nothing was made, and it is sent again with another tag.
use std::collections::BTreeMap;
use std::time::Duration;

use super::board::{Board, Row, Step};
use super::digitalocean::{ApiError, CreateDroplets, Droplet};
use super::host::HostKey;
use super::names::OURS;
use super::record::{Entry, Request};
use super::site::{DropletError, Site, pin_first};
use super::ssh::new_host_key;

/// Waits between looks for what a lost answer may have made: it takes the provider a moment to list it.
const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Orders of one droplet whose answers are lost, one after the other.
const ORDERS_MAX: u32 = 2;
/// Between looks at droplets that boot; the first, and the longest.
const POLL: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

/// What came of each name.
pub(crate) type Outcomes<T> = BTreeMap<String, Result<T, DropletError>>;

/// The rows of a board, by name.
pub(crate) type Rows = BTreeMap<String, Row>;

/// Sees to it that each of these recorded names is a droplet, running or about to. `boot` makes the user data
/// of a role, with the host key of its first boot.
pub(crate) async fn make(
    site: &Site,
    names: &[String],
    rows: &Rows,
    boot: impl Fn(&Entry, &HostKey) -> Result<String, DropletError>,
) -> Result<Outcomes<Droplet>, DropletError> {
    let mut outcomes = Outcomes::new();
    let mut missing = Vec::new();
    let there = site.droplets().await?;
    for name in names {
        let mut alike = there.iter().filter(|one| one.name == *name);
        match (alike.next(), alike.next()) {
            (Some(one), None) => {
                taken(site, one)?;
                outcomes.insert(name.clone(), Ok(one.clone()));
            }
            (Some(one), Some(other)) => {
                let text = format!(
                    "there are two droplets {name}, {} and {}: remove one of them by its number",
                    one.id, other.id
                );
                outcomes.insert(name.clone(), Err(DropletError::Said(text)));
            }
            (None, _) => match recorded(site, name).await? {
                Some(one) => drop(outcomes.insert(name.clone(), Ok(one))),
                None => missing.push(name.clone()),
            },
        }
    }
    for name in settle(site, &mut missing, rows).await? {
        outcomes.insert(name.name.clone(), Ok(name));
    }
    for batch in batches(site, &missing) {
        outcomes.extend(order(site, &batch, rows, &boot).await?);
    }
    for (name, outcome) in &outcomes {
        match outcome {
            Ok(_) => rows.get(name).inspect(|row| row.done(Step::Asked)),
            Err(error) => {
                site.note(name, |entry| entry.failure = Some(error.to_string()))?;
                None
            }
        };
    }
    Ok(outcomes)
}

/// One that was made, and that lists do not show yet.
async fn recorded(site: &Site, name: &str) -> Result<Option<Droplet>, DropletError> {
    let id = site.record().droplets.get(name).and_then(|entry| entry.id);
    let Some(id) = id else { return Ok(None) };
    let found = site.api.droplet(id).await?;
    let is_ours = |one: &Droplet| one.has_tag(OURS) && one.has_tag(&site.cluster.tag());
    Ok(found.filter(|one| one.name == name && is_ours(one)))
}

/// It is there: its number is recorded, and which host key it answers with.
pub(crate) fn taken(site: &Site, droplet: &Droplet) -> Result<(), DropletError> {
    let entry = site.record().droplets.get(&droplet.name).cloned();
    let Some(entry) = entry else { return Ok(()) };
    if entry.id == Some(droplet.id) && entry.request.is_none() {
        return Ok(());
    }
    let known = site.known(&droplet.name, droplet.id);
    pin_first(&known, droplet, entry.request.as_ref())?;
    site.note(&droplet.name, |entry| {
        let same = entry.id == Some(droplet.id);
        entry.id = Some(droplet.id);
        entry.request = None;
        entry.failure = None;
        entry.ready &= same;
    })?;
    Ok(())
}

/// What earlier requests made after all; the names that they made nothing of stay in `missing`.
async fn settle(
    site: &Site,
    missing: &mut Vec<String>,
    rows: &Rows,
) -> Result<Vec<Droplet>, DropletError> {
    let record = site.record();
    let asked_before =
        |name: &&String| record.droplets.get(*name).is_some_and(|entry| entry.request.is_some());
    for name in missing.iter().filter(asked_before) {
        rows.get(name).inspect(|row| row.say("looking for what an earlier request made"));
    }
    let found = made_before(site, missing).await?;
    missing.retain(|name| !found.iter().any(|one| one.name == *name));
    Ok(found)
}

/// Droplets of these names that came of requests whose answers were lost.
pub(crate) async fn made_before(
    site: &Site,
    names: &[String],
) -> Result<Vec<Droplet>, DropletError> {
    let record = site.record();
    let mut by_tag: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        let request = record.droplets.get(name).and_then(|entry| entry.request.as_ref());
        if let Some(request) = request {
            by_tag.entry(request.tag.clone()).or_default().push(name.clone());
        }
    }
    let mut found = Vec::new();
    for (tag, names) in by_tag {
        found.extend(look_for(site, &tag, &names).await?);
    }
    Ok(found)
}

/// Droplets with the tag of a request whose answer was lost.
async fn look_for(site: &Site, tag: &str, names: &[String]) -> Result<Vec<Droplet>, DropletError> {
    let mut found = Vec::new();
    for wait in LOOKS {
        tokio::time::sleep(wait).await;
        found = site.api.tagged(tag).await?;
        found.retain(|one| one.has_tag(tag) && names.contains(&one.name));
        if found.len() == names.len() {
            break;
        }
    }
    for one in &found {
        taken(site, one)?;
    }
    Ok(found)
}

/// Alike ones go into one request.
fn batches(site: &Site, names: &[String]) -> Vec<Vec<String>> {
    let record = site.record();
    let mut batches: Vec<(Entry, Vec<String>)> = Vec::new();
    for name in names {
        let Some(entry) = record.droplets.get(name) else { continue };
        let fits = |(other, batch): &&mut (Entry, Vec<String>)| {
            other.task == entry.task
                && other.order == entry.order
                && batch.len() < CreateDroplets::MOST
        };
        match batches.iter_mut().find(fits) {
            Some((_, batch)) => batch.push(name.clone()),
            None => batches.push((entry.clone(), vec![name.clone()])),
        }
    }
    batches.into_iter().map(|(_, batch)| batch).collect()
}

async fn order(
    site: &Site,
    names: &[String],
    rows: &Rows,
    boot: &impl Fn(&Entry, &HostKey) -> Result<String, DropletError>,
) -> Result<Outcomes<Droplet>, DropletError> {
    let Some(entry) = names.first().and_then(|name| site.record().droplets.get(name).cloned())
    else {
        return Ok(Outcomes::new());
    };
    let mut last: Option<ApiError> = None;
    for _ in 0..ORDERS_MAX {
        let asked = prepared(site, names, &entry, boot)?;
        names.iter().filter_map(|name| rows.get(name)).for_each(|row| row.say("asked for"));
        let tag = asked.tags.last().cloned().unwrap_or_default();
        match site.api.create(&asked).await {
            Ok(made) => return came_of(site, names, made),
            Err(error @ ApiError::Unclear { .. }) => {
                names.iter().filter_map(|name| rows.get(name)).for_each(|row| {
                    row.say("the answer was lost: looking for what was made");
                });
                let made = look_for(site, &tag, names).await?;
                if !made.is_empty() {
                    return came_of(site, names, made);
                }
                last = Some(error);
            }
            Err(error) => {
                forget(site, names)?;
                last = Some(error);
                break;
            }
        }
    }
    let failure = |error: &ApiError| match error.is_passing() {
        true => DropletError::Later(error.to_string()),
        false => DropletError::Said(error.to_string()),
    };
    let named = names.iter().filter_map(|name| Some((name.clone(), Err(failure(last.as_ref()?)))));
    Ok(named.collect())
}

/// The request, after it has been recorded.
fn prepared(
    site: &Site,
    names: &[String],
    entry: &Entry,
    boot: &impl Fn(&Entry, &HostKey) -> Result<String, DropletError>,
) -> Result<CreateDroplets, DropletError> {
    let here = |error: std::io::Error| {
        DropletError::Said(format!("cannot make a host key for the first boot: {error}"))
    };
    let (key, tag) = (new_host_key().map_err(here)?, super::names::request_tag().map_err(here)?);
    let user_data = boot(entry, &key)?;
    let request = Request { tag: tag.clone(), host_key: key.public };
    {
        let mut book = site.book();
        for name in names {
            if let Some(entry) = book.record.droplets.get_mut(name) {
                entry.request = Some(request.clone());
                entry.id = None;
            }
        }
        book.save()?;
    }
    let order = &entry.order;
    let mut tags = vec![OURS.to_owned(), site.cluster.tag()];
    tags.extend(order.tags.iter().cloned());
    tags.push(tag);
    Ok(CreateDroplets {
        names: names.to_vec(),
        region: order.region.clone(),
        size: order.size.clone(),
        image: order.image.as_str().into(),
        ssh_keys: order.ssh_keys.clone(),
        tags,
        user_data,
        vpc_uuid: order.vpc.clone(),
    })
}

/// Nothing came of it, for sure.
fn forget(site: &Site, names: &[String]) -> Result<(), DropletError> {
    let mut book = site.book();
    for name in names {
        if let Some(entry) = book.record.droplets.get_mut(name) {
            entry.request = None;
        }
    }
    Ok(book.save()?)
}

fn came_of(
    site: &Site,
    names: &[String],
    made: Vec<Droplet>,
) -> Result<Outcomes<Droplet>, DropletError> {
    let mut outcomes = Outcomes::new();
    for name in names {
        let outcome = match made.iter().find(|one| one.name == *name) {
            Some(one) => {
                taken(site, one)?;
                Ok(one.clone())
            }
            None => Err(DropletError::Said(
                "DigitalOcean made others of the same request, but not this one".to_owned(),
            )),
        };
        outcomes.insert(name.clone(), outcome);
    }
    Ok(outcomes)
}

/// Waits until they run and have addresses, each at most `within`.
pub(crate) async fn active(
    site: &Site,
    made: Outcomes<Droplet>,
    rows: &Rows,
    within: Duration,
) -> Result<Outcomes<Droplet>, DropletError> {
    let mut outcomes = Outcomes::new();
    let mut waiting: BTreeMap<u64, String> = BTreeMap::new();
    for (name, outcome) in made {
        match outcome {
            Ok(one) => {
                rows.get(&name).inspect(|row| row.say("booting"));
                waiting.insert(one.id, name);
            }
            Err(error) => drop(outcomes.insert(name, Err(error))),
        }
    }
    let deadline = tokio::time::Instant::now() + within;
    let mut pause = POLL.0;
    let mut seen = BTreeMap::new();
    while !waiting.is_empty() {
        let mut there = site.droplets().await?;
        for id in waiting
            .keys()
            .filter(|id| there.iter().all(|one| one.id != **id))
            .copied()
            .collect::<Vec<_>>()
        {
            there.extend(site.api.droplet(id).await?);
        }
        for one in there {
            if one.is_active() && one.public().is_some() && one.private().is_some() {
                if let Some(name) = waiting.remove(&one.id) {
                    rows.get(&name).inspect(|row| row.done(Step::Active));
                    outcomes.insert(name, Ok(one));
                }
            } else {
                seen.insert(one.id, one.status);
            }
        }
        if waiting.is_empty() || tokio::time::Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(POLL.1);
    }
    for (id, name) in waiting {
        let status = seen.get(&id).map_or("not in its lists", String::as_str);
        let text = format!(
            "DigitalOcean says after {} s that it is {status}: wait and repeat the command, or remove it with `ovlctl droplet rm {name}`",
            within.as_secs()
        );
        site.note(&name, |entry| entry.failure = Some(text.clone()))?;
        outcomes.insert(name, Err(DropletError::Later(text)));
    }
    Ok(outcomes)
}

/// A row for each.
pub(crate) fn rows<'a>(board: &Board, names: impl Iterator<Item = &'a String>) -> Rows {
    names.map(|name| (name.clone(), board.row(name))).collect()
}
