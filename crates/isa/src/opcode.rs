//! The numbers of the instruction set, each with the section of RFC 9669 that defines it.
//!
//! An opcode byte is `class | source | code` for arithmetic and jumps, and `class | size | mode` for loads and stores:
//!
//! ```
//! use skep_isa::opcode::*;
//! assert_eq!(CLASS_ALU64 | SRC_X | ALU_ADD, 0x0f); // r0 += r1
//! assert_eq!(CLASS_LDX | SIZE_W | MODE_MEM, 0x61); // r0 = *(u32 *)(r1 + 0)
//! ```
//!
//! Limits: these are numbers only. Which combinations exist, and which other fields they use, [`crate::decode`] knows.

// Section 2.3: instruction classes, the low three bits.

/// Mask of the class bits (section 3.1).
pub const CLASS_MASK: u8 = 0x07;
/// Loads that are not of the ordinary form: 64-bit immediates, packet loads (section 3.1, 5).
pub const CLASS_LD: u8 = 0x00;
/// Loads from memory into a register (section 3.1, 5).
pub const CLASS_LDX: u8 = 0x01;
/// Stores of an immediate (section 3.1, 5).
pub const CLASS_ST: u8 = 0x02;
/// Stores of a register, and atomic operations (section 3.1, 5).
pub const CLASS_STX: u8 = 0x03;
/// 32-bit arithmetic (section 3.1, 4.1).
pub const CLASS_ALU: u8 = 0x04;
/// Jumps that compare 64 bits, calls, exit (section 3.1, 4.3).
pub const CLASS_JMP: u8 = 0x05;
/// Jumps that compare 32 bits, and the long jump (section 3.1, 4.3).
pub const CLASS_JMP32: u8 = 0x06;
/// 64-bit arithmetic (section 3.1, 4.1).
pub const CLASS_ALU64: u8 = 0x07;

// Section 4: arithmetic and jumps.

/// Mask of the operand source bit (section 4).
pub const SRC_MASK: u8 = 0x08;
/// The second operand is the immediate (section 4).
pub const SRC_K: u8 = 0x00;
/// The second operand is the source register (section 4).
pub const SRC_X: u8 = 0x08;
/// Mask of the operation bits of arithmetic and jumps (section 4).
pub const CODE_MASK: u8 = 0xf0;

/// `dst += src` (section 4.1).
pub const ALU_ADD: u8 = 0x00;
/// `dst -= src` (section 4.1).
pub const ALU_SUB: u8 = 0x10;
/// `dst *= src` (section 4.1).
pub const ALU_MUL: u8 = 0x20;
/// `dst /= src`; signed when the offset is 1 (section 4.1).
pub const ALU_DIV: u8 = 0x30;
/// `dst |= src` (section 4.1).
pub const ALU_OR: u8 = 0x40;
/// `dst &= src` (section 4.1).
pub const ALU_AND: u8 = 0x50;
/// `dst <<= src` (section 4.1).
pub const ALU_LSH: u8 = 0x60;
/// `dst >>= src`, filling with zeros (section 4.1).
pub const ALU_RSH: u8 = 0x70;
/// `dst = -dst` (section 4.1).
pub const ALU_NEG: u8 = 0x80;
/// `dst %= src`; signed when the offset is 1 (section 4.1).
pub const ALU_MOD: u8 = 0x90;
/// `dst ^= src` (section 4.1).
pub const ALU_XOR: u8 = 0xa0;
/// `dst = src`; sign-extends when the offset is 8, 16 or 32 (section 4.1).
pub const ALU_MOV: u8 = 0xb0;
/// `dst >>= src`, filling with the sign (section 4.1).
pub const ALU_ARSH: u8 = 0xc0;
/// Byte swaps; class and source bit choose which (section 4.2).
pub const ALU_END: u8 = 0xd0;

/// Offset of a move that casts between address spaces. Not in the RFC: `BPF_ADDR_SPACE_CAST` in
/// `kernel/bpf/verifier.c` and LLVM, since Linux 6.9.
pub const OFF_ADDR_SPACE_CAST: i16 = 1;

/// Jump always (section 4.3).
pub const JMP_JA: u8 = 0x00;
/// Jump if equal (section 4.3).
pub const JMP_JEQ: u8 = 0x10;
/// Jump if greater, unsigned (section 4.3).
pub const JMP_JGT: u8 = 0x20;
/// Jump if greater or equal, unsigned (section 4.3).
pub const JMP_JGE: u8 = 0x30;
/// Jump if any common bit is set (section 4.3).
pub const JMP_JSET: u8 = 0x40;
/// Jump if not equal (section 4.3).
pub const JMP_JNE: u8 = 0x50;
/// Jump if greater, signed (section 4.3).
pub const JMP_JSGT: u8 = 0x60;
/// Jump if greater or equal, signed (section 4.3).
pub const JMP_JSGE: u8 = 0x70;
/// Call (section 4.3).
pub const JMP_CALL: u8 = 0x80;
/// Return (section 4.3).
pub const JMP_EXIT: u8 = 0x90;
/// Jump if less, unsigned (section 4.3).
pub const JMP_JLT: u8 = 0xa0;
/// Jump if less or equal, unsigned (section 4.3).
pub const JMP_JLE: u8 = 0xb0;
/// Jump if less, signed (section 4.3).
pub const JMP_JSLT: u8 = 0xc0;
/// Jump if less or equal, signed (section 4.3).
pub const JMP_JSLE: u8 = 0xd0;
/// Jump that the kernel may decide to take (`may_goto`). Not in the RFC: `BPF_JCOND` in `include/uapi/linux/bpf.h`,
/// since Linux 6.9.
pub const JMP_JCOND: u8 = 0xe0;

/// `src` of a call: `imm` is the number of a helper (section 4.3.1).
pub const CALL_HELPER: u8 = 0;
/// `src` of a call: `imm` is relative to the next slot (section 4.3.2), `BPF_PSEUDO_CALL`.
pub const CALL_SUBPROG: u8 = 1;
/// `src` of a call: `imm` is the BTF id of a kernel function (section 4.3), `BPF_PSEUDO_KFUNC_CALL`.
pub const CALL_KFUNC: u8 = 2;

// Section 5: loads and stores.

/// Mask of the size bits (section 5).
pub const SIZE_MASK: u8 = 0x18;
/// 4 bytes (section 5).
pub const SIZE_W: u8 = 0x00;
/// 2 bytes (section 5).
pub const SIZE_H: u8 = 0x08;
/// 1 byte (section 5).
pub const SIZE_B: u8 = 0x10;
/// 8 bytes (section 5).
pub const SIZE_DW: u8 = 0x18;
/// Mask of the mode bits (section 5).
pub const MODE_MASK: u8 = 0xe0;
/// 64-bit immediate load (section 5.4).
pub const MODE_IMM: u8 = 0x00;
/// Packet load at a fixed offset, historical (section 5.5).
pub const MODE_ABS: u8 = 0x20;
/// Packet load at a register's offset, historical (section 5.5).
pub const MODE_IND: u8 = 0x40;
/// Ordinary load or store (section 5.1).
pub const MODE_MEM: u8 = 0x60;
/// Sign-extending load (section 5.2).
pub const MODE_MEMSX: u8 = 0x80;
/// Atomic operation (section 5.3).
pub const MODE_ATOMIC: u8 = 0xc0;

/// Atomic modifier: the old value comes back in the source register (section 5.3).
pub const ATOMIC_FETCH: i32 = 0x01;
/// Atomic add (section 5.3).
pub const ATOMIC_ADD: i32 = 0x00;
/// Atomic or (section 5.3).
pub const ATOMIC_OR: i32 = 0x40;
/// Atomic and (section 5.3).
pub const ATOMIC_AND: i32 = 0x50;
/// Atomic exclusive or (section 5.3).
pub const ATOMIC_XOR: i32 = 0xa0;
/// Atomic exchange; always fetches (section 5.3).
pub const ATOMIC_XCHG: i32 = 0xe0 | ATOMIC_FETCH;
/// Atomic compare and exchange with `r0`; always fetches (section 5.3).
pub const ATOMIC_CMPXCHG: i32 = 0xf0 | ATOMIC_FETCH;
/// Load with acquire ordering. Not in the RFC: `BPF_LOAD_ACQ` in `include/uapi/linux/bpf.h`, since Linux 6.15.
pub const ATOMIC_LOAD_ACQ: i32 = 0x100;
/// Store with release ordering. Not in the RFC: `BPF_STORE_REL` in `include/uapi/linux/bpf.h`, since Linux 6.15.
pub const ATOMIC_STORE_REL: i32 = 0x110;

/// `src` of a 64-bit immediate load: a plain number (section 5.4).
pub const WIDE_IMM64: u8 = 0;
/// `src` of a 64-bit immediate load: a map by file descriptor (section 5.4), `BPF_PSEUDO_MAP_FD`.
pub const WIDE_MAP_FD: u8 = 1;
/// `src` of a 64-bit immediate load: an address in a map's value (section 5.4), `BPF_PSEUDO_MAP_VALUE`.
pub const WIDE_MAP_VALUE: u8 = 2;
/// `src` of a 64-bit immediate load: a kernel variable by BTF id (section 5.4), `BPF_PSEUDO_BTF_ID`.
pub const WIDE_BTF_VAR: u8 = 3;
/// `src` of a 64-bit immediate load: a function of this program (section 5.4), `BPF_PSEUDO_FUNC`.
pub const WIDE_FUNC: u8 = 4;
/// `src` of a 64-bit immediate load: a map by index in the fd array (section 5.4), `BPF_PSEUDO_MAP_IDX`.
pub const WIDE_MAP_IDX: u8 = 5;
/// `src` of a 64-bit immediate load: an address in the value of a map by index (section 5.4),
/// `BPF_PSEUDO_MAP_IDX_VALUE`.
pub const WIDE_MAP_IDX_VALUE: u8 = 6;

/// The opcode of a 64-bit immediate load, the only instruction of two slots (section 5.4).
pub const LD_IMM64: u8 = CLASS_LD | SIZE_DW | MODE_IMM;
