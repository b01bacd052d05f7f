//! Instructions -> slots. Every [`Insn`] can be encoded.
//!
//! ```
//! use skep_isa::{encode, Insn, Reg, Wide};
//! let program = [Insn::LoadWide { dst: Reg::R1, value: Wide::Imm64(1 << 32) }, Insn::Exit];
//! assert_eq!(encode(&program).len(), 3);
//! ```

use std::ops::Deref;

use crate::opcode::*;
use crate::{AluOp, Call, Insn, JmpOp, Raw, Reg, Size, Source, SpaceCast, SwapOp, Wide, Width};

/// The one or two slots of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encoded {
    slots: [Raw; 2],
    len: usize,
}

impl Encoded {
    /// The slots, one or two.
    pub fn as_slice(&self) -> &[Raw] {
        self.slots.get(..self.len).unwrap_or(&self.slots)
    }
}

impl Deref for Encoded {
    type Target = [Raw];

    fn deref(&self) -> &[Raw] {
        self.as_slice()
    }
}

impl From<Raw> for Encoded {
    fn from(raw: Raw) -> Encoded {
        Encoded { slots: [raw, Raw::default()], len: 1 }
    }
}

/// Encodes a whole program.
pub fn encode(insns: &[Insn]) -> Vec<Raw> {
    insns.iter().flat_map(|insn| insn.encode().slots.into_iter().take(insn.slots() as usize)).collect()
}

impl Insn {
    /// The slots of this instruction. [`crate::decode`] gives back the same instruction.
    pub fn encode(&self) -> Encoded {
        match *self {
            Insn::LoadWide { dst, value } => encode_wide(dst, value),
            _ => self.encode_single().into(),
        }
    }

    fn encode_single(&self) -> Raw {
        match *self {
            Insn::Alu { width, op, dst, src } => {
                let (code, off) = alu_code(op);
                with_source(alu_class(width) | code, dst, off, src)
            }
            Insn::Neg { width, dst } => raw(alu_class(width) | ALU_NEG, dst.number(), 0, 0, 0),
            Insn::MovSx { form, dst, src } => {
                let opcode = alu_class(form.width()) | SRC_X | ALU_MOV;
                raw(opcode, dst.number(), src.number(), form.bits().into(), 0)
            }
            Insn::ByteSwap { op, bits, dst } => {
                let opcode = ALU_END
                    | match op {
                        SwapOp::ToLe => CLASS_ALU | SRC_K,
                        SwapOp::ToBe => CLASS_ALU | SRC_X,
                        SwapOp::Swap => CLASS_ALU64 | SRC_K,
                    };
                raw(opcode, dst.number(), 0, 0, bits.bits().into())
            }
            Insn::AddrSpaceCast { cast, dst, src } => {
                let imm = match cast {
                    SpaceCast::FromArena => 1,
                    SpaceCast::ToArena => 0x1_0000,
                };
                raw(CLASS_ALU64 | SRC_X | ALU_MOV, dst.number(), src.number(), OFF_ADDR_SPACE_CAST, imm)
            }
            Insn::LoadWide { dst, value } => encode_wide(dst, value).slots[0],
            Insn::Load { size, dst, base, off } => {
                raw(CLASS_LDX | MODE_MEM | size_code(size), dst.number(), base.number(), off, 0)
            }
            Insn::LoadSx { size, dst, base, off } => {
                raw(CLASS_LDX | MODE_MEMSX | size_code(size.into()), dst.number(), base.number(), off, 0)
            }
            Insn::Store { size, base, off, src } => match src {
                Source::Reg(src) => raw(CLASS_STX | MODE_MEM | size_code(size), base.number(), src.number(), off, 0),
                Source::Imm(imm) => raw(CLASS_ST | MODE_MEM | size_code(size), base.number(), 0, off, imm),
            },
            Insn::Atomic { width, op, base, off, src } => {
                let size = if width == Width::W32 { SIZE_W } else { SIZE_DW };
                raw(CLASS_STX | MODE_ATOMIC | size, base.number(), src.number(), off, op.code())
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                raw(CLASS_STX | MODE_ATOMIC | size_code(size), dst.number(), base.number(), off, ATOMIC_LOAD_ACQ)
            }
            Insn::StoreRelease { size, base, off, src } => {
                raw(CLASS_STX | MODE_ATOMIC | size_code(size), base.number(), src.number(), off, ATOMIC_STORE_REL)
            }
            Insn::LoadAbs { size, off } => raw(CLASS_LD | MODE_ABS | size_code(size.into()), 0, 0, 0, off),
            Insn::LoadInd { size, src, off } => {
                raw(CLASS_LD | MODE_IND | size_code(size.into()), 0, src.number(), 0, off)
            }
            Insn::Jump { off } => raw(CLASS_JMP | JMP_JA, 0, 0, off, 0),
            Insn::JumpLong { off } => raw(CLASS_JMP32 | JMP_JA, 0, 0, 0, off),
            Insn::JumpReg { dst } => raw(CLASS_JMP | SRC_X | JMP_JA, dst.number(), 0, 0, 0),
            Insn::JumpIf { width, op, dst, src, off } => {
                let class = if width == Width::W32 { CLASS_JMP32 } else { CLASS_JMP };
                with_source(class | jmp_code(op), dst, off, src)
            }
            Insn::MayGoto { off } => raw(CLASS_JMP | JMP_JCOND, 0, 0, off, 0),
            Insn::Call(call) => {
                let (src, off, imm) = match call {
                    Call::Helper(id) => (CALL_HELPER, 0, id.cast_signed()),
                    Call::Subprog(rel) => (CALL_SUBPROG, 0, rel),
                    Call::Kfunc { btf_id, btf_idx } => (CALL_KFUNC, btf_idx, btf_id),
                };
                raw(CLASS_JMP | JMP_CALL, 0, src, off, imm)
            }
            Insn::CallReg { dst } => raw(CLASS_JMP | SRC_X | JMP_CALL, dst.number(), 0, 0, 0),
            Insn::Exit => raw(CLASS_JMP | JMP_EXIT, 0, 0, 0, 0),
        }
    }
}

fn raw(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Raw {
    Raw { opcode, dst, src, off, imm }
}

fn with_source(opcode: u8, dst: Reg, off: i16, src: Source) -> Raw {
    match src {
        Source::Reg(src) => raw(opcode | SRC_X, dst.number(), src.number(), off, 0),
        Source::Imm(imm) => raw(opcode | SRC_K, dst.number(), 0, off, imm),
    }
}

fn encode_wide(dst: Reg, value: Wide) -> Encoded {
    let (src, low, high) = match value {
        Wide::Imm64(number) => (WIDE_IMM64, number as u32 as i32, (number >> 32) as u32 as i32),
        Wide::MapFd(fd) => (WIDE_MAP_FD, fd, 0),
        Wide::MapValue { fd, off } => (WIDE_MAP_VALUE, fd, off.cast_signed()),
        Wide::BtfVar { btf_id, btf_fd } => (WIDE_BTF_VAR, btf_id.cast_signed(), btf_fd),
        Wide::Func(rel) => (WIDE_FUNC, rel, 0),
        Wide::MapIdx(idx) => (WIDE_MAP_IDX, idx, 0),
        Wide::MapIdxValue { idx, off } => (WIDE_MAP_IDX_VALUE, idx, off.cast_signed()),
    };
    let slots = [raw(LD_IMM64, dst.number(), src, 0, low), Raw { imm: high, ..Raw::default() }];
    Encoded { slots, len: 2 }
}

fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => CLASS_ALU,
        Width::W64 => CLASS_ALU64,
    }
}

fn size_code(size: Size) -> u8 {
    match size {
        Size::B => SIZE_B,
        Size::H => SIZE_H,
        Size::W => SIZE_W,
        Size::DW => SIZE_DW,
    }
}

/// Operation bits, and the offset that tells signed from unsigned division.
fn alu_code(op: AluOp) -> (u8, i16) {
    match op {
        AluOp::Add => (ALU_ADD, 0),
        AluOp::Sub => (ALU_SUB, 0),
        AluOp::Mul => (ALU_MUL, 0),
        AluOp::Div => (ALU_DIV, 0),
        AluOp::Sdiv => (ALU_DIV, 1),
        AluOp::Or => (ALU_OR, 0),
        AluOp::And => (ALU_AND, 0),
        AluOp::Lsh => (ALU_LSH, 0),
        AluOp::Rsh => (ALU_RSH, 0),
        AluOp::Arsh => (ALU_ARSH, 0),
        AluOp::Mod => (ALU_MOD, 0),
        AluOp::Smod => (ALU_MOD, 1),
        AluOp::Xor => (ALU_XOR, 0),
        AluOp::Mov => (ALU_MOV, 0),
    }
}

fn jmp_code(op: JmpOp) -> u8 {
    match op {
        JmpOp::Eq => JMP_JEQ,
        JmpOp::Ne => JMP_JNE,
        JmpOp::Gt => JMP_JGT,
        JmpOp::Ge => JMP_JGE,
        JmpOp::Lt => JMP_JLT,
        JmpOp::Le => JMP_JLE,
        JmpOp::Set => JMP_JSET,
        JmpOp::Sgt => JMP_JSGT,
        JmpOp::Sge => JMP_JSGE,
        JmpOp::Slt => JMP_JSLT,
        JmpOp::Sle => JMP_JSLE,
    }
}
