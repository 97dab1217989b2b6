//! Frames between the kernel and who reads them.

use std::collections::VecDeque;

use crate::control::api::captures::CapturedFrame;

/// What one batch may take as JSON, in bytes; a frame that would go beyond it is in the next one. A
/// single frame always fits: an answer of 1 MiB can be handed on by another host's agent.
const BATCH_MAX: usize = 900 << 10;

/// Bytes of a frame's JSON beside its own bytes.
const OVERHEAD: usize = 160;

/// Frames in their order, numbered from 1. Those that were got are let go by the next read, so that a
/// read whose answer was lost can be repeated.
#[derive(Debug)]
pub(super) struct Buffer {
    frames: VecDeque<CapturedFrame>,
    /// Bytes of the frames.
    held: usize,
    /// How many bytes they may be.
    room: usize,
    /// The next frame's number.
    next: u64,
}

impl Buffer {
    /// `room`: bytes of frames that it holds; when they are reached nothing more is to be put in.
    pub(super) fn new(room: usize) -> Buffer {
        Buffer { frames: VecDeque::new(), held: 0, room, next: 1 }
    }

    /// It takes no further frame before some were got.
    pub(super) fn is_full(&self) -> bool {
        self.held >= self.room
    }

    /// Puts a frame at the end; its number is given here.
    pub(super) fn push(&mut self, mut frame: CapturedFrame) {
        frame.number = self.next;
        self.next += 1;
        self.held += size(&frame);
        self.frames.push_back(frame);
    }

    /// Lets go of all frames up to this number.
    pub(super) fn let_go(&mut self, after: u64) {
        while let Some(frame) = self.frames.front().filter(|frame| frame.number <= after) {
            self.held -= size(frame);
            self.frames.pop_front();
        }
    }

    /// Copies of the first frames, as many as go into one answer.
    pub(super) fn batch(&self) -> Vec<CapturedFrame> {
        let mut left = BATCH_MAX;
        let fits = self.frames.iter().take_while(|frame| {
            let cost = frame.bytes.len().div_ceil(3) * 4 + OVERHEAD;
            let fits = cost <= left;
            left = left.saturating_sub(cost);
            fits
        });
        fits.cloned().collect()
    }
}

/// What a frame takes of memory.
fn size(frame: &CapturedFrame) -> usize {
    frame.bytes.len() + size_of::<CapturedFrame>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::captures::Direction;

    fn frame(length: usize) -> CapturedFrame {
        let bytes = vec![0xff; length];
        CapturedFrame {
            number: 0,
            at: u64::MAX,
            direction: Direction::Other,
            length: u32::MAX,
            bytes,
        }
    }

    fn numbers(batch: &[CapturedFrame]) -> Vec<u64> {
        batch.iter().map(|frame| frame.number).collect()
    }

    #[test]
    fn frames_are_given_again_until_they_were_got() {
        let mut buffer = Buffer::new(10_000);
        for _ in 0..3 {
            buffer.push(frame(10));
        }
        assert_eq!(numbers(&buffer.batch()), [1, 2, 3]);
        assert_eq!(numbers(&buffer.batch()), [1, 2, 3]);
        buffer.let_go(2);
        assert_eq!(numbers(&buffer.batch()), [3]);
        buffer.let_go(u64::MAX);
        assert!(buffer.batch().is_empty());
        buffer.push(frame(10));
        assert_eq!(numbers(&buffer.batch()), [4]);
    }

    #[test]
    fn a_full_buffer_has_room_again_when_frames_were_got() {
        let mut buffer = Buffer::new(5000);
        while !buffer.is_full() {
            buffer.push(frame(1000));
        }
        let held = buffer.batch().len();
        assert!((2..=5).contains(&held), "{held}");
        buffer.let_go(1);
        assert!(!buffer.is_full());
        buffer.let_go(u64::MAX);
        assert_eq!(buffer.held, 0);
    }

    #[test]
    fn a_batch_fits_into_an_answer_and_the_largest_frame_into_a_batch() {
        for length in [0, 60, 1500, ovl_packet::SNAPLEN_MAX] {
            let mut buffer = Buffer::new(16 << 20);
            while !buffer.is_full() {
                buffer.push(frame(length));
            }
            let batch = buffer.batch();
            assert!(!batch.is_empty(), "{length}");
            let json = serde_json::to_vec(&batch).unwrap().len();
            assert!((BATCH_MAX / 2..1 << 20).contains(&json), "{length}: {json}");
        }
    }
}
