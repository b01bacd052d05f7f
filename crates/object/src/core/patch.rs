//! A number -> the instruction that is to hold it.
//!
//! | instruction | what is set |
//! |---|---|
//! | `r1 += 8`, `r1 = 8` | the immediate |
//! | `r1 = *(u32 *)(r2 + 8)`, stores | the offset; the size too, where the field's size differs |
//! | `r1 = 8 ll` | both halves of the immediate |

use skep_isa::{InsnIdx, Raw, opcode};

use super::POISON;

/// What is to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// What the instruction holds now, if that is to be checked.
    pub(super) expected: Option<u64>,
    pub(super) number: u64,
    /// Size of the field in the object's types and in the target's.
    pub(super) sizes: (u64, u64),
    /// Whether a load or store may change its size from one to the other.
    pub(super) may_resize: bool,
}

/// Replaces an instruction by one that the verifier refuses if it is reached.
pub(super) fn poison(insns: &mut [Raw], at: InsnIdx) {
    let slots = if insns.get(at.as_usize()).is_some_and(|raw| raw.is_wide()) { 2 } else { 1 };
    for raw in insns.iter_mut().skip(at.as_usize()).take(slots) {
        *raw = POISON;
    }
}

/// What came of a patch that was no error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Patched {
    Done,
    /// The instruction cannot take the answer and is to be poisoned, with the reason.
    Unfit(String),
}

/// Writes an answer into an instruction.
///
/// # Errors
/// An instruction that cannot hold a number, that holds another than it should, or a number that does not fit.
pub(super) fn apply(insns: &mut [Raw], at: InsnIdx, answer: &Answer) -> Result<Patched, String> {
    let rest = insns.get_mut(at.as_usize()..).unwrap_or_default();
    let [insn, following @ ..] = rest else { return Err("the record is behind the end of the program".to_owned()) };
    let check = |found: i64, bits32: bool| match answer.expected {
        // An immediate of 32 bits stands for itself with or without sign.
        Some(expected) if found.cast_unsigned() != expected && !(bits32 && found as u32 == expected as u32) => {
            Err(format!("the instruction holds {found}, but by the object's own types it should hold {expected}"))
        }
        _ => Ok(()),
    };
    match insn.opcode & opcode::CLASS_MASK {
        opcode::CLASS_ALU | opcode::CLASS_ALU64 => {
            if insn.opcode & opcode::SRC_MASK != opcode::SRC_K {
                return Err("the instruction takes a register, not a number".to_owned());
            }
            check(i64::from(insn.imm), true)?;
            insn.imm = answer.number as u32 as i32;
            Ok(Patched::Done)
        }
        opcode::CLASS_LDX | opcode::CLASS_ST | opcode::CLASS_STX => {
            check(i64::from(insn.off), false)?;
            let offset = i16::try_from(answer.number).map_err(|_| {
                format!("the offset becomes {}, and a load or store can hold at most 32767", answer.number)
            })?;
            let (from, to) = answer.sizes;
            if from != to {
                if !answer.may_resize {
                    return Ok(Patched::Unfit(format!(
                        "the field has {to} bytes where the object was made for {from}, and only pointers and unsigned \
                         integers may change their size"
                    )));
                }
                let size = size_of(insn.opcode);
                if u64::from(size) != from {
                    return Err(format!("the instruction accesses {size} bytes of a field of {from}"));
                }
                let code = match to {
                    1 => opcode::SIZE_B,
                    2 => opcode::SIZE_H,
                    4 => opcode::SIZE_W,
                    8 => opcode::SIZE_DW,
                    _ => return Err(format!("no load or store takes the field's {to} bytes")),
                };
                insn.opcode = insn.opcode & !opcode::SIZE_MASK | code;
            }
            insn.off = offset;
            Ok(Patched::Done)
        }
        opcode::CLASS_LD if insn.is_wide() => {
            let [second, ..] = following else { return Err("a 64-bit load is cut off".to_owned()) };
            let plain = |raw: &Raw| raw.src == 0 && raw.off == 0;
            if !plain(insn) || !plain(second) || second.opcode != 0 || second.dst != 0 {
                return Err("a 64-bit load is of a form that holds no number".to_owned());
            }
            let held = u64::from(insn.imm.cast_unsigned()) | u64::from(second.imm.cast_unsigned()) << 32;
            check(held.cast_signed(), answer.expected.is_some_and(|e| u32::try_from(e).is_ok()) && second.imm == -1)?;
            insn.imm = (answer.number as u32).cast_signed();
            second.imm = ((answer.number >> 32) as u32).cast_signed();
            Ok(Patched::Done)
        }
        _ => Err(format!("opcode {:#04x} holds no number that could be relocated", insn.opcode)),
    }
}

fn size_of(opcode: u8) -> u8 {
    match opcode & opcode::SIZE_MASK {
        opcode::SIZE_B => 1,
        opcode::SIZE_H => 2,
        opcode::SIZE_W => 4,
        _ => 8,
    }
}
