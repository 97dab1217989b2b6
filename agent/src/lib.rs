//! The agent: one per host, it decides everything about the overlay.

pub mod args;
mod capture;
pub mod config;
pub mod control;
pub mod core;
pub mod dns;
pub mod docker;
pub mod doctor;
pub mod driver;
pub mod events;
pub mod log;
pub mod metrics;
pub mod peers;
pub mod preflight;
mod probe;
pub mod purge;
pub mod systemd;
pub mod tool;
mod trace;
mod underlay;
pub mod unix_socket;

/// The version of the programs: the workspace's own, unless the build was told another one (a
/// package of a later version from the same sources, to try an upgrade with).
pub const VERSION: &str = match option_env!("OVL_BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// An error and its causes as one line: `what: why: why`. Used once, where an error leaves the
/// program for a person. A cause that an error repeats in its own text is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text.push_str(": ");
            text.push_str(&why);
        }
        cause = error.source();
    }
    text
}
