//! By what a probe is known wherever it is seen.

/// Begins every marker.
const MAGIC: [u8; 6] = *b"ovlprb";

/// Sixteen bytes at the start of a probe's payload: a fixed beginning, which probe it is, and its
/// number. An echo reply repeats it, and so do errors that quote enough of the packet.
///
/// It is no secret and proves nothing: anybody who sees it can send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Marker {
    /// Random for each run of probes.
    pub run: u64,
    /// Counts within the run.
    pub sequence: u16,
}

impl Marker {
    /// Bytes of a marker.
    pub const LENGTH: usize = 16;

    /// As sent: the beginning, run and sequence in network order.
    pub fn to_bytes(self) -> [u8; Marker::LENGTH] {
        let mut bytes = [0; Marker::LENGTH];
        bytes[..6].copy_from_slice(&MAGIC);
        bytes[6..14].copy_from_slice(&self.run.to_be_bytes());
        bytes[14..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The first marker in a frame, wherever it is: the frame may be encapsulated or quoted.
    pub fn find(frame: &[u8]) -> Option<Marker> {
        let bytes = frame.windows(Marker::LENGTH).find(|window| window.starts_with(&MAGIC))?;
        let run = bytes[6..14].try_into().ok()?;
        let sequence = bytes[14..].try_into().ok()?;
        Some(Marker { run: u64::from_be_bytes(run), sequence: u16::from_be_bytes(sequence) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_marker_is_found_wherever_it_is(
            run: u64, sequence: u16,
            // Neither holds the beginning of a marker.
            before in proptest::collection::vec(128u8.., 0..200),
            after in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let marker = Marker { run, sequence };
            let frame = [&before[..], &marker.to_bytes(), &after].concat();
            prop_assert_eq!(Marker::find(&frame), Some(marker));
        }

        #[test]
        fn anything_can_be_searched(frame in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Marker::find(&frame);
        }
    }

    #[test]
    fn a_marker_that_was_cut_is_none() {
        let bytes = Marker { run: 1, sequence: 2 }.to_bytes();
        assert_eq!(Marker::find(&bytes[..15]), None);
        assert_eq!(Marker::find(&[]), None);
    }
}
