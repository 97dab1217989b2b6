//! `endpoint attach`, `detach` and `ls`.
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use ovl_agent::control::api::{AttachEndpoint, Endpoint};
use serde_json::json;

use crate::args::{Attach, EndpointCommand, Sandbox};
use crate::client::{Client, path, with_query};
use crate::error::Error;
use crate::output::{Output, printable, table};

pub(super) async fn run(
    command: EndpointCommand,
    client: &Client,
    output: &Output,
) -> Result<(), Error> {
    match command {
        EndpointCommand::Attach(attach) => self::attach(attach, client, output).await,
        EndpointCommand::Detach { name, network } => detach(name, network, client, output).await,
        EndpointCommand::Ls { network } => ls(network.as_deref(), client, output).await,
    }
}

async fn attach(attach: Attach, client: &Client, output: &Output) -> Result<(), Error> {
    let request = AttachEndpoint {
        netns: netns(attach.sandbox)?,
        network: attach.network,
        name: attach.name,
        aliases: attach.aliases,
        address: attach.address,
        ifname: attach.ifname,
    };
    let made: Endpoint = client.post(&path(&["endpoints"]), &request).await?;
    output.show(&made, |Endpoint { network, name, ipv4, ipv6, .. }| {
        let ipv6 = ipv6.map(|address| format!(", {address}")).unwrap_or_default();
        printable(&format!("attached {name} to network {network}: {ipv4}{ipv6}")) + "\n"
    })
}

/// The namespace's file, absolute: the agent has another working directory.
fn netns(sandbox: Sandbox) -> Result<PathBuf, Error> {
    let Some(pid) = sandbox.pid else {
        let given = sandbox.netns.unwrap_or_default();
        return Ok(std::path::absolute(&given).unwrap_or(given));
    };
    let file = PathBuf::from(format!("/proc/{pid}/ns/net"));
    match fs::read_link(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::NotFound(format!(
            "there is no process {pid}, or it has ended; give the ID of one that runs"
        ))),
        // What this user may not see the agent may.
        Ok(_) | Err(_) => Ok(file),
    }
}

async fn detach(
    name: String,
    network: Option<String>,
    client: &Client,
    output: &Output,
) -> Result<(), Error> {
    let network = match network {
        Some(network) => network,
        None => network_of(&name, client).await?,
    };
    client.delete(&path(&["endpoints", &network, &name])).await?;
    output.show(&json!({ "network": network, "name": name }), |_| {
        printable(&format!("detached {name} from network {network}")) + "\n"
    })
}

/// The one network that has an endpoint of this name.
async fn network_of(name: &str, client: &Client) -> Result<String, Error> {
    let endpoints: Vec<Endpoint> = client.get(&path(&["endpoints"])).await?;
    let mut candidates: Vec<Endpoint> =
        endpoints.into_iter().filter(|endpoint| endpoint.name == name).collect();
    candidates.sort_by(|a, b| a.network.cmp(&b.network));
    match candidates.as_slice() {
        [] => Err(Error::NotFound(format!("no network has an endpoint `{name}`"))),
        [only] => Ok(only.network.clone()),
        several => {
            let places: Vec<String> = several
                .iter()
                .map(|endpoint| format!("{} (host {})", endpoint.network, endpoint.host))
                .collect();
            Err(Error::NotFound(format!(
                "`{name}` is an endpoint of several networks, say which one with --network: {}",
                places.join(", ")
            )))
        }
    }
}

async fn ls(network: Option<&str>, client: &Client, output: &Output) -> Result<(), Error> {
    let target = with_query(path(&["endpoints"]), &[("network", network)]);
    let endpoints: Vec<Endpoint> = client.get(&target).await?;
    let hint = "no endpoints yet: `ovlctl endpoint attach` or `docker run --net` makes one";
    output.list(&endpoints, hint, in_words)
}

/// The table of endpoints, for people.
pub(super) fn in_words(endpoints: &[Endpoint]) -> String {
    let rows = endpoints.iter().map(|endpoint| {
        let Endpoint { network, name, names, ipv4, ipv6, mac, host } = endpoint;
        let ipv6 = ipv6.map(|address| format!(", {address}")).unwrap_or_default();
        let aliases: Vec<&str> =
            names.iter().filter(|other| *other != name).map(String::as_str).collect();
        let aliases = aliases.join(", ");
        [network.clone(), name.clone(), format!("{ipv4}{ipv6}"), mac.clone(), host.clone(), aliases]
    });
    table(["NETWORK", "NAME", "ADDRESS", "MAC", "HOST", "ALIASES"], rows)
}
