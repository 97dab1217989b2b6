//! What can go wrong with a lab, as one sentence for a person.
use std::path::PathBuf;
use std::time::Duration;

/// Why a lab, or something in it, could not be made, changed or asked.
///
/// The lab may be half built after an error of `up`; `down` takes down whatever is there.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces cannot be made without root; nothing was changed.
    #[error("the lab makes network namespaces and needs root: run it with sudo")]
    NotRoot,
    /// There is no lab of this name.
    #[error("lab {0} is not up: `lab up --name {0}` brings it up")]
    NotUp(String),
    /// The lab's record names the host, but its namespaces are gone.
    #[error("host {host} of lab {lab} is gone: `lab up --name {lab}` builds the lab anew")]
    HostGone {
        /// The lab's name.
        lab: String,
        /// The host's name.
        host: String,
    },
    /// No host of this name in the lab.
    #[error("no host {host} in lab {lab}: it has {known}")]
    NoSuchHost {
        /// The lab's name.
        lab: String,
        /// What was asked for.
        host: String,
        /// The hosts that there are.
        known: String,
    },
    /// No container of this name in the lab.
    #[error("no container {name} in lab {lab}: it has {known}")]
    NoSuchContainer {
        /// The lab's name.
        lab: String,
        /// What was asked for.
        name: String,
        /// The containers that there are.
        known: String,
    },
    /// Container names are unique in a lab, so that `in NAME` needs no host.
    #[error("container {name} is in host {host} already: detach it first, or take another name")]
    ContainerExists {
        /// The container's name.
        name: String,
        /// Where it is.
        host: String,
    },
    /// The lab has no Consul server.
    #[error("lab {0} has no kvstore: bring it up with --store consul")]
    NoKvstore(String),
    /// A name that is no name here.
    #[error("{what} {value:?} is not valid: {expected}")]
    BadName {
        /// What the name is for.
        what: &'static str,
        /// What was given.
        value: String,
        /// What a valid one looks like.
        expected: &'static str,
    },
    /// A program that the lab needs is not there.
    #[error("{program} was not found in {searched}: {remedy}")]
    NoProgram {
        /// Its name.
        program: String,
        /// Where it was looked for.
        searched: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A program of the machine could not be started.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program that had to work failed.
    #[error("`{command}` failed with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines of what it said.
        stderr: String,
    },
    /// `ovlctl` said no.
    #[error("{said} (on {host})")]
    Refused {
        /// The host that it ran on.
        host: String,
        /// Its sentence.
        said: String,
    },
    /// A program did not end in time and was killed.
    #[error("`{command}` did not end within {limit:?} and was killed")]
    CommandTimeout {
        /// The command line.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
    /// A daemon ended as soon as it was started.
    #[error("{what} ended at once; the end of {log}: {tail}", log = log.display())]
    EndedAtOnce {
        /// Which daemon.
        what: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A daemon is not running, and was asked something that needs it.
    #[error("{what} is not running: `lab start` starts it")]
    NotRunning {
        /// Which daemon.
        what: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {limit:?}; last seen: {seen}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was seen last.
        seen: String,
    },
    /// A file of the lab could not be read or written.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// What was done to it.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A record of the lab makes no sense.
    #[error("{path} is not a record of a lab: `lab down` removes it", path = path.display())]
    BadRecord {
        /// The file.
        path: PathBuf,
    },
    /// A process could not be signalled.
    #[error("cannot send {signal} to process {pid}")]
    Signal {
        /// Which signal.
        signal: &'static str,
        /// To whom.
        pid: i32,
        /// Why.
        #[source]
        source: nix::Error,
    },
    /// A program answered with something that is not JSON of the shape expected.
    #[error("`{command}` answered with something unexpected: {answer}")]
    BadAnswer {
        /// What was run.
        command: String,
        /// What it said.
        answer: String,
    },
    /// Ctrl-C, or a request to stop.
    #[error("interrupted")]
    Interrupted,
    /// The demo ran, and something that it shows was not as it must be.
    #[error("the demo missed {0}")]
    DemoMissed(String),
}

impl LabError {
    /// The error with its causes, as one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}
