//! The settings that an agent of this host has, or would have: its command line, its environment and its
//! file, read as the agent reads them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::unit::Unit;
use crate::config::{self, Config, Start};

/// Variables for the service, one `NAME=VALUE` a line.
pub(super) const ENVIRONMENT_FILE: &str = "/etc/ovl/agent.env";

/// Where Consul's token stands when it stands in no file.
const TOKEN: &str = "CONSUL_HTTP_TOKEN";

/// Bytes of a command line, an environment or a file that are read.
const READ_MAX: u64 = 1 << 20;

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
        let line = read(Path::new(&format!("/proc/{pid}/cmdline")))?;
        let environment = read(Path::new(&format!("/proc/{pid}/environ")))?;
        Some(Settings::read(words(&line).collect(), variables(&environment)))
    }

    /// Those that a new agent would have: by this process's environment, by its unit, and by the service's
    /// file of variables.
    pub(super) fn of_a_start(unit: Option<&Unit>, file: &Path) -> Settings {
        let mut variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let mut add = |more: Vec<(OsString, OsString)>| {
            // The service has its own and no others, but who sets one by hand here means it.
            for (name, value) in more {
                if !variables.iter().any(|(known, _)| *known == name) {
                    variables.push((name, value));
                }
            }
        };
        // Of the two, the file counts (systemd.exec(5)).
        add(read(file).map(|text| assignments(&text).collect()).unwrap_or_default());
        let set = unit.map_or("", |unit| unit.get("Environment"));
        add(set.split_whitespace().filter_map(|word| pair(word.as_bytes())).collect());
        let line = unit.map(Unit::command_line).unwrap_or_default();
        let argv: Vec<OsString> = line.iter().map(OsString::from).collect();
        Settings::read(if argv.is_empty() { vec!["ovl-agent".into()] } else { argv }, variables)
    }

    fn read(argv: Vec<OsString>, variables: Vec<(OsString, OsString)>) -> Settings {
        let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let token = variables.iter().find(|(name, _)| name == TOKEN);
        let token = token.and_then(|(_, value)| value.to_str().map(str::to_owned));
        let ours = ours(variables);
        let config = match config::start(argv, ours, host_name, |path| fs::read_to_string(path)) {
            Start::Run(config, _) => Ok(*config),
            Start::Refuse(mistakes) => Err(lines(&mistakes)),
            Start::Show(text) => Err(lines(&text)),
        };
        Settings { config, token }
    }
}

/// Without those that are for ovlctl alone.
fn ours(variables: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    variables.into_iter().filter(|(name, _)| name.as_bytes().starts_with(b"OVL_")).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim_start_matches("ovl-agent: ").to_owned()).collect()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(READ_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Each is followed by a zero.
fn words(bytes: &[u8]) -> impl Iterator<Item = OsString> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    bytes.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).to_owned())
}

fn variables(bytes: &[u8]) -> Vec<(OsString, OsString)> {
    words(bytes).filter_map(|word| pair(word.as_bytes())).collect()
}

/// As systemd reads a file of variables (systemd.exec(5)), but for lines that go on in the next one.
fn assignments(text: &[u8]) -> impl Iterator<Item = (OsString, OsString)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.trim_ascii();
        let comment = line.first().is_none_or(|first| matches!(first, b'#' | b';'));
        let (name, value) = pair(line).filter(|_| !comment)?;
        let bytes = value.as_bytes().trim_ascii();
        let quoted = |quote: u8| bytes.strip_prefix(&[quote])?.strip_suffix(&[quote]);
        let bare = quoted(b'"').or_else(|| quoted(b'\'')).unwrap_or(bytes);
        Some((name, OsStr::from_bytes(bare).to_owned()))
    })
}

fn pair(assignment: &[u8]) -> Option<(OsString, OsString)> {
    let equals = assignment.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&assignment[..equals], &assignment[equals + 1..]);
    let owned = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    (!name.is_empty()).then(|| (owned(name.trim_ascii()), owned(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_as_the_service_manager_reads_it() {
        let text =
            b"# a comment\n; another\nOVL_A=1\n OVL_B = \"two words\" \nC='x'\nD=\njunk\n=x\nE=a=b";
        let read: Vec<(String, String)> = assignments(text)
            .map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()))
            .collect();
        let expected =
            [("OVL_A", "1"), ("OVL_B", "two words"), ("C", "x"), ("D", ""), ("E", "a=b")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn this_process_has_a_command_line_and_an_environment() {
        let line = read(Path::new("/proc/self/cmdline")).unwrap();
        assert_eq!(words(&line).count(), std::env::args_os().count());
        let environment = read(Path::new("/proc/self/environ")).unwrap();
        assert!(variables(&environment).iter().any(|(name, _)| name == "PATH"));
    }

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
