//! What the script says, line by line.
use crate::output::printable;

/// More of a line is cut off.
const LONGEST: usize = 2000;

/// A line of the script's output, fit to be shown: on one line, without control characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Line {
    /// As it should be.
    Same(String),
    /// Changed, and what.
    Changed(String),
    /// The machine must be restarted, and why.
    Restart(String),
    /// Failed, and why. The script will end with an error.
    Failed(String),
    /// From somebody else: a shell that cannot go on, ssh.
    Other(String),
}

impl Line {
    /// With or without its newline.
    pub(crate) fn parse(line: &str) -> Self {
        let end = line.char_indices().nth(LONGEST).map_or(line.len(), |(end, _)| end);
        let text = printable(line.get(..end).unwrap_or(line));
        let text = text.trim();
        let Some((mark, rest)) = text.split_once(' ') else { return Self::Other(text.to_owned()) };
        let rest = rest.trim_start().to_owned();
        match mark {
            "=" => Self::Same(rest),
            "+" => Self::Changed(rest),
            "~" => Self::Restart(rest),
            "!" => Self::Failed(rest),
            _ => Self::Other(text.to_owned()),
        }
    }
}
