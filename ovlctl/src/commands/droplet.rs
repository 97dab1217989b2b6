//! `droplet`: hosts on DigitalOcean, from a token to a running cluster.
//!
//! | file | command |
//! |---|---|
//! | `args` | the command line of all of them |
//! | `order` | flags, what is recorded and defaults made into orders, checked before anything is made |
//! | `create` | `create`, and what `cluster up` shares with it: make, wait, provision, check |
//! | `cluster` | `cluster up` and `down` |
//! | `look` | `ls`, `ip` |
//! | `access` | `ssh`, `tunnel` |
//! | `provision`, `restart`, `remove` | the commands of these names |
//! | `outcome` | the table at the end, and what failed |
mod access;
mod args;
mod cluster;
mod create;
mod look;
mod order;
mod outcome;
mod provision;
mod remove;
mod restart;

use self::args::Account;
pub(crate) use self::args::Droplets;
use self::args::{ClusterCommand, Command};
use crate::client::Client;
use crate::droplet::digitalocean::{DigitalOcean, Token, Transport};
use crate::droplet::record::Folder;
use crate::droplet::site::{DropletError, Site};
use crate::error::Error;
use crate::output::Output;
use crate::stop::Stop;

pub(super) async fn run(droplets: Droplets, client: &Client, output: &Output) -> Result<(), Error> {
    if client.host().is_some() {
        return Err(Error::Usage(
            "--host names a host whose agent is asked; droplets are made from here".to_owned(),
        ));
    }
    let Droplets { account, command } = droplets;
    let is_tunnel = matches!(command, Command::Tunnel(_));
    let work = async {
        match command {
            Command::Ls => look::ls(&account, output).await,
            Command::Ip(asked) => look::ip(&account, asked, output).await,
            Command::Ssh(asked) => access::ssh(&account, asked).await,
            Command::Tunnel(asked) => access::tunnel(&account, asked, output).await,
            Command::Create(asked) => create::run(&account, asked, output).await,
            Command::Provision(asked) => provision::run(&account, asked, output).await,
            Command::Restart(asked) => restart::run(&account, asked, output).await,
            Command::Rm(asked) => remove::run(&account, asked, output).await,
            Command::Cluster(ClusterCommand::Up(asked)) => {
                cluster::up(&account, asked, output).await
            }
            Command::Cluster(ClusterCommand::Down(asked)) => {
                cluster::down(&account, asked, output).await
            }
        }
    };
    let mut stop = Stop::new(None)?;
    tokio::select! {
        done = work => done,
        () = stop.reached() => match is_tunnel {
            // Its only end.
            true => Ok(()),
            false => Err(Error::Interrupted),
        },
    }
}

impl Account {
    /// The provider, opened with the token of the environment.
    fn api(&self) -> Result<DigitalOcean, DropletError> {
        let notice = Box::new(|text: &str| eprintln_quietly(text));
        let transport = Transport::new(&self.api_url, Token::from_environment()?, notice)?;
        Ok(DigitalOcean::new(transport))
    }

    /// ` --cluster NAME`, as it stands in commands that are shown; nothing for the default one.
    fn flag(&self) -> String {
        match self.cluster.as_str() {
            "default" => String::new(),
            name => format!(" --cluster {name}"),
        }
    }

    fn folder(&self) -> Result<Folder, DropletError> {
        Ok(Folder::of(&self.cluster, self.droplet_state.as_deref())?)
    }

    /// The cluster, held by this program alone.
    fn site(&self) -> Result<Site, DropletError> {
        let (api, folder) = (self.api()?, self.folder()?);
        Ok(Site::open(api, self.cluster.clone(), folder, self.ssh_user.clone())?)
    }
}

fn eprintln_quietly(text: &str) {
    use std::io::Write as _;
    // Nobody to tell: fine.
    let _ = writeln!(std::io::stderr(), "{}", crate::output::printable(text));
}
