//! From the command line to settings, or to the text and exit code that end the program.
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::file::FileText;
use super::problem::{Origin, Problem};
use super::{Config, Host, Origins, Sources, parse, show};
use crate::args::{self, Args};

/// Read when no other file is named; it may be missing.
pub const DEFAULT_FILE: &str = "/etc/ovl/agent.toml";

/// Exit code for wrong flags, variables or file contents (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Names the configuration file, as `--config` does.
pub(super) const FILE_VARIABLE: &str = "OVL_CONFIG";

/// What to do after the command line, the environment and the file were read.
#[derive(Clone, Debug)]
pub enum Start {
    /// Run with these settings.
    Run(Box<Config>, Origins),
    /// `--help`, `--version`, `--print-config` or `--check-config`: this text belongs on standard output; exit 0.
    Show(String),
    /// This text, a line for each problem, belongs on standard error; exit [`EXIT_USAGE`].
    Refuse(String),
}

/// Reads all settings, and holds them against [`Host::this`]. `read` reads a file as text and is
/// called at most once; `argv` begins with the program's name.
pub fn start(
    argv: impl IntoIterator<Item = OsString>,
    env: Vec<(OsString, OsString)>,
    host_name: Option<String>,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Start {
    let (args, mut problems) = match args::parse(argv) {
        args::Parsed::Args(args, problems) => (args, problems),
        args::Parsed::Show(text) => return Start::Show(text),
    };
    let file = match file(&args, &env, read) {
        Ok(file) => file,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    let path = file.as_ref().map(|file| file.path.clone());
    let host = Host::this(args.check_config);
    let sources = Sources { host_name, file, env, flags: args.settings(), host };
    match (parse(&sources), problems.is_empty()) {
        (Ok((config, origins)), true) => settled(&args, config, Origins { file: path, ..origins }),
        (Ok(_), false) => refuse(&problems),
        (Err(more), _) => {
            problems.extend(more);
            refuse(&problems)
        }
    }
}

/// Nothing is wrong.
fn settled(args: &Args, config: Config, origins: Origins) -> Start {
    if !args.print_config && !args.check_config {
        return Start::Run(Box::new(config), origins);
    }
    let table = args.print_config.then(|| show::table(&config, &origins));
    let fine = args.check_config.then(|| show::fine(&config, &origins));
    Start::Show(table.into_iter().chain(fine).collect())
}

fn refuse(problems: &[Problem]) -> Start {
    Start::Refuse(problems.iter().map(|problem| format!("ovl-agent: {problem}\n")).collect())
}

/// Reads the file that the flag, else the variable, else the default names.
fn file(
    args: &Args,
    env: &[(OsString, OsString)],
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<Option<FileText>, Problem> {
    let variable = env.iter().find(|(name, _)| name == FILE_VARIABLE);
    let (path, origin) = match (&args.config, variable) {
        (Some(path), _) => (path.clone(), Origin::Flag("--config".to_owned())),
        (None, Some((_, path))) => (PathBuf::from(path), Origin::Env(FILE_VARIABLE.to_owned())),
        (None, None) => (PathBuf::from(DEFAULT_FILE), Origin::Default),
    };
    match read(&path) {
        Ok(text) => Ok(Some(FileText { path, text })),
        Err(error) if error.kind() == io::ErrorKind::NotFound && origin == Origin::Default => {
            Ok(None)
        }
        Err(error) => Err(Problem {
            origin,
            key: Some("config".to_owned()),
            value: Some(path.display().to_string()),
            advice: format!("the file cannot be read: {error}"),
        }),
    }
}
