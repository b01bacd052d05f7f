//! Programs that compute: every instruction that needs neither map nor helper, always ending, the same on every engine.
//!
//! No pointer ever becomes part of a number or of memory, so that two engines with different addresses must agree on
//! `r0` and on every byte. All of the stack that is read is written before. What the kernel's verifier asks of programs
//! is kept to, so that those for XDP and sockets load; the one for plain memory may besides access it unaligned and
//! atomically.
//!
//! The result folds every register that is in use, so that a wrong one shows.

use skep_abi::ProgramType;
use skep_isa::{AluOp, AtomicOp, Insn, JmpOp, NarrowSize, Reg, SignExtend, Size, Source, SwapBits, SwapOp, Width};

use crate::build::{Builder, FuncId};
use crate::program::Param;
use crate::{Choices, Draft};

/// Bytes of memory or packet that a program may use; inputs have at least as many.
pub const MEMORY: u32 = 64;

/// Bytes of stack that each function uses.
const STACK: i16 = 64;

/// Instructions of a program, about.
const MOST: usize = 400;

/// Where the program's data comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `r1` points to memory, `r2` is its length.
    Memory,
    /// An XDP packet.
    Packet,
    /// The packet of a socket filter, by `LD_ABS` and `LD_IND`.
    Socket,
}

/// Registers as a set.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Regs(u16);

impl Regs {
    fn with(self, reg: Reg) -> Regs {
        Regs(self.0 | 1 << reg.number())
    }

    fn without(self, reg: Reg) -> Regs {
        Regs(self.0 & !(1 << reg.number()))
    }

    fn and(self, other: Regs) -> Regs {
        Regs(self.0 & other.0)
    }

    fn has(self, reg: Reg) -> bool {
        self.0 & 1 << reg.number() != 0
    }

    fn list(self) -> Vec<Reg> {
        Reg::ALL.into_iter().filter(|reg| self.has(*reg)).collect()
    }
}

struct Arith<'b, 'c, 'd> {
    b: &'b mut Builder,
    c: &'c mut Choices<'d>,
    entry: Entry,
    /// Registers that hold a number.
    live: Regs,
    /// Registers that a statement may write.
    free: Regs,
    /// Functions that may be called from here.
    callees: Vec<FuncId>,
    /// Whether r9 points to [`MEMORY`] bytes.
    memory: bool,
    /// Whether r6 is the context of a packet to load from.
    packet_loads: bool,
    /// Instructions that are still to be written, about.
    budget: usize,
    /// Whether this is not the entry function.
    function: bool,
    /// Loops that may still be written: a verifier walks through every round.
    loops: usize,
}

pub(crate) fn generate(entry: Entry, c: &mut Choices<'_>) -> Draft {
    let mut b = Builder::new(vec![Param::Ctx]);
    let count = c.weighted(&[4, 3, 2, 1]);
    let arities: Vec<usize> = (0..count).map(|_| c.below(6)).collect();
    let funcs: Vec<FuncId> = arities.iter().map(|arity| b.declare("sub", false, vec![Param::Long; *arity])).collect();
    let budget = 8 + c.below(60);
    let mut all = Regs(0x1ff);
    if entry == Entry::Socket {
        all = all.with(Reg::R9).without(Reg::R6);
    }
    let mut main = Arith {
        b: &mut b,
        c,
        entry,
        live: Regs(0),
        free: all,
        callees: funcs.clone(),
        memory: entry != Entry::Socket,
        packet_loads: entry == Entry::Socket,
        budget,
        loops: 3,
        function: false,
    };
    main.prologue();
    main.start();
    main.statements(0);
    main.finish(entry != Entry::Socket);
    for (index, func) in funcs.iter().enumerate() {
        if !b.is_used(*func) {
            continue;
        }
        let arity = arities.get(index).copied().unwrap_or(0);
        b.begin(*func);
        let mut sub = Arith {
            b: &mut b,
            c,
            entry,
            live: Regs((1 << (arity + 1)) - 2),
            free: Regs(0x3ff),
            callees: funcs.get(index + 1..).unwrap_or_default().to_vec(),
            memory: false,
            packet_loads: false,
            budget: 5 + budget / 4,
            loops: 1,
            function: true,
        };
        sub.start();
        sub.statements(0);
        sub.finish(false);
    }
    let prog_type = match entry {
        Entry::Memory => ProgramType::Unspec,
        Entry::Packet => ProgramType::Xdp,
        Entry::Socket => ProgramType::SocketFilter,
    };
    let mut draft = Draft::new(prog_type, b);
    draft.memory = (entry == Entry::Memory).then_some(MEMORY);
    draft
}

impl Arith<'_, '_, '_> {
    fn prologue(&mut self) {
        match self.entry {
            Entry::Memory => {
                self.b.mov(Reg::R9, Reg::R1);
                self.live = self.live.with(Reg::R2);
            }
            Entry::Packet => {
                let enough = self.b.label();
                self.b.load(Size::W, Reg::R9, Reg::R1, 0);
                self.b.load(Size::W, Reg::R3, Reg::R1, 4);
                self.b.mov(Reg::R2, Reg::R9);
                self.b.alu_k(AluOp::Add, Reg::R2, MEMORY as i32);
                self.b.jump(JmpOp::Le, Reg::R2, Reg::R3, enough);
                self.b.exit_k(0);
                self.b.here(enough);
            }
            Entry::Socket => self.b.mov(Reg::R6, Reg::R1),
        }
    }

    /// Gives the stack and some registers a value.
    fn start(&mut self) {
        for slot in 1..=STACK / 8 {
            let imm = self.c.imm32();
            self.b.store_k(Size::DW, Reg::FP, -8 * slot, imm);
        }
        for reg in self.free.list() {
            if self.live.has(reg) {
                continue;
            }
            match self.c.below(6) {
                0 => continue,
                1 => {
                    let number = self.c.imm64();
                    self.b.wide(reg, number as u64);
                }
                2 | 3 if self.memory => {
                    let off = self.c.below((MEMORY - 8) as usize) as i16;
                    self.b.load(Size::DW, reg, Reg::R9, off);
                }
                _ => {
                    let imm = self.c.imm32();
                    self.b.mov_k(reg, imm);
                }
            }
            self.live = self.live.with(reg);
        }
        if self.live.0 == 0 {
            self.set(Reg::R0);
            self.b.mov_k(Reg::R0, 1);
        }
    }

    fn set(&mut self, reg: Reg) {
        self.live = self.live.with(reg);
    }

    /// A register with a number.
    fn number(&mut self) -> Reg {
        let live = self.live.list();
        self.c.reg(&live)
    }

    /// A register with a number that may be written.
    fn operand(&mut self) -> Option<Reg> {
        let both = self.live.and(self.free).list();
        self.c.pick_ref(&both).copied()
    }

    /// A register that may be written.
    fn target(&mut self) -> Reg {
        let free = self.free.list();
        self.c.reg(&free)
    }

    fn statements(&mut self, depth: usize) {
        let mut count = 1 + self.c.below(if depth == 0 { 40 } else { 8 });
        while count > 0 && self.budget > 0 && self.b.len() < MOST {
            count -= 1;
            self.budget -= 1;
            self.statement(depth);
        }
    }

    fn statement(&mut self, depth: usize) {
        let deep = usize::from(depth < 3);
        let memory = usize::from(self.memory);
        let packet = usize::from(self.packet_loads);
        let calls = usize::from(!self.callees.is_empty() && depth < 2);
        match self.c.weighted(&[30, 4, 5, 5, 3, 10, 4, 5 * memory, 6 * deep, 3 * deep, 4 * calls, 4 * packet, 2]) {
            0 => self.arithmetic(),
            1 => {
                let Some(dst) = self.operand() else { return };
                let width = self.width();
                self.b.emit(Insn::Neg { width, dst });
            }
            2 => {
                let (src, dst) = (self.number(), self.target());
                let form = self.c.pick_ref(&SignExtend::ALL).copied().unwrap_or(SignExtend::S8To32);
                self.b.movsx(form, dst, src);
                self.set(dst);
            }
            3 => {
                let Some(dst) = self.operand() else { return };
                let op = self.c.pick_ref(&SwapOp::ALL).copied().unwrap_or(SwapOp::ToLe);
                let bits = self.c.pick_ref(&SwapBits::ALL).copied().unwrap_or(SwapBits::B16);
                self.b.swap(op, bits, dst);
            }
            4 => {
                let dst = self.target();
                let number = self.c.imm64();
                self.b.wide(dst, number as u64);
                self.set(dst);
            }
            5 => {
                let slot = -8 - 8 * self.c.below(usize::from(STACK.unsigned_abs() / 8)) as i16;
                self.access(Reg::FP, slot, true);
            }
            6 => self.indexed(),
            7 => {
                let aligned = 8 * self.c.below(MEMORY as usize / 8) as i16;
                self.access(Reg::R9, aligned, self.entry == Entry::Memory);
            }
            8 => self.condition(depth),
            9 => self.repeat(depth),
            10 => self.subprogram(),
            11 => self.packet_load(),
            _ => {
                let (src, dst) = (self.number(), self.target());
                let width = self.width();
                self.b.alu(width, AluOp::Mov, dst, Source::Reg(src));
                self.set(dst);
            }
        }
    }

    fn width(&mut self) -> Width {
        if self.c.chance(40) { Width::W32 } else { Width::W64 }
    }

    fn arithmetic(&mut self) {
        let Some(dst) = self.operand() else { return };
        let width = self.width();
        let op = self.c.pick_ref(&AluOp::ALL).copied().unwrap_or(AluOp::Add);
        let src = if self.c.chance(50) {
            Source::Reg(self.number())
        } else {
            let imm = self.c.imm32();
            Source::Imm(match op {
                // The verifier takes neither a constant shift beyond the width nor a constant division by zero.
                AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => imm & if width == Width::W32 { 31 } else { 63 },
                AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod if imm == 0 => -1,
                _ => imm,
            })
        };
        self.b.alu(width, op, dst, src);
    }

    /// An access to 8 bytes, aligned to its size; `atomics` also in memory where the kernel refuses them.
    fn access(&mut self, base: Reg, at: i16, atomics: bool) {
        let size = self.c.pick_ref(&Size::ALL).copied().unwrap_or(Size::DW);
        let off = at + i16::from(size.bytes()) * self.c.below(usize::from(8 / size.bytes())) as i16;
        let kinds = if atomics { 8 } else { 4 };
        match self.c.below(kinds) {
            0 => {
                let dst = self.target();
                self.b.load(size, dst, base, off);
                self.set(dst);
            }
            1 => {
                let src = self.number();
                self.b.store(size, base, off, src);
            }
            2 => {
                let imm = self.c.imm32();
                self.b.store_k(size, base, off, imm);
            }
            3 => {
                let dst = self.target();
                let size = NarrowSize::try_from(size).unwrap_or(NarrowSize::W);
                self.b.load_sx(size, dst, base, off);
                self.set(dst);
            }
            4 => {
                let dst = self.target();
                self.b.emit(Insn::LoadAcquire { size, dst, base, off });
                self.set(dst);
            }
            5 => {
                let src = self.number();
                self.b.emit(Insn::StoreRelease { size, base, off, src });
            }
            _ => {
                let width = self.width();
                let off = if width == Width::W64 { at } else { at + 4 * self.c.below(2) as i16 };
                let op = self.c.pick_ref(&AtomicOp::ALL).copied().unwrap_or(AtomicOp::Xchg);
                let src = if op.fetches_into(Reg::R0).is_some() && op != AtomicOp::CmpXchg {
                    let Some(src) = self.operand() else { return };
                    src
                } else {
                    self.number()
                };
                if op == AtomicOp::CmpXchg && !(self.live.has(Reg::R0) && self.free.has(Reg::R0)) {
                    return;
                }
                self.b.atomic(width, op, base, off, src);
            }
        }
    }

    /// An access at an index that is only known when the program runs.
    fn indexed(&mut self) {
        let choices = self.free.list();
        let (Some(at), Some(dst)) = (self.c.pick_ref(&choices).copied(), self.c.pick_ref(&choices).copied()) else {
            return;
        };
        if at == dst {
            return;
        }
        let index = self.number();
        let size = self.c.pick_ref(&Size::ALL).copied().unwrap_or(Size::B);
        // A packet would have to be compared with its end anew.
        let memory = self.memory && self.entry == Entry::Memory;
        let (base, off, room) = match memory && self.c.chance(60) {
            true => (Reg::R9, 0, MEMORY as i32),
            false => (Reg::FP, -STACK, i32::from(STACK)),
        };
        // Numbers below a power of two, aligned to the size.
        let mask = (room - 1) & !(i32::from(size.bytes()) - 1);
        if self.c.chance(50) {
            self.b.mov(at, index);
            self.b.alu_k(AluOp::And, at, mask);
        } else {
            self.b.alu(Width::W32, AluOp::Mov, at, Source::Reg(index));
            self.b.alu32_k(AluOp::And, at, mask);
        }
        if base == Reg::FP && self.function {
            // Linux 6.18 takes what comes of `index += r10` in a function for an address in the caller's stack.
            self.b.mov(dst, base);
            self.b.add(dst, at);
            self.b.load(size, dst, dst, off);
            self.set(dst);
            self.set(at);
            return;
        }
        self.b.add(at, base);
        if self.c.chance(60) {
            self.b.load(size, dst, at, off);
            self.set(dst);
        } else {
            let src = self.live.without(at).list();
            match self.c.pick_ref(&src).copied() {
                Some(src) => self.b.store(size, at, off, src),
                None => self.b.store_k(size, at, off, 7),
            }
        }
        // It holds an address now, which is to get nowhere.
        self.b.mov_k(at, i32::from(size.bytes()));
        self.set(at);
    }

    fn condition(&mut self, depth: usize) {
        let dst = self.number();
        let src = if self.c.chance(50) { Source::Reg(self.number()) } else { Source::Imm(self.c.imm32()) };
        let op = self.c.pick_ref(&JmpOp::ALL).copied().unwrap_or(JmpOp::Eq);
        let width = self.width();
        let (other, end) = (self.b.label(), self.b.label());
        self.b.branch(width, op, dst, src, other);
        let before = self.live;
        self.statements(depth + 1);
        if self.c.chance(40) {
            if self.c.chance(20) {
                self.b.goto_long(end);
            } else {
                self.b.goto(end);
            }
            self.b.here(other);
            let one = std::mem::replace(&mut self.live, before);
            self.statements(depth + 1);
            self.live = self.live.and(one);
        } else {
            self.b.here(other);
            self.live = self.live.and(before);
        }
        self.b.here(end);
        if self.live.0 == 0 {
            self.b.mov_k(Reg::R0, 3);
            self.set(Reg::R0);
        }
    }

    fn repeat(&mut self, depth: usize) {
        // Calls spoil r0 to r5, so that the counter is one of the others.
        let keep: Vec<Reg> = self.free.list().into_iter().filter(|reg| *reg >= Reg::R6).collect();
        let Some(counter) = self.c.pick_ref(&keep).copied() else { return };
        let rounds = 1 + self.c.below(if depth == 0 { 6 } else { 2 }) as i32;
        if self.loops == 0 {
            return;
        }
        self.loops -= 1;
        let up = self.c.chance(50);
        self.b.mov_k(counter, if up { 0 } else { rounds });
        self.live = self.live.without(counter);
        let was_free = self.free;
        self.free = self.free.without(counter);
        let before = self.live;
        let (top, out) = (self.b.label_here(), self.b.label());
        if self.c.chance(15) {
            self.b.may_goto(out);
        }
        // Only what is in use on the way in is in use on the way round; the body may not read more.
        self.statements(depth + 1);
        self.live = self.live.and(before);
        self.restore(before);
        self.b.alu_k(AluOp::Add, counter, if up { 1 } else { -1 });
        let width = self.width();
        if up {
            self.b.branch(width, JmpOp::Lt, counter, Source::Imm(rounds), top);
        } else {
            self.b.branch(width, JmpOp::Ne, counter, Source::Imm(0), top);
        }
        self.b.here(out);
        self.free = was_free;
        self.b.mov_k(counter, rounds);
        self.set(counter);
    }

    /// Gives the registers that were in use before, and no longer are, a number again.
    fn restore(&mut self, before: Regs) {
        for reg in before.list() {
            if !self.live.has(reg) {
                self.b.mov_k(reg, 11);
                self.set(reg);
            }
        }
    }

    fn subprogram(&mut self) {
        let Some(func) = self.c.pick_ref(&self.callees).copied() else { return };
        // A loop's counter or the context may be among r1 to r5 only where they are not free.
        if (1..=5).any(|reg| Reg::new(reg).is_some_and(|reg| !self.free.has(reg))) {
            return;
        }
        for reg in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
            if !self.live.has(reg) {
                let imm = self.c.imm32();
                self.b.mov_k(reg, imm);
            }
        }
        self.b.call(func);
        self.after_call();
    }

    fn after_call(&mut self) {
        for reg in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
            self.live = self.live.without(reg);
        }
        self.set(Reg::R0);
    }

    fn packet_load(&mut self) {
        let size = self.c.pick_ref(&NarrowSize::ALL).copied().unwrap_or(NarrowSize::B);
        if !self.free.has(Reg::R0) || (1..=5).any(|reg| Reg::new(reg).is_some_and(|reg| !self.free.has(reg))) {
            return;
        }
        let off = self.c.below(60) as i32;
        if self.c.chance(60) {
            self.b.emit(Insn::LoadAbs { size, off });
        } else {
            let index = self.number();
            let src = self.target();
            if src == Reg::R6 {
                return;
            }
            self.b.mov(src, index);
            self.b.alu_k(AluOp::And, src, 15);
            self.b.emit(Insn::LoadInd { size, src, off });
            self.set(src);
        }
        self.after_call();
    }

    /// Folds all that is in use into r0 and leaves.
    fn finish(&mut self, remember: bool) {
        let live: Vec<Reg> = self.live.without(Reg::R0).list();
        if !self.live.has(Reg::R0) {
            self.b.mov_k(Reg::R0, 0);
        }
        for reg in live {
            self.b.alu_k(AluOp::Mul, Reg::R0, 31);
            self.b.alu(Width::W64, AluOp::Xor, Reg::R0, Source::Reg(reg));
        }
        for slot in 1..=STACK / 8 {
            if self.c.chance(50) {
                self.b.load(Size::DW, Reg::R1, Reg::FP, -8 * slot);
                self.b.add(Reg::R0, Reg::R1);
            }
        }
        if remember {
            self.b.store(Size::DW, Reg::R9, 0, Reg::R0);
        }
        // Test runs give back 32 bits, so that both halves go into them.
        self.b.mov(Reg::R1, Reg::R0);
        self.b.alu_k(AluOp::Rsh, Reg::R1, 32);
        self.b.alu(Width::W64, AluOp::Xor, Reg::R0, Source::Reg(Reg::R1));
        self.b.exit();
    }
}
