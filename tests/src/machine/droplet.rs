//! A machine that stands in for a droplet.
//!
//! It has `eth0` on a public side, with the default route, and `eth1` on the underlay; cloud-init in it
//! asks the metadata server who it is and what to do, with its own datasource of DigitalOcean. From
//! where the underlay's bridges are ([`Underlay::sandbox`]) both of its addresses can be reached.
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Image, Machine, disk, metadata};
use crate::folder::{self, Folder};
use crate::sandbox::Sandbox;
use crate::underlay::{Underlay, public_port};
use crate::{Lab, LabError, NodeName, exec, spec};

/// `$1` the gateway, `$2` the metadata server, `$3` and `$4` the hardware's addresses.
const SET_UP: &str = r#"
ip link set eth0 address "$3"
ip link set eth1 address "$4"
ip route add default via "$1" dev eth0
ip route add "$2" dev eth0
"#;

/// What a droplet is told at its first boot.
#[derive(Clone, Debug)]
pub struct DropletSeed {
    /// Its number.
    pub id: u64,
    /// What is to be its host name.
    pub hostname: String,
    /// The region's short name.
    pub region: String,
    /// What cloud-init is to do.
    pub user_data: String,
    /// Whom root's ssh lets in: lines of `authorized_keys`.
    pub public_keys: Vec<String>,
}

/// Where a droplet is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// On `eth0`.
    pub public: Ipv4Addr,
    /// On `eth1`.
    pub private: Ipv4Addr,
}

impl Addresses {
    /// Those of the droplet at `index`.
    #[must_use]
    pub fn of(index: usize) -> Self {
        Self { public: spec::public_address(index), private: spec::host_address(index) }
    }
}

impl Machine {
    /// Makes a machine of [`Image::Droplet`] with an empty disk, and boots it. Waits for its systemd,
    /// not for cloud-init: that is [`Machine::wait_for_cloud_init`]. `name` is the lab's of it.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start_droplet(
        lab: &Lab,
        name: &NodeName,
        index: usize,
        seed: &DropletSeed,
    ) -> Result<Self, LabError> {
        Self::start_droplet_in(lab.folder(), name, index, seed)
    }

    pub(super) fn start_droplet_in(
        lab: &Folder,
        name: &NodeName,
        index: usize,
        seed: &DropletSeed,
    ) -> Result<Self, LabError> {
        let lock = lab.lock()?;
        metadata::write(lab, Addresses::of(index), seed)?;
        disk::create(lab, name, Image::Droplet)?;
        own_kernel(lab, name)?;
        let machine = Self::power_on(lab, name, index, Image::Droplet, &lock)?;
        drop(lock);
        Ok(machine)
    }

    /// Where it is reached, if it is a droplet.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses::of(self.index)
    }

    /// Waits until cloud-init has done everything, and answers `done` or `error`.
    ///
    /// # Errors
    /// [`LabError::CommandTimeout`], [`LabError::BadAnswer`].
    pub fn wait_for_cloud_init(&self, limit: Duration) -> Result<String, LabError> {
        let outcome = self.run_within(&["cloud-init", "status", "--wait"], limit)?;
        let status = outcome.stdout.lines().find_map(|line| line.strip_prefix("status: "));
        status.map(str::to_owned).ok_or_else(|| LabError::BadAnswer {
            command: outcome.command.clone(),
            answer: exec::last_lines(&(outcome.stdout.clone() + &outcome.stderr), 3),
        })
    }

    /// Ends it at once, with its disk and what is written of it: the number in the lab is free again.
    ///
    /// # Errors
    /// [`LabError::Timeout`], [`LabError::File`].
    pub fn destroy(self) -> Result<(), LabError> {
        let lock = self.lab.lock()?;
        self.cut_power()?;
        metadata::remove(&self.lab, self.addresses());
        disk::remove(&self.lab, &self.name)?;
        let folder = self.lab.join(self.name.as_str());
        std::fs::remove_dir_all(&folder).map_err(folder::failed("remove", &folder))?;
        drop(lock);
        Ok(())
    }
}

const FOR_CLOUD_INIT: &str = "[Service]\nEnvironment=HOST_ROOT=/opt/kernel\n";

/// A machine's kernel is this one's, which may account for memory in control groups of version 1 alone; a
/// droplet's own does it in version 2. What sets a droplet up is shown that by `HOST_ROOT`, below which
/// it looks for files of the kernel, at the first boot and over ssh.
fn own_kernel(lab: &Folder, name: &NodeName) -> Result<(), LabError> {
    for (file, text) in [
        ("/opt/kernel/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
        ("/etc/ssh/sshd_config.d/kernel.conf", "SetEnv HOST_ROOT=/opt/kernel\n"),
        ("/etc/systemd/system/cloud-final.service.d/kernel.conf", FOR_CLOUD_INIT),
        // Of Debian 13, where one process does all stages.
        ("/etc/systemd/system/cloud-init-main.service.d/kernel.conf", FOR_CLOUD_INIT),
    ] {
        disk::write(lab, name, file, text)?;
    }
    Ok(())
}

/// The hardware's address that goes with an address: the same at each boot, as the metadata say.
pub(super) fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The public side of a droplet, before it boots.
pub(super) fn plug(
    lab: &Folder,
    underlay: &Underlay,
    sandbox: &Sandbox,
    index: usize,
) -> Result<(), LabError> {
    underlay.plug_public(&public_port(index), sandbox, spec::public_address(index))?;
    let (gateway, server) = (spec::public_gateway().to_string(), spec::METADATA.to_string());
    let Addresses { public, private } = Addresses::of(index);
    sandbox.script(SET_UP, &[&gateway, &server, &mac(public), &mac(private)])?;
    metadata::serve(lab, underlay)
}
