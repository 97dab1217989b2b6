//! The command line of `droplet`.
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use super::access::Forward;
use crate::droplet::digitalocean::DEFAULT_URL;
use crate::droplet::fence::Open;
use crate::droplet::names::{Cluster, DEFAULT, is_droplet_name, is_tag};
use crate::droplet::ssh::USER;

/// Flags that go with every command of `droplet`.
const ACCOUNT: &str = "Options of every droplet command";

/// Which account and which cluster, and what is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Droplets {
    #[command(flatten)]
    pub(super) account: Account,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, clap::Args)]
pub(super) struct Account {
    /// Which cluster: its droplets are found by their tag `ovl:cluster:NAME`
    ///
    /// 1 to 32 small letters, digits or `-`.
    #[arg(long, global = true, help_heading = ACCOUNT, value_name = "NAME", env = "OVL_CLUSTER", default_value = DEFAULT)]
    pub(super) cluster: Cluster,

    /// Where it is recorded what is made and about to be made
    ///
    /// A folder for this user alone, with host keys and a configuration for ssh. Without it
    /// $XDG_STATE_HOME/ovl, or ~/.local/state/ovl.
    #[arg(long, global = true, help_heading = ACCOUNT, value_name = "DIR", env = "OVL_DROPLET_STATE")]
    pub(super) droplet_state: Option<PathBuf>,

    /// Who to be on droplets where your ssh configuration does not say
    ///
    /// root, or one who may sudo without a password.
    #[arg(long, global = true, help_heading = ACCOUNT, value_name = "USER", default_value = USER, value_parser = user)]
    pub(super) ssh_user: String,

    /// Where the provider's API is
    ///
    /// https, or http to this machine itself.
    #[arg(long, global = true, help_heading = ACCOUNT, value_name = "URL", env = "DIGITALOCEAN_API_URL", default_value = DEFAULT_URL)]
    pub(super) api_url: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make droplets, and make hosts of the cluster of them
    ///
    /// Each gets Docker, a firewall and, with --deb, the agent; then `ovlctl doctor` looks at it. In a cluster
    /// that has a droplet `kvstore` the agent finds its store and the other hosts by itself. A name that is there
    /// already is taken as it is. JSON: as of `cluster up`.
    Create(Create),
    /// List the cluster's droplets, also those that are only asked for
    ///
    /// JSON: [{name, id, role, public, private, state, failure, region, size}]. The state is what DigitalOcean
    /// says (new, active, off, archive), with `not set up` or `made elsewhere` behind it; or asked for, not made,
    /// removed elsewhere, or untagged.
    #[command(visible_alias = "list")]
    Ls,
    /// Print a droplet's address
    ///
    /// JSON: {name, public, private}.
    Ip(Ip),
    /// Open a shell on a droplet, or run a command there
    ///
    /// With your own ssh client, configuration and keys, and with the host key that is known. The exit code is
    /// the command's.
    Ssh(Ssh),
    /// Lead a port of this machine to one that a droplet reaches, until Ctrl-C
    ///
    /// For admin pages that are not published. A connection that breaks is made again.
    Tunnel(Tunnel),
    /// Make droplets be what they are to be: packages, firewall, settings, agent
    ///
    /// Says what it changed; done again it changes nothing. JSON: as of `cluster up`, with changes.
    Provision(Provision),
    /// Restart droplets, and wait until they are back
    ///
    /// Containers with a restart policy come back with Docker. JSON: [name, …].
    Restart(Names),
    /// Remove droplets for good, with all that is on them
    ///
    /// Their hosts leave the cluster first, where they can be reached. Asks, unless --yes is given. Droplets
    /// without the cluster's tag are not touched. JSON: [what was removed, …].
    #[command(visible_alias = "remove")]
    Rm(Remove),
    /// Make and remove a whole cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one in a run")]
pub(super) enum ClusterCommand {
    /// Make a cluster: kvstore with Consul, queenbee, and workerbee-1 to -N
    ///
    /// All of it, to the last check; done again it goes on where it was, and with more workers it grows. JSON:
    /// [{name, id, role, public, private, state, changes, failure}].
    Up(Up),
    /// Remove everything of a cluster: droplets, firewall, tags, and an SSH key that was added for it
    ///
    /// Asks, unless --yes is given. JSON: [what was removed, …].
    Down(Down),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// How many
    ///
    /// 1 to 1000; more than one with a --name that has a number in it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) count: u16,

    /// What they are called
    ///
    /// The letter n in braces becomes the next numbers that are free.
    #[arg(long, value_name = "NAME", default_value = "workerbee-{n}", value_parser = name_pattern)]
    pub(super) name: String,

    #[command(flatten)]
    pub(super) order: OrderArgs,

    /// The cluster's registry, as consul://10.132.0.2:8500
    ///
    /// Without it the droplet `kvstore` of the cluster, if there is one.
    #[arg(long, value_name = "URL", value_parser = plain)]
    pub(super) store: Option<String>,

    /// Hosts to join the cluster by; may be repeated
    ///
    /// Without it the cluster's first three.
    #[arg(long, value_name = "HOST", value_delimiter = ',', value_parser = plain)]
    pub(super) join: Vec<String>,

    /// Show what would be made, and the user data of its first boot; make nothing
    ///
    /// Asks DigitalOcean nothing, and needs no token.
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct OrderArgs {
    /// Where: sfo3, nyc3, fra1, …
    ///
    /// Without it the cluster's, or sfo3.
    #[arg(long, value_name = "SLUG", env = "DIGITALOCEAN_REGION", value_parser = NonEmptyStringValueParser::new())]
    pub(super) region: Option<String>,

    /// What it boots: debian-12-x64, debian-13-x64
    ///
    /// Without it the cluster's, or debian-12-x64.
    #[arg(long, value_name = "SLUG", env = "DIGITALOCEAN_IMAGE", value_parser = NonEmptyStringValueParser::new())]
    pub(super) image: Option<String>,

    /// How large: s-1vcpu-1gb, s-2vcpu-4gb, …
    ///
    /// Without it the cluster's, or s-1vcpu-1gb.
    #[arg(long, value_name = "SLUG", env = "DIGITALOCEAN_SIZE", value_parser = NonEmptyStringValueParser::new())]
    pub(super) size: Option<String>,

    /// The private network, by its id or name
    ///
    /// Without it the region's default one.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(super) vpc: Option<String>,

    /// The region's default private network, as it is without this flag
    ///
    /// Every droplet is in a private network today, and hosts talk over that: `false` is refused.
    #[arg(long, value_name = "BOOL", env = "DIGITALOCEAN_PRIVATE_NETWORKING", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_parser = clap::builder::BoolishValueParser::new())]
    pub(super) private_networking: Option<bool>,

    /// An SSH key to let in; may be repeated
    ///
    /// A file with a public key, or a number, name or fingerprint of the account's.
    /// Without it those of yours that the account has; if it has none, your own is added to it.
    #[arg(long = "ssh-key", value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(super) ssh_keys: Vec<String>,

    /// A tag of your own on each; may be repeated
    ///
    /// Letters, digits, `:`, `-` and `_`; none that begins with `ovl:`.
    #[arg(long = "tag", value_name = "TAG", value_parser = tag)]
    pub(super) tags: Vec<String>,

    /// A port that is open to everybody in the cloud firewall, beside 22; may be repeated
    ///
    /// As 80, 51820/udp or 8000-8010/tcp.
    #[arg(long = "open", value_name = "PORT")]
    pub(super) open: Vec<Open>,

    #[command(flatten)]
    pub(super) package: PackageArgs,

    /// Make droplets that run, and no more
    ///
    /// Their first boot does what it can, `ovlctl droplet provision` the rest.
    #[arg(long)]
    pub(super) no_provision: bool,

    /// Longest wait for a droplet to run, in seconds
    ///
    /// 1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub(super) wait: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct PackageArgs {
    /// The agent's Debian package: a file of this machine, or a URL
    ///
    /// `scripts/package` makes one. Without it the one that the cluster has.
    #[arg(long, value_name = "FILE|URL", env = "OVL_DEB", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub(super) deb: Option<String>,

    /// The SHA-256 of the package, for one from a URL
    ///
    /// 64 hexadecimal digits. Needed for a URL that begins with http:.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub(super) deb_sha256: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// Hosts beside queenbee
    ///
    /// Without it those that the cluster was asked for with, or 3.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(super) workers: Option<u16>,

    #[command(flatten)]
    pub(super) order: OrderArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Down {
    /// Do not ask
    ///
    /// For programs: without a terminal to ask on, nothing is removed otherwise.
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Ip {
    /// The one in the private network
    ///
    /// Without it the public one.
    #[arg(long)]
    pub(super) private: bool,

    /// The droplet's name
    #[arg(value_parser = droplet, add = crate::complete::droplets())]
    pub(super) name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Ssh {
    /// With a terminal, for commands that draw on it
    ///
    /// As `ssh -t`.
    #[arg(short, long)]
    pub(super) terminal: bool,

    /// The droplet's name
    #[arg(value_parser = droplet, add = crate::complete::droplets())]
    pub(super) name: String,

    /// A command and its arguments; without it a shell
    #[arg(last = true, value_name = "CMD")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Tunnel {
    /// The droplet's name
    #[arg(value_parser = droplet, add = crate::complete::droplets())]
    pub(super) name: String,

    /// A port here, and the host and port that it leads to, as the droplet sees them; may be repeated
    ///
    /// As of `ssh -L`. Listens on 127.0.0.1, unless an address and a colon stand before the first port.
    #[arg(required = true, value_name = "PORT:HOST:PORT")]
    pub(super) forwards: Vec<Forward>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Provision {
    /// Names of droplets; without any, all of the cluster
    #[arg(value_name = "NAME", value_parser = droplet, add = crate::complete::droplets())]
    pub(super) names: Vec<String>,

    #[command(flatten)]
    pub(super) package: PackageArgs,

    /// Another registry than before, as consul://10.132.0.2:8500
    ///
    /// For the whole cluster, and for what is made later, unless droplets are named. Without it the one that it
    /// has, or the droplet `kvstore` of the cluster.
    #[arg(long, value_name = "URL", value_parser = plain)]
    pub(super) store: Option<String>,

    /// Other hosts to join the cluster by than before; may be repeated
    ///
    /// Without it those that it has, or the cluster's first three.
    #[arg(long, value_name = "HOST", value_delimiter = ',', value_parser = plain)]
    pub(super) join: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Names {
    /// Names of droplets
    #[arg(required = true, value_name = "NAME", value_parser = droplet, add = crate::complete::droplets())]
    pub(super) names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// Do not ask
    ///
    /// For programs: without a terminal to ask on, nothing is removed otherwise.
    #[arg(long)]
    pub(super) yes: bool,

    /// Names of droplets, or their numbers where two have one name
    #[arg(required = true, value_name = "NAME", value_parser = droplet, add = crate::complete::droplets())]
    pub(super) names: Vec<String>,
}

fn droplet(text: &str) -> Result<String, &'static str> {
    match is_droplet_name(text) {
        true => Ok(text.to_owned()),
        false => Err(
            "a droplet's name has 1 to 63 small letters, digits or `-`, with a letter or digit first and last",
        ),
    }
}

/// Of the agent's settings; whether they are good the agent says.
fn plain(text: &str) -> Result<String, &'static str> {
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("one word, without spaces or control characters"),
    }
}

fn name_pattern(text: &str) -> Result<String, &'static str> {
    droplet(&text.replacen("{n}", "1000", 1)).map(|_| text.to_owned())
}

fn tag(text: &str) -> Result<String, &'static str> {
    match text {
        text if is_ours(text) => Err("tags that begin with ovl: are for droplets' clusters"),
        text if is_tag(text) => Ok(text.to_owned()),
        _ => Err("a tag has 1 to 255 letters, digits, `:`, `-` or `_`"),
    }
}

/// Tags are the same in capitals.
fn is_ours(tag: &str) -> bool {
    let tag = tag.to_ascii_lowercase();
    tag == "ovl" || tag.starts_with("ovl:")
}

fn user(text: &str) -> Result<String, &'static str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    match !text.is_empty() && text.bytes().all(fits) && !text.starts_with('-') {
        true => Ok(text.to_owned()),
        false => Err("a user's name has letters, digits, `_`, `.` or `-`"),
    }
}

fn sha256(text: &str) -> Result<String, &'static str> {
    match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("64 hexadecimal digits, as sha256sum prints them"),
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("1 to 3600 seconds"),
    }
}
