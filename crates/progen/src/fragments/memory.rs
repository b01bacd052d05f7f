//! Fragments about memory: packets, map values, the stack.

use skep_abi::{MapType, ProgramType, context};
use skep_isa::{AluOp, AtomicOp, JmpOp, Reg, Size, Source};

use super::Gen;
use super::{R0, R1, R2, R3, R4, R5, R6, R7, R10, W32, W64};
use crate::program::MapDef;
use Reg::{R8, R9};

/// Maps whose elements are looked up by key.
const LOOKED_UP: [MapType; 6] =
    [MapType::Hash, MapType::Array, MapType::LruHash, MapType::PercpuArray, MapType::PercpuHash, MapType::Array];

impl Gen<'_, '_, '_> {
    /// A map that is looked up by key: its index, key size and value size.
    pub(super) fn some_map(&mut self) -> (usize, i16, i16) {
        let kind = self.c.pick_ref(&LOOKED_UP).copied().unwrap_or(MapType::Array);
        let value: i16 = self.c.pick(&[8, 4, 16, 32, 64, 12, 1, 100]);
        let key: i16 = match kind {
            MapType::Array | MapType::PercpuArray => 4,
            _ => self.c.pick(&[4, 8, 16, 6]),
        };
        let map = self.b.map_of(MapDef::new("m", kind, key as u32, value as u32, 8));
        (map, key, value)
    }

    /// A lookup: the value or null in r0. The key stands on the stack; its offset is returned.
    pub(super) fn lookup(&mut self, map: usize, key: i16) -> i16 {
        let at = self.room(key);
        self.fill(at, key);
        self.stack_address(R2, at);
        self.b.map(R1, map);
        self.b.helper("map_lookup_elem");
        at
    }

    /// Leaves for `to` if the register is null; or not.
    pub(super) fn null_check(&mut self, reg: Reg, to: crate::build::Label) {
        if self.fault("no check for null") {
            return;
        }
        match self.c.weighted(&[8, 1, 16]) {
            0 => {
                let there = self.b.label();
                self.b.jump_k(JmpOp::Ne, reg, 0, there);
                self.b.goto(to);
                self.b.here(there);
            }
            1 => {
                // Only a comparison with a constant tells the kernel anything.
                self.b.mov_k(R5, 0);
                self.b.jump(JmpOp::Eq, reg, R5, to);
            }
            _ => self.b.jump_k(JmpOp::Eq, reg, 0, to),
        }
    }

    pub(super) fn map_lookup(&mut self) {
        let (map, key, value) = self.some_map();
        self.lookup(map, key);
        let end = self.b.label();
        let base = match self.c.below(3) {
            0 => {
                // The check is of a copy.
                self.b.mov(R8, R0);
                self.null_check(R0, end);
                R8
            }
            1 => {
                self.null_check(R0, end);
                self.b.mov(R8, R0);
                R8
            }
            _ => {
                self.null_check(R0, end);
                R0
            }
        };
        for _ in 0..1 + self.c.below(3) {
            self.touch(base, value, true);
        }
        if value >= 8 && self.c.chance(30) {
            let op = self.c.pick_ref(&AtomicOp::ALL).copied().unwrap_or(AtomicOp::Xchg);
            self.b.mov(R3, R7);
            if op == AtomicOp::CmpXchg {
                if base == R0 {
                    self.b.here(end);
                    return;
                }
                self.b.mov_k(R0, 0);
            }
            let width = if self.c.chance(50) { W32 } else { W64 };
            self.b.atomic(width, op, base, 0, R3);
        }
        self.b.here(end);
    }

    pub(super) fn map_change(&mut self) {
        let (map, key, value) = self.some_map();
        let key_at = self.room(key);
        self.fill(key_at, key);
        let end = self.b.label();
        if self.c.chance(25) {
            self.stack_address(R2, key_at);
            self.b.map(R1, map);
            self.b.helper("map_delete_elem");
        } else {
            let value_at = self.room(value);
            self.fill(value_at, value);
            self.stack_address(R3, value_at);
            self.stack_address(R2, key_at);
            self.b.map(R1, map);
            let flags = self.c.below(3) as i32;
            if self.fault("an argument is missing") {
                // r4 has never been set, or was lost by a call.
            } else {
                self.b.mov_k(R4, flags);
            }
            self.b.helper("map_update_elem");
        }
        if self.c.chance(40) {
            self.some_branch(R0, end);
            self.b.mov(R7, R0);
        }
        self.b.here(end);
    }

    /// A variable of a program: the address of a place in an array's first value.
    pub(super) fn map_direct(&mut self) {
        let value: i16 = self.c.pick(&[16, 64, 8, 40]);
        let map = self.b.map_of(MapDef::new("data", MapType::Array, 4, value as u32, 1));
        let off = self.c.below(value as usize) as i16 & !7;
        let off = if self.fault("an address outside of the value") { value } else { off };
        self.b.map_value(R8, map, off as u32);
        for _ in 0..1 + self.c.below(3) {
            self.touch(R8, value - off, true);
        }
    }

    pub(super) fn map_queue(&mut self) {
        let kind = self.c.pick_ref(&[MapType::Queue, MapType::Stack, MapType::BloomFilter]).copied();
        let kind = kind.unwrap_or(MapType::Queue);
        let size: i16 = self.c.pick(&[8, 4, 16]);
        let map = self.b.map_of(MapDef::new("q", kind, 0, size as u32, 8));
        let at = self.room(size);
        let push = self.c.chance(50);
        if push || kind == MapType::BloomFilter || self.c.chance(20) {
            self.fill(at, size);
        }
        self.stack_address(R2, at);
        self.b.map(R1, map);
        if push {
            let flags = self.c.below(3) as i32;
            self.b.mov_k(R3, flags);
            self.b.helper("map_push_elem");
        } else {
            let pop = self.c.chance(50) && (kind != MapType::BloomFilter || self.fault("pop from a bloom filter"));
            self.b.helper(if pop { "map_pop_elem" } else { "map_peek_elem" });
            if self.c.chance(70) {
                self.b.load(Size::W, R7, R10, at);
            }
        }
    }

    pub(super) fn map_in_map(&mut self) {
        let value: i16 = self.c.pick(&[8, 16, 64]);
        let kind = self.c.pick_ref(&[MapType::Hash, MapType::Array]).copied().unwrap_or(MapType::Hash);
        let inner = MapDef::new("inner", kind, 4, value as u32, 8);
        let outer = if self.c.chance(50) { MapType::ArrayOfMaps } else { MapType::HashOfMaps };
        let mut def = MapDef::new("outer", outer, 4, 4, 4);
        def.inner = Some(Box::new(inner));
        let map = self.b.map_of(def);
        let end = self.b.label();
        let at = self.lookup(map, 4);
        self.null_check(R0, end);
        if self.fault("a map is read as memory") {
            self.b.load(Size::W, R1, R0, 0);
        }
        self.b.mov(R1, R0);
        self.stack_address(R2, at);
        self.b.helper("map_lookup_elem");
        self.null_check(R0, end);
        self.touch(R0, value, true);
        self.b.here(end);
    }

    /// An access to a map value at an index that is only known when the program runs.
    pub(super) fn index_value(&mut self) {
        let value: i16 = self.c.pick(&[64, 256, 32, 100, 1000]);
        let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, value as u32, 1));
        let end = self.b.label();
        if self.c.chance(30) {
            self.b.map_value(R8, map, 0);
        } else {
            self.lookup(map, 4);
            self.null_check(R0, end);
            self.b.mov(R8, R0);
        }
        self.number(R9);
        self.indexed(R8, R9, value, end, true);
        self.b.here(end);
    }

    /// `*(base + index)` with the index bounded so that it fits in `len` bytes; the index register is lost.
    pub(super) fn indexed(&mut self, base: Reg, index: Reg, len: i16, bail: crate::build::Label, write: bool) {
        // What is on the stack must be aligned.
        let size = if base == R8 && len <= 64 && self.c.chance(50) { Size::B } else { self.size() };
        let bytes = i16::from(size.bytes());
        let scale = if self.c.chance(40) { self.c.pick(&[1u32, 2, 3]) } else { 0 };
        let off: i16 = if self.c.chance(40) { self.c.below(8) as i16 } else { 0 };
        let most = (i32::from(len) - i32::from(bytes) - i32::from(off)).max(0) >> scale;
        self.bound(index, most as u32, bail);
        if scale > 0 {
            if self.c.chance(50) {
                self.b.alu_k(AluOp::Lsh, index, scale as i32);
            } else {
                self.b.alu_k(AluOp::Mul, index, 1 << scale);
            }
        }
        match self.c.below(4) {
            0 => {
                // The number is added to a copy, or the address to the number.
                self.b.add(index, base);
                self.access(index, off, size, write);
            }
            1 => {
                self.b.mov(R4, base);
                self.b.alu_k(AluOp::Add, R4, i32::from(off));
                self.b.add(R4, index);
                self.access(R4, 0, size, write);
            }
            2 if off > 0 => {
                self.b.mov(R4, base);
                self.b.add(R4, index);
                self.b.alu_k(AluOp::Add, R4, 8);
                self.access(R4, off - 8, size, write);
            }
            _ => {
                self.b.mov(R4, base);
                self.b.add(R4, index);
                self.access(R4, off, size, write);
            }
        }
    }

    fn access(&mut self, base: Reg, off: i16, size: Size, write: bool) {
        if write && self.c.chance(50) {
            self.b.store_k(size, base, off, 1);
        } else {
            let dst = self.spare(&[base]);
            self.b.load(size, dst, base, off);
        }
    }

    pub(super) fn index_stack(&mut self) {
        let len: i16 = self.c.pick(&[32, 16, 64, 8]);
        let at = self.room(len);
        if !self.c.chance(20) {
            self.fill(at, len);
        }
        let end = self.b.label();
        self.stack_address(R8, at);
        self.number(R9);
        self.indexed(R8, R9, len, end, true);
        self.b.here(end);
        if self.c.chance(30) {
            self.b.load(Size::DW, R1, R10, at);
        }
    }

    pub(super) fn index_rodata(&mut self) {
        let len: i16 = self.c.pick(&[16, 32, 64]);
        let mut def = MapDef::new(".rodata", MapType::Array, 4, len as u32, 1);
        def.flags = skep_abi::flags::map_create::BPF_F_RDONLY_PROG as u32;
        def.rodata = Some((0..len as u8).map(|i| i.wrapping_mul(7) & 15).collect());
        let map = self.b.map_of(def);
        let end = self.b.label();
        if self.c.chance(50) {
            // A number that is known, as the map is frozen: it may be an index without a check.
            let off = self.c.below(len as usize) as u32 & !3;
            self.b.map_value(R1, map, off);
            let size = self.c.pick_ref(&[Size::B, Size::W, Size::H]).copied().unwrap_or(Size::B);
            self.b.load(size, R9, R1, 0);
            let room = self.room(16);
            self.fill(room, 16);
            self.stack_address(R4, room);
            self.b.add(R4, R9);
            self.b.load(Size::B, R1, R4, 0);
        } else {
            self.b.map_value(R8, map, 0);
            self.number(R9);
            let write = self.fault("a write to read-only data");
            self.indexed(R8, R9, len, end, write);
        }
        self.b.here(end);
    }

    /// The offsets of the packet's start and end in the context; `None` for types that have no packet.
    pub(super) fn packet_fields(&self, start: &str) -> Option<(i16, i16, Size)> {
        let access = context::access(self.site.prog_type, self.site.attach_type)?;
        let last = if start == "data_meta" { "data" } else { "data_end" };
        access.of(start).filter(|f| f.reads != 0)?;
        access.of(last).filter(|f| f.reads != 0)?;
        let (first, last) = (access.context.field(start)?, access.context.field(last)?);
        let size = if first.size == 8 { Size::DW } else { Size::W };
        Some((first.offset as i16, last.offset as i16, size))
    }

    fn packet_writes(&self) -> bool {
        use ProgramType as P;
        matches!(self.site.prog_type, P::Xdp | P::SchedCls | P::SchedAct | P::SkSkb | P::LwtXmit | P::SkMsg)
    }

    /// r8 = start, r9 = end of the packet.
    fn packet(&mut self) -> bool {
        let Some((data, end, size)) = self.packet_fields("data") else {
            self.scalar_chain();
            return false;
        };
        self.b.load(size, R8, R6, data);
        self.b.load(size, R9, R6, end);
        true
    }

    /// Leaves for `bail` unless `n` bytes from `reg` are before the end in `end`. Uses r4.
    fn packet_check(&mut self, reg: Reg, n: i16, end: Reg, bail: crate::build::Label) {
        if self.fault("no check against the packet's end") {
            return;
        }
        self.b.mov(R4, reg);
        self.b.alu_k(AluOp::Add, R4, i32::from(n));
        let fine = self.b.label();
        match self.c.below(7) {
            0 | 1 => self.b.jump(JmpOp::Gt, R4, end, bail),
            2 => self.b.jump(JmpOp::Lt, end, R4, bail),
            3 => {
                self.b.jump(JmpOp::Le, R4, end, fine);
                self.b.goto(bail);
                self.b.here(fine);
            }
            4 => {
                self.b.jump(JmpOp::Ge, end, R4, fine);
                self.b.goto(bail);
                self.b.here(fine);
            }
            // One byte more is known here than with `>`.
            5 => self.b.jump(JmpOp::Ge, R4, end, bail),
            _ => self.b.jump(JmpOp::Le, end, R4, bail),
        }
    }

    pub(super) fn packet_header(&mut self) {
        if !self.packet() {
            return;
        }
        let end = self.b.label();
        let n: i16 = self.c.pick(&[14, 34, 54, 20, 8, 1, 42]);
        self.packet_check(R8, n, R9, end);
        if self.c.chance(20) {
            // By way of the stack.
            let at = self.room(8);
            self.b.store(Size::DW, R10, at, R8);
            self.b.load(Size::DW, R8, R10, at);
        }
        let write = self.packet_writes() || self.fault("a write to a packet that is only read");
        for _ in 0..1 + self.c.below(4) {
            self.touch(R8, n, write);
        }
        if self.c.chance(25) {
            // What changes the packet makes its addresses worthless.
            let helper = if self.site.prog_type == ProgramType::Xdp { "xdp_adjust_head" } else { "skb_pull_data" };
            if self.may_call(helper) {
                self.b.mov(R1, R6);
                self.b.mov_k(R2, 0);
                self.b.helper(helper);
                if !self.fault("addresses in a changed packet") {
                    self.packet();
                    self.packet_check(R8, n, R9, end);
                }
                self.touch(R8, n, write);
            }
        }
        self.b.here(end);
    }

    /// A header whose length stands in the packet.
    pub(super) fn packet_variable(&mut self) {
        if !self.packet() {
            return;
        }
        let end = self.b.label();
        let n: i16 = 20;
        self.packet_check(R8, n, R9, end);
        let at = self.c.below(n as usize) as i16;
        let wide = self.c.chance(30);
        self.b.load(if wide { Size::W } else { Size::B }, R3, R8, if wide { at & 12 } else { at });
        match self.c.below(4) {
            0 => {
                self.b.alu_k(AluOp::And, R3, 15);
                self.b.alu_k(AluOp::Lsh, R3, 2);
            }
            1 => self.bound(R3, 1500, end),
            2 => {
                self.b.alu32_k(AluOp::And, R3, 0xffff);
                if wide && self.c.chance(30) {
                    self.b.alu_k(AluOp::Sub, R3, 1);
                }
            }
            _ => self.b.alu_k(AluOp::And, R3, 0x3f),
        }
        self.b.add(R8, R3);
        let m: i16 = self.c.pick(&[8, 20, 1, 4]);
        self.packet_check(R8, m, R9, end);
        let write = self.packet_writes();
        for _ in 0..1 + self.c.below(2) {
            self.touch(R8, m, write);
        }
        self.b.here(end);
    }

    /// Options one after the other, a bounded number of them.
    pub(super) fn packet_options(&mut self) {
        if !self.packet() {
            return;
        }
        let end = self.b.label();
        self.b.alu_k(AluOp::Add, R8, 20);
        let rounds = 1 + self.c.below(6) as i32;
        self.b.mov_k(R5, 0);
        let top = self.b.label_here();
        self.packet_check(R8, 2, R9, end);
        self.b.load(Size::B, R2, R8, 0);
        self.b.jump_k(JmpOp::Eq, R2, 0, end);
        self.b.load(Size::B, R3, R8, 1);
        if self.c.chance(50) {
            self.b.alu_k(AluOp::And, R3, 31);
        }
        self.b.add(R8, R3);
        self.b.alu_k(AluOp::Add, R5, 1);
        if !self.fault("a loop without an end") {
            self.b.jump_k(JmpOp::Lt, R5, rounds, top);
        } else {
            self.b.goto(top);
        }
        self.b.here(end);
    }

    pub(super) fn packet_meta(&mut self) {
        let Some((meta, data, size)) = self.packet_fields("data_meta") else {
            return self.packet_header();
        };
        let end = self.b.label();
        self.b.load(size, R8, R6, meta);
        self.b.load(size, R9, R6, data);
        self.packet_check(R8, 8, R9, end);
        self.touch(R8, 8, true);
        self.b.here(end);
    }

    /// Bytes written and read in pieces of other sizes.
    pub(super) fn stack_bytes(&mut self) {
        let at = self.room(32);
        let mut written = [false; 32];
        for _ in 0..2 + self.c.below(6) {
            let size = self.size();
            let bytes = usize::from(size.bytes());
            let off = self.c.below(32 / bytes) * bytes;
            let off = if self.fault("an access that is not aligned") { off.saturating_sub(1) } else { off };
            let place = at + off as i16;
            if self.c.chance(60) {
                if self.c.chance(50) {
                    self.b.store_k(size, R10, place, 5);
                } else {
                    self.b.store(size, R10, place, R7);
                }
                written.iter_mut().skip(off).take(bytes).for_each(|byte| *byte = true);
            } else if written.iter().skip(off).take(bytes).all(|byte| *byte) || self.c.chance(20) {
                let dst = self.spare(&[]);
                self.b.load(size, dst, R10, place);
            }
        }
        if self.fault("an access beyond the stack") {
            let place = self.c.pick(&[-516i16, 0, 8, -520]);
            self.b.store_k(Size::W, R10, place, 1);
        }
    }

    pub(super) fn spill_scalar(&mut self) {
        let end = self.b.label();
        let at = self.room(16);
        let size = self.size();
        let off = at + if size == Size::DW { 0 } else { self.c.pick(&[0i16, 4]) };
        self.number(R8);
        if self.c.chance(60) {
            self.bound(R8, 31, end);
        } else {
            let imm = self.c.imm32();
            self.b.mov_k(R8, imm);
        }
        self.b.store(size, R10, off, R8);
        if self.c.chance(30) {
            self.some_branch(R8, end);
        }
        match self.c.below(6) {
            // Another size than was stored.
            0 => {
                let other = self.size();
                self.b.load(other, R9, R10, off & !7);
            }
            // A part is overwritten.
            1 => {
                self.b.store_k(Size::B, R10, off, 1);
                self.b.load(size, R9, R10, off);
            }
            _ => self.b.load(size, R9, R10, off),
        }
        self.use_as_index(R9, 32, end);
        self.b.here(end);
    }

    /// Reads from 32 bytes of stack at the number, without a check of it.
    pub(super) fn use_as_index(&mut self, index: Reg, len: i16, bail: crate::build::Label) {
        if self.c.chance(35) {
            self.bound(index, (len - 1) as u32, bail);
        }
        let room = self.room(len);
        for slot in 0..len / 8 {
            self.b.store_k(Size::DW, R10, room + 8 * slot, 0);
        }
        self.stack_address(R4, room);
        self.b.add(R4, index);
        self.b.load(Size::B, R1, R4, 0);
    }

    pub(super) fn spill_pointer(&mut self) {
        let at = self.room(24);
        let end = self.b.label();
        let (kind, len) = match self.c.below(4) {
            0 => ("context", 4),
            1 => ("stack", 16),
            2 => ("value", 16),
            _ => ("value or null", 16),
        };
        match kind {
            "context" => self.b.mov(R8, R6),
            "stack" => {
                let room = self.room(16);
                self.fill(room, 16);
                self.stack_address(R8, room);
            }
            _ => {
                let map = self.b.map_of(MapDef::new("m", MapType::Hash, 4, 16, 8));
                self.lookup(map, 4);
                if kind == "value" {
                    self.null_check(R0, end);
                }
                self.b.mov(R8, R0);
            }
        }
        self.b.store(Size::DW, R10, at, R8);
        if kind == "value or null" {
            // The check is of the register; what is on the stack is the same.
            self.null_check(R8, end);
        }
        if self.fault("a part of a pointer on the stack is overwritten") {
            let size = self.c.pick_ref(&[Size::B, Size::W, Size::H]).copied().unwrap_or(Size::B);
            self.b.store_k(size, R10, at, 0);
        }
        if self.fault("a part of a pointer is loaded") {
            self.b.load(Size::W, R9, R10, at);
            self.b.mov(R7, R9);
        }
        self.b.load(Size::DW, R9, R10, at);
        if kind == "context" {
            self.b.mov(R6, R9);
        } else {
            self.touch(R9, len, true);
        }
        self.b.here(end);
    }

    pub(super) fn spill_mixed(&mut self) {
        let at = self.room(32);
        let end = self.b.label();
        // Several numbers at once; some are checked after they were stored.
        for slot in 0..3 {
            self.b.mov(R1, R7);
            let imm = self.c.imm32();
            self.b.alu_k(AluOp::Add, R1, imm);
            let size = if self.c.chance(70) { Size::DW } else { Size::W };
            self.b.store(size, R10, at + 8 * slot, R1);
            if slot == 1 {
                let imm = self.c.below(64) as i32;
                self.b.jump_k(JmpOp::Gt, R1, imm, end);
            }
        }
        let slot = self.c.below(3) as i16;
        self.b.load(Size::W, R9, R10, at + 8 * slot);
        if self.c.chance(30) {
            self.b.store(Size::DW, R10, at + 24, R9);
            self.b.load(Size::DW, R9, R10, at + 24);
        }
        self.b.alu(W32, AluOp::And, R9, Source::Imm(63));
        self.use_as_index(R9, 64, end);
        self.b.here(end);
    }
}
