//! `droplet ls` and `ip`.
use std::net::Ipv4Addr;

use serde::Serialize;

use super::args::{Account, Ip};
use super::outcome::address;
use crate::droplet::digitalocean::Droplet;
use crate::droplet::record::Task;
use crate::droplet::site::{DropletError, natural, ours};
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
    region: String,
    size: String,
}

pub(super) async fn ls(account: &Account, output: &Output) -> Result<(), Error> {
    let shown = all(account).await?;
    let hint = format!(
        "no droplets in cluster {}: `ovlctl droplet cluster up` makes some",
        account.cluster
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
        table(["NAME", "ROLE", "PUBLIC", "PRIVATE", "STATE", "REGION", "SIZE"], rows)
    })
}

async fn all(account: &Account) -> Result<Vec<Shown>, DropletError> {
    let (record, there) =
        (account.folder()?.read()?, ours(&account.api()?, &account.cluster).await?);
    let at_provider = there.iter().map(|one| {
        let entry = record.droplets.get(&one.name);
        let failure = entry.and_then(|entry| entry.failure.as_deref());
        let state = match (failure, entry.map(|entry| entry.ready)) {
            (Some(failure), _) => format!("{}, but: {failure}", one.status),
            (None, Some(true)) => one.status.clone(),
            (None, Some(false)) => format!("{}, not set up", one.status),
            (None, None) => format!("{}, made elsewhere", one.status),
        };
        Shown {
            name: one.name.clone(),
            id: Some(one.id),
            role: entry.map(|entry| entry.task.role()),
            public: one.public(),
            private: one.private(),
            state,
            region: one.region.slug.clone(),
            size: one.size_slug.clone(),
        }
    });
    let only_here =
        record.droplets.iter().filter(|(name, _)| !there.iter().any(|one| one.name == **name));
    let recorded = only_here.map(|(name, entry)| Shown {
        name: name.clone(),
        id: entry.id,
        role: Some(Task::role(&entry.task)),
        public: None,
        private: None,
        state: match (&entry.failure, &entry.request, entry.id) {
            (Some(failure), _, _) => format!("not made: {failure}"),
            (None, Some(_), _) => "asked for".to_owned(),
            (None, None, Some(_)) => "gone: removed elsewhere".to_owned(),
            (None, None, None) => "not made".to_owned(),
        },
        region: entry.order.region.clone(),
        size: entry.order.size.clone(),
    });
    let mut shown: Vec<Shown> = at_provider.chain(recorded).collect();
    shown.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)));
    Ok(shown)
}

pub(super) async fn ip(account: &Account, asked: Ip, output: &Output) -> Result<(), Error> {
    let there = ours(&account.api().map_err(Error::from)?, &account.cluster)
        .await
        .map_err(DropletError::from)?;
    let droplet = find(&there, &asked.name, account)?;
    let (public, private) = (droplet.public(), droplet.private());
    let which = if asked.private { private } else { public };
    let Some(address) = which else {
        return Err(Error::NotFound(format!(
            "{} has no address yet: it is {}",
            asked.name, droplet.status
        )));
    };
    let shown = serde_json::json!({ "name": asked.name, "public": public, "private": private });
    output.show(&shown, |_| format!("{address}\n"))
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
        (Some(one), Some(other)) => Err(Error::NotFound(format!(
            "there are two droplets {name}, {} and {}: remove one of them by its number",
            one.id, other.id
        ))),
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
