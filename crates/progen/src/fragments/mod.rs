//! Programs for a verifier: put together from fragments of what real programs do, with a few mistakes.
//!
//! While a program runs, `r6` is its context and `r7` a number nobody knows. A fragment may use every other register and
//! the stack, and leaves both as they are; `r7` may become another number. Where a fragment would check something it may
//! leave that out ([`Gen::fault`]).

mod calls;
mod context;
mod flow;
mod instructions;
mod memory;
mod site;
mod values;

use skep_abi::{MapType, helpers};
use skep_isa::{AluOp, JmpOp, Reg, SignExtend, Size, Source, Width};

use crate::build::{Builder, Label};
use crate::program::{MapDef, Param};
use crate::{Choices, Draft, Family, Options};
use site::Site;

use Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R10};
use Width::{W32, W64};

/// Instructions of a program, about: no further fragment is begun behind this.
const MOST: usize = 300;

/// A program in the making.
pub(crate) struct Gen<'b, 'c, 'd> {
    b: &'b mut Builder,
    c: &'c mut Choices<'d>,
    options: Options,
    site: Site,
    /// Leaves the program with a value that it may return.
    out: Label,
    /// Stack that fragments have not handed out, below r10.
    stack: i16,
    /// Functions to be written behind the entry function.
    later: Vec<flow::Later>,
}

/// A fragment.
type Fragment<'b, 'c, 'd> = fn(&mut Gen<'b, 'c, 'd>);

/// Fragments of a family; one of its programs has at least one of them.
fn fragments<'b, 'c, 'd>(family: Family) -> Vec<Fragment<'b, 'c, 'd>> {
    match family {
        Family::Packet => vec![Gen::packet_header, Gen::packet_variable, Gen::packet_options, Gen::packet_meta],
        Family::Maps => vec![Gen::map_lookup, Gen::map_change, Gen::map_direct, Gen::map_queue, Gen::map_in_map],
        Family::Index => vec![Gen::index_value, Gen::index_stack, Gen::index_rodata],
        Family::Spills => vec![Gen::spill_scalar, Gen::spill_pointer, Gen::spill_mixed],
        Family::Stack => vec![Gen::stack_bytes, Gen::index_stack, Gen::stack_depth],
        Family::Loops => {
            vec![Gen::loop_constant, Gen::loop_bounded, Gen::loop_may_goto, Gen::loop_over_value, Gen::loop_nested]
        }
        Family::Callbacks => vec![Gen::callback_loop, Gen::callback_each],
        Family::Iterators => vec![Gen::iterate_numbers],
        Family::Subprograms => vec![Gen::call_numbers, Gen::call_memory, Gen::call_context, Gen::call_tree],
        Family::TailCalls => vec![Gen::tail_call],
        Family::Helpers => vec![Gen::helper_memory, Gen::helper_any, Gen::helper_any, Gen::helper_text],
        Family::Ringbuf => vec![Gen::ringbuf_record, Gen::ringbuf_output],
        Family::Dynptrs => vec![Gen::dynptr_ringbuf, Gen::dynptr_memory, Gen::dynptr_packet],
        Family::Locks => vec![Gen::lock_value],
        Family::Timers => vec![Gen::timer_value],
        Family::Sockets => vec![Gen::socket_lookup, Gen::socket_field],
        Family::Context => vec![Gen::context_read, Gen::context_read, Gen::context_write, Gen::context_odd],
        Family::Pointers => vec![Gen::pointer_arithmetic, Gen::pointer_compare, Gen::pointer_leak],
        Family::Scalars => vec![Gen::scalar_chain, Gen::scalar_linked, Gen::scalar_narrow, Gen::scalar_equal],
        Family::Precision => vec![Gen::precise_branches, Gen::precise_spill, Gen::precise_call, Gen::scalar_chain],
        Family::Objects => vec![Gen::object_field, Gen::object_reference, Gen::object_rcu],
        Family::Instructions => {
            vec![Gen::atomic_any, Gen::atomic_known, Gen::ordered, Gen::packet_loads, Gen::constants]
        }
        Family::ArithMemory | Family::ArithXdp | Family::ArithSocket | Family::Mixed => vec![],
    }
}

/// Families whose fragments go into programs of other families.
const COMMON: [Family; 9] = [
    Family::Packet,
    Family::Maps,
    Family::Index,
    Family::Spills,
    Family::Loops,
    Family::Context,
    Family::Scalars,
    Family::Pointers,
    Family::Helpers,
];

pub(crate) fn generate(family: Family, c: &mut Choices<'_>, options: &Options) -> Draft {
    let site = Site::choose(family, c);
    let mut b = Builder::new(vec![Param::Ctx]);
    let out = b.label();
    let mut g = Gen { b: &mut b, c, options: *options, site, out, stack: 0, later: Vec::new() };
    g.begin();
    let by_chance = 1 + g.c.weighted(&[5, 4, 2, 1]);
    let count = if options.fragments > 0 { options.fragments } else { by_chance };
    for index in 0..count {
        if g.b.len() > MOST.max(40 * options.fragments) {
            break;
        }
        let from = if family == Family::Mixed {
            fragments(g.c.pick_ref(Family::ALL).copied().unwrap_or(family))
        } else if index > 0 && g.c.chance(40) {
            let other = g.c.pick_ref(&COMMON).copied().unwrap_or(Family::Scalars);
            fragments(if options.repeatable && !other.is_repeatable() { Family::Scalars } else { other })
        } else {
            fragments(family)
        };
        if let Some(fragment) = g.c.pick_ref(&from).copied() {
            fragment(&mut g);
        }
    }
    g.end();
    g.functions();
    let site = g.site.clone();
    let mut draft = Draft::new(site.prog_type, b);
    draft.attach_type = site.attach_type;
    draft.target = site.target;
    draft.sleepable = site.sleepable;
    draft
}

impl Gen<'_, '_, '_> {
    /// Whether to do the wrong thing here.
    fn fault(&mut self, what: &str) -> bool {
        let wrong = self.c.chance(self.options.faults);
        if wrong {
            self.b.note(format!("fault: {what} (instruction {})", self.b.len()));
        }
        wrong
    }

    fn begin(&mut self) {
        self.b.mov(R6, R1);
        if self.options.repeatable {
            return self.input(R7);
        }
        // Not bpf_get_smp_processor_id: kernels take its result for less than the number of CPUs there are.
        match self.c.below(3) {
            0 if self.context_number(R7) => {}
            1 => {
                self.b.helper("ktime_get_ns");
                self.b.mov(R7, R0);
            }
            _ => {
                self.b.helper("get_prandom_u32");
                self.b.mov(R7, R0);
            }
        }
    }

    fn end(&mut self) {
        let out = self.out;
        self.b.here(out);
        let allowed = skep_abi::verdict::allowed(self.site.prog_type, self.site.attach_type);
        if self.fault("a return value that may be none") {
            match self.c.below(3) {
                0 => self.b.mov(R0, R7),
                1 => self.b.mov(R0, R6),
                _ => {
                    let imm = self.c.imm32();
                    self.b.mov_k(R0, imm);
                }
            }
            self.b.exit();
            return;
        }
        match allowed {
            Some(range) if self.c.chance(30) && *range.start() == 0 => {
                // A number in the range that is not known before.
                self.b.mov(R0, R7);
                self.b.alu_k(AluOp::And, R0, if *range.end() == 3 { 3 } else { 1 });
            }
            Some(range) => {
                let value = self.c.between(i64::from(*range.start()), i64::from(*range.end()));
                self.b.mov_k(R0, value as i32);
            }
            None => {
                let value = self.c.below(3) as i32;
                self.b.mov_k(R0, value);
            }
        }
        self.b.exit();
    }

    /// Whether programs of this type may call the helper.
    fn may_call(&self, name: &str) -> bool {
        helpers::by_name(name).is_some_and(|helper| {
            helper.programs_on(None).contains(self.site.prog_type)
                && !helper.conditional.contains(self.site.prog_type)
                && (self.site.sleepable || !helper.signature_in(self.site.prog_type).might_sleep())
        })
    }

    /// `bytes` of stack of one's own, aligned to 8: the offset of the lowest. Begins anew where there is no more.
    fn room(&mut self, bytes: i16) -> i16 {
        let bytes = (bytes + 7) & !7;
        if self.stack + bytes > 400 {
            self.stack = 0;
        }
        self.stack += bytes;
        if self.options.repeatable {
            // What was never written differs from engine to engine.
            for slot in 0..bytes / 8 {
                self.b.store_k(Size::DW, R10, 8 * slot - self.stack, 0);
            }
        }
        -self.stack
    }

    /// Bytes of the stack set to something.
    fn fill(&mut self, at: i16, bytes: i16) {
        let skipped = if self.fault("a part of the stack is not written") {
            self.c.below(usize::from(bytes.unsigned_abs())) as i16
        } else {
            -1
        };
        let mut off = 0;
        while off < bytes {
            let (size, step) = match bytes - off {
                1..=3 => (Size::B, 1),
                4..=7 => (Size::W, 4),
                _ => (Size::DW, 8),
            };
            if !(off..off + step).contains(&skipped) {
                if self.c.chance(20) {
                    self.b.store(size, R10, at + off, R7);
                } else {
                    let imm = self.c.between(0, 3) as i32;
                    self.b.store_k(size, R10, at + off, imm);
                }
            }
            off += step;
        }
    }

    /// `dst = r10 + at`
    fn stack_address(&mut self, dst: Reg, at: i16) {
        self.b.mov(dst, R10);
        self.b.alu_k(AluOp::Add, dst, i32::from(at));
    }

    /// A number from the map that whoever runs the program fills.
    fn input(&mut self, dst: Reg) {
        let map = self.b.map_of(MapDef::new("input", MapType::Array, 4, 64, 1));
        let off = 8 * self.c.below(8) as i16;
        self.b.map_value(dst, map, 0);
        self.b.load(Size::DW, dst, dst, off);
    }

    /// Puts a number that is not known into a register; r0 to r5 may be lost.
    fn number(&mut self, dst: Reg) {
        if self.options.repeatable && self.c.chance(50) {
            return self.input(dst);
        }
        let random = if self.options.repeatable { 0 } else { 2 };
        match self.c.weighted(&[5, random, random, 1]) {
            0 => self.b.mov(dst, R7),
            1 => {
                self.b.helper("get_prandom_u32");
                self.b.mov(dst, R0);
            }
            2 if self.context_number(dst) => {}
            _ => {
                self.b.mov(dst, R7);
                let imm = self.c.imm32();
                let op = self.c.pick_ref(&[AluOp::Add, AluOp::Xor, AluOp::Mul, AluOp::Sub]).copied();
                self.b.alu_k(op.unwrap_or(AluOp::Add), dst, imm);
            }
        }
    }

    /// Makes the number in a register at most `max` (and at least 0), by one of the ways that programs have, or leaves
    /// for `bail`. Uses r5.
    fn bound(&mut self, reg: Reg, max: u32, bail: Label) {
        let mut max = max as i32;
        if self.fault("a bound is too wide") {
            max += 1 + self.c.below(8) as i32;
        }
        if self.fault("a number is not bounded") {
            return;
        }
        if self.fault("a number is bounded on one side") {
            let op = self.c.pick_ref(&[JmpOp::Sgt, JmpOp::Sge, JmpOp::Lt, JmpOp::Slt]).copied();
            let width = if self.c.chance(50) { W32 } else { W64 };
            self.b.branch(width, op.unwrap_or(JmpOp::Sgt), reg, Source::Imm(max), bail);
            return;
        }
        // The largest number of ones that fits.
        let ones = (1i32 << (31 - (max + 1).leading_zeros())) - 1;
        match self.c.below(16) {
            0 | 1 => self.b.alu_k(AluOp::And, reg, ones),
            2 => self.b.alu32_k(AluOp::And, reg, ones),
            3 | 4 => self.b.jump_k(JmpOp::Gt, reg, max, bail),
            5 => {
                self.b.alu(W32, AluOp::Mov, reg, Source::Reg(reg));
                self.b.branch(W32, JmpOp::Gt, reg, Source::Imm(max), bail);
            }
            6 => {
                self.b.jump_k(JmpOp::Slt, reg, 0, bail);
                self.b.jump_k(JmpOp::Sgt, reg, max, bail);
            }
            7 => {
                self.b.mov_k(R5, max + 1);
                self.b.jump(JmpOp::Ge, reg, R5, bail);
            }
            8 => {
                let width = if self.c.chance(50) { W32 } else { W64 };
                self.b.alu(width, AluOp::Mod, reg, Source::Imm(max + 1));
            }
            9 if ones > 0 => {
                let shift = (ones.leading_zeros() + 32) as i32;
                let op = if self.c.chance(30) && ones < i32::MAX { AluOp::Rsh } else { AluOp::Lsh };
                if op == AluOp::Lsh {
                    self.b.alu_k(AluOp::Lsh, reg, shift);
                }
                self.b.alu_k(AluOp::Rsh, reg, shift);
            }
            10 => {
                let fine = self.b.label();
                self.b.jump_k(JmpOp::Lt, reg, max + 1, fine);
                self.b.goto(bail);
                self.b.here(fine);
            }
            11 => {
                self.b.branch(W32, JmpOp::Sgt, reg, Source::Imm(max), bail);
                self.b.branch(W32, JmpOp::Slt, reg, Source::Imm(0), bail);
                self.b.alu_k(AluOp::Lsh, reg, 32);
                let op = if self.c.chance(50) { AluOp::Rsh } else { AluOp::Arsh };
                self.b.alu_k(op, reg, 32);
            }
            12 => self.b.jump_k(JmpOp::Set, reg, !ones, bail),
            13 => {
                let form = self.c.pick_ref(&SignExtend::ALL[2..]).copied().unwrap_or(SignExtend::S32To64);
                self.b.movsx(form, reg, reg);
                self.b.jump_k(JmpOp::Sgt, reg, max, bail);
                self.b.jump_k(JmpOp::Slt, reg, 0, bail);
            }
            14 => {
                // A copy is checked, and the number goes with it.
                self.b.mov(R5, reg);
                self.b.jump_k(JmpOp::Gt, R5, max, bail);
            }
            _ => {
                // The checks stand in two places.
                let fine = self.b.label();
                self.b.jump_k(JmpOp::Le, reg, max / 2, fine);
                self.b.jump_k(JmpOp::Gt, reg, max, bail);
                self.b.here(fine);
            }
        }
    }

    /// A conditional jump that is worth trying, on a number.
    fn some_branch(&mut self, reg: Reg, to: Label) {
        let op = self.c.pick_ref(&JmpOp::ALL).copied().unwrap_or(JmpOp::Eq);
        let width = if self.c.chance(35) { W32 } else { W64 };
        let src = if self.c.chance(20) { Source::Reg(R7) } else { Source::Imm(self.c.imm32()) };
        self.b.branch(width, op, reg, src, to);
    }

    /// Some size.
    fn size(&mut self) -> Size {
        self.c.pick_ref(&Size::ALL).copied().unwrap_or(Size::DW)
    }

    /// A read or write through `base` of memory of `len` bytes, sometimes out of it; r1 to r3 may be lost.
    fn touch(&mut self, base: Reg, len: i16, write: bool) {
        let size = self.size();
        let bytes = i16::from(size.bytes());
        let mut off = match len - bytes {
            room if room >= 0 => self.c.between(0, i64::from(room)) as i16,
            _ => 0,
        };
        if !self.c.chance(15) {
            off &= !(bytes - 1);
        }
        if self.fault("an access beyond the end") {
            off += bytes;
        } else if bytes > len {
            return;
        }
        if !write || self.c.chance(50) {
            let dst = self.c.reg(&[R2, R3]);
            if dst != base {
                self.b.load(size, dst, base, off);
                if self.c.chance(20) {
                    self.b.mov(R7, dst);
                }
            }
        } else if self.c.chance(50) {
            self.b.store(size, base, off, R7);
        } else {
            let imm = self.c.imm32();
            self.b.store_k(size, base, off, imm);
        }
    }

    /// `r4` or `r5`, `r1`...: one that is not any of these.
    fn spare(&mut self, not: &[Reg]) -> Reg {
        let free: Vec<Reg> = [R1, R2, R3, R4, R5].into_iter().filter(|reg| !not.contains(reg)).collect();
        self.c.reg(&free)
    }
}
