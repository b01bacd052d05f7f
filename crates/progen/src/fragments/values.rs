//! Fragments about what is known of numbers and pointers.

use skep_abi::MapType;
use skep_isa::{AluOp, Insn, JmpOp, NarrowSize, Reg, SignExtend, Size, Source, SwapBits, SwapOp, Width};

use super::Gen;
use super::{R0, R1, R2, R3, R4, R5, R6, R7, R10, W32, W64};
use crate::build::Label;
use crate::program::{MapDef, Param};
use Reg::{R8, R9};

impl Gen<'_, '_, '_> {
    fn alu_op(&mut self) -> AluOp {
        self.c.pick_ref(&AluOp::ALL).copied().unwrap_or(AluOp::Add)
    }

    fn some_width(&mut self) -> Width {
        if self.c.chance(40) { W32 } else { W64 }
    }

    /// One step of arithmetic on a number; `other` is a number too.
    pub(super) fn step(&mut self, reg: Reg, other: Reg) {
        match self.c.below(14) {
            0 => {
                let form = self.c.pick_ref(&SignExtend::ALL).copied().unwrap_or(SignExtend::S8To32);
                self.b.movsx(form, reg, if self.c.chance(50) { reg } else { other });
            }
            1 => {
                let width = self.some_width();
                self.b.emit(Insn::Neg { width, dst: reg });
            }
            2 => {
                let op = self.c.pick_ref(&SwapOp::ALL).copied().unwrap_or(SwapOp::ToBe);
                let bits = self.c.pick_ref(&SwapBits::ALL).copied().unwrap_or(SwapBits::B16);
                self.b.swap(op, bits, reg);
            }
            _ => {
                let (width, op) = (self.some_width(), self.alu_op());
                let src = if self.c.chance(25) {
                    Source::Reg(other)
                } else {
                    let imm = self.c.imm32();
                    Source::Imm(match op {
                        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => imm & if width == W32 { 31 } else { 63 },
                        AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod if imm == 0 => 3,
                        _ => imm,
                    })
                };
                self.b.alu(width, op, reg, src);
            }
        }
    }

    /// An array value of `len` bytes in r8.
    fn table(&mut self, len: u32) {
        let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, len, 1));
        self.b.map_value(R8, map, 0);
    }

    /// Reads the array in r8 at the number.
    fn read_at(&mut self, index: Reg, off: i16) {
        self.b.mov(R4, R8);
        self.b.add(R4, index);
        self.b.load(Size::B, R1, R4, off);
    }

    /// Arithmetic with branches in between, then the number is an index.
    pub(super) fn scalar_chain(&mut self) {
        let end = self.b.label();
        let len = self.c.pick(&[64u32, 256, 16, 4096]);
        self.table(len);
        self.number(R9);
        self.b.mov(R3, R7);
        if self.c.chance(60) {
            let max = 1 + self.c.below(2 * len as usize) as u32;
            self.bound(R9, max, end);
        }
        for _ in 0..1 + self.c.below(6) {
            match self.c.below(5) {
                0 => {
                    let skip = self.b.label();
                    let to = if self.c.chance(40) { end } else { skip };
                    self.some_branch(R9, to);
                    self.step(R9, R3);
                    self.b.here(skip);
                }
                1 => self.step(R3, R9),
                _ => self.step(R9, R3),
            }
        }
        match self.c.below(5) {
            0 => {}
            1 => self.b.alu_k(AluOp::And, R9, (len - 1) as i32),
            2 => {
                let rest = 64 - len.trailing_zeros() as i32;
                self.b.alu_k(AluOp::Rsh, R9, rest);
            }
            _ => self.bound(R9, len - 1, end),
        }
        self.read_at(R9, 0);
        self.b.here(end);
    }

    /// Two registers that hold the same number, or numbers that differ by a constant: a check of one is one of the other.
    pub(super) fn scalar_linked(&mut self) {
        let end = self.b.label();
        self.table(64);
        self.number(R9);
        if self.c.chance(50) {
            // Numbers of 32 bits are linked by sums too.
            self.b.alu(W32, AluOp::Mov, R9, Source::Reg(R9));
        }
        if self.c.chance(30) {
            self.b.alu_k(AluOp::And, R9, 0xfff);
        }
        self.b.mov(R3, R9);
        let by = self.c.between(-8, 40) as i32;
        if self.c.chance(70) {
            self.b.alu_k(AluOp::Add, R3, by);
        }
        if self.c.chance(30) {
            self.b.mov(R2, R3);
            self.b.alu_k(AluOp::Add, R2, 1);
        }
        let checked = if self.c.chance(50) { R9 } else { R3 };
        let max = 20 + self.c.below(24) as i32;
        match self.c.below(3) {
            0 => self.b.jump_k(JmpOp::Gt, checked, max, end),
            1 => {
                self.b.jump_k(JmpOp::Sgt, checked, max, end);
                self.b.jump_k(JmpOp::Slt, checked, 0, end);
            }
            _ => self.b.branch(W32, JmpOp::Gt, checked, Source::Imm(max), end),
        }
        if self.c.chance(30) {
            let at = self.room(8);
            self.b.store(Size::DW, R10, at, R3);
            self.b.load(Size::DW, R3, R10, at);
        }
        let used = if self.c.chance(50) { R9 } else { R3 };
        let off = if self.c.chance(60) { 0 } else { self.c.below(12) as i16 };
        self.read_at(used, off);
        self.b.here(end);
    }

    /// Conversions between widths, signed and unsigned.
    pub(super) fn scalar_narrow(&mut self) {
        let end = self.b.label();
        self.table(128);
        let at = self.room(8);
        self.b.store(Size::DW, R10, at, R7);
        let narrow = self.c.pick_ref(&NarrowSize::ALL).copied().unwrap_or(NarrowSize::B);
        if self.c.chance(50) {
            self.b.load_sx(narrow, R9, R10, at);
        } else {
            let place = if self.c.chance(80) { at } else { at + 4 };
            self.b.load(narrow.into(), R9, R10, place);
        }
        for _ in 0..1 + self.c.below(3) {
            match self.c.below(6) {
                0 => {
                    let form = self.c.pick_ref(&SignExtend::ALL).copied().unwrap_or(SignExtend::S8To64);
                    self.b.movsx(form, R9, R9);
                }
                1 => {
                    let by = self.c.pick(&[32, 48, 56, 24]);
                    self.b.alu_k(AluOp::Lsh, R9, by);
                    let op = if self.c.chance(50) { AluOp::Arsh } else { AluOp::Rsh };
                    self.b.alu_k(op, R9, by);
                }
                2 => self.b.alu(W32, AluOp::Mov, R9, Source::Reg(R9)),
                3 => {
                    let imm = self.c.imm32();
                    let op = self.c.pick_ref(&[AluOp::Add, AluOp::Sub, AluOp::Arsh, AluOp::Mul, AluOp::Xor]).copied();
                    let op = op.unwrap_or(AluOp::Add);
                    self.b.alu32_k(op, R9, if op == AluOp::Arsh { imm & 31 } else { imm });
                }
                4 => {
                    let width = self.some_width();
                    let imm = self.c.between(-200, 200) as i32;
                    let op = self.c.pick_ref(&JmpOp::ALL).copied().unwrap_or(JmpOp::Slt);
                    self.b.branch(width, op, R9, Source::Imm(imm), end);
                }
                _ => self.step(R9, R7),
            }
        }
        if self.c.chance(70) {
            self.bound(R9, 127, end);
        }
        self.read_at(R9, 0);
        self.b.here(end);
    }

    /// What equality and bit tests tell.
    pub(super) fn scalar_equal(&mut self) {
        let end = self.b.label();
        self.table(64);
        self.number(R9);
        self.number(R3);
        match self.c.below(5) {
            0 => {
                let width = self.some_width();
                let imm = self.c.between(0, 70) as i32;
                self.b.branch(width, JmpOp::Ne, R9, Source::Imm(imm), end);
            }
            1 => {
                self.b.alu_k(AluOp::And, R3, 63);
                self.b.jump(JmpOp::Ne, R9, R3, end);
            }
            2 => {
                let bits = self.c.pick(&[-64, -128, 0x7fff_ffc0, -32]);
                let width = self.some_width();
                self.b.branch(width, JmpOp::Set, R9, Source::Imm(bits), end);
            }
            3 => {
                // One value after the other is ruled out.
                self.b.alu_k(AluOp::And, R9, 0x43);
                for value in 0..4 {
                    self.b.jump_k(JmpOp::Eq, R9, 0x40 + value, end);
                }
            }
            _ => {
                self.b.alu_k(AluOp::And, R3, 31);
                let op = self.c.pick_ref(&[JmpOp::Gt, JmpOp::Sgt, JmpOp::Ge]).copied().unwrap_or(JmpOp::Gt);
                let width = self.some_width();
                self.b.branch(width, op, R9, Source::Reg(R3), end);
            }
        }
        self.read_at(R9, 0);
        self.b.here(end);
    }

    pub(super) fn pointer_arithmetic(&mut self) {
        let end = self.b.label();
        let len: i16 = 64;
        match self.c.below(4) {
            0 => {
                let room = self.room(len);
                self.fill(room, len);
                self.stack_address(R8, room);
            }
            1 => self.table(64),
            2 => {
                let (map, key, _) = self.some_map();
                self.lookup(map, key);
                if self.c.chance(70) {
                    self.null_check(R0, end);
                }
                self.b.mov(R8, R0);
            }
            _ => self.b.mov(R8, R6),
        }
        let by = self.c.below(24) as i32;
        match self.c.weighted(&[4, 4, 2, 2, 2, 1, 1, 1, 1, 1]) {
            0 => {
                self.b.alu_k(AluOp::Add, R8, by);
                self.b.alu_k(AluOp::Sub, R8, by);
            }
            1 => {
                self.b.alu_k(AluOp::Add, R8, by);
                self.b.load(Size::B, R1, R8, -(by.min(8)) as i16);
            }
            2 => {
                self.b.mov_k(R1, by);
                self.b.alu(W64, AluOp::Sub, R8, Source::Reg(R1));
                self.b.add(R8, R1);
            }
            3 => {
                self.number(R9);
                self.bound(R9, 15, end);
                self.b.alu(W64, AluOp::Sub, R8, Source::Reg(R9));
                self.b.add(R8, R9);
            }
            4 => {
                let op = self.alu_op();
                self.b.alu_k(if matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh) { AluOp::Add } else { op }, R8, 1);
            }
            5 => self.b.alu(W32, AluOp::Add, R8, Source::Imm(by)),
            6 => {
                let imm = self.c.pick(&[1 << 29, -(1 << 29), i32::MAX, i32::MIN, 1 << 28]);
                self.b.alu_k(AluOp::Add, R8, imm);
            }
            7 => {
                self.b.mov(R1, R10);
                self.b.alu(W64, AluOp::Sub, R8, Source::Reg(R1));
            }
            8 => {
                self.number(R9);
                self.b.add(R8, R9);
            }
            _ => {
                self.b.mov(R9, R8);
                self.b.add(R9, R8);
            }
        }
        self.touch(R8, 8, false);
        self.b.here(end);
    }

    pub(super) fn pointer_compare(&mut self) {
        let end = self.b.label();
        let room = self.room(16);
        self.fill(room, 16);
        self.stack_address(R8, room);
        match self.c.below(6) {
            0 => self.b.jump(JmpOp::Eq, R8, R10, end),
            1 => self.b.jump_k(JmpOp::Eq, R8, 0, end),
            2 => self.b.jump_k(JmpOp::Ne, R6, 0, end),
            3 => self.b.branch(W32, JmpOp::Eq, R8, Source::Imm(0), end),
            4 => {
                let op = self.c.pick_ref(&JmpOp::ALL).copied().unwrap_or(JmpOp::Gt);
                self.b.jump(op, R8, R7, end);
            }
            _ => {
                // Two values of a map: which of them is null?
                let map = self.b.map_of(MapDef::new("m", MapType::Hash, 4, 16, 8));
                self.lookup(map, 4);
                self.b.mov(R8, R0);
                let key = self.lookup(map, 4);
                if self.c.chance(50) {
                    self.b.store_k(Size::W, R10, key, 1);
                }
                self.b.mov(R9, R0);
                self.null_check(R8, end);
                self.b.jump(JmpOp::Ne, R8, R9, end);
                let base = if self.c.chance(50) { R8 } else { R9 };
                self.touch(base, 16, true);
                self.b.here(end);
                return;
            }
        }
        self.touch(R8, 16, true);
        self.b.here(end);
    }

    /// Addresses in maps, in atomics, as numbers: what a privileged program may do, and what nobody may.
    pub(super) fn pointer_leak(&mut self) {
        let end = self.b.label();
        self.table(64);
        let secret = self.c.reg(&[R6, R10, R8]);
        match self.c.below(6) {
            0 => self.b.store(Size::DW, R8, 0, secret),
            1 => self.b.store(Size::W, R8, 0, secret),
            2 => {
                self.b.mov(R3, secret);
                self.b.atomic(W64, skep_isa::AtomicOp::Add { fetch: false }, R8, 0, R3);
            }
            3 => {
                self.b.mov(R3, secret);
                self.b.alu(W32, AluOp::Mov, R3, Source::Reg(R3));
                self.b.store(Size::DW, R8, 8, R3);
            }
            4 => {
                let at = self.room(8);
                self.b.store(Size::DW, R10, at, secret);
                self.stack_address(R2, at);
                let map = self.b.map_of(MapDef::new("m", MapType::Hash, 8, 8, 8));
                self.b.map(R1, map);
                self.b.helper("map_lookup_elem");
            }
            _ => {
                self.b.mov(R3, secret);
                let form = self.c.pick_ref(&SignExtend::ALL).copied().unwrap_or(SignExtend::S32To64);
                self.b.movsx(form, R3, R3);
            }
        }
        self.b.here(end);
    }

    /// Paths that meet with different numbers in a register that is an address part later: they must not be taken for
    /// the same.
    pub(super) fn precise_branches(&mut self) {
        let end = self.b.label();
        self.table(64);
        let count = 1 + self.c.below(4);
        let fits = !self.fault("one of the numbers is too large");
        let odd = self.c.below(count + 1);
        self.b.mov_k(R9, self.c.below(16) as i32);
        for index in 0..count {
            let skip = self.b.label();
            self.some_branch(R7, skip);
            let large = !fits && index == odd;
            let value = if large { 61 + self.c.below(8) as i32 } else { self.c.below(16) as i32 };
            match self.c.below(3) {
                0 => self.b.mov_k(R9, value),
                1 => self.b.alu_k(AluOp::Add, R9, value / 2),
                _ => {
                    self.b.mov_k(R3, value);
                    self.b.mov(R9, R3);
                }
            }
            self.b.here(skip);
            self.step(R7, R7);
        }
        if self.c.chance(40) {
            self.b.mov(R3, R9);
            self.b.add(R3, R9);
            self.read_at(R3, 0);
        } else {
            self.read_at(R9, 0);
        }
        self.b.here(end);
    }

    /// The same by way of the stack.
    pub(super) fn precise_spill(&mut self) {
        let end = self.b.label();
        self.table(64);
        let at = self.room(8);
        let size = if self.c.chance(70) { Size::DW } else { Size::W };
        let large = if self.fault("one of the numbers is too large") { 64 } else { 32 };
        let join = self.b.label();
        let other = self.b.label();
        self.some_branch(R7, other);
        self.b.mov_k(R3, large);
        self.b.store(size, R10, at, R3);
        self.b.goto(join);
        self.b.here(other);
        if self.c.chance(50) {
            self.b.store_k(size, R10, at, 8);
        } else {
            self.b.mov_k(R3, 8);
            self.b.store(size, R10, at, R3);
        }
        self.b.here(join);
        if self.c.chance(50) {
            self.some_branch(R7, end);
        }
        if self.c.chance(50) {
            // A call in between, which has nothing to do with it.
            self.b.helper(if self.options.repeatable { "get_smp_processor_id" } else { "ktime_get_ns" });
        }
        self.b.load(size, R9, R10, at);
        self.read_at(R9, 0);
        self.b.here(end);
    }

    /// The same by way of a function: its result is the index, or its argument.
    pub(super) fn precise_call(&mut self) {
        let end = self.b.label();
        self.table(64);
        let func = self.b.declare("choose", false, vec![Param::Long, Param::Long]);
        let large = if self.fault("one of the numbers is too large") { 70 } else { 48 };
        let skip = self.b.label();
        self.b.mov_k(R1, 5);
        self.some_branch(R7, skip);
        self.b.mov_k(R1, large);
        self.b.here(skip);
        self.b.mov(R2, R7);
        self.b.call(func);
        self.b.mov(R9, R0);
        self.read_at(R9, 0);
        let way = self.c.below(4);
        self.later.push(super::flow::Later {
            func,
            write: Box::new(move |g| {
                let other = g.b.label();
                match way {
                    0 => g.b.mov(R0, R1),
                    1 => {
                        g.b.mov(R0, R1);
                        g.some_jump(R2, other);
                        g.b.mov_k(R0, 7);
                        g.b.here(other);
                    }
                    2 => {
                        g.b.mov(R0, R2);
                        g.b.jump(JmpOp::Gt, R0, R1, other);
                        g.b.exit();
                        g.b.here(other);
                        g.b.mov(R0, R1);
                    }
                    _ => {
                        g.b.store(Size::DW, R10, -8, R1);
                        g.b.load(Size::DW, R0, R10, -8);
                    }
                }
                g.b.exit();
            }),
        });
        self.b.here(end);
    }

    /// A branch on a number, for functions, where r7 is not what it is in the entry function.
    pub(super) fn some_jump(&mut self, reg: Reg, to: Label) {
        let op = self.c.pick_ref(&JmpOp::ALL).copied().unwrap_or(JmpOp::Eq);
        let width = if self.c.chance(35) { W32 } else { W64 };
        let imm = self.c.imm32();
        self.b.branch(width, op, reg, Source::Imm(imm), to);
    }

    /// r1 to r5 that hold something, for a call that takes them as numbers.
    pub(super) fn numbers_for_call(&mut self, count: usize) {
        for reg in [R1, R2, R3, R4, R5].into_iter().take(count) {
            if self.c.chance(50) {
                self.b.mov(reg, R7);
            } else {
                let imm = self.c.imm32();
                self.b.mov_k(reg, imm);
            }
        }
    }
}
