//! `droplet rm` and `droplet cluster down`: what is ours goes, and nothing else.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;

use super::args::{Account, Remove};
use super::create::KVSTORE;
use super::outcome::partly;
use crate::commands::confirm::confirm;
use crate::droplet::digitalocean::{ApiError, Droplet};
use crate::droplet::names::{OURS, is_request_tag};
use crate::droplet::provision::reach;
use crate::droplet::record::Task;
use crate::droplet::site::{DropletError, Found, Site, untagged};
use crate::droplet::{fence, keys, make};
use crate::error::Error;
use crate::output::Output;

/// For a host to leave its cluster; one that cannot is removed all the same.
const LEAVE_WITHIN: Duration = Duration::from_secs(45);
const REACH_WITHIN: Duration = Duration::from_secs(15);
/// For the provider to forget a droplet.
const GONE_WITHIN: Duration = Duration::from_secs(120);
const POLL: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

const ALONE: &str =
    "this asks before it removes anything, and there is no terminal to ask on: repeat with --yes";

/// What was removed, and what could not be.
#[derive(Default)]
struct Removed {
    done: Vec<String>,
    failed: Vec<Failed>,
}

struct Failed {
    sentence: String,
    /// It may go better later.
    passing: bool,
}

impl Removed {
    fn fail(&mut self, name: Option<&str>, error: &DropletError) {
        let sentence = match name {
            Some(name) => format!("{name}: {error}"),
            None => error.to_string(),
        };
        self.failed.push(Failed { sentence, passing: error.is_passing() });
    }
}

/// What there is of a cluster, at the provider and in the record.
struct Present {
    droplets: Vec<Droplet>,
    /// Recorded, and not there.
    only_here: Vec<String>,
    /// Recorded, and there without our tags, by their names here.
    untagged: BTreeMap<String, Droplet>,
}

pub(super) async fn run(account: &Account, asked: Remove, output: &Output) -> Result<(), Error> {
    let site = account.site()?;
    let present = present(&site).await?;
    let there = &present.droplets;
    let mut droplets: Vec<Droplet> = Vec::new();
    let mut records: BTreeSet<String> = BTreeSet::new();
    for name in &asked.names {
        let mut alike: Vec<&Droplet> = there.iter().filter(|one| one.name == *name).collect();
        if alike.is_empty() {
            alike = there.iter().filter(|one| one.id.to_string() == *name).collect();
        }
        let is_recorded = present.only_here.contains(name) || present.untagged.contains_key(name);
        match alike.as_slice() {
            [one] => droplets.push((*one).clone()),
            [] if is_recorded => {
                records.insert(name.clone());
            }
            [] => return Err(Error::NotFound(unknown(&site, name))),
            _ => {
                let numbers: Vec<String> = alike.iter().map(|one| one.id.to_string()).collect();
                let text = format!(
                    "there are {} droplets {name}: give the number of one, {}",
                    numbers.len(),
                    numbers.join(" or ")
                );
                return Err(Error::NotFound(text));
            }
        }
    }
    // Named twice, by name and number, it is one.
    droplets.sort_by_key(|one| one.id);
    droplets.dedup_by_key(|one| one.id);
    let is_last = droplets.len() == there.len()
        && records.len() == present.only_here.len() + present.untagged.len();
    if !asked.yes {
        let mut question = question(&droplets, &records);
        if is_last {
            question += " Nothing else is in the cluster, so its cloud firewall and tags go too, and an SSH key that was added for it.";
        }
        confirm(question, ALONE).await?;
    }
    let mut removed = Removed::default();
    leave(&site, there, &droplets, output).await;
    erase(&site, &droplets, &mut removed, output).await?;
    for name in records {
        forget(&site, &name, present.untagged.get(&name), &mut removed).await?;
    }
    if is_last && removed.failed.is_empty() {
        the_rest(&site, &mut removed).await;
    }
    told(&removed, output)
}

pub(super) async fn all(site: &Site, yes: bool, output: &Output) -> Result<(), Error> {
    let present = present(site).await?;
    let firewall = fence::find(&site.api, &site.cluster).await.map_err(DropletError::from)?;
    if !yes {
        let mut question = question(&present.droplets, &BTreeSet::new());
        if let Some(firewall) = &firewall {
            question = format!("{question} So does the cloud firewall {}.", firewall.name);
        }
        confirm(question, ALONE).await?;
    }
    let mut removed = Removed::default();
    erase(site, &present.droplets, &mut removed, output).await?;
    for name in &present.only_here {
        forget(site, name, None, &mut removed).await?;
    }
    for (name, droplet) in &present.untagged {
        let text = untagged(droplet, &site.cluster, name);
        removed.fail(Some(name), &DropletError::Said(text));
    }
    if removed.failed.is_empty() {
        the_rest(site, &mut removed).await;
    }
    told(&removed, output)
}

/// Those of requests whose answers were lost have the cluster's tag as well, as soon as the provider lists
/// them.
async fn present(site: &Site) -> Result<Present, DropletError> {
    let there = site.droplets().await?;
    let record = site.record();
    let is_there = |name: &String| there.iter().any(|one| one.name == *name);
    let missing: Vec<String> = record.droplets.into_keys().filter(|name| !is_there(name)).collect();
    make::made_before(site, &missing).await?;
    let mut droplets = site.droplets().await?;
    let (mut only_here, mut without) = (Vec::new(), BTreeMap::new());
    for (name, found) in site.unlisted(&droplets).await? {
        match found {
            Found::Ours(one) => droplets.push(one),
            Found::Untagged(one) => drop(without.insert(name, one)),
            Found::Gone => only_here.push(name),
        }
    }
    Ok(Present { droplets, only_here, untagged: without })
}

fn unknown(site: &Site, name: &str) -> String {
    format!(
        "no droplet {name} with the tag of cluster {}: one without it is not touched",
        site.cluster
    )
}

fn question(droplets: &[Droplet], records: &BTreeSet<String>) -> String {
    let mut words: Vec<String> = droplets
        .iter()
        .map(|one| match one.public() {
            Some(address) => format!("{} ({address})", one.name),
            None => one.name.clone(),
        })
        .collect();
    words.extend(records.iter().map(|name| format!("the record of {name}")));
    let mut text = match words.is_empty() {
        true => "No droplets are left.".to_owned(),
        false => format!("This removes {} for good, with all that is on them.", words.join(", ")),
    };
    if droplets.iter().any(|one| one.name == KVSTORE) {
        text += " The registry of networks and addresses goes with kvstore.";
    }
    text
}

/// Hosts give their addresses back, where the store stays.
async fn leave(site: &Site, there: &[Droplet], going: &[Droplet], output: &Output) {
    let store_goes = going.iter().any(|one| one.name == KVSTORE);
    if store_goes || going.len() == there.len() {
        return;
    }
    let record = site.record();
    let is_set_up = |name: &str| record.droplets.get(name).is_none_or(|entry| entry.ready);
    let hosts = going.iter().filter(|one| {
        let task = record.droplets.get(&one.name).map(|entry| &entry.task);
        let alike = going.iter().filter(|other| other.name == one.name).count();
        one.is_active()
            && alike == 1
            && matches!(task, None | Some(Task::Node { store: Some(_), .. }))
    });
    // Those alone, so that of two with one name the right one is reached.
    if site.write_config(going).is_err() {
        return;
    }
    let each = hosts.map(|one| async {
        let left = tokio::time::timeout(LEAVE_WITHIN, left(site, one)).await;
        let why = match left {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not within {} s", LEAVE_WITHIN.as_secs()),
        };
        // One that never became a host has no addresses.
        if !is_set_up(&one.name) {
            return;
        }
        output.remark(&format!(
            "{}: it did not leave the cluster first, so its addresses stay taken: {why}",
            one.name
        ));
    });
    join_all(each).await;
}

async fn left(site: &Site, droplet: &Droplet) -> Result<(), DropletError> {
    let Some(target) = site.target(droplet) else { return Ok(()) };
    let shell = reach(site, droplet, &target, REACH_WITHIN).await?;
    let script = "command -v ovlctl >/dev/null || exit 0\novlctl leave --force";
    shell.output("leaving the cluster", script).await?;
    shell.close().await;
    Ok(())
}

async fn erase(
    site: &Site,
    droplets: &[Droplet],
    removed: &mut Removed,
    output: &Output,
) -> Result<(), DropletError> {
    let each = droplets.iter().map(|one| async move { (one, gone(site, one).await) });
    for (droplet, outcome) in join_all(each).await {
        match outcome {
            Ok(()) => {
                let entry = site.record().droplets.remove(&droplet.name);
                let entry = entry.filter(|entry| entry.id.is_none_or(|id| id == droplet.id));
                let recorded = entry.iter().flat_map(|entry| &entry.tags);
                let tags = droplet.tags.iter().filter(|tag| is_request_tag(tag)).chain(recorded);
                remove_tags(site, &tags.cloned().collect())
                    .await
                    .unwrap_or_else(|error| output.remark(&error.to_string()));
                site.known(&droplet.name, droplet.id).forget()?;
                if entry.is_some() {
                    site.forget(&droplet.name)?;
                }
                removed.done.push(format!("droplet {} ({})", droplet.name, droplet.id));
            }
            Err(error) => removed.fail(Some(&droplet.name), &error),
        }
    }
    match site.droplets().await {
        Ok(there) => drop(site.write_config(&there)?),
        // Written anew by the next command that needs it.
        Err(error) => output.remark(&error.to_string()),
    }
    Ok(())
}

/// Of the record, what is not there, or not ours any more.
async fn forget(
    site: &Site,
    name: &str,
    untagged: Option<&Droplet>,
    removed: &mut Removed,
) -> Result<(), DropletError> {
    let tags = site.record().droplets.remove(name).map(|entry| entry.tags).unwrap_or_default();
    if let Err(error) = remove_tags(site, &tags).await {
        removed.fail(Some(name), &error.into());
        return Ok(());
    }
    site.forget(name)?;
    removed.done.push(match untagged {
        None => format!("the record of {name}, which is not there"),
        Some(one) => format!(
            "the record of {name}; droplet {} has lost the cluster's tags, is there still, and costs",
            one.id
        ),
    });
    Ok(())
}

/// Looked at once more, so that nothing that lost our tag meanwhile is touched; then removed, and gone.
async fn gone(site: &Site, droplet: &Droplet) -> Result<(), DropletError> {
    let Some(now) = site.api.droplet(droplet.id).await? else { return Ok(()) };
    if !now.has_tag(&site.cluster.tag()) || !now.has_tag(OURS) {
        return Err(DropletError::Said(format!(
            "it has lost the tag {}, and is not touched",
            site.cluster.tag()
        )));
    }
    let begun = tokio::time::Instant::now();
    let mut pause = POLL.0;
    loop {
        let asked = site.api.remove(droplet.id).await;
        match asked {
            // One that is just being made, or restarted, is refused for a while.
            Err(error @ ApiError::Unprocessable { .. }) if begun.elapsed() > GONE_WITHIN => {
                return Err(error.into());
            }
            Err(ApiError::Unprocessable { .. }) => {}
            asked => asked?,
        }
        if site.api.droplet(droplet.id).await?.is_none() {
            return Ok(());
        }
        if begun.elapsed() > GONE_WITHIN {
            return Err(DropletError::Said(format!(
                "DigitalOcean still has it after {} s",
                GONE_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(POLL.1);
    }
}

/// Those that nothing has.
async fn remove_tags(site: &Site, tags: &BTreeSet<String>) -> Result<(), ApiError> {
    for tag in tags {
        remove_unused(site, tag).await?;
    }
    Ok(())
}

async fn remove_unused(site: &Site, tag: &str) -> Result<bool, ApiError> {
    match site.api.tag(tag).await? {
        Some(found) if found.resources.count == 0 => site.api.remove_tag(tag).await.map(|()| true),
        _ => Ok(false),
    }
}

/// As [`rest`]; what was removed before is told in any case.
async fn the_rest(site: &Site, removed: &mut Removed) {
    if let Err(error) = rest(site, removed).await {
        removed.fail(None, &error);
    }
}

/// What a cluster has beside its droplets.
async fn rest(site: &Site, removed: &mut Removed) -> Result<(), DropletError> {
    if let Some(firewall) = fence::find(&site.api, &site.cluster).await? {
        site.api.remove_firewall(&firewall.id).await?;
        removed.done.push(format!("cloud firewall {}", firewall.name));
    }
    let tags: BTreeSet<String> = [site.cluster.tag(), OURS.to_owned()].into();
    for tag in tags {
        if remove_unused(site, &tag).await? {
            removed.done.push(format!("tag {tag}"));
        }
    }
    if !site.record().adding_keys.is_empty() {
        keys::owned(site).await?;
    }
    for key in site.record().added_keys {
        site.api.remove_key(key).await?;
        removed.done.push(format!("SSH key {key} of the account, which was added for the cluster"));
    }
    Ok(site.book().clear()?)
}

/// Says it, and how it went.
fn told(removed: &Removed, output: &Output) -> Result<(), Error> {
    output.show(&removed.done, |done| match done.is_empty() {
        true => "nothing was there to be removed\n".to_owned(),
        false => done.iter().map(|one| format!("removed {one}\n")).collect(),
    })?;
    for failure in &removed.failed {
        output.complain(&failure.sentence);
    }
    partly(removed.done.len(), removed.failed.iter().map(|failed| failed.passing))
}
