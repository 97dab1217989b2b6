//! Settings from `OVL_*` variables.
use std::ffi::{OsStr, OsString};

use super::key::Key;
use super::nearest::nearest;
use super::problem::{Origin, Problem};
use super::{Setting, start};

/// Begins every variable of ovl.
const PREFIX: &str = "OVL_";

/// Variables of ovl that are not the agent's settings: where the configuration file is (read by
/// [`start()`](super::start())), and what the scripts and tests of the project use.
const NOT_SETTINGS: [&str; 4] =
    [start::FILE_VARIABLE, "OVL_BIN_DIR", "OVL_CONSUL", "OVL_TOOLS_DIR"];

/// Likewise, all that begin so.
const NOT_SETTINGS_PREFIXES: [&str; 2] = ["OVL_LAB", "OVL_TEST"];

/// The settings in an environment, and what is wrong with it. Variables are taken in the order
/// of their names, so that messages do not depend on the environment's order.
pub(super) fn settings(env: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut ours: Vec<_> = env.iter().filter_map(|(n, v)| Some((ours(n)?, v))).collect();
    ours.sort();
    let mut settings = Vec::new();
    for (name, value) in ours {
        match setting(&name, value) {
            Ok(setting) => settings.push(setting),
            Err(problem) => problems.push(problem),
        }
    }
    settings
}

/// The variable's name if it is meant for the agent.
fn ours(name: &OsStr) -> Option<String> {
    let name = name.to_string_lossy();
    let other = !name.starts_with(PREFIX)
        || NOT_SETTINGS.contains(&name.as_ref())
        || NOT_SETTINGS_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    (!other).then(|| name.into_owned())
}

fn setting(name: &str, value: &OsStr) -> Result<Setting, Problem> {
    let problem = |value: Option<String>, advice: String| Problem {
        origin: Origin::Env(name.to_owned()),
        key: Some(name.to_owned()),
        value,
        advice,
    };
    let Some(key) = Key::ALL.into_iter().find(|key| key.variable() == name) else {
        // The value is not shown: who knows what it is.
        return Err(problem(None, unknown(name)));
    };
    match value.to_str() {
        Some(text) => Ok(Setting { key, text: text.to_owned(), origin: Origin::Env(name.into()) }),
        None => Err(problem(
            Some(value.to_string_lossy().into_owned()),
            format!("not UTF-8; expected {}", key.about().expected),
        )),
    }
}

fn unknown(name: &str) -> String {
    match nearest(name.strip_prefix(PREFIX).unwrap_or(name)) {
        Some(key) => format!("unknown variable; did you mean {}?", key.variable()),
        None => "unknown variable; `ovl-agent --help` lists them; unset it".to_owned(),
    }
}
