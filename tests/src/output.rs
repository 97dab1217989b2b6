//! Standard output, whose reader may have gone away: that must neither end a command before it has
//! done its work nor count as its failure.
use std::io::{self, Write};

/// Writes text as it is.
pub fn show(text: &str) {
    let mut stdout = io::stdout();
    // Nobody reads it any more: then nobody misses it.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes a line.
pub fn line(text: &str) {
    show(&format!("{text}\n"));
}
