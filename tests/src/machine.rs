//! A machine: a Debian with its own systemd as process 1, on a lab's underlay.
//!
//! systemd-nspawn boots it from a root that `scripts/tools system` made, which stays as it is: what
//! the machine writes goes to a disk of its own. nspawn runs in a [`Sandbox`], whose network
//! namespace is the machine's. So whatever of a machine is in the kernel ends with that sandbox,
//! and [`Lab::down`] and [`leftovers`](crate::leftovers) take machines down as they do hosts.
//!
//! | file | task |
//! |---|---|
//! | `machine.rs` | [`Machine`]: boot, reboot, power off, power cut; commands in it |
//! | `machine/image.rs` | [`Image`]: which Debian |
//! | `machine/droplet.rs` | a machine that stands in for a droplet: two interfaces, cloud-init |
//! | `machine/metadata.rs` | the metadata server that droplets ask who they are |
//! | `machine/fleet.rs` | [`Fleet`]: droplets made, rebooted and deleted by number, in threads |
//! | `machine/disk.rs` | what a machine has on disk, and its root out of that |
//! | `machine/group.rs` | its control group, on a machine with version 1, 2 or both |
//! | `machine/unit.rs` | what systemd and the journal in it say |
//! | `machine/docker.rs` | its dockerd and containers |
mod disk;
mod docker;
mod droplet;
mod fleet;
mod group;
mod image;
mod metadata;
mod unit;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use self::disk::remove_all as remove_disks;
pub use self::docker::IMAGE as CONTAINER_IMAGE;
pub use self::droplet::{Addresses, DropletSeed};
pub use self::fleet::{Fleet, Standing};
pub use self::image::Image;
pub use self::unit::Entry;
use crate::exec::{self, Outcome};
use crate::folder::{self, Folder, Lock};
use crate::process::{self, Process};
use crate::programs::SYSTEM_PATH;
use crate::sandbox::{self, Sandbox};
use crate::underlay::{self, Underlay};
use crate::{Lab, LabError, NodeName, spec, wait};

/// From nspawn to an end of the boot, good or not: an agent may wait a minute for its store.
const BOOT_LIMIT: Duration = Duration::from_secs(150);
/// From nspawn to the first answer of systemd.
const INIT_LIMIT: Duration = Duration::from_secs(40);
/// From a request to the last process's end: dockerd gives containers 10 s.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(90);
/// A package's installation, or anything else that a person would wait for.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// In a sandbox: the machine's own control group, and nspawn in it; at the end its exit code. `$1` the
/// file for that, `$2` the control group, then nspawn.
///
/// The host's /run/systemd is covered: nspawn leaves folders there.
const BOOT: &str = r#"
mkdir -p "$2" /run/systemd
mount -t tmpfs tmpfs /run/systemd
code=0
sh -euc 'echo $$ > "$2/cgroup.procs"; shift 2; exec "$@"' sh "$@" || code=$?
echo "$code" > "$1"
"#;
/// nspawn's exit code when the machine asked for a reboot.
const REBOOTED: &str = "133";

/// A machine that runs.
#[derive(Clone, Debug)]
pub struct Machine {
    lab: Folder,
    name: NodeName,
    image: Image,
    index: usize,
    sandbox: Sandbox,
    nspawn: Process,
    init: Process,
}

impl Machine {
    /// Makes a machine with an empty disk and boots it. `index` numbers it in the lab, and gives it
    /// the address that the lab's host of that number would have.
    ///
    /// # Errors
    /// [`LabError::NoProgram`] without nspawn or the image, [`LabError::EndedAtOnce`],
    /// [`LabError::Timeout`].
    pub fn start(lab: &Lab, name: &NodeName, index: usize, image: Image) -> Result<Self, LabError> {
        let lock = lab.lock()?;
        disk::create(lab.folder(), name, image)?;
        let machine = Self::power_on(lab.folder(), name, index, image, &lock)?;
        drop(lock);
        machine.wait_booted()?;
        Ok(machine)
    }

    /// Its name, and host name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Its address on the underlay, on `eth1`.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        spec::host_address(self.index)
    }

    /// Which Debian it is.
    #[must_use]
    pub fn image(&self) -> Image {
        self.image
    }

    /// A program in it, as root would start it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.init.pid().to_string(),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "-C",
            "--",
        ]);
        command.arg(program).env_clear().env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        command.env("PATH", SYSTEM_PATH).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs a command line in it to its end.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn run(&self, argv: &[&str]) -> Result<Outcome, LabError> {
        self.run_within(argv, COMMAND_LIMIT)
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn run_within(&self, argv: &[&str], limit: Duration) -> Result<Outcome, LabError> {
        exec::run(self.command(argv[0]).args(&argv[1..]), limit)
    }

    /// Runs a shell script that must succeed, and gives its standard output; `args` are its `$1`, …
    ///
    /// # Errors
    /// [`LabError::Command`], [`LabError::CommandTimeout`].
    pub fn script(&self, script: &str, args: &[&str]) -> Result<String, LabError> {
        let mut command = self.command("sh");
        command.args(["-euc", script, "sh"]).args(args);
        Ok(exec::run(&mut command, COMMAND_LIMIT)?.require()?.stdout)
    }

    /// Where a path of the machine is on this one, while it runs.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init.pid()))
    }

    /// Copies a file into the machine; its folder must be there.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn copy_in(&self, file: &Path, inside: &str) -> Result<(), LabError> {
        std::fs::copy(file, self.path(inside)).map(drop).map_err(folder::failed("copy", file))
    }

    /// Writes a file of the machine; its folder is made.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn write(&self, inside: &str, text: &str) -> Result<(), LabError> {
        let path = self.path(inside);
        folder::make_folder(path.parent().unwrap_or(&path))?;
        folder::write_file(&path, text)
    }

    /// Path of the network namespace of one of its processes, which it numbers `pid`.
    #[must_use]
    pub fn network_path_of(&self, pid: &str) -> String {
        self.path(&format!("/proc/{pid}/ns/net")).display().to_string()
    }

    /// One of its processes, which it numbers `pid`, as a process of this machine.
    #[must_use]
    pub fn process(&self, pid: i32) -> Option<Process> {
        let depth = process::depth(self.init.pid())?;
        process::descendants_of(self.init.pid())
            .into_iter()
            .find(|process| process::pid_at_depth(process.pid(), depth) == Some(pid))
    }

    /// Its network namespace, and the sandbox around it.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Waits until it has booted, with or without failed units.
    ///
    /// # Errors
    /// [`LabError::Timeout`], [`LabError::CommandTimeout`].
    pub fn wait_booted(&self) -> Result<(), LabError> {
        let deadline = wait::Deadline::after(BOOT_LIMIT);
        wait::until(&format!("{} being booted", self.name), BOOT_LIMIT, || {
            let left = BOOT_LIMIT.saturating_sub(deadline.elapsed());
            let argv = ["systemctl", "is-system-running", "--wait"];
            let outcome = self.run_within(&argv, left).map_err(|error| error.chain())?;
            match outcome.stdout.trim() {
                "running" | "degraded" => Ok(()),
                other => Err(format!("{other:?} {}", outcome.stderr.trim())),
            }
        })
    }

    /// Shuts it down as `systemctl reboot` does, and boots it with nothing left but its disk:
    /// a new network namespace, an empty /run. Waits until it has booted.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn reboot(&mut self) -> Result<(), LabError> {
        self.power_off()?;
        self.boot()?;
        self.wait_booted()
    }

    /// A power cut: everything ends at once. [`Machine::boot`] boots it from its disk.
    ///
    /// # Errors
    /// [`LabError::Timeout`], [`LabError::Spawn`].
    pub fn cut_power(&self) -> Result<(), LabError> {
        self.sandbox.end()?;
        group::remove(&self.lab, &self.name);
        match Underlay::open(&self.lab) {
            Some(underlay) => {
                underlay.unplug(&self.port())?;
                underlay.unplug(&underlay::public_port(self.index))
            }
            None => Ok(()),
        }
    }

    /// Shuts it down in order. [`Machine::boot`] boots it from its disk.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn power_off(&self) -> Result<(), LabError> {
        self.run(&["systemctl", "poweroff", "--no-block"])?.require()?;
        self.nspawn.wait_gone(&format!("machine {}", self.name), SHUTDOWN_LIMIT)?;
        self.cut_power()
    }

    /// Boots it after a power cut or a power-off, without waiting for the end of the boot.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`], [`LabError::Timeout`].
    pub fn boot(&mut self) -> Result<(), LabError> {
        let lock = self.lab.lock()?;
        *self = Self::power_on(&self.lab, &self.name, self.index, self.image, &lock)?;
        Ok(())
    }

    /// Whether it runs. One that was shut down or rebooted from inside does not.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.nspawn.is_alive()
    }

    /// Boots it again if it has ended because something in it asked for a reboot, as firmware would;
    /// otherwise nothing happens. Answers whether it did, without waiting for the end of the boot.
    ///
    /// # Errors
    /// As [`Machine::boot`].
    pub fn revive_if_rebooted(&mut self) -> Result<bool, LabError> {
        let code = std::fs::read_to_string(ended(&self.lab, &self.name)).unwrap_or_default();
        if self.is_on() || code.trim() != REBOOTED {
            return Ok(false);
        }
        self.cut_power()?;
        self.boot()?;
        Ok(true)
    }

    fn power_on(
        lab: &Folder,
        name: &NodeName,
        index: usize,
        image: Image,
        lock: &Lock,
    ) -> Result<Self, LabError> {
        let folder = lab.join(name.as_str());
        folder::make_folder(&folder)?;
        let sandbox = Sandbox::create(&folder.join("holder"), lock)?;
        let underlay =
            Underlay::open(lab).ok_or_else(|| LabError::NotUp(lab.path().display().to_string()))?;
        let port = underlay::host_port(index);
        underlay.plug(&port, &sandbox, spec::host_address(index))?;
        match image {
            Image::Droplet => droplet::plug(lab, &underlay, &sandbox, index)?,
            Image::Bookworm | Image::Trixie => {
                let gateway = spec::bridge_address().to_string();
                sandbox.script(r#"ip route add default via "$1""#, &[&gateway])?;
            }
        }
        let root = disk::mount(lab, name, image, &sandbox)?;
        let nspawn = spawn(lab, name, &root, &sandbox)?;
        let init = wait_for_init(lab, name, &nspawn)?;
        let machine =
            Self { lab: lab.clone(), name: name.clone(), image, index, sandbox, nspawn, init };
        machine.wait_for_systemd()?;
        Ok(machine)
    }

    fn wait_for_systemd(&self) -> Result<(), LabError> {
        wait::until(&format!("systemd of {}", self.name), INIT_LIMIT, || {
            let socket = self.path("/run/systemd/private");
            if socket.exists() { Ok(()) } else { Err(format!("no {}", socket.display())) }
        })
    }

    fn port(&self) -> String {
        underlay::host_port(self.index)
    }
}

/// The machine's console.
fn log(lab: &Folder, name: &NodeName) -> PathBuf {
    lab.join(name.as_str()).join("console.log")
}

/// Where the exit code of its last nspawn is.
fn ended(lab: &Folder, name: &NodeName) -> PathBuf {
    lab.join(name.as_str()).join("ended")
}

fn spawn(
    lab: &Folder,
    name: &NodeName,
    root: &Path,
    sandbox: &Sandbox,
) -> Result<Process, LabError> {
    let group = group::of(lab, name)?.display().to_string();
    let directory = format!("--directory={}", root.display());
    let machine = format!("--machine={name}");
    let network = format!("--network-namespace-path={}", sandbox::OWN_NETWORK);
    let binds = disk::binds(lab, name);
    let ended = ended(lab, name).display().to_string();
    let mut argv = vec!["sh", "-euc", BOOT, "sh", &ended, &group, "env"];
    // Control groups as on a host of version 2 only; no filter of nspawn's, so that a filter of a
    // process in it is the unit's; /proc/sys/net as on a host, the rest of /proc/sys is read-only.
    argv.extend([
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
        "SYSTEMD_SECCOMP=0",
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network",
    ]);
    argv.extend(["systemd-nspawn", "--quiet", "--boot", &directory, &machine, &network]);
    argv.extend(binds.iter().map(String::as_str));
    argv.extend(["--register=no", "--keep-unit", "--capability=all", "--console=pipe"]);
    argv.extend(["--resolv-conf=off", "--timezone=off", "--link-journal=no"]);
    sandbox.spawn(
        &format!("machine {name}"),
        &argv,
        &log(lab, name),
        &lab.join(name.as_str()).join("nspawn"),
    )
}

/// Process 1 of the machine: the child of nspawn that its own namespace numbers so. nspawn is a child
/// of the shell that waits for it.
fn wait_for_init(lab: &Folder, name: &NodeName, nspawn: &Process) -> Result<Process, LabError> {
    wait::until(&format!("process 1 of {name}"), INIT_LIMIT, || {
        if !nspawn.is_alive() {
            return Ok(Err(LabError::EndedAtOnce {
                what: format!("machine {name}"),
                log: log(lab, name),
                tail: sandbox::log_tail(&log(lab, name)),
            }));
        }
        let children = process::children_of(nspawn.pid());
        let init = children.iter().find_map(|child| process::child_numbered(child.pid(), 1));
        init.map(Ok).ok_or_else(|| "none yet".to_owned())
    })?
}
