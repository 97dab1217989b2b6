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
use crate::droplet::record::{Folder, Record};
use crate::droplet::site::{self, DropletError, Sight, Site};
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
            Command::Ssh(asked) => access::ssh(&account, asked, output).await,
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
            false => Err(Error::Interrupted { command: account.cluster.command() }),
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

    fn folder(&self) -> Result<Folder, DropletError> {
        Ok(Folder::of(&self.cluster, self.droplet_state.as_deref())?)
    }

    /// The cluster, held by this program alone.
    async fn site(&self) -> Result<Site, DropletError> {
        let (api, folder) = (self.api()?, self.folder()?);
        let site = Site::open(api, self.cluster.clone(), folder.clone(), self.ssh_user.clone())?;
        let owner = site::check_owner(&site.api, &site.cluster, &folder, &site.record()).await?;
        if let Some(owner) = owner {
            // Written with what is recorded next.
            site.book().record.account = Some(owner);
        }
        Ok(site)
    }

    /// What there is of the cluster, for who only looks.
    async fn sight(&self) -> Result<(Record, Sight), DropletError> {
        let (api, folder) = (self.api()?, self.folder()?);
        let record = folder.read()?;
        if !record.droplets.is_empty() {
            site::check_owner(&api, &self.cluster, &folder, &record).await?;
        }
        let sight = site::look(&api, &self.cluster, &record).await?;
        Ok((record, sight))
    }
}

fn eprintln_quietly(text: &str) {
    use std::io::Write as _;
    // Nobody to tell: fine.
    let _ = writeln!(std::io::stderr(), "{}", crate::output::printable(text));
}
