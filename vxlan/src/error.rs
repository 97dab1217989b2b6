//! Why an operation failed, in words for operators.

use std::{fmt, io, net::Ipv4Addr, time::Duration};

use nix::errno::Errno;

use crate::{Mac, netns::NetnsError};

/// Why the dataplane could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel gave no rtnetlink socket.
    #[error("no rtnetlink socket in this network namespace")]
    Socket(#[source] io::Error),
    /// The process lacks the right to change network state.
    #[error("no right to change network state: run as root or with CAP_NET_ADMIN")]
    Privilege(#[source] io::Error),
}

impl From<io::Error> for OpenError {
    fn from(source: io::Error) -> OpenError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => OpenError::Privilege(source),
            _ => OpenError::Socket(source),
        }
    }
}

/// Why a part of the desired state could not be made. What comes before it in the same pass stays;
/// the next pass goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel could not be asked.
    #[error("could not {what}")]
    Netlink {
        /// What was to be done, as a verb and its object.
        what: String,
        /// Why the kernel could not be asked, or what it answered.
        #[source]
        source: NetlinkError,
    },
    /// Another vxlan device has this VNI and port.
    #[error(
        "{device} cannot be made: interface {foreign} has VNI {vni} on UDP port {port} already; remove it \
         (ip link del {foreign}), or run all agents with another --vxlan-port"
    )]
    VniTaken {
        /// Our device.
        device: String,
        /// The one in the way.
        foreign: String,
        /// VNI of both.
        vni: u32,
        /// UDP destination port of both.
        port: u16,
    },
    /// Another vxlan device has this VNI and port, and cannot be seen from here.
    #[error(
        "{device} cannot be made: a vxlan device with VNI {vni} on UDP port {port} was made in this namespace and \
         moved to another (Docker's own overlay networks do that; find it with ip -all netns exec ip -d link show \
         type vxlan, also in /var/run/docker/netns); remove its network, or run all agents with another --vxlan-port"
    )]
    VniTakenElsewhere {
        /// Our device.
        device: String,
        /// VNI of both.
        vni: u32,
        /// UDP destination port of both.
        port: u16,
    },
    /// A vxlan device in metadata mode has the UDP port.
    #[error(
        "{device} cannot be made: interface {foreign} (vxlan external) holds UDP port {port}; remove it \
         (ip link del {foreign}), or run all agents with another --vxlan-port"
    )]
    PortTaken {
        /// Our device.
        device: String,
        /// The one in the way.
        foreign: String,
        /// UDP port of both.
        port: u16,
    },
    /// Another program has the UDP port.
    #[error(
        "{device} cannot be brought up: UDP port {port} is in use on this host (see ss -lunp sport = :{port}); stop \
         what uses it, or run all agents with another --vxlan-port"
    )]
    PortInUse {
        /// Our device.
        device: String,
        /// The UDP port.
        port: u16,
    },
    /// The name of an interface of ours belongs to another one.
    #[error(
        "interface {ifname} {place} exists already and is not ovl's; remove or rename it (ip link set {ifname} name \
         OTHER)"
    )]
    NameTaken {
        /// The name.
        ifname: String,
        /// Where: `on this host` or `in PATH`.
        place: String,
    },
    /// The device would have to be replaced, and interfaces hang on it.
    #[error(
        "{device} has UDP port {have} and should have {want}, which the kernel cannot change while containers hang on \
         it; restart the network's containers of this host, or set --vxlan-port back to {have}"
    )]
    DeviceInUse {
        /// Our device.
        device: String,
        /// Its port.
        have: u16,
        /// The desired port.
        want: u16,
    },
    /// Another interface with this MAC is up on the same device.
    #[error(
        "interface with MAC {mac} on {device} cannot be brought up: another one has this MAC, probably in the \
         namespace of a container that was not removed"
    )]
    MacInUse {
        /// The device it hangs on.
        device: String,
        /// The MAC.
        mac: Mac,
    },
    /// The network's device is missing, so its endpoints cannot be made.
    #[error("{device} could not be made, see the error of network {network}")]
    NoDevice {
        /// The device.
        device: String,
        /// Name of the network.
        network: String,
    },
    /// IPv6 is off on an interface, and stays off. IPv4 is not concerned.
    #[error(
        "{ifname} {place} carries no IPv6: it is off there, and could not be turned on; make \
         /proc/sys/net/ipv6/conf/{ifname}/disable_ipv6 writable for the agent, or write 0 to it"
    )]
    Ipv6Off {
        /// The interface.
        ifname: String,
        /// Where: `on this host` or `in PATH`.
        place: String,
        /// Why it could not be turned on.
        #[source]
        source: io::Error,
    },
    /// An interface has no IPv6 that could be turned on. IPv4 is not concerned.
    #[error(
        "{ifname} {place} carries no IPv6: this kernel runs without it (see ipv6.disable in /proc/cmdline), or the \
         network's MTU of {mtu} bytes is below the 1280 that IPv6 needs; start the host with IPv6, raise the MTU, or \
         use a network without IPv6"
    )]
    NoIpv6 {
        /// The interface.
        ifname: String,
        /// Where: `on this host` or `in PATH`.
        place: String,
        /// MTU of the network, in bytes (RFC 8200, section 5).
        mtu: u16,
    },
    /// More remote addresses of one family than this host takes.
    #[error(
        "network {network} has {left_out} more remote addresses than {max} of one family: the highest ones cannot be \
         reached from this host; split the network"
    )]
    TooManyRemotes {
        /// Name of the network.
        network: String,
        /// How many got no rows.
        left_out: usize,
        /// [`crate::MAX_REMOTES`].
        max: usize,
    },
    /// The sandbox could not be entered.
    #[error("could not enter the sandbox")]
    Netns(#[from] NetnsError),
    /// No interface holds this address.
    #[error("no interface of this host has address {0}; see ip -4 address")]
    NoSuchAddress(Ipv4Addr),
    /// No interface has this name.
    #[error("no interface {0} on this host; see ip link")]
    NoSuchInterface(String),
    /// The interface has no IPv4 address.
    #[error("interface {0} has no IPv4 address; see ip -4 address show dev {0}")]
    NoAddress(String),
}

impl ApplyError {
    /// Whether the kernel may have changed since it was last looked at, so that looking again may
    /// help.
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Self::Netlink { source, .. } => {
                matches!(source.errno(), Some(Errno::ENODEV | Errno::ENOENT | Errno::EEXIST))
            }
            _ => false,
        }
    }

    /// A foreign vxlan device has the VNI or the UDP port that ours needs.
    pub fn is_foreign_device(&self) -> bool {
        matches!(
            self,
            Self::VniTaken { .. } | Self::VniTakenElsewhere { .. } | Self::PortTaken { .. }
        )
    }

    /// Another program has the UDP port.
    pub fn is_port_in_use(&self) -> bool {
        matches!(self, Self::PortInUse { .. })
    }

    /// It follows from the failure of its network, which is told as well.
    pub fn is_consequence(&self) -> bool {
        matches!(self, Self::NoDevice { .. })
    }

    /// Why IPv6 could not be turned on on an interface.
    pub(crate) fn no_ipv6(ifname: String, place: String, mtu: u16, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoIpv6 { ifname, place, mtu },
            _ => Self::Ipv6Off { ifname, place, source },
        }
    }

    /// Says what was to be done when netlink failed.
    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(NetlinkError) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }
}

/// Why a netlink exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused. Nothing was changed by the refused message.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No answer in time. What was asked for may have been done.
    #[error("the kernel did not answer within {0:?}")]
    Timeout(Duration),
    /// The table changed during each of several dumps; they are not complete.
    #[error("the table kept changing while it was read, {0} times")]
    Interrupted(usize),
    /// The socket failed. What was asked for may have been done.
    #[error("netlink socket failed")]
    Socket(#[source] io::Error),
}

impl Clone for NetlinkError {
    fn clone(&self) -> Self {
        match self {
            Self::Kernel(error) => Self::Kernel(error.clone()),
            Self::Timeout(after) => Self::Timeout(*after),
            Self::Interrupted(times) => Self::Interrupted(*times),
            Self::Socket(error) => Self::Socket(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }
}

impl NetlinkError {
    /// The kernel's error number, when it was the kernel that refused.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel(error) => Some(error.errno),
            Self::Timeout(_) | Self::Interrupted(_) | Self::Socket(_) => None,
        }
    }
}

/// The kernel's refusal of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    /// The error number.
    pub errno: Errno,
    /// The kernel's own words (`NLMSGERR_ATTR_MSG`), when it gave some.
    pub message: Option<String>,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.errno.desc().to_lowercase();
        match &self.message {
            Some(message) => write!(f, "{text}: {message}"),
            None => f.write_str(&text),
        }
    }
}

impl std::error::Error for KernelError {}
