//! `droplet restart`.
use std::time::Duration;

use futures::stream::{self, StreamExt as _};

use super::args::{Account, Names};
use super::create::AT_ONCE;
use super::look::find;
use super::outcome::partly;
use crate::droplet::board::{Board, Row, Step};
use crate::droplet::digitalocean::{Action, ApiError, Droplet};
use crate::droplet::make;
use crate::droplet::provision::{boot_id, reach, restarted};
use crate::droplet::site::{DropletError, Site};
use crate::error::Error;
use crate::output::Output;

/// For the provider to say that it is done.
const ACTION_WITHIN: Duration = Duration::from_secs(180);
/// To hear of its boot before; without it, it is restarted all the same.
const LOOK_WITHIN: Duration = Duration::from_secs(20);
const POLL: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));

pub(super) async fn run(account: &Account, mut asked: Names, output: &Output) -> Result<(), Error> {
    // Named twice, it is restarted once.
    asked.names.sort_unstable();
    asked.names.dedup();
    let site = account.site().await?;
    let there = site.droplets().await.map_err(DropletError::from)?;
    let mut chosen = Vec::new();
    for name in &asked.names {
        chosen.push(find(&there, name, account)?);
    }
    site.write_config(&there).map_err(DropletError::from)?;
    let board = Board::new(asked.names.iter().map(String::as_str));
    let rows = make::rows(&board, asked.names.iter());
    let each = chosen.iter().map(|droplet| async {
        let Some(row) = rows.get(&droplet.name) else { return Ok(()) };
        let done = restart(&site, droplet, row).await;
        row.end(if done.is_ok() { "restarted" } else { "failed" });
        done
    });
    let outcomes: Vec<_> = stream::iter(each).buffered(AT_ONCE).collect().await;
    let named = asked.names.iter().zip(&outcomes);
    let done: Vec<&String> =
        named.clone().filter(|(_, one)| one.is_ok()).map(|(name, _)| name).collect();
    output.show(&done, |_| String::new())?;
    for (name, outcome) in named {
        if let Err(error) = outcome {
            output.complain(&format!("{name}: {error}"));
        }
    }
    let failed = outcomes.iter().filter_map(|one| one.as_ref().err());
    partly(done.len(), failed.map(DropletError::is_passing))
}

async fn restart(site: &Site, droplet: &Droplet, row: &Row) -> Result<(), DropletError> {
    let target = site
        .target(droplet)
        .ok_or_else(|| DropletError::Said("it has no public address".to_owned()))?;
    row.say("looking at its boot");
    let told = |text: &str| row.note(text);
    let before = match reach(site, droplet, &target, LOOK_WITHIN, told).await {
        Ok(shell) => boot_id(&shell).await.ok(),
        Err(_) => None,
    };
    row.say("restarting");
    let action = asked(site, droplet).await?;
    row.done(Step::Asked);
    completed(site, action).await?;
    row.done(Step::Active);
    row.say("waiting for ssh");
    match before {
        Some(before) => restarted(site, droplet, &target, &before).await?,
        None => reach(site, droplet, &target, ACTION_WITHIN, told).await?.close().await,
    }
    row.done(Step::Checked);
    Ok(())
}

/// If the answer is lost, the newest restart since is the one that was asked for.
async fn asked(site: &Site, droplet: &Droplet) -> Result<Action, DropletError> {
    let before =
        site.api.actions_of(droplet.id).await?.iter().map(|one| one.id).max().unwrap_or_default();
    match site.api.act(droplet.id, "reboot").await {
        Err(error @ ApiError::Unclear { .. }) => {
            let actions = site.api.actions_of(droplet.id).await?;
            let newer = actions.into_iter().find(|one| one.id > before && one.kind == "reboot");
            Ok(newer.ok_or(error)?)
        }
        answer => Ok(answer?),
    }
}

async fn completed(site: &Site, mut action: Action) -> Result<(), DropletError> {
    let begun = tokio::time::Instant::now();
    let mut pause = POLL.0;
    loop {
        match action.status.as_str() {
            "completed" => return Ok(()),
            "errored" => {
                return Err(DropletError::Said(format!(
                    "DigitalOcean could not restart it (action {})",
                    action.id
                )));
            }
            _ if begun.elapsed() > ACTION_WITHIN => {
                return Err(DropletError::Later(format!(
                    "DigitalOcean is not done with its restart after {} s (action {})",
                    ACTION_WITHIN.as_secs(),
                    action.id
                )));
            }
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(POLL.1);
        action = site.api.action(action.id).await?;
    }
}
