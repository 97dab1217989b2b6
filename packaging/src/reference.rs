//! The reference of all settings and flags, in Markdown.
use clap::{Arg, ArgAction, Command};
use ovl_agent::config::Key;

use crate::program::{self, AfterHelp, Program, below};
use crate::words::{toml_value, wrap};

const HEAD: &str = "\
# Configuration

<!-- Made from the code by `cargo run -p ovl-packaging -- renew`; a test holds it against the code. -->

Each setting of `ovl-agent` can be given in a file, as a variable and as a flag. Flags win over
variables, and those over the file.

| where | how | example |
|---|---|---|
| `/etc/ovl/agent.toml`, or the file that `--config` or `OVL_CONFIG` names | TOML, no sections | `gossip-port = 7946` |
| the environment; for the service `/etc/ovl/agent.env`, mode 0600 | `NAME=VALUE` lines | `OVL_GOSSIP_PORT=7946` |
| the command line | | `--gossip-port 7946` |

Everything wrong in any of them is listed at once, and nothing is touched.
`ovl-agent --print-config` shows every setting, its value and where it came from.

`systemctl reload ovl-agent` reads the file again. It takes at once what is marked so below, and the
content of the files that `token-file` and `ca-file` of `store` name; it says what else has changed
and takes a restart. A wrong file changes nothing. Variables are read at the start only.

Consul's token comes from the file that `token-file` names, or from the variable
`CONSUL_HTTP_TOKEN`; never from a flag or the configuration file.
";

/// The document.
pub(crate) fn text() -> String {
    let [agent, ctl] = program::both();
    let mut text = HEAD.to_owned();
    text.push_str("\n## Settings\n");
    for key in Key::ALL {
        text.push_str(&setting(key));
    }
    text.push_str("\n## Other flags of ovl-agent\n");
    let other = |arg: &&Arg| Key::ALL.iter().all(|key| arg.get_long() != Some(key.name()));
    text.push_str(&flags(&agent.command, other));
    text.push_str(&exit_codes(&agent.command));
    text.push_str("\n## Flags of ovlctl\n\nWith every command:\n");
    text.push_str(&flags(&ctl.command, |_| true));
    text.push_str(&exit_codes(&ctl.command));
    text.push_str(&commands(&ctl));
    text
}

fn setting(key: Key) -> String {
    let about = key.about();
    let default = match key.default_text() {
        Some(text) if !text.is_empty() => code(&text),
        Some(_) | None => key.default_in_words(),
    };
    let change = if about.reload { "at once, by a reload" } else { "takes a restart" };
    let rows = [
        ("expected", about.expected.to_owned()),
        ("default", default),
        ("example", code(&format!("{} = {}", key.name(), toml_value(key, about.example)))),
        ("flag", code(&format!("--{} {}", key.name(), about.value))),
        ("variable", code(&key.variable())),
        ("a change", change.to_owned()),
    ];
    let mut text = format!("\n### `{}`\n\n", key.name());
    text.push_str(&wrap(&format!("{}. {}", about.help, about.more), ""));
    text.push_str("\n| | |\n|---|---|\n");
    for (name, value) in rows {
        text.push_str(&format!("| {name} | {} |\n", cell(&value)));
    }
    text
}

fn exit_codes(command: &Command) -> String {
    let rows = AfterHelp::of(command).exit_codes.into_iter();
    let rows = rows.map(|(code, meaning)| format!("| {code} | {} |\n", cell(&meaning)));
    format!("\n| exit code | |\n|---|---|\n{}", rows.collect::<String>())
}

/// Each command that does something, with the flags that are its own.
fn commands(program: &Program) -> String {
    let mut text = String::new();
    let mut left: Vec<&Command> = below(&program.command).collect();
    left.reverse();
    while let Some(command) = left.pop() {
        let mut deeper: Vec<&Command> = below(command).collect();
        if deeper.is_empty() {
            let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("\n### `{name}`\n\n{}", wrap(&format!("{about}."), "")));
            text.push_str(&flags(command, |arg| !arg.is_global_set() && !is_help(arg)));
        }
        text.push_str(&flags_of_group(command, &program.command));
        deeper.reverse();
        left.extend(deeper);
    }
    text
}

/// What goes with every command of a group, and with no other; nothing for what is none.
fn flags_of_group(group: &Command, root: &Command) -> String {
    let is_first = below(root).any(|one| one.get_name() == group.get_name());
    let of_root = |arg: &Arg| root.get_arguments().any(|one| one.get_id() == arg.get_id());
    let table = flags(group, |arg| arg.is_global_set() && !of_root(arg) && !is_help(arg));
    if !is_first || below(group).next().is_none() || table.is_empty() {
        return String::new();
    }
    let name = group.get_bin_name().unwrap_or_else(|| group.get_name());
    format!("\n### `{name}`\n\nWith every one of its commands:\n{table}")
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong)
}

/// A table of arguments; nothing if there are none.
fn flags(command: &Command, wanted: impl Fn(&&Arg) -> bool) -> String {
    let args: Vec<&Arg> = command.get_arguments().filter(wanted).collect();
    if args.is_empty() {
        return String::new();
    }
    let mut text = "\n| flag | default | |\n|---|---|---|\n".to_owned();
    for arg in args {
        let row = row(arg).map(|value| cell(&value)).join(" | ");
        text.push_str(&format!("| {row} |\n"));
    }
    text
}

/// Its name and value, its default, and all about it.
fn row(arg: &Arg) -> [String; 3] {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let (mut help, mut default) = split_default(&help);
    if let Some(variable) = arg.get_env() {
        help.push_str(&format!("\n\nVariable: `{}`", variable.to_string_lossy()));
    }
    // Clap's own default for a switch says nothing.
    if let (Some(value), true) = (arg.get_default_values().first(), takes_value(arg)) {
        default = code(&value.to_string_lossy());
    }
    [code(&usage(arg)), default, sentences(&help)]
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// Takes `[default: …]` and `[variable: …]` out of a help text; the first comes back by itself.
fn split_default(help: &str) -> (String, String) {
    let Some((help, rest)) = help.split_once("[default: ") else {
        return (help.to_owned(), String::new());
    };
    let (default, rest) = rest.split_once(']').unwrap_or((rest, ""));
    let variable = rest.trim().trim_start_matches("[variable: ").trim_end_matches(']');
    let more =
        if variable.is_empty() { String::new() } else { format!("\n\nVariable: `{variable}`") };
    (format!("{}{more}", help.trim()), code(default))
}

/// `-h, --help`, `--config PATH`, `NAME…`.
fn usage(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().join(" ");
    let value = if takes_value(arg) { format!(" {values}") } else { String::new() };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
        (None, Some(long)) => format!("--{long}{value}"),
        (Some(short), None) => format!("-{short}{value}"),
        (None, None) => values,
    }
}

/// Paragraphs as sentences, one after another.
fn sentences(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty());
    let ended = paragraphs.map(|paragraph| {
        let end = if paragraph.ends_with(['.', '?', ')']) { "" } else { "." };
        format!("{paragraph}{end}")
    });
    ended.collect::<Vec<_>>().join(" ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
