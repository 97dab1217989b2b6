//! `resolve`: the addresses of a name, and why they are those.
use std::net::IpAddr;

use clap::builder::NonEmptyStringValueParser;
use ovl_agent::control::api::explain::{Explanation, Outcome, Record};

use super::cluster::duration;
use crate::client::{Client, path, with_query};
use crate::complete;
use crate::error::Error;
use crate::output::{Cell, Output, Tone, printable};

#[derive(Debug, clap::Args)]
pub(crate) struct Resolve {
    /// The name to look up
    #[arg(value_parser = NonEmptyStringValueParser::new(), add = complete::endpoints())]
    name: String,

    /// Look in this network only
    ///
    /// Without it, in all networks. With --from, the network that the asker is on, where several
    /// endpoints are called so.
    #[arg(long, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
    network: Option<String>,

    /// Say which endpoint answers, and why others of that name do not
    ///
    /// JSON: {name, asker: {endpoint, host, networks, docker}, outcome, addresses, ttl_seconds, records:
    /// [{endpoint, names, addresses, network, host, matched, generation, known_seconds, answers, why}],
    /// left_out, near, elsewhere: {resolver, servers}, summary}, the outcome being found, no-such-name or
    /// elsewhere.
    #[arg(long)]
    explain: bool,

    /// As this endpoint is answered: it sees the networks that it is on
    ///
    /// Implies --explain. Of an endpoint on another host, those of one name are taken for one container;
    /// with --host that host says it better.
    #[arg(long, value_name = "ENDPOINT", value_parser = NonEmptyStringValueParser::new(), add = complete::endpoints())]
    from: Option<String>,
}

pub(crate) async fn run(asked: Resolve, client: &Client, output: &Output) -> Result<(), Error> {
    if asked.explain || asked.from.is_some() {
        return explain(asked, client, output).await;
    }
    let Resolve { name, network, .. } = asked;
    let parameters = [("name", Some(name.as_str())), ("network", network.as_deref())];
    let target = with_query(path(&["resolve"]), &parameters);
    let addresses: Vec<IpAddr> = client.get(&target).await?;
    output.show(&addresses, |addresses| {
        addresses.iter().map(|address| format!("{address}\n")).collect()
    })?;
    if addresses.is_empty() {
        let place = network.map(|network| format!(" on network `{network}`")).unwrap_or_default();
        return Err(Error::NotFound(format!("nothing has the name `{name}`{place}")));
    }
    Ok(())
}

async fn explain(asked: Resolve, client: &Client, output: &Output) -> Result<(), Error> {
    let Resolve { name, network, from, .. } = asked;
    let parameters =
        [("name", Some(name.as_str())), ("network", network.as_deref()), ("from", from.as_deref())];
    let target = with_query(path(&["resolve", "explain"]), &parameters);
    let explanation: Explanation = client.get(&target).await?;
    output.show(&explanation, |explanation| in_words(explanation, output))?;
    match explanation.outcome {
        Outcome::Found => Ok(()),
        Outcome::NoSuchName | Outcome::Elsewhere => Err(Error::NotFound(explanation.summary)),
    }
}

fn in_words(explanation: &Explanation, output: &Output) -> String {
    let Explanation { asker, outcome, ttl_seconds, records, left_out, near, summary, .. } =
        explanation;
    let mut text = String::new();
    if *outcome == Outcome::Found {
        text.push_str(&format!("{}\n", printable(summary)));
    }
    if let Some(seconds) = ttl_seconds.filter(|_| *outcome == Outcome::Found) {
        text.push_str(&format!("clients keep the answer for {seconds} s\n"));
    }
    if let Some(endpoint) = &asker.endpoint {
        let networks = asker.networks.clone().unwrap_or_default().join(", ");
        let host = asker.host.as_deref().unwrap_or("?");
        let line = format!("{endpoint} on host {host} asks, which is on: {networks}");
        text.push_str(&format!("{}\n", printable(&line)));
    }
    if !records.is_empty() {
        let header = ["ANSWERS", "ENDPOINT", "ADDRESS", "NETWORK", "HOST", "KNOWN FOR", "WHY"];
        text.push_str(&output.table(header, records.iter().map(row)));
    }
    if *left_out > 0 {
        text.push_str(&format!("and {left_out} more\n"));
    }
    if !near.is_empty() {
        text.push_str(&format!("did you mean: {}?\n", printable(&near.join(", "))));
    }
    text
}

fn row(record: &Record) -> [Cell; 7] {
    let addresses: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
    let (answers, tone) = if record.answers { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
    [
        Cell::toned(tone, answers),
        record.endpoint.clone().into(),
        addresses.join(", ").into(),
        record.network.clone().into(),
        record.host.clone().into(),
        duration(record.known_seconds).into(),
        record.why.clone().into(),
    ]
}
