//! The agent: one per host, it decides everything about the overlay.

pub mod args;
pub mod config;
pub mod control;
pub mod core;
pub mod dns;
pub mod docker;
pub mod driver;
pub mod preflight;
pub mod unix_socket;

/// An error and its causes as one line: `what: why: why`. Used once, where an error leaves the
/// program for a person.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
