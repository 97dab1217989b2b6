//! Names of network interfaces.

use std::{fmt, str::FromStr};

/// The name of a Linux network interface: 1 to 15 bytes (`IFNAMSIZ` less its NUL), nothing the
/// kernel refuses or expands (`/`, `:`, `%`, white space, `.` and `..`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(String);

/// Longest name in bytes: `IFNAMSIZ` is 16 with the terminating NUL.
const MAX_BYTES: usize = 15;

impl FromStr for IfName {
    type Err = ParseIfNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
        let reason = match text {
            "" => "is empty",
            "." | ".." => "is reserved",
            _ if text.len() > MAX_BYTES => "is longer than 15 bytes",
            _ if text.contains(refused) => {
                "holds '/', ':', '%', white space or a control character"
            }
            _ => return Ok(Self(text.to_owned())),
        };
        Err(ParseIfNameError { value: text.to_owned(), reason })
    }
}

impl AsRef<str> for IfName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text cannot be the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} cannot name an interface: it {reason}")]
pub struct ParseIfNameError {
    value: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_takes_are_taken() {
        for text in ["eth0", "ovl-16777215", "a", "fifteen-bytes-x", "tap.1@x"] {
            assert_eq!(text.parse::<IfName>().unwrap().as_ref(), text);
        }
    }

    #[test]
    fn names_that_the_kernel_refuses_or_expands_are_refused() {
        for text in
            ["", ".", "..", "sixteen-bytes-xx", "a/b", "a b", "a:1", "eth%d", "tab\t", "nul\0"]
        {
            assert!(text.parse::<IfName>().is_err(), "{text:?}");
        }
    }
}
