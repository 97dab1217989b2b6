//! `droplet provision`: again what a droplet is to be.
use super::args::{Account, Provision};
use super::create::{KVSTORE, joined_by, provisioned, store_of};
use super::look::find;
use super::order;
use super::outcome::{Outcome, report};
use crate::droplet::board::Board;
use crate::droplet::digitalocean::Droplet;
use crate::droplet::make::{self, Outcomes};
use crate::droplet::record::{Entry, Order, Package, Task};
use crate::droplet::site::{DropletError, Site, natural};
use crate::error::Error;
use crate::output::Output;

pub(super) async fn run(account: &Account, asked: Provision, output: &Output) -> Result<(), Error> {
    let site = account.site().await?;
    let there = site.droplets().await.map_err(DropletError::from)?;
    let mut chosen: Vec<&Droplet> = Vec::new();
    match asked.names.is_empty() {
        true => {
            for one in &there {
                chosen.push(find(&there, &one.name, account)?);
            }
        }
        false => {
            for name in &asked.names {
                chosen.push(find(&there, name, account)?);
            }
        }
    }
    if chosen.is_empty() {
        return Err(Error::NotFound(format!("no droplets in cluster {}", account.cluster)));
    }
    for droplet in &chosen {
        recorded(&site, droplet, &there, &asked)?;
    }
    if asked.names.is_empty() && asked.package.deb.is_some() {
        // Those that come later get the same.
        let before = site.record().wanted.map(|one| one.package);
        let package = order::package(&asked.package, before.as_ref())?;
        let change = site.change(|record| {
            record.wanted.iter_mut().for_each(|one| one.package = package.clone());
        });
        change.map_err(DropletError::from)?;
    }
    let outcomes = again(&site, &there, &chosen).await?;
    report(&outcomes, "", output)
}

async fn again(
    site: &Site,
    there: &[Droplet],
    chosen: &[&Droplet],
) -> Result<Vec<Outcome>, DropletError> {
    site.write_config(there)?;
    let names: Vec<String> = chosen.iter().map(|one| one.name.clone()).collect();
    let board = Board::new(names.iter().map(String::as_str));
    let rows = make::rows(&board, names.iter());
    let made: Outcomes<Droplet> =
        chosen.iter().map(|one| (one.name.clone(), Ok((*one).clone()))).collect();
    let mut outcomes = provisioned(site, made, &rows).await;
    outcomes.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    Ok(outcomes)
}

/// What it is to be, as it is recorded, with what the flags say otherwise; of a droplet that was made elsewhere,
/// what its cluster says.
fn recorded(
    site: &Site,
    droplet: &Droplet,
    there: &[Droplet],
    asked: &Provision,
) -> Result<(), DropletError> {
    make::taken(site, droplet)?;
    let record = site.record();
    let entry = record.droplets.get(&droplet.name);
    let wanted = record.wanted.as_ref();
    let package = |before: Option<&Package>| order::package(&asked.package, before);
    let task = match (entry.map(|entry| &entry.task), droplet.name.as_str()) {
        (Some(Task::Kvstore), _) | (None, KVSTORE) => Task::Kvstore,
        (Some(Task::Node { store, join, package: before }), _) => {
            let store = asked.store.clone().or_else(|| store.clone());
            node(store, given(&asked.join, join, there), package(Some(before))?, there)
        }
        (None, _) => {
            let package = package(wanted.map(|one| &one.package))?;
            node(asked.store.clone(), given(&asked.join, &[], there), package, there)
        }
    };
    let order = entry.map(|entry| entry.order.clone()).unwrap_or_else(|| Order {
        region: droplet.region.slug.clone(),
        size: droplet.size_slug.clone(),
        image: String::new(),
        vpc: None,
        ssh_keys: Vec::new(),
        tags: Vec::new(),
    });
    Ok(site.change(|record| {
        let new = || Entry::new(task.clone(), order);
        let entry = record.droplets.entry(droplet.name.clone()).or_insert_with(new);
        entry.task = task.clone();
        entry.id = Some(droplet.id);
    })?)
}

/// One without a package and with a store has an agent that somebody else installed; one without both has none.
fn node(store: Option<String>, join: Vec<String>, package: Package, there: &[Droplet]) -> Task {
    let store = store.or_else(|| store_of(there).filter(|_| package != Package::None));
    Task::Node { store, join, package }
}

fn given(asked: &[String], before: &[String], there: &[Droplet]) -> Vec<String> {
    match (asked.is_empty(), before.is_empty()) {
        (false, _) => asked.to_vec(),
        (true, false) => before.to_vec(),
        (true, true) => joined_by(there),
    }
}
