//! Instructions of classic BPF, as far as filters need them (linux/filter.h; Documentation/networking/filter.rst).

/// One instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    /// Instructions to skip when a comparison is true.
    pub(crate) jt: u8,
    /// Instructions to skip when it is false.
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

/// A ← the byte at k.
pub(crate) const LOAD_BYTE: u16 = 0x30;
/// A ← the two bytes at k.
pub(crate) const LOAD_HALF: u16 = 0x28;
/// A ← the byte at X + k.
pub(crate) const LOAD_BYTE_X: u16 = 0x50;
/// A ← the two bytes at X + k.
pub(crate) const LOAD_HALF_X: u16 = 0x48;
/// A ← the four bytes at X + k.
pub(crate) const LOAD_WORD_X: u16 = 0x40;
/// X ← four times the lower half of the byte at k: the length of an IPv4 header.
pub(crate) const LOAD_X_IP_LENGTH: u16 = 0xb1;
/// A ← A & k.
pub(crate) const AND: u16 = 0x54;
/// A = k?
pub(crate) const IF_EQUAL: u16 = 0x15;
/// A & k ≠ 0?
pub(crate) const IF_ANY_BIT: u16 = 0x45;
/// Skips k instructions.
pub(crate) const SKIP: u16 = 0x05;
/// Ends; the frame passes with its first k bytes, with 0 it does not.
pub(crate) const RETURN: u16 = 0x06;

/// Lets the whole frame pass.
pub(crate) const PASS: Instruction = Instruction { code: RETURN, jt: 0, jf: 0, k: u32::MAX };
/// Lets it not pass.
pub(crate) const REFUSE: Instruction = Instruction { code: RETURN, jt: 0, jf: 0, k: 0 };

/// Anything but a comparison.
pub(crate) const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// A comparison.
pub(crate) const fn test(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}
