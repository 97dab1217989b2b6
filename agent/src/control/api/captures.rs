//! Captures: what a host's underlay interface sees of the overlay.

use serde::{Deserialize, Serialize};

/// Smallest and largest room for frames that wait, in bytes.
pub const BUFFER_MIN: u32 = 16 * 1024;
/// See [`BUFFER_MIN`].
pub const BUFFER_MAX: u32 = 16 * 1024 * 1024;

/// Longest wait of one read, in seconds; a longer one is taken for this.
pub const READ_WAIT_MAX: u32 = 20;

/// Asks for a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartCapture {
    /// Of this network only.
    #[serde(default)]
    pub network: Option<String>,
    /// Only what an endpoint of this name or alias, or this address, sends or gets.
    #[serde(default)]
    pub name: Option<String>,
    /// Bytes that are kept of each frame; None: all.
    #[serde(default)]
    pub snaplen: Option<u32>,
    /// Room for frames that wait, in bytes, once in the agent and once in the kernel; from
    /// [`BUFFER_MIN`] to [`BUFFER_MAX`]. None: 4 MiB.
    #[serde(default)]
    pub buffer: Option<u32>,
}

/// A capture that runs. It ends by itself when nobody reads it for fifteen seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// By which it is read and ended.
    pub id: String,
    /// The node name of its host.
    pub host: String,
    /// The interface of that host.
    pub interface: String,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// Bytes that are kept of each frame.
    pub snaplen: u32,
    /// What passes, in words.
    pub filter: String,
}

/// How a capture is read, in the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCapture {
    /// The last frame that was got; it and those before it are not kept any longer. 0: none yet.
    #[serde(default)]
    pub after: u64,
    /// How long to wait for a frame, in seconds.
    #[serde(default)]
    pub wait: u32,
}

/// What was captured since, at most some 700 KiB of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// In the order in which the kernel saw them; empty: none came in time.
    pub frames: Vec<CapturedFrame>,
    /// Frames that the kernel dropped since the capture's start, because they came faster than they
    /// were read. It is known when the next frame is.
    pub dropped: u64,
    /// Why no further frame will come.
    #[serde(default)]
    pub ended: Option<String>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedFrame {
    /// Counts from 1.
    pub number: u64,
    /// When the kernel saw it, in nanoseconds since 1970.
    pub at: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its length, in bytes.
    pub length: u32,
    /// What was kept of it, in base64 (RFC 4648, section 4).
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

/// Which way a frame went, seen from its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It came from another host.
    In,
    /// It went to another host.
    Out,
    /// It was for another station on the wire.
    Other,
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(input)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}
