//! `droplet provision`: again what a droplet is to be.
use super::args::{Account, Provision};
use super::create::{KVSTORE, joined_by, provisioned};
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
    if asked.names.is_empty() {
        for_all(&site, &asked)?;
    }
    for droplet in &chosen {
        recorded(&site, droplet, &there, &asked)?;
    }
    let outcomes = again(&site, &there, &chosen).await?;
    report(&outcomes, "", output)
}

/// Those that are not there now, and those that come later, get the same.
fn for_all(site: &Site, asked: &Provision) -> Result<(), DropletError> {
    let package = order::package(&asked.package, &site.record().package)?;
    Ok(site.change(|record| {
        for entry in record.droplets.values_mut() {
            let Task::Node { store, package: have, .. } = &mut entry.task else { continue };
            if asked.package.deb.is_some() {
                have.clone_from(&package);
            }
            if asked.store.is_some() && *have != Package::None {
                *store = None;
            }
        }
        record.package = package;
        record.store = asked.store.clone().or(record.store.take());
    })?)
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
    let mut outcomes = provisioned(site, made, there, &rows).await;
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
    let task = match (entry.map(|entry| &entry.task), droplet.name.as_str()) {
        (Some(Task::Kvstore), _) | (None, KVSTORE) => Task::Kvstore,
        (Some(Task::Node { store, join, package }), _) => {
            let package = order::package(&asked.package, package)?;
            let has_cluster_store = package != Package::None || store.is_none();
            let store = match &asked.store {
                // It becomes the cluster's.
                Some(_) if asked.names.is_empty() && has_cluster_store => None,
                Some(url) => Some(url.clone()),
                None => store.clone(),
            };
            Task::Node { store, join: given(&asked.join, join, there), package }
        }
        (None, _) => Task::Node {
            store: asked.store.clone(),
            join: given(&asked.join, &[], there),
            package: order::package(&asked.package, &record.package)?,
        },
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

fn given(asked: &[String], before: &[String], there: &[Droplet]) -> Vec<String> {
    match (asked.is_empty(), before.is_empty()) {
        (false, _) => asked.to_vec(),
        (true, false) => before.to_vec(),
        (true, true) => joined_by(there),
    }
}
