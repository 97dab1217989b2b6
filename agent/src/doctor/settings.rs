//! The settings that an agent of this host has, or would have: its command line, its environment and its
//! file, read as the agent reads them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::unit::Unit;
use crate::config::process::{self, Variables};
use crate::config::{self, Config, Start};

/// Where Consul's token stands when it stands in no file.
const TOKEN: &str = "CONSUL_HTTP_TOKEN";

/// See the module. Holds a secret, and is not printed.
pub(super) struct Settings {
    /// What is in force, or what is wrong with it, a sentence each.
    pub(super) config: Result<Config, Vec<String>>,
    /// Consul's token, where the environment has it.
    pub(super) token: Option<String>,
}

impl Settings {
    /// Those of a process that runs, from its command line and environment. None: they cannot be read.
    pub(super) fn of_process(pid: u32) -> Option<Settings> {
        Some(Settings::read(process::command_line(pid)?, process::environment(pid)?))
    }

    /// Those that a new agent would have: by this process's environment, by its unit, and by the service's
    /// file of variables.
    pub(super) fn of_a_start(unit: Option<&Unit>, file: &Path) -> Settings {
        let mut variables: Variables = std::env::vars_os().collect();
        let mut add = |more: Variables| {
            // The service has its own and no others, but who sets one by hand here means it.
            for (name, value) in more {
                if !variables.iter().any(|(known, _)| *known == name) {
                    variables.push((name, value));
                }
            }
        };
        // Of the two, the file counts (systemd.exec(5)).
        add(process::variables_of(file));
        add(process::variables_in(unit.map_or("", |unit| unit.get("Environment"))));
        let line = unit.map(Unit::command_line).unwrap_or_default();
        let argv: Vec<OsString> = line.iter().map(OsString::from).collect();
        Settings::read(if argv.is_empty() { vec!["ovl-agent".into()] } else { argv }, variables)
    }

    fn read(argv: Vec<OsString>, variables: Variables) -> Settings {
        let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let token = variables.iter().find(|(name, _)| name == TOKEN);
        let token = token.and_then(|(_, value)| value.to_str().map(str::to_owned));
        let ours = ours(variables);
        let config = match config::start(argv, ours, host_name, process::read_text) {
            Start::Run(config, _) => Ok(*config),
            Start::Refuse(mistakes) => Err(lines(&mistakes)),
            Start::Show(text) => Err(lines(&text)),
        };
        Settings { config, token }
    }
}

/// Without those that are for ovlctl alone.
fn ours(variables: Variables) -> Variables {
    variables.into_iter().filter(|(name, _)| name.as_bytes().starts_with(b"OVL_")).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim_start_matches("ovl-agent: ").to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_mistakes_come_from_the_command_line() {
        let read =
            |words: &[&str]| Settings::read(words.iter().map(OsString::from).collect(), vec![]);
        let settings = read(&["ovl-agent", "--gossip-port", "7000"]);
        assert_eq!(settings.config.unwrap().gossip_port, 7000);
        let mistakes = read(&["ovl-agent", "--gossip-port", "x"]).config.unwrap_err();
        assert!(mistakes[0].contains("gossip-port"), "{mistakes:?}");
    }
}
