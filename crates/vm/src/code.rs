//! A program made ready to run: slots -> operations with every operand resolved.
//!
//! Each instruction becomes one `Op` of 16 bytes: jumps hold the index of their target, helper calls the address of
//! the function, wide loads the final value. What the interpreter and the compiler rely on is checked here, once: jumps
//! and calls lead to instructions, no function runs off its end, r10 is not written, every helper exists. So code that
//! no verifier saw can do nothing worse than the checked mode catches.
//!
//! Limits: at most [`MAX_INSNS`] instructions a program; `gotox`, `callx` and arena casts are refused by name.

use crate::helper::HelperFn;
use crate::jit::{Native, Options};
use crate::map::Map;
use crate::memory::Region;
use skep_isa::{
    AluOp, AtomicOp, Call, Insn, InsnIdx, JmpOp, NarrowSize, Reg, SignExtend, Size, Source, SwapBits, SwapOp, Wide,
    Width,
};
use std::sync::Arc;

/// Instructions that a program may have: the kernel's own limit for one load. Source: `BPF_COMPLEXITY_LIMIT_INSNS`.
pub(crate) const MAX_INSNS: usize = 1_000_000;

/// Why a program cannot be made ready.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// A slot that is no instruction.
    #[error(transparent)]
    Decode(#[from] skep_isa::DecodeError),
    /// The bytes are no whole number of slots.
    #[error("{0} bytes are no whole number of instructions of 8 bytes")]
    Length(usize),
    /// Nothing to run.
    #[error("the program has no instructions")]
    Empty,
    /// Too long.
    #[error("the program has {0} instructions, more than {MAX_INSNS}")]
    TooLong(usize),
    /// A jump or call that leads to no instruction.
    #[error("instruction {at}: `{insn}` leads to {target}, where no instruction starts")]
    Target {
        /// The instruction.
        at: InsnIdx,
        /// As text.
        insn: String,
        /// Where it leads, in slots.
        target: i64,
    },
    /// Control would run on into nothing or into the next function.
    #[error("instruction {at}: the function that starts at {func} runs on past its end; it must end in exit or a jump")]
    RunsOn {
        /// The last instruction.
        at: InsnIdx,
        /// Start of the function.
        func: InsnIdx,
    },
    /// A jump out of its function.
    #[error("instruction {at}: `{insn}` jumps out of its function")]
    LeavesFunction {
        /// The instruction.
        at: InsnIdx,
        /// As text.
        insn: String,
    },
    /// A write to r10.
    #[error("instruction {at}: `{insn}` writes r10, the frame pointer, which is read-only")]
    WritesFramePointer {
        /// The instruction.
        at: InsnIdx,
        /// As text.
        insn: String,
    },
    /// A helper or kernel function that does not exist or has no meaning here.
    #[error("instruction {at}: {why}")]
    Call {
        /// The instruction.
        at: InsnIdx,
        /// What is called and why it cannot be.
        why: String,
    },
    /// Another instruction that the engine does not have.
    #[error("instruction {at}: `{insn}` is not supported by the embedded engine: {why}")]
    Unsupported {
        /// The instruction.
        at: InsnIdx,
        /// As text.
        insn: String,
        /// Why.
        why: &'static str,
    },
}

/// A function that an instruction calls, resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callee {
    pub(crate) function: HelperFn,
    /// Name for faults and messages.
    /// Its number; 0 for a kernel function.
    pub(crate) id: u32,
    /// For a function of the host program: its place among those that the engine was given. For a call that could not be
    /// had: its place among the refusals. Where it is there, `Env::code` and `Env::callee` must be set before the call.
    pub(crate) host: Option<usize>,
}

/// What the instructions of a program name besides functions.
#[derive(Default)]
pub(crate) struct Linked {
    /// Kept while the program is; the addresses of these are the map pointers that the program loads.
    pub(crate) maps: Vec<Arc<Map>>,
    /// Stretches of map memory that wide loads point into.
    pub(crate) data: Vec<Region>,
    /// Why calls that must not be reached could not be had, by [`Callee::host`].
    pub(crate) refusals: Vec<String>,
}

/// Resolves what an instruction names. Given by the loader.
pub(crate) trait Resolve {
    /// What was named; asked for at the end.
    fn finish(&mut self) -> Linked;
    /// The helper with this number, or why there is none.
    fn helper(&mut self, at: InsnIdx, id: u32) -> Result<Callee, String>;
    /// The kernel function that this call names, or why there is none.
    fn kfunc(&mut self, at: InsnIdx, btf_id: i32, btf_idx: i16) -> Result<Callee, String>;
    /// The number that a wide load of anything but a number or a function gives.
    fn wide(&mut self, at: InsnIdx, value: Wide) -> Result<u64, String>;
}

/// What an operation does. Operands stand in [`Op`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Alu {
        width: Width,
        op: AluOp,
        imm: bool,
    },
    Neg {
        width: Width,
    },
    MovSx(SignExtend),
    Swap {
        op: SwapOp,
        bits: SwapBits,
    },
    /// `dst = imm`, 64 bits.
    Wide,
    Load(Size),
    LoadSx(NarrowSize),
    Store {
        size: Size,
        imm: bool,
    },
    Atomic {
        width: Width,
        op: AtomicOp,
    },
    LoadAcquire(Size),
    StoreRelease(Size),
    /// `imm` is the offset; with `src` where indirect.
    PacketLoad {
        size: NarrowSize,
        indirect: bool,
    },
    Jump,
    JumpIf {
        width: Width,
        op: JmpOp,
        imm: bool,
    },
    MayGoto,
    /// The target is the index in [`Code::callees`], `imm` the address of the function.
    CallHelper,
    /// The target is the first operation of the function.
    CallSub,
    /// Helper 12: r2 is a program array, r3 the index in it.
    TailCall,
    Exit,
}

/// An operation with its operands.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Op {
    /// Which arm of the interpreter: the opcode byte, or one of [`arms`] where that does not say enough.
    pub(crate) code: u8,
    pub(crate) dst: u8,
    pub(crate) src: u8,
    /// Memory: bytes added to the base. Jumps and calls: index of an operation, or of a callee. Atomics: see `imm`.
    pub(crate) off: i32,
    /// Sign-extended immediate, wide value or function address; for atomics the operation's code.
    pub(crate) imm: i64,
}

impl Op {
    /// Where a jump or call leads: the index of an operation or of a callee.
    pub(crate) fn target(self) -> usize {
        self.off as u32 as usize
    }
}

/// Values of [`Op::code`] that no opcode byte has: forms that share their opcode with another and differ by a field.
pub(crate) mod arms {
    pub(crate) const SDIV32_K: u8 = 0xe4;
    pub(crate) const SDIV32_X: u8 = 0xec;
    pub(crate) const SDIV64_K: u8 = 0xe7;
    pub(crate) const SDIV64_X: u8 = 0xef;
    pub(crate) const SMOD32_K: u8 = 0xf4;
    pub(crate) const SMOD32_X: u8 = 0xfc;
    pub(crate) const SMOD64_K: u8 = 0xf7;
    pub(crate) const SMOD64_X: u8 = 0xff;
    pub(crate) const S8_TO_32: u8 = 0x02;
    pub(crate) const S16_TO_32: u8 = 0x0a;
    pub(crate) const S8_TO_64: u8 = 0x12;
    pub(crate) const S16_TO_64: u8 = 0x1a;
    pub(crate) const S32_TO_64: u8 = 0x22;
    /// Keep the low bits only: to the machine's own order.
    pub(crate) const TRUNCATE16: u8 = 0x03;
    pub(crate) const TRUNCATE32: u8 = 0x0b;
    pub(crate) const TRUNCATE64: u8 = 0x13;
    /// Reverse the low bytes: to the other order.
    pub(crate) const REVERSE16: u8 = 0x1b;
    pub(crate) const REVERSE32: u8 = 0x23;
    pub(crate) const REVERSE64: u8 = 0x2b;
    pub(crate) const ACQUIRE8: u8 = 0x43;
    pub(crate) const ACQUIRE16: u8 = 0x4b;
    pub(crate) const ACQUIRE32: u8 = 0x53;
    pub(crate) const ACQUIRE64: u8 = 0x5b;
    pub(crate) const RELEASE8: u8 = 0x83;
    pub(crate) const RELEASE16: u8 = 0x8b;
    pub(crate) const RELEASE32: u8 = 0x93;
    pub(crate) const RELEASE64: u8 = 0x9b;
    pub(crate) const CALL_SUB: u8 = 0x8d;
    pub(crate) const TAIL_CALL: u8 = 0x8e;
}

/// The interpreter's arm for an instruction.
fn arm(kind: Kind, insn: &Insn) -> u8 {
    let opcode = insn.encode().as_slice().first().map_or(0, |raw| raw.opcode);
    let reverses = |op: SwapOp| match op {
        SwapOp::ToLe => cfg!(target_endian = "big"),
        SwapOp::ToBe => cfg!(target_endian = "little"),
        SwapOp::Swap => true,
    };
    match kind {
        Kind::Alu { width: Width::W32, op: AluOp::Sdiv, imm } => {
            if imm {
                arms::SDIV32_K
            } else {
                arms::SDIV32_X
            }
        }
        Kind::Alu { width: Width::W64, op: AluOp::Sdiv, imm } => {
            if imm {
                arms::SDIV64_K
            } else {
                arms::SDIV64_X
            }
        }
        Kind::Alu { width: Width::W32, op: AluOp::Smod, imm } => {
            if imm {
                arms::SMOD32_K
            } else {
                arms::SMOD32_X
            }
        }
        Kind::Alu { width: Width::W64, op: AluOp::Smod, imm } => {
            if imm {
                arms::SMOD64_K
            } else {
                arms::SMOD64_X
            }
        }
        Kind::MovSx(form) => match form {
            SignExtend::S8To32 => arms::S8_TO_32,
            SignExtend::S16To32 => arms::S16_TO_32,
            SignExtend::S8To64 => arms::S8_TO_64,
            SignExtend::S16To64 => arms::S16_TO_64,
            SignExtend::S32To64 => arms::S32_TO_64,
        },
        Kind::Swap { op, bits } => match (reverses(op), bits) {
            (false, SwapBits::B16) => arms::TRUNCATE16,
            (false, SwapBits::B32) => arms::TRUNCATE32,
            (false, SwapBits::B64) => arms::TRUNCATE64,
            (true, SwapBits::B16) => arms::REVERSE16,
            (true, SwapBits::B32) => arms::REVERSE32,
            (true, SwapBits::B64) => arms::REVERSE64,
        },
        Kind::LoadAcquire(size) => match size {
            Size::B => arms::ACQUIRE8,
            Size::H => arms::ACQUIRE16,
            Size::W => arms::ACQUIRE32,
            Size::DW => arms::ACQUIRE64,
        },
        Kind::StoreRelease(size) => match size {
            Size::B => arms::RELEASE8,
            Size::H => arms::RELEASE16,
            Size::W => arms::RELEASE32,
            Size::DW => arms::RELEASE64,
        },
        Kind::CallSub => arms::CALL_SUB,
        Kind::TailCall => arms::TAIL_CALL,
        // The long jump is the short one with its target resolved.
        Kind::Jump => 0x05,
        _ => opcode,
    }
}

/// A function of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Func {
    /// First operation.
    pub(crate) start: u32,
    /// One past the last.
    pub(crate) end: u32,
}

/// A program made ready to run.
pub(crate) struct Code {
    pub(crate) name: Arc<str>,
    pub(crate) ops: Box<[Op]>,
    /// What each operation does, for the compiler.
    pub(crate) kinds: Box<[Kind]>,
    /// Slot of each operation.
    pub(crate) slots: Box<[u32]>,
    /// By start; the first is the entry.
    pub(crate) funcs: Box<[Func]>,
    pub(crate) callees: Box<[Callee]>,
    pub(crate) linked: Linked,
    /// Machine code, if it was compiled.
    pub(crate) native: Option<Box<dyn Native>>,
}

/// Marks a value as the address of a function of the program: a tag and the index of its first operation.
///
/// Such values are handed to helpers that call back; both engines use the same, so they compare equal.
pub(crate) const FUNC_TAG: u64 = 0x4642_5046_0000_0000;

impl Code {
    /// Its machine code, if that sees to what such a run asks for.
    pub(crate) fn native_for(&self, options: Options) -> Option<&dyn Native> {
        self.native.as_deref().filter(|native| native.options() == options)
    }

    /// The instruction slot of an operation.
    pub(crate) fn slot(&self, op: usize) -> InsnIdx {
        InsnIdx(self.slots.get(op).copied().unwrap_or_default())
    }

    /// The first operation of the function that a value made by [`FUNC_TAG`] names.
    pub(crate) fn func_of(&self, value: u64) -> Option<u32> {
        let start = u32::try_from(value.checked_sub(FUNC_TAG)?).ok()?;
        self.funcs.binary_search_by_key(&start, |func| func.start).ok().map(|_| start)
    }

    /// Makes decoded instructions ready to run.
    pub(crate) fn build(
        name: Arc<str>,
        insns: &[(InsnIdx, Insn)],
        resolve: &mut dyn Resolve,
    ) -> Result<Code, CodeError> {
        if insns.is_empty() {
            return Err(CodeError::Empty);
        }
        if insns.len() > MAX_INSNS {
            return Err(CodeError::TooLong(insns.len()));
        }
        let slots: Box<[u32]> = insns.iter().map(|(at, _)| at.0).collect();
        let index_of = |at: InsnIdx, insn: &Insn| {
            let target = i64::from(at.0) + 1 + i64::from(insn.relative().unwrap_or_default());
            let found = u32::try_from(target).ok().and_then(|slot| slots.binary_search(&slot).ok());
            found.map(|index| index as u32).ok_or_else(|| CodeError::Target { at, insn: insn.to_string(), target })
        };
        let mut starts = vec![0];
        for (at, insn) in insns {
            if let Insn::Call(Call::Subprog(_)) | Insn::LoadWide { value: Wide::Func(_), .. } = insn {
                starts.push(index_of(*at, insn)?);
            }
        }
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().skip(1).copied().chain([insns.len() as u32]);
        let funcs: Box<[Func]> = starts.iter().copied().zip(ends).map(|(start, end)| Func { start, end }).collect();
        for func in &funcs {
            if let Some((at, last)) = insns.get(func.end as usize - 1)
                && last.falls_through()
            {
                let func = InsnIdx(slots[func.start as usize]);
                return Err(CodeError::RunsOn { at: *at, func });
            }
        }
        let mut callees = Vec::new();
        let mut ops = Vec::with_capacity(insns.len());
        let mut kinds = Vec::with_capacity(insns.len());
        let mut func = 0;
        for (index, (at, insn)) in insns.iter().enumerate() {
            while funcs.get(func).is_some_and(|f| f.end as usize <= index) {
                func += 1;
            }
            if written(insn) == Some(Reg::R10) {
                return Err(CodeError::WritesFramePointer { at: *at, insn: insn.to_string() });
            }
            let (kind, mut op) = lower(*at, insn, resolve, &mut callees)?;
            match kind {
                Kind::Jump | Kind::JumpIf { .. } | Kind::MayGoto => {
                    let target = index_of(*at, insn)?;
                    op.off = target as i32;
                    if !funcs.get(func).is_some_and(|f| (f.start..f.end).contains(&target)) {
                        return Err(CodeError::LeavesFunction { at: *at, insn: insn.to_string() });
                    }
                }
                Kind::CallSub => op.off = index_of(*at, insn)? as i32,
                Kind::Wide if matches!(insn, Insn::LoadWide { value: Wide::Func(_), .. }) => {
                    op.imm = (FUNC_TAG + u64::from(index_of(*at, insn)?)) as i64;
                }
                _ => {}
            }
            ops.push(op);
            kinds.push(kind);
        }
        let linked = resolve.finish();
        let (ops, kinds, callees) = (ops.into(), kinds.into(), callees.into());
        Ok(Code { name, ops, kinds, slots, funcs, callees, linked, native: None })
    }
}

/// The register that an instruction writes by its own operands (calls write r0 besides).
fn written(insn: &Insn) -> Option<Reg> {
    match *insn {
        Insn::Alu { dst, .. }
        | Insn::Neg { dst, .. }
        | Insn::MovSx { dst, .. }
        | Insn::ByteSwap { dst, .. }
        | Insn::AddrSpaceCast { dst, .. }
        | Insn::LoadWide { dst, .. }
        | Insn::Load { dst, .. }
        | Insn::LoadSx { dst, .. }
        | Insn::LoadAcquire { dst, .. } => Some(dst),
        Insn::Atomic { op, src, .. } => op.fetches_into(src),
        _ => None,
    }
}

/// `bpf_tail_call`, which no function stands behind: it does not return.
const TAIL_CALL: u32 = 12;

fn lower(
    at: InsnIdx,
    insn: &Insn,
    resolve: &mut dyn Resolve,
    callees: &mut Vec<Callee>,
) -> Result<(Kind, Op), CodeError> {
    let unsupported = |why| CodeError::Unsupported { at, insn: insn.to_string(), why };
    let is_imm = |src: Source| matches!(src, Source::Imm(_));
    let (mut dst, mut src, mut off, mut imm) = (0, 0, 0, 0);
    let mut with = |source: Source| match source {
        Source::Reg(reg) => src = reg.number(),
        Source::Imm(value) => imm = value.into(),
    };
    let kind = match *insn {
        Insn::Alu { width, op, dst: to, src: from } => {
            dst = to.number();
            with(from);
            Kind::Alu { width, op, imm: is_imm(from) }
        }
        Insn::Neg { width, dst: to } => {
            dst = to.number();
            Kind::Neg { width }
        }
        Insn::MovSx { form, dst: to, src: from } => {
            (dst, src) = (to.number(), from.number());
            Kind::MovSx(form)
        }
        Insn::ByteSwap { op, bits, dst: to } => {
            dst = to.number();
            Kind::Swap { op, bits }
        }
        Insn::AddrSpaceCast { .. } => return Err(unsupported("it has no arenas")),
        Insn::LoadWide { dst: to, value } => {
            dst = to.number();
            imm = match value {
                Wide::Imm64(value) => value,
                Wide::Func(_) => 0,
                other => resolve.wide(at, other).map_err(|why| CodeError::Call { at, why })?,
            } as i64;
            Kind::Wide
        }
        Insn::Load { size, dst: to, base, off: bytes } => {
            (dst, src, off) = (to.number(), base.number(), bytes.into());
            Kind::Load(size)
        }
        Insn::LoadSx { size, dst: to, base, off: bytes } => {
            (dst, src, off) = (to.number(), base.number(), bytes.into());
            Kind::LoadSx(size)
        }
        Insn::Store { size, base, off: bytes, src: from } => {
            (dst, off) = (base.number(), bytes.into());
            with(from);
            Kind::Store { size, imm: is_imm(from) }
        }
        Insn::Atomic { width, op, base, off: bytes, src: from } => {
            (dst, src, off, imm) = (base.number(), from.number(), bytes.into(), op.code().into());
            Kind::Atomic { width, op }
        }
        Insn::LoadAcquire { size, dst: to, base, off: bytes } => {
            (dst, src, off) = (to.number(), base.number(), bytes.into());
            Kind::LoadAcquire(size)
        }
        Insn::StoreRelease { size, base, off: bytes, src: from } => {
            (dst, src, off) = (base.number(), from.number(), bytes.into());
            Kind::StoreRelease(size)
        }
        Insn::LoadAbs { size, off: at } => {
            imm = at.into();
            Kind::PacketLoad { size, indirect: false }
        }
        Insn::LoadInd { size, src: from, off: at } => {
            (src, imm) = (from.number(), at.into());
            Kind::PacketLoad { size, indirect: true }
        }
        Insn::Jump { .. } | Insn::JumpLong { .. } => Kind::Jump,
        Insn::JumpReg { .. } => return Err(unsupported("it has no instruction arrays")),
        Insn::JumpIf { width, op, dst: left, src: right, .. } => {
            dst = left.number();
            with(right);
            Kind::JumpIf { width, op, imm: is_imm(right) }
        }
        Insn::MayGoto { .. } => Kind::MayGoto,
        Insn::Call(Call::Subprog(_)) => Kind::CallSub,
        Insn::Call(Call::Helper(TAIL_CALL)) => Kind::TailCall,
        Insn::Call(call) => {
            let callee = match call {
                Call::Kfunc { btf_id, btf_idx } => resolve.kfunc(at, btf_id, btf_idx),
                Call::Helper(id) => resolve.helper(at, id),
                Call::Subprog(_) => Err("a function of the program".to_owned()),
            };
            let callee = callee.map_err(|why| CodeError::Call { at, why })?;
            off = callees.len() as i32;
            imm = callee.function as usize as i64;
            callees.push(callee);
            Kind::CallHelper
        }
        Insn::CallReg { .. } => return Err(unsupported("Linux has no calls through registers either")),
        Insn::Exit => Kind::Exit,
    };
    Ok((kind, Op { code: arm(kind, insn), dst, src, off, imm }))
}

const _: () = assert!(size_of::<Op>() == 16);
