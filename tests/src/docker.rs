//! A real dockerd in a host of the lab.
//!
//! /run, /etc/docker and /var/lib/docker are the host's own already, so that the daemon is started
//! much as on a machine of its own. Images come from busybox, since no registry can be reached.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::exec::{self, Outcome};
use crate::folder::{self, Folder};
use crate::process::Process;
use crate::programs::Programs;
use crate::{Host, LabError, sandbox, wait};

/// The one image of every daemon.
pub const IMAGE: &str = "busybox";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(90);
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// `$1` busybox, `$2` a folder for the image's files.
const IMPORT_IMAGE: &str = r#"
mkdir -p "$2/bin" "$2/etc" "$2/tmp"
cp "$1" "$2/bin/busybox"
"$2/bin/busybox" --install -s "$2/bin"
for link in "$2"/bin/*; do
    if [ -L "$link" ]; then ln -sf busybox "$link"; fi
done
tar -C "$2" -c . | docker import - busybox
"#;

/// A dockerd in a host, with its containerd; it ends with the host.
#[derive(Clone, Debug)]
pub struct Dockerd {
    host: Host,
    process: Process,
}

impl Dockerd {
    /// Starts the daemon, waits until it answers, and gives it the busybox image.
    /// Its containers ask the agent for names.
    ///
    /// # Errors
    /// [`LabError::NoProgram`], [`LabError::EndedAtOnce`], [`LabError::Timeout`].
    pub fn start(host: &Host) -> Result<Self, LabError> {
        let daemon = Self::spawn(host)?;
        let busybox = Programs::find()?.tool("busybox")?.display().to_string();
        let files = host.folder().join("image").display().to_string();
        let mut import = host.command("sh");
        import.args(["-euc", IMPORT_IMAGE, "sh", &busybox, &files]);
        exec::run(&mut import, COMMAND_LIMIT)?.require()?;
        Ok(daemon)
    }

    /// Starts the daemon again on what it had, and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`], [`LabError::Timeout`].
    pub fn spawn(host: &Host) -> Result<Self, LabError> {
        let dockerd = Programs::find()?.tool("dockerd")?.display().to_string();
        let parent = format!("--cgroup-parent={}", control_group(host));
        let argv = [
            dockerd.as_str(),
            "--host=unix:///run/docker.sock",
            "--pidfile=/run/docker.pid",
            "--exec-root=/run/docker-exec",
            "--data-root=/var/lib/docker",
            "--storage-driver=vfs",
            "--log-level=warn",
            "--dns=169.254.53.53",
            &parent,
        ];
        let log = host.folder().join("dockerd.log");
        let record = host.folder().join("dockerd");
        let what = format!("dockerd of {}", host.name());
        let process = host.sandbox().spawn(&what, &argv, &log, &record)?;
        let daemon = Self { host: host.clone(), process };
        daemon.wait_for_answer(&what, &log)?;
        Ok(daemon)
    }

    /// `docker ARGS` in the host.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command("docker");
        command.args(args);
        command
    }

    /// Runs `docker ARGS` to its end.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn docker(&self, args: &[&str]) -> Result<Outcome, LabError> {
        exec::run(&mut self.command(args), COMMAND_LIMIT)
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.host.folder().join("dockerd.log")
    }

    /// Ends it with SIGTERM, and with it its containers.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn stop(&self) -> Result<(), LabError> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait_gone(&format!("dockerd of {}", self.host.name()), STOP_LIMIT)
    }

    fn wait_for_answer(&self, what: &str, log: &Path) -> Result<(), LabError> {
        wait::until(&format!("an answer of {what}"), START_LIMIT, || {
            if !self.process.is_alive() {
                return Err(format!("it has ended: {}", sandbox::log_tail(log)));
            }
            match self.docker(&["version", "--format", "{{.Server.Version}}"]) {
                Ok(outcome) if outcome.ok() => Ok(()),
                Ok(outcome) => Err(exec::last_lines(&outcome.stderr, 2)),
                Err(error) => Err(error.chain()),
            }
        })
    }
}

/// Removes the control groups of a lab's containers: they outlive processes and namespaces.
/// Best effort: one that is busy is no reason to keep the lab.
pub fn remove_control_groups(lab: &Folder) {
    let prefix = group_prefix(lab);
    let controllers = folder::subfolders(Path::new(CONTROL_GROUPS));
    let roots = controllers.into_iter().chain([PathBuf::from(CONTROL_GROUPS)]);
    for group in roots.flat_map(|root| folder::subfolders(&root)) {
        let ours = group.file_name().and_then(|name| name.to_str());
        if ours.is_some_and(|name| name.starts_with(&prefix)) {
            remove_group(&group);
        }
    }
}

fn remove_group(group: &Path) {
    for child in folder::subfolders(group) {
        remove_group(&child);
    }
    // The files in it are the kernel's: rmdir takes them along.
    let _ = fs::remove_dir(group);
}

fn control_group(host: &Host) -> String {
    format!("/{}{}", group_prefix(host.lab()), host.name())
}

fn group_prefix(lab: &Folder) -> String {
    let name = lab.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // No lab's name holds a dot: one lab's prefix is never the start of another's.
    format!("ovl-lab.{name}.")
}
