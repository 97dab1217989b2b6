//! `top`: hosts, networks, endpoints and problems, live.
//!
//! `model` takes readings of the agent and makes rows of them, `view` is what the user chose, both
//! pure; `draw` shows them, `watch` asks the agent and `screen` holds the terminal.
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use serde::Serialize;

use crate::client::Client;
use crate::error::Error;
use crate::output::Output;

mod draw;
mod format;
mod model;
mod screen;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use model::{EndpointRow, HostRow, Model, NetworkRow};
use view::{EndpointOrder, HostOrder, NetworkOrder};

/// Between the two readings of `--json`.
const APART: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Time between two readings, in seconds
    ///
    /// 1 to 60.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=60))]
    interval: u16,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    /// The host whose agent was asked.
    host: String,
    hosts: Vec<HostRow>,
    /// Those that are used on this host first have rates; the underlay's interface is the one without
    /// a VNI.
    networks: Vec<NetworkRow>,
    endpoints: Vec<EndpointRow>,
    problems: Vec<String>,
}

pub(super) async fn run(args: Args, client: &Client, output: &Output) -> Result<(), Error> {
    if output.is_json() {
        return output.show(&twice(client).await?, |_| String::new());
    }
    if !io::stdout().is_terminal() {
        return Err(Error::Usage(
            "top shows a screen, and standard output is no terminal; `ovlctl --json top` prints one \
             reading, and `ovlctl status` the state of this host"
                .to_owned(),
        ));
    }
    let interval = Duration::from_secs(args.interval.into());
    screen::run(client, interval, output.has_colours()).await
}

/// Two readings, for rates.
async fn twice(client: &Client) -> Result<Shown, Error> {
    let mut model = Model::default();
    model.handle_sample(watch::sample(client, None).await?);
    tokio::time::sleep(APART).await;
    model.handle_sample(watch::sample(client, None).await?);
    // Not every user may ping.
    if let Ok(pings) = watch::pings(client).await {
        model.handle_pings(pings);
    }
    Ok(Shown {
        host: model.status().map(|status| status.node.clone()).unwrap_or_default(),
        hosts: model.hosts(HostOrder::default()),
        networks: model.networks(NetworkOrder::default()),
        endpoints: model.endpoints(EndpointOrder::default()),
        problems: model.problems(),
    })
}
