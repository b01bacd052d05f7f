//! Which registers and stack slots can still be read: what cannot, need not be compared.
//!
//! Registers by the usual flow analysis. For the stack, a forward pass first finds which registers and spilled values are
//! addresses on the stack ([`Value`]), then a backward pass finds which bytes can be read before they are overwritten.
//!
//! Sound by these rules: an address that is not known reads everything it could reach; only a store that certainly happens at
//! a known offset ends the life of what was there; what callees read through their arguments is taken from a summary of each
//! function (functions are looked at after those they call). An address on the stack can be kept nowhere but in registers and
//! on the stack itself: everything else is refused by the exploration.

use std::collections::BTreeSet;

use skep_abi::helpers::{self, ArgKind, HelperFlags, TypeFlags};
use skep_isa::{AluOp, AtomicOp, Call, Insn, InsnIdx, Reg, Source, Wide, Width};
use skep_object::RelocKind;

use crate::cfg::{Cfg, successors};
use crate::env::Env;

/// Bit sets of what is live before each instruction.
pub(crate) struct Live {
    /// Registers, bit by number.
    pub(crate) regs: Vec<u16>,
    /// Stack slots of the function's own frame, bit by slot (0 is next to the frame pointer).
    pub(crate) slots: Vec<u64>,
}

/// An address on a stack, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    /// No address on the stack.
    Other,
    /// A number.
    Const(i64),
    /// A map.
    Map(u32),
    /// `base` 0: the frame pointer plus `off`; `base` 1 to 5: that argument plus `off`. `sure`: it cannot be anything else.
    Base { base: u8, off: i32, sure: bool },
    /// From that base, at an offset that is not known.
    Somewhere(u8),
    /// Loaded through an argument: maybe an address on the stack of a caller.
    Indirect,
    /// Maybe any of those.
    Any,
}

impl Value {
    fn join(self, other: Value) -> Value {
        use Value::{Any, Base, Const, Indirect, Map, Other, Somewhere};
        if self == other {
            return self;
        }
        match (self, other) {
            (Any, _) | (_, Any) => Any,
            (Other | Const(_) | Map(_), Other | Const(_) | Map(_)) => Other,
            (Base { base, off, .. }, Base { base: b, off: o, .. }) if base == b && off == o => {
                Base { base, off, sure: false }
            }
            (Base { base, .. } | Somewhere(base), Base { base: b, .. } | Somewhere(b)) if base == b => Somewhere(base),
            (Base { base, off, .. }, Other | Const(_) | Map(_))
            | (Other | Const(_) | Map(_), Base { base, off, .. }) => Base { base, off, sure: false },
            (Somewhere(b), Other | Const(_) | Map(_)) | (Other | Const(_) | Map(_), Somewhere(b)) => Somewhere(b),
            (Indirect, Other | Const(_) | Map(_)) | (Other | Const(_) | Map(_), Indirect) => Indirect,
            _ => Any,
        }
    }

    fn is_stack(self) -> bool {
        !matches!(self, Value::Other | Value::Const(_) | Value::Map(_))
    }

    fn unsure(self) -> Value {
        match self {
            Value::Base { base, off, .. } => Value::Base { base, off, sure: false },
            other => other,
        }
    }

    fn plus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Base { base, off, sure }, Value::Const(n)) | (Value::Const(n), Value::Base { base, off, sure }) => {
                match i32::try_from(n).ok().and_then(|n| off.checked_add(n)).filter(|off| off.unsigned_abs() < 1 << 20)
                {
                    Some(off) => Value::Base { base, off, sure },
                    None => Value::Somewhere(base),
                }
            }
            (Value::Base { base, .. } | Value::Somewhere(base), v)
            | (v, Value::Base { base, .. } | Value::Somewhere(base))
                if !v.is_stack() =>
            {
                Value::Somewhere(base)
            }
            (Value::Const(a), Value::Const(b)) => Value::Const(a.wrapping_add(b)),
            (a, b) if a.is_stack() || b.is_stack() => {
                if a == Value::Indirect || b == Value::Indirect {
                    a.join(b)
                } else {
                    Value::Any
                }
            }
            _ => Value::Other,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Abstract {
    regs: [Value; 11],
    /// Slots with something other than [`Value::Other`], by slot.
    slots: Vec<(u8, Value)>,
    /// What may have been stored at an unknown offset.
    wild: Value,
}

impl Abstract {
    fn join(&mut self, other: &Abstract) -> bool {
        let before = self.clone();
        for (mine, theirs) in self.regs.iter_mut().zip(&other.regs) {
            *mine = mine.join(*theirs);
        }
        let all: BTreeSet<u8> = self.slots.iter().chain(&other.slots).map(|(slot, _)| *slot).collect();
        self.slots = all
            .into_iter()
            .map(|slot| (slot, before.slot(slot).join(other.slot(slot))))
            .filter(|(_, value)| *value != Value::Other)
            .collect();
        self.wild = self.wild.join(other.wild);
        *self != before
    }

    fn slot(&self, slot: u8) -> Value {
        self.slots.iter().find(|(s, _)| *s == slot).map_or(Value::Other, |(_, value)| *value)
    }

    fn set_slot(&mut self, slot: u8, value: Value) {
        self.slots.retain(|(s, _)| *s != slot);
        if value != Value::Other {
            self.slots.push((slot, value));
            self.slots.sort_unstable_by_key(|(s, _)| *s);
        }
    }

    fn holds_stack(&self) -> bool {
        self.wild.is_stack() || self.slots.iter().any(|(_, value)| value.is_stack())
    }

    fn all_unsure(&mut self) {
        for (_, value) in &mut self.slots {
            *value = value.unsure();
        }
    }
}

/// What callees read relative to an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    None,
    /// Bytes from, to.
    Range(i32, i32),
    All,
}

impl Reach {
    fn add(&mut self, other: Reach) {
        *self = match (*self, other) {
            (Reach::All, _) | (_, Reach::All) => Reach::All,
            (Reach::None, r) | (r, Reach::None) => r,
            (Reach::Range(a, b), Reach::Range(c, d)) => Reach::Range(a.min(c), b.max(d)),
        };
    }
}

/// What a function does to the stacks of its callers.
#[derive(Clone, Debug)]
struct Summary {
    args: [Reach; 5],
    /// Reads through something it loaded through an argument.
    indirect: bool,
    /// Stores addresses on the stack through arguments.
    escapes: bool,
    ret: Value,
}

/// Bytes of stack as halves of slots: bit `h` is `fp-4h-4 .. fp-4h`.
type Halves = u128;

fn touched(lo: i64, hi: i64) -> Halves {
    let (lo, hi) = (lo.max(-512), hi.min(0));
    if lo >= hi {
        return 0;
    }
    bits((-hi) / 4, (-lo - 1) / 4)
}

fn covered(lo: i64, hi: i64) -> Halves {
    let (lo, hi) = (lo.max(-512), hi.min(0));
    if lo >= hi {
        return 0;
    }
    bits((-hi + 3) / 4, (-lo) / 4 - 1)
}

/// Bits from `first` to `last`, both within.
fn bits(first: i64, last: i64) -> Halves {
    if first > last || first > 127 {
        return 0;
    }
    let last = last.min(127);
    let ones = if last - first >= 127 { Halves::MAX } else { (1u128 << (last - first + 1)) - 1 };
    ones << first
}

struct Pass<'e, 'a> {
    env: &'e Env<'a>,
    summaries: &'e [Option<Summary>],
    current: Summary,
    /// Effect of the instruction just stepped over: bytes read and overwritten.
    read: Halves,
    written: Halves,
}

impl Pass<'_, '_> {
    fn read_at(&mut self, value: Value, lo: i64, hi: Option<i64>) {
        match value {
            Value::Other | Value::Const(_) | Value::Map(_) => {}
            Value::Base { base: 0, off, .. } => {
                let off = i64::from(off);
                self.read |= touched(off + lo, hi.map_or(0, |hi| off + hi));
            }
            Value::Base { base, off, .. } => {
                let reach = match hi {
                    Some(hi) => {
                        let clamp = |n: i64| n.clamp(-100_000, 100_000) as i32;
                        Reach::Range(clamp(i64::from(off) + lo), clamp(i64::from(off) + hi))
                    }
                    None => Reach::All,
                };
                self.reach(base, reach);
            }
            Value::Somewhere(0) => self.read = Halves::MAX,
            Value::Somewhere(base) => self.reach(base, Reach::All),
            Value::Indirect => self.current.indirect = true,
            Value::Any => {
                self.read = Halves::MAX;
                self.current.indirect = true;
                self.current.args = [Reach::All; 5];
            }
        }
    }

    fn reach(&mut self, base: u8, reach: Reach) {
        if let Some(arg) = self.current.args.get_mut(usize::from(base).wrapping_sub(1)) {
            arg.add(reach);
        }
    }

    fn load(&mut self, state: &Abstract, base: Value, off: i16, size: u8) -> Value {
        let lo = i64::from(off);
        self.read_at(base, lo, Some(lo + i64::from(size)));
        if size != 8 {
            return Value::Other;
        }
        match base {
            Value::Other | Value::Const(_) | Value::Map(_) => Value::Other,
            Value::Base { base: 0, off: at, sure } => {
                let from = i64::from(at) + lo;
                if from % 8 != 0 || !(-512..0).contains(&from) {
                    return Value::Other;
                }
                let held = state.slot((-from / 8 - 1) as u8);
                let value = if state.wild.is_stack() { held.join(state.wild) } else { held };
                if sure { value } else { value.unsure() }
            }
            Value::Somewhere(0) => {
                if state.holds_stack() {
                    Value::Any
                } else {
                    Value::Other
                }
            }
            Value::Base { .. } | Value::Somewhere(_) | Value::Indirect => Value::Indirect,
            Value::Any => {
                if state.holds_stack() {
                    Value::Any
                } else {
                    Value::Indirect
                }
            }
        }
    }

    fn store(&mut self, state: &mut Abstract, base: Value, off: i16, size: u8, value: Value) {
        match base {
            Value::Other | Value::Const(_) | Value::Map(_) => {}
            Value::Base { base: 0, off: at, sure } => {
                let from = i64::from(at) + i64::from(off);
                let to = from + i64::from(size);
                if sure {
                    self.written |= covered(from, to);
                }
                if !(-512..0).contains(&from) {
                    return;
                }
                let slot = ((-from - 1) / 8) as u8;
                let whole = size == 8 && from % 8 == 0;
                let value = if whole { value } else { Value::Other };
                if sure {
                    state.set_slot(slot, value);
                } else {
                    state.set_slot(slot, state.slot(slot).join(value));
                }
            }
            Value::Somewhere(0) => {
                state.all_unsure();
                state.wild = state.wild.join(value);
            }
            Value::Base { .. } | Value::Somewhere(_) | Value::Indirect => {
                self.current.escapes |= value.is_stack();
            }
            Value::Any => {
                self.current.escapes |= value.is_stack();
                state.all_unsure();
                state.wild = state.wild.join(value);
            }
        }
    }

    /// Steps over an instruction: changes the state and leaves what was read and overwritten.
    fn step(&mut self, state: &mut Abstract, at: u32) {
        self.read = 0;
        self.written = 0;
        let Some(insn) = self.env.insn(at) else { return };
        let regs = state.regs;
        let of = |reg: Reg| regs[reg.index()];
        let set = |state: &mut Abstract, reg: Reg, value: Value| {
            if reg != Reg::R10 {
                state.regs[reg.index()] = value;
            }
        };
        match insn {
            Insn::Alu { width, op, dst, src } => {
                let right = match src {
                    Source::Reg(reg) => of(reg),
                    Source::Imm(imm) if width == Width::W64 => Value::Const(imm.into()),
                    Source::Imm(imm) => Value::Const((imm as u32).into()),
                };
                let left = of(dst);
                let result = match (width, op) {
                    (Width::W64, AluOp::Mov) => right,
                    (Width::W32, AluOp::Mov) => match right {
                        Value::Const(n) => Value::Const((n as u32).into()),
                        _ => Value::Other,
                    },
                    (Width::W64, AluOp::Add) => left.plus(right),
                    (Width::W64, AluOp::Sub) => match right {
                        Value::Const(n) => left.plus(Value::Const(n.wrapping_neg())),
                        right if left.is_stack() && !right.is_stack() => left.plus(Value::Other),
                        _ => Value::Other,
                    },
                    _ => Value::Other,
                };
                set(state, dst, result);
            }
            Insn::Neg { dst, .. } | Insn::MovSx { dst, .. } | Insn::ByteSwap { dst, .. } => {
                set(state, dst, Value::Other);
            }
            Insn::AddrSpaceCast { dst, .. } => set(state, dst, Value::Other),
            Insn::LoadWide { dst, value } => {
                let value = match (self.env.reloc(at), value) {
                    (Some(RelocKind::Map(map)), _) => Value::Map(map.0 as u32),
                    (None, Wide::Imm64(n)) => Value::Const(n as i64),
                    _ => Value::Other,
                };
                set(state, dst, value);
            }
            Insn::Load { size, dst, base, off } | Insn::LoadAcquire { size, dst, base, off } => {
                let value = self.load(state, of(base), off, size.bytes());
                set(state, dst, value);
            }
            Insn::LoadSx { size, dst, base, off } => {
                let bytes = skep_isa::Size::from(size).bytes();
                let _ = self.load(state, of(base), off, bytes);
                set(state, dst, Value::Other);
            }
            Insn::Store { size, base, off, src } => {
                let value = match src {
                    Source::Reg(reg) => of(reg),
                    Source::Imm(imm) => Value::Const(imm.into()),
                };
                self.store(state, of(base), off, size.bytes(), value);
            }
            Insn::StoreRelease { size, base, off, src } => self.store(state, of(base), off, size.bytes(), of(src)),
            Insn::Atomic { width, op, base, off, src } => {
                let bytes = if width == Width::W64 { 8 } else { 4 };
                let old = self.load(state, of(base), off, bytes);
                self.store(state, of(base), off, bytes, of(src).unsure());
                self.written = 0;
                if let Some(into) = op.fetches_into(src) {
                    set(state, into, old);
                }
            }
            Insn::LoadAbs { .. } | Insn::LoadInd { .. } => {
                for reg in [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
                    set(state, reg, Value::Other);
                }
            }
            Insn::Call(call) => {
                let ret = self.call(state, at, call);
                for reg in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
                    set(state, reg, Value::Other);
                }
                set(state, Reg::R0, ret);
            }
            Insn::Exit => self.current.ret = self.current.ret.join(of(Reg::R0)),
            _ => {}
        }
    }

    fn call(&mut self, state: &mut Abstract, at: u32, call: Call) -> Value {
        let args: [Value; 5] = [state.regs[1], state.regs[2], state.regs[3], state.regs[4], state.regs[5]];
        let passes_stack = args.iter().any(|arg| arg.is_stack());
        if let Call::Subprog(_) = call {
            let callee = self
                .env
                .insn(at)
                .and_then(|insn| insn.target(InsnIdx(at)))
                .and_then(|target| self.env.subprog_at(target.0));
            let global = callee.and_then(|index| self.env.subprog(index)).is_some_and(|subprog| subprog.global);
            if !global {
                let summary = callee.and_then(|index| self.summaries.get(index as usize)).and_then(Option::as_ref);
                let Some(summary) = summary.cloned() else {
                    args.iter().for_each(|_| self.read_at(Value::Any, 0, None));
                    return Value::Any;
                };
                for (arg, reach) in args.iter().zip(summary.args) {
                    match reach {
                        Reach::None => {}
                        Reach::Range(lo, hi) => self.read_at(*arg, lo.into(), Some(hi.into())),
                        Reach::All => match arg {
                            Value::Base { base, .. } => self.read_at(Value::Somewhere(*base), 0, None),
                            other => self.read_at(*other, 0, None),
                        },
                    }
                }
                if summary.indirect {
                    self.current.indirect = true;
                    if state.holds_stack() {
                        self.read_at(Value::Any, 0, None);
                    }
                }
                if passes_stack {
                    state.all_unsure();
                }
                if summary.escapes {
                    self.current.escapes = true;
                    state.wild = Value::Any;
                }
                return match summary.ret {
                    Value::Other | Value::Const(_) | Value::Map(_) => Value::Other,
                    Value::Base { base, off, .. } => match args.get(usize::from(base).wrapping_sub(1)) {
                        Some(arg) => arg.plus(Value::Const(off.into())).unsure(),
                        None => Value::Any,
                    },
                    Value::Somewhere(base) => match args.get(usize::from(base).wrapping_sub(1)) {
                        Some(arg) => arg.plus(Value::Other).unsure(),
                        None => Value::Any,
                    },
                    Value::Indirect if !state.holds_stack() => Value::Indirect,
                    _ => Value::Any,
                };
            }
        }
        if !passes_stack {
            return Value::Other;
        }
        let helper = match call {
            Call::Helper(id) => helpers::by_id(id).map(|helper| helper.signature_in(self.env.place.prog_type)),
            _ => None,
        };
        let calls_back = helper
            .is_some_and(|s| s.flags.contains(HelperFlags::CALLBACK) || s.flags.contains(HelperFlags::LATER_CALLBACK));
        let mut map = None;
        let mut killed = 0;
        for (index, &arg) in args.iter().enumerate() {
            if calls_back {
                match arg {
                    Value::Base { base, .. } => self.read_at(Value::Somewhere(base), 0, None),
                    other => self.read_at(other, 0, None),
                }
                continue;
            }
            let Some(signature) = helper else {
                self.read_at(arg, 0, None);
                continue;
            };
            let Some(wanted) = signature.args.get(index) else { continue };
            if let (ArgKind::ConstMapPtr, Value::Map(id)) = (wanted.kind, arg) {
                map = self.env.maps.get(id as usize);
            }
            let constant = || match args.get(index + 1) {
                Some(Value::Const(n)) => Some(*n).filter(|n| (0..=512).contains(n)),
                _ => None,
            };
            let size: Option<i64> = match wanted.kind {
                ArgKind::MapKey => map.map(|map| map.spec.key_size.into()),
                ArgKind::MapValue => map.map(|map| map.spec.value_size.into()),
                ArgKind::Mem if wanted.size > 0 => Some(wanted.size.into()),
                ArgKind::Mem => constant(),
                ArgKind::Dynptr => Some(16),
                ArgKind::Anything | ArgKind::ConstSize | ArgKind::ConstSizeOrZero if !arg.is_stack() => Some(0),
                _ => None,
            };
            match (size, arg) {
                (Some(size), Value::Base { base: 0, off, sure: true })
                    if wanted.kind == ArgKind::Mem && wanted.flags.contains(TypeFlags::UNINIT) =>
                {
                    killed |= covered(off.into(), i64::from(off) + size);
                }
                _ => self.read_at(arg, 0, size),
            }
        }
        self.written = killed & !self.read;
        state.all_unsure();
        Value::Other
    }
}

/// Registers that an instruction reads and writes.
fn reg_effects(env: &Env<'_>, at: u32, insn: &Insn) -> (u16, u16) {
    let bit = |reg: Reg| 1u16 << reg.number();
    let source = |src: Source| match src {
        Source::Reg(reg) => bit(reg),
        Source::Imm(_) => 0,
    };
    const ARGS: u16 = 0b11_1110;
    const CALL: u16 = 0b11_1111;
    let args = |count: usize| ARGS & ((1u16 << (count.min(5) + 1)) - 1);
    match *insn {
        Insn::Alu { op: AluOp::Mov, dst, src, .. } => (source(src), bit(dst)),
        Insn::Alu { dst, src, .. } => (bit(dst) | source(src), bit(dst)),
        Insn::Neg { dst, .. } | Insn::ByteSwap { dst, .. } => (bit(dst), bit(dst)),
        Insn::MovSx { dst, src, .. } | Insn::AddrSpaceCast { dst, src, .. } => (bit(src), bit(dst)),
        Insn::LoadWide { dst, .. } => (0, bit(dst)),
        Insn::Load { dst, base, .. } | Insn::LoadSx { dst, base, .. } | Insn::LoadAcquire { dst, base, .. } => {
            (bit(base), bit(dst))
        }
        Insn::Store { base, src, .. } => (bit(base) | source(src), 0),
        Insn::StoreRelease { base, src, .. } => (bit(base) | bit(src), 0),
        Insn::Atomic { op, base, src, .. } => {
            let extra = if op == AtomicOp::CmpXchg { bit(Reg::R0) } else { 0 };
            (bit(base) | bit(src) | extra, op.fetches_into(src).map_or(0, bit))
        }
        Insn::LoadAbs { .. } => (bit(Reg::R6), CALL),
        Insn::LoadInd { src, .. } => (bit(Reg::R6) | bit(src), CALL),
        Insn::JumpIf { dst, src, .. } => (bit(dst) | source(src), 0),
        Insn::JumpReg { dst } | Insn::CallReg { dst } => (bit(dst), 0),
        Insn::Call(Call::Helper(id)) => {
            let count = helpers::by_id(id).map_or(5, |helper| helper.signature_in(env.place.prog_type).args.len());
            // Format arguments of bpf_trace_printk stand in registers beyond the prototype.
            (args(if matches!(id, 6) { 5 } else { count }), CALL)
        }
        Insn::Call(Call::Subprog(_)) => {
            let params = insn
                .target(InsnIdx(at))
                .and_then(|to| env.subprog_at(to.0))
                .and_then(|index| env.subprog(index)?.params);
            (args(params.unwrap_or(5)), CALL)
        }
        Insn::Call(Call::Kfunc { .. }) => (ARGS, CALL),
        Insn::Exit => (bit(Reg::R0), 0),
        Insn::Jump { .. } | Insn::JumpLong { .. } | Insn::MayGoto { .. } => (0, 0),
    }
}

/// Computes liveness for the whole program.
pub(crate) fn compute(env: &Env<'_>, cfg: &Cfg) -> Live {
    let len = env.len() as usize;
    let mut effects: Vec<(Halves, Halves)> = vec![(0, 0); len];
    let mut summaries: Vec<Option<Summary>> = vec![None; env.subprogs.len()];
    for &index in &cfg.callees_first {
        let summary = forward(env, cfg, index, &summaries, &mut effects);
        if let Some(place) = summaries.get_mut(index as usize) {
            *place = Some(summary);
        }
    }
    backward(env, &effects)
}

fn forward(
    env: &Env<'_>,
    cfg: &Cfg,
    index: u32,
    summaries: &[Option<Summary>],
    effects: &mut [(Halves, Halves)],
) -> Summary {
    let current = Summary { args: [Reach::None; 5], indirect: false, escapes: false, ret: Value::Other };
    let mut pass = Pass { env, summaries, current, read: 0, written: 0 };
    let Some(subprog) = env.subprog(index) else { return pass.current };
    let mut entry = Abstract { regs: [Value::Other; 11], slots: Vec::new(), wild: Value::Other };
    entry.regs[10] = Value::Base { base: 0, off: 0, sure: true };
    if index > 0 && !subprog.global {
        for arg in 1..=5u8 {
            entry.regs[usize::from(arg)] = Value::Base { base: arg, off: 0, sure: false };
        }
    }
    // States are kept where several ways meet; elsewhere they are carried along.
    let mut states: std::collections::BTreeMap<u32, Abstract> = [(subprog.start, entry)].into();
    let mut open = BTreeSet::from([subprog.start]);
    while let Some(start) = open.pop_first() {
        let Some(mut state) = states.get(&start).cloned() else { continue };
        let mut at = start;
        loop {
            pass.step(&mut state, at);
            if let Some(effect) = effects.get_mut(at as usize) {
                *effect = (pass.read, pass.written);
            }
            let (next, count) = successors(env, at);
            if count == 1 && !cfg.marks.get(next[0] as usize).is_some_and(|mark| mark.has(crate::cfg::Mark::PRUNE)) {
                at = next[0];
                continue;
            }
            for &to in &next[..count] {
                let changed = match states.get_mut(&to) {
                    Some(known) => known.join(&state),
                    None => {
                        states.insert(to, state.clone());
                        true
                    }
                };
                if changed {
                    open.insert(to);
                }
            }
            break;
        }
    }
    pass.current
}

fn backward(env: &Env<'_>, effects: &[(Halves, Halves)]) -> Live {
    let len = env.len() as usize;
    let mut regs = vec![0u16; len];
    let mut halves: Vec<Halves> = vec![0; len];
    let reg_effect: Vec<(u16, u16)> = (0..len).map(|at| reg_effects(env, at as u32, &env.insns[at])).collect();
    // Sweeps from the back until nothing changes: loops need a few, straight code one.
    loop {
        let mut changed = false;
        for at in (0..len).rev() {
            if env.second[at] {
                continue;
            }
            let (next, count) = successors(env, at as u32);
            let (mut live_regs, mut live_halves) = (0u16, 0);
            for &to in &next[..count] {
                live_regs |= regs.get(to as usize).copied().unwrap_or(u16::MAX);
                live_halves |= halves.get(to as usize).copied().unwrap_or(Halves::MAX);
            }
            let (uses, defs) = reg_effect[at];
            let new_regs = live_regs & !defs | uses;
            let (read, written) = effects[at];
            let new_halves = live_halves & !written | read;
            changed |= new_regs != regs[at] || new_halves != halves[at];
            regs[at] = new_regs;
            halves[at] = new_halves;
        }
        if !changed {
            break;
        }
    }
    let slots = halves
        .iter()
        .map(|&halves| (0..64).fold(0u64, |mask, slot| mask | u64::from(halves >> (2 * slot) & 3 != 0) << slot))
        .collect();
    Live { regs, slots }
}
