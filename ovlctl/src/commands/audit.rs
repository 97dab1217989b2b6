//! `audit`: the kernel against what it should be, row by row.
use std::time::Duration;

use ovl_agent::control::api::audit::{Audit, Difference};

use crate::client::{Client, path};
use crate::error::Error;
use crate::output::{Output, printable, table};

/// Thousands of rows take the kernel a while; the agent gives up by itself before.
const WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(crate) struct Ask {
    /// Put right what differs, and look again
    ///
    /// The agent does so by itself every ten seconds, and tells it as an event; nobody who only reads may
    /// ask for it.
    #[arg(long)]
    repair: bool,
}

pub(crate) async fn run(asked: Ask, client: &Client, output: &Output) -> Result<(), Error> {
    let (client, target) = (client.patient(WITHIN), path(&["audit"]));
    let audit: Audit = match asked.repair {
        true => client.post(&target, &()).await?,
        false => client.get(&target).await?,
    };
    output.show(&audit, in_words)?;
    let found = found(&audit);
    match &audit.repair {
        None if found > 0 => Err(Error::Broken(format!(
            "{} from what it should be; mend it with: ovlctl audit --repair",
            things(found, "the kernel differs in")
        ))),
        Some(repair) if !repair.left.is_empty() => Err(Error::Broken(format!(
            "{} from what it should be, as the kernel did not take it",
            things(repair.left.len(), "the kernel still differs in")
        ))),
        None | Some(_) => Ok(()),
    }
}

/// All differences, also those that are only counted.
fn found(audit: &Audit) -> usize {
    audit.differences.len().saturating_add(audit.left_out)
}

fn things(count: usize, what: &str) -> String {
    format!("{what} {count} {}", if count == 1 { "thing" } else { "things" })
}

fn in_words(audit: &Audit) -> String {
    let Audit { networks, rows, endpoints, differences, left_out, repair } = audit;
    let mut text = listed(differences);
    if *left_out > 0 {
        text.push_str(&format!("and {left_out} more\n"));
    }
    text.push_str(&format!(
        "{networks} networks, {rows} rows and {endpoints} endpoints checked, {} found\n",
        found(audit)
    ));
    if let Some(repair) = repair {
        text.push_str(&format!("{} put right, {} left\n", repair.done, repair.left.len()));
        let failures = repair.failures.iter().map(|failure| printable(failure) + "\n");
        text.extend(failures);
        text.push_str(&listed(&repair.left));
    }
    text
}

fn listed(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = differences.iter().map(|differs| {
        let endpoint = differs.endpoint.as_ref().map(|name| format!(" of {name}"));
        let device = format!("{}{}", differs.device, endpoint.unwrap_or_default());
        let network = dash(&differs.network);
        let (want, have) = (dash(&differs.want), dash(&differs.have));
        [network, device, differs.kind.clone(), dash(&differs.what), want, have]
    });
    table(["NETWORK", "DEVICE", "KIND", "WHAT", "WANT", "HAVE"], rows)
}
