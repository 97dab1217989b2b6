//! `network create`, `ls`, `inspect` and `rm`.
use ovl_agent::control::api::{CreateNetwork, Network, NetworkDetail};

use super::endpoint;
use crate::args::{Create, NetworkCommand};
use crate::client::{Client, path};
use crate::error::Error;
use crate::output::{Output, facts, printable, table};

pub(super) async fn run(
    command: NetworkCommand,
    client: &Client,
    output: &Output,
) -> Result<(), Error> {
    match command {
        NetworkCommand::Create(create) => self::create(create, client, output).await,
        NetworkCommand::Ls => ls(client, output).await,
        NetworkCommand::Inspect { name } => inspect(&name, client, output).await,
        NetworkCommand::Rm { names } => rm(names, client, output).await,
    }
}

async fn create(create: Create, client: &Client, output: &Output) -> Result<(), Error> {
    let Create { name, subnet, gateway, mtu, ipv6, subnet6, internal } = create;
    let request = CreateNetwork { name, subnet, gateway, mtu, ipv6, subnet6, internal };
    let made: NetworkDetail = client.post(&path(&["networks"]), &request).await?;
    output.show(&made, |NetworkDetail { network, .. }| {
        let Network { name, vni, mtu, .. } = network;
        let subnets = subnets(network);
        printable(&format!("created network {name}: {subnets}, VNI {vni}, MTU {mtu}")) + "\n"
    })
}

async fn ls(client: &Client, output: &Output) -> Result<(), Error> {
    let networks: Vec<Network> = client.get(&path(&["networks"])).await?;
    output.list(&networks, "no networks yet: `ovlctl network create NAME` makes one", |networks| {
        let rows = networks.iter().map(|network| {
            let Network { name, vni, mtu, .. } = network;
            [name.clone(), vni.to_string(), subnets(network), mtu.to_string()]
        });
        table(["NAME", "VNI", "SUBNET", "MTU"], rows)
    })
}

async fn inspect(name: &str, client: &Client, output: &Output) -> Result<(), Error> {
    let detail: NetworkDetail = client.get(&path(&["networks", name])).await?;
    output.show(&detail, |detail| {
        let facts = facts([
            ("name", detail.network.name.clone()),
            ("vni", detail.network.vni.to_string()),
            ("subnet", subnets(&detail.network)),
            ("gateway", detail.gateway.to_string()),
            ("mtu", detail.network.mtu.to_string()),
            ("device", detail.device.clone().unwrap_or_else(|| "none on this host".to_owned())),
            ("endpoints", detail.endpoints.len().to_string()),
        ]);
        if detail.endpoints.is_empty() {
            return facts;
        }
        format!("{facts}\n{}", endpoint::in_words(&detail.endpoints))
    })
}

/// Its subnets, IPv4 first.
fn subnets(network: &Network) -> String {
    let subnet6 = network.subnet6.map(|subnet| format!(", {subnet}"));
    format!("{}{}", network.subnet, subnet6.unwrap_or_default())
}

/// Goes on after the agent refused one; each refusal is told at once, and the last one's kind is
/// the exit code. Without an agent it ends.
async fn rm(names: Vec<String>, client: &Client, output: &Output) -> Result<(), Error> {
    let all = names.len();
    let mut removed = Vec::new();
    let mut end = Ok(());
    for name in names {
        match client.delete(&path(&["networks", &name])).await {
            Ok(()) => removed.push(name),
            Err(error @ Error::Refused { .. }) if all > 1 => {
                output.complain(&format!("network `{name}`: {error}"));
                end = Err(Error::Partly { done: 0, all, code: error.exit_code() });
            }
            Err(error) => {
                end = Err(error);
                break;
            }
        }
    }
    if let Err(Error::Partly { done, .. }) = &mut end {
        *done = removed.len();
    }
    if !removed.is_empty() || end.is_ok() {
        output.show(&removed, |removed| {
            removed.iter().map(|name| format!("removed network {}\n", printable(name))).collect()
        })?;
    }
    end
}
