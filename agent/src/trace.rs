//! The way from one container to another, hop by hop, and real packets along it.
//!
//! The agent of the host where the way begins follows it. It asks its core which endpoints are meant,
//! looks at its kernel, asks the agent of the other host for the same, and has all of it judged. Then
//! it sends packets out of the beginning's own interface, and watches with the other agent where they
//! are seen.
//!
//! - `select`: which endpoints are meant.
//! - `facts`: what is seen of one end, as data; `gather` sees it.
//! - `judge`: what the facts come to, hop by hop (`hops`).
//! - `watch`: where probes are seen at one host; `probe` sends them.
//! - `remote`: the other host's part in all of it; `run`: one trace from its beginning to its end.
//! - `points`, `blame` and `arp`: what it says that they were seen or lost.
//! - `filters`: which rule of a packet filter loses them, as the doctor says.
//! - `conclude`: the sentence at the end.
//!
//! All but `gather`, `watch`, `probe`, `remote`, `filters` and `run` are pure.

mod answer;
mod arp;
mod blame;
mod conclude;
mod facts;
mod filters;
mod gather;
mod hops;
mod judge;
mod own_echo;
mod points;
mod probe;
mod remote;
mod resolver;
mod run;
mod select;
#[cfg(test)]
mod tests;
mod tried;
mod watch;

pub(crate) use self::remote::{AskEnd, AskWatch, Watches, look};
pub(crate) use self::run::follow;
