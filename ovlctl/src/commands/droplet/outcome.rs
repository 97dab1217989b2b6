//! The table at the end, and what failed.
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::droplet::digitalocean::Droplet;
use crate::droplet::record::Entry;
use crate::droplet::site::DropletError;
use crate::error::{EXIT_REFUSED, EXIT_TRY_LATER, Error};
use crate::output::{Cell, Output, Tone};

/// What became of a droplet.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) id: Option<u64>,
    pub(super) role: &'static str,
    pub(super) public: Option<Ipv4Addr>,
    pub(super) private: Option<Ipv4Addr>,
    pub(super) state: String,
    /// In words.
    pub(super) changes: Vec<String>,
    pub(super) failure: Option<String>,
    /// It may go better later.
    #[serde(skip)]
    pub(super) passing: bool,
    #[serde(skip)]
    pub(super) doubtful: bool,
}

impl Outcome {
    pub(super) fn new(name: &str, role: &'static str, droplet: Option<&Droplet>) -> Outcome {
        Outcome {
            name: name.to_owned(),
            id: droplet.map(|one| one.id),
            role,
            public: droplet.and_then(Droplet::public),
            private: droplet.and_then(Droplet::private),
            state: droplet.map_or_else(|| "not made".to_owned(), |one| one.status.clone()),
            changes: Vec::new(),
            failure: None,
            passing: false,
            doubtful: false,
        }
    }

    /// `entry`: what is recorded of it.
    pub(super) fn fail(&mut self, error: &DropletError, entry: Option<&Entry>) {
        self.passing = error.is_passing();
        let is_asked = entry.is_some_and(|entry| !entry.requests.is_empty());
        let state = match (self.id, is_asked) {
            (Some(_), _) => "failed",
            (None, true) => "asked for",
            (None, false) => "not made",
        };
        self.state = state.to_owned();
        self.failure = Some(error.to_string());
    }
}

/// Prints the table, then names each that failed with its cause; an error if there is any. `next`: what to type
/// then, if all went well.
pub(super) fn report(outcomes: &[Outcome], next: &str, output: &Output) -> Result<(), Error> {
    output.show(&outcomes, |outcomes| {
        let header = ["NAME", "ROLE", "PUBLIC", "PRIVATE", "STATE"];
        let rows = outcomes.iter().map(|one| {
            let tone = match one {
                Outcome { failure: Some(_), .. } => Tone::Bad,
                Outcome { doubtful: true, .. } => Tone::Doubtful,
                _ => Tone::Good,
            };
            [
                Cell::from(one.name.clone()),
                one.role.to_owned().into(),
                address(one.public).into(),
                address(one.private).into(),
                Cell::toned(tone, one.state.clone()),
            ]
        });
        let table = output.table(header, rows);
        let failed = outcomes.iter().any(|one| one.failure.is_some());
        if failed || next.is_empty() { table } else { format!("{table}\n{next}") }
    })?;
    failures(outcomes, output)
}

/// Names each that failed.
fn failures(outcomes: &[Outcome], output: &Output) -> Result<(), Error> {
    let failed: Vec<&Outcome> = outcomes.iter().filter(|one| one.failure.is_some()).collect();
    for one in &failed {
        let failure = one.failure.as_deref().unwrap_or_default();
        // Some begin with it.
        match failure.split_once(' ') {
            Some((first, _)) if first == one.name => output.complain(failure),
            _ => output.complain(&format!("{}: {failure}", one.name)),
        }
    }
    if !failed.is_empty() {
        output.remark("the same command goes on from there");
    }
    let done = outcomes.len() - failed.len();
    partly(done, failed.iter().map(|one| one.passing))
}

/// How it went as a whole; `failed` says of each that failed whether it may go better later.
pub(super) fn partly(done: usize, failed: impl Iterator<Item = bool>) -> Result<(), Error> {
    let failed: Vec<bool> = failed.collect();
    let code = if failed.iter().all(|passing| *passing) { EXIT_TRY_LATER } else { EXIT_REFUSED };
    match failed.len() {
        0 => Ok(()),
        more => Err(Error::Partly { done, all: done + more, code }),
    }
}

pub(super) fn address(address: Option<Ipv4Addr>) -> String {
    address.map_or_else(|| "-".to_owned(), |address| address.to_string())
}
