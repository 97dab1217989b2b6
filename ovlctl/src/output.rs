//! What is printed: tables for people, JSON for programs, complaints on standard error.
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Color, Table};
use serde::Serialize;

use crate::error::Error;

/// Columns that text for people is wrapped to.
const WIDTH: usize = 80;

/// Characters of a cell of a table: an endpoint's aliases fit. Cells of all rows are as wide as the widest, so
/// one that another host made up would fill the memory.
const CELL_MAX: usize = 2000;

/// Characters of a sentence on standard error; the rest is left out.
const SENTENCE_MAX: usize = 4000;

/// How long standard error is waited for: who has stopped reading it, by Ctrl-S or a pager, holds up no end.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// Where answers go.
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    colours: bool,
}

/// What a piece of text is to its reader; terminals show it in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Doubtful,
    Bad,
    Unknown,
    Strong,
    Faint,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tone: Some(tone) }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, tone: None }
    }
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        let terminal = io::stdout().is_terminal();
        let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
        let colours = has_colours(terminal, no_color.as_deref(), term.as_deref());
        Output { json, terminal: terminal && !json, colours }
    }

    /// The text in its colour, where colours are shown; without what else could steer a terminal.
    pub(crate) fn toned(&self, tone: Tone, text: &str) -> String {
        let text = printable(text);
        if !self.colours {
            return text;
        }
        let style = match tone {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Doubtful => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Unknown => AnsiColor::Cyan.on_default(),
            Tone::Strong => Style::new().bold(),
            Tone::Faint => Style::new().dimmed(),
        };
        format!("{style}{text}{style:#}")
    }

    /// As [`table`], with tones.
    pub(crate) fn table<const N: usize>(
        &self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
    ) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(header);
        table.add_rows(rows.into_iter().map(|row| {
            row.map(|Cell { text, tone }| {
                let cell = comfy_table::Cell::new(bounded(&text, CELL_MAX));
                match tone {
                    Some(Tone::Good) => cell.fg(Color::Green),
                    Some(Tone::Doubtful) => cell.fg(Color::Yellow),
                    Some(Tone::Bad) => cell.fg(Color::Red),
                    Some(Tone::Unknown) => cell.fg(Color::Cyan),
                    Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
                    Some(Tone::Faint) => cell.add_attribute(Attribute::Dim),
                    None => cell,
                }
            })
        }));
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        unpadded(&mut table)
    }

    /// Shows a value that was shown before: on a terminal in its place, elsewhere after it. In JSON, one
    /// value a line. Cancel-safe: a reader that stalls is left alone.
    pub(crate) async fn again<T: Serialize>(
        &self,
        value: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        let text = if self.json {
            json_line(value)?
        } else if self.terminal {
            // Home, and nothing below (ECMA-48: CUP, ED).
            format!("\u{1b}[H\u{1b}[J{}", words(value))
        } else {
            words(value) + "\n"
        };
        let printed = tokio::task::spawn_blocking(move || print(&text)).await;
        printed.unwrap_or_else(|error| Err(Error::Output(error.into())))
    }

    /// Colours are shown.
    pub(crate) fn has_colours(&self) -> bool {
        self.colours
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
        print(&if self.json { json(value)? } else { words(value) })
    }

    /// Prints one of several values, as they come: as JSON on a line of its own, or the text.
    pub(crate) fn line<T: Serialize>(
        &self,
        value: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        print(&if self.json { json_line(value)? } else { words(value) })
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
        tell(bounded(sentence, SENTENCE_MAX));
    }

    /// One sentence on standard error.
    pub(crate) fn complain(&self, sentence: &str) {
        // Nobody to tell: the exit code says it too.
        tell(format!("ovlctl: {}", bounded(sentence, SENTENCE_MAX)));
    }
}

/// To standard output, and on its way before this returns.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

fn tell(sentence: String) {
    let (done, told) = mpsc::sync_channel(1);
    let tell = move || {
        let _ = writeln!(io::stderr(), "{sentence}");
        let _ = done.send(());
    };
    // Without a thread there is nothing left to tell it with.
    drop(thread::Builder::new().spawn(tell));
    let _ = told.recv_timeout(TELL_WITHIN);
}

fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| harmless_json(text) + "\n").map_err(|error| Error::Output(error.into()))
}

/// On a line of its own.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<String, Error> {
    let text = serde_json::to_string(value);
    text.map(|text| harmless_json(text) + "\n").map_err(|error| Error::Output(error.into()))
}

/// The same JSON, without what could steer a terminal: what JSON itself lets stand in its strings is escaped
/// (RFC 8259, section 7).
fn harmless_json(text: String) -> String {
    let steers = |c: char| (c.is_control() && c != '\n') || turns_text(c);
    if !text.contains(steers) {
        return text;
    }
    let mut harmless = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match steers(c) {
            // None is beyond the first plane.
            true => harmless.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => harmless.push(c),
        }
    }
    harmless
}

/// Columns without borders, two spaces between them; every line ends with a newline.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| bounded(&cell, CELL_MAX))));
    unpadded(&mut table)
}

/// Names and values, one a line.
pub(crate) fn facts<const N: usize>(rows: [(&str, String); N]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.add_rows(rows.map(|(name, value)| [name.to_owned(), bounded(&value, CELL_MAX)]));
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

/// Whether colours are shown: on a terminal that has them, unless the user does not want any
/// (<https://no-color.org>).
fn has_colours(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    let unwanted = no_color.is_some_and(|value| !value.is_empty());
    terminal && !unwanted && term != Some(OsStr::new("dumb"))
}

/// The text in lines of at most 80 columns, of which `indent` are spaces; the first line begins in column
/// `used` of one that is begun already. A longer word, a path for one, stays in one piece.
pub(crate) fn wrapped(text: &str, used: usize, indent: usize) -> String {
    let (first, rest) = (" ".repeat(used), " ".repeat(indent));
    let options = textwrap::Options::new(WIDTH).initial_indent(&first).subsequent_indent(&rest);
    let lines = textwrap::wrap(&printable(text), options.break_words(false)).join("\n");
    lines.trim_start_matches(' ').to_owned()
}

/// On one line, and without what could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || turns_text(c) { ' ' } else { c }).collect()
}

/// Printable, and at most so many characters of it.
pub(crate) fn bounded(text: &str, most: usize) -> String {
    let end = text.char_indices().nth(most).map(|(end, _)| end);
    end.map_or_else(|| printable(text), |end| printable(&text[..end]) + "…")
}

/// Line separators, and marks that turn the direction of text (Unicode UAX 9).
fn turns_text(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
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
    fn colours_are_for_terminals_of_those_who_want_them() {
        let some = |text: &'static str| Some(OsStr::new(text));
        for (terminal, no_color, term, expected) in [
            (true, None, some("xterm"), true),
            (true, some(""), None, true),
            (true, some("1"), some("xterm"), false),
            (true, None, some("dumb"), false),
            (false, None, some("xterm"), false),
        ] {
            assert_eq!(has_colours(terminal, no_color, term), expected);
        }
        let (plain, coloured) =
            [false, true].map(|colours| Output { json: false, terminal: colours, colours }).into();
        assert_eq!(plain.toned(Tone::Bad, "a\u{1b}b"), "a b");
        assert_eq!(coloured.toned(Tone::Bad, "a\u{1b}b"), "\u{1b}[1m\u{1b}[31ma b\u{1b}[0m");
    }

    #[test]
    fn text_is_wrapped_by_its_width_and_words_stay_whole() {
        let text = "日本 ".repeat(30);
        let lines = wrapped(&text, 10, 4);
        for (number, line) in lines.lines().enumerate() {
            let used = if number == 0 { 10 } else { 0 };
            assert!(used + textwrap::core::display_width(line) <= WIDTH, "{line}");
        }
        assert!(lines.lines().nth(1).unwrap().starts_with("    日"));
        let long = "x".repeat(200);
        assert_eq!(wrapped(&format!("a {long}"), 0, 2), format!("a\n  {long}"));
    }

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

    #[test]
    fn json_says_the_same_without_what_steers_a_terminal() {
        let evil = "a\u{1b}[31m\u{7f}\u{9b}2J\u{202e}b\u{200f}\n";
        let text = json(&[evil]).unwrap();
        assert!(
            !text.trim_end().contains(|c: char| (c.is_control() && c != '\n') || turns_text(c))
        );
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).unwrap(), [evil]);
        assert_eq!(json_line(&"ä").unwrap(), "\"ä\"\n");
    }

    #[test]
    fn a_cell_that_is_absurdly_long_does_not_widen_all_others() {
        let rows =
            (0..1000).map(|n| [if n == 0 { "x".repeat(1 << 20) } else { "y".into() }, "z".into()]);
        let text = table(["A", "B"], rows);
        assert!(text.len() < 3 << 20, "{}", text.len());
        assert!(text.contains("x…"));
    }
}
