//! From orders to droplets that run: each is made once, whatever breaks in between.
//!
//! An order is recorded with a tag of its own before it is sent. If the answer is lost, by the network or by
//! the end of this program, the cluster's droplets say later what came of it: one of that name was made, and
//! is taken, and its tags say by which request. If there is none after a while, nothing was made, and it is
//! sent again with another tag; where the provider itself did not answer, only by the next run. The earlier one is kept in mind: what comes of it late is known by its name.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::board::{Board, Row, Step};
use super::digitalocean::{ApiError, CreateDroplets, Droplet};
use super::host::HostKey;
use super::names::OURS;
use super::record::{Entry, Order, Request};
use super::site::{DropletError, Sight, Site, pin_first, untagged};
use super::ssh::new_host_key;

/// Waits between looks for what a lost answer may have made: it takes the provider a moment to list it.
pub(crate) const LOOKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// After those, if the provider may still be at work on it.
const LATE_LOOKS: [Duration; 3] =
    [Duration::from_secs(8), Duration::from_secs(15), Duration::from_secs(30)];
/// Orders of one droplet in one run whose answers are lost, one after the other.
const ORDERS_MAX: u32 = 2;
/// Such orders that are kept in mind, the newest.
const REQUESTS_MAX: usize = 8;
/// Between looks at droplets that boot; the first, and the longest.
const POLL: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

/// Why a droplet is not asked for again.
pub(crate) const UNLISTED: &str = "DigitalOcean counts a droplet that came of an earlier request, and does not list it yet: repeat the command in a minute";

/// What came of each name.
pub(crate) type Outcomes<T> = BTreeMap<String, Result<T, DropletError>>;

/// The rows of a board, by name.
pub(crate) type Rows = BTreeMap<String, Row>;

/// Sees to it that each of these recorded names is a droplet, running or about to, made by this order if it
/// is still to be made. `boot` makes the user data of a role, with the host key of its first boot.
pub(crate) async fn make(
    site: &Site,
    names: &[String],
    wanted: &Order,
    rows: &Rows,
    boot: impl Fn(&Entry, &HostKey) -> Result<String, DropletError>,
) -> Result<Outcomes<Droplet>, DropletError> {
    let mut outcomes = Outcomes::new();
    let mut missing = Vec::new();
    let Sight { mut droplets, untagged: without_tags, .. } = site.look().await?;
    leave_ghosts_out(site, names, &mut droplets).await?;
    for name in names {
        let outcome = match (without_tags.get(name), called(&droplets, name)) {
            (Some(one), _) => Err(DropletError::Said(untagged(one, &site.cluster, name))),
            (None, Some(outcome)) => outcome,
            (None, None) => {
                missing.push(name.clone());
                continue;
            }
        };
        if let Ok(one) = &outcome {
            taken(site, one)?;
        }
        outcomes.insert(name.clone(), outcome);
    }
    outcomes.extend(settle(site, &mut missing, rows).await?);
    site.change(|record| {
        for name in &missing {
            if let Some(entry) = record.droplets.get_mut(name) {
                entry.order = wanted.clone();
            }
        }
    })?;
    let mut broken: Option<DropletError> = None;
    for batch in batches(site, &missing) {
        let made = match &broken {
            None => order(site, &batch, rows, &boot).await,
            Some(error) => Err(error.again()),
        };
        match made {
            Ok(made) => outcomes.extend(made),
            // What was made before it is not forgotten.
            Err(error) => {
                outcomes.extend(batch.iter().map(|name| (name.clone(), Err(error.again()))));
                broken = Some(error);
            }
        }
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

/// The one that is called so; `None` if there is none.
fn called(there: &[Droplet], name: &str) -> Option<Result<Droplet, DropletError>> {
    let mut alike = there.iter().filter(|one| one.name == name);
    match (alike.next(), alike.next()) {
        (None, _) => None,
        (Some(one), None) => Some(Ok(one.clone())),
        (Some(one), Some(other)) => Some(Err(DropletError::Said(twins(one, other)))),
    }
}

/// What to do with two of one name.
pub(crate) fn twins(one: &Droplet, other: &Droplet) -> String {
    format!(
        "there are two droplets {}, {} and {}: remove one of them by its number",
        one.name, one.id, other.id
    )
}

/// A list may show for a while what is gone: of those that are not known by number it is asked again.
pub(crate) async fn leave_ghosts_out(
    site: &Site,
    names: &[String],
    there: &mut Vec<Droplet>,
) -> Result<(), DropletError> {
    let record = site.record();
    let is_known =
        |one: &Droplet| record.droplets.get(&one.name).is_some_and(|e| e.id == Some(one.id));
    let unknown = there.iter().filter(|one| names.contains(&one.name) && !is_known(one));
    let unknown: Vec<u64> = unknown.map(|one| one.id).collect();
    for id in unknown {
        if site.api.droplet(id).await?.is_none() {
            there.retain(|one| one.id != id);
        }
    }
    Ok(())
}

/// It is there: its number is recorded, and which host key it answers with.
pub(crate) fn taken(site: &Site, droplet: &Droplet) -> Result<(), DropletError> {
    let entry = site.record().droplets.get(&droplet.name).cloned();
    let Some(entry) = entry else { return Ok(()) };
    let made_it = |request: &Request| droplet.has_tag(&request.tag);
    if entry.id == Some(droplet.id) && !entry.requests.iter().any(made_it) {
        return Ok(());
    }
    let known = site.known(&droplet.name, droplet.id);
    pin_first(&known, droplet, &entry.requests)?;
    site.note(&droplet.name, |entry| {
        let same = entry.id == Some(droplet.id);
        entry.id = Some(droplet.id);
        // Of others it is not known yet that they made nothing.
        entry.requests.retain(|request| !made_it(request));
        entry.failure = None;
        entry.ready &= same;
    })?;
    Ok(())
}

/// What earlier requests made after all; the names that they made nothing of stay in `missing`. Also one that
/// was there, and of which it is said that it is not, is looked for once more.
async fn settle(
    site: &Site,
    missing: &mut Vec<String>,
    rows: &Rows,
) -> Result<Outcomes<Droplet>, DropletError> {
    let record = site.record();
    let was_there = |name: &&String| record.droplets.get(*name).is_some_and(|one| one.id.is_some());
    let mut names = asked_before(site, missing);
    names.extend(missing.iter().filter(was_there).cloned());
    names.sort_unstable();
    names.dedup();
    for name in &names {
        rows.get(name).inspect(|row| row.say("looking for what an earlier request made"));
    }
    let mut found = look_for(site, &names, &LOOKS).await?;
    for name in asked_before(site, missing) {
        if !found.contains_key(&name) && has_unlisted(site, std::slice::from_ref(&name)).await? {
            found.insert(name, Err(DropletError::Later(UNLISTED.to_owned())));
        }
    }
    missing.retain(|name| !found.contains_key(name));
    Ok(found)
}

/// Those of these names with requests of which it is not known what came.
fn asked_before(site: &Site, names: &[String]) -> Vec<String> {
    let record = site.record();
    let is_asked =
        |name: &&String| record.droplets.get(*name).is_some_and(|one| !one.requests.is_empty());
    names.iter().filter(is_asked).cloned().collect()
}

/// Droplets of these names that came of requests whose answers were lost.
pub(crate) async fn made_before(
    site: &Site,
    names: &[String],
) -> Result<Outcomes<Droplet>, DropletError> {
    look_for(site, &asked_before(site, names), &LOOKS).await
}

/// Whether the provider counts droplets of these names' requests that it does not list.
pub(crate) async fn has_unlisted(site: &Site, names: &[String]) -> Result<bool, DropletError> {
    let record = site.record();
    let entries = names.iter().filter_map(|name| record.droplets.get(name));
    let tags: BTreeSet<&String> =
        entries.flat_map(|one| one.requests.iter().map(|request| &request.tag)).collect();
    for tag in tags {
        let listed = site.api.tagged(tag).await?.len();
        let counted = site.api.tag(tag).await?.map_or(0, |found| found.resources.droplets.count);
        if counted > listed as u64 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those of these names that are there after a while.
async fn look_for(
    site: &Site,
    names: &[String],
    waits: &[Duration],
) -> Result<Outcomes<Droplet>, DropletError> {
    let mut found = Outcomes::new();
    for wait in waits {
        if found.len() == names.len() {
            break;
        }
        tokio::time::sleep(*wait).await;
        let there = site.droplets().await?;
        let named = names.iter().filter_map(|name| Some((name.clone(), called(&there, name)?)));
        found = named.collect();
    }
    for one in found.values().flatten() {
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
    let say = |text: &str| {
        names.iter().filter_map(|name| rows.get(name)).for_each(|row| row.say(text));
    };
    let mut failure = DropletError::Said("nothing was asked for".to_owned());
    for _ in 0..ORDERS_MAX {
        let asked = prepared(site, names, &entry, boot)?;
        say("asked for");
        // It is not sent again by this run; and it may still be done.
        let (is_last, is_late) = match site.api.create(&asked).await {
            Ok(made) if names.iter().all(|name| made.iter().any(|one| one.name == *name)) => {
                return came_of(site, names, &made);
            }
            Ok(_) => {
                let text = "DigitalOcean took the order, and its answer does not name it";
                failure = DropletError::Later(text.to_owned());
                (true, false)
            }
            Err(error @ ApiError::Unclear { at_work, .. }) => {
                failure = error.into();
                (at_work, at_work)
            }
            Err(error) => {
                forget(site, names, &asked)?;
                failure = error.into();
                break;
            }
        };
        say("the answer was lost: looking for what was made");
        let mut made = look_for(site, names, &LOOKS).await?;
        if made.is_empty() && has_unlisted(site, names).await? {
            failure = DropletError::Later(UNLISTED.to_owned());
            break;
        }
        if made.is_empty() && is_late {
            made = look_for(site, names, &LATE_LOOKS).await?;
        }
        if !made.is_empty() {
            let others = || {
                DropletError::Later(
                    "others of the same order were made, but not this one".to_owned(),
                )
            };
            for name in names {
                made.entry(name.clone()).or_insert_with(|| Err(others()));
            }
            return Ok(made);
        }
        if is_last {
            break;
        }
    }
    Ok(names.iter().map(|name| (name.clone(), Err(failure.again()))).collect())
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
    let (key, tag) = (new_host_key().map_err(here)?, site.cluster.request_tag().map_err(here)?);
    let user_data = boot(entry, &key)?;
    let request = Request { tag: tag.clone(), host_key: key.public };
    {
        let mut book = site.book();
        for name in names {
            if let Some(entry) = book.record.droplets.get_mut(name) {
                entry.requests.push(request.clone());
                let old = entry.requests.len().saturating_sub(REQUESTS_MAX);
                entry.requests.drain(..old);
                entry.id = None;
                entry.failure = None;
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
fn forget(site: &Site, names: &[String], asked: &CreateDroplets) -> Result<(), DropletError> {
    let sent = |tag: &String| asked.tags.contains(tag);
    let mut book = site.book();
    for name in names {
        if let Some(entry) = book.record.droplets.get_mut(name) {
            entry.requests.retain(|request| !sent(&request.tag));
        }
    }
    Ok(book.save()?)
}

fn came_of(
    site: &Site,
    names: &[String],
    made: &[Droplet],
) -> Result<Outcomes<Droplet>, DropletError> {
    let mut outcomes = Outcomes::new();
    for name in names {
        if let Some(one) = made.iter().find(|one| one.name == *name) {
            taken(site, one)?;
            outcomes.insert(name.clone(), Ok(one.clone()));
        }
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
    let mut broken = None;
    while !waiting.is_empty() {
        let there = match site.droplets().await {
            Ok(there) => there,
            Err(error) if error.is_passing() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(POLL.1).await;
                continue;
            }
            // Those that ran before it are not forgotten.
            Err(error) => {
                broken = Some(error);
                break;
            }
        };
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
    if let Some(error) = broken.map(DropletError::from) {
        for name in waiting.into_values() {
            site.note(&name, |entry| entry.failure = Some(error.to_string()))?;
            outcomes.insert(name, Err(error.again()));
        }
        return Ok(outcomes);
    }
    for (id, name) in waiting {
        let status = seen.get(&id).map_or("not in its lists", String::as_str);
        let text = format!(
            "DigitalOcean says after {} s that it is {status}: wait and repeat the command, or remove it with `{} rm {name}`",
            within.as_secs(),
            site.cluster.command(),
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
