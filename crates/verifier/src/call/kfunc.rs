//! Calls of kernel functions (kfuncs): what the kernel's types say of the arguments, and its flags of the function.
//!
//! ```text
//! struct task_struct *bpf_task_from_pid(s32 pid)        ACQUIRE, RET_NULL: r1 a number; r0 a task or null, to be released
//! void *bpf_dynptr_slice(p, offset, buffer__opt, buffer__szk)   r3 null or memory of r4 bytes, r4 known
//! ```
//!
//! Prototypes come from the kernel's BTF, flags and callers from [`skep_abi::kfuncs`]. Names of parameters end in what BTF cannot
//! say: `__sz` (size of the memory before), `__szk` (the same, known), `__k` (known), `__ign` (not looked at), `__nullable`,
//! `__opt`, `__uninit`, `__irq_flag`, `__str`. Source: `check_kfunc_args` in kernel/bpf/verifier.c.
//!
//! Limits: functions that the table does not have, or that work on objects of the program's own, arenas, work queues, exceptions
//! or callbacks, are [unsupported](crate::Unsupported). Elements of iterators that are kernel objects stay what they are when
//! the iterator is destroyed, as with the kernel.

use skep_abi::ProgramType;
use skep_abi::context::{self, ContextKind};
use skep_abi::kfunc::KfuncFlags;
use skep_abi::kfuncs::{self, Kfunc};
use skep_btf::{Btf, FuncProto, Kind, Type, TypeId};
use skep_isa::Reg;

use super::args::object_is;
use super::dynptr::DynptrRef;
use super::iter::{IterRef, IterType};
use crate::Code;
use crate::alu::{describe, kernel_kind};
use crate::cfg::kfunc_name;
use crate::env::{Env, is_composite, pointee};
use crate::exec::name;
use crate::explore::Verifier;
use crate::stack::HelperUse;
use crate::state::{BtfOf, DynptrKind, RegFlags, RegKind, RegState};
use crate::stop::Stop;

/// What is not modelled, by prefix of the function's name.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("bpf_obj_", "objects that the program allocates"),
    ("bpf_percpu_obj_", "objects that the program allocates"),
    ("bpf_refcount_", "objects that the program allocates"),
    ("bpf_list_", "linked lists in map values"),
    ("bpf_rbtree_", "trees in map values"),
    ("bpf_arena_", "arenas"),
    ("bpf_wq_", "work queues"),
    ("bpf_task_work_", "task work"),
    ("bpf_throw", "exceptions"),
    ("bpf_res_spin_", "resilient spin locks"),
    ("bpf_stream_", "streams"),
    ("bpf_xdp_metadata_", "programs that are bound to a device"),
    ("bpf_dynptr_from_file", "dynptrs over files"),
    ("bpf_dynptr_file_", "dynptrs over files"),
    ("crash_kexec", "functions that may bring the machine down"),
];

/// Types that a program's own view of an object stands for. Source: `btf_is_projection_of`.
const PROJECTIONS: &[(&str, &str)] = &[("__sk_buff", "sk_buff"), ("xdp_md", "xdp_buff")];

/// What the arguments told.
#[derive(Debug, Default)]
struct Told {
    /// The reference that one of them belongs to.
    ref_id: u32,
    /// Whether it is given up.
    released: bool,
    /// The last known number.
    constant: Option<u64>,
    dynptr: Option<DynptrRef>,
    iter: Option<IterRef>,
}

/// The function that is called.
struct Callee<'b> {
    kfunc: &'static Kfunc,
    flags: KfuncFlags,
    btf: &'b Btf,
    proto: FuncProto<'b>,
}

impl Callee<'_> {
    fn has(&self, flag: KfuncFlags) -> bool {
        self.flags.contains(flag)
    }

    /// Whether objects must be known to be valid; what is released must be, too.
    fn trusts(&self) -> bool {
        self.has(KfuncFlags::TRUSTED_ARGS) || self.has(KfuncFlags::RELEASE)
    }

    fn broken(&self) -> Stop {
        Stop::unsupported(format!("kernel function {} with the prototype it has here", self.kfunc.name))
    }
}

impl Verifier<'_, '_> {
    /// A call of a kernel function, by BTF id where it is not relocated.
    pub(crate) fn check_kfunc_call(&mut self, at: u32, btf_id: i32) -> Result<(), Stop> {
        let env = self.env;
        let Some(called) = kfunc_name(env, at, btf_id) else {
            return Err(Stop::unsupported("kernel functions by number without the kernel's types"));
        };
        let callee = find_callee(env, called)?;
        self.check_kfunc_place(&callee)?;
        let told = self.check_kfunc_args(&callee)?;
        self.kfunc_sections(callee.kfunc.name)?;
        if told.released {
            self.release_reference(told.ref_id);
        }
        if callee.kfunc.name == "bpf_xdp_pull_data" {
            self.forget_packet();
        }
        let result = self.kfunc_result(&callee, &told)?;
        self.finish_call(result);
        if let Some(iter) = &told.iter {
            if callee.has(KfuncFlags::ITER_NEXT) {
                self.move_iterator(iter)?;
            } else if callee.has(KfuncFlags::ITER_DESTROY) {
                self.destroy_iterator(iter);
            }
        }
        Ok(())
    }

    /// The address of a kernel function, which is only good for a test whether the kernel has it: 0 if not.
    pub(crate) fn kfunc_address(&self, called: &str, weak: bool) -> RegState {
        let Some(btf) = self.env.kernel_btf else { return RegState::unknown() };
        let is_newer = kfuncs::by_name(called).is_some_and(|kfunc| kfunc.since > self.env.kernel);
        match btf.find(called, Kind::Func) {
            Some(_) if !is_newer => RegState::pointer(RegKind::Mem, RegFlags::RDONLY),
            _ if weak => RegState::constant(0),
            _ => RegState::unknown(),
        }
    }

    /// Whether it may be called from here.
    fn check_kfunc_place(&self, callee: &Callee<'_>) -> Result<(), Stop> {
        let (kfunc, place) = (callee.kfunc, self.env.place);
        let refuse = |title: String| {
            Stop::reject(Code::KfuncNotAllowed, format!("calls {}", kfunc.name))
                .title(title)
                .kernel(format!("calling kernel function {} is not allowed", kfunc.name))
        };
        if !self.env.gpl {
            return Err(Stop::reject(Code::Licence, format!("calls the kernel function {}", kfunc.name))
                .help("declare a licence: char LICENSE[] SEC(\"license\") = \"GPL\";")
                .kernel("cannot call kernel function from non-GPL compatible program"));
        }
        if !kfunc.programs.contains(place.prog_type) {
            let all: Vec<String> = kfunc.programs.iter().map(|program| program.to_string()).collect();
            return Err(refuse(format!("{} programs cannot call the kernel function {}", place.prog_type, kfunc.name))
                .fact(format!("these can: {}", all.join(", "))));
        }
        if !kfunc.places.is_empty() && !place.attach.is_some_and(|attach| kfunc.places.contains(&attach)) {
            let all: Vec<String> = kfunc.places.iter().map(ToString::to_string).collect();
            return Err(refuse(format!(
                "{} can only be called from programs attached as {}",
                kfunc.name,
                all.join(", ")
            )));
        }
        let sleeps = callee.has(KfuncFlags::SLEEPABLE);
        self.check_sections(kfunc.name, sleeps, kfunc.name.starts_with("bpf_iter_num_"))?;
        if sleeps && !self.cur.sleepable {
            return Err(Stop::reject(Code::MaySleep, format!("{} may sleep", kfunc.name))
                .help("use a sleepable program: a section such as fentry.s, lsm.s, uprobe.s, iter.s or syscall")
                .kernel(format!("program must be sleepable to call sleepable kfunc {}", kfunc.name)));
        }
        if callee.has(KfuncFlags::RCU_PROTECTED) && !self.in_rcu() {
            return Err(Stop::reject(Code::LockBalance, "no RCU section is open here")
                .title(format!("{} is called outside of an RCU section", kfunc.name))
                .help("put the loop between bpf_rcu_read_lock() and bpf_rcu_read_unlock()")
                .kernel(format!("kernel func {} requires RCU critical section protection", kfunc.name)));
        }
        Ok(())
    }

    /// Functions that open and close sections.
    fn kfunc_sections(&mut self, called: &str) -> Result<(), Stop> {
        match called {
            "bpf_rcu_read_lock" => self.rcu_lock(),
            "bpf_rcu_read_unlock" => self.rcu_unlock(),
            "bpf_preempt_disable" => {
                self.preempt_disable();
                Ok(())
            }
            "bpf_preempt_enable" => self.preempt_enable(),
            _ => Ok(()),
        }
    }

    fn check_kfunc_args(&mut self, callee: &Callee<'_>) -> Result<Told, Stop> {
        let mut told = Told::default();
        let params = &callee.proto.params;
        if params.len() > 5 {
            return Err(callee.broken());
        }
        let mut index = 0;
        while let Some(param) = params.get(index) {
            let Some(reg) = Reg::new(index as u8 + 1) else { return Err(callee.broken()) };
            index += 1;
            if param.name.ends_with("__ign") || param.name.ends_with("__prog") {
                continue;
            }
            let ty = callee.btf.resolve(param.ty).map_err(|_| callee.broken())?;
            match callee.btf.kind(ty) {
                Ok(Kind::Int | Kind::Enum | Kind::Enum64) => {
                    self.scalar(reg)?;
                    if param.name.ends_with("__k") {
                        told.constant = Some(self.constant_argument(reg, "this argument")?);
                    } else if param.name.contains("__rd") {
                        return Err(callee.broken());
                    }
                }
                Ok(Kind::Ptr) => {
                    let sized = self.size_behind(callee, index);
                    let state = *self.read(reg)?;
                    self.check_kfunc_pointer(callee, reg, &state, param.name)?;
                    self.note_reference(callee, reg, &state, &mut told)?;
                    let Some(target) = pointee(callee.btf, ty) else { return Err(callee.broken()) };
                    self.check_kfunc_target(callee, reg, &state, (target, param.name, sized), &mut told)?;
                    if let Some((size, known)) = sized {
                        index += 1;
                        if known {
                            told.constant = Some(self.constant_size(size)?.into());
                        }
                    }
                }
                _ => return Err(callee.broken()),
            }
        }
        if callee.has(KfuncFlags::RELEASE) && !told.released {
            return Err(Stop::reject(Code::BadRelease, "r1 does not belong to a reference that is held")
                .title(format!("{} is given what the program does not hold", callee.kfunc.name))
                .about(Reg::R1)
                .help("release what was acquired, once, after a check for null")
                .kernel(format!("release kernel function {} expects refcounted PTR_TO_BTF_ID", callee.kfunc.name)));
        }
        Ok(told)
    }

    /// Whether the parameter at `index` is the size of the memory before it: its register, and whether it must be known.
    fn size_behind(&self, callee: &Callee<'_>, index: usize) -> Option<(Reg, bool)> {
        let param = callee.proto.params.get(index)?;
        let known = param.name.ends_with("__szk");
        if !known && !param.name.ends_with("__sz") {
            return None;
        }
        let reg = Reg::new(index as u8 + 1)?;
        self.cur.reg(reg).is_scalar().then_some((reg, known))
    }

    /// What is demanded of every pointer.
    fn check_kfunc_pointer(&self, callee: &Callee<'_>, reg: Reg, state: &RegState, param: &str) -> Result<(), Stop> {
        let demands = callee.trusts() || callee.has(KfuncFlags::RCU);
        let nullable = param.ends_with("__nullable") || param.ends_with("__opt");
        if demands && !nullable && (state.is_null() || state.maybe_null()) {
            return Err(Stop::reject(Code::MaybeNull, format!("{} may be null here", name(reg)))
                .title(format!("{} is called with a pointer that may be null", callee.kfunc.name))
                .about(reg)
                .help("check it first: `if (!p) return 0;`")
                .kernel(format!("Possibly NULL pointer passed to trusted arg{}", reg.number() - 1)));
        }
        Ok(())
    }

    /// Remembers which reference an argument belongs to, and whether it is given up.
    fn note_reference(&mut self, callee: &Callee<'_>, reg: Reg, state: &RegState, told: &mut Told) -> Result<(), Stop> {
        if !self.holds(state.ref_id) {
            return Ok(());
        }
        let releases = callee.has(KfuncFlags::RELEASE);
        if releases && told.ref_id != 0 {
            return Err(Stop::unsupported("releases of two references at once"));
        }
        told.ref_id = state.ref_id;
        if releases {
            if state.off != 0 || state.num.as_const() != Some(0) {
                return Err(Stop::reject(
                    Code::BadRelease,
                    format!("{} is not the pointer that was acquired", name(reg)),
                )
                .about(reg)
                .help("release the pointer itself, without an offset")
                .kernel(format!("R{} must have zero offset when passed to release func", reg.number())));
            }
            told.released = true;
        }
        Ok(())
    }

    fn holds(&self, ref_id: u32) -> bool {
        ref_id != 0 && self.cur.duties.held.iter().any(|held| held.id == ref_id)
    }

    /// One pointer: what it must point to.
    fn check_kfunc_target(
        &mut self,
        callee: &Callee<'_>,
        reg: Reg,
        state: &RegState,
        (target, param, sized): (TypeId, &str, Option<(Reg, bool)>),
        told: &mut Told,
    ) -> Result<(), Stop> {
        let (btf, called) = (callee.btf, callee.kfunc.name);
        let type_name = btf.name(target).unwrap_or_default();
        if called == "bpf_cast_to_kern_ctx" || self.is_context_name(type_name) {
            if state.kind != RegKind::Ctx {
                return Err(self.not_this(callee, reg, state, "the context"));
            }
            return self.check_unchanged(reg, state);
        }
        if param.ends_with("__nullable") && state.is_null() && sized.is_none() {
            return Ok(());
        }
        for (suffix, feature) in [
            ("__alloc", "objects that the program allocates"),
            ("__refcounted_kptr", "objects that the program allocates"),
            ("__map", "maps as arguments of kernel functions"),
            ("__iter", "iterators as arguments of other functions"),
        ] {
            if param.ends_with(suffix) {
                return Err(Stop::unsupported(format!("{feature} ({called})")));
            }
        }
        if param.ends_with("__str") {
            if !matches!(state.kind, RegKind::MapValue(_)) || state.maybe_null() {
                return Err(self.not_this(callee, reg, state, "a string constant of the program"));
            }
            return self.constant_string(called, reg, state).map(|_| ());
        }
        if param.ends_with("__irq_flag") {
            return match called {
                "bpf_local_irq_save" => self.irq_save(reg),
                "bpf_local_irq_restore" => self.irq_restore(reg),
                _ => Err(callee.broken()),
            };
        }
        if type_name == "bpf_dynptr" {
            return self.check_kfunc_dynptr(callee, reg, param.ends_with("__uninit"), told);
        }
        let is_iter = callee.flags.0 & (KfuncFlags::ITER_NEW | KfuncFlags::ITER_NEXT | KfuncFlags::ITER_DESTROY).0 != 0;
        if is_iter && reg == Reg::R1 {
            let size = btf.size_of(target).map_err(|_| callee.broken())?;
            let slots = usize::try_from(size.div_ceil(8)).ok().filter(|slots| (1..=64).contains(slots));
            let Some(slots) = slots else { return Err(callee.broken()) };
            let ty = IterType { ty: target, name: type_name, slots };
            if callee.has(KfuncFlags::ITER_NEW) {
                if called == "bpf_iter_css_task_new" {
                    self.check_css_task_place()?;
                }
                return self.make_iterator(reg, &ty, callee.has(KfuncFlags::RCU_PROTECTED));
            }
            let iter = self.initialised_iterator(reg, &ty, called)?;
            told.ref_id = iter.ref_id;
            told.iter = Some(iter);
            return Ok(());
        }
        if let Some(found) = object_type(btf, state) {
            if !is_composite(btf, target) {
                return Err(self.not_this(callee, reg, state, "plain memory"));
            }
            return self.check_kfunc_object(callee, reg, state, (target, type_name), found);
        }
        if matches!(btf.kind(target), Ok(Kind::FuncProto)) {
            return Err(Stop::unsupported(format!("callbacks of kernel functions ({called})")));
        }
        let is_void = target == TypeId::VOID;
        if !(is_plain(btf, target, 4) || is_void && sized.is_some()) {
            return Err(self.not_this(callee, reg, state, &format!("a struct {type_name} of the kernel")));
        }
        self.check_kfunc_memory(callee, reg, state, (target, param), sized)
    }

    fn check_kfunc_memory(
        &mut self,
        callee: &Callee<'_>,
        reg: Reg,
        state: &RegState,
        (target, param): (TypeId, &str),
        sized: Option<(Reg, bool)>,
    ) -> Result<(), Stop> {
        if state.is_null() && (sized.is_none() || param.ends_with("__opt") || param.ends_with("__nullable")) {
            return Ok(());
        }
        if state.is_scalar() && sized.is_none() {
            return Err(self.not_this(callee, reg, state, "the address of memory"));
        }
        // Null is for the function to find out: what is there otherwise must fit.
        let mut plain = *state;
        plain.flags = plain.flags.without(RegFlags::MAYBE_NULL);
        *self.cur.reg_mut(reg) = plain;
        let checked = match sized {
            Some((size, _)) => self
                .check_sized(reg, size, true, HelperUse::Read)
                .and_then(|_| self.check_sized(reg, size, true, HelperUse::Write))
                .map(|_| ()),
            None => {
                let size = callee.btf.size_of(target).ok().and_then(|size| i32::try_from(size).ok());
                let Some(size) = size else { return Err(callee.broken()) };
                self.check_helper_mem(reg, size, true, HelperUse::Read)
                    .and_then(|_| self.check_helper_mem(reg, size, true, HelperUse::Write))
                    .map(|_| ())
            }
        };
        *self.cur.reg_mut(reg) = *state;
        checked
    }

    fn check_kfunc_dynptr(&mut self, callee: &Callee<'_>, reg: Reg, uninit: bool, told: &mut Told) -> Result<(), Stop> {
        if !uninit {
            told.dynptr = Some(self.initialised_dynptr(reg)?);
            return Ok(());
        }
        let (kind, shared) = match (callee.kfunc.name, &told.dynptr) {
            ("bpf_dynptr_from_skb", _) => (DynptrKind::Skb, None),
            ("bpf_dynptr_from_xdp", _) => (DynptrKind::Xdp, None),
            ("bpf_dynptr_from_skb_meta", _) => (DynptrKind::SkbMeta, None),
            ("bpf_dynptr_clone", Some(parent)) => (parent.kind, Some(parent.ref_id)),
            _ => return Err(callee.broken()),
        };
        self.make_dynptr(reg, kind, shared)
    }

    /// An object of the kernel: of the right type, and known to be valid where that is demanded.
    fn check_kfunc_object(
        &self,
        callee: &Callee<'_>,
        reg: Reg,
        state: &RegState,
        (target, type_name): (TypeId, &str),
        found: TypeId,
    ) -> Result<(), Stop> {
        const UNSAFE: RegFlags = RegFlags(
            RegFlags::MAYBE_NULL.0 | RegFlags::UNTRUSTED.0 | RegFlags::USER.0 | RegFlags::PERCPU.0 | RegFlags::ALLOC.0,
        );
        let btf = callee.btf;
        let is_rcu = state.flags.any(RegFlags::RCU);
        let known_good = self.holds(state.ref_id)
            || !state.flags.any(UNSAFE) && !is_rcu && (state.flags.any(RegFlags::TRUSTED) || !is_object(state));
        let takes_rcu = callee.has(KfuncFlags::RCU);
        if (callee.trusts() || takes_rcu) && !known_good && !(takes_rcu && is_rcu) {
            let (label, kernel) = if takes_rcu {
                ("it is neither acquired, nor protected by RCU", "must be a rcu pointer")
            } else {
                ("it is not known to stay valid while the function runs", "must be referenced or trusted")
            };
            return Err(Stop::reject(
                Code::Untrusted,
                format!("{} holds a struct {}: {label}", name(reg), btf.name(found).unwrap_or("?")),
            )
            .about(reg)
            .help("pass an argument of the program itself, or acquire the object first and release it later")
            .kernel(format!("R{} {kernel}", reg.number())));
        }
        if state.off < 0 || state.num.as_const() != Some(0) {
            return Err(Stop::reject(
                Code::ArgumentType,
                format!("{} has an offset that varies or is negative", name(reg)),
            )
            .about(reg)
            .kernel(format!("variable ptr_ access var_off disallowed, R{}", reg.number())));
        }
        if state.flags.any(UNSAFE) {
            let stop = if state.maybe_null() {
                Stop::reject(Code::MaybeNull, format!("{} may be null here", name(reg)))
                    .help("check it first: `if (!p) return 0;`")
            } else {
                Stop::reject(Code::Untrusted, format!("{} holds an address that is not known to be valid", name(reg)))
                    .help("acquire the object while it is valid, inside its RCU section")
            };
            return Err(stop.about(reg).kernel(format!(
                "arg#{} is {} expected ptr_ or socket",
                reg.number() - 1,
                kernel_kind(state)
            )));
        }
        let found_name = btf.name(found).unwrap_or_default();
        let alias = found_name.strip_suffix("___init") == Some(type_name)
            || type_name.strip_suffix("___init") == Some(found_name);
        let strict = alias || callee.has(KfuncFlags::RELEASE) && self.holds(state.ref_id);
        let fits = if strict {
            state.off == 0 && found_name == type_name
        } else {
            object_is(btf, found, state.off.into(), target)
        };
        if fits || PROJECTIONS.contains(&(type_name, found_name)) {
            return Ok(());
        }
        Err(Stop::reject(Code::ArgumentType, format!("{} holds a struct {found_name}", name(reg)))
            .title(format!("{} wants a struct {type_name}", callee.kfunc.name))
            .about(reg)
            .kernel(format!(
                "kernel function {} args#{} expected pointer to STRUCT {type_name} but R{} has a pointer to STRUCT {found_name}",
                callee.kfunc.name,
                reg.number() - 1,
                reg.number()
            )))
    }

    fn not_this(&self, callee: &Callee<'_>, reg: Reg, state: &RegState, wanted: &str) -> Stop {
        Stop::reject(Code::ArgumentType, format!("{} holds {}", name(reg), describe(state)))
            .title(format!("{} wants {wanted} here", callee.kfunc.name))
            .about(reg)
            .kernel(format!(
                "arg#{} of kernel function {}: unexpected {}",
                reg.number() - 1,
                callee.kfunc.name,
                kernel_kind(state)
            ))
    }

    /// Whether a struct of this name is what the program's context is declared as.
    fn is_context_name(&self, type_name: &str) -> bool {
        match context::kind(self.env.place.prog_type) {
            ContextKind::Struct(context) => context.name == type_name,
            _ => false,
        }
    }

    /// Iterators over the tasks of a cgroup take a lock that not every program may take.
    fn check_css_task_place(&self) -> Result<(), Stop> {
        let place = self.env.place;
        let iterates = place.attach == Some(skep_abi::AttachType::TraceIter);
        if place.prog_type == ProgramType::Lsm || place.prog_type == ProgramType::Tracing && iterates || place.sleepable
        {
            return Ok(());
        }
        Err(Stop::reject(Code::KfuncNotAllowed, "calls bpf_iter_css_task_new")
            .title("the tasks of a cgroup can only be gone through by lsm, iter and sleepable programs")
            .kernel("css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs"))
    }

    /// What r0 holds after the call.
    fn kfunc_result(&mut self, callee: &Callee<'_>, told: &Told) -> Result<RegState, Stop> {
        let btf = callee.btf;
        let ret = btf.resolve(callee.proto.ret).map_err(|_| callee.broken())?;
        match btf.kind(ret) {
            Ok(Kind::Void) => return Ok(RegState::not_init()),
            Ok(Kind::Int | Kind::Enum | Kind::Enum64) => return Ok(RegState::unknown()),
            Ok(Kind::Ptr) => {}
            _ => return Err(callee.broken()),
        }
        let target = pointee(btf, ret).ok_or_else(|| callee.broken())?;
        let object = |ty, flags| RegState::pointer(RegKind::Btf(BtfOf::Kernel, ty), flags);
        let mut result = match callee.kfunc.name {
            "bpf_cast_to_kern_ctx" => return self.kernel_context(btf).map(|ty| object(ty, RegFlags::TRUSTED)),
            "bpf_rdonly_cast" => return self.read_only_cast(btf, told.constant),
            "bpf_dynptr_slice" | "bpf_dynptr_slice_rdwr" => {
                let (Some(dynptr), Some(size)) = (&told.dynptr, told.constant) else { return Err(callee.broken()) };
                let rdonly = callee.kfunc.name == "bpf_dynptr_slice";
                if !rdonly {
                    self.check_slice_writable()?;
                }
                return Ok(self.slice_of(dynptr, u32::try_from(size).map_err(|_| callee.broken())?, rdonly));
            }
            "bpf_get_kmem_cache" => object(target, RegFlags::UNTRUSTED),
            _ if is_composite(btf, target) => {
                let flags = match &told.iter {
                    Some(iter) if iter.rcu => RegFlags::RCU,
                    Some(_) => RegFlags::TRUSTED,
                    None if callee.has(KfuncFlags::RCU_PROTECTED) => RegFlags::RCU,
                    None => RegFlags::NONE,
                };
                object(target, flags)
            }
            _ => {
                let mut memory = RegState::pointer(RegKind::Mem, RegFlags::NONE);
                let size = btf.size_of(target).ok().and_then(|size| u32::try_from(size).ok());
                memory.aux = size.filter(|size| *size > 0).ok_or_else(|| callee.broken())?;
                memory.ref_id = told.ref_id;
                memory
            }
        };
        if callee.has(KfuncFlags::RET_NULL) {
            result.flags = result.flags.with(RegFlags::MAYBE_NULL);
            result.id = self.new_id();
        }
        if callee.has(KfuncFlags::ACQUIRE) {
            let id = self.acquire_reference()?;
            result.ref_id = id;
            if callee.has(KfuncFlags::RET_NULL) {
                result.id = id;
            }
        }
        Ok(result)
    }

    /// The kernel's own struct behind the program's context.
    fn kernel_context(&self, btf: &Btf) -> Result<TypeId, Stop> {
        use ProgramType as P;
        let wanted = match self.env.place.prog_type {
            P::Xdp => "xdp_buff",
            P::SocketFilter | P::SchedCls | P::SchedAct | P::CgroupSkb | P::SkSkb => "sk_buff",
            P::LwtIn | P::LwtOut | P::LwtXmit | P::LwtSeg6local => "sk_buff",
            P::CgroupSock => "sock",
            P::CgroupSockAddr => "bpf_sock_addr_kern",
            P::SockOps => "bpf_sock_ops_kern",
            P::SkMsg => "sk_msg",
            P::FlowDissector => "bpf_flow_dissector",
            P::PerfEvent => "bpf_perf_event_data_kern",
            P::CgroupDevice => "bpf_cgroup_dev_ctx",
            P::CgroupSysctl => "bpf_sysctl_kern",
            P::CgroupSockopt => "bpf_sockopt_kern",
            P::SkReuseport => "sk_reuseport_kern",
            P::SkLookup => "bpf_sk_lookup_kern",
            P::Netfilter => "bpf_nf_ctx",
            other => return Err(Stop::unsupported(format!("bpf_cast_to_kern_ctx in {other} programs"))),
        };
        btf.find(wanted, Kind::Struct).ok_or_else(|| Stop::unsupported(format!("a kernel without struct {wanted}")))
    }

    fn read_only_cast(&self, btf: &Btf, id: Option<u64>) -> Result<RegState, Stop> {
        let id = id.and_then(|id| u32::try_from(id).ok()).map(TypeId);
        match id {
            Some(TypeId::VOID) if self.env.since(6, 17) => {
                Ok(RegState::pointer(RegKind::Mem, RegFlags::RDONLY.with(RegFlags::UNTRUSTED)))
            }
            Some(id) if matches!(btf.kind(id), Ok(Kind::Struct)) => {
                Ok(RegState::pointer(RegKind::Btf(BtfOf::Kernel, id), RegFlags::UNTRUSTED))
            }
            _ => Err(Stop::reject(Code::ArgumentType, "r2 is not the number of a struct")
                .title("bpf_rdonly_cast needs a struct of the kernel")
                .about(Reg::R2)
                .help("give it bpf_core_type_id_kernel(struct T)")
                .kernel("kfunc bpf_rdonly_cast type ID argument must be of a struct or void")),
        }
    }
}

/// Whether it is a pointer by type, not one that always stands for a valid object.
fn is_object(state: &RegState) -> bool {
    matches!(state.kind, RegKind::Btf(..))
}

/// The kernel's type of what a register points to, where it is an object of the kernel.
fn object_type(btf: &Btf, state: &RegState) -> Option<TypeId> {
    match state.kind {
        RegKind::Btf(BtfOf::Kernel, ty) => Some(ty),
        RegKind::Sock => btf.find("sock", Kind::Struct),
        RegKind::SockCommon => btf.find("sock_common", Kind::Struct),
        RegKind::TcpSock => btf.find("tcp_sock", Kind::Struct),
        RegKind::MapPtr(_) => btf.find("bpf_map", Kind::Struct),
        _ => None,
    }
}

/// A number, or a struct of nothing but numbers.
fn is_plain(btf: &Btf, ty: TypeId, depth: u32) -> bool {
    let Ok(ty) = btf.resolve(ty) else { return false };
    match btf.get(ty) {
        Ok(Type::Int(_) | Type::Enum(_)) => true,
        Ok(Type::Array(array)) => depth > 0 && is_plain(btf, array.element, depth - 1),
        Ok(Type::Struct(composite) | Type::Union(composite)) => {
            depth > 0 && composite.members.iter().all(|member| is_plain(btf, member.ty, depth - 1))
        }
        _ => false,
    }
}

/// What is known of the function.
fn find_callee<'e>(env: &'e Env<'_>, called: &str) -> Result<Callee<'e>, Stop> {
    if let Some((_, feature)) = UNSUPPORTED.iter().find(|(prefix, _)| called.starts_with(prefix)) {
        return Err(Stop::unsupported(format!("{feature} ({called})")));
    }
    let Some(kfunc) = kfuncs::by_name(called) else {
        return Err(Stop::unsupported(format!("kernel function {called}")));
    };
    if !env.privileged {
        return Err(Stop::unsupported("kernel functions without CAP_BPF"));
    }
    if kfunc.since > env.kernel {
        return Err(Stop::reject(Code::KfuncNotAllowed, format!("calls {called}"))
            .title(format!(
                "Linux {} has no kernel function {called}; {} is the first that has",
                env.kernel, kfunc.since
            ))
            .help("declare it __weak and test its address, where kernels differ"));
    }
    let Some(btf) = env.kernel_btf else {
        return Err(Stop::unsupported("kernel functions without the kernel's types"));
    };
    let Some(id) = btf.find(called, Kind::Func) else {
        return Err(Stop::reject(Code::MissingExtern, format!("calls {called}"))
            .title(format!("the kernel has no function `{called}`"))
            .help("its configuration may leave it out: declare it __weak and test its address"));
    };
    let Ok(proto) = btf.prototype(id) else {
        return Err(Stop::unsupported(format!("kernel function {called} without a prototype")));
    };
    Ok(Callee { kfunc, flags: kfunc.flags_on(env.kernel), btf, proto })
}
