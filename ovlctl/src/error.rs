//! Why a command failed, as one sentence, and the exit code that goes with it.
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::droplet::site::DropletError;

/// The agent said no, or there is no such thing.
pub(crate) const EXIT_REFUSED: u8 = 1;
/// Not all could be looked at.
pub(crate) const EXIT_UNTOLD: u8 = 2;
/// What was looked at is broken.
pub(crate) const EXIT_BROKEN: u8 = 4;
/// Wrong usage (`EX_USAGE` of sysexits.h).
pub(crate) const EXIT_USAGE: u8 = 64;
/// The agent does not answer, or not as an agent would (`EX_UNAVAILABLE`).
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;

/// As shells say that a signal ended a program: 128 and SIGINT.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;
/// Nothing is wrong with the request: try again later (`EX_TEMPFAIL`).
pub(crate) const EXIT_TRY_LATER: u8 = 75;

/// Why a command failed. Each text is complete: it is printed as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody listens.
    #[error("no agent answers on {}: {why}", socket.display())]
    NoAgent { socket: PathBuf, why: String, kind: io::ErrorKind },
    /// Somebody may listen, but not to this user.
    #[error(
        "{} is not open to this user: try it with sudo, or, to read only, as a member of the \
         socket's group (the agent's setting control-group)",
        socket.display()
    )]
    Closed { socket: PathBuf },
    /// The path cannot be that of a socket.
    #[error("{} cannot be a socket: {why}", socket.display())]
    BadSocket { socket: PathBuf, why: String },
    /// It took too long; a change may still come about.
    #[error(
        "the agent on {} did not answer within {} s: look at its log; what was asked for may \
         still be done",
        socket.display(),
        patience.as_secs_f64()
    )]
    Slow { socket: PathBuf, patience: Duration },
    /// What came back is no answer of an agent.
    #[error(
        "the answer on {} is not understood: {why}; is that ovl-agent, and of the same version \
         as this ovlctl?",
        socket.display()
    )]
    Garbage { socket: PathBuf, why: String },
    /// The agent's own words.
    #[error("{sentence}")]
    Refused { sentence: String, later: bool },
    /// This program's own words: there is no such thing, or more than one.
    #[error("{0}")]
    NotFound(String),
    /// Several things were asked for, and not all were done; each has been told already.
    #[error("{done} of {all} were done")]
    Partly { done: usize, all: usize, code: u8 },
    /// What was looked at is not as it should be.
    #[error("{0}")]
    Broken(String),
    /// What was found has been told already; the exit code is its verdict.
    #[error("exit code {0}")]
    Told(u8),
    /// Whether it is broken could not be told.
    #[error("{0}")]
    Untold(String),
    /// Something was not taken away from this host.
    #[error("{0}")]
    Kept(String),
    /// The user did not say yes; nothing was done.
    #[error("{0}")]
    Unconfirmed(&'static str),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// What came before is shown, or written.
    #[error("the capture ended: {0}")]
    CaptureEnded(String),
    /// A file to write to.
    #[error("cannot write {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    /// Standard output.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
    /// Droplets, or their provider.
    #[error("{0}")]
    Droplet(DropletError),
    /// By a signal, in the middle; what was begun is recorded.
    #[error(
        "interrupted: `{command} ls` shows what there is, and the same command goes on from there"
    )]
    Interrupted { command: String },
    /// This process.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl From<DropletError> for Error {
    fn from(error: DropletError) -> Error {
        Error::Droplet(error)
    }
}

impl Error {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::NoAgent { .. }
            | Error::Slow { .. }
            | Error::Garbage { .. }
            | Error::CaptureEnded(_) => EXIT_UNAVAILABLE,
            Error::Droplet(error) if error.is_passing() => EXIT_TRY_LATER,
            Error::Droplet(error) if error.is_usage() => EXIT_USAGE,
            Error::Interrupted { .. } => EXIT_INTERRUPTED,
            Error::Closed { .. } => EXIT_REFUSED,
            Error::BadSocket { .. } | Error::Usage(_) | Error::Unconfirmed(_) => EXIT_USAGE,
            Error::Refused { later: true, .. } => EXIT_TRY_LATER,
            Error::Broken(_) => EXIT_BROKEN,
            Error::Partly { code, .. } | Error::Told(code) => *code,
            Error::Untold(_) => EXIT_UNTOLD,
            Error::Refused { later: false, .. }
            | Error::NotFound(_)
            | Error::Kept(_)
            | Error::Droplet(_)
            | Error::File { .. }
            | Error::Output(_)
            | Error::Runtime(_) => EXIT_REFUSED,
        }
    }

    /// The agent is away, or has no time: it may answer later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Error::NoAgent { .. } | Error::Slow { .. } | Error::Refused { later: true, .. }
        )
    }

    /// Nothing is left to be said.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self, Error::Told(_))
    }

    /// The reader of our output went away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
