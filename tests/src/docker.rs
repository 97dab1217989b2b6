//! A real dockerd in a host of the lab.
//!
//! /run, /etc/docker and /var/lib/docker are the host's own already, so that the daemon is started
//! much as on a machine of its own. Images are made here, since no registry can be reached.
//!
//! | file | task |
//! |---|---|
//! | `docker.rs` | [`Dockerd`]: start, stop, kill, start again on its data |
//! | `docker/edition.rs` | [`Edition`]: which Docker |
//! | `docker/image.rs` | images out of the machine's own programs |
//! | `docker/groups.rs` | control groups that containers leave |
mod edition;
pub(crate) mod groups;
mod image;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

pub use self::edition::{EDITION, Edition};
pub use self::groups::remove_control_groups;
pub(crate) use self::groups::remove_of as remove_groups_of;
pub use self::image::{IMAGE, REDIS_IMAGE};
use crate::exec::{self, Outcome};
use crate::process::Process;
use crate::{Host, LabError, sandbox, wait};

/// Where the Engine API is, in every host.
pub const SOCKET: &str = "unix:///run/docker.sock";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(90);

/// How a dockerd is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which Docker.
    pub edition: Edition,
    /// Containers go on when the daemon ends.
    pub live_restore: bool,
    /// Further flags, such as `--cluster-store=…`.
    pub flags: Vec<String>,
}

/// A dockerd in a host, with its containerd; it ends with the host.
#[derive(Clone, Debug)]
pub struct Dockerd {
    host: Host,
    options: Options,
    process: Process,
}

impl Dockerd {
    /// Starts the daemon that [`EDITION`] names, waits until it answers, and gives it the busybox
    /// image. Nothing is configured beyond what a lab needs: no DNS server, no plugin.
    ///
    /// # Errors
    /// [`LabError::NoProgram`], [`LabError::EndedAtOnce`], [`LabError::Timeout`].
    pub fn start(host: &Host) -> Result<Self, LabError> {
        Self::start_with(host, Options { edition: Edition::from_env(), ..Options::default() })
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Dockerd::start`].
    pub fn start_with(host: &Host, options: Options) -> Result<Self, LabError> {
        let process = spawn(host, &options)?;
        let daemon = Self { host: host.clone(), options, process };
        daemon.wait_for_answer()?;
        image::import_busybox(&daemon)?;
        Ok(daemon)
    }

    /// Starts it again after its end, on what it had, in the same host or in the host as it is
    /// after a reboot, and waits until it answers.
    ///
    /// # Errors
    /// As [`Dockerd::start`].
    pub fn start_again(&mut self, host: &Host) -> Result<(), LabError> {
        self.spawn_again(host)?;
        self.wait_for_answer()
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`].
    pub fn spawn_again(&mut self, host: &Host) -> Result<(), LabError> {
        self.host = host.clone();
        self.process = spawn(host, &self.options)?;
        Ok(())
    }

    /// Gives it an image of the machine's Redis, [`REDIS_IMAGE`].
    ///
    /// # Errors
    /// [`LabError::NoProgram`], [`LabError::Command`].
    pub fn import_redis(&self) -> Result<(), LabError> {
        image::import_redis(self)
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The server's version, as it says itself.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn version(&self) -> Result<String, LabError> {
        let outcome = self.docker(&["version", "--format", "{{.Server.Version}}"])?.require()?;
        Ok(outcome.stdout.trim().to_owned())
    }

    /// `docker ARGS` in the host.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(&self.options.edition.client());
        command.args(args);
        command
    }

    /// Another program in the host that talks to this daemon, such as `docker-compose`.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command.env("DOCKER_HOST", SOCKET);
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
        log(&self.host)
    }

    /// Ends it with SIGTERM, and with it its containers, unless it is to restore them live.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn stop(&self) -> Result<(), LabError> {
        self.end(Signal::SIGTERM)
    }

    /// Ends it with SIGKILL; its containers go on until a daemon that does not restore them starts.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn kill(&self) -> Result<(), LabError> {
        self.end(Signal::SIGKILL)
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_for_answer(&self) -> Result<(), LabError> {
        wait::until(&format!("an answer of {}", what(&self.host)), START_LIMIT, || {
            if !self.process.is_alive() {
                let (what, log) = (what(&self.host), self.log());
                let tail = sandbox::log_tail(&log);
                return Ok(Err(LabError::EndedAtOnce { what, log, tail }));
            }
            self.version().map(|_| Ok(())).map_err(|error| error.chain())
        })?
    }

    fn end(&self, signal: Signal) -> Result<(), LabError> {
        self.process.signal(signal)?;
        self.process.wait_reaped(&what(&self.host), STOP_LIMIT)
    }
}

fn spawn(host: &Host, options: &Options) -> Result<Process, LabError> {
    let path = format!("PATH={}", options.edition.search_path()?);
    let parent = format!("--cgroup-parent={}", groups::of(host));
    let live_restore = format!("--live-restore={}", options.live_restore);
    let dockerd = options.edition.server()?;
    let host_flag = format!("--host={SOCKET}");
    let mut argv = vec![
        "env",
        &path,
        &dockerd,
        &host_flag,
        "--pidfile=/run/docker.pid",
        "--exec-root=/run/docker-exec",
        "--data-root=/var/lib/docker",
        "--storage-driver=overlay2",
        "--log-level=warn",
        &live_restore,
        &parent,
    ];
    argv.extend(options.flags.iter().map(String::as_str));
    let record = host.folder().join("dockerd");
    host.sandbox().spawn(&what(host), &argv, &log(host), &record)
}

fn what(host: &Host) -> String {
    format!("dockerd of {}", host.name())
}

fn log(host: &Host) -> PathBuf {
    host.folder().join(Path::new("dockerd.log"))
}
