//! What there is of ovl on this host: its agent's process, settings and files.
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use ovl_agent::config::{self, Config, Start};
use tokio::net::UnixStream;

/// The service's variables, one `NAME=VALUE` a line.
pub(super) const VARIABLES_FILE: &str = "/etc/ovl/agent.env";

/// Where the agent keeps its state if nothing says otherwise.
const STATE_DIR: &str = "/var/lib/ovl";

/// Bytes of a file of settings, of a command line or of an environment that are read.
const READ_MAX: u64 = 1 << 20;

/// The agent's own files. Holds secrets, and is not printed.
pub(super) struct Here {
    pub(super) host_name: String,
    /// The agent's command line, if one runs.
    pub(super) argv: Vec<OsString>,
    /// Variables of the agent's process, of the service, and of this program.
    pub(super) variables: Vec<(OsString, OsString)>,
    pub(super) config_file: PathBuf,
    /// None: there is no such file, or it cannot be read.
    pub(super) config_text: Option<String>,
    pub(super) config: Option<Config>,
    pub(super) state_dir: PathBuf,
}

impl Here {
    /// `socket` is the agent's, whose process has settings of its own.
    pub(super) async fn look(socket: &Path) -> Here {
        let pid = UnixStream::connect(socket).await.ok();
        let pid = pid.and_then(|stream| stream.peer_cred().ok()?.pid());
        let of_process = |file: &str| {
            let pid = pid?;
            read(Path::new(&format!("/proc/{pid}/{file}")))
        };
        let argv = of_process("cmdline").map(|bytes| words(&bytes)).unwrap_or_default();
        let mut variables = Vec::new();
        for word in of_process("environ").map(|bytes| words(&bytes)).unwrap_or_default() {
            variables.extend(pair(word.as_bytes()));
        }
        let file = read(Path::new(VARIABLES_FILE)).unwrap_or_default();
        variables.extend(file.split(|byte| *byte == b'\n').filter_map(assignment));
        variables.extend(std::env::vars_os());
        Here::of(host_name(), argv, variables)
    }

    fn of(host_name: String, argv: Vec<OsString>, variables: Vec<(OsString, OsString)>) -> Here {
        let program = vec![OsString::from("ovl-agent")];
        let command = if argv.is_empty() { program } else { argv.clone() };
        // The first of a name counts: the agent's own.
        let mut ours: Vec<(OsString, OsString)> = Vec::new();
        for (name, value) in &variables {
            if name.as_bytes().starts_with(b"OVL_") && ours.iter().all(|(known, _)| known != name) {
                ours.push((name.clone(), value.clone()));
            }
        }
        let (mut config_file, mut config_text) = (PathBuf::from(config::DEFAULT_FILE), None);
        let start = config::start(command, ours, Some(host_name.clone()), |path| {
            config_file = path.to_owned();
            let text = fs::read_to_string(path)?;
            config_text = Some(text.clone());
            Ok(text)
        });
        let config = match start {
            Start::Run(config, _) => Some(*config),
            Start::Show(_) | Start::Refuse(_) => None,
        };
        let state_dir = config.as_ref().map(|config| config.state_dir.clone());
        let state_dir = state_dir.unwrap_or_else(|| STATE_DIR.into());
        Here { host_name, argv, variables, config_file, config_text, config, state_dir }
    }
}

/// Of characters that are fit for a file's name.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = name.to_string_lossy().chars().map(fit).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(READ_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Each is followed by a zero.
fn words(bytes: &[u8]) -> Vec<OsString> {
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// A line of the service's file of variables (systemd.exec(5)).
fn assignment(line: &[u8]) -> Option<(OsString, OsString)> {
    let line = line.trim_ascii();
    if line.first().is_none_or(|first| matches!(first, b'#' | b';')) {
        return None;
    }
    let (name, value) = pair(line)?;
    let value = value.as_bytes().trim_ascii();
    let inside = |quote: u8| value.strip_prefix(&[quote])?.strip_suffix(&[quote]);
    let value = inside(b'"').or_else(|| inside(b'\'')).unwrap_or(value);
    Some((name, OsStr::from_bytes(value).to_owned()))
}

fn pair(assignment: &[u8]) -> Option<(OsString, OsString)> {
    let equals = assignment.iter().position(|byte| *byte == b'=')?;
    let owned = |bytes: &[u8]| OsStr::from_bytes(bytes.trim_ascii()).to_owned();
    let (name, value) = (owned(&assignment[..equals]), owned(&assignment[equals + 1..]));
    (!name.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_the_agents_own_command_line_and_variables() {
        let os = |text: &str| OsString::from(text);
        let argv = ["ovl-agent", "--state-dir", "/srv/ovl", "--config", "/nowhere/agent.toml"];
        let here = Here::of("bee-1".into(), argv.map(os).to_vec(), Vec::new());
        assert_eq!(here.config_file, Path::new("/nowhere/agent.toml"));
        assert!(here.config.is_none(), "the file is missing");
        let variables = [("OVL_STATE_DIR", "/a"), ("OVL_STATE_DIR", "/b"), ("OVL_JUNK", "x")];
        let variables = variables.map(|(name, value)| (os(name), os(value))).to_vec();
        let here = Here::of("bee-1".into(), vec![os("ovl-agent")], variables[..2].to_vec());
        assert_eq!(here.state_dir, Path::new("/a"));
        let here = Here::of("bee-1".into(), vec![os("ovl-agent")], variables);
        assert_eq!(here.state_dir, Path::new(STATE_DIR), "with mistakes, the usual");
    }

    #[test]
    fn assignments_are_those_of_the_service_manager() {
        let read = |line: &[u8]| {
            let (name, value) = assignment(line)?;
            Some(format!("{}={}", name.display(), value.display()))
        };
        assert_eq!(read(b" A = \"b c\" ").as_deref(), Some("A=b c"));
        assert_eq!(read(b"A='b=c'").as_deref(), Some("A=b=c"));
        assert_eq!(read(b"# A=b"), None);
        assert_eq!(read(b"junk"), None);
    }
}
