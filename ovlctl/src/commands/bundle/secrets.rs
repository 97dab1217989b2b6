//! Takes secrets out of texts: the values that are known to be secret, wherever they stand, and what
//! looks like a secret by what stands before it.
//!
//! Where in doubt, more is taken out: a bundle goes to other people. [`fields`] judges names, and finds
//! where their values end.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use ovl_agent::control::api::encoded;
use regex::{Captures, Regex, Replacer};
use serde_json::Value;

use super::files;
use super::here::Here;

mod fields;

use fields::{WORKING_FOLDERS, names_a_secret, without_fields, without_flags};

/// Stands in the place of a secret.
const REMOVED: &str = "[removed]";

/// Shortest value that is taken out wherever it stands, in bytes. A shorter one would take parts out
/// of innocent words; it goes where its name stands before it.
const SHORTEST: usize = 4;

/// Values of variables that only say whether: taken out everywhere, they would make holes in all JSON.
const HARMLESS: [&str; 4] = ["true", "false", "none", "null"];

/// Bytes of a token file that are read.
const TOKEN_MAX: usize = 64 << 10;

/// What knows this host's secrets.
pub(super) struct Secrets {
    /// The longest first, as one may be a part of another.
    values: Vec<String>,
}

impl Secrets {
    /// Those of the agent, of its variables and of the files that they name.
    pub(super) fn of(here: &Here) -> Secrets {
        let mut texts: Vec<String> = here.config_text.iter().cloned().collect();
        texts.extend(here.argv.iter().map(|word| word.to_string_lossy().into_owned()));
        let mut values = BTreeSet::new();
        for (name, value) in &here.variables {
            let (name, text) = (name.to_string_lossy(), value.to_string_lossy().into_owned());
            if names_a_secret(&name) && !WORKING_FOLDERS.contains(&name.as_ref()) {
                values.insert(text.trim().to_owned());
            }
            texts.push(text);
        }
        for text in &texts {
            values.extend(in_urls(text));
            values.extend(token_files(text).iter().filter_map(|file| contents(file)));
        }
        Secrets::known(values)
    }

    /// Exactly these, in each form in which they may be written.
    fn known(values: impl IntoIterator<Item = String>) -> Secrets {
        let harmless = |value: &str| HARMLESS.contains(&value.to_ascii_lowercase().as_str());
        let long = values.into_iter().filter(|v| v.len() >= SHORTEST && !harmless(v));
        let forms: BTreeSet<String> = long.flat_map(|value| forms(&value)).collect();
        let mut values: Vec<String> = forms.into_iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Secrets { values }
    }

    /// The text without secrets. JSON stays JSON.
    pub(super) fn clean(&self, text: &str) -> String {
        match serde_json::from_str::<Value>(text) {
            Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
                self.clean_value(&mut value);
                format!("{value:#}\n")
            }
            Ok(_) | Err(_) => self.clean_text(text),
        }
    }

    fn clean_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.clean_text(text),
            Value::Array(values) => {
                let mut of_flag = false;
                for value in values {
                    let flag = value.as_str().is_some_and(|word| {
                        word.starts_with('-') && !word.contains('=') && names_a_secret(word)
                    });
                    match of_flag {
                        true => *value = REMOVED.into(),
                        false => self.clean_value(value),
                    }
                    of_flag = flag;
                }
            }
            Value::Object(members) => {
                // `{"name": "DB_PASSWORD", "value": "x"}`.
                let named = ["name", "key"].iter().filter_map(|key| members.get(*key)?.as_str());
                let of_pair = named.into_iter().any(names_a_secret);
                let all = std::mem::take(members);
                members.extend(all.into_iter().map(|(key, mut value)| {
                    match value {
                        // Whether there is one is no secret.
                        Value::Null | Value::Bool(_) => {}
                        _ if names_a_secret(&key) || (of_pair && key == "value") => {
                            value = REMOVED.into();
                        }
                        _ => self.clean_value(&mut value),
                    }
                    (self.clean_text(&key), value)
                }));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn clean_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value) {
                text = text.replace(value, REMOVED);
            }
        }
        text = KEY_BLOCK.replace_all(&text, REMOVED).into_owned();
        text = USER_INFO.replace_all(&text, Kept).into_owned();
        text = USER_AT.replace_all(&text, user_at).into_owned();
        for pattern in [&*USER_FLAG, &*BEARER, &*SHAPE] {
            text = pattern.replace_all(&text, Kept).into_owned();
        }
        without_flags(&without_fields(&text))
    }
}

/// What stands before a secret stays, and what stands after it.
struct Kept;

impl Replacer for Kept {
    fn replace_append(&mut self, found: &Captures<'_>, text: &mut String) {
        let group = |name| found.name(name).map_or("", |kept| kept.as_str());
        text.extend([group("before"), REMOVED, group("after")]);
    }
}

/// `user:password@host`; `image:tag@sha256:…` is none.
fn user_at(found: &Captures<'_>) -> String {
    match found["after"].starts_with("@sha") {
        true => found[0].to_owned(),
        false => format!("{REMOVED}{}", &found["after"]),
    }
}

/// Users and passwords in URLs.
fn in_urls(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for one in USER_INFO.captures_iter(text) {
        let info = &one["info"];
        found.push(info.to_owned());
        if let Some((_, password)) = info.split_once(':') {
            found.push(password.to_owned());
        }
    }
    found
}

/// `token-file=PATH`.
fn token_files(text: &str) -> Vec<String> {
    TOKEN_FILE.captures_iter(text).map(|found| found["path"].to_owned()).collect()
}

fn contents(file: &str) -> Option<String> {
    let (text, _) = files::read_within(Path::new(file), TOKEN_MAX).ok()?;
    Some(text.trim().to_owned())
}

/// As it is, percent-encoded (RFC 3986, section 2.1), and within JSON.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::to_string(value).unwrap_or_default();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
    let mut forms = vec![value.to_owned(), encoded(value), json];
    forms.retain(|form| !form.is_empty());
    forms
}

/// A pattern of this module.
#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles each")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

/// Up to the last `@` of a word: a password may hold one.
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?P<before>\b[A-Za-z][A-Za-z0-9+.-]*:(?:\\?/){2})(?P<info>[^\s"]+)(?P<after>@)"#)
});

/// The same without a scheme, as of a data source or a proxy.
static USER_AT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"\b[A-Za-z0-9._%+~-]+:[^\s/"'@][^\s/"]*(?P<after>@[\w.\[(-]+)"#));

/// Of curl.
static USER_FLAG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?P<before>\B(?:-u|-U|--user|--proxy-user)[ =]["']?)[^\s:"']+:[^\s"']+"#)
});

static BEARER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"(?i)(?P<before>\bbearer[\s:=]+["']?)[^\s"']+"#));

/// Secrets that are known by how they look: of GitHub, GitLab, npm, Slack, Docker's registry and Swarm,
/// Vault, Amazon, age; JSON Web Tokens.
static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(?:(?:gh[opsur]|github_pat|npm|dckr_[op]at)_\w{16,}|(?:glpat|xox[a-z]|SWMTKN|sk)-[\w-]{16,}|hv[bsr]\.[\w-]{16,}|A[KS]IA[A-Z0-9]{16}\b|AGE-SECRET-KEY-\w+|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)",
    )
});

/// Also one whose beginning or end is cut off.
static KEY_BLOCK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)|(?:[A-Za-z0-9+/=]{32,}(?:\s|\\n)+)*[A-Za-z0-9+/=]{4,}(?:\s|\\n)+-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----",
    )
});

static TOKEN_FILE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"token[-_]file["']?\s*=\s*["']?(?P<path>/[^&\s"',]+)"#));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_json_and_loses_what_is_below_a_secret_key() {
        let secrets = Secrets::known(["c0ffee".to_owned()]);
        let text = r#"{"tokens": ["a", {"b": "c"}], "secret": null, "token_file": "/etc/t", "n": 1,
            "auths": {"hub": {"auth": "dTpw"}}, "Cookie": "a=b", "x": "is c0ffee, http://u:p@h/",
            "argv": ["--token", "a", "-v", "b", "--pass=c d"], "env": [{"name": "DB_PASS", "value": "a"}],
            "http://u:p@h": 1}"#;
        let cleaned: Value = serde_json::from_str(&secrets.clean(text)).unwrap();
        let expected = serde_json::json!({
            "tokens": REMOVED, "secret": null, "token_file": "/etc/t", "n": 1,
            "auths": {"hub": {"auth": REMOVED}}, "Cookie": REMOVED, "x": "is [removed], http://[removed]@h/",
            "argv": ["--token", REMOVED, "-v", "b", "--pass=[removed]"],
            "env": [{"name": "DB_PASS", "value": REMOVED}], "http://[removed]@h": 1,
        });
        assert_eq!(cleaned, expected);
        assert_eq!(secrets.clean("1"), "1");
    }

    #[test]
    fn known_values_go_wherever_they_stand_and_in_every_form() {
        let values = ["p/w \"1", "c0ffee", "abc", "False"];
        let secrets = Secrets::known(values.map(str::to_owned));
        assert_eq!(
            secrets.clean("xc0ffeex p/w \"1 p%2Fw%20%221 {\"m\":\"p/w \\\"1\"} abc"),
            "x[removed]x [removed] [removed] {\"m\":\"[removed]\"} abc",
            "too short a value would make holes in words"
        );
    }

    #[test]
    fn values_are_found_in_urls_and_in_files_that_are_named() {
        assert_eq!(in_urls("a://user:pass@h"), ["user:pass", "pass"]);
        let found = token_files("store = \"consul://h?token-file=/a&ca-file=/b\" token-file=/c");
        assert_eq!(found, ["/a", "/c"]);
    }
}
