//! What is printed: tables for people, JSON for programs, complaints on standard error.
use std::fmt::Write as _;
use std::io::{self, Write as _};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::error::Error;

/// Where answers go.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
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
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
