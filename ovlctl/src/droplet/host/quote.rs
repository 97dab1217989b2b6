//! Texts as words of a shell, of TOML and of YAML, whatever is in them.
use std::fmt::Write as _;

/// One word of a POSIX shell. A NUL, which no shell can hold, is left out.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

/// A basic string of TOML, on one line.
pub(super) fn toml(text: &str) -> String {
    quoted(text)
}

/// The value of a key of YAML, with what begins it: a block below the key, which people can read,
/// or where a block cannot hold the text, a quoted string. `indent`: of the block's lines.
pub(super) fn yaml(text: &str, indent: usize) -> String {
    // A block's first line must not begin with a space, and one newline ends it.
    let fits = text.ends_with('\n') && !text.ends_with("\n\n") && !text.starts_with([' ', '\n']);
    if !fits || !text.chars().all(|c| c == '\n' || is_plain(c)) {
        return quoted(text);
    }
    let mut block = "|\n".to_owned();
    for line in text.lines() {
        // An empty line needs no spaces.
        let width = if line.is_empty() { 0 } else { indent };
        let _ = writeln!(block, "{:width$}{line}", "");
    }
    block.trim_end_matches('\n').to_owned()
}

/// In double quotes, with escapes that both TOML and YAML know.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            c if is_plain(c) => write!(quoted, "{c}"),
            c if u32::from(c) <= 0xffff => write!(quoted, "\\u{:04X}", u32::from(c)),
            c => write!(quoted, "\\U{:08X}", u32::from(c)),
        };
    }
    quoted + "\""
}

/// Means nothing but itself everywhere, and is no line's end to anybody.
fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~')
}
