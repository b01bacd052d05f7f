//! The compiler for x86-64, by the iced-x86 assembler.
//!
//! | BPF | r0 | r1 | r2 | r3 | r4 | r5 | r6 | r7 | r8 | r9 | r10 |
//! |---|---|---|---|---|---|---|---|---|---|---|---|
//! | x86 | rax | rdi | rsi | rdx | rcx | r8 | rbx | r13 | r14 | r15 | rbp |
//!
//! These are the registers of the C calling convention, so a helper is called with its arguments where they are. r12 holds
//! the [`Env`]; r9, r10 and r11 are free between operations. Frames of the program are in the run's own stack (rbp), the
//! native stack has return addresses and saved registers only.
//!
//! What is seldom needed (a fault, a look at the regions, a used-up budget) stands behind the code, so that the code itself
//! runs straight on. Within a function the native stack pointer is a multiple of 16 if it, or something that it may need, calls.
//!
//! A run enters by `enter`, which saves what C code expects to be kept and puts the stack pointer into the run; a fault
//! takes it from there and leaves. Between two entries there is Rust code (a helper that calls back), which sees that the
//! inner one faulted and returns, so that the outer one leaves as well.
#![expect(unsafe_code, reason = "machine code is entered by address")]

mod alu;
mod calls;
mod cold;
mod inline;
mod link;
mod memory;

use super::exec::Executable;
use super::flow::{Flow, FuncFlow, written};
use super::known::Known;
use super::runtime::Place;
use super::{Compiler, Native, Options};
use crate::code::{Code, Kind, Op};
use crate::env::Env;
use cold::{Shared, Stub};
use iced_x86::IcedError;
use iced_x86::code_asm::{
    AsmRegister8, AsmRegister16, AsmRegister32, AsmRegister64, CodeAssembler, CodeLabel, qword_ptr,
    registers::{gpr8::*, gpr16::*, gpr32::*, gpr64::*},
};
use inline::Plans;
use link::Loop;
use skep_isa::JmpOp;
use std::collections::HashMap;

type Emitted<T = ()> = Result<T, IcedError>;

/// A register: 0 to 10 those of BPF, then those that only the compiler uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gp(u8);

const S9: Gp = Gp(11);
const S10: Gp = Gp(12);
const S11: Gp = Gp(13);
const ENV: Gp = Gp(14);
const R0: Gp = Gp(0);
const R3: Gp = Gp(3);
const R4: Gp = Gp(4);
const FP: Gp = Gp(10);

const A64: [AsmRegister64; 16] = [rax, rdi, rsi, rdx, rcx, r8, rbx, r13, r14, r15, rbp, r9, r10, r11, r12, rsp];
const A32: [AsmRegister32; 16] = [eax, edi, esi, edx, ecx, r8d, ebx, r13d, r14d, r15d, ebp, r9d, r10d, r11d, r12d, esp];
const A16: [AsmRegister16; 16] = [ax, di, si, dx, cx, r8w, bx, r13w, r14w, r15w, bp, r9w, r10w, r11w, r12w, sp];
const A8: [AsmRegister8; 16] = [al, dil, sil, dl, cl, r8b, bl, r13b, r14b, r15b, bpl, r9b, r10b, r11b, r12b, spl];

impl Gp {
    fn r64(self) -> AsmRegister64 {
        A64[usize::from(self.0 & 15)]
    }
    fn r32(self) -> AsmRegister32 {
        A32[usize::from(self.0 & 15)]
    }
    fn r16(self) -> AsmRegister16 {
        A16[usize::from(self.0 & 15)]
    }
    fn r8(self) -> AsmRegister8 {
        A8[usize::from(self.0 & 15)]
    }
}

/// A comparison, and whether it must hold or must not.
#[derive(Clone, Copy)]
struct Condition {
    jump: JmpOp,
    holds: bool,
}

/// A field of the run.
macro_rules! env_field {
    ($($field:tt)+) => {
        iced_x86::code_asm::registers::gpr64::r12 + std::mem::offset_of!($crate::env::Env, $($field)+) as i32
    };
}
use env_field;

/// Compiles for x86-64.
pub(super) struct X64;

impl Compiler for X64 {
    fn compile(&self, code: &Code, options: Options) -> Result<Box<dyn Native>, String> {
        let mut asm = Asm::new(code, options).map_err(|error| error.to_string())?;
        asm.program().map_err(|error| error.to_string())?;
        Ok(Box::new(asm.link()?))
    }
}

/// Code for x86-64 that can be run.
struct X64Code {
    /// Begins with `enter`.
    code: Executable,
    options: Options,
    /// First operation and offset of each function, by operation.
    funcs: Box<[(u32, usize)]>,
}

impl Native for X64Code {
    fn options(&self) -> Options {
        self.options
    }

    fn entry(&self) -> usize {
        self.code.address(self.funcs.first().map_or(0, |(_, offset)| *offset))
    }

    fn bytes(&self) -> &[u8] {
        self.code.bytes()
    }

    unsafe fn run(&self, env: &mut Env, start: u32, args: [u64; 5]) -> u64 {
        let place = self.funcs.binary_search_by_key(&start, |(op, _)| *op).unwrap_or(0);
        let offset = self.funcs.get(place).map_or(0, |(_, offset)| *offset);
        type Enter = unsafe extern "C" fn(*mut Env, *const [u64; 5], usize) -> u64;
        // SAFETY: `enter` was compiled to be such a function.
        let enter = unsafe { std::mem::transmute::<usize, Enter>(self.code.address(0)) };
        // SAFETY: by the caller.
        unsafe { enter(env, &raw const args, self.code.address(offset)) }
    }
}

/// A program on its way to machine code.
struct Asm<'c> {
    a: CodeAssembler,
    code: &'c Code,
    options: Options,
    flow: Flow,
    /// The processor has shifts by any register.
    bmi2: bool,
    /// By operation, where a jump leads to.
    labels: Vec<CodeLabel>,
    /// By function: where calls lead to. A jump back to a function's first operation leads behind what a call does first.
    entries: Vec<CodeLabel>,
    stubs: Vec<Stub>,
    shared: Shared,
    /// How many instructions there were when the last label was set.
    labelled: usize,
    /// Of the function being compiled.
    func: FuncFlow,
    /// Whether its native stack pointer is a multiple of 16.
    aligned: bool,
    /// Operation being compiled, and how many are left in its block after it.
    at: usize,
    left: u32,
    /// Whether functions are called that start where the program does.
    start_is_called: bool,
    /// In fast code: what to do in place of calls.
    plans: Plans,
    /// What is known before the operation being compiled; followed where there are plans.
    known: Known,
    /// By function: the instruction it starts with.
    starts: Vec<usize>,
    loops: Vec<Loop>,
    /// By operation, for those that a jump leads back to: places for padding.
    pads: HashMap<usize, usize>,
    /// An operation that has been compiled together with the one before it.
    skip: Option<usize>,
}

impl<'c> Asm<'c> {
    fn new(code: &'c Code, options: Options) -> Emitted<Asm<'c>> {
        let mut a = CodeAssembler::new(64)?;
        let flow = Flow::of(code);
        let labels =
            flow.entered.iter().map(|entered| if *entered { a.create_label() } else { CodeLabel::default() }).collect();
        let entries = code.funcs.iter().map(|_| a.create_label()).collect();
        let shared = Shared::new(&mut a);
        let plans = if options.checked { Plans::default() } else { Plans::of(code, &flow) };
        // A value that means function 0 makes it one that others call, too.
        let start_is_called = code.ops.iter().zip(&code.kinds).any(|(op, kind)| match kind {
            Kind::CallSub => op.target() == 0,
            Kind::Wide => op.imm as u64 == crate::code::FUNC_TAG,
            _ => false,
        });
        Ok(Asm {
            a,
            code,
            options,
            flow,
            bmi2: std::arch::is_x86_feature_detected!("bmi2"),
            labels,
            entries,
            stubs: Vec::new(),
            shared,
            labelled: usize::MAX,
            func: FuncFlow::default(),
            aligned: false,
            at: 0,
            left: 0,
            start_is_called,
            plans,
            known: Known::nothing(),
            starts: Vec::new(),
            loops: Vec::new(),
            pads: HashMap::new(),
            skip: None,
        })
    }

    fn program(&mut self) -> Emitted {
        self.enter()?;
        for (index, func) in self.code.funcs.iter().enumerate() {
            self.func = self.flow.funcs.get(index).copied().unwrap_or_default();
            self.aligned = self.func.calls || self.options.checked || self.options.counted;
            self.left = 0;
            for at in func.start..func.end {
                self.at = at as usize;
                if at == func.start {
                    self.starts.push(self.a.instructions().len());
                    if let Some(entry) = self.entries.get(index).copied() {
                        let entry = self.set_label(entry)?;
                        self.entries[index] = entry;
                    }
                    self.prologue()?;
                }
                if self.flow.loops[self.at] {
                    let pads = self.pads()?;
                    self.pads.insert(self.at, pads);
                }
                if self.flow.entered[self.at] {
                    self.labels[self.at] = self.set_label(self.labels[self.at])?;
                    self.known = Known::nothing();
                }
                self.count_block()?;
                let (kind, op) = (self.code.kinds[self.at], self.code.ops[self.at]);
                if self.skip != Some(self.at) && !self.plans.drops(self.at) {
                    self.op(kind, op)?;
                    if let Some(reg) = written(kind, op.dst, op.src) {
                        self.known.changed(reg);
                    }
                }
                if !self.options.checked {
                    self.known.step(kind, op);
                }
                self.note_loop();
            }
            self.cold()?;
        }
        self.shared_code()
    }

    /// After a jump back: where the loop lies.
    fn note_loop(&mut self) {
        let end = self.a.instructions().len();
        // A jump over this one may have taken it along.
        for at in [Some(self.at), self.skip] {
            let Some(at) = at.filter(|at| *at >= self.at) else { continue };
            let (Some(kind), Some(op)) = (self.code.kinds.get(at), self.code.ops.get(at)) else { continue };
            if matches!(kind, Kind::Jump | Kind::JumpIf { .. })
                && op.target() <= at
                && let Some(pads) = self.pads.get(&op.target())
            {
                self.loops.push(Loop { head: op.target(), pads: *pads, end });
            }
        }
    }

    /// At the first operation of a block: counts the block.
    fn count_block(&mut self) -> Emitted {
        match self.flow.block_len[self.at] {
            0 => self.left = self.left.saturating_sub(1),
            len => {
                self.left = len - 1;
                if self.options.counted {
                    let (label, back) = (self.a.create_label(), self.a.create_label());
                    self.a.sub(qword_ptr(env_field!(budget)), len as i32)?;
                    self.a.jb(label)?;
                    self.set_label(back)?;
                    self.stubs.push(Stub::Refill { label, back, len, op: self.at as u32 });
                }
            }
        }
        Ok(())
    }

    /// Gives the next instruction a name.
    fn set_label(&mut self, mut label: CodeLabel) -> Emitted<CodeLabel> {
        // The assembler takes one label an instruction.
        if self.labelled == self.a.instructions().len() {
            self.a.zero_bytes()?;
        }
        self.labelled = self.a.instructions().len();
        self.a.set_label(&mut label)?;
        Ok(label)
    }

    /// Where a call of the function that starts with this operation leads.
    fn entry_of(&self, op: usize) -> CodeLabel {
        let place = self.code.funcs.binary_search_by_key(&op, |func| func.start as usize);
        place.ok().and_then(|place| self.entries.get(place)).copied().unwrap_or_default()
    }

    fn label_of(&self, op: usize) -> CodeLabel {
        self.labels.get(op).copied().unwrap_or_default()
    }

    fn place(&self) -> Place {
        Place { op: self.at as u32, uncounted: if self.options.counted { self.left } else { 0 } }
    }

    fn op(&mut self, kind: Kind, op: Op) -> Emitted {
        let (dst, src) = (Gp(op.dst), Gp(op.src));
        match kind {
            Kind::Alu { width, op: alu, imm: true } => self.alu_imm(width, alu, dst, op.imm as i32),
            Kind::Alu { width, op: alu, imm: false } => self.alu_reg(width, alu, dst, src),
            Kind::Neg { width } => self.neg(width, dst),
            Kind::MovSx(form) => self.mov_sx(form, dst, src),
            Kind::Swap { .. } => self.swap(op.code, dst),
            Kind::Wide => self.mov_imm(dst, op.imm as u64),
            Kind::Load(size) => self.load(size, dst, src, op.off),
            Kind::LoadSx(size) => self.load_sx(size, dst, src, op.off),
            Kind::Store { size, imm: true } => self.store_imm(size, dst, op.off, op.imm as i32),
            Kind::Store { size, imm: false } => self.store(size, dst, op.off, src),
            Kind::Atomic { width, op: atomic } => self.atomic(width, atomic, dst, op.off, src),
            Kind::LoadAcquire(size) => {
                self.check_atomic(src, op.off, size.bytes(), false)?;
                self.plain_load(size, dst, src, op.off)
            }
            Kind::StoreRelease(size) => {
                self.check_atomic(dst, op.off, size.bytes(), true)?;
                self.plain_store(size, dst, op.off, src)
            }
            Kind::PacketLoad { size, indirect } => self.packet_load(size, indirect.then_some(src), op.imm as i32),
            Kind::Jump => {
                let target = self.label_of(op.target());
                self.a.jmp(target)
            }
            Kind::JumpIf { width, op: jump, imm } => {
                match imm {
                    true => self.compare_imm(width, jump, dst, op.imm as i32)?,
                    false => self.compare_reg(width, jump, dst, src)?,
                }
                let (condition, target) = self.straightened(jump, op.target());
                self.jump_on(condition, target)
            }
            Kind::MayGoto => {
                let target = self.label_of(op.target());
                let left = qword_ptr(env_field!(may_goto));
                self.a.cmp(left, 0)?;
                self.a.je(target)?;
                self.a.dec(left)
            }
            Kind::CallHelper => match self.plans.at(self.at) {
                Some(plan) => self.inlined(plan),
                None => self.call_helper(op),
            },
            Kind::CallSub => self.call_sub(op.target()),
            Kind::TailCall => self.tail_call(),
            Kind::Exit => self.epilogue(),
        }
    }

    /// A jump over a jump becomes one that goes there on the opposite.
    fn straightened(&mut self, jump: JmpOp, target: usize) -> (Condition, CodeLabel) {
        let next = self.at + 1;
        // In counted code the jump that is jumped over is a block of its own.
        if !self.options.counted
            && target == next + 1
            && self.code.kinds.get(next) == Some(&Kind::Jump)
            && self.flow.entered.get(next) == Some(&false)
        {
            self.skip = Some(next);
            return (Condition { jump, holds: false }, self.label_of(self.code.ops[next].target()));
        }
        (Condition { jump, holds: true }, self.label_of(target))
    }
}
