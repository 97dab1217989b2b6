//! `reload` and `leave`: what changes the agent of this host itself.
use std::time::Duration;

use ovl_agent::control::api::{self, Change, Reloaded};
use ovl_agent::purge::{Purged, purge};
use serde::Serialize;

use super::confirm::confirm;
use crate::args::Leave;
use crate::client::{Client, path};
use crate::error::Error;
use crate::output::{Output, printable};

/// The agent removes endpoints, asks Docker and the store; it gives up by itself before.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);

/// How long an agent that has left may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);
const END_STEP: Duration = Duration::from_millis(50);

pub(super) async fn reload(client: &Client, output: &Output) -> Result<(), Error> {
    only_here(client, "reload")?;
    let reloaded: Reloaded = client.post(&path(&["reload"]), &()).await?;
    output.show(&reloaded, |reloaded| {
        let changes = reloaded.changes.iter().map(change);
        let warnings = reloaded.warnings.iter().map(|warning| format!("warning: {warning}"));
        let lines: Vec<String> = changes.chain(warnings).collect();
        if lines.is_empty() {
            return "nothing has changed\n".to_owned();
        }
        lines.iter().map(|line| printable(line) + "\n").collect()
    })
}

/// What is done on a host is not done through another one's agent; least of all is this host taken for it.
fn only_here(client: &Client, command: &str) -> Result<(), Error> {
    match client.host() {
        None => Ok(()),
        Some(host) => Err(Error::Usage(format!(
            "{command} is done on its own host: run `ovlctl {command}` on {host}, without --host"
        ))),
    }
}

fn change(change: &Change) -> String {
    let Change { key, from, to, in_force } = change;
    let when = if *in_force { "in force now" } else { "in force after a restart of ovl-agent" };
    let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    format!("{key}: {} → {}, {when}", shown(from), shown(to))
}

/// What became of this host.
#[derive(Serialize)]
struct Gone {
    /// None: no agent was running, so the cluster does not know.
    left: Option<api::Left>,
    /// None: not asked for.
    purged: Option<Purged>,
}

pub(super) async fn leave(leave: Leave, client: &Client, output: &Output) -> Result<(), Error> {
    only_here(client, "leave")?;
    let Leave { force, purge, yes, state_dir } = leave;
    if purge && !yes {
        confirm(
            "This takes every network of ovl off this host, and what its agent remembers.".to_owned(),
            "--purge asks before it removes anything, and there is no terminal to ask on: repeat with --yes",
        )
        .await?;
    }
    let patient = client.patient(LEAVE_WITHIN);
    let left: Option<api::Left> = match patient.post(&path(&["leave"]), &api::Leave { force }).await
    {
        Ok(left) => Some(left),
        Err(Error::NoAgent { .. }) if purge => None,
        Err(error) => return Err(error),
    };
    if left.is_some() {
        ended(client).await?;
    }
    let state_dir = left.as_ref().map_or(state_dir, |left| left.state_dir.clone());
    let purged = match purge {
        true => Some(take_away(&state_dir, force).await?),
        false => None,
    };
    let kept = purged.as_ref().map(|purged| purged.in_use.join(", ")).unwrap_or_default();
    output.show(&Gone { left, purged }, in_words)?;
    if kept.is_empty() {
        return Ok(());
    }
    Err(Error::Kept(format!(
        "{kept} and the agent's state stay, because containers use them: remove those, or repeat with --force"
    )))
}

async fn take_away(state_dir: &std::path::Path, force: bool) -> Result<Purged, Error> {
    purge(state_dir, force).await.map_err(|error| Error::Kept(ovl_agent::chain(&error)))
}

fn in_words(gone: &Gone) -> String {
    let mut lines = Vec::new();
    match &gone.left {
        Some(left) => {
            lines.push(format!(
                "this host has left the cluster; {} addresses were given back",
                left.addresses
            ));
            lines.extend(left.notes.iter().map(|note| format!("note: {note}")));
        }
        None => lines.push(
            "no agent runs here, so the cluster was not told: addresses of this host stay taken"
                .to_owned(),
        ),
    }
    if let Some(purged) = &gone.purged {
        lines.extend(purged.devices.iter().map(|device| format!("removed device {device}")));
        if purged.firewall {
            lines.push("removed nftables table inet ovl".to_owned());
        }
        lines.extend(purged.files.iter().map(|file| format!("removed {}", file.display())));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

/// Its socket is closed: it does not make anything any more.
async fn ended(client: &Client) -> Result<(), Error> {
    let ended = async {
        while client.is_answered().await {
            tokio::time::sleep(END_STEP).await;
        }
    };
    let late = |_| {
        Error::Kept(
            "this host has left the cluster, but its agent does not end: look at its log"
                .to_owned(),
        )
    };
    tokio::time::timeout(END_WITHIN, ended).await.map_err(late)
}
