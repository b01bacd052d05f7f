//! The eight bytes of an instruction slot, taken apart but not judged.

use std::fmt;

/// Byte order of an object file or of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Endian {
    /// Least significant byte first (x86-64, arm64, riscv64).
    Little,
    /// Most significant byte first (s390x).
    Big,
}

impl Endian {
    /// The byte order of the machine this code runs on.
    pub const NATIVE: Endian = if cfg!(target_endian = "little") { Endian::Little } else { Endian::Big };
}

/// Index of an instruction slot in a program, from 0. A 64-bit immediate load takes two slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct InsnIdx(pub u32);

impl InsnIdx {
    /// As an index into a slice of slots.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for InsnIdx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One slot of eight bytes, as `struct bpf_insn` in `include/uapi/linux/bpf.h`. Any bytes make a `Raw`; whether it
/// is a valid instruction is for the decoder to say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Raw {
    /// Class, and what the class makes of the other bits.
    pub opcode: u8,
    /// Destination register, 0 to 15 (only 0 to 10 are valid).
    pub dst: u8,
    /// Source register, 0 to 15; for calls and 64-bit immediate loads a sub-operation (`BPF_PSEUDO_*`).
    pub src: u8,
    /// Signed offset: bytes for memory, slots for jumps, a mode for some ALU operations.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Raw {
    /// Bytes of a slot.
    pub const SIZE: usize = 8;

    /// Takes a slot apart.
    pub fn from_bytes(bytes: [u8; 8], endian: Endian) -> Raw {
        let [opcode, regs, o0, o1, i0, i1, i2, i3] = bytes;
        let (dst, src, off, imm) = match endian {
            Endian::Little => {
                (regs & 15, regs >> 4, i16::from_le_bytes([o0, o1]), i32::from_le_bytes([i0, i1, i2, i3]))
            }
            Endian::Big => (regs >> 4, regs & 15, i16::from_be_bytes([o0, o1]), i32::from_be_bytes([i0, i1, i2, i3])),
        };
        Raw { opcode, dst, src, off, imm }
    }

    /// The eight bytes again. Only the low four bits of `dst` and `src` are kept.
    pub fn to_bytes(self, endian: Endian) -> [u8; 8] {
        let (dst, src) = (self.dst & 15, self.src & 15);
        let (regs, off, imm) = match endian {
            Endian::Little => (src << 4 | dst, self.off.to_le_bytes(), self.imm.to_le_bytes()),
            Endian::Big => (dst << 4 | src, self.off.to_be_bytes(), self.imm.to_be_bytes()),
        };
        [self.opcode, regs, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }

    /// Whether this is the first slot of a 64-bit immediate load (`BPF_LD | BPF_IMM | BPF_DW`), which takes two slots.
    pub fn is_wide(self) -> bool {
        self.opcode == 0x18
    }
}
