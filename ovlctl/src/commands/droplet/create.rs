//! `droplet create`, and what `cluster up` shares with it: make, wait, provision, check.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use serde_json::Value;
use tokio::sync::watch;

use super::args::{Account, Create, OrderArgs};
use super::order;
use super::outcome::{Outcome, report};
use crate::droplet::board::{Board, Row, Step};
use crate::droplet::digitalocean::Droplet;
use crate::droplet::fence;
use crate::droplet::host::HostKey;
use crate::droplet::make::{self, Outcomes, Rows};
use crate::droplet::names::numbered;
use crate::droplet::provision::{self, Done};
use crate::droplet::record::{Entry, Order, Package, Record, Task};
use crate::droplet::site::{DropletError, Site, natural};
use crate::error::Error;
use crate::output::Output;

/// The droplet with the registry.
pub(super) const KVSTORE: &str = "kvstore";
/// Droplets that are worked on at once: each is an ssh client with its pipes.
pub(super) const AT_ONCE: usize = 64;
/// Hosts that others join by.
const JOIN_BY: usize = 3;
/// For the last check: agents find each other meanwhile.
const CHECK_WITHIN: Duration = Duration::from_secs(120);
const CHECK_STEP: Duration = Duration::from_secs(3);

pub(super) async fn run(account: &Account, asked: Create, output: &Output) -> Result<(), Error> {
    if asked.count > 1 && !asked.name.contains("{n}") {
        return Err(Error::Usage(format!(
            "{} droplets cannot all be called {}: put {{n}} into --name",
            asked.count, asked.name
        )));
    }
    if asked.dry_run {
        return Ok(dry(account, &asked, output)?);
    }
    let site = account.site().await?;
    let outcomes = created(&site, &asked, output).await?;
    let command = account.cluster.command();
    let next = match outcomes.first() {
        Some(_) if asked.order.no_provision => format!("next: {command} provision\n"),
        Some(one) => format!("next: {command} ssh {}\n", one.name),
        None => String::new(),
    };
    report(&outcomes, &next, output)
}

async fn created(
    site: &Site,
    asked: &Create,
    output: &Output,
) -> Result<Vec<Outcome>, DropletError> {
    let there = site.droplets().await?;
    let mut record = site.record();
    let has_kvstore = made(&there, KVSTORE) || record.droplets.contains_key(KVSTORE);
    let before = record.store.clone();
    remember(&mut record, asked, has_kvstore)?;
    if let Some(url) = record.store.as_ref().filter(|url| Some(*url) != before.as_ref()) {
        output.remark(&format!("the registry of cluster {} is {url}", site.cluster));
    }
    let Names { begun, all: names } = named(&record, asked, |name| made(&there, name));
    if !begun.is_empty() {
        output.remark(&format!("going on with {}, begun before", begun.join(", ")));
    }
    let mut tasks = BTreeMap::new();
    for name in &names {
        let task = task(&record, asked, name, joined_by(&there))?;
        has_store(site, &record, &task, &there)?;
        tasks.insert(name.clone(), task);
    }
    let more = names.iter().filter(|name| !made(&there, name)).count();
    let order = order::checked(site, &asked.order, &there, more).await?;
    let Record { package, store, .. } = record;
    site.change(|record| {
        let creating = record.creating.entry(asked.name.clone()).or_default();
        if begun.is_empty() {
            creating.clear();
        }
        creating.extend(names);
        (record.package, record.store) = (package, store);
    })?;
    let outcomes = work(site, tasks, &there, &order, &asked.order, output).await?;
    if outcomes.iter().all(|one| one.failure.is_none()) {
        site.change(|record| over(record, &asked.name, &outcomes))?;
    }
    Ok(outcomes)
}

/// What `create` is to make.
struct Names {
    /// By a run before this one.
    begun: Vec<String>,
    /// With those that are new.
    all: Vec<String>,
}

fn named(record: &Record, asked: &Create, is_made: impl Fn(&str) -> bool) -> Names {
    let begun = unfinished(record, &asked.name, asked.count.into(), &is_made);
    let known = |name: &str| is_made(name) || record.droplets.contains_key(name);
    let fresh = numbered(&asked.name, usize::from(asked.count) - begun.len(), known);
    let mut all = begun.clone();
    all.extend(fresh.into_iter().filter(|name| !begun.contains(name)));
    Names { begun, all }
}

/// Those of this pattern that a run before this one did not bring to an end, what is not well before the rest.
fn unfinished(
    record: &Record,
    pattern: &str,
    most: usize,
    is_made: impl Fn(&str) -> bool,
) -> Vec<String> {
    let is_well = |name: &str| {
        let entry = record.droplets.get(name);
        is_made(name) && entry.is_some_and(|entry| entry.ready && entry.failure.is_none())
    };
    let begun = record.creating.get(pattern);
    // The others of them were removed, or made well by another command.
    let begun = begun.filter(|names| !names.iter().all(|name| is_well(name)));
    let lost = record.droplets.keys().filter(|name| fits(pattern, name) && !is_made(name));
    let names: BTreeSet<&String> = begun.into_iter().flatten().chain(lost).collect();
    let mut names: Vec<(bool, &String)> =
        names.into_iter().map(|name| (is_well(name), name)).collect();
    names.sort_by(|a, b| (a.0, natural(a.1)).cmp(&(b.0, natural(b.1))));
    names.into_iter().take(most).map(|(_, name)| name.clone()).collect()
}

/// These are well, and with them what was begun, unless others of it are not.
fn over(record: &mut Record, pattern: &str, well: &[Outcome]) {
    let Some(names) = record.creating.get_mut(pattern) else { return };
    names.retain(|name| well.iter().all(|one| one.name != *name));
    let is_ready = |name: &String| record.droplets.get(name).is_some_and(|entry| entry.ready);
    if names.iter().all(is_ready) {
        record.creating.remove(pattern);
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once("{n}") {
        None => pattern == name,
        Some((before, after)) => {
            let middle = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            middle.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        }
    }
}

fn made(there: &[Droplet], name: &str) -> bool {
    there.iter().any(|one| one.name == name)
}

/// What a droplet is for: as the flags say, else as it was begun, else as the cluster's others.
fn task(
    record: &Record,
    asked: &Create,
    name: &str,
    joined_by: Vec<String>,
) -> Result<Task, DropletError> {
    if asked.name == KVSTORE {
        return match asked.store.is_none() && asked.join.is_empty() {
            true => Ok(Task::Kvstore),
            false => Err(DropletError::Usage(format!(
                "--store and --join are for agents, and {KVSTORE} has none"
            ))),
        };
    }
    let (store, join, package) = match record.droplets.get(name).map(|entry| &entry.task) {
        Some(Task::Node { store, join, package }) => (store.clone(), join.clone(), package),
        Some(Task::Kvstore) | None => (None, Vec::new(), &Package::None),
    };
    let package = if *package == Package::None { &record.package } else { package };
    let package = order::package(&asked.order.package, package)?;
    if package == Package::None {
        return match &asked.store {
            Some(url) => Err(DropletError::Usage(format!(
                "--store {url} is for an agent: name its package with --deb"
            ))),
            None if !asked.join.is_empty() => Err(DropletError::Usage(
                "--join is for an agent: name its package with --deb".to_owned(),
            )),
            None => Ok(Task::Node { store: None, join: Vec::new(), package }),
        };
    }
    let own = asked.store.clone().or(store).filter(|url| Some(url) != record.store.as_ref());
    let join = [asked.join.clone(), join].into_iter().find(|join| !join.is_empty());
    Ok(Task::Node { store: own, join: join.unwrap_or(joined_by), package })
}

/// An agent has a store: one of its own, the cluster's, or that of a kvstore that runs.
fn has_store(
    site: &Site,
    record: &Record,
    task: &Task,
    there: &[Droplet],
) -> Result<(), DropletError> {
    let (Task::Node { store: None, package, .. }, None) = (task, store_of(record, there)) else {
        return Ok(());
    };
    match (package, made(there, KVSTORE)) {
        (Package::None, _) => Ok(()),
        (_, true) => Err(DropletError::Later(format!(
            "an agent needs a store, and {KVSTORE} has no address yet: go on with `{} create --name {KVSTORE}` first",
            site.cluster.command()
        ))),
        (_, false) => Err(DropletError::Said(format!(
            "an agent needs a store: name one with --store, or make the cluster's with `{} create --name {KVSTORE}`",
            site.cluster.command()
        ))),
    }
}

/// For droplets that are made later: what the first ones of the cluster are made with. Until one of them is
/// well it may have been wrong.
fn remember(record: &mut Record, asked: &Create, has_kvstore: bool) -> Result<(), DropletError> {
    let is_well = |one: &Entry| one.task.has_agent() && one.id.is_some() && one.failure.is_none();
    let is_settled = record.droplets.values().any(is_well);
    if record.package == Package::None || !is_settled {
        record.package = order::package(&asked.order.package, &record.package)?;
    }
    if (record.store.is_none() && !has_kvstore) || (record.store.is_some() && !is_settled) {
        record.store = asked.store.clone().or(record.store.take());
    }
    Ok(())
}

/// The registry of a cluster that has one: the user's own, or that of a kvstore that runs.
fn store_of(record: &Record, there: &[Droplet]) -> Option<String> {
    let kvstore = || there.iter().find(|one| one.name == KVSTORE)?.private();
    let of_kvstore = || kvstore().map(|address| format!("consul://{address}:8500"));
    record.store.clone().or_else(of_kvstore)
}

/// The first hosts of a cluster: the same list for all of them.
pub(super) fn joined_by(there: &[Droplet]) -> Vec<String> {
    let mut hosts: Vec<&Droplet> = there.iter().filter(|one| one.name != KVSTORE).collect();
    hosts.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    hosts
        .iter()
        .filter_map(|one| one.private())
        .take(JOIN_BY)
        .map(|address| address.to_string())
        .collect()
}

fn user_data(task: &Task, key: Option<&HostKey>) -> Result<String, DropletError> {
    let host = provision::host(task, None, None);
    host.user_data(key).map_err(|error| DropletError::Said(error.to_string()))
}

fn dry(account: &Account, asked: &Create, output: &Output) -> Result<(), DropletError> {
    let mut record = account.folder()?.read()?;
    let has_kvstore = record.droplets.contains_key(KVSTORE);
    remember(&mut record, asked, has_kvstore)?;
    let order = order::unchecked(&asked.order, &record)?;
    let was_made = |name: &str| record.droplets.get(name).is_some_and(|one| one.id.is_some());
    let names = named(&record, asked, was_made).all;
    let first = names.first().map_or(asked.name.as_str(), String::as_str);
    let task = task(&record, asked, first, Vec::new())?.with_store(record.store.as_deref());
    // Printing cannot fail in a way that matters here, but for a closed pipe.
    let data = user_data(&task, None)?;
    let shown = serde_json::json!({ "names": names, "order": order, "user_data": data });
    let printed = output.show(&shown, |_| {
        let Order { region, size, image, .. } = &order;
        let vpc = order.vpc.as_deref().unwrap_or("the region's default VPC");
        format!(
            "# would make {}: {size} with {image} in {region}, {vpc}; the cloud firewall {}\n# user data of the first boot, less the host key of that boot:\n{data}",
            names.join(", "),
            account.cluster.firewall(),
        )
    });
    printed.map_err(|error| DropletError::Said(error.to_string()))
}

/// Records what is to be, makes it, and makes it what it is to be.
pub(super) async fn work(
    site: &Site,
    tasks: BTreeMap<String, Task>,
    there: &[Droplet],
    order: &Order,
    args: &OrderArgs,
    output: &Output,
) -> Result<Vec<Outcome>, DropletError> {
    wanted(site, &tasks, order)?;
    if let Some(change) = fence::raise(&site.api, &site.cluster, &args.open).await? {
        output.remark(&change);
    }
    let mut names: Vec<String> = tasks.keys().cloned().collect();
    names.sort_by(|a, b| natural(a).cmp(&natural(b)));
    let board = Board::new(names.iter().map(String::as_str));
    let rows = make::rows(&board, names.iter());
    // What the first boot can do already.
    let store = store_of(&site.record(), there);
    let boot = |entry: &Entry, key: &HostKey| {
        user_data(&entry.task.with_store(store.as_deref()), Some(key))
    };
    let made = make::make(site, &names, order, &rows, boot).await?;
    let mut active = make::active(site, made, &rows, args.wait).await?;
    let there = introduced(site, &tasks, &mut active).await?;
    let mut outcomes = match args.no_provision {
        true => only_made(site, active, &rows),
        false => provisioned(site, active, &there, &rows).await,
    };
    outcomes.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    site.change(|record| {
        for well in outcomes.iter().filter(|one| one.failure.is_none()) {
            if let Some(entry) = record.droplets.get_mut(&well.name) {
                entry.failure = None;
            }
        }
    })?;
    Ok(outcomes)
}

/// To ssh, and to each other; one that turns out to be there twice is told as failed. If the provider fails in
/// this, each is.
async fn introduced(
    site: &Site,
    tasks: &BTreeMap<String, Task>,
    active: &mut Outcomes<Droplet>,
) -> Result<Vec<Droplet>, DropletError> {
    let looked = looked(site, tasks).await;
    if let Ok(there) = &looked {
        site.write_config(there)?;
        complete(site, tasks, there)?;
    }
    for outcome in active.values_mut() {
        let Ok(one) = outcome else { continue };
        let alike = |other: &&Droplet| other.name == one.name && other.id != one.id;
        match &looked {
            Err(error) => *outcome = Err(error.again()),
            Ok(there) => {
                if let Some(other) = there.iter().find(alike) {
                    *outcome = Err(DropletError::Said(make::twins(one, other)));
                }
            }
        }
    }
    Ok(looked.unwrap_or_default())
}

async fn looked(site: &Site, tasks: &BTreeMap<String, Task>) -> Result<Vec<Droplet>, DropletError> {
    let mut there = site.droplets().await?;
    let names: Vec<String> = tasks.keys().cloned().collect();
    make::leave_ghosts_out(site, &names, &mut there).await?;
    Ok(there)
}

/// To the record, before anything is made.
fn wanted(site: &Site, tasks: &BTreeMap<String, Task>, order: &Order) -> Result<(), DropletError> {
    let mut book = site.book();
    for (name, task) in tasks {
        let new = || Entry::new(task.clone(), order.clone());
        let entry = book.record.droplets.entry(name.clone()).or_insert_with(new);
        entry.task = task.clone();
    }
    Ok(book.save()?)
}

/// What could not be known before they ran: who to join by.
fn complete(
    site: &Site,
    tasks: &BTreeMap<String, Task>,
    there: &[Droplet],
) -> Result<(), DropletError> {
    let mut book = site.book();
    for name in tasks.keys() {
        let Some(entry) = book.record.droplets.get_mut(name) else { continue };
        let has_agent = entry.task.has_agent();
        if let Task::Node { join, .. } = &mut entry.task
            && has_agent
            && join.is_empty()
        {
            *join = joined_by(there);
        }
    }
    Ok(book.save()?)
}

/// Each over ssh, all at once; those with an agent after the store.
pub(super) async fn provisioned(
    site: &Site,
    active: Outcomes<Droplet>,
    there: &[Droplet],
    rows: &Rows,
) -> Vec<Outcome> {
    let seen = store_of(&Record::default(), there);
    if let Some(url) = seen.filter(|url| site.record().seen_store.as_ref() != Some(url)) {
        // Without it they are provisioned all the same.
        let _ = site.change(|record| record.seen_store = Some(url));
    }
    let mut record = site.record();
    // If kvstore is out of sight, hosts keep what they have.
    let store = store_of(&record, there).or_else(|| record.seen_store.clone());
    let is_kvstores = record.store.is_none();
    let mut waiting = BTreeSet::new();
    for (name, entry) in &mut record.droplets {
        if is_kvstores && entry.task.has_cluster_store() {
            waiting.insert(name.clone());
        }
        entry.task = entry.task.with_store(store.as_deref());
    }
    let store_is_among = active.contains_key(KVSTORE);
    let (store_done, store_ready) =
        watch::channel(if store_is_among { None } else { Some(Ok(())) });
    // Those that need it wait for it.
    let mut active: Vec<_> = active.into_iter().collect();
    active.sort_by_key(|(name, _)| name != KVSTORE);
    let each = active.into_iter().map(|(name, outcome)| {
        let store_ready = waiting.contains(&name).then(|| store_ready.clone());
        one(site, &record, name, outcome, rows, &store_done, store_ready)
    });
    stream::iter(each).buffer_unordered(AT_ONCE).collect().await
}

fn only_made(site: &Site, active: Outcomes<Droplet>, rows: &Rows) -> Vec<Outcome> {
    let record = site.record();
    let one = |(name, outcome): (String, Result<Droplet, DropletError>)| {
        let role = record.droplets.get(&name).map_or("node", |entry| entry.task.role());
        let mut said = Outcome::new(&name, role, outcome.as_ref().ok());
        said.id = said.id.or_else(|| record.droplets.get(&name)?.id);
        match outcome {
            Ok(droplet) => said.state = format!("{}, not set up", droplet.status),
            Err(error) => said.fail(&error, record.droplets.get(&name)),
        }
        rows.get(&name).inspect(|row| row.end(&said.state));
        said
    };
    active.into_iter().map(one).collect()
}

/// `None` until it is known; if it failed, whether it may go better later.
type StoreState = Option<Result<(), Passing>>;
type Passing = bool;

async fn one(
    site: &Site,
    record: &Record,
    name: String,
    outcome: Result<Droplet, DropletError>,
    rows: &Rows,
    store_done: &watch::Sender<StoreState>,
    store_ready: Option<watch::Receiver<StoreState>>,
) -> Outcome {
    let task = record.droplets.get(&name).map(|entry| entry.task.clone());
    let role = task.as_ref().map_or("node", Task::role);
    let mut said = Outcome::new(&name, role, outcome.as_ref().ok());
    said.id = said.id.or_else(|| record.droplets.get(&name)?.id);
    let is_store = name == KVSTORE;
    let ready = async {
        let Some(mut store_ready) = store_ready else { return Ok(()) };
        let state = store_ready.wait_for(Option::is_some).await.map(|state| *state);
        match state {
            Ok(Some(Err(passing))) => {
                let text = format!("{KVSTORE} is not ready, and its agent needs it");
                Err(if passing { DropletError::Later(text) } else { DropletError::Said(text) })
            }
            _ => Ok(()),
        }
    };
    let result = async {
        let droplet = outcome?;
        let (Some(task), Some(row)) = (task, rows.get(&name)) else {
            return Err(DropletError::Said("nothing is recorded of it".to_owned()));
        };
        let done = provision::provision(site, &droplet, &task, row, ready).await;
        if is_store {
            store_done
                .send_replace(Some(done.as_ref().map(drop).map_err(DropletError::is_passing)));
        }
        let done = done?;
        let word = checked(site, &droplet, &task, row).await?;
        Ok::<_, DropletError>((done, word))
    }
    .await;
    if is_store && let Err(error) = &result {
        store_done.send_replace(Some(Err(error.is_passing())));
    }
    match result {
        Ok((done, word)) => {
            said.doubtful = word.is_some();
            said.state =
                word.map_or_else(|| "ready".to_owned(), |warning| format!("ready, {warning}"));
            rows.get(&name).inspect(|row| row.end(&in_words(&said.state, &done)));
            said.changes = done.changes;
        }
        Err(error) => {
            rows.get(&name).inspect(|row| row.end("failed"));
            let text = error.to_string();
            if let Err(error) = site.note(&name, |entry| entry.failure = Some(text.clone())) {
                rows.get(&name).inspect(|row| row.note(&error.to_string()));
            }
            said.fail(&error, record.droplets.get(&said.name));
        }
    }
    said
}

fn in_words(state: &str, done: &Done) -> String {
    match (done.changes.len(), done.restarted) {
        (0, _) => format!("{state}; nothing had to be changed"),
        (n, false) => format!("{state}; {n} changed"),
        (n, true) => format!("{state}; {n} changed, restarted once"),
    }
}

/// What `ovlctl doctor` says on it, once nothing fails; a warning in words.
async fn checked(
    site: &Site,
    droplet: &Droplet,
    task: &Task,
    row: &Row,
) -> Result<Option<String>, DropletError> {
    if !task.has_agent() {
        return Ok(None);
    }
    let Some(target) = site.target(droplet) else { return Ok(None) };
    row.say("doctor looks at it");
    let begun = tokio::time::Instant::now();
    loop {
        let told = |text: &str| row.note(text);
        let shell = provision::reach(site, droplet, &target, CHECK_WITHIN, told).await?;
        let ran = shell.ran("ovlctl doctor", "ovlctl --json doctor").await?;
        let (failures, warnings) = findings(&ran.out);
        match ran.code {
            Some(0 | 2 | 3) => {
                shell.close().await;
                row.done(Step::Checked);
                return Ok(match warnings.as_slice() {
                    [] => None,
                    [one] => Some(format!("doctor warns: {one}")),
                    [one, more @ ..] => {
                        Some(format!("doctor warns: {one}, and of {} more", more.len()))
                    }
                });
            }
            _ if begun.elapsed() < CHECK_WITHIN => tokio::time::sleep(CHECK_STEP).await,
            _ => {
                let why = failures
                    .first()
                    .cloned()
                    .unwrap_or_else(|| shell.failed("ovlctl doctor", &ran).to_string());
                return Err(DropletError::Said(format!(
                    "doctor: {why} (`{} ssh {} -- ovlctl doctor` says more)",
                    site.cluster.command(),
                    droplet.name
                )));
            }
        }
    }
}

/// Summaries of what fails, and of what is warned of.
fn findings(json: &str) -> (Vec<String>, Vec<String>) {
    let report: Value = serde_json::from_str(json).unwrap_or_default();
    let findings = report.get("findings").and_then(Value::as_array);
    let of = |verdict: &str| {
        let these = findings.into_iter().flatten().filter(|one| one["verdict"] == verdict);
        these.filter_map(|one| one["summary"].as_str()).map(str::to_owned).collect()
    };
    (of("fail"), of("warn"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_command_and_well_is_not_gone_on_with() {
        let order = Order {
            region: String::new(),
            size: String::new(),
            image: String::new(),
            vpc: None,
            ssh_keys: vec![],
            tags: vec![],
        };
        let mut record = Record::default();
        let pattern = "workerbee-{n}";
        let names: Vec<String> = (1..=2).map(|n| format!("workerbee-{n}")).collect();
        for name in &names {
            let entry = Entry::new(Task::Kvstore, order.clone());
            record.droplets.insert(name.clone(), Entry { ready: true, ..entry });
        }
        record.creating.insert(pattern.to_owned(), names.iter().cloned().collect());
        assert_eq!(unfinished(&record, pattern, 1, |_| true), Vec::<String>::new());
        assert_eq!(
            unfinished(&record, pattern, 2, |name| name != names[1]),
            [&*names[1], &*names[0]]
        );
        record.droplets.get_mut(&names[1]).unwrap().ready = false;
        assert_eq!(unfinished(&record, pattern, 1, |_| true), [&*names[1]]);
    }
}
