//! What the tab key offers beside commands and flags: hosts, networks and endpoints, as the agent of
//! this host knows them at that moment.
//!
//! The shell runs this program again with the words so far (`OVLCTL_COMPLETE` in its environment). An agent
//! that does not answer at once has nothing to offer: no word may come between a user and the prompt.
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use clap_complete::engine::ArgValueCompleter;
use ovl_agent::control::api::{Endpoint, Member, Network};
use serde::de::DeserializeOwned;

use crate::client::{Client, path};
use crate::droplet::names::DEFAULT;
use crate::droplet::record::Folder;

/// Set by the shell's script.
pub(crate) const VARIABLE: &str = "OVLCTL_COMPLETE";

/// Longest wait for the agent.
const PATIENCE: Duration = Duration::from_millis(400);

/// Names that are offered at most: who has more types a letter first.
const OFFERED_MAX: usize = 500;

/// Names of hosts.
pub(crate) fn hosts() -> ArgValueCompleter {
    ArgValueCompleter::new(|start: &OsStr| {
        offer(start, ask::<Vec<Member>>("members").into_iter().flatten().map(|m| m.name))
    })
}

/// Names of networks.
pub(crate) fn networks() -> ArgValueCompleter {
    ArgValueCompleter::new(|start: &OsStr| {
        offer(start, ask::<Vec<Network>>("networks").into_iter().flatten().map(|n| n.name))
    })
}

/// Names and aliases of endpoints, and their addresses for who begins with a digit.
pub(crate) fn endpoints() -> ArgValueCompleter {
    ArgValueCompleter::new(|start: &OsStr| {
        let addresses = start.to_string_lossy().starts_with(|c: char| c.is_ascii_digit());
        let endpoints = ask::<Vec<Endpoint>>("endpoints").into_iter().flatten();
        let words = endpoints.flat_map(|endpoint| {
            let address = addresses.then(|| endpoint.ipv4.to_string());
            endpoint.names.into_iter().chain([endpoint.name]).chain(address)
        });
        offer(start, words)
    })
}

/// Names of droplets, as they are recorded on this machine.
pub(crate) fn droplets() -> ArgValueCompleter {
    ArgValueCompleter::new(|start: &OsStr| offer(start, recorded().into_iter().flatten()))
}

/// Of the cluster that is named on the line, or in the environment.
fn recorded() -> Option<Vec<String>> {
    let line: Vec<OsString> = std::env::args_os().collect();
    let set = |flag, variable| given(&line, flag).or_else(|| variable_of(variable));
    let cluster = set("--cluster", "OVL_CLUSTER").unwrap_or_else(|| DEFAULT.into());
    let base = set("--droplet-state", "OVL_DROPLET_STATE").map(PathBuf::from);
    let folder = Folder::of(&cluster.to_str()?.parse().ok()?, base.as_deref()).ok()?;
    Some(folder.read().ok()?.droplets.into_keys().collect())
}

/// One that is empty is as one that is not set.
fn variable_of(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn offer(start: &OsStr, words: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let start = start.to_string_lossy();
    let fit = words.filter(|word| word.starts_with(start.as_ref()) && is_plain(word));
    let fit: BTreeSet<String> = fit.collect();
    fit.into_iter().take(OFFERED_MAX).map(CompletionCandidate::new).collect()
}

/// Other hosts say what their endpoints are named: what a shell would take for more than a word is not
/// put into a user's command line.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    !word.starts_with('-') && word.chars().all(plain)
}

fn ask<T: DeserializeOwned>(what: &str) -> Option<T> {
    let line: Vec<OsString> = std::env::args_os().collect();
    let socket = given(&line, "--socket").or_else(|| variable_of("OVL_CONTROL_SOCKET"));
    let socket = socket.map_or_else(|| crate::args::SOCKET.into(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(Client::new(socket, PATIENCE).get(&path(&[what]))).ok()
}

/// The value of a flag on the line that is being written: behind `--` in this program's own.
fn given(line: &[OsString], flag: &str) -> Option<OsString> {
    let words = line.iter().skip_while(|word| *word != "--").skip(1);
    let next = words.clone().skip(1);
    let mut pairs = words.zip(next.map(Some).chain([None]));
    pairs.find_map(|(word, next)| match word.to_str()?.strip_prefix(flag)? {
        "" => next.cloned(),
        rest => rest.strip_prefix('=').map(OsString::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_on_the_line_counts() {
        let line = |words: &str| -> Vec<OsString> { words.split(' ').map(Into::into).collect() };
        let given = |words| given(&line(words), "--socket");
        assert_eq!(given("ovlctl -- ovlctl --socket /x resolve w"), Some("/x".into()));
        assert_eq!(given("ovlctl -- ovlctl resolve --socket=/y w"), Some("/y".into()));
        assert_eq!(given("ovlctl --socket /z -- ovlctl resolve w"), None);
        assert_eq!(given("ovlctl -- ovlctl --socket"), None);
    }

    #[test]
    fn words_that_a_shell_would_not_take_for_one_are_not_offered() {
        let words = ["web-1", "web.2", "wéb", "web$(reboot)", "web;", "-web", "other", "web-1"];
        let offered = offer(OsStr::new("w"), words.iter().map(ToString::to_string));
        let offered: Vec<_> = offered.iter().map(|c| c.get_value().to_str().unwrap()).collect();
        assert_eq!(offered, ["web-1", "web.2"]);
    }
}
