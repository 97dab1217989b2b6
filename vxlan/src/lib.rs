//! Kernel network state: desired state in, an ordered plan out, applied in batches over rtnetlink.
//!
//! Per overlay network there is one vxlan device `ovl-<vni>` in the host's namespace, and each
//! local endpoint is a macvlan child (bridge mode) of it, in its container. The tables that the
//! device works from are pushed: neighbour rows, from which it answers ARP and neighbour
//! solicitations itself (`proxy`), and FDB rows with the VTEP behind each MAC. Nothing is learned, and nothing is asked per packet.
//!
//! - [`Desired`] says what should be; the agent writes it.
//! - [`Dataplane`] looks at the kernel, plans and carries out. What one pass did is in its
//!   [`Report`].
//!   [`Comparison`] is the same look without carrying anything out.
//! - [`Observer`] shows what stands in the kernel, to whoever hunts a fault.
//! - [`DnsRedirect`] leads a container's DNS to the agent while the agent lives.
//! - [`netns`] is about network namespaces by path.
//!
//! Inside, `plan`, `plan_inside`, `rows` and `difference` are pure: (desired, observed) → ordered operations. `observe` reads
//! netlink answers, `socket` carries messages, and `netlink` is the only file that changes network
//! state.
//!
//! Owned is what bears two marks: a vxlan device with name `ovl-<vni>` and alias `ovl network …`, a
//! macvlan on such a device with alias `ovl endpoint …`. Nothing else is ever removed.

mod compare;
mod counters;
mod dataplane;
mod desired;
mod device;
mod difference;
mod error;
mod host;
mod ifname;
mod look;
mod mac;
mod message;
mod netlink;
pub mod netns;
mod nft;
mod nft_redirect;
mod observe;
mod observer;
mod pass;
mod plan;
mod plan_inside;
mod probe;
mod purge;
mod redirect;
mod report;
mod rows;
mod sandbox;
mod socket;
mod tables;

pub use compare::{Comparison, MAX_DIFFERENCES};
pub use counters::{CountersError, LinkCounters, Passed, link_counters};
pub use dataplane::Dataplane;
pub use desired::{Desired, DesiredNetwork, Home, LocalEndpoint, Remote};
pub use difference::{Difference, DifferenceKind};
pub use error::{ApplyError, KernelError, NetlinkError, OpenError};
pub use host::MAX_USED_SUBNETS;
pub use ifname::{IfName, ParseIfNameError};
pub use mac::{Mac, ParseMacError};
pub use observer::{
    FdbRow, Interface, InterfaceKind, Lookup, Neighbour, Observer, Route, VxlanSettings,
};
pub use probe::{Probe, probe};
pub use purge::{PurgeError, Purged, purge};
pub use redirect::{DnsRedirect, RedirectError};
pub use report::{MAX_DONE, Report};
pub use rows::MAX_REMOTES;
pub use tables::{NftTable, TablesError, nft_tables};
