//! eBPF instructions: bytes, values, text. Classic BPF too, in [`classic`].
//!
//! | from | to | by |
//! |---|---|---|
//! | eight bytes | [`Raw`], a slot taken apart | [`Raw::from_bytes`] |
//! | [`Raw`]s | [`Insn`]s, or a [`DecodeError`] with index and field | [`decode`], [`decode_at`] |
//! | [`Insn`] | [`Raw`]s | [`Insn::encode`], [`encode`] |
//! | [`Insn`] | text | `Display`, [`Listing`] |
//! | text | [`Insn`]s, or [`AsmError`]s with line and column | [`assemble`], [`assemble_with`] |
//!
//! ```
//! use skep_isa::{assemble, decode, encode, InsnIdx};
//! let insns = assemble("r0 = 0\nloop: r0 += 1\nif r0 < 10 goto loop\nexit").unwrap();
//! let slots = encode(&insns);
//! assert_eq!(decode(&slots).unwrap()[2].1.to_string(), "if r0 < 10 goto -2");
//! assert_eq!(insns[2].target(InsnIdx(2)), Some(InsnIdx(1)));
//! ```
//!
//! It knows RFC 9669, and what Linux took up since: `may_goto`, `gotox`, `addr_space_cast`, load-acquire and
//! store-release; and `callx`, which LLVM emits. It does no I/O and does not panic on any input. It does not judge
//! programs: see the module [`insn`] for what an [`Insn`] proves.

pub mod classic;
pub mod insn;
pub mod opcode;

mod asm;
mod decode;
mod disasm;
mod encode;
mod listing;
mod near;
mod raw;

#[cfg(any(test, feature = "strategy"))]
pub mod strategy;

#[cfg(test)]
mod properties;

pub use asm::{AsmError, MAX_ERRORS, MAX_SLOTS, Symbols, assemble, assemble_with};
pub use decode::{DecodeError, Field, Problem, decode, decode_at};
pub use encode::{Encoded, encode};
pub use insn::{
    AluOp, AtomicOp, Call, Insn, JmpOp, NarrowSize, Reg, SignExtend, Size, Source, SpaceCast, SwapBits, SwapOp, Wide,
    Width,
};
pub use listing::{Annotate, Listing};
pub use raw::{Endian, InsnIdx, Raw};
