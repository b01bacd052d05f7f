//! Calls of helpers and kernel functions: what they take, what they give, what they take on and release.

use skep_abi::helpers::{self, ArgKind, RetKind};
use skep_isa::Reg;

use crate::Code;
use crate::cfg::kfunc_name;
use crate::explore::Verifier;
use crate::state::{RegFlags, RegKind, RegState};
use crate::stop::Stop;

impl Verifier<'_, '_> {
    /// A call of the helper with this number, at slot `at`.
    pub(crate) fn check_helper_call(&mut self, at: u32, id: u32) -> Result<(), Stop> {
        if let Some((_, why)) = self.env.program.poisoned.iter().find(|(insn, _)| insn.0 == at) {
            return Err(Stop::reject(Code::CoreUnresolved, "can be reached on this kernel")
                .title(why.clone())
                .help("guard it with bpf_core_field_exists() or bpf_core_type_exists()")
                .kernel(format!("invalid func unknown#{id}")));
        }
        let Some(helper) = helpers::by_id(id) else {
            return Err(Stop::reject(Code::HelperNotAllowed, format!("there is no helper {id}"))
                .kernel(format!("invalid func unknown#{id}")));
        };
        let program = self.env.place.prog_type;
        if !helper.programs_on(Some(self.env.kernel)).contains(program) {
            return Err(Stop::reject(
                Code::HelperNotAllowed,
                format!("{} programs cannot call {}", program, helper.name),
            )
            .kernel(format!("program of this type cannot use helper {}#{id}", helper.name)));
        }
        let signature = helper.signature_in(program);
        if signature.gpl_only() && !self.env.gpl {
            return Err(Stop::reject(Code::Licence, format!("{} is for GPL-compatible programs", helper.name))
                .kernel("cannot call GPL-restricted function from non-GPL compatible program"));
        }
        if !signature.args.iter().all(|arg| arg.kind == ArgKind::Anything) || signature.ret.kind != RetKind::Integer {
            return Err(Stop::unsupported(format!("helper {}", helper.name)));
        }
        for (number, _) in (1u8..).zip(signature.args) {
            if let Some(reg) = Reg::new(number) {
                self.read(reg)?;
            }
        }
        let result = if id == 8 {
            crate::subprog::between(0, i64::from(self.env.options.cpus.max(1)) - 1)
        } else {
            RegState::unknown()
        };
        self.finish_call(result);
        Ok(())
    }

    /// A call of a kernel function, by BTF id where it is not relocated.
    pub(crate) fn check_kfunc_call(&mut self, at: u32, btf_id: i32) -> Result<(), Stop> {
        let name = kfunc_name(self.env, at, btf_id).unwrap_or("?").to_owned();
        Err(Stop::unsupported(format!("kernel function {name}")))
    }

    /// After a call: r1 to r5 hold nothing, r0 the result.
    pub(crate) fn finish_call(&mut self, result: RegState) {
        let frame = self.cur.top_mut();
        for reg in &mut frame.regs[1..=5] {
            *reg = RegState::not_init();
        }
        frame.regs[0] = result;
    }

    /// At a call that moves an iterator on: whether the iterator that this register points to has elements left; none if it
    /// points to no iterator.
    pub(crate) fn iterator_at(&self, reg: &RegState) -> Option<bool> {
        let (frame, off) = self.stack_address(reg)?;
        let index = usize::try_from(-off / 8 - 1).ok()?;
        let slot = self.cur.frames.get(frame)?.slot(index)?;
        matches!(slot.reg.kind, RegKind::Iter(_)).then_some(!slot.reg.flags.any(RegFlags::DRAINED))
    }

    /// A store is about to hit this slot: if a dynptr is there, it ends, unless it must be released.
    pub(crate) fn destroy_dynptr_at(&mut self, frame: usize, index: usize) -> Result<(), Stop> {
        let is_dynptr = self
            .cur
            .frames
            .get(frame)
            .and_then(|state| state.slot(index))
            .is_some_and(|slot| matches!(slot.reg.kind, RegKind::Dynptr(_)));
        if is_dynptr { Err(Stop::unsupported("overwriting a dynptr")) } else { Ok(()) }
    }

    /// An argument of a global function that is declared as a dynptr.
    pub(crate) fn check_global_dynptr(&mut self, reg: Reg) -> Result<(), Stop> {
        let _ = reg;
        Err(Stop::unsupported("dynptrs as arguments of global functions"))
    }
}
