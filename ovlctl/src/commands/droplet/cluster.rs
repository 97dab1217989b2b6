//! `droplet cluster up` and `down`.
use std::collections::BTreeMap;

use super::args::{Account, Down, Up};
use super::create::{KVSTORE, work};
use super::order;
use super::outcome::report;
use super::remove;
use crate::droplet::record::{Package, Task, Wanted};
use crate::droplet::site::{DropletError, Site};
use crate::error::Error;
use crate::output::Output;

/// The first host, that others join by.
const QUEENBEE: &str = "queenbee";
const WORKERS: u16 = 3;

fn worker(n: usize) -> String {
    format!("workerbee-{n}")
}

pub(super) async fn up(account: &Account, asked: Up, output: &Output) -> Result<(), Error> {
    let site = account.site().await?;
    let outcomes = raised(&site, &asked, output).await?;
    let hosts: Vec<&str> =
        outcomes.iter().map(|one| one.name.as_str()).filter(|name| *name != KVSTORE).collect();
    let next = match asked.order.no_provision {
        true => format!("next: {} provision\n", account.cluster.command()),
        false => next(account, &hosts),
    };
    report(&outcomes, &next, output)
}

async fn raised(
    site: &Site,
    asked: &Up,
    output: &Output,
) -> Result<Vec<super::outcome::Outcome>, DropletError> {
    let record = site.record();
    let package = order::package(&asked.order.package, &record.package)?;
    if package == Package::None && !asked.order.no_provision {
        return Err(DropletError::Said(
            "no package of the agent: name one with --deb, a file or a URL (`scripts/package` makes one)".to_owned(),
        ));
    }
    let there = site.droplets().await?;
    let asked_before = record.wanted.as_ref().map(|one| one.workers);
    let workers = asked.workers.map_or(asked_before.unwrap_or(usize::from(WORKERS)), usize::from);
    // Who is there already stays, and is made what it is to be.
    let is_there = |n: &usize| there.iter().any(|one| one.name == worker(*n));
    let others: Vec<usize> =
        (workers + 1..=asked_before.unwrap_or_default()).filter(is_there).collect();
    for more in &others {
        output.remark(&format!(
            "{} is there, and stays: `{} rm {0}` removes it",
            worker(*more),
            site.cluster.command()
        ));
    }
    // With a registry of the user's own there is no need for one.
    let is_kvstore_wanted = record.store.is_none() || there.iter().any(|one| one.name == KVSTORE);
    let kvstore = is_kvstore_wanted.then_some(KVSTORE);
    let names: Vec<String> = kvstore
        .into_iter()
        .chain([QUEENBEE])
        .map(str::to_owned)
        .chain((1..=workers).chain(others).map(worker))
        .collect();
    let more = names.iter().filter(|name| !there.iter().any(|one| one.name == **name)).count();
    let order = order::checked(site, &asked.order, &there, more).await?;
    site.change(|record| {
        record.wanted = Some(Wanted { workers, order: order.clone() });
        record.package = package.clone();
    })?;
    let task = |name: &String| match name.as_str() {
        KVSTORE => Task::Kvstore,
        name => match record.droplets.get(name).map(|entry| &entry.task) {
            // What it was told before holds: a list that changes would be a change on every host.
            Some(Task::Node { store, join, package: have }) => {
                let newer = asked.order.package.deb.is_some() || *have == Package::None;
                let package = if newer { package.clone() } else { have.clone() };
                Task::Node { store: store.clone(), join: join.clone(), package }
            }
            _ => Task::Node { store: None, join: Vec::new(), package: package.clone() },
        },
    };
    let tasks: BTreeMap<String, Task> =
        names.iter().map(|name| (name.clone(), task(name))).collect();
    work(site, tasks, &there, &order, &asked.order, output).await
}

/// What to type: on the first host, and on another if there is one.
fn next(account: &Account, hosts: &[&str]) -> String {
    let command = account.cluster.command();
    let there = match hosts {
        [_, other, ..] => format!("and on another host:\n  {command} ssh {other}\n"),
        _ => String::new(),
    };
    format!(
        "next:\n  \
         {command} ssh {QUEENBEE}\n  \
         docker network create -d ovl --ipam-driver ovl rethinkdb\n  \
         docker run -d --net rethinkdb --name rethinkleader redis\n\
         {there}  \
         docker run --rm --net rethinkdb busybox ping -c 3 rethinkleader\n\
         to take it all away: {command} cluster down\n"
    )
}

pub(super) async fn down(account: &Account, asked: Down, output: &Output) -> Result<(), Error> {
    let site = account.site().await?;
    remove::all(&site, asked.yes, output).await
}
