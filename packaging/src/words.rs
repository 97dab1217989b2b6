//! Lines of text.

/// As wide as lines get.
const WIDTH: usize = 98;

/// Breaks a text into lines, each behind a prefix.
pub(crate) fn wrap(text: &str, prefix: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = prefix.chars().count() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && longer > WIDTH {
            out.push_str(&format!("{prefix}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&format!("{prefix}{line}\n"));
    out
}

/// The value of a key as the file has it: numbers bare, lists as lists, the rest quoted.
pub(crate) fn toml_value(key: ovl_agent::config::Key, text: &str) -> String {
    if key == ovl_agent::config::Key::Join {
        let hosts: Vec<String> = text.split(',').map(|host| format!("{host:?}")).collect();
        return format!("[{}]", hosts.join(", "));
    }
    match text.parse::<u32>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_lost_and_no_line_too_long() {
        let text = "some words of all lengths and of no meaning ".repeat(20);
        let wrapped = wrap(&text, "# ");
        assert!(wrapped.lines().all(|line| line.starts_with("# ") && line.len() <= WIDTH));
        let words = wrapped.replace("# ", " ");
        assert!(words.split_whitespace().eq(text.split_whitespace()));
    }
}
