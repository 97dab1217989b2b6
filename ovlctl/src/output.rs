//! What is printed: tables for people, JSON for programs, complaints on standard error.
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Color, Table};
use serde::Serialize;

use crate::error::Error;

/// Where answers go.
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    colour: bool,
}

/// How a word looks on a terminal; elsewhere it is the word alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shade {
    #[default]
    Plain,
    Good,
    Doubtful,
    Bad,
}

impl Shade {
    fn colour(self) -> Option<(Color, &'static str)> {
        match self {
            Shade::Plain => None,
            Shade::Good => Some((Color::Green, "32")),
            Shade::Doubtful => Some((Color::Yellow, "33")),
            Shade::Bad => Some((Color::Red, "31")),
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) shade: Shade,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, shade: Shade) -> Cell {
        Cell { text: text.into(), shade }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::new(text, Shade::Plain)
    }
}

impl Output {
    /// Colours are for terminals, and for those who did not say no (<https://no-color.org>).
    pub(crate) fn new(json: bool) -> Output {
        let terminal = !json && io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).unwrap_or_default();
        let colour = terminal && set("NO_COLOR").is_empty() && set("TERM") != "dumb";
        Output { json, terminal, colour }
    }

    /// A word in a text; `text` is made printable.
    pub(crate) fn paint(&self, text: &str, shade: Shade) -> String {
        let text = printable(text);
        match shade.colour().filter(|_| self.colour) {
            Some((_, code)) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text,
        }
    }

    /// As [`table`], with shades.
    pub(crate) fn table<const N: usize>(
        &self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
    ) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header);
        table.add_rows(rows.into_iter().map(|row| {
            row.map(|Cell { text, shade }| {
                let cell = comfy_table::Cell::new(printable(&text));
                match shade.colour() {
                    Some((colour, _)) => cell.fg(colour),
                    None => cell,
                }
            })
        }));
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        unpadded(&mut table)
    }

    /// Shows a value that was shown before: on a terminal in its place, elsewhere after it. In JSON, one
    /// value a line.
    pub(crate) fn again<T: Serialize>(
        &self,
        value: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        let text = if self.json {
            let text = serde_json::to_string(value);
            text.map_err(|error| Error::Output(error.into()))? + "\n"
        } else if self.terminal {
            // Home, and nothing below (ECMA-48: CUP, ED).
            format!("\u{1b}[H\u{1b}[J{}", words(value))
        } else {
            words(value) + "\n"
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a value: as JSON if that was asked for, else the text made by `words`.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        let text = if self.json { json(value)? } else { words(value) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// Prints one of several values, as they come: as JSON on a line of its own, or the text.
    pub(crate) fn line<T: Serialize>(
        &self,
        value: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        let line = || serde_json::to_string(value).map(|line| line + "\n");
        let text = match self.json {
            true => line().map_err(|error| Error::Output(error.into()))?,
            false => words(value),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// Prints a list; of an empty one people get the hint, on standard error.
    pub(crate) fn list<T: Serialize>(
        &self,
        list: &[T],
        hint: &str,
        words: impl FnOnce(&[T]) -> String,
    ) -> Result<(), Error> {
        if list.is_empty() && !self.json {
            // Nobody to tell: fine.
            let _ = writeln!(io::stderr(), "{hint}");
            return Ok(());
        }
        self.show(&list, |list| words(list))
    }

    /// What goes on, on standard error; it is no failure.
    pub(crate) fn remark(&self, sentence: &str) {
        // Nobody to tell: fine.
        let _ = writeln!(io::stderr(), "{}", printable(sentence));
    }

    /// One sentence on standard error.
    pub(crate) fn complain(&self, sentence: &str) {
        // Nobody to tell: the exit code says it too.
        let _ = writeln!(io::stderr(), "ovlctl: {}", printable(sentence));
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Error::Output(error.into()))
}

/// Columns without borders, two spaces between them; every line ends with a newline.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| printable(&cell))));
    unpadded(&mut table)
}

/// Names and values, one a line.
pub(crate) fn facts<const N: usize>(rows: [(&str, String); N]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.add_rows(rows.map(|(name, value)| [name.to_owned(), printable(&value)]));
    unpadded(&mut table)
}

fn unpadded(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// On one line, and without what could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || turns_text(c) { ' ' } else { c }).collect()
}

/// Line separators, and marks that turn the direction of what follows (Unicode UAX 9).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How a unit variant looks in JSON: `alive`.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_borders_or_trailing_spaces() {
        let rows = [("ä", "1"), ("日本", "2"), ("a\u{1b}[31mb\nc", "")];
        let rows = rows.map(|(a, b)| [a.to_owned(), b.to_owned()]);
        assert_eq!(
            table(["NAME", "N"], rows),
            "NAME       N\nä          1\n日本       2\na [31mb c\n"
        );
        assert_eq!(facts([("a", "1".into()), ("long", "2 3".into())]), "a     1\nlong  2 3\n");
    }
}
