//! Fragments about instructions that have rules of their own: atomics on all kinds of memory, ordered loads and stores,
//! packet loads of old, arithmetic by constants that are not allowed, long jumps.

use skep_abi::MapType;
use skep_isa::{AluOp, AtomicOp, Insn, JmpOp, NarrowSize, Reg, Size, Source};

use super::Gen;
use super::{R0, R1, R2, R3, R4, R5, R6, R7, R10, W32, W64};
use crate::build::Label;
use crate::program::MapDef;
use Reg::R8;

impl Gen<'_, '_, '_> {
    /// r8 = the address of some memory of at least 16 bytes.
    fn some_memory(&mut self, bail: Label) {
        match self.c.weighted(&[16, 16, 8, 2, 1]) {
            0 => {
                let at = self.room(16);
                self.fill(at, 16);
                self.stack_address(R8, at);
            }
            1 => {
                let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, 64, 1));
                self.b.map_value(R8, map, 8);
            }
            2 => {
                let map = self.b.map_of(MapDef::new("m", MapType::Hash, 4, 16, 8));
                self.lookup(map, 4);
                self.null_check(R0, bail);
                self.b.mov(R8, R0);
            }
            3 => match self.packet_fields("data") {
                Some((data, end, size)) => {
                    self.b.load(size, R8, R6, data);
                    self.b.load(size, R3, R6, end);
                    self.b.mov(R4, R8);
                    self.b.alu_k(AluOp::Add, R4, 16);
                    self.b.jump(JmpOp::Gt, R4, R3, bail);
                }
                None => self.b.mov(R8, R6),
            },
            _ => self.b.mov(R8, R6),
        }
    }

    fn offset_for(&mut self, bytes: i16) -> i16 {
        let off = bytes * self.c.below(usize::from((16 / bytes).unsigned_abs())) as i16;
        if self.fault("an access that is not aligned") { (off + 1).min(16 - bytes) } else { off }
    }

    pub(super) fn atomic_any(&mut self) {
        let end = self.b.label();
        self.some_memory(end);
        for _ in 0..1 + self.c.below(3) {
            let op = self.c.pick_ref(&AtomicOp::ALL).copied().unwrap_or(AtomicOp::Xchg);
            let width = if self.c.chance(40) { W32 } else { W64 };
            let off = self.offset_for(if width == W32 { 4 } else { 8 });
            self.b.mov(R3, R7);
            if op == AtomicOp::CmpXchg && !self.fault("r0 is not set") {
                self.b.mov_k(R0, 1);
            }
            let base = if self.fault("another kind of memory") { R6 } else { R8 };
            self.b.atomic(width, op, base, off, R3);
            match op.fetches_into(R3) {
                Some(reg) if self.c.chance(50) => self.b.mov(R7, reg),
                _ => {}
            }
        }
        self.b.here(end);
    }

    /// Numbers on the stack that atomics change: what was known of them is not known any more.
    pub(super) fn atomic_known(&mut self) {
        let end = self.b.label();
        let at = self.room(8);
        self.b.store_k(Size::DW, R10, at, 8);
        let op = self.c.pick_ref(&AtomicOp::ALL).copied().unwrap_or(AtomicOp::Xchg);
        let width = if self.c.chance(40) { W32 } else { W64 };
        self.b.mov_k(R3, 4);
        self.b.mov_k(R0, 8);
        self.b.atomic(width, op, R10, at, R3);
        let from = self.c.reg(&[R3, R0]);
        if self.c.chance(50) {
            self.b.load(Size::DW, R8, R10, at);
        } else {
            self.b.mov(R8, from);
        }
        if self.c.chance(60) {
            self.b.alu_k(AluOp::And, R8, 31);
        }
        self.use_as_index(R8, 32, end);
        self.b.here(end);
    }

    pub(super) fn ordered(&mut self) {
        let end = self.b.label();
        self.some_memory(end);
        for _ in 0..1 + self.c.below(3) {
            let size = self.size();
            let off = self.offset_for(size.bytes().into());
            if self.c.chance(50) {
                self.b.emit(Insn::LoadAcquire { size, dst: R3, base: R8, off });
                self.b.mov(R7, R3);
            } else {
                self.b.emit(Insn::StoreRelease { size, base: R8, off, src: R7 });
            }
        }
        self.b.here(end);
    }

    pub(super) fn packet_loads(&mut self) {
        use skep_abi::ProgramType as P;
        if !matches!(self.site.prog_type, P::SocketFilter | P::SchedCls | P::SchedAct) && self.c.chance(95) {
            return self.atomic_known();
        }
        let size = self.c.pick_ref(&NarrowSize::ALL).copied().unwrap_or(NarrowSize::B);
        let off = self.c.pick(&[0, 14, 23, -0x10_0000, -0x20_0000, 1 << 20]);
        if self.fault("not the context") {
            self.b.mov(R6, R10);
        }
        if self.c.chance(50) {
            self.b.emit(Insn::LoadAbs { size, off });
        } else {
            self.b.mov(R3, R7);
            self.b.emit(Insn::LoadInd { size, src: R3, off });
        }
        if self.fault("a register that a call has spoilt") {
            self.b.mov(R7, R3);
        }
        self.b.mov(R7, R0);
    }

    /// Shifts by too much, divisions by zero: refused where the amount is a constant.
    pub(super) fn constants(&mut self) {
        let end = self.b.label();
        let (width, bits) = if self.c.chance(50) { (W32, 32) } else { (W64, 64) };
        self.b.mov(R3, R7);
        match self.c.below(4) {
            0 => {
                let op = self.c.pick_ref(&[AluOp::Lsh, AluOp::Rsh, AluOp::Arsh]).copied().unwrap_or(AluOp::Lsh);
                let by = if self.fault("a shift by too much") { bits } else { bits - 1 };
                self.b.alu(width, op, R3, Source::Imm(by));
            }
            1 => {
                let op = self.c.pick_ref(&[AluOp::Div, AluOp::Sdiv, AluOp::Mod, AluOp::Smod]).copied();
                let by = if self.fault("a division by zero") { 0 } else { self.c.pick(&[-1, 7, i32::MIN]) };
                self.b.alu(width, op.unwrap_or(AluOp::Div), R3, Source::Imm(by));
            }
            2 => {
                self.b.mov_k(R4, self.c.between(0, 70) as i32);
                let op = self.c.pick_ref(&AluOp::ALL).copied().unwrap_or(AluOp::Lsh);
                self.b.alu(width, op, R3, Source::Reg(R4));
            }
            _ => {
                let skip = self.b.label();
                self.some_branch(R3, skip);
                self.b.goto_long(end);
                self.b.here(skip);
            }
        }
        if self.c.chance(80) {
            self.bound(R3, 31, end);
        }
        self.use_as_index(R3, 32, end);
        for reg in [R1, R2, R5] {
            self.b.mov_k(reg, 0);
        }
        self.b.here(end);
    }
}
