//! Names with their values, in whatever way a text has them: a unit, TOML, YAML, a command line, a line of a
//! log. The values of those that name a secret are taken out.
use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{REMOVED, pattern};

/// Variables that end as secrets do, and hold a folder.
pub(super) const WORKING_FOLDERS: [&str; 2] = ["PWD", "OLDPWD"];

/// Parts of the names of secrets, wherever in the name, without what separates its words.
const PARTS: [&str; 13] = [
    "token",
    "secret",
    "passw",
    "passphrase",
    "passcode",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "sharedkey",
    "signingkey",
    "psk",
    "jwt",
];

/// How names of secrets end; also with an `s`.
const ENDS: [&str; 7] = ["key", "pass", "pwd", "auth", "authorization", "cookie", "cred"];

/// Names that end so, and hold none: a key of anything, those of tunnels and bonds, Docker's list of
/// registries, words.
const HARMLESS: [&str; 13] = [
    "key",
    "ikey",
    "okey",
    "actor_key",
    "partner_key",
    "ad_user_port_key",
    "pubkey",
    "publickey",
    "public_key",
    "public-key",
    "auths",
    "monkey",
    "turnkey",
];

/// What is in every name of a secret, so that not all names have to be judged.
const STEMS: &str = "token|secret|pass|credential|key|psk|jwt|pwd|auth|cookie|cred";

/// Bytes of a quoted value or a list that goes over several lines.
const LINES_MAX: usize = 16 << 10;

/// Bytes before a name in which its line must begin, if it is to stand alone there.
const BEGIN_MAX: usize = 200;

/// A variable, a setting, a header, a flag or a key of JSON whose value is a secret, by its name: `DB_PASS`,
/// `--acl-token`, `apiKey`. What names a file is none.
pub(super) fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    // One of several, or more than one.
    let one = name.trim_start_matches('-').trim_end_matches(|c: char| c.is_ascii_digit());
    let one = one.trim_end_matches(['_', '-', '.']);
    let several = one.strip_suffix('s').unwrap_or(one);
    let ends = |ends: &[&str]| ends.iter().any(|end| one.ends_with(end) || several.ends_with(end));
    if ends(&["file", "path", "dir", "askpass", "bypass", "compass"])
        || HARMLESS.contains(&one)
        || HARMLESS.contains(&several)
    {
        return false;
    }
    let bare: String = one.chars().filter(char::is_ascii_alphanumeric).collect();
    PARTS.iter().any(|part| bare.contains(part)) || ends(&ENDS)
}

/// Without the values of `NAME=value`, `NAME: value`, `"name" => "value"`.
pub(super) fn without_fields(text: &str) -> String {
    without(text, &FIELD, false)
}

/// Without those of `--name value`, also where both stand on lines of their own, or in a list.
pub(super) fn without_flags(text: &str) -> String {
    without(text, &FLAG, true)
}

fn without(text: &str, pattern: &Regex, is_flag: bool) -> String {
    let (mut clean, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(found) = pattern.captures_at(text, at) {
        let (Some(whole), Some(key)) = (found.get(0), found.name("key")) else { break };
        at = whole.end();
        let is_folder = WORKING_FOLDERS.contains(&key.as_str()) && text[at..].starts_with('/');
        // `secret "value"`; of what is in no quotes any sentence would be an example.
        let is_blank =
            found.name("separator").is_some_and(|blank| blank.as_str().trim().is_empty());
        let quotes = ["\"", "'", "`", "\\\"", "\\'"];
        let is_said =
            is_blank && !is_flag && !quotes.iter().any(|quote| text[at..].starts_with(quote));
        if is_said || is_folder || !names_a_secret(key.as_str()) {
            continue;
        }
        let value = Field::new(text, &found, key.range(), at).value();
        if !value.is_empty() {
            clean.push_str(&text[copied..value.start]);
            clean.push_str(REMOVED);
            (copied, at) = (value.end, value.end);
        }
    }
    clean + &text[copied..]
}

/// A name of a secret, and where its value begins.
struct Field<'a> {
    text: &'a str,
    /// What stands before the name.
    before: &'a str,
    from: usize,
    /// The name is in quotes of its own.
    is_quoted: bool,
    /// Nothing stands before it on its line: it is one of a file of settings.
    is_alone: bool,
    /// Its value has several words: `password: some words`, a header, the next line of a command line.
    is_wide: bool,
}

impl<'a> Field<'a> {
    fn new(text: &'a str, found: &Captures<'_>, key: Range<usize>, from: usize) -> Field<'a> {
        let group = |name| found.name(name).map_or("", |group| group.as_str());
        let before = &text[..key.start];
        let near = before.len().saturating_sub(BEGIN_MAX);
        let near = (near..before.len()).find(|at| before.is_char_boundary(*at)).unwrap_or(near);
        let newline = before[near..].rfind('\n').map(|newline| near + newline + 1);
        let line = newline.or((near == 0).then_some(0));
        let name = text[key].to_lowercase();
        Field {
            text,
            before,
            from,
            is_quoted: !group("close").is_empty(),
            is_alone: line.is_some_and(|line| BEGIN.is_match(&before[line..])),
            is_wide: group("separator").contains([':', '>', '\n'])
                || ["authorization", "cookie"].iter().any(|end| name.ends_with(end)),
        }
    }

    /// Where the value stands, without its quotes. What is doubtful belongs to it.
    fn value(&self) -> Range<usize> {
        let Field { text, .. } = *self;
        // `$'a value'`, of a shell.
        let is_dollar = ["$'", "$\""].iter().any(|quote| text[self.from..].starts_with(quote));
        let from = self.from + usize::from(is_dollar);
        // Looked for where it is needed: a line may be a megabyte, with a thousand names.
        let line = || line_end(text, from);
        let window = text.len().min(from + LINES_MAX);
        let window = (from..=window).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(from);
        let end = if self.is_alone { window } else { line_end(&text[..window], from) };
        // `"NAME=the value"`: the quotes are around both.
        if let Some((quote, depth)) = quote_before(self.before).filter(|_| !self.is_quoted) {
            let close = closing(text, from..end, quote, depth).unwrap_or_else(line);
            if close > from {
                return from..close;
            }
        }
        let rest = &text[from..];
        if let Some(triple) = ["\"\"\"", "'''"].into_iter().find(|triple| rest.starts_with(triple))
        {
            let inside = from + triple.len();
            let close = text[inside..].find(triple).map_or_else(line, |length| inside + length);
            return inside..close.max(inside);
        }
        let depth = rest.len() - rest.trim_start_matches('\\').len();
        match rest[depth..].chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => {
                let inside = from + depth + 1;
                let close = closing(text, inside..end.max(inside), quote, depth);
                match close.map(|close| (close, self.behind(close + depth + 1, depth))) {
                    Some((close, None)) => inside..close,
                    Some((_, Some(end))) => from..end,
                    None => from..line(),
                }
            }
            Some('[' | '{') => match bracket_end(&text[from..end]) {
                Some(length) => from..self.behind(from + length, 1).unwrap_or(from + length),
                None => from..line(),
            },
            _ if self.is_alone || self.is_wide => from..line(),
            _ => from..word_end(text, from),
        }
    }

    /// Where the value ends, if it goes on behind a quote or a bracket that was closed: `'it'\''s'`.
    fn behind(&self, closed: usize, depth: usize) -> Option<usize> {
        let rest = &self.text[closed..];
        if self.is_alone {
            let line = line_end(self.text, closed);
            let rest = self.text[closed..line].trim_start();
            let ended = |c| "#,;}])".contains(c);
            return (!rest.is_empty() && !rest.starts_with(ended)).then_some(line);
        }
        let ended = |c: char| {
            c.is_whitespace() || ",;}])".contains(c) || (depth > 0 && "\"'\\".contains(c))
        };
        (!rest.is_empty() && !rest.starts_with(ended)).then(|| word_end(self.text, closed))
    }
}

/// The quote at the end, and how many backslashes stand before it.
fn quote_before(text: &str) -> Option<(char, usize)> {
    let quote = text.chars().next_back().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    Some((quote, backslashes_before(text, text.len() - 1)))
}

fn backslashes_before(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count()
}

/// Where a quote ends that was opened behind `depth` backslashes: before those that belong to it.
fn closing(text: &str, within: Range<usize>, quote: char, depth: usize) -> Option<usize> {
    let found = text[within.clone()].match_indices(quote);
    let mut closing = found.filter_map(|(at, _)| {
        let at = within.start + at;
        let backslashes = backslashes_before(text, at).min(at - within.start);
        match depth {
            0 => (backslashes.is_multiple_of(2)).then_some(at),
            _ => (backslashes <= depth).then_some(at - backslashes),
        }
    });
    closing.next()
}

/// How long the list is that begins here.
fn bracket_end(text: &str) -> Option<usize> {
    let (mut open, mut quote, mut is_escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut is_escaped) => {}
            '\\' => is_escaped = true,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            '[' | '{' if quote.is_none() => open += 1,
            ']' | '}' if quote.is_none() => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The end of the line, and of those in which it goes on after a backslash.
fn line_end(text: &str, from: usize) -> usize {
    let ends = text[from..].match_indices('\n').map(|(at, _)| from + at);
    let mut ends = ends.map(|end| from + text[from..end].trim_end_matches('\r').len());
    ends.find(|end| backslashes_before(text, *end).is_multiple_of(2)).unwrap_or(text.len())
}

/// The end of the word; a backslash takes what follows into it, also a line.
fn word_end(text: &str, from: usize) -> usize {
    let mut is_escaped = false;
    let end = text[from..].char_indices().find(|(_, c)| {
        let ends = c.is_whitespace() && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| from + at)
}

/// What may stand before a name that is alone on its line.
static BEGIN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"(?i)^[ \t#;]*(?:(?:export|declare -x|env)[ \t]+|[a-z]*environment=)?["']?$"#)
});

/// A name may have two words: `private key`.
static FIELD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)(?P<key>(?:\b(?:access|api|encryption|master|pre-?shared|private|secret|shared|signing)[ \t])?[a-z0-9_.-]*(?:{STEMS})[a-z0-9_.-]*)(?P<close>\\*["'`]?\]?)(?P<separator>[ \t]*(?:=>|->|:=|=+|:|>|%3[AD])[ \t]*|[ \t]+)"#
    ))
});

static FLAG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)\B(?P<key>--?[a-z0-9_-]*(?:{STEMS})[a-z0-9_-]*)(?P<close>\\*["'`]?)(?P<separator>[ \t]*,\s*|[ \t]+\\\r?\n[ \t]*|[ \t]*\r?\n|[ \t]+)"#
    ))
});

#[cfg(test)]
mod tests {
    use super::super::Secrets;

    /// Each secret is `hunter2`, or has it at its end; what stays is checked by the whole.
    const WITHOUT: &[(&str, &str)] = &[
        // Units, and files of variables.
        ("OVL_API_TOKEN=a, b;hunter2", "OVL_API_TOKEN=[removed]"),
        ("Environment=DB_PASSWORD=a hunter2", "Environment=DB_PASSWORD=[removed]"),
        ("Environment=A=b DB_PASSWORD=hunter2 C=d", "Environment=A=b DB_PASSWORD=[removed] C=d"),
        (
            r#"Environment="A=b" "DB_PASSWORD=x hunter2" "C=d""#,
            r#"Environment="A=b" "DB_PASSWORD=[removed]" "C=d""#,
        ),
        ("Environment='DB_PASSWORD=x hunter2' 'C=d'", "Environment='DB_PASSWORD=[removed]' 'C=d'"),
        ("Environment='A=b' 'DB_PASSWORD=x, hunter2'", "Environment='A=b' 'DB_PASSWORD=[removed]'"),
        (
            "Environment=DB_PASSWORD=x\\\n  hunter2\nUser=y",
            "Environment=DB_PASSWORD=[removed]\nUser=y",
        ),
        (
            "Environment=\"DB_PASSWORD=x \\\n  hunter2\" \"C=d\"\nUser=y",
            "Environment=\"DB_PASSWORD=[removed]\" \"C=d\"\nUser=y",
        ),
        (
            "Environment=\"A=b\" \"PASS=x \\\n hunter2\"\nB",
            "Environment=\"A=b\" \"PASS=[removed]\"\nB",
        ),
        (
            "ExecStart=/bin/x --token \\\n  hunter2\nUser=y",
            "ExecStart=/bin/x --token \\\n  [removed]\nUser=y",
        ),
        ("DB_PASSWORD='x y' hunter2\nA=b", "DB_PASSWORD=[removed]\nA=b"),
        ("DB_PASSWORD=\"x\n y hunter2\"\nA=b", "DB_PASSWORD=\"[removed]\"\nA=b"),
        ("DB_PASSWORD='it'\\''s hunter2'\nA=b", "DB_PASSWORD=[removed]\nA=b"),
        ("DB_PASSWORD=\"x hunter2\nA=b", "DB_PASSWORD=[removed]\nA=b"),
        ("a password='x hunter2", "a password=[removed]"),
        ("export DB_PASSWORD=\"a \\\" hunter2\"", "export DB_PASSWORD=\"[removed]\""),
        ("# PASSWORD=x hunter2", "# PASSWORD=[removed]"),
        ("SetCredential=id: hunter2", "SetCredential=[removed]"),
        ("DB_PASS=x hunter2\nPWD=/root", "DB_PASS=[removed]\nPWD=/root"),
        // Names.
        ("AWSKEY=hunter2", "AWSKEY=[removed]"),
        ("MYTOKEN=hunter2", "MYTOKEN=[removed]"),
        ("a apikey=hunter2 b", "a apikey=[removed] b"),
        ("a passwd=hunter2 b", "a passwd=[removed] b"),
        ("a pwd=hunter2 b", "a pwd=[removed] b"),
        ("MYSQL_PWD=/hunter2", "MYSQL_PWD=[removed]"),
        ("REDIS_PASS=hunter2", "REDIS_PASS=[removed]"),
        ("a dbpass=hunter2 b", "a dbpass=[removed] b"),
        ("a credentials=hunter2 b", "a credentials=[removed] b"),
        ("a creds: x hunter2", "a creds: [removed]"),
        ("SIGNING_KEY_2=hunter2", "SIGNING_KEY_2=[removed]"),
        ("PRIVATE_KEY_PEM=hunter2", "PRIVATE_KEY_PEM=[removed]"),
        ("a private key: x hunter2", "a private key: [removed]"),
        ("a client.secretKey=hunter2 b", "a client.secretKey=[removed] b"),
        ("psk: hunter2", "psk: [removed]"),
        // Ways to write them.
        ("token = \"a hunter2\"\nport = 1", "token = \"[removed]\"\nport = 1"),
        ("token = '''\na\nhunter2'''\nport = 1", "token = '''[removed]'''\nport = 1"),
        ("tokens = [\"a\", \"hunter2\"] # two", "tokens = [removed] # two"),
        ("tokens = [\n  \"a\",\n  \"hunter2\",\n]\nport = 1", "tokens = [removed]\nport = 1"),
        ("a 'password' => 'x hunter2', 'b' => 1", "a 'password' => '[removed]', 'b' => 1"),
        ("a config['password'] = 'x hunter2' b", "a config['password'] = '[removed]' b"),
        ("a password := hunter2", "a password := [removed]"),
        ("password: correct horse hunter2\nport: 1", "password: [removed]\nport: 1"),
        ("a password: correct horse hunter2", "a password: [removed]"),
        (r#"{"secret":"it's \"x\" hunter2","n":1}"#, r#"{"secret":"[removed]","n":1}"#),
        (
            r#"x {"m":"{\"password\":\"x hunter2\",\"n\":1}"}"#,
            r#"x {"m":"{\"password\":\"[removed]\",\"n\":1}"}"#,
        ),
        (
            r#"x {"m":"{\"password\":\"x\\\"y hunter2\"}"}"#,
            r#"x {"m":"{\"password\":\"[removed]\"}"}"#,
        ),
        (
            r#"x {"m": {"api_key": 1, "b": {"secret": {"a": ["hunter2"]}, "n": 1}}}"#,
            r#"x {"m": {"api_key": [removed]"#,
        ),
        ("password=abc,hunter2 x", "password=[removed]"),
        ("a password=abc,hunter2 x", "a password=[removed] x"),
        ("a password=abc;hunter2 x", "a password=[removed] x"),
        ("a password=ab)c&hunter2 x", "a password=[removed] x"),
        ("a password=a\"b'hunter2 x", "a password=[removed] x"),
        ("a password=\"abc\"hunter2 x", "a password=[removed] x"),
        ("a password=a\\ hunter2 x", "a password=[removed] x"),
        ("u?token=abc&hunter2=1 x", "u?token=[removed] x"),
        ("run --acl-token hunter2 --x y", "run --acl-token [removed] --x y"),
        ("run --password='x hunter2' --x y", "run --password='[removed]' --x y"),
        ("run \"--password=x hunter2\" y", "run \"--password=[removed]\" y"),
        ("ovl-agent\n--token\nx hunter2\n--y", "ovl-agent\n--token\n[removed]\n--y"),
        ("argv [\"--token\", \"x hunter2\", \"y\"]", "argv [\"--token\", \"[removed]\", \"y\"]"),
        ("curl -u joe:hunter2 x", "curl -u [removed] x"),
        ("6 SECRET_KEY='a b'\"hunter2\" x", "6 SECRET_KEY=[removed] x"),
        ("x TOKEN=$'a hunter2' y", "x TOKEN=$'[removed]' y"),
        ("a client_secret%3Dhunter2 b", "a client_secret%3D[removed] b"),
        ("key \"rndc\" { secret \"hunter2\"; };", "key \"rndc\" { secret \"[removed]\"; };"),
        ("a <password>hunter2</password> b", "a <password>[removed]"),
        // Headers.
        ("Authorization: Basic aHVudGVyMg hunter2", "Authorization: [removed]"),
        ("a Authorization=Bearer hunter2", "a Authorization=[removed]"),
        ("-H 'Authorization: Digest a=\"b\", c=\"hunter2\"' x", "-H 'Authorization: [removed]' x"),
        (
            "x {\"Authorization\": \"Digest a=hunter2\", \"n\": 1}",
            "x {\"Authorization\": \"[removed]\", \"n\": 1}",
        ),
        ("map[Authorization:[Bearer hunter2]]", "map[Authorization:[removed]"),
        ("got Bearer abc.def-1:hunter2 from x", "got Bearer [removed] from x"),
        ("x-consul-token: hunter2", "x-consul-token: [removed]"),
        ("Cookie: a=b; c=hunter2", "Cookie: [removed]"),
        ("X-Registry-Auth: hunter2", "X-Registry-Auth: [removed]"),
        // Users in URLs.
        ("consul://u:hunter2@h:8500/x", "consul://[removed]@h:8500/x"),
        ("a https://hunter2@h b", "a https://[removed]@h b"),
        ("http://u:p@ss'hunter2@h and c@d.e", "http://[removed]@h and c@d.e"),
        ("HTTP_PROXY=http://u:hunter2@h:3128", "HTTP_PROXY=http://[removed]@h:3128"),
        ("https_proxy=u:hunter2@h:3128", "https_proxy=[removed]@h:3128"),
        ("a root:p@hunter2@tcp(10.0.0.1:3306)/x", "a [removed]@tcp(10.0.0.1:3306)/x"),
        // Keys.
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\nb",
            "a\n[removed]\nb",
        ),
        ("-----BEGIN PRIVATE KEY-----\nhunter2", "[removed]"),
        (
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\nhunter2\n-----END PGP PRIVATE KEY BLOCK-----\nb",
            "[removed]\nb",
        ),
        ("a\naHVudGVyMg==hunter2\n-----END PRIVATE KEY-----\nb", "a\n[removed]\nb"),
        ("join SWMTKN-1-49nj1cmql0jkz5s954yi3oex3-hunter2 now", "join [removed] now"),
        ("a eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.hunter2 b", "a [removed] b"),
    ];

    #[test]
    fn a_secret_goes_with_all_of_its_value_and_what_stands_around_it_stays() {
        let none = Secrets::known([]);
        let mut wrong = Vec::new();
        for (text, clean) in WITHOUT {
            let (once, twice) = (none.clean_text(text), none.clean_text(clean));
            if once != *clean || twice != *clean || clean.contains("hunter2") {
                wrong.push(format!(
                    "{text}\n    wanted: {clean}\n    once:   {once}\n    twice:  {twice}"
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_long_line_is_read_once() {
        let none = Secrets::known([]);
        for (each, clean) in [("psk=a ", "psk=[removed] "), ("psk=\"a\" ", "psk=\"[removed]\" ")] {
            let count = (1 << 18) / each.len();
            let cleaned = none.clean_text(&format!("x {}", each.repeat(count)));
            assert_eq!(cleaned, format!("x {}", clean.repeat(count)));
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let none = Secrets::known([]);
        for text in [
            "http://h/x?a=b me@h",
            "keyboard = us, a key: b",
            "consul://h?token-file=/etc/t",
            "--token-file /etc/t",
            "CONSUL_HTTP_TOKEN_FILE=/run/secrets/x",
            "the token in /etc/t is wrong",
            "the token was refused; Consul says: ACL not found",
            "PWD=/root\nOLDPWD=/tmp",
            "SSH_ASKPASS=/usr/bin/ssh-askpass",
            "nginx:1.27@sha256:0123456789abcdef",
            "reg.example:5000/a/b:1@sha256:0123",
            "Accepted publickey for root from 10.0.0.1 port 22 ssh2: ED25519 SHA256:abc",
            "Nov 27 02:20:44 bee-1 systemd[1]: Started user@1000.service - User Manager for UID 1000.",
            "0::/user.slice/user-1000.slice/user@1000.service",
            "2: eth1@if8: <BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state UP mode DEFAULT",
            "    link/ether 02:42:0a:4d:00:02 brd ff:ff:ff:ff:ff:ff link-netnsid 0 promiscuity 0",
            "10.88.0.3 dev ovl-70000 lladdr 02:42:0a:58:00:03 PERMANENT proxy",
            "gre remote any local any ttl inherit ikey 0.0.0.1 okey 0.0.0.2",
            "\"ad_info\": {\"actor_key\": 9, \"partner_key\": 1}, \"ikey\": \"0.0.0.1\"",
            "\t\tiifname \"eth1\" udp dport 4789 ip saddr @peers counter packets 5 bytes 420 accept # handle 7",
            "\t\t@th,0,16 0x12b5 meta mark set 0x000000ff comment \"ovl: what comes in\"",
            "[12:840] -A INPUT -i eth1 -p udp -m udp --dport 4789 -m comment --comment \"a b\" -j ACCEPT",
            "kernel: audit: type=1400 audit(1.2:3): apparmor=\"DENIED\" operation=\"open\" key=(null)",
            "kernel: Loaded X.509 cert 'Build time autogenerated kernel key: 1234abcd'",
            "level=info msg=\"Loading containers: done.\" container=0123456789ab monkey=1",
            "TcpExt: SyncookiesSent SyncookiesRecv TCPPassive TCPAuthX\nTcpExt: 0 0 1 2",
            "auth_rpcgss 1 2 nfs, Live 0x0000000000000000",
            "KeyringMode=private\nPassEnvironment=A\nTimeoutStartUSec=1min 30s",
            "fe80::42:aff:fe4d:2/64 fd00:1::1:2",
        ] {
            assert_eq!(none.clean_text(text), text);
        }
    }
}
