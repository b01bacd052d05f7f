//! Slots -> instructions, or the index and field that is wrong.
//!
//! ```
//! use skep_isa::{decode_at, InsnIdx, Problem, Raw};
//! let exit_with_offset = Raw { opcode: 0x95, off: 4, ..Raw::default() };
//! let error = decode_at(&[exit_with_offset], InsnIdx(0)).unwrap_err();
//! assert_eq!(error.to_string(), "instruction 0: offset must be 0 in this instruction, not 4");
//! ```
//!
//! Whatever decodes, encodes to the same bytes again: a field that an instruction has no use for must be zero, also
//! the few that Linux does not look at (the offset of `exit`, the second immediate of a function address).
//!
//! Limits: one instruction at a time; jump targets are not looked at. The move with offset -1 that the kernel makes for
//! per-CPU addresses is an error, as it is for the kernel when it comes from outside.

use std::fmt;

use thiserror::Error;

use crate::opcode::*;
use crate::{
    AluOp, AtomicOp, Call, Insn, InsnIdx, JmpOp, NarrowSize, Raw, Reg, SignExtend, Size, Source, SpaceCast, SwapBits,
    SwapOp, Wide, Width,
};

/// Why a slot is no instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("instruction {at}: {problem}")]
pub struct DecodeError {
    /// The (first) slot of the instruction.
    pub at: InsnIdx,
    /// What stands in it; all zero for [`Problem::PastEnd`].
    pub raw: Raw,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Problem {
    /// Asked for a slot that the program does not have.
    #[error("past the end of the program, which has {len} slots")]
    PastEnd {
        /// Slots of the program.
        len: usize,
    },
    /// No such opcode.
    #[error("no instruction has opcode {0:#04x}{hint}", hint = opcode_hint(*.0))]
    Opcode(u8),
    /// No such register.
    #[error("{field} register {value} does not exist (0 to 10 do)")]
    Register {
        /// Which field: [`Field::Dst`] or [`Field::Src`].
        field: Field,
        /// What it holds.
        value: u8,
    },
    /// A field holds what it cannot hold in this instruction.
    #[error("{field} must be {allowed} in this instruction, not {value}")]
    Field {
        /// Which field.
        field: Field,
        /// What it holds.
        value: i32,
        /// What it may hold, in words.
        allowed: &'static str,
    },
    /// The program ends between the two slots of a 64-bit immediate load.
    #[error("a 64-bit immediate load takes two slots, but the program ends after the first")]
    Truncated,
}

/// A field of an instruction. RFC 9669, section 3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Field {
    /// Destination register.
    Dst,
    /// Source register.
    Src,
    /// Offset.
    Off,
    /// Immediate.
    Imm,
    /// Opcode of the second slot of a 64-bit immediate load.
    SecondOpcode,
    /// Destination register of the second slot.
    SecondDst,
    /// Source register of the second slot.
    SecondSrc,
    /// Offset of the second slot.
    SecondOff,
    /// Immediate of the second slot.
    SecondImm,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Dst => "destination",
            Field::Src => "source",
            Field::Off => "offset",
            Field::Imm => "immediate",
            Field::SecondOpcode => "opcode of the second slot",
            Field::SecondDst => "destination of the second slot",
            Field::SecondSrc => "source of the second slot",
            Field::SecondOff => "offset of the second slot",
            Field::SecondImm => "immediate of the second slot",
        })
    }
}

fn opcode_hint(opcode: u8) -> &'static str {
    match opcode {
        0 => " (the second slot of a 64-bit immediate load looks like this)",
        0xf0 => " (a tail call inside the kernel looks like this; use helper 12)",
        _ => "",
    }
}

/// Decodes a whole program.
///
/// # Errors
/// The first slot that is no instruction.
pub fn decode(slots: &[Raw]) -> Result<Vec<(InsnIdx, Insn)>, DecodeError> {
    let mut insns = Vec::with_capacity(slots.len());
    let mut at = InsnIdx(0);
    while at.as_usize() < slots.len() {
        let insn = decode_at(slots, at)?;
        insns.push((at, insn));
        at = InsnIdx(at.0.saturating_add(insn.slots()));
    }
    Ok(insns)
}

/// Decodes the instruction whose first slot is `at`.
///
/// # Errors
/// `at` is past the end, or what stands there is no instruction.
pub fn decode_at(slots: &[Raw], at: InsnIdx) -> Result<Insn, DecodeError> {
    let Some(&raw) = slots.get(at.as_usize()) else {
        return Err(DecodeError { at, raw: Raw::default(), problem: Problem::PastEnd { len: slots.len() } });
    };
    let next = slots.get(at.as_usize() + 1).copied();
    decode_slot(Slot(raw), next).map_err(|problem| DecodeError { at, raw, problem })
}

/// A slot that is being decoded; the methods check one field each.
#[derive(Clone, Copy)]
struct Slot(Raw);

impl Slot {
    fn value(self, field: Field) -> i32 {
        match field {
            Field::Dst | Field::SecondDst => self.0.dst.into(),
            Field::Src | Field::SecondSrc => self.0.src.into(),
            Field::Off | Field::SecondOff => self.0.off.into(),
            Field::Imm | Field::SecondImm => self.0.imm,
            Field::SecondOpcode => self.0.opcode.into(),
        }
    }

    fn wrong<T>(self, field: Field, allowed: &'static str) -> Result<T, Problem> {
        Err(Problem::Field { field, value: self.value(field), allowed })
    }

    fn unused<const N: usize>(self, fields: [Field; N]) -> Result<(), Problem> {
        match fields.into_iter().find(|&field| self.value(field) != 0) {
            Some(field) => self.wrong(field, "0"),
            None => Ok(()),
        }
    }

    fn dst(self) -> Result<Reg, Problem> {
        Reg::new(self.0.dst).ok_or(Problem::Register { field: Field::Dst, value: self.0.dst })
    }

    fn src(self) -> Result<Reg, Problem> {
        Reg::new(self.0.src).ok_or(Problem::Register { field: Field::Src, value: self.0.src })
    }

    /// The second operand; the field of the form that is not in use must be zero.
    fn source(self) -> Result<Source, Problem> {
        if self.0.opcode & SRC_MASK == SRC_X {
            let src = self.src()?;
            self.unused([Field::Imm])?;
            Ok(Source::Reg(src))
        } else {
            self.unused([Field::Src])?;
            Ok(Source::Imm(self.0.imm))
        }
    }

    fn size(self) -> Size {
        match self.0.opcode & SIZE_MASK {
            SIZE_B => Size::B,
            SIZE_H => Size::H,
            SIZE_W => Size::W,
            _ => Size::DW,
        }
    }

    fn narrow(self) -> Result<NarrowSize, Problem> {
        NarrowSize::try_from(self.size()).map_err(|()| self.no_such_opcode())
    }

    fn no_such_opcode(self) -> Problem {
        Problem::Opcode(self.0.opcode)
    }
}

fn decode_slot(slot: Slot, next: Option<Raw>) -> Result<Insn, Problem> {
    match slot.0.opcode & CLASS_MASK {
        CLASS_LD => decode_ld(slot, next),
        CLASS_LDX => decode_ldx(slot),
        CLASS_ST => decode_st(slot),
        CLASS_STX => decode_stx(slot),
        CLASS_ALU => decode_alu(slot, Width::W32),
        CLASS_ALU64 => decode_alu(slot, Width::W64),
        CLASS_JMP => decode_jmp(slot, Width::W64),
        _ => decode_jmp(slot, Width::W32),
    }
}

fn decode_alu(slot: Slot, width: Width) -> Result<Insn, Problem> {
    let Raw { opcode, off, .. } = slot.0;
    let from_reg = opcode & SRC_MASK == SRC_X;
    let op = match opcode & CODE_MASK {
        ALU_ADD => AluOp::Add,
        ALU_SUB => AluOp::Sub,
        ALU_MUL => AluOp::Mul,
        ALU_DIV if off == 1 => AluOp::Sdiv,
        ALU_DIV => AluOp::Div,
        ALU_OR => AluOp::Or,
        ALU_AND => AluOp::And,
        ALU_LSH => AluOp::Lsh,
        ALU_RSH => AluOp::Rsh,
        ALU_MOD if off == 1 => AluOp::Smod,
        ALU_MOD => AluOp::Mod,
        ALU_XOR => AluOp::Xor,
        ALU_ARSH => AluOp::Arsh,
        ALU_MOV if from_reg && off != 0 => return decode_special_mov(slot, width),
        ALU_MOV => AluOp::Mov,
        ALU_NEG if !from_reg => {
            let dst = slot.dst()?;
            slot.unused([Field::Src, Field::Off, Field::Imm])?;
            return Ok(Insn::Neg { width, dst });
        }
        ALU_END => return decode_swap(slot, width),
        _ => return Err(slot.no_such_opcode()),
    };
    let dst = slot.dst()?;
    let src = slot.source()?;
    match op {
        AluOp::Sdiv | AluOp::Smod => {}
        AluOp::Div | AluOp::Mod if off != 0 => return slot.wrong(Field::Off, "0 (unsigned) or 1 (signed)"),
        _ => slot.unused([Field::Off])?,
    }
    Ok(Insn::Alu { width, op, dst, src })
}

/// A move from a register whose offset says that it is more than a move.
fn decode_special_mov(slot: Slot, width: Width) -> Result<Insn, Problem> {
    let (dst, src) = (slot.dst()?, slot.src()?);
    if slot.0.off == OFF_ADDR_SPACE_CAST && width == Width::W64 {
        let cast = match slot.0.imm {
            1 => SpaceCast::FromArena,
            0x1_0000 => SpaceCast::ToArena,
            _ => return slot.wrong(Field::Imm, "1 (space 1 to 0) or 0x10000 (space 0 to 1)"),
        };
        return Ok(Insn::AddrSpaceCast { cast, dst, src });
    }
    let form = u8::try_from(slot.0.off).ok().and_then(|bits| SignExtend::new(bits, width));
    match (form, width) {
        (Some(form), _) => {
            slot.unused([Field::Imm])?;
            Ok(Insn::MovSx { form, dst, src })
        }
        (None, Width::W32) => slot.wrong(Field::Off, "0, 8 or 16"),
        (None, Width::W64) => slot.wrong(Field::Off, "0, 1, 8, 16 or 32"),
    }
}

fn decode_swap(slot: Slot, width: Width) -> Result<Insn, Problem> {
    let op = match (width, slot.0.opcode & SRC_MASK) {
        (Width::W32, SRC_K) => SwapOp::ToLe,
        (Width::W32, _) => SwapOp::ToBe,
        (Width::W64, SRC_K) => SwapOp::Swap,
        (Width::W64, _) => return Err(slot.no_such_opcode()),
    };
    let dst = slot.dst()?;
    slot.unused([Field::Src, Field::Off])?;
    let bits = match slot.0.imm {
        16 => SwapBits::B16,
        32 => SwapBits::B32,
        64 => SwapBits::B64,
        _ => return slot.wrong(Field::Imm, "16, 32 or 64"),
    };
    Ok(Insn::ByteSwap { op, bits, dst })
}

fn decode_jmp(slot: Slot, width: Width) -> Result<Insn, Problem> {
    let Raw { opcode, off, imm, .. } = slot.0;
    let (wide, from_reg) = (width == Width::W64, opcode & SRC_MASK == SRC_X);
    let op = match opcode & CODE_MASK {
        JMP_JA if from_reg && wide => {
            let dst = slot.dst()?;
            slot.unused([Field::Src, Field::Off, Field::Imm])?;
            return Ok(Insn::JumpReg { dst });
        }
        JMP_JA if !from_reg => {
            slot.unused([Field::Dst, Field::Src])?;
            return if wide {
                slot.unused([Field::Imm])?;
                Ok(Insn::Jump { off })
            } else {
                slot.unused([Field::Off])?;
                Ok(Insn::JumpLong { off: imm })
            };
        }
        JMP_CALL if wide => return decode_call(slot),
        JMP_EXIT if wide && !from_reg => {
            slot.unused([Field::Dst, Field::Src, Field::Off, Field::Imm])?;
            return Ok(Insn::Exit);
        }
        JMP_JCOND if wide && !from_reg => {
            slot.unused([Field::Dst, Field::Src, Field::Imm])?;
            return Ok(Insn::MayGoto { off });
        }
        JMP_JEQ => JmpOp::Eq,
        JMP_JGT => JmpOp::Gt,
        JMP_JGE => JmpOp::Ge,
        JMP_JSET => JmpOp::Set,
        JMP_JNE => JmpOp::Ne,
        JMP_JSGT => JmpOp::Sgt,
        JMP_JSGE => JmpOp::Sge,
        JMP_JLT => JmpOp::Lt,
        JMP_JLE => JmpOp::Le,
        JMP_JSLT => JmpOp::Slt,
        JMP_JSLE => JmpOp::Sle,
        _ => return Err(slot.no_such_opcode()),
    };
    Ok(Insn::JumpIf { width, op, dst: slot.dst()?, src: slot.source()?, off })
}

fn decode_call(slot: Slot) -> Result<Insn, Problem> {
    let Raw { opcode, src, off, imm, .. } = slot.0;
    if opcode & SRC_MASK == SRC_X {
        let dst = slot.dst()?;
        slot.unused([Field::Src, Field::Off, Field::Imm])?;
        return Ok(Insn::CallReg { dst });
    }
    slot.unused([Field::Dst])?;
    let call = match src {
        CALL_HELPER => Call::Helper(imm.cast_unsigned()),
        CALL_SUBPROG => Call::Subprog(imm),
        CALL_KFUNC => return Ok(Insn::Call(Call::Kfunc { btf_id: imm, btf_idx: off })),
        _ => return slot.wrong(Field::Src, "0 (helper), 1 (function of the program) or 2 (function of the kernel)"),
    };
    slot.unused([Field::Off])?;
    Ok(Insn::Call(call))
}

fn decode_ld(slot: Slot, next: Option<Raw>) -> Result<Insn, Problem> {
    if slot.0.opcode == LD_IMM64 {
        return decode_wide(slot, next);
    }
    match slot.0.opcode & MODE_MASK {
        MODE_ABS => {
            let size = slot.narrow()?;
            slot.unused([Field::Dst, Field::Src, Field::Off])?;
            Ok(Insn::LoadAbs { size, off: slot.0.imm })
        }
        MODE_IND => {
            let size = slot.narrow()?;
            let src = slot.src()?;
            slot.unused([Field::Dst, Field::Off])?;
            Ok(Insn::LoadInd { size, src, off: slot.0.imm })
        }
        _ => Err(slot.no_such_opcode()),
    }
}

fn decode_wide(slot: Slot, next: Option<Raw>) -> Result<Insn, Problem> {
    let dst = slot.dst()?;
    slot.unused([Field::Off])?;
    let second = Slot(next.ok_or(Problem::Truncated)?);
    second.unused([Field::SecondOpcode, Field::SecondDst, Field::SecondSrc, Field::SecondOff])?;
    let (low, high) = (slot.0.imm, second.0.imm);
    let value = match slot.0.src {
        WIDE_IMM64 => Wide::Imm64(u64::from(high.cast_unsigned()) << 32 | u64::from(low.cast_unsigned())),
        WIDE_MAP_FD => Wide::MapFd(low),
        WIDE_MAP_VALUE => Wide::MapValue { fd: low, off: high.cast_unsigned() },
        WIDE_BTF_VAR => Wide::BtfVar { btf_id: low.cast_unsigned(), btf_fd: high },
        WIDE_FUNC => Wide::Func(low),
        WIDE_MAP_IDX => Wide::MapIdx(low),
        WIDE_MAP_IDX_VALUE => Wide::MapIdxValue { idx: low, off: high.cast_unsigned() },
        _ => return slot.wrong(Field::Src, "0 (number) to 6 (map value by index)"),
    };
    if matches!(value, Wide::MapFd(_) | Wide::Func(_) | Wide::MapIdx(_)) {
        second.unused([Field::SecondImm])?;
    }
    Ok(Insn::LoadWide { dst, value })
}

fn decode_ldx(slot: Slot) -> Result<Insn, Problem> {
    let off = slot.0.off;
    let insn = match slot.0.opcode & MODE_MASK {
        MODE_MEM => Insn::Load { size: slot.size(), dst: slot.dst()?, base: slot.src()?, off },
        MODE_MEMSX => Insn::LoadSx { size: slot.narrow()?, dst: slot.dst()?, base: slot.src()?, off },
        _ => return Err(slot.no_such_opcode()),
    };
    slot.unused([Field::Imm])?;
    Ok(insn)
}

fn decode_st(slot: Slot) -> Result<Insn, Problem> {
    if slot.0.opcode & MODE_MASK != MODE_MEM {
        return Err(slot.no_such_opcode());
    }
    let base = slot.dst()?;
    slot.unused([Field::Src])?;
    Ok(Insn::Store { size: slot.size(), base, off: slot.0.off, src: Source::Imm(slot.0.imm) })
}

fn decode_stx(slot: Slot) -> Result<Insn, Problem> {
    let (size, off, imm) = (slot.size(), slot.0.off, slot.0.imm);
    match slot.0.opcode & MODE_MASK {
        MODE_MEM => {
            let (base, src) = (slot.dst()?, slot.src()?);
            slot.unused([Field::Imm])?;
            Ok(Insn::Store { size, base, off, src: Source::Reg(src) })
        }
        MODE_ATOMIC => {
            let (dst, src) = (slot.dst()?, slot.src()?);
            match (imm, size) {
                (ATOMIC_LOAD_ACQ, _) => return Ok(Insn::LoadAcquire { size, dst, base: src, off }),
                (ATOMIC_STORE_REL, _) => return Ok(Insn::StoreRelease { size, base: dst, off, src }),
                (_, Size::B | Size::H) => {
                    return slot.wrong(Field::Imm, "0x100 (load-acquire) or 0x110 (store-release)");
                }
                (_, Size::W | Size::DW) => {}
            }
            let width = if size == Size::W { Width::W32 } else { Width::W64 };
            match AtomicOp::ALL.into_iter().find(|op| op.code() == imm) {
                Some(op) => Ok(Insn::Atomic { width, op, base: dst, off, src }),
                None => slot.wrong(Field::Imm, "an atomic operation"),
            }
        }
        _ => Err(slot.no_such_opcode()),
    }
}
