//! Calls of helpers and kernel functions: what they take, what they give, what they take on and release.
//!
//! A helper's prototype is data ([`skep_abi::helpers`]). A call goes through it once: may this program call it here; each
//! argument ([`args`], [`maps`] for maps, [`strings`] for constant strings); what it gives back ([`references`]); what is
//! particular to it (tail calls, [`callback`]s, formats); its result ([`result`]).

mod args;
mod callback;
mod dynptr;
mod iter;
mod kfunc;
mod lock;
mod maps;
mod references;
mod result;
mod strings;
mod timer;

pub(crate) use lock::IRQ;

use skep_abi::helpers::{self, Helper, HelperFlags, Signature};
use skep_abi::{AttachType, ProgramType};
use skep_isa::Reg;

use crate::Code;
use crate::call::args::CallMeta;
use crate::explore::Verifier;
use crate::state::{Held, RegFlags, RegKind, RegState};
use crate::stop::Stop;

/// Functions whose tracing programs may call `bpf_d_path`. Source: `btf_allowlist_d_path` in kernel/trace/bpf_trace.c.
const D_PATH_TARGETS: &[&str] = &[
    "security_file_permission",
    "security_inode_getattr",
    "security_file_open",
    "security_path_truncate",
    "vfs_truncate",
    "vfs_fallocate",
    "dentry_open",
    "vfs_getattr",
    "filp_close",
];

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
        self.check_place_of_call(helper, signature)?;
        if matches!(id, 93 | 94 | 169..=172 | 197..=203) && !self.env.privileged {
            return Err(Stop::reject(Code::HelperNotAllowed, format!("{} needs CAP_BPF", helper.name))
                .kernel(format!("program of this type cannot use helper {}#{id}", helper.name)));
        }
        match id {
            93 | 94 => return self.call_spin_lock(id),
            169..=172 => return self.call_timer_helper(id),
            197..=203 => return self.call_dynptr_helper(id),
            _ => {}
        }
        let mut meta = CallMeta::new(id, helper.name, signature);
        for index in 0..signature.args.len() {
            self.check_arg(&mut meta, signature, index)?;
        }
        if let Some((reg, size)) = meta.fill {
            let memory = *self.cur.reg(reg);
            self.fill_stack(&memory, 0, size)?;
        }
        self.release_argument(&meta)?;
        let mut changes_packet = signature.flags.contains(HelperFlags::CHANGES_PACKET);
        match helper.name {
            "bpf_tail_call" => {
                let Some((map, _)) = meta.map else { return Err(Stop::unsupported("a tail call without a map")) };
                self.check_tail_call(map)?;
                // Where it succeeds in the entry function nothing comes back; where it fails nothing was changed.
                changes_packet = self.cur.frames.depth() > 0;
            }
            "bpf_get_local_storage" if !self.cur.reg(Reg::R2).is_null() => {
                return Err(Stop::reject(Code::ArgumentType, "r2 is not 0")
                    .title("the flags of bpf_get_local_storage must be 0")
                    .about(Reg::R2)
                    .kernel("get_local_storage() doesn't support non-zero flags"));
            }
            "bpf_snprintf" => self.check_snprintf()?,
            _ => {}
        }
        if signature.flags.contains(HelperFlags::CALLBACK) {
            self.check_callback(&meta)?;
        }
        let result = self.helper_result(&meta, signature)?;
        self.finish_call(result);
        if changes_packet {
            self.forget_packet();
        }
        Ok(())
    }

    /// What a call demands of its place: sections that are open, sleeping, the attach type.
    fn check_place_of_call(&self, helper: &'static Helper, signature: &Signature) -> Result<(), Stop> {
        let (name, id) = (helper.name, helper.id);
        let duties = &self.cur.duties;
        if duties.locks > 0 && name != "bpf_spin_unlock" {
            return Err(Stop::reject(Code::LockBalance, format!("calls {name} while a lock is held"))
                .title("only bpf_spin_unlock can be called while a lock is held")
                .help("do the call before the lock is taken or after it is given back")
                .kernel("function calls are not allowed while holding a lock"));
        }
        if signature.might_sleep() {
            let section = if duties.rcu > 0 {
                Some(("within an RCU section", format!("sleepable helper {name}#{id} in rcu_read_lock region")))
            } else if duties.preempt > 0 {
                Some(("while preemption is off", format!("sleepable helper {name}#{id} in non-preemptible region")))
            } else if duties.held.iter().any(|held| matches!(held.what, Held::Other(_))) {
                Some(("while interrupts are off", format!("sleepable helper {name}#{id} in IRQ-disabled region")))
            } else if !self.cur.sleepable {
                Some(("in a program that may not sleep", "helper call might sleep in a non-sleepable prog".to_owned()))
            } else {
                None
            };
            if let Some((place, kernel)) = section {
                let stop = Stop::reject(Code::MaySleep, format!("{name} may sleep"))
                    .title(format!("{name} is called {place}"))
                    .kernel(kernel);
                return Err(if place.starts_with("in a program") {
                    stop.help("programs that may sleep have sections such as SEC(\"fentry.s/...\"), SEC(\"lsm.s/...\"), SEC(\"syscall\")")
                } else {
                    stop.help("end the section first")
                });
            }
        }
        self.check_attach_type_of_call(helper)?;
        Ok(())
    }

    /// Helpers that a program type has at some attach types only.
    fn check_attach_type_of_call(&self, helper: &'static Helper) -> Result<(), Stop> {
        use AttachType as A;
        use ProgramType as P;
        let (program, attach) = (self.env.place.prog_type, self.env.place.attach);
        let trampoline = matches!(attach, Some(A::TraceFentry | A::TraceFexit | A::ModifyReturn));
        let iterator = attach == Some(A::TraceIter);
        let target = self.typed.as_ref().map_or("", |typed| typed.name.as_str());
        let unsure = || Err(Stop::unsupported(format!("{} in {program} programs", helper.name)));
        let allowed = match (helper.name, program) {
            ("bpf_get_func_ip", P::Kprobe) => true,
            ("bpf_get_func_ip", P::Tracing) => trampoline,
            ("bpf_get_func_ip", _) => false,
            ("bpf_get_func_arg" | "bpf_get_func_ret" | "bpf_get_func_arg_cnt", P::Tracing) => trampoline,
            ("bpf_get_func_arg" | "bpf_get_func_ret" | "bpf_get_func_arg_cnt", P::Lsm) => attach != Some(A::LsmCgroup),
            ("bpf_seq_printf" | "bpf_seq_write" | "bpf_seq_printf_btf", P::Tracing) => iterator,
            ("bpf_seq_printf" | "bpf_seq_write" | "bpf_seq_printf_btf", P::Lsm) => false,
            ("bpf_d_path", P::Tracing) => iterator || D_PATH_TARGETS.contains(&target),
            ("bpf_d_path" | "bpf_ima_inode_hash" | "bpf_ima_file_hash", P::Lsm) => return unsure(),
            ("bpf_sk_storage_get" | "bpf_sk_storage_delete", P::Tracing) => {
                iterator
                    || attach == Some(A::TraceRawTp)
                    || matches!(attach, Some(A::TraceFentry | A::TraceFexit)) && !target.starts_with("bpf_sk_storage")
            }
            ("bpf_bind", P::CgroupSockAddr) => {
                matches!(attach, Some(A::CgroupInet4Connect | A::CgroupInet6Connect))
            }
            ("bpf_get_local_storage", P::Lsm) => attach == Some(A::LsmCgroup),
            ("bpf_setsockopt" | "bpf_getsockopt", P::CgroupSockAddr) => true,
            ("bpf_setsockopt" | "bpf_getsockopt", P::Tracing) if !iterator => false,
            _ if helper.conditional.contains(program) => return unsure(),
            _ => true,
        };
        if allowed {
            return Ok(());
        }
        let place = attach.map_or_else(String::new, |attach| format!(" attached as {attach}"));
        Err(Stop::reject(Code::HelperNotAllowed, format!("{program} programs{place} cannot call {}", helper.name))
            .kernel(format!("program of this type cannot use helper {}#{}", helper.name, helper.id)))
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
}
