//! `droplet ls` and `ip`.
use std::net::Ipv4Addr;

use serde::Serialize;

use super::args::{Account, Ip};
use super::outcome::address;
use crate::droplet::digitalocean::Droplet;
use crate::droplet::make::twins;
use crate::droplet::record::Entry;
use crate::droplet::site::{DropletError, natural, untagged};
use crate::error::Error;
use crate::output::{Output, printable, table};

#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    id: Option<u64>,
    role: Option<&'static str>,
    public: Option<Ipv4Addr>,
    private: Option<Ipv4Addr>,
    state: String,
    /// In a sentence.
    failure: Option<String>,
    region: String,
    size: String,
}

pub(super) async fn ls(account: &Account, output: &Output) -> Result<(), Error> {
    let shown = all(account).await?;
    let hint = format!(
        "no droplets in cluster {}: `{} cluster up` makes some",
        account.cluster,
        account.cluster.command()
    );
    output.list(&shown, &hint, |shown| {
        let rows = shown.iter().map(|one| {
            let role = one.role.unwrap_or("-").to_owned();
            let (public, private) = (address(one.public), address(one.private));
            [
                one.name.clone(),
                role,
                public,
                private,
                one.state.clone(),
                one.region.clone(),
                one.size.clone(),
            ]
        });
        let table = table(["NAME", "ROLE", "PUBLIC", "PRIVATE", "STATE", "REGION", "SIZE"], rows);
        let failures = shown.iter().filter_map(|one| Some((&one.name, one.failure.as_ref()?)));
        let failures = failures.map(|(name, failure)| format!("{name}: {}\n", printable(failure)));
        let failures: String = failures.collect();
        if failures.is_empty() { table } else { format!("{table}\n{failures}") }
    })
}

async fn all(account: &Account) -> Result<Vec<Shown>, DropletError> {
    let (record, sight) = account.sight().await?;
    let mut shown: Vec<Shown> =
        sight.droplets.iter().map(|one| at_provider(one, record.droplets.get(&one.name))).collect();
    for (name, entry) in &record.droplets {
        if let Some(one) = sight.untagged.get(name) {
            let failure = untagged(one, &account.cluster, name);
            shown.push(recorded(name, entry, "untagged", Some(failure)));
        } else if sight.gone.contains(name) {
            let state = match (entry.id, entry.requests.is_empty()) {
                (Some(_), _) => "removed elsewhere",
                (None, false) => "asked for",
                (None, true) => "not made",
            };
            shown.push(recorded(name, entry, state, entry.failure.clone()));
        }
    }
    shown.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)).then(a.id.cmp(&b.id)));
    Ok(shown)
}

fn at_provider(droplet: &Droplet, entry: Option<&Entry>) -> Shown {
    let state = match entry.map(|entry| entry.ready) {
        Some(true) => droplet.status.clone(),
        Some(false) => format!("{}, not set up", droplet.status),
        None => format!("{}, made elsewhere", droplet.status),
    };
    Shown {
        name: droplet.name.clone(),
        id: Some(droplet.id),
        role: entry.map(|entry| entry.task.role()),
        public: droplet.public(),
        private: droplet.private(),
        state,
        failure: entry.and_then(|entry| entry.failure.clone()),
        region: droplet.region.slug.clone(),
        size: droplet.size_slug.clone(),
    }
}

fn recorded(name: &str, entry: &Entry, state: &str, failure: Option<String>) -> Shown {
    Shown {
        name: name.to_owned(),
        id: entry.id,
        role: Some(entry.task.role()),
        public: None,
        private: None,
        state: state.to_owned(),
        failure,
        region: entry.order.region.clone(),
        size: entry.order.size.clone(),
    }
}

pub(super) async fn ip(account: &Account, asked: Ip, output: &Output) -> Result<(), Error> {
    let (_, sight) = account.sight().await?;
    let droplet = find(&sight.droplets, &asked.name, account)?;
    let (public, private) = (droplet.public(), droplet.private());
    let which = if asked.private { private } else { public };
    let Some(address) = which else {
        return Err(no_address(droplet));
    };
    let shown = serde_json::json!({ "name": asked.name, "public": public, "private": private });
    output.show(&shown, |_| format!("{address}\n"))
}

pub(super) fn no_address(droplet: &Droplet) -> Error {
    let text = format!("{} has no address yet: it is {}", droplet.name, droplet.status);
    DropletError::Later(text).into()
}

/// The one of this name.
pub(super) fn find<'a>(
    there: &'a [Droplet],
    name: &str,
    account: &Account,
) -> Result<&'a Droplet, Error> {
    let mut alike = there.iter().filter(|one| one.name == name);
    match (alike.next(), alike.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(other)) => Err(Error::NotFound(twins(one, other))),
        (None, _) => {
            let names: Vec<&str> = there.iter().map(|one| one.name.as_str()).take(20).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(Error::NotFound(printable(&format!(
                "no droplet {name} in cluster {}; there are: {there}",
                account.cluster
            ))))
        }
    }
}
