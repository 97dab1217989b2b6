//! `droplet ssh` and `tunnel`: with the user's own client.
use std::os::unix::process::CommandExt as _;
use std::str::FromStr;
use std::time::Duration;

use super::args::{Account, Ssh, Tunnel};
use super::look::{find, no_address};
use crate::droplet::record::CONFIG;
use crate::droplet::site::{self, DropletError};
use crate::droplet::ssh::{Known, Shell, SshError, Target};
use crate::error::Error;
use crate::output::Output;

/// Between looks whether a tunnel still stands.
const LOOK: Duration = Duration::from_secs(5);
/// Tries to make it again.
const AGAIN_WITHIN: Duration = Duration::from_secs(120);

/// `[ADDRESS:]PORT:HOST:PORT`, as of `ssh -L`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forward {
    listen: (String, u16),
    to: (String, u16),
}

impl FromStr for Forward {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Forward, Self::Err> {
        const FORM: &str = "[ADDRESS:]PORT:HOST:PORT, as 8080:localhost:8080";
        let parts: Vec<&str> = text.split(':').collect();
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(FORM);
        let host = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            match !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
                true => Ok(text.to_owned()),
                false => Err(FORM),
            }
        };
        let (bind, parts) = match parts.as_slice() {
            [bind, rest @ ..] if rest.len() == 3 => (host(bind)?, rest),
            rest => ("127.0.0.1".to_owned(), rest),
        };
        let [from, to, to_port] = parts else { return Err(FORM) };
        Ok(Forward { listen: (bind, port(from)?), to: (host(to)?, port(to_port)?) })
    }
}

/// What ssh has to know, and the droplet's number.
async fn target(account: &Account, name: &str) -> Result<(Target, u64), Error> {
    let folder = account.folder()?;
    let before = folder.edition(CONFIG);
    let (_, sight) = account.sight().await?;
    let droplet = find(&sight.droplets, name, account)?;
    let places = site::introduced(&folder, &sight.droplets).map_err(DropletError::from)?;
    // Who wrote it since then may have seen more.
    if folder.edition(CONFIG) == before {
        site::write_config(&folder, &places).map_err(DropletError::from)?;
    }
    let target = site::target(&folder, droplet, &places, &account.ssh_user);
    Ok((target.ok_or_else(|| no_address(droplet))?, droplet.id))
}

pub(super) async fn ssh(account: &Account, asked: Ssh, output: &Output) -> Result<(), Error> {
    let (target, id) = target(account, &asked.name).await?;
    let folder = account.folder()?;
    let known = Known::of(&folder, &asked.name, id);
    if !known.is_pinned() {
        match Shell::connect(&target, &known, |text| output.remark(text)).await {
            Ok(shell) => shell.close().await,
            // ssh itself may ask for what a key needs.
            Err(SshError::Denied { .. }) => {}
            Err(error) => return Err(DropletError::from(error).into()),
        }
    }
    let config = target.left_config().map_err(DropletError::from)?;
    let mut command = std::process::Command::new("ssh");
    command.arg("-F").arg(&config).env_remove("DIGITALOCEAN_ACCESS_TOKEN");
    if !known.is_pinned() {
        // A host on the way let nobody in.
        output.remark(&known.to_be_trusted());
        command.args(["-o", "StrictHostKeyChecking=accept-new"]);
    }
    if asked.terminal {
        command.arg("-t");
    }
    command.arg(&target.name);
    if !asked.command.is_empty() {
        command.arg("--").args(&asked.command);
    }
    // Returns only if it could not be started.
    let error = command.exec();
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => DropletError::from(SshError::NoClient).into(),
        _ => Error::Runtime(error),
    })
}

pub(super) async fn tunnel(account: &Account, asked: Tunnel, output: &Output) -> Result<(), Error> {
    let (target, id) = target(account, &asked.name).await?;
    let folder = account.folder()?;
    let known = Known::of(&folder, &asked.name, id);
    let lead = async || lead(&target, &known, &asked.forwards, output).await;
    for forward in &asked.forwards {
        is_free(forward)?;
    }
    let mut shell = lead().await.map_err(DropletError::from)?;
    for Forward { listen, to } in &asked.forwards {
        output.remark(&format!(
            "{}:{} leads to {}:{} as {} sees it; Ctrl-C ends it",
            listen.0, listen.1, to.0, to.1, asked.name
        ));
    }
    loop {
        while shell.stands().await {
            tokio::time::sleep(LOOK).await;
        }
        drop(shell);
        output.remark("the connection broke off: making it again");
        let begun = tokio::time::Instant::now();
        shell = loop {
            // Its address may be another machine's by now.
            if !known.is_pinned() {
                return Err(Error::NotFound(format!(
                    "the host key of {} is not known any more: was the droplet removed?",
                    asked.name
                )));
            }
            match lead().await {
                Ok(shell) => break shell,
                Err(error) if error.is_passing() && begun.elapsed() < AGAIN_WITHIN => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Err(DropletError::from(error).into()),
            }
        };
        output.remark("it leads there again");
    }
}

async fn lead(
    target: &Target,
    known: &Known<'_>,
    forwards: &[Forward],
    output: &Output,
) -> Result<Shell, SshError> {
    let shell = Shell::connect_to_lead(target, known, |text| output.remark(text)).await?;
    for Forward { listen, to } in forwards {
        shell.forward((&listen.0, listen.1), (&to.0, to.1)).await?;
    }
    Ok(shell)
}

/// ssh's own words for a port that is taken say less.
fn is_free(Forward { listen: (address, port), .. }: &Forward) -> Result<(), Error> {
    let taken = |error: std::io::Error| {
        Error::NotFound(format!(
            "cannot listen on {address}:{port} of this machine: {error}; take another port"
        ))
    };
    std::net::TcpListener::bind((address.as_str(), *port)).map(drop).map_err(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_read_as_ssh_reads_it() {
        let read =
            |text: &str| text.parse::<Forward>().map(|f| (f.listen.0, f.listen.1, f.to.0, f.to.1));
        assert_eq!(
            read("8080:localhost:80"),
            Ok(("127.0.0.1".into(), 8080, "localhost".into(), 80))
        );
        assert_eq!(read("0.0.0.0:1:10.0.0.2:2"), Ok(("0.0.0.0".into(), 1, "10.0.0.2".into(), 2)));
        for bad in
            ["", "8080", "8080:x", "0:x:1", "1:x:0", "1::2", "1:-o:2", "a:1:b:2:c", "1:a b:2"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
