//! What there is of ovl on this host: its agent's process, settings and files.
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ovl_agent::config::process::{self, ENVIRONMENT_FILE, Variables};
use ovl_agent::config::{self, Start};
use tokio::net::UnixStream;

use super::files::{READ_WITHIN, read_within, within};

/// Bytes of the agent's settings that are read to find its files; a longer file is not understood.
const CONFIG_MAX: usize = 1 << 20;

/// Where the agent keeps its state if nothing says otherwise.
const STATE_DIR: &str = "/var/lib/ovl";

/// The agent's own files. Holds secrets, and is not printed.
pub(super) struct Here {
    pub(super) host_name: String,
    /// The agent's command line, if one runs.
    pub(super) argv: Vec<OsString>,
    /// Variables of the agent's process, of the service, and of this program.
    pub(super) variables: Variables,
    pub(super) config_file: PathBuf,
    /// None: there is no such file, or it cannot be read.
    pub(super) config_text: Option<String>,
    pub(super) state_dir: PathBuf,
}

impl Here {
    /// `socket` is the agent's, whose process has settings of its own.
    pub(super) async fn look(socket: &Path) -> Here {
        let stream = UnixStream::connect(socket).await.ok();
        let pid = stream.and_then(|stream| u32::try_from(stream.peer_cred().ok()?.pid()?).ok());
        let of_agent = pid.and_then(|pid| {
            within(READ_WITHIN, move || (process::command_line(pid), process::environment(pid)))
        });
        let (argv, variables) = of_agent.unwrap_or_default();
        let (argv, mut variables) = (argv.unwrap_or_default(), variables.unwrap_or_default());
        let of_service = within(READ_WITHIN, || process::variables_of(Path::new(ENVIRONMENT_FILE)));
        variables.extend(of_service.unwrap_or_default());
        variables.extend(std::env::vars_os());
        Here::of(host_name(), argv, variables)
    }

    fn of(host_name: String, argv: Vec<OsString>, variables: Variables) -> Here {
        let program = vec![OsString::from("ovl-agent")];
        let command = if argv.is_empty() { program } else { argv.clone() };
        // The first of a name counts: the agent's own.
        let mut ours: Variables = Vec::new();
        for (name, value) in &variables {
            if name.as_bytes().starts_with(b"OVL_") && ours.iter().all(|(known, _)| known != name) {
                ours.push((name.clone(), value.clone()));
            }
        }
        let (mut config_file, mut config_text) = (PathBuf::from(config::DEFAULT_FILE), None);
        let start = config::start(command, ours, Some(host_name.clone()), |path| {
            config_file = path.to_owned();
            let (text, _) = read_within(path, CONFIG_MAX)?;
            config_text = Some(text.clone());
            Ok(text)
        });
        let state_dir = match start {
            Start::Run(config, _) => config.state_dir,
            Start::Show(_) | Start::Refuse(_) => STATE_DIR.into(),
        };
        Here { host_name, argv, variables, config_file, config_text, state_dir }
    }
}

/// Of characters that are fit for a file's name.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = name.to_string_lossy().chars().map(fit).collect();
    if name.is_empty() { "host".to_owned() } else { name }
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
        assert_eq!(here.state_dir, Path::new(STATE_DIR), "the file is missing");
        let variables = [("OVL_STATE_DIR", "/a"), ("OVL_STATE_DIR", "/b"), ("OVL_JUNK", "x")];
        let variables = variables.map(|(name, value)| (os(name), os(value))).to_vec();
        let here = Here::of("bee-1".into(), vec![os("ovl-agent")], variables[..2].to_vec());
        assert_eq!(here.state_dir, Path::new("/a"));
        let here = Here::of("bee-1".into(), vec![os("ovl-agent")], variables);
        assert_eq!(here.state_dir, Path::new(STATE_DIR), "with mistakes, the usual");
    }
}
