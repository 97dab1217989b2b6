//! What is wrong with the settings, and where each of them came from.
use std::fmt;
use std::path::PathBuf;

/// Longest value that a message repeats, in characters; of a longer one the end is left out.
const LONGEST_SHOWN: usize = 80;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file's path.
        path: PathBuf,
        /// The line, from 1. None: the file as a whole.
        line: Option<usize>,
    },
    /// This environment variable.
    Env(String),
    /// This flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Origin::File { path, line: None } => write!(f, "{}", path.display()),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong with the settings; its text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The key as it is written there. None: no single key is to blame.
    pub key: Option<String>,
    /// The value as it is written there, secrets left out.
    pub value: Option<String>,
    /// What was expected instead, or what to do.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin.to_string();
        write!(f, "{}", one_line(&origin))?;
        match &self.key {
            Some(key) if *key != origin => write!(f, ": {}", one_line(key))?,
            Some(_) | None => {}
        }
        if let Some(value) = &self.value {
            write!(f, " = {}", shown(value))?;
        }
        write!(f, ": {}", one_line(&self.advice))
    }
}

/// Quoted, on one line, of bounded length.
fn shown(value: &str) -> String {
    match value.char_indices().nth(LONGEST_SHOWN) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}…", &value[..end]),
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_source_key_value_and_advice() {
        let problem = Problem {
            origin: Origin::File { path: "/etc/ovl/agent.toml".into(), line: Some(3) },
            key: Some("gossip-port".into()),
            value: Some("70000\n\u{1b}[2J".into()),
            advice: "expected a port,\n1 to 65535".into(),
        };
        assert_eq!(
            problem.to_string(),
            r#"/etc/ovl/agent.toml:3: gossip-port = "70000\n\u{1b}[2J": expected a port, 1 to 65535"#
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let problem = Problem {
            origin: Origin::Env("OVL_LOG".into()),
            key: Some("OVL_LOG".into()),
            value: Some("é".repeat(1000)),
            advice: "no".into(),
        };
        let text = problem.to_string();
        assert!(text.chars().count() < 120, "{text}");
        assert!(text.starts_with("OVL_LOG = \"é"), "{text}");
    }
}
