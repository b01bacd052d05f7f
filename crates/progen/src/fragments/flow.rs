//! Fragments about the order of things: loops, functions, callbacks, iterators, tail calls.

use skep_abi::MapType;
use skep_isa::{AluOp, JmpOp, Reg, Size, Source};

use super::Gen;
use super::{R0, R1, R2, R3, R4, R5, R6, R7, R10, W32, W64};
use crate::build::FuncId;
use crate::program::{MapDef, Param};
use Reg::{R8, R9};

/// A function that is written behind the entry function.
pub(crate) struct Later {
    pub(crate) func: FuncId,
    pub(crate) write: Body,
}

/// Writes the body of a function.
pub(crate) type Body = Box<dyn FnOnce(&mut Gen<'_, '_, '_>)>;

impl Gen<'_, '_, '_> {
    /// Writes the functions that were called; they may call more.
    pub(super) fn functions(&mut self) {
        while !self.later.is_empty() {
            let Later { func, write } = self.later.remove(0);
            self.b.begin(func);
            self.stack = 0;
            // As in the entry function it is a number; what r6 to r9 were belongs to the caller.
            self.b.mov_k(R7, 1);
            write(self);
        }
    }

    pub(super) fn loop_constant(&mut self) {
        let rounds = self.c.pick(&[3, 10, 1, 40, 20]);
        let top = {
            self.b.mov_k(R8, 0);
            self.b.mov_k(R9, 0);
            self.b.label_here()
        };
        for _ in 0..1 + self.c.below(2) {
            self.step(R9, R7);
        }
        if self.c.chance(30) {
            let skip = self.b.label();
            self.some_branch(R9, skip);
            self.b.alu_k(AluOp::Add, R9, 3);
            self.b.here(skip);
        }
        let rare = self.c.chance(25);
        let by = if rare && self.fault("a loop that does not come nearer to its end") { 0 } else { 1 };
        self.b.alu_k(AluOp::Add, R8, by);
        let width = if self.c.chance(30) { W32 } else { W64 };
        let op = self.c.pick_ref(&[JmpOp::Lt, JmpOp::Ne, JmpOp::Slt, JmpOp::Le]).copied().unwrap_or(JmpOp::Lt);
        self.b.branch(width, op, R8, Source::Imm(rounds), top);
    }

    /// As many rounds as a number says, and an array that is walked through.
    pub(super) fn loop_bounded(&mut self) {
        let end = self.b.label();
        let len: i16 = self.c.pick(&[16, 32, 8]);
        let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, len as u32, 1));
        self.b.map_value(R8, map, 0);
        self.number(R9);
        self.bound(R9, len as u32, end);
        self.b.mov_k(R3, 0);
        let top = self.b.label_here();
        let op = if self.fault("one round too many") { JmpOp::Gt } else { JmpOp::Ge };
        self.b.jump(op, R3, R9, end);
        self.b.mov(R4, R8);
        self.b.add(R4, R3);
        if self.c.chance(50) {
            self.b.load(Size::B, R1, R4, 0);
        } else {
            self.b.store_k(Size::B, R4, 0, 1);
        }
        self.b.alu_k(AluOp::Add, R3, 1);
        self.b.goto(top);
        self.b.here(end);
    }

    pub(super) fn loop_may_goto(&mut self) {
        let end = self.b.label();
        let table = self.c.chance(50);
        if table {
            let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, 64, 1));
            self.b.map_value(R8, map, 0);
        }
        self.b.mov_k(R9, 0);
        let top = self.b.label_here();
        let rare = self.c.chance(25);
        if !(rare && self.fault("a loop without an end")) {
            self.b.may_goto(end);
        }
        if table {
            if !self.fault("no check of an index that grows") {
                self.b.jump_k(JmpOp::Ge, R9, 64, end);
            }
            self.b.mov(R4, R8);
            self.b.add(R4, R9);
            self.b.load(Size::B, R1, R4, 0);
        } else {
            self.step(R7, R9);
        }
        self.b.alu_k(AluOp::Add, R9, 1);
        if self.c.chance(40) {
            self.some_branch(R7, end);
        }
        self.b.goto(top);
        self.b.here(end);
    }

    /// As many rounds as stands in a map.
    pub(super) fn loop_over_value(&mut self) {
        let end = self.b.label();
        let map = self.b.map_of(MapDef::new("m", MapType::Hash, 4, 16, 8));
        self.lookup(map, 4);
        self.null_check(R0, end);
        self.b.load(Size::W, R8, R0, 0);
        let max = self.c.pick(&[8u32, 16, 40]);
        self.bound(R8, max, end);
        self.b.mov_k(R9, 0);
        let top = self.b.label_here();
        self.b.jump(JmpOp::Ge, R9, R8, end);
        if self.c.chance(50) {
            self.lookup(map, 4);
            let skip = self.b.label();
            self.null_check(R0, skip);
            self.touch(R0, 16, true);
            self.b.here(skip);
        } else {
            self.step(R7, R9);
        }
        self.b.alu_k(AluOp::Add, R9, 1);
        self.b.goto(top);
        self.b.here(end);
    }

    pub(super) fn loop_nested(&mut self) {
        let outer = 2 + self.c.below(6) as i32;
        let inner = 2 + self.c.below(6) as i32;
        self.b.mov_k(R8, outer);
        let top = self.b.label_here();
        self.b.mov_k(R9, inner);
        let within = self.b.label_here();
        self.step(R7, R8);
        let leave = self.b.label();
        if self.c.chance(40) {
            self.some_branch(R7, leave);
        }
        self.b.alu_k(AluOp::Sub, R9, 1);
        self.b.jump_k(JmpOp::Ne, R9, 0, within);
        self.b.here(leave);
        self.b.alu_k(AluOp::Sub, R8, 1);
        self.b.jump_k(JmpOp::Sgt, R8, 0, top);
    }

    pub(super) fn call_numbers(&mut self) {
        let end = self.b.label();
        let count = self.c.below(6);
        let global = self.c.chance(40);
        let func = self.b.declare(if global { "global" } else { "static" }, global, vec![Param::Long; count]);
        self.numbers_for_call(count);
        if count > 0 && self.fault("an argument is missing") {
            // A call has made r1 to r5 unreadable.
            self.b.helper("ktime_get_ns");
        }
        self.b.call(func);
        if self.fault("a register that a call has spoilt") {
            self.b.mov(R7, R1);
        }
        self.some_branch(R0, end);
        if self.c.chance(60) {
            // What the function gives is in a range that a static one tells and a global one does not.
            self.b.mov(R9, R0);
            self.use_as_index(R9, 32, end);
        }
        let bounded = self.c.chance(60);
        self.later.push(Later {
            func,
            write: Box::new(move |g| {
                if g.options.repeatable && count == 0 {
                    g.input(R0);
                } else if !g.options.repeatable && (count == 0 || g.c.chance(20)) {
                    g.b.helper("get_prandom_u32");
                } else {
                    g.b.mov(R0, R1);
                    for _ in 0..g.c.below(4) {
                        let other = if count > 1 { R2 } else { R1 };
                        g.step(R0, other);
                    }
                }
                if bounded {
                    g.b.alu_k(AluOp::And, R0, 31);
                }
                if g.fault("a function without a result") {
                    g.b.emit(skep_isa::Insn::Jump { off: -1 });
                    return;
                }
                g.b.exit();
            }),
        });
        self.b.here(end);
    }

    /// Memory is passed to a function: of the stack, of a map.
    pub(super) fn call_memory(&mut self) {
        let end = self.b.label();
        let size: i16 = self.c.pick(&[16, 8, 32, 4]);
        let global = self.c.chance(60);
        let params = vec![Param::Mem(size as u32), Param::Long];
        let func = self.b.declare(if global { "global" } else { "static" }, global, params);
        let null = match self.c.below(4) {
            0 => {
                let map = self.b.map_of(MapDef::new("m", MapType::Hash, 4, size as u32, 8));
                self.lookup(map, 4);
                let checked = self.c.chance(60);
                if checked {
                    self.null_check(R0, end);
                }
                self.b.mov(R1, R0);
                !checked
            }
            1 => {
                let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, 2 * size as u32, 1));
                self.b.map_value(R1, map, 0);
                false
            }
            2 => {
                let room = self.room(size);
                if self.c.chance(80) {
                    self.fill(room, size);
                }
                self.stack_address(R1, room);
                false
            }
            _ => {
                let room = self.room(size);
                self.fill(room, size);
                let off = if self.fault("a part of the memory only") { 4 } else { 0 };
                self.stack_address(R1, room + off);
                false
            }
        };
        self.b.mov(R2, R7);
        self.b.call(func);
        self.b.mov(R7, R0);
        // A global function may be given null; so may a static one here.
        let checks = global || null || self.c.chance(50);
        self.later.push(Later {
            func,
            write: Box::new(move |g| {
                let null = g.b.label();
                g.b.mov_k(R0, 0);
                if checks && !g.fault("a parameter that may be null is used") {
                    g.b.jump_k(JmpOp::Eq, R1, 0, null);
                }
                let (load, store) = (g.c.chance(70), g.c.chance(50));
                let off = g.c.below(usize::from(size.unsigned_abs() - 3)) as i16 & !3;
                let off = if g.fault("an access beyond the end") { size } else { off };
                if load {
                    g.b.load(Size::W, R0, R1, off);
                }
                if store {
                    g.b.store(Size::W, R1, off, R2);
                }
                g.b.here(null);
                g.b.exit();
            }),
        });
        self.b.here(end);
    }

    /// The context is passed to a function, which uses it.
    pub(super) fn call_context(&mut self) {
        let global = self.c.chance(50);
        let func = self.b.declare(if global { "global" } else { "static" }, global, vec![Param::Ctx, Param::Long]);
        self.b.mov(R1, R6);
        self.b.mov(R2, R7);
        if self.fault("not the context") {
            self.b.mov(R1, R10);
        }
        self.b.call(func);
        self.b.mov(R7, R0);
        self.later.push(Later {
            func,
            write: Box::new(|g| {
                g.b.mov(R6, R1);
                g.b.mov(R7, R2);
                if g.options.repeatable || !g.context_number(R0) {
                    g.b.mov_k(R0, 1);
                }
                g.b.exit();
            }),
        });
    }

    /// Functions that call functions.
    pub(super) fn call_tree(&mut self) {
        let depth = self.c.pick(&[2usize, 3, 1, 5, 7, 8]);
        self.chain(depth, 16);
    }

    /// Functions that call functions, with much stack.
    pub(super) fn stack_depth(&mut self) {
        let depth = 1 + self.c.below(4);
        let each = self.c.pick(&[64i16, 128, 200, 100, 256, 496]);
        self.chain(depth, each);
    }

    fn chain(&mut self, depth: usize, stack: i16) {
        let func = self.b.declare("deep", false, vec![Param::Long]);
        self.b.mov(R1, R7);
        self.b.call(func);
        self.later.push(Later {
            func,
            write: Box::new(move |g| {
                let at = -stack.min(512) & !7;
                g.b.store(Size::DW, R10, at, R1);
                if depth > 1 {
                    if g.c.chance(30) {
                        g.b.mov(R7, R1);
                        g.chain(depth - 1, stack);
                    } else {
                        g.b.mov(R7, R1);
                        g.chain(depth - 1, stack / 2);
                    }
                }
                g.b.load(Size::DW, R0, R10, at);
                g.b.exit();
            }),
        });
    }

    /// `bpf_loop`
    pub(super) fn callback_loop(&mut self) {
        let end = self.b.label();
        let func = self.b.declare("each", false, vec![Param::Int, Param::Any]);
        let at = self.room(16);
        self.fill(at, 16);
        // None at all makes 6.18 warn of a bug of its own: the function is never looked at, and left out.
        let rounds = self.c.pick(&[1, 10, 1000, 1 << 23, 2]);
        if self.c.chance(30) {
            self.b.mov(R1, R7);
        } else {
            self.b.mov_k(R1, rounds);
        }
        self.b.func_address(R2, func);
        self.stack_address(R3, at);
        let flags = i32::from(self.fault("flags that there are not"));
        self.b.mov_k(R4, flags);
        self.b.helper("loop");
        self.some_branch(R0, end);
        self.b.load(Size::DW, R8, R10, at);
        let kind = self.c.below(5);
        if self.c.chance(if kind == 0 { 4 } else { 40 }) {
            // It was changed by the function, or never. A number that grows with every round takes the verifier through
            // all of them.
            self.use_as_index(R8, 32, end);
        }
        self.b.here(end);
        self.later.push(Later { func, write: Box::new(move |g| g.each(kind, R1, R2)) });
    }

    /// The body of a callback: `index` is a number, `data` 16 bytes of the caller's stack.
    fn each(&mut self, kind: usize, index: Reg, data: Reg) {
        let end = self.b.label();
        self.b.mov(R9, data);
        self.b.mov(R8, index);
        match kind {
            0 => {
                self.b.load(Size::DW, R3, R9, 0);
                self.b.alu_k(AluOp::Add, R3, 1);
                self.b.store(Size::DW, R9, 0, R3);
            }
            1 => {
                let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, 64, 1));
                self.b.map_value(R4, map, 0);
                self.b.mov(R3, R8);
                self.bound(R3, 63, end);
                self.b.add(R4, R3);
                self.b.store_k(Size::B, R4, 0, 1);
            }
            2 => {
                let map = self.b.map_of(MapDef::new("m", MapType::Hash, 4, 16, 8));
                self.lookup(map, 4);
                self.null_check(R0, end);
                self.touch(R0, 16, true);
            }
            3 => {
                if self.fault("an access beyond the end") {
                    self.b.store_k(Size::DW, R9, 400, 1);
                } else {
                    self.b.store_k(Size::DW, R9, 8, 1);
                }
            }
            _ => {}
        }
        self.b.here(end);
        if self.fault("a return value that may be none") {
            self.b.mov_k(R0, 2);
        } else if self.c.chance(30) {
            self.b.mov(R0, R8);
            self.b.alu_k(AluOp::And, R0, 1);
        } else {
            let value = self.c.below(2) as i32;
            self.b.mov_k(R0, value);
        }
        self.b.exit();
    }

    /// `bpf_for_each_map_elem`
    pub(super) fn callback_each(&mut self) {
        let func = self.b.declare("elem", false, vec![Param::Any, Param::Any, Param::Any, Param::Any]);
        let kind = self.c.pick_ref(&[MapType::Hash, MapType::Array, MapType::PercpuArray, MapType::LruHash]).copied();
        let value: i16 = self.c.pick(&[16, 8, 32]);
        let map = self.b.map_of(MapDef::new("m", kind.unwrap_or(MapType::Hash), 4, value as u32, 8));
        let at = self.room(16);
        self.fill(at, 16);
        self.b.map(R1, map);
        self.b.func_address(R2, func);
        self.stack_address(R3, at);
        self.b.mov_k(R4, 0);
        self.b.helper("for_each_map_elem");
        self.b.mov(R7, R0);
        let what = self.c.below(4);
        self.later.push(Later {
            func,
            write: Box::new(move |g| {
                match what {
                    0 => {
                        g.b.load(Size::W, R5, R2, 0);
                        g.b.store(Size::DW, R4, 0, R5);
                    }
                    1 => {
                        g.b.mov(R8, R3);
                        g.b.mov(R9, R4);
                        g.touch(R8, value, true);
                        g.b.store_k(Size::DW, R9, 8, 3);
                    }
                    2 => {
                        // Deleting what is looked at is allowed.
                        g.b.helper("map_delete_elem");
                    }
                    _ => {
                        if g.fault("a write to a key") {
                            g.b.store_k(Size::W, R2, 0, 1);
                        }
                    }
                }
                g.b.mov_k(R0, 0);
                g.b.exit();
            }),
        });
    }

    /// `bpf_iter_num_*`
    pub(super) fn iterate_numbers(&mut self) {
        let done = self.b.label();
        let at = self.room(8);
        self.stack_address(R1, at);
        let low = self.c.between(-2, 10) as i32;
        let high = low + self.c.pick(&[10, 100, 1, 1_000_000]);
        self.b.mov_k(R2, low);
        self.b.mov_k(R3, high);
        self.b.kfunc("bpf_iter_num_new");
        let table = self.c.chance(60);
        if table {
            let map = self.b.map_of(MapDef::new("table", MapType::Array, 4, 64, 1));
            self.b.map_value(R8, map, 0);
        }
        self.b.mov_k(R9, 0);
        let top = self.b.label_here();
        self.stack_address(R1, at);
        self.b.kfunc("bpf_iter_num_next");
        if !self.fault("no check for null") {
            self.b.jump_k(JmpOp::Eq, R0, 0, done);
        }
        self.b.load(Size::W, R3, R0, 0);
        if table {
            let skip = self.b.label();
            match self.c.below(3) {
                0 => {
                    self.bound(R3, 63, skip);
                    self.b.mov(R4, R8);
                    self.b.add(R4, R3);
                }
                1 => {
                    self.b.jump_k(JmpOp::Gt, R9, 63, skip);
                    self.b.mov(R4, R8);
                    self.b.add(R4, R9);
                    self.b.alu_k(AluOp::Add, R9, 1);
                }
                _ => {
                    if !self.fault("no check of an index that grows") {
                        self.b.alu_k(AluOp::And, R9, 63);
                    }
                    self.b.mov(R4, R8);
                    self.b.add(R4, R9);
                    self.b.alu_k(AluOp::Add, R9, 1);
                }
            }
            self.b.load(Size::B, R1, R4, 0);
            self.b.here(skip);
        } else {
            self.step(R9, R3);
        }
        if self.c.chance(30) {
            let leave = if self.fault("an iterator is not destroyed") { self.out } else { done };
            self.some_branch(R9, leave);
        }
        self.b.goto(top);
        self.b.here(done);
        if !self.fault("an iterator is not destroyed") {
            self.stack_address(R1, at);
            self.b.kfunc("bpf_iter_num_destroy");
        }
    }

    pub(super) fn tail_call(&mut self) {
        let mut def = MapDef::new("jumps", MapType::ProgArray, 4, 4, 4);
        def.holds_self = false;
        let map = self.b.map_of(def);
        if self.c.chance(30) {
            let func = self.b.declare("tail", false, vec![Param::Ctx]);
            self.b.mov(R1, R6);
            self.b.call(func);
            self.later.push(Later {
                func,
                write: Box::new(move |g| {
                    let deep = g.c.pick(&[64i16, 256, 300]);
                    g.b.store_k(Size::DW, R10, -deep & !7, 1);
                    g.b.mov(R6, R1);
                    g.b.map(R2, map);
                    g.b.mov_k(R3, 1);
                    g.b.helper("tail_call");
                    g.b.mov_k(R0, 0);
                    g.b.exit();
                }),
            });
            return;
        }
        if self.c.chance(50) {
            self.number(R3);
        } else {
            let index = self.c.below(6) as i32;
            self.b.mov_k(R3, index);
        }
        let wrong = self.fault("not the context");
        self.b.mov(R1, if wrong { R10 } else { R6 });
        self.b.map(R2, map);
        self.b.helper("tail_call");
        if self.fault("a register that a call has spoilt") {
            self.b.mov(R7, R3);
        }
        // It is a void function: r0 is not to be read.
        if self.fault("a result that is none") {
            self.b.mov(R7, R0);
        }
    }
}
