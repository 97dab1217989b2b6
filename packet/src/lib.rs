//! Raw Ethernet frames: tapped from an interface, filtered in the kernel, decoded, built, and written
//! to files.
//!
//! - [`Tap`] sees and sends frames at one interface; [`RawTap`] is the part that can be opened on any
//!   thread, and so in any network namespace.
//! - [`Filter`] is a program of the kernel's classic BPF: what does not pass it never reaches a tap.
//! - [`decode`] reads frames: VXLAN outside, Ethernet, ARP, IP and what is above it inside.
//! - [`build`] makes frames that probe a way, each with a [`Marker`] by which it is known wherever it
//!   is seen.
//! - [`pcapng`] writes frames to a file that Wireshark opens.
//!
//! The crate knows nothing of networks and hosts. All but [`Tap`] is pure. Frames come from anybody:
//! whatever they hold, nothing here panics.

mod bpf;
pub mod build;
pub mod decode;
mod filter;
mod marker;
pub mod pcapng;
mod tap;

pub use pnet_base::MacAddr;

pub use filter::{ADDRESSES_MAX, Filter, TooManyAddresses};
pub use marker::Marker;
pub use tap::{Direction, Frame, RawTap, SNAPLEN_MAX, Tap, TapError};
