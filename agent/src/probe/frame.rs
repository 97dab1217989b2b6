//! The frame of a probe: Ethernet, EtherType 0x88B5, and then in network byte order `OVLP`, the format's
//! number (1 byte), the kind (1 byte), two bytes of nothing, the series' nonce (8 bytes) and the number
//! in the series (4 bytes); zeroes up to the size that is tried.

use ovl_vxlan::Mac;

/// For local experiments (IEEE 802, Local Experimental Ethertype 1).
pub(super) const ETHERTYPE: u16 = 0x88B5;
const ETHERNET: usize = 14;
const MAGIC: [u8; 4] = *b"OVLP";
const FORMAT: u8 = 1;
/// Bytes of the smallest probe, its Ethernet header included.
pub(super) const HEADER: usize = ETHERNET + 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Question = 1,
    Answer = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) kind: Kind,
    pub(super) nonce: u64,
    pub(super) seq: u32,
}

impl Probe {
    /// As it is sent; `packet` are the bytes behind the Ethernet header, as far as the probe is shorter.
    pub(super) fn frame(&self, to: Mac, from: Mac, packet: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER.max(ETHERNET + usize::from(packet)));
        bytes.extend(to.0);
        bytes.extend(from.0);
        bytes.extend(ETHERTYPE.to_be_bytes());
        bytes.extend(MAGIC);
        bytes.extend([FORMAT, self.kind as u8, 0, 0]);
        bytes.extend(self.nonce.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.resize(bytes.len().max(ETHERNET + usize::from(packet)), 0);
        bytes
    }

    /// A probe for `me`, and who sent it.
    pub(super) fn read(bytes: &[u8], me: Mac) -> Option<(Mac, Probe)> {
        let (to, rest) = bytes.split_first_chunk::<6>()?;
        let (from, rest) = rest.split_first_chunk::<6>()?;
        let (ethertype, rest) = rest.split_first_chunk::<2>()?;
        let (magic, rest) = rest.split_first_chunk::<4>()?;
        let ([format, kind, _, _], rest) = rest.split_first_chunk::<4>()?;
        let (nonce, rest) = rest.split_first_chunk::<8>()?;
        let (seq, _) = rest.split_first_chunk::<4>()?;
        let ours = *to == me.0 && *from != me.0 && u16::from_be_bytes(*ethertype) == ETHERTYPE;
        if !ours || *magic != MAGIC || *format != FORMAT {
            return None;
        }
        let kind = match kind {
            1 => Kind::Question,
            2 => Kind::Answer,
            _ => return None,
        };
        let (nonce, seq) = (u64::from_be_bytes(*nonce), u32::from_be_bytes(*seq));
        Some((Mac(*from), Probe { kind, nonce, seq }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Mac = Mac([2, 0x42, 10, 0, 0, 1]);
    const B: Mac = Mac([2, 0x42, 10, 0, 0, 2]);

    #[test]
    fn a_probe_is_read_as_it_was_sent_by_whom_it_is_for() {
        let probe = Probe { kind: Kind::Question, nonce: u64::MAX - 1, seq: 7 };
        let bytes = probe.frame(B, A, 1450);
        assert_eq!(bytes.len(), 1464);
        assert_eq!(Probe::read(&bytes, B), Some((A, probe)));
        // A tap sees what its own host sends, too.
        assert_eq!(Probe::read(&bytes, A), None);
        assert_eq!(probe.frame(B, A, 0).len(), HEADER);
        assert_eq!(Probe::read(&bytes[..HEADER - 1], B), None);
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Probe::read(&bytes, B);
        }
    }
}
