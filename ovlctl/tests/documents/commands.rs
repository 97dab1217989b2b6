//! Commands can be parsed, by a shell and by the programs that they name; settings exist.
use std::io::Write as _;
use std::process::{Command, Stdio};

use clap::Parser as _;
use clap::error::ErrorKind;
use ovl_agent::args::Args;
use ovl_agent::config::{self, FileText, Host, Key, Sources};

use crate::{documents, none_of};

/// A fixed name, as the machine's own may be none that a node can have.
const HOST_NAME: &str = "queenbee";

#[test]
fn a_shell_can_read_every_block_of_commands() {
    let mut complaints = Vec::new();
    for document in documents() {
        for block in document.scripts() {
            let script: String = block.text.lines().map(|l| format!("{}\n", typed(l))).collect();
            if let Err(why) = read_by_sh(&script) {
                complaints.push(format!("{}: {why}", block.at));
            }
        }
    }
    none_of(complaints);
}

#[test]
fn every_command_of_ovl_has_its_flags_and_subcommands() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for document in documents() {
        for block in document.scripts() {
            for words in simple_commands(&block.text).iter().filter_map(|words| ours(words)) {
                seen += 1;
                if let Err(why) = parse(words, false) {
                    complaints.push(format!("{}: {}: {why}", block.at, words.join(" ")));
                }
            }
        }
        for (line, span) in document.spans() {
            for words in simple_commands(&span).iter().filter_map(|words| ours(words)) {
                seen += 1;
                if let Err(why) = parse(words, true) {
                    complaints.push(format!("{}:{line}: `{span}`: {why}", document.path.display()));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
    none_of(complaints);
}

#[test]
fn every_setting_exists_and_takes_its_value() {
    let mut complaints = Vec::new();
    let mut seen = 0;
    for document in documents() {
        for block in document.of_kind("toml") {
            seen += 1;
            let file = FileText { path: block.at.clone().into(), text: block.text.clone() };
            complaints.extend(settings(Sources { file: Some(file), ..Sources::default() }).err());
        }
    }
    assert!(seen > 5, "only {seen} blocks of settings were found");
    none_of(complaints);
}

#[test]
fn every_variable_is_one_that_is_read() {
    let mut known: Vec<String> = Key::ALL.into_iter().map(Key::variable).collect();
    known.push("OVL_CONFIG".to_owned());
    known.extend(of_flags(&ovlctl::command()));
    let mut complaints = Vec::new();
    for document in documents() {
        let blocks = document.blocks.iter().map(|block| block.text.as_str());
        let texts = document.prose.iter().map(|(_, line)| line.as_str()).chain(blocks);
        // The journal's fields are called so as well.
        for text in texts.filter(|text| !text.contains("journal")) {
            for name in variables(text).filter(|name| !known.contains(name)) {
                complaints.push(format!("{}: {name}", document.path.display()));
            }
        }
    }
    none_of(complaints);
}

/// The variables that stand behind flags of a command line.
fn of_flags(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(of_flags)).collect()
}

/// `OVL_` and what follows, but for `OVL_*`, which means all of them.
fn variables(text: &str) -> impl Iterator<Item = String> {
    let ends = |c: char| !(c.is_ascii_uppercase() || c == '_');
    text.match_indices("OVL_")
        .map(move |(at, _)| text[at..].split(ends).next().unwrap_or_default().to_owned())
        .filter(|name| name != "OVL_")
}

/// A line without its prompt.
fn typed(line: &str) -> &str {
    match line.split_once(" $ ") {
        Some((prompt, command)) if prompt.starts_with("host ") => command,
        Some(_) | None => line,
    }
}

fn read_by_sh(script: &str) -> Result<(), String> {
    let mut sh = Command::new("sh");
    sh.arg("-n").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut sh = sh.spawn().unwrap();
    sh.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = sh.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// What a shell would run, each as words. Good for the plain lines of documents: words, quotes,
/// pipes, lists, redirections and comments.
fn simple_commands(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    script.lines().flat_map(|line| split(typed(line))).collect()
}

fn split(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '|' | '&' | ';' | '>' | '<') => {
                commands.last_mut().unwrap().extend(word.take());
                if c != ' ' {
                    commands.push(Vec::new());
                }
            }
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().unwrap().extend(word);
    commands
}

/// From the program's name on, if it is one of ours.
fn ours(words: &[String]) -> Option<&[String]> {
    let before = |word: &&String| {
        ["sudo", "watch", "-n", "1"].contains(&word.as_str()) || word.contains('=')
    };
    let begin = words.iter().take_while(before).count();
    let program = words.get(begin)?.trim_start_matches("/usr/bin/");
    ["ovlctl", "ovl-agent"].contains(&program).then(|| &words[begin..])
}

/// Whether the program would take it. In prose, what is left out is fine.
fn parse(words: &[String], prose: bool) -> Result<(), String> {
    let agent = words[0].ends_with("ovl-agent");
    let parsed = match agent {
        true => Args::try_parse_from(words).map(Some),
        false => ovlctl::command().try_get_matches_from(words).map(|_| None),
    };
    match parsed {
        Ok(None) => Ok(()),
        Ok(Some(args)) => settings(Sources { flags: args.settings(), ..Sources::default() }),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                if prose =>
            {
                Ok(())
            }
            _ => Err(error.to_string()),
        },
    }
}

fn settings(sources: Sources) -> Result<(), String> {
    // The package makes the group, and the files are the reader's.
    let host = Host { group: |_| Ok(Some(999)), ..Host::default() };
    let sources = Sources { host_name: Some(HOST_NAME.to_owned()), host, ..sources };
    let lines = |problems: Vec<config::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    config::parse(&sources).map(drop).map_err(lines)
}

#[test]
fn lines_are_split_as_a_shell_does() {
    let words =
        |line: &str| simple_commands(line).iter().map(|words| words.join("|")).collect::<Vec<_>>();
    assert_eq!(words("host A $ a 'b c' \"d\" # e"), ["a|b c|d"]);
    assert_eq!(words("a b | c >d"), ["a|b", "c", "d"]);
    assert_eq!(words("a \\\n  b\nc"), ["a|b", "c"]);
    let command = |line: &str| ours(&simple_commands(line)[0]).map(<[String]>::to_vec);
    assert_eq!(command("sudo OVL_LOG=info ovl-agent --version").unwrap().len(), 2);
    assert_eq!(command("docker run ovlctl"), None);
}
