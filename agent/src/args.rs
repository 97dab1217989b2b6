//! The agent's command line.
//!
//! The flags that set something are made from [`Key`], so that no key can lack its flag. They
//! take any text: values are judged in [`crate::config`], together with those of the other
//! sources. For the same reason a wrong flag is set aside here, and the rest still read.
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, Parser};

use crate::config::{Key, Origin, Problem};

const AFTER_HELP: &str = "\
Each setting can be given in the file (`gossip-port = 7946`), as a variable (OVL_GOSSIP_PORT) or \
as a flag (--gossip-port); flags win over variables, and those over the file.

Exit codes:
  0   stopped in order, or printed what was asked for
  1   failed while running
  3   this host left the cluster: ovlctl leave
  64  wrong flags, variables or file; every mistake is listed, nothing was touched
  69  this host cannot run it: kernel, privileges or ports; every reason is listed";

/// One agent runs on each host; it joins the containers there to the overlay networks of the
/// cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "ovl-agent", version = crate::VERSION, max_term_width = 100, args_override_self = true)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// Configuration file, in TOML
    ///
    /// A file named here or in OVL_CONFIG must exist; the default one need not.
    ///
    /// [default: /etc/ovl/agent.toml] [variable: OVL_CONFIG]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// Print every setting, its value and where it came from, and exit
    ///
    /// Mistakes are listed instead, with exit code 64.
    #[arg(long)]
    pub print_config: bool,

    /// Check every setting and the files that they name, and exit
    ///
    /// Says `configuration is fine`, or lists every mistake, with exit code 64. Nothing is bound,
    /// made or contacted: fit for a running host before a restart.
    #[arg(long)]
    pub check_config: bool,

    #[command(flatten)]
    settings: Settings,
}

impl Args {
    /// The settings given as flags, unparsed; of `join` all that were given.
    pub fn settings(&self) -> Vec<(Key, String)> {
        self.settings.0.clone()
    }
}

/// What a command line comes to.
pub(crate) enum Parsed {
    /// What was understood, and what was not.
    Args(Box<Args>, Vec<Problem>),
    /// Help or version, to print.
    Show(String),
}

/// Reads a command line, which begins with the program's name.
pub(crate) fn parse(argv_os: impl IntoIterator<Item = OsString>) -> Parsed {
    let mut problems = Vec::new();
    let mut argv: Vec<String> = Vec::new();
    for arg in argv_os {
        let text = arg.to_string_lossy();
        if arg.to_str().is_none() {
            problems.push(not_utf8(&text));
        }
        argv.push(text.into_owned());
    }
    loop {
        let error = match Args::try_parse_from(&argv) {
            Ok(args) => return Parsed::Args(Box::new(args), problems),
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Parsed::Show(error.render().to_string());
        }
        let blamed = blamed(&error);
        problems.push(problem(&error, blamed.as_deref()));
        // Each round makes it shorter, so it ends.
        if !blamed.is_some_and(|name| set_aside(&mut argv, &name)) {
            argv.truncate(1);
        }
    }
}

/// The argument at fault: `--name` or a stray word.
fn blamed(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        // For a known flag clap names its value too: `--store <URL>`.
        ContextValue::String(text) if text.starts_with('-') => {
            text.split(' ').next().map(str::to_owned)
        }
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn problem(error: &clap::Error, blamed: Option<&str>) -> Problem {
    let suggested = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(flag)) => Some(flag),
        Some(_) | None => None,
    };
    let known = blamed.and_then(|name| Key::from_name(name.trim_start_matches('-')));
    let advice = match (error.kind(), suggested, known) {
        (ErrorKind::UnknownArgument, Some(flag), _) => {
            format!("unknown flag; did you mean {flag}?")
        }
        (ErrorKind::UnknownArgument, None, _) => {
            "unknown; `ovl-agent --help` lists the flags".into()
        }
        (ErrorKind::InvalidValue, _, Some(key)) => {
            format!("a value is missing; expected {}", key.about().expected)
        }
        _ => first_line(error),
    };
    Problem {
        origin: Origin::Flag(blamed.unwrap_or("command line").to_owned()),
        key: None,
        value: None,
        advice,
    }
}

/// Clap's own words, without its `error: `.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn not_utf8(text: &str) -> Problem {
    Problem {
        origin: Origin::Flag("command line".to_owned()),
        key: None,
        value: None,
        advice: format!("`{text}` is not UTF-8"),
    }
}

/// Removes an argument, and what looks like its value. False: it is not there.
fn set_aside(argv: &mut Vec<String>, name: &str) -> bool {
    let with_value = format!("{name}=");
    let mut args = argv.iter().skip(1);
    let Some(at) = args.position(|arg| arg == name || arg.starts_with(&with_value)) else {
        return false;
    };
    let removed = argv.remove(at + 1);
    let lacks_value = removed == name && name.starts_with('-');
    if lacks_value && argv.get(at + 1).is_some_and(|next| !next.starts_with('-')) {
        argv.remove(at + 1);
    }
    true
}

/// The flags made from [`Key`], in the order of keys.
#[derive(Clone, Debug, Default)]
struct Settings(Vec<(Key, String)>);

impl clap::Args for Settings {
    fn augment_args(command: Command) -> Command {
        command.args(Key::ALL.map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(key: Key) -> Arg {
    let about = key.about();
    let default = key.default_in_words();
    let variable = key.variable();
    Arg::new(about.name)
        .long(about.name)
        .value_name(about.value)
        .action(if key == Key::Join { ArgAction::Append } else { ArgAction::Set })
        .allow_negative_numbers(true)
        .help(format!("{} [default: {default}]", about.help))
        .long_help(format!(
            "{}\n\n{}\n\n[default: {default}] [variable: {variable}]",
            about.help, about.more
        ))
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Settings::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in Key::ALL {
            let Some(values) = matches.get_many::<String>(key.name()) else {
                continue;
            };
            let values: Vec<&str> = values.map(String::as_str).collect();
            self.0.push((key, values.join(",")));
        }
        Ok(())
    }
}
