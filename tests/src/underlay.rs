//! The network between the hosts: one bridge, in a namespace of its own.
use std::net::Ipv4Addr;
use std::path::Path;

use crate::folder::{Folder, Lock, make_folder};
use crate::sandbox::Sandbox;
use crate::{LabError, exec, spec};

/// Every host's interface on the underlay.
pub const INTERFACE: &str = "eth1";
const PREFIX: u8 = 24;

/// `$1` the bridge's own address.
const FURNISH: &str = r#"
echo underlay > /proc/sys/kernel/hostname
ip link set lo up
ip link add br0 type bridge stp_state 0 mcast_snooping 0
ip address add "$1" dev br0
ip link set br0 up
for file in /proc/sys/net/bridge/bridge-nf-call-*; do
    if [ -e "$file" ]; then echo 0 > "$file"; fi
done
"#;

const PLUG_HOST: &str = r#"
ip link set lo up
ip address add "$1" dev "$2"
ip link set "$2" up
"#;

/// The bridge, with one port for each node.
#[derive(Clone, Copy, Debug)]
pub struct Underlay {
    sandbox: Sandbox,
}

impl Underlay {
    /// Makes the bridge.
    ///
    /// # Errors
    /// Those of [`Sandbox::create`] and of its commands.
    pub fn create(folder: &Folder, lock: &Lock) -> Result<Self, LabError> {
        make_folder(&folder.join("underlay"))?;
        let sandbox = Sandbox::create(&record(folder), lock)?;
        sandbox.script(FURNISH, &[&format!("{}/{PREFIX}", spec::bridge_address())])?;
        Ok(Self { sandbox })
    }

    /// The bridge of a lab that is up.
    #[must_use]
    pub fn open(folder: &Folder) -> Option<Self> {
        Sandbox::load(&record(folder)).map(|sandbox| Self { sandbox })
    }

    /// Its namespaces.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Gives a node its interface, `eth1`, with the bridge's port `port` at the other end.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn plug(&self, port: &str, node: &Sandbox, address: Ipv4Addr) -> Result<(), LabError> {
        let pid = node.pid().to_string();
        let mut add = self.sandbox.network_command("ip");
        add.args(["link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", &pid]);
        exec::run_ok(&mut add)?;
        self.link(&[port, "master", "br0", "up"])?;
        let address = format!("{address}/{PREFIX}");
        node.script(PLUG_HOST, &[&address, INTERFACE])?;
        Ok(())
    }

    /// Takes away the port of a node that has ended: the kernel would do so too, but some time later.
    ///
    /// # Errors
    /// [`LabError::Spawn`].
    pub fn unplug(&self, port: &str) -> Result<(), LabError> {
        let mut command = self.sandbox.network_command("ip");
        // The kernel may have been faster.
        exec::run(command.args(["link", "del", port]), exec::QUICK).map(drop)
    }

    /// Pulls a node's cable (`false`), or plugs it in again.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn set_link(&self, port: &str, up: bool) -> Result<(), LabError> {
        self.link(&[port, if up { "up" } else { "down" }])
    }

    /// Whether the bridge takes frames from a node's port.
    ///
    /// # Errors
    /// [`LabError::Command`], [`LabError::BadAnswer`].
    pub fn is_up(&self, port: &str) -> Result<bool, LabError> {
        let mut command = self.sandbox.network_command("bridge");
        command.args(["-j", "link", "show", "dev", port]);
        let ports = exec::run(&mut command, exec::QUICK)?.require()?.json()?;
        Ok(ports[0]["state"] == "forwarding")
    }

    fn link(&self, args: &[&str]) -> Result<(), LabError> {
        let mut command = self.sandbox.network_command("ip");
        exec::run_ok(command.args(["link", "set"]).args(args)).map(drop)
    }
}

/// The bridge's port of the host at `index` of the lab's list.
#[must_use]
pub fn host_port(index: usize) -> String {
    format!("port{index}")
}

fn record(folder: &Folder) -> std::path::PathBuf {
    folder.join(Path::new("underlay/holder"))
}
