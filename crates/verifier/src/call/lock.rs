//! Sections that must be closed again: spin locks, RCU, preemption, interrupts; and references in general.
//!
//! | section | opened by | kept in |
//! |---|---|---|
//! | spin lock | `bpf_spin_lock` | [`Held::Lock`] and `Duties::locks`; one at a time |
//! | RCU | `bpf_rcu_read_lock` | `Duties::rcu`; nests since Linux 6.19 |
//! | preemption off | `bpf_preempt_disable` | `Duties::preempt`; nests |
//! | interrupts off | `bpf_local_irq_save` | [`IRQ`] in `Duties::held`, and the slot of the saved flags; closed in reverse order |
//!
//! Within a spin lock nothing is called but `bpf_spin_unlock`, functions of the program that are static, and `bpf_iter_num`.
//! Within any of them nothing may sleep. When an RCU section ends, what it protected is no longer known to be valid.

use skep_abi::ProgramType;
use skep_isa::{InsnIdx, Reg};

use crate::Code;
use crate::alu::describe;
use crate::env::{FieldKind, MapInfo};
use crate::exec::name;
use crate::explore::Verifier;
use crate::mem::span;
use crate::stack::{HelperUse, Stored};
use crate::state::{ByteKind, Held, HeldRef, MapId, RegFlags, RegKind, RegState, StackSlot};
use crate::stop::Stop;

/// [`Held::Other`] of interrupts that are off.
pub(crate) const IRQ: Held = Held::Other(1);
/// What a stack slot with saved interrupt flags holds: an iterator of no type.
const IRQ_FLAGS: RegKind = RegKind::Iter(skep_btf::TypeId::VOID);
const SPIN_LOCK: u32 = 93;

impl Verifier<'_, '_> {
    /// Takes on a duty that is no reference.
    fn take_duty(&mut self, what: Held) -> u32 {
        let id = self.new_id();
        let insn = InsnIdx(self.insn);
        self.cur.duties_mut().held.push(HeldRef { what, id, insn });
        id
    }

    /// A register that must hold a number.
    pub(super) fn scalar(&self, reg: Reg) -> Result<&RegState, Stop> {
        let state = self.read(reg)?;
        if state.is_scalar() {
            return Ok(state);
        }
        Err(Stop::reject(Code::ArgumentType, format!("{} holds {}, a number is wanted", name(reg), describe(state)))
            .about(reg)
            .kernel(format!("R{} is not a scalar", reg.number())))
    }

    /// Memory in one register and its size in the next. Some(size) where stack is filled, to be marked when the call is done.
    pub(super) fn check_sized(
        &mut self,
        mem: Reg,
        size: Reg,
        zero_allowed: bool,
        how: HelperUse,
    ) -> Result<Option<i32>, Stop> {
        const MAX: u64 = 1 << 29;
        let num = self.scalar(size)?.num;
        // What may be filled in part only must have a value before.
        let how = if how == HelperUse::Fill && !num.is_const() { HelperUse::Write } else { how };
        if num.smin < 0 {
            return Err(Stop::reject(
                Code::ArgumentSize,
                match num.is_unknown() {
                    true => format!("nothing is known of {} here", name(size)),
                    false => format!("{} is {}", name(size), span(num.smin, num.smax)),
                },
            )
            .title("a size may be negative")
            .about(size)
            .help("use an unsigned type and bound it, as in `if (len > sizeof(buf)) return 0;`")
            .kernel(format!("R{} min value is negative, either use unsigned or 'var &= const'", size.number())));
        }
        if num.umax >= MAX {
            return Err(Stop::reject(Code::ArgumentSize, format!("{} has no upper bound here", name(size)))
                .about(size)
                .help("bound it: `if (len > sizeof(buf)) return 0;`, or `len &= sizeof(buf) - 1`")
                .kernel(format!(
                    "R{} unbounded memory access, use 'var &= const' or 'if (var < const)'",
                    size.number()
                )));
        }
        if num.umin == 0 && !zero_allowed {
            return Err(Stop::reject(Code::ArgumentSize, format!("{} may be 0", name(size)))
                .about(size)
                .help("check that it is not 0")
                .kernel(format!("R{} invalid zero-sized read", size.number())));
        }
        let bytes = i32::try_from(num.umax).unwrap_or(i32::MAX);
        if self.cur.reg(mem).is_null() && bytes == 0 && zero_allowed {
            self.mark_precise(size);
            return Ok(None);
        }
        let fills = self.check_helper_mem(mem, bytes, zero_allowed, how)?;
        self.mark_precise(size);
        Ok(fills.then_some(bytes))
    }

    /// `bpf_spin_lock` (93) and `bpf_spin_unlock` (94).
    pub(super) fn call_spin_lock(&mut self, id: u32) -> Result<(), Stop> {
        let (map, value) = self.field_argument(Reg::R1, FieldKind::SpinLock)?;
        let what = Held::Lock { reg_id: value.id, map: Some(map) };
        let held = self.cur.duties.held.iter().rfind(|held| matches!(held.what, Held::Lock { .. })).copied();
        if id == SPIN_LOCK {
            if let Some(held) = held {
                return Err(Stop::reject(Code::LockBalance, "a second lock")
                    .title("two spin locks are taken at the same time")
                    .fact(format!("the first one was taken at instruction {}", held.insn))
                    .help("unlock the first one before; one lock at a time rules out deadlocks")
                    .kernel("Locking two bpf_spin_locks are not allowed"));
            }
            self.take_duty(what);
            self.cur.duties_mut().locks += 1;
        } else {
            let Some(held) = held else {
                return Err(Stop::reject(Code::LockBalance, "no lock is held here")
                    .title("a spin lock is unlocked that was not taken on this path")
                    .kernel("bpf_spin_unlock without taking a lock"));
            };
            if held.what != what {
                return Err(Stop::reject(Code::LockBalance, "not the lock that is held")
                    .title("another spin lock is unlocked than was taken")
                    .fact(format!("the lock that is held was taken at instruction {}", held.insn))
                    .help("unlock through the same pointer; a second lookup may give another element")
                    .kernel("bpf_spin_unlock of different lock"));
            }
            let duties = self.cur.duties_mut();
            duties.held.retain(|other| other.id != held.id);
            duties.locks = duties.locks.saturating_sub(1);
        }
        self.finish_call(RegState::not_init());
        Ok(())
    }

    /// An argument that must point exactly to a field that the kernel manages: its map, and the pointer.
    pub(super) fn field_argument(&mut self, reg: Reg, kind: FieldKind) -> Result<(MapId, RegState), Stop> {
        let state = *self.read(reg)?;
        let field = kind.name();
        let map = match state.kind {
            RegKind::MapValue(map) if !state.maybe_null() => map,
            RegKind::MapValue(_) => {
                return Err(self.invalid_access(reg, &state));
            }
            _ => {
                return Err(Stop::reject(Code::ArgumentType, format!("{} holds {}", name(reg), describe(&state)))
                    .title(format!("a {field} in a map value is wanted"))
                    .about(reg)
                    .help(format!("declare a `struct {field}` in the map's value and pass its address"))
                    .kernel(format!("R{} type={} expected=map_value", reg.number(), crate::alu::kernel_kind(&state))));
            }
        };
        let Some(at) = state.num.as_const() else {
            return Err(Stop::reject(Code::ArgumentType, format!("{} has an offset that varies", name(reg)))
                .title(format!("the {field} must be at a constant offset"))
                .about(reg)
                .kernel(format!(
                    "R{} doesn't have constant offset. {field} has to be at the constant offset",
                    reg.number()
                )));
        };
        let Some(info) = self.env.map(map) else { return Err(Stop::unsupported("a map that is not described")) };
        let Some(found) = info.field(kind) else {
            return Err(Stop::reject(Code::ArgumentType, format!("map `{}` has no {field} in its value", info.name()))
                .about(reg)
                .help(format!("declare a `struct {field}` in the value's type, and the type with __type(value, ...)"))
                .kernel(format!("map '{}' has no valid {field}", info.name())));
        };
        let at = (at as i64).wrapping_add(i64::from(state.off));
        if at != i64::from(found.offset) {
            return Err(Stop::reject(Code::ArgumentType, format!("{} points to offset {at} of the value", name(reg)))
                .title(format!("this does not point to the {field}"))
                .about(reg)
                .fact(format!("the {field} of map `{}` is at offset {}", info.name(), found.offset))
                .kernel(format!("off {at} doesn't point to 'struct {field}' that is at {}", found.offset)));
        }
        Ok((map, state))
    }

    /// What may not be called, given the sections that are open; `sleeps` for what may sleep, `allowed` under a lock.
    pub(super) fn check_sections(&self, function: &str, sleeps: bool, allowed_locked: bool) -> Result<(), Stop> {
        let duties = &self.cur.duties;
        if duties.locks > 0 && !allowed_locked {
            return Err(Stop::reject(Code::LockBalance, format!("calls {function} while a spin lock is held"))
                .title("a function is called while a spin lock is held")
                .help("call it before the lock is taken or after it is released, and keep the result in a variable")
                .kernel("function calls are not allowed while holding a lock"));
        }
        if !sleeps {
            return Ok(());
        }
        let section = if duties.rcu > 0 {
            Some(("an RCU section", "rcu_read_lock region"))
        } else if duties.preempt > 0 {
            Some(("a section without preemption", "non-preemptible region"))
        } else if duties.held.iter().any(|held| held.what == IRQ) {
            Some(("a section without interrupts", "IRQ-disabled region"))
        } else {
            None
        };
        match section {
            Some((what, kernel)) => Err(Stop::reject(Code::MaySleep, format!("{function} may sleep"))
                .title(format!("{function} is called within {what}, where sleeping is not allowed"))
                .help("end the section first")
                .kernel(format!("func {function} is sleepable within {kernel}"))),
            None => Ok(()),
        }
    }

    pub(super) fn rcu_lock(&mut self) -> Result<(), Stop> {
        if self.cur.duties.rcu > 0 && !self.env.since(6, 19) {
            return Err(Stop::reject(Code::LockBalance, "an RCU section is open already")
                .title(format!("RCU sections do not nest on Linux {}", self.env.kernel))
                .help("one section around both is enough")
                .kernel("nested rcu read lock (kernel function bpf_rcu_read_lock)"));
        }
        self.cur.duties_mut().rcu += 1;
        Ok(())
    }

    pub(super) fn rcu_unlock(&mut self) -> Result<(), Stop> {
        if self.cur.duties.rcu == 0 {
            return Err(Stop::reject(Code::LockBalance, "no RCU section is open here")
                .title("an RCU section is ended that was not begun on this path")
                .kernel("unmatched rcu read unlock (kernel function bpf_rcu_read_unlock)"));
        }
        self.cur.duties_mut().rcu -= 1;
        if self.cur.duties.rcu > 0 {
            return Ok(());
        }
        self.cur.change_regs(
            |reg| reg.flags.any(RegFlags::RCU),
            |reg| {
                reg.flags = reg.flags.without(RegFlags::RCU).without(RegFlags::MAYBE_NULL).with(RegFlags::UNTRUSTED);
            },
        );
        // Iterators over what RCU protects end too, but for their destruction.
        for frame in 0..self.cur.frames.len() {
            let count = self.cur.frames.get(frame).map_or(0, |state| state.stack.len());
            for index in 0..count {
                let slot = self.slot(frame, index);
                if slot.special() == ByteKind::Iter
                    && slot.reg.flags.any(RegFlags::RCU)
                    && let Some(place) = self.slot_mut(frame, index)
                {
                    place.reg.flags = place.reg.flags.without(RegFlags::RCU).with(RegFlags::UNTRUSTED);
                }
            }
        }
        Ok(())
    }

    pub(super) fn preempt_disable(&mut self) {
        self.cur.duties_mut().preempt += 1;
    }

    pub(super) fn preempt_enable(&mut self) -> Result<(), Stop> {
        if self.cur.duties.preempt == 0 {
            return Err(Stop::reject(Code::LockBalance, "preemption was not disabled on this path")
                .title("preemption is enabled that was not disabled")
                .kernel("unmatched attempt to enable preemption (kernel function bpf_preempt_enable)"));
        }
        self.cur.duties_mut().preempt -= 1;
        Ok(())
    }

    fn irq_place(&self, reg: Reg) -> Result<(RegState, usize, usize), Stop> {
        let state = *self.read(reg)?;
        if !matches!(state.kind, RegKind::Stack(_)) {
            return Err(Stop::reject(Code::ArgumentType, format!("{} holds {}", name(reg), describe(&state)))
                .title("the flags of interrupts are kept on the stack")
                .about(reg)
                .kernel(format!("arg#{} expected pointer to an irq flag on stack", reg.number() - 1)));
        }
        let place = self.stack_address(&state).filter(|(_, off)| off % 8 == 0 && *off < 0);
        match place {
            Some((frame, off)) => Ok((state, frame, ((-off - 1) / 8) as usize)),
            None => Err(Stop::reject(Code::ArgumentType, "8 aligned bytes at a fixed place on the stack are wanted")
                .about(reg)
                .kernel("irq flag has to be at a constant offset")),
        }
    }

    /// `bpf_local_irq_save(&flags)`.
    pub(super) fn irq_save(&mut self, reg: Reg) -> Result<(), Stop> {
        let (state, frame, index) = self.irq_place(reg)?;
        let slot = self.slot(frame, index);
        if slot.special() == ByteKind::Iter && slot.reg.kind == IRQ_FLAGS {
            return Err(Stop::reject(Code::LockBalance, "holds flags that were saved and not restored")
                .title("saved interrupt flags are overwritten")
                .about(reg)
                .help("use a variable of its own for each bpf_local_irq_save()")
                .kernel(format!("expected uninitialized irq flag as arg#{}", reg.number() - 1)));
        }
        self.write_stack(&state, 0, 8, Stored::Unknown)?;
        let ref_id = self.take_duty(IRQ);
        if let Some(place) = self.slot_mut(frame, index) {
            place.bytes = [ByteKind::Iter; 8];
            place.reg = RegState { ref_id, ..RegState::pointer(IRQ_FLAGS, RegFlags::NONE) };
        }
        Ok(())
    }

    /// `bpf_local_irq_restore(&flags)`.
    pub(super) fn irq_restore(&mut self, reg: Reg) -> Result<(), Stop> {
        let (_, frame, index) = self.irq_place(reg)?;
        let slot = self.slot(frame, index);
        if slot.bytes != [ByteKind::Iter; 8] || slot.reg.kind != IRQ_FLAGS {
            return Err(Stop::reject(Code::LockBalance, "no saved interrupt flags are here")
                .title("interrupts are restored from what bpf_local_irq_save() did not fill")
                .about(reg)
                .help("pass the variable that bpf_local_irq_save() filled, once")
                .kernel(format!("expected an initialized irq flag as arg#{}", reg.number() - 1)));
        }
        let last = self.cur.duties.held.iter().rfind(|held| held.what == IRQ).copied();
        match last {
            Some(last) if last.id == slot.reg.ref_id => {
                self.cur.duties_mut().held.retain(|held| held.id != last.id);
            }
            last => {
                let stop = Stop::reject(Code::LockBalance, "not the flags that were saved last")
                    .title("interrupt flags are restored out of order")
                    .about(reg)
                    .help("restore in the reverse order of saving")
                    .kernel("cannot restore irq state out of order");
                return Err(match last {
                    Some(last) => stop.fact(format!("the last ones were saved at instruction {}", last.insn)),
                    None => stop,
                });
            }
        }
        if let Some(place) = self.slot_mut(frame, index) {
            *place = StackSlot::empty();
        }
        Ok(())
    }

    /// Maps whose values hold what this type of program may not use.
    pub(crate) fn check_map_fields(&self, info: &MapInfo<'_>) -> Result<(), Stop> {
        use ProgramType as P;
        let program = self.env.place.prog_type;
        let tracing =
            matches!(program, P::Kprobe | P::Tracepoint | P::PerfEvent | P::RawTracepoint | P::RawTracepointWritable);
        for field in &info.fields {
            let refused = match field.kind {
                FieldKind::SpinLock | FieldKind::ResSpinLock => tracing || program == P::SocketFilter,
                FieldKind::Timer | FieldKind::WorkQueue => tracing,
                _ => false,
            };
            if refused {
                let what = field.kind.name();
                return Err(Stop::reject(
                    Code::MapMismatch,
                    format!("the values of map `{}` hold a {what}", info.name()),
                )
                .title(format!("{program} programs cannot use maps with a {what}"))
                .help("use fentry or tp_btf programs, or a map without it")
                .kernel(format!("tracing progs cannot use {what} yet")));
            }
        }
        Ok(())
    }
}
