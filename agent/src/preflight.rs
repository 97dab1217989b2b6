//! Can this host run the agent? Kernel, privileges and ports, all told at once.
//!
//! [`Facts`] are gathered first and only looked at after ([`run`] is pure), so that one start
//! shows every reason, and so that `ovlctl` can judge facts of its own. Nothing stays bound and
//! nothing is changed. A fact that cannot be had is a warning, never a refusal: a check must not
//! stop an agent that would have worked.
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use ovl_ipam::VniRange;

use crate::config::Config;

mod advertise;
mod facts;
mod kernel;
mod links;
mod ports;
mod privileges;
mod sockets;

#[cfg(test)]
mod tests;

pub use advertise::address;
pub use facts::Wanted;
pub(crate) use facts::{attempt, seen};
pub(crate) use kernel::version as kernel_version;
pub(crate) use links::vxlan_devices;
pub(crate) use ports::is_ours;

/// Exit code when this host cannot run the agent (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;

/// What was seen on this host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`.
    pub kernel_release: String,
    /// Effective capabilities of this process, bit N being capability N. None: cannot be read.
    pub capabilities: Option<u64>,
    /// An attempt on the VXLAN port, on every address.
    pub vxlan: Attempt,
    /// VXLAN devices in this network namespace, or why they cannot be listed.
    pub devices: Result<Vec<VxlanDevice>, String>,
    /// VNIs that networks may get.
    pub vni_range: VniRange,
    /// Attempts on the gossip port, UDP and TCP, on the advertised address.
    pub gossip: Vec<Attempt>,
}

/// An attempt to bind a socket, which was closed again.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Over which protocol.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddrV4,
    /// How it went.
    pub outcome: Outcome,
}

/// How an attempt to bind went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is free.
    Free,
    /// It is taken, by these as far as they can be seen; a socket of the kernel's has no process.
    Taken(Vec<Process>),
    /// The address is on no interface of this host.
    NoSuchAddress,
    /// This process may not bind there.
    Denied,
    /// Another error, in the system's words.
    Other(String),
}

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// As seen from this PID namespace.
    pub pid: u32,
    /// Its name, at most 15 bytes (`/proc/PID/comm`).
    pub command: String,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// A VXLAN device, seen in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanDevice {
    /// Interface name.
    pub name: String,
    /// VXLAN network identifier; 0 when it takes it from metadata.
    pub vni: u32,
    /// UDP port, host byte order.
    pub port: u16,
    /// Only then it holds a socket.
    pub up: bool,
    /// It was made in another namespace, which has its socket, and moved to the one it was seen in.
    pub moved: bool,
    /// An option (as `ip link` names it) with which the kernel refuses to share the socket with
    /// devices that lack it, as ours do.
    pub alone: Option<&'static str>,
}

/// What the facts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Why the agent cannot run here. Empty: it can.
    pub failures: Vec<Failure>,
    /// What could not be found out, or may bite later.
    pub warnings: Vec<Failure>,
}

/// One reason why the agent cannot run here, or may not; its text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was checked.
    pub check: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub todo: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.check, self.seen, self.todo)
    }
}

/// Looks at this host with the agent's settings, and judges. `advertise` is the address that
/// [`Config::advertise`] came to. Must come before the agent binds its own sockets; takes a few
/// seconds at most. Needs a tokio runtime with IO and time; cancel-safe.
pub async fn check(config: &Config, advertise: Ipv4Addr) -> Report {
    let wanted = Wanted {
        advertise,
        gossip_port: config.gossip_port,
        vxlan_port: config.vxlan_port,
        vni_range: config.vni_range,
    };
    run(&Facts::gather(wanted).await)
}

/// Judges a kernel's release, as `uname -r` prints it.
pub(crate) fn judge_kernel(release: &str) -> Report {
    let mut report = Report::default();
    kernel::check(release, &mut report);
    report
}

/// Judges the effective capabilities of a process, by the text of its `/proc/PID/status`.
pub(crate) fn judge_privileges(status: &str) -> Report {
    let mut report = Report::default();
    privileges::check(privileges::effective(status), &mut report);
    report
}

/// Judges an attempt on the gossip port.
pub(crate) fn judge_gossip(attempt: &Attempt) -> Report {
    let mut report = Report::default();
    ports::check_gossip(attempt, &mut report);
    report
}

/// Judges an attempt on the VXLAN port, but for one that the kernel's own sockets took.
pub(crate) fn judge_vxlan(attempt: &Attempt) -> Report {
    let mut report = Report::default();
    ports::check_holder(attempt, &mut report);
    report
}

/// Judges all facts.
pub fn run(facts: &Facts) -> Report {
    let mut report = Report::default();
    kernel::check(&facts.kernel_release, &mut report);
    privileges::check(facts.capabilities, &mut report);
    ports::check_vxlan(facts, &mut report);
    for attempt in &facts.gossip {
        ports::check_gossip(attempt, &mut report);
    }
    report
}

impl Report {
    fn fail(&mut self, check: &'static str, seen: impl Into<String>, todo: impl Into<String>) {
        let (seen, todo) = (seen.into(), todo.into());
        self.failures.push(Failure { check, seen, todo });
    }

    fn warn(&mut self, check: &'static str, seen: impl Into<String>, todo: impl Into<String>) {
        let (seen, todo) = (seen.into(), todo.into());
        self.warnings.push(Failure { check, seen, todo });
    }
}
