//! What a container is to the network: a namespace with a name, attached to an overlay network.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::exec::{self, Outcome};
use crate::folder;
use crate::process::Process;
use crate::sandbox::Sandbox;
use crate::{Host, LabError, NodeName};

/// The agents' DNS server in every container.
const NAMESERVER: &str = "169.254.53.53";

/// `$1` the container's folder, `$2` its name.
const FURNISH: &str = r#"
folder=$1 name=$2
echo "$name" > /proc/sys/kernel/hostname
for file in resolv.conf hosts hostname; do
    mount --bind "$folder/$file" "/etc/$file"
done
mount --bind "$folder/run" /run
ip link set lo up
cd /
"#;
/// Makes the namespace findable as `/run/netns/NAME` in its host: a path that outlives every
/// process in it and is never another's, as a pid's may be. `$1` its pid in the host, `$2` the path.
const NAME_NETWORK: &str = r#"
mkdir -p /run/netns
: > "$2"
mount --bind "/proc/$1/ns/net" "$2"
"#;
const FORGET_NETWORK: &str = r#"
if [ -e "$1" ]; then umount "$1" 2>/dev/null || true; rm -f "$1"; fi
"#;

/// A container of a lab.
#[derive(Clone, Debug)]
pub struct Container {
    host: Host,
    folder: PathBuf,
    sandbox: Sandbox,
}

impl Container {
    /// Makes the container's namespaces in a host, attached to nothing.
    ///
    /// # Errors
    /// Any of [`LabError`]'s about commands and files.
    pub fn create(host: &Host, name: &NodeName) -> Result<Self, LabError> {
        let folder = folder_of(host, name.as_str());
        folder::make_folder(&folder.join("run"))?;
        let resolver = format!("nameserver {NAMESERVER}\n");
        folder::write_file(&folder.join("resolv.conf"), &resolver)?;
        folder::write_file(&folder.join("hostname"), &format!("{name}\n"))?;
        let hosts = format!("127.0.0.1 localhost {name}\n::1 localhost\n");
        folder::write_file(&folder.join("hosts"), &hosts)?;
        let sandbox = host.sandbox().create_inside(&folder.join("holder"))?;
        let container = Self { host: host.clone(), folder, sandbox };
        container.furnish()?;
        Ok(container)
    }

    /// Makes a container and attaches it to a network; removes it again when that fails.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ovlctl` said.
    pub fn attach(host: &Host, network: &str, name: &NodeName) -> Result<Self, LabError> {
        let container = Self::create(host, name)?;
        let attached = container.join(network, &[]);
        if attached.is_err() {
            container.remove()?;
        }
        attached.map(|()| container)
    }

    /// Attaches it to a network under its own name; `more` are further arguments of `ovlctl
    /// endpoint attach`.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ovlctl` said.
    pub fn join(&self, network: &str, more: &[&str]) -> Result<(), LabError> {
        let path = self.network_path();
        let mut args = vec!["endpoint", "attach", "--network", network, "--name", self.name()];
        args.extend(["--netns", &path]);
        args.extend(more);
        self.host.ctl_ok(&args)?;
        folder::write_file(&self.folder.join("network"), network)
    }

    /// Detaches it from its network; it stays, and can be attached again.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ovlctl` said.
    pub fn leave(&self) -> Result<(), LabError> {
        let Some(network) = self.network() else {
            return Ok(());
        };
        self.host.ctl_ok(&["endpoint", "detach", "--network", &network, self.name()])?;
        // The record only says what to detach from.
        let _ = fs::remove_file(self.folder.join("network"));
        Ok(())
    }

    /// Detaches it and removes it.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what `ovlctl` said: then it is still there.
    pub fn detach(&self) -> Result<(), LabError> {
        self.leave()?;
        self.remove()
    }

    /// Ends its processes and removes its namespaces, attached or not.
    ///
    /// # Errors
    /// [`LabError::Timeout`], [`LabError::File`].
    pub fn remove(&self) -> Result<(), LabError> {
        self.sandbox.end()?;
        self.host.sandbox().script(FORGET_NETWORK, &[&self.network_path()])?;
        fs::remove_dir_all(&self.folder).map_err(|source| LabError::File {
            action: "remove",
            path: self.folder.clone(),
            source,
        })
    }

    /// Its name, and host name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Where it runs.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its namespaces.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The network that it is attached to.
    #[must_use]
    pub fn network(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("network")).ok()
    }

    /// Path of its network namespace, as its host sees it.
    #[must_use]
    pub fn network_path(&self) -> String {
        format!("/run/netns/{}", self.name())
    }

    /// A program in it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.sandbox.command(program)
    }

    /// Runs a command line in it to its end.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn run(&self, argv: &[&str]) -> Result<Outcome, LabError> {
        self.run_within(argv, exec::QUICK)
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn run_within(&self, argv: &[&str], limit: Duration) -> Result<Outcome, LabError> {
        self.sandbox.run(argv, limit)
    }

    /// Starts a daemon in it; its log is `/run/NAME.log` inside.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`].
    pub fn spawn(&self, name: &str, argv: &[&str]) -> Result<Process, LabError> {
        let log = PathBuf::from(format!("/run/{name}.log"));
        let record = self.folder.join(format!("{name}.daemon"));
        self.sandbox.spawn(&format!("{name} in {}", self.name()), argv, &log, &record)
    }

    /// The containers of a host that are still there.
    #[must_use]
    pub fn all_of(host: &Host) -> Vec<Self> {
        let folders = folder::subfolders(&host.folder().join("containers"));
        folders
            .into_iter()
            .filter_map(|folder| {
                let sandbox = Sandbox::load(&folder.join("holder"))?;
                Some(Self { host: host.clone(), folder, sandbox })
            })
            .collect()
    }

    fn furnish(&self) -> Result<(), LabError> {
        let folder = self.folder.display().to_string();
        self.sandbox.script(FURNISH, &[&folder, self.name()])?;
        let pid = crate::process::pid_at_depth(self.sandbox.pid(), 1).unwrap_or_default();
        let script =
            self.host.sandbox().script(NAME_NETWORK, &[&pid.to_string(), &self.network_path()]);
        script.map(drop)
    }
}

fn folder_of(host: &Host, name: &str) -> PathBuf {
    host.folder().join(Path::new("containers")).join(name)
}
