//! The lab: hosts made of namespaces on one machine, for people and for the integration tests.
//!
//! A host of the lab is a set of namespaces (network, mount, UTS, PID) that process 1 of its PID
//! namespace holds open. Killing that one process ends everything that ever ran in the host, and
//! with it go its mounts, its interfaces and its containers: so taking a lab down cannot forget
//! anything, and nothing of a lab shows in the machine's own network, mounts or `ip netns`.
//!
//! ```text
//! underlay: bridge br0 ──┬── eth1 of queenbee      192.168.77.11 agent
//!                        ├── eth1 of workerbee-1   192.168.77.12 agent, containers
//!                        └── eth1 of kvstore       192.168.77.2  Consul, if asked for
//! ```
//!
//! The underlay's bridge sits in a namespace of its own, so neither the machine's packet filter nor
//! Docker's touches its frames; and every lab can use the same addresses, for labs do not see each
//! other.
//!
//! What a lab is made of is written below `/run/ovl-lab/NAME` *before* or *by* the process that it
//! describes, so that a lab whose builder was killed can still be taken down.
//!
//! | file | task |
//! |---|---|
//! | `lab.rs` | [`Lab`]: up, open, down |
//! | `host.rs` | [`Host`]: its agent, its link, commands in it |
//! | `container.rs` | [`Container`]: a namespace attached to an overlay network |
//! | `kvstore.rs` | a real Consul server |
//! | `docker.rs` | a real dockerd in a host, the machine's or another |
//! | `etcd.rs` | a real etcd in a host |
//! | `machine.rs` | a Debian with its own systemd as process 1, on the underlay |
//! | `node.rs` | the files and namespaces of a host or of the kvstore |
//! | `sandbox.rs` | namespaces and the processes in them |
//! | `names.rs` | one DNS question from inside a container |
//! | `traffic.rs` | packets and look-ups in the background, counted |
//! | `digitalocean.rs` | a server of DigitalOcean's API, made for tests |
//! | `process.rs` | processes known by pid and start time |
//! | `demo.rs`, `status.rs`, `cli.rs`, `output.rs` | what the `lab` command shows |

pub mod bench;
pub mod cli;
pub mod container;
pub mod demo;
pub mod digitalocean;
pub mod docker;
pub mod error;
pub mod etcd;
pub mod exec;
pub mod folder;
pub mod host;
pub mod kvstore;
pub mod lab;
pub mod leftovers;
pub mod machine;
pub mod names;
pub mod node;
pub mod output;
pub mod process;
pub mod programs;
pub mod sandbox;
pub mod spec;
pub mod status;
pub mod table;
pub mod traffic;
pub mod underlay;
pub mod wait;

pub use container::Container;
pub use error::LabError;
pub use exec::Outcome;
pub use host::Host;
pub use lab::Lab;
pub use machine::Machine;
pub use spec::{LabName, LabSpec, NodeName, StoreKind};
