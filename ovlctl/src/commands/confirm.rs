//! A question that only a person may answer.
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::error::Error;

/// Asks on the terminal; signals go on to be heard. `alone`: what to say where there is none.
///
/// # Errors
/// [`Error::Unconfirmed`] unless the answer is yes.
pub(super) async fn confirm(question: String, alone: &'static str) -> Result<(), Error> {
    let asked = tokio::task::spawn_blocking(move || ask(&question, alone)).await;
    asked.unwrap_or_else(|error| Err(Error::Output(error.into())))
}

fn ask(question: &str, alone: &'static str) -> Result<(), Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Unconfirmed(alone));
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "{question} Type yes to go on: ");
    let _ = err.flush();
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(_) if line.trim() == "yes" => Ok(()),
        Ok(_) | Err(_) => Err(Error::Unconfirmed("nothing was changed")),
    }
}
