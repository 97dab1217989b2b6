//! Takes secrets out of texts: the values that are known to be secret, wherever they stand, and what
//! looks like a secret by what stands before it.
//!
//! Where in doubt, more is taken out: a bundle goes to other people.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;

use ovl_agent::control::api::encoded;
use regex::{Captures, Regex};
use serde_json::Value;

use super::here::Here;

/// Stands in the place of a secret.
const REMOVED: &str = "[removed]";

/// Shortest value that is taken out wherever it stands, in bytes. A shorter one would take parts out
/// of innocent words; it goes where its name stands before it.
const SHORTEST: usize = 4;

/// Values of variables that only say whether: taken out everywhere, they would make holes in all JSON.
const HARMLESS: [&str; 4] = ["true", "false", "none", "null"];

/// Bytes of a token file that are read.
const TOKEN_MAX: u64 = 64 << 10;

/// Names of settings, variables, headers and flags that hold secrets, or parts of such names; the last
/// ones as the end of a name that has more, as `PWD` by itself is a folder.
const NAMES: &str = "token|secret|passw(?:or)?d|passphrase|credential|apikey|psk|[a-z0-9][-_](?:key|pass|pwd|auth)\\b";

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
            let text = value.to_string_lossy().into_owned();
            if is_secret(name) {
                values.insert(text.trim().to_owned());
            }
            texts.push(text);
        }
        for text in &texts {
            values.extend(in_urls(text));
            values.extend(token_files(text).iter().filter_map(|file| contents(Path::new(file))));
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
            Value::Array(values) => values.iter_mut().for_each(|value| self.clean_value(value)),
            Value::Object(members) => {
                for (key, value) in members {
                    match value {
                        // Whether there is one is no secret.
                        Value::Null | Value::Bool(_) => {}
                        _ if is_of_secret(key) => *value = REMOVED.into(),
                        _ => self.clean_value(value),
                    }
                }
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
        let mut text = KEY_BLOCK.replace_all(&text, REMOVED).into_owned();
        for pattern in [&*USER_INFO, &*QUOTED_HEADER, &*BARE_HEADER, &*BEARER, &*ASSIGNMENT, &*LINE]
        {
            let kept = format!("${{before}}{REMOVED}${{after}}");
            text = pattern.replace_all(&text, kept).into_owned();
        }
        for pattern in [&*NAMED, &*FLAG] {
            text = pattern.replace_all(&text, named).into_owned();
        }
        text
    }
}

/// `token = "x"`, `"secret": "x"`, `--token x`; what names a file stays.
fn named(found: &Captures<'_>) -> String {
    let value = &found["value"];
    if names_a_file(&found["key"]) || is_removed(value) {
        return found[0].to_owned();
    }
    let quotes = ["\\\"", "\"", "'"];
    // A list goes whole, and in its quotes.
    let inside = value.trim_start_matches(['[', '{', ' ']);
    let quote = quotes.into_iter().find(|quote| inside.starts_with(quote));
    let quote = quote.unwrap_or_default();
    format!("{}{quote}{REMOVED}{quote}", &found["before"])
}

/// It was one. A bare value ends before a bracket.
fn is_removed(value: &str) -> bool {
    value.starts_with(REMOVED.trim_end_matches(']'))
}

/// A variable whose value is one.
fn is_secret(name: &OsStr) -> bool {
    NAME.is_match(&name.to_string_lossy())
}

/// A key of JSON whose value is one. Docker's `auth` has user and password.
fn is_of_secret(key: &str) -> bool {
    (NAME.is_match(key) || HEADER.is_match(key) || key == "auth") && !names_a_file(key)
}

fn names_a_file(key: &str) -> bool {
    let key = key.to_lowercase();
    ["file", "path", "dir"].iter().any(|end| key.ends_with(end))
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

fn contents(file: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file).ok()?.take(TOKEN_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// As it is, percent-encoded (RFC 3986, section 2.1), and within JSON.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::to_string(value).unwrap_or_default();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
    let mut forms = vec![value.to_owned(), encoded(value), json];
    forms.retain(|form| !form.is_empty());
    forms
}

/// A pattern of this file.
#[expect(clippy::expect_used, reason = "the patterns are constants, and a test compiles each")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

static NAME: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("(?i)(?:{NAMES})")));

/// Up to the last `@` of a word: a password may hold one.
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?P<before>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<info>[^\s"'<>`]+)(?P<after>@)"#)
});

const HEADERS: &str = r#"\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:token|auth))"#;

static HEADER: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("(?i)^{HEADERS}$")));

static QUOTED_HEADER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)(?P<before>{HEADERS}\\?["']?\s*[:=]\s*\\?["'])[^"'\r\n\\]*(?P<after>)"#
    ))
});

/// To the end of the line.
static BARE_HEADER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(r#"(?i)(?P<before>{HEADERS}\s*[:=]\s*)[^"'\s\\][^\r\n]*(?P<after>)"#))
});

static BEARER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)(?P<before>\bbearer\s+)[A-Za-z0-9+/._~=-]+(?P<after>)"));

/// Also one whose end is cut off.
static KEY_BLOCK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
    )
});

/// Of a shell or a unit: a variable's value goes to the end of the line.
static LINE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?mi)(?P<before>^\s*(?:export\s+|Environment="?)?[A-Z0-9_]*(?:{NAMES})[A-Z0-9_]*=)[^\r\n]+(?P<after>)"#
    ))
});

/// Of a unit: a variable with its value, all of it in quotes.
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)(?P<before>"[A-Z0-9_]*(?:{NAMES})[A-Z0-9_]*=)(?:[^"\\\r\n]|\\.)*(?P<after>")"#
    ))
});

static TOKEN_FILE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"token[-_]file["']?\s*=\s*["']?(?P<path>/[^&\s"',]+)"#));

/// A list, a quoted value, also one in quotes that are escaped, or a word.
const VALUE: &str = r#"(?P<value>\[[^\]\r\n]*\]?|\{[^}\r\n]*\}?|\\"[^"\r\n]*?\\"|"(?:[^"\\\r\n]|\\.)*"?|'(?:[^'\\\r\n]|\\.)*'?|[^\s"',;&}\])\\]+)"#;

static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)(?P<before>(?P<key>[A-Za-z0-9_.-]*(?:{NAMES})[A-Za-z0-9_.-]*)\\?["']?\s*[:=]\s*){VALUE}"#
    ))
});

static FLAG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(r"(?i)(?P<before>(?P<key>\B--?[a-z0-9-]*(?:{NAMES})[a-z0-9-]*)\s+){VALUE}"))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_goes_and_what_stands_around_it_stays() {
        let none = Secrets::known([]);
        for (text, clean) in [
            ("consul://u:p@h:8500/x", "consul://[removed]@h:8500/x"),
            ("a https://tok@h b", "a https://[removed]@h b"),
            ("http://u:p@ss@h and c@d.e", "http://[removed]@h and c@d.e"),
            ("http://h/x?a=b me@h", "http://h/x?a=b me@h"),
            ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [removed]"),
            (
                r#"{"Authorization": "Digest a=b", "n": 1}"#,
                r#"{"Authorization": "[removed]", "n": 1}"#,
            ),
            ("got Bearer abc.def-1 from x", "got Bearer [removed] from x"),
            ("x-consul-token: c0ffee", "x-consul-token: [removed]"),
            ("token = \"a b\"\nport = 1", "token = \"[removed]\"\nport = 1"),
            (r#"{"secret":"it's \"x\" y","n":1}"#, r#"{"secret":"[removed]","n":1}"#),
            (r#"{"m":"{\"password\":\"x y\"}"}"#, r#"{"m":"{\"password\":\"[removed]\"}"}"#),
            ("OVL_API_TOKEN=a, b;c", "OVL_API_TOKEN=[removed]"),
            ("Environment=DB_PASSWORD=a b", "Environment=DB_PASSWORD=[removed]"),
            (
                r#"Environment="A=b" "DB_PASSWORD=x two" "C=d""#,
                r#"Environment="A=b" "DB_PASSWORD=[removed]" "C=d""#,
            ),
            ("SetCredential=id: value", "SetCredential=[removed]"),
            ("SIGNING_KEY=hunter2", "SIGNING_KEY=[removed]"),
            ("DB_PASS=x y\nPWD=/root", "DB_PASS=[removed]\nPWD=/root"),
            ("MYSQL_PWD=x", "MYSQL_PWD=[removed]"),
            ("keyboard = us, a key: b", "keyboard = us, a key: b"),
            ("tokens = [\"abc\", \"def\"] # two", "tokens = \"[removed]\" # two"),
            ("Cookie: a=b; c=d", "Cookie: [removed]"),
            ("X-Registry-Auth: eyJ9", "X-Registry-Auth: [removed]"),
            ("run --acl-token abc --x y", "run --acl-token [removed] --x y"),
            ("u?token=abc&x=1", "u?token=[removed]&x=1"),
            ("consul://h?token-file=/etc/t", "consul://h?token-file=/etc/t"),
            ("--token-file /etc/t", "--token-file /etc/t"),
            ("the token in /etc/t is wrong", "the token in /etc/t is wrong"),
            ("psk: abc", "psk: [removed]"),
            (
                "a\n-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\nb",
                "a\n[removed]\nb",
            ),
            ("-----BEGIN PRIVATE KEY-----\nx", "[removed]"),
        ] {
            assert_eq!(none.clean_text(text), clean);
            assert_eq!(none.clean_text(clean), clean, "once is enough");
        }
    }

    #[test]
    fn json_stays_json_and_loses_what_is_below_a_secret_key() {
        let secrets = Secrets::known(["c0ffee".to_owned()]);
        let text = r#"{"tokens": ["a", {"b": "c"}], "secret": null, "token_file": "/etc/t", "n": 1,
            "auths": {"hub": {"auth": "dTpw"}}, "Cookie": "a=b", "x": "is c0ffee, http://u:p@h/"}"#;
        let cleaned: Value = serde_json::from_str(&secrets.clean(text)).unwrap();
        let expected = serde_json::json!({
            "tokens": REMOVED, "secret": null, "token_file": "/etc/t", "n": 1,
            "auths": {"hub": {"auth": REMOVED}}, "Cookie": REMOVED, "x": "is [removed], http://[removed]@h/",
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
        assert!(is_secret(OsStr::new("CONSUL_HTTP_TOKEN")) && !is_secret(OsStr::new("OVL_STORE")));
    }
}
