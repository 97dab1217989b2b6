//! `droplet rm` and `droplet cluster down`: what is ours goes, and nothing else.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};

use super::args::{Account, Remove};
use super::create::{AT_ONCE, KVSTORE};
use super::outcome::partly;
use crate::commands::confirm::confirm;
use crate::droplet::digitalocean::{ApiError, Droplet};
use crate::droplet::names::OURS;
use crate::droplet::provision::reach;
use crate::droplet::record::Entry;
use crate::droplet::site::{DropletError, Sight, Site, untagged};
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

pub(super) async fn run(account: &Account, asked: Remove, output: &Output) -> Result<(), Error> {
    let site = account.site().await?;
    let present = present(&site).await?;
    let there = &present.droplets;
    let mut droplets: Vec<Droplet> = Vec::new();
    let mut records: BTreeSet<String> = BTreeSet::new();
    let mut unknown: Vec<&String> = Vec::new();
    for name in &asked.names {
        let mut alike: Vec<&Droplet> = there.iter().filter(|one| one.name == *name).collect();
        if alike.is_empty() {
            alike = there.iter().filter(|one| one.id.to_string() == *name).collect();
        }
        let is_recorded = present.gone.contains(name) || present.untagged.contains_key(name);
        match alike.as_slice() {
            [one] => droplets.push((*one).clone()),
            [] if is_recorded => {
                records.insert(name.clone());
            }
            [] => unknown.push(name),
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
    let mut removed = Removed::default();
    for name in &unknown {
        removed.fail(None, &DropletError::Said(not_there(&site, name)));
    }
    if droplets.is_empty() && records.is_empty() {
        return told(&removed, output);
    }
    // Named twice, by name and number, it is one.
    droplets.sort_by_key(|one| one.id);
    droplets.dedup_by_key(|one| one.id);
    let is_kvstores = site.record().store.is_none();
    let is_last = droplets.len() == there.len()
        && records.len() == present.gone.len() + present.untagged.len();
    if !asked.yes {
        let mut question = question(&droplets, &records, &present.untagged, is_kvstores);
        if is_last {
            question += " Nothing else is in the cluster, so its cloud firewall and tags go too, and an SSH key that was added for it.";
        }
        confirm(question, ALONE).await?;
    }
    leave(&site, there, &droplets, output).await;
    erase(&site, &present, &droplets, &mut removed, output).await;
    for name in records {
        forget(&site, &name, present.untagged.get(&name), &mut removed).await;
    }
    // A name that is not there keeps nothing here.
    let is_all = is_last && removed.failed.len() == unknown.len();
    end(&site, is_all, &mut removed).await;
    told(&removed, output)
}

pub(super) async fn all(site: &Site, yes: bool, output: &Output) -> Result<(), Error> {
    let present = present(site).await?;
    let firewall = fence::find(&site.api, &site.cluster).await.map_err(DropletError::from)?;
    if !yes {
        let is_kvstores = site.record().store.is_none();
        let mut question =
            question(&present.droplets, &BTreeSet::new(), &BTreeMap::new(), is_kvstores);
        if let Some(firewall) = &firewall {
            question = format!("{question} So does the cloud firewall {}.", firewall.name);
        }
        confirm(question, ALONE).await?;
    }
    let mut removed = Removed::default();
    leave(site, &present.droplets, &present.droplets, output).await;
    erase(site, &present, &present.droplets, &mut removed, output).await;
    for name in &present.gone {
        forget(site, name, None, &mut removed).await;
    }
    for (name, droplet) in &present.untagged {
        let text = untagged(droplet, &site.cluster, name);
        removed.fail(Some(name), &DropletError::Said(text));
    }
    let is_all = removed.failed.is_empty();
    end(site, is_all, &mut removed).await;
    told(&removed, output)
}

/// Those of requests whose answers were lost have the cluster's tag as well, as soon as the provider lists
/// them.
async fn present(site: &Site) -> Result<Sight, DropletError> {
    let gone: Vec<String> = site.look().await?.gone.into_iter().collect();
    make::made_before(site, &gone).await?;
    Ok(site.look().await?)
}

fn not_there(site: &Site, name: &str) -> String {
    format!(
        "no droplet {name} with the tag of cluster {}: one without it is not touched",
        site.cluster
    )
}

fn question(
    droplets: &[Droplet],
    records: &BTreeSet<String>,
    untagged: &BTreeMap<String, Droplet>,
    is_kvstores: bool,
) -> String {
    let words: Vec<String> = droplets
        .iter()
        .map(|one| match one.public() {
            Some(address) => format!("{} ({address})", one.name),
            None => one.name.clone(),
        })
        .collect();
    let mut text = match words.is_empty() {
        true => "No droplets are removed.".to_owned(),
        false => format!("This removes {} for good, with all that is on them.", words.join(", ")),
    };
    for name in records {
        text += &match untagged.get(name) {
            None => format!(" It forgets {name}, which is not there."),
            Some(one) => format!(" It forgets {name}; droplet {} stays, and costs.", one.id),
        };
    }
    if droplets.iter().any(|one| one.name == KVSTORE) && is_kvstores {
        text += " The registry of networks and addresses goes with kvstore.";
    }
    text
}

/// Hosts give their addresses back, where the store stays.
async fn leave(site: &Site, there: &[Droplet], going: &[Droplet], output: &Output) {
    let record = site.record();
    let kvstore_goes = going.iter().any(|one| one.name == KVSTORE) || going.len() == there.len();
    // One that somebody else set up has that of kvstore, as far as is known.
    let store_stays = |entry: Option<&Entry>| {
        let is_kvstores = entry.is_none_or(|entry| entry.task.has_cluster_store());
        !(kvstore_goes && is_kvstores && record.store.is_none())
    };
    let is_set_up = |name: &str| record.droplets.get(name).is_none_or(|entry| entry.ready);
    let hosts = going.iter().filter(|one| {
        let entry = record.droplets.get(&one.name);
        let alike = going.iter().filter(|other| other.name == one.name).count();
        one.is_active()
            && alike == 1
            && entry.is_none_or(|entry| entry.task.has_agent())
            && store_stays(entry)
    });
    let hosts: Vec<&Droplet> = hosts.collect();
    if hosts.is_empty() || site.write_config(there).is_err() {
        return;
    }
    let each = hosts.into_iter().map(|one| async {
        let left = tokio::time::timeout(LEAVE_WITHIN, left(site, one, output)).await;
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
    stream::iter(each).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn left(site: &Site, droplet: &Droplet, output: &Output) -> Result<(), DropletError> {
    let Some(target) = site.target(droplet) else { return Ok(()) };
    let told = |text: &str| output.remark(&format!("{}: {text}", droplet.name));
    let shell = reach(site, droplet, &target, REACH_WITHIN, told).await?;
    let script = "command -v ovlctl >/dev/null || exit 0\novlctl leave --force";
    shell.output("leaving the cluster", script).await?;
    shell.close().await;
    Ok(())
}

/// Removes those that are `going` of those that are present.
async fn erase(
    site: &Site,
    present: &Sight,
    going: &[Droplet],
    removed: &mut Removed,
    output: &Output,
) {
    let stays = |name: &str| {
        let mut alike = present.droplets.iter().filter(|one| one.name == name);
        alike.find(|one| going.iter().all(|other| other.id != one.id))
    };
    // Each is forgotten as soon as it is gone: this program may be ended in the middle.
    let each = going.iter().map(|droplet| async move {
        let cleared = match gone(site, droplet).await {
            Ok(()) if present.untagged.contains_key(&droplet.name) => forget_keys(site, droplet),
            Ok(()) => forget_one(site, droplet, stays(&droplet.name)),
            Err(error) => Err(error),
        };
        (droplet, cleared)
    });
    let outcomes: Vec<_> = stream::iter(each).buffered(AT_ONCE).collect().await;
    for (droplet, cleared) in outcomes {
        match cleared {
            Ok(()) => removed.done.push(format!("droplet {} ({})", droplet.name, droplet.id)),
            Err(error) => removed.fail(Some(&droplet.name), &error),
        }
    }
    let written = async { Ok::<_, DropletError>(site.write_config(&site.droplets().await?)?) };
    if let Err(error) = written.await {
        // Written anew by the next command that needs it.
        output.remark(&error.to_string());
    }
}

/// Its own host keys. The record of its name is of another one, that has lost our tags: nothing else names that.
fn forget_keys(site: &Site, droplet: &Droplet) -> Result<(), DropletError> {
    Ok(site.known(&droplet.name, droplet.id).forget()?)
}

/// What is left of one that is gone: its record and host keys; all but its own keys stay if another one of its
/// name does.
fn forget_one(site: &Site, droplet: &Droplet, other: Option<&Droplet>) -> Result<(), DropletError> {
    forget_keys(site, droplet)?;
    match other {
        Some(other) => make::taken(site, other)?,
        None => site.forget(&droplet.name)?,
    }
    Ok(())
}

/// Of the record, what is not there, or not ours any more.
async fn forget(site: &Site, name: &str, untagged: Option<&Droplet>, removed: &mut Removed) {
    let forgotten = async {
        if make::has_unlisted(site, &[name.to_owned()]).await? {
            return Err(DropletError::Later(make::UNLISTED.to_owned()));
        }
        Ok(site.forget(name)?)
    };
    match (forgotten.await, untagged) {
        (Err(error), _) => removed.fail(Some(name), &error),
        (Ok(()), None) => {
            removed.done.push(format!("the record of {name}, which is not there"));
        }
        (Ok(()), Some(one)) => removed.done.push(format!(
            "the record of {name}; droplet {} has lost the cluster's tags, is there still, and costs",
            one.id
        )),
    }
}

/// Looked at before each request, so that nothing that lost our tag meanwhile is touched; then removed, and
/// gone.
async fn gone(site: &Site, droplet: &Droplet) -> Result<(), DropletError> {
    let begun = tokio::time::Instant::now();
    let mut pause = POLL.0;
    let mut asked = false;
    loop {
        match site.api.droplet(droplet.id).await? {
            Some(now) if !now.has_tag(&site.cluster.tag()) || !now.has_tag(OURS) => {
                return Err(DropletError::Said(untagged(&now, &site.cluster, &droplet.name)));
            }
            // A list showed it just now: it is not taken for gone before it was told to go.
            None if asked => return Ok(()),
            Some(_) | None => {}
        }
        asked = true;
        let still = match site.api.remove(droplet.id).await {
            // One that is just being made, or restarted, is refused for a while.
            Err(error @ ApiError::Unprocessable { .. }) => error.to_string(),
            Err(error) => return Err(error.into()),
            Ok(()) => format!("DigitalOcean still has it after {} s", GONE_WITHIN.as_secs()),
        };
        if begun.elapsed() > GONE_WITHIN {
            return Err(DropletError::Later(still));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(POLL.1);
    }
}

/// Removes the tags of requests that have come to their end and that nothing has. The provider may count for
/// a moment what is gone: then another removal sees to it.
async fn sweep(site: &Site) -> Result<(), ApiError> {
    let record = site.record();
    let is_pending = |tag: &str| {
        record.droplets.values().any(|one| one.requests.iter().any(|request| request.tag == tag))
    };
    for tag in site.api.tags().await? {
        let is_over = site.cluster.is_request_tag(&tag.name) && !is_pending(&tag.name);
        if is_over && tag.resources.count == 0 {
            site.api.remove_tag(&tag.name).await?;
        }
    }
    Ok(())
}

async fn remove_unused(site: &Site, tag: &str) -> Result<bool, ApiError> {
    match site.api.tag(tag).await? {
        Some(found) if found.resources.count == 0 => site.api.remove_tag(tag).await.map(|()| true),
        _ => Ok(false),
    }
}

/// What is left besides droplets, of the cluster too if this was all of it. What was removed before is told in
/// any case.
async fn end(site: &Site, is_all: bool, removed: &mut Removed) {
    let ended = match is_all {
        true => rest(site, removed).await,
        false => sweep(site).await.map_err(DropletError::from),
    };
    if let Err(error) = ended {
        removed.fail(None, &error);
    }
}

/// What a cluster has beside its droplets, once the provider counts none of them any more.
async fn rest(site: &Site, removed: &mut Removed) -> Result<(), DropletError> {
    let tag = site.cluster.tag();
    let mut counted = 0;
    for wait in make::LOOKS {
        tokio::time::sleep(wait).await;
        counted = site.api.tag(&tag).await?.map_or(0, |found| found.resources.droplets.count);
        if counted == 0 {
            break;
        }
    }
    if counted > 0 {
        return Err(left_over(site, counted).await?);
    }
    match fence::find(&site.api, &site.cluster).await? {
        Some(firewall) if fence::is_alone(&firewall, &site.cluster) => {
            site.api.remove_firewall(&firewall.id).await?;
            removed.done.push(format!("cloud firewall {}", firewall.name));
        }
        Some(firewall) => {
            return Err(DropletError::Said(format!(
                "the cloud firewall {} is in front of other droplets, too, and stays: take those out of it, or its tag {tag} away, and then {} cluster down",
                firewall.name,
                site.cluster.command()
            )));
        }
        None => {}
    }
    sweep(site).await?;
    for tag in [site.cluster.tag(), OURS.to_owned()] {
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

/// Droplets with the cluster's tag that are none of its own, or that no list shows.
async fn left_over(site: &Site, counted: u64) -> Result<DropletError, DropletError> {
    let tag = site.cluster.tag();
    let listed = site.api.tagged(&tag).await?;
    let strange: Vec<String> =
        listed.iter().filter(|one| !one.has_tag(OURS)).map(|one| one.id.to_string()).collect();
    Ok(match strange.is_empty() {
        true => DropletError::Later(format!(
            "DigitalOcean counts {counted} more with the tag {tag}, and does not list them: the cloud firewall stays; `{} cluster down` in a minute",
            site.cluster.command()
        )),
        false => DropletError::Said(format!(
            "droplets with the tag {tag} that lack the tag {OURS} are not touched, and the cloud firewall stays: {}; give the one back, or take the other away",
            strange.join(", ")
        )),
    })
}

/// Says it, and how it went.
fn told(removed: &Removed, output: &Output) -> Result<(), Error> {
    output.show(&removed.done, |done| match done.is_empty() && removed.failed.is_empty() {
        true => "nothing was there to be removed\n".to_owned(),
        false => done.iter().map(|one| format!("removed {one}\n")).collect(),
    })?;
    for failure in &removed.failed {
        output.complain(&failure.sentence);
    }
    partly(removed.done.len(), removed.failed.iter().map(|failed| failed.passing))
}
