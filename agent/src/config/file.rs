//! Settings from the configuration file, with the line of each.
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::Setting;
use super::key::Key;
use super::nearest::nearest;
use super::problem::{Origin, Problem};

/// A configuration file that was read.
#[derive(Clone, Debug)]
pub struct FileText {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// TOML: one table of keys, no sections.
    pub text: String,
}

/// The settings in a file, and what is wrong with it. After a mistake in its syntax the rest of
/// the file is still read, as far as that goes.
pub(super) fn settings(file: &FileText, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    for error in &errors {
        problems.push(Problem {
            origin: file.at(error.span()),
            key: None,
            value: None,
            advice: format!("not TOML: {}", error.message()),
        });
    }
    let mut settings = Vec::new();
    let mut found = Vec::new();
    for (key, value) in table.get_ref() {
        let at = key.span();
        // What the parser made up while recovering from an error in this line is not judged.
        if errors.iter().any(|error| file.line(error.span()) == file.line(Some(at.clone()))) {
            continue;
        }
        let setting = setting(file.at(Some(at.clone())), key.get_ref(), value.get_ref());
        found.push((at.start, setting));
    }
    found.sort_by_key(|(at, _)| *at);
    for (_, setting) in found {
        match setting {
            Ok(setting) => settings.push(setting),
            Err(problem) => problems.push(problem),
        }
    }
    settings
}

fn setting(origin: Origin, name: &str, value: &DeValue<'_>) -> Result<Setting, Problem> {
    let problem = |advice: String, value: Option<String>| Problem {
        origin: origin.clone(),
        key: Some(name.to_owned()),
        value,
        advice,
    };
    let Some(key) = Key::from_name(name) else {
        return Err(problem(unknown(name, value), None));
    };
    match text(key, value) {
        Some(text) => Ok(Setting { key, text, origin: origin.clone() }),
        None => Err(problem(
            format!("a TOML {} here; expected {}", value.type_str(), key.about().expected),
            scalar(value),
        )),
    }
}

fn unknown(name: &str, value: &DeValue<'_>) -> String {
    if value.is_table() {
        return "unknown section; the keys stand at the top of the file, without sections".into();
    }
    match nearest(name) {
        Some(key) => format!("unknown key; did you mean {key}?"),
        None => "unknown key; `ovl-agent --help` lists them; remove it".to_owned(),
    }
}

/// The value as a flag would have it. None: a type that cannot be right. A number may stand for
/// a string and the other way round; a list is for `join` alone.
fn text(key: Key, value: &DeValue<'_>) -> Option<String> {
    match (key, value) {
        (Key::Join, DeValue::Array(list)) => {
            let entries: Option<Vec<&str>> = list.iter().map(|v| v.get_ref().as_str()).collect();
            entries.map(|entries| entries.join(","))
        }
        (_, DeValue::String(text)) => Some(text.clone().into_owned()),
        (_, DeValue::Integer(number)) if number.radix() == 10 => Some(number.as_str().to_owned()),
        (
            _,
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_),
        ) => None,
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

impl FileText {
    fn at(&self, span: Option<Range<usize>>) -> Origin {
        Origin::File { path: self.path.clone(), line: self.line(span) }
    }

    /// The line of a span's first byte, from 1.
    fn line(&self, span: Option<Range<usize>>) -> Option<usize> {
        let before = self.text.as_bytes().get(..span?.start)?;
        Some(1 + before.iter().filter(|byte| **byte == b'\n').count())
    }
}
