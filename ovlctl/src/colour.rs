//! Colours, where a person looks at a terminal that wants them.
use std::io::IsTerminal as _;

/// Colours of a terminal (ECMA-48, SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
}

/// Whether there are any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// On when standard output is a terminal, unless the variable NO_COLOR is set to something.
    pub(crate) fn of_stdout() -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint { on: !refused && std::io::stdout().is_terminal() }
    }

    /// There are colours.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// The text in that colour.
    pub(crate) fn over(self, colour: Option<Colour>, text: &str) -> String {
        let code = match colour {
            Some(Colour::Red) => 31,
            Some(Colour::Green) => 32,
            Some(Colour::Yellow) => 33,
            None => return text.to_owned(),
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_a_terminal_stays_plain() {
        let red = Some(Colour::Red);
        assert_eq!(Paint { on: false }.over(red, "x"), "x");
        assert_eq!(Paint { on: true }.over(red, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Paint { on: true }.over(None, "x"), "x");
    }
}
