//! Gathers the facts: the only part that looks at the host.
use std::fs;
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

use ovl_ipam::VniRange;

use super::{Attempt, Facts, Outcome, Protocol, links, privileges, sockets};

/// What the agent is going to use.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The address that is told to other hosts.
    pub advertise: Ipv4Addr,
    /// UDP and TCP port of the gossip, on that address.
    pub gossip_port: u16,
    /// UDP port of VXLAN, on every address.
    pub vxlan_port: u16,
    /// VNIs that networks may get.
    pub vni_range: VniRange,
}

impl Facts {
    /// Looks at this host, in the network namespace of the calling thread. Binds each port for a
    /// moment, so it must come before the agent's own sockets. Bounded by a few seconds; needs a
    /// tokio runtime with IO and time. Cancel-safe.
    pub async fn gather(wanted: Wanted) -> Facts {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let gossip = SocketAddrV4::new(wanted.advertise, wanted.gossip_port);
        let vxlan = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, wanted.vxlan_port);
        Facts {
            kernel_release: kernel_release(),
            capabilities: privileges::effective(&status),
            vxlan: attempt(Protocol::Udp, vxlan),
            devices: links::vxlan_devices().await,
            vni_range: wanted.vni_range,
            gossip: [Protocol::Udp, Protocol::Tcp].map(|p| attempt(p, gossip)).to_vec(),
        }
    }
}

/// Who holds the port now, by the tables of sockets: for an agent that runs, and must not get in its own
/// way by binding it.
pub(crate) fn seen(protocol: Protocol, address: SocketAddrV4) -> Attempt {
    let outcome = match sockets::is_taken(protocol, address) {
        true => Outcome::Taken(sockets::holders(protocol, address)),
        false => Outcome::Free,
    };
    Attempt { protocol, address, outcome }
}

/// Empty when it cannot be read, which the check then says.
fn kernel_release() -> String {
    let name = nix::sys::utsname::uname();
    name.map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Binds it for a moment.
pub(crate) fn attempt(protocol: Protocol, address: SocketAddrV4) -> Attempt {
    let bound = match protocol {
        Protocol::Udp => UdpSocket::bind(address).map(drop),
        Protocol::Tcp => TcpListener::bind(address).map(drop),
    };
    let outcome = match bound {
        Ok(()) => Outcome::Free,
        Err(error) => outcome(&error, protocol, address),
    };
    Attempt { protocol, address, outcome }
}

fn outcome(error: &Error, protocol: Protocol, address: SocketAddrV4) -> Outcome {
    match error.kind() {
        ErrorKind::AddrInUse => Outcome::Taken(sockets::holders(protocol, address)),
        ErrorKind::AddrNotAvailable => Outcome::NoSuchAddress,
        ErrorKind::PermissionDenied => Outcome::Denied,
        _ => Outcome::Other(error.to_string()),
    }
}
