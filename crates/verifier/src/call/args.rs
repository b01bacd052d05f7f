//! The arguments of a helper: whether what stands in r1 to r5 is what the helper's prototype takes.
//!
//! Each argument is checked by itself, in order; what later ones and the result need of it (the map, the reference, the size)
//! is kept in [`CallMeta`]. Source of the rules: `check_func_arg` and `check_reg_type` in kernel/bpf/verifier.c.

use skep_abi::helpers::{Arg, ArgKind, HelperFlags, Signature, TypeFlags};
use skep_abi::{MapType, ProgramType};
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_isa::Reg;

use crate::Code;
use crate::alu::{describe, kernel_kind};
use crate::exec::name;
use crate::explore::Verifier;
use crate::mem::{may_read_packet, span};
use crate::scalar::Tnum;
use crate::stack::HelperUse;
use crate::state::{BtfOf, ByteKind, MAX_VAR_OFF, MapId, RegFlags, RegKind, RegState};
use crate::stop::Stop;

/// What the arguments of a call told, for later arguments and for the result.
#[derive(Clone, Debug)]
pub(crate) struct CallMeta {
    /// The helper's number.
    pub(crate) id: u32,
    /// The helper's name, such as `bpf_map_lookup_elem`.
    pub(crate) name: &'static str,
    /// Demands and effects.
    pub(crate) flags: HelperFlags,
    /// The map argument, and which look-up it came from.
    pub(crate) map: Option<(MapId, u32)>,
    /// The key, where it is a number that is known.
    pub(crate) const_key: Option<u64>,
    /// The reference that one of the arguments belongs to.
    pub(crate) ref_id: u32,
    /// The argument whose reference is given up.
    pub(crate) release: Option<Reg>,
    /// The known size of what is returned.
    pub(crate) mem_size: u32,
    /// The greatest value of the last size argument.
    pub(crate) size_max: u64,
    /// Stack that the helper fills.
    pub(crate) fill: Option<(Reg, i32)>,
    /// The callback.
    pub(crate) func: Option<u32>,
    /// The type of the per-CPU argument.
    pub(crate) percpu: Option<TypeId>,
}

impl CallMeta {
    pub(crate) fn new(id: u32, name: &'static str, signature: &Signature) -> CallMeta {
        CallMeta {
            id,
            name,
            flags: signature.flags,
            map: None,
            const_key: None,
            ref_id: 0,
            release: None,
            mem_size: 0,
            size_max: 0,
            fill: None,
            func: None,
            percpu: None,
        }
    }
}

/// What an argument is wanted to be, for people.
fn wanted(kind: ArgKind) -> &'static str {
    match kind {
        ArgKind::Anything => "a value",
        ArgKind::ConstMapPtr => "a map",
        ArgKind::MapKey => "the address of a key",
        ArgKind::MapValue => "the address of a value",
        ArgKind::Mem => "the address of memory",
        ArgKind::ConstSize | ArgKind::ConstSizeOrZero => "a size",
        ArgKind::Ctx => "the context",
        ArgKind::SpinLock => "a lock in a map value",
        ArgKind::SockCommon => "a socket",
        ArgKind::Socket => "a full socket",
        ArgKind::BtfId => "a kernel object",
        ArgKind::RingbufMem => "a ring buffer record",
        ArgKind::ConstAllocSizeOrZero => "a constant size",
        ArgKind::BtfIdSockCommon => "a socket",
        ArgKind::PercpuBtfId => "a per-CPU variable of the kernel",
        ArgKind::Func => "a function of the program",
        ArgKind::Stack => "an address on the stack",
        ArgKind::ConstStr => "a constant string",
        ArgKind::Timer => "a timer in a map value",
        ArgKind::KptrXchgDest => "a kernel pointer in a map value",
        ArgKind::Dynptr => "a dynptr",
    }
}

/// The kernel's types that an argument can have, for its message.
fn kernel_types(kind: ArgKind) -> &'static str {
    match kind {
        ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem => {
            "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_"
        }
        ArgKind::ConstMapPtr => "map_ptr",
        ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => "scalar",
        ArgKind::Ctx => "ctx",
        ArgKind::SpinLock => "map_value, ptr_",
        ArgKind::SockCommon => "sock_common, sock, tcp_sock, xdp_sock",
        ArgKind::Socket => "sock",
        ArgKind::BtfId => "ptr_, trusted_ptr_, rcu_ptr_",
        ArgKind::RingbufMem => "ringbuf_mem",
        ArgKind::BtfIdSockCommon => "sock_common, sock, tcp_sock, xdp_sock, trusted_ptr_",
        ArgKind::PercpuBtfId => "percpu_ptr_, percpu_rcu_ptr_, percpu_trusted_ptr_",
        ArgKind::Func => "func",
        ArgKind::Stack => "fp",
        ArgKind::ConstStr | ArgKind::Timer | ArgKind::KptrXchgDest => "map_value",
        ArgKind::Dynptr => "fp, dynptr_ptr",
        ArgKind::Anything => "",
    }
}

/// Whether the kind of value is one that the argument takes. Source: `compatible_reg_types`.
fn fits(kind: ArgKind, arg: TypeFlags, reg: &RegState) -> bool {
    let mut flags = reg.flags.without(RegFlags::DYNPTR_SLICE);
    if arg.contains(TypeFlags::RDONLY) {
        flags = flags.without(RegFlags::RDONLY);
    }
    if arg.contains(TypeFlags::MAYBE_NULL) {
        flags = flags.without(RegFlags::MAYBE_NULL);
    }
    let plain = flags == RegFlags::NONE;
    let object = matches!(flags, RegFlags::NONE | RegFlags::TRUSTED | RegFlags::RCU);
    match kind {
        ArgKind::Anything => true,
        ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem => match reg.kind {
            RegKind::Stack(_)
            | RegKind::Packet
            | RegKind::PacketMeta
            | RegKind::MapKey(_)
            | RegKind::MapValue(_)
            | RegKind::Buf => plain,
            RegKind::Mem => plain || flags == RegFlags::RINGBUF,
            RegKind::Btf(..) => flags == RegFlags::TRUSTED,
            _ => false,
        },
        ArgKind::ConstMapPtr => matches!(reg.kind, RegKind::MapPtr(_)) && plain,
        ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => reg.is_scalar(),
        ArgKind::Ctx => reg.kind == RegKind::Ctx && plain,
        ArgKind::SpinLock => match reg.kind {
            RegKind::MapValue(_) => plain,
            RegKind::Btf(..) => flags == RegFlags::ALLOC,
            _ => false,
        },
        ArgKind::SockCommon => reg.is_socket() && plain,
        ArgKind::Socket => reg.kind == RegKind::Sock && plain,
        ArgKind::BtfIdSockCommon => {
            reg.is_socket() && plain || matches!(reg.kind, RegKind::Btf(..)) && flags == RegFlags::TRUSTED
        }
        ArgKind::BtfId => matches!(reg.kind, RegKind::Btf(BtfOf::Kernel, _)) && object,
        ArgKind::PercpuBtfId => {
            matches!(reg.kind, RegKind::Btf(BtfOf::Kernel, _))
                && flags.any(RegFlags::PERCPU)
                && matches!(flags.without(RegFlags::PERCPU), RegFlags::NONE | RegFlags::TRUSTED | RegFlags::RCU)
        }
        ArgKind::RingbufMem => reg.kind == RegKind::Mem && flags == RegFlags::RINGBUF,
        ArgKind::Func => matches!(reg.kind, RegKind::Func(_)) && plain,
        ArgKind::Stack => matches!(reg.kind, RegKind::Stack(_)) && plain,
        ArgKind::ConstStr | ArgKind::Timer => matches!(reg.kind, RegKind::MapValue(_)) && plain,
        ArgKind::KptrXchgDest => true,
        ArgKind::Dynptr => matches!(reg.kind, RegKind::Stack(_) | RegKind::Dynptr(_)),
    }
}

/// Whether an object of type `ty`, `off` bytes in, is one of type `need`: itself, or what stands there within it.
pub(crate) fn object_is(btf: &Btf, ty: TypeId, off: i64, need: TypeId) -> bool {
    /// How deep structs may be nested.
    const MAX_NESTING: usize = 32;
    let same =
        |a: TypeId, b: TypeId| a == b || btf.name(a).is_ok_and(|name| !name.is_empty() && btf.name(b) == Ok(name));
    let (mut at, mut off) = (ty, off);
    'again: for _ in 0..MAX_NESTING {
        if off == 0 && same(at, need) {
            return true;
        }
        let (Ok(Type::Struct(composite)) | Ok(Type::Union(composite))) = btf.get(at) else { return false };
        for member in &composite.members {
            let start = i64::from(member.bit_offset / 8);
            let Ok(inner) = btf.resolve(member.ty) else { continue };
            let Ok(size) = btf.size_of(inner) else { continue };
            if off >= start && off < start.saturating_add(size as i64) && matches!(btf.kind(inner), Ok(Kind::Struct)) {
                at = inner;
                off -= start;
                continue 'again;
            }
        }
        return false;
    }
    false
}

impl Verifier<'_, '_> {
    /// Checks one argument.
    pub(crate) fn check_arg(
        &mut self,
        meta: &mut CallMeta,
        signature: &'static Signature,
        index: usize,
    ) -> Result<(), Stop> {
        let Some(arg) = signature.args.get(index) else { return Ok(()) };
        let Some(reg) = Reg::new(index as u8 + 1) else { return Ok(()) };
        let state = *self
            .read(reg)
            .map_err(|stop| stop.title(format!("argument {} of {} has no value", index + 1, meta.name)))?;
        if arg.kind == ArgKind::Anything {
            return if self.leaks(&state) { Err(self.leak(reg, "into helper function")) } else { Ok(()) };
        }
        if state.is_packet() && !self.packet_for_helper(meta.flags) {
            return Err(Stop::reject(Code::ArgumentType, format!("{} points into the packet", name(reg)))
                .title(format!("{} does not take packet memory", meta.name))
                .about(reg)
                .help("copy the bytes to the stack first")
                .kernel("helper access to the packet is not allowed"));
        }
        let arg = self.arg_for_map(meta, arg)?;
        let null = state.is_null() && arg.flags.contains(TypeFlags::MAYBE_NULL);
        if !null {
            self.check_arg_type(meta, index, reg, &state, &arg)?;
            self.check_arg_offset(meta, index, reg, &state, &arg)?;
        }
        if arg.flags.contains(TypeFlags::RELEASE) && arg.kind != ArgKind::Dynptr {
            if state.ref_id == 0 && !state.is_null() {
                return Err(Stop::reject(Code::BadRelease, format!("{} holds {}", name(reg), describe(&state)))
                    .title(format!("{} is given something that was not acquired", meta.name))
                    .about(reg)
                    .help("release only what a function gave that acquires, such as bpf_sk_lookup_tcp() or bpf_ringbuf_reserve(), once")
                    .kernel(format!("R{} must be referenced when passed to release function", reg.number())));
            }
            meta.release = Some(reg);
        }
        if state.ref_id != 0 && arg.kind != ArgKind::KptrXchgDest {
            meta.ref_id = state.ref_id;
        }
        self.use_arg(meta, signature, index, reg, &state, &arg, null)
    }

    /// Whether this helper takes packet memory from this type of program.
    fn packet_for_helper(&self, flags: HelperFlags) -> bool {
        let program = self.env.place.prog_type;
        program == ProgramType::CgroupSockopt
            || program != ProgramType::SockOps && may_read_packet(program) && flags.contains(HelperFlags::PACKET_ACCESS)
    }

    /// For some maps the value argument is something else.
    fn arg_for_map(&self, meta: &CallMeta, arg: &Arg) -> Result<Arg, Stop> {
        let mut arg = *arg;
        if arg.kind != ArgKind::MapValue {
            return Ok(arg);
        }
        let kind = meta.map.and_then(|(map, _)| self.env.map(map)).map(|info| info.map_type());
        match kind {
            Some(MapType::Sockmap | MapType::Sockhash) => arg.kind = ArgKind::BtfIdSockCommon,
            Some(MapType::BloomFilter) if meta.name == "bpf_map_peek_elem" => arg.flags = TypeFlags::NONE,
            _ => {}
        }
        Ok(arg)
    }

    fn check_arg_type(&self, meta: &CallMeta, index: usize, reg: Reg, state: &RegState, arg: &Arg) -> Result<(), Stop> {
        let number = index + 1;
        if !fits(arg.kind, arg.flags, state) {
            if state.is_scalar() && arg.flags.contains(TypeFlags::RELEASE) {
                return Err(Stop::reject(Code::BadRelease, format!("{} points to nothing that is held", name(reg)))
                    .title(format!("{} is given something that is not held, or no longer", meta.name))
                    .about(reg)
                    .help("release it once, on each path that acquired it")
                    .kernel(format!(
                        "R{} type={} expected={}",
                        reg.number(),
                        kernel_kind(state),
                        kernel_types(arg.kind)
                    )));
            }
            let mut unwrapped = *state;
            unwrapped.flags = unwrapped.flags.without(RegFlags::MAYBE_NULL);
            let inner_map = match state.kind {
                RegKind::MapValue(map) => self.env.map(map).is_some_and(|info| info.inner.is_some()),
                _ => false,
            };
            let would_fit = fits(arg.kind, arg.flags, &unwrapped) || inner_map && arg.kind == ArgKind::ConstMapPtr;
            if state.maybe_null() && would_fit {
                return Err(Stop::reject(Code::MaybeNull, format!("{} may be null here", name(reg)))
                    .title(format!("argument {number} of {} may be null", meta.name))
                    .about(reg)
                    .help("check it first: `if (!p) return 0;`")
                    .kernel(format!(
                        "R{} type={}_or_null expected={}",
                        reg.number(),
                        kernel_kind(state),
                        kernel_types(arg.kind)
                    )));
            }
            if state.flags.any(RegFlags::UNTRUSTED) && matches!(state.kind, RegKind::Btf(..)) {
                return Err(Stop::reject(Code::Untrusted, format!("{} is not known to be valid", name(reg)))
                    .title(format!("argument {number} of {} must be a pointer that is known to be valid", meta.name))
                    .about(reg)
                    .help("take the pointer from the context, or read the field within an RCU section")
                    .kernel(format!("R{} type=untrusted_ptr_ expected={}", reg.number(), kernel_types(arg.kind))));
            }
            let read_only = state.flags.any(RegFlags::RDONLY) && arg.kind == ArgKind::Mem;
            let stop = Stop::reject(
                if read_only { Code::ReadOnly } else { Code::ArgumentType },
                format!(
                    "{} holds {}{}",
                    name(reg),
                    describe(state),
                    if read_only { " that may only be read" } else { "" }
                ),
            )
            .title(format!("argument {number} of {} must be {}", meta.name, wanted(arg.kind)))
            .about(reg)
            .kernel(format!(
                "R{} type={} expected={}",
                reg.number(),
                kernel_kind(state),
                kernel_types(arg.kind)
            ));
            return Err(match arg.kind {
                ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem if state.is_scalar() => {
                    stop.help("pass the address of a variable: `&key`")
                }
                ArgKind::ConstStr => stop.help("use a string constant of the program (it lies in .rodata)"),
                _ => stop,
            });
        }
        let RegKind::Btf(_, ty) = state.kind else { return Ok(()) };
        match arg.kind {
            ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem => {
                if arg.flags.contains(TypeFlags::RDONLY) {
                    return Ok(());
                }
                Err(Stop::reject(Code::ReadOnly, format!("{} is a kernel object, which may only be read", name(reg)))
                    .title(format!("{} may write to a kernel object", meta.name))
                    .about(reg)
                    .kernel(format!(
                        "{}() may write into memory pointed by R{} type=trusted_ptr_",
                        meta.name,
                        reg.number()
                    )))
            }
            ArgKind::BtfId | ArgKind::BtfIdSockCommon => {
                let need = match arg.kind {
                    ArgKind::BtfIdSockCommon => "sock_common",
                    _ => match arg.btf {
                        Some(name) => name,
                        None => return Err(Stop::unsupported(format!("the objects that {} takes", meta.name))),
                    },
                };
                self.check_object(meta, index, reg, state, ty, need, arg.flags.contains(TypeFlags::RELEASE))
            }
            _ => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is needed to say what is wrong")]
    fn check_object(
        &self,
        meta: &CallMeta,
        index: usize,
        reg: Reg,
        state: &RegState,
        ty: TypeId,
        need: &str,
        release: bool,
    ) -> Result<(), Stop> {
        if state.maybe_null() {
            return Err(Stop::reject(Code::MaybeNull, format!("{} may be null here", name(reg)))
                .title(format!("argument {} of {} may be null", index + 1, meta.name))
                .about(reg)
                .help("check it first")
                .kernel(format!("Possibly NULL pointer passed to helper arg{}", index + 1)));
        }
        let Some(btf) = self.env.kernel_btf else {
            return Err(Stop::unsupported("kernel objects without the kernel's types"));
        };
        let Some(need_id) = btf.find(need, Kind::Struct) else {
            return Err(Stop::unsupported(format!("struct {need}, which the kernel's types lack")));
        };
        let strict = release && meta.name != "bpf_sk_release";
        let matches =
            if strict { ty == need_id && state.off == 0 } else { object_is(btf, ty, state.off.into(), need_id) };
        if matches {
            return Ok(());
        }
        let found = btf.name(ty).unwrap_or("?");
        Err(Stop::reject(Code::ArgumentType, format!("{} points to struct {found}", name(reg)))
            .title(format!("argument {} of {} must point to struct {need}", index + 1, meta.name))
            .about(reg)
            .kernel(format!("R{} is of type {found} but {need} is expected", reg.number())))
    }

    /// The offset that the pointer may have. Source: `check_func_arg_reg_off`.
    fn check_arg_offset(
        &self,
        meta: &CallMeta,
        index: usize,
        reg: Reg,
        state: &RegState,
        arg: &Arg,
    ) -> Result<(), Stop> {
        if arg.kind == ArgKind::Dynptr {
            return Ok(());
        }
        let release = arg.flags.contains(TypeFlags::RELEASE);
        let any_offset = matches!(
            state.kind,
            RegKind::Stack(_)
                | RegKind::Packet
                | RegKind::PacketMeta
                | RegKind::MapKey(_)
                | RegKind::MapValue(_)
                | RegKind::Mem
                | RegKind::Buf
                | RegKind::Scalar
        );
        if any_offset && !release {
            return Ok(());
        }
        let fixed_allowed = matches!(state.kind, RegKind::Btf(..)) && !release;
        let constant = state.num.as_const();
        if state.is_scalar() || constant == Some(0) && (state.off == 0 || fixed_allowed) {
            return Ok(());
        }
        let code = if state.kind == RegKind::Ctx { Code::ContextChanged } else { Code::ArgumentType };
        Err(Stop::reject(code, format!("{} holds {} with an offset added", name(reg), describe(state)))
            .title(format!("argument {} of {} must be the pointer as it was given", index + 1, meta.name))
            .about(reg)
            .help("keep the original pointer and pass that")
            .kernel(if release {
                format!("R{} must have zero offset when passed to release func or trusted arg to kfunc", reg.number())
            } else {
                format!(
                    "dereference of modified {} ptr R{} off={} disallowed",
                    kernel_kind(state),
                    reg.number(),
                    state.off
                )
            }))
    }

    /// What an argument of the right type does.
    #[expect(clippy::too_many_arguments, reason = "the parts of one argument")]
    fn use_arg(
        &mut self,
        meta: &mut CallMeta,
        signature: &'static Signature,
        index: usize,
        reg: Reg,
        state: &RegState,
        arg: &Arg,
        null: bool,
    ) -> Result<(), Stop> {
        match arg.kind {
            ArgKind::ConstMapPtr => {
                if let RegKind::MapPtr(map) = state.kind {
                    meta.map = Some((map, state.aux));
                    self.check_map_for_helper(meta, reg, map)?;
                }
            }
            ArgKind::MapKey => {
                let (size, kind, map) = self.map_of(meta, |info| info.spec.key_size)?;
                self.check_arg_memory(reg, size, HelperUse::Read, arg.flags)
                    .map_err(|stop| stop.fact(format!("{} reads the key of map `{map}`: {size} bytes", meta.name)))?;
                if matches!(kind, MapType::Array | MapType::PercpuArray) && self.env.since(6, 14) {
                    meta.const_key = self.constant_key(state, size);
                }
            }
            ArgKind::MapValue => {
                if null {
                    return Ok(());
                }
                let (size, _, map) = self.map_of(meta, |info| info.spec.value_size)?;
                let how = usage(arg.flags);
                let fills = self.check_arg_memory(reg, size, how, arg.flags).map_err(|stop| {
                    let verb = if how == HelperUse::Read { "reads" } else { "writes" };
                    stop.fact(format!("{} {verb} a value of map `{map}`: {size} bytes", meta.name))
                })?;
                if fills {
                    meta.fill = Some((reg, size));
                }
            }
            ArgKind::Mem if arg.flags.contains(TypeFlags::FIXED_SIZE) => {
                let size = i32::from(arg.size);
                let fills = if null { false } else { self.check_arg_memory(reg, size, usage(arg.flags), arg.flags)? };
                if fills {
                    meta.fill = Some((reg, size));
                }
                let total = state.num.tnum.add(Tnum::constant(i64::from(state.off) as u64));
                if arg.flags.contains(TypeFlags::ALIGNED) && !null && !total.is_aligned(arg.size.into()) {
                    return Err(Stop::reject(Code::Misaligned, format!("an address that is no multiple of {size}"))
                        .about(reg)
                        .kernel(format!("misaligned access off={} size={size}", state.off)));
                }
            }
            ArgKind::ConstSize | ArgKind::ConstSizeOrZero => {
                let memory = index.checked_sub(1).and_then(|before| signature.args.get(before));
                let (Some(memory), Some(base)) = (memory, Reg::new(index as u8)) else {
                    return Err(Stop::unsupported("a size without memory"));
                };
                self.check_size(meta, base, reg, memory.flags, arg.kind == ArgKind::ConstSizeOrZero)?;
            }
            ArgKind::ConstAllocSizeOrZero => {
                let Some(size) = state.const_value() else {
                    return Err(Stop::reject(
                        Code::ArgumentSize,
                        format!("{} is {} here", name(reg), span(state.num.smin, state.num.smax)),
                    )
                    .title(format!("the size that {} is given must be a constant", meta.name))
                    .about(reg)
                    .help("reserve the largest size; for records of different sizes use bpf_ringbuf_reserve_dynptr() or bpf_ringbuf_output()")
                    .kernel(format!("R{} is not a known constant'", reg.number())));
                };
                meta.mem_size = size as u32;
                self.mark_precise(reg);
            }
            ArgKind::PercpuBtfId => {
                if let RegKind::Btf(_, ty) = state.kind {
                    meta.percpu = Some(ty);
                }
            }
            ArgKind::Func => {
                if let RegKind::Func(subprog) = state.kind {
                    meta.func = Some(subprog);
                }
            }
            ArgKind::ConstStr => {
                self.constant_string(meta.name, reg, state)?;
            }
            ArgKind::SpinLock => return Err(Stop::unsupported(format!("helper {}", meta.name))),
            ArgKind::Timer => return Err(Stop::unsupported(format!("helper {}", meta.name))),
            ArgKind::Dynptr => return Err(Stop::unsupported(format!("helper {}", meta.name))),
            ArgKind::KptrXchgDest => return Err(Stop::unsupported("kernel pointers in map values (kptrs)")),
            ArgKind::Anything
            | ArgKind::Mem
            | ArgKind::Ctx
            | ArgKind::SockCommon
            | ArgKind::Socket
            | ArgKind::BtfId
            | ArgKind::BtfIdSockCommon
            | ArgKind::RingbufMem
            | ArgKind::Stack => {}
        }
        Ok(())
    }

    /// A number of the map argument, its type and its name.
    fn map_of(
        &self,
        meta: &CallMeta,
        size: impl Fn(&crate::env::MapInfo<'_>) -> u32,
    ) -> Result<(i32, MapType, String), Stop> {
        let Some(info) = meta.map.and_then(|(map, _)| self.env.map(map)) else {
            return Err(Stop::unsupported("a map argument that is not described"));
        };
        let size = i32::try_from(size(info)).map_err(|_| Stop::unsupported("keys and values past 2 GB"))?;
        Ok((size, info.map_type(), info.name().to_owned()))
    }

    /// Memory of a known size. `true` if it is stack that the helper fills.
    fn check_arg_memory(&mut self, reg: Reg, size: i32, how: HelperUse, flags: TypeFlags) -> Result<bool, Stop> {
        self.sized_memory(reg, size, false, how, flags)
    }

    /// As [`Self::check_helper_mem`], for arguments that may be null: the kernel asks nothing more of those here.
    fn sized_memory(
        &mut self,
        reg: Reg,
        size: i32,
        zero: bool,
        how: HelperUse,
        flags: TypeFlags,
    ) -> Result<bool, Stop> {
        let state = *self.cur.reg(reg);
        if !(flags.contains(TypeFlags::MAYBE_NULL) && state.maybe_null()) {
            return self.check_helper_mem(reg, size, zero, how);
        }
        let mut known = state;
        known.flags = known.flags.without(RegFlags::MAYBE_NULL);
        *self.cur.reg_mut(reg) = known;
        let result = self.check_helper_mem(reg, size, zero, how);
        *self.cur.reg_mut(reg) = state;
        result
    }

    /// A size, and the memory in front of it. Source: `check_mem_size_reg`.
    fn check_size(
        &mut self,
        meta: &mut CallMeta,
        base: Reg,
        reg: Reg,
        memory: TypeFlags,
        zero_allowed: bool,
    ) -> Result<(), Stop> {
        let state = *self.cur.reg(reg);
        let num = state.num;
        meta.size_max = num.umax;
        let refuse = |label: String, kernel: String| {
            Stop::reject(Code::ArgumentSize, label)
                .title(format!("the size that {} is given has no fitting bounds", meta.name))
                .about(reg)
                .fact(format!("{} is {} here", name(reg), span(num.smin, num.smax)))
                .kernel(kernel)
        };
        if num.smin < 0 {
            return Err(refuse(
                format!("{} may be negative", name(reg)),
                format!("R{} min value is negative, either use unsigned or 'var &= const'", reg.number()),
            )
            .help("use an unsigned type, or mask it: `size &= 0xff`"));
        }
        if num.umin == 0 && !zero_allowed {
            return Err(refuse(
                format!("{} may be 0, which {} does not take", name(reg), meta.name),
                format!("R{} invalid zero-sized read: u64=[{},{}]", reg.number(), num.umin, num.umax),
            )
            .help(if num.umax > MAX_VAR_OFF as u64 {
                "return early where the size is 0, and where it is more than the memory has; declare it unsigned"
            } else {
                "return early where the size is 0"
            }));
        }
        if num.umax >= MAX_VAR_OFF as u64 {
            return Err(refuse(
                format!("{} has no upper bound", name(reg)),
                format!("R{} unbounded memory access, use 'var &= const' or 'if (var < const)'", reg.number()),
            )
            .help("compare it with the size of the memory first, or mask it"));
        }
        let size = num.umax as i32;
        let null = self.cur.reg(base).is_null();
        // What may be filled in part only must have a value before, as far as uninitialised stack counts.
        let mut how = usage(memory);
        if how == HelperUse::Fill && !num.is_const() {
            how = HelperUse::Write;
        }
        let fills = self.sized_memory(base, size, zero_allowed, how, memory).map_err(|stop| {
            let verb = if how == HelperUse::Read { "reads" } else { "writes" };
            let upto = if num.is_const() { "" } else { "up to " };
            let stop = stop.fact(format!("{} {verb} {upto}{size} bytes there", meta.name));
            if null { stop.title(format!("{} is given a size without memory", meta.name)) } else { stop }
        })?;
        if fills {
            meta.fill = Some((base, size));
        }
        self.mark_precise(reg);
        Ok(())
    }

    /// The key on the stack, where it is a number that is known. Source: `get_constant_map_key`.
    fn constant_key(&mut self, key: &RegState, size: i32) -> Option<u64> {
        let (frame, off) = self.stack_address(key)?;
        let place = usize::try_from(-off - 1).ok()?;
        let (index, byte) = (place / 8, place % 8);
        let slot = self.slot(frame, index);
        let run = |kind: ByteKind| slot.bytes[..=byte].iter().rev().take_while(|b| **b == kind).count();
        let size = usize::try_from(size).ok()?;
        if run(ByteKind::Zero) >= size {
            return Some(0);
        }
        if !slot.is_scalar_spill() || run(ByteKind::Spill) != size {
            return None;
        }
        let value = slot.reg.num.as_const()?;
        self.mark_slot_precise(frame, index);
        Some(value)
    }
}

/// How a helper uses memory with these flags.
fn usage(flags: TypeFlags) -> HelperUse {
    if flags.contains(TypeFlags::UNINIT) {
        HelperUse::Fill
    } else if flags.contains(TypeFlags::WRITE) {
        HelperUse::Write
    } else {
        HelperUse::Read
    }
}
