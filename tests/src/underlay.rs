//! The network between the hosts: one bridge, in a namespace of its own.
use std::net::Ipv4Addr;
use std::path::Path;

use crate::folder::{Folder, Lock, make_folder};
use crate::sandbox::Sandbox;
use crate::{LabError, exec, spec};

/// Every host's interface on the underlay.
pub const INTERFACE: &str = "eth1";
/// A droplet's interface on the public side.
pub const PUBLIC_INTERFACE: &str = "eth0";
/// Of the underlay, and of the public side.
pub const PREFIX: u8 = 24;

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

/// The droplets' public side: a second bridge beside the first, and on it the address of the metadata
/// server. `$1` its own address, `$2` the server's.
const PUBLISH: &str = r#"
if [ -e /proc/sys/net/ipv4/conf/br1 ]; then exit 0; fi
ip link add br1 type bridge stp_state 0 mcast_snooping 0
ip address add "$1" dev br1
ip address add "$2" dev br1
ip link set br1 up
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
        self.plug_as(port, node, ("br0", INTERFACE), address)
    }

    /// Gives a droplet its public interface, `eth0`, on a bridge of its own.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn plug_public(
        &self,
        port: &str,
        node: &Sandbox,
        address: Ipv4Addr,
    ) -> Result<(), LabError> {
        let own = format!("{}/{PREFIX}", spec::public_gateway());
        self.sandbox.script(PUBLISH, &[&own, &spec::METADATA.to_string()])?;
        self.plug_as(port, node, ("br1", PUBLIC_INTERFACE), address)
    }

    fn plug_as(
        &self,
        port: &str,
        node: &Sandbox,
        (bridge, interface): (&str, &str),
        address: Ipv4Addr,
    ) -> Result<(), LabError> {
        let pid = node.pid().to_string();
        let mut add = self.sandbox.network_command("ip");
        add.args(["link", "add", port, "type", "veth", "peer", "name", interface, "netns", &pid]);
        exec::run_ok(&mut add)?;
        self.link(&[port, "master", bridge, "up"])?;
        let address = format!("{address}/{PREFIX}");
        node.script(PLUG_HOST, &[&address, interface])?;
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

/// The public bridge's port of the droplet at `index`.
#[must_use]
pub fn public_port(index: usize) -> String {
    format!("public{index}")
}

fn record(folder: &Folder) -> std::path::PathBuf {
    folder.join(Path::new("underlay/holder"))
}
