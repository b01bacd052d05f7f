//! Functions of the program: calls, callbacks, returns, and the stack that they need together.
//!
//! Static functions are gone into at each call. Global ones are checked once, on their own, with arguments as their types say;
//! a call then only checks that what is passed fits those types. Callbacks are entered as often as a turn shows something new:
//! the call that runs them is a fork, one way into the callback and back to the call, one way on.

use skep_abi::context::{self, ContextKind};
use skep_abi::verdict;
use skep_abi::{AttachType, ProgramType};
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_isa::{InsnIdx, Reg};

use crate::Code;
use crate::alu::describe;
use crate::env::{Env, is_composite, pointee};
use crate::exec::name;
use crate::explore::{Flow, Root, Verifier};
use crate::mem::span;
use crate::scalar::Scalar;
use crate::stack::HelperUse;
use crate::state::{BtfOf, DynptrKind, FuncState, RegFlags, RegKind, RegState};
use crate::stop::Stop;

/// Bytes of stack in front of a tail call, at most.
const MAX_STACK_BEFORE_TAIL_CALL: u32 = 256;
/// A function with at least this much stack gets a stack of its own where the kernel has those.
const PRIVATE_STACK_MIN: u32 = 64;

/// What an argument of a global function is declared to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GlobalArg {
    Number,
    Ctx,
    Dynptr,
    /// Memory of this many bytes.
    Memory {
        size: u32,
        nullable: bool,
        untrusted: bool,
    },
    /// A trusted kernel object.
    Object {
        ty: TypeId,
        nullable: bool,
    },
}

/// How a callback is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallbackKind {
    /// Before the helper returns.
    Sync,
    /// Later, by the kernel; `sleepable` if it may sleep then.
    Async { sleepable: bool },
}

impl Verifier<'_, '_> {
    /// Sets up the registers at an entry.
    pub(crate) fn enter_root(&mut self, root: Root) -> Result<(), Stop> {
        let Root::Global(index) = root else {
            *self.cur.reg_mut(Reg::R1) = RegState::pointer(RegKind::Ctx, RegFlags::NONE);
            return Ok(());
        };
        let args = self.global_args(index)?;
        for (number, arg) in (1u8..=5).zip(args) {
            let Some(reg) = Reg::new(number) else { continue };
            let state = match arg {
                GlobalArg::Number => RegState::unknown(),
                GlobalArg::Ctx => RegState::pointer(RegKind::Ctx, RegFlags::NONE),
                GlobalArg::Dynptr => {
                    let mut state = RegState::pointer(RegKind::Dynptr(DynptrKind::Local), RegFlags::RDONLY);
                    state.id = self.new_id();
                    state.aux = 1;
                    state
                }
                GlobalArg::Memory { size, nullable, untrusted } => {
                    let mut flags = RegFlags::NONE;
                    if nullable {
                        flags = flags.with(RegFlags::MAYBE_NULL);
                    }
                    if untrusted {
                        flags = flags.with(RegFlags::UNTRUSTED).with(RegFlags::RDONLY);
                    }
                    let mut state = RegState::pointer(RegKind::Mem, flags);
                    state.aux = size;
                    if nullable {
                        state.id = self.new_id();
                    }
                    state
                }
                GlobalArg::Object { ty, nullable } => {
                    let flags = if nullable { RegFlags::TRUSTED.with(RegFlags::MAYBE_NULL) } else { RegFlags::TRUSTED };
                    let mut state = RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), flags);
                    if nullable {
                        state.id = self.new_id();
                    }
                    state
                }
            };
            *self.cur.reg_mut(reg) = state;
        }
        Ok(())
    }

    fn global_args(&self, index: u32) -> Result<Vec<GlobalArg>, Stop> {
        global_args(self.env, index)
    }

    pub(crate) fn call_subprog(&mut self, start: u32) -> Result<Flow, Stop> {
        let Some(index) = self.env.subprog_at(start) else { return Err(Stop::unsupported("a call of no function")) };
        let Some(subprog) = self.env.subprog(index) else { return Err(Stop::unsupported("a call of no function")) };
        if subprog.global {
            self.call_global(index)?;
            return Ok(Flow::Next);
        }
        let depth = self.cur.frames.len();
        self.check_frames(depth)?;
        let mut callee = FuncState::new(InsnIdx(self.insn), depth as u8, index);
        let caller = self.cur.top_mut();
        for number in 1..=5 {
            callee.regs[number] = caller.regs[number];
        }
        callee.async_entries = caller.async_entries;
        for reg in &mut caller.regs[0..=5] {
            *reg = RegState::not_init();
        }
        if !self.cur.frames.push(callee) {
            return Err(self.too_many_frames(depth));
        }
        Ok(Flow::Goto(start))
    }

    fn check_frames(&self, depth: usize) -> Result<(), Stop> {
        if depth >= self.env.options.limits.frames as usize {
            return Err(self.too_many_frames(depth));
        }
        Ok(())
    }

    fn too_many_frames(&self, depth: usize) -> Stop {
        Stop::reject(Code::StackTooDeep, "the call that is one too many")
            .title(format!("{} functions are within one another; {} can be", depth + 1, self.env.options.limits.frames))
            .help("inline some of them with __always_inline")
            .kernel(format!("the call stack of {} frames is too deep", depth + 1))
    }

    /// A global function: what is passed must fit its types, and it gives some number.
    fn call_global(&mut self, index: u32) -> Result<(), Stop> {
        let args = self.global_args(index)?;
        let function = self.env.subprog_name(index);
        if self.cur.duties.locks > 0 {
            return Err(Stop::reject(Code::LockBalance, format!("calls `{function}` while a lock is held"))
                .help("make the function static")
                .kernel("global function calls are not allowed while holding a lock, use static function instead"));
        }
        let might_sleep = self.env.subprog(index).is_some_and(|subprog| subprog.might_sleep);
        if might_sleep && (self.cur.duties.rcu > 0 || self.cur.duties.preempt > 0 || !self.cur.sleepable) {
            return Err(Stop::reject(Code::MaySleep, format!("`{function}` may sleep"))
                .kernel("sleepable global function call is not allowed in this context"));
        }
        for (number, arg) in (1u8..=5).zip(args) {
            let Some(reg) = Reg::new(number) else { continue };
            let state = *self.read(reg)?;
            let mismatch = |wanted: &str| {
                Stop::reject(Code::GlobalFunction, format!("{} holds {}", name(reg), describe(&state)))
                    .title(format!("argument {number} of `{function}` must be {wanted}"))
                    .about(reg)
                    .kernel(format!("arg#{} reg type mismatch", number - 1))
            };
            match arg {
                GlobalArg::Number if state.is_scalar() => {}
                GlobalArg::Number => return Err(mismatch("a number")),
                GlobalArg::Ctx if state.kind == RegKind::Ctx => self.check_unchanged(reg, &state)?,
                GlobalArg::Ctx => return Err(mismatch("the context")),
                GlobalArg::Memory { untrusted: true, .. } => {}
                GlobalArg::Memory { size, nullable, untrusted: false } => {
                    if state.is_null() && nullable {
                        continue;
                    }
                    if state.maybe_null() && !nullable {
                        return Err(mismatch("memory that is not null").help("check the pointer before the call"));
                    }
                    let size = i32::try_from(size).unwrap_or(i32::MAX);
                    let mut plain = state;
                    plain.flags = plain.flags.without(RegFlags::MAYBE_NULL);
                    *self.cur.reg_mut(reg) = plain;
                    let checked = self
                        .check_helper_mem(reg, size, false, HelperUse::Read)
                        .and_then(|_| self.check_helper_mem(reg, size, false, HelperUse::Write));
                    *self.cur.reg_mut(reg) = state;
                    checked?;
                }
                GlobalArg::Dynptr => self.check_global_dynptr(reg)?,
                GlobalArg::Object { ty, nullable } => {
                    let fits = match state.kind {
                        RegKind::Btf(BtfOf::Kernel, found) => {
                            found == ty && (state.flags.any(RegFlags::TRUSTED) || state.ref_id != 0)
                        }
                        _ => false,
                    };
                    if !(fits && (nullable || !state.maybe_null()) || nullable && state.is_null()) {
                        return Err(mismatch("a trusted kernel object of its type"));
                    }
                }
            }
        }
        if !self.globals_called.contains(&index) {
            self.globals_called.push(index);
        }
        let changes_packet = self.env.subprog(index).is_some_and(|subprog| subprog.changes_packet);
        if changes_packet {
            self.forget_packet();
        }
        let frame = self.cur.top_mut();
        for reg in &mut frame.regs[1..=5] {
            *reg = RegState::not_init();
        }
        frame.regs[0] = RegState::unknown();
        Ok(())
    }

    /// The packet may have moved: pointers into it are no longer any good.
    pub(crate) fn forget_packet(&mut self) {
        self.cur.change_regs(
            |reg| reg.is_any_packet() || reg.flags.any(RegFlags::DYNPTR_SLICE),
            |reg| *reg = RegState::not_init(),
        );
    }

    /// Enters a callback. For [`CallbackKind::Sync`] the fork into it is made now, and the call goes on; `setup` fills in the
    /// arguments and [`FuncState::callback_range`].
    pub(crate) fn push_callback(
        &mut self,
        subprog: u32,
        kind: CallbackKind,
        setup: impl FnOnce(&mut FuncState),
    ) -> Result<(), Stop> {
        let Some(start) = self.env.subprog(subprog).map(|subprog| subprog.start) else {
            return Err(Stop::unsupported("a callback that is no function"));
        };
        let callsite = InsnIdx(self.insn);
        if let CallbackKind::Async { sleepable } = kind {
            if let Some(known) = self.async_callbacks.get_mut(subprog as usize) {
                *known = true;
            }
            let entries = self.cur.top().async_entries + 1;
            let mut callee = FuncState::new(InsnIdx(0), 0, subprog);
            callee.in_async_callback = true;
            callee.async_entries = entries;
            setup(&mut callee);
            let other = self.fork(start, 2)?;
            other.frames = crate::state::Frames::new(callee);
            other.duties = Default::default();
            other.sleepable = sleepable;
            return Ok(());
        }
        let depth = self.cur.frames.len();
        self.check_frames(depth)?;
        let mut callee = FuncState::new(callsite, depth as u8, subprog);
        callee.in_callback = true;
        callee.async_entries = self.cur.top().async_entries;
        setup(&mut callee);
        let other = self.fork(start, 1)?;
        other.callback_unroll += 1;
        other.top_mut().callback_depth += 1;
        let pushed = other.frames.push(callee);
        if !pushed {
            return Err(self.too_many_frames(depth));
        }
        self.cur.top_mut().callback_depth = 0;
        Ok(())
    }

    pub(crate) fn exit(&mut self) -> Result<Flow, Stop> {
        if self.cur.frames.depth() == 0 {
            self.check_duties_done("the program ends")?;
            self.check_return()?;
            return Ok(Flow::End);
        }
        let result = *self.cur.reg(Reg::R0);
        if matches!(result.kind, RegKind::Stack(_)) {
            return Err(Stop::reject(Code::PointerLeak, "r0 holds a stack address")
                .title("a function returns the address of its stack")
                .about(Reg::R0)
                .help("let the caller pass the memory")
                .kernel("cannot return stack pointer to the caller"));
        }
        let callee = self.cur.top();
        let (callsite, in_callback, range) = (callee.callsite, callee.in_callback, callee.callback_range);
        if in_callback {
            if !result.is_scalar() {
                return Err(self.not_a_number("a callback"));
            }
            self.mark_precise(Reg::R0);
            self.check_range(&result, i64::from(range.0), i64::from(range.1), "a callback", false)?;
        }
        if self.cur.frames.pop().is_none() {
            return Err(Stop::unsupported("a return without a caller"));
        }
        if !in_callback {
            *self.cur.reg_mut(Reg::R0) = result;
            return Ok(Flow::Goto(callsite.0 + 1));
        }
        // Back to the call, which decides whether there is another turn.
        if let Some(earlier) = self.earlier_entry(callsite.0) {
            let mut state = self.cur.clone();
            self.widen(earlier, &mut state);
            self.cur = state;
        }
        Ok(Flow::Goto(callsite.0))
    }

    /// The newest kept state at this instruction on this path, with the same calls.
    fn earlier_entry(&self, at: u32) -> Option<crate::state::StateId> {
        let mut id = self.cur.parent;
        while let Some(stored) = id.and_then(|id| self.stored(id)) {
            let state = &stored.state;
            let same_calls = state.frames.len() == self.cur.frames.len()
                && state.frames.iter().zip(self.cur.frames.iter()).all(|(a, b)| a.callsite == b.callsite);
            if state.insn == at && same_calls {
                return id;
            }
            id = state.parent;
        }
        None
    }

    fn not_a_number(&self, who: &str) -> Stop {
        Stop::reject(Code::ReturnValue, format!("r0 holds {}", describe(self.cur.reg(Reg::R0))))
            .title(format!("{who} must return a number"))
            .about(Reg::R0)
            .kernel("R0 not a scalar value")
    }

    fn check_range(&self, reg: &RegState, min: i64, max: i64, who: &str, narrow: bool) -> Result<(), Stop> {
        let (least, greatest) = if narrow {
            (i64::from(reg.num.s32_min), i64::from(reg.num.s32_max))
        } else {
            (reg.num.smin, reg.num.smax)
        };
        if min <= least && greatest <= max {
            return Ok(());
        }
        let allowed = if min == max { format!("{min}") } else { format!("{min} to {max}") };
        Err(Stop::reject(Code::ReturnValue, format!("r0 is {} here", span(least, greatest)))
            .title(format!("{who} may return a value that is not allowed: {allowed} is"))
            .about(Reg::R0)
            .fact(format!("r0 is {} here; allowed is {allowed}", span(least, greatest)))
            .help(if min == max { format!("return {min}") } else { format!("return a value between {min} and {max}") })
            .kernel(format!(
                "At program exit the register R0 has smin={least} smax={greatest} should have been in [{min}, {max}]"
            )))
    }

    /// What the entry function or a global one returns.
    fn check_return(&mut self) -> Result<(), Stop> {
        let frame = self.cur.top();
        let (is_async, range) = (frame.in_async_callback, frame.callback_range);
        let void_hook = self.env.place.prog_type == ProgramType::Lsm && self.lsm_range().is_none();
        if void_hook && !is_async && self.root == Root::Main {
            return Ok(());
        }
        if let Root::Global(index) = self.root
            && !is_async
            && returns_nothing(self.env, index)
        {
            return Ok(());
        }
        let result = *self.read(Reg::R0)?;
        if self.leaks(&result) {
            return Err(self.leak(Reg::R0, "as return value"));
        }
        if is_async {
            if !result.is_scalar() {
                return Err(self.not_a_number("a callback"));
            }
            self.mark_precise(Reg::R0);
            return self.check_range(&result, range.0.into(), range.1.into(), "a callback", false);
        }
        if self.root != Root::Main {
            return if result.is_scalar() { Ok(()) } else { Err(self.not_a_number("a global function")) };
        }
        let (program, attach) = (self.env.place.prog_type, self.env.place.attach);
        let (min, max, narrow) = match (program, attach) {
            (ProgramType::Lsm, Some(AttachType::LsmCgroup)) => (0, 1, false),
            (ProgramType::Lsm, _) if !self.env.since(6, 12) => return Ok(()),
            (ProgramType::Lsm, _) => match self.lsm_range() {
                Some((min, max)) => (min, max, true),
                None => return Ok(()),
            },
            _ => match verdict::allowed(program, attach) {
                Some(range) => (i64::from(*range.start()), i64::from(*range.end()), false),
                None => return Ok(()),
            },
        };
        if !result.is_scalar() {
            return Err(self.not_a_number("the program"));
        }
        self.mark_precise(Reg::R0);
        self.check_range(&result, min, max, "the program", narrow)
    }

    /// What the security hook may return; none for one that returns nothing.
    fn lsm_range(&self) -> Option<(i64, i64)> {
        let typed = self.typed.as_ref()?;
        let btf = self.env.kernel_btf?;
        let id = btf.find(&format!("bpf_lsm_{}", typed.name), Kind::Func)?;
        if btf.prototype(id).is_ok_and(|proto| proto.ret == TypeId::VOID) {
            return None;
        }
        Some(match typed.name.as_str() {
            "audit_rule_known" | "inode_xattr_skipcap" => (0, 1),
            _ => (-4095, 0),
        })
    }

    /// Nothing may be held when the program ends.
    pub(crate) fn check_duties_done(&self, when: &str) -> Result<(), Stop> {
        let duties = &self.cur.duties;
        if let Some(held) = duties.held.iter().find(|held| held.what == crate::state::Held::Reference) {
            let by = match self.env.insn(held.insn.0) {
                Some(skep_isa::Insn::Call(call)) => crate::record::call_name(self.env, held.insn.0, call),
                _ => "something".to_owned(),
            };
            return Err(Stop::reject(Code::LeakedReference, format!("{when} while the reference is held"))
                .title("a reference is not released on this path")
                .fact(format!("it was acquired at instruction {} by {by}", held.insn))
                .step(held.insn, crate::StepKind::Acquired { by })
                .help("release it on every path, also the ones that leave early")
                .kernel(format!("Unreleased reference id={} alloc_insn={}", held.id, held.insn)));
        }
        let open = if duties.locks > 0 {
            Some(("a lock is held", "bpf_spin_unlock()", "bpf_spin_lock-ed"))
        } else if duties.held.iter().any(|held| held.what == crate::call::IRQ) {
            Some(("interrupts are off", "bpf_local_irq_restore()", "bpf_local_irq_save-ed"))
        } else if duties.rcu > 0 {
            Some(("an RCU section is open", "bpf_rcu_read_unlock()", "bpf_rcu_read_lock-ed"))
        } else if duties.preempt > 0 {
            Some(("preemption is off", "bpf_preempt_enable()", "bpf_preempt_disable-ed"))
        } else {
            None
        };
        match open {
            Some((what, end, kernel)) => Err(Stop::reject(Code::LockBalance, format!("{when} while {what}"))
                .title(format!("{what} when the program or function ends"))
                .help(format!("call {end} on every path"))
                .kernel(format!("BPF_EXIT instruction cannot be used inside {kernel} region"))),
            None => Ok(()),
        }
    }

    /// Whether the functions' stacks fit together, once it is known how much each needs.
    pub(crate) fn check_stack_depth(&mut self) -> Result<(), Stop> {
        let round = |bytes: u32| {
            if self.env.since(6, 11) { bytes.next_multiple_of(16) } else { bytes.max(1).next_multiple_of(32) }
        };
        let limit = self.env.options.limits.stack;
        let own_stacks = self.private_stacks();
        let mut deepest = 0;
        // From the last to the entry: what an asynchronous callback calls has no stack of its own anywhere.
        let roots: Vec<u32> = (0..self.env.subprogs.len() as u32)
            .rev()
            .filter(|index| *index == 0 || self.async_callbacks.get(*index as usize).copied().unwrap_or(false))
            .collect();
        let mut in_callback = vec![false; self.env.subprogs.len()];
        for root in roots {
            // Each way down the call graph, which has no cycles.
            let mut open: Vec<(u32, u32, u32, bool)> = vec![(root, 0, 1, false)];
            let mut looked_at = 0u32;
            while let Some((index, above, frames, tail_above)) = open.pop() {
                looked_at += 1;
                if looked_at > 1 << 16 {
                    return Err(Stop::unsupported("a call graph with more than 65536 ways down"));
                }
                let Some(subprog) = self.env.subprog(index) else { continue };
                let own = round(self.stack_depths.get(index as usize).copied().unwrap_or(0));
                let tail = tail_above || subprog.has_tail_call;
                let at = InsnIdx(subprog.start);
                if subprog.has_tail_call && above >= MAX_STACK_BEFORE_TAIL_CALL {
                    return Err(Stop::reject(Code::StackTooDeep, "makes tail calls from here")
                        .at(at)
                        .title(format!("{above} bytes of stack are in use before a function that makes tail calls; less than 256 may be"))
                        .kernel(format!("tail_calls are not allowed when call stack of previous frames is {above} bytes. Too large")));
                }
                if let Some(seen) = in_callback.get_mut(index as usize) {
                    *seen |= root != 0;
                }
                let shared = in_callback.get(index as usize).copied().unwrap_or(true);
                let private = own_stacks && own >= PRIVATE_STACK_MIN && !shared;
                let depth = if private { above.max(own) } else { above + own };
                let total = if private { own } else { depth };
                if total > limit {
                    return Err(Stop::reject(Code::StackTooDeep, "the deepest function of the chain")
                        .at(at)
                        .title(format!(
                            "{frames} functions within one another need {total} bytes of stack; {limit} can be had"
                        ))
                        .help("move large variables into a per-CPU array map")
                        .kernel(format!("combined stack size of {frames} calls is {total}. Too large")));
                }
                deepest = deepest.max(total);
                let below = if private { above } else { depth };
                for &callee in self.cfg.calls.get(index as usize).map_or(&[][..], Vec::as_slice) {
                    if !self.async_callbacks.get(callee as usize).copied().unwrap_or(false) {
                        open.push((callee, below, frames + 1, tail));
                    }
                }
            }
        }
        self.stats.stack_depth = deepest;
        Ok(())
    }

    /// Whether large frames lie outside of the common stack: Linux 6.13 on x86-64, for types of programs that may be nested.
    /// One tail call anywhere in the program, and none does.
    fn private_stacks(&self) -> bool {
        use ProgramType as P;
        self.env.since(6, 13)
            && !self.env.subprogs.iter().any(|subprog| subprog.has_tail_call)
            && match self.env.place.prog_type {
                P::Kprobe | P::Tracepoint | P::PerfEvent | P::RawTracepoint => true,
                P::Tracing => self.env.place.attach != Some(AttachType::TraceIter),
                _ => false,
            }
    }
}

/// Whether the function's type says that it returns nothing.
fn returns_nothing(env: &Env<'_>, index: u32) -> bool {
    let ty = env.subprog(index).and_then(|subprog| subprog.btf);
    match (env.object_btf, ty) {
        (Some(btf), Some(ty)) => btf.prototype(ty).is_ok_and(|proto| proto.ret == TypeId::VOID),
        _ => false,
    }
}

/// What the arguments of a global function are declared to be.
fn global_args(env: &Env<'_>, index: u32) -> Result<Vec<GlobalArg>, Stop> {
    let function = env.subprog_name(index);
    let at = InsnIdx(env.subprog(index).map_or(0, |subprog| subprog.start));
    let unfit = |what: String| {
        Stop::reject(Code::GlobalFunction, what)
            .at(at)
            .title(format!("the global function `{function}` cannot be checked on its own"))
            .help("make it static: it is then checked at each call")
            .kernel(format!("Global function {function}() doesn't match its prototype"))
    };
    let (Some(btf), Some(ty)) = (env.object_btf, env.subprog(index).and_then(|subprog| subprog.btf)) else {
        return Err(unfit("it has no type".to_owned()));
    };
    let proto = btf.prototype(ty).map_err(|error| unfit(error.to_string()))?;
    if proto.params.len() > 5 {
        return Err(unfit(format!("it has {} arguments; 5 fit", proto.params.len())));
    }
    let ret = btf.resolve(proto.ret).map_err(|error| unfit(error.to_string()))?;
    if !matches!(btf.kind(ret), Ok(Kind::Void | Kind::Int | Kind::Enum | Kind::Enum64)) {
        return Err(unfit("it returns no number".to_owned()));
    }
    let tags = arg_tags(btf, ty);
    let mut args = Vec::new();
    for (number, param) in proto.params.iter().enumerate() {
        let has = |tag: &str| tags.iter().any(|(at, name)| *at == number as u32 && name == tag);
        let resolved = btf.resolve(param.ty).map_err(|error| unfit(error.to_string()))?;
        if has("arg:arena") {
            return Err(Stop::unsupported("arena arguments").at(at));
        }
        if has("arg:ctx") {
            args.push(GlobalArg::Ctx);
            continue;
        }
        match btf.kind(resolved) {
            Ok(Kind::Int | Kind::Enum | Kind::Enum64) => {
                args.push(GlobalArg::Number);
                continue;
            }
            Ok(Kind::Ptr) => {}
            _ => {
                return Err(unfit(format!(
                    "argument {} (`{}`) is neither a number nor a pointer",
                    number + 1,
                    param.name
                )));
            }
        }
        if is_context_pointer(env, btf, resolved) {
            args.push(GlobalArg::Ctx);
            continue;
        }
        let Some(target) = pointee(btf, resolved) else { return Err(unfit("a pointer to nothing".to_owned())) };
        if btf.name(target) == Ok("bpf_dynptr") {
            args.push(GlobalArg::Dynptr);
            continue;
        }
        if has("arg:trusted") {
            let name = btf.name(target).unwrap_or_default();
            let name = skep_object::core::essential_name(name);
            let Some(ty) = env.kernel_btf.and_then(|kernel| kernel.find(name, Kind::Struct)) else {
                return Err(unfit(format!("the kernel has no struct `{name}`")));
            };
            args.push(GlobalArg::Object { ty, nullable: has("arg:nullable") });
            continue;
        }
        if has("arg:untrusted") {
            if is_composite(btf, target) {
                return Err(Stop::unsupported("untrusted kernel objects as arguments").at(at));
            }
            args.push(GlobalArg::Memory { size: 0, nullable: false, untrusted: true });
            continue;
        }
        let size = btf.size_of(target).ok().and_then(|size| u32::try_from(size).ok());
        let Some(size) = size.filter(|size| *size > 0) else {
            return Err(unfit(format!(
                "argument {} (`{}`) is a pointer to something without a size",
                number + 1,
                param.name
            )));
        };
        args.push(GlobalArg::Memory { size, nullable: !has("arg:nonnull"), untrusted: false });
    }
    Ok(args)
}

/// Declaration tags of a function's parameters: number and text.
fn arg_tags(btf: &Btf, func: TypeId) -> Vec<(u32, String)> {
    btf.types()
        .filter_map(|(_, ty)| match ty {
            Ok(Type::DeclTag { name, target, component: Some(index) }) if target == func => {
                Some((index, name.to_owned()))
            }
            _ => None,
        })
        .collect()
}

/// Whether a pointer type is that of the context, by the struct's name.
fn is_context_pointer(env: &Env<'_>, btf: &Btf, pointer: TypeId) -> bool {
    let Ok(Type::Ptr { target }) = btf.get(pointer) else { return false };
    let named = btf.skip_qualifiers(target).ok().and_then(|ty| btf.name(ty).ok()).unwrap_or_default();
    let beneath = btf.resolve(target).ok().and_then(|ty| btf.name(ty).ok()).unwrap_or_default();
    let names = [named, skep_object::core::essential_name(beneath)];
    match context::kind(env.place.prog_type) {
        ContextKind::Struct(context) => names.contains(&context.name),
        ContextKind::Registers => {
            names.iter().any(|name| matches!(*name, "bpf_user_pt_regs_t" | "pt_regs" | "user_pt_regs"))
        }
        ContextKind::Words { .. } => names.contains(&"bpf_raw_tracepoint_args"),
        _ => false,
    }
}

/// Numbers between these, as a register.
pub(crate) fn between(min: i64, max: i64) -> RegState {
    RegState::number(Scalar::in_signed(min, max).unwrap_or_else(Scalar::unknown))
}
