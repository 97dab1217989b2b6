//! Hosts on DigitalOcean: from a token to a running cluster. What the commands do with it is in
//! `commands/droplet`.
//!
//! | file | task |
//! |---|---|
//! | `digitalocean` | the provider's API: requests, retries, pages, errors |
//! | `names` | names of clusters and droplets, and the tags that say what is ours |
//! | `record` | what is made and about to be made, on this machine's disk |
//! | `site` | a cluster, at the provider and in the record |
//! | `keys` | which SSH keys a droplet lets in |
//! | `fence` | the firewall at the provider |
//! | `make` | from orders to droplets that run, each made once |
//! | `host` | what a droplet is to be: the script that makes it so, and cloud-init's user data |
//! | `ssh` | the user's own ssh client, host keys that are known, commands, tunnels |
//! | `provision` | over ssh: own host keys, package, script, restart |
//! | `board` | how far each is, on a terminal or in lines |
pub(crate) mod board;
pub(crate) mod digitalocean;
pub(crate) mod fence;
pub(crate) mod host;
pub(crate) mod keys;
pub(crate) mod make;
pub(crate) mod names;
pub(crate) mod provision;
pub(crate) mod record;
pub(crate) mod site;
pub(crate) mod ssh;
